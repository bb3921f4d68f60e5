/* What engines share that give each datagram a place of its own in the arena, as many places as rows. */
#ifndef MCF_PLACES_H
#define MCF_PLACES_H

#include <string.h>

#include "mcf_io.h"

/* What one call received: sums over the rows that were kept. */
typedef struct {
    uint32_t used; /* places */
    uint32_t kept; /* rows */
    int64_t bytes;
    uint16_t flags; /* of any row */
} mcf_tally;

/* Arenas with as many places as rows. */
static inline mcf_shape mcf_places_shape(const mcf_receiver *receiver)
{
    return (mcf_shape){
        .rows = receiver->batch_size,
        .max_datagram = receiver->max_datagram,
        .data_size = (size_t)receiver->batch_size * mcf_slot_size(receiver->max_datagram),
    };
}

/* The room of such an arena: MCF_ROOM_*. */
static inline int mcf_places_room(const mcf_receiver *receiver, const mcf_arena *arena)
{
    uint32_t left = arena->rows - arena->used_rows;
    return !left ? MCF_ROOM_NONE : mcf_is_ample(receiver, left, arena->rows) ? MCF_ROOM_AMPLE : MCF_ROOM_SOME;
}

/* Where the next datagram of a call lands. */
static inline uint8_t *mcf_next_place(const mcf_arena *arena, const mcf_tally *tally)
{
    return arena->data + arena->used_data + (size_t)tally->used * arena->slot_size;
}

/* Whether the receiver's vectors have to be pointed at the places of this arena, which the caller then does; mostly it
 * is the one of last time. */
static inline int mcf_aims_anew(mcf_receiver *receiver, const mcf_arena *arena)
{
    if (receiver->aimed_at == arena->data && receiver->aimed_slots == arena->rows &&
        receiver->aimed_slot_size == arena->slot_size && receiver->aimed_length == arena->max_datagram)
        return 0;
    receiver->aimed_at = arena->data;
    receiver->aimed_slots = arena->rows;
    receiver->aimed_slot_size = arena->slot_size;
    receiver->aimed_length = arena->max_datagram;
    return 1;
}

/* Writes 0 for what control messages tell and may be silent about: all of the metadata but drops. */
static inline void mcf_clear_metadata(uint32_t metadata, mcf_arena *arena, uint32_t row)
{
    if (metadata & MCF_META_DESTINATION) {
        memset(arena->destinations[row], 0, 16);
        arena->interfaces[row] = 0;
    }
    if (metadata & (MCF_META_TIMESTAMP | MCF_META_HARDWARE_TIMESTAMP))
        arena->timestamps[row] = 0;
    if (metadata & MCF_META_HOPS)
        arena->hops[row] = 0;
    if (metadata & MCF_META_TOS)
        arena->tos[row] = 0;
}

/* How many datagrams such an engine asks for. */
static inline uint32_t mcf_choose_count(mcf_receiver *receiver, const mcf_arena *arena, uint32_t most)
{
    uint32_t left = arena->rows - arena->used_rows;
    receiver->last_asked = left < most ? left : most;
    return receiver->asks_for_one ? 1 : receiver->last_asked;
}

/* Adds one call to the statistics. */
static inline void mcf_count_received(mcf_receiver *receiver, const mcf_range *got, const mcf_tally *tally)
{
    if (tally->used != tally->kept)
        mcf_counter_bump(&receiver->foreign, tally->used - tally->kept);
    if (receiver->discards) {
        mcf_counter_bump(&receiver->overrun, tally->kept);
        return;
    }
    mcf_counter_bump(&receiver->datagrams, tally->kept);
    mcf_counter_bump(&receiver->bytes, tally->bytes);
    if (!(tally->flags & (MCF_FLAG_TRUNCATED | MCF_FLAG_CONTROL_TRUNCATED)))
        return;
    for (uint32_t row = got->row; row < got->row + got->rows; row++) {
        uint16_t flags = got->arena->flags[row];
        mcf_counter_add(&receiver->truncated, !!(flags & MCF_FLAG_TRUNCATED)); /* who takes a batch may cut, too */
        mcf_counter_bump(&receiver->control_truncated, !!(flags & MCF_FLAG_CONTROL_TRUNCATED));
    }
}

/* Ends a call: the batch, and what is used of the arena. */
static inline void mcf_close_batch(mcf_receiver *receiver, mcf_arena *arena, const mcf_tally *tally, mcf_range *got)
{
    *got = (mcf_range){
        .arena = arena,
        .row = arena->used_rows,
        .rows = tally->kept,
        .data = arena->used_data,
        .data_size = (size_t)tally->used * arena->slot_size,
    };
    mcf_count_received(receiver, got, tally);
    if (tally->kept) {
        arena->used_rows += tally->used;
        arena->used_data += got->data_size;
    }
}

#endif
