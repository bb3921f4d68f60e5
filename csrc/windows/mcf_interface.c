/* GetAdaptersAddresses and GetBestInterfaceEx: iphlpapi.h. */
#include "mcf_interface.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "windows/mcf_windows.h"

#include <iphlpapi.h>

enum {
    FIRST_SIZE = 16384, /* bytes: what the documentation advises to begin with */
    TRIES = 8           /* adapters may come while the list grows */
};

/* Hands over the system's list, to be freed; NULL when it is empty. */
static int list_adapters(IP_ADAPTER_ADDRESSES **adapters)
{
    ULONG flags = GAA_FLAG_SKIP_ANYCAST | GAA_FLAG_SKIP_MULTICAST | GAA_FLAG_SKIP_DNS_SERVER;
    ULONG size = FIRST_SIZE;
    ULONG code = ERROR_BUFFER_OVERFLOW;
    for (int tries = 0; code == ERROR_BUFFER_OVERFLOW && tries < TRIES; tries++) {
        free(*adapters);
        *adapters = malloc(size);
        if (!*adapters)
            return -ENOMEM;
        code = GetAdaptersAddresses(AF_UNSPEC, flags, NULL, *adapters, &size);
    }
    if (!code)
        return 0;
    free(*adapters);
    *adapters = NULL;
    return code == ERROR_NO_DATA ? 0 : code == ERROR_NOT_ENOUGH_MEMORY ? -ENOMEM : -EIO;
}

/* The list holds adapters that are switched on, whether or not their link carries. */
static uint32_t portable_flags(const IP_ADAPTER_ADDRESSES *adapter)
{
    int is_point_to_point = adapter->IfType == IF_TYPE_PPP || adapter->IfType == IF_TYPE_TUNNEL;
    return MCF_IF_UP | (adapter->OperStatus == IfOperStatusUp ? MCF_IF_RUNNING : 0) |
           (adapter->Flags & IP_ADAPTER_NO_MULTICAST ? 0 : MCF_IF_MULTICAST) |
           (adapter->IfType == IF_TYPE_SOFTWARE_LOOPBACK ? MCF_IF_LOOPBACK : 0) |
           (is_point_to_point ? MCF_IF_POINTOPOINT : 0);
}

/* 1, or 0 for a family that is neither. */
static int fill_address(struct mcf_interface_address *row, const IP_ADAPTER_UNICAST_ADDRESS *address)
{
    const mcf_name *name = (const mcf_name *)address->Address.lpSockaddr;
    row->family = name->any.sa_family;
    uint8_t most = row->family == AF_INET ? 32 : 128;
    /* 255 stands for one that is not known; such an address is alone on its link. */
    row->prefix = address->OnLinkPrefixLength <= most ? address->OnLinkPrefixLength : most;
    if (row->family == AF_INET)
        memcpy(row->address, &name->ipv4.sin_addr, 4);
    else if (row->family == AF_INET6)
        memcpy(row->address, &name->ipv6.sin6_addr, 16);
    else
        return 0;
    return 1;
}

/* One row for the adapter itself, and one for each of its addresses; 0 where it has no index. */
static int fill_rows(struct mcf_interface_address *rows, const IP_ADAPTER_ADDRESSES *adapter)
{
    int count = 1;
    /* They are the same, but each is 0 where the adapter does not speak that protocol. */
    rows->index = adapter->IfIndex ? adapter->IfIndex : adapter->Ipv6IfIndex;
    rows->flags = portable_flags(adapter);
    rows->mtu = adapter->Mtu <= INT_MAX ? adapter->Mtu : 0;
    if (!rows->index ||
        !WideCharToMultiByte(CP_UTF8, 0, adapter->FriendlyName, -1, rows->name, MCF_IF_NAME_SIZE - 1, NULL, NULL)) {
        memset(rows, 0, sizeof *rows);
        return 0;
    }
    for (const IP_ADAPTER_UNICAST_ADDRESS *at = adapter->FirstUnicastAddress; at; at = at->Next) {
        rows[count] = rows[0];
        count += fill_address(&rows[count], at);
    }
    memset(&rows[count], 0, sizeof rows[count]);
    return count;
}

int mcf_interface_enumerate(struct mcf_interface_address **rows)
{
    IP_ADAPTER_ADDRESSES *adapters = NULL;
    size_t capacity = 0;
    int count = 0;

    *rows = NULL;
    int error = list_adapters(&adapters);
    if (error)
        return error;
    for (const IP_ADAPTER_ADDRESSES *adapter = adapters; adapter; adapter = adapter->Next) {
        capacity++;
        for (const IP_ADAPTER_UNICAST_ADDRESS *at = adapter->FirstUnicastAddress; at; at = at->Next)
            capacity++;
    }
    *rows = calloc(capacity + 1, sizeof **rows);
    if (*rows && capacity <= INT_MAX) {
        for (const IP_ADAPTER_ADDRESSES *adapter = adapters; adapter; adapter = adapter->Next)
            count += fill_rows(*rows + count, adapter);
    } else {
        free(*rows);
        *rows = NULL;
        count = -ENOMEM;
    }
    free(adapters);
    return count;
}

void mcf_interface_free(struct mcf_interface_address *rows)
{
    free(rows);
}

int mcf_route_interface(int family, const uint8_t *destination)
{
    mcf_name name = {0};
    DWORD index = 0;
    if (family != AF_INET && family != AF_INET6)
        return -WSAEAFNOSUPPORT;
    name.any.sa_family = (ADDRESS_FAMILY)family;
    if (family == AF_INET)
        memcpy(&name.ipv4.sin_addr, destination, 4);
    else
        memcpy(&name.ipv6.sin6_addr, destination, 16);
    DWORD code = GetBestInterfaceEx(&name.any, &index);
    if (code == ERROR_NOT_SUPPORTED)
        return -WSAEAFNOSUPPORT;
    return !code && index && index <= INT_MAX ? (int)index : -WSAENETUNREACH;
}

/* Timestamps of devices are not among what this core reads here. */
int mcf_interface_stamps(const char *name)
{
    (void)name;
    return -WSAEOPNOTSUPP;
}
