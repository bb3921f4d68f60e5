/* Threads that refuse and threads that sleep want one latch: one has it at a time, nobody sleeps for ever, and the bell
 * is only rung when it is silent. */
#define _POSIX_C_SOURCE 200809L
#include <stdatomic.h>

#include "mcf_latch.h"
#include "race.h"

enum { TURNS = 20000, THREADS = 3 };

static mcf_latch latch;
static int taken;  /* by the one who has the latch: no atomic, so that a race shows */
static long turns; /* the same */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t rings = PTHREAD_COND_INITIALIZER;
static int is_silent = 1;

static void sleep_at_the_bell(void)
{
    pthread_mutex_lock(&mutex);
    while (is_silent)
        pthread_cond_wait(&rings, &mutex);
    is_silent = 1;
    pthread_mutex_unlock(&mutex);
    mcf_latch_woken(&latch);
}

static void ring(void)
{
    pthread_mutex_lock(&mutex);
    CHECK(is_silent);
    is_silent = 0;
    pthread_cond_signal(&rings);
    pthread_mutex_unlock(&mutex);
}

static void use(void)
{
    CHECK(!taken);
    taken = 1;
    turns++;
    taken = 0;
    if (mcf_latch_free(&latch))
        ring();
}

static void *refuse(void *unused)
{
    (void)unused;
    for (int left = TURNS; left;) {
        if (!mcf_latch_try(&latch))
            continue;
        use();
        left--;
    }
    return NULL;
}

static void *sleep_for_it(void *unused)
{
    (void)unused;
    for (int i = 0; i < TURNS; i++) {
        while (!mcf_latch_await(&latch))
            sleep_at_the_bell();
        use();
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[2 * THREADS];
    for (int i = 0; i < 2 * THREADS; i++)
        threads[i] = start(i % 2 ? refuse : sleep_for_it, NULL);
    for (int i = 0; i < 2 * THREADS; i++)
        join(threads[i]);
    CHECK(turns == 2L * THREADS * TURNS);
    CHECK(mcf_latch_try(&latch));
    puts("ok");
    return 0;
}
