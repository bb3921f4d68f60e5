/* The packet ring over loopback: what comes in, once; blocks that are held, by many threads, past the close, past a
 * fork; and what stops it. Run under ThreadSanitizer, and under AddressSanitizer with its leak check. */
#define _GNU_SOURCE
#include "linux/mcf_ring.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "race.h"

enum { LOOPBACK = 1, PORT = 5000, PAGE = 4096, BLOCKS = 4, HOLDERS = 3, SENT = 20000, SEGMENT = 103 };

static mcf_member member = {
    .group = {[10] = 0xff, 0xff, 239, 1, 2, 3},
    .interface_index = LOOPBACK,
    .is_exclude = 1,
};

static mcf_ring_options shape(uint32_t block_size, uint32_t blocks)
{
    return (mcf_ring_options){.family = 4,
                              .port = PORT,
                              .interface_index = LOOPBACK,
                              .block_size = block_size,
                              .blocks = blocks,
                              .retire_ms = 1};
}

static mcf_ring *open_ring(uint32_t block_size, uint32_t blocks)
{
    mcf_ring *ring;
    mcf_ring_options options = shape(block_size, blocks);
    CHECK(mcf_ring_open(&ring, &options, &member, 1) == 0);
    return ring;
}

static int sender;
static struct sockaddr_in group = {.sin_family = AF_INET};

static void open_sender(void)
{
    struct ip_mreqn egress = {.imr_address.s_addr = htonl(INADDR_LOOPBACK), .imr_ifindex = LOOPBACK};
    sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &egress, sizeof egress) == 0);
    group.sin_port = htons(PORT);
    group.sin_addr.s_addr = htonl(0xef010203);
}

static void send_to(uint32_t address, const void *data, size_t length)
{
    struct sockaddr_in to = group;
    to.sin_addr.s_addr = htonl(address);
    CHECK(sendto(sender, data, length, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)length);
}

static void send_number(uint32_t number)
{
    send_to(0xef010203, &number, sizeof number);
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static mcf_ring_block *wait_for_block(mcf_ring *ring)
{
    mcf_ring_block *block;
    struct pollfd readable = {mcf_ring_fd(ring), POLLIN, 0};
    int got;
    while ((got = mcf_ring_next(ring, &block)) == 0)
        CHECK(poll(&readable, 1, 10000) == 1);
    CHECK(got == 1);
    return block;
}

static uint32_t number_at(const mcf_ring_packet *packet)
{
    mcf_frame_datagram found;
    uint32_t number;
    CHECK(mcf_frame_read(4, &packet->frame, &found) == MCF_FRAME_DATAGRAM);
    CHECK(found.length == sizeof number && found.destination_port == PORT);
    CHECK((uintptr_t)(packet->frame.data + found.offset) % 8 == 0);
    memcpy(&number, packet->frame.data + found.offset, sizeof number);
    return number;
}

static uint32_t first_number(const mcf_ring_block *block)
{
    mcf_ring_packet packet;
    mcf_ring_cursor cursor = mcf_ring_begin(block);
    CHECK(mcf_ring_step(&cursor, &packet) == 1);
    return number_at(&packet);
}

static void each_comes_once(void)
{
    enum { COUNT = 200 };
    mcf_ring *ring = open_ring(PAGE, 64);
    mcf_ring_packet packet;
    int64_t before = now();
    for (uint32_t number = 0; number < COUNT; number++) {
        send_to(0xef010204, &number, sizeof number); /* another group */
        send_number(number);
    }
    for (uint32_t expected = 0; expected < COUNT;) {
        mcf_ring_block *block = wait_for_block(ring);
        mcf_ring_cursor cursor = mcf_ring_begin(block);
        CHECK(!block->is_after_loss);
        while (mcf_ring_step(&cursor, &packet)) {
            CHECK(number_at(&packet) == expected++);
            CHECK(packet.interface_index == LOOPBACK && !packet.is_hardware_time);
            CHECK(packet.timestamp >= before && packet.timestamp <= now());
            CHECK(packet.frame.data + packet.frame.captured <= block->data + block->length);
        }
        mcf_ring_release(block);
    }
    send_number(COUNT);
    mcf_ring_block *block = wait_for_block(ring);
    CHECK(block->frames == 1 && first_number(block) == COUNT);
    mcf_ring_release(block);
    CHECK(mcf_ring_next(ring, &block) == 0);
    CHECK(mcf_ring_error(ring) == 0);
    mcf_ring_close(ring);
}

static void trains_are_told(void)
{
    int segment = 1000;
    char payload[10500] = {0};
    mcf_ring *ring = open_ring(4 * PAGE, BLOCKS);
    mcf_ring_packet packet;
    mcf_frame_datagram found;
    CHECK(setsockopt(sender, IPPROTO_UDP, SEGMENT, &segment, sizeof segment) == 0);
    send_to(0xef010203, payload, sizeof payload);
    mcf_ring_block *block = wait_for_block(ring);
    mcf_ring_cursor cursor = mcf_ring_begin(block);
    CHECK(mcf_ring_step(&cursor, &packet) && !cursor.left);
    CHECK(mcf_frame_read(4, &packet.frame, &found) == MCF_FRAME_DATAGRAM);
    CHECK(found.segment == 1000 && found.length == sizeof payload);
    mcf_ring_release(block);
    mcf_ring_close(ring);

    ring = open_ring(PAGE, BLOCKS); /* too small for it */
    send_to(0xef010203, payload, sizeof payload);
    block = wait_for_block(ring);
    cursor = mcf_ring_begin(block);
    CHECK(mcf_ring_step(&cursor, &packet));
    CHECK(mcf_frame_read(4, &packet.frame, &found) == MCF_FRAME_CUT);
    mcf_ring_release(block);
    mcf_ring_close(ring);
    segment = 0;
    CHECK(setsockopt(sender, IPPROTO_UDP, SEGMENT, &segment, sizeof segment) == 0);
}

/* Nothing is left to read, and soon nothing says so: Linux hands a block over before it tells. */
static void comes_to_rest(mcf_ring *ring)
{
    mcf_ring_block *block;
    struct pollfd readable = {mcf_ring_fd(ring), POLLIN, 0};
    int wakes = 0;
    do {
        CHECK(++wakes < 10);
        CHECK(mcf_ring_next(ring, &block) == 0);
    } while (poll(&readable, 1, 0));
}

/* It would be readable all the time, for Linux looks at whether the last block is back. */
static void is_not_readable_for_what_was_read(void)
{
    mcf_ring *ring = open_ring(PAGE, BLOCKS);
    mcf_ring_block *block;
    struct pollfd readable = {mcf_ring_fd(ring), POLLIN, 0};
    send_number(7);
    mcf_ring_block *held = wait_for_block(ring);
    comes_to_rest(ring);
    send_number(8);
    CHECK(poll(&readable, 1, 10000) == 1);
    block = wait_for_block(ring);
    CHECK(first_number(block) == 8);
    mcf_ring_release(block);
    mcf_ring_release(held);
    mcf_ring_close(ring);
}

static void is_readable_for_its_companion(void)
{
    mcf_ring *ring = open_ring(PAGE, BLOCKS);
    struct pollfd readable = {mcf_ring_fd(ring), POLLIN, 0};
    int ends[2];
    char byte;
    CHECK(pipe(ends) == 0 && mcf_ring_watch(ring, ends[0]) == 0);
    CHECK(poll(&readable, 1, 0) == 0);
    CHECK(write(ends[1], "", 1) == 1);
    for (int turn = 0; turn < 2; turn++) {
        CHECK(poll(&readable, 1, 10000) == 1);
        send_number(7);
        mcf_ring_release(wait_for_block(ring));
    }
    CHECK(read(ends[0], &byte, 1) == 1);
    comes_to_rest(ring);
    mcf_ring_close(ring);
    close(ends[0]);
    close(ends[1]);
}

/* Called once, before the next epoll_wait(2) of this process, which is the ring's. */
static void (*meanwhile)(void);

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout)
{
    void (*act)(void) = meanwhile;
    meanwhile = NULL;
    if (act)
        act();
    return (int)syscall(SYS_epoll_pwait, fd, events, most, timeout, NULL, 8);
}

enum { DATAGRAMS_OF_A_BLOCK = 40 }; /* at most */

static void fill_a_block(void)
{
    for (uint32_t number = 0; number <= DATAGRAMS_OF_A_BLOCK; number++)
        send_number(number);
}

static void fill_two_blocks(void)
{
    fill_a_block();
    fill_a_block();
}

/* Blocks come while the ring forgets the edge: it tells of the first as long as that is read, and of the second. */
static void edge_of_blocks_is_not_forgotten(void (*fill)(void), int blocks)
{
    mcf_ring *ring;
    mcf_ring_options options = shape(PAGE, BLOCKS);
    options.retire_ms = 10000; /* what does not fill a block would bring an edge of its own */
    CHECK(mcf_ring_open(&ring, &options, &member, 1) == 0);
    struct pollfd readable = {mcf_ring_fd(ring), POLLIN, 0};
    mcf_ring_block *block;
    meanwhile = fill;
    while (mcf_ring_next(ring, &block) == 0)
        sched_yield();
    for (int left = blocks; --left;) {
        while (!mcf_ring_has_next(ring))
            sched_yield();
        CHECK(poll(&readable, 1, 0) == 1);
        mcf_ring_release(block);
        CHECK(mcf_ring_next(ring, &block) == 1);
    }
    CHECK(poll(&readable, 1, 0) == 1);
    mcf_ring_release(block);
    mcf_ring_close(ring);
}

/* One block is held: the ring goes round to it, says so, and goes on when it is released. */
static void next_block_is_seen_without_a_call(void)
{
    enum { COUNT = 100 };
    mcf_ring *ring = open_ring(PAGE, 64);
    struct pollfd readable = {mcf_ring_fd(ring), POLLIN, 0};
    uint32_t seen = 0;
    CHECK(!mcf_ring_has_next(ring));
    for (uint32_t number = 0; number < COUNT; number++)
        send_number(number);
    while (seen < COUNT) {
        CHECK(poll(&readable, 1, 10000) == 1);
        while (mcf_ring_has_next(ring)) {
            mcf_ring_block *block;
            CHECK(mcf_ring_next(ring, &block) == 1);
            CHECK(block->frames <= DATAGRAMS_OF_A_BLOCK);
            seen += block->frames;
            mcf_ring_release(block);
        }
    }
    CHECK(!mcf_ring_has_next(ring));
    mcf_ring_close(ring);
}

static void held_block_stops_the_ring(void)
{
    mcf_ring *ring = open_ring(PAGE, BLOCKS);
    mcf_ring_block *block;
    uint64_t lost = 0;
    send_number(7);
    mcf_ring_block *held = wait_for_block(ring);
    for (int turn = 1; turn < BLOCKS; turn++) {
        CHECK(mcf_ring_held(ring) == 1);
        send_number(0);
        mcf_ring_release(wait_for_block(ring));
    }
    CHECK(mcf_ring_next(ring, &block) == -ENOBUFS);
    CHECK(mcf_ring_losses(ring, &lost) == 0 && lost == 0);
    send_number(8);
    CHECK(mcf_ring_next(ring, &block) == -ENOBUFS);
    CHECK(mcf_ring_losses(ring, &lost) == 0 && lost == 1);
    CHECK(!mcf_ring_has_next(ring)); /* though what lies there was handed over once */
    CHECK(first_number(held) == 7);

    mcf_ring_retain(held);
    mcf_ring_release(held);
    CHECK(mcf_ring_next(ring, &block) == -ENOBUFS);
    mcf_ring_release(held);
    CHECK(mcf_ring_held(ring) == 0);
    send_number(9);
    block = wait_for_block(ring);
    CHECK(block == held && first_number(block) == 9);
    mcf_ring_release(block);
    mcf_ring_close(ring);
}

static void few_blocks_are_scarce(void)
{
    mcf_ring *ring = open_ring(PAGE, 8);
    mcf_ring_block *held[7];
    for (uint32_t turn = 0; turn < 7; turn++) {
        CHECK(!mcf_ring_is_scarce(ring) && mcf_ring_held(ring) == turn);
        send_number(turn);
        held[turn] = wait_for_block(ring);
    }
    CHECK(mcf_ring_is_scarce(ring));
    for (uint32_t turn = 0; turn < 7; turn++) {
        CHECK(first_number(held[turn]) == turn);
        mcf_ring_release(held[turn]);
        CHECK(!mcf_ring_is_scarce(ring));
    }
    mcf_ring_close(ring);
}

static void losses_are_marked(void)
{
    mcf_ring *ring = open_ring(PAGE, BLOCKS);
    uint64_t lost = 0;
    for (uint32_t number = 0; number < 200; number++)
        send_number(number);
    for (int turn = 0; turn < BLOCKS; turn++)
        mcf_ring_release(wait_for_block(ring));
    send_number(200);
    mcf_ring_block *block = wait_for_block(ring);
    CHECK(first_number(block) == 200 && block->is_after_loss);
    mcf_ring_release(block);
    CHECK(mcf_ring_losses(ring, &lost) == 0 && lost > 0 && lost < 200);
    mcf_ring_close(ring);
}

static void views_outlive_the_ring(void)
{
    unsigned char resident;
    mcf_ring *ring = open_ring(PAGE, BLOCKS);
    send_number(7);
    mcf_ring_block *held = wait_for_block(ring);
    void *memory = (void *)held->data;
    mcf_ring_close(ring);
    for (uint32_t number = 0; number < 1000; number++)
        send_number(number);
    CHECK(first_number(held) == 7);
    const struct tpacket_block_desc *behind = (const void *)(held->data + PAGE);
    CHECK(behind->hdr.bh1.num_pkts == 0 && behind->hdr.bh1.block_status == TP_STATUS_KERNEL);
    CHECK(mincore(memory, PAGE, &resident) == 0);
    mcf_ring_release(held);
    CHECK(mincore(memory, PAGE, &resident) == -1 && errno == ENOMEM);
}

static void filter_is_replaced(void)
{
    mcf_ring *ring = open_ring(PAGE, BLOCKS);
    CHECK(mcf_ring_filter(ring, NULL, 0) == MCF_BPF_EXACT);
    send_number(1);
    CHECK(mcf_ring_filter(ring, &member, 1) == MCF_BPF_EXACT);
    send_number(2);
    mcf_ring_block *block = wait_for_block(ring);
    CHECK(block->frames == 1 && first_number(block) == 2);
    mcf_ring_release(block);
    mcf_ring_close(ring);
}

/* Runs in a forked child, which fails as a CHECK does. */
static void in_child(void (*function)(void *), void *argument, int *finish)
{
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        function(argument);
        _exit(0);
    }
    if (finish) {
        *finish = pid;
        return;
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

typedef struct {
    mcf_ring *ring;
    mcf_ring_block *held;
    int copied[2], overwritten[2]; /* pipes */
} forked;

static void read_after_the_parent(void *argument)
{
    forked *shared = argument;
    mcf_ring_block *block;
    char byte;
    CHECK(mcf_ring_after_fork(shared->ring) == 0);
    CHECK(write(shared->copied[1], "", 1) == 1);
    CHECK(read(shared->overwritten[0], &byte, 1) == 1);
    CHECK(first_number(shared->held) == 7);
    CHECK(mcf_ring_next(shared->ring, &block) == -EPERM);
    CHECK(mcf_ring_error(shared->ring) == -EPERM);
    CHECK(mcf_ring_filter(shared->ring, NULL, 0) == -EPERM);
    mcf_ring_close(shared->ring);
    CHECK(first_number(shared->held) == 7);
    mcf_ring_release(shared->held);
}

static void child_touches_nothing(void)
{
    forked shared = {.ring = open_ring(PAGE, BLOCKS)};
    int pid, status;
    char byte;
    CHECK(pipe(shared.copied) == 0 && pipe(shared.overwritten) == 0);
    send_number(7);
    shared.held = wait_for_block(shared.ring);
    in_child(read_after_the_parent, &shared, &pid);
    CHECK(read(shared.copied[0], &byte, 1) == 1);
    mcf_ring_release(shared.held);
    for (int turn = 0; turn < BLOCKS; turn++) {
        send_number(8);
        mcf_ring_release(wait_for_block(shared.ring));
    }
    send_number(8);
    mcf_ring_block *block = wait_for_block(shared.ring);
    CHECK(write(shared.overwritten[1], "", 1) == 1);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    mcf_ring_release(block);
    send_number(9);
    block = wait_for_block(shared.ring);
    CHECK(first_number(block) == 9);
    mcf_ring_release(block);
    mcf_ring_close(shared.ring);
    for (int end = 0; end < 2; end++) {
        close(shared.copied[end]);
        close(shared.overwritten[end]);
    }
}

static void read_after_the_other_fork(void *argument)
{
    forked *shared = argument;
    CHECK(mcf_ring_after_fork(shared->ring) == 0);
    CHECK(first_number(shared->held) == 7);
    mcf_ring_close(shared->ring);
}

static void two_threads_fork_at_once(void)
{
    forked shared = {.ring = open_ring(PAGE, BLOCKS)};
    send_number(7);
    shared.held = wait_for_block(shared.ring);
    mcf_ring_before_fork(shared.ring);
    mcf_ring_before_fork(shared.ring);
    mcf_ring_in_parent(shared.ring); /* of the one that is done */
    mcf_ring_release(shared.held);
    in_child(read_after_the_other_fork, &shared, NULL);
    mcf_ring_in_parent(shared.ring);
    mcf_ring_close(shared.ring);
}

/* Bytes of address space. */
static long mapped(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long pages;
    CHECK(file && fscanf(file, "%ld", &pages) == 1);
    fclose(file);
    return pages * PAGE;
}

static void closed_between_the_hooks_of_a_fork(void)
{
    enum { ROUNDS = 8, BLOCK = 256 * PAGE };
    long before = mapped();
    for (int round = 0; round < ROUNDS; round++) {
        mcf_ring *ring = open_ring(BLOCK, BLOCKS);
        send_number(7);
        mcf_ring_block *held = wait_for_block(ring);
        mcf_ring_before_fork(ring);
        mcf_ring_close(ring);
        mcf_ring_release(held);
    }
    CHECK(mapped() - before < ROUNDS / 2 * (long)BLOCK * BLOCKS);
}

static void open_without_the_right(void *argument)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}};
    mcf_ring *ring;
    mcf_ring_options options = shape(PAGE, BLOCKS);
    (void)argument;
    CHECK(syscall(SYS_capset, &header, none) == 0);
    CHECK(mcf_ring_open(&ring, &options, &member, 1) == -EPERM);
}

static void switch_loopback(short flags)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = flags};
    CHECK(ioctl(sender, SIOCSIFFLAGS, &request) == 0);
}

/* What goes down and is up again is heard on, and no error any more; of all devices it never was one. */
static void device_that_is_up_again(void *argument)
{
    uint32_t *interface_index = argument;
    mcf_ring *ring;
    mcf_ring_options options = shape(PAGE, BLOCKS);
    options.interface_index = *interface_index;
    CHECK(unshare(CLONE_NEWNET) == 0);
    open_sender();
    switch_loopback(IFF_UP);
    CHECK(mcf_ring_open(&ring, &options, &member, 1) == 0);
    switch_loopback(0);
    CHECK(mcf_ring_error(ring) == (*interface_index ? -ENETDOWN : 0));
    switch_loopback(IFF_UP);
    switch_loopback(0);
    switch_loopback(IFF_UP);
    CHECK(mcf_ring_error(ring) == 0);
    send_number(7);
    mcf_ring_block *block = wait_for_block(ring);
    CHECK(first_number(block) == 7);
    mcf_ring_release(block);
    mcf_ring_close(ring);
}

static void open_on_a_device_that_is_down(void *argument)
{
    (void)argument;
    CHECK(unshare(CLONE_NEWNET) == 0);
    mcf_ring *ring = open_ring(PAGE, BLOCKS);
    struct pollfd readable = {mcf_ring_fd(ring), POLLIN, 0};
    CHECK(poll(&readable, 1, 10000) == 1);
    CHECK(mcf_ring_error(ring) == -ENETDOWN);
    CHECK(mcf_ring_error(ring) == 0);
    mcf_ring_close(ring);
}

static void refusals(void)
{
    static const uint32_t shapes[][3] = {{0, 4, 1}, {PAGE, 0, 1}, {PAGE, 4, 0}, {PAGE + 1, 4, 1}};
    mcf_ring *ring;
    int next = dup(0);
    close(next);
    for (uint32_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        mcf_ring_options options = shape(shapes[i][0], shapes[i][1]);
        options.retire_ms = shapes[i][2];
        CHECK(mcf_ring_open(&ring, &options, &member, 1) == -EINVAL);
    }
    int same = dup(0);
    close(same);
    CHECK(same == next);
    in_child(open_without_the_right, NULL, NULL);
    in_child(open_on_a_device_that_is_down, NULL, NULL);
    for (uint32_t interface_index = 0; interface_index <= LOOPBACK; interface_index++)
        in_child(device_that_is_up_again, &interface_index, NULL);
}

static _Atomic(mcf_ring_block *) boxes[HOLDERS];
static atomic_int done;
static atomic_uint seen;

static void *hold(void *argument)
{
    _Atomic(mcf_ring_block *) *box = argument;
    mcf_ring_packet packet;
    for (;;) {
        mcf_ring_block *block = atomic_exchange(box, NULL);
        if (!block) {
            if (atomic_load(&done))
                return NULL;
            sched_yield();
            continue;
        }
        mcf_ring_cursor cursor = mcf_ring_begin(block);
        mcf_ring_retain(block);
        mcf_ring_release(block);
        for (uint32_t last = 0; mcf_ring_step(&cursor, &packet);) {
            uint32_t number = number_at(&packet);
            CHECK(number > last);
            last = number;
            atomic_fetch_add(&seen, 1);
        }
        mcf_ring_release(block);
    }
}

static void *send_all(void *argument)
{
    (void)argument;
    for (uint32_t number = 1; number <= SENT; number++)
        send_number(number);
    return NULL;
}

/* Each holder walks its own blocks, so that a block which is given back too early shows as numbers out of order. */
static void threads_release(void)
{
    mcf_ring *ring = open_ring(PAGE, 16);
    mcf_ring_block *block;
    pthread_t holders[HOLDERS], source;
    uint64_t lost = 0;
    for (int i = 0; i < HOLDERS; i++)
        holders[i] = start(hold, &boxes[i]);
    source = start(send_all, NULL);
    for (uint32_t turn = 0; atomic_load(&seen) + lost < SENT; turn++) {
        int got = mcf_ring_next(ring, &block);
        CHECK(got >= 0 || got == -ENOBUFS);
        if (got != 1) {
            CHECK(mcf_ring_losses(ring, &lost) == 0);
            sched_yield();
            continue;
        }
        mcf_ring_block *empty = NULL;
        while (!atomic_compare_exchange_weak(&boxes[turn % HOLDERS], &empty, block)) {
            empty = NULL;
            sched_yield();
        }
    }
    join(source);
    atomic_store(&done, 1);
    for (int i = 0; i < HOLDERS; i++)
        join(holders[i]);
    CHECK(atomic_load(&seen) + lost == SENT && atomic_load(&seen) > 0);
    CHECK(mcf_ring_held(ring) == 0);
    mcf_ring_close(ring);
}

int main(void)
{
    open_sender();
    each_comes_once();
    trains_are_told();
    is_not_readable_for_what_was_read();
    is_readable_for_its_companion();
    edge_of_blocks_is_not_forgotten(fill_a_block, 1);
    edge_of_blocks_is_not_forgotten(fill_two_blocks, 2);
    next_block_is_seen_without_a_call();
    held_block_stops_the_ring();
    few_blocks_are_scarce();
    losses_are_marked();
    views_outlive_the_ring();
    filter_is_replaced();
    child_touches_nothing();
    two_threads_fork_at_once();
    closed_between_the_hooks_of_a_fork();
    refusals();
    threads_release();
    close(sender);
    puts("ok");
    return 0;
}
