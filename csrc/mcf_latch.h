/* The fast side of a lock that is mostly free: one atomic operation takes it, one lets go. Who has to sleep for it does
 * that at a bell of its owner's, which is to be rung only when it is silent. */
#ifndef MCF_LATCH_H
#define MCF_LATCH_H

#include <stdatomic.h>

/* All zero is free, and silent. */
typedef struct {
    _Atomic int state;
    _Atomic int is_rung;
} mcf_latch;

enum { MCF_LATCH_FREE, MCF_LATCH_TAKEN, MCF_LATCH_AWAITED };

/* Whether it was free, and is the caller's now. */
static inline int mcf_latch_try(mcf_latch *self)
{
    int expected = MCF_LATCH_FREE;
    return atomic_compare_exchange_strong_explicit(&self->state, &expected, MCF_LATCH_TAKEN, memory_order_acquire,
                                                   memory_order_relaxed);
}
/* The same for one who is going to sleep otherwise. */
static inline int mcf_latch_await(mcf_latch *self)
{
    return atomic_exchange_explicit(&self->state, MCF_LATCH_AWAITED, memory_order_acquire) == MCF_LATCH_FREE;
}
/* Lets go. Whether the caller has to ring, for one who sleeps. */
static inline int mcf_latch_free(mcf_latch *self)
{
    return atomic_exchange_explicit(&self->state, MCF_LATCH_FREE, memory_order_release) == MCF_LATCH_AWAITED &&
           !atomic_exchange_explicit(&self->is_rung, 1, memory_order_acq_rel);
}
/* By one whom the bell woke, before it asks again: who does not ring from here on has let go before. */
static inline void mcf_latch_woken(mcf_latch *self)
{
    atomic_exchange_explicit(&self->is_rung, 0, memory_order_acq_rel);
}
/* Whoever had it and slept for it is no more, and has a bell no more. */
static inline void mcf_latch_reset(mcf_latch *self)
{
    atomic_store_explicit(&self->state, MCF_LATCH_FREE, memory_order_relaxed);
    atomic_store_explicit(&self->is_rung, 0, memory_order_relaxed);
}

#endif
