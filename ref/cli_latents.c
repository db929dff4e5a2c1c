/* Latents from a file and to one; what kind of file something is. See cli.h. */
#include "ref/cli.h"
#include "weights/npy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int file_kind(const char *path, Error *err) {
    unsigned char head[8] = {0};
    FILE *file = fopen(path, "rb");
    if (!file) return fail(err, "%s: can't be opened: %s", path, strerror(errno));
    size_t n = fread(head, 1, sizeof head, file);
    fclose(file);
    if (n == 8 && memcmp(head, "\x89PNG\r\n\x1a\n", 8) == 0) return FILE_PNG;
    if (n >= 6 && memcmp(head, "\x93NUMPY", 6) == 0) return FILE_NPY;
    return FILE_SAFETENSORS;
}

/* ---- reading ------------------------------------------------------------------------------------- */

static void shape_text(char *out, size_t size, int ndim, const int64_t *dim) {
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < ndim && used < size; i++)
        used +=
            (size_t)snprintf(out + used, size - used, "%s%lld", i ? ", " : "", (long long)dim[i]);
}

static int check_shape(const char *path, int ndim, const int64_t *dim, const int64_t want[3],
                       Error *err) {
    const int64_t *last = ndim == 4 && dim[0] == 1 ? dim + 1 : dim;
    int count = last == dim ? ndim : 3;
    if (count == 3 && memcmp(last, want, 3 * sizeof *want) == 0) return 0;
    char expected[96], found[192];
    shape_text(expected, sizeof expected, 3, want);
    shape_text(found, sizeof found, ndim, dim);
    return fail(err, "--init-latents %s: expected shape [%s] for this picture's size, found [%s]",
                path, expected, found);
}

static void from_npy(const char *path, const int64_t dim[3], double *out, Error *err) {
    Npy array;
    if (npy_read(path, &array, err)) return;
    if (check_shape(path, array.ndim, array.dim, dim, err) == 0)
        memcpy(out, array.data, (size_t)(dim[0] * dim[1] * dim[2]) * sizeof *out);
    npy_free(&array);
}

/* The tensor latents/0, as a trace has it, or the only one there is. */
static void from_safetensors(const char *path, const int64_t dim[3], double *out, Error *err) {
    Safetensors *file = safetensors_open(path, err);
    if (!file) return;
    const StoredTensor *t = safetensors_find(file, "latents/0");
    if (!t && safetensors_count(file) == 1) t = safetensors_at(file, 0);
    if (!t)
        fail(err, "--init-latents %s: expected a tensor \"latents/0\" or a single one, found %zu",
             path, safetensors_count(file));
    else if (check_shape(path, t->ndim, t->dim, dim, err) == 0)
        stored_to_double(t, out, err);
    safetensors_close(file);
}

real *latents_read(const char *path, const int64_t dim[3], Error *err) {
    int kind = file_kind(path, err);
    if (kind < 0) return NULL;
    size_t n = (size_t)(dim[0] * dim[1] * dim[2]);
    double *wide = malloc(n * sizeof *wide);
    real *out = malloc(n * sizeof *out);
    if (!wide || !out)
        fail(err, "--init-latents %s: out of memory", path);
    else if (kind == FILE_NPY)
        from_npy(path, dim, wide, err);
    else
        from_safetensors(path, dim, wide, err);
    for (size_t i = 0; !err->set && i < n; i++) out[i] = (real)wide[i];
    free(wide);
    if (!err->set) return out;
    free(out);
    return NULL;
}

/* ---- writing ------------------------------------------------------------------------------------- */

int latents_write(const char *path, const real *data, const int64_t dim[3], const char *name,
                  const char *const *metadata, Error *err) {
    Dtype dtype = sizeof(real) == 8 ? DTYPE_F64 : DTYPE_F32;
    if (has_extension(path, ".npy")) return npy_write(path, dtype, 3, dim, data, err);
    StoredTensor t = {.name = name, .dtype = dtype, .ndim = 3, .data = data};
    memcpy(t.dim, dim, 3 * sizeof *dim);
    t.bytes = (size_t)(dim[0] * dim[1] * dim[2]) * sizeof(real);
    return safetensors_write(path, &t, 1, metadata, err);
}
