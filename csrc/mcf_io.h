/* The contract of a backend: what every engine fulfils. */
#ifndef MCF_IO_H
#define MCF_IO_H

#include "mcf_receive.h"
#include "mcf_send.h"

/* An engine. Every function is called by one thread at a time for one receiver or sender. */
typedef struct mcf_engine {
    const char *name;
    /* Bytes of receiver->vectors for so many datagrams a call. */
    size_t (*vector_size)(const mcf_receiver *receiver, uint32_t slots);
    /* Sets up receiver->vectors, zero or used before, for receiver->vector_slots datagrams. */
    void (*prepare)(mcf_receiver *receiver);
    /* Receives up to count datagrams into slots [start, start + count) and describes those that pass the filter in the
     * rows from start on: *kept of them. Returns the slots used, 0 when nothing is there, or -errno. With wait it waits
     * for the first as long as the socket has patience (mcf_set_patience), else not at all. */
    int (*receive)(mcf_receiver *receiver, mcf_arena *arena, uint32_t start, uint32_t count, int wait, uint32_t *kept);
    int can_segment; /* it knows trains: sender->segment */
    size_t send_vector_size;
    void (*prepare_send)(mcf_sender *sender);
    /* Sends payloads [first, first + count) without waiting. Returns how many went, 0 when the socket is full, or
     * -errno when the first sender->tried of them were refused. */
    int (*send)(mcf_sender *sender, uint32_t first, uint32_t count);
    /* Sends one payload without waiting. Returns 1, 0 when the socket is full, or -errno. */
    int (*send_one)(mcf_sender *sender, const void *data, size_t length);
} mcf_engine;

/* The engines of this system, ended by NULL; the first is the one that "auto" picks. */
extern const mcf_engine *const mcf_engines[];

#endif
