/* npz: named arrays in a zip archive, as numpy.savez and savez_compressed write them.
 *
 *     Npz *n = npz_open("port.npz", &err);
 *     const StoredTensor *t = npz_at(n, 0);       // without its data
 *     npz_read(n, 0, out, &err);                  // out [stored_numel(t)]
 *     npz_close(n); */
#ifndef LLMDIFF_NPZ_H
#define LLMDIFF_NPZ_H

#include "weights/safetensors.h"

typedef struct Npz Npz;

/* Reads every array's header. NULL with a message if the file is missing, truncated or malformed. */
Npz *npz_open(const char *path, Error *err);
void npz_close(Npz *n); /* NULL is fine */
size_t npz_count(const Npz *n);
/* Name (without ".npy"), type and shape, in the order of the file; its data are NULL. */
const StoredTensor *npz_at(const Npz *n, size_t i);
/* Array i in C order, widened, its CRC checked. 0 or -1. */
int npz_read(const Npz *n, size_t i, double *out, Error *err);

#endif
