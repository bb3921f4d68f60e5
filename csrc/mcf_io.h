/* The contract of a backend: what every engine fulfils. */
#ifndef MCF_IO_H
#define MCF_IO_H

#include "mcf_receive.h"
#include "mcf_send.h"
#include "mcf_tap.h"

/* How much of an arena is left for a receive. */
enum { MCF_ROOM_NONE, MCF_ROOM_SOME, MCF_ROOM_AMPLE };

/* Whether what is left of an arena is enough for another batch there. */
static inline int mcf_is_ample(const mcf_receiver *receiver, size_t left, size_t whole)
{
    return left * (receiver->fills_up ? 16 : 2) >= whole;
}

/* An engine. Every function is called by one thread at a time for one receiver or sender. */
typedef struct mcf_engine {
    const char *name;
    /* Called before anything else of it: why this host cannot have it, in words that stay valid, or NULL when it can.
     * NULL in its place: every host can. */
    const char *(*obstacle)(void);
    /* The same for sockets that coalesce: messages may be trains of datagrams, which it takes apart. NULL: there is
     * none. */
    const struct mcf_engine *coalescing;
    /* What arenas must look like for this receiver's batch_size and max_datagram. */
    mcf_shape (*shape)(const mcf_receiver *receiver);
    /* Bytes of receiver->vectors for arenas of so many rows. */
    size_t (*vector_size)(const mcf_receiver *receiver, uint32_t rows);
    /* Sets up receiver->vectors, zero or used before, for arenas of receiver->vector_slots rows. */
    void (*prepare)(mcf_receiver *receiver);
    /* Once, when the descriptors are set and before the first receive: makes the socket the engine's. 0 or -errno, and
     * then nothing has changed; -EBUSY: it is somebody else's. NULL: any socket is fine as it is. */
    int (*open)(mcf_receiver *receiver);
    /* Before retire, and without anything that others wait for: ends what is under way for the receiver, and waits
     * until it has ended. May be called again. NULL: nothing is, outside of calls. */
    void (*settle)(mcf_receiver *receiver);
    /* Gives back what the vectors hold. NULL: nothing. */
    void (*retire)(mcf_receiver *receiver);
    /* Whether the arena has MCF_ROOM_* for the next receive. */
    int (*room)(const mcf_receiver *receiver, const mcf_arena *arena);
    /* Hands out the arena that comes after one without room, as mcf_pool_take. NULL: any of the pool. */
    int (*take)(mcf_receiver *receiver, mcf_arena **arena);
    /* Waits until there is something to receive, as mcf_wait, where the socket does not tell: select(2) and its kin do
     * not see it, and no thread receives in the background. NULL: it is readable. */
    int (*wait)(mcf_receiver *receiver, int64_t deadline);
    /* Whether a receive would find something, as far as that can be seen without a call to the system. NULL: it cannot
     * be seen. */
    int (*has_more)(const mcf_receiver *receiver);
    /* Receives into what is left of the arena, which has room, and marks what it used; describes up to `most` datagrams
     * that pass the filter: *got. What else it took from the socket is carried, and the next receive delivers that
     * first. Returns how many messages there were, 0 when nothing is there, or -errno. With wait it waits for the first
     * as long as the socket has patience (mcf_set_patience), else not at all. */
    int (*receive)(mcf_receiver *receiver, mcf_arena *arena, uint32_t most, int wait, mcf_range *got);
    int fills_places;   /* each datagram lands in a place of its own, max_datagram bytes: the caller's memory serves */
    const mcf_tap *tap; /* NULL: it receives from the socket itself, any socket */
    int can_segment;    /* it knows trains: sender->segment */
    /* An engine that only receives has none of these. */
    size_t send_vector_size;
    void (*prepare_send)(mcf_sender *sender);
    /* Sends payloads [first, first + count) without waiting. Returns how many went, 0 when the socket is full, or
     * -errno when the first sender->tried of them were refused. */
    int (*send)(mcf_sender *sender, uint32_t first, uint32_t count);
    /* The same for rows, one behind the other. Returns 0 also where send does as well; NULL: it always does. */
    int (*send_rows)(mcf_sender *sender, const uint8_t *rows, size_t size, uint32_t count);
    /* Sends one payload without waiting. Returns 1, 0 when the socket is full, or -errno. */
    int (*send_one)(mcf_sender *sender, const void *data, size_t length);
    /* Takes back what it set on a private socket, and ends is_private. NULL: it sets nothing. */
    void (*share)(mcf_sender *sender);
} mcf_engine;

/* Before the first call on a socket: makes it one on which no call waits unless it says so. One that is ours also keeps
 * to itself, where the system can, what the network reports about datagrams that it sent. Returns 0 or -errno. */
int mcf_socket_begin(mcf_socket fd, int is_ours);
/* After the last call: makes it what it was, one whose calls wait or not. */
void mcf_socket_end(mcf_socket fd, int waits);

/* What is readable while there is something to receive. Any thread, once the descriptors are set. */
static inline mcf_socket mcf_polled(const mcf_receiver *receiver)
{
    return receiver->engine->tap ? receiver->tap : receiver->fd;
}

/* The `send` of an engine that sends one payload a call. */
int mcf_send_each(mcf_sender *sender, uint32_t first, uint32_t count);

/* The engines of this system, ended by NULL; the first is the one that "auto" picks, those with a tap come last. */
extern const mcf_engine *const mcf_engines[];

#endif
