/* Waiting for a time: a timer of high resolution where the system has them (Windows 10 1803), and then the clock. */
#include <errno.h>

#include "windows/mcf_windows.h"

#ifndef CREATE_WAITABLE_TIMER_HIGH_RESOLUTION
#define CREATE_WAITABLE_TIMER_HIGH_RESOLUTION 2
#endif

/* A timer of high resolution is up to half a millisecond late, and then the thread has to get a processor. Others are
 * late by up to 15.6 ms, which mcf_rest has to live with. */
enum { WATCHED = 1000000 };

static HANDLE new_timer(void)
{
    HANDLE timer = CreateWaitableTimerExW(NULL, NULL, CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, TIMER_ALL_ACCESS);
    return timer ? timer : CreateWaitableTimerExW(NULL, NULL, 0, TIMER_ALL_ACCESS);
}

/* Waits so many nanoseconds for the timer or the event. */
static int wait_for(HANDLE timer, HANDLE event, int64_t left)
{
    LARGE_INTEGER due = {.QuadPart = -(left + 99) / 100}; /* units of 100 ns, relative */
    HANDLE waited[2] = {event, timer};
    if (!SetWaitableTimer(timer, &due, 0, NULL, NULL, FALSE))
        return -ENOMEM;
    DWORD first = WaitForMultipleObjects(2, waited, FALSE, INFINITE);
    return first == WAIT_OBJECT_0 ? -ECANCELED : first == WAIT_OBJECT_0 + 1 ? 0 : -ENOMEM;
}

int mcf_rest(mcf_socket wake, int64_t until)
{
    int64_t left = until - mcf_clock();
    HANDLE timer = new_timer();
    HANDLE event = WSACreateEvent();
    int error = -ENOMEM;
    if (timer && event && !WSAEventSelect((SOCKET)wake, event, FD_READ)) {
        error = wait_for(timer, event, left < 0 ? 0 : left);
        WSAEventSelect((SOCKET)wake, NULL, 0);
    }
    if (event)
        WSACloseEvent(event);
    if (timer)
        CloseHandle(timer);
    return error;
}

int mcf_pause(mcf_socket wake, int64_t until)
{
    for (;;) {
        int64_t left = until - mcf_clock();
        if (left <= 0)
            return 0;
        if (left <= WATCHED) {
            YieldProcessor();
            continue;
        }
        int error = mcf_rest(wake, until - WATCHED);
        if (error)
            return error;
    }
}
