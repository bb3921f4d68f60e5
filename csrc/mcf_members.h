/* What a receiver is a member of, where the kernel's own check is bypassed or is not enough: groups, the interface of
 * each, and which sources count (RFC 3376, 3810). */
#ifndef MCF_MEMBERS_H
#define MCF_MEMBERS_H

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

/* One membership; no two of a set have the same group and interface. */
typedef struct {
    uint8_t group[16]; /* IPv6, or IPv4 mapped */
    uint32_t interface_index;
    uint32_t source_count;
    const uint8_t (*sources)[16];
    uint8_t is_exclude; /* 1: all sources but these; 0: these only */
} mcf_member;

typedef struct mcf_members_table mcf_members_table;

/* All zero is the empty set. It may be replaced by any thread; the one that receives adopts it. */
typedef struct {
    _Atomic(mcf_members_table *) next;
    /* The receiving thread's own, with its last answer: streams come in runs. */
    mcf_members_table *table;
    uint8_t last_destination[16];
    uint8_t last_source[16];
    uint32_t last_interface; /* 0 = none */
    int last_answer;
} mcf_members;

/* Replaces the set by a copy. Any thread. Returns 0 or -ENOMEM (the old set stays). */
int mcf_members_set(mcf_members *members, const mcf_member *entries, uint32_t count);

/* Frees the set. No other thread may be at it. */
void mcf_members_clear(mcf_members *members);

/* Before a pass over received datagrams: the last set counts from now on. */
void mcf_members_adopt(mcf_members *members);

/* Asks the set itself, and keeps the answer. */
int mcf_members_look_up(mcf_members *members, const uint8_t destination[16], uint32_t interface_index,
                        const uint8_t source[16]);

/* True when a datagram from that source to that group, come by that interface, is for a member; never without a set. */
static inline int mcf_members_accept(mcf_members *members, const uint8_t destination[16], uint32_t interface_index,
                                     const uint8_t source[16])
{
    if (members->last_interface == interface_index && !memcmp(members->last_source, source, 16) &&
        !memcmp(members->last_destination, destination, 16))
        return members->last_answer;
    return mcf_members_look_up(members, destination, interface_index, source);
}

static inline int mcf_is_multicast(const uint8_t address[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, mapped, sizeof mapped) ? address[0] == 0xff : (address[12] & 0xf0) == 0xe0;
}

/* True when a datagram that the socket got is not for a group of others only: unicast, broadcast, or what a member of a
 * set without sources has joined; always without a set. */
static inline int mcf_members_pass(mcf_members *members, const uint8_t destination[16], uint32_t interface_index)
{
    static const uint8_t any[16];
    return !members->table || !mcf_is_multicast(destination) ||
           mcf_members_accept(members, destination, interface_index, any);
}

#endif
