/* A thread that receives into memory while the program is busy, and the queue from which the program takes batches.
 *
 * The queue is lock-free: the thread writes one end, whoever receives (one thread at a time) reads the other. Memory is
 * the receiver's pool. What comes while it is used up is received all the same, and counted: receiver->overrun. */
#ifndef MCF_BACKGROUND_H
#define MCF_BACKGROUND_H

#include "mcf_receive.h"
#include "mcf_thread.h"

typedef struct mcf_background mcf_background;

/* Starts the thread for a receiver that is ready to receive, and that only this thread receives on from now on. After a
 * datagram came it lets `delay` nanoseconds pass for more, so as to wake up less often. Returns 0, or -errno as
 * mcf_thread_start, -EMFILE or -ENFILE. */
int mcf_background_start(mcf_background **background, mcf_receiver *receiver, int64_t delay,
                         const mcf_thread_options *options);

/* Takes a batch of up to `most` datagrams; *got holds a reference to its arena. Results as mcf_receive. An error that
 * the thread met comes once, in its place between the datagrams, while the thread goes on. `looks` as mcf_wait. One
 * thread at a time. */
int mcf_background_take(mcf_background *background, uint32_t most, int64_t deadline, uint32_t *looks, mcf_range *got);

/* Readable from when there is a batch, or an error, to take, until the call that takes the last returns; rarely, when
 * that was faster than the thread could say that there is one, until the call after it. */
mcf_socket mcf_background_ready(const mcf_background *background);

/* Ends the thread, which receiver->wake must have woken, then drops what nobody took, and frees it. Waits no longer
 * than the socket's patience. */
void mcf_background_stop(mcf_background *background);

/* In a forked child, where the thread is not and may have been in the middle of anything: frees what that did not write
 * to. Batches stay valid; what nobody took is the parent's alone, and so is the receiver's memory. */
void mcf_background_abandon(mcf_background *background);

#endif
