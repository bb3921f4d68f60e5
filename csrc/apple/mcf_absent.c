/* What Darwin does not have. */
#include <errno.h>

#include "mcf_interface.h"
#include "mcf_send.h"

/* Late errors come with the next call, not in a queue. */
int mcf_queues_errors(mcf_socket fd, int family)
{
    (void)fd, (void)family;
    return 0;
}

int mcf_collect_errors(mcf_socket fd)
{
    (void)fd;
    return 0;
}

/* Devices have no clock that a socket could ask for. */
int mcf_interface_stamps(const char *name)
{
    (void)name;
    return -EOPNOTSUPP;
}
