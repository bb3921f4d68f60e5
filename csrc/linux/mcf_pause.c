/* The clock, and waiting for a time: ppoll(2), whose timeout is in nanoseconds, and then, more exactly than a timer,
 * the clock again. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <time.h>

#include "mcf_wait.h"

/* A sleep ends late by the thread's timer slack (50 microseconds by default: PR_SET_TIMERSLACK(2const)) or, where that
 * is more, by a thousandth of its length, and then the thread has to get a processor. */
enum { WATCHED = 100000, SLACK_SHARE = 256 };

int64_t mcf_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int mcf_rest(mcf_socket wake, int64_t until)
{
    int64_t left = until - mcf_clock();
    if (left < 0)
        left = 0;
    struct timespec timeout = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    struct pollfd polled = {.fd = (int)wake, .events = POLLIN};
    int ready = ppoll(&polled, 1, &timeout, NULL);
    return ready < 0 ? -errno : ready ? -ECANCELED : 0;
}

int mcf_pause(mcf_socket wake, int64_t until)
{
    for (;;) {
        int64_t left = until - mcf_clock();
        if (left <= 0)
            return 0;
        int64_t sleep = left - left / SLACK_SHARE - WATCHED;
        if (sleep <= 0)
            continue;
        int error = mcf_rest(wake, until - left + sleep);
        if (error)
            return error;
    }
}
