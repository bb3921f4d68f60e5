/* The "packet" engine: batches lie where the kernel wrote them, in the blocks of a packet ring (mcf_ring.h). */
#ifndef MCF_PACKET_H
#define MCF_PACKET_H

#include "mcf_io.h"

/* An arena holds rows of one block, and holds the block; when fewer than a quarter of the blocks are left, datagrams
 * are copied into the arena instead. It only receives, and needs CAP_NET_RAW. */
extern const mcf_engine mcf_packet_engine;

#endif
