/* IPv4: RFC 791. IPv6 and its extension headers: RFC 8200, 4302. UDP: RFC 768, 8200 section 8.1. */
#include "linux/mcf_frame.h"

#include <string.h>

enum {
    IPV4_HEADER = 20,
    IPV6_HEADER = 40,
    UDP_HEADER = 8,
    EXTENSIONS = 32, /* no sane packet has more; the length of the packet bounds the walk, too */
    HOP_BY_HOP = 0,
    PROTOCOL_UDP = 17,
    ROUTING = 43,
    FRAGMENT = 44,
    AUTHENTICATION = 51,
    DESTINATION = 60,
};

static uint16_t read16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

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

/* True when the sum over data and its checksum field is all ones, in either byte order. */
static int sums_up(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum == 0xffff;
}

static uint64_t add_number(uint64_t sum, uint16_t number)
{
    const uint8_t bytes[2] = {(uint8_t)(number >> 8), (uint8_t)number};
    return add_bytes(sum, bytes, sizeof bytes);
}

/* `addresses` is both of them, as they lie in the IP header. */
static int checksum_is_good(const uint8_t *addresses, uint32_t size, const uint8_t *udp, uint32_t length)
{
    uint64_t sum = add_bytes(0, addresses, size);
    sum = add_number(sum, PROTOCOL_UDP);
    sum = add_number(sum, (uint16_t)length);
    return sums_up(add_bytes(sum, udp, length));
}

/* From the UDP header at `offset` on, in an IP packet that ends at `end`. */
static mcf_frame_verdict read_udp(const mcf_frame *frame, uint32_t offset, uint32_t end, int is_ipv6,
                                  mcf_frame_datagram *found)
{
    const uint8_t *udp = frame->data + offset;
    if (end < offset + UDP_HEADER)
        return MCF_FRAME_MALFORMED;
    if (frame->captured < offset + UDP_HEADER)
        return MCF_FRAME_CUT;
    uint32_t length = read16(udp + 4);
    if (is_ipv6 && length == 0) /* a jumbogram (RFC 2675) has no length; Linux takes the packet's at any size */
        length = end - offset;
    if (length < UDP_HEADER || length > end - offset)
        return MCF_FRAME_MALFORMED;
    if (frame->captured < offset + length)
        return MCF_FRAME_CUT;
    if (frame->checksum == MCF_CHECKSUM_UNKNOWN && !frame->segment) {
        const uint8_t *addresses = frame->data + (is_ipv6 ? 8 : 12);
        int is_absent = read16(udp + 6) == 0;
        if (is_absent ? is_ipv6 : !checksum_is_good(addresses, is_ipv6 ? 32 : 8, udp, length))
            return MCF_FRAME_BAD_CHECKSUM;
    }
    found->source_port = read16(udp);
    found->destination_port = read16(udp + 2);
    found->offset = offset + UDP_HEADER;
    found->length = length - UDP_HEADER;
    found->segment = frame->segment < found->length ? frame->segment : 0;
    return MCF_FRAME_DATAGRAM;
}

static void map(uint8_t mapped[16], const uint8_t address[4])
{
    memset(mapped, 0, 10);
    memset(mapped + 10, 0xff, 2);
    memcpy(mapped + 12, address, 4);
}

static uint64_t load(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* The most common header has no options: twenty bytes, without a loop. */
static int header_is_good(const uint8_t *ip, uint32_t length)
{
    uint64_t first = load(ip), second = load(ip + 8);
    uint32_t last;
    if (length != IPV4_HEADER)
        return sums_up(add_bytes(0, ip, length));
    memcpy(&last, ip + 16, sizeof last);
    return sums_up((first & 0xffffffff) + (first >> 32) + (second & 0xffffffff) + (second >> 32) + last);
}

/* These two describe the IP header, and find where UDP begins and the packet ends. */
static mcf_frame_verdict read_ipv4(const mcf_frame *frame, uint32_t *offset, uint32_t *end, mcf_frame_datagram *found)
{
    const uint8_t *ip = frame->data;
    if (frame->captured < IPV4_HEADER)
        return frame->length < IPV4_HEADER ? MCF_FRAME_MALFORMED : MCF_FRAME_CUT;
    uint32_t header = (ip[0] & 0x0fu) * 4;
    *offset = header;
    *end = read16(ip + 2);
    if (ip[0] >> 4 != 4 || header < IPV4_HEADER || *end < header || *end > frame->length)
        return MCF_FRAME_MALFORMED;
    if (frame->captured < header)
        return MCF_FRAME_CUT;
    if (!header_is_good(ip, header))
        return MCF_FRAME_BAD_CHECKSUM;
    if (ip[9] != PROTOCOL_UDP)
        return MCF_FRAME_NOT_UDP;
    if (read16(ip + 6) & 0x3fff) /* more fragments, or not the first */
        return MCF_FRAME_FRAGMENT;
    if ((ip[12] & 0xf0) == 0xe0 || !memcmp(ip + 12, "\xff\xff\xff\xff", 4)) /* a group, broadcast */
        return MCF_FRAME_MALFORMED;
    map(found->source, ip + 12);
    map(found->destination, ip + 16);
    found->hops = ip[8];
    found->tos = ip[1];
    return MCF_FRAME_DATAGRAM;
}

/* Finds the UDP header: *offset is moved from the first extension header to it. */
static mcf_frame_verdict skip_extensions(const mcf_frame *frame, uint32_t end, uint8_t next, uint32_t *offset)
{
    for (int i = 0; i < EXTENSIONS; i++) {
        if (next == PROTOCOL_UDP)
            return MCF_FRAME_DATAGRAM;
        if (next != HOP_BY_HOP && next != ROUTING && next != DESTINATION && next != AUTHENTICATION && next != FRAGMENT)
            return MCF_FRAME_NOT_UDP;
        if (end < *offset + 8)
            return MCF_FRAME_MALFORMED;
        if (frame->captured < *offset + 8)
            return MCF_FRAME_CUT;
        const uint8_t *extension = frame->data + *offset;
        uint32_t size = next == AUTHENTICATION ? (extension[1] + 2u) * 4 : (extension[1] + 1u) * 8;
        if (next == FRAGMENT) {
            /* An atomic fragment (RFC 6946) is whole, and the kernel delivers it at once. */
            if (read16(extension + 2) & 0xfff9)
                return MCF_FRAME_FRAGMENT;
            size = 8;
        }
        next = extension[0];
        if (end - *offset < size)
            return MCF_FRAME_MALFORMED;
        *offset += size;
    }
    return MCF_FRAME_MALFORMED;
}

static mcf_frame_verdict read_ipv6(const mcf_frame *frame, uint32_t *offset, uint32_t *end, mcf_frame_datagram *found)
{
    const uint8_t *ip = frame->data;
    if (frame->captured < IPV6_HEADER)
        return frame->length < IPV6_HEADER ? MCF_FRAME_MALFORMED : MCF_FRAME_CUT;
    *offset = IPV6_HEADER;
    *end = IPV6_HEADER + (uint32_t)read16(ip + 4);
    if (ip[0] >> 4 != 6 || *end > frame->length || ip[8] == 0xff)
        return MCF_FRAME_MALFORMED;
    memcpy(found->source, ip + 8, 16);
    memcpy(found->destination, ip + 24, 16);
    found->hops = ip[7];
    found->tos = (uint8_t)(ip[0] << 4 | ip[1] >> 4);
    return skip_extensions(frame, *end, ip[6], offset);
}

mcf_frame_verdict mcf_frame_read(int family, const mcf_frame *frame, mcf_frame_datagram *found)
{
    uint32_t offset, end;
    int is_ipv6 = family == 6;
    mcf_frame_verdict verdict =
        is_ipv6 ? read_ipv6(frame, &offset, &end, found) : read_ipv4(frame, &offset, &end, found);
    return verdict == MCF_FRAME_DATAGRAM ? read_udp(frame, offset, end, is_ipv6, found) : verdict;
}

/* What the datagrams of a stream have in common of the first eight bytes, where the lengths and IPv4's identification
 * lie, and of the second, where its checksum lies. */
static const uint8_t ipv4_mask[] = {0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff};
static const uint8_t ipv6_mask[] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff};

static uint64_t difference(const uint8_t *left, const uint8_t *right)
{
    return load(left) ^ load(right);
}

static int is_ipv4_alike(const uint8_t *ip, const uint8_t *other)
{
    return !((difference(ip, other) & load(ipv4_mask)) | (difference(ip + 8, other + 8) & load(ipv4_mask + 8)) |
             difference(ip + 16, other + 16)); /* the ports, too */
}

static int is_ipv6_alike(const uint8_t *ip, const uint8_t *other)
{
    return !((difference(ip, other) & load(ipv6_mask)) | difference(ip + 8, other + 8) |
             difference(ip + 16, other + 16) | difference(ip + 24, other + 24) | difference(ip + 32, other + 32)) &&
           !memcmp(ip + IPV6_HEADER, other + IPV6_HEADER, 4); /* the ports */
}

int mcf_frame_follow(int family, const mcf_frame *frame, const mcf_frame *before, mcf_frame_datagram *found)
{
    int is_ipv6 = family == 6;
    uint32_t header = is_ipv6 ? IPV6_HEADER : IPV4_HEADER;
    const uint8_t *ip = frame->data;
    if (found->offset != header + UDP_HEADER || frame->captured < header + UDP_HEADER ||
        !(is_ipv6 ? is_ipv6_alike(ip, before->data) : is_ipv4_alike(ip, before->data) && header_is_good(ip, header)))
        return 0;
    uint32_t end = is_ipv6 ? header + (uint32_t)read16(ip + 4) : read16(ip + 2);
    mcf_frame_datagram next;
    if (end > frame->length || read_udp(frame, header, end, is_ipv6, &next) != MCF_FRAME_DATAGRAM)
        return 0;
    found->offset = next.offset;
    found->length = next.length;
    found->segment = next.segment;
    return 1;
}
