/* What rows come of answers that a kernel gives seldom: in parts, changed meanwhile, with an error, cut, senseless. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "linux/mcf_netlink.h"
#include "mcf_interface.h"

enum { MOST_PARTS = 64 };

static struct part {
    union {
        struct nlmsghdr alignment;
        uint8_t bytes[512];
    } data;
    size_t size;
    int error; /* of recv(2), in place of the rest */
} parts[MOST_PARTS], *part, *received;

static int refusal; /* errno of send(2), once */
static int questions[MOST_PARTS];
static int asked;

/* In place of the C library's: a kernel that answers with the parts, whatever it is asked. */
ssize_t send(int fd, const void *data, size_t size, int flags)
{
    (void)fd, (void)flags;
    struct nlmsghdr request;
    memcpy(&request, data, sizeof request);
    assert(request.nlmsg_len == size && asked < MOST_PARTS);
    questions[asked++] = request.nlmsg_type;
    errno = refusal;
    refusal = 0;
    return errno ? -1 : (ssize_t)size;
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    (void)fd;
    assert(received <= part && (flags & MSG_TRUNC));
    struct part *next = received++;
    if (next->error) {
        errno = next->error;
        return -1;
    }
    memcpy(data, next->data.bytes, next->size < sizeof next->data ? next->size : sizeof next->data);
    assert(size >= 32768);
    return (ssize_t)next->size;
}

static void begin(void)
{
    memset(parts, 0, sizeof parts);
    part = received = parts;
    asked = 0;
}

static void next_part(void)
{
    assert(part->size || part->error);
    part++;
    assert(part < parts + MOST_PARTS);
}

static struct nlmsghdr *add(int type, int flags, const void *fixed, size_t size)
{
    struct nlmsghdr *header = (struct nlmsghdr *)(void *)(part->data.bytes + part->size);
    assert(part->size + NLMSG_SPACE(size) <= sizeof part->data);
    header->nlmsg_type = (uint16_t)type;
    header->nlmsg_flags = (uint16_t)flags;
    header->nlmsg_len = (uint32_t)NLMSG_LENGTH(size);
    memcpy(NLMSG_DATA(header), fixed, size);
    part->size += NLMSG_SPACE(size);
    return header;
}

static void add_attribute(struct nlmsghdr *to, int type, const void *value, size_t size)
{
    struct rtattr *attribute = (struct rtattr *)(void *)(part->data.bytes + part->size);
    assert(part->size + RTA_SPACE(size) <= sizeof part->data);
    attribute->rta_type = (uint16_t)type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(size);
    memcpy(RTA_DATA(attribute), value, size);
    part->size += RTA_SPACE(size);
    to->nlmsg_len = (uint32_t)(part->data.bytes + part->size - (uint8_t *)to);
}

static void add_link(int index, const char *name, int flags)
{
    uint32_t mtu = 1500;
    struct nlmsghdr *to =
        add(RTM_NEWLINK, NLM_F_MULTI | flags, &(struct ifinfomsg){.ifi_index = index, .ifi_flags = IFF_UP}, 16);
    add_attribute(to, IFLA_IFNAME, name, strlen(name) + 1);
    add_attribute(to, IFLA_MTU, &mtu, sizeof mtu);
}

static struct nlmsghdr *add_address(int family, uint32_t index, uint8_t prefix)
{
    struct ifaddrmsg fixed = {.ifa_family = (uint8_t)family, .ifa_index = index, .ifa_prefixlen = prefix};
    return add(RTM_NEWADDR, NLM_F_MULTI, &fixed, sizeof fixed);
}

static void add_end(int type, int flags, int error)
{
    add(type, flags, &error, sizeof error);
    next_part();
}

static void add_done(int flags)
{
    add_end(NLMSG_DONE, NLM_F_MULTI | flags, 0);
}

static void fail_by(int error)
{
    part->error = error;
    next_part();
}

static int first_free_descriptor(void)
{
    int descriptor = dup(STDIN_FILENO);
    close(descriptor);
    return descriptor;
}

/* Nothing is left open, and every part was asked for. */
static int enumerate(struct mcf_interface_address **rows)
{
    int before = first_free_descriptor();
    int count = mcf_interface_enumerate(rows);
    assert(first_free_descriptor() == before && received == part);
    assert(count >= 0 || !*rows);
    return count;
}

static void check_error(int error)
{
    struct mcf_interface_address *rows;
    assert(enumerate(&rows) == -error);
}

static const uint8_t mine[16] = {192, 0, 2, 1}, peers[16] = {192, 0, 2, 2};

static void check_rows(void)
{
    struct mcf_interface_address *rows;
    begin();
    add_link(1, "lo", 0);
    add_link(7, "one", 0);
    next_part();
    fail_by(EINTR);
    add_link(4, "fifteen-letters", 0);
    next_part();
    add_done(0);
    struct nlmsghdr *to = add_address(AF_INET, 4, 32); /* its label is the name of another */
    add_attribute(to, IFA_ADDRESS, peers, 4);
    add_attribute(to, IFA_LOCAL, mine, 4);
    add_attribute(to, IFA_LABEL, "one", 4);
    to = add_address(AF_INET6, 1, 128);
    add_attribute(to, IFA_ADDRESS, mine, 16);
    to = add_address(AF_PHONET, 1, 0);
    add_attribute(to, IFA_LOCAL, mine, 1);
    next_part();
    to = add_address(AF_INET, 9, 24); /* of a link that came later */
    add_attribute(to, IFA_LOCAL, mine, 4);
    add_end(NLMSG_DONE, NLM_F_MULTI, 0);
    refusal = EINTR;
    assert(enumerate(&rows) == 5);
    assert(asked == 3 && questions[1] == RTM_GETLINK && questions[2] == RTM_GETADDR);
    const char *names[] = {"lo", "one", "fifteen-letters", "fifteen-letters", "lo"};
    uint32_t indexes[] = {1, 7, 4, 4, 1};
    int families[] = {0, 0, 0, AF_INET, AF_INET6}, prefixes[] = {0, 0, 0, 32, 128};
    for (int i = 0; i < 5; i++) {
        assert(strcmp(rows[i].name, names[i]) == 0 && rows[i].index == indexes[i]);
        assert(rows[i].family == families[i] && rows[i].prefix == prefixes[i]);
        assert(rows[i].mtu == 1500 && rows[i].flags == MCF_IF_UP);
        assert(memcmp(rows[i].address, mine, families[i] == AF_INET ? 4 : families[i] ? 16 : 0) == 0);
    }
    mcf_interface_free(rows);
}

/* What changes while it is told is told again, and after some tries taken as it is. */
static void check_changes(void)
{
    struct mcf_interface_address *rows;
    begin();
    add_link(1, "lo", 0);
    add_link(2, "gone", NLM_F_DUMP_INTR);
    next_part();
    add_done(0);
    add_link(1, "lo", 0);
    next_part();
    add_done(NLM_F_DUMP_INTR);
    add_link(1, "lo", 0);
    next_part();
    add_done(0);
    add_done(0);
    assert(enumerate(&rows) == 1 && asked == 4);
    mcf_interface_free(rows);

    begin();
    for (int i = 0; i < 10; i++) {
        add_link(1, "lo", 0);
        add_done(NLM_F_DUMP_INTR);
    }
    for (int i = 0; i < 10; i++) {
        add_attribute(add_address(AF_INET, 1, 8), IFA_LOCAL, mine, 4);
        add_done(NLM_F_DUMP_INTR);
    }
    assert(enumerate(&rows) == 2 && asked == 20);
    mcf_interface_free(rows);
}

static void check_errors(void)
{
    begin();
    refusal = EPERM;
    check_error(EPERM);
    fail_by(ENOBUFS);
    check_error(ENOBUFS);
    add_end(NLMSG_ERROR, 0, -EOPNOTSUPP);
    check_error(EOPNOTSUPP);
    add_end(NLMSG_DONE, NLM_F_MULTI, -ENOMEM);
    check_error(ENOMEM);
    add_link(1, "lo", 0);
    add_done(0);
    add_end(NLMSG_ERROR, 0, -EACCES);
    check_error(EACCES);
    part->size = 32769;
    next_part();
    check_error(EMSGSIZE);
}

/* One part of links, which the test made senseless. */
static void check_nonsense(void)
{
    next_part();
    check_error(EBADMSG);
    begin();
}

static void check_senseless(void)
{
    begin();
    add_end(NLMSG_ERROR, 0, 0); /* what nobody asked for */
    check_error(EBADMSG);
    begin();
    part->size = 8;
    check_nonsense();
    add_link(1, "lo", 0);
    ((struct nlmsghdr *)(void *)part->data.bytes)->nlmsg_len = 8;
    check_nonsense();
    add_link(1, "lo", 0);
    part->size -= 4;
    check_nonsense();
    add(RTM_NEWLINK, NLM_F_MULTI, &(struct ifinfomsg){.ifi_index = 1}, 12);
    check_nonsense();
    add(RTM_NEWLINK, NLM_F_MULTI, &(struct ifinfomsg){.ifi_index = 1}, 16); /* no name */
    check_nonsense();
    add_link(0, "lo", 0);
    check_nonsense();
    add_link(1, "lo", 0);
    ((struct rtattr *)(void *)(part->data.bytes + NLMSG_SPACE(16)))->rta_len = 200;
    check_nonsense();

    for (uint8_t prefix = 32; prefix < 34; prefix++) { /* an address that is too short, a prefix that is too long */
        begin();
        add_link(1, "lo", 0);
        add_done(0);
        add_attribute(add_address(AF_INET, 1, prefix), IFA_LOCAL, mine, prefix == 32 ? 3 : 4);
        next_part();
        check_error(EBADMSG);
    }
}

/* A route is one message without an end. */
static void check_route(void)
{
    int index = 5;
    struct rtmsg fixed = {.rtm_family = AF_INET};
    begin();
    add_attribute(add(RTM_NEWROUTE, 0, &fixed, sizeof fixed), RTA_OIF, &index, sizeof index);
    next_part();
    assert(mcf_route_interface(AF_INET, mine) == 5 && questions[0] == RTM_GETROUTE);
    add(RTM_NEWROUTE, 0, &fixed, sizeof fixed);
    next_part();
    assert(mcf_route_interface(AF_INET, mine) == -ENETUNREACH);
    add_end(NLMSG_ERROR, 0, -EHOSTUNREACH);
    assert(mcf_route_interface(AF_INET, mine) == -EHOSTUNREACH);
    add(RTM_NEWLINK, 0, &fixed, sizeof fixed);
    next_part();
    assert(mcf_route_interface(AF_INET, mine) == -EBADMSG);
    add_attribute(add(RTM_NEWROUTE, 0, &fixed, sizeof fixed), RTA_OIF, &index, 2);
    next_part();
    assert(mcf_route_interface(AF_INET, mine) == -EBADMSG && received == part);
}

int main(void)
{
    check_rows();
    check_changes();
    check_errors();
    check_senseless();
    check_route();
    puts("ok");
    return 0;
}
