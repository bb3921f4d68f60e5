/* The pool that recycles the arenas of one receiver. */
#ifndef MCF_POOL_H
#define MCF_POOL_H

#include <stdint.h>

#include "mcf_batch.h"

/* A pool of equal arenas that never holds more than max_bytes. NULL when memory is out. */
mcf_pool *mcf_pool_new(const mcf_shape *shape, uint64_t max_bytes);

/* Before the first take: maps the memory for all arenas at once, with MCF_MEMORY_* wishes. Returns 0, or -errno as
 * mcf_memory_map. */
int mcf_pool_reserve(mcf_pool *pool, uint32_t wishes);

/* With which it was mapped, 0 = none, or not at all. */
uint32_t mcf_pool_wishes(const mcf_pool *pool);

/* Takes an arena back that has no references any more. Any thread, lock-free. */
void mcf_pool_return(mcf_pool *pool, mcf_arena *arena);

/* Hands out an arena with one reference, of which nothing is used. One thread at a time.
 * Returns 0, -ENOBUFS when the budget is used up, -ENOMEM when memory is out. */
int mcf_pool_take(mcf_pool *pool, mcf_arena **arena);

/* Number of arenas that exist, in use or free. Any thread. */
uint32_t mcf_pool_arenas(mcf_pool *pool);

/* How many it may hold at most. */
uint64_t mcf_pool_most(const mcf_pool *pool);

/* The owner is done: free arenas go now, the others when their last reference does, the pool with the last arena. */
void mcf_pool_close(mcf_pool *pool);

/* The same in a forked child, where other threads of the parent may have been changing the pool: what was free stays
 * unused, for nobody knows in what state those lists were caught. */
void mcf_pool_abandon(mcf_pool *pool);

#endif
