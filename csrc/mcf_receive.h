/* Receiving: one socket, and the blocking call that waits for it, learns its rhythm and lets an engine do the work.
 *
 * Results: >= 0 is a count, < 0 is minus the system's error code, 0 means "would block". Nothing here allocates or
 * locks while datagrams pass, and nothing here knows Python. */
#ifndef MCF_RECEIVE_H
#define MCF_RECEIVE_H

#include "mcf_batch.h"
#include "mcf_filter.h"
#include "mcf_wait.h"

/* What is asked for beyond lengths and source addresses. An engine fills only these columns. */
enum {
    MCF_META_DESTINATION = 1, /* destinations, interfaces */
    MCF_META_TIMESTAMP = 2,   /* timestamps */
    MCF_META_DROPS = 4,       /* dropped; 0 on systems without a drop counter */
    MCF_META_HOPS = 8,
    MCF_META_TOS = 16,
    MCF_META_HARDWARE_TIMESTAMP = 32, /* timestamps too, and MCF_FLAG_HARDWARE_TIME */
};

/* Families by their version number: AF_INET6 differs from system to system. */
enum { MCF_IPV4 = 4, MCF_IPV6 = 6 };

/* One receiving socket. The owner sets the first block before the first call and does not move the struct afterwards.
 */
typedef struct mcf_receiver {
    const struct mcf_engine *engine;
    mcf_socket fd;
    mcf_socket wake; /* see mcf_wake_new */
    int family;      /* MCF_IPV4 or MCF_IPV6 */
    uint32_t metadata;
    uint8_t is_patient; /* mcf_set_patience was done for fd */
    uint64_t id;        /* from mcf_receiver_init */
    mcf_filter filter;

    void *vectors; /* the engine's, for vector_slots datagrams: mcf_receiver_reserve */
    uint32_t vector_slots;
    uint32_t aimed_slots; /* of the vectors: they point at memory of this shape */
    uint32_t aimed_slot_size, aimed_length;
    const uint8_t *aimed_at;

    uint32_t last_drops;      /* the kernel's drop counter as last seen */
    uint32_t pending_dropped; /* drops before datagrams that were filtered out */
    uint32_t lone_streak;     /* quiet feed: how many single receives to try next time */
    uint32_t singles;         /* single receives left before the next batch is tried */
    int64_t last_single;      /* when the last one ended */
    uint32_t last_count;      /* datagrams of the last call */
    uint8_t is_busy;          /* datagrams come at intervals below the socket's patience */

    mcf_counter batches, datagrams, bytes, truncated, control_truncated, foreign;
} mcf_receiver;

/* Sets what the owner does not: id, empty filter, zero counters. */
void mcf_receiver_init(mcf_receiver *receiver);
/* Makes room for receives of up to so many datagrams. Returns 0 or -ENOMEM (what there was stays). */
int mcf_receiver_reserve(mcf_receiver *receiver, uint32_t slots);
/* In a forked child, before anything else: forgets what a thread of the parent was in the middle of, and leaves the
 * socket's patience to the parent. */
void mcf_receiver_after_fork(mcf_receiver *receiver);
void mcf_receiver_clear(mcf_receiver *receiver);

/* Receives until at least one datagram passes the filter. Returns the slots used, *kept datagrams of them described
 * (see engine), or 0 when deadline is MCF_DO_NOT_WAIT and nothing (to deliver) is there, -ETIMEDOUT after the deadline
 * (a mcf_clock time), -EINTR after a signal and now and then while nothing to deliver comes, -ECANCELED when woken. */
int mcf_receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t start, uint32_t count, int64_t deadline,
                uint32_t *kept);

#endif
