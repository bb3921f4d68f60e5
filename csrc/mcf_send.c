#include "mcf_io.h"

#include <errno.h>
#include <stdlib.h>

int mcf_sender_init(mcf_sender *sender)
{
    if (sender->engine->send_vector_size) {
        sender->vectors = calloc(1, sender->engine->send_vector_size);
        if (!sender->vectors)
            return -ENOMEM;
    }
    sender->engine->prepare_send(sender);
    return 0;
}

void mcf_sender_clear(mcf_sender *sender)
{
    free(sender->vectors);
    sender->vectors = NULL;
}

void mcf_sender_share(mcf_sender *sender)
{
    if (mcf_switch_get(&sender->is_private) && sender->engine->share)
        sender->engine->share(sender);
}

/* A socket answers a send with the error of an earlier datagram (ICMP), once, and then sends nothing. So the first
 * error is doubted and the payload tried again; one that comes twice is its own. Where the socket has a queue of
 * errors, that says how many were late, and while there are such a payload may meet several; else one that did not come
 * again was. */
enum { MOST_DOUBTS = 64 };

static void settle(mcf_sender *sender, int *doubts)
{
    if (*doubts && !sender->queues_errors)
        mcf_counter_add(&sender->late_errors, 1);
    *doubts = 0;
}

static void count_late(mcf_sender *sender)
{
    mcf_counter_add(&sender->late_errors, mcf_collect_errors(sender->fd));
}

/* What to do after a send that took nothing: 0 = try the same payload again, otherwise the error to report. `counted`
 * were the late errors when the call began; who has counted some since may have been another thread. */
static int after_failure(mcf_sender *sender, int error, int64_t counted, int64_t deadline, int *doubts)
{
    /* Before waiting too: while a report is queued, poll calls the socket ready. */
    count_late(sender);
    if (error == 0) {
        uint32_t looks = 0;
        settle(sender, doubts);
        if (deadline == MCF_DO_NOT_WAIT)
            return -EAGAIN;
        int ready = mcf_wait(sender->fd, MCF_WRITABLE, sender->wake, deadline, &looks);
        return ready > 0 ? 0 : ready < 0 ? ready : -ETIMEDOUT;
    }
    if (error == -ENOBUFS) { /* never an answer of the network: what was tried is lost */
        mcf_counter_bump(&sender->send_drops, sender->tried);
        return error;
    }
    int most = sender->queues_errors && mcf_counter_get(&sender->late_errors) > counted ? MOST_DOUBTS : 1;
    if (*doubts >= most)
        return error;
    ++*doubts;
    return 0;
}

enum { LOOK_EVERY = 100000000 }; /* nanoseconds */

/* -ECANCELED when woken, else 0, or -EINTR where that lets the caller look for signals. */
static int look(mcf_sender *sender, int64_t now)
{
    uint32_t looks = 0;
    sender->looked = now;
    int error = mcf_wait(-1, 0, sender->wake, MCF_DO_NOT_WAIT, &looks);
    return error || !sender->pace.units ? error : -EINTR;
}

int mcf_sender_look(mcf_sender *sender)
{
    int64_t now = mcf_clock();
    return now - sender->looked < LOOK_EVERY ? 0 : look(sender, now);
}

/* Waits for the sender's turn; *now becomes the time. Returns how many datagrams may go at once, or -errno. */
static int await_turn(mcf_sender *sender, int64_t *now, int64_t *deadline)
{
    int64_t turn = mcf_pace_turn(&sender->pace);
    int64_t began = *now = mcf_clock();
    int error = 0;
    while (!error) {
        int64_t due = sender->looked + LOOK_EVERY;
        if (*now >= due)
            error = look(sender, *now);
        else if (turn > *now)
            error = mcf_pause(sender->wake, turn < due ? turn : due);
        else
            break;
        *now = mcf_clock();
    }
    if (*deadline > 0)
        *deadline += *now - began;
    return error ? error : (int)mcf_pace_most(&sender->pace, *now);
}

static uint64_t cost_of(const mcf_sender *sender, uint32_t first, uint32_t count)
{
    uint64_t cost = 0;
    for (uint32_t i = first; i < first + count; i++)
        cost += mcf_pace_cost(&sender->pace, sender->payloads[i].length);
    return cost;
}

static int64_t bytes_of(const mcf_sender *sender, uint32_t first, uint32_t count)
{
    int64_t bytes = 0;
    for (uint32_t i = first; i < first + count; i++)
        bytes += (int64_t)sender->payloads[i].length;
    return bytes;
}

int mcf_send_each(mcf_sender *sender, uint32_t first, uint32_t count)
{
    sender->tried = 1;
    for (uint32_t i = 0; i < count; i++) {
        int gone =
            sender->engine->send_one(sender, sender->payloads[first + i].data, sender->payloads[first + i].length);
        if (gone <= 0)
            return i ? (int)i : gone;
    }
    return (int)count;
}

int mcf_send(mcf_sender *sender, uint32_t *sent, uint32_t count, int64_t *deadline)
{
    int doubts = 0;
    int is_paced = sender->pace.units != 0;
    int64_t late = mcf_counter_get(&sender->late_errors);
    while (*sent < count) {
        uint32_t most = count - *sent;
        int64_t began = 0;
        if (is_paced) {
            int allowed = await_turn(sender, &began, deadline);
            if (allowed < 0)
                return allowed;
            if ((uint32_t)allowed < most)
                most = (uint32_t)allowed;
        }
        int gone = sender->engine->send(sender, *sent, most);
        /* What the device's queue dropped has had its turn, or whoever goes on would flood the queue. */
        if (is_paced && (gone > 0 || gone == -ENOBUFS)) {
            uint32_t spent = gone > 0 ? (uint32_t)gone : sender->tried;
            mcf_pace_spend(&sender->pace, spent, cost_of(sender, *sent, spent), began, mcf_clock());
        }
        if (gone > 0) {
            mcf_counter_bump(&sender->datagrams, gone);
            mcf_counter_bump(&sender->bytes, bytes_of(sender, *sent, (uint32_t)gone));
            *sent += (uint32_t)gone;
            settle(sender, &doubts);
            /* One by one: a send that ended early met an error, and has not said so. */
            if ((uint32_t)gone < most && sender->tried == 1)
                count_late(sender);
            continue;
        }
        int error = after_failure(sender, gone, late, *deadline, &doubts);
        if (error)
            return error;
    }
    return 0;
}

int mcf_send_rows(mcf_sender *sender, const uint8_t *rows, size_t size, uint32_t count, uint32_t *sent)
{
    int doubts = 0;
    int64_t late = mcf_counter_get(&sender->late_errors);
    *sent = 0;
    if (sender->pace.units || !sender->engine->send_rows)
        return 0;
    while (*sent < count) {
        int gone = sender->engine->send_rows(sender, rows + *sent * size, size, count - *sent);
        if (gone < 0) {
            int error = after_failure(sender, gone, late, MCF_DO_NOT_WAIT, &doubts);
            if (error)
                return error == -ENOBUFS ? error : 0;
            continue;
        }
        settle(sender, &doubts);
        if (gone == 0)
            return 0;
        mcf_counter_bump(&sender->datagrams, gone);
        mcf_counter_bump(&sender->bytes, gone * (int64_t)size);
        *sent += (uint32_t)gone;
    }
    return 0;
}

int mcf_send_one(mcf_sender *sender, const void *data, size_t length, int64_t *deadline)
{
    int doubts = 0;
    int is_paced = sender->pace.units != 0;
    int64_t late = mcf_counter_get(&sender->late_errors);
    sender->tried = 1;
    for (;;) {
        int64_t began = 0;
        if (is_paced) {
            int allowed = await_turn(sender, &began, deadline);
            if (allowed < 0)
                return allowed;
        }
        int error = sender->engine->send_one(sender, data, length);
        if (is_paced && (error > 0 || error == -ENOBUFS))
            mcf_pace_spend(&sender->pace, 1, mcf_pace_cost(&sender->pace, length), began, mcf_clock());
        if (error > 0) {
            mcf_counter_bump(&sender->datagrams, 1);
            mcf_counter_bump(&sender->bytes, (int64_t)length);
            settle(sender, &doubts);
            return 0;
        }
        error = after_failure(sender, error, late, *deadline, &doubts);
        if (error)
            return error;
    }
}
