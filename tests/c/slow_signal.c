/* Preloaded: a thread by the name "mcastfast" that signals an eventfd does so when `held` is 0 and no sooner, and says
 * in `waits` that it would. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

atomic_int held, waits;

int eventfd_write(int fd, eventfd_t value)
{
    int (*next)(int, eventfd_t);
    void *found = dlsym(RTLD_NEXT, "eventfd_write");
    memcpy(&next, &found, sizeof next); /* ISO C has no cast from an object to a function */
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    if (!strcmp(name, "mcastfast")) {
        atomic_store(&waits, 1);
        while (atomic_load(&held))
            sched_yield();
        atomic_store(&waits, 0);
    }
    return next(fd, value);
}
