/* Control messages of a received datagram: the part of recvmsg that every POSIX system does in its own way. */
#ifndef MCF_CONTROL_H
#define MCF_CONTROL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "mcf_io.h"

/* Bytes of control buffer (a multiple of its alignment) that this metadata needs on a socket of this family; 0 when
 * none was asked for. */
size_t mcf_control_size(uint32_t metadata, int family);

/* Writes what the control messages say into row `row` of the arena, 0 where they are silent. Returns flags of the row.
 */
uint16_t mcf_control_read(mcf_receiver *receiver, struct msghdr *header, mcf_arena *arena, uint32_t row);

#endif
