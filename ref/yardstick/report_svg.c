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
#include "ref/yardstick/report_markup.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 700, LEFT = 52, RIGHT = 690, COLUMNS = 210, SCALE = 180, LANE = 16, HEAD = 62 };
enum { NAME_MOST = 90 };

/* Of the lanes and the scale, the y of the middle or of the ends. */
typedef struct Chart {
    const Report *r;
    const Row **row; /* [rows]: all but the extra ones */
    size_t rows, columns;
    double *scratch; /* [rows] */
    int low, high;   /* the scale's decades */
    bool absent, nonfinite;
    double y_absent, y_nonfinite, y_high, y_low, y_zero, floor;
    Text *out;
} Chart;

/* ---- where things are ---------------------------------------------------------------------------- */

static double x_of(const Chart *c, size_t row) {
    return LEFT + (RIGHT - LEFT) * (double)row / (double)c->rows;
}

/* The first row of column k. */
static size_t start_of(const Chart *c, size_t k) { return k * c->rows / c->columns; }

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

static void widen(Chart *c, double error) {
    if (!(error > 0) || isinf(error)) return;
    const double decade = log10(error);
    if (decade < c->low) c->low = (int)floor(decade);
    if (decade > c->high) c->high = (int)ceil(decade);
}

/* Float32's errors and some room, further if there is anything; 1e-18 to 1e4 at most. */
static void find_scale(Chart *c) {
    c->low = 0;
    c->high = -20;
    for (size_t i = 0; i < c->rows; i++) {
        const Row *row = c->row[i];
        c->absent |= is_absent(row);
        c->nonfinite |= row->verdict == ROW_NONFINITE;
        if (!is_measured(row)) continue;
        widen(c, row->max_rel);
        widen(c, allowed_of(row));
    }
    if (c->low < -18) c->low = -18;
    if (c->high > 4) c->high = 4;
    if (c->low > c->high) c->low = -8, c->high = 0;
    if (c->low > 3) c->low = 3;
    if (c->high < -17) c->high = -17;
    if (c->high - c->low < 2) c->low--, c->high++;
    double y = HEAD;
    if (c->absent) c->y_absent = y + LANE / 2.0, y += LANE;
    if (c->nonfinite) c->y_nonfinite = y + LANE / 2.0, y += LANE;
    c->y_high = y + 4;
    c->y_low = c->y_high + SCALE;
    c->y_zero = c->y_low + LANE;
    c->floor = c->y_zero + 6;
}

/* ---- writing ------------------------------------------------------------------------------------- */

static void put_line(Text *out, const char *class, double x1, double y1, double x2, double y2) {
    char n[4][NUMBER_SIZE];
    put(out, "<path class=\"%s\" d=\"M%s %sL%s %s\"/>\n", class, length_text(n[0], x1),
        length_text(n[1], y1), length_text(n[2], x2), length_text(n[3], y2));
}

static void put_box(Text *out, const char *class, double x, double y, double w, double h) {
    char n[4][NUMBER_SIZE];
    put(out, "<rect class=\"%s\" x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\"/>\n", class,
        length_text(n[0], x), length_text(n[1], y), length_text(n[2], w), length_text(n[3], h));
}

/* `anchor`: "s", "m" or "e". */
static void put_words(Text *out, const char *class, const char *anchor, double x, double y,
                      const char *words) {
    char n[2][NUMBER_SIZE];
    put(out, "<text class=\"%s %s\" x=\"%s\" y=\"%s\">", class, anchor, length_text(n[0], x),
        length_text(n[1], y));
    put_escaped(out, words, LABEL_SIZE);
    put(out, "</text>\n");
}

/* One shape for each verdict. */
static void put_mark(Text *out, RowVerdict verdict, double x, double y) {
    char n[2][NUMBER_SIZE];
    length_text(n[0], x);
    length_text(n[1], y);
    switch (verdict) {
    case ROW_MATCH:
        put(out, "<circle class=\"ok\" cx=\"%s\" cy=\"%s\" r=\"2\"/>\n", n[0], n[1]);
        break;
    case ROW_MISMATCH:
        put(out, "<path class=\"bad\" d=\"M%s %sm0-5 4.5 5-4.5 5-4.5-5z\"/>\n", n[0], n[1]);
        break;
    case ROW_NONFINITE:
        put(out, "<path class=\"nan\" d=\"M%s %sm-3.5-3.5 7 7m0-7-7 7\"/>\n", n[0], n[1]);
        break;
    default: put(out, "<path class=\"gone\" d=\"M%s %sm-3.5-3.5h7v7h-7z\"/>\n", n[0], n[1]); break;
    }
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

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
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
    put_box(c->out, row->verdict == ROW_MISMATCH ? "badbar" : "bar", x - half, y, 2 * half,
            c->floor - y);
    put_mark(c->out, row->verdict, x, y);
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
    const double left = x_of(c, from), right = x_of(c, to), x = (left + right) / 2;
    const double slot = right - left, half = slot * 0.4 < 7 ? slot * 0.4 : 7;
    const double middle = to - from > 2 ? median(c, from, to) : -1;
    put(c->out, "<g>");
    put_column_title(c, from, to, worst, middle);
    if (good) put_measured(c, good, x, half);
    if (failed) put_measured(c, failed, x, half);
    if (measured) {
        const double reach = half > 3 ? half + 1 : 3, y = y_of(c, allowed_of(measured));
        put_line(c->out, "allow", x - reach, y, x + reach, y);
    }
    if (middle >= 0) put_line(c->out, "half", x - 1.5, y_of(c, middle), x + 1.5, y_of(c, middle));
    if (row[2]) put_mark(c->out, ROW_NONFINITE, x, c->y_nonfinite);
    if (row[0] || row[1]) put_mark(c->out, ROW_MISSING, x, c->y_absent);
    put_box(c->out, "hit", left, HEAD, slot, c->floor - HEAD);
    put(c->out, "</g>\n");
}

/* ---- around the columns -------------------------------------------------------------------------- */

/* In a font as wide as they come. */
static double width_of(const char *words) { return 6.8 * (double)strlen(words); }

/* A line of labels, from the left to the right: those that don't overlap. */
typedef struct Labels {
    double y, free_from;
    double nudge; /* how far one may stand from its place */
} Labels;

static bool put_label(Text *out, Labels *line, double from, double to, bool inside,
                      const char *words) {
    const double width = width_of(words) + 4;
    double start = (from + to - width) / 2;
    if (inside && width > to - from) return false;
    if (start + width > RIGHT) start = RIGHT - width;
    if (start < LEFT) start = LEFT;
    if (start + line->nudge < line->free_from) return false;
    if (start < line->free_from) start = line->free_from;
    if (start + width > WIDTH) return false;
    put_words(out, "name", "m", start + width / 2, line->y, words);
    line->free_from = start + width;
    return true;
}

/* The first row behind `from` that belongs to another part, or at least to another stretch of it. */
static size_t part_end(const Chart *c, size_t from, bool of_stretch) {
    char part[LABEL_SIZE], stretch[LABEL_SIZE], other_part[LABEL_SIZE], other_stretch[LABEL_SIZE];
    report_place(c->row[from], part, stretch);
    size_t i = from;
    while (++i < c->rows) {
        report_place(c->row[i], other_part, other_stretch);
        if (strcmp(part, other_part) != 0 || (of_stretch && strcmp(stretch, other_stretch) != 0))
            break;
    }
    return i;
}

static void put_stretches(const Chart *c, size_t from, size_t to, Labels *line) {
    char part[LABEL_SIZE], stretch[LABEL_SIZE];
    for (size_t next; from < to; from = next) {
        next = part_end(c, from, true);
        report_place(c->row[from], part, stretch);
        const double x = x_of(c, from), end = x_of(c, next);
        if (*stretch) put_label(c->out, line, x, end, true, stretch);
        if (next < to && end - x > 8) put_line(c->out, "cut", end, HEAD, end, c->floor + 4);
    }
}

/* Bands, every second one shaded, with their names below: of a few all of them, as far as possible, else
 * those that have room. */
static void put_parts(const Chart *c) {
    char part[LABEL_SIZE], stretch[LABEL_SIZE];
    size_t parts = 0, k = 0, to;
    for (size_t from = 0; from < c->rows; from = part_end(c, from, false)) parts++;
    const bool few = parts <= 24;
    const double nudge = few ? 22 : 0;
    Labels stretches = {c->floor + 12, 0, 0};
    Labels names[2] = {{c->floor + 25, 0, nudge}, {c->floor + 38, 0, nudge}};
    for (size_t from = 0; from < c->rows; from = to, k++) {
        to = part_end(c, from, false);
        const double x = x_of(c, from), end = x_of(c, to);
        if (k % 2 && end - x >= 2) put_box(c->out, "band", x, HEAD, end - x, c->floor - HEAD + 4);
        put_stretches(c, from, to, &stretches);
        report_place(c->row[from], part, stretch);
        if (!put_label(c->out, &names[0], x, end, false, part) && few)
            put_label(c->out, &names[1], x, end, false, part);
    }
}

static void put_lane(const Chart *c, double y, const char *words) {
    put_words(c->out, "tick", "e", LEFT - 5, y + 4, words);
    put_line(c->out, "grid", LEFT, y + LANE / 2.0, RIGHT, y + LANE / 2.0);
}

static void put_scale(const Chart *c) {
    const int every = (c->high - c->low + 6) / 7;
    for (int decade = c->low; decade <= c->high; decade += every) {
        char words[NUMBER_SIZE];
        const double y =
            c->y_low - (double)(decade - c->low) / (c->high - c->low) * (c->y_low - c->y_high);
        snprintf(words, sizeof words, "1e%d", decade);
        put_line(c->out, "grid", LEFT, y, RIGHT, y);
        put_words(c->out, "tick", "e", LEFT - 5, y + 4, decade == 0 ? "1" : words);
    }
    if (c->absent) put_lane(c, c->y_absent, "absent");
    if (c->nonfinite) put_lane(c, c->y_nonfinite, "NaN, inf");
    put_words(c->out, "tick", "e", LEFT - 5, c->y_zero + 4, "0");
    put_line(c->out, "grid", LEFT, c->floor, RIGHT, c->floor);
}

/* One entry of the legend, right-aligned to x: its mark is at the x that is returned. */
static double put_entry(Text *out, double *x, const char *words) {
    const double start = *x - width_of(words);
    put_words(out, "name", "s", start, 20, words);
    *x = start - 24;
    return start - 8;
}

/* Only what occurs, from the right to the left. */
static void put_legend(const Chart *c) {
    static const struct {
        RowVerdict verdict;
        const char *words;
    } kind[] = {{ROW_MISSING, "missing, misshapen"},
                {ROW_NONFINITE, "non-finite"},
                {ROW_MISMATCH, "mismatch"},
                {ROW_MATCH, "match"}};
    double x = RIGHT;
    for (int i = 0; i < 4; i++) {
        const RowVerdict v = kind[i].verdict;
        const size_t count = c->r->counts[v] + (v == ROW_MISSING ? c->r->counts[ROW_MISSHAPEN] : 0);
        if (count) put_mark(c->out, v, put_entry(c->out, &x, kind[i].words), 16);
    }
    double at = put_entry(c->out, &x, "allowed");
    put_line(c->out, "allow", at - 5, 16, at + 3, 16);
    if (c->rows <= 2 * COLUMNS) return; /* no column has a third row */
    at = put_entry(c->out, &x, "median");
    put_line(c->out, "half", at - 2, 16, at + 2, 16);
}

/* The verdict in words: for those who hear the picture, and as its second line. */
static void put_summary(const Chart *c) {
    const Report *r = c->r;
    if (c->rows == 0)
        put(c->out, "no tensor was compared");
    else if (r->first == r->rows)
        put(c->out, "all %zu tensors match", c->rows);
    else
        put(c->out, "%zu of %zu tensors match", r->counts[ROW_MATCH], c->rows);
}

static void put_first(const Chart *c) {
    const Report *r = c->r;
    put(c->out, "<text class=\"%s\" x=\"%d\" y=\"42\">", r->first < r->rows ? "alarm" : "say", 10);
    if (r->first < r->rows) {
        put(c->out, "First divergence: ");
        if (r->row[r->first].group) {
            put_escaped(c->out, r->row[r->first].group, LABEL_SIZE);
            put(c->out, " ");
        }
        put_escaped_name(c->out, r->row[r->first].name, NAME_MOST - 10);
    } else {
        put(c->out, c->rows ? "No divergence: " : "Nothing here: ");
        put_summary(c);
    }
    put(c->out, "</text>\n");
    for (size_t k = 0; r->first < r->rows && k < c->columns; k++)
        for (size_t i = start_of(c, k); i < start_of(c, k + 1); i++)
            if (c->row[i] == &r->row[r->first]) {
                const double x = (x_of(c, start_of(c, k)) + x_of(c, start_of(c, k + 1))) / 2;
                put_line(c->out, "first", x, 47, x, c->floor + 4);
            }
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
    put_summary(c);
    put(c->out, "</desc>\n%s", style);
    put(c->out, "<rect class=\"page\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n", WIDTH, height);
    put_words(c->out, "head", "s", 10, 20, "Relative error of each tensor");
    put_legend(c);
    put_parts(c);
    put_scale(c);
    put_first(c);
    for (size_t k = 0; k < c->columns; k++) put_column(c, start_of(c, k), start_of(c, k + 1));
    put(c->out,
        "<text class=\"tick s\" x=\"%d\" y=\"%d\">In execution order; error and allowance relative "
        "to the tensor&#39;s largest magnitude</text>\n</svg>\n",
        LEFT, height - 9);
}

char *report_svg(const Report *r, Error *err) {
    Text out = {.err = err};
    Chart c = {.r = r, .out = &out};
    c.row = malloc((r->rows + 1) * sizeof *c.row);
    c.scratch = malloc((r->rows + 1) * sizeof *c.scratch);
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
