/* Preloaded: a poll that would wait for some time does not, and says that nothing came. `waited` has for how long each
 * would have, in milliseconds; the last that there is room for is interrupted by SIGINT, and the first `signals` by
 * SIGUSR1. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

enum { MOST_WAITS = 7 };

int waits, waited[MOST_WAITS], signals;

int poll(struct pollfd *polled, nfds_t count, int timeout)
{
    int (*next)(struct pollfd *, nfds_t, int);
    void *found = dlsym(RTLD_NEXT, "poll");
    memcpy(&next, &found, sizeof next); /* ISO C has no cast from an object to a function */
    int ready = next(polled, count, timeout < 0 ? timeout : 0);
    if (ready || timeout <= 0 || waits == MOST_WAITS)
        return ready;
    waited[waits++] = timeout;
    if (waits > signals && waits < MOST_WAITS)
        return 0;
    raise(waits > signals ? SIGINT : SIGUSR1);
    errno = EINTR;
    return -1;
}
