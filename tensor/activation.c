/* Element by element:
 *     silu        x / (1 + exp(-x))
 *     gelu        x/2 (1 + erf(x / sqrt(2)))
 *     gelu_new    x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
 *     quick_gelu  x / (1 + exp(-1.702 x))
 *     geglu       value * gelu(gate)
 * and row by row:
 *     softmax     exp(x - max) / sum exp(x - max) */
#include "tensor/stand_in.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#ifdef LLMDIFF_DOUBLE
#    define EXP exp
#    define ERF erf
#    define TANH tanh
#else
#    define EXP expf
#    define ERF erff
#    define TANH tanhf
#endif

#define GRAIN 16384 /* elements per thread that are worth waking it */
#define SQRT_HALF ((real)0.70710678118654752440)
#define SQRT_2_OVER_PI ((real)0.79788456080286535588)

/* exp(-x) overflows to infinity for very negative x, and x / infinity is the right 0. */
static real silu_of(real x) { return x / (1 + EXP(-x)); }

static real gelu_of(real x) { return x / 2 * (1 + ERF(x * SQRT_HALF)); }

static real gelu_new_of(real x) {
    return x / 2 * (1 + TANH(SQRT_2_OVER_PI * (x + (real)0.044715 * x * x * x)));
}

static real quick_gelu_of(real x) { return x / (1 + EXP((real)-1.702 * x)); }

static Tensor map(Context *ctx, Tensor x, real (*f)(real)) {
    if (ctx->error.set) return (Tensor){0};
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(x);
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = f(x.data[i]);
    return y;
}

/* torch.nn.functional.silu */
Tensor silu(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_SILU, .x = x);
    return map(ctx, x, silu_of);
}

/* torch.nn.functional.gelu */
Tensor gelu(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_GELU, .x = x);
    return map(ctx, x, gelu_of);
}

/* transformers NewGELUActivation */
Tensor gelu_new(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_GELU_NEW, .x = x);
    return map(ctx, x, gelu_new_of);
}

/* transformers QuickGELUActivation */
Tensor quick_gelu(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_QUICK_GELU, .x = x);
    return map(ctx, x, quick_gelu_of);
}

/* diffusers GEGLU after its projection: [..., 2C] = (value, gate) -> [..., C] */
Tensor geglu(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_GEGLU, .x = x);
    if (ctx->error.set) return (Tensor){0};
    assert(tensor_cols(x) % 2 == 0);
    const int64_t M = tensor_rows(x), C = tensor_cols(x) / 2;
    Tensor y = x;
    y.dim[x.ndim - 1] = C;
    y = tensor_new(ctx, y.ndim, y.dim);
    if (ctx->error.set) return (Tensor){0};
    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++) {
        const real *value = x.data + m * 2 * C, *gate = value + C;
        for (int64_t c = 0; c < C; c++) y.data[m * C + c] = value[c] * gelu_of(gate[c]);
    }
    return y;
}

#ifdef LLMDIFF_DOUBLE
static real exp_nonpositive(real x) { return exp(x); }
#else
/* exp(x), x <= 0, to about 1 ulp, in a form that compilers vectorise (they can't with calls of expf):
 * most of the time of an image's self-attention goes here.
 *     exp(x) = 2^n exp(r),  n = round(x / ln 2),  |r| <= ln(2) / 2,  exp(r) by its Taylor series
 * Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the sum. Below -87
 * the result would leave float's normal range: 1.6e-38 is as good as 0 beside the largest term, 1. */
static real exp_nonpositive(real x) {
    const float magic = 0x1.8p23f;
    const float ln2_high = 0x1.62e4p-1f, ln2_low = 1.4286068202862268e-06f; /* n * high is exact */
    x = x < -87 ? -87 : x;
    const float shifted = x * 1.44269504088896341f + magic, n = shifted - magic;
    const float r = x - n * ln2_high - n * ln2_low;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1;

    uint32_t bits, zero;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&zero, &magic, sizeof zero);
    bits = (bits - zero + 127) << 23; /* 2^n */
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}
#endif

/* Maximum and sum in 16 interleaved parts, always the same ones: C may not reorder a float sum on its
 * own, so written plainly neither loop would use vectors. */
#define LANES 16

static real largest(const real *x, int64_t n) {
    real most[LANES], all = x[0];
    for (int j = 0; j < LANES; j++) most[j] = x[0];
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
    for (; i < n; i++) all = x[i] > all ? x[i] : all;
    for (int j = 0; j < LANES; j++) all = most[j] > all ? most[j] : all;
    return all;
}

static real sum_of(const real *x, int64_t n) {
    real part[LANES] = {0}, all = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) part[j] += x[i + j];
    for (; i < n; i++) all += x[i];
    for (int j = 0; j < LANES; j++) all += part[j];
    return all;
}

void softmax_row(real *x, int64_t n) {
    const real max = largest(x, n);
    for (int64_t i = 0; i < n; i++) x[i] = exp_nonpositive(x[i] - max);
    const real sum = sum_of(x, n);
    for (int64_t i = 0; i < n; i++) x[i] /= sum;
}

/* torch.softmax(x, -1) */
Tensor softmax(Context *ctx, Tensor x) {
    if (ctx->error.set) return (Tensor){0};
    Tensor y = tensor_copy(ctx, x);
    if (ctx->error.set) return (Tensor){0};
    const int64_t M = tensor_rows(x), C = tensor_cols(x);
    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++) softmax_row(y.data + m * C, C);
    return y;
}
