/* load DESCRIPTOR COUNT RATE SIZE SEGMENTS PROCESSOR HEADER: offers COUNT datagrams of SIZE bytes, RATE a second, on a
 * connected socket, in trains of SEGMENTS that the kernel cuts (UDP_SEGMENT), or one by one (1).
 *
 * Each starts with HEADER, hexadecimal and maybe empty; a header of 16 bytes or more is that of a SPEAD packet, whose
 * heap number (bytes 10 to 15, big endian) counts up. Then comes the CLOCK_MONOTONIC time of its sending in
 * nanoseconds, host byte order. The rate is kept on average: who fell behind sends faster for a while. It ends early
 * when it cannot keep up half the rate. The line that it prints says how many datagrams went and in how many
 * nanoseconds. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT /* glibc 2.28 */
#define UDP_SEGMENT 103
#endif

enum { LARGEST_TRAIN = 65507, MOST = 64, LARGEST_HEADER = 64, HEAP_NUMBER_AT = 10, HEAP_NUMBER_SIZE = 6 };

static unsigned char data[LARGEST_TRAIN];
static struct mmsghdr messages[MOST];
static struct iovec vectors[MOST];

static int64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static size_t parse(const char *text, unsigned char *header)
{
    size_t size = strlen(text) / 2;
    for (size_t i = 0; i < size && i < LARGEST_HEADER; i++) {
        unsigned byte = 0;
        sscanf(text + 2 * i, "%2x", &byte);
        header[i] = (unsigned char)byte;
    }
    return size;
}

static void stamp(unsigned char *datagram, size_t header_size, int64_t number, int64_t now)
{
    if (header_size > HEAP_NUMBER_AT)
        for (int i = 0; i < HEAP_NUMBER_SIZE; i++)
            datagram[HEAP_NUMBER_AT + i] = (unsigned char)(number >> 8 * (HEAP_NUMBER_SIZE - 1 - i));
    memcpy(datagram + header_size, &now, sizeof now);
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: load DESCRIPTOR COUNT RATE SIZE SEGMENTS PROCESSOR HEADER\n");
        return 2;
    }
    int fd = atoi(argv[1]), segments = atoi(argv[5]);
    int64_t count = atoll(argv[2]);
    double rate = atof(argv[3]);
    size_t size = (size_t)atoll(argv[4]);
    unsigned char header[LARGEST_HEADER];
    size_t header_size = parse(argv[7], header);
    int most = segments > 1 ? segments : MOST;
    if (count < 1 || rate <= 0 || segments < 1 || most > MOST || header_size > LARGEST_HEADER ||
        size < header_size + sizeof(int64_t) || size * (size_t)most > sizeof data) {
        fprintf(stderr, "load: %d datagrams of %zu bytes do not fit %zu, or a number is out of range\n", most, size,
                sizeof data);
        return 2;
    }
    for (int i = 0; i < most; i++) {
        memcpy(data + (size_t)i * size, header, header_size);
        vectors[i] = (struct iovec){data + (size_t)i * size, size};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    cpu_set_t processors;
    CPU_ZERO(&processors);
    CPU_SET(atoi(argv[6]), &processors);
    if (sched_setaffinity(0, sizeof processors, &processors) < 0) {
        fprintf(stderr, "load: sched_setaffinity(%s): %s\n", argv[6], strerror(errno));
        return 1;
    }
    int option = (int)size;
    if (segments > 1 && setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &option, sizeof option) < 0) {
        fprintf(stderr, "load: setsockopt(UDP_SEGMENT, %d): %s\n", option, strerror(errno));
        return 1;
    }
    int64_t sent = 0, start = clock_now(), now = start;
    double patience = 2 * (double)count / rate + 0.1;
    while (sent < count) {
        now = clock_now();
        double elapsed = (double)(now - start) * 1e-9;
        if (elapsed > patience)
            break;
        int64_t due = (int64_t)(elapsed * rate) - sent;
        int64_t left = count - sent, whole = segments < left ? segments : left;
        if (due < whole)
            continue;
        int64_t next = segments > 1 ? whole : (due < left ? due : left);
        if (next > most)
            next = most;
        for (int64_t i = 0; i < next; i++)
            stamp(data + (size_t)i * size, header_size, sent + i + 1, now);
        ssize_t went;
        if (segments > 1)
            went = send(fd, data, (size_t)next * size, 0) < 0 ? -1 : next;
        else
            went = sendmmsg(fd, messages, (unsigned)next, 0);
        if (went < 0) {
            fprintf(stderr, "load: sending after %lld datagrams: %s\n", (long long)sent, strerror(errno));
            return 1;
        }
        sent += went;
    }
    printf("%lld %lld\n", (long long)sent, (long long)(clock_now() - start));
    return 0;
}
