/* WSAPoll, and the performance counter as a clock. */
#include "mcf_wait.h"

#include "windows/mcf_windows.h"

int64_t mcf_clock(void)
{
    LARGE_INTEGER frequency, ticks;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&ticks);
    int64_t seconds = ticks.QuadPart / frequency.QuadPart;
    int64_t rest = ticks.QuadPart % frequency.QuadPart;
    return seconds * 1000000000 + rest * 1000000000 / frequency.QuadPart;
}

/* A receive that waits would have to be on a socket that blocks, and no call could then say that it does not wait. */
int mcf_set_patience(mcf_socket fd, int milliseconds)
{
    (void)fd, (void)milliseconds;
    return -WSAEOPNOTSUPP;
}

/* Returns how many are ready, or as mcf_end_wait. */
static int poll_until(WSAPOLLFD *polled, ULONG count, int64_t deadline)
{
    int ready = WSAPoll(polled, count, mcf_milliseconds_until(deadline, MCF_LOOK_EVERY));
    if (ready < 0)
        return mcf_winsock_error(WSAGetLastError());
    return ready ? ready : mcf_end_wait(deadline);
}

int mcf_wait(mcf_socket fd, int events, mcf_socket wake, int64_t deadline, uint32_t *looks)
{
    (void)looks;
    WSAPOLLFD polled[2];
    ULONG count = 0;
    SHORT wanted = 0;
    if (events & MCF_READABLE)
        wanted |= POLLRDNORM;
    if (events & MCF_WRITABLE)
        wanted |= POLLWRNORM;
    /* Unlike poll, WSAPoll refuses what is not a socket. */
    if (wake >= 0)
        polled[count++] = (WSAPOLLFD){.fd = (SOCKET)wake, .events = POLLRDNORM};
    if (fd >= 0)
        polled[count++] = (WSAPOLLFD){.fd = (SOCKET)fd, .events = wanted};
    int ready = poll_until(polled, count, deadline);
    if (ready > 0 && wake >= 0 && polled[0].revents)
        return -ECANCELED;
    return ready > 0 ? 1 : ready;
}

size_t mcf_wait_many_size(void)
{
    return sizeof(WSAPOLLFD);
}

int mcf_wait_many(const mcf_socket *fds, uint32_t count, uint8_t *ready, void *scratch, mcf_socket wake,
                  int64_t deadline, uint32_t *looks)
{
    (void)looks;
    WSAPOLLFD *polled = scratch;
    for (uint32_t i = 0; i < count; i++)
        polled[i] = (WSAPOLLFD){.fd = (SOCKET)fds[i], .events = POLLRDNORM};
    polled[count] = (WSAPOLLFD){.fd = (SOCKET)wake, .events = POLLRDNORM};
    int found = poll_until(polled, count + 1, deadline);
    if (found > 0 && polled[count].revents)
        return -ECANCELED;
    for (uint32_t i = 0; i < count; i++)
        ready[i] = found > 0 && polled[i].revents != 0;
    return found;
}
