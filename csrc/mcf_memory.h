/* Large pieces of memory, prepared so that writing to them costs nothing extra. */
#ifndef MCF_MEMORY_H
#define MCF_MEMORY_H

#include <stddef.h>
#include <stdint.h>

enum {
    MCF_MEMORY_PREFAULT = 1, /* every page is there from the start */
    MCF_MEMORY_LOCK = 2,     /* and stays: it is never swapped out */
    MCF_MEMORY_HUGE = 4,     /* on huge pages as far as the system has them */
};

/* Maps zeroed memory, whole pages of it. Returns 0, or -errno: -ENOMEM when there is not so much (or, with
 * MCF_MEMORY_LOCK, over the limit), -EPERM, -EAGAIN when it cannot be locked. */
int mcf_memory_map(size_t size, uint32_t wishes, void **memory);

/* Gives back what was mapped with this size and these wishes. */
void mcf_memory_unmap(void *memory, size_t size, uint32_t wishes);

#endif
