/* The "socket" engine of Linux. */
#ifndef MCF_LINUX_H
#define MCF_LINUX_H

#include "mcf_io.h"

/* recvmmsg(2) and sendmmsg(2): up to MCF_MAX_BATCH datagrams a call. */
extern const mcf_engine mcf_linux_engine;

/* Trains (mcf_segment.c): a run of payloads of one size, of which the last may be shorter, in one piece. */
enum {
    MCF_MOST_SEGMENTS = 128,  /* UDP_MAX_SEGMENTS since Linux 6.9 */
    MCF_FEWEST_SEGMENTS = 64, /* and before */
    MCF_LARGEST_TRAIN = 65507,
};

/* The largest payload that passes without fragments, by the MTU that the system knows; 0 = none known. */
uint32_t mcf_path_limit(const mcf_sender *sender);
/* How many payloads from `first` on one train may carry; 1 when that one is to go plain. */
uint32_t mcf_train_length(const mcf_sender *sender, uint32_t first, uint32_t count);
/* Sends a train; `room` is MCF_LARGEST_TRAIN bytes to gather it in. Returns count, 0 when the socket is full, or
 * -errno.
 */
int mcf_send_train(mcf_sender *sender, uint32_t first, uint32_t count, uint8_t *room);
/* Whether an errno may mean that the system or its device takes no trains (like this one). */
int mcf_may_refuse_trains(int error);

#endif
