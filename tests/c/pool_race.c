/* One thread takes arenas and hands out references; many retain, read and release them; the pool is closed in between.
 * Run under ThreadSanitizer, and under AddressSanitizer with its leak check. */
#include "mcf_pool.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "race.h"

enum { HOLDERS = 4, QUEUE = 64, LONG_LIVES = 10, SHORT_LIVES = 10000, SLOTS = 4, MAX_DATAGRAM = 32, KEPT = 2 };

static const mcf_shape shape = {.rows = SLOTS, .max_datagram = MAX_DATAGRAM, .data_size = SLOTS * MAX_DATAGRAM};

/* A mailbox for each holder: a ring that only the taker writes and only the holder reads. */
typedef struct {
    _Atomic(mcf_arena *) cells[QUEUE];
    unsigned int read;    /* by the holder alone */
    unsigned int written; /* by the taker alone */
} mailbox;

static mailbox mailboxes[HOLDERS];
static mcf_arena *const end = (mcf_arena *)mailboxes;

static mcf_arena *collect(mailbox *box)
{
    _Atomic(mcf_arena *) *cell = &box->cells[box->read % QUEUE];
    mcf_arena *arena;
    while (!(arena = atomic_exchange_explicit(cell, NULL, memory_order_acquire)))
        sched_yield();
    box->read++;
    return arena;
}

static int deliver(mailbox *box, mcf_arena *arena)
{
    _Atomic(mcf_arena *) *cell = &box->cells[box->written % QUEUE];
    if (atomic_load_explicit(cell, memory_order_relaxed))
        return 0;
    atomic_store_explicit(cell, arena, memory_order_release);
    box->written++;
    return 1;
}

/* What the taker wrote must be there for as long as a reference is held. */
static void verify(const mcf_arena *arena)
{
    uint32_t stamp = arena->lengths[0];
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        CHECK(arena->lengths[slot] == stamp);
        CHECK(arena->data[slot * arena->slot_size] == (uint8_t)stamp);
    }
}

static void *hold(void *argument)
{
    mailbox *box = argument;
    mcf_arena *kept[KEPT] = {NULL};
    unsigned int turn = 0;
    for (mcf_arena *arena = collect(box); arena != end; arena = collect(box)) {
        verify(arena);
        mcf_arena_retain(arena);
        mcf_arena_release(arena);
        mcf_arena **place = &kept[turn++ % KEPT];
        if (*place) {
            verify(*place);
            mcf_arena_release(*place);
        }
        *place = arena;
    }
    for (int i = 0; i < KEPT; i++) {
        if (kept[i]) {
            verify(kept[i]);
            mcf_arena_release(kept[i]);
        }
    }
    return NULL;
}

static void fill(mcf_arena *arena, uint32_t stamp)
{
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        arena->lengths[slot] = stamp;
        arena->data[slot * arena->slot_size] = (uint8_t)stamp;
    }
}

/* A receiver's life: takes, fills, hands out, refused now and then by the budget, and closes while arenas are held. */
static void serve(uint32_t budget, uint32_t takes)
{
    size_t size = mcf_arena_size(&shape);
    mcf_pool *pool = mcf_pool_new(&shape, budget * size);
    CHECK(pool);
    for (uint32_t stamp = 1; stamp <= takes; stamp++) {
        mcf_arena *arena;
        int error = mcf_pool_take(pool, &arena);
        if (error) {
            CHECK(error == -ENOBUFS);
            CHECK(mcf_pool_arenas(pool) == budget);
            sched_yield();
            continue;
        }
        CHECK(arena->used_rows == 0 && arena->used_data == 0);
        CHECK(mcf_arena_is_sole(arena));
        fill(arena, stamp);
        for (int i = 0; i < HOLDERS; i++) {
            mcf_arena_retain(arena);
            if (!deliver(&mailboxes[i], arena))
                mcf_arena_release(arena);
        }
        mcf_arena_release(arena);
        CHECK(mcf_pool_arenas(pool) <= budget);
    }
    mcf_pool_close(pool);
}

/* Alone, where it is certain: the budget refuses, and what comes back is taken again. */
static void refuse(void)
{
    mcf_arena *first, *second, *third;
    mcf_pool *pool = mcf_pool_new(&shape, 2 * mcf_arena_size(&shape));
    CHECK(pool);
    CHECK(mcf_pool_take(pool, &first) == 0);
    CHECK(mcf_pool_take(pool, &second) == 0);
    CHECK(mcf_pool_take(pool, &third) == -ENOBUFS);
    mcf_arena_release(first);
    CHECK(mcf_pool_take(pool, &third) == 0);
    CHECK(third == first);
    mcf_arena_release(second);
    mcf_pool_close(pool);
    mcf_arena_release(third);
}

/* More than a process has addresses for, whose number goes on from 0 with 32 bits. */
static void refuse_to_reserve(void)
{
    mcf_pool *pool = mcf_pool_new(&shape, (UINT64_C(1) << 63) + (1 << 20));
    CHECK(pool);
    CHECK(mcf_pool_reserve(pool, 0) == -ENOMEM);
    mcf_pool_close(pool);
}

int main(void)
{
    pthread_t holders[HOLDERS];
    for (int i = 0; i < HOLDERS; i++)
        holders[i] = start(hold, &mailboxes[i]);
    for (int round = 0; round < LONG_LIVES; round++)
        serve(round % 2 ? 2 : 1000, 2000);
    for (int round = 0; round < SHORT_LIVES; round++)
        serve(4, 3);
    for (int i = 0; i < HOLDERS; i++)
        while (!deliver(&mailboxes[i], end))
            sched_yield();
    for (int i = 0; i < HOLDERS; i++)
        join(holders[i]);
    refuse();
    refuse_to_reserve();
    puts("ok");
    return 0;
}
