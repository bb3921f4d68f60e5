/* The hash by which tables of groups on interfaces are open-addressed. */
#ifndef MCF_GROUP_HASH_H
#define MCF_GROUP_HASH_H

#include <stdint.h>
#include <string.h>

/* Pure; group is IPv6, or IPv4 mapped. */
static inline uint32_t mcf_group_hash(const uint8_t group[16], uint32_t interface_index)
{
    uint64_t high, low;
    memcpy(&high, group, 8);
    memcpy(&low, group + 8, 8);
    uint64_t mixed = (high ^ (low * 0x9e3779b97f4a7c15u) ^ interface_index) * 0xff51afd7ed558ccdu;
    return (uint32_t)(mixed >> 32);
}

#endif
