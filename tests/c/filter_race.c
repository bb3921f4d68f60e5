/* One thread receives over loopback, one sends, one replaces the filter, one reads the statistics: nobody sees half of
 * a filter, and nothing is lost to the count. Run under ThreadSanitizer. */
#define _GNU_SOURCE
#include "mcf_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "race.h"

enum { SWAPS = 3000, BATCH = 16, LOOPBACK = 1 };

static mcf_receiver receiver;
static atomic_int done;
static struct sockaddr_in group;

static void *send_all(void *argument)
{
    (void)argument;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ip_mreqn egress = {.imr_ifindex = LOOPBACK};
    CHECK(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &egress, sizeof egress) == 0);
    while (!atomic_load(&done)) {
        (void)!sendto(fd, "datagram", 8, 0, (struct sockaddr *)&group, sizeof group);
        sched_yield();
    }
    close(fd);
    return NULL;
}

static void *swap_filters(void *argument)
{
    (void)argument;
    mcf_filter_entry entries[9] = {{{0}, 0}};
    for (int i = 0; i < 9; i++) {
        memcpy(entries[i].group, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xef\x01\x02\x03", 16);
        entries[i].interface_index = (uint32_t)(LOOPBACK + i);
    }
    for (uint32_t swap = 0; swap < SWAPS; swap++) {
        CHECK(mcf_filter_set(&receiver.filter, entries, 1 + swap % 9) == 0);
        if (swap % 3 == 0)
            CHECK(mcf_filter_set(&receiver.filter, entries + 1, swap % 8) == 0);
        sched_yield();
    }
    CHECK(mcf_filter_set(&receiver.filter, entries, 1) == 0);
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

static int open_member(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct ip_mreqn membership = {.imr_multiaddr.s_addr = htonl(0xef010203), .imr_ifindex = LOOPBACK};
    socklen_t length = sizeof address;
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof membership) == 0);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    group = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = address.sin_port};
    group.sin_addr = membership.imr_multiaddr;
    return fd;
}

static void run(const mcf_engine *engine)
{
    memset(&receiver, 0, sizeof receiver);
    receiver.engine = engine;
    receiver.family = MCF_IPV4;
    receiver.metadata = MCF_META_DESTINATION;
    mcf_receiver_init(&receiver);
    receiver.fd = open_member();
    receiver.wake = mcf_wake_new();
    CHECK(receiver.wake >= 0);
    CHECK(mcf_receiver_reserve(&receiver, BATCH) == 0);
    mcf_arena *arena = mcf_arena_new(NULL, BATCH, 64);
    CHECK(arena);
    atomic_store(&done, 0);
    pthread_t threads[] = {start(send_all, NULL), start(swap_filters, NULL), start(read_counters, NULL)};
    while (!atomic_load(&done)) {
        uint32_t kept = 0;
        int used = mcf_receive(&receiver, arena, 0, BATCH, mcf_clock() + 1000000, &kept);
        CHECK(used > 0 || used == -ETIMEDOUT || used == -EINTR);
        for (uint32_t row = 0; used > 0 && row < kept; row++) {
            CHECK(arena->lengths[row] == 8);
            CHECK(arena->interfaces[row] == LOOPBACK);
            CHECK(!memcmp(arena->data + arena->offsets[row], "datagram", 8));
        }
    }
    for (int i = 0; i < 3; i++)
        join(threads[i]);
    CHECK(mcf_counter_get(&receiver.datagrams) > 0);
    CHECK(mcf_counter_get(&receiver.foreign) > 0);
    close((int)receiver.fd);
    mcf_wake_free(receiver.wake);
    mcf_receiver_clear(&receiver);
    mcf_arena_release(arena);
}

int main(void)
{
    for (const mcf_engine *const *engine = mcf_engines; *engine; engine++)
        run(*engine);
    puts("ok");
    return 0;
}
