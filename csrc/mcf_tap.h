/* The contract of an engine that reads packets off the link, as far as it goes beyond that of every engine. */
#ifndef MCF_TAP_H
#define MCF_TAP_H

#include "mcf_members.h"
#include "mcf_receive.h"

/* What the ring of a tap looks like. */
typedef struct mcf_ring_shape {
    uint32_t interface_index; /* 0 = all */
    uint32_t block_size;      /* bytes, a multiple of the page size */
    uint32_t blocks;
    uint32_t retire_ms; /* at least 1: the longest that a lone datagram waits for its block */
} mcf_ring_shape;

/* When at_fork is called. */
enum { MCF_FORK_BEFORE, MCF_FORK_IN_PARENT, MCF_FORK_IN_CHILD };

typedef struct mcf_tap_counts {
    int64_t lost;   /* packets; a train counts as one */
    int64_t copied; /* datagrams, since blocks were scarce */
    /* Datagrams for a member that are left out. */
    int64_t fragments, bad_checksums;
    uint32_t held; /* blocks */
} mcf_tap_counts;

/* The further side of an engine that reads packets off the link, before the system's UDP does. A plain socket goes with
 * it, which keeps the memberships and brings what the link never shows. Unless said otherwise, each is called by one
 * thread at a time, and never beside mcf_receiver_retire. */
typedef struct mcf_tap {
    /* Whether this process may: 0 or -errno. Any thread. */
    int (*probe)(void);
    /* From now on the socket leaves out what the link shows or, with on 0, brings everything again. 0 or -errno. */
    int (*guard)(mcf_socket fd, int family, int on);
    /* Before open, once: makes what describes the datagrams of so many blocks, with the wishes of receiver->pool. 0 or
     * -errno, as mcf_pool_reserve. */
    int (*lend)(mcf_receiver *receiver, uint32_t blocks);
    /* Opens it with no members, beside a bound socket that it does not own. receiver->fd becomes that socket, ->tap
     * what is readable while there is something from either, and ->metadata what is asked of the socket: for good,
     * since other threads may look at them while one receives. 0 or -errno. */
    int (*open)(mcf_receiver *receiver, mcf_socket fd, uint16_t port, const mcf_ring_shape *shape);
    /* Delivers what is for these members alone. 0 or -errno. */
    int (*follow)(mcf_receiver *receiver, const mcf_member *members, uint32_t count);
    /* Around fork(2). In the child, before anything else: what is held stays as it is, nothing else works any more. */
    void (*at_fork)(mcf_receiver *receiver, int moment);
    /* Also after mcf_receiver_retire. */
    void (*count)(mcf_receiver *receiver, mcf_tap_counts *counts);
} mcf_tap;

#endif
