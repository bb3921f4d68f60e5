/* One IP packet as a packet socket sees it, read as the kernel's UDP would read it. Pure: no socket, no allocation, any
 * thread, every byte may be hostile. */
#ifndef MCF_FRAME_H
#define MCF_FRAME_H

#include <stdint.h>

/* What the kernel says about the UDP checksum: packet(7), TP_STATUS_CSUM_VALID and TP_STATUS_CSUMNOTREADY. */
enum {
    MCF_CHECKSUM_UNKNOWN,    /* ours to verify */
    MCF_CHECKSUM_VALID,      /* the device or the kernel did */
    MCF_CHECKSUM_UNFINISHED, /* the sender is on this host, and the sum never had to be finished */
};

typedef struct {
    const uint8_t *data; /* the IP header */
    uint32_t captured;   /* bytes at data */
    uint32_t length;     /* bytes on the wire, from the IP header on; more than captured when cut */
    uint16_t segment;    /* payload of each datagram of a train but the last; 0 = no train */
    uint8_t checksum;    /* MCF_CHECKSUM_* */
    uint8_t is_loopback; /* it came in by a loopback device */
} mcf_frame;

typedef enum {
    MCF_FRAME_DATAGRAM,
    MCF_FRAME_FRAGMENT, /* the first of a datagram, which the IP layer of this host puts together, the ring does not */
    MCF_FRAME_BAD_CHECKSUM, /* of the IPv4 header or of UDP */
    MCF_FRAME_LATER_FRAGMENT,
    MCF_FRAME_NOT_UDP,
    MCF_FRAME_MALFORMED, /* contradicts itself, or no receiver would get it */
    MCF_FRAME_CUT,       /* a datagram that the ring has only in part */
} mcf_frame_verdict;

/* A train is `length` bytes in pieces of `segment`, of which the last may be shorter; a lone datagram has segment 0. */
typedef struct {
    uint8_t source[16]; /* IPv6, or IPv4 mapped (::ffff:a.b.c.d) */
    uint8_t destination[16];
    uint16_t source_port; /* host order */
    uint16_t destination_port;
    uint8_t hops;
    uint8_t tos;
    uint16_t segment;
    uint32_t offset; /* of the payload, from frame->data; offset + length <= captured */
    uint32_t length;
} mcf_frame_datagram;

/* Reads one packet of the family (4 or 6). `found` is set in full with MCF_FRAME_DATAGRAM, its addresses and ports with
 * MCF_FRAME_FRAGMENT and MCF_FRAME_BAD_CHECKSUM, and undefined otherwise.
 *
 * As in the kernel: bytes after the IP length are padding, bytes after the UDP length are ignored, no checksum (0) is
 * fine over IPv4 and bad over IPv6 whatever frame->checksum says, a source that is a group is refused, and so is a
 * group of IPv6's scope 0 or, but over loopback, of one interface (scope 1). IPv4 options are skipped, not obeyed; IPv6
 * hop-by-hop, routing, destination and authentication headers likewise. What routing would refuse (rp_filter) passes.
 */
mcf_frame_verdict mcf_frame_read(int family, const mcf_frame *frame, mcf_frame_datagram *found);

#endif
