/* The worst tensor as pictures: its error on a log scale, beside it reference and mine on one common
 * linear scale. [L, C] is drawn as L rows of C, [C, H, W] as a mosaic of C maps, [C] as one row.
 *
 * A tensor larger than a picture is drawn by blocks: of each the value with the largest magnitude
 * shows, so that a single wrong element can't disappear. The pixels are a PNG in the page, scaled up
 * without smoothing; colours are the same on a light and on a dark page, and where there is no
 * element the page shows. */
#include "ref/image.h"
#include "ref/yardstick/report_markup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Colours of the palettes: no element, an exact zero, NaN or infinity, then the scale. */
enum { CLEAR, EQUAL, NONFINITE, SHADES_FROM, SHADES = 65, COLORS = SHADES_FROM + SHADES };

typedef struct Palette {
    uint8_t rgb[COLORS][3];
} Palette;

static const uint8_t viridis[5][3] = {
    {68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}};
static const uint8_t blue_red[5][3] = {
    {33, 102, 172}, {146, 197, 222}, {247, 247, 247}, {244, 165, 130}, {178, 24, 43}};

static Palette palette_of(const uint8_t anchor[5][3]) {
    Palette p = {{{0}, {154, 160, 166}, {255, 0, 200}}};
    for (int i = 0; i < SHADES; i++)
        for (int k = 0; k < 3; k++) {
            const double at = 4.0 * i / (SHADES - 1);
            const int low = at < 3 ? (int)at : 3;
            p.rgb[SHADES_FROM + i][k] = (uint8_t)lround(
                anchor[low][k] + (at - low) * (anchor[low + 1][k] - anchor[low][k]));
        }
    return p;
}

/* ---- a tensor laid out on a plane ---------------------------------------------------------------- */

typedef struct Plane {
    int64_t maps, map_height, map_width; /* one map: a matrix */
    int64_t across;                      /* maps in a row of the mosaic; a cell between two */
    int64_t width, height;               /* in elements */
    int64_t block_width, block_height;   /* elements that one pixel stands for */
    int64_t columns, rows;               /* in pixels */
} Plane;

static int64_t blocks(int64_t size, int64_t block) { return (size + block - 1) / block; }

static Plane plane_of(const TensorInfo *t, int64_t most) {
    Plane p = {.maps = 1, .map_height = 1, .map_width = 1};
    if (t->ndim > 0) p.map_width = t->dim[t->ndim - 1];
    if (t->ndim > 1) p.map_height = t->dim[t->ndim - 2];
    for (int i = 0; i < t->ndim - 2; i++) p.maps *= t->dim[i];
    /* A mosaic half as wide again as it is high. */
    p.across = llround(
        sqrt(1.5 * (double)p.maps * (double)(p.map_height + 1) / (double)(p.map_width + 1)));
    if (p.across < 1) p.across = 1;
    if (p.across > p.maps) p.across = p.maps;
    p.width = p.across * (p.map_width + 1) - 1;
    p.height = blocks(p.maps, p.across) * (p.map_height + 1) - 1;
    p.block_width = blocks(p.width, most);
    p.block_height = blocks(p.height, most);
    if (p.maps > 1) { /* maps keep their proportions */
        if (p.block_width < p.block_height) p.block_width = p.block_height;
        p.block_height = p.block_width;
    }
    p.columns = blocks(p.width, p.block_width);
    p.rows = blocks(p.height, p.block_height);
    return p;
}

/* The pixel of element i: its index in [rows, columns]. */
static size_t pixel_of(const Plane *p, int64_t i) {
    const int64_t map = i / (p->map_height * p->map_width);
    const int64_t y = i / p->map_width % p->map_height + map / p->across * (p->map_height + 1);
    const int64_t x = i % p->map_width + map % p->across * (p->map_width + 1);
    return (size_t)(y / p->block_height * p->columns + x / p->block_width);
}

/* ---- what is drawn ------------------------------------------------------------------------------- */

typedef enum Kind { ERROR_OF_MINE, REFERENCE, MINE } Kind;

typedef struct Figure {
    const TensorInfo *info;
    const double *ref, *mine; /* [info->count] */
    double low, high;         /* the error's scale: decades */
    double largest;           /* the values' scale: -largest to largest */
} Figure;

static double element(const Figure *f, Kind kind, int64_t i) {
    return kind == REFERENCE ? f->ref[i]
           : kind == MINE    ? f->mine[i]
                          /* inf - inf is NaN, as it should be */
                          : fabs(f->mine[i] - f->ref[i]);
}

/* A figure's scales: six decades below the largest error at most. */
static void find_scales(Figure *f) {
    double smallest = INFINITY, largest = 0, other = 0;
    for (int64_t i = 0; i < f->info->count; i++) {
        const double error = element(f, ERROR_OF_MINE, i);
        if (isfinite(error) && error > largest) largest = error;
        if (error > 0 && error < smallest) smallest = error;
        if (isfinite(f->ref[i]) && fabs(f->ref[i]) > f->largest) f->largest = fabs(f->ref[i]);
        if (isfinite(f->mine[i]) && fabs(f->mine[i]) > other) other = fabs(f->mine[i]);
    }
    if (f->largest == 0) f->largest = other > 0 ? other : 1;
    f->high = largest > 0 ? ceil(log10(largest)) : 0;
    f->low = largest > 0 ? floor(log10(smallest)) : -1;
    if (f->low < f->high - 6) f->low = f->high - 6;
    if (f->low > f->high - 1) f->low = f->high - 1;
}

static uint8_t color_of(const Figure *f, Kind kind, double v) {
    if (!isfinite(v)) return NONFINITE;
    if (kind == ERROR_OF_MINE && v == 0) return EQUAL;
    double at =
        kind == ERROR_OF_MINE ? (log10(v) - f->low) / (f->high - f->low) : (v / f->largest + 1) / 2;
    at = at < 0 ? 0 : at > 1 ? 1 : at;
    return (uint8_t)(SHADES_FROM + lround(at * (SHADES - 1)));
}

/* Whether v shows in a pixel that shows w: what isn't finite always does. */
static bool outshines(double v, double w) {
    if (!isfinite(w)) return false;
    return !isfinite(v) || fabs(v) > fabs(w);
}

static uint8_t *draw(const Figure *f, Kind kind, const Plane *p, Error *err) {
    const size_t pixels = (size_t)(p->rows * p->columns);
    uint8_t *color = calloc(pixels, 1);
    double *shown = calloc(pixels, sizeof *shown);
    if (color && shown) {
        for (int64_t i = 0; i < f->info->count; i++) {
            const double v = element(f, kind, i);
            const size_t at = pixel_of(p, i);
            if (color[at] != CLEAR && !outshines(v, shown[at])) continue;
            shown[at] = v;
            color[at] = color_of(f, kind, v);
        }
    } else {
        fail(err, "out of memory");
        free(color);
        color = NULL;
    }
    free(shown);
    return color;
}

/* ---- into the page ------------------------------------------------------------------------------- */

static void put_base64(Text *out, const uint8_t *bytes, size_t size) {
    static const char letter[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        const unsigned b = i + 1 < size ? bytes[i + 1] : 0, c = i + 2 < size ? bytes[i + 2] : 0;
        const unsigned all = (unsigned)bytes[i] << 16 | b << 8 | c;
        put(out, "%c%c%c%c", letter[all >> 18], letter[all >> 12 & 63],
            i + 1 < size ? letter[all >> 6 & 63] : '=', i + 2 < size ? letter[all & 63] : '=');
    }
}

static void put_pixels(Text *out, const Figure *f, Kind kind, const Plane *p) {
    const Palette palette = palette_of(kind == ERROR_OF_MINE ? viridis : blue_red);
    const ImagePalette colors = {COLORS, palette.rgb, true};
    size_t size = 0;
    uint8_t *index = draw(f, kind, p, out->err);
    uint8_t *png =
        index ? image_palette_png(&colors, index, p->columns, p->rows, &size, out->err) : NULL;
    put(out, "data:image/png;base64,");
    if (png) put_base64(out, png, size);
    free(png);
    free(index);
}

/* How large a pixel is drawn: so that the picture fits, and matrices of few rows or columns are no
 * hairlines. */
static void pixel_size(const Plane *p, double most, double *width, double *height) {
    double w = most / (double)p->columns, h = 0.75 * most / (double)p->rows;
    if (w > 24) w = 24;
    if (h > 24) h = 24;
    if (p->maps > 1) w = h = w < h ? w : h;
    if (w > 6 * h) w = 6 * h;
    if (h > 6 * w) h = 6 * w;
    *width = w;
    *height = h;
}

static void put_ring(Text *out, const Plane *p, int64_t worst, double w, double h) {
    char n[3][NUMBER_SIZE];
    const size_t at = pixel_of(p, worst);
    const double x = ((double)(at % (size_t)p->columns) + 0.5) * w;
    const double y = ((double)(at / (size_t)p->columns) + 0.5) * h;
    const double radius = (w > h ? w : h) * 0.75 < 6 ? 6 : (w > h ? w : h) * 0.75;
    length_text(n[0], x);
    length_text(n[1], y);
    length_text(n[2], radius);
    put(out,
        "<circle class=\"ring-out\" cx=\"%s\" cy=\"%s\" r=\"%s\"/>\n"
        "<circle class=\"ring-in\" cx=\"%s\" cy=\"%s\" r=\"%s\"/>\n",
        n[0], n[1], n[2], n[0], n[1], n[2]);
}

static void put_picture(Text *out, const Figure *f, const Row *row, Kind kind) {
    static const char *const title[] = {"Error", "Reference", "Mine"};
    static const char *const id[] = {"heat-error", "heat-reference", "heat-mine"};
    const double most = kind == ERROR_OF_MINE ? 640 : 310;
    const Plane p = plane_of(f->info, kind == ERROR_OF_MINE ? 400 : 200);
    double w, h;
    char n[2][NUMBER_SIZE], v[2][NUMBER_SIZE];
    pixel_size(&p, most, &w, &h);
    length_text(n[0], (double)p.columns * w);
    length_text(n[1], (double)p.rows * h);
    put(out,
        "<svg class=\"heat\" viewBox=\"-8 -8 %s %s\" style=\"max-width:%spx\" role=\"img\" "
        "aria-labelledby=\"%s\">\n<title id=\"%s\">%s, worst at ",
        length_text(v[0], (double)p.columns * w + 16), length_text(v[1], (double)p.rows * h + 16),
        v[0], id[kind], id[kind], title[kind]);
    put_index(out, f->info, row->worst);
    put(out, ": reference %s, mine %s</title>\n", value_text(v[0], row->worst_ref, 9),
        value_text(v[1], row->worst_mine, 9));
    put(out,
        "<image width=\"%s\" height=\"%s\" preserveAspectRatio=\"none\" "
        "style=\"image-rendering:pixelated\" href=\"",
        n[0], n[1]);
    put_pixels(out, f, kind, &p);
    put(out, "\"/>\n<rect class=\"frame\" width=\"%s\" height=\"%s\"/>\n", n[0], n[1]);
    put_ring(out, &p, row->worst, w, h);
    put(out, "</svg>\n");
}

static void put_gradient(Text *out, const uint8_t anchor[5][3]) {
    put(out, "<span class=\"ramp\" style=\"background:linear-gradient(90deg");
    for (int i = 0; i < 5; i++)
        put(out, ",#%02x%02x%02x", anchor[i][0], anchor[i][1], anchor[i][2]);
    put(out, ")\"></span>");
}

static void put_error_legend(Text *out, const Figure *f) {
    put(out, "<p class=\"key\"><span>|mine - reference|:</span> <span>1e%d</span> ", (int)f->low);
    put_gradient(out, viridis);
    put(out,
        " <span>1e%d</span> <span><i class=\"sw eq\"></i> equal</span> "
        "<span><i class=\"sw nf\"></i> not finite</span> "
        "<span><i class=\"sw wo\"></i> the worst element</span></p>\n",
        (int)f->high);
}

static void put_value_legend(Text *out, const Figure *f) {
    char n[NUMBER_SIZE];
    value_text(n, f->largest, 3);
    put(out, "<p class=\"key\"><span>both:</span> <span>-%s</span> ", n);
    put_gradient(out, blue_red);
    put(out, " <span>%s</span> <span><i class=\"sw nf\"></i> not finite</span></p>\n", n);
}

static void put_layout(Text *out, const Figure *f) {
    const Plane p = plane_of(f->info, 400);
    if (p.maps > 1)
        put(out, "%lld maps of %lld x %lld, from left to right and down", (long long)p.maps,
            (long long)p.map_height, (long long)p.map_width);
    else
        put(out, "%lld row%s of %lld", (long long)p.map_height, p.map_height == 1 ? "" : "s",
            (long long)p.map_width);
    if (p.block_width > 1 || p.block_height > 1)
        put(out, "; a dot is the largest of %lld x %lld elements", (long long)p.block_height,
            (long long)p.block_width);
}

static void put_values(Text *out, const Figure *f, const Row *row) {
    char n[3][NUMBER_SIZE];
    put(out, "<p>Worst element ");
    put_index(out, f->info, row->worst);
    put(out, ": reference <b>%s</b>, mine <b>%s</b>, difference <b>%s</b>.</p>\n",
        value_text(n[0], row->worst_ref, 9), value_text(n[1], row->worst_mine, 9),
        number_text(n[2], row->worst_mine - row->worst_ref));
}

void put_heat_maps(Text *out, const Report *r) {
    if (r->worst >= r->rows || !r->worst_ref || !r->worst_mine) return;
    const Row *row = &r->row[r->worst];
    Figure f = {.info = &row->ref, .ref = r->worst_ref, .mine = r->worst_mine};
    if (row->ref.count < 1 || row->worst < 0 || row->worst >= row->ref.count) return;
    find_scales(&f);
    put(out,
        "<section aria-labelledby=\"worst\">\n<h2 id=\"worst\">The worst tensor</h2>\n<p><code>");
    if (row->group) {
        put_escaped(out, row->group, 100);
        put(out, " ");
    }
    put_escaped(out, row->name, 300);
    put(out, "</code> ");
    put_shape(out, &row->ref);
    put(out, ": its error is the largest of all, measured by what is allowed.</p>\n");
    put_values(out, &f, row);
    if (row->ref.count > 1) {
        put(out, "<div class=\"maps\"><figure class=\"large\">\n");
        put_picture(out, &f, row, ERROR_OF_MINE);
        put_error_legend(out, &f);
        put(out, "<figcaption>Its error, ");
        put_layout(out, &f);
        put(out, ".</figcaption></figure>\n<div class=\"pair\"><figure>\n");
        put_picture(out, &f, row, REFERENCE);
        put(out, "<figcaption>Reference</figcaption></figure>\n<figure>\n");
        put_picture(out, &f, row, MINE);
        put(out, "<figcaption>Mine</figcaption></figure>\n");
        put_value_legend(out, &f);
        put(out, "</div></div>\n");
    }
    put(out, "</section>\n");
}
