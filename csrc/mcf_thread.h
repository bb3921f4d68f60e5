/* Threads of the C core. They run no Python and take no signals. */
#ifndef MCF_THREAD_H
#define MCF_THREAD_H

#include <stdint.h>

enum { MCF_THREAD_NAME = 16 }; /* bytes of a name with its NUL; longer ones are cut */

typedef struct mcf_thread_options {
    const char *name;
    const uint32_t *cpus; /* processors it may run on, NULL = all that its maker may */
    uint32_t cpu_count;
    int priority; /* real-time (SCHED_FIFO, sched(7)), 0 = as other threads */
} mcf_thread_options;

typedef struct mcf_thread mcf_thread;

/* Starts a thread that calls run(argument). Returns 0, or -errno: -EINVAL for processors that are not there or a
 * priority that is none, -ENOTSUP where threads cannot be confined to processors, -EPERM for a priority that is not
 * permitted, -EAGAIN, -ENOMEM. */
int mcf_thread_start(mcf_thread **thread, void (*run)(void *), void *argument, const mcf_thread_options *options);

/* Waits for its end, and frees it. */
void mcf_thread_join(mcf_thread *thread);

#endif
