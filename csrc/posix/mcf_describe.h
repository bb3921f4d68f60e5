/* What the POSIX engines share: turning one received message into one row of an arena. */
#ifndef MCF_DESCRIBE_H
#define MCF_DESCRIBE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "posix/mcf_control.h"

/* Room for the address of either family. */
typedef union {
    struct sockaddr any;
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
} mcf_name;

/* Asking for exactly what the family gives leaves nothing to reset between calls. */
static inline socklen_t mcf_name_size(int family)
{
    return family == MCF_IPV6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

/* When whoever shares the socket calls shutdown(2) on it, a waiting receive ends with an empty message from nobody. */
static inline int mcf_is_phantom(const struct msghdr *header, size_t length)
{
    return length == 0 && header->msg_namelen == 0;
}

static inline void mcf_describe_source(const mcf_name *name, mcf_arena *arena, uint32_t row)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (name->any.sa_family == AF_INET) {
        memcpy(arena->sources[row], mapped, sizeof mapped);
        memcpy(arena->sources[row] + 12, &name->ipv4.sin_addr, 4);
        arena->source_ports[row] = ntohs(name->ipv4.sin_port);
    } else {
        memcpy(arena->sources[row], &name->ipv6.sin6_addr, 16);
        arena->source_ports[row] = ntohs(name->ipv6.sin6_port);
        arena->source_scopes[row] = name->ipv6.sin6_scope_id;
    }
}

/* Describes one message in row `row`; false when it is foreign and the row is free again. */
static inline int mcf_describe(mcf_receiver *receiver, struct msghdr *header, const mcf_name *name, uint32_t offset,
                               uint32_t length, mcf_arena *arena, uint32_t row)
{
    arena->offsets[row] = offset;
    arena->lengths[row] = length;
    uint16_t flags = header->msg_flags & MSG_TRUNC ? MCF_FLAG_TRUNCATED : 0;
    mcf_describe_source(name, arena, row);
    if (header->msg_control) {
        if (header->msg_flags & MSG_CTRUNC)
            flags |= MCF_FLAG_CONTROL_TRUNCATED;
        flags |= mcf_control_read(receiver, header, arena, row);
        if (!mcf_members_pass(&receiver->filter, arena->destinations[row], arena->interfaces[row])) {
            receiver->pending_dropped += arena->dropped[row];
            return 0;
        }
    }
    arena->flags[row] = flags;
    return 1;
}

#endif
