/* The error queue of a socket with IP_RECVERR or IPV6_RECVERR: ip(7). */
#define _GNU_SOURCE
#include <time.h> /* errqueue.h uses timespec and does not include it */

#include <linux/errqueue.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "mcf_io.h"

enum { MOST_REPORTS = 1024 }; /* per call: reports may come in as fast as they are read */

static int is_from_network(struct msghdr *header)
{
    for (struct cmsghdr *message = CMSG_FIRSTHDR(header); message; message = CMSG_NXTHDR(header, message)) {
        int is_error = (message->cmsg_level == IPPROTO_IP && message->cmsg_type == IP_RECVERR) ||
                       (message->cmsg_level == IPPROTO_IPV6 && message->cmsg_type == IPV6_RECVERR);
        if (is_error) {
            struct sock_extended_err report;
            memcpy(&report, CMSG_DATA(message), sizeof report);
            return report.ee_origin == SO_EE_ORIGIN_ICMP || report.ee_origin == SO_EE_ORIGIN_ICMP6;
        }
    }
    return 0;
}

int mcf_queues_errors(mcf_socket fd, int family)
{
    int queues = 0;
    socklen_t size = sizeof queues;
    int level = family == MCF_IPV6 ? IPPROTO_IPV6 : IPPROTO_IP;
    int option = family == MCF_IPV6 ? IPV6_RECVERR : IP_RECVERR;
    return getsockopt((int)fd, level, option, &queues, &size) == 0 && queues;
}

int mcf_collect_errors(mcf_socket fd)
{
    int late = 0;
    for (int reports = 0; reports < MOST_REPORTS; reports++) {
        union {
            struct cmsghdr alignment;
            char bytes[256];
        } control;
        struct msghdr header = {.msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
        if (recvmsg((int)fd, &header, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            break;
        late += is_from_network(&header);
    }
    return late;
}
