/* A pipe: it survives fork(2), which a kqueue does not, and needs no network, as a socket to itself would. */
#define _DARWIN_C_SOURCE
#include "mcf_wait.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Both its ends are one value. The lower half is the end to read, which whoever polls takes for the descriptor. */
static_assert(sizeof(mcf_socket) == 8, "two descriptors fit");

enum { HALF = 32 };

static int end_to_write(mcf_socket wake)
{
    return (int)(wake >> HALF);
}

mcf_socket mcf_wake_new(void)
{
    int ends[2];
    if (pipe(ends) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        if (fcntl(ends[i], F_SETFD, FD_CLOEXEC) < 0 || fcntl(ends[i], F_SETFL, O_NONBLOCK) < 0) {
            int error = errno;
            close(ends[0]);
            close(ends[1]);
            return -error;
        }
    }
    return (mcf_socket)ends[1] << HALF | ends[0];
}

void mcf_wake_signal(mcf_socket wake)
{
    /* The only failure is a full pipe, and then it is readable already. */
    (void)!write(end_to_write(wake), "", 1);
}

int mcf_wake_reset(mcf_socket wake)
{
    char taken[64];
    int was_signalled = 0;
    while (read((int)wake, taken, sizeof taken) > 0)
        was_signalled = 1;
    return was_signalled;
}

void mcf_wake_free(mcf_socket wake)
{
    close((int)wake);
    close(end_to_write(wake));
}
