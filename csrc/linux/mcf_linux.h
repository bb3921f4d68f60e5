/* The "socket" engine of Linux. */
#ifndef MCF_LINUX_H
#define MCF_LINUX_H

#include "mcf_io.h"

/* recvmmsg(2) and sendmmsg(2): up to MCF_MAX_BATCH datagrams a call. */
extern const mcf_engine mcf_linux_engine;

#endif
