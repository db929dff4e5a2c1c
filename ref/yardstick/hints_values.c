/* Hints about the values as such: zeros, a constant, a factor, an offset. See hints.h. */
#include "ref/yardstick/hints.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- zeros and constants ----------------------------------------------------------------------- */

void hint_constant(Hints *h) {
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < h->count; i++) {
        low = fmin(low, h->mine[i]);
        high = fmax(high, h->mine[i]);
    }
    if (h->largest == 0) {
        hint_add(
            h, RANK_FACT, -1,
            "the reference is exactly zero here, mine goes up to %.3g: two numbers that are the "
            "same must be computed the same way, to cancel",
            h->mine_largest);
    } else if (h->mine_largest == 0) {
        hint_add(h, RANK_FACT, -1,
                 "mine is zero everywhere, the reference goes up to %.3g: never written, or "
                 "multiplied by nothing",
                 h->largest);
    } else if (low == high && h->lowest < h->highest && h->count >= 4) {
        hint_add(h, RANK_FACT, -1, "mine is %.6g in every element, the reference is not constant",
                 low);
    }
}

/* ---- factor and offset ------------------------------------------------------------------------- */

typedef struct Constant {
    double value;
    const char *name;
} Constant;

/* What gets multiplied in twice or forgotten; each also stands for its inverse. */
static const Constant constants[] = {
    {2, "2"},
    {3, "3"},
    {4, "4"},
    {10, "10"},
    {100, "100"},
    {1000, "1000"},
    {1.4142135623730951, "sqrt(2)"},
    {1.7320508075688772, "sqrt(3)"},
    {0.18215, "0.18215, the scaling factor of SD 1.5's VAE"},
    {0.13025, "0.13025, the scaling factor of SDXL's VAE"},
    {7.5, "7.5, the usual guidance scale"},
    {14.614640, "14.6146, SD 1.5's largest sigma"},
    {5.656854249492381, "sqrt(32), the root of a head size"},
    {6.324555320336759, "sqrt(40), the root of a head size"},
    {8, "8, or sqrt(64), the root of a head size"},
    {8.94427190999916, "sqrt(80), the root of a head size"},
    {11.313708498984761, "sqrt(128), the root of a head size"},
    {12.649110640673518, "sqrt(160), the root of a head size"},
    {0.6931471805599453, "ln 2: base 2 for base e"},
    {2.718281828459045, "e: exp(1)"},
    {3.141592653589793, "pi"},
    {6.283185307179586, "2 pi"},
    {57.29577951308232, "180 / pi: degrees for radians"},
    {0.7978845608028654, "sqrt(2 / pi)"},
    {255, "255"},
    {127.5, "127.5"},
    {1.702, "1.702, quick GELU's constant"},
};

/* Names a factor that is known to a relative `sure`: into `text`, and true; else false. */
static bool name_factor(const Hints *h, double factor, double sure, char *text, size_t size) {
    double size_of = fabs(factor);
    const char *minus = factor < 0 ? "minus " : "";
    if (!(sure <= 2e-3)) return false;
    sure = fmax(sure, 1e-7);
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        const Constant *c = &constants[i];
        if (fabs(size_of / c->value - 1) <= sure)
            return snprintf(text, size, "%s%s", minus, c->name), true;
        if (fabs(size_of * c->value - 1) <= sure)
            return snprintf(text, size, "%s1 / %s", minus, c->name), true;
    }
    for (int i = 0; i < h->ndim; i++) {
        /* A sum for a mean, or an attention's width for its root. */
        double n = (double)h->dim[i], root = sqrt(n);
        if (n < 3) continue;
        if (fabs(size_of / n - 1) <= sure || fabs(size_of * n - 1) <= sure)
            return snprintf(text, size, "%s%s%lld, the length of axis %d", minus,
                            size_of < 1 ? "1 / " : "", (long long)h->dim[i], i),
                   true;
        if (fabs(size_of / root - 1) <= sure || fabs(size_of * root - 1) <= sure)
            return snprintf(text, size, "%s%ssqrt(%lld), the root of axis %d's length", minus,
                            size_of < 1 ? "1 / " : "", (long long)h->dim[i], i),
                   true;
    }
    return false;
}

/* Greatest |mine - (factor ref + offset)|; INFINITY above the limit. */
static double residual_of(const Hints *h, double factor, double offset) {
    double residual = 0;
    for (int64_t i = 0; i < h->count; i++) {
        double d = fabs(h->mine[i] - (factor * h->ref[i] + offset));
        if (!(d <= h->limit)) return INFINITY;
        residual = fmax(residual, d);
    }
    return residual;
}

typedef struct Sums {
    double n, ref, mine, ref2, product;
} Sums;

static Sums sums_of(const Hints *h) {
    Sums s = {.n = (double)h->count};
    for (int64_t i = 0; i < h->count; i++) {
        s.ref += h->ref[i];
        s.mine += h->mine[i];
        s.ref2 += h->ref[i] * h->ref[i];
        s.product += h->ref[i] * h->mine[i];
    }
    return s;
}

/* How far off, relatively, a fitted factor may be: the residual spread over all elements. */
static double sureness(const Hints *h, const Sums *s, double factor, double residual) {
    return 4 * residual / fabs(factor) / sqrt(s->ref2 / (double)h->count) / sqrt((double)h->count);
}

static void factor_alone(Hints *h, const Sums *s) {
    double factor = s->product / s->ref2;
    double residual = residual_of(h, factor, 0);
    if (!(residual <= h->limit)) return;
    char name[120];
    if (fabs(factor + 1) <= fmax(sureness(h, s, factor, residual), 1e-7)) {
        if (hint_evident(h, 0, residual))
            hint_add(h, RANK_NAMED, residual, "mine is the reference with its sign turned");
    } else if (name_factor(h, factor, sureness(h, s, factor, residual), name, sizeof name)) {
        if (!hint_evident(h, 0, residual)) return;
        char number[32];
        snprintf(number, sizeof number, "%.7g", factor);
        if (strcmp(number, name) == 0)
            hint_add(h, RANK_NAMED, residual, "mine is the reference times %s", name);
        else
            hint_add(h, RANK_NAMED, residual, "mine is the reference times %s (%s)", number, name);
    } else if (hint_evident(h, 1, residual) && h->lowest < h->highest) {
        hint_add(h, RANK_FACTOR, residual, "mine is the reference times %.7g, a constant factor",
                 factor);
    }
}

static void offset_alone(Hints *h, const Sums *s) {
    double offset = (s->mine - s->ref) / s->n, whole = round(offset);
    /* One less than the reference: a single number can say that, if it does so exactly. */
    if (whole != 0 && fabs(whole) <= 2 && fabs(offset - whole) <= 1e-9 * fmax(1, h->largest)) {
        double exact = residual_of(h, 1, whole);
        if (hint_evident(h, 0, exact) && !(h->count > 1 && h->lowest == h->highest)) {
            hint_add(h, RANK_NAMED, exact, "mine is the reference %s %.0f%s",
                     whole > 0 ? "plus" : "minus", fabs(whole),
                     h->is_integer || h->count == 1 ? ": counted from another end or start" : "");
            return;
        }
    }
    double residual = residual_of(h, 1, offset);
    if (hint_evident(h, 1, residual) && h->lowest < h->highest)
        hint_add(h, RANK_FACTOR, residual, "mine is the reference %s %.7g, a constant offset",
                 offset > 0 ? "plus" : "minus", fabs(offset));
}

typedef struct Range {
    double factor, offset;
    const char *name;
} Range;

static const Range ranges[] = {
    {0.5, 0.5, "range 0 .. 1 in place of -1 .. 1"},
    {127.5, 127.5, "range 0 .. 255 in place of -1 .. 1"},
    {2, -1, "2 x - 1: a range 0 .. 1 taken for -1 .. 1, or centred twice"},
    {-1, 1, "1 - x"},
};

static void factor_and_offset(Hints *h, const Sums *s) {
    /* Of a constant, factor and offset can't be told from each other. */
    if (!(h->lowest < h->highest)) return;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        double residual = residual_of(h, ranges[i].factor, ranges[i].offset);
        if (!hint_evident(h, 0, residual)) continue;
        hint_add(h, RANK_NAMED, residual, "mine is %g times the reference %s %g: %s",
                 ranges[i].factor, ranges[i].offset < 0 ? "minus" : "plus", fabs(ranges[i].offset),
                 ranges[i].name);
        return;
    }
    double mean = s->ref / s->n, variance = 0, covariance = 0;
    for (int64_t i = 0; i < h->count; i++) {
        variance += (h->ref[i] - mean) * (h->ref[i] - mean);
        covariance += (h->ref[i] - mean) * (h->mine[i] - s->mine / s->n);
    }
    if (!(variance > 0)) return;
    double factor = covariance / variance, offset = s->mine / s->n - factor * mean;
    double residual = residual_of(h, factor, offset);
    if (hint_evident(h, 2, residual))
        hint_add(h, RANK_FACTOR, residual, "mine is the reference times %.7g %s %.7g", factor,
                 offset < 0 ? "minus" : "plus", fabs(offset));
}

void hint_factor(Hints *h) {
    Sums s = sums_of(h);
    int before = h->lines;
    if (s.ref2 > 0 && !h->is_integer) factor_alone(h, &s);
    if (h->lines == before) offset_alone(h, &s);
    if (h->lines == before && !h->is_integer) factor_and_offset(h, &s);
}
