/* Threads of Windows. The priorities of other systems are not there: it has classes of its own. */
#include "mcf_thread.h"

#include <errno.h>
#include <process.h>
#include <stdlib.h>

#include <windows.h>

struct mcf_thread {
    HANDLE handle;
    void (*run)(void *);
    void *argument;
};

enum { GROUP_SIZE = 64 }; /* processors of a group: GROUP_AFFINITY */

static unsigned __stdcall begin(void *argument)
{
    mcf_thread *thread = argument;
    if (thread->run)
        thread->run(thread->argument);
    return 0;
}

/* A thread runs on processors of one group. */
static int set_processors(HANDLE handle, const mcf_thread_options *options)
{
    GROUP_AFFINITY affinity = {0};
    for (uint32_t i = 0; i < options->cpu_count; i++) {
        WORD group = (WORD)(options->cpus[i] / GROUP_SIZE);
        if (i && group != affinity.Group)
            return -EINVAL;
        affinity.Group = group;
        affinity.Mask |= (KAFFINITY)1 << options->cpus[i] % GROUP_SIZE;
    }
    return SetThreadGroupAffinity(handle, &affinity, NULL) ? 0 : -EINVAL;
}

/* For debuggers; since Windows 10 1607, whose kernel32.dll has it not yet. */
static void set_name(HANDLE handle, const char *name)
{
    union {
        FARPROC found;
        HRESULT(WINAPI *call)(HANDLE, PCWSTR);
    } describe = {.found = GetProcAddress(GetModuleHandleW(L"kernelbase.dll"), "SetThreadDescription")};
    WCHAR wide[MCF_THREAD_NAME];
    char cut[MCF_THREAD_NAME] = {0};
    for (size_t at = 0; at + 1 < sizeof cut && name[at]; at++)
        cut[at] = name[at];
    if (describe.found && MultiByteToWideChar(CP_UTF8, 0, cut, -1, wide, MCF_THREAD_NAME))
        describe.call(handle, wide);
}

int mcf_thread_start(mcf_thread **result, void (*run)(void *), void *argument, const mcf_thread_options *options)
{
    if (options->priority)
        return -EINVAL;
    mcf_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return -ENOMEM;
    thread->run = run;
    thread->argument = argument;
    thread->handle = (HANDLE)_beginthreadex(NULL, 0, begin, thread, CREATE_SUSPENDED, NULL);
    if (!thread->handle) {
        free(thread);
        return -EAGAIN;
    }
    int error = options->cpu_count ? set_processors(thread->handle, options) : 0;
    if (error)
        thread->run = NULL;
    set_name(thread->handle, options->name);
    ResumeThread(thread->handle);
    if (error)
        mcf_thread_join(thread);
    else
        *result = thread;
    return error;
}

void mcf_thread_join(mcf_thread *thread)
{
    WaitForSingleObject(thread->handle, INFINITE);
    CloseHandle(thread->handle);
    free(thread);
}
