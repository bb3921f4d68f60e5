/* The "socket" engine: Windows has no call that receives or sends several datagrams, so a batch is what is there when
 * the socket is emptied, each datagram received into its place. */
#include "windows/mcf_windows.h"

#include <assert.h>
#include <string.h>

#ifndef SIO_UDP_NETRESET
#define SIO_UDP_NETRESET _WSAIOW(IOC_VENDOR, 15)
#endif
static_assert(SIO_UDP_CONNRESET == 0x9800000c && SIO_UDP_NETRESET == 0x9800000f, "mstcpip.h");

enum { MOST_REPORTS = 64 }; /* in a row, before the caller may look around */

/* receiver->vectors. */
typedef struct {
    LPFN_WSARECVMSG receive_message; /* NULL = not asked yet */
} vectors;

static size_t vector_size(const mcf_receiver *receiver, uint32_t rows)
{
    (void)receiver, (void)rows;
    return sizeof(vectors);
}

static void prepare(mcf_receiver *receiver)
{
    (void)receiver;
}

static int control(mcf_socket fd, DWORD code, void *in, DWORD in_size, void *out, DWORD out_size)
{
    DWORD written;
    int result = WSAIoctl((SOCKET)fd, code, in, in_size, out, out_size, &written, NULL, NULL);
    return result ? mcf_winsock_error(WSAGetLastError()) : 0;
}

int mcf_socket_begin(mcf_socket fd, int is_ours)
{
    u_long no_waiting = 1;
    if (ioctlsocket((SOCKET)fd, (long)FIONBIO, &no_waiting))
        return mcf_winsock_error(WSAGetLastError());
    if (is_ours) {
        /* Else what ICMP says about something sent fails a receive; where that cannot be had, receive() skips it. */
        BOOL reports = FALSE;
        control(fd, SIO_UDP_CONNRESET, &reports, sizeof reports, NULL, 0);
        control(fd, SIO_UDP_NETRESET, &reports, sizeof reports, NULL, 0);
    }
    return 0;
}

void mcf_socket_end(mcf_socket fd, int waits)
{
    u_long no_waiting = !waits;
    ioctlsocket((SOCKET)fd, (long)FIONBIO, &no_waiting);
}

int mcf_find_receive_message(mcf_socket fd, LPFN_WSARECVMSG *found)
{
    GUID id = WSAID_WSARECVMSG;
    if (*found)
        return 0;
    return control(fd, SIO_GET_EXTENSION_FUNCTION_POINTER, &id, sizeof id, found, sizeof *found);
}

/* Receives one datagram into *message, whose dwFlags say what was cut. Returns 0 or a code of Winsock. */
static int receive_one(const mcf_receiver *receiver, WSAMSG *message, DWORD *length)
{
    const vectors *found = receiver->vectors;
    int result;
    if (message->Control.len)
        result = found->receive_message((SOCKET)receiver->fd, message, length, NULL, NULL);
    else
        result = WSARecvFrom((SOCKET)receiver->fd, message->lpBuffers, 1, length, &message->dwFlags, message->name,
                             &message->namelen, NULL, NULL);
    int error = result ? WSAGetLastError() : 0;
    if (error != WSAEMSGSIZE)
        return error;
    /* The datagram is gone from the socket, and fills its place; how much was written is not told reliably. */
    message->dwFlags |= MSG_TRUNC;
    *length = message->lpBuffers->len;
    return 0;
}

static void describe_source(const mcf_name *name, mcf_arena *arena, uint32_t row)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (name->any.sa_family == AF_INET) {
        memcpy(arena->sources[row], mapped, sizeof mapped);
        memcpy(arena->sources[row] + 12, &name->ipv4.sin_addr, 4);
        arena->source_ports[row] = ntohs(name->ipv4.sin_port);
    } else {
        memcpy(arena->sources[row], &name->ipv6.sin6_addr, 16);
        arena->source_ports[row] = ntohs(name->ipv6.sin6_port);
        arena->source_scopes[row] = name->ipv6.sin6_scope_id;
    }
}

void mcf_take_datagram(mcf_receiver *receiver, WSAMSG *message, uint32_t place, uint32_t length, mcf_arena *arena,
                       mcf_tally *tally)
{
    uint32_t row = arena->used_rows + tally->kept;
    tally->used++;
    arena->offsets[row] = place * arena->slot_size;
    arena->lengths[row] = length;
    arena->flags[row] = message->dwFlags & MSG_TRUNC ? MCF_FLAG_TRUNCATED : 0;
    describe_source((const mcf_name *)message->name, arena, row);
    if (receiver->metadata) {
        if (message->dwFlags & MSG_CTRUNC)
            arena->flags[row] |= MCF_FLAG_CONTROL_TRUNCATED;
        mcf_control_read(receiver, message, arena, row);
        /* Now: what came after a join must not meet the set before it. */
        mcf_members_adopt(&receiver->filter);
        if (!mcf_members_pass(&receiver->filter, arena->destinations[row], arena->interfaces[row]))
            return;
    }
    tally->kept++;
    tally->bytes += length;
    tally->flags |= arena->flags[row];
}

static int receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t most, int wait, mcf_range *got)
{
    (void)wait; /* such sockets have no patience: mcf_set_patience */
    uint32_t count = mcf_choose_count(receiver, arena, most);
    uint32_t reports = 0;
    mcf_tally tally = {0};
    vectors *found = receiver->vectors;
    int error = receiver->metadata ? mcf_find_receive_message(receiver->fd, &found->receive_message) : 0;
    if (error)
        return error;
    while (tally.used < count) {
        WSABUF payload = {arena->max_datagram, (char *)mcf_next_place(arena, &tally)};
        /* Zero, lest what a cut datagram leaves unwritten be read. */
        mcf_name name = {0};
        mcf_control messages = {{0}};
        WSAMSG message = {
            .name = &name.any,
            .namelen = sizeof name,
            .lpBuffers = &payload,
            .dwBufferCount = 1,
            .Control = {receiver->metadata ? (ULONG)sizeof messages : 0, messages.bytes},
        };
        DWORD length = 0;
        error = receive_one(receiver, &message, &length);
        if (mcf_is_report(error)) {
            if (++reports == MOST_REPORTS)
                break;
            continue;
        }
        if (error) {
            /* After some datagrams: the next call meets it again. */
            if (tally.used || error == WSAEWOULDBLOCK)
                break;
            return mcf_winsock_error(error);
        }
        mcf_take_datagram(receiver, &message, tally.used, length, arena, &tally);
    }
    mcf_close_batch(receiver, arena, &tally, got);
    return (int)tally.used;
}

void mcf_windows_prepare_send(mcf_sender *sender)
{
    (void)sender;
}

int mcf_windows_send_one(mcf_sender *sender, const void *data, size_t length)
{
    if (send((SOCKET)sender->fd, data, (int)length, 0) >= 0)
        return 1;
    int error = WSAGetLastError();
    return error == WSAEWOULDBLOCK ? 0 : mcf_winsock_error(error);
}

const mcf_engine mcf_windows_engine = {
    .name = "socket",
    .fills_places = 1,
    .shape = mcf_places_shape,
    .room = mcf_places_room,
    .vector_size = vector_size,
    .prepare = prepare,
    .receive = receive,
    .prepare_send = mcf_windows_prepare_send,
    .send = mcf_send_each,
    .send_one = mcf_windows_send_one,
};
