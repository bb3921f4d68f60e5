/* packet(7) and the kernel's Documentation/networking/packet_mmap.rst. What stands in neither was read in
 * net/packet/af_packet.c and tried.
 *
 * The socket is SOCK_RAW, for only that gives the virtio header, which tells trains apart (PACKET_VNET_HDR). It is
 * bound to the EtherType of one family, not to ETH_P_ALL: so it sees no outgoing packets (over lo each datagram would
 * come twice), and what comes in only after Linux took off VLAN tags and handed frames to bridges and bonds, as its own
 * IP. */
#define _GNU_SOURCE
#include "linux/mcf_ring.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/net_tstamp.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct mcf_ring {
    int fd;
    int edges;        /* epoll on fd, see below */
    uint8_t is_child; /* of the process that the ring belongs to */
    uint8_t has_device_time;
    uint16_t port;
    int family;
    uint32_t next; /* the block that is read next; the reading thread's own */
    uint32_t blocks;
    uint8_t *memory;
    uint8_t *copy;  /* of the blocks that are held, around a fork(2); NULL = none */
    uint32_t forks; /* under way */
    size_t block_size;
    _Atomic uint32_t held;
    _Atomic uint32_t references; /* the owner and every block that is held */
    struct sockaddr_ll address;  /* that the socket is bound to */
    mcf_ring_block handles[];
};

static size_t size_of(const mcf_ring *ring)
{
    return ring->block_size * ring->blocks;
}

static uint8_t *block_of(const mcf_ring *ring, uint32_t block)
{
    return ring->memory + block * ring->block_size;
}

static struct tpacket_hdr_v1 *header_of(const mcf_ring *ring, uint32_t block)
{
    struct tpacket_block_desc *start = (void *)block_of(ring, block);
    return &start->hdr.bh1;
}

static int set(int fd, int option, int value)
{
    return setsockopt(fd, SOL_PACKET, option, &value, sizeof value) ? -errno : 0;
}

static int bind_to_address(const mcf_ring *ring)
{
    return bind(ring->fd, (const struct sockaddr *)&ring->address, sizeof ring->address) ? -errno : 0;
}

/* In this order: nothing may come in before the filter and the ring are there. */
static int set_up(mcf_ring *ring, const mcf_ring_options *options, const mcf_member *members, uint32_t count)
{
    int fd = ring->fd, error;
    struct tpacket_req3 shape = {
        .tp_block_size = options->block_size,
        .tp_block_nr = options->blocks,
        .tp_frame_size = options->block_size, /* a limit that V3 does not use */
        .tp_frame_nr = options->blocks,
        .tp_retire_blk_tov = options->retire_ms,
    };
    /* So that a payload behind a header without options is aligned to 8 bytes: the virtio header has 10. */
    int reserve = options->family == 6 ? 6 : 2;
    if ((error = set(fd, PACKET_VERSION, TPACKET_V3)) || (error = set(fd, PACKET_VNET_HDR, 1)) ||
        (error = set(fd, PACKET_RESERVE, reserve)))
        return error;
    if (options->hardware_time && (error = set(fd, PACKET_TIMESTAMP, SOF_TIMESTAMPING_RAW_HARDWARE)))
        return error;
    if ((error = mcf_ring_filter(ring, members, count)) < 0)
        return error;
    if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &shape, sizeof shape))
        return -errno;
    ring->memory = mmap(NULL, size_of(ring), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (ring->memory == MAP_FAILED)
        return -errno;
    return bind_to_address(ring);
}

/* A packet socket is readable for as long as the block that the kernel filled last is not back with it. A loop that
 * holds the last batch while it waits for the next one would spin. What is new is the moment when a block is handed
 * over, and an edge-triggered epoll(7) keeps that until it is asked. */
static int watch_edges(const mcf_ring *ring, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    return epoll_ctl(ring->edges, operation, ring->fd, &event) ? -errno : 0;
}

static int watch(mcf_ring *ring)
{
    ring->edges = epoll_create1(EPOLL_CLOEXEC);
    return ring->edges < 0 ? -errno : watch_edges(ring, EPOLL_CTL_ADD);
}

static void close_descriptors(const mcf_ring *ring)
{
    if (ring->edges >= 0)
        close(ring->edges);
    if (ring->fd >= 0)
        close(ring->fd);
}

static void unref(mcf_ring *ring)
{
    if (atomic_fetch_sub_explicit(&ring->references, 1, memory_order_acq_rel) != 1)
        return;
    if (ring->memory != MAP_FAILED)
        munmap(ring->memory, size_of(ring));
    if (ring->copy) /* closed before the fork was over */
        munmap(ring->copy, size_of(ring));
    free(ring);
}

int mcf_ring_open(mcf_ring **result, const mcf_ring_options *options, const mcf_member *members, uint32_t count)
{
    /* The kernel takes 0 for "whatever suits the speed of the link", and would choose 8 ms or more. */
    if (!options->blocks || !options->block_size || !options->retire_ms)
        return -EINVAL;
    mcf_ring *ring = calloc(1, sizeof *ring + options->blocks * sizeof(mcf_ring_block));
    if (!ring)
        return -ENOMEM;
    ring->memory = MAP_FAILED;
    ring->edges = -1;
    ring->family = options->family;
    ring->port = options->port;
    ring->address = (struct sockaddr_ll){
        .sll_family = AF_PACKET,
        .sll_protocol = htons(options->family == 6 ? ETH_P_IPV6 : ETH_P_IP),
        .sll_ifindex = (int)options->interface_index,
    };
    ring->has_device_time = options->hardware_time;
    ring->blocks = options->blocks;
    ring->block_size = options->block_size;
    atomic_init(&ring->references, 1);
    ring->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = ring->fd < 0 ? -errno : set_up(ring, options, members, count);
    if (!error)
        error = watch(ring);
    if (error) {
        close_descriptors(ring);
        unref(ring);
        return error;
    }
    for (uint32_t block = 0; block < ring->blocks; block++)
        ring->handles[block].ring = ring;
    *result = ring;
    return 0;
}

int mcf_ring_fd(const mcf_ring *ring)
{
    return ring->edges;
}

int mcf_ring_watch(const mcf_ring *ring, int companion)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(ring->edges, EPOLL_CTL_ADD, companion, &event) ? -errno : 0;
}

int mcf_ring_filter(const mcf_ring *ring, const mcf_member *members, uint32_t count)
{
    return ring->is_child ? -EPERM : mcf_bpf_attach_members(ring->fd, ring->family, ring->port, members, count);
}

static void give_back(const mcf_ring *ring, uint32_t block)
{
    __atomic_store_n(&header_of(ring, block)->block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
}

static uint32_t status_of(const struct tpacket_hdr_v1 *header)
{
    return __atomic_load_n(&header->block_status, __ATOMIC_ACQUIRE);
}

static int64_t time_of(const struct tpacket_bd_ts *time)
{
    return (int64_t)time->ts_sec * 1000000000 + time->ts_nsec;
}

static int take(mcf_ring *ring, mcf_ring_block **result)
{
    for (;;) {
        uint32_t next = ring->next;
        mcf_ring_block *block = &ring->handles[next];
        if (atomic_load_explicit(&block->is_held, memory_order_acquire))
            return -ENOBUFS;
        struct tpacket_hdr_v1 *header = header_of(ring, next);
        uint32_t status = status_of(header);
        if (!(status & TP_STATUS_USER))
            return 0;
        ring->next = next + 1 == ring->blocks ? 0 : next + 1;
        mcf_ring_prefetch(block_of(ring, ring->next));
        if (!header->num_pkts) { /* the first packet did not fit and went into the block behind */
            give_back(ring, next);
            continue;
        }
        block->data = block_of(ring, next);
        block->length = header->blk_len;
        block->frames = header->num_pkts;
        block->turn++;
        block->is_after_loss = (status & TP_STATUS_LOSING) != 0;
        block->time = time_of(ring->has_device_time ? &header->ts_first_pkt : &header->ts_last_pkt);
        atomic_store_explicit(&block->references, 1, memory_order_relaxed);
        atomic_store_explicit(&block->is_held, 1, memory_order_release);
        atomic_fetch_add_explicit(&ring->held, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&ring->references, 1, memory_order_relaxed);
        *result = block;
        return 1;
    }
}

int mcf_ring_next(mcf_ring *ring, mcf_ring_block **result)
{
    struct epoll_event events[2]; /* the ring's and the companion's, which would come before it */
    if (ring->is_child)
        return -EPERM;
    int got = take(ring, result);
    if (got)
        return got;
    /* Forgets the edge, and looks again: a block that came in between has left another one. */
    (void)epoll_wait(ring->edges, events, 2, 0);
    got = take(ring, result);
    /* The edge that was forgotten may be that of this block, of which something may be left to read, of the one behind,
     * or of an error. A socket that is readable is one for whoever watches anew. */
    if (got > 0)
        (void)watch_edges(ring, EPOLL_CTL_MOD);
    return got;
}

int mcf_ring_is_stuck(const mcf_ring *ring)
{
    return atomic_load_explicit(&ring->handles[ring->next].is_held, memory_order_acquire);
}

int mcf_ring_has_next(const mcf_ring *ring)
{
    const struct tpacket_hdr_v1 *header = header_of(ring, ring->next);
    if (mcf_ring_is_stuck(ring) || !(status_of(header) & TP_STATUS_USER))
        return 0;
    const uint8_t *packet = block_of(ring, ring->next) + header->offset_to_first_pkt;
    uint32_t size = mcf_ring_header(packet)->tp_next_offset;
    for (uint32_t i = 0; i < MCF_RING_AHEAD && i < header->num_pkts; i++, packet += size)
        mcf_ring_prefetch(packet);
    return 1;
}

mcf_ring_cursor mcf_ring_begin(const mcf_ring_block *block)
{
    const struct tpacket_block_desc *start = (const void *)block->data;
    return (mcf_ring_cursor){block->data + start->hdr.bh1.offset_to_first_pkt, block->frames};
}

void mcf_ring_release(mcf_ring_block *block)
{
    if (atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) != 1)
        return;
    mcf_ring *ring = block->ring;
    if (!ring->is_child)
        give_back(ring, (uint32_t)(block - ring->handles));
    /* Only now: a reader who saw it free and the status unchanged would take the old packets for new ones. */
    atomic_store_explicit(&block->is_held, 0, memory_order_release);
    atomic_fetch_sub_explicit(&ring->held, 1, memory_order_relaxed);
    unref(ring);
}

uint32_t mcf_ring_held(const mcf_ring *ring)
{
    return atomic_load_explicit(&ring->held, memory_order_relaxed);
}

int mcf_ring_is_scarce(const mcf_ring *ring)
{
    return (ring->blocks - mcf_ring_held(ring)) * (uint64_t)4 < ring->blocks;
}

int mcf_ring_losses(const mcf_ring *ring, uint64_t *lost)
{
    struct tpacket_stats_v3 seen;
    socklen_t size = sizeof seen;
    if (ring->is_child)
        return -EPERM;
    if (getsockopt(ring->fd, SOL_PACKET, PACKET_STATISTICS, &seen, &size))
        return -errno;
    *lost += seen.tp_drops;
    return 0;
}

/* The index of the device that the socket is bound to, 0 = all, -1 = none any more: its device was gone. */
static int bound_index(const mcf_ring *ring)
{
    struct sockaddr_ll address;
    socklen_t size = sizeof address;
    return getsockname(ring->fd, (struct sockaddr *)&address, &size) ? -1 : address.sll_ifindex;
}

int mcf_ring_is_up(const mcf_ring *ring)
{
    struct ifreq request = {.ifr_ifindex = bound_index(ring)};
    return !ioctl(ring->fd, SIOCGIFNAME, &request) && !ioctl(ring->fd, SIOCGIFFLAGS, &request) &&
           request.ifr_flags & IFF_UP;
}

int mcf_ring_error(const mcf_ring *ring)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (ring->is_child)
        return -EPERM;
    if (getsockopt(ring->fd, SOL_SOCKET, SO_ERROR, &error, &size))
        return -errno;
    /* In this order: a device that goes down after the second look brings another error. */
    return error == ENETDOWN && mcf_ring_is_up(ring) ? 0 : -error;
}

int mcf_ring_bind_again(const mcf_ring *ring)
{
    if (ring->is_child)
        return -EPERM;
    return bound_index(ring) < 0 ? bind_to_address(ring) : 0;
}

/* Copies the blocks that are held, but for those that were copied since they were handed over. */
static void copy_held(mcf_ring *ring)
{
    for (uint32_t i = 0; i < ring->blocks; i++) {
        mcf_ring_block *block = &ring->handles[i];
        uint64_t turn = block->turn;
        if (!atomic_load_explicit(&block->is_held, memory_order_acquire) || block->copied_turn == turn)
            continue;
        memcpy(ring->copy + i * ring->block_size, block->data, block->length);
        block->copied_turn = turn;
    }
}

static int make_copy(mcf_ring *ring)
{
    if (ring->copy)
        return 0;
    void *copy = mmap(NULL, size_of(ring), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return -ENOMEM;
    ring->copy = copy;
    return 0;
}

void mcf_ring_before_fork(mcf_ring *ring)
{
    ring->forks++;
    /* Without the memory the child tries. */
    if (!ring->is_child && mcf_ring_held(ring) && !make_copy(ring))
        copy_held(ring);
}

static void drop_copy(mcf_ring *ring)
{
    if (!ring->copy)
        return;
    munmap(ring->copy, size_of(ring));
    ring->copy = NULL;
    for (uint32_t i = 0; i < ring->blocks; i++)
        ring->handles[i].copied_turn = 0;
}

void mcf_ring_in_parent(mcf_ring *ring)
{
    if (ring->forks && --ring->forks) /* it may be younger than the fork */
        return;                       /* another thread forks, too: its child needs the copy */
    drop_copy(ring);
}

int mcf_ring_after_fork(mcf_ring *ring)
{
    ring->forks = 0;
    if (ring->is_child)
        return 0;
    ring->is_child = 1;
    if (make_copy(ring))
        return -ENOMEM;
    copy_held(ring);
    if (mremap(ring->copy, size_of(ring), size_of(ring), MREMAP_MAYMOVE | MREMAP_FIXED, ring->memory) == MAP_FAILED) {
        drop_copy(ring);
        return -ENOMEM;
    }
    ring->copy = NULL;
    return 0;
}

void mcf_ring_close(mcf_ring *ring)
{
    /* A mapping keeps its socket alive, and the kernel would go on to fill it for as long as a block is held. */
    (void)mcf_ring_filter(ring, NULL, 0);
    close_descriptors(ring);
    unref(ring);
}
