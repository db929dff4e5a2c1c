/* Hints about other tensors of the two files: mine is the reference's tensor of another step, layer or
 * condition, or has one of them added or left out. See hints.h. */
#include "ref/yardstick/hints.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NEIGHBOURS_MAX 256
#define NEAR_BEFORE 24 /* so many tensors of the same shape before this one are neighbours, too */

/* How two names are related; the nearer first. */
typedef enum Relation {
    NEXT_INDEX,      /* x.3 and x.4, unet/0/... and unet/1/... */
    OTHER_CONDITION, /* cond and uncond */
    SAME_PLACE,      /* attn2/q and attn2/f, s_sentence.3 and s_word.3 */
    OTHER_INDEX,     /* the same kind in another layer */
    SHORTLY_BEFORE,
    UNRELATED
} Relation;

typedef struct Neighbour {
    Relation relation;
    size_t at;       /* in the reference's file */
    size_t distance; /* in it */
} Neighbour;

/* ---- names ------------------------------------------------------------------------------------------ */

/* A name with its numbers taken out: "unet/#/cond/down_blocks.#" and [0, 1]; and the condition. */
typedef struct Parts {
    char pattern[256];
    long long number[16];
    int numbers;
    bool uncond;
} Parts;

/* "uncond/" leaves, "cond/" too: what is left is the same for both. False for a name too long. */
static bool take_apart(const char *name, Parts *p) {
    size_t used = 0;
    *p = (Parts){0};
    while (*name) {
        if (used + 2 > sizeof p->pattern) return false;
        if (strncmp(name, "uncond/", 7) == 0) {
            p->uncond = true;
            name += 7;
        } else if (strncmp(name, "cond/", 5) == 0) {
            name += 5;
        } else if (isdigit((unsigned char)*name)) {
            /* "1e5" and such are no index, but nothing is named so. */
            char *end;
            if (p->numbers == 16) return false;
            p->number[p->numbers++] = strtoll(name, &end, 10);
            p->pattern[used++] = '#';
            name = end;
        } else {
            p->pattern[used++] = *name++;
        }
    }
    p->pattern[used] = '\0';
    return true;
}

/* The name up to its last '/' and what follows the last '.' */
static bool same_place(const char *a, const char *b) {
    const char *x = strrchr(a, '/'), *y = strrchr(b, '/');
    size_t n = x ? (size_t)(x - a) : 0;
    if (!x || !y || (size_t)(y - b) != n || strncmp(a, b, n) != 0) return false;
    const char *i = strrchr(x, '.'), *j = strrchr(y, '.');
    if (i && j && isdigit((unsigned char)i[1])) return strcmp(i, j) == 0;
    /* .attn1, .attn2 and .ff of one block */
    return (!i && !j) || (i && j && i - x == j - y && strncmp(x, y, (size_t)(i - x)) == 0);
}

static Relation related(const char *name, const Parts *p, const char *other, size_t before) {
    Parts o;
    if (take_apart(other, &o) && strcmp(p->pattern, o.pattern) == 0) {
        int differ = 0, by_one = 0;
        for (int i = 0; i < p->numbers; i++) {
            differ += p->number[i] != o.number[i];
            by_one += llabs(p->number[i] - o.number[i]) == 1;
        }
        if (p->uncond != o.uncond) return differ ? OTHER_INDEX : OTHER_CONDITION;
        if (differ == 1 && by_one == 1) return NEXT_INDEX;
        return OTHER_INDEX;
    }
    if (same_place(name, other)) return SAME_PLACE;
    return before > 0 && before <= NEAR_BEFORE ? SHORTLY_BEFORE : UNRELATED;
}

/* ---- the list ----------------------------------------------------------------------------------------- */

static int by_relation(const void *a, const void *b) {
    const Neighbour *x = a, *y = b;
    if (x->relation != y->relation) return x->relation < y->relation ? -1 : 1;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static bool same_shape(const Hints *h, const TensorInfo *info) {
    if (info->ndim != h->ndim || dtype_is_float(info->dtype) == h->is_integer) return false;
    for (int i = 0; i < h->ndim; i++)
        if (info->dim[i] != h->dim[i]) return false;
    return true;
}

/* All of that shape, the most sensible first; malloc'ed. */
static Neighbour *list_neighbours(Hints *h, size_t *count) {
    const TensorFile *file = h->q->ref_file;
    const size_t n = tensor_file_count(file), self = tensor_file_find(file, h->q->name_in_file);
    Neighbour *list = calloc(n ? n : 1, sizeof *list);
    Parts p;
    *count = 0;
    if (!list) return fail(h->err, "out of memory for hints"), NULL;
    if (!take_apart(h->q->name_in_file, &p)) return list;
    size_t before = 0; /* of the same shape between it and this one */
    for (size_t i = 0; i < n && i < self; i++) before += same_shape(h, tensor_file_at(file, i));
    for (size_t i = 0; i < n; i++) {
        const TensorInfo *info = tensor_file_at(file, i);
        if (i == self || !same_shape(h, info)) continue;
        list[(*count)++] =
            (Neighbour){related(h->q->name_in_file, &p, info->name, i < self ? before : 0), i,
                        i < self ? self - i : i - self};
        if (i < self) before--;
    }
    qsort(list, *count, sizeof *list, by_relation);
    if (*count > NEIGHBOURS_MAX) *count = NEIGHBOURS_MAX;
    return list;
}

/* ---- what mine has of a neighbour ----------------------------------------------------------------------- */

static bool equals_in(Hints *h, const TensorFile *file, const char *name, const double *values) {
    size_t at = tensor_file_find(file, name);
    if (at == tensor_file_count(file) || !same_shape(h, tensor_file_at(file, at))) return false;
    double *mine = tensor_file_load(file, at, h->err);
    bool equal = mine != NULL;
    for (int64_t i = 0; equal && i < h->count; i++)
        if (!(fabs(mine[i] - values[i]) <= h->limit)) equal = false;
    free(mine);
    return equal;
}

static bool say_equal(Hints *h, const Neighbour *n, const double *values) {
    const TensorFile *refs = h->q->ref_file;
    const char *name = tensor_file_at(refs, n->at)->name, *self = h->q->name_in_file;
    double residual = hint_residual(h, values);
    if (!hint_evident(h, 0, residual)) return false;
    bool swapped = equals_in(h, h->q->mine_file, name, h->ref);
    const char *meaning = "";
    bool later = n->at > tensor_file_find(refs, self);
    if (swapped)
        meaning = n->relation == OTHER_CONDITION
                      ? ", and the other way round: conditional and unconditional are swapped"
                      : ", and the other way round: the two are swapped";
    else if (n->relation == NEXT_INDEX)
        meaning = later ? ", which comes later in the run: an index is one off"
                        : ", which comes earlier in the run: an index is one off";
    else if (n->relation == OTHER_CONDITION)
        meaning = ": conditional and unconditional are confused";
    hint_add(h, swapped ? RANK_SWAPPED : RANK_EQUALS, residual, "mine equals the reference's %s%s",
             name, meaning);
    return true;
}

/* mine = ref + k times the neighbour. */
static bool say_added(Hints *h, const Neighbour *n, const double *values, double *scratch) {
    double xx = 0, xd = 0;
    bool constant = true; /* that would be an offset */
    for (int64_t i = 0; i < h->count; i++) {
        constant = constant && values[i] == values[0];
        xx += values[i] * values[i];
        xd += values[i] * (h->mine[i] - h->ref[i]);
    }
    if (!(xx > 0) || constant) return false;
    double k = xd / xx;
    if (fabs(k - nearbyint(k)) <= 1e-3 && nearbyint(k) != 0) k = nearbyint(k);
    for (int64_t i = 0; i < h->count; i++) scratch[i] = h->ref[i] + k * values[i];
    double residual = hint_residual(h, scratch);
    if (!hint_evident(h, 1, residual)) return false;
    const char *name = tensor_file_at(h->q->ref_file, n->at)->name;
    if (k == 1 || k == -1)
        hint_add(h, RANK_EQUALS, residual, "mine is the reference %s %s: %s",
                 k > 0 ? "plus" : "minus", name,
                 k > 0 ? "a term that doesn't belong there, or one added twice"
                       : "a term left out, or subtracted where it doesn't belong");
    else
        hint_add(h, RANK_EQUALS, residual, "mine is the reference %s %.6g times %s%s",
                 k > 0 ? "plus" : "minus", fabs(k), name,
                 k == -2 ? ": a term with the wrong sign" : "");
    return true;
}

void hint_neighbours(Hints *h) {
    if (!h->q->ref_file || !h->q->mine_file || h->count == 0) return;
    size_t n = 0;
    Neighbour *list = list_neighbours(h, &n);
    double *scratch = hint_numbers(h, h->count);
    /* A sum whose coefficients tell the same needs no second line. */
    bool found = false, added = hint_found(h, RANK_FACTOR);
    /* Reading is what takes time: some hundreds of megabytes at most. */
    int64_t budget = h->count * 4 + 50000000;
    for (size_t i = 0; list && scratch && i < n && !found && budget > 0; i++) {
        double *values = tensor_file_load(h->q->ref_file, list[i].at, h->err);
        if (!values) break;
        budget -= h->count;
        found = say_equal(h, &list[i], values);
        if (!found && !added && list[i].relation < UNRELATED && !h->is_integer)
            added = say_added(h, &list[i], values, scratch);
        free(values);
    }
    free(list);
    free(scratch);
}
