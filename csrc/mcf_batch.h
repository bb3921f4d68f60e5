/* Arenas: slabs of memory with a struct of arrays that describes the datagrams in them. A batch is a range of an arena.
 */
#ifndef MCF_BATCH_H
#define MCF_BATCH_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MCF_MAX_BATCH = 1024, /* datagrams in one system call (UIO_MAXIOV) */
    MCF_CACHE_LINE = 64,  /* bytes */
};

/* Bits of the flags column. */
enum {
    MCF_FLAG_TRUNCATED = 1,         /* the datagram was longer than its slot; the rest is gone */
    MCF_FLAG_CONTROL_TRUNCATED = 2, /* the kernel had more metadata than room for it */
    MCF_FLAG_HARDWARE_TIME = 4,     /* the timestamp is the device's, not the kernel's */
    MCF_FLAG_SHARED_TIME = 8,       /* the timestamp is that of the train in which the datagram came */
};

/* Memory that an arena's data points at for a while in place of its own: mcf_arena_lend. */
typedef struct mcf_loan {
    void *lender;
    void (*give_back)(void *lender); /* NULL = nothing is lent */
    uint8_t *own_data;
} mcf_loan;

/* Absent metadata is 0 in its column. Columns that nobody asked for are never touched after allocation. */
typedef struct mcf_arena {
    uint8_t *data;
    size_t data_size;      /* bytes */
    uint32_t rows;         /* in every column */
    uint32_t slot_size;    /* bytes from one datagram's place to the next, where each has its own */
    uint32_t max_datagram; /* bytes; longer ones are cut */
    uint32_t used_rows;    /* handed out so far, as is used_data; both belong to whoever fills the arena */
    size_t used_data;      /* bytes */
    uint32_t *offsets;     /* bytes from the start of the batch's data */
    uint32_t *lengths;     /* bytes */
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
    uint64_t filler; /* id of the receiver that last filled it, 0 = none */
    mcf_loan loan;
    struct mcf_pool *pool; /* where the arena goes when its last reference does; NULL = freed */
    struct mcf_arena *next;
    _Atomic uint32_t references;
} mcf_arena;

typedef struct mcf_pool mcf_pool;

/* A batch: rows [row, row + rows) of an arena, and the bytes [data, data + data_size) of it that their payloads lie in.
 */
typedef struct mcf_range {
    mcf_arena *arena;
    uint32_t row, rows;
    size_t data, data_size;
} mcf_range;

/* What the arenas of a pool look like. */
typedef struct mcf_shape {
    uint32_t rows;
    uint32_t max_datagram;
    size_t data_size; /* bytes */
} mcf_shape;

/* Bytes from one place to the next for datagrams of up to so many bytes, in memory of ours. */
static inline uint32_t mcf_slot_size(uint32_t max_datagram)
{
    return (max_datagram + 7) & ~7u;
}

/* Bytes that one arena of this shape takes. */
size_t mcf_arena_size(const mcf_shape *shape);

/* A new arena with one reference and memory of its own. NULL when memory is out. */
mcf_arena *mcf_arena_new(const mcf_shape *shape);

/* The same in zeroed memory of the caller's, mcf_arena_size bytes, which must outlive it. */
mcf_arena *mcf_arena_at(void *memory, const mcf_shape *shape);

/* Frees an arena without references, but not the caller's memory. */
void mcf_arena_free(mcf_arena *arena);

/* A new arena over the caller's `data`, which must outlive it: places are exactly max_datagram apart. */
mcf_arena *mcf_arena_over(void *data, uint32_t rows, uint32_t max_datagram);

/* A new arena, all of which is the batch, packed without gaps. NULL when memory is out. */
mcf_arena *mcf_arena_copy(const mcf_range *batch);

/* Copies a batch into an arena over the caller's memory, from its start, each datagram into a place of its own: *to.
 * Longer ones are cut and flagged: returns how many were whole before. The arena has as many rows. */
uint32_t mcf_range_copy(const mcf_range *batch, mcf_arena *arena, mcf_range *to);

/* References: any thread, lock-free. Whoever drops the last one returns the arena to its pool, or frees it. */
static inline void mcf_arena_retain(mcf_arena *arena)
{
    atomic_fetch_add_explicit(&arena->references, 1, memory_order_relaxed);
}
void mcf_arena_release(mcf_arena *arena);

/* Makes data point at what is lent, until the arena's last reference goes: then give_back(lender) is called. */
void mcf_arena_lend(mcf_arena *arena, const void *data, void *lender, void (*give_back)(void *lender));

/* True when the caller's reference is the only one: no batch of the arena is left. */
static inline int mcf_arena_is_sole(mcf_arena *arena)
{
    return atomic_load_explicit(&arena->references, memory_order_acquire) == 1;
}

#endif
