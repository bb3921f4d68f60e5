/* Control messages that say the same on every POSIX system: RFC 3542, and IP_PKTINFO where there is one. */
#ifndef MCF_MESSAGES_H
#define MCF_MESSAGES_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* glibc, musl: struct in6_pktinfo */
#endif
#include <netinet/in.h>
#include <string.h>

#include "mcf_places.h"
#include "posix/mcf_control.h"

/* The last control message may be cut. */
static inline int mcf_message_has(const struct cmsghdr *message, size_t size)
{
    return message->cmsg_len >= CMSG_LEN(size);
}

/* What comes as one octet or as an int. */
static inline uint8_t mcf_message_octet(const struct cmsghdr *message)
{
    if (!mcf_message_has(message, sizeof(int)))
        return mcf_message_has(message, 1) ? *CMSG_DATA(message) : 0;
    int value;
    memcpy(&value, CMSG_DATA(message), sizeof value);
    return (uint8_t)value;
}

/* A message of IPPROTO_IP. TTL and TOS come under numbers that differ. */
static inline void mcf_message_read_ipv4(const struct cmsghdr *message, int ttl, int tos, uint32_t metadata,
                                         mcf_arena *arena, uint32_t row)
{
    if (message->cmsg_type == IP_PKTINFO && metadata & MCF_META_DESTINATION &&
        mcf_message_has(message, sizeof(struct in_pktinfo))) {
        struct in_pktinfo info;
        memcpy(&info, CMSG_DATA(message), sizeof info);
        memset(arena->destinations[row] + 10, 0xff, 2);
        memcpy(arena->destinations[row] + 12, &info.ipi_addr, 4);
        arena->interfaces[row] = (uint32_t)info.ipi_ifindex;
    } else if (message->cmsg_type == ttl && metadata & MCF_META_HOPS) {
        arena->hops[row] = mcf_message_octet(message);
    } else if (message->cmsg_type == tos && metadata & MCF_META_TOS) {
        arena->tos[row] = mcf_message_octet(message);
    }
}

/* A message of IPPROTO_IPV6. */
static inline void mcf_message_read_ipv6(const struct cmsghdr *message, uint32_t metadata, mcf_arena *arena,
                                         uint32_t row)
{
    if (message->cmsg_type == IPV6_PKTINFO && metadata & MCF_META_DESTINATION &&
        mcf_message_has(message, sizeof(struct in6_pktinfo))) {
        struct in6_pktinfo info;
        memcpy(&info, CMSG_DATA(message), sizeof info);
        memcpy(arena->destinations[row], &info.ipi6_addr, 16);
        arena->interfaces[row] = (uint32_t)info.ipi6_ifindex;
    } else if (message->cmsg_type == IPV6_HOPLIMIT && metadata & MCF_META_HOPS) {
        arena->hops[row] = mcf_message_octet(message);
    } else if (message->cmsg_type == IPV6_TCLASS && metadata & MCF_META_TOS) {
        arena->tos[row] = mcf_message_octet(message);
    }
}

#endif
