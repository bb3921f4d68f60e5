/* Pacing: when the next datagrams of a sender may go. Arithmetic only: whoever asks brings the time (mcf_clock).
 *
 * Two lines of time make the schedule. `due` is the rate itself: each datagram moves it on by what it costs, to a
 * fraction of a nanosecond, however late it went, so that the mean does not drift. `paid` keeps what fell behind from
 * coming in one burst: `burst` datagrams may go at once, and the next when those are paid for at 1.1 times the rate, a
 * quarter of a datagram's time early if they went as much late.
 *
 * One thread at a time for one pace. Nothing here fails. */
#ifndef MCF_PACE_H
#define MCF_PACE_H

#include <stddef.h>
#include <stdint.h>

/* What a datagram costs. */
enum {
    MCF_PACE_DATAGRAMS, /* 1 */
    MCF_PACE_PAYLOAD,   /* the octets of its payload, at least 1 */
    MCF_PACE_WIRE,      /* the octets for which it occupies an Ethernet: mcf_pace_cost */
};

/* How far behind a sender may be and still make up for it, nanoseconds. */
#define MCF_PACE_MEMORY INT64_C(1000000000)

/* The owner sets the first block before the first call, and leaves the second 0. */
typedef struct {
    uint64_t units; /* of cost, each `span` nanoseconds; below 2^35, 0 = not paced */
    uint64_t span;  /* below 2^45 */
    uint32_t burst; /* datagrams, 1 to MCF_MAX_BATCH */
    int counts;     /* MCF_PACE_* */
    int is_ipv6;
    uint32_t mtu; /* octets, at least 68 (1280 for IPv6): RFC 791, RFC 8200 */

    int64_t due;        /* 0 = nothing has gone yet */
    uint64_t remainder; /* due is later by remainder / units nanoseconds */
    int64_t paid;
    uint32_t unpaid; /* datagrams that have gone since `paid` was in the past */
    int64_t brief;   /* how long a call takes that nothing holds up, nanoseconds: one in some eight takes less */
} mcf_pace;

/* The time from which the next datagram may go: the past or 0 if it may now. */
int64_t mcf_pace_turn(const mcf_pace *pace);

/* How many datagrams may go at once, at a time that is not before their turn: 1 to burst. */
uint32_t mcf_pace_most(const mcf_pace *pace, int64_t now);

/* What one datagram costs. On the wire: payload, headers of UDP and IP, and for each frame Ethernet's header (14),
 * check sequence (4), preamble with delimiter (8) and gap (12), in which an IP packet fills 46 octets at least: IEEE
 * 802.3. What is over the MTU counts as the fragments it becomes. */
uint64_t mcf_pace_cost(const mcf_pace *pace, size_t length);

/* So many datagrams, which cost that much together (below 2^28), have gone in a call that began and ended then. */
void mcf_pace_spend(mcf_pace *pace, uint32_t count, uint64_t cost, int64_t began, int64_t ended);

#endif
