/* What csrc/apple does over Darwin's calls, which tests/darwin has for Linux: the batched engine, its refusals, the
 * pipe that wakes, sleeps, routes. Both are compiled with tests/darwin/darwin.h included first. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apple/mcf_apple.h"
#include "mcf_interface.h"
#include "posix/mcf_control.h"
#include "race.h"

enum { SIZE = 64, MS = 1000000 };

extern unsigned long count_recvmsg_x, count_sendmsg_x, most_asked;

/* Two sockets of 127.0.0.1, the second connected to the first. */
static int sockets[2];

static void open_sockets(uint32_t metadata)
{
    int room = 4 << 20;
    int destination = !!(metadata & MCF_META_DESTINATION), time = !!(metadata & MCF_META_TIMESTAMP);
    int hops = !!(metadata & MCF_META_HOPS), tos = !!(metadata & MCF_META_TOS);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    for (int i = 0; i < 2; i++)
        CHECK((sockets[i] = socket(AF_INET, SOCK_DGRAM, 0)) >= 0);
    CHECK(bind(sockets[0], (struct sockaddr *)&name, size) == 0);
    CHECK(getsockname(sockets[0], (struct sockaddr *)&name, &size) == 0);
    CHECK(connect(sockets[1], (struct sockaddr *)&name, size) == 0);
    CHECK(setsockopt(sockets[0], SOL_SOCKET, SO_RCVBUF, &room, sizeof room) == 0);
    CHECK(setsockopt(sockets[0], IPPROTO_IP, IP_PKTINFO, &destination, sizeof destination) == 0);
    CHECK(setsockopt(sockets[0], IPPROTO_IP, IP_RECVTTL, &hops, sizeof hops) == 0);
    CHECK(setsockopt(sockets[0], IPPROTO_IP, IP_RECVTOS, &tos, sizeof tos) == 0);
    CHECK(setsockopt(sockets[0], SOL_SOCKET, SO_TIMESTAMPNS, &time, sizeof time) == 0);
}

static void close_sockets(void)
{
    close(sockets[0]);
    close(sockets[1]);
}

static mcf_receiver *open_receiver(uint32_t batch_size, uint32_t max_datagram, uint32_t metadata)
{
    open_sockets(metadata);
    mcf_receiver *receiver = calloc(1, sizeof *receiver);
    receiver->engine = &mcf_apple_engine;
    CHECK(receiver->engine->obstacle() == NULL);
    receiver->family = MCF_IPV4;
    receiver->metadata = metadata;
    receiver->batch_size = batch_size;
    CHECK(mcf_receiver_prepare(receiver, max_datagram, 64 << 20) == 0);
    receiver->fd = sockets[0];
    receiver->wake = mcf_wake_new();
    CHECK(receiver->wake >= 0);
    receiver->is_patient = mcf_set_patience(receiver->fd, MCF_PATIENCE_MS) == 0;
    count_recvmsg_x = most_asked = 0;
    return receiver;
}

static void close_receiver(mcf_receiver *receiver)
{
    mcf_wake_free(receiver->wake);
    mcf_receiver_clear(receiver);
    free(receiver);
    close_sockets();
}

static mcf_sender *open_sender(void)
{
    mcf_sender *sender = calloc(1, sizeof *sender);
    sender->engine = &mcf_apple_engine;
    sender->fd = sockets[1];
    sender->family = MCF_IPV4;
    sender->wake = mcf_wake_new();
    CHECK(sender->wake >= 0 && mcf_sender_init(sender) == 0);
    count_sendmsg_x = most_asked = 0;
    return sender;
}

static void close_sender(mcf_sender *sender)
{
    mcf_wake_free(sender->wake);
    mcf_sender_clear(sender);
    free(sender);
}

/* So many payloads, each its number and as long as a number. */
static void send_numbers(mcf_sender *sender, uint32_t count)
{
    static uint32_t numbers[MCF_MAX_BATCH];
    int64_t deadline = MCF_DO_NOT_WAIT;
    uint32_t sent = 0;
    for (uint32_t i = 0; i < count; i++) {
        numbers[i] = i;
        sender->payloads[i] = (mcf_payload){&numbers[i], sizeof numbers[i]};
    }
    CHECK(mcf_send(sender, &sent, count, &deadline) == 0 && sent == count);
}

static void check_numbers(const mcf_range *got, uint32_t first)
{
    for (uint32_t i = 0; i < got->rows; i++) {
        uint32_t row = got->row + i, number = first + i;
        CHECK(got->arena->lengths[row] == sizeof number && got->arena->flags[row] == 0);
        CHECK(memcmp(got->arena->data + got->data + got->arena->offsets[row], &number, sizeof number) == 0);
    }
}

static void a_call_asks_for_256_at_most(void)
{
    mcf_receiver *receiver = open_receiver(1000, SIZE, 0);
    mcf_sender *sender = open_sender();
    send_numbers(sender, 1000);
    CHECK(count_sendmsg_x == 4 && most_asked == 256);
    most_asked = 0;
    mcf_range got;
    CHECK(mcf_receive(receiver, MCF_DO_NOT_WAIT, &got) == 1000 && got.rows == 1000);
    CHECK(count_recvmsg_x == 4 && most_asked == 256);
    check_numbers(&got, 0);
    mcf_arena_release(got.arena);
    close_sender(sender);
    close_receiver(receiver);
}

static void batches_go_on_behind_each_other(void)
{
    mcf_receiver *receiver = open_receiver(8, SIZE, MCF_META_HOPS);
    mcf_sender *sender = open_sender();
    mcf_range got[3];
    for (int i = 0; i < 3; i++) {
        send_numbers(sender, 3);
        CHECK(mcf_receive(receiver, mcf_clock() + 1000 * (int64_t)MS, &got[i]) == 3);
    }
    for (int i = 0; i < 3; i++) {
        check_numbers(&got[i], 0);
        mcf_arena_release(got[i].arena);
    }
    close_sender(sender);
    close_receiver(receiver);
}

static void one_that_is_longer_is_cut_and_says_so(void)
{
    mcf_receiver *receiver = open_receiver(8, SIZE, 0);
    uint8_t payload[SIZE + 100];
    memset(payload, 'x', sizeof payload);
    const uint32_t sizes[] = {SIZE, SIZE + 1, 0, SIZE + 100, SIZE - 1};
    for (int i = 0; i < 5; i++)
        CHECK(send(sockets[1], payload, sizes[i], 0) == (ssize_t)sizes[i]);
    mcf_range got;
    CHECK(mcf_receive(receiver, MCF_DO_NOT_WAIT, &got) == 5);
    for (uint32_t i = 0; i < 5; i++) {
        CHECK(got.arena->lengths[got.row + i] == (sizes[i] < SIZE ? sizes[i] : SIZE));
        CHECK(got.arena->flags[got.row + i] == (sizes[i] > SIZE ? MCF_FLAG_TRUNCATED : 0));
        CHECK(memcmp(got.arena->data + got.data + got.arena->offsets[got.row + i], payload,
                     got.arena->lengths[got.row + i]) == 0);
    }
    CHECK(mcf_counter_get(&receiver->truncated) == 2);
    mcf_arena_release(got.arena);
    close_receiver(receiver);
}

/* Places of the caller lie side by side, and nothing is behind the last. */
static void the_callers_memory_is_not_written_over(void)
{
    mcf_receiver *receiver = open_receiver(4, SIZE, 0);
    char payload[13];
    memset(payload, 'x', sizeof payload);
    uint8_t *memory = malloc(3 * 12);
    memset(memory, 'm', 3 * 12);
    mcf_arena *arena = mcf_arena_over(memory, 3, 12);
    mcf_range got;
    for (int i = 0; i < 2; i++)
        CHECK(send(sockets[1], payload, sizeof payload, 0) == sizeof payload);
    CHECK(mcf_receive_into(receiver, arena, MCF_DO_NOT_WAIT, &got) == 2);
    CHECK(memory[23] == 'x' && memory[24] == 'm');
    for (int i = 0; i < 3; i++)
        CHECK(send(sockets[1], payload, sizeof payload, 0) == sizeof payload);
    CHECK(mcf_receive_into(receiver, arena, MCF_DO_NOT_WAIT, &got) == 3);
    for (int i = 0; i < 3; i++)
        CHECK(arena->lengths[i] == 12 && arena->flags[i] == MCF_FLAG_TRUNCATED);
    mcf_arena_release(arena);
    free(memory);
    close_receiver(receiver);
}

static void metadata_is_darwins(void)
{
    const uint32_t all = MCF_META_DESTINATION | MCF_META_TIMESTAMP | MCF_META_HOPS | MCF_META_TOS;
    static const uint8_t here[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
    mcf_receiver *receiver = open_receiver(8, SIZE, all);
    mcf_member entry = {.interface_index = if_nametoindex("lo"), .is_exclude = 1};
    memcpy(entry.group, here, sizeof here);
    CHECK(mcf_members_set(&receiver->filter, &entry, 1) == 0);
    int ttl = 7, tos = 0xb8;
    CHECK(setsockopt(sockets[1], IPPROTO_IP, IP_TTL, &ttl, sizeof ttl) == 0);
    CHECK(setsockopt(sockets[1], IPPROTO_IP, IP_TOS, &tos, sizeof tos) == 0);
    struct timespec before, after;
    /* What a short answer leaves of the control buffers is not all that the next one may use. */
    for (int is_whole = 0; is_whole < 2; is_whole++) {
        CHECK(setsockopt(sockets[0], IPPROTO_IP, IP_RECVTTL, &is_whole, sizeof is_whole) == 0);
        clock_gettime(CLOCK_REALTIME, &before);
        CHECK(send(sockets[1], "1", 1, 0) == 1 && send(sockets[1], "2", 1, 0) == 1);
        mcf_range got;
        CHECK(mcf_receive(receiver, MCF_DO_NOT_WAIT, &got) == 2 && got.rows == 2);
        clock_gettime(CLOCK_REALTIME, &after); /* Linux may stamp a first datagram when it is read */
        for (uint32_t row = got.row; row < got.row + 2; row++) {
            CHECK(got.arena->flags[row] == 0);
            CHECK(got.arena->hops[row] == (is_whole ? ttl : 0) && got.arena->tos[row] == tos);
            CHECK(memcmp(got.arena->destinations[row], here, sizeof here) == 0);
            CHECK(got.arena->interfaces[row] == if_nametoindex("lo"));
            int64_t time = got.arena->timestamps[row];
            CHECK(time % 1000 == 0);
            CHECK(time >= ((int64_t)before.tv_sec * 1000000000 + before.tv_nsec) / 1000 * 1000);
            CHECK(time <= (int64_t)after.tv_sec * 1000000000 + after.tv_nsec);
        }
        mcf_arena_release(got.arena);
    }
    close_receiver(receiver);
}

/* Flags that a call left are not for the next one. */
static void cut_metadata_is_flagged_and_the_next_is_whole(void)
{
    mcf_receiver *receiver = open_receiver(8, SIZE, MCF_META_TOS);
    for (int is_cut = 1; is_cut >= 0; is_cut--) {
        CHECK(setsockopt(sockets[0], IPPROTO_IP, IP_PKTINFO, &is_cut, sizeof is_cut) == 0);
        CHECK(send(sockets[1], "1", 1, 0) == 1 && send(sockets[1], "2", 1, 0) == 1);
        mcf_range got;
        CHECK(mcf_receive(receiver, MCF_DO_NOT_WAIT, &got) == 2);
        for (uint32_t row = got.row; row < got.row + 2; row++)
            CHECK(got.arena->flags[row] == (is_cut ? MCF_FLAG_CONTROL_TRUNCATED : 0));
        mcf_arena_release(got.arena);
    }
    CHECK(mcf_counter_get(&receiver->control_truncated) == 2);
    close_receiver(receiver);
}

/* Ticks since the start of the system come in messages of their own, and a message may be cut. */
static void only_the_time_of_day_passes_for_it(void)
{
    union {
        struct cmsghdr message;
        uint8_t bytes[CMSG_SPACE(sizeof(struct timeval))];
    } control;
    control.message = (struct cmsghdr){CMSG_LEN(sizeof(struct timeval)), SOL_SOCKET, SCM_TIMESTAMP};
    memcpy(CMSG_DATA(&control.message), &(struct timeval){1, 2}, sizeof(struct timeval));
    struct msghdr header = {.msg_control = &control, .msg_controllen = sizeof control};
    mcf_receiver receiver = {.metadata = MCF_META_TIMESTAMP};
    mcf_arena *arena = mcf_arena_new(&(mcf_shape){.rows = 1, .max_datagram = SIZE, .data_size = SIZE});
    CHECK(mcf_control_read(&receiver, &header, arena, 0) == 0 && arena->timestamps[0] == 1000002000);
    control.message.cmsg_type = 4; /* SCM_TIMESTAMP_MONOTONIC */
    CHECK(mcf_control_read(&receiver, &header, arena, 0) == 0 && arena->timestamps[0] == 0);
    control.message.cmsg_type = SCM_TIMESTAMP;
    control.message.cmsg_len -= 1;
    arena->timestamps[0] = -1;
    CHECK(mcf_control_read(&receiver, &header, arena, 0) == 0 && arena->timestamps[0] == 0);
    mcf_arena_release(arena);
}

static void a_receive_that_waits_takes_the_whole_batch(void)
{
    mcf_receiver *receiver = open_receiver(64, SIZE, 0);
    mcf_sender *sender = open_sender();
    send_numbers(sender, 64);
    mcf_arena *arena = mcf_arena_new(&(mcf_shape){.rows = 64, .max_datagram = SIZE, .data_size = 64 * SIZE});
    mcf_range got;
    CHECK(receiver->engine->receive(receiver, arena, 64, 1, &got) == 64);
    check_numbers(&got, 0);
    int64_t began = mcf_clock();
    arena->used_rows = 0, arena->used_data = 0;
    CHECK(receiver->engine->receive(receiver, arena, 64, 1, &got) == 0);
    CHECK(mcf_clock() - began >= MCF_PATIENCE_MS * (int64_t)MS);
    mcf_arena_release(arena);
    close_sender(sender);
    close_receiver(receiver);
}

static void nothing_is_no_error_and_errors_are(void)
{
    mcf_receiver *receiver = open_receiver(64, SIZE, 0);
    mcf_range got;
    CHECK(mcf_receive(receiver, MCF_DO_NOT_WAIT, &got) == 0);
    int fd = (int)receiver->fd;
    receiver->fd = -1;
    CHECK(mcf_receive(receiver, MCF_DO_NOT_WAIT, &got) == -EBADF);
    receiver->fd = fd;
    CHECK(shutdown(fd, SHUT_RD) < 0 || mcf_receive(receiver, MCF_DO_NOT_WAIT, &got) == 0);
    close_receiver(receiver);
}

static void empty_payloads_go_too(void)
{
    mcf_receiver *receiver = open_receiver(64, SIZE, 0);
    mcf_sender *sender = open_sender();
    static const char *const payloads[] = {"", "1", "2", "", "", "3"};
    for (int i = 0; i < 6; i++)
        sender->payloads[i] = (mcf_payload){payloads[i], strlen(payloads[i])};
    uint32_t sent = 0;
    int64_t deadline = MCF_DO_NOT_WAIT;
    CHECK(mcf_send(sender, &sent, 6, &deadline) == 0 && sent == 6);
    mcf_range got;
    CHECK(mcf_receive(receiver, MCF_DO_NOT_WAIT, &got) == 6);
    for (uint32_t i = 0; i < 6; i++)
        CHECK(got.arena->lengths[got.row + i] == strlen(payloads[i]));
    mcf_arena_release(got.arena);
    close_sender(sender);
    close_receiver(receiver);
}

static void a_send_says_how_far_it_came(void)
{
    mcf_receiver *receiver = open_receiver(64, SIZE, 0);
    mcf_sender *sender = open_sender();
    static uint8_t large[70000];
    for (int i = 0; i < 4; i++)
        sender->payloads[i] = (mcf_payload){large, i == 2 ? sizeof large : 1};
    uint32_t sent = 0;
    int64_t deadline = MCF_DO_NOT_WAIT;
    CHECK(mcf_send(sender, &sent, 4, &deadline) == -EMSGSIZE && sent == 2);
    sender->fd = -1;
    CHECK(sender->engine->send(sender, 0, 2) == -EBADF);
    close_sender(sender);
    close_receiver(receiver);
}

static void old_systems_are_refused(void)
{
    static const struct {
        const char *release;
        int is_good;
    } systems[] = {{"22.6.0", 0}, {"24.5.0", 0}, {"24", 0}, {"", 0}, {"24.6.0", 1}, {"24.10.1", 1}, {"25.0.0", 1}};
    for (size_t i = 0; i < sizeof systems / sizeof *systems; i++) {
        setenv("DARWIN_RELEASE", systems[i].release, 1);
        const char *reason = mcf_apple_engine.obstacle();
        CHECK(systems[i].is_good ? !reason : strstr(reason, "before macOS 15.6") != NULL);
    }
    unsetenv("DARWIN_RELEASE");
}

static void the_plain_call_is_the_one_that_auto_picks(void)
{
    CHECK(strcmp(mcf_engines[0]->name, "socket") == 0 && !mcf_engines[0]->obstacle);
    CHECK(strcmp(mcf_engines[1]->name, "portable") == 0);
    CHECK(mcf_engines[2] == &mcf_apple_engine && !mcf_engines[3]);
}

static void a_pipe_wakes_until_it_is_reset(void)
{
    mcf_socket wake = mcf_wake_new();
    CHECK(wake > 0 && !mcf_wake_reset(wake));
    uint32_t looks = 0;
    struct pollfd polled = {.fd = (int)wake, .events = POLLIN};
    CHECK(fcntl((int)wake, F_GETFD) & FD_CLOEXEC && fcntl((int)(wake >> 32), F_GETFD) & FD_CLOEXEC);
    CHECK(poll(&polled, 1, 0) == 0 && mcf_wait(-1, 0, wake, MCF_DO_NOT_WAIT, &looks) == 0);
    for (int i = 0; i < 100000; i++) /* more than a pipe holds */
        mcf_wake_signal(wake);
    CHECK(poll(&polled, 1, 0) == 1 && mcf_wait(-1, 0, wake, MCF_NO_DEADLINE, &looks) == -ECANCELED);
    CHECK(mcf_rest(wake, mcf_clock() + 1000 * (int64_t)MS) == -ECANCELED);
    CHECK(mcf_pause(wake, mcf_clock() + 1000 * (int64_t)MS) == -ECANCELED);
    CHECK(mcf_wake_reset(wake) && !mcf_wake_reset(wake));
    CHECK(poll(&polled, 1, 0) == 0);
    mcf_wake_free(wake);
    CHECK(fcntl((int)wake, F_GETFD) < 0 && fcntl((int)(wake >> 32), F_GETFD) < 0);
}

static void rests_and_pauses_end_no_sooner_than_asked(void)
{
    static const int64_t lengths[] = {-5, 0, 1, 100000, 999999, MS, MS + 1, 5 * MS + 300000};
    mcf_socket wake = mcf_wake_new();
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int64_t until = mcf_clock() + lengths[i];
        CHECK(mcf_rest(wake, until) == 0 && mcf_clock() >= until);
        until = mcf_clock() + lengths[i];
        CHECK(mcf_pause(wake, until) == 0 && mcf_clock() >= until);
    }
    mcf_wake_free(wake);
}

static void a_route_leads_to_an_interface(void)
{
    static const uint8_t here[4] = {127, 0, 0, 1}, here6[16] = {[15] = 1}, nowhere[4] = {192, 0, 2, 1};
    CHECK(mcf_route_interface(AF_INET, here) == (int)if_nametoindex("lo"));
    CHECK(mcf_route_interface(AF_INET6, here6) == (int)if_nametoindex("lo"));
    CHECK(mcf_route_interface(AF_INET, nowhere) == -ENETUNREACH);
    CHECK(mcf_route_interface(AF_UNIX, here) == -EAFNOSUPPORT);
    CHECK(mcf_interface_stamps("lo") == -EOPNOTSUPP);
    CHECK(mcf_collect_errors(-1) == 0);
}

int main(void)
{
    a_call_asks_for_256_at_most();
    batches_go_on_behind_each_other();
    one_that_is_longer_is_cut_and_says_so();
    the_callers_memory_is_not_written_over();
    metadata_is_darwins();
    cut_metadata_is_flagged_and_the_next_is_whole();
    only_the_time_of_day_passes_for_it();
    a_receive_that_waits_takes_the_whole_batch();
    nothing_is_no_error_and_errors_are();
    empty_payloads_go_too();
    a_send_says_how_far_it_came();
    old_systems_are_refused();
    the_plain_call_is_the_one_that_auto_picks();
    a_pipe_wakes_until_it_is_reset();
    rests_and_pauses_end_no_sooner_than_asked();
    a_route_leads_to_an_interface();
    puts("ok");
    return 0;
}
