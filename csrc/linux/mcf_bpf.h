/* Classic BPF programs, so that the kernel puts into a packet ring what its own membership check would deliver, and
 * nothing else: it does not apply to packet sockets. */
#ifndef MCF_BPF_H
#define MCF_BPF_H

#include <linux/filter.h>
#include <stdint.h>

#include "mcf_members.h"

/* How closely a program looks. The kernel limits its size (4096 instructions, net.core.optmem_max): a set that does not
 * fit is filtered more coarsely, and whoever reads the ring checks the rest with mcf_members_accept. */
enum {
    MCF_BPF_EXACT,
    MCF_BPF_ANY_SOURCE,    /* groups and interfaces */
    MCF_BPF_ANY_INTERFACE, /* groups */
    MCF_BPF_ANY_GROUP,     /* any multicast to the port */
    MCF_BPF_LEVELS,
};

typedef struct {
    uint16_t length;
    struct sock_filter code[BPF_MAXINSNS];
} mcf_bpf_program;

/* Writes the program for a packet socket of type SOCK_RAW that is bound to the family's EtherType: datagrams of this
 * family to this port (host order) for these members. Returns 0, -E2BIG at this level, -ENOMEM.
 *
 * Through it come, besides: the first fragment of each fragmented datagram, so that it can be counted once (later ones
 * have no port); IPv6 packets to a group with extension headers before UDP, whose port BPF cannot find; and on a link
 * without an Ethernet header (a tunnel, say) what is for a member at another port, later fragments of IPv6, too. Frames
 * of a VLAN that has no interface here, and those to other stations, stay out. Needs Linux to have run its VLAN and
 * bridge handling, which is so for such a binding. */
int mcf_bpf_members(mcf_bpf_program *program, int family, uint16_t port, const mcf_member *members, uint32_t count,
                    int level);

/* The program for the plain UDP socket that holds the memberships: it keeps what no packet socket is shown, the copies
 * of this host's own multicast (dev_loopback_xmit in the kernel), unicast and broadcast. So each datagram comes once,
 * by one of the two. */
void mcf_bpf_companion(mcf_bpf_program *program, int family);

/* Takes away the socket's program. Returns 0 or -errno. */
int mcf_bpf_detach(int fd);

/* Puts the program in the place of the socket's last one, at once. Any thread. Returns 0 or -errno: ENOMEM and EINVAL
 * for a program above the system's limits. */
int mcf_bpf_attach(int fd, const mcf_bpf_program *program);

/* Attaches the closest program of mcf_bpf_members that the system takes. Returns its level or -errno (the last program
 * stays). Any thread. */
int mcf_bpf_attach_members(int fd, int family, uint16_t port, const mcf_member *members, uint32_t count);

#endif
