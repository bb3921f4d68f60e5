/* The set of (destination group, interface) pairs that a receiver delivers; everything else to a group is foreign. */
#ifndef MCF_FILTER_H
#define MCF_FILTER_H

#include <stdatomic.h>
#include <stdint.h>

typedef struct {
    uint8_t group[16]; /* IPv6, or IPv4 mapped */
    uint32_t interface_index;
} mcf_filter_entry;

/* Open addressing: a power of two of places, interface 0 = empty. */
typedef struct mcf_filter_table mcf_filter_table;

/* The set may be replaced by any thread; the one that receives adopts it before its next pass over datagrams. */
typedef struct {
    mcf_filter_table *table; /* the receiving thread's own; NULL = deliver all */
    _Atomic(mcf_filter_table *) next;
} mcf_filter;

/* Replaces the set by a copy of `entries`. Any thread. Returns 0 or -ENOMEM (the old set stays). */
int mcf_filter_set(mcf_filter *filter, const mcf_filter_entry *entries, uint32_t count);

/* Frees the set: everything is delivered again. No other thread may be at the filter. */
void mcf_filter_clear(mcf_filter *filter);

/* Before a pass over received datagrams: the last set counts from now on. */
void mcf_filter_adopt(mcf_filter *filter);

/* True when the datagram is to be delivered. Unicast always is. */
int mcf_filter_accepts(const mcf_filter *filter, const uint8_t destination[16], uint32_t interface_index);

#endif
