/* The interface of a route: a connected UDP socket, which sends nothing, has the address that the system would send
 * from, and one interface has that. */
#define _DARWIN_C_SOURCE
#include "mcf_interface.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef union {
    struct sockaddr any;
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
} address;

/* In place of the destination, the address to send from. 0 or -errno. */
static int find_source(address *name, socklen_t size)
{
    int error = 0;
    int fd = socket(name->any.sa_family, SOCK_DGRAM, 0);
    if (fd < 0)
        return -errno;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (connect(fd, &name->any, size) < 0 || getsockname(fd, &name->any, &size) < 0)
        error = -errno;
    close(fd);
    return error;
}

/* The index of the interface that has the address; an address that none has, or several have, makes no sense. */
static int find_interface(int family, const uint8_t *source, size_t size)
{
    struct mcf_interface_address *rows;
    int count = mcf_interface_enumerate(&rows);
    if (count < 0)
        return count;
    int found = -EBADMSG;
    for (int i = 0; i < count; i++) {
        if (rows[i].family != family || memcmp(rows[i].address, source, size) != 0)
            continue;
        if (found > 0 && found != (int)rows[i].index) {
            found = -EBADMSG;
            break;
        }
        found = (int)rows[i].index;
    }
    mcf_interface_free(rows);
    return found;
}

int mcf_route_interface(int family, const uint8_t *destination)
{
    address name;
    memset(&name, 0, sizeof name);
    if (family == AF_INET) {
        name.ipv4.sin_family = AF_INET;
        name.ipv4.sin_port = htons(9);
        memcpy(&name.ipv4.sin_addr, destination, sizeof name.ipv4.sin_addr);
        int error = find_source(&name, sizeof name.ipv4);
        return error ? error : find_interface(family, (const uint8_t *)&name.ipv4.sin_addr, 4);
    }
    if (family == AF_INET6) {
        name.ipv6.sin6_family = AF_INET6;
        name.ipv6.sin6_port = htons(9);
        memcpy(&name.ipv6.sin6_addr, destination, sizeof name.ipv6.sin6_addr);
        int error = find_source(&name, sizeof name.ipv6);
        if (error)
            return error;
        if (name.ipv6.sin6_scope_id)
            return (int)name.ipv6.sin6_scope_id;
        return find_interface(family, (const uint8_t *)&name.ipv6.sin6_addr, 16);
    }
    return -EAFNOSUPPORT;
}
