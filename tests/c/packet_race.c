/* One thread receives by a packet ring over loopback, one sends, one drops batches, one replaces the members, one reads
 * the counts and what is polled: what is held does not change, and nothing of another group comes. Run under
 * ThreadSanitizer. */
#define _GNU_SOURCE
#include "mcf_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linux/mcf_packet.h"
#include "race.h"

enum { SWAPS = 2000, HELD = 8, LOOPBACK = 1 };

static const mcf_member members[2] = {
    {.group = {[10] = 0xff, 0xff, 239, 1, 2, 3}, .interface_index = LOOPBACK, .is_exclude = 1},
    {.group = {[10] = 0xff, 0xff, 239, 1, 2, 4}, .interface_index = LOOPBACK, .is_exclude = 1},
};
static mcf_receiver receiver;
static atomic_int done;
static uint16_t port;
static _Atomic(mcf_range *) handed_over;

static void *send_all(void *argument)
{
    (void)argument;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ip_mreqn egress = {.imr_ifindex = LOOPBACK};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    CHECK(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &egress, sizeof egress) == 0);
    for (uint32_t turn = 0; !atomic_load(&done); turn++) {
        to.sin_addr.s_addr = htonl(0xef010203 + turn % 2);
        (void)!sendto(fd, turn % 2 ? "foreign." : "datagram", 8, 0, (struct sockaddr *)&to, sizeof to);
        sched_yield();
    }
    close(fd);
    return NULL;
}

static void *swap_members(void *argument)
{
    (void)argument;
    for (uint32_t swap = 0; swap < SWAPS; swap++) {
        CHECK(receiver.engine->tap->follow(&receiver, members, 1 + swap % 2) == 0);
        sched_yield();
    }
    atomic_store(&done, 1);
    return NULL;
}

static void check(const mcf_range *batch)
{
    for (uint32_t row = batch->row; row < batch->row + batch->rows; row++) {
        const uint8_t *payload = batch->arena->data + batch->data + batch->arena->offsets[row];
        CHECK(batch->arena->lengths[row] == 8);
        CHECK(!memcmp(payload, batch->arena->destinations[row][15] == 3 ? "datagram" : "foreign.", 8));
    }
}

static void drop(mcf_range *batch)
{
    check(batch);
    mcf_arena_release(batch->arena);
    free(batch);
}

static void *drop_batches(void *argument)
{
    (void)argument;
    mcf_range *held[HELD] = {NULL};
    for (uint32_t turn = 0; !atomic_load(&done);) {
        mcf_range *next = atomic_exchange(&handed_over, NULL);
        if (next) {
            if (held[turn % HELD])
                drop(held[turn % HELD]);
            held[turn++ % HELD] = next;
        }
        sched_yield();
    }
    for (int i = 0; i < HELD; i++)
        if (held[i])
            drop(held[i]);
    return NULL;
}

static void *look_at_it(void *argument)
{
    (void)argument;
    mcf_socket polled = mcf_polled(&receiver);
    while (!atomic_load(&done)) {
        mcf_tap_counts counts;
        receiver.engine->tap->count(&receiver, &counts);
        CHECK(mcf_polled(&receiver) == polled && receiver.metadata & MCF_META_DESTINATION);
        CHECK(counts.lost >= 0 && counts.bad_checksums == 0 && counts.fragments == 0);
        sched_yield();
    }
    return NULL;
}

static int open_companion(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    CHECK(fd >= 0 && receiver.engine->tap->guard(fd, MCF_IPV4, 1) == 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    port = ntohs(address.sin_port);
    return fd;
}

int main(void)
{
    mcf_ring_shape shape = {LOOPBACK, 1 << 18, 16, 1};
    receiver.engine = &mcf_packet_engine;
    receiver.family = MCF_IPV4;
    receiver.metadata = MCF_META_DESTINATION | MCF_META_DROPS;
    receiver.batch_size = 64;
    receiver.wake = mcf_wake_new();
    CHECK(receiver.wake >= 0 && mcf_receiver_prepare(&receiver, 64, 1 << 24) == 0);
    int companion = open_companion();
    CHECK(receiver.engine->tap->lend(&receiver, shape.blocks) == 0);
    CHECK(receiver.engine->tap->open(&receiver, companion, port, &shape) == 0);
    pthread_t threads[] = {start(send_all, NULL), start(swap_members, NULL), start(drop_batches, NULL),
                           start(look_at_it, NULL)};
    while (!atomic_load(&done)) {
        mcf_range got;
        int used = mcf_receive(&receiver, mcf_clock() + 1000000, &got);
        CHECK(used > 0 || used == -ETIMEDOUT || used == -EINTR || used == MCF_NO_BLOCK || used == MCF_NO_ROOM);
        if (used <= 0)
            continue;
        check(&got);
        mcf_range *batch = malloc(sizeof *batch);
        CHECK(batch);
        *batch = got;
        batch = atomic_exchange(&handed_over, batch);
        if (batch)
            drop(batch);
    }
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    mcf_range *last = atomic_exchange(&handed_over, NULL);
    if (last)
        drop(last);
    CHECK(mcf_counter_get(&receiver.datagrams) > 0);
    mcf_receiver_clear(&receiver);
    close(companion);
    mcf_wake_free(receiver.wake);
    puts("ok");
    return 0;
}
