/* The "portable" engine: one recvmsg(2) or send(2) per datagram. */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE
#include "posix/mcf_posix.h"

#include <errno.h>

#include "posix/mcf_describe.h"

enum { CONTROL_SPACE = 256 };

static size_t vector_size(const mcf_receiver *receiver, uint32_t slots)
{
    (void)receiver, (void)slots;
    return 0;
}

static void prepare(mcf_receiver *receiver)
{
    (void)receiver;
}

static int receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t start, uint32_t count, int wait, uint32_t *kept)
{
    mcf_name name;
    union {
        struct cmsghdr alignment;
        uint8_t bytes[CONTROL_SPACE];
    } control;
    size_t control_size = mcf_control_size(receiver->metadata, receiver->family);
    mcf_tally tally = {0};
    mcf_filter_adopt(&receiver->filter);
    while (tally.used < count) {
        uint8_t *slot = arena->data + (size_t)(start + tally.used) * arena->slot_size;
        struct iovec payload = {slot, arena->max_datagram};
        struct msghdr header = {
            .msg_name = &name,
            .msg_namelen = mcf_name_size(receiver->family),
            .msg_iov = &payload,
            .msg_iovlen = 1,
            .msg_control = control_size ? control.bytes : NULL,
            .msg_controllen = (socklen_t)control_size,
        };
        ssize_t length = recvmsg((int)receiver->fd, &header, wait && !tally.used ? 0 : MSG_DONTWAIT);
        if (length < 0) {
            /* After some datagrams: the next call meets it again, unless it reports on something sent (ICMP). */
            if (tally.used || errno == EAGAIN || errno == EWOULDBLOCK)
                break;
            return -errno;
        }
        if (mcf_is_phantom(&header, (size_t)length))
            break;
        mcf_take(receiver, &header, &name, (uint32_t)length, arena, start, &tally);
    }
    mcf_count_received(receiver, arena, start, &tally);
    *kept = tally.kept;
    return (int)tally.used;
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
    sender->tried = 1;
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
