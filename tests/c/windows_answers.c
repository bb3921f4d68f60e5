/* What Windows may answer and Wine does not: calls of the C core reach the functions below instead of the system's, by
 * their names or, where a header has them imported, by the pointers through which a program calls a library (__imp_ and
 * the name). */
#include "windows/mcf_windows.h"

#include <errno.h>
#include <iphlpapi.h>
#include <psapi.h>
#include <string.h>

#include "mcf_interface.h"
#include "mcf_memory.h"
#include "mcf_pool.h"
#include "race.h"

enum { PIECE = 1 << 20, MAX_DATAGRAM = 100 };

/* GetAdaptersAddresses: an adapter without IPv4, and addresses whose prefixes are not known. */

ULONG WINAPI GetAdaptersAddresses(ULONG family, ULONG flags, PVOID reserved, IP_ADAPTER_ADDRESSES *first, ULONG *size)
{
    static WCHAR ipv6_only[] = L"Ethernet 6", both[] = L"Ethernet";
    static struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_addr.s6_addr = {0xfd}};
    static struct sockaddr_in ipv4 = {.sin_family = AF_INET};
    static IP_ADAPTER_UNICAST_ADDRESS addresses[3];
    (void)family, (void)flags, (void)reserved;
    CHECK(*size >= 2 * sizeof *first);
    addresses[0].Address.lpSockaddr = addresses[2].Address.lpSockaddr = (struct sockaddr *)&ipv6;
    addresses[1].Address.lpSockaddr = (struct sockaddr *)&ipv4;
    addresses[1].Next = &addresses[2];
    addresses[0].OnLinkPrefixLength = 64;
    addresses[1].OnLinkPrefixLength = addresses[2].OnLinkPrefixLength = 255;
    memset(first, 0, 2 * sizeof *first);
    first[0] = (IP_ADAPTER_ADDRESSES){.Next = &first[1], .FriendlyName = ipv6_only, .FirstUnicastAddress = addresses};
    first[1] = (IP_ADAPTER_ADDRESSES){.FriendlyName = both, .FirstUnicastAddress = &addresses[1]};
    first[0].Ipv6IfIndex = 77;
    first[1].IfIndex = first[1].Ipv6IfIndex = 78;
    return 0;
}

static void check_interfaces(void)
{
    struct mcf_interface_address *rows;
    CHECK(mcf_interface_enumerate(&rows) == 5); /* each adapter has one of its own, too */
    CHECK(rows[0].index == 77 && rows[0].family == 0);
    CHECK(rows[1].index == 77 && rows[1].family == AF_INET6 && rows[1].prefix == 64);
    CHECK(rows[3].index == 78 && rows[3].family == AF_INET && rows[3].prefix == 32);
    CHECK(rows[4].index == 78 && rows[4].family == AF_INET6 && rows[4].prefix == 128);
    mcf_interface_free(rows);
}

/* The working set that the process is granted, and memory that is locked and freed. */

static SIZE_T least = 50 * 4096, most = 345 * 4096;
static int may_lock, frees;

static BOOL WINAPI get_granted(HANDLE process, SIZE_T *smallest, SIZE_T *largest)
{
    (void)process;
    *smallest = least;
    *largest = most;
    return TRUE;
}

static BOOL WINAPI set_granted(HANDLE process, SIZE_T smallest, SIZE_T largest)
{
    (void)process;
    least = smallest;
    most = largest;
    return TRUE;
}

static BOOL WINAPI lock(void *memory, SIZE_T size)
{
    (void)memory;
    CHECK(least == 50 * 4096 + size && most == 345 * 4096 + size);
    SetLastError(ERROR_PRIVILEGE_NOT_HELD);
    return may_lock;
}

static BOOL WINAPI release(void *memory, SIZE_T size, DWORD type)
{
    (void)memory, (void)size, (void)type;
    frees++;
    return TRUE;
}

BOOL(WINAPI *__imp_GetProcessWorkingSetSize)(HANDLE, SIZE_T *, SIZE_T *) = get_granted;
BOOL(WINAPI *__imp_SetProcessWorkingSetSize)(HANDLE, SIZE_T, SIZE_T) = set_granted;
BOOL(WINAPI *__imp_VirtualLock)(void *, SIZE_T) = lock;
BOOL(WINAPI *__imp_VirtualFree)(void *, SIZE_T, DWORD) = release;

static void check_memory(void)
{
    void *memory;
    CHECK(mcf_memory_map(PIECE, MCF_MEMORY_LOCK, &memory) == -EPERM && frees == 1 && least == 50 * 4096);
    may_lock = 1;
    for (int turn = 0; turn < 3; turn++) {
        CHECK(!mcf_memory_map(PIECE, MCF_MEMORY_LOCK, &memory) && least == 50 * 4096 + PIECE);
        mcf_memory_unmap(memory, PIECE, MCF_MEMORY_LOCK);
        CHECK(frees == 2 + turn && least == 50 * 4096 && most == 345 * 4096);
    }
    CHECK(!mcf_memory_map(PIECE, 0, &memory));
    mcf_memory_unmap(memory, PIECE, 0);
    CHECK(least == 50 * 4096 && most == 345 * 4096);
}

/* Large pages, for a process whose account has the privilege, which is off to begin with. */

enum { LARGE = 2 << 20 };

static int has_privilege, is_privileged, large_pages;

static void *library_call(const wchar_t *library, const char *name)
{
    union {
        FARPROC found;
        void *call;
    } real = {.found = GetProcAddress(GetModuleHandleW(library), name)};
    return real.call;
}

static BOOL WINAPI adjust(HANDLE token, BOOL disable_all, TOKEN_PRIVILEGES *wanted, DWORD size,
                          TOKEN_PRIVILEGES *before, DWORD *needed)
{
    const LUID_AND_ATTRIBUTES *one = &wanted->Privileges[0];
    (void)token, (void)size, (void)before, (void)needed;
    CHECK(!disable_all && wanted->PrivilegeCount == 1);
    CHECK(one->Luid.LowPart == 4 && !one->Luid.HighPart && one->Attributes == SE_PRIVILEGE_ENABLED);
    is_privileged = has_privilege;
    SetLastError(has_privilege ? ERROR_SUCCESS : ERROR_NOT_ALL_ASSIGNED);
    return TRUE;
}

static SIZE_T WINAPI large_minimum(void)
{
    return LARGE;
}

static void *WINAPI allocate(void *at, SIZE_T size, DWORD type, DWORD protection)
{
    void *(WINAPI * real)(void *, SIZE_T, DWORD, DWORD) = library_call(L"kernel32.dll", "VirtualAlloc");
    if (type & MEM_LARGE_PAGES) {
        if (!is_privileged || size % LARGE)
            return NULL;
        large_pages += (int)(size / LARGE);
        type &= ~(DWORD)MEM_LARGE_PAGES;
    }
    return real(at, size, type, protection);
}

BOOL WINAPI QueryWorkingSetEx(HANDLE process, void *pages, DWORD size)
{
    PSAPI_WORKING_SET_EX_INFORMATION *page = pages;
    (void)process;
    CHECK(size == sizeof *page);
    page->VirtualAttributes.LargePage = large_pages > 0;
    return TRUE;
}

BOOL(WINAPI *__imp_AdjustTokenPrivileges)(HANDLE, BOOL, TOKEN_PRIVILEGES *, DWORD, TOKEN_PRIVILEGES *,
                                          DWORD *) = adjust;
SIZE_T(WINAPI *__imp_GetLargePageMinimum)(void) = large_minimum;
void *(WINAPI *__imp_VirtualAlloc)(void *, SIZE_T, DWORD, DWORD) = allocate;

/* Maps and unmaps; returns how many large pages it was. */
static int count_large(size_t size, uint32_t wishes)
{
    SIZE_T before = least;
    uint8_t *memory;
    large_pages = 0;
    CHECK(!mcf_memory_map(size, MCF_MEMORY_HUGE | wishes, (void **)&memory));
    CHECK(!memory[0] && !memory[size - 1]);
    CHECK(least == before + (wishes & MCF_MEMORY_LOCK && !large_pages ? size : 0));
    mcf_memory_unmap(memory, size, MCF_MEMORY_HUGE | wishes);
    CHECK(least == before);
    return large_pages;
}

static void check_large(void)
{
    CHECK(count_large(PIECE, 0) == 0 && count_large(PIECE, MCF_MEMORY_LOCK) == 0);
    has_privilege = 1;
    CHECK(count_large(1, 0) == 1 && count_large(LARGE, 0) == 1 && count_large(LARGE + 1, MCF_MEMORY_PREFAULT) == 2);
    CHECK(count_large(5 * PIECE, MCF_MEMORY_LOCK) == 3);
    has_privilege = is_privileged = 0;
}

/* What a socket is asked to keep to itself: mstcpip.h. */

static DWORD asked[8];
static int count_asked;

static int WINAPI control(SOCKET sock, DWORD code, void *in, DWORD in_size, void *out, DWORD out_size, DWORD *written,
                          OVERLAPPED *overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine)
{
    (void)sock, (void)out, (void)out_size, (void)overlapped, (void)routine;
    CHECK(in_size == sizeof(BOOL) && !*(BOOL *)in && count_asked < 8);
    asked[count_asked++] = code;
    *written = 0;
    return 0;
}

int(WINAPI *__imp_WSAIoctl)(SOCKET, DWORD, void *, DWORD, void *, DWORD, DWORD *, OVERLAPPED *,
                            LPWSAOVERLAPPED_COMPLETION_ROUTINE) = control;

static void check_reports(void)
{
    SOCKET sock = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(!mcf_socket_begin((mcf_socket)sock, 0) && count_asked == 0);
    CHECK(!mcf_socket_begin((mcf_socket)sock, 1) && count_asked == 2);
    CHECK(asked[0] == 0x9800000c && asked[1] == 0x9800000f);
    closesocket(sock);
}

static void check_wake(void)
{
    mcf_socket wake = mcf_wake_new();
    uint32_t looks = 0;
    CHECK(wake >= 0 && !mcf_wake_reset(wake));
    for (int signal = 0; signal < 3; signal++)
        mcf_wake_signal(wake);
    CHECK(mcf_wait(wake, MCF_READABLE, -1, MCF_NO_DEADLINE, &looks) == 1);
    CHECK(mcf_wake_reset(wake) && !mcf_wake_reset(wake));
    mcf_wake_free(wake);
}

/* A completion port that fails while receives are posted. */

static int is_broken;

static BOOL WINAPI take_completions(HANDLE port, OVERLAPPED_ENTRY *entries, ULONG room, ULONG *count, DWORD patience,
                                    BOOL alertable)
{
    union {
        FARPROC found;
        BOOL(WINAPI *call)(HANDLE, OVERLAPPED_ENTRY *, ULONG, ULONG *, DWORD, BOOL);
    } real = {.found = GetProcAddress(GetModuleHandleW(L"kernel32.dll"), "GetQueuedCompletionStatusEx")};
    CHECK(patience != INFINITE);
    if (!is_broken)
        return real.call(port, entries, room, count, patience, alertable);
    SetLastError(ERROR_INVALID_HANDLE);
    return FALSE;
}

BOOL(WINAPI *__imp_GetQueuedCompletionStatusEx)(HANDLE, OVERLAPPED_ENTRY *, ULONG, ULONG *, DWORD,
                                                BOOL) = take_completions;

/* Opens a receiver whose arenas lie in one piece of memory, has it post its receives, and takes it down. Returns how
 * many pieces were freed. */
static int take_down(int fails)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    mcf_receiver receiver = {.engine = &mcf_iocp_engine, .family = MCF_IPV4, .batch_size = 4};
    mcf_range got;
    receiver.fd = (mcf_socket)socket(AF_INET, SOCK_DGRAM, 0);
    receiver.wake = mcf_wake_new();
    CHECK(!bind((SOCKET)receiver.fd, (struct sockaddr *)&name, sizeof name));
    CHECK(!mcf_receiver_prepare(&receiver, MAX_DATAGRAM, PIECE) && !mcf_pool_reserve(receiver.pool, 0));
    CHECK(!receiver.engine->open(&receiver) && mcf_receive(&receiver, MCF_DO_NOT_WAIT, &got) == 0);
    is_broken = fails;
    frees = 0;
    receiver.engine->settle(&receiver);
    receiver.engine->settle(&receiver);
    mcf_receiver_clear(&receiver);
    is_broken = 0;
    closesocket((SOCKET)receiver.fd);
    mcf_wake_free(receiver.wake);
    return frees;
}

int main(void)
{
    CHECK(!mcf_start_winsock());
    check_interfaces();
    check_memory();
    check_large();
    check_reports();
    check_wake();
    CHECK(take_down(0) == 1);
    CHECK(take_down(1) == 0); /* Windows may yet write there */
    puts("ok");
    return 0;
}
