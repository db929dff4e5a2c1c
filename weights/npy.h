/* npy: one array in a file, numpy.save's format 1.0 to 3.0, C or Fortran order, little-endian
 * floats of 2, 4 or 8 bytes.
 *
 *     Npy a;  if (npy_read("latents.npy", &a, &err)) ...;  use a.data, a.dim;  npy_free(&a); */
#ifndef LLMDIFF_NPY_H
#define LLMDIFF_NPY_H

#include "weights/safetensors.h"

typedef struct Npy {
    Dtype dtype; /* as stored in the file */
    int ndim;
    int64_t dim[STORED_MAX_DIMS];
    double *data; /* widened, C order */
} Npy;

int npy_read(const char *path, Npy *out, Error *err);
void npy_free(Npy *a);
/* F32 or F64 data in C order, format 1.0, by way of a temporary name and a rename. */
int npy_write(const char *path, Dtype dtype, int ndim, const int64_t *dim, const void *data,
              Error *err);

#endif
