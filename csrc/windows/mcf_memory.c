/* VirtualAlloc, VirtualLock, large pages. */
#include "mcf_memory.h"

#include <errno.h>

#include <windows.h>

static void touch(volatile uint8_t *memory, size_t size)
{
    SYSTEM_INFO system;
    GetSystemInfo(&system);
    for (size_t at = 0; at < size; at += system.dwPageSize)
        memory[at] = 0;
}

/* Large pages are for whoever holds SeLockMemoryPrivilege, and in whole ones; NULL where they cannot be had. */
static void *map_large(size_t size)
{
    size_t large = GetLargePageMinimum();
    if (!large || size % large)
        return NULL;
    return VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT | MEM_LARGE_PAGES, PAGE_READWRITE);
}

/* What is locked counts against the working set that the process is granted: makes that larger, or as it was. Others
 * may do so at the same time. */
static void grant(size_t more, size_t less)
{
    static SRWLOCK turn = SRWLOCK_INIT;
    HANDLE process = GetCurrentProcess();
    SIZE_T least, most;
    AcquireSRWLockExclusive(&turn);
    if (GetProcessWorkingSetSize(process, &least, &most) && least > less && most > less)
        SetProcessWorkingSetSize(process, least + more - less, most + more - less);
    ReleaseSRWLockExclusive(&turn);
}

static int lock(void *memory, size_t size)
{
    grant(size, 0);
    if (VirtualLock(memory, size))
        return 0;
    int error = GetLastError() == ERROR_PRIVILEGE_NOT_HELD ? -EPERM : -ENOMEM;
    grant(0, size);
    return error;
}

int mcf_memory_map(size_t size, uint32_t wishes, void **memory)
{
    void *mapped = wishes & MCF_MEMORY_HUGE ? map_large(size) : NULL;
    if (!mapped)
        mapped = VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    if (!mapped)
        return -ENOMEM;
    int error = wishes & MCF_MEMORY_LOCK ? lock(mapped, size) : 0;
    if (error) {
        VirtualFree(mapped, 0, MEM_RELEASE);
        return error;
    }
    if (wishes & MCF_MEMORY_PREFAULT)
        touch(mapped, size);
    *memory = mapped;
    return 0;
}

void mcf_memory_unmap(void *memory, size_t size, uint32_t wishes)
{
    VirtualFree(memory, 0, MEM_RELEASE);
    if (wishes & MCF_MEMORY_LOCK)
        grant(0, size);
}
