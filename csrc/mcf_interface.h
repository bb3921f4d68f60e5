#ifndef MCF_INTERFACE_H
#define MCF_INTERFACE_H

#include <stdint.h>

/*
 * The network interfaces of this host, and which of them a route leads to.
 *
 * Both functions ask the system anew on each call (interfaces come, go and change their names), see the network
 * namespace of the calling thread, may be called from any thread, and keep nothing open.
 */

#define MCF_IF_UP 0x01u        /* switched on by the administrator */
#define MCF_IF_RUNNING 0x02u   /* the link carries: a cable is plugged in, the peer is up */
#define MCF_IF_MULTICAST 0x04u /* Linux' lo does not have it, and carries multicast all the same */
#define MCF_IF_LOOPBACK 0x08u
#define MCF_IF_POINTOPOINT 0x10u

#define MCF_IF_NAME_SIZE 772 /* with the final NUL; the longest is Windows' friendly name, 256 characters */

struct mcf_interface_address {
    char name[MCF_IF_NAME_SIZE]; /* NUL-terminated bytes as the system has them; the interface's own name, never an
                                    alias label */
    uint32_t index;              /* > 0 */
    uint32_t flags;              /* MCF_IF_* */
    uint32_t mtu;                /* octets; 0 where the system does not tell */
    int family;                  /* AF_INET or AF_INET6; 0: this row has no address, the two fields below are 0 */
    uint8_t address[16];         /* network byte order, the first 4 bytes for AF_INET */
    uint8_t prefix;              /* length of the network prefix, in bits */
};

/*
 * Lists the interfaces: one row for each address of each, and one or more without an address for each that the system
 * lists on link level, so that an interface without addresses is there too. Rows of one interface need not be
 * neighbours.
 *
 * Returns the number of rows and hands over *rows, to be given to mcf_interface_free() once; on error returns minus
 * errno (EMFILE, ENFILE, ENOMEM, ...) and sets *rows to NULL. An interface that vanishes during the call is left out.
 */
int mcf_interface_enumerate(struct mcf_interface_address **rows);

/* Frees what mcf_interface_enumerate() handed over; NULL is allowed. */
void mcf_interface_free(struct mcf_interface_address *rows);

/*
 * The index of the interface by which this host reaches `destination` (4 bytes for AF_INET, 16 for AF_INET6, network
 * byte order, unicast or multicast): the one that the system takes for a join or a send that does not name an
 * interface.
 *
 * Returns the index, > 0, or minus errno: ENETUNREACH without a route, EAFNOSUPPORT for another family, what an
 * unreachable or prohibited route was set up to answer (EHOSTUNREACH, EACCES, EINVAL), EBADMSG for an answer that makes
 * no sense.
 */
int mcf_route_interface(int family, const uint8_t *destination);

/*
 * Whether the device of that name puts a time on all that it receives: 1, or 0 where that is switched off, or minus
 * errno (ENOMSG: on messages of protocols such as PTP alone; EOPNOTSUPP: it cannot; ENODEV: no such interface).
 */
int mcf_interface_stamps(const char *name);

#endif
