/* Linux control messages: ip(7), ipv6(7), socket(7). */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <string.h>
#include <time.h>

#include "linux/mcf_linux.h"
#include "posix/mcf_messages.h"

/* With 32 bits and a time_t of 64 they are other numbers, for a message of 64-bit times: asm-generic/socket.h. */
const int mcf_so_timestampns = SO_TIMESTAMPNS, mcf_so_timestamping = SO_TIMESTAMPING;

/* What SO_TIMESTAMPING gives: the kernel's time, one that is no longer used, the device's. */
typedef struct timespec times[3];

size_t mcf_control_size(uint32_t metadata, int family)
{
    size_t size = 0;
    if (metadata & MCF_META_DESTINATION)
        size += CMSG_SPACE(family == MCF_IPV6 ? sizeof(struct in6_pktinfo) : sizeof(struct in_pktinfo));
    if (metadata & MCF_META_TIMESTAMP)
        size += CMSG_SPACE(sizeof(struct timespec));
    if (metadata & MCF_META_HARDWARE_TIMESTAMP)
        size += CMSG_SPACE(sizeof(times));
    if (metadata & MCF_META_DROPS)
        size += CMSG_SPACE(sizeof(uint32_t));
    if (metadata & MCF_META_HOPS)
        size += CMSG_SPACE(sizeof(int));
    if (metadata & MCF_META_TOS)
        size += CMSG_SPACE(sizeof(int));
    return size ? size + MCF_OTHER_CONTROL : 0;
}

static void read_drops(mcf_receiver *receiver, const struct cmsghdr *message, mcf_arena *arena, uint32_t row)
{
    uint32_t drops;
    memcpy(&drops, CMSG_DATA(message), sizeof drops);
    /* The counter wraps, and so does the difference. It runs backwards for what another core queued at the same time.
     */
    int32_t lost = (int32_t)(drops - receiver->last_drops);
    if (lost > 0) {
        arena->dropped[row] += (uint32_t)lost;
        receiver->last_drops = drops;
    }
}

static int64_t nanoseconds(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

/* The device's time, if it gave one, else the kernel's. */
static uint16_t read_times(const struct cmsghdr *message, mcf_arena *arena, uint32_t row)
{
    times given;
    memcpy(given, CMSG_DATA(message), sizeof given);
    int64_t hardware = nanoseconds(&given[2]);
    if (hardware || !arena->timestamps[row])
        arena->timestamps[row] = hardware ? hardware : nanoseconds(&given[0]);
    return hardware ? MCF_FLAG_HARDWARE_TIME : 0;
}

uint16_t mcf_control_read(mcf_receiver *receiver, struct msghdr *header, mcf_arena *arena, uint32_t row)
{
    uint32_t metadata = receiver->metadata;
    uint16_t flags = 0;
    mcf_clear_metadata(metadata, arena, row);
    if (metadata & MCF_META_DROPS) {
        arena->dropped[row] = receiver->pending_dropped;
        receiver->pending_dropped = 0;
    }
    for (struct cmsghdr *message = CMSG_FIRSTHDR(header); message; message = CMSG_NXTHDR(header, message)) {
        if (message->cmsg_level == IPPROTO_IP) {
            mcf_message_read_ipv4(message, IP_TTL, IP_TOS, metadata, arena, row);
        } else if (message->cmsg_level == IPPROTO_IPV6) {
            mcf_message_read_ipv6(message, metadata, arena, row);
        } else if (message->cmsg_level == SOL_SOCKET) {
            if (message->cmsg_type == SO_TIMESTAMPNS && metadata & MCF_META_TIMESTAMP &&
                mcf_message_has(message, sizeof(struct timespec)) && !(flags & MCF_FLAG_HARDWARE_TIME)) {
                struct timespec time;
                memcpy(&time, CMSG_DATA(message), sizeof time);
                arena->timestamps[row] = nanoseconds(&time);
            } else if (message->cmsg_type == SO_TIMESTAMPING && metadata & MCF_META_HARDWARE_TIMESTAMP &&
                       mcf_message_has(message, sizeof(times))) {
                flags |= read_times(message, arena, row);
            } else if (message->cmsg_type == SO_RXQ_OVFL && metadata & MCF_META_DROPS &&
                       mcf_message_has(message, sizeof(uint32_t))) {
                read_drops(receiver, message, arena, row);
            }
        }
    }
    return flags;
}
