/* Trains: runs of payloads of one size, the last may be shorter, that pass the kernel in one piece and are cut into
 * datagrams as late as possible: UDP_SEGMENT, udp(7). */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>

#include "linux/mcf_linux.h"
#include "posix/mcf_posix.h"

struct mcf_trains {
    uint32_t path_limit; /* what the system said last; 0 = nothing yet */
    /* While the socket has no option for them: */
    size_t last_size;  /* of the segments of the first train of the last call */
    uint32_t repeated; /* and in how many calls in a row it was the same */
    /* The option that the socket has, 0 = none. Only the sending thread sets it, any thread takes it back; who relies
     * on it or changes it holds the lock. */
    atomic_flag lock;
    _Atomic int shares; /* that want the lock, and get it before the next train does */
    _Atomic size_t kept;
    uint32_t lengths[MCF_MOST_TRAINS]; /* datagrams */
    struct iovec wholes[MCF_MOST_TRAINS];
    struct mmsghdr messages[MCF_MOST_TRAINS];
    union {
        struct cmsghdr header;
        uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
    } control[MCF_MOST_TRAINS];
    uint8_t room[MCF_CACHE_LINE + MCF_LARGEST_TRAIN];
};
static_assert(sizeof(struct mcf_trains) <= MCF_TRAINS_SIZE, "the owner has as much");

/* An option once set spares each train the control message, and most of them sendmsg(2). But whoever else sends by this
 * socket would find its datagrams cut: so it is set on private sockets only, and not before so many trains of one size
 * in a row that it pays to set it and to take it back. */
enum { KEEP_AFTER = 16 };

static void lock(mcf_trains *trains)
{
    while (atomic_flag_test_and_set_explicit(&trains->lock, memory_order_acquire))
        sched_yield(); /* the other is in calls that do not wait */
}

static void unlock(mcf_trains *trains)
{
    atomic_flag_clear_explicit(&trains->lock, memory_order_release);
}

static int keep(mcf_sender *sender, mcf_trains *trains, size_t size)
{
    int option = (int)size;
    if (setsockopt((int)sender->fd, SOL_UDP, UDP_SEGMENT, &option, sizeof option))
        return -errno;
    atomic_store(&trains->kept, size);
    return 0;
}

int mcf_unkeep_segment(mcf_sender *sender, mcf_trains *trains)
{
    if (!atomic_load_explicit(&trains->kept, memory_order_relaxed))
        return 0;
    trains->repeated = 0;
    lock(trains);
    int error = keep(sender, trains, 0);
    unlock(trains);
    return error;
}

void mcf_share_segment(mcf_sender *sender, mcf_trains *trains)
{
    atomic_fetch_add(&trains->shares, 1);
    lock(trains);
    if (atomic_load(&trains->kept))
        (void)keep(sender, trains, 0);
    mcf_switch_set(&sender->is_private, 0);
    unlock(trains);
    atomic_fetch_sub(&trains->shares, 1);
}

static int is_kept(mcf_trains *trains, size_t size)
{
    return size == atomic_load_explicit(&trains->kept, memory_order_relaxed);
}

/* Whether trains of this size, of which one is about to go, are to have the option set. */
static int is_worth_keeping(mcf_sender *sender, mcf_trains *trains, size_t size)
{
    if (is_kept(trains, size))
        return 1;
    if (!mcf_switch_get(&sender->is_private))
        return 0;
    if (size != trains->last_size)
        trains->repeated = 0;
    trains->last_size = size;
    return trains->repeated++ >= KEEP_AFTER;
}

/* The kernel gathers scattered payloads slower than we copy them, up to about this size. */
enum { LARGEST_COPY = 900 };

enum {
    COMMON_MTU = 1500, /* what a network has whose MTU the system does not tell */
    /* A route that leads nowhere any more has 68 octets, which is no MTU (RFC 8200, 5; RFC 791 allows as few). */
    LEAST_IPV6_MTU = 1280,
    LEAST_IPV4_MTU = 69,
};
/* A payload that every path takes whole (RFC 1122, 3.3.3: 576 octets, less the longest header of IPv4 and UDP's). */
enum { SMALL_PAYLOAD = 508 };

void mcf_prepare_trains(mcf_sender *sender, mcf_trains *trains)
{
    sender->most_segments = MCF_MOST_SEGMENTS;
    sender->largest_staged = LARGEST_COPY;
    /* Sizes that are multiples of a line keep what is copied on lines: mcf_batch.c says what could happen else. */
    sender->staging = trains->room + (-(uintptr_t)trains->room & (MCF_CACHE_LINE - 1));
    sender->staging_size = MCF_LARGEST_TRAIN;
}

uint32_t mcf_path_limit(const mcf_sender *sender, mcf_trains *trains)
{
    int mtu = 0;
    socklen_t size = sizeof mtu;
    int is_ipv6 = sender->family == MCF_IPV6;
    uint32_t headers = is_ipv6 ? 48 : 28;
    int error = is_ipv6 ? getsockopt((int)sender->fd, IPPROTO_IPV6, IPV6_MTU, &mtu, &size)
                        : getsockopt((int)sender->fd, IPPROTO_IP, IP_MTU, &mtu, &size);
    if (!error && mtu >= (is_ipv6 ? LEAST_IPV6_MTU : LEAST_IPV4_MTU))
        trains->path_limit = (uint32_t)mtu - headers;
    else if (!trains->path_limit)
        trains->path_limit = COMMON_MTU - headers;
    return trains->path_limit;
}

/* How many datagrams of that size one train carries. */
static uint32_t most_of(const mcf_sender *sender, size_t size)
{
    uint32_t most = (uint32_t)(MCF_LARGEST_TRAIN / size);
    return most < sender->most_segments ? most : sender->most_segments;
}

uint32_t mcf_train_length(const mcf_sender *sender, uint32_t first, uint32_t count)
{
    const mcf_payload *payloads = sender->payloads + first;
    size_t size = payloads->length;
    if (size == 0 || size > sender->largest_segment)
        return 1;
    uint32_t most = most_of(sender, size);
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

int mcf_may_be_too_long(const mcf_sender *sender, size_t size, int error)
{
    int unchecked = 0;
    socklen_t option_size = sizeof unchecked;
    if (size <= SMALL_PAYLOAD || (error != EINVAL && error != EMSGSIZE))
        return 0;
    return getsockopt((int)sender->fd, SOL_SOCKET, SO_NO_CHECK, &unchecked, &option_size) || !unchecked;
}

static int is_contiguous(const mcf_payload *payloads, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        if (payloads[i].data != (const uint8_t *)payloads[i - 1].data + payloads[i - 1].length)
            return 0;
    return 1;
}

/* Where the payloads of a train lie one behind the other: in place, or copied into `left` bytes of room. Returns how
 * many bytes of that it took, or -1 when they are too few; *whole stays empty when the kernel is to gather them. */
static int join(const mcf_sender *sender, uint32_t first, uint32_t count, uint8_t *room, size_t left,
                struct iovec *whole)
{
    const mcf_payload *payloads = sender->payloads + first;
    size_t length = payloads->length * (count - 1) + payloads[count - 1].length;
    if (is_contiguous(payloads, count)) {
        *whole = (struct iovec){(void *)payloads->data, length};
        return 0;
    }
    *whole = (struct iovec){0};
    if (payloads->length > LARGEST_COPY)
        return 0;
    if (length > left)
        return -1;
    *whole = (struct iovec){room, length};
    for (uint32_t i = 0; i < count; i++) {
        memcpy(room, payloads[i].data, payloads[i].length);
        room += payloads[i].length;
    }
    return (int)length;
}

/* Takes the lock, and returns 1, where the socket has the option for that size or gets it now. */
static int lock_kept(mcf_sender *sender, mcf_trains *trains, size_t size)
{
    trains->repeated = 0;
    if (atomic_load_explicit(&trains->shares, memory_order_relaxed))
        return 0;
    lock(trains);
    if (is_kept(trains, size) || (mcf_switch_get(&sender->is_private) && keep(sender, trains, size) == 0))
        return 1;
    unlock(trains);
    return 0;
}

/* Sends a train by send(2), which costs less than sendmsg(2), while the socket has the option: true when it went. */
static int send_whole(mcf_sender *sender, const void *data, size_t length)
{
    if (send((int)sender->fd, data, length, MSG_DONTWAIT) < 0)
        return 0;
    mcf_counter_bump(&sender->trains, 1);
    return 1;
}

/* Makes message `number` a train of so many datagrams of that size, whose payloads lie in these parts. */
static void set_message(mcf_trains *trains, uint32_t number, uint32_t length, size_t size, struct iovec *parts,
                        uint16_t part_count)
{
    uint16_t segment = (uint16_t)size;
    struct msghdr *message = &trains->messages[number].msg_hdr;
    struct cmsghdr *control = &trains->control[number].header;
    control->cmsg_level = SOL_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(control), &segment, sizeof segment);
    message->msg_control = control;
    message->msg_controllen = sizeof trains->control[number];
    message->msg_iov = parts;
    message->msg_iovlen = part_count; /* an int on musl, a size_t on glibc */
    trains->lengths[number] = length;
}

/* Sends that many messages. Returns how many datagrams went, or as the engine's send. */
static int send_messages(mcf_sender *sender, mcf_trains *trains, uint32_t number)
{
    int sent = 0;
    if (number > 1)
        sent = sendmmsg((int)sender->fd, trains->messages, number, MSG_DONTWAIT);
    else /* costs a little less */
        sent = sendmsg((int)sender->fd, &trains->messages->msg_hdr, MSG_DONTWAIT) < 0 ? -1 : 1;
    if (sent < 0)
        return mcf_posix_failure();
    mcf_counter_bump(&sender->trains, sent);
    int gone = 0;
    for (int i = 0; i < sent; i++)
        gone += (int)trains->lengths[i];
    return gone;
}

int mcf_send_trains(mcf_sender *sender, uint32_t first, uint32_t length, uint32_t count, mcf_trains *trains)
{
    size_t size = sender->payloads[first].length;
    sender->tried = length;
    if (is_worth_keeping(sender, trains, size)) {
        struct iovec whole;
        (void)join(sender, first, length, sender->staging, sender->staging_size, &whole);
        if (whole.iov_len && lock_kept(sender, trains, size)) {
            int gone = send_whole(sender, whole.iov_base, whole.iov_len) ? (int)length : mcf_posix_failure();
            unlock(trains);
            return gone;
        }
    }
    size_t left = sender->staging_size;
    uint32_t number = 0;
    for (uint32_t at = 0; at < count && number < MCF_MOST_TRAINS; at += trains->lengths[number++]) {
        struct iovec *whole = &trains->wholes[number];
        if (number)
            length = mcf_train_length(sender, first + at, count - at);
        int taken = -1;
        if (length > 1)
            taken = join(sender, first + at, length, sender->staging + (sender->staging_size - left), left, whole);
        if (taken < 0)
            break;
        left -= (size_t)taken;
        mcf_payload *payloads = sender->payloads + first + at;
        if (whole->iov_len)
            set_message(trains, number, length, payloads->length, whole, 1);
        else
            set_message(trains, number, length, payloads->length, (struct iovec *)payloads, (uint16_t)length);
    }
    return send_messages(sender, trains, number);
}

/* How many of two rows or more the next train takes: none is left alone behind it, if that can be, for one is none. */
static uint32_t next_train(uint32_t left, uint32_t most)
{
    if (left <= most)
        return left;
    return left == most + 1 && most > 2 ? most - 1 : most;
}

/* Sends rows by a control message for each train. */
static int send_rows_apart(mcf_sender *sender, const uint8_t *rows, size_t size, uint32_t count, mcf_trains *trains)
{
    uint32_t most = most_of(sender, size), number = 0;
    for (uint32_t at = 0; count - at > 1 && number < MCF_MOST_TRAINS; at += trains->lengths[number++]) {
        uint32_t length = next_train(count - at, most);
        trains->wholes[number] = (struct iovec){(void *)(rows + at * size), length * size};
        set_message(trains, number, length, size, &trains->wholes[number], 1);
    }
    sender->tried = *trains->lengths;
    return send_messages(sender, trains, number);
}

int mcf_send_rows_in_trains(mcf_sender *sender, const uint8_t *rows, size_t size, uint32_t count, mcf_trains *trains)
{
    if (!size || size > sender->largest_segment || sender->segment == MCF_SEGMENT_NEVER)
        return 0;
    uint32_t most = most_of(sender, size);
    if (most < 2 || count < 2)
        return 0;
    if (!is_worth_keeping(sender, trains, size) || !lock_kept(sender, trains, size))
        return send_rows_apart(sender, rows, size, count, trains);
    uint32_t length = sender->tried = next_train(count, most);
    int gone = send_whole(sender, rows, length * size) ? (int)length : mcf_posix_failure();
    unlock(trains);
    return gone;
}
