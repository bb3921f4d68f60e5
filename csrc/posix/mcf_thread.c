/* pthreads(7): every POSIX system. */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE
#include "mcf_thread.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "posix/mcf_system.h"

struct mcf_thread {
    pthread_t id;
    void (*run)(void *);
    void *argument;
    char name[MCF_THREAD_NAME];
    pthread_mutex_t gate; /* its maker opens it when the thread is all that was asked for, or is to end */
    int is_refused;
};

static void *begin(void *argument)
{
    mcf_thread *thread = argument;
    pthread_mutex_lock(&thread->gate);
    pthread_mutex_unlock(&thread->gate);
    if (thread->is_refused)
        return NULL;
    mcf_system_name_thread(thread->name);
    thread->run(thread->argument);
    return NULL;
}

static int set_priority(pthread_attr_t *attributes, int priority)
{
    struct sched_param wanted = {.sched_priority = mcf_system_priority(priority)};
    int error = pthread_attr_setinheritsched(attributes, PTHREAD_EXPLICIT_SCHED);
    if (!error)
        error = pthread_attr_setschedpolicy(attributes, SCHED_FIFO);
    return error ? error : pthread_attr_setschedparam(attributes, &wanted);
}

/* Attributes would do for processors too, but musl has none for them. */
static int create(mcf_thread *thread, const pthread_attr_t *attributes, const mcf_thread_options *options)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_mutex_lock(&thread->gate);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread->id, attributes, begin, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error && options->cpu_count)
        thread->is_refused = mcf_system_set_processors(thread->id, options->cpus, options->cpu_count);
    pthread_mutex_unlock(&thread->gate);
    if (!thread->is_refused)
        return error;
    pthread_join(thread->id, NULL);
    return thread->is_refused;
}

static void dispose(mcf_thread *thread)
{
    pthread_mutex_destroy(&thread->gate);
    free(thread);
}

int mcf_thread_start(mcf_thread **result, void (*run)(void *), void *argument, const mcf_thread_options *options)
{
    mcf_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return -ENOMEM;
    thread->run = run;
    thread->argument = argument;
    pthread_mutex_init(&thread->gate, NULL);
    snprintf(thread->name, sizeof thread->name, "%s", options->name);
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (!error) {
        if (options->priority)
            error = set_priority(&attributes, options->priority);
        if (!error)
            error = create(thread, &attributes, options);
        pthread_attr_destroy(&attributes);
    }
    if (error) {
        dispose(thread);
        return -error;
    }
    *result = thread;
    return 0;
}

void mcf_thread_join(mcf_thread *thread)
{
    pthread_join(thread->id, NULL);
    dispose(thread);
}
