/* Clock, waiting for sockets, and waking those who wait. */
#ifndef MCF_WAIT_H
#define MCF_WAIT_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

typedef intptr_t mcf_socket;

/* Deadlines are times of mcf_clock, or one of these. */
enum {
    MCF_NO_DEADLINE = -1, /* wait for ever */
    MCF_UNTIL_READY = -2, /* the same in a thread that handles no signals, and so has nothing to look at meanwhile */
    MCF_DO_NOT_WAIT = 0,  /* return at once */
    MCF_ONE_LOOK = -3,    /* of a receive: the same, and -EINTR rather than look twice */
};
enum { MCF_READABLE = 1, MCF_WRITABLE = 2 };

/* Nanoseconds of a monotonic clock. */
int64_t mcf_clock(void);

/* How long a receive may wait inside its own call, where no wake-up reaches it. */
enum { MCF_PATIENCE_MS = 10 };

/* Lets receives without MSG_DONTWAIT on this socket wait for MCF_PATIENCE_MS at most, or (0) for ever as they do on a
 * new one. Returns 0 or -errno. */
int mcf_set_patience(mcf_socket fd, int milliseconds);

/* Waits until the socket is ready or in error. Returns 1, 0 at the deadline, -ECANCELED when woken, -EINTR after a
 * signal and now and then, for whoever handles signals to look: the seldomer the more often that was so, which *looks
 * counts, 0 where the wait begins. Any thread. */
int mcf_wait(mcf_socket fd, int events, mcf_socket wake, int64_t deadline, uint32_t *looks);

/* For backends: how long one call may wait for this deadline, rounded up so that it never returns before, but not
 * longer than `look` milliseconds, after which the caller looks around. Milliseconds, -1 = for ever. */
static inline int mcf_milliseconds_until(int64_t deadline, int look)
{
    if (deadline == MCF_UNTIL_READY)
        return -1;
    if (deadline == MCF_NO_DEADLINE)
        return look;
    if (deadline == MCF_DO_NOT_WAIT)
        return 0;
    int64_t left = (deadline - mcf_clock() + 999999) / 1000000;
    return left <= 0 ? 0 : left > look ? look : (int)left;
}

/* What a wait returns when nothing came in that time: 0 at the deadline, -EINTR when it is time to look around. */
static inline int mcf_end_wait(int64_t deadline)
{
    return deadline < 0 || mcf_clock() < deadline ? -EINTR : 0;
}

/* Sleeps until a time, or a little longer. Returns 0, -ECANCELED when woken, -EINTR after a signal. Any thread. */
int mcf_rest(mcf_socket wake, int64_t until);

/* Waits until a time, to within a microsecond or so: sleeps, and watches the clock for the last 100 microseconds, in
 * which nothing wakes it. Returns 0, -ECANCELED when woken, -EINTR after a signal. Any thread. */
int mcf_pause(mcf_socket wake, int64_t until);

/* Waits until one of many sockets is readable or in error: ready[i] becomes 0 or 1, the result is how many are ready,
 * or as for mcf_wait. `scratch` has room for count + 1 elements of mcf_wait_many_size() bytes. */
size_t mcf_wait_many_size(void);
int mcf_wait_many(const mcf_socket *fds, uint32_t count, uint8_t *ready, void *scratch, mcf_socket wake,
                  int64_t deadline, uint32_t *looks);

/* A descriptor that, once signalled, wakes every call that waits on it, for good. < 0 is -errno. The maker frees it.
 * Only its lower 32 bits are for others, select(2) and its kin. */
mcf_socket mcf_wake_new(void);
void mcf_wake_signal(mcf_socket wake);
/* Makes it as new; false when it was. Only where one thread at a time waits. */
int mcf_wake_reset(mcf_socket wake);
void mcf_wake_free(mcf_socket wake);

#endif
