/* A walk over the packets of a block of the ring. Inline, for every datagram passes here. */
#ifndef MCF_RING_STEP_H
#define MCF_RING_STEP_H

#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "linux/mcf_frame.h"

/* Where a walk over a block is. Packets are at most `left`. */
typedef struct {
    const uint8_t *at;
    uint32_t left;
} mcf_ring_cursor;

typedef struct {
    mcf_frame frame; /* frame.data lies in the block */
    uint32_t interface_index;
    int64_t timestamp; /* nanoseconds since the epoch, CLOCK_REALTIME */
    uint8_t is_hardware_time;
} mcf_ring_packet;

/* struct virtio_net_hdr of linux/virtio_net.h, whose older versions do not know trains of UDP. In the host's byte
 * order. */
typedef struct {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t header_length;
    uint16_t gso_size;
    uint16_t checksum_start;
    uint16_t checksum_offset;
} mcf_ring_virtual_header;

enum {
    MCF_RING_GSO_UDP_L4 = 5,
    MCF_RING_ADDRESS_AT = (sizeof(struct tpacket3_hdr) + TPACKET_ALIGNMENT - 1) / TPACKET_ALIGNMENT * TPACKET_ALIGNMENT,
};

/* What the kernel wrote a while ago is not in the processor's cache, and waiting for it would be most of the work: so
 * headers, which take 136 bytes of a packet over IPv4, are asked for so many packets before they are read. */
enum { MCF_RING_AHEAD = 16 };
static inline void mcf_ring_prefetch(const uint8_t *packet)
{
    __builtin_prefetch(packet);
    __builtin_prefetch(packet + 64);
    __builtin_prefetch(packet + 128);
}

static inline const struct tpacket3_hdr *mcf_ring_header(const uint8_t *packet)
{
    return (const void *)packet;
}

static inline const struct sockaddr_ll *mcf_ring_address(const uint8_t *packet)
{
    return (const void *)(packet + MCF_RING_ADDRESS_AT);
}

static inline uint32_t mcf_ring_interface(const uint8_t *packet)
{
    return (uint32_t)mcf_ring_address(packet)->sll_ifindex;
}

static inline int64_t mcf_ring_time(const uint8_t *packet)
{
    return (int64_t)mcf_ring_header(packet)->tp_sec * 1000000000 + mcf_ring_header(packet)->tp_nsec;
}

/* Bytes of it, from the IP header on. */
static inline uint32_t mcf_ring_captured(const uint8_t *packet)
{
    const struct tpacket3_hdr *header = mcf_ring_header(packet);
    uint32_t link = (uint32_t)(header->tp_net - header->tp_mac);
    return header->tp_snaplen > link ? header->tp_snaplen - link : 0;
}

static inline const uint8_t *mcf_ring_virtual(const uint8_t *packet, uint32_t mac)
{
    return packet + mac - sizeof(mcf_ring_virtual_header);
}

/* Behind the packet that the cursor is at. */
static inline void mcf_ring_advance(mcf_ring_cursor *cursor)
{
    uint32_t size = mcf_ring_header(cursor->at)->tp_next_offset;
    /* Packets of a stream are mostly of one size, and so lie this far apart. Into the next block the kernel may be
     * writing. */
    if (cursor->left > MCF_RING_AHEAD)
        mcf_ring_prefetch(cursor->at + (size_t)MCF_RING_AHEAD * size);
    cursor->at += size;
    cursor->left--;
}

/* 1 and the next packet, 0 after the last. */
static inline int mcf_ring_step(mcf_ring_cursor *cursor, mcf_ring_packet *packet)
{
    if (!cursor->left)
        return 0;
    const uint8_t *at = cursor->at;
    const struct tpacket3_hdr *header = mcf_ring_header(at);
    uint32_t status = header->tp_status, link = (uint32_t)(header->tp_net - header->tp_mac);
    mcf_ring_virtual_header virtual;
    memcpy(&virtual, mcf_ring_virtual(at, header->tp_mac), sizeof virtual);
    packet->frame.data = at + header->tp_net;
    packet->frame.captured = mcf_ring_captured(at);
    packet->frame.length = header->tp_len > link ? header->tp_len - link : 0;
    packet->frame.segment = virtual.gso_type == MCF_RING_GSO_UDP_L4 ? virtual.gso_size : 0;
    packet->frame.checksum = status & TP_STATUS_CSUMNOTREADY ? MCF_CHECKSUM_UNFINISHED
                             : status & TP_STATUS_CSUM_VALID ? MCF_CHECKSUM_VALID
                                                             : MCF_CHECKSUM_UNKNOWN;
    packet->frame.is_loopback = mcf_ring_address(at)->sll_hatype == ARPHRD_LOOPBACK;
    packet->interface_index = mcf_ring_interface(at);
    packet->timestamp = mcf_ring_time(at);
    packet->is_hardware_time = (status & TP_STATUS_TS_RAW_HARDWARE) != 0;
    mcf_ring_advance(cursor);
    return 1;
}

#endif
