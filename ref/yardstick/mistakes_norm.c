/* Norms with a mistake, written out plainly. See mistakes.h. */
#include "ref/yardstick/mistakes.h"

#include <math.h>

/* A norm over sets of elements: the rows, or the groups of a picture's channels. */
typedef struct NormAs {
    bool centred, interleaved, unbiased, eps_outside, plus_one;
    const Weight *w, *b;  /* NULL: none */
    int64_t sets, groups; /* groups of channels in each of the pictures; 1 */
    double eps;
} NormAs;

static int64_t group_of(const NormAs *n, int64_t c, int64_t C) {
    return n->interleaved ? c % n->groups : c / (C / n->groups);
}

/* x [sets, L, C]: the mean of (x - mean)^power of each group of each set, in out [sets, groups]. */
static void moments(const NormAs *n, Tensor x, const double *mean, int power, double *out) {
    const int64_t C = tensor_cols(x), L = tensor_rows(x) / n->sets;
    for (int64_t i = 0; i < n->sets * n->groups; i++) out[i] = 0;
    for (int64_t s = 0; s < n->sets; s++)
        for (int64_t l = 0; l < L; l++)
            for (int64_t c = 0; c < C; c++) {
                const int64_t g = s * n->groups + group_of(n, c, C);
                double d = (double)x.data[(s * L + l) * C + c] - (mean ? mean[g] : 0);
                out[g] += power == 1 ? d : d * d;
            }
    double count = (double)(L * C / n->groups);
    if (power == 2 && n->unbiased) count -= 1;
    for (int64_t i = 0; i < n->sets * n->groups; i++) out[i] /= count;
}

static double *doubles(Context *ctx, int64_t n) {
    return (double *)(void *)scratch_reals(ctx, (size_t)n * (sizeof(double) / sizeof(real)) + 1);
}

static Tensor norm_as(Context *ctx, const NormAs *n, Tensor x) {
    const int64_t C = tensor_cols(x), L = tensor_rows(x) / n->sets;
    Tensor y = tensor_copy(ctx, x);
    real *w = scratch_reals(ctx, (size_t)C), *b = scratch_reals(ctx, (size_t)C);
    double *mean = doubles(ctx, n->sets * n->groups), *square = doubles(ctx, n->sets * n->groups);
    if (ctx->error.set) return (Tensor){0};
    for (int64_t c = 0; c < C; c++) w[c] = 1, b[c] = 0;
    if (n->w) weight_read(n->w, 0, C, w);
    if (n->b) weight_read(n->b, 0, C, b);
    moments(n, x, NULL, 1, mean);
    if (!n->centred)
        for (int64_t i = 0; i < n->sets * n->groups; i++) mean[i] = 0;
    moments(n, x, mean, 2, square);
    for (int64_t i = 0; i < tensor_numel(x); i++) {
        const int64_t c = i % C, g = i / (L * C) * n->groups + group_of(n, c, C);
        double root = n->eps_outside ? sqrt(square[g]) + n->eps : sqrt(square[g] + n->eps);
        y.data[i] =
            (real)(((double)x.data[i] - mean[g]) / root) * (n->plus_one ? 1 + w[c] : w[c]) + b[c];
    }
    return y;
}

static NormAs as_it_is(const OperatorCall *call) {
    const bool grouped = call->op == OP_GROUP_NORM;
    return (NormAs){.centred = call->op != OP_RMS_NORM,
                    .w = call->w,
                    .b = call->b,
                    .sets = grouped ? call->x.dim[0] : tensor_rows(call->x),
                    .groups = grouped ? call->groups : 1,
                    .eps = call->eps};
}

bool mistaken_eps(Context *ctx, const OperatorCall *call, double eps, Tensor *y) {
    if (eps == call->eps) return false;
    NormAs n = as_it_is(call);
    n.eps = eps;
    *y = norm_as(ctx, &n, call->x);
    return true;
}

/* Changes n; false where that is no change, or not this norm's. */
static bool change(NormAs *n, const OperatorCall *call, NormMistake which) {
    const NormAs was = *n;
    const int64_t C = tensor_cols(call->x);
    const bool grouped = call->op == OP_GROUP_NORM, rms = call->op == OP_RMS_NORM;
    switch (which) {
    case NORM_NO_BIAS: n->b = NULL; return was.b != NULL;
    case NORM_NO_WEIGHT: n->w = NULL; return true;
    case NORM_WEIGHT_PLUS_ONE: n->plus_one = true; return rms;
    case NORM_NOT_CENTRED: n->centred = false; return !rms;
    case NORM_CENTRED: n->centred = true; return rms;
    case NORM_UNBIASED: n->unbiased = true; return C > 1;
    case NORM_EPS_OUTSIDE: n->eps_outside = true; return true;
    case NORM_INTERLEAVED: n->interleaved = true; return grouped && n->groups > 1 && n->groups < C;
    case NORM_GROUPS_HALF: n->groups /= 2; break;
    case NORM_GROUPS_TWICE: n->groups *= 2; break;
    case NORM_GROUPS_ONE: n->groups = 1; break;
    case NORM_GROUPS_ALL: n->groups = C; break;
    case NORM_GROUPS_32: n->groups = 32; break;
    case NORM_EPS: return false;
    }
    return grouped && n->groups > 0 && C % n->groups == 0 && n->groups != was.groups;
}

bool mistaken_norm(Context *ctx, const OperatorCall *call, double which, Tensor *y) {
    NormAs n = as_it_is(call);
    if (!change(&n, call, (NormMistake)which)) return false;
    *y = norm_as(ctx, &n, call->x);
    return true;
}
