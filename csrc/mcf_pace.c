#include "mcf_pace.h"

enum {
    UDP_HEADER = 8,
    IPV4_HEADER = 20,
    IPV6_HEADER = 40,
    IPV6_FRAGMENT_HEADER = 8,
    FRAME = 38,       /* of Ethernet around a packet, with preamble and gap */
    LEAST_PACKET = 46 /* a shorter one is padded */
};

int64_t mcf_pace_turn(const mcf_pace *pace)
{
    return pace->unpaid >= pace->burst && pace->paid > pace->due ? pace->paid : pace->due;
}

uint32_t mcf_pace_most(const mcf_pace *pace, int64_t now)
{
    return now >= pace->paid ? pace->burst : pace->burst - pace->unpaid;
}

static uint64_t frame(uint64_t packet)
{
    return (packet < LEAST_PACKET ? LEAST_PACKET : packet) + FRAME;
}

uint64_t mcf_pace_cost(const mcf_pace *pace, size_t length)
{
    if (pace->counts == MCF_PACE_DATAGRAMS)
        return 1;
    if (pace->counts == MCF_PACE_PAYLOAD)
        return length ? length : 1;
    uint64_t carried = length + UDP_HEADER;
    uint64_t header = pace->is_ipv6 ? IPV6_HEADER : IPV4_HEADER;
    if (header + carried <= pace->mtu)
        return frame(header + carried);
    header += pace->is_ipv6 ? IPV6_FRAGMENT_HEADER : 0;
    uint64_t each = (pace->mtu - header) / 8 * 8; /* the offset of a fragment counts in eights */
    uint64_t full = (carried - 1) / each;
    return full * frame(header + each) + frame(header + carried - full * each);
}

/* When a call of these times put its datagrams on the wire: as long before its end as undisturbed calls take, for what
 * comes after that is much the same in all of them. What made it longer may have come before, as when the thread lost
 * its processor, and then the next would be next to it. */
static int64_t departure(mcf_pace *pace, int64_t began, int64_t ended)
{
    int64_t took = ended - began;
    int64_t brief = pace->brief;
    pace->brief += took > brief ? brief / 128 + 16 : -(brief / 16);
    return took > brief ? ended - brief : began;
}

void mcf_pace_spend(mcf_pace *pace, uint32_t count, uint64_t cost, int64_t began, int64_t ended)
{
    if (!pace->due)
        pace->due = began;
    if (pace->due < began - MCF_PACE_MEMORY)
        pace->due = began - MCF_PACE_MEMORY;
    uint64_t fraction = cost * (pace->span % pace->units) + pace->remainder;
    int64_t gap = (int64_t)(cost * (pace->span / pace->units) + fraction / pace->units);
    pace->remainder = fraction % pace->units;
    pace->due += gap;

    /* Being late by less is made up for at once, or what every call is late by would come off the 1.1. More would bring
     * two datagrams together where a call takes less than the one before. */
    int64_t forgiven = gap / count / 4;
    int64_t left = departure(pace, began, ended) - forgiven;
    if (began >= pace->paid)
        pace->unpaid = 0;
    pace->unpaid += count;
    pace->paid = (left > pace->paid ? left : pace->paid) + gap - gap / 11;
}
