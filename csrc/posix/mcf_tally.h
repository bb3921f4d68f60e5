/* What the POSIX engines share: one received message becomes one row of a batch. */
#ifndef MCF_TALLY_H
#define MCF_TALLY_H

#include "mcf_places.h"
#include "posix/mcf_describe.h"

/* Describes one more message, which lies in the next place behind what is used of the arena. */
static inline void mcf_take(mcf_receiver *receiver, struct msghdr *header, const mcf_name *name, uint32_t length,
                            mcf_arena *arena, mcf_tally *tally)
{
    uint32_t row = arena->used_rows + tally->kept;
    uint32_t offset = tally->used++ * arena->slot_size;
    if (mcf_describe(receiver, header, name, offset, length, arena, row)) {
        tally->kept++;
        tally->bytes += length;
        tally->flags |= arena->flags[row];
    }
}

#endif
