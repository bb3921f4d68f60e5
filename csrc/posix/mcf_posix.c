/* The "portable" engine: one recvmsg(2) or send(2) per datagram. */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE
#include "posix/mcf_posix.h"

enum { CONTROL_SPACE = 512 };

/* Each call says with MSG_DONTWAIT whether it waits, and an error of the network is told once. */
int mcf_socket_begin(mcf_socket fd, int is_ours)
{
    (void)fd, (void)is_ours;
    return 0;
}

void mcf_socket_end(mcf_socket fd, int waits)
{
    (void)fd, (void)waits;
}

static size_t vector_size(const mcf_receiver *receiver, uint32_t rows)
{
    (void)receiver, (void)rows;
    return 0;
}

static void prepare(mcf_receiver *receiver)
{
    (void)receiver;
}

int mcf_posix_take(mcf_receiver *receiver, mcf_arena *arena, int wait, mcf_tally *tally)
{
    mcf_name name;
    union {
        struct cmsghdr alignment;
        uint8_t bytes[CONTROL_SPACE];
    } control;
    size_t control_size = mcf_control_size(receiver->metadata, receiver->family);
    struct iovec payload = {mcf_next_place(arena, tally), arena->max_datagram};
    struct msghdr header = {
        .msg_name = &name,
        .msg_namelen = mcf_name_size(receiver->family),
        .msg_iov = &payload,
        .msg_iovlen = 1,
        .msg_control = control_size ? control.bytes : NULL,
        .msg_controllen = (socklen_t)control_size,
    };
    ssize_t length = recvmsg((int)receiver->fd, &header, wait ? 0 : MSG_DONTWAIT);
    if (length < 0)
        return mcf_posix_failure();
    if (mcf_is_phantom(&header, (size_t)length))
        return 0;
    mcf_members_adopt(&receiver->filter); /* now: what came after a join must not meet the set before it */
    mcf_take(receiver, &header, &name, (uint32_t)length, arena, tally);
    return 1;
}

static int receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t most, int wait, mcf_range *got)
{
    uint32_t count = mcf_choose_count(receiver, arena, most);
    mcf_tally tally = {0};
    int taken = 1;
    while (taken > 0 && tally.used < count)
        taken = mcf_posix_take(receiver, arena, wait && !tally.used, &tally);
    mcf_close_batch(receiver, arena, &tally, got);
    /* After some datagrams: the next call meets the error again, unless it reports on something sent (ICMP). */
    return tally.used ? (int)tally.used : taken;
}

static void prepare_send(mcf_sender *sender)
{
    (void)sender;
}

int mcf_posix_send_one(mcf_sender *sender, const void *data, size_t length)
{
    if (send((int)sender->fd, data, length, MSG_DONTWAIT) < 0)
        return mcf_posix_failure();
    return 1;
}

#define ENGINE(its_name)                                                                                               \
    {                                                                                                                  \
        .name = its_name,                                                                                              \
        .fills_places = 1,                                                                                             \
        .shape = mcf_places_shape,                                                                                     \
        .room = mcf_places_room,                                                                                       \
        .vector_size = vector_size,                                                                                    \
        .prepare = prepare,                                                                                            \
        .receive = receive,                                                                                            \
        .prepare_send = prepare_send,                                                                                  \
        .send = mcf_send_each,                                                                                         \
        .send_one = mcf_posix_send_one,                                                                                \
    }

const mcf_engine mcf_posix_engine = ENGINE("portable");
const mcf_engine mcf_posix_socket = ENGINE("socket");
