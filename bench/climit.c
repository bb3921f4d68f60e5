/* The limit: what plain C reaches with the same system calls on the same sockets.
 *
 * Each loop is the best that a careful C program does: vectors are set up once, only the slots that a call used are
 * reset, lengths and control messages stay where the kernel wrote them and nobody parses them. So a library that is as
 * fast as these loops adds nothing to the kernel's own work, and one that also fills columns of metadata has done that
 * for free.
 *
 * Every function returns how many datagrams it moved, fewer than asked for when the socket ran dry or full, or -errno.
 * Times are in nanoseconds of CLOCK_MONOTONIC. One thread at a time. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT /* glibc 2.28 */
#define UDP_SEGMENT 103
#endif

enum {
    SLOTS = 64,
    TRAIN_SLOTS = 4,
    TRAIN_SLOT_SIZE = 65536,
    CONTROL_SIZE = 256,
    LARGEST_TRAIN = 65507, /* bytes of payload in one IPv4 datagram */
    LINE = 64,             /* bytes of the cache */
    BEHIND = 32,           /* into a line: where copies from the kernel are never slow, as csrc/mcf_batch.c has it */
};

struct limit {
    struct mmsghdr bare[SLOTS];
    struct mmsghdr addressed[SLOTS];
    struct mmsghdr described[SLOTS];
    struct mmsghdr outgoing[SLOTS];
    struct mmsghdr trains[TRAIN_SLOTS];
    struct iovec slots[SLOTS];
    struct iovec train_slots[TRAIN_SLOTS];
    struct iovec payloads[SLOTS];
    struct sockaddr_in6 names[SLOTS];
    _Alignas(struct cmsghdr) unsigned char controls[SLOTS][CONTROL_SIZE];
    size_t slot_size;
    _Alignas(LINE) unsigned char train[LARGEST_TRAIN];
    _Alignas(LINE) unsigned char before_train_data[BEHIND];
    unsigned char train_data[TRAIN_SLOTS][TRAIN_SLOT_SIZE];
    _Alignas(LINE) unsigned char before_data[BEHIND];
    unsigned char data[]; /* SLOTS of slot_size bytes, each so far into a line */
};

static int64_t clock_now(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* slot_size: the longest datagram that is received whole. Returns NULL without memory. The caller frees it with
 * limit_free. */
struct limit *limit_new(size_t slot_size)
{
    size_t stride = (slot_size + LINE - 1) / LINE * LINE;
    size_t size = (sizeof(struct limit) + SLOTS * stride + LINE - 1) / LINE * LINE;
    struct limit *limit = aligned_alloc(LINE, size);
    if (limit == NULL)
        return NULL;
    memset(limit, 0, sizeof *limit);
    memset(limit->data, 1, SLOTS * stride); /* memory that nobody wrote to is one page of the kernel */
    limit->slot_size = slot_size;
    for (size_t i = 0; i < SLOTS; i++) {
        limit->slots[i] = (struct iovec){limit->data + i * stride, slot_size};
        limit->payloads[i] = (struct iovec){limit->data + i * stride, 0};
        limit->bare[i].msg_hdr = (struct msghdr){.msg_iov = &limit->slots[i], .msg_iovlen = 1};
        limit->addressed[i].msg_hdr = limit->bare[i].msg_hdr;
        limit->addressed[i].msg_hdr.msg_name = &limit->names[i];
        limit->addressed[i].msg_hdr.msg_namelen = sizeof limit->names[i];
        limit->described[i].msg_hdr = limit->addressed[i].msg_hdr;
        limit->described[i].msg_hdr.msg_control = limit->controls[i];
        limit->described[i].msg_hdr.msg_controllen = CONTROL_SIZE;
        limit->outgoing[i].msg_hdr = (struct msghdr){.msg_iov = &limit->payloads[i], .msg_iovlen = 1};
    }
    for (int i = 0; i < TRAIN_SLOTS; i++) {
        limit->train_slots[i] = (struct iovec){limit->train_data[i], TRAIN_SLOT_SIZE};
        limit->trains[i].msg_hdr = limit->described[i].msg_hdr;
        limit->trains[i].msg_hdr.msg_iov = &limit->train_slots[i];
    }
    return limit;
}

void limit_free(struct limit *limit)
{
    free(limit);
}

/* What reading the clock twice costs: to be subtracted where single calls are timed. */
int64_t limit_clock_cost(void)
{
    int64_t least = INT64_MAX;
    for (int i = 0; i < 1000; i++) {
        int64_t start = clock_now(CLOCK_MONOTONIC), cost = clock_now(CLOCK_MONOTONIC) - start;
        if (cost < least)
            least = cost;
    }
    return least;
}

/* Offers count datagrams of size bytes in trains of up to that many segments, which the kernel cuts (UDP_SEGMENT):
 * single sends (segments = 1) leave the sender's caches in a state that makes the drains after them noisier. What is
 * sent is rows, count times size bytes; without it each datagram starts with its number. */
int limit_fill(struct limit *limit, int fd, int count, int size, int segments, const unsigned char *rows)
{
    uint16_t segment = (uint16_t)size;
    _Alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(sizeof segment)] = {0};
    struct iovec vector = {limit->train, 0};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = IPPROTO_UDP;
    header->cmsg_type = UDP_SEGMENT;
    header->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(header), &segment, sizeof segment);
    if (segments > LARGEST_TRAIN / size)
        segments = LARGEST_TRAIN / size;
    for (int offered = 0; offered < count;) {
        int now = count - offered < segments ? count - offered : segments;
        if (rows != NULL) {
            vector.iov_base = (unsigned char *)rows + (size_t)offered * (size_t)size;
        } else {
            for (int i = 0; i < now; i++) {
                uint32_t number = (uint32_t)(offered + i);
                memcpy(limit->train + (size_t)i * (size_t)size, &number, sizeof number);
            }
        }
        vector.iov_len = (size_t)now * (size_t)size;
        if (sendmsg(fd, &message, 0) < 0)
            return -errno;
        offered += now;
    }
    return count;
}

int limit_recv(struct limit *limit, int fd, int count, int64_t *elapsed)
{
    int received = 0;
    int64_t start = clock_now(CLOCK_MONOTONIC);
    while (received < count && recv(fd, limit->data, limit->slot_size, MSG_DONTWAIT) >= 0)
        received++;
    *elapsed = clock_now(CLOCK_MONOTONIC) - start;
    return received < count && errno != EAGAIN ? -errno : received;
}

static inline int drain(struct mmsghdr *messages, int fd, int count, bool names, bool controls, int64_t *elapsed)
{
    int received = 0;
    int64_t start = clock_now(CLOCK_MONOTONIC);
    while (received < count) {
        int got = recvmmsg(fd, messages, SLOTS, MSG_DONTWAIT, NULL);
        if (got < 0)
            break;
        for (int i = 0; i < got; i++) {
            if (names)
                messages[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_in6);
            if (controls)
                messages[i].msg_hdr.msg_controllen = CONTROL_SIZE;
        }
        received += got;
    }
    *elapsed = clock_now(CLOCK_MONOTONIC) - start;
    return received < count && errno != EAGAIN ? -errno : received;
}

/* Payloads and lengths only. */
int limit_recvmmsg(struct limit *limit, int fd, int count, int64_t *elapsed)
{
    return drain(limit->bare, fd, count, false, false, elapsed);
}

/* With the source's address. */
int limit_recvmmsg_address(struct limit *limit, int fd, int count, int64_t *elapsed)
{
    return drain(limit->addressed, fd, count, true, false, elapsed);
}

/* With the source's address and the control messages that the socket's options ask for, left unparsed. */
int limit_recvmmsg_control(struct limit *limit, int fd, int count, int64_t *elapsed)
{
    return drain(limit->described, fd, count, true, true, elapsed);
}

/* From a socket with UDP_GRO: trains as they are, with the source's address and the size of their segments left
 * unparsed; size is what the datagrams are known to have. */
int limit_recvmmsg_trains(struct limit *limit, int fd, int count, int size, int64_t *elapsed)
{
    int received = 0;
    int64_t start = clock_now(CLOCK_MONOTONIC);
    while (received < count) {
        int got = recvmmsg(fd, limit->trains, TRAIN_SLOTS, MSG_DONTWAIT, NULL);
        if (got < 0)
            break;
        for (int i = 0; i < got; i++) {
            limit->trains[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_in6);
            limit->trains[i].msg_hdr.msg_controllen = CONTROL_SIZE;
            received += (int)((limit->trains[i].msg_len + (unsigned)size - 1) / (unsigned)size);
        }
    }
    *elapsed = clock_now(CLOCK_MONOTONIC) - start;
    return received < count && errno != EAGAIN ? -errno : received;
}

/* Payloads of up to slot_size bytes, each from a slot of its own. */
int limit_send(struct limit *limit, int fd, int count, int size, int64_t *elapsed)
{
    int sent = 0;
    if ((size_t)size > limit->slot_size)
        return -EMSGSIZE;
    int64_t start = clock_now(CLOCK_MONOTONIC);
    while (sent < count && send(fd, limit->payloads[sent % SLOTS].iov_base, (size_t)size, MSG_DONTWAIT) >= 0)
        sent++;
    *elapsed = clock_now(CLOCK_MONOTONIC) - start;
    return sent < count && errno != EAGAIN ? -errno : sent;
}

/* The same in batches. */
int limit_sendmmsg(struct limit *limit, int fd, int count, int size, int64_t *elapsed)
{
    int sent = 0;
    if ((size_t)size > limit->slot_size)
        return -EMSGSIZE;
    for (int i = 0; i < SLOTS; i++)
        limit->payloads[i].iov_len = (size_t)size;
    int64_t start = clock_now(CLOCK_MONOTONIC);
    while (sent < count) {
        unsigned now = count - sent < SLOTS ? (unsigned)(count - sent) : SLOTS;
        int went = sendmmsg(fd, limit->outgoing, now, MSG_DONTWAIT);
        if (went < 0)
            break;
        sent += went;
    }
    *elapsed = clock_now(CLOCK_MONOTONIC) - start;
    return sent < count && errno != EAGAIN ? -errno : sent;
}

/* Has a socket cut what it sends into datagrams of that size; no more segments than a train carries of them. */
static int cut_into(int fd, int size, int *segments)
{
    if (*segments > LARGEST_TRAIN / size)
        *segments = LARGEST_TRAIN / size;
    return setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size);
}

/* In batches of height rows of size bytes, each batch in trains of up to that many segments; the option that cuts them
 * is set once. */
int limit_send_trains(struct limit *limit, int fd, int count, int size, const unsigned char *rows, int height,
                      int segments, int64_t *elapsed)
{
    (void)limit;
    int sent = 0;
    if (cut_into(fd, size, &segments))
        return -errno;
    int64_t start = clock_now(CLOCK_MONOTONIC);
    while (sent < count) {
        int row = sent % height;
        int now = height - row < segments ? height - row : segments;
        if (send(fd, rows + (size_t)row * (size_t)size, (size_t)now * (size_t)size, MSG_DONTWAIT) < 0)
            break;
        sent += now;
    }
    *elapsed = clock_now(CLOCK_MONOTONIC) - start;
    return sent < count && errno != EAGAIN ? -errno : sent;
}

/* In batches of payloads that lie apart, each batch in trains as above, which the kernel gathers. */
int limit_send_gathered(struct limit *limit, int fd, int count, int size, struct iovec *payloads, int height,
                        int segments, int64_t *elapsed)
{
    (void)limit;
    int sent = 0;
    if (cut_into(fd, size, &segments))
        return -errno;
    int64_t start = clock_now(CLOCK_MONOTONIC);
    while (sent < count) {
        int first = sent % height;
        int now = height - first < segments ? height - first : segments;
        struct msghdr message = {.msg_iov = payloads + first, .msg_iovlen = (size_t)now};
        if (sendmsg(fd, &message, MSG_DONTWAIT) < 0)
            break;
        sent += now;
    }
    *elapsed = clock_now(CLOCK_MONOTONIC) - start;
    return sent < count && errno != EAGAIN ? -errno : sent;
}

/* A quiet feed: sends one datagram, then times its receive alone, count times. The clock's own cost is in *elapsed. */
int limit_lone(struct limit *limit, int fd, int sender, int count, int size, int64_t *elapsed)
{
    int64_t total = 0;
    for (int i = 0; i < count; i++) {
        if (send(sender, limit->train, (size_t)size, 0) < 0)
            return -errno;
        struct sockaddr_in6 name;
        socklen_t length = sizeof name;
        int64_t start = clock_now(CLOCK_MONOTONIC);
        ssize_t got = recvfrom(fd, limit->data, limit->slot_size, MSG_DONTWAIT, (struct sockaddr *)&name, &length);
        total += clock_now(CLOCK_MONOTONIC) - start;
        if (got < 0)
            return -errno;
    }
    *elapsed = total;
    return count;
}

/* One end of a ping-pong: sends one datagram, waits for the answer, count times; half of each round trip goes to
 * latencies. */
int limit_ping(struct limit *limit, int fd, int sender, int count, int size, int64_t *latencies)
{
    for (int i = 0; i < count; i++) {
        struct sockaddr_in6 name;
        socklen_t length = sizeof name;
        int64_t start = clock_now(CLOCK_MONOTONIC);
        if (send(sender, limit->train, (size_t)size, 0) < 0 ||
            recvfrom(fd, limit->data, limit->slot_size, 0, (struct sockaddr *)&name, &length) < 0)
            return -errno;
        latencies[i] = (clock_now(CLOCK_MONOTONIC) - start) / 2;
    }
    return count;
}

/* The other end: answers until a call fails. */
int limit_pong(struct limit *limit, int fd, int sender, int size)
{
    for (;;) {
        struct sockaddr_in6 name;
        socklen_t length = sizeof name;
        if (recvfrom(fd, limit->data, limit->slot_size, 0, (struct sockaddr *)&name, &length) < 0 ||
            send(sender, limit->train, (size_t)size, 0) < 0)
            return -errno;
    }
}

/* A feed that never ends, blocking: *received says how many datagrams came so far, to whoever reads it meanwhile. */
int limit_consume(struct limit *limit, int fd, int64_t *received)
{
    for (;;) {
        int got = recvmmsg(fd, limit->addressed, SLOTS, MSG_WAITFORONE, NULL);
        if (got < 0)
            return -errno;
        for (int i = 0; i < got; i++)
            limit->addressed[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_in6);
        __atomic_fetch_add(received, got, __ATOMIC_RELAXED);
    }
}

/* The same from a socket with UDP_GRO; size is what the datagrams are known to have. */
int limit_consume_trains(struct limit *limit, int fd, int size, int64_t *received)
{
    for (;;) {
        int got = recvmmsg(fd, limit->trains, TRAIN_SLOTS, MSG_WAITFORONE, NULL);
        if (got < 0)
            return -errno;
        for (int i = 0; i < got; i++) {
            limit->trains[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_in6);
            limit->trains[i].msg_hdr.msg_controllen = CONTROL_SIZE;
            __atomic_fetch_add(received, (limit->trains[i].msg_len + size - 1) / size, __ATOMIC_RELAXED);
        }
    }
}

/* A quiet feed, blocking: *cpu is the thread's processor time from the first datagram to the last. */
int limit_wait(struct limit *limit, int fd, int count, int64_t *cpu)
{
    int64_t start = 0;
    for (int received = 0; received < count; received++) {
        struct sockaddr_in6 name;
        socklen_t length = sizeof name;
        if (recvfrom(fd, limit->data, limit->slot_size, 0, (struct sockaddr *)&name, &length) < 0)
            return -errno;
        if (received == 0)
            start = clock_now(CLOCK_THREAD_CPUTIME_ID);
    }
    *cpu = clock_now(CLOCK_THREAD_CPUTIME_ID) - start;
    return count;
}

/* A quiet feed, noting how old each datagram was on arrival: they start with the CLOCK_MONOTONIC time of sending. */
int limit_wait_latency(struct limit *limit, int fd, int count, int64_t *latencies)
{
    for (int received = 0; received < count; received++) {
        struct sockaddr_in6 name;
        socklen_t length = sizeof name;
        int64_t sent;
        if (recvfrom(fd, limit->data, limit->slot_size, 0, (struct sockaddr *)&name, &length) < 0)
            return -errno;
        int64_t arrived = clock_now(CLOCK_MONOTONIC);
        memcpy(&sent, limit->data, sizeof sent);
        latencies[received] = arrived - sent;
    }
    return count;
}
