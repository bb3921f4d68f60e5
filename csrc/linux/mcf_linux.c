/* The "socket" engine of Linux: recvmmsg(2) and sendmmsg(2) over vectors that are set up once. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <sys/uio.h>

#include "linux/mcf_linux.h"
#include "posix/mcf_describe.h"
#include "posix/mcf_posix.h"

/* One block: headers, then scatter elements, names, control buffers, each an array over the arena's slots. */
typedef struct {
    struct mmsghdr *messages;
    struct iovec *payloads;
    mcf_name *names;
    uint8_t *control;
} vectors;

static vectors find_vectors(const mcf_arena *arena)
{
    vectors found;
    found.messages = arena->vectors;
    found.payloads = (struct iovec *)(found.messages + arena->slots);
    found.names = (mcf_name *)(found.payloads + arena->slots);
    found.control = (uint8_t *)(found.names + arena->slots);
    /* sockaddr_in6 is a multiple of 4 bytes long, control buffers want 8. */
    found.control += (8 - (uintptr_t)found.control % 8) % 8;
    return found;
}

static size_t vector_size(uint32_t slots, uint32_t metadata, int family)
{
    size_t slot = sizeof(struct mmsghdr) + sizeof(struct iovec) + sizeof(mcf_name) + mcf_control_size(metadata, family);
    return slots * slot + 8;
}

static void prepare(const mcf_receiver *receiver, mcf_arena *arena)
{
    vectors found = find_vectors(arena);
    size_t control_size = mcf_control_size(receiver->metadata, receiver->family);
    for (uint32_t slot = 0; slot < arena->slots; slot++) {
        found.payloads[slot].iov_base = arena->data + (size_t)slot * arena->slot_size;
        found.payloads[slot].iov_len = arena->max_datagram;
        found.messages[slot].msg_hdr = (struct msghdr){
            .msg_name = &found.names[slot],
            .msg_namelen = mcf_name_size(receiver->family),
            .msg_iov = &found.payloads[slot],
            .msg_iovlen = 1,
            .msg_control = control_size ? found.control + slot * control_size : NULL,
            .msg_controllen = control_size,
        };
    }
}

static int receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t start, uint32_t count, uint32_t *kept)
{
    vectors found = find_vectors(arena);
    struct mmsghdr *messages = found.messages + start;
    int received = recvmmsg((int)receiver->fd, messages, count, MSG_DONTWAIT, NULL);
    if (received < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    size_t control_size = messages->msg_hdr.msg_control ? mcf_control_size(receiver->metadata, receiver->family) : 0;
    uint32_t row = start;
    if (control_size)
        mcf_filter_lock(&receiver->filter);
    for (uint32_t i = 0; i < (uint32_t)received; i++) {
        struct msghdr *header = &messages[i].msg_hdr;
        row += (uint32_t)mcf_describe(receiver, header, &found.names[start + i], i * arena->slot_size,
                                      messages[i].msg_len, arena, row);
        header->msg_controllen = control_size;
    }
    if (control_size)
        mcf_filter_unlock(&receiver->filter);
    *kept = row - start;
    mcf_count_received(receiver, arena, start, (uint32_t)received, *kept);
    return received;
}

static_assert(offsetof(mcf_payload, data) == offsetof(struct iovec, iov_base), "a payload is an iovec");
static_assert(offsetof(mcf_payload, length) == offsetof(struct iovec, iov_len), "a payload is an iovec");
static_assert(sizeof(mcf_payload) == sizeof(struct iovec), "a payload is an iovec");

static void prepare_send(mcf_sender *sender)
{
    struct mmsghdr *messages = sender->vectors;
    for (uint32_t i = 0; i < MCF_MAX_BATCH; i++) {
        messages[i].msg_hdr.msg_iov = (struct iovec *)&sender->payloads[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
}

static int send_batch(mcf_sender *sender, uint32_t first, uint32_t count)
{
    struct mmsghdr *messages = (struct mmsghdr *)sender->vectors + first;
    int sent = sendmmsg((int)sender->fd, messages, count, MSG_DONTWAIT);
    if (sent < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    return sent;
}

const mcf_engine mcf_linux_engine = {
    .name = "socket",
    .vector_size = vector_size,
    .prepare = prepare,
    .receive = receive,
    .send_vector_size = MCF_MAX_BATCH * sizeof(struct mmsghdr),
    .prepare_send = prepare_send,
    .send = send_batch,
    .send_one = mcf_posix_send_one,
};
