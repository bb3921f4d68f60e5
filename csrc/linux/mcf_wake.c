/* An eventfd: one descriptor, readable once it was written until it is read. */
#include "mcf_wait.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

mcf_socket mcf_wake_new(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void mcf_wake_signal(mcf_socket wake)
{
    /* The only failure is a full counter, and then it is readable already. */
    (void)!eventfd_write((int)wake, 1);
}

int mcf_wake_reset(mcf_socket wake)
{
    eventfd_t value;
    return eventfd_read((int)wake, &value) == 0;
}

void mcf_wake_free(mcf_socket wake)
{
    close((int)wake);
}
