/* Context: arena scopes, the sticky error, named activations. See tensor.h. */
#include "tensor/stand_in.h"
#include "tensor/tape.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void context_free(Context *ctx) { arena_free(&ctx->arena); }

size_t dtype_size(Dtype dtype) {
    switch (dtype) {
    case DTYPE_F64:
    case DTYPE_I64: return 8;
    case DTYPE_F32:
    case DTYPE_I32: return 4;
    case DTYPE_F16:
    case DTYPE_BF16:
    case DTYPE_I16: return 2;
    case DTYPE_I8:
    case DTYPE_U8:
    case DTYPE_BOOL: return 1;
    }
    return 0;
}

const char *dtype_name(Dtype dtype) {
    static const char *const name[] = {"F64", "F32", "F16", "BF16", "I64",
                                       "I32", "I16", "I8",  "U8",   "BOOL"};
    return name[dtype];
}

int64_t tensor_numel(Tensor t) {
    int64_t n = 1;
    for (int i = 0; i < t.ndim; i++) n *= t.dim[i];
    return n;
}

int64_t tensor_cols(Tensor t) { return t.dim[t.ndim - 1]; }

int64_t tensor_rows(Tensor t) {
    int64_t n = 1;
    for (int i = 0; i + 1 < t.ndim; i++) n *= t.dim[i];
    return n;
}

static Tensor shaped(real *data, int ndim, const int64_t *dim) {
    assert(ndim >= 1 && ndim <= MAX_DIMS);
    Tensor t = {.data = data, .ndim = ndim, .dim = {1, 1, 1, 1}};
    for (int i = 0; i < ndim; i++) t.dim[i] = dim[i];
    return t;
}

real *scratch_reals(Context *ctx, size_t n) {
    if (ctx->error.set) return NULL;
    real *p = n <= SIZE_MAX / sizeof(real) ? arena_alloc(&ctx->arena, n * sizeof(real)) : NULL;
    if (!p)
        fail(&ctx->error, "out of memory: %zu bytes wanted, %zu in use for activations",
             n * sizeof(real), ctx->arena.in_use);
    return p;
}

double *scratch_doubles(Context *ctx, int64_t n) {
    return (double *)(void *)scratch_reals(ctx, (size_t)n * (sizeof(double) / sizeof(real)));
}

Tensor tensor_new(Context *ctx, int ndim, const int64_t *dim) {
    if (ctx->error.set) return (Tensor){0};
    Tensor t = shaped(NULL, ndim, dim);
    /* A picture size from the command line may overflow even the count of elements. */
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        n = dim[i] > 0 && n > INT64_MAX / dim[i] ? INT64_MAX : n * dim[i];
    t.data = scratch_reals(ctx, (size_t)n);
    return t.data ? t : (Tensor){0};
}

/* dx += dy */
static void copy_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    add_scaled(ctx, tensor_numel(y), 1, dy, tape_gradient(ctx, *(const Tensor *)call));
}

Tensor tensor_copy(Context *ctx, Tensor x) {
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    if (!y.data) return y;
    memcpy(y.data, x.data, (size_t)tensor_numel(x) * sizeof(real));
    return is_variable(ctx, x) ? tape_record(ctx, y, copy_backward, &x, sizeof x) : y;
}

Tensor tensor_at(Tensor x, int64_t b) {
    if (!x.data) return x;
    assert(x.ndim >= 2 && b >= 0 && b < x.dim[0]);
    Tensor t = shaped(x.data, x.ndim - 1, x.dim + 1);
    const int64_t offset = b * tensor_numel(t);
    t.data += offset;
    t.var = x.var;
    t.at = x.at + offset;
    return t;
}

Tensor tensor_view(Tensor x, int ndim, const int64_t *dim) {
    if (!x.data) return x;
    Tensor t = shaped(x.data, ndim, dim);
    assert(tensor_numel(t) == tensor_numel(x));
    t.var = x.var;
    t.at = x.at;
    return t;
}

ArenaMark scope_begin(Context *ctx) { return arena_mark(&ctx->arena); }

Tensor scope_end(Context *ctx, ArenaMark mark, Tensor result) {
    if (!result.data || arena_pinned(&ctx->arena, result.data)) {
        arena_release(&ctx->arena, mark); /* down to the pin; a result below it stays where it is */
        return result.data ? result : (Tensor){0};
    }
    size_t bytes = (size_t)tensor_numel(result) * sizeof(real);
    result.data = arena_release_keeping(&ctx->arena, mark, result.data, bytes);
    return result;
}

/* ---- named activations ----------------------------------------------------------------------- */

static bool all_finite(const real *x, int64_t n) {
    /* x - x is 0 for a finite x and NaN otherwise. No branch: the compiler vectorises the loop. */
    int bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= x[i] - x[i] != 0;
    return !bad;
}

bool stand_in_for(Context *ctx, const OperatorCall *call, Tensor *y) {
    const StandIn *s = ctx->stand_in;
    if (ctx->error.set) return false;
    ctx->stand_in = NULL;
    bool done = s->compute(s->self, ctx, call, y);
    ctx->stand_in = s;
    return done;
}

bool poll_cancelled(Context *ctx, const char *where) {
    if (!ctx->error.set && ctx->cancelled && ctx->cancelled(ctx->cancelled_self))
        fail(&ctx->error, "cancelled at %s", where);
    return ctx->error.set;
}

/* x <- what the run is to go on with. `seen`: x as it is shown, which for rows is x itself. */
static void force(Context *ctx, Tensor x, Tensor seen, const char *name) {
    const Forcing *f = ctx->forcing;
    if (!f->force(f->self, name, seen.data, seen.ndim, seen.dim, &ctx->error)) return;
    if (seen.data == x.data) return;
    Tensor back = channels_last(ctx, seen);
    if (back.data) memcpy(x.data, back.data, (size_t)tensor_numel(x) * sizeof(real));
}

static void show(Context *ctx, Tensor x, bool is_map, const char *name) {
    x.var = 0; /* looking is not computing: nothing to record */
    if (poll_cancelled(ctx, name)) return;
    if (!all_finite(x.data, tensor_numel(x))) {
        fail(&ctx->error, "%s: a value is not finite (NaN or infinity), so the run stops here",
             name);
        return;
    }
    if (!ctx->observer && !ctx->forcing) return;
    ArenaMark mark = scope_begin(ctx);
    Tensor seen = is_map ? channels_first(ctx, x) : x;
    if (seen.data && ctx->observer)
        ctx->observer->see(ctx->observer->self, name, seen.data, seen.ndim, seen.dim);
    if (!ctx->error.set && ctx->forcing) force(ctx, x, seen, name);
    arena_release(&ctx->arena, mark);
}

void observe(Context *ctx, Tensor x, const char *name, ...) {
    if (ctx->error.set) return;
    char full[256];
    va_list args;
    va_start(args, name);
    vsnprintf(full, sizeof full, name, args);
    va_end(args);
    show(ctx, x, false, full);
}

void observe_scalar(Context *ctx, double x, const char *name) {
    real value = (real)x;
    if (ctx->error.set || !ctx->observer) return;
    ctx->observer->see(ctx->observer->self, name, &value, 0, NULL);
}

void observe_each(Context *ctx, Tensor x, const char *name, ...) {
    if (ctx->error.set) return;
    char path[200], full[256];
    va_list args;
    va_start(args, name);
    vsnprintf(path, sizeof path, name, args);
    va_end(args);
    assert(x.dim[0] <= MAX_BATCH);
    for (int64_t b = 0; b < x.dim[0] && !ctx->error.set; b++) {
        const char *prefix = ctx->prefix[b] ? ctx->prefix[b] : "";
        snprintf(full, sizeof full, "%s%s", prefix, path);
        show(ctx, tensor_at(x, b), x.ndim == 4, full);
    }
}
