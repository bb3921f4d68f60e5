/* The "iocp" engine: a receive is posted on every row of an arena, so that datagrams land where batches show them, and
 * what has landed is taken off a completion port, many at a time.
 *
 * Receives complete in the order in which they were posted, and rows are delivered in that order. The slot of a row
 * that was delivered is posted again at once, on the same row of the arena that comes next: while there is memory, as
 * many receives are out as an arena has rows. What they have no place for waits in the socket's buffer. */
#include <errno.h>
#include <string.h>

#include "windows/mcf_windows.h"

enum {
    MOST_COMPLETIONS = 64, /* taken off the port in one call */
    /* A port holds back while so many threads are running that took something off it before, with whatever they do:
     * nobody here waits for another's receive to be digested. */
    MOST_THREADS = 0x7fff,
    SETTLES_WITHIN = 5000 /* milliseconds that a receive may take to be cancelled, which no sound driver needs */
};

/* A posted receive: Windows may write to all of it until it has completed. */
typedef struct {
    OVERLAPPED overlapped; /* first: completions point at it */
    WSABUF place;
    WSAMSG message;
    mcf_name name;
    DWORD length; /* bytes of the datagram */
    int error;    /* of Winsock; 0: it has a datagram */
    uint8_t is_pending;
    mcf_control control;
} slot;

/* receiver->vectors. */
typedef struct {
    LPFN_WSARECVMSG receive_message;
    HANDLE port;      /* NULL = not open */
    mcf_arena *arena; /* on its rows from used_rows on receives are posted; a reference of ours, NULL = none */
    mcf_arena *next;  /* the same, on its first `posted` rows */
    uint32_t posted;
    uint32_t pending; /* calls that have not completed */
    OVERLAPPED wake;  /* of a receive on the wake-up, which so comes through the port, too */
    char signal;
    uint8_t is_woken; /* for good */
    slot slots[];     /* one for each row; slots[i] serves row i of `arena` and, once that is delivered, of `next` */
} posts;

static size_t vector_size(const mcf_receiver *receiver, uint32_t rows)
{
    (void)receiver;
    return sizeof(posts) + rows * sizeof(slot);
}

static void prepare(mcf_receiver *receiver)
{
    (void)receiver; /* zero is where it begins */
}

/* The receive has ended with this code of Winsock. */
static void end(slot *self, int error, DWORD length)
{
    self->is_pending = 0;
    self->length = length;
    self->error = error;
    if (error == WSAEMSGSIZE) { /* a datagram, cut to fill its place; how much was written is not told reliably */
        self->error = 0;
        self->length = self->place.len;
        self->message.dwFlags |= MSG_TRUNC;
    }
}

static void post(const mcf_receiver *receiver, posts *state, mcf_arena *arena, uint32_t row)
{
    slot *self = &state->slots[row];
    WSAMSG *message = &self->message;
    /* Lest what a cut datagram leaves unwritten be read: the name, and the first control message. */
    memset(self, 0, offsetof(slot, control) + sizeof self->control.alignment);
    self->place = (WSABUF){arena->max_datagram, (char *)arena->data + (size_t)row * arena->slot_size};
    *message = (WSAMSG){
        .name = &self->name.any,
        .namelen = sizeof self->name,
        .lpBuffers = &self->place,
        .dwBufferCount = 1,
    };
    int result;
    if (receiver->metadata) {
        message->Control = (WSABUF){sizeof self->control, self->control.bytes};
        result = state->receive_message((SOCKET)receiver->fd, message, NULL, &self->overlapped, NULL);
    } else {
        result = WSARecvFrom((SOCKET)receiver->fd, &self->place, 1, NULL, &message->dwFlags, message->name,
                             &message->namelen, &self->overlapped, NULL);
    }
    int error = result ? WSAGetLastError() : 0;
    if (error && error != WSA_IO_PENDING) {
        end(self, error, 0);
    } else {
        self->is_pending = 1;
        state->pending++;
    }
}

/* Makes the arena, which has room, the one that is harvested: on all of its rows receives are posted. */
static void begin(const mcf_receiver *receiver, posts *state, mcf_arena *arena)
{
    if (state->arena == arena)
        return;
    if (state->next == arena) {
        state->next = NULL;
    } else {
        mcf_arena_retain(arena);
        state->posted = 0;
    }
    state->arena = arena;
    while (state->posted < arena->rows)
        post(receiver, state, arena, state->posted++);
    state->posted = 0;
}

/* After rows of the arena were delivered: posts their slots again. Where there is no memory for another arena that is
 * left to a later call. */
static void go_on(const mcf_receiver *receiver, posts *state)
{
    mcf_arena *arena = state->arena;
    while (state->posted < arena->used_rows && (state->next || !mcf_pool_take(receiver->pool, &state->next)))
        post(receiver, state, state->next, state->posted++);
    if (arena->used_rows == arena->rows) {
        state->arena = NULL;
        mcf_arena_release(arena);
    }
}

static int room(const mcf_receiver *receiver, const mcf_arena *arena)
{
    const posts *state = receiver->vectors;
    if (arena == state->arena)
        return MCF_ROOM_AMPLE;
    return state->next || arena->used_rows ? MCF_ROOM_NONE : MCF_ROOM_AMPLE;
}

static int take(mcf_receiver *receiver, mcf_arena **arena)
{
    const posts *state = receiver->vectors;
    if (!state->next)
        return mcf_pool_take(receiver->pool, arena);
    *arena = state->next;
    mcf_arena_retain(*arena);
    return 0;
}

static void note_completion(const mcf_receiver *receiver, posts *state, slot *self, DWORD length)
{
    DWORD flags;
    int error = 0;
    /* Of a datagram that was cut at once the call has told, and the port may tell again: before the slot is next
     * posted, for until then everything is taken off the port. */
    if (!self->is_pending)
        return;
    if (self->overlapped.Internal &&
        !WSAGetOverlappedResult((SOCKET)receiver->fd, &self->overlapped, &length, FALSE, &flags))
        error = WSAGetLastError();
    end(self, error, length);
    state->pending--;
}

/* Posts the receive that completes when the receiver is woken. 0 or -errno. */
static int watch_wake(const mcf_receiver *receiver, posts *state)
{
    WSABUF buffer = {sizeof state->signal, &state->signal};
    DWORD flags = 0;
    state->wake = (OVERLAPPED){0};
    if (WSARecv((SOCKET)receiver->wake, &buffer, 1, NULL, &flags, &state->wake, NULL) &&
        WSAGetLastError() != WSA_IO_PENDING)
        return mcf_winsock_error(WSAGetLastError());
    state->pending++;
    return 0;
}

/* The receive on the wake-up has completed or, as any, been cancelled. */
static void note_wake(const mcf_receiver *receiver, posts *state)
{
    state->pending--;
    if (!state->wake.Internal || state->is_woken || watch_wake(receiver, state))
        state->is_woken = 1;
}

/* Takes completions off the port. Returns how many, 0 when none came within so many milliseconds, or -errno. */
static int collect(const mcf_receiver *receiver, posts *state, DWORD milliseconds)
{
    OVERLAPPED_ENTRY entries[MOST_COMPLETIONS];
    ULONG count = 0;
    if (!GetQueuedCompletionStatusEx(state->port, entries, MOST_COMPLETIONS, &count, milliseconds, FALSE))
        return GetLastError() == WAIT_TIMEOUT ? 0 : -EBADF;
    for (ULONG i = 0; i < count; i++) {
        DWORD length = entries[i].dwNumberOfBytesTransferred;
        if (entries[i].lpOverlapped == &state->wake)
            note_wake(receiver, state);
        else
            note_completion(receiver, state, (slot *)(void *)entries[i].lpOverlapped, length);
    }
    return (int)count;
}

/* A failure that is the socket's own. Where the system cancels a receive because the thread that posted it has ended,
 * or somebody else does, there was nothing in it; its status may then still be that of one under way. */
static int is_failure(int error)
{
    return error && error != WSA_OPERATION_ABORTED && error != WSA_IO_INCOMPLETE && !mcf_is_report(error);
}

static int receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t most, int wait, mcf_range *got)
{
    posts *state = receiver->vectors;
    uint32_t left = arena->rows - arena->used_rows, places = 0;
    int failure = 0, completions;
    mcf_tally tally = {0};
    (void)wait; /* wait_for_completion does it */
    begin(receiver, state, arena);
    do
        completions = collect(receiver, state, 0);
    while (completions == MOST_COMPLETIONS);
    if (completions < 0)
        return completions;
    receiver->last_asked = left < most ? left : most;
    while (places < receiver->last_asked && !failure) {
        slot *next = &state->slots[arena->used_rows + places];
        /* A failure waits for its own call. */
        if (next->is_pending || (places && is_failure(next->error)))
            break;
        if (is_failure(next->error)) {
            failure = next->error;
        } else if (!next->error) {
            mcf_take_datagram(receiver, &next->message, places, next->length, arena, &tally);
        }
        places++;
    }
    *got = (mcf_range){.arena = arena, .row = arena->used_rows, .rows = tally.kept, .data = arena->used_data};
    got->data_size = (size_t)places * arena->slot_size;
    mcf_count_received(receiver, got, &tally);
    arena->used_rows += places;
    arena->used_data += got->data_size;
    go_on(receiver, state);
    return failure ? mcf_winsock_error(failure) : (int)places;
}

static int wait_for_completion(mcf_receiver *receiver, int64_t deadline)
{
    posts *state = receiver->vectors;
    int completions = 0;
    if (!state->is_woken) {
        if (!state->arena || !state->slots[state->arena->used_rows].is_pending)
            return 1;
        completions = collect(receiver, state, (DWORD)mcf_milliseconds_until(deadline, MCF_LOOK_EVERY));
    }
    if (state->is_woken)
        return -ECANCELED;
    if (completions)
        return completions < 0 ? completions : 1;
    return mcf_end_wait(deadline);
}

static void settle(mcf_receiver *receiver)
{
    posts *state = receiver->vectors;
    if (!state || !state->port || !state->pending)
        return;
    state->is_woken = 1;
    for (uint32_t row = 0; row < receiver->vector_slots; row++)
        CancelIoEx((HANDLE)receiver->fd, &state->slots[row].overlapped);
    CancelIoEx((HANDLE)receiver->wake, &state->wake);
    while (state->pending && collect(receiver, state, SETTLES_WITHIN) > 0)
        ;
}

static void retire(mcf_receiver *receiver)
{
    posts *state = receiver->vectors;
    if (!state->port)
        return;
    settle(receiver);
    if (state->pending) { /* Windows may write to arenas and slots: they are never given back */
        receiver->vectors = NULL;
        return;
    }
    CloseHandle(state->port);
    state->port = NULL;
    if (state->arena)
        mcf_arena_release(state->arena);
    if (state->next)
        mcf_arena_release(state->next);
    state->arena = state->next = NULL;
}

/* Windows has one word for a handle of another port, and for one that is not for overlapped calls. */
static int join_port(HANDLE port, mcf_socket fd)
{
    if (CreateIoCompletionPort((HANDLE)fd, port, 0, 0))
        return 0;
    return GetLastError() == ERROR_INVALID_PARAMETER ? -EBUSY : -EBADF;
}

static int open_port(mcf_receiver *receiver)
{
    posts *state = receiver->vectors;
    int error = receiver->metadata ? mcf_find_receive_message(receiver->fd, &state->receive_message) : 0;
    if (error)
        return error;
    state->port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, MOST_THREADS);
    if (!state->port)
        return -ENOMEM;
    error = join_port(state->port, receiver->wake);
    if (!error)
        error = watch_wake(receiver, state);
    if (!error)
        error = join_port(state->port, receiver->fd); /* last: it cannot be undone */
    if (error)
        retire(receiver);
    return error;
}

const mcf_engine mcf_iocp_engine = {
    .name = "iocp",
    .shape = mcf_places_shape,
    .vector_size = vector_size,
    .prepare = prepare,
    .open = open_port,
    .settle = settle,
    .retire = retire,
    .room = room,
    .take = take,
    .receive = receive,
    .wait = wait_for_completion,
    .prepare_send = mcf_windows_prepare_send,
    .send = mcf_send_each,
    .send_one = mcf_windows_send_one,
};
