#include "mcf_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    LONE_MAX = 16,     /* single receives between two tries for a batch on a quiet feed */
    FOREIGN_ROUNDS = 64 /* calls in a row that may bring only foreign datagrams before "nothing there" is the answer */
};

size_t mcf_vector_size_max(uint32_t slots)
{
    size_t largest = 0;
    for (const mcf_engine *const *engine = mcf_engines; *engine; engine++) {
        size_t size = (*engine)->vector_size(slots, UINT32_MAX, MCF_IPV6);
        largest = size > largest ? size : largest;
    }
    return largest;
}

void mcf_receiver_init(mcf_receiver *receiver)
{
    static _Atomic uint64_t last_id;
    receiver->id = atomic_fetch_add(&last_id, 1) + 1;
    atomic_flag_clear(&receiver->filter.busy);
}

void mcf_receiver_after_fork(mcf_receiver *receiver)
{
    atomic_flag_clear(&receiver->filter.busy);
}

void mcf_receiver_clear(mcf_receiver *receiver)
{
    mcf_filter_clear(&receiver->filter);
}

/* An arena may come from a receiver that filled other columns. */
static void prepare(mcf_receiver *receiver, mcf_arena *arena)
{
    size_t slots = arena->slots;
    memset(arena->source_scopes, 0, slots * sizeof *arena->source_scopes);
    memset(arena->destinations, 0, slots * sizeof *arena->destinations);
    memset(arena->interfaces, 0, slots * sizeof *arena->interfaces);
    memset(arena->timestamps, 0, slots * sizeof *arena->timestamps);
    memset(arena->dropped, 0, slots * sizeof *arena->dropped);
    memset(arena->hops, 0, slots * sizeof *arena->hops);
    memset(arena->tos, 0, slots * sizeof *arena->tos);
    receiver->engine->prepare(receiver, arena);
    arena->prepared = receiver->id;
}

/* On a quiet feed every call brings one datagram, and asking for a second one costs a failing pass through the kernel.
 * So after a lone datagram the next calls ask for one only: 1, 2, 4 .. LONE_MAX of them before a batch is tried again. */
static uint32_t how_many(mcf_receiver *receiver, uint32_t count)
{
    if (!receiver->singles)
        return count;
    receiver->singles--;
    return 1;
}

static void learn(mcf_receiver *receiver, uint32_t asked, uint32_t got)
{
    receiver->last_count = got;
    if (asked == 1)
        return;
    if (got == 1) {
        receiver->lone_streak = receiver->lone_streak ? receiver->lone_streak * 2 : 1;
        if (receiver->lone_streak > LONE_MAX)
            receiver->lone_streak = LONE_MAX;
        receiver->singles = receiver->lone_streak;
    } else {
        receiver->lone_streak = 0;
    }
}

int mcf_receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t start, uint32_t count, int64_t deadline,
                uint32_t *kept)
{
    if (arena->prepared != receiver->id)
        prepare(receiver, arena);
    /* A short batch emptied the queue: waiting first then saves a receive that would find nothing. */
    int wait_first = deadline != MCF_DO_NOT_WAIT && receiver->last_count < count;
    int rounds = 0;
    for (;;) {
        if (wait_first) {
            int ready = mcf_wait(receiver->fd, MCF_READABLE, receiver->wake, deadline);
            if (ready <= 0)
                return ready ? ready : -ETIMEDOUT;
        }
        uint32_t asked = how_many(receiver, count);
        int used = receiver->engine->receive(receiver, arena, start, asked, kept);
        if (used < 0)
            return used;
        if (used == 0) {
            receiver->last_count = 0;
            if (deadline == MCF_DO_NOT_WAIT)
                return 0;
        } else {
            learn(receiver, asked, (uint32_t)used);
            if (*kept) {
                mcf_counter_bump(&receiver->batches, 1);
                return used;
            }
            if (deadline == MCF_DO_NOT_WAIT && ++rounds == FOREIGN_ROUNDS)
                return 0;
        }
        wait_first = deadline != MCF_DO_NOT_WAIT;
    }
}

int mcf_sender_init(mcf_sender *sender)
{
    if (sender->engine->send_vector_size) {
        sender->vectors = calloc(1, sender->engine->send_vector_size);
        if (!sender->vectors)
            return -ENOMEM;
    }
    sender->engine->prepare_send(sender);
    return 0;
}

void mcf_sender_clear(mcf_sender *sender)
{
    free(sender->vectors);
    sender->vectors = NULL;
}

/* A socket answers a send with the error of an earlier datagram (ICMP), once, and then sends nothing. So the first
 * error is doubted and the payload tried again; one that comes twice is its own. Where the socket has a queue of
 * errors, that says how many were late; else one that did not come again was. */
enum { NO_DOUBT, REPORTED, UNREPORTED };

static void settle(mcf_sender *sender, int *doubt)
{
    if (*doubt == UNREPORTED)
        mcf_counter_add(&sender->late_errors, 1);
    *doubt = NO_DOUBT;
}

/* What to do after a send that took nothing: 0 = try the same payload again, otherwise the error to report. */
static int after_failure(mcf_sender *sender, int error, int64_t deadline, int *doubt)
{
    if (error == 0) {
        settle(sender, doubt);
        if (deadline == MCF_DO_NOT_WAIT)
            return -EAGAIN;
        int ready = mcf_wait(sender->fd, MCF_WRITABLE, sender->wake, deadline);
        return ready > 0 ? 0 : ready < 0 ? ready : -ETIMEDOUT;
    }
    int late = mcf_collect_errors(sender->fd);
    mcf_counter_add(&sender->late_errors, late);
    if (error == -ENOBUFS) { /* never an answer of the network: this payload is lost */
        mcf_counter_bump(&sender->send_drops, 1);
        return error;
    }
    if (*doubt != NO_DOUBT)
        return error;
    *doubt = late ? REPORTED : UNREPORTED;
    return 0;
}

int mcf_send(mcf_sender *sender, uint32_t *sent, uint32_t count, int64_t deadline)
{
    int doubt = NO_DOUBT;
    while (*sent < count) {
        int gone = sender->engine->send(sender, *sent, count - *sent);
        if (gone > 0) {
            int64_t bytes = 0;
            for (uint32_t i = *sent; i < *sent + (uint32_t)gone; i++)
                bytes += (int64_t)sender->payloads[i].length;
            mcf_counter_bump(&sender->datagrams, gone);
            mcf_counter_bump(&sender->bytes, bytes);
            *sent += (uint32_t)gone;
            settle(sender, &doubt);
            continue;
        }
        int error = after_failure(sender, gone, deadline, &doubt);
        if (error)
            return error;
    }
    return 0;
}

int mcf_send_one(mcf_sender *sender, const void *data, size_t length, int64_t deadline)
{
    int doubt = NO_DOUBT;
    for (;;) {
        int error = sender->engine->send_one(sender, data, length);
        if (error > 0) {
            mcf_counter_bump(&sender->datagrams, 1);
            mcf_counter_bump(&sender->bytes, (int64_t)length);
            settle(sender, &doubt);
            return 0;
        }
        error = after_failure(sender, error, deadline, &doubt);
        if (error)
            return error;
    }
}
