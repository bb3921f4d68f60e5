/* What rows of interfaces are made of wherever there is <net/if.h>. */
#ifndef MCF_LINK_H
#define MCF_LINK_H

#include <stdint.h>

/* The MCF_IF_* of a link's IFF_*. */
uint32_t mcf_link_flags(unsigned int flags);

#endif
