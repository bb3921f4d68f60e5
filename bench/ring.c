/* The limit of the packet ring: packet(7), TPACKET_V3, read in place.
 *
 * Each packet's own header and its IP and UDP headers are looked at, as a reader has to that wants to know where the
 * payload is, and fetched from memory some packets before; the kernel's filter keeps out what is not for the port.
 * Every function returns a count, or -errno. One thread at a time. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BLOCK_SIZE = 1 << 18,
    BLOCKS = 256,      /* each may be handed over almost empty, for its age */
    FRAME_SIZE = 2048, /* the least unit of a block; packets take what they need */
    PATIENCE_MS = 1000,
    IGNORE_OUTGOING = 23,  /* PACKET_IGNORE_OUTGOING, since Linux 4.20 */
    AHEAD = 16,            /* packets to fetch before their turn, as if they were as long as this one */
    AHEAD_BYTES = 1 << 15, /* at most: in a block of a few long ones most would have nobody before them */
    HEADERS = 128,         /* bytes */
    LINE = 64,
};

struct ring {
    int fd;
    unsigned next;
    uint16_t port;
    unsigned size;
    unsigned char *blocks;
};

static int64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int failed(struct ring *ring)
{
    int code = errno;
    if (ring->fd >= 0)
        close(ring->fd);
    free(ring);
    return -code;
}

/* A ring of what comes by that interface for that UDP port over IPv4, datagrams of size bytes: a packet may be a train
 * of them. A block that is not full is handed over after retire_ms. Needs CAP_NET_RAW. */
int ring_open(struct ring **opened, int port, int size, const char *interface, int retire_ms)
{
    /* Nothing may arrive before the filter and the ring are there: the socket is bound last. */
    struct sock_filter instructions[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),         /* IP's protocol */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 4), /* UDP */
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),        /* the length of IP's header */
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),         /* the port */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)port, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0xFFFFFFFF),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = {sizeof instructions / sizeof *instructions, instructions};
    struct tpacket_req3 shape = {
        .tp_block_size = BLOCK_SIZE,
        .tp_block_nr = BLOCKS,
        .tp_frame_size = FRAME_SIZE,
        .tp_frame_nr = BLOCKS * (BLOCK_SIZE / FRAME_SIZE),
        .tp_retire_blk_tov = (unsigned)retire_ms,
    };
    struct sockaddr_ll link = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = (int)if_nametoindex(interface)};
    int version = TPACKET_V3, on = 1;
    struct ring *ring = calloc(1, sizeof *ring);
    if (ring == NULL)
        return -ENOMEM;
    ring->port = htons((uint16_t)port);
    ring->size = (unsigned)size;
    ring->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ring->fd < 0 || setsockopt(ring->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) < 0 ||
        setsockopt(ring->fd, SOL_PACKET, IGNORE_OUTGOING, &on, sizeof on) < 0 ||
        setsockopt(ring->fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0 ||
        setsockopt(ring->fd, SOL_PACKET, PACKET_RX_RING, &shape, sizeof shape) < 0)
        return failed(ring);
    ring->blocks = mmap(NULL, (size_t)BLOCKS * BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
    if (ring->blocks == MAP_FAILED || bind(ring->fd, (struct sockaddr *)&link, sizeof link) < 0)
        return failed(ring);
    *opened = ring;
    return 0;
}

static int walk(const struct ring *ring, const struct tpacket_block_desc *block)
{
    int received = 0;
    const unsigned char *at = (const unsigned char *)block + block->hdr.bh1.offset_to_first_pkt;
    for (unsigned i = 0; i < block->hdr.bh1.num_pkts; i++) {
        const struct tpacket3_hdr *packet = (const struct tpacket3_hdr *)at;
        unsigned ahead = packet->tp_next_offset > AHEAD_BYTES / AHEAD ? AHEAD_BYTES / packet->tp_next_offset : AHEAD;
        const struct iphdr *ip = (const struct iphdr *)(at + packet->tp_net);
        const struct udphdr *udp = (const struct udphdr *)((const unsigned char *)ip + 4 * ip->ihl);
        for (unsigned line = 0; line <= HEADERS && i + ahead < block->hdr.bh1.num_pkts; line += LINE)
            __builtin_prefetch(at + (size_t)ahead * packet->tp_next_offset + line);
        if (udp->dest == ring->port)
            received += (int)((ntohs(udp->len) - sizeof *udp + ring->size - 1) / ring->size);
        at += packet->tp_next_offset;
    }
    return received;
}

/* Takes what the next block has: how many datagrams, 0 when nothing came for PATIENCE_MS. */
static int take(struct ring *ring)
{
    struct tpacket_block_desc *block = (struct tpacket_block_desc *)(ring->blocks + (size_t)ring->next * BLOCK_SIZE);
    while (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
        struct pollfd waiting = {ring->fd, POLLIN, 0};
        int ready = poll(&waiting, 1, PATIENCE_MS);
        if (ready <= 0)
            return ready < 0 ? -errno : 0;
    }
    int received = walk(ring, block);
    __atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    ring->next = (ring->next + 1) % BLOCKS;
    return received;
}

/* Takes count datagrams, fewer when nothing came for PATIENCE_MS. A block that is not full is handed over up to
 * retire_ms later. */
int ring_drain(struct ring *ring, int count, int64_t *elapsed)
{
    int received = 0, got = 1;
    int64_t start = clock_now();
    while (received < count && got > 0) {
        got = take(ring);
        received += got > 0 ? got : 0;
    }
    *elapsed = clock_now() - start;
    return got < 0 ? got : received;
}

/* A feed that never ends: *received says how many datagrams came so far, to whoever reads it meanwhile. */
int ring_consume(struct ring *ring, int64_t *received)
{
    for (;;) {
        int got = take(ring);
        if (got < 0)
            return got;
        __atomic_fetch_add(received, got, __ATOMIC_RELAXED);
    }
}
