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

/* A socket answers a send with the error of an earlier datagram (ICMP), once, and then sends nothing. So the first
 * error is doubted and the payload tried again; one that comes twice is its own. Where the socket has a queue of
 * errors, that says how many were late; else one that did not come again was. */
enum { NO_DOUBT, REPORTED, UNREPORTED };

static void settle(mcf_sender *sender, int *doubt)
{
    if (*doubt == UNREPORTED)
        mcf_counter_add(&sender->late_errors, 1);
    *doubt = NO_DOUBT;
}

/* What to do after a send that took nothing: 0 = try the same payload again, otherwise the error to report. */
static int after_failure(mcf_sender *sender, int error, int64_t deadline, int *doubt)
{
    /* Before waiting too: while a report is queued, poll calls the socket ready. */
    int late = mcf_collect_errors(sender->fd);
    mcf_counter_add(&sender->late_errors, late);
    if (error == 0) {
        settle(sender, doubt);
        if (deadline == MCF_DO_NOT_WAIT)
            return -EAGAIN;
        int ready = mcf_wait(sender->fd, MCF_WRITABLE, sender->wake, deadline);
        return ready > 0 ? 0 : ready < 0 ? ready : -ETIMEDOUT;
    }
    if (error == -ENOBUFS) { /* never an answer of the network: what was tried is lost */
        mcf_counter_bump(&sender->send_drops, sender->tried);
        return error;
    }
    if (*doubt != NO_DOUBT)
        return error;
    *doubt = late ? REPORTED : UNREPORTED;
    return 0;
}

int mcf_send(mcf_sender *sender, uint32_t *sent, uint32_t count, int64_t deadline)
{
    int doubt = NO_DOUBT;
    while (*sent < count) {
        int gone = sender->engine->send(sender, *sent, count - *sent);
        if (gone > 0) {
            int64_t bytes = 0;
            for (uint32_t i = *sent; i < *sent + (uint32_t)gone; i++)
                bytes += (int64_t)sender->payloads[i].length;
            mcf_counter_bump(&sender->datagrams, gone);
            mcf_counter_bump(&sender->bytes, bytes);
            *sent += (uint32_t)gone;
            settle(sender, &doubt);
            continue;
        }
        int error = after_failure(sender, gone, deadline, &doubt);
        if (error)
            return error;
    }
    return 0;
}

int mcf_send_one(mcf_sender *sender, const void *data, size_t length, int64_t deadline)
{
    int doubt = NO_DOUBT;
    sender->tried = 1;
    for (;;) {
        int error = sender->engine->send_one(sender, data, length);
        if (error > 0) {
            mcf_counter_bump(&sender->datagrams, 1);
            mcf_counter_bump(&sender->bytes, (int64_t)length);
            settle(sender, &doubt);
            return 0;
        }
        error = after_failure(sender, error, deadline, &doubt);
        if (error)
            return error;
    }
}
