/* VirtualAlloc, VirtualLock, large pages. */
#include "mcf_memory.h"

#include <errno.h>

#include <windows.h>

#include <psapi.h>

static void touch(volatile uint8_t *memory, size_t size)
{
    SYSTEM_INFO system;
    GetSystemInfo(&system);
    for (size_t at = 0; at < size; at += system.dwPageSize)
        memory[at] = 0;
}

/* Switches on SeLockMemoryPrivilege, which is off also where the account has it; nothing where it has not. */
static void claim_privilege(void)
{
    TOKEN_PRIVILEGES wanted = {.PrivilegeCount = 1, .Privileges[0].Attributes = SE_PRIVILEGE_ENABLED};
    HANDLE token;
    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_ADJUST_PRIVILEGES, &token))
        return;
    if (LookupPrivilegeValueW(NULL, L"SeLockMemoryPrivilege", &wanted.Privileges[0].Luid))
        AdjustTokenPrivileges(token, FALSE, &wanted, 0, NULL, NULL);
    CloseHandle(token);
}

/* Large pages are for whoever holds that privilege, and come in whole ones; NULL where they cannot be had. */
static void *map_large(size_t size)
{
    size_t large = GetLargePageMinimum();
    if (!large || size > SIZE_MAX - large)
        return NULL;
    claim_privilege();
    size_t whole = (size + large - 1) / large * large;
    return VirtualAlloc(NULL, whole, MEM_RESERVE | MEM_COMMIT | MEM_LARGE_PAGES, PAGE_READWRITE);
}

static int is_large(void *memory)
{
    PSAPI_WORKING_SET_EX_INFORMATION page = {.VirtualAddress = memory};
    return QueryWorkingSetEx(GetCurrentProcess(), &page, sizeof page) && page.VirtualAttributes.LargePage;
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
    /* Large pages are there from the start, stay, and are no part of the working set. */
    if (wishes & MCF_MEMORY_HUGE) {
        *memory = map_large(size);
        if (*memory)
            return 0;
    }
    void *mapped = VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
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
    int was_granted = wishes & MCF_MEMORY_LOCK && !(wishes & MCF_MEMORY_HUGE && is_large(memory));
    VirtualFree(memory, 0, MEM_RELEASE); /* all of it, and the locks with it */
    if (was_granted)
        grant(0, size);
}
