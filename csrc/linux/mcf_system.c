/* pthread_setname_np(3), pthread_setaffinity_np(3), madvise(2). */
#define _GNU_SOURCE
#include "posix/mcf_system.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

void mcf_system_name_thread(const char *name)
{
    pthread_setname_np(pthread_self(), name);
}

int mcf_system_set_processors(pthread_t thread, const uint32_t *cpus, uint32_t count)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < count; i++)
        largest = cpus[i] > largest ? cpus[i] : largest;
    cpu_set_t *set = CPU_ALLOC(largest + 1);
    if (!set)
        return ENOMEM;
    size_t size = CPU_ALLOC_SIZE(largest + 1);
    CPU_ZERO_S(size, set);
    for (uint32_t i = 0; i < count; i++)
        CPU_SET_S(cpus[i], size, set);
    int error = pthread_setaffinity_np(thread, size, set);
    CPU_FREE(set);
    return error;
}

int mcf_system_priority(int wanted)
{
    return wanted;
}

void mcf_system_prefer_huge(void *memory, size_t size)
{
    /* Where the kernel has no huge pages it says so, and small ones serve. */
    madvise(memory, size, MADV_HUGEPAGE);
}
