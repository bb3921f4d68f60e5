/* The POSIX engine and the parts of it that others use. */
#ifndef MCF_POSIX_H
#define MCF_POSIX_H

#include "mcf_io.h"

/* recvmsg(2) and sendmsg(2), one datagram a call: runs wherever there are BSD sockets. */
extern const mcf_engine mcf_posix_engine;

/* The send_one of every engine over a BSD socket. */
int mcf_posix_send_one(mcf_sender *sender, const void *data, size_t length);

#endif
