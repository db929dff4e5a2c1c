/* The picture of a report: what its two files share.
 *
 *     report_svg.c        the scale and the columns, one for each tensor
 *     report_svg_frame.c  what stands around them: bands and their names, lines, legend, headings */
#ifndef LLMDIFF_REPORT_SVG_H
#define LLMDIFF_REPORT_SVG_H

#include "ref/yardstick/report_markup.h"

enum { WIDTH = 700, LEFT = 52, RIGHT = 690, COLUMNS = 210, SCALE = 180, LANE = 16, HEAD = 62 };
enum { NAME_MOST = 90 };

/* Of the lanes and the scale, the y of the middle or of the ends. */
typedef struct Chart {
    const Report *r;
    const Row **row; /* [rows]: all but the extra ones */
    size_t rows, columns;
    double *scratch; /* [2 rows] */
    int low, high;   /* the scale's decades */
    bool absent, nonfinite;
    double y_absent, y_nonfinite, y_high, y_low, y_zero, floor;
    Text *out;
} Chart;

static inline double chart_x(const Chart *c, size_t row) {
    return LEFT + (RIGHT - LEFT) * (double)row / (double)c->rows;
}
/* The first row of column k. */
static inline size_t chart_start(const Chart *c, size_t k) { return k * c->rows / c->columns; }

/* ---- report_svg_frame.c -------------------------------------------------------------------------- */

void chart_line(const Chart *c, const char *class, double x1, double y1, double x2, double y2);
void chart_box(const Chart *c, const char *class, double x, double y, double w, double h);
/* One shape for each verdict. */
void chart_mark(const Chart *c, RowVerdict verdict, double x, double y);

void chart_frame(const Chart *c);   /* below the columns */
void chart_summary(const Chart *c); /* the verdict in words */

#endif
