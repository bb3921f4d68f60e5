/* Netlink sockets: netlink(7), rtnetlink(7). */
#define _GNU_SOURCE
#include "mcf_netlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the kernel fits one part of a dump to at most, however much room there is. */
enum { PART_SIZE = 32 << 10 };

/* What is known of an answer while its parts come. */
typedef struct {
    uint16_t type;
    size_t fixed;
    mcf_netlink_reader read;
    void *context;
    int was_interrupted;
} conversation;

/* A descriptor, or minus errno. */
static int netlink_open(void)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (descriptor < 0)
        return -errno;
    /* Connected, the socket takes messages from the kernel only. */
    if (connect(descriptor, (const struct sockaddr *)&kernel, sizeof kernel) < 0) {
        int error = errno;
        close(descriptor);
        return -error;
    }
    return descriptor;
}

/* What NLMSG_ERROR and NLMSG_DONE tell: minus errno, or 0. */
static int read_error(const uint8_t *body, size_t size)
{
    int error = 0;
    if (size >= sizeof error)
        memcpy(&error, body, sizeof error);
    return error < 0 ? error : 0;
}

/* The messages of one part: 1 when more parts follow, 0 when it was the last, or minus errno. */
static int read_part(conversation *of, const uint8_t *part, size_t left)
{
    int more;
    do {
        struct nlmsghdr header;
        if (left < sizeof header)
            return -EBADMSG;
        memcpy(&header, part, sizeof header);
        if (header.nlmsg_len < sizeof header || header.nlmsg_len > left)
            return -EBADMSG;
        const uint8_t *body = part + NLMSG_HDRLEN;
        size_t size = header.nlmsg_len - (size_t)NLMSG_HDRLEN;

        of->was_interrupted |= (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
        if (header.nlmsg_type == NLMSG_DONE)
            return read_error(body, size);
        if (header.nlmsg_type == NLMSG_ERROR) {
            int error = read_error(body, size);
            return error ? error : -EBADMSG;
        }
        if (header.nlmsg_type == of->type) {
            if (size < of->fixed)
                return -EBADMSG;
            size_t skipped = NLMSG_ALIGN(of->fixed) < size ? NLMSG_ALIGN(of->fixed) : size;
            mcf_netlink_message message = {.fixed = body, .attributes = body + skipped, .size = size - skipped};
            int error = of->read(of->context, &message);
            if (error)
                return error;
        }
        more = (header.nlmsg_flags & NLM_F_MULTI) != 0;
        size_t length = NLMSG_ALIGN((size_t)header.nlmsg_len);
        length = length < left ? length : left;
        part += length;
        left -= length;
    } while (left > 0);
    return more;
}

int mcf_netlink_ask(const struct nlmsghdr *request, uint16_t answer, size_t fixed, mcf_netlink_reader read,
                    void *context)
{
    conversation of = {.type = answer, .fixed = fixed, .read = read, .context = context};
    int result = -ENOMEM;
    int descriptor = netlink_open();
    if (descriptor < 0)
        return descriptor;
    uint8_t *part = malloc(PART_SIZE);
    if (!part)
        goto done;

    ssize_t size;
    do
        size = send(descriptor, request, request->nlmsg_len, 0);
    while (size < 0 && errno == EINTR);
    if (size < 0) {
        result = -errno;
        goto done;
    }
    do {
        do
            size = recv(descriptor, part, PART_SIZE, MSG_TRUNC);
        while (size < 0 && errno == EINTR);
        if (size < 0)
            result = -errno;
        else if (size > PART_SIZE)
            result = -EMSGSIZE;
        else
            result = read_part(&of, part, (size_t)size);
    } while (result > 0);
    result = result < 0 ? result : of.was_interrupted;

done:
    free(part);
    close(descriptor);
    return result;
}

int mcf_netlink_attribute(const mcf_netlink_message *message, uint16_t type, void *value, size_t room)
{
    const uint8_t *at = message->attributes;
    size_t left = message->size;
    struct rtattr attribute;
    while (left >= sizeof attribute) {
        memcpy(&attribute, at, sizeof attribute);
        if (attribute.rta_len < sizeof attribute || attribute.rta_len > left)
            return -EBADMSG;
        if ((attribute.rta_type & NLA_TYPE_MASK) == type) {
            size_t size = attribute.rta_len - sizeof attribute;
            size = size < room ? size : room;
            memcpy(value, at + sizeof attribute, size);
            return (int)size;
        }
        size_t length = RTA_ALIGN((size_t)attribute.rta_len);
        length = length < left ? length : left;
        at += length;
        left -= length;
    }
    return 0;
}
