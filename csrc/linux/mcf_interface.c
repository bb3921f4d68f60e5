/* Links and their addresses: RTM_GETLINK and RTM_GETADDR, rtnetlink(7). getifaddrs(3) will not do: it names an IPv4
 * address by its label, which may be any text, the name of another device too, and tells no index. */
#define _GNU_SOURCE
#include "mcf_interface.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "mcf_netlink.h"
#include "posix/mcf_link.h"

/* How often a dump is asked for that changes while it comes; the last is taken as it is. */
enum { DUMPS = 10 };

/* The rows: first one for each link, then one for each address. */
struct list {
    struct mcf_interface_address *rows;
    size_t count;
    size_t capacity;
    size_t links;
    size_t last; /* the link of the last address */
};

/* Room for one more row; -ENOMEM. */
static int make_room(struct list *list)
{
    if (list->count < list->capacity)
        return 0;
    size_t capacity = list->capacity ? 2 * list->capacity : 16;
    struct mcf_interface_address *rows = realloc(list->rows, capacity * sizeof *rows);
    if (!rows)
        return -ENOMEM;
    list->rows = rows;
    list->capacity = capacity;
    return 0;
}

static int read_link(void *context, const mcf_netlink_message *message)
{
    struct list *list = context;
    struct ifinfomsg link;
    memcpy(&link, message->fixed, sizeof link);
    int error = make_room(list);
    if (error)
        return error;

    struct mcf_interface_address *row = &list->rows[list->count];
    memset(row, 0, sizeof *row);
    row->index = (uint32_t)link.ifi_index;
    row->flags = mcf_link_flags(link.ifi_flags);
    if (link.ifi_index <= 0 || mcf_netlink_attribute(message, IFLA_IFNAME, row->name, IF_NAMESIZE - 1) <= 0 ||
        mcf_netlink_attribute(message, IFLA_MTU, &row->mtu, sizeof row->mtu) < 0)
        return -EBADMSG;
    list->count++;
    return 0;
}

/* The link of that index, or NULL. The kernel tells addresses in the order of links, so that the next is near. */
static const struct mcf_interface_address *find_link(struct list *list, uint32_t index)
{
    for (size_t step = 0; step < list->links; step++) {
        size_t at = (list->last + step) % list->links;
        if (list->rows[at].index == index) {
            list->last = at;
            return &list->rows[at];
        }
    }
    return NULL;
}

static int read_address(void *context, const mcf_netlink_message *message)
{
    struct list *list = context;
    struct ifaddrmsg address;
    memcpy(&address, message->fixed, sizeof address);
    size_t width = address.ifa_family == AF_INET    ? sizeof(struct in_addr)
                   : address.ifa_family == AF_INET6 ? sizeof(struct in6_addr)
                                                    : 0;
    if (width == 0)
        return 0;
    int error = make_room(list);
    if (error)
        return error;
    const struct mcf_interface_address *link = find_link(list, address.ifa_index);
    if (!link)
        return 0;

    struct mcf_interface_address *row = &list->rows[list->count];
    *row = *link;
    row->family = address.ifa_family;
    row->prefix = address.ifa_prefixlen;
    /* Where there are both, IFA_ADDRESS is the peer's. */
    int size = mcf_netlink_attribute(message, IFA_LOCAL, row->address, width);
    if (size == 0)
        size = mcf_netlink_attribute(message, IFA_ADDRESS, row->address, width);
    if (size != (int)width || row->prefix > width * 8)
        return -EBADMSG;
    list->count++;
    return 0;
}

/* Appends what a request without operands is answered with. 0 or minus errno. */
static int dump(struct list *list, uint16_t question, uint16_t answer, size_t fixed, mcf_netlink_reader read)
{
    struct {
        struct nlmsghdr header;
        struct rtgenmsg family;
    } request;
    memset(&request, 0, sizeof request);
    request.header.nlmsg_len = sizeof request;
    request.header.nlmsg_type = question;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.family.rtgen_family = AF_UNSPEC;

    size_t kept = list->count;
    int result, dumps = 0;
    do {
        list->count = kept;
        result = mcf_netlink_ask(&request.header, answer, fixed, read, list);
    } while (result > 0 && ++dumps < DUMPS);
    return result < 0 ? result : 0;
}

int mcf_interface_enumerate(struct mcf_interface_address **rows)
{
    struct list list = {.rows = NULL};
    *rows = NULL;
    int error = dump(&list, RTM_GETLINK, RTM_NEWLINK, sizeof(struct ifinfomsg), read_link);
    if (!error) {
        list.links = list.count;
        error = dump(&list, RTM_GETADDR, RTM_NEWADDR, sizeof(struct ifaddrmsg), read_address);
    }
    if (error) {
        free(list.rows);
        return error;
    }
    *rows = list.rows;
    return (int)list.count;
}
