/* Element by element:
 *     silu        x / (1 + exp(-x))
 *     gelu        x/2 (1 + erf(x / sqrt(2)))
 *     gelu_new    x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
 *     quick_gelu  x / (1 + exp(-1.702 x))
 *     geglu       value * gelu(gate)
 * and row by row:
 *     softmax     exp(x - max) / sum exp(x - max)
 *
 * An element's way back is dx += dy f'(x): each function has its derivative directly below. */
#include "tensor/clones.h"
#include "tensor/stand_in.h"
#include "tensor/tape.h"

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
#define ONE_OVER_SQRT_2PI ((real)0.39894228040143267794)
#define SQRT_HALF ((real)0.70710678118654752440)
#define SQRT_2_OVER_PI ((real)0.79788456080286535588)

/* exp(-x) overflows to infinity for very negative x, and x / infinity is the right 0. */
static real silu_of(real x) { return x / (1 + EXP(-x)); }

/* s = 1 / (1 + exp(-x)),  (x s)' = s + x s (1 - s) */
static real silu_slope(real x) {
    const real s = 1 / (1 + EXP(-x));
    return s * (1 + x * (1 - s));
}

static real gelu_of(real x) { return x / 2 * (1 + ERF(x * SQRT_HALF)); }

/* (x Phi(x))' = Phi(x) + x phi(x), with the normal distribution's function and density */
static real gelu_slope(real x) {
    return (1 + ERF(x * SQRT_HALF)) / 2 + x * EXP(-x * x / 2) * ONE_OVER_SQRT_2PI;
}

static real gelu_new_of(real x) {
    return x / 2 * (1 + TANH(SQRT_2_OVER_PI * (x + (real)0.044715 * x * x * x)));
}

/* t = tanh(u),  u = sqrt(2/pi) (x + 0.044715 x^3):  (1 + t)/2 + x/2 (1 - t^2) u' */
static real gelu_new_slope(real x) {
    const real t = TANH(SQRT_2_OVER_PI * (x + (real)0.044715 * x * x * x));
    const real du = SQRT_2_OVER_PI * (1 + 3 * (real)0.044715 * x * x);
    return (1 + t) / 2 + x / 2 * (1 - t * t) * du;
}

static real quick_gelu_of(real x) { return x / (1 + EXP((real)-1.702 * x)); }

/* s = 1 / (1 + exp(-1.702 x)),  (x s)' = s + 1.702 x s (1 - s) */
static real quick_gelu_slope(real x) {
    const real s = 1 / (1 + EXP((real)-1.702 * x));
    return s * (1 + (real)1.702 * x * (1 - s));
}

typedef struct Map {
    Tensor x;
    real (*slope)(real);
} Map;

static TapeBackward map_backward;

static Tensor map(Context *ctx, Tensor x, real (*f)(real), real (*slope)(real)) {
    if (ctx->error.set) return (Tensor){0};
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(x);
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = f(x.data[i]);
    return is_variable(ctx, x) ? tape_record(ctx, y, map_backward, &(Map){x, slope}, sizeof(Map))
                               : y;
}

/* dx += dy f'(x) */
static void map_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Map *c = call;
    const int64_t n = tensor_numel(y);
    real *dx = tape_gradient(ctx, c->x);
    if (!dx) return;
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) dx[i] += dy[i] * c->slope(c->x.data[i]);
}

/* torch.nn.functional.silu */
Tensor silu(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_SILU, .x = x);
    return map(ctx, x, silu_of, silu_slope);
}

/* torch.nn.functional.gelu */
Tensor gelu(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_GELU, .x = x);
    return map(ctx, x, gelu_of, gelu_slope);
}

/* transformers NewGELUActivation */
Tensor gelu_new(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_GELU_NEW, .x = x);
    return map(ctx, x, gelu_new_of, gelu_new_slope);
}

/* transformers QuickGELUActivation */
Tensor quick_gelu(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_QUICK_GELU, .x = x);
    return map(ctx, x, quick_gelu_of, quick_gelu_slope);
}

static TapeBackward geglu_backward;

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
    return is_variable(ctx, x) ? tape_record(ctx, y, geglu_backward, &x, sizeof x) : y;
}

/* dvalue += dy gelu(gate),  dgate += dy value gelu'(gate) */
static void geglu_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Tensor x = *(const Tensor *)call;
    const int64_t M = tensor_rows(y), C = tensor_cols(y);
    real *dx = tape_gradient(ctx, x);
    if (!dx) return;
    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++) {
        const real *value = x.data + m * 2 * C, *gate = value + C;
        real *dvalue = dx + m * 2 * C, *dgate = dvalue + C;
        for (int64_t c = 0; c < C; c++) {
            dvalue[c] += dy[m * C + c] * gelu_of(gate[c]);
            dgate[c] += dy[m * C + c] * value[c] * gelu_slope(gate[c]);
        }
    }
}

#ifdef LLMDIFF_DOUBLE
INTO_CLONES real exp_nonpositive(real x) { return exp(x); }
#else
/* exp(x), x <= 0, to about 1 ulp, in a form that compilers vectorise (they can't with calls of expf):
 * most of the time of an image's self-attention goes here.
 *     exp(x) = 2^n exp(r),  n = round(x / ln 2),  |r| <= ln(2) / 2,  exp(r) by its Taylor series
 * Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits of the sum. Below -87
 * the result would leave float's normal range: 1.6e-38 is as good as 0 beside the largest term, 1. */
INTO_CLONES real exp_nonpositive(real x) {
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

INTO_CLONES real largest(const real *x, int64_t n) {
    real most[LANES], all = x[0];
    for (int j = 0; j < LANES; j++) most[j] = x[0];
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) most[j] = x[i + j] > most[j] ? x[i + j] : most[j];
    for (; i < n; i++) all = x[i] > all ? x[i] : all;
    for (int j = 0; j < LANES; j++) all = most[j] > all ? most[j] : all;
    return all;
}

INTO_CLONES real sum_of(const real *x, int64_t n) {
    real part[LANES] = {0}, all = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) part[j] += x[i + j];
    for (; i < n; i++) all += x[i];
    for (int j = 0; j < LANES; j++) all += part[j];
    return all;
}

INTO_CLONES real dot_of(const real *x, const real *y, int64_t n) {
    real part[LANES] = {0}, all = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) part[j] += x[i + j] * y[i + j];
    for (; i < n; i++) all += x[i] * y[i];
    for (int j = 0; j < LANES; j++) all += part[j];
    return all;
}

CLONES static void softmax_in_place(real *x, int64_t n) {
    const real max = largest(x, n);
    for (int64_t i = 0; i < n; i++) x[i] = exp_nonpositive(x[i] - max);
    const real sum = sum_of(x, n);
    for (int64_t i = 0; i < n; i++) x[i] /= sum;
}

void softmax_row(real *x, int64_t n) { softmax_in_place(x, n); }

/* dy_i / dx_j = y_i ([i = j] - y_j), hence dx = y (dy - sum_j y_j dy_j). In place: dy becomes dx. */
CLONES static void softmax_in_place_backward(const real *y, real *dy, int64_t n) {
    const real sum = dot_of(y, dy, n);
    for (int64_t i = 0; i < n; i++) dy[i] = y[i] * (dy[i] - sum);
}

void softmax_row_backward(const real *y, real *dy, int64_t n) {
    softmax_in_place_backward(y, dy, n);
}

static TapeBackward softmax_backward;

/* torch.softmax(x, -1) */
Tensor softmax(Context *ctx, Tensor x) {
    if (ctx->error.set) return (Tensor){0};
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    if (ctx->error.set) return (Tensor){0};
    memcpy(y.data, x.data, (size_t)tensor_numel(x) * sizeof(real));
    const int64_t M = tensor_rows(x), C = tensor_cols(x);
    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++) softmax_row(y.data + m * C, C);
    return is_variable(ctx, x) ? tape_record(ctx, y, softmax_backward, &x, sizeof x) : y;
}

static void softmax_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const int64_t M = tensor_rows(y), C = tensor_cols(y);
    real *dx = tape_gradient(ctx, *(const Tensor *)call);
    if (!dx) return;
    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++) {
        const real *p = y.data + m * C, *dp = dy + m * C, sum = dot_of(p, dp, C);
        for (int64_t c = 0; c < C; c++) dx[m * C + c] += p[c] * (dp[c] - sum);
    }
}
