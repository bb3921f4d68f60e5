/* The system tells the times for which it is asked by the core's own numbers, and the core reads them: with 32 bits and
 * a time_t of 64 both are others. */
#define _GNU_SOURCE
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mcf_io.h"
#include "race.h"

enum { TRIES = 10000 }; /* the kernel begins to take times a moment after it was asked to */

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void check(const mcf_engine *engine, uint32_t metadata, int option, int value)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(!bind(sock, (struct sockaddr *)&name, size) && !getsockname(sock, (struct sockaddr *)&name, &size));
    CHECK(!connect(sock, (struct sockaddr *)&name, size));
    CHECK(!setsockopt(sock, SOL_SOCKET, option, &value, sizeof value));
    mcf_receiver receiver = {.engine = engine, .family = MCF_IPV4, .metadata = metadata, .batch_size = 4};
    CHECK(!mcf_receiver_prepare(&receiver, 64, 1 << 20));
    receiver.fd = sock;
    receiver.wake = mcf_wake_new();
    int64_t time = 0;
    for (int tries = 0; !time && tries < TRIES; tries++) {
        int64_t before = now();
        mcf_range got;
        CHECK(send(sock, "x", 1, 0) == 1 && mcf_receive(&receiver, MCF_NO_DEADLINE, &got) == 1);
        time = got.arena->timestamps[got.row];
        CHECK(!time || (before <= time && time <= now()));
        CHECK(!got.arena->flags[got.row]);
        mcf_arena_release(got.arena);
    }
    CHECK(time);
    mcf_receiver_clear(&receiver);
    mcf_wake_free(receiver.wake);
    close(sock);
}

int main(void)
{
    for (const mcf_engine *const *engine = mcf_engines; *engine; engine++) {
        if ((*engine)->tap)
            continue;
        check(*engine, MCF_META_TIMESTAMP, mcf_so_timestampns, 1);
        check(*engine, MCF_META_HARDWARE_TIMESTAMP, mcf_so_timestamping,
              SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE);
    }
    puts("ok");
    return 0;
}
