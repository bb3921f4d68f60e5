/* IPv4: RFC 791. IPv6 and its extension headers: RFC 8200. UDP: RFC 768, 8200 section 8.1. */
#include "linux/mcf_stream.h"

#include <string.h>

enum {
    EXTENSIONS = 32, /* no sane packet has more; the length of the packet bounds the walk, too */
    HOP_BY_HOP = 0,
    PROTOCOL_UDP = 17,
    FRAGMENT = 44,
    DESTINATION = 60,
};

/* The one's complement sum of RFC 1071, in host order and not yet folded. Four bytes at a time into 64 bits: compilers
 * make vectors of it, and nothing overflows below 16 GiB. */
static uint64_t add_bytes(uint64_t sum, const uint8_t *data, uint32_t length)
{
    uint32_t words = length / 4;
    for (uint32_t i = 0; i < words; i++) {
        uint32_t word;
        memcpy(&word, data + (size_t)i * 4, 4);
        sum += word;
    }
    if (length % 4) {
        uint8_t rest[4] = {0};
        uint32_t word;
        memcpy(rest, data + (size_t)words * 4, length % 4);
        memcpy(&word, rest, 4);
        sum += word;
    }
    return sum;
}

static uint64_t add_number(uint64_t sum, uint16_t number)
{
    const uint8_t bytes[2] = {(uint8_t)(number >> 8), (uint8_t)number};
    return add_bytes(sum, bytes, sizeof bytes);
}

int mcf_frame_checksum_is_good(const uint8_t *ip, int is_ipv6, const uint8_t *udp, uint32_t length)
{
    if (!mcf_read16(udp + 6))
        return !is_ipv6;
    uint64_t sum = is_ipv6 ? add_bytes(0, ip + 8, 32) : add_bytes(0, ip + 12, 8); /* the addresses */
    sum = add_number(sum, PROTOCOL_UDP);
    sum = add_number(sum, (uint16_t)length);
    return mcf_sums_up(add_bytes(sum, udp, length));
}

static void map(uint8_t mapped[16], const uint8_t address[4])
{
    memset(mapped, 0, 10);
    memset(mapped + 10, 0xff, 2);
    memcpy(mapped + 12, address, 4);
}

/* These two describe the IP header, and find where UDP begins and the packet ends. */
static mcf_frame_verdict read_ipv4(const mcf_frame *frame, uint32_t *offset, uint32_t *end, mcf_frame_datagram *found)
{
    const uint8_t *ip = frame->data;
    if (frame->captured < MCF_IPV4_HEADER)
        return frame->length < MCF_IPV4_HEADER ? MCF_FRAME_MALFORMED : MCF_FRAME_CUT;
    uint32_t header = (ip[0] & 0x0fu) * 4;
    *offset = header;
    *end = mcf_read16(ip + 2);
    if (ip[0] >> 4 != 4 || header < MCF_IPV4_HEADER || *end < header || *end > frame->length)
        return MCF_FRAME_MALFORMED;
    if (frame->captured < header)
        return MCF_FRAME_CUT;
    uint16_t place = mcf_read16(ip + 6) & 0x3fff;
    if (ip[9] != PROTOCOL_UDP)
        return MCF_FRAME_NOT_UDP;
    if (place & 0x1fff)
        return MCF_FRAME_LATER_FRAGMENT;
    map(found->source, ip + 12);
    map(found->destination, ip + 16);
    found->hops = ip[8];
    found->tos = ip[1];
    if (!mcf_sums_up(add_bytes(0, ip, header)))
        return MCF_FRAME_BAD_CHECKSUM;
    if ((ip[12] & 0xf0) == 0xe0 || !memcmp(ip + 12, "\xff\xff\xff\xff", 4)) /* a group, broadcast */
        return MCF_FRAME_MALFORMED;
    return place ? MCF_FRAME_FRAGMENT : MCF_FRAME_DATAGRAM; /* more follow, or it is whole */
}

/* Finds the UDP header, which a first fragment must have: *offset is moved from the first extension header to it.
 * Behind a routing header Linux takes nothing for a group (ipv6_rthdr_rcv in net/ipv6/exthdrs.c), and nobody has
 * verified what is behind an authentication header: neither is followed. */
static mcf_frame_verdict skip_extensions(const mcf_frame *frame, uint32_t end, uint8_t next, uint32_t *offset)
{
    mcf_frame_verdict verdict = MCF_FRAME_DATAGRAM;
    for (int i = 0; i < EXTENSIONS; i++) {
        if (next == PROTOCOL_UDP)
            return verdict;
        if (next != HOP_BY_HOP && next != DESTINATION && next != FRAGMENT)
            return MCF_FRAME_NOT_UDP;
        if (end < *offset + 8)
            return MCF_FRAME_MALFORMED;
        if (frame->captured < *offset + 8)
            return MCF_FRAME_CUT;
        const uint8_t *extension = frame->data + *offset;
        uint32_t size = (extension[1] + 1u) * 8;
        if (next == FRAGMENT) {
            uint16_t place = mcf_read16(extension + 2);
            if (place & 0xfff8)
                return MCF_FRAME_LATER_FRAGMENT;
            if (place & 1) /* else it is atomic (RFC 6946): whole, and the kernel delivers it at once */
                verdict = MCF_FRAME_FRAGMENT;
            size = 8;
        }
        next = extension[0];
        if (end - *offset < size)
            return MCF_FRAME_MALFORMED;
        *offset += size;
    }
    return MCF_FRAME_MALFORMED;
}

/* Of groups scope 0 is reserved, and 1 is this interface alone (RFC 4291 2.7, erratum 3480). */
static int is_out_of_scope(const mcf_frame *frame)
{
    uint32_t scope = frame->data[25] & 0x0fu;
    return frame->data[24] == 0xff && (scope == 0 || (scope == 1 && !frame->is_loopback));
}

static mcf_frame_verdict read_ipv6(const mcf_frame *frame, uint32_t *offset, uint32_t *end, mcf_frame_datagram *found)
{
    const uint8_t *ip = frame->data;
    if (frame->captured < MCF_IPV6_HEADER)
        return frame->length < MCF_IPV6_HEADER ? MCF_FRAME_MALFORMED : MCF_FRAME_CUT;
    *offset = MCF_IPV6_HEADER;
    *end = MCF_IPV6_HEADER + (uint32_t)mcf_read16(ip + 4);
    if (ip[0] >> 4 != 6 || *end > frame->length || ip[8] == 0xff || is_out_of_scope(frame))
        return MCF_FRAME_MALFORMED;
    memcpy(found->source, ip + 8, 16);
    memcpy(found->destination, ip + 24, 16);
    found->hops = ip[7];
    found->tos = (uint8_t)(ip[0] << 4 | ip[1] >> 4);
    return skip_extensions(frame, *end, ip[6], offset);
}

/* From the UDP header at `offset` on, in an IP packet that ends at `end`. Of what is left out the ports alone. */
static mcf_frame_verdict read_udp(const mcf_frame *frame, uint32_t offset, uint32_t end, int is_ipv6,
                                  mcf_frame_verdict verdict, mcf_frame_datagram *found)
{
    const uint8_t *udp = frame->data + offset;
    if (end < offset + MCF_UDP_HEADER)
        return MCF_FRAME_MALFORMED;
    if (frame->captured < offset + MCF_UDP_HEADER)
        return MCF_FRAME_CUT;
    found->source_port = mcf_read16(udp);
    found->destination_port = mcf_read16(udp + 2);
    if (verdict != MCF_FRAME_DATAGRAM)
        return verdict;
    uint32_t length = mcf_read16(udp + 4);
    if (is_ipv6 && length == 0) /* a jumbogram (RFC 2675) has no length; Linux takes the packet's at any size */
        length = end - offset;
    if (length < MCF_UDP_HEADER || length > end - offset)
        return MCF_FRAME_MALFORMED;
    if (frame->captured < offset + length)
        return MCF_FRAME_CUT;
    /* Over IPv6 every socket refuses a datagram without one, whoever looked at it before, and a train, too. */
    int is_missing = is_ipv6 && !mcf_read16(udp + 6);
    int is_unknown = frame->checksum == MCF_CHECKSUM_UNKNOWN && !frame->segment;
    if (is_missing || (is_unknown && !mcf_frame_checksum_is_good(frame->data, is_ipv6, udp, length)))
        return MCF_FRAME_BAD_CHECKSUM;
    found->offset = offset + MCF_UDP_HEADER;
    found->length = length - MCF_UDP_HEADER;
    found->segment = frame->segment < found->length ? frame->segment : 0;
    return MCF_FRAME_DATAGRAM;
}

mcf_frame_verdict mcf_frame_read(int family, const mcf_frame *frame, mcf_frame_datagram *found)
{
    uint32_t offset, end;
    int is_ipv6 = family == 6;
    mcf_frame_verdict verdict =
        is_ipv6 ? read_ipv6(frame, &offset, &end, found) : read_ipv4(frame, &offset, &end, found);
    switch (verdict) {
    case MCF_FRAME_DATAGRAM:
    case MCF_FRAME_FRAGMENT:
    case MCF_FRAME_BAD_CHECKSUM:
        return read_udp(frame, offset, end, is_ipv6, verdict, found);
    default:
        return verdict;
    }
}

void mcf_stream_begin(mcf_stream *stream, int family, const mcf_frame *frame, const mcf_frame_datagram *found)
{
    int is_ipv6 = family == 6;
    const uint8_t *ip = frame->data;
    uint32_t headers = (is_ipv6 ? MCF_IPV6_HEADER : MCF_IPV4_HEADER) + MCF_UDP_HEADER;
    stream->headers = found->offset == headers ? headers : 0; /* none with options or extension headers */
    if (!stream->headers)
        return;
    for (int word = 0; word < (is_ipv6 ? 6 : 3); word++)
        stream->words[word] = mcf_common_word(is_ipv6, ip, word);
    stream->sum = is_ipv6 ? 0 : add_bytes(0, (const uint8_t *)stream->words, MCF_IPV4_HEADER);
}
