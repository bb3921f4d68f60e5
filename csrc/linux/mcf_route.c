/* The interface of a route: rtnetlink(7). */
#define _GNU_SOURCE
#include "mcf_interface.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* RTM_GETROUTE, rtnetlink(7); every part is a multiple of NLMSG_ALIGNTO, so the struct is the message. */
struct route_request {
    struct nlmsghdr header;
    struct rtmsg route;
    struct rtattr attribute;
    uint8_t destination[16];
};

/* The size of the kernel's one answer, or minus errno. */
static int route_ask(const struct route_request *request, uint8_t *answer, size_t size)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t result;

    int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (descriptor < 0)
        return -errno;
    /* Connected, the socket takes messages from the kernel only. */
    result = connect(descriptor, (const struct sockaddr *)&kernel, sizeof kernel);
    if (result < 0)
        goto done;
    result = send(descriptor, request, request->header.nlmsg_len, 0);
    if (result < 0)
        goto done;
    do
        result = recv(descriptor, answer, size, 0);
    while (result < 0 && errno == EINTR);

done:
    result = result < 0 ? -errno : result;
    close(descriptor);
    return (int)result;
}

/* The outgoing interface (RTA_OIF) of an answer, or minus errno; `answer` needs no alignment and is not trusted. */
static int answer_interface(const uint8_t *answer, size_t size)
{
    struct nlmsghdr header;
    if (size < sizeof header)
        return -EBADMSG;
    memcpy(&header, answer, sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > size)
        return -EBADMSG;
    size_t offset = NLMSG_HDRLEN;

    if (header.nlmsg_type == NLMSG_ERROR) {
        int error = 0;
        if (header.nlmsg_len - offset >= sizeof error)
            memcpy(&error, answer + offset, sizeof error);
        return error < 0 ? error : -EBADMSG;
    }
    if (header.nlmsg_type != RTM_NEWROUTE)
        return -EBADMSG;

    offset += NLMSG_ALIGN(sizeof(struct rtmsg));
    while (offset + sizeof(struct rtattr) <= header.nlmsg_len) {
        struct rtattr attribute;
        memcpy(&attribute, answer + offset, sizeof attribute);
        if (attribute.rta_len < sizeof attribute || attribute.rta_len > header.nlmsg_len - offset)
            return -EBADMSG;
        if (attribute.rta_type == RTA_OIF) {
            int index = 0;
            if (attribute.rta_len >= sizeof attribute + sizeof index)
                memcpy(&index, answer + offset + sizeof attribute, sizeof index);
            return index > 0 ? index : -EBADMSG;
        }
        offset += RTA_ALIGN((size_t)attribute.rta_len);
    }
    return -ENETUNREACH;
}

int mcf_route_interface(int family, const uint8_t *destination)
{
    size_t width = family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr);
    if (family != AF_INET && family != AF_INET6)
        return -EAFNOSUPPORT;

    struct route_request request;
    memset(&request, 0, sizeof request);
    request.header.nlmsg_len = (uint32_t)(offsetof(struct route_request, destination) + width);
    request.header.nlmsg_type = RTM_GETROUTE;
    request.header.nlmsg_flags = NLM_F_REQUEST;
    request.route.rtm_family = (unsigned char)family;
    request.route.rtm_dst_len = (unsigned char)(width * 8);
    request.attribute.rta_type = RTA_DST;
    request.attribute.rta_len = (unsigned short)RTA_LENGTH(width);
    memcpy(request.destination, destination, width);

    uint8_t answer[4096];
    int received = route_ask(&request, answer, sizeof answer);
    return received < 0 ? received : answer_interface(answer, (size_t)received);
}
