/* The engines of Windows. */
#include <stddef.h>

#include "windows/mcf_windows.h"

const mcf_engine *const mcf_engines[] = {&mcf_windows_engine, &mcf_iocp_engine, NULL};
