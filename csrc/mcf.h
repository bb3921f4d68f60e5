/* The one header that the Cython layer includes. */
#ifndef MCF_H
#define MCF_H

#include "mcf_batch.h"
#include "mcf_interface.h"
#include "mcf_io.h"

#endif
