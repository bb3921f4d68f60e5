/* Darwin's threads have names, but no processors of their own, and its huge pages are not for every processor. */
#define _DARWIN_C_SOURCE
#include "posix/mcf_system.h"

#include <errno.h>
#include <sched.h>

void mcf_system_name_thread(const char *name)
{
    pthread_setname_np(name);
}

int mcf_system_set_processors(pthread_t thread, const uint32_t *cpus, uint32_t count)
{
    (void)thread, (void)cpus, (void)count;
    return ENOTSUP;
}

/* One scale for all threads: below its middle, where the ordinary ones are, a real-time thread would come after them.
 */
int mcf_system_priority(int wanted)
{
    int highest = sched_get_priority_max(SCHED_FIFO);
    int ordinary = (sched_get_priority_min(SCHED_FIFO) + highest) / 2;
    return wanted < highest - ordinary ? ordinary + wanted : highest;
}

void mcf_system_prefer_huge(void *memory, size_t size)
{
    (void)memory, (void)size;
}
