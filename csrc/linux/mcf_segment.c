/* Trains: runs of payloads of one size, the last may be shorter, that pass the kernel in one piece and are cut into
 * datagrams as late as possible: UDP_SEGMENT, udp(7). */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/uio.h>

#include "linux/mcf_linux.h"

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

int mcf_send_train(mcf_sender *sender, uint32_t first, uint32_t count, uint8_t *room)
{
    mcf_payload *payloads = sender->payloads + first;
    uint16_t size = (uint16_t)payloads[0].length;
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof size)];
    } control = {{0}};
    control.header.cmsg_level = SOL_UDP;
    control.header.cmsg_type = UDP_SEGMENT;
    control.header.cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(&control.header), &size, sizeof size);
    struct iovec whole;
    struct msghdr message = {
        .msg_iov = &whole, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    if (is_contiguous(payloads, count)) {
        whole.iov_base = (void *)payloads[0].data;
        whole.iov_len = (size_t)size * (count - 1) + payloads[count - 1].length;
    } else if (size <= LARGEST_COPY) {
        whole.iov_base = room;
        whole.iov_len = copy(room, payloads, count);
    } else {
        message.msg_iov = (struct iovec *)payloads;
        message.msg_iovlen = count;
    }
    if (sendmsg((int)sender->fd, &message, MSG_DONTWAIT) < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    mcf_counter_bump(&sender->trains, 1);
    return (int)count;
}
