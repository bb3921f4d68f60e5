#include "mcf_pool.h"

#include <errno.h>
#include <stdlib.h>

#include "mcf_memory.h"

struct mcf_pool {
    mcf_shape shape;
    uint64_t max_bytes;
    uint8_t *reserve;            /* memory for all the arenas, NULL = each is allocated when it is needed */
    uint32_t wishes;             /* with which it was mapped */
    mcf_arena *spare;            /* the taker's own list, no other thread looks at it */
    _Atomic(mcf_arena *) free;   /* pushed by any thread, taken as a whole: so there is no ABA problem */
    _Atomic uint32_t arenas;     /* that exist, in use or free */
    _Atomic uint32_t references; /* the owner, every arena that exists, every release under way */
    atomic_int closed;
};

static uint64_t reserve_size(const mcf_pool *pool)
{
    return mcf_pool_most(pool) * mcf_arena_size(&pool->shape);
}

static void pool_unref(mcf_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel) != 1)
        return;
    if (pool->reserve)
        mcf_memory_unmap(pool->reserve, (size_t)reserve_size(pool), pool->wishes);
    free(pool);
}

static void free_list(mcf_pool *pool, mcf_arena *list)
{
    while (list) {
        mcf_arena *next = list->next;
        mcf_arena_free(list);
        pool_unref(pool);
        list = next;
    }
}

mcf_pool *mcf_pool_new(const mcf_shape *shape, uint64_t max_bytes)
{
    mcf_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->shape = *shape;
    pool->max_bytes = max_bytes;
    atomic_init(&pool->references, 1);
    return pool;
}

int mcf_pool_reserve(mcf_pool *pool, uint32_t wishes)
{
    void *memory;
    uint64_t size = reserve_size(pool);
    if (size != (size_t)size)
        return -ENOMEM;
    int error = mcf_memory_map((size_t)size, wishes, &memory);
    if (!error) {
        pool->reserve = memory;
        pool->wishes = wishes;
    }
    return error;
}

uint32_t mcf_pool_wishes(const mcf_pool *pool)
{
    return pool->wishes;
}

void mcf_pool_return(mcf_pool *pool, mcf_arena *arena)
{
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

static mcf_arena *make_arena(const mcf_pool *pool, uint32_t number)
{
    const mcf_shape *shape = &pool->shape;
    if (!pool->reserve)
        return mcf_arena_new(shape);
    return mcf_arena_at(pool->reserve + number * mcf_arena_size(shape), shape);
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
        uint32_t arenas = mcf_pool_arenas(pool);
        if (arenas >= mcf_pool_most(pool))
            return -ENOBUFS;
        arena = make_arena(pool, arenas);
        if (!arena)
            return -ENOMEM;
        arena->pool = pool;
        atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&pool->arenas, 1, memory_order_relaxed);
    }
    arena->next = NULL;
    arena->used_rows = 0;
    arena->used_data = 0;
    *result = arena;
    return 0;
}

uint32_t mcf_pool_arenas(mcf_pool *pool)
{
    return atomic_load_explicit(&pool->arenas, memory_order_relaxed);
}

uint64_t mcf_pool_most(const mcf_pool *pool)
{
    return pool->max_bytes / mcf_arena_size(&pool->shape);
}

void mcf_pool_close(mcf_pool *pool)
{
    atomic_store(&pool->closed, 1);
    free_list(pool, pool->spare);
    free_list(pool, atomic_exchange(&pool->free, NULL));
    pool_unref(pool);
}

void mcf_pool_abandon(mcf_pool *pool)
{
    pool->spare = NULL;
    atomic_store(&pool->free, NULL);
    mcf_pool_close(pool);
}
