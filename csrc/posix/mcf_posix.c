/* The "portable" engine: one recvmsg(2) or send(2) per datagram. */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE
#include "posix/mcf_posix.h"

#include <errno.h>

#include "posix/mcf_describe.h"

enum { CONTROL_SPACE = 256 };

static size_t vector_size(uint32_t slots, uint32_t metadata, int family)
{
    (void)slots, (void)metadata, (void)family;
    return 0;
}

static void prepare(const mcf_receiver *receiver, mcf_arena *arena)
{
    (void)receiver, (void)arena;
}

/* Returns the datagram's length, or -errno. Zero-length datagrams are datagrams. */
static ssize_t receive_one(mcf_receiver *receiver, struct msghdr *header)
{
    ssize_t length = recvmsg((int)receiver->fd, header, MSG_DONTWAIT);
    return length < 0 ? -errno : length;
}

static int receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t start, uint32_t count, uint32_t *kept)
{
    mcf_name name;
    union {
        struct cmsghdr alignment;
        uint8_t bytes[CONTROL_SPACE];
    } control;
    size_t control_size = mcf_control_size(receiver->metadata, receiver->family);
    uint32_t row = start, received = 0;
    for (; received < count; received++) {
        uint32_t offset = received * arena->slot_size;
        struct iovec payload = {arena->data + (size_t)start * arena->slot_size + offset, arena->max_datagram};
        struct msghdr header = {
            .msg_name = &name,
            .msg_namelen = mcf_name_size(receiver->family),
            .msg_iov = &payload,
            .msg_iovlen = 1,
            .msg_control = control_size ? control.bytes : NULL,
            .msg_controllen = (socklen_t)control_size,
        };
        ssize_t length = receive_one(receiver, &header);
        if (length < 0) {
            /* An error after some datagrams shows again on the next call. */
            if (received || length == -EAGAIN || length == -EWOULDBLOCK)
                break;
            return (int)length;
        }
        mcf_filter_lock(&receiver->filter);
        row += (uint32_t)mcf_describe(receiver, &header, &name, offset, (uint32_t)length, arena, row);
        mcf_filter_unlock(&receiver->filter);
    }
    *kept = row - start;
    if (received)
        mcf_count_received(receiver, arena, start, received, *kept);
    return (int)received;
}

static void prepare_send(mcf_sender *sender)
{
    (void)sender;
}

int mcf_posix_send_one(mcf_sender *sender, const void *data, size_t length)
{
    if (send((int)sender->fd, data, length, MSG_DONTWAIT) < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    return 1;
}

static int send_batch(mcf_sender *sender, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int gone = mcf_posix_send_one(sender, sender->payloads[first + i].data, sender->payloads[first + i].length);
        if (gone <= 0)
            return i ? (int)i : gone;
    }
    return (int)count;
}

const mcf_engine mcf_posix_engine = {
    .name = "portable",
    .vector_size = vector_size,
    .prepare = prepare,
    .receive = receive,
    .prepare_send = prepare_send,
    .send = send_batch,
    .send_one = mcf_posix_send_one,
};
