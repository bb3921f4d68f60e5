/* The fast side of a lock that is mostly free: one atomic operation takes it, one lets go. How to sleep for it is its
 * owner's matter. */
#ifndef MCF_LATCH_H
#define MCF_LATCH_H

#include <stdatomic.h>

/* All zero is free. */
typedef struct {
    _Atomic int state;
} mcf_latch;

enum { MCF_LATCH_FREE, MCF_LATCH_TAKEN, MCF_LATCH_AWAITED };

/* Whether it was free, and is the caller's now. */
static inline int mcf_latch_try(mcf_latch *self)
{
    int expected = MCF_LATCH_FREE;
    return atomic_compare_exchange_strong_explicit(&self->state, &expected, MCF_LATCH_TAKEN, memory_order_acquire,
                                                   memory_order_relaxed);
}
/* The same for one who is going to sleep otherwise: whoever has it learns of that when it lets go. */
static inline int mcf_latch_await(mcf_latch *self)
{
    return atomic_exchange_explicit(&self->state, MCF_LATCH_AWAITED, memory_order_acquire) == MCF_LATCH_FREE;
}
/* Lets go. Whether the caller has to wake one who sleeps for it, and who will then ask again. */
static inline int mcf_latch_free(mcf_latch *self)
{
    return atomic_exchange_explicit(&self->state, MCF_LATCH_FREE, memory_order_release) == MCF_LATCH_AWAITED;
}

#endif
