#include "mcf_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    LONE_MAX = 16,     /* single receives between two tries for a batch on a quiet feed */
    BACKLOG_NS = 2000, /* a datagram costs the kernel half of that */
    VAIN_ROUNDS = 64   /* calls in a row that bring nothing to deliver before the caller may look around */
};

void mcf_receiver_init(mcf_receiver *receiver)
{
    static _Atomic uint64_t last_id;
    receiver->id = atomic_fetch_add(&last_id, 1) + 1;
}

int mcf_receiver_reserve(mcf_receiver *receiver, uint32_t slots)
{
    if (slots <= receiver->vector_slots)
        return 0;
    void *vectors = calloc(1, receiver->engine->vector_size(receiver, slots) + 1);
    if (!vectors)
        return -ENOMEM;
    free(receiver->vectors);
    receiver->vectors = vectors;
    receiver->vector_slots = slots;
    receiver->aimed_slots = 0;
    receiver->engine->prepare(receiver);
    return 0;
}

void mcf_receiver_after_fork(mcf_receiver *receiver)
{
    receiver->is_patient = 0;
    receiver->aimed_slots = 0;
    receiver->engine->prepare(receiver); /* a thread of the parent may have been in the middle of a call */
}

void mcf_receiver_clear(mcf_receiver *receiver)
{
    mcf_filter_clear(&receiver->filter);
    free(receiver->vectors);
    receiver->vectors = NULL;
}

/* An arena of the caller's may come from a receiver that filled other columns. */
static void adopt(const mcf_receiver *receiver, mcf_arena *arena)
{
    size_t slots = arena->filler ? arena->slots : 0; /* a new one is zero */
    memset(arena->source_scopes, 0, slots * sizeof *arena->source_scopes);
    memset(arena->destinations, 0, slots * sizeof *arena->destinations);
    memset(arena->interfaces, 0, slots * sizeof *arena->interfaces);
    memset(arena->timestamps, 0, slots * sizeof *arena->timestamps);
    memset(arena->dropped, 0, slots * sizeof *arena->dropped);
    memset(arena->hops, 0, slots * sizeof *arena->hops);
    memset(arena->tos, 0, slots * sizeof *arena->tos);
    arena->filler = receiver->id;
}

/* On a quiet feed every call brings one datagram, and asking for a second one costs a failing pass through the kernel.
 * So after a lone datagram the next calls ask for one only: 1, 2, 4 .. LONE_MAX of them before a batch is tried again.
 */
static uint32_t how_many(mcf_receiver *receiver, uint32_t count)
{
    if (!receiver->singles)
        return count;
    receiver->singles--;
    return 1;
}

/* Singles that follow each other faster than datagrams arrive are a backlog, and that is for batches. */
static void learn(mcf_receiver *receiver, uint32_t asked, uint32_t got)
{
    receiver->last_count = got;
    if (asked == 1) {
        int64_t now = mcf_clock();
        if (now - receiver->last_single < BACKLOG_NS)
            receiver->singles = receiver->lone_streak = 0;
        receiver->last_single = now;
    } else if (got == 1) {
        receiver->lone_streak = receiver->lone_streak ? receiver->lone_streak * 2 : 1;
        if (receiver->lone_streak > LONE_MAX)
            receiver->lone_streak = LONE_MAX;
        receiver->singles = receiver->lone_streak;
    } else {
        receiver->lone_streak = 0;
    }
}

/* Waiting in the receive itself saves poll, a fifth of what a lone datagram costs. No wake-up reaches it there, so it
 * is for feeds that will end the wait soon by themselves, and never for longer than the socket's patience. */
static int may_wait_inside(const mcf_receiver *receiver, int64_t deadline)
{
    if (!receiver->is_patient || !receiver->is_busy)
        return 0;
    /* Twice, for the system rounds the patience up to its own ticks. */
    return deadline == MCF_NO_DEADLINE || deadline - mcf_clock() > 2 * MCF_PATIENCE_MS * (int64_t)1000000;
}

int mcf_receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t start, uint32_t count, int64_t deadline,
                uint32_t *kept)
{
    if (arena->filler != receiver->id)
        adopt(receiver, arena);
    /* A short batch emptied the queue: waiting first then saves a receive that would find nothing. */
    int wait_first = deadline != MCF_DO_NOT_WAIT && receiver->last_count < count;
    int rounds = 0;
    for (;;) {
        int wait_inside = wait_first && may_wait_inside(receiver, deadline);
        if (wait_first && !wait_inside) {
            int ready = mcf_wait(receiver->fd, MCF_READABLE, receiver->wake, deadline);
            if (ready <= 0)
                return ready ? ready : -ETIMEDOUT;
        }
        uint32_t asked = how_many(receiver, count);
        int used = receiver->engine->receive(receiver, arena, start, asked, wait_inside, kept);
        if (used < 0)
            return used;
        receiver->is_busy = used > 0 && *kept;
        if (used == 0) {
            receiver->last_count = 0;
            if (deadline == MCF_DO_NOT_WAIT)
                return 0;
            /* Readable, and yet nothing: a queued error report (IP_RECVERR) makes poll say so until it is taken. */
            if (wait_first && !wait_inside)
                mcf_collect_errors(receiver->fd);
        } else {
            learn(receiver, asked, (uint32_t)used);
            if (*kept) {
                mcf_counter_bump(&receiver->batches, 1);
                return used;
            }
        }
        /* Neither foreign datagrams nor a socket that is readable for nothing may hold up deadlines and signals. */
        if (deadline > 0 && mcf_clock() >= deadline)
            return -ETIMEDOUT;
        if (++rounds == VAIN_ROUNDS)
            return deadline == MCF_DO_NOT_WAIT ? 0 : -EINTR;
        wait_first = deadline != MCF_DO_NOT_WAIT;
    }
}
