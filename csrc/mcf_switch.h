/* A switch that any thread may look at. Who turns it is its owner's matter. */
#ifndef MCF_SWITCH_H
#define MCF_SWITCH_H

#include <stdatomic.h>

/* All zero is off. */
typedef struct {
    _Atomic int is_on;
} mcf_switch;

static inline int mcf_switch_get(mcf_switch *self)
{
    return atomic_load_explicit(&self->is_on, memory_order_acquire);
}
static inline void mcf_switch_set(mcf_switch *self, int is_on)
{
    atomic_store_explicit(&self->is_on, is_on, memory_order_release);
}

#endif
