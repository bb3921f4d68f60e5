/* A link's flags: netdevice(7). */
#define _DEFAULT_SOURCE  /* glibc, musl: IFF_* */
#define _DARWIN_C_SOURCE /* macOS: the same */
#include "mcf_link.h"

#include <net/if.h>
#include <stdlib.h>

#include "mcf_interface.h"

uint32_t mcf_link_flags(unsigned int flags)
{
    return ((flags & IFF_UP) ? MCF_IF_UP : 0) | ((flags & IFF_RUNNING) ? MCF_IF_RUNNING : 0) |
           ((flags & IFF_MULTICAST) ? MCF_IF_MULTICAST : 0) | ((flags & IFF_LOOPBACK) ? MCF_IF_LOOPBACK : 0) |
           ((flags & IFF_POINTOPOINT) ? MCF_IF_POINTOPOINT : 0);
}

void mcf_interface_free(struct mcf_interface_address *rows)
{
    free(rows);
}
