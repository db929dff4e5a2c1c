/* A Report: rows are added one after the other, then counted. See yardstick.h. */
#include "ref/yardstick/yardstick.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void report_free(Report *r) {
    if (!r) return;
    for (size_t i = 0; i < r->rows; i++) {
        free(r->row[i].group);
        free(r->row[i].name);
    }
    for (size_t i = 0; i < r->hints; i++) free(r->hint[i]);
    free(r->row);
    free(r->title);
    free(r->reference);
    free(r->mine);
    free(r->worst_ref);
    free(r->worst_mine);
    free(r);
}

const char *verdict_name(RowVerdict verdict) {
    static const char *const names[] = {"match",     "mismatch", "non-finite",
                                        "misshapen", "missing",  "extra"};
    return names[verdict];
}

int report_add(Report *r, const Row *row, Error *err) {
    /* Room for a power of two rows: full when their number is one. */
    if ((r->rows & (r->rows - 1)) == 0) {
        size_t room = r->rows ? 2 * r->rows : 1;
        Row *more = realloc(r->row, room * sizeof *more);
        if (!more) return fail(err, "out of memory");
        r->row = more;
    }
    r->row[r->rows++] = *row;
    return 0;
}

void report_offer_worst(Report *r, const Row *row, double *ref, double *mine) {
    const double closeness = row->verdict == ROW_NONFINITE ? INFINITY
                             : row->max_abs == 0           ? 0
                                                           : row->max_abs / row->allowed;
    const bool worst = closeness > r->closest;
    if (worst) {
        r->closest = closeness;
        r->worst = r->rows; /* which is where it will be */
    }
    free(worst ? r->worst_ref : ref);
    free(worst ? r->worst_mine : mine);
    if (worst) r->worst_ref = ref, r->worst_mine = mine;
}

void report_conclude(Report *r) {
    memset(r->counts, 0, sizeof r->counts);
    r->first = r->rows;
    for (size_t i = 0; i < r->rows; i++) {
        RowVerdict verdict = r->row[i].verdict;
        r->counts[verdict]++;
        if (r->first == r->rows && verdict != ROW_MATCH && verdict != ROW_EXTRA) r->first = i;
    }
}

int report_code(const Report *r) {
    if (r->counts[ROW_MISSING] || r->counts[ROW_MISSHAPEN]) return 3;
    if (r->counts[ROW_NONFINITE]) return 4;
    return r->counts[ROW_MISMATCH] ? 1 : 0;
}
