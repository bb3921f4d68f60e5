/* Counters for statistics, which other threads read at any time. */
#ifndef MCF_COUNTER_H
#define MCF_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

/* A counter that any thread may change (exports, statistics). */
typedef struct {
    _Atomic int64_t value;
} mcf_counter;

static inline int64_t mcf_counter_get(mcf_counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}
/* The same, and what others did before they changed it has happened. */
static inline int64_t mcf_counter_settled(mcf_counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_acquire);
}
static inline void mcf_counter_add(mcf_counter *counter, int64_t amount)
{
    atomic_fetch_add_explicit(&counter->value, amount, memory_order_acq_rel);
}
/* Cheaper, for a counter that only one thread changes. */
static inline void mcf_counter_bump(mcf_counter *counter, int64_t amount)
{
    atomic_store_explicit(&counter->value, atomic_load_explicit(&counter->value, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

#endif
