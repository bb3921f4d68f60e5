/* The programs for packet sockets, run here: they let through what the exact check accepts, and at each coarser level
 * no less. The kernel takes them, too. */
#define _GNU_SOURCE
#include "linux/mcf_bpf.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "race.h"

enum { ROUNDS = 300, FRAMES = 300, MOST_MEMBERS = 40, MOST_SOURCES = 5, PORT = 5000, ETHERNET = 14 };

typedef struct {
    uint8_t bytes[128];
    uint32_t length;
    uint32_t network; /* where the IP header is */
    uint32_t interface_index;
    uint32_t type;
    uint32_t device;
} packet;

/* Reads as the kernel does; a read outside the packet ends the program with 0. */
static int fetch(const packet *from, uint32_t k, uint32_t size, uint32_t *value)
{
    if (k == (uint32_t)SKF_AD_OFF + SKF_AD_PKTTYPE)
        return *value = from->type, 1;
    if (k == (uint32_t)SKF_AD_OFF + SKF_AD_IFINDEX)
        return *value = from->interface_index, 1;
    if (k == (uint32_t)SKF_AD_OFF + SKF_AD_HATYPE)
        return *value = from->device, 1;
    if (k >= (uint32_t)SKF_NET_OFF)
        k = k - (uint32_t)SKF_NET_OFF + from->network;
    if (k + size > from->length)
        return 0;
    *value = 0;
    for (uint32_t i = 0; i < size; i++)
        *value = *value << 8 | from->bytes[k + i];
    return 1;
}

static uint32_t run(const mcf_bpf_program *program, const packet *from)
{
    uint32_t a = 0, x = 0, memory[BPF_MEMWORDS], stored = 0;
    for (uint32_t at = 0;; at++) {
        CHECK(at < program->length);
        const struct sock_filter *step = &program->code[at];
        uint32_t size = BPF_SIZE(step->code) == BPF_W ? 4 : BPF_SIZE(step->code) == BPF_H ? 2 : 1;
        int is_true = 0;
        switch (step->code) {
        case BPF_LD | BPF_ABS | BPF_W:
        case BPF_LD | BPF_ABS | BPF_H:
        case BPF_LD | BPF_ABS | BPF_B:
            if (!fetch(from, step->k, size, &a))
                return 0;
            break;
        case BPF_LD | BPF_IND | BPF_H:
            if (!fetch(from, step->k + x, size, &a))
                return 0;
            break;
        case BPF_LDX | BPF_B | BPF_MSH:
            if (!fetch(from, step->k, 1, &x))
                return 0;
            x = (x & 15) * 4;
            break;
        case BPF_ST:
            CHECK(step->k < BPF_MEMWORDS);
            memory[step->k] = a;
            stored |= 1u << step->k;
            break;
        case BPF_LD | BPF_MEM:
            CHECK(step->k < BPF_MEMWORDS && stored >> step->k & 1);
            a = memory[step->k];
            break;
        case BPF_JMP | BPF_JA:
            at += step->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
        case BPF_JMP | BPF_JGE | BPF_K:
        case BPF_JMP | BPF_JSET | BPF_K:
            is_true = BPF_OP(step->code) == BPF_JEQ   ? a == step->k
                      : BPF_OP(step->code) == BPF_JGE ? a >= step->k
                                                      : (a & step->k) != 0;
            at += is_true ? step->jt : step->jf;
            break;
        case BPF_RET | BPF_K:
            return step->k;
        default:
            CHECK(!"an instruction that no program here uses");
        }
    }
}

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)random_state * limit >> 32);
}

/* Few values, so that they meet; of IPv6 groups some differ in their first words only. */
static void pick_group(int family, uint8_t group[16])
{
    memset(group, 0, 16);
    if (family == 4) {
        memcpy(group, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xef\1\2", 15);
    } else {
        memcpy(group, "\xff\x15", 2);
        group[2 + random_below(10)] = (uint8_t)random_below(2);
    }
    group[15] = (uint8_t)random_below(30);
}

static void pick_source(int family, uint8_t source[16])
{
    memset(source, 0, 16);
    if (family == 4)
        memcpy(source, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a", 13);
    else
        memcpy(source, "\xfd\1", 2);
    source[family == 4 ? 14 : 5] = (uint8_t)random_below(2);
    source[15] = (uint8_t)random_below(4);
}

static mcf_member members[MOST_MEMBERS];
static uint8_t sources[MOST_MEMBERS][MOST_SOURCES][16];

static uint32_t pick_members(int family)
{
    uint32_t count = 0, wanted = random_below(MOST_MEMBERS + 1);
    while (wanted--) {
        mcf_member *member = &members[count];
        pick_group(family, member->group);
        member->interface_index = 1 + random_below(3);
        member->is_exclude = (uint8_t)random_below(2);
        member->source_count = random_below(MOST_SOURCES + 1);
        member->sources = (const uint8_t (*)[16])sources[count];
        for (uint32_t i = 0; i < member->source_count; i++)
            pick_source(family, sources[count][i]);
        uint32_t known = 0;
        while (known < count && (members[known].interface_index != member->interface_index ||
                                 memcmp(members[known].group, member->group, 16)))
            known++;
        count += known == count;
    }
    return count;
}

static packet make(int family, const uint8_t source[16], const uint8_t group[16], uint32_t options)
{
    packet made = {.network = ETHERNET, .type = PACKET_MULTICAST, .device = ARPHRD_ETHER};
    uint8_t *ip = made.bytes + ETHERNET;
    made.bytes[12] = family == 4 ? ETH_P_IP >> 8 : ETH_P_IPV6 >> 8;
    made.bytes[13] = family == 4 ? ETH_P_IP & 255 : ETH_P_IPV6 & 255;
    if (family == 4) {
        ip[0] = (uint8_t)(0x45 + options);
        ip[9] = 17;
        memcpy(ip + 12, source + 12, 4);
        memcpy(ip + 16, group + 12, 4);
    } else {
        ip[0] = 0x60;
        ip[6] = 17;
        memcpy(ip + 8, source, 16);
        memcpy(ip + 24, group, 16);
    }
    uint8_t *udp = ip + (family == 4 ? 20 + options * 4 : 40);
    udp[2] = PORT >> 8;
    udp[3] = PORT & 255;
    made.length = (uint32_t)(udp + 8 - made.bytes);
    return made;
}

/* The same as it comes by a link with a header of its own of so many bytes, or none. */
static packet by_other_link(const packet *made, uint16_t device, uint32_t header)
{
    packet moved = *made;
    moved.device = device;
    moved.network = header;
    moved.length = made->length - ETHERNET + header;
    memset(moved.bytes, 0, sizeof moved.bytes);
    memcpy(moved.bytes + header, made->bytes + ETHERNET, made->length - ETHERNET);
    return moved;
}

/* The same with so many VLAN tags left in its link header. */
static packet with_tags(const packet *made, uint32_t tags)
{
    packet tagged = by_other_link(made, ARPHRD_ETHER, ETHERNET + 4 * tags);
    memcpy(tagged.bytes + 12 + 4 * tags, made->bytes + 12, 2);
    for (uint32_t tag = 0; tag < tags; tag++)
        memcpy(tagged.bytes + 12 + 4 * tag, "\x81\0\0\6", 4);
    return tagged;
}

static mcf_bpf_program programs[MCF_BPF_LEVELS];

static void build(int family, uint32_t count)
{
    for (int level = 0; level < MCF_BPF_LEVELS; level++)
        CHECK(mcf_bpf_members(&programs[level], family, PORT, members, count, level) == 0);
}

static int passes(const packet *made)
{
    return run(&programs[MCF_BPF_EXACT], made) != 0;
}

static void equals_the_exact_check(int family)
{
    uint32_t verdicts[2] = {0};
    for (int round = 0; round < ROUNDS; round++) {
        mcf_members set = {0};
        uint32_t count = pick_members(family);
        CHECK(mcf_members_set(&set, members, count) == 0);
        mcf_members_adopt(&set);
        build(family, count);
        for (int frame = 0; frame < FRAMES; frame++) {
            uint8_t source[16], group[16];
            pick_source(family, source);
            pick_group(family, group);
            packet made = make(family, source, group, random_below(11));
            made.interface_index = 1 + random_below(3);
            if (random_below(3) == 0)
                made = random_below(2) ? by_other_link(&made, ARPHRD_NONE, 0) : by_other_link(&made, ARPHRD_IPGRE, 4);
            else if (random_below(3) == 0)
                made = with_tags(&made, 1 + random_below(2));
            int is_ours = mcf_members_accept(&set, group, made.interface_index, source);
            verdicts[is_ours]++;
            for (int level = 0; level < MCF_BPF_LEVELS; level++) {
                uint32_t kept = run(&programs[level], &made);
                CHECK(kept == 0 || kept == 0xffffffff);
                CHECK(level == MCF_BPF_EXACT ? (kept != 0) == is_ours : kept != 0 || !is_ours);
            }
        }
        mcf_members_clear(&set);
    }
    CHECK(verdicts[0] > FRAMES && verdicts[1] > FRAMES);
}

static void sources_count(void)
{
    uint8_t group[16] = {0xff, 0x15, [15] = 1}, other[16] = {0xff, 0x15, [15] = 2};
    uint8_t listed[2][16] = {{0xfd, [15] = 9}, {0xfd, [15] = 1}}, unlisted[16] = {0xfd, [15] = 5};
    mcf_member entry = {.interface_index = 2, .source_count = 2, .sources = (const uint8_t (*)[16])listed};
    mcf_members set = {0};
    memcpy(entry.group, group, 16);
    CHECK(!mcf_members_accept(&set, group, 2, listed[0]));
    for (uint8_t is_exclude = 0; is_exclude < 2; is_exclude++) {
        entry.is_exclude = is_exclude;
        CHECK(mcf_members_set(&set, &entry, 1) == 0);
        CHECK(mcf_members_accept(&set, group, 2, listed[0]) == 0); /* as before */
        mcf_members_adopt(&set);
        CHECK(mcf_members_accept(&set, group, 2, listed[0]) == !is_exclude);
        CHECK(mcf_members_accept(&set, group, 2, listed[1]) == !is_exclude);
        CHECK(mcf_members_accept(&set, group, 2, unlisted) == is_exclude);
        CHECK(!mcf_members_accept(&set, group, 1, unlisted) && !mcf_members_accept(&set, group, 1, listed[0]));
        CHECK(!mcf_members_accept(&set, other, 2, unlisted) && !mcf_members_accept(&set, other, 2, listed[0]));
        CHECK(mcf_members_set(&set, &entry, 0) == 0);
        mcf_members_adopt(&set);
        CHECK(!mcf_members_accept(&set, group, 2, unlisted) && !mcf_members_accept(&set, group, 2, listed[0]));
    }
    mcf_members_clear(&set);
}

/* One member, and a datagram for it that is then changed. */
static packet ours(int family)
{
    uint8_t source[16], group[16];
    pick_source(family, source);
    pick_group(family, group);
    members[0] = (mcf_member){.interface_index = 2, .is_exclude = 1};
    memcpy(members[0].group, group, 16);
    build(family, 1);
    packet made = make(family, source, group, 0);
    made.interface_index = 2;
    CHECK(passes(&made));
    return made;
}

static void keeps_others_out(int family)
{
    packet made = ours(family), changed = made;
    build(family, 0);
    CHECK(!passes(&made));
    build(family, 1);
    changed.type = PACKET_OTHERHOST;
    CHECK(!passes(&changed));
    changed = made;
    changed.bytes[made.length - 5]++; /* the port */
    CHECK(!passes(&changed));
    changed = made;
    changed.bytes[ETHERNET + (family == 4 ? 9 : 6)] = 6; /* TCP */
    CHECK(!passes(&changed));
    changed = made;
    changed.length = made.length - 5; /* no port */
    CHECK(!passes(&changed));
    changed = made;
    changed.interface_index = 1;
    CHECK(!passes(&changed) && !run(&programs[MCF_BPF_ANY_SOURCE], &changed));
    CHECK(run(&programs[MCF_BPF_ANY_INTERFACE], &changed));
    changed.bytes[ETHERNET + (family == 4 ? 19 : 39)]++;
    CHECK(!run(&programs[MCF_BPF_ANY_INTERFACE], &changed) && run(&programs[MCF_BPF_ANY_GROUP], &changed));
    changed.bytes[ETHERNET + (family == 4 ? 16 : 24)] = 10;
    CHECK(!run(&programs[MCF_BPF_ANY_GROUP], &changed));
}

static void lets_first_fragments_in(void)
{
    packet made = ours(4);
    made.bytes[ETHERNET + 6] = 0x20;
    CHECK(passes(&made));
    made.bytes[ETHERNET + 7] = 1;
    CHECK(!passes(&made));

    made = ours(6);
    memmove(made.bytes + ETHERNET + 48, made.bytes + ETHERNET + 40, 8);
    memcpy(made.bytes + ETHERNET + 40, "\x11\0\0\1\0\0\0\7", 8);
    made.bytes[ETHERNET + 6] = 44;
    made.length += 8;
    CHECK(passes(&made));
    packet changed = made;
    changed.bytes[ETHERNET + 43] = 9;
    CHECK(!passes(&changed));
    changed = made;
    changed.bytes[ETHERNET + 51]++;
    CHECK(!passes(&changed));
}

static const uint8_t extensions[] = {0, 60}, refused[] = {43, 51}; /* behind routing and AH nothing is taken */

/* Behind extension headers the port is out of reach; the group and the source are not. */
static void lets_extensions_in(void)
{
    packet made = ours(6);
    for (uint32_t i = 0; i < sizeof extensions; i++) {
        made.bytes[ETHERNET + 6] = extensions[i];
        CHECK(passes(&made));
        packet other = made;
        other.bytes[ETHERNET + 39]++;
        CHECK(!passes(&other));
    }
    for (uint32_t i = 0; i < sizeof refused; i++) {
        made.bytes[ETHERNET + 6] = refused[i];
        CHECK(!passes(&made));
    }
}

/* With another link header only the IP header is read: the port may be one of others, or out of reach. */
static void keeps_others_out_by_the_ip_header(packet made, int family)
{
    uint32_t next = made.network + (family == 4 ? 9 : 6);
    uint32_t group = made.network + (family == 4 ? 16 : 24), last = made.network + (family == 4 ? 19 : 39);
    packet changed = made;
    CHECK(passes(&made));
    changed.length -= 8;
    CHECK(passes(&changed));
    changed = made;
    changed.bytes[made.length - 5]++; /* the port */
    CHECK(passes(&changed));
    changed = made;
    changed.type = PACKET_OTHERHOST;
    CHECK(!passes(&changed));
    for (int level = 0; level < MCF_BPF_LEVELS; level++) {
        changed = made;
        changed.bytes[next] = 6; /* TCP */
        CHECK(!run(&programs[level], &changed));
        changed = made;
        changed.bytes[group] = 10; /* unicast */
        CHECK(!run(&programs[level], &changed));
        changed = made;
        changed.bytes[last]++;
        CHECK((run(&programs[level], &changed) != 0) == (level == MCF_BPF_ANY_GROUP));
        changed = made;
        changed.interface_index = 1;
        CHECK((run(&programs[level], &changed) != 0) == (level >= MCF_BPF_ANY_INTERFACE));
    }
}

static void keeps_others_out_of_other_links(int family)
{
    packet ethernet = ours(family);
    keeps_others_out_by_the_ip_header(by_other_link(&ethernet, ARPHRD_NONE, 0), family);
    for (uint32_t tags = 1; tags <= 2; tags++)
        keeps_others_out_by_the_ip_header(with_tags(&ethernet, tags), family);
}

/* Fragments of IPv6 have their place behind the IP header. */
static void knows_fragments_without_ethernet(void)
{
    packet ethernet = ours(4), made = by_other_link(&ethernet, ARPHRD_NONE, 0);
    made.bytes[6] = 0x20;
    CHECK(passes(&made));
    made.bytes[7] = 1;
    CHECK(!passes(&made));
    ethernet = ours(6);
    made = by_other_link(&ethernet, ARPHRD_NONE, 0);
    made.bytes[6] = 44;
    CHECK(passes(&made));
    for (uint32_t i = 0; i < sizeof extensions; i++) {
        made.bytes[6] = extensions[i];
        CHECK(passes(&made));
    }
    for (uint32_t i = 0; i < sizeof refused; i++) {
        made.bytes[6] = refused[i];
        CHECK(!passes(&made));
    }
}

static void companion_takes_the_rest(int family)
{
    packet made = ours(family);
    mcf_bpf_program companion;
    mcf_bpf_companion(&companion, family);
    CHECK(!run(&companion, &made));
    made.type = PACKET_LOOPBACK;
    CHECK(run(&companion, &made));
    made.type = PACKET_HOST;
    made.bytes[ETHERNET + (family == 4 ? 16 : 24)] = 10;
    CHECK(run(&companion, &made));
    if (family == 4) {
        memset(made.bytes + ETHERNET + 16, 255, 4);
        CHECK(run(&companion, &made));
    }
}

static int finest_level(int family, const mcf_member *some, uint32_t count)
{
    int fd = socket(family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0), level = MCF_BPF_EXACT;
    CHECK(fd >= 0);
    while (mcf_bpf_members(&programs[0], family, PORT, some, count, level) || mcf_bpf_attach(fd, &programs[0]))
        CHECK(++level < MCF_BPF_LEVELS);
    close(fd);
    return level;
}

/* Of sets that are too large for one program the finest that fits is attached. */
static void is_as_exact_as_the_kernel_allows(int family)
{
    enum { MANY = 8000 };
    static const uint32_t counts[] = {3, 300, 735, MANY};
    static uint8_t listed[10][16];
    int fd = socket(family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
    mcf_member *many = calloc(MANY, sizeof *many);
    CHECK(fd >= 0 && many);
    for (uint32_t i = 0; i < MANY; i++) {
        pick_group(family, many[i].group);
        many[i].group[14] = (uint8_t)(i / 3 >> 8);
        many[i].group[15] = (uint8_t)(i / 3);
        many[i].interface_index = 1 + i % 3;
        many[i].sources = (const uint8_t (*)[16])listed;
        many[i].source_count = 10;
    }
    if (family == 6) /* whose groups must be the same on the three interfaces */
        for (uint32_t i = 0; i < MANY; i++)
            memcpy(many[i].group, many[i / 3 * 3].group, 16);
    for (uint32_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        int finest = finest_level(family, many, counts[i]);
        CHECK(mcf_bpf_attach_members(fd, family, PORT, many, counts[i]) == finest);
        CHECK(mcf_bpf_attach_members(fd, family, PORT, many, counts[i]) == finest); /* in the place of its like */
        CHECK(counts[i] < MANY || finest == MCF_BPF_ANY_GROUP);
        CHECK(counts[i] > 3 || finest == MCF_BPF_EXACT);
    }
    CHECK(mcf_bpf_attach_members(fd, family, PORT, NULL, 0) == MCF_BPF_EXACT);
    mcf_bpf_companion(&programs[0], family);
    CHECK(mcf_bpf_attach(fd, &programs[0]) == 0);
    programs[0].length = 0;
    CHECK(mcf_bpf_attach(fd, &programs[0]) == -EINVAL);
    free(many);
    close(fd);
    CHECK(mcf_bpf_attach_members(fd, family, PORT, NULL, 0) == -EBADF);
}

int main(void)
{
    sources_count();
    for (int family = 4; family <= 6; family += 2) {
        equals_the_exact_check(family);
        keeps_others_out(family);
        keeps_others_out_of_other_links(family);
        companion_takes_the_rest(family);
        is_as_exact_as_the_kernel_allows(family);
    }
    lets_first_fragments_in();
    lets_extensions_in();
    knows_fragments_without_ethernet();
    puts("ok");
    return 0;
}
