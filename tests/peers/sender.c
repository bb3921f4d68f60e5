/* A plain multicast sender, as a beginner writes one: one socket, one sendto() for each message.

   sender GROUP PORT INTERFACE_ADDRESS COUNT

   Sends "message 0" to "message COUNT-1". INTERFACE_ADDRESS 0.0.0.0 leaves the choice to the route. */

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
    struct sockaddr_in group = {.sin_family = AF_INET, .sin_port = htons((in_port_t)atoi(argv[2]))};
    struct in_addr interface;
    if (inet_pton(AF_INET, argv[1], &group.sin_addr) != 1 || inet_pton(AF_INET, argv[3], &interface) != 1) {
        fprintf(stderr, "%s: not an IPv4 address\n", argv[0]);
        return 2;
    }

    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    if (sock < 0)
        fail("socket");
    unsigned char ttl = 32, loop = 0;
    if (setsockopt(sock, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof ttl) < 0)
        fail("IP_MULTICAST_TTL");
    if (setsockopt(sock, IPPROTO_IP, IP_MULTICAST_LOOP, &loop, sizeof loop) < 0)
        fail("IP_MULTICAST_LOOP");
    if (interface.s_addr != htonl(INADDR_ANY) &&
        setsockopt(sock, IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof interface) < 0)
        fail("IP_MULTICAST_IF");

    for (int i = 0; i < atoi(argv[4]); i++) {
        char message[64];
        int length = snprintf(message, sizeof message, "message %d", i);
        if (sendto(sock, message, (size_t)length, 0, (struct sockaddr *)&group, sizeof group) < 0)
            fail("sendto");
    }
    close(sock);
    return 0;
}
