/* Values from a file in place of those computed: see force.h. */
#include "ref/force.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int check_shape(const Safetensors *file, const StoredTensor *t, int ndim, const int64_t *dim,
                       Error *err) {
    if (t->ndim == ndim && memcmp(t->dim, dim, (size_t)ndim * sizeof *dim) == 0) return 0;
    char expected[SHAPE_TEXT], found[SHAPE_TEXT];
    shape_text(expected, sizeof expected, ndim, dim);
    shape_text(found, sizeof found, t->ndim, t->dim);
    return fail(err, "--force %s: tensor \"%s\": expected shape %s, found %s",
                safetensors_path(file), t->name, expected, found);
}

/* Widened piece by piece: a forced run needs no memory that another doesn't. */
static int copy_values(const Safetensors *file, const StoredTensor *t, real *out, Error *err) {
    enum { PIECE = 1024 };
    double wide[PIECE];
    const int64_t n = stored_numel(t);
    for (int64_t at = 0; at < n; at += PIECE) {
        const int64_t count = n - at < PIECE ? n - at : PIECE;
        StoredTensor piece = {.name = t->name, .dtype = t->dtype, .ndim = 1, .dim = {count}};
        piece.data = (const char *)t->data + (size_t)at * dtype_size(t->dtype);
        piece.bytes = (size_t)count * dtype_size(t->dtype);
        if (stored_to_double(&piece, wide, err)) return -1;
        for (int64_t i = 0; i < count; i++) {
            out[at + i] = (real)wide[i];
            if (!isfinite(out[at + i]))
                return fail(err, "--force %s: tensor \"%s\": expected finite numbers, found %g",
                            safetensors_path(file), t->name, wide[i]);
        }
    }
    return 0;
}

bool force_from_file(void *self, const char *name, real *data, int ndim, const int64_t *dim,
                     Error *err) {
    Force *force = self;
    const StoredTensor *t = safetensors_find(force->file, name);
    if (!t) return false;
    if (t->dtype > DTYPE_BF16) {
        fail(err, "--force %s: tensor \"%s\": expected floating-point numbers, found %s",
             safetensors_path(force->file), name, dtype_name(t->dtype));
        return false;
    }
    if (check_shape(force->file, t, ndim, dim, err) || copy_values(force->file, t, data, err))
        return false;
    force->forced++;
    return true;
}
