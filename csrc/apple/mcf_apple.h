/* The "apple" engine. */
#ifndef MCF_APPLE_H
#define MCF_APPLE_H

#include "mcf_io.h"

/* recvmsg_x and sendmsg_x: up to 256 datagrams a call. Private to Darwin, so found when asked for, and never the one
 * that "auto" picks. */
extern const mcf_engine mcf_apple_engine;

#endif
