/* Element by element:
 *     silu      x / (1 + exp(-x))
 *     gelu      x/2 (1 + erf(x / sqrt(2)))
 *     gelu_new  x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
 *     geglu     value * gelu(gate)
 * and row by row:
 *     softmax   exp(x - max) / sum exp(x - max) */
#include "tensor/tensor.h"

#include <assert.h>
#include <math.h>

#ifdef LLMDIFF_DOUBLE
#    define EXP exp
#    define ERF erf
#    define TANH tanh
#else
#    define EXP expf
#    define ERF erff
#    define TANH tanhf
#endif

#define GRAIN 4096 /* elements per thread that are worth waking it */
#define SQRT_HALF ((real)0.70710678118654752440)
#define SQRT_2_OVER_PI ((real)0.79788456080286535588)

/* exp(-x) overflows to infinity for very negative x, and x / infinity is the right 0. */
static real silu_of(real x) { return x / (1 + EXP(-x)); }

static real gelu_of(real x) { return x / 2 * (1 + ERF(x * SQRT_HALF)); }

static real gelu_new_of(real x) {
    return x / 2 * (1 + TANH(SQRT_2_OVER_PI * (x + (real)0.044715 * x * x * x)));
}

static Tensor map(Context *ctx, Tensor x, real (*f)(real)) {
    if (ctx->error.set) return (Tensor){0};
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(x);
#pragma omp parallel for num_threads(parallel_threads(ctx, n / GRAIN))
    for (int64_t i = 0; i < n; i++) y.data[i] = f(x.data[i]);
    return y;
}

/* torch.nn.functional.silu */
Tensor silu(Context *ctx, Tensor x) { return map(ctx, x, silu_of); }

/* torch.nn.functional.gelu */
Tensor gelu(Context *ctx, Tensor x) { return map(ctx, x, gelu_of); }

/* transformers NewGELUActivation */
Tensor gelu_new(Context *ctx, Tensor x) { return map(ctx, x, gelu_new_of); }

/* diffusers GEGLU after its projection: [..., 2C] = (value, gate) -> [..., C] */
Tensor geglu(Context *ctx, Tensor x) {
    if (ctx->error.set) return (Tensor){0};
    assert(tensor_cols(x) % 2 == 0);
    const int64_t M = tensor_rows(x), C = tensor_cols(x) / 2;
    Tensor y = x;
    y.dim[x.ndim - 1] = C;
    y = tensor_new(ctx, y.ndim, y.dim);
    if (ctx->error.set) return (Tensor){0};
#pragma omp parallel for num_threads(parallel_threads(ctx, M *C / GRAIN))
    for (int64_t m = 0; m < M; m++) {
        const real *value = x.data + m * 2 * C, *gate = value + C;
        for (int64_t c = 0; c < C; c++) y.data[m * C + c] = value[c] * gelu_of(gate[c]);
    }
    return y;
}

void softmax_row(real *x, int64_t n) {
    real max = x[0], sum = 0;
    for (int64_t i = 1; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int64_t i = 0; i < n; i++) {
        x[i] = EXP(x[i] - max);
        sum += x[i];
    }
    for (int64_t i = 0; i < n; i++) x[i] /= sum;
}

/* torch.softmax(x, -1) */
Tensor softmax(Context *ctx, Tensor x) {
    if (ctx->error.set) return (Tensor){0};
    Tensor y = tensor_copy(ctx, x);
    if (ctx->error.set) return (Tensor){0};
    const int64_t M = tensor_rows(x), C = tensor_cols(x);
#pragma omp parallel for num_threads(parallel_threads(ctx, M *C / GRAIN))
    for (int64_t m = 0; m < M; m++) softmax_row(y.data + m * C, C);
    return y;
}
