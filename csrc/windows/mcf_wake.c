/* A wake-up that every kind of wait can watch, and select too, must be a socket here: one of UDP that is connected to
 * itself. It takes one handle and one port where a pair would take two, and nobody else's datagram reaches it. */
#include <string.h>

#include "windows/mcf_windows.h"

int mcf_start_winsock(void)
{
    static atomic_int is_started;
    if (atomic_load(&is_started))
        return 0;
    WSADATA data;
    int error = WSAStartup(MAKEWORD(2, 2), &data);
    if (!error)
        atomic_store(&is_started, 1); /* two threads at once may count it twice, which nothing minds */
    return error ? mcf_winsock_error(error) : 0;
}

static int connect_to_itself(SOCKET socket)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    int size = sizeof name;
    u_long no_waiting = 1;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(socket, (struct sockaddr *)&name, size) || getsockname(socket, (struct sockaddr *)&name, &size) ||
        connect(socket, (struct sockaddr *)&name, size) || ioctlsocket(socket, (long)FIONBIO, &no_waiting))
        return mcf_winsock_error(WSAGetLastError());
    return 0;
}

mcf_socket mcf_wake_new(void)
{
    int error = mcf_start_winsock();
    if (error)
        return error;
    SOCKET made =
        WSASocketW(AF_INET, SOCK_DGRAM, IPPROTO_UDP, NULL, 0, WSA_FLAG_OVERLAPPED | WSA_FLAG_NO_HANDLE_INHERIT);
    if (made == INVALID_SOCKET)
        return mcf_winsock_error(WSAGetLastError());
    error = connect_to_itself(made);
    if (error) {
        closesocket(made);
        return error;
    }
    return (mcf_socket)made;
}

void mcf_wake_signal(mcf_socket wake)
{
    /* The only failure is a full buffer, and then it is readable already. */
    (void)send((SOCKET)wake, "", 1, 0);
}

int mcf_wake_reset(mcf_socket wake)
{
    char signal;
    int was_signalled = 0;
    while (recv((SOCKET)wake, &signal, 1, 0) == 1)
        was_signalled = 1;
    return was_signalled;
}

void mcf_wake_free(mcf_socket wake)
{
    closesocket((SOCKET)wake);
}
