/* Hints about where a difference is: one element, one row, the border, the values that are not
 * finite. See hints.h. */
#include "ref/yardstick/hints.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* "[1, 2, 3]" of a flat index; "the only element" where there is one. */
static ShapeText index_text(const Hints *h, int64_t at) {
    int64_t index[STORED_MAX_DIMS] = {0};
    for (int i = h->ndim - 1; i >= 0; i--) {
        index[i] = at % h->dim[i];
        at /= h->dim[i];
    }
    return hint_shape(h->ndim, index);
}

/* Which indices of an axis occur among the elements asked about. */
typedef struct Extent {
    int64_t low, high, even, odd;
} Extent;

typedef struct Places {
    int64_t count, first;
    Extent axis[STORED_MAX_DIMS];
} Places;

static Places places_where(const Hints *h, bool (*is)(const Hints *h, int64_t i)) {
    Places p = {.first = -1};
    for (int i = 0; i < h->ndim; i++) p.axis[i] = (Extent){h->dim[i], -1, 0, 0};
    for (int64_t i = 0; i < h->count; i++) {
        if (!is(h, i)) continue;
        if (p.first < 0) p.first = i;
        p.count++;
        int64_t rest = i;
        for (int k = h->ndim - 1; k >= 0; k--) {
            int64_t at = rest % h->dim[k];
            rest /= h->dim[k];
            Extent *e = &p.axis[k];
            if (at < e->low) e->low = at;
            if (at > e->high) e->high = at;
            if (at % 2)
                e->odd++;
            else
                e->even++;
        }
    }
    return p;
}

/* "row 3", "rows 3 .. 7 of columns 0 .. 1"; false where they are everywhere, or so few that they would
 * lie in some such place by accident. */
static bool describe(const Hints *h, const Places *p, char *text, size_t size) {
    double share = 1; /* of all elements lie in that place */
    size_t used = 0;
    for (int i = 0; i < h->ndim; i++) {
        const Extent *e = &p->axis[i];
        const char *what = hint_axis(h, i), *and = used ? " of " : "";
        const int64_t within = e->high - e->low + 1;
        if (h->dim[i] < 2 || used + 120 > size) continue;
        share *= (double)within / (double)h->dim[i];
        if (e->low == e->high)
            used +=
                (size_t)snprintf(text + used, size - used, "%s%s %lld%s", and, what,
                                 (long long)e->low, e->low == h->dim[i] - 1 ? " (the last)" : "");
        else if (e->low > 0 || e->high < h->dim[i] - 1)
            used += (size_t)snprintf(text + used, size - used, "%s%ss %lld .. %lld", and, what,
                                     (long long)e->low, (long long)e->high);
        else if (h->dim[i] >= 6 && (e->odd == 0 || e->even == 0))
            used += (size_t)snprintf(text + used, size - used, "%s%s %ss", and,
                                     e->odd ? "odd" : "even", what),
                share /= 2;
    }
    return used > 0 && (double)p->count * -log2(share) >= 12;
}

/* ---- not finite ------------------------------------------------------------------------------------ */

static bool is_not_finite(const Hints *h, int64_t i) { return !isfinite(h->mine[i]); }

void hint_not_finite(Hints *h) {
    Places p = places_where(h, is_not_finite);
    int64_t infinite = 0;
    double smallest = INFINITY; /* of what became infinite */
    for (int64_t i = 0; i < h->count; i++)
        if (isinf(h->mine[i])) {
            infinite++;
            smallest = fmin(smallest, fabs(h->ref[i]));
        }
    const char *what = infinite == p.count ? "infinite" : infinite ? "infinite or NaN" : "NaN";
    char where[400];
    if (infinite && smallest > 65000)
        hint_add(
            h, RANK_FACT, -1,
            "mine is infinite where the reference goes beyond 65504, float16's largest number: "
            "that overflow");
    if (p.count == h->count)
        hint_add(h, RANK_FACT, -1, "mine is %s in every element", what);
    else if (p.count == 1)
        hint_add(h, RANK_FACT, -1, "mine is %s in a single element, %s", what,
                 index_text(h, p.first).text);
    else if (describe(h, &p, where, sizeof where))
        hint_add(h, RANK_FACT, -1, "mine is %s in %lld elements of %lld, all in %s", what,
                 (long long)p.count, (long long)h->count, where);
    else
        hint_add(h, RANK_FACT, -1, "mine is %s in %lld elements of %lld, the first at %s", what,
                 (long long)p.count, (long long)h->count, index_text(h, p.first).text);
}

/* ---- wrong in places -------------------------------------------------------------------------------- */

static bool is_wrong(const Hints *h, int64_t i) {
    return !(fabs(h->mine[i] - h->ref[i]) <= h->limit);
}

/* Does element i lie between the first and last index of the wrong ones, along each axis? */
static bool is_within(const Hints *h, const Places *p, int64_t i) {
    for (int k = h->ndim - 1; k >= 0; k--) {
        const Extent *e = &p->axis[k];
        int64_t at = i % h->dim[k];
        i /= h->dim[k];
        if (at < e->low || at > e->high || (at % 2 ? e->odd : e->even) == 0) return false;
    }
    return true;
}

/* The greatest error outside of that place. */
static double outside(const Hints *h, const Places *p) {
    double rest = 0;
    for (int64_t i = 0; i < h->count; i++)
        if (!is_within(h, p, i)) rest = fmax(rest, fabs(h->mine[i] - h->ref[i]));
    return rest;
}

/* All that is wrong lies within `edge` of the border of a map [C, H, W]. */
static bool only_border(const Hints *h, int64_t edge) {
    const int64_t H = h->dim[1], W = h->dim[2];
    if (H < 4 * edge + 1 || W < 4 * edge + 1) return false;
    for (int64_t i = 0; i < h->count; i++) {
        int64_t x = i % W, y = i / W % H;
        bool inside = x >= edge && x < W - edge && y >= edge && y < H - edge;
        if (inside && is_wrong(h, i)) return false;
    }
    return true;
}

/* What mine has there, if that is telling. */
static const char *what_there(const Hints *h) {
    bool zero = true, turned = true;
    for (int64_t i = 0; i < h->count; i++) {
        if (!is_wrong(h, i)) continue;
        if (h->mine[i] != 0) zero = false;
        if (!(fabs(h->mine[i] + h->ref[i]) <= h->limit)) turned = false;
    }
    return zero ? ", where mine is zero" : turned ? ", where the sign is turned" : "";
}

/* "agree to 1e-07 of the largest value", or what it is where the reference is nothing but zeros. */
typedef struct RestText {
    char text[64];
} RestText;
static RestText rest_text(const Hints *h, double rest) {
    RestText t = {"are exactly zero"};
    if (h->largest > 0)
        snprintf(t.text, sizeof t.text, "agree to %.0e of the largest value", rest / h->largest);
    else if (rest > 0)
        snprintf(t.text, sizeof t.text, "are at most %.0e", rest);
    return t;
}

void hint_places(Hints *h) {
    /* Whatever explains everything says more than where it shows; one element can't be explained. */
    if (h->lines > 0 && h->wrong > 1) return;
    Places p = places_where(h, is_wrong);
    double rest = outside(h, &p);
    char where[400];
    /* A few elements of plain noise stand out, too, if not by so much. */
    if (!(rest <= h->row->allowed && h->error >= 2.9 * h->row->allowed) && !(rest <= h->error / 20))
        return;
    if (p.count == 1 && (h->count >= 16 || (h->count >= 4 && rest <= h->error / 100))) {
        hint_add(h, RANK_ELEMENT, -1, "a single element is off, %s: all others %s",
                 index_text(h, p.first).text, rest_text(h, rest).text);
    } else if (p.count >= 8 && p.count * 2 <= h->count && h->ndim == 3 && only_border(h, 1)) {
        hint_add(h, RANK_PLACE, -1, "only the outermost rows and columns are off: the padding%s",
                 what_there(h));
    } else if (p.count * 2 <= h->count && describe(h, &p, where, sizeof where)) {
        hint_add(h, RANK_PLACE, -1, "only %s %s off%s: the other elements %s", where,
                 strstr(where, "s ") ? "are" : "is", what_there(h), rest_text(h, rest).text);
    } else if (p.count * 2 <= h->count && *what_there(h)) {
        hint_add(h, RANK_PLACE, -1, "%lld elements of %lld are off%s", (long long)p.count,
                 (long long)h->count, what_there(h));
    } else if (p.count * 2 > h->count && p.count < h->count && h->ndim >= 2) {
        /* The first row right and all others wrong: what looks back, looks back wrongly. */
        const int64_t row = h->count / h->dim[0];
        if (h->dim[0] >= 3 && p.first >= row && p.first < 2 * row)
            hint_add(
                h, RANK_PLACE, -1,
                "only %s 0 is right: what is off comes from the %ss before (attention, mask or "
                "positions)",
                hint_axis(h, 0), hint_axis(h, 0));
    }
}
