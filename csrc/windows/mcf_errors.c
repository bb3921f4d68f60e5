/* Error numbers of Winsock: winsock2.h. */
#include <errno.h>

#include "mcf_error.h"
#include "windows/mcf_windows.h"

int mcf_winsock_error(int code)
{
    switch (code) {
    case WSAEINTR:
        return -EINTR;
    case WSAENOBUFS:
        return -ENOBUFS;
    case WSAEBADF:
    case WSAENOTSOCK:
        return -EBADF;
    default:
        return -code;
    }
}

int mcf_error_number(int error)
{
    switch (error) {
    case ENOBUFS:
        return WSAENOBUFS;
    case EMSGSIZE:
        return WSAEMSGSIZE;
    default:
        return error;
    }
}

/* Windows has no queue of errors: what the network reports comes with the next call. */
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
