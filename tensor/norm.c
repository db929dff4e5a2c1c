/* Normalisations. Statistics are accumulated in double, the variance in a second pass around the
 * mean (the difference of two large sums would lose it); both builds do the same.
 *
 *     layer_norm   y = (x - mean) / sqrt(var + eps) * w + b    over the last dimension
 *     rms_norm     y = x / sqrt(mean(x^2) + eps) * w           over the last dimension
 *     group_norm   as layer_norm, over the pixels and neighbouring channels of a group */
#include "tensor/stand_in.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define GRAIN 65536 /* elements per thread that are worth waking it */

static double *scratch_doubles(Context *ctx, int64_t n) {
    return (double *)(void *)scratch_reals(ctx, (size_t)n * (sizeof(double) / sizeof(real)));
}

/* w and b as reals [C] each, b zero if there is none; false if out of memory. */
static bool read_affine(Context *ctx, const Weight *w, const Weight *b, int64_t C, real **scale,
                        real **shift) {
    assert(w->ndim == 1 && w->dim[0] == C);
    assert(!b || (b->ndim == 1 && b->dim[0] == C));
    *scale = scratch_reals(ctx, (size_t)C);
    *shift = scratch_reals(ctx, (size_t)C);
    if (ctx->error.set) return false;
    weight_read(w, 0, C, *scale);
    if (b)
        weight_read(b, 0, C, *shift);
    else
        memset(*shift, 0, (size_t)C * sizeof(real));
    return true;
}

/* torch.nn.functional.layer_norm. x [..., C], w [C], b [C] or NULL */
Tensor layer_norm(Context *ctx, Tensor x, const Weight *w, const Weight *b, double eps) {
    STAND_IN(ctx, OP_LAYER_NORM, .x = x, .w = w, .b = b, .eps = eps);
    if (ctx->error.set) return (Tensor){0};
    const int64_t M = tensor_rows(x), C = tensor_cols(x);
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    ArenaMark mark = scope_begin(ctx);
    real *scale, *shift;
    if (!read_affine(ctx, w, b, C, &scale, &shift)) return (Tensor){0};

    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++) {
        const real *in = x.data + m * C;
        real *out = y.data + m * C;
        double mean = 0, var = 0;
        for (int64_t c = 0; c < C; c++) mean += (double)in[c];
        mean /= (double)C;
        for (int64_t c = 0; c < C; c++) var += ((double)in[c] - mean) * ((double)in[c] - mean);
        const double rstd = 1 / sqrt(var / (double)C + eps);
        for (int64_t c = 0; c < C; c++)
            out[c] = (real)(((double)in[c] - mean) * rstd) * scale[c] + shift[c];
    }
    arena_release(&ctx->arena, mark);
    return y;
}

/* x / sqrt(mean(x^2) + eps) * w: transformers LlamaRMSNorm. x [..., C], w [C] */
Tensor rms_norm(Context *ctx, Tensor x, const Weight *w, double eps) {
    STAND_IN(ctx, OP_RMS_NORM, .x = x, .w = w, .eps = eps);
    if (ctx->error.set) return (Tensor){0};
    const int64_t M = tensor_rows(x), C = tensor_cols(x);
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    ArenaMark mark = scope_begin(ctx);
    real *scale, *shift;
    if (!read_affine(ctx, w, NULL, C, &scale, &shift)) return (Tensor){0};

    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++) {
        const real *in = x.data + m * C;
        real *out = y.data + m * C;
        double square = 0;
        for (int64_t c = 0; c < C; c++) square += (double)in[c] * (double)in[c];
        const double rms = 1 / sqrt(square / (double)C + eps);
        for (int64_t c = 0; c < C; c++) out[c] = (real)((double)in[c] * rms) * scale[c];
    }
    arena_release(&ctx->arena, mark);
    return y;
}

/* Adds up a strip of pixels per channel: sum[c] = sum_l (x[l, c] - mean[c])^power, power 1 or 2. */
static void channel_sums(const real *x, int64_t L, int64_t C, const double *mean, int power,
                         double *sum) {
    for (int64_t c = 0; c < C; c++) sum[c] = 0;
    for (int64_t l = 0; l < L; l++)
        for (int64_t c = 0; c < C; c++) {
            const double d = (double)x[l * C + c] - mean[c];
            sum[c] += power == 1 ? d : d * d;
        }
}

/* The mean of (x - mean)^power of each group, written to all channels of the group. Whole pixels are
 * read in memory order, in strips of fixed size whose sums are added in order: a group's channels
 * alone would touch a few bytes of every cache line, and the result must not depend on threads. */
#define STRIP 64
static void group_means(const Context *ctx, Tensor x, int64_t B, int64_t L, int64_t C,
                        int64_t groups, const double *mean, int power, double *sums, double *out) {
    const int64_t strips = (L + STRIP - 1) / STRIP, size = C / groups;
    const int threads = parallel_threads(ctx, B * L * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t s = 0; s < B * strips; s++) {
        const int64_t b = s / strips, l = s % strips * STRIP, count = L - l < STRIP ? L - l : STRIP;
        channel_sums(x.data + (b * L + l) * C, count, C, mean + b * C, power, sums + s * C);
    }
    for (int64_t b = 0; b < B; b++)
        for (int64_t g = 0; g < groups; g++) {
            double total = 0;
            for (int64_t s = b * strips; s < (b + 1) * strips; s++)
                for (int64_t c = g * size; c < (g + 1) * size; c++) total += sums[s * C + c];
            for (int64_t c = g * size; c < (g + 1) * size; c++)
                out[b * C + c] = total / (double)(L * size);
        }
}

/* torch.nn.functional.group_norm. x [B, H, W, C] or [B, L, C], w [C], b [C] or NULL */
Tensor group_norm(Context *ctx, Tensor x, const Weight *w, const Weight *b, int64_t groups,
                  double eps) {
    STAND_IN(ctx, OP_GROUP_NORM, .x = x, .w = w, .b = b, .groups = groups, .eps = eps);
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim >= 3 && groups > 0);
    const int64_t B = x.dim[0], C = tensor_cols(x), L = tensor_rows(x) / B;
    assert(C % groups == 0);
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    ArenaMark mark = scope_begin(ctx);
    double *zero = scratch_doubles(ctx, B * C);
    double *mean = scratch_doubles(ctx, B * C);
    double *rstd = scratch_doubles(ctx, B * C); /* until the root is taken, the variance */
    double *sums = scratch_doubles(ctx, B * ((L + STRIP - 1) / STRIP) * C);
    real *scale, *shift;
    if (!read_affine(ctx, w, b, C, &scale, &shift)) return (Tensor){0};

    memset(zero, 0, (size_t)(B * C) * sizeof *zero);
    group_means(ctx, x, B, L, C, groups, zero, 1, sums, mean);
    group_means(ctx, x, B, L, C, groups, mean, 2, sums, rstd);
    for (int64_t i = 0; i < B * C; i++) rstd[i] = 1 / sqrt(rstd[i] + eps);
    const int threads = parallel_threads(ctx, B * L * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < B * L; row++) {
        const int64_t first = row / L * C; /* this picture's statistics */
        for (int64_t c = 0; c < C; c++) {
            const double d = (double)x.data[row * C + c] - mean[first + c];
            const real normed = (real)(d * rstd[first + c]);
            y.data[row * C + c] = normed * scale[c] + shift[c];
        }
    }
    arena_release(&ctx->arena, mark);
    return y;
}
