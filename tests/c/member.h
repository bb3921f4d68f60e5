/* What race programs share that receive over loopback: a socket that has joined a group, and a thread that sends to it
 * until `done`. The program defines _GNU_SOURCE. */
#ifndef MEMBER_H
#define MEMBER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "race.h"

enum { LOOPBACK = 1 };

static struct sockaddr_in group;
static atomic_int done;

/* With the destination of what it receives; `group` is where to send. */
static int open_member(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct ip_mreqn membership = {.imr_multiaddr.s_addr = htonl(0xef010203), .imr_ifindex = LOOPBACK};
    socklen_t length = sizeof address;
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof membership) == 0);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    group = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = address.sin_port};
    group.sin_addr = membership.imr_multiaddr;
    return fd;
}

static void *send_all(void *argument)
{
    (void)argument;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ip_mreqn egress = {.imr_ifindex = LOOPBACK};
    CHECK(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &egress, sizeof egress) == 0);
    while (!atomic_load(&done)) {
        (void)!sendto(fd, "datagram", 8, 0, (struct sockaddr *)&group, sizeof group);
        sched_yield();
    }
    close(fd);
    return NULL;
}

#endif
