/* The kernel's packet ring, read in place: packet(7), TPACKET_V3. Linux writes packets into blocks, in order, and hands
 * over a block when it is full or retire_ms old; whoever reads it holds it, and returns it with the last reference.
 *
 * Linux fills the blocks strictly in turn: one that is still held stops it when its turn comes, and packets are lost
 * from then on. mcf_ring_next says so before it happens. */
#ifndef MCF_RING_H
#define MCF_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "linux/mcf_bpf.h"
#include "linux/mcf_ring_step.h"

typedef struct mcf_ring mcf_ring;

typedef struct {
    int family;               /* 4 or 6 */
    uint16_t port;            /* host order */
    uint32_t interface_index; /* 0 = all */
    uint32_t block_size;      /* bytes, a multiple of the page size; packets above it are cut, trains have 64 KiB */
    uint32_t blocks;
    uint32_t retire_ms;    /* at least 1: the longest that a lone datagram waits */
    uint8_t hardware_time; /* the device's timestamps where it gives them */
} mcf_ring_options;

/* A block that was handed over. Its memory is read-only by contract and stays as it is while a reference is held. */
typedef struct {
    const uint8_t *data;
    uint32_t length; /* bytes used */
    uint32_t frames;
    uint8_t is_after_loss; /* packets were lost since the losses were last asked for, mostly just before this block */
    int64_t time;          /* of its last packet; where packets have the device's time, of its beginning */
    _Atomic uint64_t turn; /* which time it is that it was handed over */
    uint64_t copied_turn;  /* for a child that is about to be forked */
    _Atomic uint32_t references;
    atomic_uchar is_held; /* from mcf_ring_next until the kernel has it back */
    struct mcf_ring *ring;
} mcf_ring_block;

/* A ring that the kernel fills with what is for these members (and, see mcf_bpf_members, a little more); no packet is
 * older than the filter. Returns 0 or -errno: EPERM without CAP_NET_RAW in the user namespace of the network, ENOMEM
 * where the kernel has no such memory, EINVAL for a shape that it does not take. */
int mcf_ring_open(mcf_ring **ring, const mcf_ring_options *options, const mcf_member *members, uint32_t count);

/* To poll for readability, and nothing else. It is readable when a block is there or the device has gone down
 * (mcf_ring_error), now and then for nothing, and until mcf_ring_next has returned 0 once. */
int mcf_ring_fd(const mcf_ring *ring);

/* Makes that descriptor readable, too, whenever the companion socket is (mcf_bpf_companion). Once for a ring, which
 * does not own it. Returns 0 or -errno. */
int mcf_ring_watch(const mcf_ring *ring, int companion);

/* Replaces the members, at once; what is in the ring already stays. Any thread. Returns the level of the filter
 * (MCF_BPF_EXACT and so on) or -errno. */
int mcf_ring_filter(const mcf_ring *ring, const mcf_member *members, uint32_t count);

/* The next block, never an empty one, with one reference. One thread at a time. Returns 1, 0 when none is ready,
 * -ENOBUFS when the block that is next is still held and everything before it has been read: nothing can come until it
 * is released. */
int mcf_ring_next(mcf_ring *ring, mcf_ring_block **block);

/* Whether mcf_ring_next would say -ENOBUFS, or would find a block (which may have no packets), whose first packets are
 * then fetched into the processor's cache. The thread that reads. */
int mcf_ring_is_stuck(const mcf_ring *ring);
int mcf_ring_has_next(const mcf_ring *ring);

/* The start of a walk over a block: mcf_ring_step. */
mcf_ring_cursor mcf_ring_begin(const mcf_ring_block *block);

/* References: any thread, lock-free. Whoever drops the last one returns the block to the kernel, and unmaps a ring that
 * was closed with its last block. */
static inline void mcf_ring_retain(mcf_ring_block *block)
{
    atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed);
}
void mcf_ring_release(mcf_ring_block *block);

/* Blocks that somebody holds. Any thread. */
uint32_t mcf_ring_held(const mcf_ring *ring);

/* True when fewer than a quarter of the blocks are left: what comes now is better copied and released. Any thread. */
int mcf_ring_is_scarce(const mcf_ring *ring);

/* Adds the packets that found no room since the last call (PACKET_STATISTICS, which starts again at each). Trains count
 * as one. Any thread. Returns 0 or -errno. */
int mcf_ring_losses(const mcf_ring *ring, uint64_t *lost);

/* The error that the socket is in, once: 0, or -ENETDOWN after the device went down, unless it is up again: the kernel
 * has gone on then. A ring of all devices does not have it. */
int mcf_ring_error(const mcf_ring *ring);

/* Whether the one device that the socket is bound to is there and up. Any thread. */
int mcf_ring_is_up(const mcf_ring *ring);

/* Linux lets go of a device that is deleted or leaves the network namespace, says nothing, and never goes back to it.
 * This binds the socket again to one with the same index; ring and filter stay. Any thread. Returns 0 when the socket
 * is bound, or was (to a device that is down: mcf_ring_error), or -errno: ENODEV while it is gone. */
int mcf_ring_bind_again(const mcf_ring *ring);

/* Before fork(2), and in the parent after it: makes a copy of what is held, for the parent may be faster than its
 * child, and drops it. One thread at a time, beside any other. */
void mcf_ring_before_fork(mcf_ring *ring);
void mcf_ring_in_parent(mcf_ring *ring);

/* In a forked child, before it releases anything: gives the blocks that were held memory of the child's own, so that
 * they stay as they are, and lets go of the parent's. What would reach the socket is -EPERM from then on. Returns 0 or
 * -ENOMEM (what is held then changes as the parent goes on). */
int mcf_ring_after_fork(mcf_ring *ring);

/* The owner is done: nothing more comes in. Blocks that are held stay readable; the ring goes with the last. */
void mcf_ring_close(mcf_ring *ring);

#endif
