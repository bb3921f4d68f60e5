/* A sender of trains keeps their option on its socket, until the descriptor is given away in the middle of that: from
 * then on nothing is cut that another sends, and nothing goes in one piece that is to be cut. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linux/mcf_linux.h"
#include "race.h"

enum { ROUNDS = 400, TRAIN = 8, SIZE = 100, LONG = 1000, BEFORE = 40, AFTER = 40 };

static mcf_sender sender;
static atomic_int trains;
static uint8_t rows[MCF_MAX_BATCH * SIZE];

static int option(void)
{
    int value = -1;
    socklen_t size = sizeof value;
    CHECK(getsockopt((int)sender.fd, SOL_UDP, UDP_SEGMENT, &value, &size) == 0);
    return value;
}

static void send_rows(uint32_t count)
{
    uint32_t sent = 0;
    CHECK(mcf_send_rows(&sender, rows, SIZE, count, &sent) == 0 && sent == count);
}

static void *send_trains(void *count)
{
    for (int i = 0; i < *(int *)count; i++) {
        send_rows(TRAIN);
        atomic_fetch_add(&trains, 1);
    }
    return NULL;
}

/* Counts the datagrams of the other; no length is wrong. */
static int drain(int fd)
{
    uint8_t datagram[2 * LONG];
    int found = 0;
    for (ssize_t length; (length = recv(fd, datagram, sizeof datagram, MSG_DONTWAIT | MSG_TRUNC)) >= 0;) {
        CHECK(length == SIZE || length == LONG);
        found += length == LONG;
    }
    CHECK(errno == EAGAIN);
    return found;
}

static void open_sender(const struct sockaddr_in *target)
{
    sender.fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(sender.fd >= 0 && connect((int)sender.fd, (const struct sockaddr *)target, sizeof *target) == 0);
    mcf_switch_set(&sender.is_private, 1);
}

/* As many as one call takes, in trains that follow each other: nothing is read behind the last. */
static void fill_a_call(const struct sockaddr_in *target, int receiver)
{
    int count = BEFORE;
    open_sender(target);
    (void)send_trains(&count);
    CHECK(option() == SIZE);
    send_rows(MCF_MAX_BATCH);
    CHECK(option() == SIZE && drain(receiver) == 0);
    mcf_sender_share(&sender);
    CHECK(close((int)sender.fd) == 0);
}

static void run(const struct sockaddr_in *target, int receiver, int round)
{
    static const uint8_t datagram[LONG];
    int count = BEFORE + round % AFTER;
    open_sender(target);
    atomic_store(&trains, 0);
    pthread_t thread = start(send_trains, &count);
    while (atomic_load(&trains) < BEFORE / 2)
        ;
    mcf_sender_share(&sender);
    CHECK(option() == 0 && send((int)sender.fd, datagram, LONG, 0) == LONG);
    join(thread);
    CHECK(option() == 0);
    mcf_sender_share(&sender);
    CHECK(drain(receiver) == 1);
    CHECK(close((int)sender.fd) == 0);
}

int main(void)
{
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof target;
    int receiver = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(receiver >= 0 && bind(receiver, (struct sockaddr *)&target, sizeof target) == 0);
    int buffer = 4 << 20;
    (void)setsockopt(receiver, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    CHECK(getsockname(receiver, (struct sockaddr *)&target, &size) == 0);
    sender = (mcf_sender){.engine = &mcf_linux_engine,
                          .wake = -1,
                          .family = MCF_IPV4,
                          .segment = MCF_SEGMENT_ALWAYS,
                          .queues_errors = 1,
                          .largest_segment = 2 * SIZE};
    CHECK(mcf_sender_init(&sender) == 0);
    fill_a_call(&target, receiver);
    for (int round = 0; round < ROUNDS; round++)
        run(&target, receiver, round);
    mcf_sender_clear(&sender);
    close(receiver);
    puts("ok");
    return 0;
}
