/* Numbers and layouts that the tables of options.py, requests.py, packing.py and errors.py hold for a system, checked
 * against its own headers. `make check-platforms` makes facts.h from the tables, and links this with the C core. */
#define _GNU_SOURCE
#define _DARWIN_C_SOURCE
#define __APPLE_USE_RFC_3542
#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include "facts_headers.h"

#include "facts.h"

static_assert(sizeof(void *) == 8, "64 bits");
static_assert(sizeof(struct sockaddr_in) == 16 && sizeof(struct sockaddr_in6) == 28, "addresses");
static_assert(sizeof(struct sockaddr_storage) == 128, "room for an address");
static_assert(offsetof(struct sockaddr_in, sin_addr) == 4, "IPv4 address");
static_assert(offsetof(struct sockaddr_in6, sin6_addr) == 8, "IPv6 address");
static_assert(offsetof(struct ipv6_mreq, ipv6mr_interface) == 16, "index behind the group");

int main(void)
{
    return 0;
}
