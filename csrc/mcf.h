/* The one header that the Cython layer includes. */
#ifndef MCF_H
#define MCF_H

#include "mcf_background.h"
#include "mcf_batch.h"
#include "mcf_counter.h"
#include "mcf_error.h"
#include "mcf_interface.h"
#include "mcf_io.h"
#include "mcf_latch.h"
#include "mcf_memory.h"
#include "mcf_switch.h"

#endif
