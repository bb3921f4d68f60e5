/* The "socket" engine of Linux. */
#ifndef MCF_LINUX_H
#define MCF_LINUX_H

#include <netinet/udp.h>

#include "mcf_io.h"

/* Of Linux 4.18 and 5.0; glibc 2.28, with which wheels are made, has neither. */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* Bytes of control messages beside what was asked for: a socket that others prepared may have more of them, and the
 * kernel puts those of the socket's own level first (timestamps, drops, mark, priority, wireless status). */
enum { MCF_OTHER_CONTROL = 256 };

/* recvmmsg(2) and sendmmsg(2): up to MCF_MAX_BATCH datagrams a call. */
extern const mcf_engine mcf_linux_engine;

/* The same on a socket with UDP_GRO (mcf_coalesce.c): what comes may be trains, which it takes apart. */
extern const mcf_engine mcf_linux_coalescing;

/* Trains (mcf_segment.c): a run of payloads of one size, of which the last may be shorter, in one piece. */
enum {
    MCF_MOST_SEGMENTS = 128,  /* UDP_MAX_SEGMENTS since Linux 6.9 */
    MCF_FEWEST_SEGMENTS = 64, /* and before */
    MCF_LARGEST_TRAIN = 65507,
    MCF_MOST_TRAINS = 16, /* a call: what calling costs hardly shows any more */
};

/* The messages of one call, and where scattered payloads are gathered: zeroed memory of MCF_TRAINS_SIZE bytes. */
typedef struct mcf_trains mcf_trains;

enum { MCF_TRAINS_SIZE = 68 << 10 };

/* Tells the sender where payloads are gathered, and which. */
void mcf_prepare_trains(mcf_sender *sender, mcf_trains *trains);

/* The largest payload that passes without fragments, by the MTU that the system tells or told last. It tells none after
 * some changes of routes, interfaces and options, until the socket is connected anew, and may tell an old one. */
uint32_t mcf_path_limit(const mcf_sender *sender, mcf_trains *trains);
/* How many payloads from `first` on one train may carry; 1 when that one is to go plain. */
uint32_t mcf_train_length(const mcf_sender *sender, uint32_t first, uint32_t count);
/* Sends the train of the first `length` payloads and, in the same call, those that follow it among `count`. Returns how
 * many datagrams went, 0 when the socket is full, or -errno for the first train. */
int mcf_send_trains(mcf_sender *sender, uint32_t first, uint32_t length, uint32_t count, mcf_trains *trains);
/* mcf_engine.send_rows */
int mcf_send_rows_in_trains(mcf_sender *sender, const uint8_t *rows, size_t size, uint32_t count, mcf_trains *trains);
/* Before a datagram goes plain on a socket that may have the option set for trains. Returns 0 or -errno. */
int mcf_unkeep_segment(mcf_sender *sender, mcf_trains *trains);
/* mcf_engine.share */
void mcf_share_segment(mcf_sender *sender, mcf_trains *trains);
/* Whether an errno may mean that the system or its device takes no trains (like this one). */
int mcf_may_refuse_trains(int error);
/* Whether it may mean that payloads of this size are too long for the path, whatever the system tells of that. */
int mcf_may_be_too_long(const mcf_sender *sender, size_t size, int error);

#endif
