/* Preloaded: counts the calls of this process that receive, send or wait, count_<call> each, and lets them through. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

/* Defines a call and its counter. The next definition is libc's, or that of a sanitizer which stands between. */
#define COUNTED(result, call, parameters, arguments)                                                                   \
    atomic_ulong count_##call;                                                                                         \
    result call parameters                                                                                             \
    {                                                                                                                  \
        void *found = dlsym(RTLD_NEXT, #call);                                                                         \
        result(*next) parameters;                                                                                      \
        memcpy(&next, &found, sizeof next); /* ISO C has no cast from an object to a function */                       \
        atomic_fetch_add(&count_##call, 1);                                                                            \
        return next arguments;                                                                                         \
    }

COUNTED(ssize_t, recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags))
COUNTED(ssize_t, recvfrom,
        (int fd, void *restrict data, size_t size, int flags, struct sockaddr *restrict name,
         socklen_t *restrict length),
        (fd, data, size, flags, name, length))
COUNTED(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
COUNTED(int, recvmmsg, (int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout),
        (fd, messages, count, flags, timeout))
COUNTED(ssize_t, send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
COUNTED(ssize_t, sendto,
        (int fd, const void *data, size_t size, int flags, const struct sockaddr *name, socklen_t length),
        (fd, data, size, flags, name, length))
COUNTED(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
COUNTED(int, sendmmsg, (int fd, struct mmsghdr *messages, unsigned int count, int flags), (fd, messages, count, flags))
COUNTED(int, poll, (struct pollfd * polled, nfds_t count, int timeout), (polled, count, timeout))
