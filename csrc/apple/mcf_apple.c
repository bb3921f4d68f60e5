/* The "apple" engine: recvmsg_x and sendmsg_x over vectors that are set up once. No header declares these calls; what
 * they do stands in xnu's bsd/kern/uipc_syscalls.c, and what they look like in bsd/sys/socket_private.h. */
#define _DARWIN_C_SOURCE
#include "apple/mcf_apple.h"

#include <assert.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#include "posix/mcf_posix.h"

/* struct msghdr_x. Its flags and the length of its control buffer are to be set anew for each call. */
typedef struct {
    void *name;
    socklen_t name_length;
    struct iovec *payload;
    int payload_parts;
    void *control;
    socklen_t control_length;
    int flags;
    size_t length;
} message;
static_assert(sizeof(message) == 56, "as the system lays it out");

typedef ssize_t (*call)(int fd, const message *messages, unsigned count, int flags);

enum {
    MOST_MESSAGES = 256,    /* kern.ipc.maxrecvmsgx and maxsendmsgx; more are not looked at */
    PARTS = 2,              /* of a place: itself, and one byte that only a longer datagram reaches */
    FIRST_GOOD_DARWIN = 24, /* macOS 15 */
    FIRST_GOOD_RELEASE = 6, /* macOS 15.6 */
    CONTROL_ALIGNMENT = 8
};

static _Atomic(void *) receive_symbol, send_symbol;

static call find_call(_Atomic(void *) *symbol)
{
    void *address = atomic_load_explicit(symbol, memory_order_relaxed);
    call function;
    static_assert(sizeof function == sizeof address, "dlsym(3) gives functions as pointers to data");
    memcpy(&function, &address, sizeof function);
    return function;
}

static int is_good(const char *release)
{
    char *rest;
    long darwin = strtol(release, &rest, 10);
    long minor = *rest == '.' ? strtol(rest + 1, NULL, 10) : 0;
    return darwin > FIRST_GOOD_DARWIN || (darwin == FIRST_GOOD_DARWIN && minor >= FIRST_GOOD_RELEASE);
}

/* uname(2) tells Darwin's own release; that of macOS is another for programs built with an old SDK. */
static const char *obstacle(void)
{
    struct utsname host;
    if (uname(&host) < 0 || !is_good(host.release))
        return "before macOS 15.6 recvmsg_x can leave a lock of the kernel behind, and then nothing passes the "
               "loopback "
               "interface until the next start";
    receive_symbol = dlsym(RTLD_DEFAULT, "recvmsg_x");
    send_symbol = dlsym(RTLD_DEFAULT, "sendmsg_x");
    return receive_symbol && send_symbol ? NULL : "this system has no recvmsg_x and sendmsg_x";
}

/* One block: headers, places, names, control buffers, each an array over the datagrams of a batch, and the byte that
 * longer datagrams reach, which nobody reads. */
typedef struct {
    message *messages;
    struct iovec *places;
    mcf_name *names;
    uint8_t *control;
    uint8_t *surplus;
} vectors;

static vectors find_vectors(const mcf_receiver *receiver)
{
    size_t control_size = mcf_control_size(receiver->metadata, receiver->family);
    vectors found;
    found.messages = receiver->vectors;
    found.places = (struct iovec *)(found.messages + receiver->vector_slots);
    found.names = (mcf_name *)(found.places + (size_t)receiver->vector_slots * PARTS);
    found.control = (uint8_t *)(found.names + receiver->vector_slots);
    found.control += (CONTROL_ALIGNMENT - (uintptr_t)found.control % CONTROL_ALIGNMENT) % CONTROL_ALIGNMENT;
    found.surplus = found.control + receiver->vector_slots * control_size;
    return found;
}

static size_t vector_size(const mcf_receiver *receiver, uint32_t rows)
{
    size_t control_size = mcf_control_size(receiver->metadata, receiver->family);
    return rows * (sizeof(message) + PARTS * sizeof(struct iovec) + sizeof(mcf_name) + control_size) +
           CONTROL_ALIGNMENT + 1;
}

static void prepare(mcf_receiver *receiver)
{
    vectors found = find_vectors(receiver);
    size_t control_size = mcf_control_size(receiver->metadata, receiver->family);
    for (uint32_t slot = 0; slot < receiver->vector_slots; slot++) {
        found.messages[slot] = (message){
            .name = &found.names[slot],
            .name_length = mcf_name_size(receiver->family),
            .payload = &found.places[(size_t)slot * PARTS],
            .payload_parts = PARTS,
            .control = control_size ? found.control + slot * control_size : NULL,
            .control_length = (socklen_t)control_size,
        };
        found.places[(size_t)slot * PARTS + 1] = (struct iovec){found.surplus, 1};
    }
}

/* Points the headers at the places of an arena; mostly it is the one that was aimed at last. */
static void aim(mcf_receiver *receiver, const vectors *found, const mcf_arena *arena)
{
    if (!mcf_aims_anew(receiver, arena))
        return;
    for (uint32_t slot = 0; slot < arena->rows; slot++)
        found->places[(size_t)slot * PARTS] =
            (struct iovec){arena->data + (size_t)slot * arena->slot_size, arena->max_datagram};
}

/* One call: takes up to `count` datagrams into the places behind the tally. How many, 0 when nothing is there, or
 * -errno. */
static int take(mcf_receiver *receiver, const vectors *found, mcf_arena *arena, uint32_t count, mcf_tally *tally)
{
    uint32_t start = arena->used_rows + tally->used;
    message *messages = found->messages + start;
    ssize_t received = find_call(&receive_symbol)((int)receiver->fd, messages, count, MSG_DONTWAIT);
    if (received < 0)
        return mcf_posix_failure();
    mcf_members_adopt(&receiver->filter);
    for (uint32_t i = 0; i < (uint32_t)received; i++) {
        struct msghdr header = {
            .msg_control = messages[i].control,
            .msg_controllen = messages[i].control_length,
            .msg_flags = messages[i].flags,
        };
        size_t length = messages[i].length;
        if (length > arena->max_datagram) {
            length = arena->max_datagram;
            header.msg_flags |= MSG_TRUNC; /* which the system does not report */
        }
        mcf_take(receiver, &header, &found->names[start + i], (uint32_t)length, arena, tally);
        messages[i].name_length = mcf_name_size(receiver->family);
        messages[i].control_length = (socklen_t)mcf_control_size(receiver->metadata, receiver->family);
        messages[i].flags = 0;
    }
    return (int)received;
}

static int receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t most, int wait, mcf_range *got)
{
    uint32_t count = mcf_choose_count(receiver, arena, most);
    mcf_tally tally = {0};
    int taken = 1;
    /* recvmsg_x never waits. */
    if (wait || count == 1)
        taken = mcf_posix_take(receiver, arena, wait, &tally);
    if (taken > 0 && tally.used < count) {
        vectors found = find_vectors(receiver);
        aim(receiver, &found, arena);
        uint32_t asked;
        do {
            asked = count - tally.used < MOST_MESSAGES ? count - tally.used : MOST_MESSAGES;
            taken = take(receiver, &found, arena, asked, &tally);
        } while (taken == (int)asked && tally.used < count);
    }
    mcf_close_batch(receiver, arena, &tally, got);
    /* After some datagrams: the next call meets the error again, unless it reports on something sent (ICMP). */
    return tally.used ? (int)tally.used : taken;
}

static void prepare_send(mcf_sender *sender)
{
    message *messages = sender->vectors;
    for (uint32_t i = 0; i < MCF_MAX_BATCH; i++)
        messages[i] = (message){.payload = (struct iovec *)&sender->payloads[i], .payload_parts = 1};
}

/* What goes in one call: empty payloads are refused there (mbuf_allocpacket) and go alone. When the system refuses one
 * that is not the first, for another reason than its size or a full queue, it does not say how many went before. */
static int send_batch(mcf_sender *sender, uint32_t first, uint32_t count)
{
    const mcf_payload *payloads = sender->payloads + first;
    uint32_t run = 0;
    while (run < count && run < MOST_MESSAGES && payloads[run].length)
        run++;
    sender->tried = 1;
    if (run <= 1)
        return mcf_posix_send_one(sender, payloads->data, payloads->length);
    ssize_t sent = find_call(&send_symbol)((int)sender->fd, (message *)sender->vectors + first, run, MSG_DONTWAIT);
    if (sent < 0)
        return mcf_posix_failure();
    return (int)sent;
}

const mcf_engine mcf_apple_engine = {
    .name = "apple",
    .obstacle = obstacle,
    .fills_places = 1,
    .shape = mcf_places_shape,
    .room = mcf_places_room,
    .vector_size = vector_size,
    .prepare = prepare,
    .receive = receive,
    .send_vector_size = MCF_MAX_BATCH * sizeof(message),
    .prepare_send = prepare_send,
    .send = send_batch,
    .send_one = mcf_posix_send_one,
};
