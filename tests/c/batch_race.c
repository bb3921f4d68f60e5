/* What the Python layer does without a GIL: threads retain, read and drop the batches of one receiver while it
 * receives, one replaces the filter, one reads the statistics; then the receiver goes while they hold what came last,
 * and the last of them frees its memory. Run under ThreadSanitizer, and under AddressSanitizer with its leak check. */
#define _GNU_SOURCE
#include "mcf_io.h"

#include <errno.h>
#include <string.h>

#include "mcf_pool.h"
#include "member.h"

enum { READERS = 3, PLACES = 16, LIVES = 4, BATCHES = 200 };

/* Batches that every thread may take a further reference of: a place is locked for as long as that takes, as an object
 * is by its critical section. */
typedef struct {
    atomic_flag is_locked;
    mcf_range batch; /* arena NULL = none */
} place;

static place places[PLACES];
static mcf_receiver receiver;
static atomic_int left;
static const mcf_member entries[2] = {
    {.group = {[10] = 0xff, 0xff, 239, 1, 2, 3}, .interface_index = LOOPBACK, .is_exclude = 1},
    {.group = {[10] = 0xff, 0xff, 239, 1, 2, 4}, .interface_index = LOOPBACK, .is_exclude = 1},
};

static void lock(place *at)
{
    while (atomic_flag_test_and_set_explicit(&at->is_locked, memory_order_acquire))
        sched_yield();
}

static void unlock(place *at)
{
    atomic_flag_clear_explicit(&at->is_locked, memory_order_release);
}

/* Puts a batch there, whose reference goes with it, and drops what was. */
static void put(place *at, mcf_range batch)
{
    lock(at);
    mcf_range before = at->batch;
    at->batch = batch;
    unlock(at);
    if (before.arena)
        mcf_arena_release(before.arena);
}

static void verify(const mcf_range *batch)
{
    const uint8_t *data = batch->arena->data + batch->data;
    for (uint32_t row = batch->row; row < batch->row + batch->rows; row++) {
        CHECK(batch->arena->lengths[row] == 8);
        CHECK(batch->arena->interfaces[row] == LOOPBACK);
        CHECK(!memcmp(data + batch->arena->offsets[row], "datagram", 8));
    }
}

static void *read_batches(void *argument)
{
    unsigned int turn = (unsigned int)(uintptr_t)argument;
    while (!atomic_load(&done)) {
        place *at = &places[turn++ * 7 % PLACES];
        lock(at);
        mcf_range batch = at->batch;
        if (batch.arena)
            mcf_arena_retain(batch.arena);
        unlock(at);
        if (batch.arena) {
            verify(&batch);
            mcf_arena_release(batch.arena);
        }
        if (turn % 5 == 0)
            put(&places[turn % PLACES], (mcf_range){.arena = NULL});
    }
    return NULL;
}

static void *swap_and_count(void *argument)
{
    (void)argument;
    for (uint32_t turn = 0; !atomic_load(&left); turn++) {
        CHECK(mcf_members_set(&receiver.filter, entries, 1 + turn % 2) == 0);
        CHECK(mcf_counter_get(&receiver.datagrams) >= 0 && mcf_pool_arenas(receiver.pool) <= 64);
        sched_yield();
    }
    return NULL;
}

/* A receiver's life, from its socket to its end, in this thread; the readers outlive it. */
static void live(const mcf_engine *engine)
{
    memset(&receiver, 0, sizeof receiver);
    receiver.engine = engine;
    receiver.family = MCF_IPV4;
    receiver.metadata = MCF_META_DESTINATION;
    receiver.batch_size = 4;
    receiver.fd = open_member();
    receiver.wake = mcf_wake_new();
    CHECK(receiver.wake >= 0 && mcf_receiver_prepare(&receiver, 64, 1 << 20) == 0);
    atomic_store(&left, 0);
    pthread_t changer = start(swap_and_count, NULL);
    pthread_t sender = start(send_all, NULL);
    for (uint32_t batches = 0; batches < BATCHES;) {
        mcf_range got;
        int used = mcf_receive(&receiver, mcf_clock() + 1000000, &got);
        CHECK(used > 0 || used == -ETIMEDOUT || used == -EINTR || used == MCF_NO_ROOM);
        if (used > 0)
            put(&places[batches++ % PLACES], got);
    }
    atomic_store(&left, 1);
    join(changer);
    mcf_receiver_retire(&receiver);
    mcf_receiver_clear(&receiver);
    atomic_store(&done, 1);
    join(sender);
    close((int)receiver.fd);
    mcf_wake_free(receiver.wake);
}

static void run(const mcf_engine *engine)
{
    for (int i = 0; i < LIVES; i++) {
        pthread_t readers[READERS];
        atomic_store(&done, 0);
        for (uintptr_t reader = 0; reader < READERS; reader++)
            readers[reader] = start(read_batches, (void *)reader);
        live(engine);
        for (int reader = 0; reader < READERS; reader++)
            join(readers[reader]);
    }
}

int main(void)
{
    for (int i = 0; i < PLACES; i++)
        atomic_flag_clear(&places[i].is_locked);
    for (const mcf_engine *const *engine = mcf_engines; *engine; engine++) {
        if ((*engine)->tap) /* packet_race */
            continue;
        run(*engine);
        if ((*engine)->coalescing)
            run((*engine)->coalescing);
    }
    for (int i = 0; i < PLACES; i++)
        put(&places[i], (mcf_range){.arena = NULL});
    puts("ok");
    return 0;
}
