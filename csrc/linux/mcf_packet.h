/* The "packet" engine: batches lie where the kernel wrote them, in the blocks of a packet ring (mcf_ring.h). */
#ifndef MCF_PACKET_H
#define MCF_PACKET_H

#include "mcf_io.h"

/* What lies in a block is described by arenas that have columns alone, and hold the block; when fewer than a quarter of
 * the blocks are left, datagrams are copied into arenas of the receiver's pool instead. It only receives, and needs
 * CAP_NET_RAW. */
extern const mcf_engine mcf_packet_engine;

#endif
