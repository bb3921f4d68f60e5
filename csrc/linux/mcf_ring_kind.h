/* What the packets of a stream have in common in a ring, beside their datagrams (mcf_stream.h). Inline, for every
 * datagram passes here. */
#ifndef MCF_RING_KIND_H
#define MCF_RING_KIND_H

#include "linux/mcf_ring_step.h"

/* Where their parts lie, what the kernel says of them, where they came in. */
typedef struct {
    uint32_t places; /* tp_mac and tp_net */
    uint32_t status; /* of MCF_RING_KIND */
    uint32_t interface_index;
    uint16_t mac, net;
} mcf_ring_kind;

#define MCF_RING_KIND (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID | TP_STATUS_TS_RAW_HARDWARE)

static inline uint32_t mcf_ring_places(const uint8_t *packet)
{
    uint32_t places;
    memcpy(&places, &mcf_ring_header(packet)->tp_mac, sizeof places);
    return places;
}

static inline mcf_ring_kind mcf_ring_kind_of(const uint8_t *packet)
{
    const struct tpacket3_hdr *header = mcf_ring_header(packet);
    return (mcf_ring_kind){
        .places = mcf_ring_places(packet),
        .status = header->tp_status & MCF_RING_KIND,
        .interface_index = mcf_ring_interface(packet),
        .mac = header->tp_mac,
        .net = header->tp_net,
    };
}

/* Whether the packet is of that kind, and no train. */
static inline int mcf_ring_is_of_kind(const uint8_t *packet, const mcf_ring_kind *kind)
{
    return mcf_ring_places(packet) == kind->places &&
           !((mcf_ring_header(packet)->tp_status ^ kind->status) & MCF_RING_KIND) &&
           mcf_ring_interface(packet) == kind->interface_index &&
           mcf_ring_virtual(packet, kind->mac)[offsetof(mcf_ring_virtual_header, gso_type)] != MCF_RING_GSO_UDP_L4;
}

#endif
