#include "mcf_batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 }; /* a cache line: no column shares one with its neighbour */

struct mcf_pool {
    uint32_t slots;
    uint32_t max_datagram;
    uint64_t max_bytes;
    mcf_arena *spare;            /* the taker's own list, no other thread looks at it */
    _Atomic(mcf_arena *) free;   /* pushed by any thread, taken as a whole: so there is no ABA problem */
    _Atomic uint32_t arenas;     /* that exist, in use or free */
    _Atomic uint32_t references; /* the owner, every arena that exists, every release under way */
    atomic_int closed;
};

/* Hands out aligned pieces of one block. With base NULL it only adds up the size. */
typedef struct {
    uint8_t *base;
    size_t size;
} carver;

static void *carve(carver *block, size_t size)
{
    size_t at = (block->size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    block->size = at + size;
    return block->base ? block->base + at : NULL;
}

static uint32_t slot_stride(uint32_t max_datagram)
{
    return (max_datagram + 7) & ~7u;
}

/* The one place that knows the layout of an arena's block: used to measure it and to fill it. */
static void lay_out(mcf_arena *arena, carver *block, size_t data_size)
{
    size_t slots = arena->slots;
    arena->offsets = carve(block, slots * sizeof *arena->offsets);
    arena->lengths = carve(block, slots * sizeof *arena->lengths);
    arena->flags = carve(block, slots * sizeof *arena->flags);
    arena->sources = carve(block, slots * sizeof *arena->sources);
    arena->source_ports = carve(block, slots * sizeof *arena->source_ports);
    arena->source_scopes = carve(block, slots * sizeof *arena->source_scopes);
    arena->destinations = carve(block, slots * sizeof *arena->destinations);
    arena->interfaces = carve(block, slots * sizeof *arena->interfaces);
    arena->timestamps = carve(block, slots * sizeof *arena->timestamps);
    arena->dropped = carve(block, slots * sizeof *arena->dropped);
    arena->hops = carve(block, slots * sizeof *arena->hops);
    arena->tos = carve(block, slots * sizeof *arena->tos);
    uint8_t *data = carve(block, data_size);
    if (data_size)
        arena->data = data;
}

static size_t block_size(uint32_t slots, size_t data_size)
{
    mcf_arena measured = {.slots = slots};
    carver block = {NULL, 0};
    carve(&block, sizeof(mcf_arena));
    lay_out(&measured, &block, data_size);
    return block.size + ALIGNMENT;
}

/* The header lies at the first aligned address of the block; the word before it remembers where the block starts. */
static mcf_arena *allocate(uint32_t slots, size_t data_size)
{
    size_t size = block_size(slots, data_size) + sizeof(void *);
    uint8_t *start = calloc(1, size);
    if (!start)
        return NULL;
    uintptr_t aligned = ((uintptr_t)start + sizeof(void *) + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
    ((void **)aligned)[-1] = start;
    carver block = {(uint8_t *)aligned, 0};
    mcf_arena *arena = carve(&block, sizeof *arena);
    arena->slots = slots;
    arena->data_size = data_size;
    lay_out(arena, &block, data_size);
    atomic_init(&arena->references, 1);
    return arena;
}

static void deallocate(mcf_arena *arena)
{
    free(((void **)arena)[-1]);
}

size_t mcf_arena_size(uint32_t slots, uint32_t max_datagram)
{
    return block_size(slots, (size_t)slots * slot_stride(max_datagram)) + sizeof(void *);
}

mcf_arena *mcf_arena_new(void *data, uint32_t slots, uint32_t max_datagram)
{
    uint32_t slot_size = data ? max_datagram : slot_stride(max_datagram);
    size_t data_size = (size_t)slots * slot_size;
    mcf_arena *arena = allocate(slots, data ? 0 : data_size);
    if (!arena)
        return NULL;
    if (data) {
        arena->data = data;
        arena->data_size = data_size;
    }
    arena->slot_size = slot_size;
    arena->max_datagram = max_datagram;
    return arena;
}

mcf_arena *mcf_arena_copy(const mcf_arena *from, uint32_t start, uint32_t count)
{
    size_t size = 0;
    for (uint32_t i = start; i < start + count; i++)
        size += from->lengths[i];
    mcf_arena *to = allocate(count, size ? size : 1);
    if (!to)
        return NULL;
    to->data_size = size;
    const uint8_t *base = from->data + (size_t)start * from->slot_size;
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = from->lengths[start + i];
        memcpy(to->data + at, base + from->offsets[start + i], length);
        to->offsets[i] = at;
        at += length;
    }
#define COPY_COLUMN(name) memcpy(to->name, from->name + start, count * sizeof *to->name)
    COPY_COLUMN(lengths);
    COPY_COLUMN(flags);
    COPY_COLUMN(sources);
    COPY_COLUMN(source_ports);
    COPY_COLUMN(source_scopes);
    COPY_COLUMN(destinations);
    COPY_COLUMN(interfaces);
    COPY_COLUMN(timestamps);
    COPY_COLUMN(dropped);
    COPY_COLUMN(hops);
    COPY_COLUMN(tos);
#undef COPY_COLUMN
    return to;
}

static void pool_unref(mcf_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel) == 1)
        free(pool);
}

static void free_list(mcf_pool *pool, mcf_arena *list)
{
    while (list) {
        mcf_arena *next = list->next;
        deallocate(list);
        pool_unref(pool);
        list = next;
    }
}

void mcf_arena_release(mcf_arena *arena)
{
    if (atomic_fetch_sub_explicit(&arena->references, 1, memory_order_acq_rel) != 1)
        return;
    mcf_pool *pool = arena->pool;
    if (!pool) {
        deallocate(arena);
        return;
    }
    /* As soon as the arena is on the list another thread may free it, and its hold on the pool with it. */
    atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
    mcf_arena *head = atomic_load(&pool->free);
    do
        arena->next = head;
    while (!atomic_compare_exchange_weak(&pool->free, &head, arena));
    /* Sequentially consistent on both sides: either close() sees this arena, or this thread sees the flag. */
    if (atomic_load(&pool->closed))
        free_list(pool, atomic_exchange(&pool->free, NULL));
    pool_unref(pool);
}

mcf_pool *mcf_pool_new(uint32_t slots, uint32_t max_datagram, uint64_t max_bytes)
{
    mcf_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->slots = slots;
    pool->max_datagram = max_datagram;
    pool->max_bytes = max_bytes;
    atomic_init(&pool->references, 1);
    return pool;
}

int mcf_pool_take(mcf_pool *pool, mcf_arena **result)
{
    if (!pool->spare)
        pool->spare = atomic_exchange(&pool->free, NULL);
    mcf_arena *arena = pool->spare;
    if (arena) {
        pool->spare = arena->next;
        atomic_store_explicit(&arena->references, 1, memory_order_relaxed);
    } else {
        uint64_t size = mcf_arena_size(pool->slots, pool->max_datagram);
        if ((mcf_pool_arenas(pool) + 1) * size > pool->max_bytes)
            return -ENOBUFS;
        arena = mcf_arena_new(NULL, pool->slots, pool->max_datagram);
        if (!arena)
            return -ENOMEM;
        arena->pool = pool;
        atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&pool->arenas, 1, memory_order_relaxed);
    }
    arena->next = NULL;
    arena->used = 0;
    *result = arena;
    return 0;
}

uint32_t mcf_pool_arenas(mcf_pool *pool)
{
    return atomic_load_explicit(&pool->arenas, memory_order_relaxed);
}

void mcf_pool_close(mcf_pool *pool)
{
    atomic_store(&pool->closed, 1);
    free_list(pool, pool->spare);
    free_list(pool, atomic_exchange(&pool->free, NULL));
    pool_unref(pool);
}
