/* The engines of Linux, best first. */
#include <stddef.h>

#include "linux/mcf_linux.h"
#include "linux/mcf_packet.h"
#include "posix/mcf_posix.h"

const mcf_engine *const mcf_engines[] = {&mcf_linux_engine, &mcf_posix_engine, &mcf_packet_engine, NULL};
