/* A plain multicast receiver, as a beginner writes one: one socket, one recv() for each message.

   receiver GROUP PORT INTERFACE_ADDRESS COUNT

   Prints "ready" once joined, then each of COUNT messages on a line, and leaves the group. INTERFACE_ADDRESS 0.0.0.0
   leaves the choice to the route. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *call)
{
    perror(call);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s GROUP PORT INTERFACE_ADDRESS COUNT\n", argv[0]);
        return 2;
    }
    struct ip_mreq membership;
    if (inet_pton(AF_INET, argv[1], &membership.imr_multiaddr) != 1 ||
        inet_pton(AF_INET, argv[3], &membership.imr_interface) != 1) {
        fprintf(stderr, "%s: not an IPv4 address\n", argv[0]);
        return 2;
    }

    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    if (sock < 0)
        fail("socket");
    int reuse = 1;
    if (setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse) < 0)
        fail("SO_REUSEADDR");
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons((in_port_t)atoi(argv[2]))};
    local.sin_addr.s_addr = htonl(INADDR_ANY);
    if (bind(sock, (struct sockaddr *)&local, sizeof local) < 0)
        fail("bind");
    if (setsockopt(sock, IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof membership) < 0)
        fail("IP_ADD_MEMBERSHIP");
    puts("ready");
    fflush(stdout);

    for (int i = 0; i < atoi(argv[4]); i++) {
        char message[1024];
        ssize_t length = recv(sock, message, sizeof message, 0);
        if (length < 0)
            fail("recv");
        printf("%.*s\n", (int)length, message);
    }
    if (setsockopt(sock, IPPROTO_IP, IP_DROP_MEMBERSHIP, &membership, sizeof membership) < 0)
        fail("IP_DROP_MEMBERSHIP");
    close(sock);
    return 0;
}
