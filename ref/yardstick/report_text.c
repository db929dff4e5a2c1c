/* A Report for people: a table of 120 columns at most, then what to look at first. See yardstick.h.
 *
 * One line for each row, in execution order; below a row that isn't a match, where it is worst and
 * what was allowed. A long table shows what is near the first divergence, and what fails. */
#include "ref/text.h"
#include "ref/yardstick/yardstick.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_WIDTH 42
#define LONG_TABLE 60 /* rows; a longer one is shown in part */
#define NEAR 3        /* rows shown before and after the first divergence */
#define FAILING_MAX 40
#define EXTRA_MAX 10

/* ---- cells --------------------------------------------------------------------------------------- */

/* A name that is too long keeps its beginning and, since that tells more, a longer end. */
static void put_name(Text *out, const char *name) {
    size_t n = strlen(name), head = NAME_WIDTH / 3, tail = NAME_WIDTH - head - 2;
    if (n <= NAME_WIDTH)
        put(out, " %-*s", NAME_WIDTH, name);
    else
        put(out, " %.*s..%s", (int)head, name, name + n - tail);
}

static void list_text(char *out, size_t size, int n, const int64_t *v) {
    size_t used = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < n && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%" PRId64, i ? "," : "", v[i]);
    if (used < size) snprintf(out + used, size - used, "]");
}

static void put_shape(Text *out, const TensorInfo *t) {
    char shape[200];
    list_text(shape, sizeof shape, t->ndim, t->dim);
    put(out, " %-14s", shape);
}

/* In 7 columns. */
static void put_number(Text *out, double v) {
    if (v == 0)
        put(out, " %7s", "0");
    else
        put(out, " %7.1e", v);
}

/* In 9 columns; what is near 1 by its distance from there. */
static void put_cosine(Text *out, double v) {
    if (v == 1)
        put(out, " %9s", "1");
    else if (v >= 0.999999)
        put(out, " 1-%7.1e", 1 - v);
    else
        put(out, " %9.6f", v);
}

static void put_cells(Text *out, const Row *row) {
    put_name(out, row->name);
    put_shape(out, row->ref.name ? &row->ref : &row->mine);
    if (row->verdict > ROW_NONFINITE) {
        put(out, " %7s %7s %7s %9s %8s %5s", "-", "-", "-", "-", "-", "-");
    } else {
        put_number(out, row->max_abs);
        put_number(out, row->max_rel);
        put_number(out, row->nmse);
        put_cosine(out, row->cosine);
        put(out, " %8.3g %5" PRId64, row->ulp, row->nonfinite);
    }
    put(out, "  %s\n", verdict_name(row->verdict));
}

/* ---- what stands below a row ----------------------------------------------------------------------- */

static void put_worst(Text *out, const Row *row) {
    int64_t index[STORED_MAX_DIMS], rest = row->worst;
    for (int i = row->ref.ndim - 1; i >= 0; i--) {
        index[i] = rest % row->ref.dim[i];
        rest /= row->ref.dim[i];
    }
    char place[200];
    list_text(place, sizeof place, row->ref.ndim, index);
    put(out, "     %s %s: reference %.9g, mine %.9g; allowed %.2g\n",
        row->verdict == ROW_NONFINITE ? "first at" : "worst at", place, row->worst_ref,
        row->worst_mine, row->allowed);
}

static void put_kinds(Text *out, const Row *row) {
    char expected[200], found[200];
    list_text(expected, sizeof expected, row->ref.ndim, row->ref.dim);
    list_text(found, sizeof found, row->mine.ndim, row->mine.dim);
    put(out, "     expected %s %s, found %s %s\n", dtype_name(row->ref.dtype), expected,
        dtype_name(row->mine.dtype), found);
}

static void put_row(Text *out, const Row *row, bool everything) {
    put_cells(out, row);
    bool measured = row->verdict <= ROW_NONFINITE && row->ref.count > 0;
    if (row->verdict == ROW_MISSHAPEN)
        put_kinds(out, row);
    else if (measured && (row->verdict != ROW_MATCH || (everything && row->max_abs > 0)))
        put_worst(out, row);
}

/* ---- the table ------------------------------------------------------------------------------------ */

typedef struct Shown {
    size_t center; /* the first divergence; without one, what came nearest to it */
    bool all;
    size_t failing, extra;
} Shown;

static bool is_shown(Shown *s, const Report *r, size_t i) {
    RowVerdict verdict = r->row[i].verdict;
    bool near = i + NEAR >= s->center && i <= s->center + NEAR;
    bool extra = verdict == ROW_EXTRA && s->extra++ < EXTRA_MAX;
    bool failing = verdict != ROW_MATCH && verdict != ROW_EXTRA && s->failing++ < FAILING_MAX;
    return s->all || near || extra || failing;
}

static void put_gap(Text *out, size_t *gap) {
    if (*gap) put(out, " ... %zu row%s\n", *gap, *gap == 1 ? "" : "s");
    *gap = 0;
}

static void put_header(Text *out) {
    put(out, " %-*s %-14s %7s %7s %7s %9s %8s %5s  %s\n", NAME_WIDTH, "tensor", "shape", "max abs",
        "max rel", "NMSE", "cosine", "ULP", "n-fin", "verdict");
}

/* How many rows from i on are a whole group of which nothing is there; 0: they aren't. */
static size_t missing_group(const Report *r, size_t i) {
    const char *group = r->row[i].group;
    if (!group || (i && r->row[i - 1].group && strcmp(r->row[i - 1].group, group) == 0)) return 0;
    size_t n = 0;
    for (; i + n < r->rows && strcmp(r->row[i + n].group, group) == 0; n++)
        if (r->row[i + n].verdict != ROW_MISSING) return 0;
    return n;
}

static void put_table(Text *out, const Report *r, bool all_rows) {
    const char *group = NULL;
    size_t gap = 0;
    Shown shown = {.center = r->first < r->rows ? r->first
                             : r->worst_ref     ? r->worst
                                                : 0,
                   .all = all_rows || r->rows <= LONG_TABLE};
    put_header(out);
    for (size_t i = 0; i < r->rows; i++) {
        const Row *row = &r->row[i];
        const size_t missing = missing_group(r, i);
        if (missing) {
            put_gap(out, &gap);
            put(out, "%s: all %zu tensors are missing: no %s.safetensors or .npz\n", row->group,
                missing, row->group);
            group = row->group;
            i += missing - 1;
            continue;
        }
        if (!is_shown(&shown, r, i)) {
            gap++;
            continue;
        }
        put_gap(out, &gap);
        if (row->group && (!group || strcmp(group, row->group) != 0))
            put(out, "%s\n", group = row->group);
        put_row(out, row, all_rows);
    }
    put_gap(out, &gap);
    if (!shown.all) put(out, " (--all prints every row)\n");
}

/* ---- what was allowed ------------------------------------------------------------------------------ */

#define SOURCES_MAX 3

/* Where the tolerances come from, if that can be said in few lines. */
static void put_sources(Text *out, const Report *r) {
    const char *source[SOURCES_MAX];
    size_t sources = 0, of[SOURCES_MAX] = {0};
    bool more = false;
    for (size_t i = 0; i < r->rows; i++) {
        if (r->row[i].verdict > ROW_NONFINITE) continue;
        size_t k = 0;
        while (k < sources && strcmp(source[k], r->row[i].tolerance.source) != 0) k++;
        if (k == SOURCES_MAX) {
            more = true;
            continue;
        }
        if (k == sources) source[sources++] = r->row[i].tolerance.source;
        of[k]++;
    }
    for (size_t k = 0; k < sources; k++)
        put(out, "%s %s (%zu tensor%s)\n", k ? "        " : "allowed:", source[k], of[k],
            of[k] == 1 ? "" : "s");
    if (more) put(out, "         and others: --json tells each tensor's\n");
}

/* ---- the end --------------------------------------------------------------------------------------- */

static void put_counts(Text *out, const Report *r) {
    size_t judged = r->rows - r->counts[ROW_EXTRA];
    put(out, "%zu tensor%s: ", judged, judged == 1 ? "" : "s");
    bool first = true;
    for (RowVerdict v = ROW_MATCH; v < ROW_EXTRA; v++) {
        if (!r->counts[v] && v != ROW_MATCH) continue;
        put(out, "%s%zu %s", first ? "" : ", ", r->counts[v], verdict_name(v));
        first = false;
    }
    if (r->counts[ROW_EXTRA]) put(out, "; %zu extra, not judged", r->counts[ROW_EXTRA]);
    put(out, "\n");
}

static void put_first(Text *out, const Report *r) {
    if (r->first == r->rows) {
        put(out, "first divergence: none\n");
        return;
    }
    const Row *row = &r->row[r->first];
    put(out, "first divergence: %s%s%s: ", row->group ? row->group : "", row->group ? " " : "",
        row->name);
    switch (row->verdict) {
    case ROW_MISMATCH:
        put(out, "off by %.2g (%.2g of the largest)\n  where %.2g is allowed: %s\n", row->max_abs,
            row->max_rel, row->allowed, row->tolerance.source);
        break;
    case ROW_NONFINITE:
        if (row->nonfinite)
            put(out, "%" PRId64 " of %" PRId64 " numbers are not finite\n", row->nonfinite,
                row->ref.count);
        else
            put(out, "the reference is not finite\n");
        break;
    case ROW_MISSHAPEN: put(out, "another shape or kind of type\n"); break;
    default: put(out, "missing\n"); break;
    }
}

static void put_others(Text *out, const Report *r) {
    Others others;
    if (report_others(r, &others, out->err) || !others.count) return;
    put(out, "also diverging by themselves (forced, operators, modules): ");
    for (size_t i = 0; i < others.shown; i++) put(out, "%s%s", i ? ", " : "", others.name[i]);
    if (others.count > others.shown) put(out, ", and %zu more", others.count - others.shown);
    put(out, "\n");
}

static bool guessed(const Report *r) {
    for (size_t i = 0; i < r->rows; i++)
        if (r->row[i].verdict <= ROW_NONFINITE && r->row[i].tolerance.guessed) return true;
    return false;
}

char *report_text(const Report *r, bool all_rows, Error *err) {
    Text out = {.err = err};
    put(&out, "%s: reference %s, mine %s\n", r->title, r->reference, r->mine);
    put_sources(&out, r);
    put(&out, "\n");
    put_table(&out, r, all_rows);
    put(&out, "\n");
    put_counts(&out, r);
    put_first(&out, r);
    for (size_t i = 0; i < r->hints; i++) put(&out, "hint: %s\n", r->hint[i]);
    put_others(&out, r);
    if (report_code(r) == 0 && guessed(r))
        put(&out, "judged by a default; a kit's tolerances are stricter (--kit)\n");
    return text_finish(&out);
}
