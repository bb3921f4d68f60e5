/* Receiving and sending: the contract that every engine fulfils, and the blocking calls built on it.
 *
 * Results: >= 0 is a count, < 0 is minus the system's error code, 0 means "would block". Nothing here allocates or takes
 * a lock while datagrams pass, and nothing here knows Python. */
#ifndef MCF_IO_H
#define MCF_IO_H

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
};

/* Families by their version number: AF_INET6 differs from system to system. */
enum { MCF_IPV4 = 4, MCF_IPV6 = 6 };

enum {
    MCF_MAX_BATCH = 1024, /* datagrams in one system call (UIO_MAXIOV) */
};

typedef struct mcf_engine mcf_engine;

/* One receiving socket. The owner sets the first block before the first call and does not move the struct afterwards. */
typedef struct mcf_receiver {
    const mcf_engine *engine;
    mcf_socket fd;
    mcf_socket wake; /* see mcf_wake_new */
    int family;      /* MCF_IPV4 or MCF_IPV6 */
    uint32_t metadata;
    uint64_t id; /* from mcf_receiver_init */
    mcf_filter filter;

    uint32_t last_drops;      /* the kernel's drop counter as last seen */
    uint32_t pending_dropped; /* drops before datagrams that were filtered out */
    uint32_t lone_streak;     /* quiet feed: how many single receives to try next time */
    uint32_t singles;         /* single receives left before the next batch is tried */
    uint32_t last_count;      /* datagrams of the last call */

    mcf_counter batches, datagrams, bytes, truncated, control_truncated, foreign;
} mcf_receiver;

/* What one payload of a send looks like. Laid out as the system's own scatter element (asserted by the engine). */
typedef struct {
    const void *data;
    size_t length;
} mcf_payload;

/* One connected sending socket. `payloads` holds the datagrams of the next mcf_send, `vectors` is the engine's. */
typedef struct mcf_sender {
    const mcf_engine *engine;
    mcf_socket fd;
    mcf_socket wake;
    mcf_payload payloads[MCF_MAX_BATCH];
    void *vectors;
    mcf_counter batches, datagrams, bytes, send_drops, late_errors;
} mcf_sender;

/* An engine. Every function is called by one thread at a time for one receiver or sender. */
struct mcf_engine {
    const char *name;
    /* Bytes of arena->vectors for so many slots. */
    size_t (*vector_size)(uint32_t slots, uint32_t metadata, int family);
    /* Sets the vectors of an arena up for a receiver; columns that it will not fill have been zeroed. */
    void (*prepare)(const mcf_receiver *receiver, mcf_arena *arena);
    /* Receives up to count datagrams without waiting into slots [start, start + count) and describes those that pass the
     * filter in the rows from start on: *kept of them. Returns the slots used, 0 when nothing is there, or -errno. */
    int (*receive)(mcf_receiver *receiver, mcf_arena *arena, uint32_t start, uint32_t count, uint32_t *kept);
    size_t send_vector_size;
    void (*prepare_send)(mcf_sender *sender);
    /* Sends payloads [first, first + count) without waiting. Returns how many went, 0 when the socket is full. */
    int (*send)(mcf_sender *sender, uint32_t first, uint32_t count);
    /* Sends one payload without waiting. Returns 1, 0 when the socket is full, or -errno. */
    int (*send_one)(mcf_sender *sender, const void *data, size_t length);
};

/* The engines of this system, ended by NULL; the first is the one that "auto" picks. */
extern const mcf_engine *const mcf_engines[];

/* Bytes of arena->vectors that serve any engine with any metadata. */
size_t mcf_vector_size_max(uint32_t slots);

/* Sets what the owner does not: id, empty filter, zero counters. */
void mcf_receiver_init(mcf_receiver *receiver);
/* In a forked child, before anything else: forgets locks that a thread of the parent may have held. */
void mcf_receiver_after_fork(mcf_receiver *receiver);
void mcf_receiver_clear(mcf_receiver *receiver);

/* Receives until at least one datagram passes the filter. Returns the slots used, *kept datagrams of them described (see
 * engine), or 0 when deadline is MCF_DO_NOT_WAIT and nothing is there, -ETIMEDOUT after the deadline (a mcf_clock time),
 * -EINTR after a signal, -ECANCELED when woken. */
int mcf_receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t start, uint32_t count, int64_t deadline,
                uint32_t *kept);

/* Sets up a sender whose engine is set. Returns 0 or -ENOMEM. */
int mcf_sender_init(mcf_sender *sender);
void mcf_sender_clear(mcf_sender *sender);

/* Sends payloads [*sent, count), continues after partial sends, and advances *sent past every datagram that the system
 * took. An error that an earlier datagram caused (ICMP) is counted, and the payload tried again. Returns 0 when all
 * went, or -errno as for mcf_receive, -EAGAIN when the socket is full and deadline is MCF_DO_NOT_WAIT. */
int mcf_send(mcf_sender *sender, uint32_t *sent, uint32_t count, int64_t deadline);
/* The same for one payload of any length. Returns 0 or -errno. */
int mcf_send_one(mcf_sender *sender, const void *data, size_t length, int64_t deadline);

/* Takes the socket's queued error reports; returns how many came from the network (ICMP), not from this host. */
int mcf_collect_errors(mcf_socket fd);

#endif
