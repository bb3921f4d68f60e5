/* poll(2) and CLOCK_MONOTONIC: every POSIX system. */
#define _POSIX_C_SOURCE 200809L
#include "mcf_wait.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

enum { NANOSECONDS_PER_MS = 1000000 };

int64_t mcf_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int mcf_set_patience(mcf_socket fd, int milliseconds)
{
    struct timeval limit = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
    return setsockopt((int)fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ? -errno : 0;
}

/* poll's timeout: milliseconds, rounded up so that a call never returns before its deadline. */
static int milliseconds_until(int64_t deadline)
{
    if (deadline == MCF_NO_DEADLINE)
        return -1;
    if (deadline == MCF_DO_NOT_WAIT)
        return 0;
    int64_t left = (deadline - mcf_clock() + NANOSECONDS_PER_MS - 1) / NANOSECONDS_PER_MS;
    return left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

/* poll until something is ready; a deadline beyond INT_MAX milliseconds takes several rounds. */
static int poll_until(struct pollfd *polled, nfds_t count, int64_t deadline)
{
    for (;;) {
        int timeout = milliseconds_until(deadline);
        int ready = poll(polled, count, timeout);
        if (ready > 0)
            return ready;
        if (ready < 0)
            return -errno;
        if (timeout != INT_MAX)
            return 0;
    }
}

int mcf_wait(mcf_socket fd, int events, mcf_socket wake, int64_t deadline)
{
    short wanted = 0;
    if (events & MCF_READABLE)
        wanted |= POLLIN;
    if (events & MCF_WRITABLE)
        wanted |= POLLOUT;
    struct pollfd polled[2] = {{.fd = (int)fd, .events = wanted}, {.fd = (int)wake, .events = POLLIN}};
    int ready = poll_until(polled, 2, deadline);
    if (ready > 0 && polled[1].revents)
        return -ECANCELED;
    return ready > 0 ? 1 : ready;
}

size_t mcf_wait_many_size(void)
{
    return sizeof(struct pollfd);
}

int mcf_wait_many(const mcf_socket *fds, uint32_t count, uint8_t *ready, void *scratch, mcf_socket wake,
                  int64_t deadline)
{
    struct pollfd *polled = scratch;
    for (uint32_t i = 0; i < count; i++)
        polled[i] = (struct pollfd){.fd = (int)fds[i], .events = POLLIN};
    polled[count] = (struct pollfd){.fd = (int)wake, .events = POLLIN};
    int found = poll_until(polled, count + 1, deadline);
    if (found > 0 && polled[count].revents)
        return -ECANCELED;
    for (uint32_t i = 0; i < count; i++)
        ready[i] = found > 0 && polled[i].revents != 0;
    return found;
}
