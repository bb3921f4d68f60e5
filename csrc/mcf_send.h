/* Sending: one connected socket, and the calls that continue after partial sends and wait while it is full.
 *
 * Results as in mcf_receive.h. */
#ifndef MCF_SEND_H
#define MCF_SEND_H

#include <stddef.h>
#include <stdint.h>

#include "mcf_batch.h"
#include "mcf_counter.h"
#include "mcf_pace.h"
#include "mcf_switch.h"
#include "mcf_wait.h"

/* What one payload of a send looks like. Laid out as the system's own scatter element (asserted by the engine). */
typedef struct {
    const void *data;
    size_t length;
} mcf_payload;

/* Whether runs of payloads of one size pass the system in one piece. */
enum {
    MCF_SEGMENT_NEVER,
    MCF_SEGMENT_IF_ACCEPTED, /* until the system has refused a run and then taken the same one plain */
    MCF_SEGMENT_ALWAYS,      /* a refusal is an error */
};

/* One connected sending socket. `payloads` holds the datagrams of the next mcf_send, `vectors` is the engine's. The
 * owner sets the first block before the first call. */
typedef struct mcf_sender {
    const struct mcf_engine *engine;
    mcf_socket fd;
    mcf_socket wake;
    int family; /* MCF_IPV4 or MCF_IPV6 */
    int segment;
    uint8_t queues_errors; /* mcf_queues_errors */
    mcf_switch is_private; /* nobody else sends by this descriptor or a copy of it, until mcf_sender_share */
    mcf_pace pace;

    int64_t looked;           /* when it last let the caller look for signals while it waited for its turn */
    uint32_t most_segments;   /* of one piece */
    uint32_t largest_segment; /* bytes, 0 = not known yet */
    uint32_t large_sends;     /* of payloads that went plain because they are larger */
    uint32_t tried;           /* datagrams in the first piece of the last send */
    uint32_t largest_staged;
    uint32_t staging_size; /* bytes */
    uint8_t *staging; /* the engine's: payloads of one size up to largest_staged that lie apart go faster when the owner
                       * copies them here, one behind the other. NULL = they do not */
    void *vectors;
    mcf_counter batches, datagrams, bytes, trains, send_drops, late_errors;
    mcf_payload payloads[MCF_MAX_BATCH];
} mcf_sender;

/* Sets up a sender whose engine is set. Returns 0 or -ENOMEM. */
int mcf_sender_init(mcf_sender *sender);
void mcf_sender_clear(mcf_sender *sender);

/* Before anybody else can send by the descriptor or a copy of it (a forked child has one): the socket is as the owner
 * made it when this returns, and stays so. Any thread, also during a send. */
void mcf_sender_share(mcf_sender *sender);

/* Sends payloads [*sent, count), continues after partial sends, and advances *sent past every datagram that the system
 * took. An error that an earlier datagram caused (ICMP) is counted, and the payload tried again. Returns 0 when all
 * went, or -errno as for mcf_receive, -EAGAIN when the socket is full and *deadline is MCF_DO_NOT_WAIT.
 *
 * A paced sender waits for its turn first, as long as that takes: *deadline moves on with it. Every 100 ms it returns
 * -EINTR, for a signal that came while it did not sleep is not seen otherwise; call it again. */
int mcf_send(mcf_sender *sender, uint32_t *sent, uint32_t count, int64_t *deadline);
/* The short way for rows, payloads of one size that lie one behind the other: without waiting. *sent becomes how many
 * went: the rest, which may be all of them, is for mcf_send. Returns 0, or -ENOBUFS as mcf_send, and then there is no
 * rest. */
int mcf_send_rows(mcf_sender *sender, const uint8_t *rows, size_t size, uint32_t count, uint32_t *sent);
/* As mcf_send for one payload of any length. Returns 0 or -errno. */
int mcf_send_one(mcf_sender *sender, const void *data, size_t length, int64_t *deadline);

/* Between the parts of a long call: every 100 ms it looks, and is -ECANCELED when woken, else 0; of a paced sender
 * -EINTR, as mcf_send. Signals have to wait else, for they would want the lock of the interpreter. */
int mcf_sender_look(mcf_sender *sender);

/* Whether the socket has a queue of error reports. */
int mcf_queues_errors(mcf_socket fd, int family);
/* Takes the socket's queued error reports; returns how many came from the network (ICMP), not from this host. */
int mcf_collect_errors(mcf_socket fd);

#endif
