/* Windows' control messages: WSARecvMsg, ws2ipdef.h. */
#include <string.h>

#include "mcf_places.h"
#include "windows/mcf_windows.h"

const int mcf_so_timestampns, mcf_so_timestamping;

static int has(const WSACMSGHDR *message, size_t size)
{
    return message->cmsg_len >= WSA_CMSG_LEN(size);
}

/* As WSA_CMSG_NXTHDR, which mixes signs in some headers. */
static WSACMSGHDR *find_next(const WSAMSG *message, WSACMSGHDR *last)
{
    char *end = message->Control.buf + message->Control.len;
    size_t step = (last->cmsg_len + sizeof(size_t) - 1) / sizeof(size_t) * sizeof(size_t);
    if (last->cmsg_len < sizeof *last || step + sizeof *last > (size_t)(end - (char *)last))
        return NULL;
    WSACMSGHDR *next = (WSACMSGHDR *)(void *)((char *)last + step);
    return next->cmsg_len <= (size_t)(end - (char *)next) ? next : NULL;
}

static uint8_t read_byte(WSACMSGHDR *message)
{
    int value = 0;
    if (has(message, sizeof value))
        memcpy(&value, WSA_CMSG_DATA(message), sizeof value);
    else if (has(message, 1))
        value = *WSA_CMSG_DATA(message);
    return (uint8_t)value;
}

static void read_ipv4(WSACMSGHDR *message, uint32_t metadata, mcf_arena *arena, uint32_t row)
{
    if (message->cmsg_type == IP_PKTINFO && metadata & MCF_META_DESTINATION && has(message, sizeof(IN_PKTINFO))) {
        IN_PKTINFO info;
        memcpy(&info, WSA_CMSG_DATA(message), sizeof info);
        memset(arena->destinations[row] + 10, 0xff, 2);
        memcpy(arena->destinations[row] + 12, &info.ipi_addr, 4);
        arena->interfaces[row] = info.ipi_ifindex;
    } else if ((message->cmsg_type == IP_HOPLIMIT || message->cmsg_type == IP_TTL) && metadata & MCF_META_HOPS) {
        arena->hops[row] = read_byte(message);
    } else if (message->cmsg_type == IP_TOS && metadata & MCF_META_TOS) {
        arena->tos[row] = read_byte(message);
    }
}

static void read_ipv6(WSACMSGHDR *message, uint32_t metadata, mcf_arena *arena, uint32_t row)
{
    if (message->cmsg_type == IPV6_PKTINFO && metadata & MCF_META_DESTINATION && has(message, sizeof(IN6_PKTINFO))) {
        IN6_PKTINFO info;
        memcpy(&info, WSA_CMSG_DATA(message), sizeof info);
        memcpy(arena->destinations[row], &info.ipi6_addr, 16);
        arena->interfaces[row] = info.ipi6_ifindex;
    } else if (message->cmsg_type == IPV6_HOPLIMIT && metadata & MCF_META_HOPS) {
        arena->hops[row] = read_byte(message);
    } else if (message->cmsg_type == IPV6_TCLASS && metadata & MCF_META_TOS) {
        arena->tos[row] = read_byte(message);
    }
}

void mcf_control_read(const mcf_receiver *receiver, WSAMSG *message, mcf_arena *arena, uint32_t row)
{
    uint32_t metadata = receiver->metadata;
    mcf_clear_metadata(metadata, arena, row);
    for (WSACMSGHDR *found = WSA_CMSG_FIRSTHDR(message); found; found = find_next(message, found)) {
        if (found->cmsg_level == IPPROTO_IP)
            read_ipv4(found, metadata, arena, row);
        else if (found->cmsg_level == IPPROTO_IPV6)
            read_ipv6(found, metadata, arena, row);
    }
}
