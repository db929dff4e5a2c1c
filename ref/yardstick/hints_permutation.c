/* Hints about rows and channels that stand elsewhere: shifted, swapped, permuted. See hints.h. */
#include "ref/yardstick/hints.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Greatest |mine[.., j, ..] - ref[.., k, ..]| over the whole slice; INFINITY above the limit. */
static double slice_residual(Hints *h, HintAxis x, int64_t j, int64_t k) {
    double residual = 0;
    if (h->budget <= 0) return INFINITY;
    for (int64_t i = 0; i < x.outer; i++) {
        const double *mine = h->mine + (i * x.n + j) * x.inner;
        const double *ref = h->ref + (i * x.n + k) * x.inner;
        for (int64_t m = 0; m < x.inner; m++) {
            double d = fabs(mine[m] - ref[m]);
            if (!(d <= h->limit)) {
                h->budget -= i * x.inner + m + 1;
                return INFINITY;
            }
            residual = fmax(residual, d);
        }
    }
    h->budget -= x.outer * x.inner;
    return residual;
}

/* ---- shifted ----------------------------------------------------------------------------------------- */

/* mine[j] = ref[j + by], around the end or but for the rows that have no partner. */
static double shift_residual(Hints *h, HintAxis x, int64_t by, bool around) {
    double residual = 0;
    for (int64_t j = 0; j < x.n; j++) {
        int64_t k = j + by;
        if (around) k = (k + x.n) % x.n;
        if (k < 0 || k >= x.n) continue;
        double d = slice_residual(h, x, j, k);
        if (!(d <= h->limit)) return INFINITY;
        residual = fmax(residual, d);
    }
    return residual;
}

static bool shifted(Hints *h, HintAxis x) {
    const char *what = hint_axis(h, x.axis);
    static const int64_t near[] = {1, -1, 2, -2};
    for (int64_t by = 1; by < x.n; by++) {
        double residual = shift_residual(h, x, by, true);
        if (!hint_evident(h, 0, residual)) continue;
        int64_t short_way = by <= x.n / 2 ? by : by - x.n;
        hint_add(h, RANK_LAYOUT, residual,
                 "mine is shifted: its %s i is the reference's %s i %s %lld, around the end", what,
                 what, short_way > 0 ? "+" : "-", (long long)llabs(short_way));
        return true;
    }
    for (size_t i = 0; i < sizeof near / sizeof *near; i++) {
        const int64_t by = near[i], lost = llabs(by) * (h->count / x.n);
        if (llabs(by) * 3 > x.n) continue;
        double residual = shift_residual(h, x, by, false);
        /* The rows without a partner explain nothing: they count as fitted. */
        if (!hint_evident(h, (double)lost, residual)) continue;
        hint_add(h, RANK_LAYOUT, residual,
                 "mine is %s %s%s off: its %s i is the reference's %s i %s %lld",
                 by * by == 1 ? "one" : "two", what, by * by == 1 ? "" : "s", what, what,
                 by > 0 ? "+" : "-", (long long)llabs(by));
        return true;
    }
    return false;
}

void hint_shifted(Hints *h) {
    if (hint_found(h, RANK_LAYOUT)) return;
    for (int i = 0; i < h->ndim; i++)
        if (h->dim[i] > 2 && shifted(h, hint_around(h, i))) return;
}

/* ---- any permutation along an axis ------------------------------------------------------------------ */

typedef struct Mark {
    double value; /* a weighted sum of the slice: equal slices have equal marks */
    int64_t at;
} Mark;

static int by_value(const void *a, const void *b) {
    const Mark *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

/* Weights without a pattern, so that no two different slices have the same mark but by accident. */
static double weight_at(int64_t i) {
    uint64_t z = (uint64_t)i * 0x9e3779b97f4a7c15u + 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53 - 0.5;
}

static Mark *marks(Hints *h, HintAxis x, const double *values) {
    Mark *m = h->err->set ? NULL : calloc((size_t)x.n, sizeof *m);
    if (!m) return fail(h->err, "out of memory for hints"), NULL;
    for (int64_t j = 0; j < x.n; j++) {
        m[j].at = j;
        for (int64_t i = 0; i < x.outer; i++)
            for (int64_t k = 0; k < x.inner; k++)
                m[j].value += weight_at(i * x.inner + k) * values[(i * x.n + j) * x.inner + k];
    }
    qsort(m, (size_t)x.n, sizeof *m, by_value);
    return m;
}

/* from[j]: which slice of ref mine's slice j is; false if some slice is none. Equal marks stand side by
 * side, but for rounding: a few neighbours are tried. */
static bool match(Hints *h, HintAxis x, const Mark *ref, const Mark *mine, int64_t *from,
                  double *residual) {
    *residual = 0;
    for (int64_t j = 0; j < x.n; j++) {
        double best = INFINITY;
        for (int64_t way = 0; way < 9 && !(best <= h->limit); way++) {
            int64_t k = j + (way % 2 ? -1 : 1) * ((way + 1) / 2);
            if (k < 0 || k >= x.n) continue;
            best = slice_residual(h, x, mine[j].at, ref[k].at);
            if (best <= h->limit) from[mine[j].at] = ref[k].at;
        }
        if (!(best <= h->limit)) return false;
        *residual = fmax(*residual, best);
    }
    return true;
}

static void say_permutation(Hints *h, HintAxis x, const int64_t *from, double residual) {
    const char *what = hint_axis(h, x.axis);
    int64_t moved = 0, first = -1, second = -1;
    for (int64_t j = 0; j < x.n; j++)
        if (from[j] != j) {
            if (moved == 0) first = j;
            if (moved == 1) second = j;
            moved++;
        }
    if (moved == 2) {
        hint_add(h, RANK_PERMUTATION, residual, "mine has %ss %lld and %lld swapped", what,
                 (long long)first, (long long)second);
        return;
    }
    char list[160];
    size_t used = 0;
    for (int64_t j = 0; j < x.n && used < sizeof list - 24 && j < 12; j++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%lld", j ? ", " : "",
                                 (long long)from[j]);
    hint_add(h, RANK_PERMUTATION, residual,
             "mine has its %ss permuted: they are the reference's %s%s", what, list,
             x.n > 12 ? ", ..." : "");
}

static bool permuted(Hints *h, HintAxis x) {
    Mark *ref = marks(h, x, h->ref), *mine = marks(h, x, h->mine);
    int64_t *from = calloc((size_t)x.n, sizeof *from);
    double residual;
    bool good = false;
    if (ref && mine && from) good = match(h, x, ref, mine, from, &residual);
    if (good) {
        /* log2(n!) bits are fitted. */
        double fitted = (double)x.n * fmax(log2((double)x.n) - 1.44, 0.5) / h->bits;
        good = hint_evident(h, fitted, residual);
        if (good) say_permutation(h, x, from, residual);
    }
    if (!from) fail(h->err, "out of memory for hints");
    free(ref);
    free(mine);
    free(from);
    return good;
}

void hint_permuted(Hints *h) {
    for (int i = 0; i < h->ndim; i++)
        if (h->dim[i] > 1 && permuted(h, hint_around(h, i))) return;
}
