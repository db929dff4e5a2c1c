/* Random numbers by name: see noise.h. */
#include "ref/noise.h"

#include <stdio.h>

static void read_from_file(Context *ctx, const Safetensors *file, const char *name, Tensor into) {
    const char *path = safetensors_path(file);
    const StoredTensor *t = safetensors_find(file, name);
    if (!t) {
        fail(&ctx->error, "%s: the noise \"%s\" is wanted and not in the file", path, name);
        return;
    }
    if (t->dtype > DTYPE_BF16) {
        fail(&ctx->error, "%s: tensor \"%s\": expected floating-point numbers, found %s", path,
             name, dtype_name(t->dtype));
        return;
    }
    bool same = t->ndim == into.ndim;
    for (int i = 0; same && i < t->ndim; i++) same = t->dim[i] == into.dim[i];
    if (!same) {
        char expected[SHAPE_TEXT], found[SHAPE_TEXT];
        shape_text(expected, sizeof expected, into.ndim, into.dim);
        shape_text(found, sizeof found, t->ndim, t->dim);
        fail(&ctx->error, "%s: tensor \"%s\": expected shape %s, found %s", path, t->name, expected,
             found);
        return;
    }
    int64_t n = tensor_numel(into);
    ArenaMark mark = scope_begin(ctx);
    double *wide = arena_alloc(&ctx->arena, (size_t)n * sizeof *wide);
    if (!wide)
        fail(&ctx->error, "out of memory reading \"%s\" from %s", t->name, path);
    else if (stored_to_double(t, wide, &ctx->error) == 0)
        for (int64_t i = 0; i < n; i++) into.data[i] = (real)wide[i];
    arena_release(&ctx->arena, mark);
}

Tensor noise_draw(Context *ctx, Noise *noise, const char *name, int ndim, const int64_t *dim) {
    Tensor x = tensor_new(ctx, ndim, dim);
    if (!x.data) return x;
    if (!noise->file)
        rng_normal(&noise->rng, x.data, tensor_numel(x));
    else
        read_from_file(ctx, noise->file, name, x);
    return ctx->error.set ? (Tensor){0} : x;
}
