/* The system's, without what glibc 2.28 (manylinux_2_28, RHEL 8) does not have in it yet. */
#include_next <netinet/udp.h>

#undef UDP_SEGMENT
#undef UDP_GRO
