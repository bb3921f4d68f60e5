/* The interface of a route: RTM_GETROUTE, rtnetlink(7). */
#define _GNU_SOURCE
#include "mcf_interface.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "mcf_netlink.h"

/* Every part is a multiple of NLMSG_ALIGNTO, so the struct is the message. */
struct route_request {
    struct nlmsghdr header;
    struct rtmsg route;
    struct rtattr attribute;
    uint8_t destination[16];
};

/* The outgoing interface (RTA_OIF). */
static int read_route(void *context, const mcf_netlink_message *message)
{
    int index = 0;
    int size = mcf_netlink_attribute(message, RTA_OIF, &index, sizeof index);
    if (size == 0)
        return -ENETUNREACH;
    if (size != sizeof index || index <= 0)
        return -EBADMSG;
    *(int *)context = index;
    return 0;
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

    int index = -EBADMSG;
    int result = mcf_netlink_ask(&request.header, RTM_NEWROUTE, sizeof request.route, read_route, &index);
    return result < 0 ? result : index;
}
