#include "mcf_background.h"

#include <errno.h>
#include <stdlib.h>

#include "mcf_io.h"

enum {
    LEAST_ENTRIES = 1024,
    MOST_ENTRIES = 1 << 20,
    ERROR_PAUSE_NS = 10000000, /* between tries while an error is not taken */
    IS_SIGNALLED = 1
};

/* What different threads write lies a cache line apart. */
typedef uint8_t separator[MCF_CACHE_LINE];

/* A batch or, without an arena, an error, whose code is in `row`. Until it is taken the thread may make a batch longer:
 * how far it goes is in one word, its rows above the bytes of its data. */
typedef struct {
    mcf_arena *arena;
    size_t data;
    _Atomic uint64_t extent; /* 0 = an error, or taken */
    uint32_t row;
} entry;

enum { ROWS_SHIFT = 32 };

struct mcf_background {
    mcf_receiver *receiver;
    mcf_thread *thread;
    mcf_socket ready;
    int64_t delay;
    mcf_arena *spare; /* where datagrams go for which there is no room */
    size_t mask;
    entry *entries; /* mask + 1 of them */
    atomic_int is_stopping;

    separator before_written;
    _Atomic uint64_t written; /* by the thread: entries so far */
    uint64_t known_taken;     /* the thread's last look at `taken` */
    uint64_t error_end;       /* `written` right after its last error */

    separator before_taken;
    _Atomic uint64_t taken; /* by the taker: entries so far */
    mcf_range front;        /* the taker's: what is left of the entry it took last */

    separator before_readiness;
    /* Twice what was taken when nothing was left, plus IS_SIGNALLED. Both are in one word so that the thread never
     * signals for what is taken already. */
    _Atomic uint64_t readiness;
};

/* Makes `ready` readable for the entries up to this one, unless it is or they are taken. */
static void announce(mcf_background *background, uint64_t entries)
{
    uint64_t seen = atomic_load(&background->readiness);
    while (!(seen & IS_SIGNALLED) && seen / 2 < entries) {
        if (atomic_compare_exchange_strong(&background->readiness, &seen, seen | IS_SIGNALLED)) {
            mcf_wake_signal(background->ready);
            return;
        }
    }
}

/* The thread's side */

/* One entry is left for an error. */
static int is_full(mcf_background *background)
{
    uint64_t written = atomic_load_explicit(&background->written, memory_order_relaxed);
    if (written - background->known_taken < background->mask)
        return 0;
    background->known_taken = atomic_load_explicit(&background->taken, memory_order_acquire);
    return written - background->known_taken >= background->mask;
}

static uint64_t extent(uint64_t rows, uint64_t data_size)
{
    return rows << ROWS_SHIFT | data_size; /* offsets of 32 bits reach all of an arena */
}

static void push(mcf_background *background, const mcf_range *range)
{
    uint64_t written = atomic_load_explicit(&background->written, memory_order_relaxed);
    entry *next = &background->entries[written & background->mask];
    next->arena = range->arena;
    next->data = range->data;
    next->row = range->row;
    atomic_store_explicit(&next->extent, extent(range->rows, range->data_size), memory_order_relaxed);
    atomic_store(&background->written, written + 1);
    announce(background, written + 1);
}

/* Counts the offsets of these rows from `shift` bytes further ahead. */
static void shift_offsets(mcf_arena *arena, uint32_t row, uint32_t rows, uint32_t shift)
{
    for (uint32_t end = row + rows; row < end; row++)
        arena->offsets[row] += shift;
}

/* Adds a batch to the one before it, if it lies right behind and that is not taken. Else datagrams that come one by one
 * to a program that is busy would fill the queue while there is memory. */
static int extend(mcf_background *background, const mcf_range *range)
{
    uint64_t written = atomic_load_explicit(&background->written, memory_order_relaxed);
    entry *last = &background->entries[(written - 1) & background->mask];
    uint64_t seen = atomic_load_explicit(&last->extent, memory_order_relaxed);
    uint64_t rows = seen >> ROWS_SHIFT;
    if (!rows || range->arena != last->arena || range->row != last->row + rows)
        return 0;
    size_t shift = range->data - last->data;
    shift_offsets(range->arena, range->row, range->rows, (uint32_t)shift);
    if (atomic_compare_exchange_strong_explicit(&last->extent, &seen,
                                                extent(rows + range->rows, shift + range->data_size),
                                                memory_order_release, memory_order_relaxed)) {
        mcf_arena_release(range->arena);
        return 1;
    }
    shift_offsets(range->arena, range->row, range->rows, -(uint32_t)shift);
    return 0;
}

/* An error right behind one that nobody has taken adds nothing, and a socket that only fails must not keep the thread
 * running. */
static int report(mcf_background *background, int error)
{
    uint64_t written = atomic_load_explicit(&background->written, memory_order_relaxed);
    if (written == background->error_end && written != atomic_load_explicit(&background->taken, memory_order_acquire))
        return mcf_rest(background->receiver->wake, mcf_clock() + ERROR_PAUSE_NS);
    background->error_end = written + 1;
    push(background, &(mcf_range){.row = (uint32_t)-error});
    return 0;
}

/* There is no room. It may come back while nothing comes, so what to do is decided when something does. */
static int make_do(mcf_background *background, mcf_range *got)
{
    mcf_receiver *receiver = background->receiver;
    if (!receiver->carried) {
        int ready = mcf_wait(receiver->fd, MCF_READABLE, receiver->wake, MCF_UNTIL_READY, &receiver->looks);
        if (ready < 0)
            return ready;
    }
    if (!is_full(background)) {
        int used = mcf_receive(receiver, MCF_DO_NOT_WAIT, got);
        if (used != MCF_NO_ROOM && used != -ENOMEM)
            return used;
    }
    int used = mcf_receive_nowhere(receiver, background->spare);
    if (!used)
        mcf_collect_errors(receiver->fd); /* else they keep it readable */
    return used < 0 ? used : 0;
}

/* Where the queue of the socket was emptied: waits for a datagram, and then for more. */
static int gather(mcf_background *background)
{
    mcf_receiver *receiver = background->receiver;
    if (!background->delay || receiver->carried)
        return 0;
    if (receiver->last_asked && receiver->last_count >= receiver->last_asked)
        return 0;
    int ready = mcf_wait(receiver->fd, MCF_READABLE, receiver->wake, MCF_UNTIL_READY, &receiver->looks);
    receiver->singles = 0; /* time passes: there may be more than one */
    return ready < 0 ? ready : mcf_rest(receiver->wake, mcf_clock() + background->delay);
}

static void run(void *argument)
{
    mcf_background *background = argument;
    int used = 0;
    /* While datagrams keep coming nothing waits, and so nothing is woken. */
    while (used != -ECANCELED && !atomic_load_explicit(&background->is_stopping, memory_order_relaxed)) {
        mcf_range got;
        used = gather(background);
        if (!used)
            used = is_full(background) ? MCF_NO_ROOM : mcf_receive(background->receiver, MCF_UNTIL_READY, &got);
        if (used == MCF_NO_ROOM || used == -ENOMEM)
            used = make_do(background, &got);
        if (used > 0 && !extend(background, &got))
            push(background, &got);
        else if (used < 0 && used != -EINTR && used != -ECANCELED)
            used = report(background, used);
    }
}

/* The taker's side */

static int has_front(const mcf_background *background)
{
    return background->front.arena || background->front.row;
}

/* When nothing is left of the last entry, the next one becomes `front`, if there is one. */
static int advance(mcf_background *background)
{
    if (has_front(background))
        return 1;
    uint64_t taken = atomic_load_explicit(&background->taken, memory_order_relaxed);
    if (taken == atomic_load(&background->written))
        return 0;
    entry *next = &background->entries[taken & background->mask];
    uint64_t found = atomic_exchange_explicit(&next->extent, 0, memory_order_acquire);
    background->front = (mcf_range){
        .arena = next->arena,
        .row = next->row,
        .rows = (uint32_t)(found >> ROWS_SHIFT),
        .data = next->data,
        .data_size = (uint32_t)found,
    };
    atomic_store_explicit(&background->taken, taken + 1, memory_order_release);
    return 1;
}

/* When nothing is left `ready` is readable no more, until something comes. */
static void settle(mcf_background *background)
{
    if (advance(background))
        return;
    uint64_t settled = 2 * atomic_load_explicit(&background->taken, memory_order_relaxed);
    uint64_t seen = atomic_load(&background->readiness);
    while (seen != settled) {
        /* The thread is just about to signal: whoever finds nothing for that comes here again. */
        if (seen & IS_SIGNALLED && !mcf_wake_reset(background->ready))
            return;
        if (atomic_compare_exchange_strong(&background->readiness, &seen, settled))
            break;
    }
    if (advance(background))
        announce(background, atomic_load_explicit(&background->taken, memory_order_relaxed));
}

/* Whether the front's rows begin *got, or come right behind those it has. */
static int continues(const mcf_range *got, const mcf_range *front)
{
    if (!got->arena)
        return front->arena != NULL;
    return front->arena == got->arena && front->row == got->row + got->rows;
}

/* Moves up to `most` rows from the front to the end of *got. */
static void append(mcf_background *background, uint32_t most, mcf_range *got)
{
    mcf_range *front = &background->front;
    uint32_t count = front->rows < most ? front->rows : most;
    int is_whole = count == front->rows;
    if (!got->arena) {
        *got = *front;
        got->rows = count;
        if (!is_whole)
            mcf_arena_retain(front->arena);
    } else {
        shift_offsets(front->arena, front->row, count, (uint32_t)(front->data - got->data));
        got->rows += count;
        got->data_size = front->data + front->data_size - got->data;
        if (is_whole)
            mcf_arena_release(front->arena);
    }
    front->row += count;
    front->rows -= count;
    if (is_whole)
        *front = (mcf_range){0};
}

static int take_error(mcf_background *background)
{
    int error = has_front(background) ? -(int)background->front.row : 0;
    background->front = (mcf_range){0};
    return error;
}

int mcf_background_take(mcf_background *background, uint32_t most, int64_t deadline, uint32_t *looks, mcf_range *got)
{
    *got = (mcf_range){0};
    for (;;) {
        while (got->rows < most && advance(background) && continues(got, &background->front))
            append(background, most - got->rows, got);
        int result = got->rows ? 1 : take_error(background);
        settle(background);
        if (result || deadline == MCF_DO_NOT_WAIT)
            return result;
        int ready = mcf_wait(background->ready, MCF_READABLE, background->receiver->wake, deadline, looks);
        if (ready <= 0)
            return ready ? ready : -ETIMEDOUT;
    }
}

mcf_socket mcf_background_ready(const mcf_background *background)
{
    return background->ready;
}

/* Its life */

/* A queue that never fills before the memory is used up, within reason: batches of one arena lie apart, and do not
 * become one, only where a call brought something else as well, which takes a row, too. */
static size_t entries_for(const mcf_receiver *receiver, const mcf_shape *shape)
{
    uint64_t most = mcf_pool_most(receiver->pool) * ((shape->rows + 1) / 2);
    size_t entries = LEAST_ENTRIES;
    while (entries <= most && entries < MOST_ENTRIES)
        entries *= 2;
    return entries;
}

static void discard(mcf_background *background)
{
    while (advance(background)) {
        if (background->front.arena)
            mcf_arena_release(background->front.arena);
        background->front = (mcf_range){0};
    }
}

static void dispose(mcf_background *background)
{
    if (background->ready >= 0)
        mcf_wake_free(background->ready);
    if (background->spare)
        mcf_arena_release(background->spare);
    free(background->entries);
    free(background);
}

int mcf_background_start(mcf_background **result, mcf_receiver *receiver, int64_t delay,
                         const mcf_thread_options *options)
{
    mcf_background *background = calloc(1, sizeof *background);
    if (!background)
        return -ENOMEM;
    mcf_shape shape = receiver->engine->shape(receiver);
    size_t entries = entries_for(receiver, &shape);
    background->receiver = receiver;
    background->delay = delay;
    background->mask = entries - 1;
    background->ready = mcf_wake_new();
    background->spare = mcf_arena_new(&shape);
    background->entries = calloc(entries, sizeof *background->entries);
    receiver->fills_up = 1;
    int error = background->ready < 0 ? (int)background->ready : 0;
    if (!error && (!background->spare || !background->entries))
        error = -ENOMEM;
    if (!error)
        error = mcf_thread_start(&background->thread, run, background, options);
    if (error)
        dispose(background);
    else
        *result = background;
    return error;
}

void mcf_background_stop(mcf_background *background)
{
    atomic_store(&background->is_stopping, 1);
    mcf_thread_join(background->thread);
    discard(background);
    dispose(background);
}

void mcf_background_abandon(mcf_background *background)
{
    mcf_receiver *receiver = background->receiver;
    mcf_pool_abandon(receiver->pool);
    receiver->pool = NULL;
    receiver->arena = NULL;
    dispose(background);
}
