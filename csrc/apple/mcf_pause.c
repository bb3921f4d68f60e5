/* The clock, and waiting for a time. Darwin has no ppoll(2): poll(2) waits for whole milliseconds, nanosleep(2) for the
 * rest. */
#define _DARWIN_C_SOURCE
#include <errno.h>
#include <poll.h>
#include <time.h>

#include "mcf_wait.h"

/* A timer may end late by an eighth of its length, up to a millisecond (timer_coalesce_ts_shift and its like in xnu's
 * arm_timer.c and i386_timer.c), and then the thread has to get a processor. */
enum { WATCHED = 100000, SLACK_SHARE = 8, MOST_SLACK = 1000000, NANOSECONDS_PER_MS = 1000000, LONGEST_POLL = 1000000 };

int64_t mcf_clock(void)
{
    /* CLOCK_MONOTONIC counts in microseconds there, and takes longer to read. */
    return (int64_t)clock_gettime_nsec_np(CLOCK_UPTIME_RAW);
}

int mcf_rest(mcf_socket wake, int64_t until)
{
    struct pollfd polled = {.fd = (int)wake, .events = POLLIN};
    int64_t left;
    int is_last;
    do {
        left = until - mcf_clock();
        int64_t whole = left > 0 ? left / NANOSECONDS_PER_MS : 0;
        is_last = whole <= LONGEST_POLL;
        int ready = poll(&polled, 1, is_last ? (int)whole : LONGEST_POLL);
        if (ready)
            return ready < 0 ? -errno : -ECANCELED;
    } while (!is_last);
    left = until - mcf_clock();
    if (left <= 0)
        return 0;
    struct timespec rest = {.tv_sec = 0, .tv_nsec = left % 1000000000};
    return nanosleep(&rest, NULL) < 0 ? -errno : 0;
}

int mcf_pause(mcf_socket wake, int64_t until)
{
    for (;;) {
        int64_t left = until - mcf_clock();
        if (left <= 0)
            return 0;
        int64_t slack = left / SLACK_SHARE < MOST_SLACK ? left / SLACK_SHARE : MOST_SLACK;
        int64_t sleep = left - slack - WATCHED;
        if (sleep <= 0)
            continue;
        int error = mcf_rest(wake, until - left + sleep);
        if (error)
            return error;
    }
}
