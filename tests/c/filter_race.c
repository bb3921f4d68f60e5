/* One thread receives over loopback, one sends, one replaces the filter, one reads the statistics: nobody sees half of
 * a filter, and nothing is lost to the count. Run under ThreadSanitizer. */
#define _GNU_SOURCE
#include "mcf_io.h"

#include <errno.h>
#include <string.h>

#include "member.h"

enum { SWAPS = 3000, MOST_SWAPS = 3000000, BATCH = 16 };

static mcf_receiver receiver;

static int has_met_both(void)
{
    return mcf_counter_get(&receiver.datagrams) > 0 && mcf_counter_get(&receiver.foreign) > 0;
}

static void *swap_filters(void *argument)
{
    (void)argument;
    mcf_member entries[9] = {0};
    for (int i = 0; i < 9; i++) {
        memcpy(entries[i].group, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xef\x01\x02\x03", 16);
        entries[i].interface_index = (uint32_t)(LOOPBACK + i);
        entries[i].is_exclude = 1;
    }
    /* More than wanted while the receiver has slept through all of them. */
    for (uint32_t swap = 0; swap < SWAPS || (swap < MOST_SWAPS && !has_met_both()); swap++) {
        CHECK(mcf_members_set(&receiver.filter, entries, 1 + swap % 9) == 0);
        if (swap % 3 == 0)
            CHECK(mcf_members_set(&receiver.filter, entries + 1, swap % 8) == 0);
        sched_yield();
    }
    CHECK(mcf_members_set(&receiver.filter, entries, 1) == 0);
    atomic_store(&done, 1);
    return NULL;
}

static void *read_counters(void *argument)
{
    (void)argument;
    int64_t last = 0;
    while (!atomic_load(&done)) {
        int64_t now = mcf_counter_get(&receiver.datagrams) + mcf_counter_get(&receiver.foreign);
        CHECK(now >= last);
        last = now;
        sched_yield();
    }
    return NULL;
}

static void run(const mcf_engine *engine)
{
    memset(&receiver, 0, sizeof receiver);
    receiver.engine = engine;
    receiver.family = MCF_IPV4;
    receiver.metadata = MCF_META_DESTINATION;
    receiver.batch_size = BATCH;
    receiver.fd = open_member();
    receiver.wake = mcf_wake_new();
    CHECK(receiver.wake >= 0);
    CHECK(mcf_receiver_prepare(&receiver, 64, 1 << 24) == 0);
    atomic_store(&done, 0);
    pthread_t threads[] = {start(send_all, NULL), start(swap_filters, NULL), start(read_counters, NULL)};
    while (!atomic_load(&done)) {
        mcf_range got;
        int used = mcf_receive(&receiver, mcf_clock() + 1000000, &got);
        CHECK(used > 0 || used == -ETIMEDOUT || used == -EINTR);
        if (used <= 0)
            continue;
        for (uint32_t row = got.row; row < got.row + got.rows; row++) {
            CHECK(got.arena->lengths[row] == 8);
            CHECK(got.arena->interfaces[row] == LOOPBACK);
            CHECK(!memcmp(got.arena->data + got.data + got.arena->offsets[row], "datagram", 8));
        }
        mcf_arena_release(got.arena);
    }
    for (int i = 0; i < 3; i++)
        join(threads[i]);
    CHECK(has_met_both());
    close((int)receiver.fd);
    mcf_wake_free(receiver.wake);
    mcf_receiver_clear(&receiver);
}

int main(void)
{
    for (const mcf_engine *const *engine = mcf_engines; *engine; engine++) {
        if ((*engine)->tap) /* packet_race */
            continue;
        run(*engine);
        if ((*engine)->coalescing)
            run((*engine)->coalescing);
    }
    puts("ok");
    return 0;
}
