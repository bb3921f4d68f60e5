/* paced DESCRIPTOR COUNT SIZE GAP: sends COUNT datagrams of SIZE bytes, one every GAP nanoseconds, on a connected
 * socket.
 *
 * Each starts with the CLOCK_MONOTONIC time of its sending in nanoseconds, host byte order. The clock is watched, not
 * slept on: a timer would add its own jitter, tens of microseconds of it, to gaps of that size. A sender that fell
 * behind does not catch up in a burst, since the feed would then not be quiet. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static int64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int main(int argc, char **argv)
{
    static unsigned char payload[65507];
    if (argc != 5) {
        fprintf(stderr, "usage: paced DESCRIPTOR COUNT SIZE GAP\n");
        return 2;
    }
    int fd = atoi(argv[1]);
    int64_t count = atoll(argv[2]), size = atoll(argv[3]), gap = atoll(argv[4]);
    if (size < (int64_t)sizeof(int64_t) || size > (int64_t)sizeof payload) {
        fprintf(stderr, "paced: SIZE is 8 to %zu bytes, not %lld\n", sizeof payload, (long long)size);
        return 2;
    }
    int64_t next = clock_now() + gap;
    for (int64_t i = 0; i < count; i++) {
        int64_t now;
        while ((now = clock_now()) < next)
            ;
        memcpy(payload, &now, sizeof now);
        if (send(fd, payload, (size_t)size, 0) < 0) {
            fprintf(stderr, "paced: send of datagram %lld: %s\n", (long long)i, strerror(errno));
            return 1;
        }
        next = now + gap;
    }
    return 0;
}
