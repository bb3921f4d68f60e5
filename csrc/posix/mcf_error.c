/* POSIX systems know one set of numbers, that of <errno.h>. */
#include "mcf_error.h"

int mcf_error_number(int error)
{
    return error;
}
