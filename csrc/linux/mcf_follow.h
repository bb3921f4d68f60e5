/* The short way for the next datagram of a stream, and what it shares with mcf_frame.c. Inline, for every datagram of a
 * packet ring passes here. */
#ifndef MCF_FOLLOW_H
#define MCF_FOLLOW_H

#include <stdint.h>
#include <string.h>

#include "linux/mcf_frame.h"

enum {
    MCF_IPV4_HEADER = 20,
    MCF_IPV6_HEADER = 40,
    MCF_UDP_HEADER = 8,
};

static inline uint16_t mcf_read16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint64_t mcf_read_word(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* True when the sum over data and its checksum field is all ones, in either byte order. */
static inline int mcf_sums_up(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum == 0xffff;
}

/* The twenty bytes of an IPv4 header without options. */
static inline int mcf_ipv4_header_is_good(const uint8_t *ip)
{
    uint64_t first = mcf_read_word(ip), second = mcf_read_word(ip + 8);
    uint32_t last;
    memcpy(&last, ip + 16, sizeof last);
    return mcf_sums_up((first & 0xffffffff) + (first >> 32) + (second & 0xffffffff) + (second >> 32) + last);
}

/* The UDP checksum over `length` bytes from the UDP header on; one that is absent is good for IPv4 only. */
int mcf_frame_checksum_is_good(const mcf_frame *frame, int is_ipv6, const uint8_t *udp, uint32_t length);

/* From the UDP header at `offset` on, in an IP packet that ends at `end`. *found changes with MCF_FRAME_DATAGRAM only.
 */
static inline mcf_frame_verdict mcf_frame_read_udp(const mcf_frame *frame, uint32_t offset, uint32_t end, int is_ipv6,
                                                   mcf_frame_datagram *found)
{
    const uint8_t *udp = frame->data + offset;
    if (end < offset + MCF_UDP_HEADER)
        return MCF_FRAME_MALFORMED;
    if (frame->captured < offset + MCF_UDP_HEADER)
        return MCF_FRAME_CUT;
    uint32_t length = mcf_read16(udp + 4);
    if (is_ipv6 && length == 0) /* a jumbogram (RFC 2675) has no length; Linux takes the packet's at any size */
        length = end - offset;
    if (length < MCF_UDP_HEADER || length > end - offset)
        return MCF_FRAME_MALFORMED;
    if (frame->captured < offset + length)
        return MCF_FRAME_CUT;
    if (frame->checksum == MCF_CHECKSUM_UNKNOWN && !frame->segment &&
        !mcf_frame_checksum_is_good(frame, is_ipv6, udp, length))
        return MCF_FRAME_BAD_CHECKSUM;
    found->source_port = mcf_read16(udp);
    found->destination_port = mcf_read16(udp + 2);
    found->offset = offset + MCF_UDP_HEADER;
    found->length = length - MCF_UDP_HEADER;
    found->segment = frame->segment < found->length ? frame->segment : 0;
    return MCF_FRAME_DATAGRAM;
}

/* What the datagrams of a stream have in common of the first eight bytes, where the lengths and IPv4's identification
 * lie, and of the second, where its checksum lies. */
static const uint8_t mcf_ipv4_mask[] = {0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff};
static const uint8_t mcf_ipv6_mask[] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff};

static inline uint64_t mcf_difference(const uint8_t *left, const uint8_t *right)
{
    return mcf_read_word(left) ^ mcf_read_word(right);
}

static inline int mcf_ipv4_is_alike(const uint8_t *ip, const uint8_t *other)
{
    return !((mcf_difference(ip, other) & mcf_read_word(mcf_ipv4_mask)) |
             (mcf_difference(ip + 8, other + 8) & mcf_read_word(mcf_ipv4_mask + 8)) |
             mcf_difference(ip + 16, other + 16)); /* the ports, too */
}

static inline int mcf_ipv6_is_alike(const uint8_t *ip, const uint8_t *other)
{
    return !((mcf_difference(ip, other) & mcf_read_word(mcf_ipv6_mask)) | mcf_difference(ip + 8, other + 8) |
             mcf_difference(ip + 16, other + 16) | mcf_difference(ip + 24, other + 24) |
             mcf_difference(ip + 32, other + 32)) &&
           !memcmp(ip + MCF_IPV6_HEADER, other + MCF_IPV6_HEADER, 4); /* the ports */
}

/* The short way for the next datagram of a stream: `before` is the frame that *found was read from. Returns 1 when this
 * one is of the same stream, from IP version to UDP ports, and as good; then offset, length and segment are set anew,
 * and the rest holds for both. Returns 0, and *found stays, for everything that has to be read in full. */
static inline int mcf_frame_follow(int family, const mcf_frame *frame, const mcf_frame *before,
                                   mcf_frame_datagram *found)
{
    int is_ipv6 = family == 6;
    uint32_t header = is_ipv6 ? MCF_IPV6_HEADER : MCF_IPV4_HEADER;
    const uint8_t *ip = frame->data;
    if (found->offset != header + MCF_UDP_HEADER || frame->captured < header + MCF_UDP_HEADER ||
        !(is_ipv6 ? mcf_ipv6_is_alike(ip, before->data)
                  : mcf_ipv4_is_alike(ip, before->data) && mcf_ipv4_header_is_good(ip)))
        return 0;
    uint32_t end = is_ipv6 ? header + (uint32_t)mcf_read16(ip + 4) : mcf_read16(ip + 2);
    return end <= frame->length && mcf_frame_read_udp(frame, header, end, is_ipv6, found) == MCF_FRAME_DATAGRAM;
}

#endif
