/* What POSIX leaves to each system: whoever builds posix/ has these. */
#ifndef MCF_SYSTEM_H
#define MCF_SYSTEM_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* Names the calling thread. */
void mcf_system_name_thread(const char *name);

/* Confines a thread to `count` processors, at least one. Returns 0 or an error code: ENOTSUP where threads cannot be
 * confined. */
int mcf_system_set_processors(pthread_t thread, const uint32_t *cpus, uint32_t count);

/* What the system has for a real-time priority of 1 or more, the least of which comes before ordinary threads. */
int mcf_system_priority(int wanted);

/* Has mapped memory on huge pages as far as the system has them. */
void mcf_system_prefer_huge(void *memory, size_t size);

#endif
