/* Sums, joins and changes of layout. */
#include "tensor/stand_in.h"

#include <assert.h>
#include <string.h>

#define GRAIN 65536 /* elements per thread that are worth waking it */

static bool same_shape(Tensor a, Tensor b) {
    return a.ndim == b.ndim && memcmp(a.dim, b.dim, sizeof a.dim) == 0;
}

/* y = a + b */
Tensor add(Context *ctx, Tensor a, Tensor b) {
    STAND_IN(ctx, OP_ADD, .x = a, .z = b);
    if (ctx->error.set) return (Tensor){0};
    assert(same_shape(a, b));
    Tensor y = tensor_new(ctx, a.ndim, a.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(a);
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = a.data[i] + b.data[i];
    return y;
}

/* y = a - b */
Tensor sub(Context *ctx, Tensor a, Tensor b) {
    STAND_IN(ctx, OP_SUB, .x = a, .z = b);
    if (ctx->error.set) return (Tensor){0};
    assert(same_shape(a, b));
    Tensor y = tensor_new(ctx, a.ndim, a.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(a);
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = a.data[i] - b.data[i];
    return y;
}

/* y = a * b */
Tensor mul(Context *ctx, Tensor a, Tensor b) {
    STAND_IN(ctx, OP_MUL, .x = a, .z = b);
    if (ctx->error.set) return (Tensor){0};
    assert(same_shape(a, b));
    Tensor y = tensor_new(ctx, a.ndim, a.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(a);
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = a.data[i] * b.data[i];
    return y;
}

/* y = s a */
Tensor scale(Context *ctx, Tensor a, double s) {
    STAND_IN(ctx, OP_SCALE, .x = a, .s = s);
    if (ctx->error.set) return (Tensor){0};
    Tensor y = tensor_new(ctx, a.ndim, a.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(a);
    const real factor = (real)s;
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = factor * a.data[i];
    return y;
}

/* y = s a + t b */
Tensor axpby(Context *ctx, double s, Tensor a, double t, Tensor b) {
    STAND_IN(ctx, OP_AXPBY, .x = a, .z = b, .s = s, .t = t);
    if (ctx->error.set) return (Tensor){0};
    assert(same_shape(a, b));
    Tensor y = tensor_new(ctx, a.ndim, a.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(a);
    const real fa = (real)s, fb = (real)t;
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = fa * a.data[i] + fb * b.data[i];
    return y;
}

/* y[b, ..., c] = x[b, ..., c] + v[b, c]. x [B, ..., C], v [B, C] */
Tensor add_channels(Context *ctx, Tensor x, Tensor v) {
    STAND_IN(ctx, OP_ADD_CHANNELS, .x = x, .z = v);
    if (ctx->error.set) return (Tensor){0};
    const int64_t B = x.dim[0], C = tensor_cols(x), L = tensor_rows(x) / B;
    assert(x.ndim >= 2 && v.ndim == 2 && v.dim[0] == B && v.dim[1] == C);
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    if (ctx->error.set) return (Tensor){0};
    const int threads = parallel_threads(ctx, B * L * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < B * L; row++)
        for (int64_t c = 0; c < C; c++)
            y.data[row * C + c] = x.data[row * C + c] + v.data[row / L * C + c];
    return y;
}

/* torch.cat along the channels. a [..., Ca], b [..., Cb] -> [..., Ca + Cb] */
Tensor concat(Context *ctx, Tensor a, Tensor b) {
    STAND_IN(ctx, OP_CONCAT, .x = a, .z = b);
    if (ctx->error.set) return (Tensor){0};
    assert(a.ndim == b.ndim);
    for (int i = 0; i + 1 < a.ndim; i++) assert(a.dim[i] == b.dim[i]);
    const int64_t M = tensor_rows(a), Ca = tensor_cols(a), Cb = tensor_cols(b), C = Ca + Cb;
    Tensor y = a;
    y.dim[a.ndim - 1] = C;
    y = tensor_new(ctx, y.ndim, y.dim);
    if (ctx->error.set) return (Tensor){0};
    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++) {
        memcpy(y.data + m * C, a.data + m * Ca, (size_t)Ca * sizeof(real));
        memcpy(y.data + m * C + Ca, b.data + m * Cb, (size_t)Cb * sizeof(real));
    }
    return y;
}

/* y [cols, rows] = x [rows, cols]^T, in squares that fit the cache on both sides. */
static void transpose(const Context *ctx, int64_t rows, int64_t cols, const real *x, real *y) {
    enum { SQUARE = 32 };
    const int threads = parallel_threads(ctx, rows * cols / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t r0 = 0; r0 < rows; r0 += SQUARE)
        for (int64_t c0 = 0; c0 < cols; c0 += SQUARE)
            for (int64_t c = c0; c < cols && c < c0 + SQUARE; c++)
                for (int64_t r = r0; r < rows && r < r0 + SQUARE; r++)
                    y[c * rows + r] = x[r * cols + c];
}

/* [C, H, W] -> [H, W, C] */
Tensor channels_last(Context *ctx, Tensor x) {
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim == 3);
    Tensor y = TENSOR_NEW(ctx, x.dim[1], x.dim[2], x.dim[0]);
    if (ctx->error.set) return (Tensor){0};
    transpose(ctx, x.dim[0], x.dim[1] * x.dim[2], x.data, y.data);
    return y;
}

/* [H, W, C] -> [C, H, W] */
Tensor channels_first(Context *ctx, Tensor x) {
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim == 3);
    Tensor y = TENSOR_NEW(ctx, x.dim[2], x.dim[0], x.dim[1]);
    if (ctx->error.set) return (Tensor){0};
    transpose(ctx, x.dim[0] * x.dim[1], x.dim[2], x.data, y.data);
    return y;
}
