/* The "socket" engine of Linux: recvmmsg(2) and sendmmsg(2) over vectors that are set up once. */
#define _GNU_SOURCE
#include <assert.h>
#include <sys/uio.h>

#include "linux/mcf_linux.h"
#include "posix/mcf_posix.h"
#include "posix/mcf_tally.h"

/* One block: headers, then scatter elements, names, control buffers, each an array over the datagrams of a call. They
 * belong to the receiver and not to the arenas, so that they stay in the cache while arenas take turns. */
typedef struct {
    struct mmsghdr *messages;
    struct iovec *payloads;
    mcf_name *names;
    uint8_t *control;
} vectors;

static vectors find_vectors(const mcf_receiver *receiver)
{
    vectors found;
    found.messages = receiver->vectors;
    found.payloads = (struct iovec *)(found.messages + receiver->vector_slots);
    found.names = (mcf_name *)(found.payloads + receiver->vector_slots);
    found.control = (uint8_t *)(found.names + receiver->vector_slots);
    /* sockaddr_in6 is a multiple of 4 bytes long, control buffers want 8. */
    found.control += (8 - (uintptr_t)found.control % 8) % 8;
    return found;
}

static size_t vector_size(const mcf_receiver *receiver, uint32_t rows)
{
    size_t control_size = mcf_control_size(receiver->metadata, receiver->family);
    return rows * (sizeof(struct mmsghdr) + sizeof(struct iovec) + sizeof(mcf_name) + control_size) + 8;
}

static void prepare(mcf_receiver *receiver)
{
    vectors found = find_vectors(receiver);
    size_t control_size = mcf_control_size(receiver->metadata, receiver->family);
    for (uint32_t slot = 0; slot < receiver->vector_slots; slot++) {
        found.messages[slot].msg_hdr = (struct msghdr){
            .msg_name = &found.names[slot],
            .msg_namelen = mcf_name_size(receiver->family),
            .msg_iov = &found.payloads[slot],
            .msg_iovlen = 1,
            .msg_control = control_size ? found.control + slot * control_size : NULL,
            .msg_controllen = (socklen_t)control_size,
        };
    }
}

/* Points the scatter elements at the slots of an arena, each at its own; mostly it is the one that was aimed at last.
 */
static void aim(mcf_receiver *receiver, const vectors *found, const mcf_arena *arena)
{
    if (!mcf_aims_anew(receiver, arena))
        return;
    for (uint32_t slot = 0; slot < arena->rows; slot++) {
        found->payloads[slot].iov_base = arena->data + (size_t)slot * arena->slot_size;
        found->payloads[slot].iov_len = arena->max_datagram;
    }
}

/* recvfrom(2) costs a quarter less than recvmsg(2). MSG_TRUNC, as an argument, asks for the true length: udp(7). */
static int receive_one(mcf_receiver *receiver, mcf_arena *arena, int wait, mcf_range *got)
{
    mcf_name name;
    struct msghdr header = {.msg_namelen = mcf_name_size(receiver->family)};
    ssize_t length = recvfrom((int)receiver->fd, arena->data + arena->used_data, arena->max_datagram,
                              MSG_TRUNC | (wait ? 0 : MSG_DONTWAIT), &name.any, &header.msg_namelen);
    if (length < 0)
        return mcf_posix_failure();
    if (mcf_is_phantom(&header, (size_t)length))
        return 0;
    if ((size_t)length > arena->max_datagram) {
        length = (ssize_t)arena->max_datagram;
        header.msg_flags = MSG_TRUNC;
    }
    mcf_tally tally = {0};
    mcf_take(receiver, &header, &name, (uint32_t)length, arena, &tally);
    mcf_close_batch(receiver, arena, &tally, got);
    return 1;
}

static int receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t most, int wait, mcf_range *got)
{
    vectors found = find_vectors(receiver);
    uint32_t start = arena->used_rows;
    uint32_t count = mcf_choose_count(receiver, arena, most);
    struct mmsghdr *messages = found.messages + start;
    int is_described = messages->msg_hdr.msg_control != NULL;
    if (count == 1 && !is_described)
        return receive_one(receiver, arena, wait, got);
    aim(receiver, &found, arena);
    int received = recvmmsg((int)receiver->fd, messages, count, wait ? MSG_WAITFORONE : MSG_DONTWAIT, NULL);
    if (received < 0)
        return mcf_posix_failure();
    if (mcf_is_phantom(&messages->msg_hdr, messages->msg_len)) {
        messages->msg_hdr.msg_namelen = mcf_name_size(receiver->family);
        messages->msg_hdr.msg_controllen = (socklen_t)mcf_control_size(receiver->metadata, receiver->family);
        return 0;
    }
    mcf_tally tally = {0};
    if (!is_described) {
        for (uint32_t i = 0; i < (uint32_t)received; i++)
            mcf_take(receiver, &messages[i].msg_hdr, &found.names[start + i], messages[i].msg_len, arena, &tally);
    } else {
        size_t control_size = mcf_control_size(receiver->metadata, receiver->family);
        mcf_members_adopt(&receiver->filter);
        for (uint32_t i = 0; i < (uint32_t)received; i++) {
            mcf_take(receiver, &messages[i].msg_hdr, &found.names[start + i], messages[i].msg_len, arena, &tally);
            messages[i].msg_hdr.msg_controllen = (socklen_t)control_size;
        }
    }
    mcf_close_batch(receiver, arena, &tally, got);
    return received;
}

static mcf_trains *trains_of(const mcf_sender *sender)
{
    return (mcf_trains *)((struct mmsghdr *)sender->vectors + MCF_MAX_BATCH);
}

static void prepare_send(mcf_sender *sender)
{
    mcf_prepare_trains(sender, trains_of(sender));
    struct mmsghdr *messages = sender->vectors;
    for (uint32_t i = 0; i < MCF_MAX_BATCH; i++) {
        messages[i].msg_hdr.msg_iov = (struct iovec *)&sender->payloads[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
}

static int send_plain(mcf_sender *sender, uint32_t first, uint32_t count)
{
    struct mmsghdr *messages = (struct mmsghdr *)sender->vectors + first;
    sender->tried = 1;
    int error = mcf_unkeep_segment(sender, trains_of(sender));
    if (error)
        return error;
    int sent = sendmmsg((int)sender->fd, messages, count, MSG_DONTWAIT);
    if (sent < 0)
        return mcf_posix_failure();
    return sent;
}

/* One that the system refused. */
static int send_refused(mcf_sender *sender, uint32_t first, uint32_t count, mcf_trains *trains)
{
    /* It may be the answer to an earlier datagram, which comes once. */
    mcf_counter_add(&sender->late_errors, mcf_collect_errors(sender->fd));
    int sent = mcf_send_trains(sender, first, count, count, trains);
    if (sent >= 0 || !mcf_may_refuse_trains(-sent))
        return sent;
    if (count > MCF_FEWEST_SEGMENTS) {
        uint32_t before = sender->most_segments;
        count = sender->most_segments = MCF_FEWEST_SEGMENTS;
        sent = mcf_send_trains(sender, first, count, count, trains);
        if (sent <= 0) /* that the kernel takes no more than these is not proven */
            sender->most_segments = before;
        if (sent >= 0 || !mcf_may_refuse_trains(-sent))
            return sent;
    }
    size_t size = sender->payloads[first].length;
    sender->largest_segment = mcf_path_limit(sender, trains);
    int is_too_long = size > sender->largest_segment;
    if (!is_too_long && mcf_may_be_too_long(sender, size, -sent)) {
        is_too_long = 1;
        sender->largest_segment = (uint32_t)size - 1;
    }
    if (sender->segment == MCF_SEGMENT_ALWAYS && !is_too_long)
        return sent;
    sent = send_plain(sender, first, count);
    if (sent > 0 && !is_too_long)
        sender->segment = MCF_SEGMENT_NEVER;
    return sent;
}

/* The MTU may grow, and nobody says so: after so many sends that were plain since it is too small it is looked up. */
enum { LOOK_AGAIN = 256 };

static int send_batch(mcf_sender *sender, uint32_t first, uint32_t count)
{
    if (sender->segment == MCF_SEGMENT_NEVER)
        return send_plain(sender, first, count);
    if (!sender->largest_segment)
        sender->largest_segment = mcf_path_limit(sender, trains_of(sender));
    uint32_t train = mcf_train_length(sender, first, count);
    if (train > 1) {
        mcf_trains *trains = trains_of(sender);
        int sent = mcf_send_trains(sender, first, train, count, trains);
        return sent < 0 && mcf_may_refuse_trains(-sent) ? send_refused(sender, first, train, trains) : sent;
    }
    uint32_t plain = 0;
    int is_large = 0;
    do
        is_large |= sender->payloads[first + plain++].length > sender->largest_segment;
    while (plain < count && mcf_train_length(sender, first + plain, count - plain) == 1);
    if (is_large && plain > 1 && ++sender->large_sends % LOOK_AGAIN == 0)
        sender->largest_segment = mcf_path_limit(sender, trains_of(sender));
    return send_plain(sender, first, plain);
}

static int send_one(mcf_sender *sender, const void *data, size_t length)
{
    int error = mcf_unkeep_segment(sender, trains_of(sender));
    return error ? error : mcf_posix_send_one(sender, data, length);
}

static int send_rows(mcf_sender *sender, const uint8_t *rows, size_t size, uint32_t count)
{
    return mcf_send_rows_in_trains(sender, rows, size, count, trains_of(sender));
}

static void share(mcf_sender *sender)
{
    mcf_share_segment(sender, trains_of(sender));
}

const mcf_engine mcf_linux_engine = {
    .name = "socket",
    .coalescing = &mcf_linux_coalescing,
    .fills_places = 1,
    .shape = mcf_places_shape,
    .room = mcf_places_room,
    .vector_size = vector_size,
    .prepare = prepare,
    .receive = receive,
    .can_segment = 1,
    .send_vector_size = MCF_MAX_BATCH * sizeof(struct mmsghdr) + MCF_TRAINS_SIZE,
    .prepare_send = prepare_send,
    .send = send_batch,
    .send_rows = send_rows,
    .send_one = send_one,
    .share = share,
};
