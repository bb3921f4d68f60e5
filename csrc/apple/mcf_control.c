/* Darwin's control messages: ip(4), ip6(4), and ip_savecontrol and ip6_savecontrol of xnu. */
#define _DARWIN_C_SOURCE
#define __APPLE_USE_RFC_3542 /* IPV6_PKTINFO and its kin are those of the present RFC */
#include <netinet/in.h>
#include <string.h>
#include <sys/time.h>

#include "posix/mcf_messages.h"

const int mcf_so_timestampns, mcf_so_timestamping;

size_t mcf_control_size(uint32_t metadata, int family)
{
    size_t size = 0;
    if (metadata & MCF_META_DESTINATION)
        size += CMSG_SPACE(family == MCF_IPV6 ? sizeof(struct in6_pktinfo) : sizeof(struct in_pktinfo));
    if (metadata & MCF_META_TIMESTAMP)
        size += CMSG_SPACE(sizeof(struct timeval));
    if (metadata & MCF_META_HOPS)
        size += CMSG_SPACE(sizeof(int));
    if (metadata & MCF_META_TOS)
        size += CMSG_SPACE(sizeof(int));
    return size;
}

/* A socket may have SO_TIMESTAMP_MONOTONIC and SO_TIMESTAMP_CONTINUOUS too, which count ticks since the start of the
 * system: their messages have other numbers. */
static int is_time(const struct cmsghdr *message)
{
    return message->cmsg_level == SOL_SOCKET && message->cmsg_type == SCM_TIMESTAMP &&
           mcf_message_has(message, sizeof(struct timeval));
}

uint16_t mcf_control_read(mcf_receiver *receiver, struct msghdr *header, mcf_arena *arena, uint32_t row)
{
    uint32_t metadata = receiver->metadata;
    mcf_clear_metadata(metadata, arena, row);
    for (struct cmsghdr *message = CMSG_FIRSTHDR(header); message; message = CMSG_NXTHDR(header, message)) {
        if (message->cmsg_level == IPPROTO_IP) {
            mcf_message_read_ipv4(message, IP_RECVTTL, IP_RECVTOS, metadata, arena, row);
        } else if (message->cmsg_level == IPPROTO_IPV6) {
            mcf_message_read_ipv6(message, metadata, arena, row);
        } else if (is_time(message) && metadata & MCF_META_TIMESTAMP) {
            struct timeval time;
            memcpy(&time, CMSG_DATA(message), sizeof time);
            arena->timestamps[row] = (int64_t)time.tv_sec * 1000000000 + (int64_t)time.tv_usec * 1000;
        }
    }
    return 0;
}
