/* safetensors: named tensors in one memory-mapped file, and writing them.
 *
 *     Safetensors *s = safetensors_open("model.safetensors", &err);
 *     const StoredTensor *t = safetensors_find(s, "g");
 *     safetensors_close(s);
 *
 * Format (huggingface/safetensors): u64 little-endian length of the header, the header as JSON
 * {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {string: string}},
 * then the data. Everything in the header is checked against the file's size before use. */
#ifndef LLMDIFF_SAFETENSORS_H
#define LLMDIFF_SAFETENSORS_H

#include "tensor/tensor.h"

#define STORED_MAX_DIMS 8

typedef struct StoredTensor {
    const char *name;
    Dtype dtype;
    int ndim; /* 0: a scalar */
    int64_t dim[STORED_MAX_DIMS];
    const void *data; /* not necessarily aligned */
    size_t bytes;
} StoredTensor;

typedef struct Safetensors Safetensors;

/* NULL with a message if the file is missing, truncated or malformed. */
Safetensors *safetensors_open(const char *path, Error *err);
void safetensors_close(Safetensors *s); /* NULL is fine */
const char *safetensors_path(const Safetensors *s);
size_t safetensors_count(const Safetensors *s);
/* In the order of their data in the file. */
const StoredTensor *safetensors_at(const Safetensors *s, size_t i);
const StoredTensor *safetensors_find(const Safetensors *s, const char *name); /* NULL: none */
const char *safetensors_metadata(const Safetensors *s, const char *key);      /* NULL: none */
/* Number of metadata entries, and entry i. */
size_t safetensors_metadata_count(const Safetensors *s);
void safetensors_metadata_at(const Safetensors *s, size_t i, const char **key, const char **value);

/* Any stored float type to double (numel values); fails for integer types. */
int stored_to_double(const StoredTensor *t, double *out, Error *err);
/* The same for integer types too; fails for a whole number that no double is. */
int stored_widen(const StoredTensor *t, double *out, Error *err);
bool dtype_is_float(Dtype dtype);
int64_t stored_numel(const StoredTensor *t);

/* "[2, 3]", for messages; SHAPE_TEXT is room enough for any. */
#define SHAPE_TEXT (2 + 22 * STORED_MAX_DIMS)
void shape_text(char *out, size_t size, int ndim, const int64_t *dim);

/* Writes all tensors to `path` by way of a temporary name and a rename, data in the given order.
 * metadata: key, value, key, value, ..., NULL; or NULL. 0, or -1 with a message and no file. */
int safetensors_write(const char *path, const StoredTensor *tensors, size_t n,
                      const char *const *metadata, Error *err);

#endif
