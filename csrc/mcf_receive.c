#include "mcf_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    LONE_MAX = 16,           /* single receives between two tries for a batch on a quiet feed */
    BACKLOG_NS = 2000,       /* a datagram costs the kernel half of that */
    SPIN_SLICE_NS = 5000000, /* of watching the socket, before the caller may look around */
    MOST_IN_VAIN = 16384     /* messages, and calls for none, that bring nothing to deliver before the same */
};

uint64_t mcf_receiver_least_memory(const mcf_receiver *receiver, uint32_t max_datagram)
{
    mcf_receiver measured = {.engine = receiver->engine, .metadata = receiver->metadata};
    measured.batch_size = receiver->batch_size;
    measured.max_datagram = max_datagram;
    mcf_shape shape = receiver->engine->shape(&measured);
    uint32_t arenas = receiver->engine->fills_places ? 2 : 3; /* one for what is carried, or comes ahead */
    return arenas * (uint64_t)mcf_arena_size(&shape);
}

/* Makes the vectors large enough for arenas of so many rows. */
static int reserve(mcf_receiver *receiver, uint32_t rows)
{
    if (rows <= receiver->vector_slots)
        return 0;
    void *vectors = calloc(1, receiver->engine->vector_size(receiver, rows) + 1);
    if (!vectors)
        return -ENOMEM;
    void *old = receiver->vectors;
    receiver->vectors = vectors; /* in this order, for a child that another thread forks meanwhile prepares them, too */
    receiver->vector_slots = rows;
    receiver->aimed_slots = 0;
    receiver->engine->prepare(receiver);
    free(old);
    return 0;
}

int mcf_receiver_prepare(mcf_receiver *receiver, uint32_t max_datagram, uint64_t max_memory)
{
    static _Atomic uint64_t last_id;
    receiver->id = atomic_fetch_add(&last_id, 1) + 1;
    receiver->max_datagram = max_datagram;
    mcf_shape shape = receiver->engine->shape(receiver);
    receiver->pool = mcf_pool_new(&shape, max_memory);
    return receiver->pool ? reserve(receiver, shape.rows) : -ENOMEM;
}

void mcf_receiver_after_fork(mcf_receiver *receiver, int was_idle)
{
    receiver->is_patient = 0;
    receiver->aimed_slots = 0;
    receiver->carried = 0;
    if (was_idle && receiver->engine->retire)
        receiver->engine->retire(receiver);
    receiver->engine->prepare(receiver);
}

void mcf_receiver_retire(mcf_receiver *receiver)
{
    if (receiver->vectors && receiver->engine->retire)
        receiver->engine->retire(receiver);
    receiver->carried = 0;
    if (receiver->arena)
        mcf_arena_release(receiver->arena);
    receiver->arena = NULL;
    if (receiver->pool)
        mcf_pool_close(receiver->pool);
    receiver->pool = NULL;
}

void mcf_receiver_clear(mcf_receiver *receiver)
{
    mcf_receiver_retire(receiver);
    mcf_members_clear(&receiver->filter);
    free(receiver->vectors);
    receiver->vectors = NULL;
}

static int take_arena(mcf_receiver *receiver, mcf_arena **arena)
{
    return receiver->engine->take ? receiver->engine->take(receiver, arena) : mcf_pool_take(receiver->pool, arena);
}

/* Makes receiver->arena one that has room. A batch goes behind the last one while half of the arena is left, so that
 * lone datagrams share one, and a reader that looks at one batch while it receives the next walks over no more than
 * two.
 */
static int find_room(mcf_receiver *receiver)
{
    mcf_arena *arena = receiver->arena;
    int room = MCF_ROOM_NONE;
    if (arena) {
        if (mcf_arena_is_sole(arena)) {
            arena->used_rows = 0;
            arena->used_data = 0;
        }
        room = receiver->engine->room(receiver, arena);
        if (room == MCF_ROOM_AMPLE)
            return 0;
    }
    mcf_arena *fresh;
    int error = take_arena(receiver, &fresh);
    if (error)
        return room == MCF_ROOM_SOME ? 0 : error == -ENOBUFS ? MCF_NO_ROOM : error;
    receiver->arena = fresh; /* first: a child that is forked in between must not use what is free already */
    if (arena)
        mcf_arena_release(arena);
    return 0;
}

/* An arena of the caller's may come from a receiver that filled other columns. */
static void adopt(const mcf_receiver *receiver, mcf_arena *arena)
{
    size_t rows = arena->filler ? arena->rows : 0; /* a new one is zero */
    memset(arena->source_scopes, 0, rows * sizeof *arena->source_scopes);
    memset(arena->destinations, 0, rows * sizeof *arena->destinations);
    memset(arena->interfaces, 0, rows * sizeof *arena->interfaces);
    memset(arena->timestamps, 0, rows * sizeof *arena->timestamps);
    memset(arena->dropped, 0, rows * sizeof *arena->dropped);
    memset(arena->hops, 0, rows * sizeof *arena->hops);
    memset(arena->tos, 0, rows * sizeof *arena->tos);
    arena->filler = receiver->id;
}

/* On a quiet feed every call brings one datagram, and asking for a second one costs a failing pass through the kernel.
 * So after a lone datagram the next calls ask for one only: 1, 2, 4 .. LONE_MAX of them before a batch is tried again.
 */
static int asks_for_one(mcf_receiver *receiver)
{
    if (!receiver->singles)
        return 0;
    receiver->singles--;
    return 1;
}

/* Singles that follow each other faster than datagrams arrive are a backlog, and that is for batches, as trains are. */
static void learn(mcf_receiver *receiver, uint32_t messages, uint32_t datagrams)
{
    receiver->last_count = messages;
    if (messages > 1 || datagrams > 1) {
        receiver->singles = receiver->lone_streak = 0;
    } else if (receiver->asks_for_one) {
        int64_t now = mcf_clock();
        if (now - receiver->last_single < BACKLOG_NS)
            receiver->singles = receiver->lone_streak = 0;
        receiver->last_single = now;
    } else {
        receiver->lone_streak = receiver->lone_streak ? receiver->lone_streak * 2 : 1;
        if (receiver->lone_streak > LONE_MAX)
            receiver->lone_streak = LONE_MAX;
        receiver->singles = receiver->lone_streak;
    }
}

/* Waiting in the receive itself saves poll, a fifth of what a lone datagram costs. No wake-up reaches it there, so it
 * is for feeds that will end the wait soon by themselves, and never for longer than the socket's patience. */
static int may_wait_inside(const mcf_receiver *receiver, int64_t deadline)
{
    if (!receiver->is_patient || !receiver->is_busy)
        return 0;
    /* Twice, for the system rounds the patience up to its own ticks. */
    return deadline < 0 || deadline - mcf_clock() > 2 * MCF_PATIENCE_MS * (int64_t)1000000;
}

/* Waits until there is something to receive. Returns as mcf_wait. */
static int wait_for_more(mcf_receiver *receiver, int64_t deadline)
{
    if (receiver->engine->wait)
        return receiver->engine->wait(receiver, deadline);
    return mcf_wait(mcf_polled(receiver), MCF_READABLE, receiver->wake, deadline, &receiver->looks);
}

/* Watches the socket before sleeping. Returns as the engine's receive, 0 when it is time to sleep, -ECANCELED when
 * woken, -EINTR when the caller may look around. */
static int watch(mcf_receiver *receiver, mcf_arena *arena, uint32_t most, int64_t deadline, mcf_range *got)
{
    int64_t now = mcf_clock();
    if (!receiver->sleeps_at)
        receiver->sleeps_at = now + receiver->spin;
    int64_t until = deadline > 0 && deadline < receiver->sleeps_at ? deadline : receiver->sleeps_at;
    if (now >= until)
        return 0;
    int64_t slice_end = until - now > SPIN_SLICE_NS ? now + SPIN_SLICE_NS : until;
    do {
        int used = receiver->engine->receive(receiver, arena, most, 0, got);
        if (used)
            return used;
    } while (mcf_clock() < slice_end);
    if (wait_for_more(receiver, MCF_DO_NOT_WAIT) == -ECANCELED)
        return -ECANCELED;
    return slice_end == until ? 0 : -EINTR;
}

/* Whoever waits elsewhere calls when the socket is readable, as it is for reports, too, that the socket was not known
 * to queue. After 2, 4, 8 ... calls that found nothing it is worth a look, and costs who polls nothing to speak of. */
static int may_be_called_in_vain(const mcf_receiver *receiver)
{
    return receiver->empty_looks > 1 && !(receiver->empty_looks & (receiver->empty_looks - 1));
}

static int receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t most, int64_t deadline, mcf_range *got)
{
    if (arena->filler != receiver->id)
        adopt(receiver, arena);
    int may_wait = deadline != MCF_DO_NOT_WAIT && deadline != MCF_ONE_LOOK;
    /* A short batch emptied the queue: waiting first then saves a receive that would find nothing, unless something is
     * seen to have come since. */
    int wait_first = may_wait && receiver->last_count < receiver->last_asked && !receiver->carried &&
                     !(receiver->engine->has_more && receiver->engine->has_more(receiver));
    int in_vain = 0;
    for (;;) {
        int is_carried = receiver->carried > 0;
        receiver->asks_for_one = !is_carried && asks_for_one(receiver);
        int wait_inside = 0;
        int used = wait_first && receiver->spin ? watch(receiver, arena, most, deadline, got) : 0;
        if (!used) {
            wait_inside = wait_first && may_wait_inside(receiver, deadline);
            if (wait_first && !wait_inside) {
                int ready = wait_for_more(receiver, deadline);
                if (ready <= 0)
                    return ready ? ready : -ETIMEDOUT;
            }
            used = receiver->engine->receive(receiver, arena, most, wait_inside, got);
        }
        if (used < 0)
            return used;
        receiver->is_busy = used > 0 && got->rows;
        if (used == 0) {
            receiver->last_count = 0;
            receiver->empty_looks++;
            /* Readable, and yet nothing: poll and its kin say so until an error report that is queued is taken. */
            if (receiver->queues_errors || (wait_first && !wait_inside) || may_be_called_in_vain(receiver))
                mcf_collect_errors(receiver->fd);
            if (!may_wait)
                return 0;
        } else {
            receiver->sleeps_at = 0;
            receiver->empty_looks = 0;
            if (!is_carried)
                learn(receiver, (uint32_t)used, got->rows);
            if (got->rows) {
                mcf_counter_bump(&receiver->batches, !receiver->discards);
                return used;
            }
            /* What comes next wants another arena. */
            if (receiver->engine->room(receiver, arena) == MCF_ROOM_NONE)
                return -EINTR;
        }
        /* Neither foreign datagrams nor a socket that is readable for nothing may hold up deadlines and signals. */
        if (deadline > 0 && mcf_clock() >= deadline)
            return -ETIMEDOUT;
        in_vain += used ? used : 1;
        if (deadline == MCF_ONE_LOOK || in_vain >= MOST_IN_VAIN)
            return deadline == MCF_DO_NOT_WAIT ? 0 : -EINTR;
        wait_first = may_wait && !receiver->carried;
    }
}

int mcf_receive(mcf_receiver *receiver, int64_t deadline, mcf_range *got)
{
    receiver->limit = receiver->max_datagram;
    int error = find_room(receiver);
    if (error)
        return error;
    int used = receive(receiver, receiver->arena, receiver->batch_size, deadline, got);
    if (used > 0 && !receiver->is_handed_over)
        mcf_arena_retain(got->arena);
    receiver->is_handed_over = 0;
    return used;
}

int mcf_receive_into(mcf_receiver *receiver, mcf_arena *arena, int64_t deadline, mcf_range *got)
{
    int error;
    receiver->limit = arena->max_datagram;
    if (receiver->engine->fills_places) {
        error = reserve(receiver, arena->rows);
        if (error)
            return error;
        arena->used_rows = 0;
        arena->used_data = 0;
        return receive(receiver, arena, arena->rows, deadline, got);
    }
    if (receiver->engine->tap && receiver->limit > receiver->max_datagram)
        receiver->limit = receiver->max_datagram; /* as of what comes beside the tap */
    error = find_room(receiver);
    if (error)
        return error;
    mcf_range found;
    int used = receive(receiver, receiver->arena, arena->rows, deadline, &found);
    if (used > 0)
        mcf_counter_add(&receiver->truncated, mcf_range_copy(&found, arena, got));
    if (receiver->is_handed_over)
        mcf_arena_release(found.arena);
    receiver->is_handed_over = 0;
    return used;
}

int mcf_receive_nowhere(mcf_receiver *receiver, mcf_arena *arena)
{
    mcf_range got;
    arena->used_rows = 0;
    arena->used_data = 0;
    receiver->limit = receiver->max_datagram;
    receiver->discards = 1; /* but not what the kernel says it dropped before them */
    int used = receive(receiver, arena, arena->rows, MCF_DO_NOT_WAIT, &got);
    receiver->discards = 0;
    if (used > 0 && receiver->metadata & MCF_META_DROPS) {
        for (uint32_t row = got.row; row < got.row + got.rows; row++)
            receiver->pending_dropped += arena->dropped[row];
    }
    return used;
}
