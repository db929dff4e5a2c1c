/* The errors along the network's depth, as one picture that stands alone: a README shows it, and the
 * page (report_html.c) has it inline.
 *
 *     x   rows in execution order, a column for each; where they are more than COLUMNS, a column
 *         shows the worst of its rows and their median
 *     y   max_rel on a log scale. Below it a lane for exact zeros, above it lanes for what has no
 *         place on it: not finite; missing or misshapen
 *
 * Mismatches differ from matches in shape as well as in colour. Colours are classes: the style has them
 * twice, for a light and a dark page. */
#include "ref/yardstick/report_svg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- where things are ---------------------------------------------------------------------------- */

/* Of a relative error that isn't NaN; what is beyond the scale lies on its end. */
static double y_of(const Chart *c, double error) {
    if (error == 0) return c->y_zero;
    double decade = log10(error);
    if (decade < c->low) decade = c->low;
    if (decade > c->high) decade = c->high;
    return c->y_low - (decade - c->low) / (c->high - c->low) * (c->y_low - c->y_high);
}

static bool is_absent(const Row *row) {
    return row->verdict == ROW_MISSING || row->verdict == ROW_MISSHAPEN;
}

static bool is_measured(const Row *row) {
    return row->verdict == ROW_MATCH || row->verdict == ROW_MISMATCH;
}

static double allowed_of(const Row *row) {
    return row->largest > 0 ? row->allowed / row->largest : row->allowed;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static size_t keep_positive(double *kept, size_t n, double v) {
    if (!(v > 0) || isinf(v)) return n;
    kept[n] = v;
    return n + 1;
}

static int within(double v, int least, int most) {
    return v < least ? least : v > most ? most : (int)v;
}

/* The decades of all errors and allowances, 1e-18 to 1e4 at most; but the smallest 1 in 200 of them may
 * lie on the scale's end, lest one number makes all others look alike. */
static void find_decades(Chart *c) {
    size_t n = 0;
    for (size_t i = 0; i < c->rows; i++) {
        if (!is_measured(c->row[i])) continue;
        n = keep_positive(c->scratch, n, c->row[i]->max_rel);
        n = keep_positive(c->scratch, n, allowed_of(c->row[i]));
    }
    qsort(c->scratch, n, sizeof *c->scratch, by_size);
    c->low = n ? within(floor(log10(c->scratch[n / 200])), -18, 2) : -8;
    c->high = n ? within(ceil(log10(c->scratch[n - 1])), c->low + 2, 4) : 0;
}

static void find_scale(Chart *c) {
    find_decades(c);
    for (size_t i = 0; i < c->rows; i++) {
        c->absent |= is_absent(c->row[i]);
        c->nonfinite |= c->row[i]->verdict == ROW_NONFINITE;
    }
    double y = HEAD;
    if (c->absent) c->y_absent = y + LANE / 2.0, y += LANE;
    if (c->nonfinite) c->y_nonfinite = y + LANE / 2.0, y += LANE;
    c->y_high = y + 4;
    c->y_low = c->y_high + SCALE;
    c->y_zero = c->y_low + LANE;
    c->floor = c->y_zero + 6;
}

static const char style[] =
    "<style>\n"
    ".dp{font:11px system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;"
    "color-scheme:light dark;"
    "--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#dde2e8;--band:#f3f5f8;--blue:#1f6feb;"
    "--red:#c2330a;--violet:#8f1d9e}\n"
    "@media(prefers-color-scheme:dark){.dp{--page:#0d1117;--ink:#e6edf3;--soft:#9aa4af;"
    "--line:#2c333c;--band:#161c24;--blue:#79b8ff;--red:#ff8a5c;--violet:#e59bf5}}\n"
    "@media print{.dp{--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#dde2e8;--band:#f3f5f8;"
    "--blue:#1f6feb;--red:#c2330a;--violet:#8f1d9e}}\n"
    ".dp .page{fill:var(--page)}.dp .band{fill:var(--band)}.dp text{fill:var(--soft)}"
    ".dp .head{fill:var(--ink);font-size:13px;font-weight:600}.dp .say{fill:var(--ink)}"
    ".dp .m{text-anchor:middle}.dp .e{text-anchor:end}.dp .alarm{fill:var(--red);font-weight:600}"
    ".dp .grid{stroke:var(--line)}.dp .cut{stroke:var(--line)}"
    ".dp .first{stroke:var(--red);stroke-dasharray:2 3}"
    ".dp .bar{fill:var(--blue);opacity:.28}.dp .badbar{fill:var(--red);opacity:.28}"
    ".dp .ok{fill:var(--blue)}.dp .bad{fill:var(--red)}"
    ".dp .nan{stroke:var(--violet);stroke-width:2;fill:none}"
    ".dp .gone{stroke:var(--red);stroke-width:1.5;fill:none}"
    ".dp .allow{stroke:var(--ink);stroke-width:1.2}.dp .half{stroke:var(--soft);stroke-width:1.2}"
    ".dp .hit{fill:transparent}.dp .hit:hover{fill:var(--soft);fill-opacity:.18}\n"
    "</style>\n";

/* ---- one column ---------------------------------------------------------------------------------- */

/* The row of that verdict with the largest error; NULL if there is none. */
static const Row *worst_of(const Chart *c, size_t from, size_t to, RowVerdict verdict) {
    const Row *worst = NULL;
    for (size_t i = from; i < to; i++)
        if (c->row[i]->verdict == verdict && (!worst || c->row[i]->max_rel > worst->max_rel))
            worst = c->row[i];
    return worst;
}

/* Of the measured rows; -1 if there is none. */
static double median(const Chart *c, size_t from, size_t to) {
    size_t n = 0;
    for (size_t i = from; i < to; i++)
        if (is_measured(c->row[i]) && !isnan(c->row[i]->max_rel))
            c->scratch[n++] = c->row[i]->max_rel;
    qsort(c->scratch, n, sizeof *c->scratch, by_size);
    return n ? c->scratch[n / 2] : -1;
}

static void put_row_title(Text *out, const Row *row) {
    char n[2][NUMBER_SIZE];
    if (row->group) {
        put_escaped(out, row->group, LABEL_SIZE);
        put(out, ": ");
    }
    put_escaped_name(out, row->name, NAME_MOST);
    put(out, "\n%s", verdict_name(row->verdict));
    if (is_measured(row))
        put(out, ", error %s of the largest, allowed %s", number_text(n[0], row->max_rel),
            number_text(n[1], allowed_of(row)));
}

static void put_column_title(const Chart *c, size_t from, size_t to, const Row *worst,
                             double middle) {
    char n[NUMBER_SIZE];
    put(c->out, "<title>");
    if (to - from > 1) put(c->out, "%zu tensors, the worst of them:\n", to - from);
    put_row_title(c->out, worst);
    if (to - from > 1 && middle >= 0) put(c->out, "\nmedian error %s", number_text(n, middle));
    put(c->out, "</title>\n");
}

static void put_measured(const Chart *c, const Row *row, double x, double half) {
    const double y = isnan(row->max_rel) ? c->y_high : y_of(c, row->max_rel);
    chart_box(c, row->verdict == ROW_MISMATCH ? "badbar" : "bar", x - half, y, 2 * half,
              c->floor - y);
    chart_mark(c, row->verdict, x, y);
}

static void put_column(const Chart *c, size_t from, size_t to) {
    static const RowVerdict severity[] = {ROW_MISSHAPEN, ROW_MISSING, ROW_NONFINITE, ROW_MISMATCH,
                                          ROW_MATCH};
    const Row *row[5], *worst = NULL;
    for (int i = 0; i < 5; i++) {
        row[i] = worst_of(c, from, to, severity[i]);
        if (!worst) worst = row[i];
    }
    const Row *failed = row[3], *good = row[4], *measured = failed ? failed : good;
    const double left = chart_x(c, from), right = chart_x(c, to), x = (left + right) / 2;
    const double slot = right - left, half = slot * 0.4 < 7 ? slot * 0.4 : 7;
    const double middle = to - from > 2 ? median(c, from, to) : -1;
    put(c->out, "<g>");
    put_column_title(c, from, to, worst, middle);
    if (good) put_measured(c, good, x, half);
    if (failed) put_measured(c, failed, x, half);
    if (measured) {
        const double reach = half > 3 ? half + 1 : 3, y = y_of(c, allowed_of(measured));
        chart_line(c, "allow", x - reach, y, x + reach, y);
    }
    if (middle >= 0) chart_line(c, "half", x - 1.5, y_of(c, middle), x + 1.5, y_of(c, middle));
    if (row[2]) chart_mark(c, ROW_NONFINITE, x, c->y_nonfinite);
    if (row[0] || row[1]) chart_mark(c, ROW_MISSING, x, c->y_absent);
    chart_box(c, "hit", left, HEAD, slot, c->floor - HEAD);
    put(c->out, "</g>\n");
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static void put_chart(Chart *c) {
    find_scale(c);
    const int height = (int)c->floor + 62;
    put(c->out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"dp\" viewBox=\"0 0 %d %d\" "
        "width=\"%d\" height=\"%d\" role=\"img\" aria-labelledby=\"dp-title dp-desc\">\n"
        "<title id=\"dp-title\">Relative error of each tensor, in execution order</title>\n"
        "<desc id=\"dp-desc\">",
        WIDTH, height, WIDTH, height);
    chart_summary(c);
    put(c->out, "</desc>\n%s", style);
    put(c->out, "<rect class=\"page\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n", WIDTH, height);
    chart_frame(c);
    for (size_t k = 0; k < c->columns; k++) put_column(c, chart_start(c, k), chart_start(c, k + 1));
    put(c->out, "</svg>\n");
}

char *report_svg(const Report *r, Error *err) {
    Text out = {.err = err};
    Chart c = {.r = r, .out = &out};
    c.row = malloc((r->rows + 1) * sizeof *c.row);
    c.scratch = malloc((2 * r->rows + 1) * sizeof *c.scratch);
    if (c.row && c.scratch) {
        for (size_t i = 0; i < r->rows; i++)
            if (r->row[i].verdict != ROW_EXTRA) c.row[c.rows++] = &r->row[i];
        c.columns = c.rows < COLUMNS ? c.rows : COLUMNS;
        put_chart(&c);
    } else {
        fail(err, "out of memory");
    }
    free(c.row);
    free(c.scratch);
    return text_finish(&out);
}
