/* poll(2): every POSIX system. */
#define _POSIX_C_SOURCE 200809L
#include "mcf_wait.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

/* A signal whose handler ran in another thread, or in this one just before poll, interrupts nothing: whoever waits so
 * many milliseconds looks around, and again after twice as long, as often as it may double. To wake up an idle program
 * twice a second takes processor time, and somebody's battery. */
enum { FIRST_LOOK = 500, MOST_DOUBLINGS = 4 };

int mcf_set_patience(mcf_socket fd, int milliseconds)
{
    struct timeval limit = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
    return setsockopt((int)fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ? -errno : 0;
}

/* Returns how many are ready, or as mcf_end_wait, or -errno. */
static int poll_until(struct pollfd *polled, nfds_t count, int64_t deadline, uint32_t *looks)
{
    int look = FIRST_LOOK << (*looks < MOST_DOUBLINGS ? *looks : MOST_DOUBLINGS);
    int ready = poll(polled, count, mcf_milliseconds_until(deadline, look));
    if (ready)
        return ready < 0 ? -errno : ready;
    int end = mcf_end_wait(deadline);
    *looks += end ? 1 : 0;
    return end;
}

int mcf_wait(mcf_socket fd, int events, mcf_socket wake, int64_t deadline, uint32_t *looks)
{
    short wanted = 0;
    if (events & MCF_READABLE)
        wanted |= POLLIN;
    if (events & MCF_WRITABLE)
        wanted |= POLLOUT;
    struct pollfd polled[2] = {{.fd = (int)fd, .events = wanted}, {.fd = (int)wake, .events = POLLIN}};
    int ready = poll_until(polled, 2, deadline, looks);
    if (ready > 0 && polled[1].revents)
        return -ECANCELED;
    return ready > 0 ? 1 : ready;
}

size_t mcf_wait_many_size(void)
{
    return sizeof(struct pollfd);
}

int mcf_wait_many(const mcf_socket *fds, uint32_t count, uint8_t *ready, void *scratch, mcf_socket wake,
                  int64_t deadline, uint32_t *looks)
{
    struct pollfd *polled = scratch;
    for (uint32_t i = 0; i < count; i++)
        polled[i] = (struct pollfd){.fd = (int)fds[i], .events = POLLIN};
    polled[count] = (struct pollfd){.fd = (int)wake, .events = POLLIN};
    int found = poll_until(polled, count + 1, deadline, looks);
    if (found > 0 && polled[count].revents)
        return -ECANCELED;
    for (uint32_t i = 0; i < count; i++)
        ready[i] = found > 0 && polled[i].revents != 0;
    return found;
}
