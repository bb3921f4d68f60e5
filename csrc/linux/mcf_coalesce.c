/* Receiving trains: with UDP_GRO (udp(7)) one message may carry many datagrams of one size, of which the last may be
 * shorter, and costs the kernel little more than one. They are taken apart where they lie.
 *
 * A message may have 64 KiB, and most have far less. So each gets a place in the arena as large as the messages that
 * came lately, places lie close together, and what a longer message has beyond its place lands in the overflow, from
 * where its datagrams are copied. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/uio.h>

#include "linux/mcf_linux.h"
#include "posix/mcf_posix.h"
#include "posix/mcf_tally.h"

enum {
    MOST_MESSAGES = 64,        /* a call: more gain nothing */
    LARGEST_MESSAGE = 1 << 16, /* bytes; UDP's is 65,527 */
    CALM_CALLS = 8,            /* calls with messages below half of the place before it shrinks */
};

/* receiver->vectors. What was fetched and is not delivered is messages[next] .. messages[end - 1], of the first of
 * which `taken` bytes are delivered; their heads lie in `arena`, from `base` on, `place` bytes apart. */
typedef struct {
    mcf_arena *arena; /* a reference of ours while something is carried */
    size_t base;
    uint32_t next, end, taken;
    uint32_t place;     /* bytes */
    uint32_t calm;      /* calls in a row whose messages were short */
    uint32_t recent;    /* bytes of the longest message of those calls */
    uint32_t longest;   /* bytes of the longest message of this call */
    uint32_t datagrams; /* in the longest train of this call */
    size_t control_size;
    uint8_t *control, *overflow;
    struct mmsghdr messages[MOST_MESSAGES];
    struct iovec parts[MOST_MESSAGES][2];
    mcf_name names[MOST_MESSAGES];
} trains;

/* One message: datagrams of `size` bytes, of which the last may be shorter. */
typedef struct {
    uint32_t length; /* bytes that count */
    uint32_t size;
    uint16_t flags;
} message;

/* With room for what the kernel may put before the size of a train, without which that is one long datagram. */
static size_t control_size(const mcf_receiver *receiver)
{
    size_t size = mcf_control_size(receiver->metadata, receiver->family);
    return (size ? size : MCF_OTHER_CONTROL) + CMSG_SPACE(sizeof(int));
}

static uint32_t aligned(uint32_t length)
{
    return (length + MCF_CACHE_LINE - 1) & ~(MCF_CACHE_LINE - 1u);
}

/* Rows and memory for two trains of the largest kind, whatever batches are, and for 64 single datagrams. A reader walks
 * over two arenas in turn: with twice as much in each, datagrams of 1400 bytes cost a quarter more, on a processor
 * whose cache has 2 MiB. */
static mcf_shape shape(const mcf_receiver *receiver)
{
    size_t trains_size = 2 * LARGEST_MESSAGE;
    size_t singles_size = (size_t)MOST_MESSAGES * aligned(receiver->max_datagram);
    return (mcf_shape){
        .rows = MCF_MAX_BATCH,
        .max_datagram = receiver->max_datagram,
        .data_size = trains_size > singles_size ? trains_size : singles_size,
    };
}

static size_t vector_size(const mcf_receiver *receiver, uint32_t rows)
{
    (void)rows;
    return sizeof(trains) + MOST_MESSAGES * (control_size(receiver) + LARGEST_MESSAGE);
}

static void prepare(mcf_receiver *receiver)
{
    trains *state = receiver->vectors;
    state->arena = NULL;
    state->next = state->end = state->taken = 0;
    state->place = aligned(receiver->max_datagram);
    state->longest = 0;
    state->datagrams = 1;
    state->control_size = control_size(receiver);
    state->control = (uint8_t *)(state + 1);
    state->overflow = state->control + MOST_MESSAGES * state->control_size;
    for (uint32_t i = 0; i < MOST_MESSAGES; i++) {
        state->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &state->names[i],
            .msg_namelen = mcf_name_size(receiver->family),
            .msg_iov = state->parts[i],
            .msg_control = state->control + i * state->control_size,
        };
    }
}

static void retire(mcf_receiver *receiver)
{
    trains *state = receiver->vectors;
    if (state->arena)
        mcf_arena_release(state->arena);
    state->arena = NULL;
    state->next = state->end = state->taken = 0;
}

/* The size of a train's datagrams, 0 when the message is none. */
static uint32_t segment_size(struct msghdr *header)
{
    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control)) {
        if (control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO &&
            control->cmsg_len >= CMSG_LEN(sizeof(int))) {
            int size;
            memcpy(&size, CMSG_DATA(control), sizeof size);
            return size > 0 ? (uint32_t)size : 0;
        }
    }
    return 0;
}

/* The first message that is not delivered whole. */
static message first(const mcf_receiver *receiver, trains *state)
{
    struct mmsghdr *given = &state->messages[state->next];
    message found = {.length = given->msg_len, .size = segment_size(&given->msg_hdr)};
    found.flags = given->msg_hdr.msg_flags & MSG_CTRUNC ? MCF_FLAG_CONTROL_TRUNCATED : 0;
    if (found.size && found.size < found.length)
        return found;
    if (found.length > receiver->limit) {
        found.length = receiver->limit;
        found.flags |= MCF_FLAG_TRUNCATED;
    }
    found.size = found.length;
    return found;
}

static uint32_t datagrams_left(const trains *state, const message *found)
{
    return found->size ? (found->length - state->taken + found->size - 1) / found->size : 1;
}

/* How many of the next datagrams of a message lie in this arena as they are. */
static uint32_t in_place(const trains *state, const mcf_arena *arena, const message *found)
{
    if (state->arena != arena)
        return 0;
    if (found->length <= state->place)
        return datagrams_left(state, found);
    return state->taken < state->place ? (state->place - state->taken) / found->size : 0;
}

static int room(const mcf_receiver *receiver, const mcf_arena *arena)
{
    trains *state = receiver->vectors;
    uint32_t rows = arena->rows - arena->used_rows;
    size_t data = arena->data_size - arena->used_data;
    if (receiver->carried) {
        message found = first(receiver, state);
        return rows && (in_place(state, arena, &found) || data >= found.size) ? MCF_ROOM_AMPLE : MCF_ROOM_NONE;
    }
    if (!rows || data < state->place)
        return MCF_ROOM_NONE;
    int is_ample = mcf_is_ample(receiver, rows, arena->rows) && mcf_is_ample(receiver, data, arena->data_size);
    return is_ample ? MCF_ROOM_AMPLE : MCF_ROOM_SOME;
}

/* Chooses the place of the next messages by what the last ones were. */
static void learn(trains *state)
{
    if (2 * state->longest > state->place) {
        state->calm = state->recent = 0;
        if (state->longest > state->place)
            state->place = aligned(state->longest);
        return;
    }
    if (state->longest > state->recent)
        state->recent = state->longest;
    if (++state->calm > CALM_CALLS) {
        state->place = aligned(state->recent);
        state->calm = state->recent = 0;
    }
}

/* As many messages as the arena is likely to have rows and memory for. */
static uint32_t how_many(const trains *state, const mcf_arena *arena)
{
    size_t by_data = (arena->data_size - arena->used_data) / state->place;
    uint32_t by_rows = (arena->rows - arena->used_rows) / state->datagrams;
    uint32_t most = MOST_MESSAGES;
    if (by_rows < most)
        most = by_rows ? by_rows : 1;
    return by_data < most ? (uint32_t)by_data : most;
}

/* Receives messages behind what is used of the arena. Returns how many, or as the engine's receive. */
static int fetch(mcf_receiver *receiver, trains *state, mcf_arena *arena, int wait)
{
    uint32_t most = how_many(state, arena), count = receiver->asks_for_one ? 1 : most;
    receiver->last_asked = most > 1 ? most : 2; /* that there was room for one, and one came, does not mean more */
    uint32_t place = state->place;
    for (uint32_t i = 0; i < count; i++) {
        struct msghdr *header = &state->messages[i].msg_hdr;
        state->parts[i][0] = (struct iovec){arena->data + arena->used_data + (size_t)i * place, place};
        state->parts[i][1] = (struct iovec){state->overflow + (size_t)i * LARGEST_MESSAGE, LARGEST_MESSAGE - place};
        header->msg_iovlen = place < LARGEST_MESSAGE ? 2 : 1;
        header->msg_controllen = (socklen_t)state->control_size;
    }
    int received = recvmmsg((int)receiver->fd, state->messages, count, wait ? MSG_WAITFORONE : MSG_DONTWAIT, NULL);
    if (received < 0)
        return mcf_posix_failure();
    if (mcf_is_phantom(&state->messages[0].msg_hdr, state->messages[0].msg_len)) {
        state->messages[0].msg_hdr.msg_namelen = mcf_name_size(receiver->family);
        return 0;
    }
    state->arena = arena;
    state->base = arena->used_data;
    state->next = state->taken = 0;
    state->end = (uint32_t)received;
    state->longest = state->datagrams = 1;
    uint32_t last = aligned(state->messages[received - 1].msg_len);
    arena->used_data += (size_t)(received - 1) * place + (last < place ? last : place);
    return received;
}

/* Writes into the rows after the first what is the same for all datagrams of a message. From locals: a compiler that
 * must fear that a row overwrites them fills one after the other, a seventh of what a datagram of 64 bytes costs. */
static void repeat(const mcf_receiver *receiver, mcf_arena *arena, uint32_t row, uint32_t count)
{
    uint32_t metadata = receiver->metadata;
#define REPEAT_COLUMN(name)                                                                                            \
    do {                                                                                                               \
        __typeof__(*arena->name) value, *column = arena->name + row;                                                   \
        memcpy(&value, column, sizeof value);                                                                          \
        for (uint32_t i = 1; i < count; i++)                                                                           \
            memcpy(column + i, &value, sizeof value);                                                                  \
    } while (0)
    REPEAT_COLUMN(flags);
    REPEAT_COLUMN(sources);
    REPEAT_COLUMN(source_ports);
    if (receiver->family == MCF_IPV6)
        REPEAT_COLUMN(source_scopes);
    if (metadata & MCF_META_DESTINATION) {
        REPEAT_COLUMN(destinations);
        REPEAT_COLUMN(interfaces);
    }
    if (metadata & (MCF_META_TIMESTAMP | MCF_META_HARDWARE_TIMESTAMP))
        REPEAT_COLUMN(timestamps);
    if (metadata & MCF_META_HOPS)
        REPEAT_COLUMN(hops);
    if (metadata & MCF_META_TOS)
        REPEAT_COLUMN(tos);
#undef REPEAT_COLUMN
    if (metadata & MCF_META_DROPS)
        memset(arena->dropped + row + 1, 0, (count - 1) * sizeof *arena->dropped);
}

/* Writes what the first message has beside its datagrams into a row; false when it is foreign. */
static int describe(mcf_receiver *receiver, const trains *state, mcf_arena *arena, uint32_t row, message *found)
{
    mcf_describe_source(&state->names[state->next], arena, row);
    if (receiver->metadata) {
        struct msghdr *header = (struct msghdr *)&state->messages[state->next].msg_hdr;
        found->flags |= mcf_control_read(receiver, header, arena, row);
        if (found->size < found->length && receiver->metadata & (MCF_META_TIMESTAMP | MCF_META_HARDWARE_TIMESTAMP))
            found->flags |= MCF_FLAG_SHARED_TIME;
        if (!mcf_members_pass(&receiver->filter, arena->destinations[row], arena->interfaces[row])) {
            receiver->pending_dropped += arena->dropped[row];
            return 0;
        }
    }
    if (found->size > receiver->limit)
        found->flags |= MCF_FLAG_TRUNCATED;
    arena->flags[row] = found->flags;
    return 1;
}

/* Copies the next `size` bytes of the first message behind what is used of the arena, where there is room: the message
 * lies in another arena, or in part in the overflow. */
static void move(trains *state, mcf_arena *arena, uint32_t size)
{
    const struct iovec *parts = state->parts[state->next];
    uint8_t *to = arena->data + arena->used_data;
    uint32_t head = 0;
    if (state->taken < state->place) {
        head = state->place - state->taken < size ? state->place - state->taken : size;
        memcpy(to, (uint8_t *)parts[0].iov_base + state->taken, head);
    }
    if (head < size)
        memcpy(to + head, (uint8_t *)parts[1].iov_base + (state->taken + head - state->place), size - head);
    arena->used_data += size;
}

/* Says where datagrams of the first message lie, up to `most` of them, in rows from `row` on. Returns how many: fewer
 * than are left of it where rows or memory are out. Those that are for nobody stay where they are: what is carried lies
 * in the same arena. */
static uint32_t place_datagrams(const mcf_receiver *receiver, trains *state, const message *found, mcf_range *got,
                                uint32_t row, uint32_t most)
{
    mcf_arena *arena = got->arena;
    uint32_t shown = found->size < receiver->limit ? found->size : receiver->limit;
    uint32_t count = datagrams_left(state, found);
    if (count > most)
        count = most;
    uint32_t done = 0;
    while (done < count) {
        uint32_t left = found->length - state->taken;
        uint32_t run = receiver->discards ? count - done : in_place(state, arena, found);
        size_t at = state->base + (size_t)state->next * state->place + state->taken;
        if (!run) {
            uint32_t size = found->size < left ? found->size : left;
            if (arena->data_size - arena->used_data < size)
                return done;
            at = arena->used_data;
            move(state, arena, size);
            run = 1;
        } else if (run > count - done) {
            run = count - done;
        }
        uint32_t offset = (uint32_t)(at - got->data), size = found->size;
        uint32_t *offsets = arena->offsets + row + done, *lengths = arena->lengths + row + done;
        for (uint32_t i = 0; i < run; i++, offset += size)
            offsets[i] = offset;
        for (uint32_t i = 0; i < run; i++)
            lengths[i] = shown;
        done += run;
        state->taken += run * found->size < left ? run * found->size : left;
    }
    return done;
}

/* The last datagram of a train may be shorter than the others. */
static void trim_last(const mcf_receiver *receiver, const message *found, mcf_arena *arena, uint32_t row)
{
    uint32_t rest = found->size ? found->length % found->size : 0;
    if (rest && rest <= receiver->limit) {
        arena->lengths[row] = rest;
        arena->flags[row] &= (uint16_t)~MCF_FLAG_TRUNCATED;
    }
}

/* The next messages that are a whole datagram each, lie where they are shown, and have nothing else to tell: all that
 * there is on a feed without trains. */
static void take_singles(const mcf_receiver *receiver, trains *state, mcf_range *got, uint32_t most)
{
    mcf_arena *arena = got->arena;
    if (state->arena != arena || state->taken || receiver->metadata)
        return;
    uint32_t largest = state->place < receiver->limit ? state->place : receiver->limit;
    uint32_t offset = (uint32_t)(state->base + (size_t)state->next * state->place - got->data);
    for (; state->next < state->end && got->rows < most; state->next++, offset += state->place) {
        const struct mmsghdr *given = &state->messages[state->next];
        if (given->msg_hdr.msg_controllen || given->msg_len > largest)
            return;
        uint32_t row = got->row + got->rows++;
        arena->offsets[row] = offset;
        arena->lengths[row] = given->msg_len;
        arena->flags[row] = 0;
        mcf_describe_source(&state->names[state->next], arena, row);
        if (given->msg_len > state->longest)
            state->longest = given->msg_len;
    }
}

static int receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t most, int wait, mcf_range *got)
{
    trains *state = receiver->vectors;
    int was_carried = receiver->carried > 0;
    if (!was_carried) {
        int received = fetch(receiver, state, arena, wait);
        if (received <= 0)
            return received;
    }
    int messages = (int)(state->end - state->next);
    *got = (mcf_range){.arena = arena, .row = arena->used_rows};
    got->data = state->arena == arena ? state->base : arena->used_data;
    if (arena->rows - arena->used_rows < most)
        most = arena->rows - arena->used_rows;
    mcf_tally tally = {0};
    mcf_members_adopt(&receiver->filter);
    for (;;) {
        take_singles(receiver, state, got, most);
        if (state->next == state->end || got->rows == most)
            break;
        uint32_t row = got->row + got->rows;
        message found = first(receiver, state);
        uint32_t count = datagrams_left(state, &found);
        if (found.length > state->longest)
            state->longest = found.length;
        if (count > state->datagrams)
            state->datagrams = count;
        if (describe(receiver, state, arena, row, &found)) {
            uint32_t placed = place_datagrams(receiver, state, &found, got, row, most - got->rows);
            if (!placed) { /* the row is another one then, and its drops are reported there */
                receiver->pending_dropped += arena->dropped[row];
                break;
            }
            if (placed > 1)
                repeat(receiver, arena, row, placed);
            if (placed == count)
                trim_last(receiver, &found, arena, row + placed - 1);
            got->rows += placed;
            tally.flags |= found.flags;
            if (placed < count)
                break;
        } else {
            tally.used += count;
        }
        state->next++;
        state->taken = 0;
    }
    receiver->carried = state->end - state->next;
    if (receiver->carried && !was_carried)
        mcf_arena_retain(state->arena);
    if (!receiver->carried) {
        learn(state);
        if (!got->rows && !was_carried)
            arena->used_data = state->base;
        if (was_carried)
            mcf_arena_release(state->arena);
        state->arena = NULL;
    }
    arena->used_rows += got->rows;
    got->data_size = arena->used_data - got->data;
    uint32_t bytes = 0; /* of the arena's, which are few: several are added at once then */
    for (uint32_t row = got->row; row < got->row + got->rows; row++)
        bytes += arena->lengths[row];
    tally.bytes = bytes;
    tally.kept = got->rows;
    tally.used += got->rows;
    mcf_count_received(receiver, got, &tally);
    return messages;
}

const mcf_engine mcf_linux_coalescing = {
    .name = "socket",
    .shape = shape,
    .vector_size = vector_size,
    .prepare = prepare,
    .retire = retire,
    .room = room,
    .receive = receive,
};
