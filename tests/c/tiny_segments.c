/* Preloaded: says of every train that its datagrams have $SEGMENT bytes, as a kernel without a limit of their number
 * may (UDP_GRO, udp(7)). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef UDP_GRO /* glibc 2.28 */
#define UDP_GRO 104
#endif

int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout)
{
    int (*next)(int, struct mmsghdr *, unsigned int, int, struct timespec *);
    void *found = dlsym(RTLD_NEXT, "recvmmsg");
    memcpy(&next, &found, sizeof next); /* ISO C has no cast from an object to a function */
    int received = next(fd, messages, count, flags, timeout);
    int size = atoi(getenv("SEGMENT"));
    for (int i = 0; i < received; i++) {
        struct msghdr *header = &messages[i].msg_hdr;
        for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control))
            if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO)
                memcpy(CMSG_DATA(control), &size, sizeof size);
    }
    return received;
}
