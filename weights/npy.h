/* npy: one array in a file, numpy.save's format 1.0 to 3.0, C or Fortran order, little-endian
 * floats of 2, 4 or 8 bytes, signed integers, bytes and booleans.
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

/* An array where it lies: a file in memory, or a member of a npz. */
typedef struct NpyView {
    StoredTensor stored; /* its name is `where`; its data have the file's order */
    bool fortran_order;
} NpyView;

/* Reads the header in the first `there` of `size` bytes, and checks that the numbers fill the rest.
 * The data begin at bytes + *start, which may lie past what is there. `where` names it in messages,
 * and is kept. 0 or -1. */
int npy_view(const char *where, const void *bytes, size_t there, size_t size, NpyView *out,
             size_t *start, Error *err);
/* Its numbers in C order, widened. out [stored_numel]. All bytes have to be there. */
int npy_widen(const NpyView *v, double *out, Error *err);

int npy_read(const char *path, Npy *out, Error *err);
void npy_free(Npy *a);
/* F32 or F64 data in C order, format 1.0, by way of a temporary name and a rename. */
int npy_write(const char *path, Dtype dtype, int ndim, const int64_t *dim, const void *data,
              Error *err);

#endif
