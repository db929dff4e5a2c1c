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
#    define TANH tanh
#else
#    define TANH tanhf
#endif

#define GRAIN 16384 /* elements per thread that are worth waking it */
#define CHUNK 4096  /* elements that a thread does at once */
#define ONE_OVER_SQRT_2PI ((real)0.39894228040143267794)
#define SQRT_HALF ((real)0.70710678118654752440)
#define SQRT_2_OVER_PI ((real)0.79788456080286535588)

/* ---- functions of one number ----------------------------------------------------------------------- */

#ifdef LLMDIFF_DOUBLE
INTO_CLONES real exp_nonpositive(real x) { return exp(x); }
#else
/* exp(x), x <= 0, to about 1 ulp, in a form that compilers vectorise (they can't with calls of expf):
 * softmax, silu and gelu spend most of their time here.
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

#ifdef LLMDIFF_DOUBLE
INTO_CLONES real sigmoid_times(real x, real y) { return y / (1 + exp(-x)); }

/* The normal distribution's function and, in *density, its derivative. */
INTO_CLONES real normal(real x, real *density) {
    *density = exp(-x * x / 2) * ONE_OVER_SQRT_2PI;
    return (1 + erf(x * SQRT_HALF)) / 2;
}
#else
/* The same that ends in 0, for what is multiplied by a large x. */
INTO_CLONES real exp_to_zero(real x) { return x < -87 ? 0 : exp_nonpositive(x); }

/* 1 / (1 + exp(-x)) times y, by the exponential that can't overflow. */
INTO_CLONES real sigmoid_times(real x, real y) {
    const float e = exp_to_zero(x < 0 ? x : -x);
    return (x < 0 ? y * e : y) / (1 + e);
}

/* The normal distribution's function and, in *density, its derivative. Around 0
 *     Phi(x) = 1/2 + x r(x^2)
 * and from |x| = 1.5 on, with y = |x| and t = 1 / (1 + 0.35 y),
 *     Phi(-y) = exp(-y^2 / 2) t p(t)
 * r and p are polynomials, fitted to what they stand for: r is off by 9e-10, p by 3.2e-8 of it. */
INTO_CLONES real normal(real x, real *density) {
    const float y = x < 0 ? -x : x, s = x * x;
    const float e = exp_to_zero(s / -2), t = 1 / (1 + 0.35f * y);
    float r = 4.13855219e-07f;
    r = r * s - 8.73393765e-06f;
    r = r * s + 1.14396324e-04f;
    r = r * s - 1.18653558e-03f;
    r = r * s + 9.97326616e-03f;
    r = r * s - 6.64903373e-02f;
    r = r * s + 0.398942292f;
    float p = -0.02914593f;
    p = p * t + 0.143971696f;
    p = p * t - 0.255714238f;
    p = p * t + 0.159174159f;
    p = p * t - 0.0231098291f;
    p = p * t + 0.105508f;
    p = p * t + 0.119832866f;
    p = p * t + 0.139861867f;
    p = p * t + 0.139621407f;
    const float tail = e * (t * p);
    *density = e * ONE_OVER_SQRT_2PI;
    return y < 1.5f ? 0.5f + x * r : x < 0 ? tail : 1 - tail;
}
#endif

INTO_CLONES real silu_of(real x) { return sigmoid_times(x, x); }

/* s = 1 / (1 + exp(-x)),  (x s)' = s + x s (1 - s) */
INTO_CLONES real silu_slope(real x) {
    const real s = sigmoid_times(x, 1);
    return s * (1 + x * (1 - s));
}

INTO_CLONES real gelu_of(real x) {
    real density;
    return x * normal(x, &density);
}

/* (x Phi(x))' = Phi(x) + x phi(x), with the normal distribution's function and density */
INTO_CLONES real gelu_slope(real x) {
    real density;
    const real phi = normal(x, &density);
    return phi + x * density;
}

INTO_CLONES real gelu_new_of(real x) {
    return x / 2 * (1 + TANH(SQRT_2_OVER_PI * (x + (real)0.044715 * x * x * x)));
}

/* t = tanh(u),  u = sqrt(2/pi) (x + 0.044715 x^3):  (1 + t)/2 + x/2 (1 - t^2) u' */
INTO_CLONES real gelu_new_slope(real x) {
    const real t = TANH(SQRT_2_OVER_PI * (x + (real)0.044715 * x * x * x));
    const real du = SQRT_2_OVER_PI * (1 + 3 * (real)0.044715 * x * x);
    return (1 + t) / 2 + x / 2 * (1 - t * t) * du;
}

INTO_CLONES real quick_gelu_of(real x) { return sigmoid_times((real)1.702 * x, x); }

/* s = 1 / (1 + exp(-1.702 x)),  (x s)' = s + 1.702 x s (1 - s) */
INTO_CLONES real quick_gelu_slope(real x) {
    const real s = sigmoid_times((real)1.702 * x, 1);
    return s * (1 + (real)1.702 * x * (1 - s));
}

/* ---- each of them for many ------------------------------------------------------------------------- */

/* y = f(x) and, below it, dx += dy f'(x), of n numbers. */
typedef void Forward(int64_t n, const real *x, real *y);
typedef void Backward(int64_t n, const real *x, const real *dy, real *dx);

#define FOR_MANY(f)                                                                                \
    CLONES static void f##_forward(int64_t n, const real *x, real *y) {                            \
        for (int64_t i = 0; i < n; i++) y[i] = f##_of(x[i]);                                       \
    }                                                                                              \
    CLONES static void f##_backward(int64_t n, const real *x, const real *dy, real *dx) {          \
        for (int64_t i = 0; i < n; i++) dx[i] += dy[i] * f##_slope(x[i]);                          \
    }

FOR_MANY(silu)
FOR_MANY(gelu)
FOR_MANY(gelu_new)
FOR_MANY(quick_gelu)

typedef struct Map {
    Tensor x;
    Backward *backward;
} Map;

static TapeBackward map_backward;

static int64_t chunk_at(int64_t chunk, int64_t n) {
    return n - chunk * CHUNK < CHUNK ? n - chunk * CHUNK : CHUNK;
}

static Tensor map(Context *ctx, Tensor x, Forward *f, Backward *backward) {
    if (ctx->error.set) return (Tensor){0};
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(x), chunks = (n + CHUNK - 1) / CHUNK;
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t k = 0; k < chunks; k++) f(chunk_at(k, n), x.data + k * CHUNK, y.data + k * CHUNK);
    if (!is_variable(ctx, x)) return y;
    return tape_record(ctx, y, map_backward, &(Map){x, backward}, sizeof(Map));
}

/* dx += dy f'(x) */
static void map_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Map *c = call;
    const int64_t n = tensor_numel(y), chunks = (n + CHUNK - 1) / CHUNK;
    real *dx = tape_gradient(ctx, c->x);
    if (!dx) return;
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t k = 0; k < chunks; k++)
        c->backward(chunk_at(k, n), c->x.data + k * CHUNK, dy + k * CHUNK, dx + k * CHUNK);
}

/* torch.nn.functional.silu */
Tensor silu(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_SILU, .x = x);
    return map(ctx, x, silu_forward, silu_backward);
}

/* torch.nn.functional.gelu */
Tensor gelu(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_GELU, .x = x);
    return map(ctx, x, gelu_forward, gelu_backward);
}

/* transformers NewGELUActivation */
Tensor gelu_new(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_GELU_NEW, .x = x);
    return map(ctx, x, gelu_new_forward, gelu_new_backward);
}

/* transformers QuickGELUActivation */
Tensor quick_gelu(Context *ctx, Tensor x) {
    STAND_IN(ctx, OP_QUICK_GELU, .x = x);
    return map(ctx, x, quick_gelu_forward, quick_gelu_backward);
}

/* y = value gelu(gate), n of each */
CLONES static void geglu_row(int64_t n, const real *value, const real *gate, real *y) {
    for (int64_t i = 0; i < n; i++) y[i] = value[i] * gelu_of(gate[i]);
}

/* dvalue += dy gelu(gate),  dgate += dy value gelu'(gate) */
CLONES static void geglu_row_backward(int64_t n, const real *value, const real *gate,
                                      const real *dy, real *dvalue, real *dgate) {
    for (int64_t i = 0; i < n; i++) {
        real density;
        const real phi = normal(gate[i], &density);
        dvalue[i] += dy[i] * gate[i] * phi;
        dgate[i] += dy[i] * value[i] * (phi + gate[i] * density);
    }
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
        const real *value = x.data + m * 2 * C;
        geglu_row(C, value, value + C, y.data + m * C);
    }
    return is_variable(ctx, x) ? tape_record(ctx, y, geglu_backward, &x, sizeof x) : y;
}

static void geglu_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Tensor x = *(const Tensor *)call;
    const int64_t M = tensor_rows(y), C = tensor_cols(y);
    real *dx = tape_gradient(ctx, x);
    if (!dx) return;
    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++) {
        const real *value = x.data + m * 2 * C;
        real *dvalue = dx + m * 2 * C;
        geglu_row_backward(C, value, value + C, dy + m * C, dvalue, dvalue + C);
    }
}

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
