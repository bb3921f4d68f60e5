/* Error numbers. */
#ifndef MCF_ERROR_H
#define MCF_ERROR_H

/* The number by which programs of this system know an error of the core: Windows' sockets have their own, beside those
 * of <errno.h>. Pure. */
int mcf_error_number(int error);

#endif
