/* Overlapped receives that are ended in the middle of it all: one thread sends without a pause, one receives and keeps
 * some of it, and each round what is posted is cancelled once, and the receiver woken and taken down. What batches show
 * stays as it is, numbers come in order, and memory that was freed is written to by nobody but its next owner. */
#include "windows/mcf_windows.h"

#include <errno.h>

#include "race.h"

enum {
    ROUNDS = 200,
    MAX_DATAGRAM = 300, /* bytes; every eighth datagram is longer */
    LONGEST = 400,
    MOST_HELD = 6,
    GRAVES = 256, /* pieces of freed memory that are watched */
    GRAVE_SIZE = 4096,
    EARTH = 0xee
};

typedef struct {
    mcf_range range;
    uint64_t first;
} held_batch;

static mcf_receiver receiver;
static held_batch held[MOST_HELD];
static uint32_t held_count;
static struct sockaddr_in target;
static atomic_int is_closed, is_over;
static _Atomic uint64_t taken;
static uint8_t *graves[GRAVES];

static uint32_t size_of(uint64_t number)
{
    return number % 8 ? 8 + (uint32_t)(number * 7919 % 200) : LONGEST;
}

/* Everything in the range is what was sent, from this number on or later. Returns the number after the last. */
static uint64_t check_batch(const mcf_range *range, uint64_t least)
{
    const mcf_arena *arena = range->arena;
    for (uint32_t row = range->row; row < range->row + range->rows; row++) {
        const uint8_t *data = arena->data + range->data + arena->offsets[row];
        uint64_t number;
        CHECK(arena->offsets[row] + arena->lengths[row] <= range->data_size);
        memcpy(&number, data, sizeof number);
        CHECK(number >= least);
        int is_cut = size_of(number) > MAX_DATAGRAM;
        CHECK(arena->lengths[row] == (is_cut ? MAX_DATAGRAM : size_of(number)));
        CHECK(arena->flags[row] == (is_cut ? MCF_FLAG_TRUNCATED : 0));
        for (uint32_t i = sizeof number; i < arena->lengths[row]; i++)
            CHECK(data[i] == (uint8_t)(number * 31 + i));
        least = number + 1;
    }
    return least;
}

static void *send_all(void *argument)
{
    SOCKET sock = socket(AF_INET, SOCK_DGRAM, 0);
    uint8_t payload[LONGEST];
    (void)argument;
    CHECK(sock != INVALID_SOCKET);
    for (uint64_t number = 0; !atomic_load(&is_over); number++) {
        memcpy(payload, &number, sizeof number);
        for (uint32_t i = sizeof number; i < size_of(number); i++)
            payload[i] = (uint8_t)(number * 31 + i);
        sendto(sock, (char *)payload, (int)size_of(number), 0, (struct sockaddr *)&target, sizeof target);
    }
    closesocket(sock);
    return NULL;
}

static void let_go(uint32_t index)
{
    check_batch(&held[index].range, held[index].first);
    mcf_arena_release(held[index].range.arena);
    held[index] = held[--held_count];
}

static void *receive_all(void *argument)
{
    uint64_t least = 0;
    (void)argument;
    while (!atomic_load(&is_closed)) {
        mcf_range got;
        int used = mcf_receive(&receiver, MCF_NO_DEADLINE, &got);
        if (used == -ECANCELED)
            break;
        if (used == MCF_NO_ROOM)
            let_go(0);
        CHECK(used > 0 || used == -EINTR || used == MCF_NO_ROOM);
        if (used <= 0)
            continue;
        uint64_t first = least;
        least = check_batch(&got, first);
        if (held_count == MOST_HELD)
            let_go((uint32_t)(least % MOST_HELD));
        held[held_count++] = (held_batch){got, first};
        atomic_fetch_add(&taken, got.rows);
    }
    return NULL;
}

/* Takes memory that was freed and watches it until the next round. */
static void dig(void)
{
    for (int i = 0; i < GRAVES; i++) {
        graves[i] = malloc(GRAVE_SIZE);
        CHECK(graves[i]);
        memset(graves[i], EARTH, GRAVE_SIZE);
    }
}

static void check_graves(void)
{
    for (int i = 0; i < GRAVES && graves[i]; i++) {
        for (int at = 0; at < GRAVE_SIZE; at++)
            CHECK(graves[i][at] == EARTH);
        free(graves[i]);
        graves[i] = NULL;
    }
}

static void wait_until_taken(uint64_t count)
{
    while (atomic_load(&taken) < count)
        Sleep(0);
}

static void run_round(uint32_t round)
{
    int size = sizeof target;
    SOCKET sock = socket(AF_INET, SOCK_DGRAM, 0); /* for overlapped calls, as every socket() is */
    target = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(!bind(sock, (struct sockaddr *)&target, size) && !getsockname(sock, (struct sockaddr *)&target, &size));
    CHECK(!mcf_socket_begin((mcf_socket)sock, 1));
    receiver = (mcf_receiver){.engine = &mcf_iocp_engine, .family = MCF_IPV4, .batch_size = 1 + round * 7 % 64};
    receiver.metadata = round % 2 ? MCF_META_DESTINATION : 0;
    receiver.fd = (mcf_socket)sock;
    receiver.wake = mcf_wake_new();
    CHECK(receiver.wake >= 0);
    CHECK(!mcf_receiver_prepare(&receiver, MAX_DATAGRAM, 4 * mcf_receiver_least_memory(&receiver, MAX_DATAGRAM)));
    CHECK(!receiver.engine->open(&receiver));
    atomic_store(&taken, 0);
    atomic_store(&is_closed, 0);
    atomic_store(&is_over, 0);
    pthread_t sending = start(send_all, NULL), receiving = start(receive_all, NULL);
    wait_until_taken(round * 3 % 200);
    /* As where a thread that ends takes along what it posted. */
    CancelIoEx((HANDLE)receiver.fd, NULL);
    CancelIoEx((HANDLE)receiver.wake, NULL);
    wait_until_taken(200);
    atomic_store(&is_closed, 1);
    mcf_wake_signal(receiver.wake);
    join(receiving);
    mcf_receiver_clear(&receiver); /* while datagrams land */
    dig();
    while (held_count)
        let_go(held_count - 1);
    atomic_store(&is_over, 1);
    join(sending);
    check_graves();
    closesocket(sock);
    mcf_wake_free(receiver.wake);
}

int main(void)
{
    CHECK(!mcf_start_winsock());
    for (uint32_t round = 0; round < ROUNDS; round++)
        run_round(round);
    puts("ok");
    return 0;
}
