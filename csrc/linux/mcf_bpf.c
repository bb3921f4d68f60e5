/* Classic BPF: the kernel's Documentation/networking/filter.rst. In a packet socket offsets count from the link header;
 * from SKF_NET_OFF on, from the IP header, which kernels before 6.16 read in the linear part of a packet only. */
#define _GNU_SOURCE
#include "linux/mcf_bpf.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    KEEP = -1, /* the whole packet */
    DROP = 0,
    IP = ETH_HLEN,
    IPV6_NEXT = IP + 6,
    IPV6_PAYLOAD = IP + 40,
    LEAF = 4, /* so few groups are looked through one by one */

    /* Words of scratch memory, by which members are found alike on every link. */
    KEPT_GROUP = 0,  /* of an IPv6 group all but the last, which is in the accumulator */
    KEPT_SOURCE = 3, /* one of IPv4, four of IPv6; only when a member has sources */
};

typedef struct {
    mcf_bpf_program *program;
    int is_ipv6;
    int level;
    int is_full;
    int has_sources;            /* which are looked at */
    const mcf_member **members; /* sorted by group */
} builder;

static uint32_t emit(builder *to, int code, uint32_t k, uint8_t if_true, uint8_t if_false)
{
    uint32_t at = to->program->length;
    if (at == BPF_MAXINSNS) {
        to->is_full = 1;
        return 0;
    }
    to->program->code[at] = (struct sock_filter){(uint16_t)code, if_true, if_false, k};
    to->program->length++;
    return at;
}

static void load(builder *to, int size, uint32_t offset)
{
    emit(to, BPF_LD | BPF_ABS | size, offset, 0, 0);
}

static void load_kept(builder *to, uint32_t place)
{
    emit(to, BPF_LD | BPF_MEM, place, 0, 0);
}

static void load_fact(builder *to, uint32_t fact)
{
    load(to, BPF_W, (uint32_t)SKF_AD_OFF + fact);
}

static void finish(builder *to, int verdict)
{
    emit(to, BPF_RET | BPF_K, (uint32_t)verdict, 0, 0);
}

/* Conditional jumps reach 255 instructions, so each skips an unconditional one, which reaches any. */
static uint32_t skip_unless(builder *to, int comparison, uint32_t k)
{
    emit(to, BPF_JMP | BPF_K | comparison, k, 1, 0);
    return emit(to, BPF_JMP | BPF_JA, 0, 0, 0);
}

static void land(builder *to, uint32_t jump)
{
    to->program->code[jump].k = to->program->length - jump - 1u;
}

static void drop_unless(builder *to, uint32_t k)
{
    emit(to, BPF_JMP | BPF_JEQ | BPF_K, k, 1, 0);
    finish(to, DROP);
}

static void drop_if_set(builder *to, uint32_t bits)
{
    emit(to, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
    finish(to, DROP);
}

static uint32_t word(const uint8_t address[16], int index)
{
    const uint8_t *at = address + index * 4;
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* The last word tells IPv4 groups apart, and nearly always those of IPv6. */
static uint32_t key(const mcf_member *member)
{
    return word(member->group, 3);
}

static int compare(const void *left, const void *right)
{
    const mcf_member *one = *(const mcf_member *const *)left, *other = *(const mcf_member *const *)right;
    if (key(one) != key(other))
        return key(one) < key(other) ? -1 : 1;
    return memcmp(one->group, other->group, sizeof one->group);
}

static void check_source(builder *to, const mcf_member *member)
{
    if (to->level >= MCF_BPF_ANY_SOURCE) {
        finish(to, KEEP);
        return;
    }
    if (!to->is_ipv6 && member->source_count)
        load_kept(to, KEPT_SOURCE);
    for (uint32_t i = 0; i < member->source_count; i++) {
        const uint8_t *source = member->sources[i];
        for (uint8_t part = 0; to->is_ipv6 && part < 4; part++) {
            load_kept(to, KEPT_SOURCE + part);
            emit(to, BPF_JMP | BPF_JEQ | BPF_K, word(source, part), 0, (uint8_t)((3 - part) * 2 + 1));
        }
        if (!to->is_ipv6)
            emit(to, BPF_JMP | BPF_JEQ | BPF_K, word(source, 3), 0, 1);
        finish(to, member->is_exclude ? DROP : KEEP);
    }
    finish(to, member->is_exclude ? KEEP : DROP);
}

/* Members [first, last) are one group on several interfaces. Every path ends with a verdict. */
static void check_interfaces(builder *to, uint32_t first, uint32_t last)
{
    if (to->level >= MCF_BPF_ANY_INTERFACE) {
        finish(to, KEEP);
        return;
    }
    load_fact(to, SKF_AD_IFINDEX);
    for (uint32_t i = first; i < last; i++) {
        uint32_t next = skip_unless(to, BPF_JEQ, to->members[i]->interface_index);
        check_source(to, to->members[i]);
        land(to, next);
    }
    finish(to, DROP);
}

static uint32_t end_of_group(const builder *to, uint32_t first, uint32_t last)
{
    uint32_t end = first + 1;
    while (end < last && !memcmp(to->members[end]->group, to->members[first]->group, 16))
        end++;
    return end;
}

/* Members [first, last) have one key. Every path ends with a verdict. */
static void check_groups(builder *to, uint32_t first, uint32_t last)
{
    for (uint32_t end; first < last; first = end) {
        end = end_of_group(to, first, last);
        uint32_t jumps[3] = {0};
        int parts = to->is_ipv6 ? 3 : 0;
        for (int part = 0; part < parts; part++) {
            load_kept(to, KEPT_GROUP + (uint32_t)part);
            jumps[part] = skip_unless(to, BPF_JEQ, word(to->members[first]->group, part));
        }
        check_interfaces(to, first, end);
        for (int part = 0; part < parts; part++)
            land(to, jumps[part]);
    }
    finish(to, DROP);
}

static uint32_t end_of_key(const builder *to, uint32_t first, uint32_t last)
{
    uint32_t end = first + 1;
    while (end < last && key(to->members[end]) == key(to->members[first]))
        end++;
    return end;
}

/* A binary search for the key in the accumulator among members [first, last). Every path ends with a verdict. */
static void search(builder *to, uint32_t first, uint32_t last)
{
    uint32_t middle = first + (last - first) / 2;
    while (middle > first && key(to->members[middle]) == key(to->members[middle - 1]))
        middle--;
    if (last - first > LEAF && middle > first) {
        uint32_t below = skip_unless(to, BPF_JGE, key(to->members[middle]));
        search(to, middle, last);
        land(to, below);
        search(to, first, middle);
        return;
    }
    for (uint32_t end; first < last; first = end) {
        end = end_of_key(to, first, last);
        uint32_t next = skip_unless(to, BPF_JEQ, key(to->members[first]));
        check_groups(to, first, end);
        land(to, next);
    }
    finish(to, DROP);
}

static void check_ipv4(builder *to, uint16_t port)
{
    load(to, BPF_B, IP + 9);
    drop_unless(to, IPPROTO_UDP);
    load(to, BPF_H, IP + 6);
    drop_if_set(to, 0x1fff);
    emit(to, BPF_LDX | BPF_B | BPF_MSH, IP, 0, 0);
    emit(to, BPF_LD | BPF_IND | BPF_H, IP + 2, 0, 0);
    drop_unless(to, port);
}

static void drop_unless_any(builder *to, const uint8_t *values, uint8_t count)
{
    for (uint8_t i = 0; i < count; i++)
        emit(to, BPF_JMP | BPF_JEQ | BPF_K, values[i], (uint8_t)(count - i), 0);
    finish(to, DROP);
}

static void check_ipv6(builder *to, uint16_t port)
{
    static const uint8_t extensions[] = {IPPROTO_HOPOPTS, IPPROTO_DSTOPTS};
    load(to, BPF_B, IPV6_NEXT);
    uint32_t other = skip_unless(to, BPF_JEQ, IPPROTO_UDP);
    load(to, BPF_H, IPV6_PAYLOAD + 2);
    drop_unless(to, port);
    uint32_t plain = emit(to, BPF_JMP | BPF_JA, 0, 0, 0);
    land(to, other);
    uint32_t whole = skip_unless(to, BPF_JEQ, IPPROTO_FRAGMENT);
    load(to, BPF_H, IPV6_PAYLOAD + 2);
    drop_if_set(to, 0xfff8);
    load(to, BPF_B, IPV6_PAYLOAD);
    uint32_t longer = skip_unless(to, BPF_JEQ, IPPROTO_UDP);
    load(to, BPF_H, IPV6_PAYLOAD + 8 + 2);
    drop_unless(to, port);
    uint32_t first = emit(to, BPF_JMP | BPF_JA, 0, 0, 0);
    land(to, whole);
    land(to, longer);
    drop_unless_any(to, extensions, sizeof extensions);
    land(to, plain);
    land(to, first);
}

/* On a link without an Ethernet header, or with a longer one: what the IP header tells. Kernels before 6.16 might not
 * see the port behind it, and a program that reads what they do not see drops the packet. */
static void check_ip_header(builder *to)
{
    static const uint8_t next[] = {IPPROTO_UDP, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS, IPPROTO_DSTOPTS};
    uint32_t ip = (uint32_t)SKF_NET_OFF;
    load(to, BPF_B, ip + (to->is_ipv6 ? 6 : 9));
    if (to->is_ipv6) {
        drop_unless_any(to, next, sizeof next);
    } else {
        drop_unless(to, IPPROTO_UDP);
        load(to, BPF_H, ip + 6);
        drop_if_set(to, 0x1fff);
    }
}

/* Keeps what members are found by, of the IP header at that offset. The last word of the group is in the accumulator
 * then. */
static void keep_words(builder *to, uint32_t ip)
{
    uint32_t source = ip + (to->is_ipv6 ? 8 : 12), group = ip + (to->is_ipv6 ? 24 : 16);
    uint32_t words = to->is_ipv6 ? 4 : 1;
    for (uint32_t word = 0; to->has_sources && word < words; word++) {
        load(to, BPF_W, source + word * 4);
        emit(to, BPF_ST, KEPT_SOURCE + word, 0, 0);
    }
    for (uint32_t word = 0; word < words - 1; word++) {
        load(to, BPF_W, group + word * 4);
        emit(to, BPF_ST, KEPT_GROUP + word, 0, 0);
    }
    load(to, BPF_W, group + (words - 1) * 4);
}

/* What passes in front of the members: frames for this host and, where that is seen, to the port. They are of the
 * family, to whose EtherType the socket is bound; another one in front of the IP header is that of a VLAN's tag, which
 * a device with reorder_hdr off leaves there (ip-link(8)). */
static void check_frame(builder *to, uint16_t port)
{
    load_fact(to, SKF_AD_PKTTYPE);
    emit(to, BPF_JMP | BPF_JEQ | BPF_K, PACKET_OTHERHOST, 0, 1);
    finish(to, DROP);
    load_fact(to, SKF_AD_HATYPE);
    emit(to, BPF_JMP | BPF_JEQ | BPF_K, ARPHRD_ETHER, 2, 0);
    emit(to, BPF_JMP | BPF_JEQ | BPF_K, ARPHRD_LOOPBACK, 1, 0);
    uint32_t elsewhere = emit(to, BPF_JMP | BPF_JA, 0, 0, 0);
    load(to, BPF_H, ETH_HLEN - 2);
    uint32_t longer = skip_unless(to, BPF_JEQ, to->is_ipv6 ? ETH_P_IPV6 : ETH_P_IP);
    if (to->is_ipv6)
        check_ipv6(to, port);
    else
        check_ipv4(to, port);
    keep_words(to, IP);
    uint32_t members = emit(to, BPF_JMP | BPF_JA, 0, 0, 0);
    land(to, elsewhere);
    land(to, longer);
    check_ip_header(to);
    keep_words(to, (uint32_t)SKF_NET_OFF);
    land(to, members);
}

static void check_any_group(builder *to)
{
    if (to->is_ipv6)
        load_kept(to, KEPT_GROUP);
    emit(to, BPF_JMP | BPF_JGE | BPF_K, to->is_ipv6 ? 0xff000000 : 0xe0000000, 0, 1);
    finish(to, KEEP);
    finish(to, DROP);
}

int mcf_bpf_members(mcf_bpf_program *program, int family, uint16_t port, const mcf_member *members, uint32_t count,
                    int level)
{
    builder to = {.program = program, .is_ipv6 = family == 6, .level = level};
    program->length = 0;
    if (!count) {
        finish(&to, DROP);
        return 0;
    }
    for (uint32_t i = 0; i < count; i++)
        to.has_sources |= level < MCF_BPF_ANY_SOURCE && members[i].source_count;
    check_frame(&to, port);
    if (level >= MCF_BPF_ANY_GROUP) {
        check_any_group(&to);
    } else {
        to.members = malloc(count * sizeof *to.members);
        if (!to.members)
            return -ENOMEM;
        for (uint32_t i = 0; i < count; i++)
            to.members[i] = &members[i];
        qsort(to.members, count, sizeof *to.members, compare);
        search(&to, 0, count);
        free(to.members);
    }
    return to.is_full ? -E2BIG : 0;
}

void mcf_bpf_companion(mcf_bpf_program *program, int family)
{
    builder to = {.program = program, .is_ipv6 = family == 6};
    program->length = 0;
    load_fact(&to, SKF_AD_PKTTYPE);
    emit(&to, BPF_JMP | BPF_JEQ | BPF_K, PACKET_LOOPBACK, to.is_ipv6 ? 2 : 3, 0);
    load(&to, BPF_B, (uint32_t)SKF_NET_OFF + (to.is_ipv6 ? 24 : 16));
    if (!to.is_ipv6)
        emit(&to, BPF_JMP | BPF_JGE | BPF_K, 0xf0, 1, 0); /* the broadcast address */
    emit(&to, BPF_JMP | BPF_JGE | BPF_K, to.is_ipv6 ? 0xff : 0xe0, 1, 0);
    finish(&to, KEEP);
    finish(&to, DROP);
}

int mcf_bpf_attach(int fd, const mcf_bpf_program *program)
{
    struct sock_fprog given = {program->length, (struct sock_filter *)program->code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &given, sizeof given) ? -errno : 0;
}

int mcf_bpf_detach(int fd)
{
    int unused = 0;
    return setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) ? -errno : 0;
}

int mcf_bpf_attach_members(int fd, int family, uint16_t port, const mcf_member *members, uint32_t count)
{
    mcf_bpf_program program;
    int is_light = 0, error = 0;
    for (int level = MCF_BPF_EXACT; level < MCF_BPF_LEVELS; level++) {
        error = mcf_bpf_members(&program, family, port, members, count, level);
        if (!error)
            error = mcf_bpf_attach(fd, &program);
        if (!error)
            return level;
        if (error != -E2BIG && error != -ENOMEM && error != -EINVAL)
            return error;
        /* The socket's memory for options must hold the old program and the new one together: with a small one between
         * them it need not. */
        if (error == -ENOMEM && !is_light) {
            is_light = 1;
            if (!mcf_bpf_members(&program, family, port, members, count, MCF_BPF_ANY_GROUP) &&
                !mcf_bpf_attach(fd, &program))
                level--;
        }
    }
    return error;
}
