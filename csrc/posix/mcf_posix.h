/* The POSIX engine and the parts of it that others use. */
#ifndef MCF_POSIX_H
#define MCF_POSIX_H

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <sys/uio.h>

#include "posix/mcf_tally.h"

/* So that payloads are sent as they lie. */
static_assert(offsetof(mcf_payload, data) == offsetof(struct iovec, iov_base), "a payload is an iovec");
static_assert(offsetof(mcf_payload, length) == offsetof(struct iovec, iov_len), "a payload is an iovec");
static_assert(sizeof(mcf_payload) == sizeof(struct iovec), "a payload is an iovec");

/* recvmsg(2) and send(2), one datagram a call: runs wherever there are BSD sockets. */
extern const mcf_engine mcf_posix_engine;

/* The same under the name "socket", for systems that have no better call without further conditions. */
extern const mcf_engine mcf_posix_socket;

/* One recvmsg(2): takes a datagram into the next place behind the tally. 1, 0 when nothing is there, or -errno. */
int mcf_posix_take(mcf_receiver *receiver, mcf_arena *arena, int wait, mcf_tally *tally);

/* What a call returns that failed: 0 where it would have had to wait, else -errno. */
static inline int mcf_posix_failure(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
}

/* The send_one of every engine over a BSD socket. */
int mcf_posix_send_one(mcf_sender *sender, const void *data, size_t length);

#endif
