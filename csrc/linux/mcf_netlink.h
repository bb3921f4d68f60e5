/* Questions to the kernel about links, addresses and routes: rtnetlink(7). Any thread, nothing is kept open. */
#ifndef MCF_NETLINK_H
#define MCF_NETLINK_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

/* One message of an answer, as long as the reader runs; it needs no alignment and is not trusted. */
typedef struct {
    const uint8_t *fixed; /* struct ifinfomsg, ifaddrmsg or rtmsg, all of which is there */
    const uint8_t *attributes;
    size_t size; /* of the attributes */
} mcf_netlink_message;

/* Returns 0, or minus errno to end the reading. */
typedef int (*mcf_netlink_reader)(void *context, const mcf_netlink_message *message);

/*
 * Sends the request, nlmsg_len octets, and gives each message of the type `answer`, whose fixed part has `fixed`
 * octets, to the reader: one, or with NLM_F_DUMP all that there are.
 *
 * Returns 0, or 1 where what a dump told changed meanwhile (NLM_F_DUMP_INTR), so that something may be missing or there
 * twice; else minus errno: what the reader returned, the kernel's refusal, EMFILE, ENFILE, ENOMEM, EMSGSIZE, or EBADMSG
 * for an answer that makes no sense.
 */
int mcf_netlink_ask(const struct nlmsghdr *request, uint16_t answer, size_t fixed, mcf_netlink_reader read,
                    void *context);

/* Copies the value of the first attribute of that type, at most `room` octets of it. Returns how many, 0 where there is
 * none, or -EBADMSG. */
int mcf_netlink_attribute(const mcf_netlink_message *message, uint16_t type, void *value, size_t room);

#endif
