/* Arenas: slabs of datagram slots with a struct of arrays that describes what lies in them, and the pool that recycles
 * them. A batch is a range of an arena: rows [start, start + count) of every column. */
#ifndef MCF_BATCH_H
#define MCF_BATCH_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { MCF_MAX_BATCH = 1024 }; /* datagrams in one system call (UIO_MAXIOV) */

/* Bits of the flags column. */
enum {
    MCF_FLAG_TRUNCATED = 1,         /* the datagram was longer than its slot; the rest is gone */
    MCF_FLAG_CONTROL_TRUNCATED = 2, /* the kernel had more metadata than room for it */
    MCF_FLAG_HARDWARE_TIME = 4,     /* the timestamp is the device's, not the kernel's */
};

/* Absent metadata is 0 in its column. Columns that nobody asked for are never touched after allocation. */
typedef struct mcf_arena {
    uint8_t *data;      /* slot i starts at data + i * slot_size, where slots are used */
    size_t data_size;   /* bytes */
    uint32_t slots;     /* rows in every column */
    uint32_t slot_size; /* bytes from one slot to the next */
    uint32_t max_datagram;
    uint32_t used;     /* slots handed out so far; belongs to whoever fills the arena */
    uint32_t *offsets; /* bytes from the batch's first slot */
    uint32_t *lengths; /* bytes */
    uint16_t *flags;
    uint8_t (*sources)[16]; /* IPv6, or IPv4 mapped (::ffff:a.b.c.d) */
    uint16_t *source_ports; /* host order */
    uint32_t *source_scopes;
    uint8_t (*destinations)[16];
    uint32_t *interfaces;
    int64_t *timestamps; /* nanoseconds since the epoch */
    uint32_t *dropped;   /* lost by the kernel between the row before and this one */
    uint8_t *hops;
    uint8_t *tos;
    uint64_t filler;       /* id of the receiver that last filled it, 0 = none */
    struct mcf_pool *pool; /* where the arena goes when its last reference does; NULL = freed */
    struct mcf_arena *next;
    _Atomic uint32_t references;
} mcf_arena;

typedef struct mcf_pool mcf_pool;

/* Bytes that one arena of this shape takes. */
size_t mcf_arena_size(uint32_t slots, uint32_t max_datagram);

/* A new arena with one reference, over `data` (the caller's, must outlive the arena; slots are exactly max_datagram
 * apart) or, with data NULL, over memory of its own. NULL when memory is out. */
mcf_arena *mcf_arena_new(void *data, uint32_t slots, uint32_t max_datagram);

/* A new arena that holds rows [start, start + count) of another, packed without gaps. NULL when memory is out. */
mcf_arena *mcf_arena_copy(const mcf_arena *from, uint32_t start, uint32_t count);

/* References: any thread, lock-free. Whoever drops the last one returns the arena to its pool, or frees it. */
static inline void mcf_arena_retain(mcf_arena *arena)
{
    atomic_fetch_add_explicit(&arena->references, 1, memory_order_relaxed);
}
void mcf_arena_release(mcf_arena *arena);

/* True when the caller's reference is the only one: no batch of the arena is left. */
static inline int mcf_arena_is_sole(mcf_arena *arena)
{
    return atomic_load_explicit(&arena->references, memory_order_acquire) == 1;
}

/* A pool of equal arenas that never holds more than max_bytes. NULL when memory is out. */
mcf_pool *mcf_pool_new(uint32_t slots, uint32_t max_datagram, uint64_t max_bytes);

/* Takes an arena with one reference and used = 0. One thread at a time.
 * Returns 0, -ENOBUFS when the budget is used up, -ENOMEM when memory is out. */
int mcf_pool_take(mcf_pool *pool, mcf_arena **arena);

/* Number of arenas that exist, in use or free. Any thread. */
uint32_t mcf_pool_arenas(mcf_pool *pool);

/* The owner is done: free arenas go now, the others when their last reference does, the pool with the last arena. */
void mcf_pool_close(mcf_pool *pool);

/* A counter that any thread may change (exports, statistics). */
typedef struct {
    _Atomic int64_t value;
} mcf_counter;

static inline int64_t mcf_counter_get(mcf_counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}
static inline int64_t mcf_counter_add(mcf_counter *counter, int64_t amount)
{
    return atomic_fetch_add_explicit(&counter->value, amount, memory_order_acq_rel) + amount;
}
/* Cheaper, for a counter that only one thread changes. */
static inline void mcf_counter_bump(mcf_counter *counter, int64_t amount)
{
    atomic_store_explicit(&counter->value, atomic_load_explicit(&counter->value, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

#endif
