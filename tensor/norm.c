/* Normalisations. Statistics are accumulated in double, the variance in a second pass around the
 * mean (the difference of two large sums would lose it); both builds do the same. Backward computes
 * them again: they cost less than the memory traffic of storing what could be stored.
 *
 *     layer_norm   y = (x - mean) / sqrt(var + eps) * w + b    over the last dimension
 *     rms_norm     y = x / sqrt(mean(x^2) + eps) * w           over the last dimension
 *     group_norm   as layer_norm, over the pixels and neighbouring channels of a group
 *
 * Backward. Let h be the normalised x, so that y = h w + b, and g = dy w, over n elements that share
 * their statistics. h depends on x_j directly (rstd), through the mean and through the variance:
 *     dh_i / dx_j = rstd ([i = j] - 1/n - h_i h_j / n)
 *     dx = rstd (g - mean(g) - h mean(g h)),   dw = sum dy h,   db = sum dy
 * The root mean square has no mean to depend on: dx = rms (g - h mean(g h)). */
#include "tensor/stand_in.h"
#include "tensor/tape.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define GRAIN 65536 /* elements per thread that are worth waking it */
#define STRIP 64    /* rows or pixels whose sum is one term */

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

/* What all three remember of a call. */
typedef struct Norm {
    Tensor x;
    Weight w, b;
    double eps;
    int64_t groups;
} Norm;

static Tensor recorded(Context *ctx, Tensor y, TapeBackward *backward, Norm call) {
    if (!is_variable(ctx, call.x) && !is_trained(ctx, &call.w) && !is_trained(ctx, &call.b))
        return y;
    return tape_record(ctx, y, backward, &call, sizeof call);
}

/* rows of C whose mean is subtracted (layer_norm) or not (rms_norm) */
typedef struct RowStatistics {
    double mean, factor;
} RowStatistics;

static RowStatistics centred(const real *in, int64_t C, double eps) {
    double mean = 0, var = 0;
    for (int64_t c = 0; c < C; c++) mean += (double)in[c];
    mean /= (double)C;
    for (int64_t c = 0; c < C; c++) var += ((double)in[c] - mean) * ((double)in[c] - mean);
    return (RowStatistics){mean, 1 / sqrt(var / (double)C + eps)};
}

static RowStatistics root_mean_square(const real *in, int64_t C, double eps) {
    double square = 0;
    for (int64_t c = 0; c < C; c++) square += (double)in[c] * (double)in[c];
    return (RowStatistics){0, 1 / sqrt(square / (double)C + eps)};
}

static TapeBackward layer_norm_backward, rms_norm_backward, group_norm_backward;

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
        const RowStatistics s = centred(in, C, eps);
        for (int64_t c = 0; c < C; c++)
            out[c] = (real)(((double)in[c] - s.mean) * s.factor) * scale[c] + shift[c];
    }
    arena_release(&ctx->arena, mark);
    return recorded(ctx, y, layer_norm_backward, (Norm){x, *w, weight_kept(b), eps, 0});
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
        const double rms = root_mean_square(in, C, eps).factor;
        for (int64_t c = 0; c < C; c++) out[c] = (real)((double)in[c] * rms) * scale[c];
    }
    arena_release(&ctx->arena, mark);
    return recorded(ctx, y, rms_norm_backward, (Norm){x, *w, {0}, eps, 0});
}

/* dw and db of every strip of rows, added up in the strips' order: the result must not depend on
 * threads. sums [strips, 2, C]: of dy h, and of dy. */
static void affine_backward(const Norm *n, const double *sums, int64_t strips, int64_t C) {
    for (int64_t c = 0; c < C; c++) {
        double dw = 0, db = 0;
        for (int64_t s = 0; s < strips; s++) {
            dw += sums[2 * s * C + c];
            db += sums[(2 * s + 1) * C + c];
        }
        if (n->w.grad) n->w.grad[c] += (real)dw;
        if (n->b.grad) n->b.grad[c] += (real)db;
    }
}

static void row_norm_backward(Context *ctx, const Norm *n, const real *dy,
                              RowStatistics (*statistics)(const real *, int64_t, double),
                              bool has_mean) {
    const int64_t M = tensor_rows(n->x), C = tensor_cols(n->x), strips = (M + STRIP - 1) / STRIP;
    ArenaMark mark = scope_begin(ctx);
    real *scale, *shift, *dx = tape_gradient(ctx, n->x);
    double *sums = scratch_doubles(ctx, strips * 2 * C);
    if (!read_affine(ctx, &n->w, NULL, C, &scale, &shift)) return;
    memset(sums, 0, (size_t)(strips * 2 * C) * sizeof *sums);

    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t s = 0; s < strips; s++)
        for (int64_t m = s * STRIP; m < M && m < (s + 1) * STRIP; m++) {
            const real *in = n->x.data + m * C, *dout = dy + m * C;
            const RowStatistics row = statistics(in, C, n->eps);
            double *dw = sums + 2 * s * C, *db = dw + C, mean_g = 0, mean_gh = 0;
            for (int64_t c = 0; c < C; c++) {
                const double h = ((double)in[c] - row.mean) * row.factor;
                const double g = (double)dout[c] * (double)scale[c];
                mean_g += g;
                mean_gh += g * h;
                dw[c] += (double)dout[c] * h;
                db[c] += (double)dout[c];
            }
            mean_g = has_mean ? mean_g / (double)C : 0;
            mean_gh /= (double)C;
            for (int64_t c = 0; dx && c < C; c++) {
                const double h = ((double)in[c] - row.mean) * row.factor;
                const double g = (double)dout[c] * (double)scale[c];
                dx[m * C + c] += (real)(row.factor * (g - mean_g - h * mean_gh));
            }
        }
    affine_backward(n, sums, strips, C);
    arena_release(&ctx->arena, mark);
}

static void layer_norm_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    (void)y;
    row_norm_backward(ctx, call, dy, centred, true);
}

static void rms_norm_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    (void)y;
    row_norm_backward(ctx, call, dy, root_mean_square, false);
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
 * alone would touch a few bytes of every cache line. */
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

/* The statistics of every channel's group, [B, C] each. */
static void group_statistics(Context *ctx, const Norm *n, double *mean, double *rstd) {
    const int64_t B = n->x.dim[0], C = tensor_cols(n->x), L = tensor_rows(n->x) / B;
    ArenaMark mark = scope_begin(ctx);
    double *zero = scratch_doubles(ctx, B * C);
    double *sums = scratch_doubles(ctx, B * ((L + STRIP - 1) / STRIP) * C);
    if (ctx->error.set) return;
    memset(zero, 0, (size_t)(B * C) * sizeof *zero);
    group_means(ctx, n->x, B, L, C, n->groups, zero, 1, sums, mean);
    group_means(ctx, n->x, B, L, C, n->groups, mean, 2, sums, rstd); /* the variance */
    for (int64_t i = 0; i < B * C; i++) rstd[i] = 1 / sqrt(rstd[i] + n->eps);
    arena_release(&ctx->arena, mark);
}

/* torch.nn.functional.group_norm. x [B, H, W, C] or [B, L, C], w [C], b [C] or NULL */
Tensor group_norm(Context *ctx, Tensor x, const Weight *w, const Weight *b, int64_t groups,
                  double eps) {
    STAND_IN(ctx, OP_GROUP_NORM, .x = x, .w = w, .b = b, .groups = groups, .eps = eps);
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim >= 3 && groups > 0);
    const int64_t B = x.dim[0], C = tensor_cols(x), L = tensor_rows(x) / B;
    assert(C % groups == 0);
    const Norm call = {x, *w, weight_kept(b), eps, groups};
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    ArenaMark mark = scope_begin(ctx);
    double *mean = scratch_doubles(ctx, B * C), *rstd = scratch_doubles(ctx, B * C);
    real *scale, *shift;
    if (!read_affine(ctx, w, b, C, &scale, &shift)) return (Tensor){0};
    group_statistics(ctx, &call, mean, rstd);
    if (ctx->error.set) return (Tensor){0};

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
    return recorded(ctx, y, group_norm_backward, call);
}

/* Two passes over dy: sum_l dy h and sum_l dy of every channel, in strips whose sums are added in
 * order, hold all that dw, db and the groups' means of g and g h are made of; then dx. */
static void group_norm_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Norm *n = call;
    const int64_t B = y.dim[0], C = tensor_cols(y), L = tensor_rows(y) / B, size = C / n->groups;
    const int64_t each = (L + STRIP - 1) / STRIP, strips = B * each;
    ArenaMark mark = scope_begin(ctx);
    double *mean = scratch_doubles(ctx, B * C), *rstd = scratch_doubles(ctx, B * C);
    double *mean_g = scratch_doubles(ctx, B * C), *mean_gh = scratch_doubles(ctx, B * C);
    double *sums = scratch_doubles(ctx, strips * 2 * C);
    real *scale, *shift, *dx = tape_gradient(ctx, n->x);
    if (!read_affine(ctx, &n->w, NULL, C, &scale, &shift)) return;
    group_statistics(ctx, n, mean, rstd);
    if (ctx->error.set) return;
    memset(sums, 0, (size_t)(strips * 2 * C) * sizeof *sums);

    const int threads = parallel_threads(ctx, B * L * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t s = 0; s < strips; s++) {
        const int64_t b = s / each, from = s % each * STRIP;
        double *dw = sums + 2 * s * C, *db = dw + C;
        for (int64_t l = from; l < L && l < from + STRIP; l++)
            for (int64_t c = 0, i = (b * L + l) * C; c < C; c++, i++) {
                const double h = ((double)n->x.data[i] - mean[b * C + c]) * rstd[b * C + c];
                dw[c] += (double)dy[i] * h;
                db[c] += (double)dy[i];
            }
    }
    affine_backward(n, sums, strips, C);
    for (int64_t b = 0; b < B; b++)
        for (int64_t first = 0; first < C; first += size) {
            double g = 0, gh = 0;
            for (int64_t s = b * each; s < (b + 1) * each; s++)
                for (int64_t c = first; c < first + size; c++) {
                    gh += (double)scale[c] * sums[2 * s * C + c];
                    g += (double)scale[c] * sums[(2 * s + 1) * C + c];
                }
            for (int64_t c = first; c < first + size; c++) {
                mean_g[b * C + c] = g / (double)(L * size);
                mean_gh[b * C + c] = gh / (double)(L * size);
            }
        }
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < (dx ? B * L : 0); row++)
        for (int64_t c = 0, k = row / L * C, i = row * C; c < C; c++, k++, i++) {
            const double h = ((double)n->x.data[i] - mean[k]) * rstd[k];
            const double g = (double)dy[i] * (double)scale[c];
            dx[i] += (real)(rstd[k] * (g - mean_g[k] - h * mean_gh[k]));
        }
    arena_release(&ctx->arena, mark);
}
