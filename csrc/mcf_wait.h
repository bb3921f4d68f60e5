/* Clock, waiting for sockets, and waking those who wait. */
#ifndef MCF_WAIT_H
#define MCF_WAIT_H

#include <stddef.h>
#include <stdint.h>

typedef intptr_t mcf_socket;

/* Deadlines are times of mcf_clock, or one of these. */
enum {
    MCF_NO_DEADLINE = -1, /* wait for ever */
    MCF_DO_NOT_WAIT = 0,  /* return at once */
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
 * signal. Any thread. */
int mcf_wait(mcf_socket fd, int events, mcf_socket wake, int64_t deadline);

/* Waits until one of many sockets is readable or in error: ready[i] becomes 0 or 1, the result is how many are ready,
 * or as for mcf_wait. `scratch` has room for count + 1 elements of mcf_wait_many_size() bytes. */
size_t mcf_wait_many_size(void);
int mcf_wait_many(const mcf_socket *fds, uint32_t count, uint8_t *ready, void *scratch, mcf_socket wake,
                  int64_t deadline);

/* A descriptor that, once signalled, wakes every call that waits on it, for good. < 0 is -errno. The maker frees it. */
mcf_socket mcf_wake_new(void);
void mcf_wake_signal(mcf_socket wake);
/* Makes it as new. Only where one thread at a time waits. */
void mcf_wake_reset(mcf_socket wake);
void mcf_wake_free(mcf_socket wake);

#endif
