/* Two tensors -> the numbers of a Row. See yardstick.h.
 *
 * Numbers of any magnitude: whatever is squared is brought near 1 by a power of two first, so that
 * sums of squares neither overflow nor vanish. Sums are made block by block, in a fixed order. */
#include "ref/yardstick/yardstick.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 1024 /* elements summed one after the other; their rounding errors add up */

/* ---- units in the last place --------------------------------------------------------------------- */

/* The distance from `magnitude` to the next number of a float type; the least number it has, for 0.
 * 1 for an integer type. */
static double ulp_of(double magnitude, Dtype dtype) {
    static const struct {
        int digits, least; /* of the significand; the exponent of the least normal number */
    } type[] = {[DTYPE_F64] = {53, -1022},
                [DTYPE_F32] = {24, -126},
                [DTYPE_F16] = {11, -14},
                [DTYPE_BF16] = {8, -126}};
    if (!dtype_is_float(dtype)) return 1;
    int exponent = type[dtype].least;
    if (magnitude > 0) {
        int own;
        frexp(magnitude, &own); /* magnitude = 0.5 .. 1 times 2^own */
        if (own - 1 > exponent) exponent = own - 1;
    }
    return ldexp(1, exponent - type[dtype].digits + 1);
}

double four_ulp_of(double magnitude, Dtype dtype) {
    return magnitude > 0 && dtype_is_float(dtype) ? 4 * ulp_of(magnitude, dtype) : 0;
}

bool tensors_alike(const TensorInfo *a, const TensorInfo *b) {
    return a->ndim == b->ndim && memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof *a->dim) == 0 &&
           dtype_is_float(a->dtype) == dtype_is_float(b->dtype);
}

double largest_of(const double *x, int64_t count) {
    double largest = 0;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(x[i])) largest = fmax(largest, fabs(x[i]));
    return largest;
}

/* ---- the largest of everything ------------------------------------------------------------------- */

static bool both_finite(double a, double b) { return isfinite(a) && isfinite(b); }

typedef struct Scan {
    double largest, largest_mine; /* magnitudes, over the elements that are finite in both */
    double error, half_error; /* max |mine - reference|, and half of it: that doesn't overflow */
    int64_t worst;            /* where it is; -1: nowhere, no element is finite in both */
    int64_t nonfinite;        /* of mine */
    int64_t first;            /* the first element that is not finite in both; -1: none */
} Scan;

static Scan scan(const double *ref, const double *mine, int64_t count) {
    Scan s = {.worst = -1, .first = -1};
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(mine[i])) s.nonfinite++;
        if (!both_finite(ref[i], mine[i])) {
            if (s.first < 0) s.first = i;
            continue;
        }
        s.largest = fmax(s.largest, fabs(ref[i]));
        s.largest_mine = fmax(s.largest_mine, fabs(mine[i]));
        double error = fabs(mine[i] - ref[i]), half = fabs(mine[i] / 2 - ref[i] / 2);
        bool larger = isfinite(error) ? error > s.error : isfinite(s.error) || half > s.half_error;
        if (s.worst >= 0 && !larger) continue;
        s.error = error;
        s.half_error = half;
        s.worst = i;
    }
    return s;
}

/* ---- the sums ------------------------------------------------------------------------------------ */

/* A power of two that brings numbers up to `largest` near 1, or as near as a double can. */
static double to_one(double largest, int *exponent) {
    *exponent = 0;
    if (largest > 0) frexp(largest, exponent);
    if (*exponent < -1000) *exponent = -1000; /* 2^1024 is infinite; 2^-74 squared is not 0 */
    return ldexp(1, -*exponent);
}

typedef struct Sums {
    double error, ref, mine, product; /* squares, and the dot product */
} Sums;

/* With every number scaled. */
static Sums add_up(const double *ref, const double *mine, int64_t count, double by_ref,
                   double by_mine, double by_error) {
    Sums all = {0};
    for (int64_t start = 0; start < count; start += BLOCK) {
        int64_t end = count - start < BLOCK ? count : start + BLOCK;
        Sums block = {0};
        for (int64_t i = start; i < end; i++) {
            if (!both_finite(ref[i], mine[i])) continue;
            double r = ref[i] * by_ref, m = mine[i] * by_mine;
            /* Where the plain difference overflows, scaling first loses nothing that counts. */
            double d = mine[i] - ref[i];
            d = isinf(d) ? mine[i] * by_error - ref[i] * by_error : d * by_error;
            block.error += d * d;
            block.ref += r * r;
            block.mine += m * m;
            block.product += r * m;
        }
        all.error += block.error;
        all.ref += block.ref;
        all.mine += block.mine;
        all.product += block.product;
    }
    return all;
}

/* a / b, with nothing divided by nothing as `none`. */
static double ratio(double a, double b, double none) { return a == 0 && b == 0 ? none : a / b; }

static double cosine_of(Sums s) {
    if (s.ref == 0 || s.mine == 0) return s.ref == s.mine ? 1 : 0;
    double c = s.product / sqrt(s.ref * s.mine); /* for equal tensors exactly 1 */
    return fmax(-1, fmin(1, c));
}

/* ---- the row ------------------------------------------------------------------------------------- */

static void fill_measures(Row *row, const double *ref, const double *mine, int64_t count,
                          const Scan *s, Dtype dtype) {
    int e_ref, e_mine, e_error;
    double by_ref = to_one(s->largest, &e_ref), by_mine = to_one(s->largest_mine, &e_mine);
    double by_error = to_one(isinf(s->error) ? s->half_error : s->error, &e_error);
    Sums sums = add_up(ref, mine, count, by_ref, by_mine, by_error);
    row->largest = s->largest;
    row->max_abs = s->error;
    /* An error beyond DBL_MAX is no more than a few times the tensor's largest. */
    row->max_rel =
        isinf(s->error) ? 2 * (s->half_error / s->largest) : ratio(s->error, s->largest, 0);
    row->nmse = ldexp(ratio(sums.error, sums.ref, 0), 2 * (e_error - e_ref));
    row->cosine = cosine_of(sums);
    row->ulp = s->error / ulp_of(s->largest, dtype);
}

void measure(Row *row, const double *ref, const double *mine, int64_t count, Dtype dtype,
             const Tolerance *tolerance) {
    Scan s = scan(ref, mine, count);
    fill_measures(row, ref, mine, count, &s, dtype);
    row->tolerance = *tolerance;
    if (!dtype_is_float(dtype)) {
        row->tolerance = (Tolerance){0};
        snprintf(row->tolerance.source, sizeof row->tolerance.source, "whole numbers: equal");
    }
    row->allowed = row->tolerance.absolute + row->tolerance.relative * row->largest;
    row->nonfinite = s.nonfinite;
    row->worst = s.first >= 0 ? s.first : s.worst >= 0 ? s.worst : 0;
    row->worst_ref = count ? ref[row->worst] : 0;
    row->worst_mine = count ? mine[row->worst] : 0;
    bool close = isfinite(row->max_abs) && row->max_abs <= row->allowed;
    row->verdict = s.first >= 0 ? ROW_NONFINITE : close ? ROW_MATCH : ROW_MISMATCH;
}
