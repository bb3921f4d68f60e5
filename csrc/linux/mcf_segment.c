/* Trains: runs of payloads of one size, the last may be shorter, that pass the kernel in one piece and are cut into
 * datagrams as late as possible: UDP_SEGMENT, udp(7). */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/uio.h>

#include "linux/mcf_linux.h"

struct mcf_trains {
    struct mmsghdr messages[MCF_MOST_TRAINS];
    struct iovec wholes[MCF_MOST_TRAINS];
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
    } control[MCF_MOST_TRAINS];
    uint32_t lengths[MCF_MOST_TRAINS]; /* datagrams */
    uint8_t room[MCF_LARGEST_TRAIN];
};
static_assert(sizeof(struct mcf_trains) <= MCF_TRAINS_SIZE, "the owner has as much");

/* The kernel gathers scattered payloads slower than we copy them, up to about this size. */
enum { LARGEST_COPY = 900 };

uint32_t mcf_path_limit(const mcf_sender *sender)
{
    int mtu = 0;
    socklen_t size = sizeof mtu;
    int is_ipv6 = sender->family == MCF_IPV6;
    int headers = is_ipv6 ? 48 : 28;
    if (getsockopt((int)sender->fd, is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, is_ipv6 ? IPV6_MTU : IP_MTU, &mtu, &size))
        return 0;
    return mtu > headers ? (uint32_t)(mtu - headers) : 0;
}

uint32_t mcf_train_length(const mcf_sender *sender, uint32_t first, uint32_t count)
{
    const mcf_payload *payloads = sender->payloads + first;
    size_t size = payloads[0].length;
    if (size == 0 || size > sender->largest_segment)
        return 1;
    uint32_t most = (uint32_t)(MCF_LARGEST_TRAIN / size);
    if (most > sender->most_segments)
        most = sender->most_segments;
    if (most > count)
        most = count;
    if (first + most <= sender->alike)
        return most;
    uint32_t length = 1;
    while (length < most && payloads[length].length == size)
        length++;
    /* A shorter one ends a train; an empty one would vanish in it. */
    if (length < most && payloads[length].length < size && payloads[length].length > 0)
        length++;
    return length;
}

int mcf_may_refuse_trains(int error)
{
    return error == EINVAL || error == EMSGSIZE || error == EIO || error == EOPNOTSUPP;
}

static int is_contiguous(const mcf_payload *payloads, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        if (payloads[i].data != (const uint8_t *)payloads[i - 1].data + payloads[i - 1].length)
            return 0;
    return 1;
}

static size_t copy(uint8_t *into, const mcf_payload *payloads, uint32_t count)
{
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(into + total, payloads[i].data, payloads[i].length);
        total += payloads[i].length;
    }
    return total;
}

/* Makes the message of one train; its payloads are copied, if at all, into the `left` bytes of room. Returns how many
 * bytes of that it took, or -1 when they are too few. */
static int make_message(mcf_sender *sender, uint32_t first, uint32_t count, mcf_trains *trains, uint32_t number,
                        size_t left)
{
    mcf_payload *payloads = sender->payloads + first;
    uint16_t size = (uint16_t)payloads[0].length;
    struct msghdr *message = &trains->messages[number].msg_hdr;
    struct iovec *whole = &trains->wholes[number];
    struct cmsghdr *control = &trains->control[number].header;
    control->cmsg_level = SOL_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(control), &size, sizeof size);
    message->msg_control = control;
    message->msg_controllen = sizeof trains->control[number];
    message->msg_iov = whole;
    message->msg_iovlen = 1;
    size_t length = (size_t)size * (count - 1) + payloads[count - 1].length;
    if (first + count <= sender->alike || is_contiguous(payloads, count)) {
        *whole = (struct iovec){(void *)payloads[0].data, length};
    } else if (size <= LARGEST_COPY) {
        if (length > left)
            return -1;
        uint8_t *room = trains->room + (sizeof trains->room - left);
        *whole = (struct iovec){room, copy(room, payloads, count)};
        return (int)length;
    } else {
        message->msg_iov = (struct iovec *)payloads;
        message->msg_iovlen = (uint16_t)count; /* an int on musl, a size_t on glibc */
    }
    return 0;
}

int mcf_send_trains(mcf_sender *sender, uint32_t first, uint32_t count, uint32_t most, mcf_trains *trains)
{
    size_t left = sizeof trains->room;
    uint32_t number = 0, at = 0;
    while (number < most && at < count) {
        uint32_t length = mcf_train_length(sender, first + at, count - at);
        int taken = length > 1 ? make_message(sender, first + at, length, trains, number, left) : -1;
        if (taken < 0)
            break;
        left -= (size_t)taken;
        trains->lengths[number++] = length;
        at += length;
    }
    sender->tried = trains->lengths[0];
    int sent = 1; /* sendmsg(2) costs a little less than sendmmsg(2) of one */
    if (number > 1)
        sent = sendmmsg((int)sender->fd, trains->messages, number, MSG_DONTWAIT);
    else if (sendmsg((int)sender->fd, &trains->messages[0].msg_hdr, MSG_DONTWAIT) < 0)
        sent = -1;
    if (sent < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    mcf_counter_bump(&sender->trains, sent);
    int gone = 0;
    for (int i = 0; i < sent; i++)
        gone += (int)trains->lengths[i];
    return gone;
}
