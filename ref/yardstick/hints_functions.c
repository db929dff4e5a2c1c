/* Hints about functions of each element: an activation too much or left out, a range cut off, fewer
 * bits than the type has. See hints.h. */
#include "ref/yardstick/hints.h"

#include <math.h>
#include <stdio.h>

/* ---- precision --------------------------------------------------------------------------------- */

typedef struct Precision {
    const char *name;
    Dtype dtype;
    int bits;       /* of the significand, the hidden one included */
    int lowest;     /* exponent of the smallest normal number */
    double largest; /* finite number */
    double error;   /* relative, that a network computed in it may well have: compare's default */
} Precision;

/* The narrower first: what fits bfloat16 fits float32. */
static const Precision precisions[] = {
    {"bfloat16", DTYPE_BF16, 8, -126, 3.3895313892515355e38, 5e-2},
    {"float16", DTYPE_F16, 11, -14, 65504, 1e-2},
    {"float32", DTYPE_F32, 24, -126, 3.4028234663852886e38, 1e-4},
};

/* Is x one of the numbers of that type? */
static bool fits(double x, const Precision *p) {
    int exponent;
    if (x == 0) return true;
    if (fabs(x) > p->largest) return false;
    frexp(x, &exponent); /* |x| in [0.5, 1) 2^exponent */
    int unit = (exponent - 1 < p->lowest ? p->lowest : exponent - 1) - (p->bits - 1);
    double scaled = ldexp(x, -unit);
    return scaled == nearbyint(scaled);
}

static int64_t fitting(const double *x, int64_t n, const Precision *p, bool all) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (fits(x[i], p))
            count++;
        else if (all)
            return count;
    }
    return count;
}

/* One number can't show what type it has, but it can be what the reference's rounds to: 501 is 500 as
 * bfloat16, which is no index that is counted otherwise. */
static bool one_rounded(Hints *h, const Precision *p) {
    int exponent;
    if (h->count != 1 || h->ref[0] == 0) return false;
    frexp(h->ref[0], &exponent);
    const double unit =
        ldexp(1, (exponent - 1 < p->lowest ? p->lowest : exponent - 1) - p->bits + 1);
    if (nearbyint(h->ref[0] / unit) * unit != h->mine[0]) return false;
    const double by = h->mine[0] - h->ref[0];
    char also[80] = "";
    if (fabs(by) == 1)
        snprintf(also, sizeof also, "; or it is the reference %s 1", by > 0 ? "plus" : "minus");
    hint_add(h, RANK_PRECISION, -1, "mine is the reference rounded to %s%s", p->name, also);
    return true;
}

/* Every number of mine would fit a narrower type than the one it is stored in, and the reference's
 * (rounded to mine's type) would not: mine was computed in that type, or passed through it. */
void hint_precision(Hints *h) {
    Dtype stored = h->row->mine.dtype;
    if (stored != DTYPE_F64 && stored != DTYPE_F32) return;
    for (size_t i = 0; i < sizeof precisions / sizeof *precisions; i++) {
        const Precision *p = &precisions[i];
        if (stored == DTYPE_F32 && p->dtype == DTYPE_F32) return;
        if (fitting(h->mine, h->count, p, true) < h->count) continue;
        int64_t others = 0;
        for (int64_t k = 0; k < h->count; k++)
            others += !fits(stored == DTYPE_F32 ? (double)(float)h->ref[k] : h->ref[k], p);
        if (others < 2 && one_rounded(h, p)) return;
        if (others < 2 || !(h->error <= p->error * h->largest)) return;
        hint_add(
            h, RANK_PRECISION, -1,
            "mine has a lower precision than claimed: it is stored as %s, but every number of it "
            "fits %s, and an error of %.0e of the largest value is what %s makes",
            dtype_name(stored), p->name, h->error / h->largest, p->name);
        return;
    }
}

/* ---- functions --------------------------------------------------------------------------------- */

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double silu_of(double x) { return x * sigmoid(x); }
static double gelu_of(double x) { return 0.5 * x * (1 + erf(x * 0.7071067811865476)); }
static double gelu_tanh_of(double x) {
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}
static double quick_gelu_of(double x) { return x * sigmoid(1.702 * x); }
static double relu_of(double x) { return x > 0 ? x : 0; }
static double softplus_of(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }
static double square_of(double x) { return x * x; }
static double inverse_of(double x) { return 1 / x; }

typedef struct Function {
    const char *name;
    double (*of)(double x);
} Function;

static const Function functions[] = {
    {"SiLU", silu_of},
    {"erf GELU", gelu_of},
    {"tanh GELU", gelu_tanh_of},
    {"quick GELU", quick_gelu_of},
    {"ReLU", relu_of},
    {"tanh", tanh},
    {"the sigmoid", sigmoid},
    {"softplus", softplus_of},
    {"exp", exp},
    {"the square", square_of},
    {"the inverse", inverse_of},
    {"the absolute value", fabs},
    {"the sine", sin},
    {"the cosine", cos},
};

/* Greatest |b - f(a)|, in mine's units only where b is mine; INFINITY above `limit`. */
static double residual_of(const Hints *h, double (*f)(double), const double *a, const double *b,
                          double limit) {
    double residual = 0;
    for (int i = 0; i < h->probes; i++)
        if (!(fabs(b[h->probe[i]] - f(a[h->probe[i]])) <= limit)) return INFINITY;
    for (int64_t i = 0; i < h->count; i++) {
        double d = fabs(b[i] - f(a[i]));
        if (!(d <= limit)) return INFINITY;
        residual = fmax(residual, d);
    }
    return residual;
}

static bool one_function(Hints *h, const Function *f) {
    double forth = residual_of(h, f->of, h->ref, h->mine, h->limit);
    /* Where mine is far larger than the reference, so is what is a small residual of mine. */
    double back = residual_of(h, f->of, h->mine, h->ref, fmin(h->limit, h->largest / 100));
    if (hint_evident(h, 0, forth))
        hint_add(h, RANK_FUNCTION, forth,
                 "mine is %s of the reference: applied once too often, or "
                 "the tensor was taken one step later",
                 f->name);
    else if (hint_evident(h, 0, back))
        hint_add(h, RANK_FUNCTION, back,
                 "the reference is %s of mine: left out, or the tensor was "
                 "taken one step earlier",
                 f->name);
    else
        return false;
    return true;
}

/* ---- cut off, and rounded to levels --------------------------------------------------------------- */

/* mine = min(max(ref, low), high), several elements at the bound. */
static bool clamped(Hints *h) {
    double low = INFINITY, high = -INFINITY, residual = 0;
    for (int64_t i = 0; i < h->count; i++) {
        low = fmin(low, h->mine[i]);
        high = fmax(high, h->mine[i]);
    }
    int64_t at_low = 0, at_high = 0;
    for (int64_t i = 0; i < h->count; i++) {
        double d = fabs(h->mine[i] - fmin(fmax(h->ref[i], low), high));
        if (!(d <= h->limit)) return false;
        residual = fmax(residual, d);
        at_low += h->mine[i] == low && h->ref[i] < low;
        at_high += h->mine[i] == high && h->ref[i] > high;
    }
    const bool cut_low = at_low >= 4, cut_high = at_high >= 4;
    if (!hint_evident(h, 2, residual) || (!cut_low && !cut_high)) return false;
    char below[48] = "", above[48] = "";
    if (cut_low) snprintf(below, sizeof below, " below at %.6g", low);
    if (cut_high) snprintf(above, sizeof above, " above at %.6g", high);
    hint_add(h, RANK_FUNCTION, residual, "mine is the reference cut off%s%s%s", below,
             cut_low && cut_high ? " and" : "", above);
    return true;
}

/* A picture that went through bytes: -1 .. 1 in steps of 1 / 127.5, or 0 .. 1 in steps of 1 / 255. */
static bool levels(Hints *h) {
    if (h->count < 64 || !(h->error <= 1.05 / 127.5)) return false;
    int64_t others = 0;
    for (int64_t i = 0; i < h->count; i++) {
        double level = (h->mine[i] + 1) * 127.5, of_ref = (h->ref[i] + 1) * 127.5;
        if (!(fabs(level - nearbyint(level)) <= 1e-4 && level > -0.5 && level < 255.5))
            return false;
        others += fabs(of_ref - nearbyint(of_ref)) > 1e-2;
    }
    if (others < h->count / 2) return false;
    hint_add(
        h, RANK_PRECISION, -1,
        "mine has been a picture of 8 bits: every value is k / 127.5 - 1; the reference is from "
        "before rounding");
    return true;
}

void hint_function(Hints *h) {
    if (h->is_integer || h->lowest == h->highest || clamped(h) || levels(h)) return;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (one_function(h, &functions[i])) return;
}
