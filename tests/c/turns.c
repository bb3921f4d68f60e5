/* How a paced sender waits for its turn, over an engine that sends nothing. */
#define _POSIX_C_SOURCE 200809L
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mcf_io.h"

enum { MS = 1000000 };

static int answer; /* of the engine; 1 = all went */
static uint32_t calls, most;

static void prepare_send(mcf_sender *sender)
{
    (void)sender;
}

static int send_batch(mcf_sender *sender, uint32_t first, uint32_t count)
{
    (void)first;
    calls++;
    most = count > most ? count : most;
    sender->tried = 1;
    return answer > 0 ? (int)count : answer;
}

static int send_one(mcf_sender *sender, const void *data, size_t length)
{
    (void)sender, (void)data, (void)length;
    calls++;
    return answer;
}

static const mcf_engine engine = {.prepare_send = prepare_send, .send = send_batch, .send_one = send_one};

/* With a datagram each so many nanoseconds, of which the first has gone. */
static mcf_sender *open_sender(uint64_t gap, uint32_t burst)
{
    mcf_sender *sender = calloc(1, sizeof *sender);
    sender->engine = &engine;
    sender->fd = -1;
    sender->wake = mcf_wake_new();
    assert(sender->wake >= 0 && mcf_sender_init(sender) == 0);
    sender->pace = (mcf_pace){.units = 1, .span = gap, .burst = burst, .counts = MCF_PACE_DATAGRAMS, .mtu = 1500};
    sender->looked = mcf_clock();
    int64_t deadline = MCF_NO_DEADLINE;
    answer = 1;
    assert(mcf_send_one(sender, "", 0, &deadline) == 0 && deadline == MCF_NO_DEADLINE);
    calls = most = 0;
    return sender;
}

static void close_sender(mcf_sender *sender)
{
    mcf_wake_free(sender->wake);
    mcf_sender_clear(sender);
    free(sender);
}

static void a_deadline_moves_on_with_the_wait(void)
{
    mcf_sender *sender = open_sender(5 * MS, 1);
    int64_t start = mcf_clock(), one = 1, batch = 1, not_at_all = MCF_DO_NOT_WAIT;
    while (one == 1)
        mcf_send_one(sender, "", 0, &one);
    assert(one <= 1 + mcf_clock() - start);
    while (batch == 1) {
        uint32_t sent = 0;
        mcf_send(sender, &sent, 2, &batch);
    }
    assert(batch <= 1 + mcf_clock() - start);
    mcf_send_one(sender, "", 0, &not_at_all);
    assert(not_at_all == MCF_DO_NOT_WAIT);
    close_sender(sender);
}

static void a_call_is_given_no_more_than_a_burst(void)
{
    mcf_sender *sender = open_sender(1000, 5);
    int64_t deadline = MCF_NO_DEADLINE;
    for (uint32_t sent = 0; sent < 100;)
        mcf_send(sender, &sent, 100, &deadline);
    assert(most == 5 && calls >= 20);
    close_sender(sender);
}

static void what_the_queue_drops_has_had_its_turn_and_what_finds_no_room_has_not(void)
{
    mcf_sender *sender = open_sender(20 * MS, 1);
    int64_t deadline = MCF_DO_NOT_WAIT;
    answer = 0;
    int error;
    while ((error = mcf_send_one(sender, "", 0, &deadline)) == -EINTR)
        ;
    int64_t turn = mcf_pace_turn(&sender->pace);
    assert(error == -EAGAIN && turn <= mcf_clock());
    answer = -ENOBUFS;
    assert(mcf_send_one(sender, "", 0, &deadline) == -ENOBUFS && mcf_pace_turn(&sender->pace) > turn);
    uint32_t sent = 0;
    turn = mcf_pace_turn(&sender->pace);
    while ((error = mcf_send(sender, &sent, 1, &deadline)) == -EINTR)
        ;
    assert(error == -ENOBUFS && sent == 0 && mcf_pace_turn(&sender->pace) > turn);
    close_sender(sender);
}

static void a_caller_may_look_for_signals_now_and_then(void)
{
    mcf_sender *sender = open_sender(UINT64_C(10000) * MS, 1);
    int64_t deadline = MCF_NO_DEADLINE;
    uint32_t sent = 0;
    assert(mcf_send_one(sender, "", 0, &deadline) == -EINTR);
    assert(mcf_send(sender, &sent, 1, &deadline) == -EINTR && sent == 0 && calls == 0);
    close_sender(sender);
}

static void a_wake_up_is_seen_also_where_nobody_sleeps(void)
{
    mcf_sender *sender = open_sender(50000, 1);
    int64_t deadline = MCF_NO_DEADLINE;
    mcf_wake_signal(sender->wake);
    int error;
    do
        error = mcf_send_one(sender, "", 0, &deadline);
    while (error == 0);
    assert(error == -ECANCELED);
    close_sender(sender);
}

int main(void)
{
    a_deadline_moves_on_with_the_wait();
    a_call_is_given_no_more_than_a_burst();
    what_the_queue_drops_has_had_its_turn_and_what_finds_no_room_has_not();
    a_caller_may_look_for_signals_now_and_then();
    a_wake_up_is_seen_also_where_nobody_sleeps();
    puts("ok");
    return 0;
}
