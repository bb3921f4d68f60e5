/* Darwin over Linux, as far as csrc/apple needs it: included before everything else when that is compiled on Linux.
 * What Darwin does stands in xnu's bsd/kern/uipc_syscalls.c and bsd/netinet/ip_input.c. */
#ifndef DARWIN_H
#define DARWIN_H

#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>

#define CLOCK_UPTIME_RAW CLOCK_MONOTONIC

static inline uint64_t clock_gettime_nsec_np(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The release that is asked for with DARWIN_RELEASE, or the first one of macOS 15.6. */
static inline int darwin_uname(struct utsname *host)
{
    const char *release = getenv("DARWIN_RELEASE");
    memset(host, 0, sizeof *host);
    strcpy(host->sysname, "Darwin");
    strncpy(host->release, release ? release : "24.6.0", sizeof host->release - 1);
    return 0;
}

/* The control message that Darwin gives where Linux gave this one: TTL and TOS under the number of the option and as
 * one octet, the time in microseconds. Returns the size of its data. */
static inline size_t darwin_translate(const struct cmsghdr *message, int *type, uint8_t data[64])
{
    size_t size = message->cmsg_len - CMSG_LEN(0);
    memcpy(data, CMSG_DATA(message), size < 64 ? size : 64);
    *type = message->cmsg_type;
    if (message->cmsg_level == IPPROTO_IP && message->cmsg_type == IP_TTL) {
        int ttl;
        memcpy(&ttl, data, sizeof ttl);
        data[0] = (uint8_t)ttl;
        *type = IP_RECVTTL;
        return 1;
    }
    if (message->cmsg_level == IPPROTO_IP && message->cmsg_type == IP_TOS)
        *type = IP_RECVTOS;
    if (message->cmsg_level == SOL_SOCKET && message->cmsg_type == SO_TIMESTAMPNS) {
        struct timespec time;
        memcpy(&time, data, sizeof time);
        struct timeval shorter = {time.tv_sec, time.tv_nsec / 1000};
        memcpy(data, &shorter, sizeof shorter);
        *type = SCM_TIMESTAMP;
        return sizeof shorter;
    }
    return size;
}

static inline ssize_t darwin_recvmsg(int fd, struct msghdr *header, int flags)
{
    union {
        struct cmsghdr alignment;
        uint8_t bytes[512];
    } control;
    struct msghdr linux_header = *header;
    linux_header.msg_control = header->msg_control ? control.bytes : NULL;
    linux_header.msg_controllen = header->msg_control ? sizeof control.bytes : 0;
    ssize_t length = recvmsg(fd, &linux_header, flags);
    if (length < 0)
        return length;
    size_t room = header->msg_controllen;
    uint8_t *into = header->msg_control;
    header->msg_flags = linux_header.msg_flags;
    header->msg_namelen = linux_header.msg_namelen;
    header->msg_controllen = 0;
    for (struct cmsghdr *message = CMSG_FIRSTHDR(&linux_header); message;
         message = CMSG_NXTHDR(&linux_header, message)) {
        uint8_t data[64];
        int type;
        size_t size = darwin_translate(message, &type, data);
        if (CMSG_SPACE(size) > room) {
            header->msg_flags |= MSG_CTRUNC;
            break;
        }
        struct cmsghdr translated = {.cmsg_len = CMSG_LEN(size), .cmsg_level = message->cmsg_level, .cmsg_type = type};
        memcpy(into, &translated, sizeof translated);
        memcpy(into + CMSG_LEN(0), data, size);
        into += CMSG_SPACE(size);
        room -= CMSG_SPACE(size);
        header->msg_controllen += CMSG_SPACE(size);
    }
    return length;
}

/* From 15 to 47, with ordinary threads at 31: here that is 0, so that what comes before them is what Linux has. */
static inline int darwin_setschedparam(pthread_attr_t *attributes, const struct sched_param *wanted)
{
    struct sched_param linux_param = {.sched_priority = wanted->sched_priority - 31};
    return pthread_attr_setschedparam(attributes, &linux_param);
}

#define sched_get_priority_min(policy) 15
#define sched_get_priority_max(policy) 47
#define pthread_attr_setschedparam darwin_setschedparam
#define pthread_setname_np(name) (pthread_setname_np)(pthread_self(), name)
#define recvmsg darwin_recvmsg
#define uname darwin_uname

/* Each source asks for what it needs. */
#undef _DEFAULT_SOURCE
#undef _POSIX_C_SOURCE

#endif
