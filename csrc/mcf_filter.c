#include "mcf_filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t hash_of(const uint8_t group[16], uint32_t interface_index)
{
    uint64_t high, low;
    memcpy(&high, group, 8);
    memcpy(&low, group + 8, 8);
    uint64_t mixed = (high ^ (low * 0x9e3779b97f4a7c15u) ^ interface_index) * 0xff51afd7ed558ccdu;
    return (uint32_t)(mixed >> 32);
}

static mcf_filter_entry *find_place(mcf_filter_entry *table, uint32_t mask, const uint8_t group[16], uint32_t index)
{
    uint32_t at = hash_of(group, index) & mask;
    while (table[at].interface_index && (table[at].interface_index != index || memcmp(table[at].group, group, 16)))
        at = (at + 1) & mask;
    return &table[at];
}

int mcf_filter_set(mcf_filter *filter, const mcf_filter_entry *entries, uint32_t count)
{
    uint32_t places = 4;
    while (places < 2 * count)
        places *= 2;
    mcf_filter_entry *table = calloc(places, sizeof *table);
    if (!table)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        *find_place(table, places - 1, entries[i].group, entries[i].interface_index) = entries[i];
    mcf_filter_lock(filter);
    mcf_filter_entry *old = filter->table;
    filter->table = table;
    filter->mask = places - 1;
    mcf_filter_unlock(filter);
    free(old);
    return 0;
}

void mcf_filter_clear(mcf_filter *filter)
{
    mcf_filter_lock(filter);
    free(filter->table);
    filter->table = NULL;
    mcf_filter_unlock(filter);
}

void mcf_filter_lock(mcf_filter *filter)
{
    while (atomic_flag_test_and_set_explicit(&filter->busy, memory_order_acquire))
        ;
}

void mcf_filter_unlock(mcf_filter *filter)
{
    atomic_flag_clear_explicit(&filter->busy, memory_order_release);
}

static int is_multicast(const uint8_t address[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (!memcmp(address, mapped, sizeof mapped))
        return (address[12] & 0xf0) == 0xe0;
    return address[0] == 0xff;
}

int mcf_filter_accepts(const mcf_filter *filter, const uint8_t destination[16], uint32_t interface_index)
{
    if (!filter->table || !is_multicast(destination))
        return 1;
    mcf_filter_entry *table = filter->table;
    return find_place(table, filter->mask, destination, interface_index)->interface_index != 0;
}
