/* The receive thread over loopback: one thread sends, one takes odd numbers of datagrams, others check and release what
 * it took, and errors reach the socket; the memory is used up now and then, and the thread is stopped and started in
 * the middle of it all. Nothing is lost to the count, nothing changes while it is held, and `ready` tells the truth. */
#define _GNU_SOURCE
#include "mcf_background.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linux/mcf_linux.h"
#include "mcf_io.h"
#include "race.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

enum {
    TRAIN = 16, /* datagrams of one size */
    ROUNDS = 6,
    TAKES = 400,   /* a round */
    HELD = 64,     /* batches that wait to be released */
    STASH = 65536, /* batches that one round may keep to use up the memory */
    MAX_DATAGRAM = 1500,
    PATIENCE_MS = 20000,
    LONG_TRAIN = 64,
    MOST_KEPT = 256,
    LONG_TRAINS = 48, /* of which one call takes three times what it can describe */
    SHORT = 40        /* bytes of their datagrams */
};

typedef struct {
    mcf_range range;
    uint64_t first;
} held_batch;

static mcf_receiver receiver;
static mcf_background *background;
static uint32_t looks;
static atomic_int done;
static _Atomic uint64_t sent;
static _Atomic(held_batch *) held[HELD];
static struct sockaddr_in target;
static int uses_trains;

static uint32_t size_of(uint64_t number)
{
    uint64_t train = number / TRAIN;
    return train % 5 ? 8 + (uint32_t)(train * 7919 % 200) : 1400;
}

static void write_payload(uint8_t *to, uint64_t number)
{
    memcpy(to, &number, sizeof number);
    for (uint32_t i = sizeof number; i < size_of(number); i++)
        to[i] = (uint8_t)(number * 31 + i);
}

static uint64_t check_payload(const uint8_t *from, uint32_t length)
{
    uint64_t number;
    memcpy(&number, from, sizeof number);
    CHECK(length == size_of(number));
    for (uint32_t i = sizeof number; i < length; i++)
        CHECK(from[i] == (uint8_t)(number * 31 + i));
    return number;
}

/* Every datagram of a batch is whole and lies within it, and they are in order. Returns the number of the last. */
static uint64_t check_batch(const mcf_range *range, uint64_t least)
{
    CHECK(range->data + range->data_size <= range->arena->data_size);
    for (uint32_t row = range->row; row < range->row + range->rows; row++) {
        uint32_t offset = range->arena->offsets[row], length = range->arena->lengths[row];
        CHECK(offset + length <= range->data_size);
        uint64_t number = check_payload(range->arena->data + range->data + offset, length);
        CHECK(number >= least);
        least = number + 1;
    }
    return least - 1;
}

static void send_train(int fd, uint64_t first)
{
    static uint8_t payloads[TRAIN * MAX_DATAGRAM];
    uint32_t size = size_of(first);
    for (uint32_t i = 0; i < TRAIN; i++)
        write_payload(payloads + i * size, first + i);
    if (uses_trains) {
        CHECK(setsockopt(fd, SOL_UDP, UDP_SEGMENT, &(int){(int)size}, sizeof(int)) == 0);
        CHECK(send(fd, payloads, (size_t)TRAIN * size, 0) == (ssize_t)(TRAIN * size));
        return;
    }
    for (uint32_t i = 0; i < TRAIN; i++)
        CHECK(send(fd, payloads + i * size, size, 0) == (ssize_t)size);
}

static void *send_all(void *argument)
{
    (void)argument;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&target, sizeof target) == 0);
    while (!atomic_load(&done)) {
        send_train(fd, atomic_load(&sent));
        atomic_fetch_add(&sent, TRAIN);
        sched_yield();
    }
    close(fd);
    return NULL;
}

/* Sends to a port where nobody is, again and again: the answer is an error of the socket. */
static void *disturb(void *argument)
{
    int fd = *(const int *)argument;
    int closed = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in nowhere = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof nowhere;
    CHECK(bind(closed, (struct sockaddr *)&nowhere, sizeof nowhere) == 0);
    CHECK(getsockname(closed, (struct sockaddr *)&nowhere, &length) == 0);
    close(closed);
    while (!atomic_load(&done)) {
        (void)!sendto(fd, "x", 1, 0, (struct sockaddr *)&nowhere, sizeof nowhere);
        for (int i = 0; i < 50 && !atomic_load(&done); i++)
            sched_yield();
    }
    return NULL;
}

static void drop(held_batch *batch)
{
    if (!batch)
        return;
    check_batch(&batch->range, batch->first);
    mcf_arena_release(batch->range.arena);
    free(batch);
}

static void *release_all(void *argument)
{
    int step = *(const int *)argument;
    while (!atomic_load(&done)) {
        for (int i = 0; i < HELD; i += step)
            drop(atomic_exchange(&held[i], NULL));
        sched_yield();
    }
    return NULL;
}

static void hold(held_batch *batch)
{
    static uint32_t at;
    drop(atomic_exchange(&held[at++ % HELD], batch));
}

static int is_ready(int timeout)
{
    struct pollfd polled = {.fd = (int)mcf_background_ready(background), .events = POLLIN};
    return poll(&polled, 1, timeout);
}

/* What is there when `ready` says so. The signal for what was taken meanwhile may come late, but not twice. */
static int take_ready(uint32_t most, mcf_range *range)
{
    CHECK(is_ready(PATIENCE_MS) == 1);
    int used = mcf_background_take(background, most, MCF_DO_NOT_WAIT, &looks, range);
    if (used)
        return used;
    CHECK(is_ready(PATIENCE_MS) == 1);
    return mcf_background_take(background, most, MCF_DO_NOT_WAIT, &looks, range);
}

/* One batch of at most so many; *next is the least number that it may begin with. NULL for an error of the socket. */
static held_batch *take(uint32_t most, uint64_t *next)
{
    held_batch *batch = malloc(sizeof *batch);
    int64_t deadline = mcf_clock() + PATIENCE_MS * (int64_t)1000000;
    int used = most % 2 ? take_ready(most, &batch->range)
                        : mcf_background_take(background, most, deadline, &looks, &batch->range);
    CHECK(used == 1 || used == -ECONNREFUSED);
    if (used < 0) {
        free(batch);
        return NULL;
    }
    CHECK(batch->range.rows >= 1 && batch->range.rows <= most);
    batch->first = *next;
    *next = check_batch(&batch->range, *next) + 1;
    return batch;
}

/* Keeps everything until datagrams find no room, then lets go of it. */
static void use_up(uint64_t *next)
{
    static held_batch *stash[STASH];
    int count = 0;
    int64_t before = mcf_counter_get(&receiver.overrun);
    while (mcf_counter_get(&receiver.overrun) == before) {
        if (!is_ready(0)) {
            sched_yield();
            continue;
        }
        CHECK(count < STASH);
        held_batch *batch = take(1023, next);
        if (batch)
            stash[count++] = batch;
    }
    while (count)
        hold(stash[--count]);
}

static int open_socket(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t length = sizeof target;
    target = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(bind(fd, (struct sockaddr *)&target, sizeof target) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&target, &length) == 0);
    CHECK(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &(int){1}, sizeof(int)) == 0);
    if (uses_trains)
        CHECK(setsockopt(fd, SOL_UDP, UDP_GRO, &(int){1}, sizeof(int)) == 0);
    return fd;
}

static void open_receiver(const mcf_engine *engine, int fd, uint32_t batch_size)
{
    memset(&receiver, 0, sizeof receiver);
    receiver.engine = engine;
    receiver.family = MCF_IPV4;
    receiver.batch_size = batch_size;
    receiver.fd = fd;
    receiver.wake = mcf_wake_new();
    receiver.is_patient = mcf_set_patience(fd, MCF_PATIENCE_MS) == 0;
    CHECK(receiver.wake >= 0);
    uint64_t memory = 3 * mcf_receiver_least_memory(&receiver, MAX_DATAGRAM);
    CHECK(mcf_receiver_prepare(&receiver, MAX_DATAGRAM, memory) == 0);
}

static void start_thread(uint32_t batch_size)
{
    mcf_thread_options options = {.name = "race"};
    CHECK(mcf_background_start(&background, &receiver, batch_size % 2 ? 50000 : 0, &options) == 0);
}

static int64_t close_receiver(void)
{
    if (background) {
        mcf_wake_signal(receiver.wake);
        mcf_background_stop(background);
        background = NULL;
    }
    mcf_wake_free(receiver.wake);
    int64_t count = mcf_counter_get(&receiver.datagrams) + mcf_counter_get(&receiver.overrun);
    mcf_receiver_clear(&receiver);
    return count;
}

static int64_t count_drops(int fd)
{
    uint32_t memory[9];
    socklen_t length = sizeof memory;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &length) == 0);
    return memory[8];
}

/* What was sent is counted as received, overrun or dropped by the kernel, once the queue is empty. */
static void account(int fd, int64_t before)
{
    int64_t deadline = mcf_clock() + PATIENCE_MS * (int64_t)1000000;
    int64_t count;
    do {
        CHECK(mcf_clock() < deadline);
        sched_yield();
        count = before + mcf_counter_get(&receiver.datagrams) + mcf_counter_get(&receiver.overrun);
    } while (count + count_drops(fd) != (int64_t)atomic_load(&sent));
}

static void run(const mcf_engine *engine, int with_trains)
{
    static const int steps[] = {1, 3};
    uses_trains = with_trains;
    int fd = open_socket();
    atomic_store(&done, 0);
    atomic_store(&sent, 0);
    open_receiver(engine, fd, 1);
    start_thread(1);
    pthread_t threads[] = {start(send_all, NULL), start(disturb, &fd), start(release_all, (void *)&steps[0]),
                           start(release_all, (void *)&steps[1])};
    uint64_t next = 0;
    int64_t counted = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < TAKES; i++) {
            held_batch *batch = take(1 + i * 7 % 97, &next);
            if (batch)
                hold(batch);
        }
        use_up(&next);
        counted += close_receiver();
        open_receiver(engine, fd, 2 + round * 21);
        start_thread(2 + round * 21);
    }
    atomic_store(&done, 1);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    if (!uses_trains)
        account(fd, counted);
    while (is_ready(0)) {
        held_batch *batch = take(1001, &next);
        if (batch)
            hold(batch);
    }
    close_receiver();
    for (int i = 0; i < HELD; i++)
        drop(atomic_exchange(&held[i], NULL));
    close(fd);
}

/* A call brings more trains than it can describe. Those that wait while others are discarded stay as they are. */
static void discard_some(const mcf_engine *engine)
{
    static uint8_t payloads[LONG_TRAIN * SHORT];
    static mcf_range kept[MOST_KEPT];
    int count = 0, used;
    uses_trains = 1;
    int fd = open_socket();
    int peer = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(connect(peer, (struct sockaddr *)&target, sizeof target) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){1 << 20}, sizeof(int)) == 0);
    open_receiver(engine, fd, MCF_MAX_BATCH);
    mcf_shape shape = engine->shape(&receiver);
    mcf_arena *spare = mcf_arena_new(&shape);
    do { /* the memory is used up by short messages, so that long ones do not lie in one piece */
        for (int i = 0; i < 60; i++)
            CHECK(send(peer, "short", 5, 0) == 5);
        used = mcf_receive(&receiver, MCF_DO_NOT_WAIT, &kept[count]);
        count += used > 0;
        CHECK(count < MOST_KEPT);
    } while (used > 0);
    CHECK(used == MCF_NO_ROOM);
    while (mcf_receive_nowhere(&receiver, spare) > 0)
        ;
    CHECK(setsockopt(peer, SOL_UDP, UDP_SEGMENT, &(int){SHORT}, sizeof(int)) == 0);
    for (int train = 0; train < LONG_TRAINS; train++) {
        for (int i = 0; i < LONG_TRAIN; i++)
            memset(payloads + i * SHORT, (train * LONG_TRAIN + i) % 251, SHORT);
        CHECK(send(peer, payloads, sizeof payloads, 0) == sizeof payloads);
    }
    for (int i = 0; i < 2; i++)
        CHECK(mcf_receive_nowhere(&receiver, spare) > 0);
    CHECK(receiver.carried);
    while (count)
        mcf_arena_release(kept[--count].arena);
    mcf_range got;
    CHECK(mcf_receive(&receiver, MCF_DO_NOT_WAIT, &got) > 0);
    uint32_t first = LONG_TRAINS * LONG_TRAIN - got.rows;
    for (uint32_t row = 0; row < got.rows; row++) {
        const uint8_t *data = got.arena->data + got.data + got.arena->offsets[got.row + row];
        CHECK(got.arena->lengths[got.row + row] == SHORT);
        for (int i = 0; i < SHORT; i++)
            CHECK(data[i] == (first + row) % 251);
    }
    mcf_arena_release(got.arena);
    close_receiver();
    mcf_arena_release(spare);
    close(peer);
    close(fd);
}

static mcf_shape one_row(const mcf_receiver *unused)
{
    (void)unused;
    return (mcf_shape){.rows = 1, .max_datagram = MAX_DATAGRAM, .data_size = MAX_DATAGRAM + 8};
}

static const mcf_engine *real;

/* What is received lies no more right behind what was received before. */
static int receive_apart(mcf_receiver *from, mcf_arena *arena, uint32_t most, int wait, mcf_range *got)
{
    int used = real->receive(from, arena, most, wait, got);
    if (used > 0 && arena->used_rows < arena->rows)
        arena->used_rows++;
    return used;
}

/* A queue for arenas of one row has few places. What lies apart fills it long before the memory is used up, what lies
 * together needs one an arena; and it takes more when there is room. */
static void fill_queue(const mcf_engine *engine, int lies_apart)
{
    uses_trains = 0;
    int fd = open_socket();
    int peer = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(connect(peer, (struct sockaddr *)&target, sizeof target) == 0);
    open_receiver(engine, fd, MCF_MAX_BATCH);
    mcf_engine small = *engine;
    small.shape = one_row;
    real = engine;
    if (lies_apart)
        small.receive = receive_apart;
    receiver.engine = &small;
    start_thread(0);
    int64_t count = 0, most = 0;
    for (int turn = 0; turn < 3; turn++) {
        int64_t lost = mcf_counter_get(&receiver.overrun);
        while (mcf_counter_get(&receiver.overrun) == lost) {
            CHECK(send(peer, "lone", 4, 0) == 4);
            count++;
            while (mcf_counter_get(&receiver.datagrams) + mcf_counter_get(&receiver.overrun) < count)
                sched_yield();
        }
        int64_t taken = 0;
        mcf_range got;
        while (mcf_background_take(background, 100, MCF_DO_NOT_WAIT, &looks, &got) == 1) {
            taken += got.rows;
            mcf_arena_release(got.arena);
        }
        CHECK(taken > (lies_apart ? 1000 : 2 * MCF_MAX_BATCH) && (!turn || taken == most));
        most = taken;
        CHECK(!is_ready(0));
    }
    close_receiver();
    close(peer);
    close(fd);
}

int main(void)
{
    for (const mcf_engine *const *engine = mcf_engines; *engine; engine++) {
        if ((*engine)->tap) /* it needs no thread, and a ring */
            continue;
        run(*engine, 0);
        fill_queue(*engine, 1);
        fill_queue(*engine, 0);
        if ((*engine)->coalescing) {
            run((*engine)->coalescing, 1);
            discard_some((*engine)->coalescing);
        }
    }
    puts("ok");
    return 0;
}
