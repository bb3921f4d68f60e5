/* The set of (destination group, interface) pairs that a receiver delivers; everything else to a group is foreign. */
#ifndef MCF_FILTER_H
#define MCF_FILTER_H

#include <stdatomic.h>
#include <stdint.h>

typedef struct {
    uint8_t group[16]; /* IPv6, or IPv4 mapped */
    uint32_t interface_index;
} mcf_filter_entry;

/* The set may be replaced by one thread while another one receives: `busy` guards the few microseconds of a pass. */
typedef struct {
    mcf_filter_entry *table; /* open addressing, a power of two of places, interface 0 = empty; NULL = deliver all */
    uint32_t mask;
    atomic_flag busy;
} mcf_filter;

/* Replaces the set by a copy of `entries`; no thread sees half of it. Returns 0 or -ENOMEM (the old set stays). */
int mcf_filter_set(mcf_filter *filter, const mcf_filter_entry *entries, uint32_t count);

/* Frees the set: everything is delivered again. */
void mcf_filter_clear(mcf_filter *filter);

/* Bracket a pass over received datagrams. */
void mcf_filter_lock(mcf_filter *filter);
void mcf_filter_unlock(mcf_filter *filter);

/* Between lock and unlock: true when the datagram is to be delivered. Unicast always is. */
int mcf_filter_accepts(const mcf_filter *filter, const uint8_t destination[16], uint32_t interface_index);

#endif
