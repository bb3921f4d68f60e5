/* The engines of macOS. The batched one is for those who ask for it: its calls are private to the system. */
#include <stddef.h>

#include "apple/mcf_apple.h"
#include "posix/mcf_posix.h"

const mcf_engine *const mcf_engines[] = {&mcf_posix_socket, &mcf_posix_engine, &mcf_apple_engine, NULL};
