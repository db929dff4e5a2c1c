/* Hints from the tensors alone: the list, what counts as an explanation, and the ranking. See hints.h. */
#include "ref/yardstick/hints.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the files share -------------------------------------------------------------------- */

bool hint_evident(const Hints *h, double fitted, double residual) {
    double elements = (double)h->wrong - fitted;
    if (!(residual <= h->limit) || !(elements > 0)) return false;
    /* Far below the limit counts once: other elements may have had little error to begin with. */
    double closer = h->limit > 0 ? fmin(log2(h->limit / fmax(residual, h->error * 1e-12)), 40) : 0;
    return elements * h->bits + closer >= EVIDENCE;
}

void hint_add(Hints *h, int rank, double residual, const char *format, ...) {
    if (h->lines == HINT_LINES) return;
    HintLine *line = &h->line[h->lines++];
    *line = (HintLine){.rank = rank, .residual = residual};
    va_list args;
    va_start(args, format);
    int used = vsnprintf(line->text, sizeof line->text, format, args);
    va_end(args);
    if (used < 0 || used >= (int)sizeof line->text || residual < 0) return;
    double scale = fmax(h->mine_largest, h->largest);
    if (residual == 0)
        snprintf(line->text + used, sizeof line->text - (size_t)used, ", exactly");
    else
        snprintf(line->text + used, sizeof line->text - (size_t)used, ", to %.0e",
                 residual / scale);
}

bool hint_found(const Hints *h, int rank) {
    for (int i = 0; i < h->lines; i++)
        if (h->line[i].rank > RANK_ELEMENT && h->line[i].rank <= rank) return true;
    return false;
}

double *hint_numbers(Hints *h, int64_t n) {
    double *p = h->err->set ? NULL : malloc((size_t)(n > 0 ? n : 1) * sizeof *p);
    if (!p) fail(h->err, "out of memory: %lld numbers wanted for a hint", (long long)n);
    return p;
}

const char *hint_axis(const Hints *h, int axis) {
    static const char *const by_number[] = {"index of axis 0", "index of axis 1", "index of axis 2",
                                            "index of axis 3", "index of axis 4", "index of axis 5",
                                            "index of axis 6", "index of axis 7"};
    const char *name = h->row->name ? h->row->name : "";
    bool is_unet = strstr(name, "unet/") != NULL;
    if (h->ndim == 1) return "element";
    if (h->ndim == 2 && axis == 0)
        return is_unet ? "pixel" : strstr(name, "llm/") ? "token" : "row";
    if (h->ndim == 2) return is_unet ? "channel" : "feature";
    if (h->ndim == 3) return axis == 0 ? "channel" : axis == 1 ? "row" : "column";
    return by_number[axis];
}

HintAxis hint_around(const Hints *h, int axis) {
    HintAxis a = {axis, 1, h->dim[axis], 1};
    for (int i = 0; i < axis; i++) a.outer *= h->dim[i];
    for (int i = axis + 1; i < h->ndim; i++) a.inner *= h->dim[i];
    return a;
}

ShapeText hint_shape(int ndim, const int64_t *dim) {
    ShapeText s = {"["};
    size_t used = 1;
    for (int i = 0; i < ndim; i++)
        used += (size_t)snprintf(s.text + used, sizeof s.text - used, "%s%lld", i ? ", " : "",
                                 (long long)dim[i]);
    snprintf(s.text + used, sizeof s.text - used, "]");
    return s;
}

double hint_residual(Hints *h, const double *guess) {
    double residual = 0;
    for (int i = 0; i < h->probes; i++) {
        int64_t at = h->probe[i];
        if (!(fabs(h->mine[at] - guess[at]) <= h->limit)) return INFINITY;
    }
    int64_t i = 0;
    for (; i < h->count; i++) {
        double d = fabs(h->mine[i] - guess[i]);
        if (!(d <= h->limit)) break;
        if (d > residual) residual = d;
    }
    return i < h->count ? INFINITY : residual;
}

static int64_t mapped(const IndexMap *map, int64_t i) {
    int64_t at = map->offset;
    for (int k = map->n - 1; k >= 0; k--) {
        at += i % map->dim[k] * map->stride[k];
        i /= map->dim[k];
    }
    return at;
}

double hint_residual_mapped(Hints *h, const IndexMap *map) {
    double residual = 0;
    if (h->budget <= 0) return INFINITY;
    for (int i = 0; i < h->probes; i++)
        if (!(fabs(h->mine[h->probe[i]] - h->ref[mapped(map, h->probe[i])]) <= h->limit)) {
            h->budget -= i + 1;
            return INFINITY;
        }
    const int64_t inner = map->dim[map->n - 1], step = map->stride[map->n - 1];
    for (int64_t i = 0; i < h->count; i += inner) {
        const double *from = h->ref + mapped(map, i), *mine = h->mine + i;
        for (int64_t j = 0; j < inner; j++) {
            double d = fabs(mine[j] - from[j * step]);
            if (!(d <= h->limit)) {
                h->budget -= i + j + 1;
                return INFINITY;
            }
            if (d > residual) residual = d;
        }
    }
    h->budget -= h->count;
    return residual;
}

/* ---- the question ------------------------------------------------------------------------------ */

/* The limit: within the tolerance and a third of the error (or noise just above the tolerance would
 * be "explained" by any fit that takes a little of it away), or a hundredth of the error. */
static void ask(Hints *h) {
    h->lowest = INFINITY;
    h->highest = -INFINITY;
    for (int64_t i = 0; i < h->count; i++) {
        h->largest = fmax(h->largest, fabs(h->ref[i]));
        h->lowest = fmin(h->lowest, h->ref[i]);
        h->highest = fmax(h->highest, h->ref[i]);
        h->mine_largest = fmax(h->mine_largest, fabs(h->mine[i]));
        h->error = fmax(h->error, fabs(h->mine[i] - h->ref[i]));
    }
    h->limit = fmax(fmin(h->row->allowed, h->error / 3), h->error / 100);
    if (h->is_integer) h->limit = 0;
    for (int64_t i = 0; i < h->count; i++)
        if (fabs(h->mine[i] - h->ref[i]) > h->limit) h->wrong++;
    /* Integers that agree exactly are worth less than digits would be: there are few of them. */
    h->bits = h->limit > 0 ? fmin(log2(h->error / h->limit), 40) : 8;
    int64_t step = h->wrong / HINT_PROBES + 1, seen = 0;
    for (int64_t i = 0; i < h->count && h->probes < HINT_PROBES; i++)
        if (fabs(h->mine[i] - h->ref[i]) > h->limit && seen++ % step == 0)
            h->probe[h->probes++] = i;
    h->budget = 64 * h->count + 4000000;
}

static void look(Hints *h) {
    ask(h);
    if (h->wrong == 0) return;
    hint_constant(h);
    if (!hint_found(h, RANK_PLACE) && h->lines == 0) {
        hint_precision(h);
        if (h->count == 1 && h->lines) return; /* one number says one thing */
        hint_factor(h);
        hint_layout(h);
        hint_shifted(h);
        hint_terms(h);
        hint_neighbours(h);
    }
    /* What has many numbers to fit is asked only if nothing simpler explains it. */
    if (h->lines == 0) hint_function(h);
    if (h->lines == 0) hint_slices(h);
    if (h->lines == 0) hint_permuted(h);
    hint_places(h);
}

static int by_rank(const void *a, const void *b) {
    const HintLine *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return (x->residual > y->residual) - (x->residual < y->residual);
}

static bool all_finite(const double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* Mine's tensor of another shape or type is loaded here. */
static void ask_misshapen(Hints *h) {
    const TensorFile *file = h->q->mine_file;
    size_t at = file ? tensor_file_find(file, h->q->name_in_file) : 0;
    if (!file || at == tensor_file_count(file)) return;
    const TensorInfo *info = tensor_file_at(file, at);
    double *mine = tensor_file_load(file, at, h->err);
    if (mine && all_finite(mine, info->count)) hint_other_shape(h, mine, info);
    free(mine);
}

int hints_from_tensors(Report *r, const HintQuestion *q, Error *err) {
    Hints *h = calloc(1, sizeof *h);
    if (!h) return fail(err, "out of memory for hints"), -1;
    const Row *row = q->row;
    *h = (Hints){.q = q, .row = row, .ref = q->ref, .mine = q->mine, .err = err};
    h->count = row->ref.count;
    h->ndim = row->ref.ndim;
    h->dim = row->ref.dim;
    h->is_integer = !dtype_is_float(row->ref.dtype);
    if (!q->ref || !all_finite(q->ref, h->count)) {
        /* Nothing can be said about numbers that the reference doesn't have. */
    } else if (row->verdict == ROW_MISSING)
        hint_missing(h);
    else if (row->verdict == ROW_MISSHAPEN)
        ask_misshapen(h);
    else if (q->mine && !all_finite(q->mine, h->count))
        hint_not_finite(h);
    else if (q->mine)
        look(h);

    qsort(h->line, (size_t)h->lines, sizeof *h->line, by_rank);
    for (int i = 0; i < h->lines && r->hints < HINTS_MAX && !err->set; i++) {
        char *text = strdup(h->line[i].text);
        if (h->line[i].rank < RANK_PLACE) r->explained = true;
        if (text)
            r->hint[r->hints++] = text;
        else
            fail(err, "out of memory for hints");
    }
    free(h);
    return err->set ? -1 : 0;
}
