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
    size_t last_size;  /* of the segments of the first train of the last call */
    uint32_t repeated; /* and in how many calls in a row it was the same */
    /* The option that the socket has, 0 = none. Only the sending thread sets it, any thread takes it back; who relies
     * on it or changes it holds the lock. */
    atomic_flag lock;
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
    lock(trains);
    if (atomic_load(&trains->kept))
        (void)keep(sender, trains, 0);
    mcf_switch_set(&sender->is_private, 0);
    unlock(trains);
}

/* Whether trains of this size, of which one is about to go, are to have the option set. */
static int is_worth_keeping(mcf_sender *sender, mcf_trains *trains, size_t size)
{
    if (!mcf_switch_get(&sender->is_private))
        return 0;
    if (size != trains->last_size)
        trains->repeated = 0;
    trains->last_size = size;
    return trains->repeated++ >= KEEP_AFTER || size == atomic_load_explicit(&trains->kept, memory_order_relaxed);
}

/* The kernel gathers scattered payloads slower than we copy them, up to about this size. */
enum { LARGEST_COPY = 900 };

void mcf_prepare_trains(mcf_sender *sender, mcf_trains *trains)
{
    sender->most_segments = MCF_MOST_SEGMENTS;
    sender->largest_staged = LARGEST_COPY;
    /* Sizes that are multiples of a line keep what is copied on lines: mcf_batch.c says what could happen else. */
    sender->staging = trains->room + (-(uintptr_t)trains->room & (MCF_CACHE_LINE - 1));
    sender->staging_size = MCF_LARGEST_TRAIN;
}

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
    size_t size = mcf_payload_at(sender, first).length;
    if (size == 0 || size > sender->largest_segment)
        return 1;
    uint32_t most = (uint32_t)(MCF_LARGEST_TRAIN / size);
    if (most > sender->most_segments)
        most = sender->most_segments;
    if (most > count)
        most = count;
    if (sender->alike)
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

/* Where the payloads of a train lie one behind the other: in place, or copied into `left` bytes of room. Returns how
 * many bytes of that it took, or -1 when they are too few; *whole stays empty when the kernel is to gather them. */
static int join(const mcf_sender *sender, uint32_t first, uint32_t count, uint8_t *room, size_t left,
                struct iovec *whole)
{
    const mcf_payload *payloads = sender->payloads + first;
    mcf_payload front = mcf_payload_at(sender, first);
    size_t length = front.length * (count - 1) + mcf_payload_at(sender, first + count - 1).length;
    if (sender->alike || is_contiguous(payloads, count)) {
        *whole = (struct iovec){(void *)front.data, length};
        return 0;
    }
    *whole = (struct iovec){0};
    if (front.length > LARGEST_COPY)
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

/* Sends a train of that many by send(2), the option set, and those behind it that lie as they do. Returns how many
 * datagrams went, -1 with errno, or 0 when the socket is not to have the option. */
static int send_kept(mcf_sender *sender, mcf_trains *trains, uint32_t first, uint32_t length, uint32_t count,
                     const struct iovec *whole)
{
    size_t size = mcf_payload_at(sender, first).length;
    const uint8_t *data = whole->iov_base;
    uint32_t gone = 0;
    ssize_t sent = 0;
    trains->repeated = 0;
    lock(trains);
    if (size == atomic_load_explicit(&trains->kept, memory_order_relaxed) ||
        (mcf_switch_get(&sender->is_private) && keep(sender, trains, size) == 0)) {
        size_t octets = whole->iov_len;
        for (int number = 0; length > 1 && number < MCF_MOST_TRAINS; number++) {
            sent = send((int)sender->fd, data + gone * size, octets, MSG_DONTWAIT);
            if (sent < 0)
                break;
            mcf_counter_bump(&sender->trains, 1);
            gone += length;
            length = sender->alike && gone < count ? mcf_train_length(sender, first + gone, count - gone) : 0;
            octets = length * size;
        }
    }
    unlock(trains);
    return gone ? (int)gone : (int)sent;
}

/* Makes the message of one train; its payloads are copied, if at all, into the `left` bytes of room. Returns how many
 * bytes of that it took, or -1 when they are too few. */
static int make_message(mcf_sender *sender, uint32_t first, uint32_t count, mcf_trains *trains, uint32_t number,
                        size_t left)
{
    uint16_t size = (uint16_t)mcf_payload_at(sender, first).length;
    struct msghdr *message = &trains->messages[number].msg_hdr;
    struct iovec *whole = &trains->wholes[number];
    struct cmsghdr *control = &trains->control[number].header;
    control->cmsg_level = SOL_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(control), &size, sizeof size);
    message->msg_control = control;
    message->msg_controllen = sizeof trains->control[number];
    int taken = join(sender, first, count, sender->staging + (sender->staging_size - left), left, whole);
    message->msg_iov = whole->iov_len ? whole : (struct iovec *)(sender->payloads + first);
    message->msg_iovlen = whole->iov_len ? 1 : (uint16_t)count; /* an int on musl, a size_t on glibc */
    return taken;
}

int mcf_send_trains(mcf_sender *sender, uint32_t first, uint32_t length, uint32_t count, mcf_trains *trains)
{
    size_t left = sender->staging_size;
    size_t size = mcf_payload_at(sender, first).length;
    sender->tried = length;
    if (is_worth_keeping(sender, trains, size)) { /* then a call for each costs less than sendmmsg(2) */
        struct iovec whole;
        (void)join(sender, first, length, sender->staging, left, &whole);
        int gone = whole.iov_len ? send_kept(sender, trains, first, length, count, &whole) : 0;
        if (gone)
            return gone > 0 ? gone : mcf_posix_failure();
    }
    uint32_t number = 0;
    for (uint32_t at = 0; at < count && number < MCF_MOST_TRAINS; at += trains->lengths[number++]) {
        trains->lengths[number] = number ? mcf_train_length(sender, first + at, count - at) : length;
        int taken = trains->lengths[number] > 1
                        ? make_message(sender, first + at, trains->lengths[number], trains, number, left)
                        : -1;
        if (taken < 0)
            break;
        left -= (size_t)taken;
    }
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
