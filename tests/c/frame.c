/* The parser of packets: what it makes of each kind, and that no damaged packet leads it outside its bytes. Run under
 * AddressSanitizer: each packet lies in memory of exactly its size. */
#include "linux/mcf_stream.h"

#include <string.h>

#include "race.h"

enum { MUTATIONS = 400000, ROOM = 256 };

typedef struct {
    uint8_t bytes[ROOM];
    uint32_t length;
} packet;

static void add(packet *to, const void *bytes, uint32_t count)
{
    memcpy(to->bytes + to->length, bytes, count);
    to->length += count;
}

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint16_t sum_of(uint32_t sum, const uint8_t *bytes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static packet udp_of(const uint8_t *addresses, uint32_t size, const char *payload)
{
    packet udp = {{0xc0, 0x01, 0x13, 0x88}, 8};
    add(&udp, payload, (uint32_t)strlen(payload));
    put16(udp.bytes + 4, udp.length);
    uint32_t pseudo = sum_of(17 + udp.length, addresses, size);
    put16(udp.bytes + 6, (uint16_t)~sum_of(pseudo, udp.bytes, udp.length));
    return udp;
}

static void finish_ipv4(packet *ip)
{
    uint32_t header = (ip->bytes[0] & 15u) * 4;
    put16(ip->bytes + 10, 0);
    put16(ip->bytes + 10, (uint16_t)~sum_of(0, ip->bytes, header));
}

static packet ipv4(const char *payload, uint32_t options)
{
    packet ip = {{0x45, 0xb8, 0, 0, 0, 7, 0, 0, 9, 17, 0, 0, 10, 0, 0, 7, 239, 1, 2, 3, 0x94, 4}, 20 + options};
    packet udp = udp_of(ip.bytes + 12, 8, payload);
    ip.bytes[0] = (uint8_t)(0x45 + options / 4);
    add(&ip, udp.bytes, udp.length);
    put16(ip.bytes + 2, ip.length);
    finish_ipv4(&ip);
    return ip;
}

static packet ipv6(const char *payload, uint8_t first, const char *extensions, uint32_t size)
{
    packet ip = {{0x6b, 0x80, 0, 0, 0, 0, 0, 9, 0xfd, 1, [23] = 7, 0xff, 0x15, [39] = 3}, 40};
    packet udp = udp_of(ip.bytes + 8, 32, payload);
    ip.bytes[6] = first;
    add(&ip, extensions, size);
    add(&ip, udp.bytes, udp.length);
    put16(ip.bytes + 4, ip.length - 40);
    return ip;
}

static uint8_t is_loopback; /* of the device by which packets come in */

/* In memory that ends where the packet does. */
static mcf_frame_verdict read_as(const packet *ip, int family, uint32_t captured, uint8_t checksum, uint16_t segment,
                                 mcf_frame_datagram *found)
{
    uint8_t *bytes = malloc(captured ? captured : 1);
    CHECK(bytes);
    memcpy(bytes, ip->bytes, captured);
    mcf_frame frame = {bytes, captured, ip->length, segment, checksum, is_loopback};
    mcf_frame_verdict verdict = mcf_frame_read(family, &frame, found);
    if (verdict == MCF_FRAME_DATAGRAM) {
        CHECK(found->offset <= captured && found->length <= captured - found->offset);
        CHECK(!found->segment || found->segment < found->length);
    }
    free(bytes);
    return verdict;
}

static mcf_frame_verdict read(const packet *ip, mcf_frame_datagram *found)
{
    return read_as(ip, ip->bytes[0] >> 4, ip->length, MCF_CHECKSUM_UNKNOWN, 0, found);
}

static mcf_frame_verdict verdict_of(const packet *ip)
{
    mcf_frame_datagram found;
    return read(ip, &found);
}

static void reads_ipv4(void)
{
    static const uint8_t source[16] = {[10] = 0xff, 0xff, 10, 0, 0, 7};
    static const uint8_t destination[16] = {[10] = 0xff, 0xff, 239, 1, 2, 3};
    mcf_frame_datagram found;
    for (uint32_t options = 0; options <= 40; options += 4) {
        packet ip = ipv4("datagram", options);
        CHECK(read(&ip, &found) == MCF_FRAME_DATAGRAM);
        CHECK(found.offset == 28 + options && found.length == 8 && found.segment == 0);
        CHECK(!memcmp(found.source, source, 16) && !memcmp(found.destination, destination, 16));
        CHECK(found.source_port == 0xc001 && found.destination_port == 5000);
        CHECK(found.hops == 9 && found.tos == 0xb8);
    }
    packet empty = ipv4("", 0);
    CHECK(read(&empty, &found) == MCF_FRAME_DATAGRAM && found.length == 0);
}

static void reads_ipv6(void)
{
    static const char hop[] = {17, 0, 1, 4, 0, 0, 0, 0};
    static const char two[] = {60, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0};
    static const char atomic[] = {17, 0, 0, 0, 0, 0, 0, 9};
    const struct {
        uint8_t first;
        const char *extensions;
        uint32_t size;
    } kinds[] = {{17, "", 0}, {0, hop, 8}, {60, hop, 8}, {0, two, 24}, {44, atomic, 8}};
    mcf_frame_datagram found;
    for (uint32_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        packet ip = ipv6("datagram", kinds[i].first, kinds[i].extensions, kinds[i].size);
        CHECK(read(&ip, &found) == MCF_FRAME_DATAGRAM);
        CHECK(found.offset == 48 + kinds[i].size && found.length == 8);
        CHECK(!memcmp(found.source, ip.bytes + 8, 16) && !memcmp(found.destination, ip.bytes + 24, 16));
        CHECK(found.hops == 9 && found.tos == 0xb8);
    }
    static const uint8_t others[] = {43, 51, 58};
    for (uint32_t i = 0; i < sizeof others; i++) { /* at once, and behind what is followed */
        const char before[] = {(char)others[i], 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0};
        packet first = ipv6("datagram", others[i], hop, 8), later = ipv6("datagram", 60, before, sizeof before);
        CHECK(verdict_of(&first) == MCF_FRAME_NOT_UDP && verdict_of(&later) == MCF_FRAME_NOT_UDP);
    }
    packet group_source = ipv6("datagram", 17, "", 0);
    group_source.bytes[8] = 0xff;
    CHECK(verdict_of(&group_source) == MCF_FRAME_MALFORMED);
}

static void refuses_scopes(void)
{
    mcf_frame_datagram found;
    for (is_loopback = 0; is_loopback < 2; is_loopback++) {
        for (uint32_t flags_and_scope = 0; flags_and_scope < 256; flags_and_scope++) {
            uint32_t scope = flags_and_scope & 15;
            int is_refused = scope == 0 || (scope == 1 && !is_loopback);
            packet ip = ipv6("datagram", 17, "", 0);
            ip.bytes[25] = (uint8_t)flags_and_scope;
            CHECK(read_as(&ip, 6, ip.length, MCF_CHECKSUM_VALID, 0, &found) ==
                  (is_refused ? MCF_FRAME_MALFORMED : MCF_FRAME_DATAGRAM));
            ip.bytes[24] = 0xfd; /* a host, whose address has no scope there */
            CHECK(read_as(&ip, 6, ip.length, MCF_CHECKSUM_VALID, 0, &found) == MCF_FRAME_DATAGRAM);
        }
    }
    is_loopback = 0;
}

static void refuses_ipv4(void)
{
    packet ip = ipv4("datagram", 0);
    ip.bytes[6] = 0x40; /* do not fragment */
    finish_ipv4(&ip);
    CHECK(verdict_of(&ip) == MCF_FRAME_DATAGRAM);
    ip.bytes[9] = 6;
    finish_ipv4(&ip);
    CHECK(verdict_of(&ip) == MCF_FRAME_NOT_UDP);
    ip.bytes[8]--; /* and a bad sum */
    CHECK(verdict_of(&ip) == MCF_FRAME_NOT_UDP);
    ip = ipv4("datagram", 0);
    ip.bytes[12] = 239; /* from a group */
    finish_ipv4(&ip);
    CHECK(verdict_of(&ip) == MCF_FRAME_MALFORMED);
    ip = ipv4("datagram", 0);
    put16(ip.bytes + 24, 17); /* a UDP length past the packet */
    CHECK(verdict_of(&ip) == MCF_FRAME_MALFORMED);
    put16(ip.bytes + 24, 7);
    CHECK(verdict_of(&ip) == MCF_FRAME_MALFORMED);
    put16(ip.bytes + 2, ip.length + 1);
    finish_ipv4(&ip);
    CHECK(verdict_of(&ip) == MCF_FRAME_MALFORMED);
}

/* Whose it is, is known of what is left out, too: of a datagram in fragments by its first. */
static void tells_whose_it_is(const packet *ip, mcf_frame_verdict verdict)
{
    static const uint8_t four[16] = {[10] = 0xff, 0xff, 239, 1, 2, 3}, six[16] = {0xff, 0x15, [15] = 3};
    mcf_frame_datagram found = {0};
    CHECK(read(ip, &found) == verdict);
    CHECK(!memcmp(found.destination, ip->bytes[0] >> 4 == 4 ? four : six, 16));
    CHECK(found.source[15] == 7 && found.source_port == 0xc001 && found.destination_port == 5000);
}

static void reads_what_is_left_out(void)
{
    static const char first[] = {60, 0, 0, 1, 0, 0, 0, 9, 17, 0, 1, 4, 0, 0, 0, 0};
    packet ip = ipv4("datagram", 4);
    ip.bytes[ip.length - 1]++;
    tells_whose_it_is(&ip, MCF_FRAME_BAD_CHECKSUM);
    ip.bytes[8]--; /* and of the header */
    tells_whose_it_is(&ip, MCF_FRAME_BAD_CHECKSUM);
    ip.bytes[6] = 0x20; /* more fragments */
    tells_whose_it_is(&ip, MCF_FRAME_BAD_CHECKSUM);
    finish_ipv4(&ip);
    tells_whose_it_is(&ip, MCF_FRAME_FRAGMENT);
    ip.bytes[7] = 3;
    CHECK(verdict_of(&ip) == MCF_FRAME_LATER_FRAGMENT);
    ip.bytes[6] = 0; /* the last */
    finish_ipv4(&ip);
    CHECK(verdict_of(&ip) == MCF_FRAME_LATER_FRAGMENT);

    ip = ipv6("datagram", 17, "", 0);
    ip.bytes[ip.length - 1]++;
    tells_whose_it_is(&ip, MCF_FRAME_BAD_CHECKSUM);
    ip = ipv6("datagram", 44, first, sizeof first);
    tells_whose_it_is(&ip, MCF_FRAME_FRAGMENT);
    for (uint32_t left = 1; left <= 16; left++) { /* the kernel leaves out one without all headers */
        put16(ip.bytes + 4, ip.length - 40 - left);
        CHECK(verdict_of(&ip) == (left <= 8 ? MCF_FRAME_FRAGMENT : MCF_FRAME_MALFORMED));
    }
    ip = ipv6("datagram", 44, first, sizeof first);
    ip.bytes[43] = 9;
    CHECK(verdict_of(&ip) == MCF_FRAME_LATER_FRAGMENT);
    ip.bytes[43] = 8;
    CHECK(verdict_of(&ip) == MCF_FRAME_LATER_FRAGMENT);
    ip.bytes[40] = 58;
    ip.bytes[43] = 1;
    CHECK(verdict_of(&ip) == MCF_FRAME_NOT_UDP);
}

static void ignores_what_follows(void)
{
    mcf_frame_datagram found;
    packet ip = ipv4("datagram", 0);
    ip.length += 18; /* Ethernet pads short frames */
    CHECK(read(&ip, &found) == MCF_FRAME_DATAGRAM && found.length == 8);
}

static void checks_sums(void)
{
    mcf_frame_datagram found;
    char payload[100] = {0};
    for (uint32_t length = 0; length < sizeof payload - 1; length++) {
        packet four = ipv4(payload, 0), six = ipv6(payload, 17, "", 0);
        CHECK(verdict_of(&four) == MCF_FRAME_DATAGRAM && verdict_of(&six) == MCF_FRAME_DATAGRAM);
        four.bytes[four.length - 1] ^= 0x20;
        six.bytes[six.length - 1] ^= 0x20;
        CHECK(verdict_of(&four) == MCF_FRAME_BAD_CHECKSUM && verdict_of(&six) == MCF_FRAME_BAD_CHECKSUM);
        CHECK(read_as(&four, 4, four.length, MCF_CHECKSUM_VALID, 0, &found) == MCF_FRAME_DATAGRAM);
        CHECK(read_as(&six, 6, six.length, MCF_CHECKSUM_UNFINISHED, 0, &found) == MCF_FRAME_DATAGRAM);
        put16(four.bytes + 26, 0);
        put16(six.bytes + 46, 0);
        CHECK(verdict_of(&four) == MCF_FRAME_DATAGRAM);
        for (uint8_t checksum = MCF_CHECKSUM_UNKNOWN; checksum <= MCF_CHECKSUM_UNFINISHED; checksum++)
            CHECK(read_as(&six, 6, six.length, checksum, 0, &found) == MCF_FRAME_BAD_CHECKSUM);
        payload[length] = (char)('a' + length % 26);
    }
}

static void reads_trains(void)
{
    mcf_frame_datagram found;
    packet ip = ipv4("aaaabbbbcc", 0);
    CHECK(read_as(&ip, 4, ip.length, MCF_CHECKSUM_UNFINISHED, 4, &found) == MCF_FRAME_DATAGRAM);
    CHECK(found.length == 10 && found.segment == 4);
    CHECK(read_as(&ip, 4, ip.length, MCF_CHECKSUM_UNFINISHED, 10, &found) == MCF_FRAME_DATAGRAM);
    CHECK(found.segment == 0);
    packet six = ipv6("aaaabbbbcc", 17, "", 0);
    CHECK(read_as(&six, 6, six.length, MCF_CHECKSUM_UNFINISHED, 4, &found) == MCF_FRAME_DATAGRAM);
    put16(six.bytes + 46, 0);
    CHECK(read_as(&six, 6, six.length, MCF_CHECKSUM_UNFINISHED, 4, &found) == MCF_FRAME_BAD_CHECKSUM);
}

static void tells_what_is_cut(void)
{
    mcf_frame_datagram found;
    packet four = ipv4("datagram", 8), six = ipv6("datagram", 0, "\x11\0\1\4\0\0\0", 8);
    for (uint32_t captured = 0; captured < four.length; captured++)
        CHECK(read_as(&four, 4, captured, MCF_CHECKSUM_UNKNOWN, 0, &found) == MCF_FRAME_CUT);
    for (uint32_t captured = 0; captured < six.length; captured++)
        CHECK(read_as(&six, 6, captured, MCF_CHECKSUM_UNKNOWN, 0, &found) == MCF_FRAME_CUT);
}

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)random_state * limit >> 32);
}

/* The short way finds what the long one does, and leaves everything else to it. What it does not look at, whether it is
 * a train and, where that is unknown, the UDP checksum, is looked at here as the packet engine does. */
static int follow(const packet *before, const packet *ip, uint32_t captured, uint8_t checksum, uint16_t segment,
                  mcf_frame_verdict verdict, const mcf_frame_datagram *found)
{
    int family = before->bytes[0] >> 4;
    mcf_frame first = {before->bytes, before->length, before->length, 0, MCF_CHECKSUM_UNKNOWN, is_loopback};
    mcf_frame_datagram known;
    mcf_stream stream;
    CHECK(mcf_frame_read(family, &first, &known) == MCF_FRAME_DATAGRAM);
    mcf_stream_begin(&stream, family, &first, &known);
    if (!stream.headers)
        return 0;
    uint8_t *bytes = malloc(captured ? captured : 1);
    CHECK(bytes);
    memcpy(bytes, ip->bytes, captured);
    int32_t length = mcf_stream_next(&stream, bytes, captured);
    int followed =
        length >= 0 && !segment && (checksum != MCF_CHECKSUM_UNKNOWN || mcf_stream_sum_is_good(&stream, bytes, length));
    if (followed) {
        known.length = (uint32_t)length;
        CHECK(verdict == MCF_FRAME_DATAGRAM && !memcmp(&known, found, sizeof known));
    }
    free(bytes);
    return followed;
}

static void follows_streams(void)
{
    const packet firsts[] = {ipv4("one datagram", 0), ipv6("one datagram", 17, "", 0)};
    const packet nexts[] = {ipv4("the next", 0), ipv6("the next", 17, "", 0)};
    const packet strangers[] = {ipv4("the next", 4), ipv6("the next", 60, "\x11\0\1\4\0\0\0", 8)};
    mcf_frame_datagram found;
    for (uint32_t i = 0; i < 2; i++) {
        CHECK(read(&nexts[i], &found) == MCF_FRAME_DATAGRAM);
        CHECK(follow(&firsts[i], &nexts[i], nexts[i].length, MCF_CHECKSUM_UNKNOWN, 0, MCF_FRAME_DATAGRAM, &found));
        CHECK(follow(&nexts[i], &nexts[i], nexts[i].length, MCF_CHECKSUM_UNKNOWN, 0, MCF_FRAME_DATAGRAM, &found));
        CHECK(!follow(&firsts[i], &strangers[i], strangers[i].length, MCF_CHECKSUM_UNKNOWN, 0, MCF_FRAME_DATAGRAM,
                      &found));
        CHECK(read(&strangers[i], &found) == MCF_FRAME_DATAGRAM);
        CHECK(!follow(&strangers[i], &strangers[i], strangers[i].length, MCF_CHECKSUM_VALID, 0, MCF_FRAME_DATAGRAM,
                      &found));
        CHECK(!follow(&strangers[i], &nexts[i], nexts[i].length, MCF_CHECKSUM_UNKNOWN, 0, MCF_FRAME_DATAGRAM, &found));
        CHECK(read(&nexts[i], &found) == MCF_FRAME_DATAGRAM);
        packet unsummed = nexts[i];
        put16(unsummed.bytes + (i ? 46 : 26), 0);
        mcf_frame_verdict its_verdict = read_as(&unsummed, i ? 6 : 4, unsummed.length, MCF_CHECKSUM_VALID, 0, &found);
        CHECK(follow(&firsts[i], &unsummed, unsummed.length, MCF_CHECKSUM_VALID, 0, its_verdict, &found) == !i);
        CHECK(read(&nexts[i], &found) == MCF_FRAME_DATAGRAM);
        for (uint32_t at = 0; at < nexts[i].length; at++) { /* whatever differs, it is not taken for what it is not */
            packet other = nexts[i];
            other.bytes[at] ^= 1;
            mcf_frame_datagram its = found;
            mcf_frame_verdict verdict = read_as(&other, i ? 6 : 4, other.length, MCF_CHECKSUM_UNKNOWN, 0, &its);
            (void)follow(&firsts[i], &other, other.length, MCF_CHECKSUM_UNKNOWN, 0, verdict, &its);
        }
    }
}

/* Bytes changed, length changed, cut short; half of them with a header checksum that lets them go on. */
static void survives_damage(void)
{
    static const char chain[] = {60, 0, 1, 4, 0, 0, 0, 0, 60, 0, 1, 4, 0,  0, 0, 0, 44, 1, 1, 12,
                                 0,  0, 0, 0, 0, 0, 0, 0, 0,  0, 0, 0, 17, 0, 0, 0, 0,  0, 0, 0};
    const packet seeds[] = {ipv4("some datagram", 0), ipv4("some datagram", 40), ipv6("some datagram", 17, "", 0),
                            ipv6("some datagram", 0, chain, sizeof chain)};
    uint32_t verdicts[MCF_FRAME_CUT + 1] = {0}, followed = 0;
    mcf_frame_datagram found;
    for (uint32_t turn = 0; turn < MUTATIONS; turn++) {
        uint32_t seed = turn % 4;
        packet ip = seeds[seed];
        for (uint32_t changes = random_below(5); changes; changes--)
            ip.bytes[random_below(random_below(2) ? 12 : ip.length)] = (uint8_t)random_below(256);
        uint32_t captured = random_below(4) ? ip.length : random_below(ip.length + 1);
        if (random_below(4) == 0)
            ip.length = random_below(2 * ip.length);
        if (captured > ip.length)
            captured = ip.length;
        if (seed < 2 && random_below(2))
            finish_ipv4(&ip);
        uint16_t segment = random_below(4) ? 0 : (uint16_t)random_below(20);
        uint8_t checksum = (uint8_t)random_below(3);
        mcf_frame_verdict verdict = read_as(&ip, seed < 2 ? 4 : 6, captured, checksum, segment, &found);
        verdicts[verdict]++;
        followed += (uint32_t)follow(&seeds[seed < 3 ? seed : 2], &ip, captured, checksum, segment, verdict, &found);
    }
    CHECK(followed > 0);
    for (int verdict = 0; verdict <= MCF_FRAME_CUT; verdict++)
        CHECK(verdicts[verdict] > 0);
}

int main(void)
{
    reads_ipv4();
    reads_ipv6();
    refuses_scopes();
    refuses_ipv4();
    reads_what_is_left_out();
    ignores_what_follows();
    checks_sums();
    reads_trains();
    tells_what_is_cut();
    follows_streams();
    survives_damage();
    puts("ok");
    return 0;
}
