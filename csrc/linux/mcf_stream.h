/* The short way for the next datagram of a stream, and what it shares with mcf_frame.c. Inline, for every datagram of a
 * packet ring passes here. */
#ifndef MCF_STREAM_H
#define MCF_STREAM_H

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

/* True when the one's complement sum (RFC 1071) of some bytes and their checksum, not yet folded, is all ones. In
 * either byte order. */
static inline int mcf_sums_up(uint64_t sum)
{
    return sum && sum % 0xffff == 0;
}

/* The UDP checksum over `length` bytes from the UDP header on; one that is absent is good for IPv4 only. */
int mcf_frame_checksum_is_good(const uint8_t *ip, int is_ipv6, const uint8_t *udp, uint32_t length);

/* What the datagrams of a stream have in common, from IP version to UDP ports. */
typedef struct {
    uint64_t words[6]; /* of the headers; what belongs to each datagram is 0 */
    uint64_t sum;      /* of IPv4's words, as far as they are common; not yet folded */
    uint32_t headers;  /* bytes of IP and UDP; 0 = no other datagram is of this stream */
} mcf_stream;

/* Of the words: lengths, IPv4's identification and checksum, and UDP's checksum are each datagram's own. */
static const uint8_t mcf_ipv4_common[24] = {0xff, 0xff, 0,    0,    0,    0,    0xff, 0xff, 0xff, 0xff, 0,    0,
                                            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t mcf_ipv6_common[48] = {
    0xff, 0xff, 0xff, 0xff, 0,    0,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,    0,    0,    0,
};

static inline uint64_t mcf_common_word(int is_ipv6, const uint8_t *ip, int word)
{
    uint64_t value, mask;
    memcpy(&value, ip + 8 * word, sizeof value);
    memcpy(&mask, (is_ipv6 ? mcf_ipv6_common : mcf_ipv4_common) + 8 * word, sizeof mask);
    return value & mask;
}

/* The stream of this datagram, as mcf_frame_read found it. */
void mcf_stream_begin(mcf_stream *stream, int family, const mcf_frame *frame, const mcf_frame_datagram *found);

/* The bytes of payload, from ip + stream->headers on, when the packet of `captured` bytes at `ip` is of the same stream
 * and whole. Its UDP checksum is not verified. -1 for everything that has to be read in full. */
static inline int32_t mcf_stream_next(const mcf_stream *stream, const uint8_t *ip, uint32_t captured)
{
    int is_ipv6 = stream->headers == MCF_IPV6_HEADER + MCF_UDP_HEADER;
    if (captured < stream->headers)
        return -1;
    uint64_t difference = 0;
    for (int word = 0; word < (is_ipv6 ? 6 : 3); word++)
        difference |= mcf_common_word(is_ipv6, ip, word) ^ stream->words[word];
    uint32_t end = is_ipv6 ? MCF_IPV6_HEADER + (uint32_t)mcf_read16(ip + 4) : mcf_read16(ip + 2);
    uint32_t length = mcf_read16(ip + stream->headers - MCF_UDP_HEADER + 4); /* UDP's */
    if (difference || end > captured || length < MCF_UDP_HEADER || length + stream->headers - MCF_UDP_HEADER != end)
        return -1;
    if (!is_ipv6) {
        uint32_t lengths;
        uint16_t checksum;
        memcpy(&lengths, ip + 2, sizeof lengths); /* and identification */
        memcpy(&checksum, ip + 10, sizeof checksum);
        if (!mcf_sums_up(stream->sum + lengths + checksum))
            return -1;
    } else if (!mcf_read16(ip + MCF_IPV6_HEADER + 6)) { /* no checksum, whatever the kernel says of it */
        return -1;
    }
    return (int32_t)(length - MCF_UDP_HEADER);
}

/* The UDP checksum of the datagram that mcf_stream_next found. */
static inline int mcf_stream_sum_is_good(const mcf_stream *stream, const uint8_t *ip, int32_t length)
{
    const uint8_t *udp = ip + stream->headers - MCF_UDP_HEADER;
    return mcf_frame_checksum_is_good(ip, stream->headers > MCF_IPV6_HEADER, udp, (uint32_t)length + MCF_UDP_HEADER);
}

#endif
