/* Hints about a tensor of another shape, another type, or another name: is it the same numbers? See
 * hints.h. */
#include "ref/yardstick/hints.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Greatest |mine - ref| of n pairs, ref read through `map` (NULL: in order); INFINITY above `limit`. */
static double residual_of(const double *mine, const double *ref, int64_t n, const IndexMap *map,
                          double limit) {
    double residual = 0;
    int64_t index[6] = {0}, at = map ? map->offset : 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(mine[i] - ref[map ? at : i]);
        if (!(d <= limit)) return INFINITY;
        residual = fmax(residual, d);
        for (int k = map ? map->n - 1 : -1; k >= 0; k--) {
            at += map->stride[k];
            if (++index[k] < map->dim[k]) break;
            at -= map->dim[k] * map->stride[k];
            index[k] = 0;
        }
    }
    return residual;
}

/* Where there is no error to improve on, the tolerance, or a thousandth, is what is close. Numbers that
 * have nothing to do with each other are not that close. */
static double close_enough(const Hints *h) {
    if (h->is_integer) return 0;
    return h->row->allowed > 0 ? h->row->allowed : 1e-3 * h->largest;
}

static int64_t product(int n, const int64_t *dim) {
    int64_t p = 1;
    for (int i = 0; i < n; i++) p *= dim[i];
    return p;
}

/* The dimensions that are not 1. */
static int squeezed(int ndim, const int64_t *dim, int64_t *out) {
    int n = 0;
    for (int i = 0; i < ndim; i++)
        if (dim[i] != 1) out[n++] = dim[i];
    return n;
}

static bool same_dims(int n, const int64_t *a, int m, const int64_t *b) {
    return n == m && memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

/* The same numbers in the same order. */
static bool same_order(Hints *h, const double *mine, const TensorInfo *info) {
    int64_t a[STORED_MAX_DIMS], b[STORED_MAX_DIMS];
    double residual = residual_of(mine, h->ref, h->count, NULL, close_enough(h));
    int n = squeezed(h->ndim, h->dim, a), m = squeezed(info->ndim, info->dim, b);
    if (!(residual <= close_enough(h))) return false;
    if (same_dims(h->ndim, h->dim, info->ndim, info->dim))
        hint_add(
            h, RANK_FACT, residual,
            "only the type differs (%s, the reference has %s): the numbers are the reference's",
            dtype_name(info->dtype), dtype_name(h->row->ref.dtype));
    else if (same_dims(n, a, m, b))
        hint_add(h, RANK_FACT, residual, "%s: the numbers are the reference's",
                 info->ndim > h->ndim ? "a dimension of 1 too many, the batch's for instance"
                                      : "a dimension of 1 is missing");
    else
        hint_add(h, RANK_FACT, residual,
                 "only the shape differs, %s for %s: the numbers are the reference's, in its order",
                 hint_shape(info->ndim, info->dim).text, hint_shape(h->ndim, h->dim).text);
    return true;
}

/* The reference with its axes in another order, whatever shape that is called. */
static bool transposed(Hints *h, const double *mine, const TensorInfo *info) {
    static const int orders[][4] = {{1, 0, 2, 3}, {1, 2, 0, 3}, {2, 0, 1, 3}, {0, 2, 1, 3},
                                    {2, 1, 0, 3}, {0, 2, 3, 1}, {0, 3, 1, 2}, {0, 1, 3, 2}};
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++) {
        IndexMap map = {.n = h->ndim};
        bool fitting = h->ndim >= 2 && h->ndim <= 4;
        for (int i = 0; i < h->ndim && fitting; i++) {
            int from = orders[o][i];
            if (from >= h->ndim) fitting = false;
            if (!fitting) break;
            map.dim[i] = h->dim[from];
            map.stride[i] = product(h->ndim - from - 1, h->dim + from + 1);
        }
        if (!fitting) continue;
        double residual = residual_of(mine, h->ref, h->count, &map, close_enough(h));
        if (!(residual <= close_enough(h))) continue;
        const bool last = h->ndim == 3 && orders[o][0] == 1 && orders[o][1] == 2;
        hint_add(h, RANK_FACT, residual,
                 "mine is transposed: %s for %s%s; so read, the numbers are the reference's",
                 hint_shape(info->ndim, info->dim).text, hint_shape(h->ndim, h->dim).text,
                 last ? ", channels-last for channels-first" : "");
        return true;
    }
    return false;
}

/* One of several that mine holds: a batch, as guidance makes it. */
static bool part_of_batch(Hints *h, const double *mine, const TensorInfo *info) {
    if (info->count <= h->count || h->count == 0 || info->count % h->count) return false;
    if (!same_dims(1, (int64_t[]){info->count / h->count}, 1, info->dim)) return false;
    for (int64_t i = 0; i < info->dim[0]; i++) {
        double residual = residual_of(mine + i * h->count, h->ref, h->count, NULL, close_enough(h));
        if (!(residual <= close_enough(h))) continue;
        hint_add(h, RANK_FACT, residual,
                 "mine is a batch of %lld, %s: its element %lld is the reference's tensor%s",
                 (long long)info->dim[0], hint_shape(info->ndim, info->dim).text, (long long)i,
                 info->dim[0] == 2 ? " (upstream's guidance puts the unconditional one first)"
                                   : "");
        return true;
    }
    return false;
}

/* Along the one axis that differs, the shorter is a part of the longer. */
static bool rows_missing(Hints *h, const double *mine, const TensorInfo *info) {
    int axis = -1, ndim = info->ndim;
    const int64_t *dim = info->dim;
    while (ndim > h->ndim && *dim == 1) ndim--, dim++; /* the batch's */
    if (ndim != h->ndim || h->count == 0 || info->count == 0) return false;
    for (int i = 0; i < ndim; i++)
        if (dim[i] != h->dim[i]) {
            if (axis >= 0) return false;
            axis = i;
        }
    if (axis < 0) return false;
    HintAxis x = hint_around(h, axis);
    const int64_t ours = h->dim[axis], theirs = dim[axis], common = ours < theirs ? ours : theirs;
    const int64_t apart = llabs(ours - theirs);
    const char *what = hint_axis(h, axis);
    for (int64_t first = 0; first <= apart; first++) {
        double residual = 0;
        for (int64_t i = 0; i < x.outer && residual <= close_enough(h); i++) {
            const double *a = mine + (i * theirs + (theirs > ours ? first : 0)) * x.inner;
            const double *b = h->ref + (i * ours + (ours > theirs ? first : 0)) * x.inner;
            residual = fmax(residual, residual_of(a, b, common * x.inner, NULL, close_enough(h)));
        }
        if (!(residual <= close_enough(h)) || common * x.inner * x.outer < 2) continue;
        if (ours > theirs)
            hint_add(h, RANK_FACT, residual,
                     "mine has %lld %s%s fewer: it is the reference from its %s %lld on%s",
                     (long long)apart, what, apart > 1 ? "s" : "", what, (long long)first,
                     first == 1 && axis == 0 ? ": the begin token is missing" : "");
        else
            hint_add(h, RANK_FACT, residual,
                     "mine has %lld %s%s more: the reference is what begins at its %s %lld%s",
                     (long long)apart, what, apart > 1 ? "s" : "", what, (long long)first,
                     first == 0   ? ": padded, or an end token added"
                     : first == 1 ? ": a begin token too many"
                                  : "");
        return true;
    }
    return false;
}

/* No numbers agree, but the shape alone says something. */
static void by_shape_alone(Hints *h, const TensorInfo *info) {
    int64_t a[STORED_MAX_DIMS], b[STORED_MAX_DIMS];
    int n = squeezed(h->ndim, h->dim, a), m = squeezed(info->ndim, info->dim, b);
    if (n == 2 && m == 2 && a[1] == b[1] && b[0] == 77)
        hint_add(h, RANK_PLACE, -1,
                 "mine has 77 rows, CLIP's context: the encoding here has the prompt's own length, "
                 "without padding");
}

void hint_other_shape(Hints *h, const double *mine, const TensorInfo *info) {
    for (int64_t i = 0; i < h->count; i++) h->largest = fmax(h->largest, fabs(h->ref[i]));
    for (int64_t i = 0; i < info->count; i++)
        h->mine_largest = fmax(h->mine_largest, fabs(mine[i]));
    if (h->largest == 0) return;
    if (info->count == h->count && (same_order(h, mine, info) || transposed(h, mine, info))) return;
    if (part_of_batch(h, mine, info) || rows_missing(h, mine, info)) return;
    by_shape_alone(h, info);
}

/* ---- missing: under another name? -------------------------------------------------------------------- */

#define MISSING_TRIES 64

void hint_missing(Hints *h) {
    const TensorFile *file = h->q->mine_file, *refs = h->q->ref_file;
    int tries = 0;
    for (int64_t i = 0; i < h->count; i++) h->largest = fmax(h->largest, fabs(h->ref[i]));
    if (!file || !refs || h->count < 2 || h->largest == 0) return;
    for (size_t i = 0; i < tensor_file_count(file) && tries < MISSING_TRIES; i++) {
        const TensorInfo *info = tensor_file_at(file, i);
        if (info->count != h->count || tensor_file_find(refs, info->name) < tensor_file_count(refs))
            continue;
        tries++;
        double *mine = tensor_file_load(file, i, h->err);
        if (!mine) return;
        double residual = residual_of(mine, h->ref, h->count, NULL, close_enough(h));
        free(mine);
        if (!(residual <= close_enough(h))) continue;
        h->mine_largest = h->largest;
        hint_add(h, RANK_FACT, residual, "mine has these numbers under the name %s", info->name);
        return;
    }
}
