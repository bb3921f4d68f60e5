/* getifaddrs(3); the MTU by SIOCGIFMTU, netintro(4). */
#define _DARWIN_C_SOURCE
#include "mcf_interface.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "posix/mcf_link.h"

static uint32_t interface_mtu(const char *name, int descriptor)
{
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    if (ioctl(descriptor, SIOCGIFMTU, &request) < 0 || request.ifr_mtu < 0)
        return 0;
    return (uint32_t)request.ifr_mtu;
}

static uint8_t prefix_length(const uint8_t *mask, size_t size)
{
    uint8_t bits = 0;
    while (bits < size * CHAR_BIT && (mask[bits / CHAR_BIT] & (0x80u >> (bits % CHAR_BIT))))
        bits++;
    return bits;
}

/* 1 when the row was filled, 0 when its interface is gone. */
static int fill_row(struct mcf_interface_address *row, const struct ifaddrs *entry, int descriptor)
{
    unsigned int index = if_nametoindex(entry->ifa_name);
    if (!index)
        return 0;

    strncpy(row->name, entry->ifa_name, sizeof row->name - 1);
    row->index = index;
    row->flags = mcf_link_flags(entry->ifa_flags);
    row->mtu = interface_mtu(entry->ifa_name, descriptor);
    if (!entry->ifa_addr)
        return 1;

    size_t offset = 0;
    size_t size = 0;
    if (entry->ifa_addr->sa_family == AF_INET) {
        offset = offsetof(struct sockaddr_in, sin_addr);
        size = sizeof(struct in_addr);
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
        offset = offsetof(struct sockaddr_in6, sin6_addr);
        size = sizeof(struct in6_addr);
    } else {
        return 1;
    }
    row->family = entry->ifa_addr->sa_family;
    memcpy(row->address, (const uint8_t *)entry->ifa_addr + offset, size);
    if (entry->ifa_netmask)
        row->prefix = prefix_length((const uint8_t *)entry->ifa_netmask + offset, size);
    else
        row->prefix = (uint8_t)(size * CHAR_BIT);
    return 1;
}

int mcf_interface_enumerate(struct mcf_interface_address **rows)
{
    struct ifaddrs *entries = NULL;
    struct mcf_interface_address *filled = NULL;
    size_t capacity = 0;
    int count = 0, error = 0;
    *rows = NULL;
    int descriptor = socket(AF_INET, SOCK_DGRAM, 0);
    if (descriptor < 0)
        return -errno;
    fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    if (getifaddrs(&entries) < 0) {
        error = errno;
        goto done;
    }
    for (const struct ifaddrs *entry = entries; entry; entry = entry->ifa_next)
        capacity++;
    if (capacity == 0)
        goto done;
    filled = calloc(capacity, sizeof *filled);
    if (!filled || capacity > INT_MAX) {
        error = ENOMEM;
        goto done;
    }
    for (const struct ifaddrs *entry = entries; entry; entry = entry->ifa_next)
        count += fill_row(&filled[count], entry, descriptor);
    *rows = filled;
    filled = NULL;

done:
    free(filled);
    freeifaddrs(entries);
    close(descriptor);
    return error ? -error : count;
}
