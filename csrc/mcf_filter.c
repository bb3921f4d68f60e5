#include "mcf_filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mcf_group_hash.h"

struct mcf_filter_table {
    uint32_t mask;
    mcf_filter_entry places[];
};

static mcf_filter_entry *find_place(mcf_filter_table *table, const uint8_t group[16], uint32_t index)
{
    uint32_t at = mcf_group_hash(group, index) & table->mask;
    mcf_filter_entry *places = table->places;
    while (places[at].interface_index && (places[at].interface_index != index || memcmp(places[at].group, group, 16)))
        at = (at + 1) & table->mask;
    return &places[at];
}

int mcf_filter_set(mcf_filter *filter, const mcf_filter_entry *entries, uint32_t count)
{
    uint32_t places = 4;
    while (places < 2 * count)
        places *= 2;
    mcf_filter_table *table = calloc(1, sizeof *table + places * sizeof *table->places);
    if (!table)
        return -ENOMEM;
    table->mask = places - 1;
    for (uint32_t i = 0; i < count; i++)
        *find_place(table, entries[i].group, entries[i].interface_index) = entries[i];
    free(atomic_exchange(&filter->next, table));
    return 0;
}

void mcf_filter_adopt(mcf_filter *filter)
{
    if (!atomic_load_explicit(&filter->next, memory_order_relaxed))
        return;
    /* In this order: a child that another thread forks meanwhile finds no table that is freed. */
    mcf_filter_table *old = filter->table;
    filter->table = atomic_exchange(&filter->next, NULL);
    free(old);
}

void mcf_filter_clear(mcf_filter *filter)
{
    mcf_filter_adopt(filter);
    free(filter->table);
    filter->table = NULL;
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
    return find_place(filter->table, destination, interface_index)->interface_index != 0;
}
