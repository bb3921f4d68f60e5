/* Reading the packet ring in batches. What no packet socket is shown, this host's own multicast, unicast and broadcast,
 * comes by the companion, a plain socket (mcf_bpf_companion).
 *
 * A batch lies in one block. The part of a block that did not fit a batch, or a train, is carried: the next receive
 * goes on there. */
#define _GNU_SOURCE
#include "linux/mcf_packet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "linux/mcf_ring.h"
#include "linux/mcf_ring_kind.h"
#include "linux/mcf_stream.h"
#include "posix/mcf_posix.h"
#include "posix/mcf_tally.h"

enum {
    COPY_SPACE = 1 << 18, /* bytes: what a block holds, without its headers */
    BLOCKS_IN_A_ROW = 16, /* before the companion has its turn */
    LENT_TO_A_BLOCK = 2,  /* arenas: its 256 KiB have less than 2048 packets, of 136 bytes at least */
};

/* receiver->vectors. */
typedef struct {
    mcf_ring *ring;
    uint32_t metadata; /* that batches show; receiver->metadata is the companion's */
    uint16_t port;
    mcf_members members;

    mcf_pool *lending;     /* arenas without memory of their own, enough for all blocks of lone datagrams */
    mcf_ring_block *block; /* a reference of ours until all of it is delivered, NULL = none */
    mcf_arena *lent;       /* of which the last of its rows are described, NULL = none; it holds the block, too */
    mcf_ring_cursor cursor;
    uint32_t blocks_in_row; /* since the companion was asked */
    uint8_t is_copied;      /* blocks are scarce: this one is copied */
    uint8_t has_been_down;  /* the ring's device, and it was not seen to be up since */
    uint8_t has_packet;     /* `packet` is not delivered whole, of which `taken` bytes are */
    uint32_t taken;
    mcf_ring_packet packet; /* the last that was read in full, and what it has in common with the next ones: */
    mcf_frame_datagram datagram;
    mcf_ring_kind kind;
    mcf_stream stream;

    int64_t due;                /* losses that were before what is read now */
    int64_t placed;             /* and those that batch.dropped has shown */
    _Atomic int64_t counted_at; /* CLOCK_REALTIME: when losses were counted that may come behind what is read now */
    mcf_counter lost, copied, fragments, bad_checksums;
} packets;

/* As many rows as a call may ask for, and memory for datagrams that are copied. */
static mcf_shape shape(const mcf_receiver *receiver)
{
    return (mcf_shape){.rows = MCF_MAX_BATCH, .max_datagram = receiver->max_datagram, .data_size = COPY_SPACE};
}

static size_t vector_size(const mcf_receiver *receiver, uint32_t rows)
{
    (void)receiver, (void)rows;
    return sizeof(packets);
}

static void prepare(mcf_receiver *receiver)
{
    (void)receiver; /* zero is where it begins, and a forked child does not go on */
}

/* Nobody is at it: whatever they left is in the state. */
static void drop_block(mcf_receiver *receiver, packets *state)
{
    mcf_ring_block *block = state->block;
    mcf_arena *lent = state->lent;
    state->block = NULL;
    state->lent = NULL;
    state->has_packet = 0;
    receiver->carried = 0;
    if (lent)
        mcf_arena_release(lent);
    if (block)
        mcf_ring_release(block);
}

/* The packets that found no room since this was last asked. */
static int64_t new_losses(const packets *state)
{
    uint64_t lost = 0;
    return state->ring && !mcf_ring_losses(state->ring, &lost) ? (int64_t)lost : 0;
}

static void retire(mcf_receiver *receiver)
{
    packets *state = receiver->vectors;
    mcf_counter_add(&state->lost, new_losses(state));
    drop_block(receiver, state);
    mcf_ring *ring = state->ring;
    state->ring = NULL;
    if (ring)
        mcf_ring_close(ring);
    if (state->lending)
        mcf_pool_close(state->lending);
    state->lending = NULL;
    mcf_members_clear(&state->members);
}

static int room(const mcf_receiver *receiver, const mcf_arena *arena)
{
    const packets *state = receiver->vectors;
    uint32_t rows = arena->rows - arena->used_rows;
    size_t data = arena->data_size - arena->used_data;
    if (state->block && !state->is_copied)
        return MCF_ROOM_AMPLE; /* it is not needed */
    if (!rows || data < arena->slot_size || data < receiver->limit)
        return MCF_ROOM_NONE;
    int is_ample = mcf_is_ample(receiver, rows, arena->rows) && mcf_is_ample(receiver, data, arena->data_size);
    return is_ample || state->block ? MCF_ROOM_AMPLE : MCF_ROOM_SOME;
}

/* What the socket has, read as the portable engine reads it. */
static int receive_companion(mcf_receiver *receiver, packets *state, mcf_arena *arena, uint32_t most, mcf_range *got)
{
    size_t places = (arena->data_size - arena->used_data) / arena->slot_size;
    state->blocks_in_row = 0;
    int used = mcf_posix_engine.receive(receiver, arena, places < most ? (uint32_t)places : most, 0, got);
    if (used > 0 && !(state->metadata & MCF_META_DESTINATION)) {
        memset(arena->destinations + got->row, 0, got->rows * sizeof *arena->destinations);
        memset(arena->interfaces + got->row, 0, got->rows * sizeof *arena->interfaces);
    }
    if (used > 0 && state->metadata & MCF_META_DROPS)
        memset(arena->dropped + got->row, 0, got->rows * sizeof *arena->dropped);
    return used;
}

/* How many datagrams the last `left` bytes of a packet are. */
static uint32_t count_datagrams(const mcf_frame_datagram *datagram, uint32_t left)
{
    return datagram->segment ? (left + datagram->segment - 1) / datagram->segment : 1;
}

static int is_accepted(packets *state, const mcf_ring_packet *packet, const mcf_frame_datagram *datagram)
{
    return mcf_members_accept(&state->members, datagram->destination, packet->interface_index, datagram->source);
}

/* Whether a packet is a datagram for a member: *found. *others counts those that belong to somebody else. */
static int is_for_member(const mcf_receiver *receiver, packets *state, const mcf_ring_packet *packet,
                         mcf_frame_datagram *found, uint32_t *others)
{
    mcf_frame_verdict verdict = mcf_frame_read(receiver->family, &packet->frame, found);
    switch (verdict) {
    case MCF_FRAME_DATAGRAM:
    case MCF_FRAME_FRAGMENT:
    case MCF_FRAME_BAD_CHECKSUM:
        break;
    case MCF_FRAME_CUT:
        mcf_counter_add(&state->lost, 1);
        state->due++;
        return 0;
    default: /* nobody would get it */
        return 0;
    }
    if (found->destination_port != state->port)
        return 0; /* the filter cannot see the port of every packet */
    if (!is_accepted(state, packet, found)) {
        if (verdict == MCF_FRAME_DATAGRAM && mcf_is_multicast(found->destination)) /* else the companion's */
            *others += count_datagrams(found, found->length);
        return 0;
    }
    if (verdict != MCF_FRAME_DATAGRAM)
        mcf_counter_bump(verdict == MCF_FRAME_FRAGMENT ? &state->fragments : &state->bad_checksums, 1);
    return verdict == MCF_FRAME_DATAGRAM;
}

static void fill_addresses(uint8_t (*to)[16], const uint8_t address[16], uint32_t rows)
{
    uint64_t halves[2];
    memcpy(halves, address, sizeof halves);
    for (uint32_t i = 0; i < rows; i++)
        memcpy(to[i], halves, sizeof halves);
}

/* Writes rows [row, end): what the datagrams of a run of one stream have in common. */
static void describe_run(const mcf_receiver *receiver, const packets *state, mcf_arena *arena, uint32_t row,
                         uint32_t end)
{
    const mcf_ring_packet *packet = &state->packet;
    const mcf_frame_datagram *datagram = &state->datagram;
    uint32_t metadata = state->metadata;
#define FILL_COLUMN(name, value)                                                                                       \
    for (uint32_t i = row; i < end; i++)                                                                               \
    arena->name[i] = (value)
    fill_addresses(arena->sources + row, datagram->source, end - row);
    FILL_COLUMN(source_ports, datagram->source_port);
    if (receiver->family == MCF_IPV6) {
        int is_link_local = datagram->source[0] == 0xfe && (datagram->source[1] & 0xc0) == 0x80;
        FILL_COLUMN(source_scopes, is_link_local ? packet->interface_index : 0);
    }
    if (metadata & MCF_META_DESTINATION) {
        fill_addresses(arena->destinations + row, datagram->destination, end - row);
        FILL_COLUMN(interfaces, packet->interface_index);
    }
    if (metadata & MCF_META_DROPS)
        FILL_COLUMN(dropped, 0);
    if (metadata & MCF_META_HOPS)
        FILL_COLUMN(hops, datagram->hops);
    if (metadata & MCF_META_TOS)
        FILL_COLUMN(tos, datagram->tos);
#undef FILL_COLUMN
}

/* What each datagram has of its own. */
typedef struct {
    uint32_t *offsets, *lengths;
    uint16_t *flags;
    int64_t *timestamps; /* NULL where nobody asked */
} columns;

static inline void describe(const columns *to, uint32_t row, int64_t time, uint32_t offset, uint32_t length,
                            uint16_t flags)
{
    if (to->timestamps)
        to->timestamps[row] = time;
    to->offsets[row] = offset;
    to->lengths[row] = length;
    to->flags[row] = flags;
}

/* The flag of this packet's time, where anybody asked for that. */
static inline uint16_t time_flag(const columns *to, const mcf_ring_packet *packet)
{
    return to->timestamps && packet->is_hardware_time ? MCF_FLAG_HARDWARE_TIME : 0;
}

/* Copies the first bytes of datagrams that lie `size` apart, close to each other, behind what is used of the arena. */
static void copy_datagrams(packets *state, mcf_arena *arena, const uint8_t *payload, uint32_t size, uint32_t shown,
                           uint32_t length, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t left = length - i * size;
        memcpy(arena->data + arena->used_data + (size_t)i * shown, payload + (size_t)i * size,
               left < shown ? left : shown);
    }
    mcf_counter_bump(&state->copied, count);
}

/* Describes the next datagrams of the block for as long as they are of the stream and nothing has to be done to them
 * but to copy them, up to `most`, from that row on. *first is where offsets begin. Returns how many. */
static uint32_t read_stream(const mcf_receiver *receiver, packets *state, mcf_arena *arena, columns to, uint32_t row,
                            uint32_t most, const uint8_t **first, mcf_tally *tally)
{
    const mcf_stream stream = state->stream;
    const mcf_ring_kind kind = state->kind;
    mcf_ring_cursor cursor = state->cursor;
    int is_copied = state->is_copied;
    uint8_t *copy = arena->data + arena->used_data, *copies_end = arena->data + arena->data_size;
    uint32_t max_datagram = receiver->limit, begin = row, end = row + (most < cursor.left ? most : cursor.left);
    uint16_t flags = time_flag(&to, &state->packet);
    int has_unknown_sum = state->packet.frame.checksum == MCF_CHECKSUM_UNKNOWN;
    const uint8_t *start = *first ? *first : cursor.at + kind.net + stream.headers;
    int64_t bytes = 0;
    for (; row < end; row++) {
        const uint8_t *ip = cursor.at + kind.net, *payload = ip + stream.headers;
        if (!mcf_ring_is_of_kind(cursor.at, &kind))
            break;
        int32_t length = mcf_stream_next(&stream, ip, mcf_ring_captured(cursor.at));
        if (length < 0 || (uint32_t)length > max_datagram ||
            (has_unknown_sum && !mcf_stream_sum_is_good(&stream, ip, length)))
            break;
        if (is_copied) {
            if (copies_end - copy < length)
                break;
            payload = memcpy(copy, payload, (size_t)length);
            copy += length;
        }
        describe(&to, row, mcf_ring_time(cursor.at), (uint32_t)(payload - start), (uint32_t)length, flags);
        bytes += length;
        mcf_ring_advance(&cursor);
    }
    if (row == begin)
        return 0;
    if (is_copied) {
        arena->used_data += (size_t)bytes;
        mcf_counter_bump(&state->copied, row - begin);
    }
    state->cursor = cursor;
    tally->bytes += bytes;
    *first = start;
    return row - begin;
}

/* Describes datagrams of the block, up to `most`: *got, and what came beside them. Returns whether that was all of the
 * block. Within its caller the compiler would have fewer registers for it: 5 % of a datagram's time. */
__attribute__((noinline)) static int read_block(mcf_receiver *receiver, packets *state, mcf_arena *arena, uint32_t most,
                                                mcf_range *got, mcf_tally *tally)
{
    int has_time = (state->metadata & (MCF_META_TIMESTAMP | MCF_META_HARDWARE_TIMESTAMP)) != 0;
    columns to = {arena->offsets, arena->lengths, arena->flags, has_time ? arena->timestamps : NULL};
    const uint8_t *first = state->is_copied ? arena->data + arena->used_data : NULL;
    mcf_ring_packet *packet = &state->packet;
    mcf_frame_datagram *datagram = &state->datagram;
    uint32_t max_datagram = receiver->limit, others = 0, start = arena->used_rows, end = start + most;
    uint32_t row = start, run = start; /* packet and datagram describe the rows from `run` on */
    if ((state->has_packet || state->stream.headers) && !is_accepted(state, packet, datagram)) { /* any more */
        if (state->has_packet)
            others = count_datagrams(datagram, datagram->length - state->taken);
        state->has_packet = 0;
        state->stream.headers = 0;
    }
    while (row < end) {
        if (!state->has_packet) {
            if (state->stream.headers)
                row += read_stream(receiver, state, arena, to, row, end - row, &first, tally);
            if (row == end || !state->cursor.left)
                break;
            describe_run(receiver, state, arena, run, row);
            run = row;
            const uint8_t *at = state->cursor.at;
            (void)mcf_ring_step(&state->cursor, packet);
            state->stream.headers = 0;
            if (!is_for_member(receiver, state, packet, datagram, &others))
                continue;
            state->kind = mcf_ring_kind_of(at);
            mcf_stream_begin(&state->stream, receiver->family, &packet->frame, datagram);
            state->taken = 0;
        }
        const uint8_t *payload = packet->frame.data + datagram->offset + state->taken;
        uint32_t left = datagram->length - state->taken, count = 1;
        uint32_t size = datagram->segment ? datagram->segment : left;
        uint32_t shown = size < max_datagram ? size : max_datagram, step = size;
        uint16_t flags = (size > shown ? MCF_FLAG_TRUNCATED : 0) | time_flag(&to, packet);
        if (!first)
            first = payload;
        state->has_packet = 1;
        if (datagram->segment) {
            flags |= has_time ? MCF_FLAG_SHARED_TIME : 0;
            count = count_datagrams(datagram, left);
            if (count > end - row)
                count = end - row;
        }
        if (state->is_copied) {
            size_t space = arena->data_size - arena->used_data;
            if (shown && space / shown < count)
                count = (uint32_t)(space / shown);
            if (!count)
                break;
            copy_datagrams(state, arena, payload, size, shown, left, count);
            payload = arena->data + arena->used_data;
            arena->used_data += (size_t)count * shown;
            step = shown;
        }
        for (uint32_t i = 0; i < count; i++)
            describe(&to, row + i, packet->timestamp, (uint32_t)(payload - first) + i * step, shown, flags);
        row += count;
        tally->bytes += (int64_t)count * shown;
        tally->flags |= flags & MCF_FLAG_TRUNCATED;
        if (count * size >= left) { /* the last datagram of a train may be shorter */
            uint32_t rest = left - (count - 1) * size;
            state->has_packet = 0;
            if (rest < shown) {
                arena->lengths[row - 1] = rest;
                tally->bytes -= shown - rest;
            }
            if (rest <= shown)
                arena->flags[row - 1] &= (uint16_t)~MCF_FLAG_TRUNCATED;
        } else {
            state->taken += count * size;
        }
    }
    describe_run(receiver, state, arena, run, row);
    *got = (mcf_range){.arena = arena, .row = start, .rows = row - start};
    if (got->rows) {
        got->data = (size_t)(first - (state->is_copied ? arena->data : state->block->data));
        got->data_size = arena->offsets[row - 1] + arena->lengths[row - 1];
    }
    tally->kept = got->rows;
    tally->used = got->rows + others;
    return !state->has_packet && !state->cursor.left;
}

static void give_back(void *block)
{
    mcf_ring_release(block);
}

/* Makes state->lent an arena with rows for more of the block. Trains may have many datagrams in little room: what they
 * need beyond a block's share counts as copies do. Returns 0, MCF_NO_ROOM or -ENOMEM. */
static int find_rows(mcf_receiver *receiver, packets *state)
{
    mcf_arena *last = state->lent, *fresh;
    if (last && last->used_rows < last->rows)
        return 0;
    int error = mcf_pool_take(state->lending, &fresh);
    if (error == -ENOBUFS)
        error = mcf_pool_take(receiver->pool, &fresh);
    if (error)
        return error == -ENOBUFS ? MCF_NO_ROOM : error;
    fresh->filler = receiver->id;
    mcf_ring_retain(state->block);
    mcf_arena_lend(fresh, state->block->data, state->block, give_back);
    state->lent = fresh;
    if (last)
        mcf_arena_release(last);
    return 0;
}

/* Makes those losses due that were before the block that is read next. The kernel marks the block behind them, unless
 * somebody counted them before it was handed over: then they were before whatever came later than that. */
static void place_losses(packets *state)
{
    if (state->block->is_after_loss)
        mcf_counter_add(&state->lost, new_losses(state));
    int64_t lost = mcf_counter_get(&state->lost);
    if (state->block->is_after_loss || state->block->time >= atomic_load(&state->counted_at))
        state->due = lost;
}

/* The next block becomes the one that is read. Returns as mcf_ring_next. */
static int take_block(packets *state)
{
    int result = mcf_ring_next(state->ring, &state->block);
    if (result <= 0)
        return result;
    state->cursor = mcf_ring_begin(state->block);
    state->is_copied = (uint8_t)mcf_ring_is_scarce(state->ring);
    state->blocks_in_row++;
    if (state->metadata & MCF_META_DROPS)
        place_losses(state);
    return result;
}

/* Whether the ring's device is gone, of which nothing tells: it goes down first, and that is told once. */
static int is_gone(packets *state)
{
    if (!state->has_been_down)
        return 0;
    if (mcf_ring_bind_again(state->ring))
        return 1;
    state->has_been_down = !mcf_ring_is_up(state->ring);
    return 0;
}

static int receive(mcf_receiver *receiver, mcf_arena *arena, uint32_t most, int wait, mcf_range *got)
{
    packets *state = receiver->vectors;
    (void)wait; /* the socket has no patience */
    got->rows = 0;
    if (!state->block) {
        int result = take_block(state);
        receiver->carried = result != 0; /* of a ring that stands still the next call is to hear, too */
        /* First: its edge is forgotten already, and the companion stays readable. */
        int error = result ? 0 : mcf_ring_error(state->ring);
        state->has_been_down |= error == -ENETDOWN;
        if (error)
            return error;
        if (result <= 0 || state->blocks_in_row > BLOCKS_IN_A_ROW) {
            int used = receive_companion(receiver, state, arena, most, got);
            receiver->last_count = used > 0 ? (uint32_t)used : 0;
            if (used)
                return used;
            if (!result)
                return is_gone(state) ? -ENETDOWN : 0;
            if (result < 0)
                return result == -ENOBUFS ? MCF_NO_BLOCK : result;
        }
    }
    if (!state->is_copied) {
        int error = find_rows(receiver, state);
        if (error)
            return error;
        arena = state->lent;
    }
    if (arena->rows - arena->used_rows < most)
        most = arena->rows - arena->used_rows;
    mcf_tally tally = {0};
    mcf_members_adopt(&state->members);
    int is_whole = read_block(receiver, state, arena, most, got, &tally);
    if (got->rows && state->metadata & MCF_META_DROPS) {
        arena->dropped[got->row] = (uint32_t)(state->due - state->placed);
        state->placed = state->due;
    }
    arena->used_rows += got->rows;
    uint32_t used = tally.used ? tally.used : 1;
    receiver->last_count = used;
    receiver->last_asked = used;
    if (is_whole) {
        if (got->rows && state->lent) { /* so that the block goes with the batch */
            receiver->is_handed_over = 1;
            state->lent = NULL;
        }
        receiver->last_asked += (uint32_t)!mcf_ring_has_next(state->ring); /* no more is there */
        drop_block(receiver, state);
        receiver->carried = (uint32_t)mcf_ring_is_stuck(state->ring);
    }
    mcf_count_received(receiver, got, &tally);
    return (int)used;
}

static int has_more(const mcf_receiver *receiver)
{
    const packets *state = receiver->vectors;
    return state->ring && (mcf_ring_has_next(state->ring) || state->has_been_down); /* which no wait would end for */
}

/* The tap */

static int probe(void)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : close(fd);
}

static int guard(mcf_socket fd, int family, int on)
{
    mcf_bpf_program program;
    if (!on)
        return mcf_bpf_detach((int)fd);
    mcf_bpf_companion(&program, family);
    return mcf_bpf_attach((int)fd, &program);
}

static int lend(mcf_receiver *receiver, uint32_t blocks)
{
    packets *state = receiver->vectors;
    mcf_shape rows_alone = shape(receiver);
    rows_alone.data_size = 0;
    state->lending = mcf_pool_new(&rows_alone, (uint64_t)LENT_TO_A_BLOCK * blocks * mcf_arena_size(&rows_alone));
    if (!state->lending)
        return -ENOMEM;
    /* Mapped, which becomes memory as it is needed: from the heap they make datagrams cost 4 % more. */
    return mcf_pool_reserve(state->lending, mcf_pool_wishes(receiver->pool));
}

static int open_ring(mcf_receiver *receiver, mcf_socket fd, uint16_t port, const mcf_ring_shape *wanted)
{
    packets *state = receiver->vectors;
    mcf_ring_options options = {
        .family = receiver->family,
        .port = port,
        .interface_index = wanted->interface_index,
        .block_size = wanted->block_size,
        .blocks = wanted->blocks,
        .retire_ms = wanted->retire_ms,
        .hardware_time = (receiver->metadata & MCF_META_HARDWARE_TIMESTAMP) != 0,
    };
    mcf_ring *ring;
    int error = mcf_ring_open(&ring, &options, NULL, 0);
    if (error)
        return error;
    error = mcf_ring_watch(ring, (int)fd);
    if (error) {
        mcf_ring_close(ring);
        return error;
    }
    state->ring = ring;
    state->port = port;
    receiver->fd = fd;
    receiver->tap = mcf_ring_fd(ring);
    /* The companion is filtered by the destination, and its drops count what its filter leaves out. */
    state->metadata = receiver->metadata;
    receiver->metadata = (state->metadata | MCF_META_DESTINATION) & ~(uint32_t)MCF_META_DROPS;
    return 0;
}

static int follow(mcf_receiver *receiver, const mcf_member *members, uint32_t count)
{
    packets *state = receiver->vectors;
    if (!state->ring)
        return 0;
    int error = mcf_members_set(&state->members, members, count);
    if (!error)
        error = mcf_ring_filter(state->ring, members, count);
    if (error >= 0) /* for whoever waits outside of a receive */
        (void)mcf_ring_bind_again(state->ring);
    return error < 0 ? error : 0;
}

static void at_fork(mcf_receiver *receiver, int moment)
{
    packets *state = receiver->vectors;
    if (!state->ring)
        return;
    if (moment == MCF_FORK_BEFORE)
        mcf_ring_before_fork(state->ring);
    else if (moment == MCF_FORK_IN_PARENT)
        mcf_ring_in_parent(state->ring);
    else
        (void)mcf_ring_after_fork(state->ring);
}

static void count(mcf_receiver *receiver, mcf_tap_counts *counts)
{
    packets *state = receiver->vectors;
    int64_t lost = new_losses(state);
    if (lost) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        atomic_store(&state->counted_at, now.tv_sec * INT64_C(1000000000) + now.tv_nsec);
        mcf_counter_add(&state->lost, lost);
    }
    *counts = (mcf_tap_counts){
        .lost = mcf_counter_get(&state->lost),
        .copied = mcf_counter_get(&state->copied),
        .fragments = mcf_counter_get(&state->fragments),
        .bad_checksums = mcf_counter_get(&state->bad_checksums),
        .held = state->ring ? mcf_ring_held(state->ring) : 0,
    };
}

static const mcf_tap tap = {
    .probe = probe,
    .guard = guard,
    .lend = lend,
    .open = open_ring,
    .follow = follow,
    .at_fork = at_fork,
    .count = count,
};

const mcf_engine mcf_packet_engine = {
    .name = "packet",
    .tap = &tap,
    .shape = shape,
    .vector_size = vector_size,
    .prepare = prepare,
    .retire = retire,
    .room = room,
    .has_more = has_more,
    .receive = receive,
};
