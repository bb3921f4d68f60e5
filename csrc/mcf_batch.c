#include "mcf_batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mcf_pool.h"

/* Where in its cache line the data begins. Processors of AMD's since Zen 3 take up to thirty times as long for a copy
 * by rep movsb, which is how the kernel copies, when it goes 1 to 31 bytes behind where it comes from, both modulo
 * 4096. In the kernel a datagram's headers begin with a line, or 2 bytes into it, and its payload some 42 to 62 bytes
 * behind. */
enum { DATA_OFFSET = 32 };

/* Hands out pieces of one block, none of which shares a cache line with its neighbour. With base NULL it only adds up
 * the size. */
typedef struct {
    uint8_t *base;
    size_t size;
} carver;

static void *carve(carver *block, size_t size)
{
    size_t at = (block->size + MCF_CACHE_LINE - 1) & ~(size_t)(MCF_CACHE_LINE - 1);
    block->size = at + size;
    return block->base ? block->base + at : NULL;
}

/* The one place that knows the layout of an arena's block: used to measure it and to fill it. */
static void lay_out(mcf_arena *arena, carver *block, size_t data_size)
{
    size_t rows = arena->rows;
    arena->offsets = carve(block, rows * sizeof *arena->offsets);
    arena->lengths = carve(block, rows * sizeof *arena->lengths);
    arena->flags = carve(block, rows * sizeof *arena->flags);
    arena->sources = carve(block, rows * sizeof *arena->sources);
    arena->source_ports = carve(block, rows * sizeof *arena->source_ports);
    arena->source_scopes = carve(block, rows * sizeof *arena->source_scopes);
    arena->destinations = carve(block, rows * sizeof *arena->destinations);
    arena->interfaces = carve(block, rows * sizeof *arena->interfaces);
    arena->timestamps = carve(block, rows * sizeof *arena->timestamps);
    arena->dropped = carve(block, rows * sizeof *arena->dropped);
    arena->hops = carve(block, rows * sizeof *arena->hops);
    arena->tos = carve(block, rows * sizeof *arena->tos);
    if (data_size) {
        uint8_t *room = carve(block, DATA_OFFSET + data_size);
        arena->data = room ? room + DATA_OFFSET : NULL;
    }
}

static size_t block_size(uint32_t rows, size_t data_size)
{
    mcf_arena measured = {.rows = rows};
    carver block = {NULL, sizeof measured};
    lay_out(&measured, &block, data_size);
    return block.size + MCF_CACHE_LINE;
}

/* Makes an arena of zeroed memory, as much as mcf_arena_size says. The header lies at the first aligned address; the
 * word before it remembers what is to be freed with the arena. */
static mcf_arena *furnish(uint8_t *start, void *to_free, uint32_t rows, size_t data_size)
{
    uintptr_t aligned = ((uintptr_t)start + sizeof(void *) + MCF_CACHE_LINE - 1) & ~(uintptr_t)(MCF_CACHE_LINE - 1);
    ((void **)aligned)[-1] = to_free;
    mcf_arena *arena = (mcf_arena *)aligned;
    carver block = {(uint8_t *)aligned, sizeof *arena};
    atomic_init(&arena->references, 1);
    arena->rows = rows;
    arena->data_size = data_size;
    lay_out(arena, &block, data_size);
    return arena;
}

static mcf_arena *allocate(uint32_t rows, size_t data_size)
{
    uint8_t *start = calloc(1, block_size(rows, data_size) + sizeof(void *));
    return start ? furnish(start, start, rows, data_size) : NULL;
}

void mcf_arena_free(mcf_arena *arena)
{
    free(((void **)arena)[-1]);
}

size_t mcf_arena_size(const mcf_shape *shape)
{
    return block_size(shape->rows, shape->data_size) + sizeof(void *);
}

static mcf_arena *shaped(mcf_arena *arena, const mcf_shape *shape)
{
    if (arena) {
        arena->slot_size = mcf_slot_size(shape->max_datagram);
        arena->max_datagram = shape->max_datagram;
    }
    return arena;
}

mcf_arena *mcf_arena_at(void *memory, const mcf_shape *shape)
{
    return shaped(furnish(memory, NULL, shape->rows, shape->data_size), shape);
}

mcf_arena *mcf_arena_new(const mcf_shape *shape)
{
    return shaped(allocate(shape->rows, shape->data_size), shape);
}

mcf_arena *mcf_arena_over(void *data, uint32_t rows, uint32_t max_datagram)
{
    mcf_arena *arena = allocate(rows, 0);
    if (arena) {
        arena->data = data;
        arena->data_size = (size_t)rows * max_datagram;
        arena->slot_size = arena->max_datagram = max_datagram;
    }
    return arena;
}

/* Every column but those that say where the payload lies, to the first rows. */
static void copy_columns(mcf_arena *to, const mcf_range *batch)
{
    const mcf_arena *from = batch->arena;
#define COPY_COLUMN(name) memcpy(to->name, from->name + batch->row, batch->rows * sizeof *to->name)
    COPY_COLUMN(flags);
    COPY_COLUMN(sources);
    COPY_COLUMN(source_ports);
    COPY_COLUMN(source_scopes);
    COPY_COLUMN(destinations);
    COPY_COLUMN(interfaces);
    COPY_COLUMN(timestamps);
    COPY_COLUMN(dropped);
    COPY_COLUMN(hops);
    COPY_COLUMN(tos);
#undef COPY_COLUMN
}

mcf_arena *mcf_arena_copy(const mcf_range *batch)
{
    const mcf_arena *from = batch->arena;
    size_t size = 0;
    for (uint32_t row = batch->row; row < batch->row + batch->rows; row++)
        size += from->lengths[row];
    mcf_arena *to = allocate(batch->rows, size ? size : 1);
    if (!to)
        return NULL;
    to->data_size = size;
    uint32_t at = 0;
    for (uint32_t i = 0; i < batch->rows; i++) {
        uint32_t length = from->lengths[batch->row + i];
        memcpy(to->data + at, from->data + batch->data + from->offsets[batch->row + i], length);
        to->offsets[i] = at;
        to->lengths[i] = length;
        at += length;
    }
    copy_columns(to, batch);
    return to;
}

uint32_t mcf_range_copy(const mcf_range *batch, mcf_arena *arena, mcf_range *to)
{
    const mcf_arena *from = batch->arena;
    uint32_t cut = 0;
    copy_columns(arena, batch);
    arena->filler = from->filler;
    for (uint32_t i = 0; i < batch->rows; i++) {
        uint32_t length = from->lengths[batch->row + i];
        if (length > arena->max_datagram) {
            length = arena->max_datagram;
            cut += !(arena->flags[i] & MCF_FLAG_TRUNCATED);
            arena->flags[i] |= MCF_FLAG_TRUNCATED;
        }
        arena->offsets[i] = i * arena->slot_size;
        arena->lengths[i] = length;
        memcpy(arena->data + arena->offsets[i], from->data + batch->data + from->offsets[batch->row + i], length);
    }
    *to = (mcf_range){.arena = arena, .rows = batch->rows, .data_size = (size_t)batch->rows * arena->slot_size};
    return cut;
}

void mcf_arena_lend(mcf_arena *arena, const void *data, void *lender, void (*give_back)(void *lender))
{
    arena->loan = (mcf_loan){lender, give_back, arena->data};
    arena->data = (uint8_t *)data;
}

static void end_loan(mcf_arena *arena)
{
    mcf_loan loan = arena->loan;
    if (!loan.give_back)
        return;
    arena->data = loan.own_data;
    arena->loan.give_back = NULL;
    loan.give_back(loan.lender);
}

void mcf_arena_release(mcf_arena *arena)
{
    if (atomic_fetch_sub_explicit(&arena->references, 1, memory_order_acq_rel) != 1)
        return;
    end_loan(arena);
    if (arena->pool)
        mcf_pool_return(arena->pool, arena);
    else
        mcf_arena_free(arena);
}
