/* Which errors of a send are the payload's own, over an engine that gives them as it is told. */
#define _DEFAULT_SOURCE
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mcf_io.h"

static int refusals;         /* that the engine still gives */
static int refused_in_batch; /* ends a batch after each datagram without saying why, as sendmmsg(2) does */
static int is_counted_elsewhere;
static mcf_sender *sender;

/* Has the host say, before this returns, that nobody listens. */
static void provoke_report(void)
{
    int error;
    socklen_t size = sizeof error;
    assert(send((int)sender->fd, "", 0, 0) == 0);
    assert(getsockopt((int)sender->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == ECONNREFUSED);
}

static void prepare_send(mcf_sender *prepared)
{
    (void)prepared;
}

static int send_one(mcf_sender *sending, const void *data, size_t length)
{
    (void)data, (void)length;
    sending->tried = 1;
    if (!refusals)
        return 1;
    refusals--;
    provoke_report();
    if (is_counted_elsewhere) /* by whoever reads the statistics */
        mcf_counter_add(&sending->late_errors, mcf_collect_errors(sending->fd));
    return -ECONNREFUSED;
}

static int send_batch(mcf_sender *sending, uint32_t first, uint32_t count)
{
    (void)first;
    sending->tried = 1;
    if (!refused_in_batch || count == 1)
        return (int)count;
    provoke_report();
    return 1;
}

static const mcf_engine engine = {.prepare_send = prepare_send, .send = send_batch, .send_one = send_one};

static void open_sender(void)
{
    int on = 1;
    struct sockaddr_in closed = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof closed;
    int fd = socket(AF_INET, SOCK_DGRAM, 0), taken = socket(AF_INET, SOCK_DGRAM, 0);
    assert(fd >= 0 && taken >= 0);
    assert(bind(taken, (struct sockaddr *)&closed, sizeof closed) == 0);
    assert(getsockname(taken, (struct sockaddr *)&closed, &size) == 0);
    close(taken);
    assert(connect(fd, (struct sockaddr *)&closed, sizeof closed) == 0);
    assert(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on) == 0);
    sender = calloc(1, sizeof *sender);
    sender->engine = &engine;
    sender->fd = fd;
    sender->queues_errors = (uint8_t)mcf_queues_errors(fd, MCF_IPV4);
    assert(sender->queues_errors);
    sender->wake = mcf_wake_new();
    assert(sender->wake >= 0 && mcf_sender_init(sender) == 0);
}

static void close_sender(void)
{
    close((int)sender->fd);
    mcf_wake_free(sender->wake);
    mcf_sender_clear(sender);
    free(sender);
}

static int send_payload(int met)
{
    int64_t deadline = MCF_NO_DEADLINE;
    refusals = met;
    return mcf_send_one(sender, "", 0, &deadline);
}

static void several_reports_do_not_make_an_error_the_payloads(void)
{
    open_sender();
    assert(send_payload(5) == 0);
    assert(mcf_counter_get(&sender->late_errors) == 5 && mcf_counter_get(&sender->datagrams) == 1);
    close_sender();
}

static void reports_without_end_are_an_error(void)
{
    open_sender();
    assert(send_payload(1000000) == -ECONNREFUSED);
    assert(mcf_counter_get(&sender->datagrams) == 0);
    close_sender();
}

static void a_report_that_another_thread_has_counted_counts_once(void)
{
    open_sender();
    is_counted_elsewhere = 1;
    assert(send_payload(3) == 0);
    is_counted_elsewhere = 0;
    assert(mcf_counter_get(&sender->late_errors) == 3);
    close_sender();
}

/* More than the system's queue of them has room for. */
static void what_ends_a_batch_early_is_counted_meanwhile(void)
{
    enum { COUNT = MCF_MAX_BATCH };
    uint32_t sent = 0;
    int64_t deadline = MCF_NO_DEADLINE;
    open_sender();
    for (uint32_t i = 0; i < COUNT; i++)
        sender->payloads[i] = (mcf_payload){"", 0};
    refused_in_batch = 1;
    assert(mcf_send(sender, &sent, COUNT, &deadline) == 0 && sent == COUNT);
    refused_in_batch = 0;
    assert(mcf_counter_get(&sender->late_errors) == COUNT - 1);
    close_sender();
}

int main(void)
{
    several_reports_do_not_make_an_error_the_payloads();
    reports_without_end_are_an_error();
    a_report_that_another_thread_has_counted_counts_once();
    what_ends_a_batch_early_is_counted_meanwhile();
    puts("ok");
    return 0;
}
