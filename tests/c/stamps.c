/* Whose time a datagram gets: control messages and settings as the kernel and a device with a clock would give them. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "linux/mcf_ring_step.h"
#include "mcf_interface.h"
#include "posix/mcf_control.h"

static union {
    struct cmsghdr alignment;
    char bytes[256];
} control;

static struct msghdr header;

static void add(int type, const void *data, size_t size)
{
    struct cmsghdr *message = (struct cmsghdr *)(control.bytes + header.msg_controllen);
    message->cmsg_level = SOL_SOCKET;
    message->cmsg_type = type;
    message->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(message), data, size);
    header.msg_controllen += CMSG_SPACE(size);
}

static void begin(void)
{
    header = (struct msghdr){.msg_control = control.bytes};
}

static const struct timespec kernel = {1, 10}, own[3] = {{2, 20}}, device[3] = {{2, 20}, {0, 0}, {3, 30}};

static void check(uint32_t metadata, int64_t time, uint16_t flags)
{
    mcf_receiver receiver = {.metadata = metadata};
    mcf_arena *arena = mcf_arena_new(&(mcf_shape){.rows = 1, .max_datagram = 64, .data_size = 64});
    arena->timestamps[0] = -1;
    assert(mcf_control_read(&receiver, &header, arena, 0) == flags);
    assert(arena->timestamps[0] == time);
    mcf_arena_release(arena);
}

/* A packet of a ring, as the kernel writes it with and without a device that stamped it. */
static void check_ring(uint32_t status, int is_hardware_time)
{
    static union {
        struct tpacket3_hdr header;
        uint8_t bytes[1024];
    } block;
    block.header = (struct tpacket3_hdr){.tp_sec = 3, .tp_nsec = 30, .tp_mac = 256, .tp_net = 270, .tp_status = status};
    mcf_ring_cursor cursor = {.at = block.bytes, .left = 1};
    mcf_ring_packet packet = {.is_hardware_time = (uint8_t)!is_hardware_time};
    assert(mcf_ring_step(&cursor, &packet) == 1);
    assert(packet.timestamp == 3000000030 && packet.is_hardware_time == is_hardware_time);
    assert(mcf_ring_step(&cursor, &packet) == 0);
}

static int rx_filter;

/* In place of the C library's: a device that is set to stamp what rx_filter says. */
int ioctl(int fd, unsigned long request, ...)
{
    (void)fd;
    va_list arguments;
    va_start(arguments, request);
    const struct ifreq *asked = va_arg(arguments, struct ifreq *);
    va_end(arguments);
    assert(request == SIOCGHWTSTAMP && strcmp(asked->ifr_name, "eth0") == 0);
    ((struct hwtstamp_config *)(void *)asked->ifr_data)->rx_filter = rx_filter;
    return 0;
}

/* All datagrams, none, or only some: those of PTP, as the device of a host has it where ptp4l runs. */
static void check_setting(int filter, int answer)
{
    rx_filter = filter;
    assert(mcf_interface_stamps("eth0") == answer);
}

int main(void)
{
    check_setting(HWTSTAMP_FILTER_ALL, 1);
    check_setting(HWTSTAMP_FILTER_NONE, 0);
    check_setting(HWTSTAMP_FILTER_SOME, -ENOMSG);
    check_setting(HWTSTAMP_FILTER_PTP_V2_L4_EVENT, -ENOMSG);
    check_setting(HWTSTAMP_FILTER_PTP_V2_EVENT, -ENOMSG);
    check_setting(HWTSTAMP_FILTER_NTP_ALL, -ENOMSG);
    check_ring(TP_STATUS_USER | TP_STATUS_TS_RAW_HARDWARE, 1);
    check_ring(TP_STATUS_USER | TP_STATUS_TS_SOFTWARE, 0);
    check_ring(TP_STATUS_USER, 0);
    const uint32_t both = MCF_META_TIMESTAMP | MCF_META_HARDWARE_TIMESTAMP;
    begin();
    check(MCF_META_HARDWARE_TIMESTAMP, 0, 0);
    add(SO_TIMESTAMPING, own, sizeof own);
    check(MCF_META_HARDWARE_TIMESTAMP, 2000000020, 0);
    check(MCF_META_TIMESTAMP, 0, 0);

    begin();
    add(SO_TIMESTAMPING, device, sizeof device);
    check(MCF_META_HARDWARE_TIMESTAMP, 3000000030, MCF_FLAG_HARDWARE_TIME);

    begin();
    add(SO_TIMESTAMPNS, &kernel, sizeof kernel);
    add(SO_TIMESTAMPING, device, sizeof device);
    check(both, 3000000030, MCF_FLAG_HARDWARE_TIME);
    check(MCF_META_TIMESTAMP, 1000000010, 0);

    begin();
    add(SO_TIMESTAMPING, device, sizeof device);
    add(SO_TIMESTAMPNS, &kernel, sizeof kernel);
    check(both, 3000000030, MCF_FLAG_HARDWARE_TIME);

    begin();
    add(SO_TIMESTAMPNS, &kernel, sizeof kernel);
    add(SO_TIMESTAMPING, own, sizeof own);
    check(both, 1000000010, 0);

    begin();
    add(SO_TIMESTAMPING, device, sizeof device - 1); /* cut */
    check(MCF_META_HARDWARE_TIMESTAMP, 0, 0);
    puts("ok");
    return 0;
}
