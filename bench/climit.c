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

enum {
    SLOTS = 64,
    SLOT_SIZE = 2048,
    CONTROL_SIZE = 256,
    LARGEST_TRAIN = 65507, /* bytes of payload in one IPv4 datagram */
};

struct limit {
    struct mmsghdr bare[SLOTS];
    struct mmsghdr addressed[SLOTS];
    struct mmsghdr described[SLOTS];
    struct mmsghdr outgoing[SLOTS];
    struct iovec slots[SLOTS];
    struct iovec payloads[SLOTS];
    struct sockaddr_in6 names[SLOTS];
    _Alignas(struct cmsghdr) unsigned char controls[SLOTS][CONTROL_SIZE];
    unsigned char data[SLOTS][SLOT_SIZE];
    unsigned char train[LARGEST_TRAIN];
};

static int64_t clock_now(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Returns NULL without memory. The caller frees it with limit_free. */
struct limit *limit_new(void)
{
    struct limit *limit = calloc(1, sizeof *limit);
    if (limit == NULL)
        return NULL;
    for (int i = 0; i < SLOTS; i++) {
        limit->slots[i] = (struct iovec){limit->data[i], SLOT_SIZE};
        limit->payloads[i] = (struct iovec){limit->data[i], 0};
        limit->bare[i].msg_hdr = (struct msghdr){.msg_iov = &limit->slots[i], .msg_iovlen = 1};
        limit->addressed[i].msg_hdr = limit->bare[i].msg_hdr;
        limit->addressed[i].msg_hdr.msg_name = &limit->names[i];
        limit->addressed[i].msg_hdr.msg_namelen = sizeof limit->names[i];
        limit->described[i].msg_hdr = limit->addressed[i].msg_hdr;
        limit->described[i].msg_hdr.msg_control = limit->controls[i];
        limit->described[i].msg_hdr.msg_controllen = CONTROL_SIZE;
        limit->outgoing[i].msg_hdr = (struct msghdr){.msg_iov = &limit->payloads[i], .msg_iovlen = 1};
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

/* Offers count datagrams of size bytes in trains that the kernel cuts (UDP_SEGMENT): single sends leave the sender's
 * caches in a state that makes the drains after them noisier. Each datagram starts with its number. */
int limit_fill(struct limit *limit, int fd, int count, int size)
{
    int segments = LARGEST_TRAIN / size < SLOTS ? LARGEST_TRAIN / size : SLOTS;
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
    for (int offered = 0; offered < count;) {
        int now = count - offered < segments ? count - offered : segments;
        for (int i = 0; i < now; i++) {
            uint32_t number = (uint32_t)(offered + i);
            memcpy(limit->train + (size_t)i * (size_t)size, &number, sizeof number);
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
    while (received < count && recv(fd, limit->data[0], SLOT_SIZE, MSG_DONTWAIT) >= 0)
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

int limit_send(struct limit *limit, int fd, int count, int size, int64_t *elapsed)
{
    int sent = 0;
    int64_t start = clock_now(CLOCK_MONOTONIC);
    while (sent < count && send(fd, limit->data[sent % SLOTS], (size_t)size, MSG_DONTWAIT) >= 0)
        sent++;
    *elapsed = clock_now(CLOCK_MONOTONIC) - start;
    return sent < count && errno != EAGAIN ? -errno : sent;
}

int limit_sendmmsg(struct limit *limit, int fd, int count, int size, int64_t *elapsed)
{
    int sent = 0;
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
        ssize_t got = recvfrom(fd, limit->data[0], SLOT_SIZE, MSG_DONTWAIT, (struct sockaddr *)&name, &length);
        total += clock_now(CLOCK_MONOTONIC) - start;
        if (got < 0)
            return -errno;
    }
    *elapsed = total;
    return count;
}

/* A quiet feed, blocking: *cpu is the thread's processor time from the first datagram to the last. */
int limit_wait(struct limit *limit, int fd, int count, int64_t *cpu)
{
    int64_t start = 0;
    for (int received = 0; received < count; received++) {
        struct sockaddr_in6 name;
        socklen_t length = sizeof name;
        if (recvfrom(fd, limit->data[0], SLOT_SIZE, 0, (struct sockaddr *)&name, &length) < 0)
            return -errno;
        if (received == 0)
            start = clock_now(CLOCK_THREAD_CPUTIME_ID);
    }
    *cpu = clock_now(CLOCK_THREAD_CPUTIME_ID) - start;
    return count;
}

/* The same, noting how old each datagram was on arrival: they start with the CLOCK_MONOTONIC time of their sending. */
int limit_wait_latency(struct limit *limit, int fd, int count, int64_t *latencies)
{
    for (int received = 0; received < count; received++) {
        struct sockaddr_in6 name;
        socklen_t length = sizeof name;
        int64_t sent;
        if (recvfrom(fd, limit->data[0], SLOT_SIZE, 0, (struct sockaddr *)&name, &length) < 0)
            return -errno;
        int64_t arrived = clock_now(CLOCK_MONOTONIC);
        memcpy(&sent, limit->data[0], sizeof sent);
        latencies[received] = arrived - sent;
    }
    return count;
}
