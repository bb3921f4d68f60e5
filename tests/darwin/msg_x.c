/* recvmsg_x and sendmsg_x as Darwin has them, for sockets of Linux: xnu's bsd/kern/uipc_syscalls.c and uipc_socket.c.
 */
#include "darwin.h"

#include <errno.h>
#include <sys/uio.h>

struct msghdr_x {
    void *msg_name;
    socklen_t msg_namelen;
    struct iovec *msg_iov;
    int msg_iovlen;
    void *msg_control;
    socklen_t msg_controllen;
    int msg_flags;
    size_t msg_datalen;
};

enum { MOST = 256, MOST_LOOKED_AT = 1024 };

/* Read by tests: calls, and the largest number of messages that one asked for. */
unsigned long count_recvmsg_x, count_sendmsg_x, most_asked;

static int fail(int error)
{
    errno = error;
    return -1;
}

/* What both refuse; else how many messages they look at. */
static int check(const struct msghdr_x *messages, unsigned count, int flags)
{
    if (count > most_asked)
        most_asked = count;
    if (count == 0 || count > MOST_LOOKED_AT || flags & ~MSG_DONTWAIT)
        return fail(EINVAL);
    if (count > MOST)
        count = MOST;
    for (unsigned i = 0; i < count; i++)
        if (messages[i].msg_flags != 0) /* before macOS 15 */
            return fail(EINVAL);
    return (int)count;
}

static size_t room_of(const struct msghdr_x *message)
{
    size_t room = 0;
    for (int i = 0; i < message->msg_iovlen; i++)
        room += message->msg_iov[i].iov_len;
    return room;
}

ssize_t recvmsg_x(int fd, struct msghdr_x *messages, unsigned count, int flags)
{
    count_recvmsg_x++;
    int most = check(messages, count, flags);
    for (int i = 0; i < most; i++) {
        struct msghdr_x *message = &messages[i];
        struct msghdr header = {
            .msg_name = message->msg_name,
            .msg_namelen = message->msg_namelen,
            .msg_iov = message->msg_iov,
            .msg_iovlen = (size_t)message->msg_iovlen,
            .msg_control = message->msg_controllen ? message->msg_control : NULL,
            .msg_controllen = message->msg_controllen,
        };
        ssize_t length = recvmsg(fd, &header, i ? flags | MSG_DONTWAIT : flags);
        if (length < 0)
            return i ? i : -1;
        if (length == 0 && header.msg_namelen == 0) /* shut down: no message at all */
            return i;
        message->msg_namelen = header.msg_namelen;
        message->msg_controllen = (socklen_t)header.msg_controllen;
        message->msg_flags = header.msg_flags & MSG_CTRUNC; /* that one was cut is known to the kernel alone */
        message->msg_datalen = (size_t)length < room_of(message) ? (size_t)length : room_of(message);
    }
    return most;
}

ssize_t sendmsg_x(int fd, const struct msghdr_x *messages, unsigned count, int flags)
{
    count_sendmsg_x++;
    int most = check(messages, count, flags);
    for (int i = 0; i < most; i++)
        if (room_of(&messages[i]) == 0) /* mbuf_allocpacket, and nothing is sent before all are there */
            return fail(EINVAL);
    for (int i = 0; i < most; i++) {
        struct msghdr header = {.msg_iov = messages[i].msg_iov, .msg_iovlen = (size_t)messages[i].msg_iovlen};
        if (sendmsg(fd, &header, flags) < 0) {
            int is_partial = errno == EINTR || errno == EWOULDBLOCK || errno == ENOBUFS || errno == EMSGSIZE;
            return i && is_partial ? i : -1;
        }
    }
    return most;
}
