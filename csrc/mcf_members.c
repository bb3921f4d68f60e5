#include "mcf_members.h"

#include <errno.h>
#include <stdlib.h>

typedef uint8_t address[16];

typedef struct {
    address group;
    uint32_t interface_index; /* 0 = an empty place */
    uint32_t source_count;
    const address *sources; /* sorted */
    uint8_t is_exclude;
} place;

/* Open addressing over a power of two of places; the sources lie behind them. */
struct mcf_members_table {
    uint32_t mask;
    place places[];
};

static uint32_t hash(const uint8_t group[16], uint32_t interface_index)
{
    uint64_t high, low;
    memcpy(&high, group, 8);
    memcpy(&low, group + 8, 8);
    uint64_t mixed = (high ^ (low * 0x9e3779b97f4a7c15u) ^ interface_index) * 0xff51afd7ed558ccdu;
    return (uint32_t)(mixed >> 32);
}

static place *find_place(mcf_members_table *table, const uint8_t group[16], uint32_t index)
{
    uint32_t at = hash(group, index) & table->mask;
    place *places = table->places;
    while (places[at].interface_index && (places[at].interface_index != index || memcmp(places[at].group, group, 16)))
        at = (at + 1) & table->mask;
    return &places[at];
}

static int compare(const void *left, const void *right)
{
    return memcmp(left, right, sizeof(address));
}

int mcf_members_set(mcf_members *members, const mcf_member *entries, uint32_t count)
{
    size_t places = 4, sources = 0;
    while (places < 2 * (size_t)count)
        places *= 2;
    for (uint32_t i = 0; i < count; i++)
        sources += entries[i].source_count;
    mcf_members_table *table = calloc(1, sizeof *table + places * sizeof(place) + sources * sizeof(address));
    if (!table)
        return -ENOMEM;
    table->mask = (uint32_t)places - 1;
    address *room = (address *)&table->places[places];
    for (uint32_t i = 0; i < count; i++) {
        const mcf_member *entry = &entries[i];
        place *to = find_place(table, entry->group, entry->interface_index);
        memcpy(to->group, entry->group, sizeof to->group);
        to->interface_index = entry->interface_index;
        to->is_exclude = entry->is_exclude;
        to->sources = (const address *)room;
        to->source_count = entry->source_count;
        if (entry->source_count) {
            memcpy(room, entry->sources, entry->source_count * sizeof(address));
            qsort(room, entry->source_count, sizeof(address), compare);
        }
        room += entry->source_count;
    }
    free(atomic_exchange(&members->next, table));
    return 0;
}

void mcf_members_adopt(mcf_members *members)
{
    if (!atomic_load_explicit(&members->next, memory_order_relaxed))
        return;
    /* In this order: a child that another thread forks meanwhile finds no table that is freed. */
    mcf_members_table *old = members->table;
    members->table = atomic_exchange(&members->next, NULL);
    members->last_interface = 0;
    members->last_answer = 0;
    free(old);
}

void mcf_members_clear(mcf_members *members)
{
    mcf_members_adopt(members);
    free(members->table);
    members->table = NULL;
    members->last_interface = 0;
    members->last_answer = 0;
}

static int is_listed(const place *member, const uint8_t source[16])
{
    return bsearch(source, member->sources, member->source_count, sizeof(address), compare) != NULL;
}

int mcf_members_look_up(mcf_members *members, const uint8_t destination[16], uint32_t interface_index,
                        const uint8_t source[16])
{
    int answer = 0;
    if (members->table) {
        const place *found = find_place(members->table, destination, interface_index);
        if (found->interface_index)
            answer = (found->source_count && is_listed(found, source)) != found->is_exclude;
    }
    memcpy(members->last_destination, destination, 16);
    memcpy(members->last_source, source, 16);
    members->last_interface = interface_index;
    members->last_answer = answer;
    return answer;
}
