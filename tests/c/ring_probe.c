/* A receiver made of the packet ring and its companion socket, for tests that send real traffic.
 *
 *     ring_probe 4|6 PORT INTERFACE GROUP[+SOURCE|-SOURCE] ...
 *
 * "+" lets that source in alone, "-" keeps it out. Prints "ready", then a line for everything that comes: what it is
 * and its payload. A datagram "end" by the ring ends it. */
#define _GNU_SOURCE
#include "linux/mcf_ring.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "race.h"

enum { MOST_MEMBERS = 8, BLOCK = 1 << 18, BLOCKS = 8, SHOWN = 24 };

static const char *const verdicts[] = {"datagram", "fragment",  "bad checksum", "later fragment",
                                       "not UDP",  "malformed", "cut"};
static mcf_bpf_program program;
static mcf_member entries[MOST_MEMBERS];
static uint8_t sources[MOST_MEMBERS][1][16];
static mcf_members members;

static void show(const char *what, const uint8_t *payload, uint32_t length)
{
    printf("%s ", what);
    for (uint32_t i = 0; i < length && i < SHOWN && isgraph(payload[i]); i++)
        putchar(payload[i]);
    putchar('\n');
}

static void parse_address(int family, const char *text, uint8_t address[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, 0xff};
    memcpy(address, mapped, sizeof mapped);
    CHECK(inet_pton(family == 6 ? AF_INET6 : AF_INET, text, family == 6 ? address : address + 12) == 1);
}

static struct sockaddr_storage name_of(int family, const uint8_t address[16], uint16_t port)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_storage name = {0};
    memcpy(&four.sin_addr, address + 12, 4);
    memcpy(&six.sin6_addr, address, 16);
    if (family == 6)
        memcpy(&name, &six, sizeof six);
    else
        memcpy(&name, &four, sizeof four);
    return name;
}

static void join_group(int fd, int family, const mcf_member *member)
{
    int level = family == 6 ? IPPROTO_IPV6 : IPPROTO_IP;
    struct group_req any = {member->interface_index, name_of(family, member->group, 0)};
    struct group_source_req one = {member->interface_index, any.gr_group, any.gr_group};
    if (member->source_count)
        one.gsr_source = name_of(family, member->sources[0], 0);
    if (!member->is_exclude) {
        CHECK(setsockopt(fd, level, MCAST_JOIN_SOURCE_GROUP, &one, sizeof one) == 0);
        return;
    }
    CHECK(setsockopt(fd, level, MCAST_JOIN_GROUP, &any, sizeof any) == 0);
    if (member->source_count)
        CHECK(setsockopt(fd, level, MCAST_BLOCK_SOURCE, &one, sizeof one) == 0);
}

/* Its filter before its first datagram. */
static int open_companion(int family, uint16_t port, uint32_t count)
{
    static const uint8_t any[16];
    int on = 1, fd = socket(family == 6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_storage name = name_of(family, any, port);
    CHECK(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    mcf_bpf_companion(&program, family);
    CHECK(mcf_bpf_attach(fd, &program) == 0);
    CHECK(bind(fd, (struct sockaddr *)&name, family == 6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)) ==
          0);
    for (uint32_t i = 0; i < count; i++)
        join_group(fd, family, &entries[i]);
    return fd;
}

/* True when the end came. */
static int show_packet(int family, uint16_t port, const mcf_ring_packet *packet)
{
    mcf_frame_datagram found;
    mcf_frame_verdict verdict = mcf_frame_read(family, &packet->frame, &found);
    if (verdict != MCF_FRAME_DATAGRAM) {
        show(verdicts[verdict], NULL, 0);
        return 0;
    }
    if (found.destination_port != port ||
        !mcf_members_accept(&members, found.destination, packet->interface_index, found.source)) {
        show("foreign", packet->frame.data + found.offset, found.length);
        return 0;
    }
    const uint8_t *payload = packet->frame.data + found.offset;
    uint32_t step = found.segment ? found.segment : found.length;
    uint32_t at = 0;
    do { /* an empty datagram is one, too */
        uint32_t length = found.length - at < step ? found.length - at : step;
        show(verdicts[verdict], payload + at, length);
        if (length == 3 && !memcmp(payload + at, "end", 3))
            return 1;
        at += step;
    } while (at < found.length);
    return 0;
}

static void read_ring(mcf_ring *ring, int family, uint16_t port)
{
    struct pollfd readable = {mcf_ring_fd(ring), POLLIN, 0};
    mcf_ring_packet packet;
    mcf_ring_block *block;
    for (int is_over = 0; !is_over;) {
        int got = mcf_ring_next(ring, &block);
        CHECK(got >= 0);
        if (!got) {
            CHECK(poll(&readable, 1, 20000) == 1);
            continue;
        }
        mcf_ring_cursor cursor = mcf_ring_begin(block);
        while (mcf_ring_step(&cursor, &packet))
            is_over |= show_packet(family, port, &packet);
        mcf_ring_release(block);
    }
}

int main(int count, char **arguments)
{
    CHECK(count > 4 && count - 4 <= MOST_MEMBERS);
    int family = atoi(arguments[1]);
    uint16_t port = (uint16_t)atoi(arguments[2]);
    uint32_t interface_index = if_nametoindex(arguments[3]);
    uint32_t joined = (uint32_t)count - 4;
    for (uint32_t i = 0; i < joined; i++) {
        char *group = arguments[4 + i], *sign = strpbrk(group, "+-");
        entries[i] = (mcf_member){.interface_index = interface_index, .is_exclude = !sign || *sign == '-'};
        if (sign) {
            *sign = 0;
            parse_address(family, sign + 1, sources[i][0]);
            entries[i].source_count = 1;
            entries[i].sources = (const uint8_t (*)[16])sources[i];
        }
        parse_address(family, group, entries[i].group);
    }
    CHECK(mcf_members_set(&members, entries, joined) == 0);
    mcf_members_adopt(&members);
    int companion = open_companion(family, port, joined);

    mcf_ring *ring;
    mcf_ring_options options = {family, port, interface_index, BLOCK, BLOCKS, 1, 0};
    CHECK(mcf_ring_open(&ring, &options, entries, joined) == 0);
    puts("ready");
    fflush(stdout);
    read_ring(ring, family, port);

    uint8_t payload[65536];
    for (ssize_t length; (length = recv(companion, payload, sizeof payload, 0)) >= 0;)
        show("companion", payload, (uint32_t)length);
    mcf_ring_close(ring);
    mcf_members_clear(&members);
    close(companion);
    return 0;
}
