/* The picture of a report without its columns: see report_svg.h. */
#include "ref/yardstick/report_svg.h"

#include <stdio.h>
#include <string.h>

/* ---- writing ------------------------------------------------------------------------------------- */

void chart_line(const Chart *c, const char *class, double x1, double y1, double x2, double y2) {
    char n[4][NUMBER_SIZE];
    put(c->out, "<path class=\"%s\" d=\"M%s %sL%s %s\"/>\n", class, length_text(n[0], x1),
        length_text(n[1], y1), length_text(n[2], x2), length_text(n[3], y2));
}

void chart_box(const Chart *c, const char *class, double x, double y, double w, double h) {
    char n[4][NUMBER_SIZE];
    put(c->out, "<rect class=\"%s\" x=\"%s\" y=\"%s\" width=\"%s\" height=\"%s\"/>\n", class,
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
void chart_mark(const Chart *c, RowVerdict verdict, double x, double y) {
    char n[2][NUMBER_SIZE];
    length_text(n[0], x);
    length_text(n[1], y);
    switch (verdict) {
    case ROW_MATCH:
        put(c->out, "<circle class=\"ok\" cx=\"%s\" cy=\"%s\" r=\"2\"/>\n", n[0], n[1]);
        break;
    case ROW_MISMATCH:
        put(c->out, "<path class=\"bad\" d=\"M%s %sm0-5 4.5 5-4.5 5-4.5-5z\"/>\n", n[0], n[1]);
        break;
    case ROW_NONFINITE:
        put(c->out, "<path class=\"nan\" d=\"M%s %sm-3.5-3.5 7 7m0-7-7 7\"/>\n", n[0], n[1]);
        break;
    default:
        put(c->out, "<path class=\"gone\" d=\"M%s %sm-3.5-3.5h7v7h-7z\"/>\n", n[0], n[1]);
        break;
    }
}

/* ---- around the columns -------------------------------------------------------------------------- */

/* In a font as wide as they come. */
static double width_of(const char *words) { return 6.8 * (double)strlen(words); }

/* A line of labels that don't overlap. */
typedef struct Labels {
    double y;
    int count;
    double from[64], to[64]; /* what is taken */
} Labels;

static bool is_free(const Labels *line, double from, double to) {
    if (line->count == 64 || from < 0 || to > WIDTH) return false;
    for (int i = 0; i < line->count; i++)
        if (from < line->to[i] && to > line->from[i]) return false;
    return true;
}

/* In the middle of its place or, where that is taken, up to `nudge` beside. False if there is no room. */
static bool put_label(Text *out, Labels *line, double middle, double nudge, const char *words) {
    const double width = width_of(words) + 4, shift[] = {0, nudge / 2, -nudge / 2, nudge, -nudge};
    double start = middle - width / 2;
    if (start + width > RIGHT) start = RIGHT - width;
    for (int i = 0; i < 5; i++) {
        const double from = start + shift[i];
        if (!is_free(line, from, from + width)) continue;
        put_words(out, "name", "m", from + width / 2, line->y, words);
        line->from[line->count] = from;
        line->to[line->count++] = from + width;
        return true;
    }
    return false;
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
        const double x = chart_x(c, from), end = chart_x(c, next);
        if (*stretch && width_of(stretch) + 4 <= end - x)
            put_label(c->out, line, (x + end) / 2, 0, stretch);
        if (next < to && end - x > 8) chart_line(c, "cut", end, HEAD, end, c->floor + 4);
    }
}

/* Bands, every second one shaded; how many. */
static size_t put_bands(const Chart *c) {
    Labels stretches = {.y = c->floor + 12};
    size_t k = 0, to;
    for (size_t from = 0; from < c->rows; from = to, k++) {
        to = part_end(c, from, false);
        const double x = chart_x(c, from), end = chart_x(c, to);
        if (k % 2 && end - x >= 2) chart_box(c, "band", x, HEAD, end - x, c->floor - HEAD + 4);
        put_stretches(c, from, to, &stretches);
    }
    return k;
}

/* Their names: first those that have room below their band; of a few the others too, as far as possible,
 * in a second line if need be. */
static void put_names(const Chart *c, bool few) {
    Labels line[2] = {{.y = c->floor + 25}, {.y = c->floor + 38}};
    const double nudge = few ? 22 : 0;
    for (int wide = 1; wide >= 0; wide--)
        for (size_t from = 0, to; from < c->rows; from = to) {
            char part[LABEL_SIZE], stretch[LABEL_SIZE];
            to = part_end(c, from, false);
            report_place(c->row[from], part, stretch);
            const double x = chart_x(c, from), end = chart_x(c, to), middle = (x + end) / 2;
            if ((width_of(part) + 4 <= end - x) != wide) continue;
            if (!put_label(c->out, &line[0], middle, nudge, part) && few)
                put_label(c->out, &line[1], middle, nudge, part);
        }
}

static void put_lane(const Chart *c, double y, const char *words) {
    put_words(c->out, "tick", "e", LEFT - 5, y + 4, words);
    chart_line(c, "grid", LEFT, y + LANE / 2.0, RIGHT, y + LANE / 2.0);
}

static void put_scale(const Chart *c) {
    const int every = (c->high - c->low + 6) / 7;
    for (int decade = c->low; decade <= c->high; decade += every) {
        char words[NUMBER_SIZE];
        const double y =
            c->y_low - (double)(decade - c->low) / (c->high - c->low) * (c->y_low - c->y_high);
        snprintf(words, sizeof words, "1e%d", decade);
        chart_line(c, "grid", LEFT, y, RIGHT, y);
        put_words(c->out, "tick", "e", LEFT - 5, y + 4, decade == 0 ? "1" : words);
    }
    if (c->absent) put_lane(c, c->y_absent, "absent");
    if (c->nonfinite) put_lane(c, c->y_nonfinite, "NaN, inf");
    put_words(c->out, "tick", "e", LEFT - 5, c->y_zero + 4, "0");
    chart_line(c, "grid", LEFT, c->floor, RIGHT, c->floor);
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
        if (count) chart_mark(c, v, put_entry(c->out, &x, kind[i].words), 16);
    }
    double at = put_entry(c->out, &x, "allowed");
    chart_line(c, "allow", at - 5, 16, at + 3, 16);
    if (c->rows <= 2 * COLUMNS) return; /* no column has a third row */
    at = put_entry(c->out, &x, "median");
    chart_line(c, "half", at - 2, 16, at + 2, 16);
}

/* The verdict in words: for those who hear the picture, and as its second line. */
void chart_summary(const Chart *c) {
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
        chart_summary(c);
    }
    put(c->out, "</text>\n");
    for (size_t k = 0; r->first < r->rows && k < c->columns; k++)
        for (size_t i = chart_start(c, k); i < chart_start(c, k + 1); i++)
            if (c->row[i] == &r->row[r->first]) {
                const double x =
                    (chart_x(c, chart_start(c, k)) + chart_x(c, chart_start(c, k + 1))) / 2;
                chart_line(c, "first", x, 47, x, c->floor + 4);
            }
}

void chart_frame(const Chart *c) {
    put_words(c->out, "head", "s", 10, 20, "Relative error of each tensor");
    put_legend(c);
    put_names(c, put_bands(c) <= 24);
    put_scale(c);
    put_first(c);
    put(c->out,
        "<text class=\"tick s\" x=\"%d\" y=\"%d\">In execution order; error and allowance relative "
        "to the tensor&#39;s largest magnitude</text>\n",
        LEFT, (int)c->floor + 53);
}
