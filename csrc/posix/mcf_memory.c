/* mmap(2), mlock(2). */
#define _DEFAULT_SOURCE  /* glibc, musl: MAP_ANONYMOUS, MAP_NORESERVE */
#define _DARWIN_C_SOURCE /* macOS: the same */
#include "mcf_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "posix/mcf_system.h"

static void touch(volatile uint8_t *memory, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t at = 0; at < size; at += page)
        memory[at] = 0;
}

int mcf_memory_map(size_t size, uint32_t wishes, void **memory)
{
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED)
        return -errno;
    if (wishes & MCF_MEMORY_HUGE)
        mcf_system_prefer_huge(mapped, size);
    if (wishes & MCF_MEMORY_LOCK && mlock(mapped, size) < 0) {
        int error = errno;
        munmap(mapped, size);
        return -error;
    }
    if (wishes & MCF_MEMORY_PREFAULT)
        touch(mapped, size);
    *memory = mapped;
    return 0;
}

void mcf_memory_unmap(void *memory, size_t size, uint32_t wishes)
{
    (void)wishes; /* the lock goes with the pages */
    munmap(memory, size);
}
