/* The engines of Windows, and what they share. */
#ifndef MCF_WINDOWS_H
#define MCF_WINDOWS_H

#include <winsock2.h>

#include <mswsock.h>
#include <ws2tcpip.h>

#include "mcf_places.h"

/* A loop of WSARecvFrom, of WSARecvMsg where metadata is asked for, and of send. */
extern const mcf_engine mcf_windows_engine;

/* Receives that are posted ahead, harvested from a completion port; it sends as "socket" does. */
extern const mcf_engine mcf_iocp_engine;

/* Room for the address of either family. */
typedef union {
    struct sockaddr any;
    struct sockaddr_in ipv4;
    struct sockaddr_in6 ipv6;
} mcf_name;

/* Room for every control message that this core asks for. */
typedef union {
    WSACMSGHDR alignment;
    char bytes[256];
} mcf_control;

/* Minus the error for a code of Winsock: that of <errno.h> where the core knows it, else the code itself. */
int mcf_winsock_error(int code);

/* Winsock is there from the first call on, for as long as the process lives, whatever else it is used by. 0 or -error.
 */
int mcf_start_winsock(void);

/* No signal interrupts a wait on Windows (the handler of Ctrl-C runs in a thread of its own): whoever waits longer
 * looks around so often. Milliseconds. */
enum { MCF_LOOK_EVERY = 100 };

/* Whether a receive failed for what ICMP says about something sent: it is no datagram, and the socket is well. */
static inline int mcf_is_report(int code)
{
    return code == WSAECONNRESET || code == WSAENETRESET || code == WSAEHOSTUNREACH || code == WSAENETUNREACH;
}

/* Winsock's own extension, asked for once for each receiver: providers may differ. 0 or -error. */
int mcf_find_receive_message(mcf_socket fd, LPFN_WSARECVMSG *found);

/* Makes the datagram in the next place but `place` of the arena a row of the batch, unless it is foreign. What was cut
 * has MSG_TRUNC in its message. */
void mcf_take_datagram(mcf_receiver *receiver, WSAMSG *message, uint32_t place, uint32_t length, mcf_arena *arena,
                       mcf_tally *tally);

/* Of both engines. */
void mcf_windows_prepare_send(mcf_sender *sender);
int mcf_windows_send_one(mcf_sender *sender, const void *data, size_t length);

/* Writes what the control messages say into row `row` of the arena, 0 where they are silent. */
void mcf_control_read(const mcf_receiver *receiver, WSAMSG *message, mcf_arena *arena, uint32_t row);

#endif
