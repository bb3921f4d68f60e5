/* Receiving: one socket, and the blocking call that waits for it, learns its rhythm and lets an engine do the work.
 *
 * Results: >= 0 is a count, < 0 is minus the system's error code, 0 means "would block". Nothing here allocates or
 * locks while datagrams pass, and nothing here knows Python. */
#ifndef MCF_RECEIVE_H
#define MCF_RECEIVE_H

#include "mcf_batch.h"
#include "mcf_counter.h"
#include "mcf_members.h"
#include "mcf_pool.h"
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

/* The options of Linux, of SOL_SOCKET, for MCF_META_TIMESTAMP and MCF_META_HARDWARE_TIMESTAMP whose messages this core
 * reads: which those are depends on what C was compiled for. 0 on other systems. */
extern const int mcf_so_timestampns, mcf_so_timestamping;

/* Families by their version number: AF_INET6 differs from system to system. */
enum { MCF_IPV4 = 4, MCF_IPV6 = 6 };

/* One receiving socket. The owner sets the first block before mcf_receiver_prepare, except for the descriptors, which
 * it sets before the first receive, and does not move the struct afterwards. */
typedef struct mcf_receiver {
    const struct mcf_engine *engine;
    mcf_socket fd;
    mcf_socket tap;    /* what is polled in its place, where the engine has a tap */
    mcf_socket wake;   /* see mcf_wake_new */
    int family;        /* MCF_IPV4 or MCF_IPV6 */
    uint32_t metadata; /* of what comes by fd */
    uint32_t batch_size;
    uint8_t queues_errors; /* mcf_queues_errors: not a socket of ours */
    uint8_t is_patient;    /* mcf_set_patience was done for fd */
    int64_t spin;          /* nanoseconds for which a receive watches the socket before it sleeps */
    uint8_t fills_up;      /* arenas are filled to the end, for nobody reads one while the next is written */

    uint64_t id;        /* of what fills an arena */
    mcf_members filter; /* see mcf_members_pass */
    mcf_pool *pool;
    mcf_arena *arena;      /* where the next batch goes, one reference is ours */
    uint32_t max_datagram; /* bytes */
    uint32_t limit;   /* bytes of a datagram that this receive shows: max_datagram, or that of the caller's memory */
    uint32_t carried; /* messages that were received and are not delivered whole: the next receive goes on there */
    uint8_t is_handed_over; /* the batch has the engine's reference to its arena */

    void *vectors; /* the engine's, for vector_slots datagrams */
    uint32_t vector_slots;
    uint32_t aimed_slots; /* of the vectors: they point at memory of this shape */
    uint32_t aimed_slot_size, aimed_length;
    const uint8_t *aimed_at;

    uint32_t last_drops;      /* the kernel's drop counter as last seen */
    uint32_t pending_dropped; /* drops before datagrams that were filtered out */
    uint32_t lone_streak;     /* quiet feed: how many single receives to try next time */
    uint32_t singles;         /* single receives left before the next batch is tried */
    int64_t last_single;      /* when the last one ended */
    uint8_t asks_for_one;     /* the next call is for one message only */
    uint32_t last_asked;      /* messages that the last call had room for (of a ring datagrams, if that was the end) */
    uint32_t last_count;      /* and those that it brought: the engine says */
    uint8_t is_busy;          /* datagrams come at intervals below the socket's patience */
    int64_t sleeps_at;        /* until when this wait watches the socket, 0 = it is new: the owner may say so */
    uint32_t looks;           /* of this wait, as mcf_wait: likewise */
    uint32_t empty_looks;     /* receives in a row that found nothing */

    uint8_t discards; /* what the next call brings is for nobody */
    mcf_counter batches, datagrams, bytes, truncated, control_truncated, foreign, overrun;
} mcf_receiver;

/* Bytes of memory with which a receiver can work while its last batch is kept. The engine, metadata and batch_size are
 * set. */
uint64_t mcf_receiver_least_memory(const mcf_receiver *receiver, uint32_t max_datagram);
/* Makes its memory: arenas for datagrams of up to so many bytes, max_memory bytes together at most. 0 or -ENOMEM. */
int mcf_receiver_prepare(mcf_receiver *receiver, uint32_t max_datagram, uint64_t max_memory);
/* In a forked child, before anything else: leaves to the parent what is carried and the socket's patience, and forgets
 * what a thread of the parent was in the middle of. was_idle: none was. */
void mcf_receiver_after_fork(mcf_receiver *receiver, int was_idle);
/* No receive will follow: gives back the arenas. Batches stay valid. */
void mcf_receiver_retire(mcf_receiver *receiver);
void mcf_receiver_clear(mcf_receiver *receiver);

/* Further results of a receive. */
enum {
    MCF_NO_ROOM = -0x10000,  /* the batches that are held use up the memory; nothing was received */
    MCF_NO_BLOCK = -0x10001, /* they hold the block of the ring that is next; nothing can come */
};

/* Receives a batch of up to batch_size datagrams that pass the filter; *got then holds a reference to its arena.
 * Returns > 0, or 0 when deadline is MCF_DO_NOT_WAIT and nothing to deliver is there, or MCF_ONE_LOOK and nothing at
 * all, -ETIMEDOUT after the deadline (a mcf_clock time), -EINTR after a signal and now and then while nothing to
 * deliver comes, -ECANCELED when woken, MCF_NO_ROOM, MCF_NO_BLOCK, -ENOMEM. */
int mcf_receive(mcf_receiver *receiver, int64_t deadline, mcf_range *got);

/* The same into an arena over the caller's memory, from its start; the arena's references are left alone. */
int mcf_receive_into(mcf_receiver *receiver, mcf_arena *arena, int64_t deadline, mcf_range *got);

/* Receives what is there, once, and counts it as lost for want of room; the arena is of the receiver's shape, and
 * nobody else's. Returns as mcf_receive with MCF_DO_NOT_WAIT. */
int mcf_receive_nowhere(mcf_receiver *receiver, mcf_arena *arena);

#endif
