/* The paper's Figure 6 for a trained adapter: how much of each cross-attention layer is the original
 * attention, a1 exp(b1), and how much the added one, a2 exp(b2) (Eq. 9). Layers in execution order, from
 * the first of the way down to the last of the way up; one that doesn't blend has 1 and 0.
 *
 * Colours are classes: the style has them twice, for a light and a dark page. */
#include "ref/train/run.h"
#include "ref/yardstick/report_markup.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 700, LEFT = 52, RIGHT = 690, TOP = 62, BOTTOM = 262, HEIGHT = 318, TICKS = 5 };

typedef struct Figure {
    const Unet *unet;
    double (*factor)[2]; /* [layers] of the original and the added attention */
    int64_t layers;
    double low, high, tick; /* the scale */
    Text *out;
} Figure;

static const char style[] =
    "<style>\n"
    ".f6{font:11px system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;"
    "color-scheme:light dark;"
    "--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#dde2e8;--band:#f3f5f8;--blue:#1f6feb;"
    "--red:#c2330a}\n"
    "@media(prefers-color-scheme:dark){.f6{--page:#0d1117;--ink:#e6edf3;--soft:#9aa4af;"
    "--line:#2c333c;--band:#161c24;--blue:#79b8ff;--red:#ff8a5c}}\n"
    "@media print{.f6{--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#dde2e8;--band:#f3f5f8;"
    "--blue:#1f6feb;--red:#c2330a}}\n"
    ".f6 .page{fill:var(--page)}.f6 .band{fill:var(--band)}.f6 text{fill:var(--soft)}"
    ".f6 .head{fill:var(--ink);font-size:13px;font-weight:600}"
    ".f6 .m{text-anchor:middle}.f6 .e{text-anchor:end}"
    ".f6 .grid{stroke:var(--line)}.f6 .zero{stroke:var(--soft)}"
    ".f6 .one{fill:var(--blue)}.f6 .two{fill:var(--red)}"
    ".f6 .oneline{stroke:var(--blue);fill:none;stroke-width:1.5}"
    ".f6 .twoline{stroke:var(--red);fill:none;stroke-width:1.5;stroke-dasharray:5 3}\n"
    "</style>\n";

static double number(const Weight *w) {
    real v;
    weight_read(w, 0, 1, &v);
    return (double)v;
}

static void read_factors(Figure *f, const Adapter *a) {
    for (int64_t i = 0; i < f->layers; i++) {
        const AddedAttention *l = &a->layer[i];
        const Blend *b = &l->blend;
        f->factor[i][0] = l->active ? number(b->a1) * exp(number(b->b1)) : 1;
        f->factor[i][1] = l->active ? number(b->a2) * exp(number(b->b2)) : 0;
    }
}

/* 1, 2 or 5 times a power of ten between ticks; 0 is on the scale. */
static void find_scale(Figure *f) {
    double low = 0, high = 0;
    for (int64_t i = 0; i < f->layers; i++)
        for (int k = 0; k < 2; k++) {
            low = fmin(low, f->factor[i][k]);
            high = fmax(high, f->factor[i][k]);
        }
    if (high - low < 1e-12) high = low + 1;
    const double power = pow(10, floor(log10((high - low) / TICKS)));
    const double rest = (high - low) / TICKS / power;
    f->tick = power * (rest <= 1 ? 1 : rest <= 2 ? 2 : rest <= 5 ? 5 : 10);
    f->low = f->tick * floor(low / f->tick + 1e-9);
    f->high = f->tick * ceil(high / f->tick - 1e-9);
}

static double x_of(const Figure *f, double layer) {
    return LEFT + (RIGHT - LEFT) * (layer + 0.5) / (double)f->layers;
}

static double y_of(const Figure *f, double v) {
    return BOTTOM - (v - f->low) / (f->high - f->low) * (BOTTOM - TOP);
}

static void put_line(const Figure *f, const char *class, double x1, double y1, double x2,
                     double y2) {
    char n[4][NUMBER_SIZE];
    put(f->out, "<path class=\"%s\" d=\"M%s %sL%s %s\"/>\n", class, length_text(n[0], x1),
        length_text(n[1], y1), length_text(n[2], x2), length_text(n[3], y2));
}

static void put_words(const Figure *f, const char *class, double x, double y, const char *words) {
    char n[2][NUMBER_SIZE];
    put(f->out, "<text class=\"%s\" x=\"%s\" y=\"%s\">%s</text>\n", class, length_text(n[0], x),
        length_text(n[1], y), words);
}

static void put_scale(const Figure *f) {
    const int64_t ticks = (int64_t)rint((f->high - f->low) / f->tick);
    for (int64_t i = 0; i <= ticks; i++) {
        const double v = f->low + (double)i * f->tick;
        const bool zero = fabs(v) < f->tick / 2;
        char words[NUMBER_SIZE];
        put_line(f, zero ? "zero" : "grid", LEFT, y_of(f, v), RIGHT, y_of(f, v));
        put_words(f, "e", LEFT - 6, y_of(f, v) + 4, value_text(words, zero ? 0 : v, 3));
    }
}

/* "down", "mid" or "up", where that begins. */
static const char *place(const Figure *f, int64_t layer) {
    const char *name = f->unet->cross[layer].name;
    return strncmp(name, "down", 4) == 0 ? "down" : strncmp(name, "mid", 3) == 0 ? "mid" : "up";
}

static void put_places(const Figure *f) {
    char n[2][NUMBER_SIZE];
    int64_t next;
    for (int64_t i = 0, band = 0; i < f->layers; i = next, band++) {
        for (next = i; next < f->layers && strcmp(place(f, next), place(f, i)) == 0;) next++;
        const double left = x_of(f, (double)i - 0.5), right = x_of(f, (double)next - 0.5);
        if (band % 2)
            put(f->out, "<rect class=\"band\" x=\"%s\" y=\"%d\" width=\"%s\" height=\"%d\"/>\n",
                length_text(n[0], left), TOP, length_text(n[1], right - left), BOTTOM - TOP);
        put_words(f, "m", (left + right) / 2, BOTTOM + 32, place(f, i));
    }
    for (int64_t i = 0; i < f->layers; i++) {
        char words[NUMBER_SIZE];
        snprintf(words, sizeof words, "%lld", (long long)i + 1);
        put_words(f, "m", x_of(f, (double)i), BOTTOM + 16, words);
    }
}

/* A circle for the original's, a square for the added one's. */
static void put_mark(const Figure *f, int which, double x, double y) {
    char n[2][NUMBER_SIZE];
    if (which == 0)
        put(f->out, "<circle class=\"one\" cx=\"%s\" cy=\"%s\" r=\"3.5\"/>", length_text(n[0], x),
            length_text(n[1], y));
    else
        put(f->out, "<path class=\"two\" d=\"M%s %sm-3.5-3.5h7v7h-7z\"/>", length_text(n[0], x),
            length_text(n[1], y));
}

static void put_curve(const Figure *f, int which) {
    char n[2][NUMBER_SIZE];
    put(f->out, "<path class=\"%s\" d=\"", which ? "twoline" : "oneline");
    for (int64_t i = 0; i < f->layers; i++)
        put(f->out, "%s%s %s", i ? "L" : "M", length_text(n[0], x_of(f, (double)i)),
            length_text(n[1], y_of(f, f->factor[i][which])));
    put(f->out, "\"/>\n");
    for (int64_t i = 0; i < f->layers; i++) {
        put(f->out, "<g><title>");
        put_escaped(f->out, f->unet->cross[i].name, 200);
        put(f->out, "\n%s</title>", value_text(n[0], f->factor[i][which], 6));
        put_mark(f, which, x_of(f, (double)i), y_of(f, f->factor[i][which]));
        put(f->out, "</g>\n");
    }
}

static void put_figure(Figure *f, int64_t step) {
    static const char *const names[] = {"original: a\xe2\x82\x81 exp(b\xe2\x82\x81)",
                                        "added: a\xe2\x82\x82 exp(b\xe2\x82\x82)"};
    put(f->out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"f6\" viewBox=\"0 0 %d %d\" "
        "width=\"%d\" height=\"%d\" role=\"img\" aria-labelledby=\"f6-title f6-desc\">\n"
        "<title id=\"f6-title\">How each layer blends its two cross-attentions</title>\n"
        "<desc id=\"f6-desc\">%lld layers, after %lld steps of training</desc>\n%s"
        "<rect class=\"page\" width=\"%d\" height=\"%d\" rx=\"6\"/>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT, (long long)f->layers, (long long)step, style, WIDTH, HEIGHT);
    put_words(f, "head", 10, 20, "How each layer blends its two cross-attentions");
    for (int k = 0; k < 2; k++) {
        put_mark(f, k, LEFT + 8 + 160 * k, 42);
        put_words(f, "s", LEFT + 18 + 160 * k, 46, names[k]);
    }
    if (f->layers) {
        put_places(f);
        put_scale(f);
        put_curve(f, 0);
        put_curve(f, 1);
    }
    put(f->out,
        "<text x=\"%d\" y=\"%d\">Cross-attention layers in execution order, after %lld "
        "steps</text>\n</svg>\n",
        LEFT, HEIGHT - 6, (long long)step);
}

char *figure6_svg(const Adapter *adapter, const Unet *unet, int64_t step, Error *err) {
    Text out = {.err = err};
    Figure f = {.unet = unet, .layers = unet->cross_layers, .out = &out};
    f.factor = malloc((size_t)(f.layers + 1) * sizeof *f.factor);
    if (f.factor) {
        read_factors(&f, adapter);
        find_scale(&f);
        put_figure(&f, step);
    } else {
        fail(err, "out of memory");
    }
    free(f.factor);
    return text_finish(&out);
}
