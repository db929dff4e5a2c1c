/* Hints about a constant for each row or channel: a bias, a norm's weight, a norm. See hints.h. */
#include "ref/yardstick/hints.h"

#include <math.h>
#include <stdlib.h>

/* Greatest |mine - (factor[j] base + offset[j])|, j the index along the axis. */
static double residual_of(const Hints *h, HintAxis a, const double *base, const double *factor,
                          const double *offset) {
    double residual = 0;
    for (int64_t i = 0, at = 0; i < a.outer; i++)
        for (int64_t j = 0; j < a.n; j++)
            for (int64_t k = 0; k < a.inner; k++, at++) {
                double d = fabs(h->mine[at] - (factor[j] * base[at] + offset[j]));
                if (!(d <= h->limit)) return INFINITY;
                residual = fmax(residual, d);
            }
    return residual;
}

typedef enum Fit { FIT_FACTOR, FIT_OFFSET, FIT_BOTH } Fit;

/* mine ~ factor[j] base + offset[j], by least squares. */
static void fit(const Hints *h, HintAxis a, const double *base, Fit kind, double *factor,
                double *offset) {
    for (int64_t j = 0; j < a.n; j++) {
        double n = (double)(a.outer * a.inner), x = 0, y = 0, xx = 0, xy = 0;
        for (int64_t i = 0; i < a.outer; i++)
            for (int64_t k = 0; k < a.inner; k++) {
                int64_t at = (i * a.n + j) * a.inner + k;
                x += base[at];
                y += h->mine[at];
                xx += base[at] * base[at];
                xy += base[at] * h->mine[at];
            }
        double mean = x / n, spread = xx - mean * x;
        factor[j] = kind == FIT_OFFSET                  ? 1
                    : kind == FIT_FACTOR                ? (xx > 0 ? xy / xx : 1)
                    : spread > 1e-12 * fmax(xx, 1e-300) ? (xy - mean * y) / spread
                                                        : 0;
        offset[j] = kind == FIT_FACTOR ? 0 : (y - factor[j] * x) / n;
    }
}

static bool try_fit(Hints *h, int axis, const double *base, Fit kind, double *residual) {
    HintAxis a = hint_around(h, axis);
    double *factor = hint_numbers(h, a.n), *offset = hint_numbers(h, a.n);
    bool good = false;
    if (factor && offset) {
        fit(h, a, base, kind, factor, offset);
        *residual = residual_of(h, a, base, factor, offset);
        good = hint_evident(h, (double)a.n * (kind == FIT_BOTH ? 2 : 1), *residual);
    }
    free(factor);
    free(offset);
    return good;
}

/* Is something wrong in most slices? In a few of them it is the place that tells. */
static bool most_are_wrong(const Hints *h, int axis) {
    HintAxis a = hint_around(h, axis);
    int64_t slices = 0;
    for (int64_t j = 0; j < a.n; j++) {
        bool wrong = false;
        for (int64_t i = 0; i < a.outer && !wrong; i++)
            for (int64_t k = 0; k < a.inner && !wrong; k++) {
                int64_t at = (i * a.n + j) * a.inner + k;
                wrong = fabs(h->mine[at] - h->ref[at]) > h->limit;
            }
        slices += wrong;
    }
    return slices > a.n / 2;
}

static bool per_slice(Hints *h, int axis) {
    double residual;
    if (!most_are_wrong(h, axis)) return false;
    const char *what = hint_axis(h, axis);
    if (try_fit(h, axis, h->ref, FIT_OFFSET, &residual))
        hint_add(h, RANK_SLICES, residual,
                 "mine differs by one constant per %s: a bias%s that is left out, added twice or "
                 "another's",
                 what, h->ndim == 3 && axis == 0 ? " (or the time embedding's projection)" : "");
    else if (try_fit(h, axis, h->ref, FIT_FACTOR, &residual))
        hint_add(h, RANK_SLICES, residual, "mine is the reference times one factor per %s: %s",
                 what,
                 axis == h->ndim - 1 && h->ndim < 3
                     ? "a norm's weight that is left out, applied twice or another's"
                     : "normed over another axis, or a weight that is left out");
    else
        return false;
    return true;
}

/* Rows [count / C, C] normed without weights, to mean 0 (or not) and mean square 1. */
static double *normed(Hints *h, int64_t C, bool centred) {
    double *y = hint_numbers(h, h->count);
    for (int64_t i = 0; y && i < h->count; i += C) {
        double mean = 0, square = 0;
        for (int64_t j = 0; centred && j < C; j++) mean += h->ref[i + j] / (double)C;
        for (int64_t j = 0; j < C; j++)
            square += (h->ref[i + j] - mean) * (h->ref[i + j] - mean) / (double)C;
        for (int64_t j = 0; j < C; j++)
            y[i + j] = (h->ref[i + j] - mean) / sqrt(fmax(square, 1e-300));
    }
    return y;
}

/* mine = norm(ref) with any weight (and bias) per feature: taken after a norm, as hidden_states[-1] is. */
static bool normed_rows(Hints *h) {
    if (h->ndim < 2) return false;
    const int64_t C = h->dim[h->ndim - 1];
    double residual;
    bool found = false;
    for (int centred = 0; centred < 2 && !found && C > 2; centred++) {
        double *y = normed(h, C, centred);
        found = y && try_fit(h, h->ndim - 1, y, centred ? FIT_BOTH : FIT_FACTOR, &residual);
        free(y);
        if (found)
            hint_add(
                h, RANK_SLICES, residual,
                "mine is the reference after %s with a weight%s per %s: taken after a norm, as "
                "hidden_states[-1] of transformers is",
                centred ? "a LayerNorm" : "an RMSNorm", centred ? " and a bias" : "",
                hint_axis(h, h->ndim - 1));
    }
    return found;
}

void hint_slices(Hints *h) {
    if (h->is_integer || h->lowest == h->highest) return;
    for (int axis = h->ndim - 1; axis >= 0; axis--)
        if (h->dim[axis] > 1 && h->dim[axis] < h->count && per_slice(h, axis)) return;
    normed_rows(h);
}
