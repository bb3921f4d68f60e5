/* Whether an interface stamps what it receives: SIOCGHWTSTAMP, Documentation/networking/timestamping.rst. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mcf_interface.h"

/* -ENOMSG: messages of protocols such as PTP alone. Every other filter is of one, or SOME, the answer of drivers that
 * stamp more than they were asked to, which promises nothing of other datagrams (linux/net_tstamp.h). */
static int what_is_stamped(int rx_filter)
{
    switch (rx_filter) {
    case HWTSTAMP_FILTER_NONE:
        return 0;
    case HWTSTAMP_FILTER_ALL:
        return 1;
    default:
        return -ENOMSG;
    }
}

int mcf_interface_stamps(const char *name)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct hwtstamp_config config = {0};
    struct ifreq request = {.ifr_data = (char *)&config};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    int result = ioctl(fd, SIOCGHWTSTAMP, &request) < 0 ? -errno : what_is_stamped(config.rx_filter);
    close(fd);
    return result;
}
