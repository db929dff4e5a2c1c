/* Hints about the same numbers in another order, where the order is a known layout. See hints.h.
 *
 * Everything here is a strided view: mine, read in its order under some dimensions, stands in the
 * reference at a fixed stride along each. */
#include "ref/yardstick/hints.h"

#include <math.h>
#include <stdio.h>

static bool evident(Hints *h, const IndexMap *map, double *residual) {
    *residual = hint_residual_mapped(h, map);
    return hint_evident(h, 0, *residual);
}

/* ---- axes in another order ------------------------------------------------------------------------ */

/* The dimensions of ref in the order `order`: how a buffer written in that order reads. */
static IndexMap permuted_axes(const Hints *h, const int *order) {
    IndexMap map = {.n = h->ndim};
    for (int i = 0; i < h->ndim; i++) {
        int64_t stride = 1;
        for (int k = order[i] + 1; k < h->ndim; k++) stride *= h->dim[k];
        map.dim[i] = h->dim[order[i]];
        map.stride[i] = stride;
    }
    return map;
}

/* The other way: the reference's buffer taken for one in that order, and turned back from it. */
static IndexMap taken_for(const Hints *h, const int *order) {
    IndexMap map = {.n = h->ndim};
    int64_t stride = 1;
    for (int i = h->ndim - 1; i >= 0; i--) {
        map.dim[order[i]] = h->dim[order[i]];
        map.stride[order[i]] = stride;
        stride *= h->dim[order[i]];
    }
    return map;
}

static bool next_order(int *order, int n) {
    int i = n - 2;
    while (i >= 0 && order[i] > order[i + 1]) i--;
    if (i < 0) return false;
    int k = n - 1;
    while (order[k] < order[i]) k--;
    int t = order[i];
    order[i] = order[k];
    order[k] = t;
    for (int a = i + 1, b = n - 1; a < b; a++, b--) {
        t = order[a];
        order[a] = order[b];
        order[b] = t;
    }
    return true;
}

static void say_axes(Hints *h, const int *order, double residual) {
    const bool square = h->ndim == 2 && h->dim[0] == h->dim[1];
    if (h->ndim == 2)
        hint_add(h, RANK_LAYOUT, residual, "mine is transposed%s",
                 square ? ""
                        : ": its numbers stand in the order of the other axis, under the same "
                          "shape");
    else if (h->ndim == 3 && order[0] == 1 && order[1] == 2)
        hint_add(h, RANK_LAYOUT, residual,
                 "mine is channels-last: its numbers stand as [H, W, C] under the shape [C, H, W]");
    else if (h->ndim == 3 && order[0] == 0)
        hint_add(h, RANK_LAYOUT, residual, "mine has height and width transposed");
    else
        hint_add(h, RANK_LAYOUT, residual,
                 "mine is transposed: its axes are the reference's in the order %d, %d, %d%s",
                 order[0], order[1], order[2],
                 h->ndim == 4 ? (char[]){',', ' ', (char)('0' + order[3]), 0} : "");
}

static bool axes(Hints *h) {
    int order[4] = {0, 1, 2, 3};
    if (h->ndim < 2 || h->ndim > 4) return false;
    while (next_order(order, h->ndim)) {
        double residual;
        IndexMap written = permuted_axes(h, order), read = taken_for(h, order);
        if (evident(h, &written, &residual)) return say_axes(h, order, residual), true;
        if (!evident(h, &read, &residual)) continue;
        if (h->ndim == 3 && order[0] == 1 && order[1] == 2)
            hint_add(
                h, RANK_LAYOUT, residual,
                "mine was turned from [H, W, C] to [C, H, W] once too often: it stood as [C, H, W] "
                "already");
        else
            say_axes(h, order, residual);
        return true;
    }
    return false;
}

/* ---- within one axis ------------------------------------------------------------------------------- */

/* The axis read as [A, B, C] is [A, C, B] in mine. */
static IndexMap swapped_factors(HintAxis x, int64_t A, int64_t B, int64_t C) {
    return (IndexMap){5,
                      {x.outer, A, C, B, x.inner},
                      {x.n * x.inner, B * C * x.inner, x.inner, C * x.inner, 1},
                      0};
}

static void say_factors(Hints *h, HintAxis x, int64_t A, int64_t B, int64_t C, double residual) {
    const char *what = hint_axis(h, x.axis);
    char each[96] = "";
    if (A > 1)
        snprintf(each, sizeof each, ", in each of %lld groups of %lld (heads?)", (long long)A,
                 (long long)(B * C));
    if (B == 2)
        hint_add(
            h, RANK_LAYOUT, residual,
            "mine interleaves where the reference has halves: its %ss are 0, %lld, 1, %lld, ... "
            "of the reference%s: the interleaved rotary layout (GGUF, original Llama) for the "
            "half-split one (transformers)",
            what, (long long)C, (long long)C + 1, each);
    else if (C == 2)
        hint_add(
            h, RANK_LAYOUT, residual,
            "mine has halves where the reference interleaves: its %ss are 0, 2, 4, ... then 1, 3, "
            "5, ... of the reference%s: two rotary layouts",
            what, each);
    else if (A == 1 && x.axis == 0 && h->ndim == 2)
        hint_add(
            h, RANK_LAYOUT, residual,
            "mine's %ss run down the columns of a map of %lld x %lld, the reference's along its "
            "rows",
            what, (long long)B, (long long)C);
    else
        hint_add(
            h, RANK_LAYOUT, residual,
            "mine's %ss are transposed as [%lld, %lld] where the reference has [%lld, %lld]%s: "
            "heads and features of a head changed places",
            what, (long long)C, (long long)B, (long long)B, (long long)C, each);
}

static bool factors(Hints *h, HintAxis x) {
    for (int64_t A = 1; A <= x.n / 4; A++) {
        if (x.n % A) continue;
        for (int64_t B = 2; B <= x.n / A / 2; B++) {
            if ((x.n / A) % B) continue;
            double residual;
            int64_t C = x.n / A / B;
            IndexMap map = swapped_factors(x, A, B, C);
            if (!evident(h, &map, &residual)) continue;
            say_factors(h, x, A, B, C, residual);
            return true;
        }
    }
    return false;
}

/* (first, second) of each of A groups became (second, first). */
static bool halves(Hints *h, HintAxis x) {
    for (int64_t A = 1; A <= x.n / 2; A++) {
        if (x.n % (2 * A)) continue;
        const int64_t B = x.n / A / 2 * x.inner;
        double residual;
        IndexMap map = {3, {x.outer * A, 2, B}, {2 * B, -B, 1}, B};
        if (!evident(h, &map, &residual)) continue;
        const char *what = hint_axis(h, x.axis);
        if (A == 1)
            hint_add(
                h, RANK_LAYOUT, residual,
                "mine has the two halves of its %ss swapped: value and gate of a GEGLU, sine and "
                "cosine, or the two parts of a concatenation",
                what);
        else
            hint_add(
                h, RANK_LAYOUT, residual,
                "mine has the halves of each of %lld groups of %lld %ss swapped: the halves of a "
                "rotary layout",
                (long long)A, (long long)(x.n / A), what);
        return true;
    }
    return false;
}

static bool reversed(Hints *h, HintAxis x) {
    double residual;
    IndexMap map = {3, {x.outer, x.n, x.inner}, {x.n * x.inner, -x.inner, 1}, (x.n - 1) * x.inner};
    if (x.n < 2 || !evident(h, &map, &residual)) return false;
    bool image = h->ndim == 3 && x.axis == 0 && x.n == 3;
    hint_add(h, RANK_LAYOUT, residual, "mine has its %ss in reversed order%s", hint_axis(h, x.axis),
             image                         ? ": BGR for RGB"
             : h->ndim == 3 && x.axis == 1 ? ": upside down"
             : h->ndim == 3 && x.axis == 2 ? ": mirrored"
                                           : "");
    return true;
}

/* ---- heads --------------------------------------------------------------------------------------- */

/* [N, heads, d] written as [heads, N, d] and read as [N, heads d]: the transpose before the output
 * projection forgotten; or done where there was none. Rows of the last two axes. */
static bool heads(Hints *h) {
    if (h->ndim < 2) return false;
    const int64_t N = h->dim[h->ndim - 2], C = h->dim[h->ndim - 1], outer = h->count / (N * C);
    for (int64_t H = 2; H <= C / 2 && N > 1; H++) {
        if (C % H) continue;
        const int64_t d = C / H;
        double residual;
        IndexMap forth = {4, {outer, H, N, d}, {N * C, d, C, 1}, 0};
        IndexMap back = {4, {outer, N, H, d}, {N * C, d, N * d, 1}, 0};
        const bool is_forth = evident(h, &forth, &residual);
        if (!is_forth && !evident(h, &back, &residual)) continue;
        hint_add(h, RANK_LAYOUT, residual,
                 "mine's numbers stand as [%s] under the shape [%lld, %lld], with %lld heads: the "
                 "transpose of heads and %ss is %s",
                 is_forth ? "heads, rows, features"
                          : "rows, heads, features of a head-first buffer",
                 (long long)N, (long long)C, (long long)H, hint_axis(h, h->ndim - 2),
                 is_forth ? "missing" : "done twice");
        return true;
    }
    return false;
}

/* Only the first `rotary` of each head's d features change layout: partial rotary embedding (phi). */
static double partial_residual(Hints *h, int64_t d, int64_t rotary, bool interleaved) {
    double residual = 0;
    const int64_t half = rotary / 2;
    if (h->budget <= 0) return INFINITY;
    for (int64_t i = 0; i < h->count; i++) {
        int64_t j = i % d, from = j;
        if (j < rotary) from = interleaved ? (j % 2) * half + j / 2 : j % half * 2 + j / half;
        double e = fabs(h->mine[i] - h->ref[i - j + from]);
        if (!(e <= h->limit)) {
            h->budget -= i + 1;
            return INFINITY;
        }
        residual = fmax(residual, e);
    }
    return residual;
}

static bool partial_rotary(Hints *h) {
    const int64_t C = h->ndim ? h->dim[h->ndim - 1] : 0;
    for (int64_t d = 4; d <= C; d++) {
        for (int64_t rotary = 4; C % d == 0 && rotary < d; rotary += 2)
            for (int interleaved = 0; interleaved < 2; interleaved++) {
                double residual = partial_residual(h, d, rotary, interleaved);
                if (!hint_evident(h, 0, residual)) continue;
                hint_add(
                    h, RANK_LAYOUT, residual,
                    "mine %s the first %lld of each head's %lld features where the reference %s "
                    "them: the two rotary layouts",
                    interleaved ? "interleaves" : "halves", (long long)rotary, (long long)d,
                    interleaved ? "halves" : "interleaves");
                return true;
            }
    }
    return false;
}

void hint_layout(Hints *h) {
    if (h->ndim == 0 || h->count < 2) return;
    if (axes(h) || heads(h)) return;
    for (int i = h->ndim - 1; i >= 0; i--) {
        HintAxis x = hint_around(h, i);
        if (reversed(h, x) || halves(h, x) || factors(h, x)) return;
    }
    partial_rotary(h);
}
