/* ref/yardstick/report_svg.c, report_html.c, report_heat.c, report_markup.c: reports built by hand.
 * Whatever is in them, the page and the picture are well-formed (every tag closed, no raw "<" or "&",
 * nothing but UTF-8), hold what they must and stay small.
 *
 * LLMDIFF_REPORT_PAGES=DIR keeps all pages and pictures there, to be looked at. */
#include "tests/check.h"

#include "ref/image.h"
#include "ref/yardstick/report_markup.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

/* ---- reports ------------------------------------------------------------------------------------- */

enum { ROWS_MOST = 10000 };

typedef struct Built {
    Report report;
    Row row[ROWS_MOST];
    char name[ROWS_MOST][96];
} Built;

static Built built; /* too large for a stack */

static Report *begin(void) {
    memset(&built, 0, sizeof built);
    static char reference[] = "golden/data/pipeline.safetensors", mine[] = "/home/me/port.npz";
    static char title[] = "compare";
    built.report.title = title;
    built.report.reference = reference;
    built.report.mine = mine;
    built.report.row = built.row;
    return &built.report;
}

static TensorInfo info(Dtype dtype, int ndim, int64_t a, int64_t b, int64_t c) {
    TensorInfo t = {.dtype = dtype, .ndim = ndim, .dim = {a, b, c}, .count = 1};
    for (int i = 0; i < ndim; i++) t.count *= t.dim[i];
    return t;
}

/* A row as measure() leaves it. */
static Row *add_row(const char *name, RowVerdict verdict, double error, double allowed) {
    Report *r = &built.report;
    assert_true(r->rows < ROWS_MOST);
    Row *row = &built.row[r->rows];
    snprintf(built.name[r->rows], sizeof built.name[0], "%s", name);
    *row = (Row){.name = built.name[r->rows], .verdict = verdict};
    row->ref = row->mine = info(DTYPE_F32, 2, 5, 40, 0);
    r->rows++;
    if (verdict == ROW_MISSING || verdict == ROW_MISSHAPEN || verdict == ROW_EXTRA) return row;
    row->largest = 2;
    row->max_rel = error;
    row->max_abs = 2 * error;
    row->allowed = 2 * allowed;
    row->nmse = error * error / 9;
    row->cosine = 1 - error * error / 2;
    row->ulp = error / 1.2e-7;
    row->worst = 137;
    row->worst_ref = 0.25;
    row->worst_mine = 0.25 + 2 * error;
    snprintf(row->tolerance.source, sizeof row->tolerance.source,
             "2 x torch float32's %.1e, + 4 ulp", allowed / 2);
    return row;
}

static void conclude(void) { report_conclude(&built.report); }

/* Deterministic, between 0 and 1. */
static double mixed(size_t i) {
    uint64_t x = (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    x ^= x >> 29;
    x *= UINT64_C(0xBF58476D1CE4E5B9);
    return (double)(x >> 11) / 9007199254740992.0;
}

static void add_graded(const char *name, double grown, double wrong) {
    const double allowed = 4e-7 * grown, error = allowed * (0.1 + 0.5 * mixed(built.report.rows));
    if (wrong > 0)
        add_row(name, ROW_MISMATCH, allowed * wrong, allowed);
    else
        add_row(name, ROW_MATCH, error, allowed);
}

/* A whole picture's names; everything from `wrong_from` on is wrong. */
static void add_walk(int blocks, int steps, size_t wrong_from) {
    static const char *const layer[] = {"conv_in",
                                        "down_blocks.0.resnets.0",
                                        "down_blocks.0.attentions.0.transformer_blocks.0.attn1",
                                        "down_blocks.0.attentions.0.transformer_blocks.0.attn2/q",
                                        "down_blocks.0.attentions.0.transformer_blocks.0.attn2/f",
                                        "down_blocks.0.attentions.0.transformer_blocks.0.ff",
                                        "down_blocks.0.downsamplers.0",
                                        "mid_block",
                                        "up_blocks.0.resnets.0",
                                        "up_blocks.0.attentions.0.transformer_blocks.0.attn2/f",
                                        "conv_out",
                                        "eps"};
    const size_t layers = sizeof layer / sizeof *layer;
    char name[96];
#define ADD(grown, ...)                                                                            \
    do {                                                                                           \
        snprintf(name, sizeof name, __VA_ARGS__);                                                  \
        add_graded(name, grown,                                                                    \
                   built.report.rows >= wrong_from ? 3 + 40 * mixed(built.report.rows) : 0);       \
    } while (0)
    add_row("ids", ROW_MATCH, 0, 0);
    ADD(1, "llm/x.%d", blocks);
    for (int t = blocks; t > 0; t--) {
        ADD(2 + blocks - t, "llm/s_sentence.%d", t);
        ADD(2 + blocks - t, "llm/s_word.%d", t);
        ADD(3 + blocks - t, "llm/x.%d", t - 1);
    }
    for (int t = blocks; t >= 0; t--) ADD(5 + blocks - t, "alg1/c.%d", t);
    ADD(9, "adapter/phi_c");
    add_row("latents/0", ROW_MATCH, 0, 0);
    for (int i = 0; i < steps; i++) {
        ADD(2 + 2 * i, "unet/%d/sample", i);
        ADD(1, "unet/%d/time_embedding", i);
        for (int u = 0; u < 2; u++)
            for (size_t k = 0; k < layers; k++)
                ADD(3 + 2 * i + 3 * (double)k, "unet/%d/%s/%s", i, u ? "uncond" : "cond", layer[k]);
        ADD(60 + 9 * i, "unet/%d/eps", i);
        ADD(20 + 9 * i, "latents/%d", i + 1);
    }
    ADD(60, "vae/decoder/conv_in");
    for (int k = 0; k < 4; k++) ADD(70 + 20 * k, "vae/decoder/up_blocks.%d", k);
    ADD(150, "image");
#undef ADD
}

/* ---- well-formed --------------------------------------------------------------------------------- */

/* Every element closed in its turn, attributes quoted, entities known, no stray "<", UTF-8 throughout,
 * no control characters. `html`: with HTML's void elements and its doctype. False and where. */
static bool well_formed(const char *text, bool html, const char **where) {
    char open[64][24];
    int depth = 0;
    const char *p = text;
    utf8proc_int32_t code;
    for (size_t left = strlen(text); left;) {
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)left, &code);
        *where = p;
        if (n < 1 || (code < ' ' && code != '\n') || (code >= 0x7f && code < 0xa0)) return false;
        p += n;
        left -= (size_t)n;
    }
    for (p = text; *p;) {
        *where = p;
        if (*p == '&') {
            static const char *const known[] = {"&amp;",  "&lt;",  "&gt;",
                                                "&quot;", "&#39;", "&#178;"};
            size_t i = 0;
            while (i < 6 && strncmp(p, known[i], strlen(known[i])) != 0) i++;
            if (i == 6) return false;
            p++;
            continue;
        }
        if (*p == '>') return false;
        if (*p != '<') {
            p++;
            continue;
        }
        if (strncmp(p, "<!DOCTYPE html>", 15) == 0) {
            if (!html || p != text) return false;
            p += 15;
            continue;
        }
        const bool closes = p[1] == '/';
        p += closes ? 2 : 1;
        const size_t n = strcspn(p, " \n/>");
        char name[24];
        if (n == 0 || n >= sizeof name) return false;
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        p += n;
        if (closes) {
            if (*p != '>' || depth == 0 || strcmp(open[--depth], name) != 0) return false;
            p++;
            continue;
        }
        while (*p == ' ' || *p == '\n') { /* an attribute */
            p += strspn(p, " \n");
            p += strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-:0123456789");
            if (*p++ != '=' || *p++ != '"') return false;
            p += strcspn(p, "\"<");
            if (*p++ != '"') return false;
        }
        if (*p == '/') {
            if (p[1] != '>') return false;
            p += 2;
            continue;
        }
        if (*p++ != '>') return false;
        if (html && strcmp(name, "meta") == 0) continue;
        if (depth == 64) return false;
        strcpy(open[depth++], name);
        if (strcmp(name, "style") == 0) { /* CSS has its own ">" */
            p += strcspn(p, "<");
        }
    }
    return depth == 0;
}

static void assert_well_formed(const char *text, bool html) {
    const char *where = text;
    if (!well_formed(text, html, &where))
        fail_msg("not well-formed, from byte %zu: %.60s", (size_t)(where - text), where);
}

/* Every length of the picture lies within it. */
static void assert_inside(const char *svg) {
    static const char *const key[] = {" x=\"",     " y=\"",      " cx=\"", " cy=\"",
                                      " width=\"", " height=\"", " d=\"M"};
    for (int i = 0; i < 7; i++)
        for (const char *p = svg; (p = strstr(p, key[i]));) {
            p += strlen(key[i]);
            const double v = strtod(p, NULL);
            if (!(v >= 0 && v <= 700) || strspn(p, "0123456789") == 0)
                fail_msg("outside of the picture: %s%.20s", key[i], p);
        }
}

/* Names of bands don't overlap, in a font 6.8 wide; for names without entities. */
static void assert_legible(const char *svg) {
    double y_before[512], x_before[512], half_before[512];
    int n = 0;
    for (const char *p = svg; (p = strstr(p, "class=\"name m\""));) {
        double x, y;
        char text[64];
        assert_int_equal(sscanf(p, "class=\"name m\" x=\"%lf\" y=\"%lf\">%63[^<]", &x, &y, text),
                         3);
        const double half = 3.4 * (double)strlen(text);
        for (int i = 0; i < n; i++)
            if (y == y_before[i] && fabs(x - x_before[i]) < half + half_before[i])
                fail_msg("\"%s\" overlaps", text);
        assert_true(n < 512);
        x_before[n] = x, y_before[n] = y, half_before[n++] = half;
        p++;
    }
    assert_true(n > 0);
}

static size_t count_of(const char *text, const char *what) {
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what)) n++;
    return n;
}

/* y of the mark of the column whose title begins with that name. */
static double height_of(const char *svg, const char *name) {
    char title[96];
    snprintf(title, sizeof title, "<title>%s\n", name);
    const char *p = strstr(svg, title);
    const char *round = p ? strstr(p, " cy=\"") : NULL,
               *diamond = p ? strstr(p, "class=\"bad\" d=\"M") : NULL;
    assert_true(round || diamond);
    if (round && (!diamond || round < diamond)) return strtod(round + 5, NULL);
    return strtod(strchr(diamond + 16, ' '), NULL);
}

static void keep(const char *name, const char *extension, const char *text) {
    const char *dir = getenv("LLMDIFF_REPORT_PAGES");
    char path[512];
    if (!dir) return;
    snprintf(path, sizeof path, "%s/%s.%s", dir, name, extension);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* Both, checked; the caller frees them. */
typedef struct Written {
    char *html, *svg;
} Written;

static Written write(const char *name) {
    Error err = {0};
    const Report *r = &built.report;
    Written w = {report_html(r, &err), report_svg(r, &err)};
    if (err.set) fail_msg("%s", err.message);
    assert_non_null(w.html);
    assert_non_null(w.svg);
    keep(name, "html", w.html);
    keep(name, "svg", w.svg);
    assert_well_formed(w.html, true);
    assert_well_formed(w.svg, false);
    assert_inside(w.svg);
    assert_true(strlen(w.svg) < 300000);
    assert_non_null(strstr(w.html, w.svg)); /* the page has the picture in it */
    assert_int_equal(count_of(w.html, "http"), count_of(w.html, "xmlns=\"http"));
    assert_null(strstr(w.html, "<script"));
    /* Nothing but the report is in it. */
    Written again = {report_html(r, &err), report_svg(r, &err)};
    assert_string_equal(w.html, again.html);
    assert_string_equal(w.svg, again.svg);
    free(again.html);
    free(again.svg);
    return w;
}

static void done(Written w) {
    free(w.html);
    free(w.svg);
}

#define HAS(text, what) assert_non_null(strstr(text, what))
#define HAS_NOT(text, what) assert_null(strstr(text, what))

/* ---- tests --------------------------------------------------------------------------------------- */

static void test_all_match(void **state) {
    (void)state;
    begin();
    add_walk(6, 2, SIZE_MAX);
    conclude();
    Written w = write("match");
    HAS(w.html, "class=\"verdict match\"");
    HAS(w.html, "<title>compare: Match</title>");
    HAS_NOT(w.html, "First divergence");
    HAS_NOT(w.svg, ">ids</text>"); /* theirs */
    HAS(w.svg, "No divergence: all 91 tensors match");
    HAS_NOT(w.svg, "class=\"bad\"");
    assert_int_equal(count_of(w.svg, "class=\"ok\""), 91 + 1); /* and the legend's */
    assert_int_equal(count_of(w.svg, "class=\"allow\""), 91 + 1);
    /* The network's parts. */
    assert_legible(w.svg);
    static const char *const part[] = {">llm, alg1<", ">adapter<", ">latents<", ">down<",
                                       ">unet/0<",    ">unet/1<",  ">vae<"};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) HAS(w.svg, part[i]);
    assert_int_equal(count_of(w.html, "<tr>"), 1 + 91);
    done(w);
}

/* A port that goes wrong in the U-Net's first attention: names, numbers, hints, both values. */
static void test_diverges(void **state) {
    (void)state;
    Report *r = begin();
    add_walk(6, 2, 31);
    static char hint[] = "mine = 1.5 x reference <exactly>";
    r->hint[0] = hint;
    r->hints = 1;
    conclude();
    static double ref[200], mine[200];
    for (int i = 0; i < 200; i++) ref[i] = sin(i * 0.3), mine[i] = ref[i] + 1e-6 * mixed((size_t)i);
    mine[137] = ref[137] + 1e-3;
    mine[3] = ref[3];
    r->worst = 50;
    r->worst_ref = ref;
    r->worst_mine = mine;
    Written w = write("diverges");
    HAS(w.html, "<h2 id=\"first\">First divergence</h2>");
    HAS(w.html, "<li>mine = 1.5 x reference &lt;exactly&gt;</li>");
    HAS(w.html, "[3, 17]"); /* element 137 of [5, 40] */
    HAS(w.html, "5 rows of 40");
    assert_int_equal(count_of(w.html, "data:image/png;base64,"), 3);
    assert_int_equal(count_of(w.html, "class=\"ring-in\""), 3);
    assert_int_equal(count_of(w.html, "<tr class=\"fail\">"), r->counts[ROW_MISMATCH]);
    HAS(w.svg, "First divergence: ");
    HAS(w.svg, "class=\"bad\"");
    HAS(w.svg, "class=\"first\"");
    HAS(w.html, "allowed by"); /* each its own */
    done(w);
}

static void test_one_row(void **state) {
    (void)state;
    begin();
    add_row("y", ROW_MISMATCH, 3e-3, 1e-6);
    conclude();
    Written w = write("one");
    assert_int_equal(count_of(w.svg, "class=\"bad\""), 2);
    HAS_NOT(w.svg, "class=\"ok\"");
    HAS(w.html, "<td>3.00e-03</td><td>1.00e-06</td>");
    /* One tolerance for all is said once. */
    HAS(w.html, "<p>Allowed: 2 x torch float32&#39;s 5.0e-07, + 4 ulp.</p>");
    HAS_NOT(w.html, "allowed by");
    done(w);
}

static void test_no_rows(void **state) {
    (void)state;
    begin();
    conclude();
    Written w = write("none");
    HAS(w.html, "Nothing was compared");
    HAS_NOT(w.html, "class=\"verdict match\"");
    HAS(w.svg, "no tensor was compared");
    done(w);
    /* Extra tensors alone are nothing either. */
    begin();
    add_row("stray", ROW_EXTRA, 0, 0);
    conclude();
    w = write("extra");
    HAS(w.html, "Nothing was compared");
    HAS(w.html, "<td class=\"w \">extra</td>");
    HAS_NOT(w.svg, "stray");
    done(w);
}

/* What no error can be told of: all of one kind, so that there is no scale. */
static void test_missing_only(void **state) {
    (void)state;
    begin();
    add_row("llm/x.3", ROW_MISSING, 0, 0);
    add_row("llm/x.2", ROW_MISSING, 0, 0);
    add_row("llm/x.1", ROW_MISSHAPEN, 0, 0)->mine = info(DTYPE_BF16, 2, 40, 5, 0);
    conclude();
    Written w = write("missing");
    HAS(w.html, "Missing or misshapen");
    HAS(w.html, "It isn't there; the reference has [5, 40].");
    HAS(w.html, "[5, 40] F32, mine [40, 5] BF16");
    HAS(w.svg, ">absent<");
    assert_int_equal(count_of(w.svg, "class=\"gone\""), 3 + 1);
    HAS_NOT(w.svg, "class=\"bar\"");
    done(w);
}

/* Errors at the ends of what a double holds, and beyond. */
static void test_not_finite(void **state) {
    (void)state;
    Report *r = begin();
    add_row("exact", ROW_MATCH, 0, 1e-7);
    add_row("exact, none allowed", ROW_MATCH, 0, 0);
    add_row("tiny", ROW_MATCH, 5e-324, 1e-7);
    add_row("huge", ROW_MISMATCH, 1e300, 1e-7);
    Row *inf = add_row("of zero", ROW_MISMATCH, INFINITY, 0);
    inf->largest = 0;
    inf->nmse = INFINITY;
    inf->cosine = NAN;
    Row *row = add_row("broken", ROW_NONFINITE, 0.5, 1e-7);
    row->nonfinite = 3;
    row->worst_mine = -NAN;
    add_row("what measure() never gives", ROW_MISMATCH, NAN, NAN)->ulp = NAN;
    conclude();
    static double ref[200], mine[200];
    for (int i = 0; i < 200; i++)
        ref[i] = 0, mine[i] = i % 7 == 0 ? NAN : i % 5 == 0 ? -INFINITY : 0;
    r->worst = 5;
    r->worst_ref = ref;
    r->worst_mine = mine;
    Written w = write("nonfinite");
    HAS(w.svg, "NaN, inf");
    assert_int_equal(count_of(w.svg, "class=\"nan\""), 1 + 1);
    assert_int_equal(count_of(w.svg, "class=\"bad\""), 3 + 1);
    HAS(w.svg, "class=\"first\" d=\"M371.0 "); /* the fourth of seven, from 52 to 690 */
    /* Down: beyond the scale, on it, at its end; then exact zeros. */
    const double huge = height_of(w.svg, "huge"), of_zero = height_of(w.svg, "of zero"),
                 tiny = height_of(w.svg, "tiny"), exact = height_of(w.svg, "exact");
    assert_true(huge == of_zero && huge < tiny && tiny + 8 < exact);
    HAS(w.html, "mine <b>NaN</b>"); /* whatever its sign */
    HAS_NOT(w.html, "-nan");
    done(w);
}

/* Names that are code, that aren't UTF-8, that have control characters or no end. */
static void test_hostile_names(void **state) {
    (void)state;
    static const char *const name[] = {"<script>alert(1)</script>",
                                       "\" onload=\"x",
                                       "' x='",
                                       "a&b;&lt;",
                                       "]]>",
                                       "--><b>",
                                       "\xff\xfe\xc3",
                                       "\xed\xa0\x80",
                                       "\xf4\x90\x80\x80",
                                       "\xc0\xbc",
                                       "\xe2\x80",
                                       "tab\there\nthere\x01\x1b[31m\x7f",
                                       "\xc2\x9b"
                                       "31m",
                                       "\xe2\x80\xaetxt.exe",
                                       "\xef\xbf\xbe",
                                       "",
                                       "/",
                                       "unet/",
                                       "unet/0/cond",
                                       "uncond",
                                       "latents/99999999999999999999",
                                       "latents/-5",
                                       "%s%n",
                                       "\xf0\x9f\x8e\xa8"};
    enum { NAMES = sizeof name / sizeof *name };
    static char title[] = "<b>\xff", mine[] = "</code>\x02", hint[] = "<i>\xe2\x80\xae",
                group[] = "</tr>&\xff";
    static char endless[100001];
    memset(endless, 'x', sizeof endless - 1);
    for (int groups = 0; groups < 2; groups++) {
        Report *r = begin();
        r->title = title;
        r->mine = mine;
        r->hint[0] = hint;
        r->hints = 1;
        for (int i = 0; i < NAMES; i++) {
            Row *row = add_row(name[i], i % 3 ? ROW_MISMATCH : ROW_MISSING, 1e-3, 1e-6);
            if (groups) row->group = group;
            strcpy(row->tolerance.source, "<&\xff");
        }
        add_row("", ROW_MISMATCH, 1e-3, 1e-6)->name = endless;
        conclude();
        static double ref[200], other[200];
        r->worst = 1;
        r->worst_ref = ref;
        r->worst_mine = other;
        Written w = write(groups ? "hostile-groups" : "hostile");
        HAS(w.html, "&lt;script&gt;alert(1)&lt;/script&gt;");
        HAS(w.svg, "&lt;script&gt;alert(1)&lt;/script&gt;");
        HAS(w.html, "<code>%s%n</code>");
        HAS(w.html, "<code>\xf0\x9f\x8e\xa8</code>");
        HAS(w.html, "tab\xe2\x90\x89here\xe2\x90\x8athere\xe2\x90\x81\xe2\x90\x9b[31m\xe2\x90\xa1");
        HAS(w.html, "<code>\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd</code>");
        HAS_NOT(w.html, "\xe2\x80\xae");
        assert_true(strlen(w.html) < 100000); /* the endless one has an end */
        done(w);
    }
}

/* More rows than columns: the picture stays small, no mismatch disappears, the table has those that
 * fail. */
static void test_ten_thousand(void **state) {
    (void)state;
    begin();
    for (int i = 0; built.report.rows < ROWS_MOST - 300; i++) {
        char name[96];
        snprintf(name, sizeof name,
                 "unet/%d/%s/down_blocks.%d.attentions.0.transformer_blocks.0.attn2", i / 200,
                 i / 100 % 2 ? "uncond" : "cond", i % 100);
        add_graded(name, 1 + i / 300.0, i == 4321 || i > 8000 ? 30 : 0);
    }
    while (built.report.rows < ROWS_MOST) add_row("vae/decoder/mid_block", ROW_MATCH, 1e-6, 1e-5);
    built.row[5000].max_rel = 1e-17; /* one number doesn't stretch the scale */
    conclude();
    Written w = write("ten-thousand");
    HAS(w.svg, "class=\"half\"");
    HAS(w.svg, "median error");
    HAS(w.svg, ">1e-7<");
    assert_legible(w.svg);
    HAS_NOT(w.svg, ">1e-1");
    HAS(w.svg, "First divergence: unet/21/uncond/down_blocks.21.");
    assert_int_equal(count_of(w.svg, "<g>"), 210);
    assert_true(count_of(w.svg, "class=\"bad\"") > 30);
    assert_int_equal(count_of(w.html, "<tr class=\"fail\">"), 1 + 1699);
    HAS(w.html, "Of 10000 tensors the first 1700 that fail are listed; 8300 are left out");
    done(w);
    /* Every row a band of its own, and its name as long as can be. */
    begin();
    for (int i = 0; i < ROWS_MOST; i++) {
        char name[96];
        int digits = snprintf(name, sizeof name, "%d", i);
        memset(name + digits, '"', sizeof name - 1 - (size_t)digits);
        name[sizeof name - 1] = '\0';
        add_row(name, ROW_MISMATCH, 1e-3, 1e-6);
    }
    conclude();
    done(write("all-parts"));
    /* And as short. */
    begin();
    for (int i = 0; i < 1000; i++) add_row(i % 2 ? "/x" : "b", ROW_MATCH, 1e-7, 1e-6);
    conclude();
    done(write("short-parts"));
    /* All of them wrong. */
    begin();
    for (int i = 0; i < ROWS_MOST; i++) add_row("y", ROW_MISMATCH, 1e-3, 1e-6);
    conclude();
    w = write("all-wrong");
    assert_int_equal(count_of(w.html, "<tr class=\"fail\">"), 2000);
    HAS(w.html, "the first 2000 that fail are listed; 8000 are left out");
    done(w);
    /* None. */
    begin();
    for (int i = 0; i < ROWS_MOST; i++) add_row("y", ROW_MATCH, 1e-7, 1e-6);
    conclude();
    w = write("all-right");
    HAS(w.html, "<p>10000 tensors match, too many to be listed here");
    HAS_NOT(w.html, "<table");
    done(w);
}

/* verify's reports: its groups are the parts. */
static void test_groups(void **state) {
    (void)state;
    Report *r = begin();
    static char title[] = "verify", operators[] = "operators", forced[] = "picture.forced",
                free_[] = "picture.free";
    r->title = title;
    static const char *const op[] = {"group_norm/map/y", "linear/wide/y",      "conv2d/3x3/y",
                                     "rope/half/y",      "attention/causal/y", "gelu/erf/y"};
    for (int i = 0; i < 6; i++) add_row(op[i], ROW_MATCH, 1e-8 * i, 3e-7)->group = operators;
    size_t from = r->rows;
    add_walk(4, 1, SIZE_MAX);
    for (size_t i = from; i < r->rows; i++) r->row[i].group = forced;
    from = r->rows;
    add_walk(4, 1, from + 20);
    for (size_t i = from; i < r->rows; i++) r->row[i].group = free_;
    conclude();
    Written w = write("groups");
    HAS(w.svg, ">operators<");
    HAS(w.svg, ">picture.forced<");
    HAS(w.svg, "First divergence: picture.free unet/0/sample");
    assert_legible(w.svg);
    assert_int_equal(count_of(w.html, "<tbody>"), 3);
    assert_int_equal(count_of(w.html, "scope=\"rowgroup\""), 3);
    done(w);
}

/* ---- the heat maps ------------------------------------------------------------------------------- */

/* Byte i of base64's group at p. */
static uint8_t *from_base64(const char *p, size_t *size) {
    static const char letter[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t n = strcspn(p, "\"");
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    *size = 0;
    unsigned all = 0;
    for (size_t i = 0; i < n && p[i] != '='; i++) {
        const char *at = strchr(letter, p[i]);
        assert_true(at && *at);
        all = all << 6 | (unsigned)(at - letter);
        if (i % 4) bytes[(*size)++] = (uint8_t)(all >> (6 - i % 4 * 2) & 255);
    }
    return bytes;
}

/* The k-th picture of the page as pixels; the caller frees them. */
static uint8_t *pixels_of(const char *html, int k, int64_t *width, int64_t *height) {
    const char *p = html;
    for (int i = 0; i <= k; i++) {
        p = strstr(p, "base64,");
        assert_non_null(p);
        p += 7;
    }
    size_t size;
    uint8_t *png = from_base64(p, &size);
    assert_true(strcspn(p, "\"") % 4 == 0 && size > 12 &&
                memcmp(png + size - 8,
                       "IEND\xae"
                       "B`\x82",
                       8) == 0);
    char path[] = "/tmp/llmdiff-report-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "wb");
    assert_int_equal(fwrite(png, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    free(png);
    Error err = {0};
    uint8_t *rgb = image_read(path, width, height, &err);
    remove(path);
    if (!rgb) fail_msg("%s", err.message);
    return rgb;
}

/* A report whose worst tensor has that shape, right everywhere but at `wrong`. */
static char *page_of(const char *name, TensorInfo t, int64_t wrong, double by) {
    Report *r = begin();
    Row *row = add_row("worst", ROW_MISMATCH, by / 2, 1e-6);
    row->ref = row->mine = t;
    row->worst = wrong;
    conclude();
    r->worst_ref = malloc((size_t)t.count * sizeof(double));
    r->worst_mine = malloc((size_t)t.count * sizeof(double));
    assert_true(r->worst_ref && r->worst_mine);
    for (int64_t i = 0; i < t.count; i++)
        r->worst_mine[i] = r->worst_ref[i] = cos(0.01 * (double)i) * 2;
    r->worst_mine[wrong] += by;
    Written w = write(name);
    free(r->worst_ref);
    free(r->worst_mine);
    free(w.svg);
    return w.html;
}

static bool is_color(const uint8_t *p, int r, int g, int b) {
    return p[0] == r && p[1] == g && p[2] == b;
}

/* One wrong element shows, in its place, however large the tensor is. */
static void test_heat_places(void **state) {
    (void)state;
    static const struct {
        const char *name;
        TensorInfo t;
        int64_t wrong, width, height, x, y;
    } seen[] = {
        {"heat-matrix", {.ndim = 2, .dim = {5, 40}, .count = 200}, 137, 40, 5, 17, 3},
        {"heat-vector", {.ndim = 1, .dim = {320}, .count = 320}, 319, 320, 1, 319, 0},
        /* 4 maps of 3 x 2: 3 x 3 cells, 2 of them in a row, one between: 3 across */
        {"heat-maps", {.ndim = 3, .dim = {4, 3, 2}, .count = 24}, 4 + 2 * 6, 8, 7, 6, 2},
        {"heat-high", {.ndim = 2, .dim = {1000, 7}, .count = 7000}, 6999, 7, 334, 6, 333},
        {"heat-wide", {.ndim = 2, .dim = {3, 5120}, .count = 15360}, 5120 + 5119, 394, 3, 393, 1},
        {"heat-many", {.ndim = 3, .dim = {320, 16, 16}, .count = 81920}, 81919, 0, 0, 0, 0},
        {"heat-batch", {.ndim = 4, .dim = {1, 4, 8, 8}, .count = 256}, 255, 26, 17, 0, 0},
    };
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
        char *html = page_of(seen[i].name, seen[i].t, seen[i].wrong, 0.5);
        int64_t width, height, wrong = 0, x = 0, y = 0;
        uint8_t *rgb = pixels_of(html, 0, &width, &height);
        for (int64_t k = 0; k < width * height; k++) {
            const uint8_t *p = rgb + 3 * k;
            if (is_color(p, 154, 160, 166) || is_color(p, 0, 0, 0)) continue; /* equal, or none */
            wrong++;
            x = k % width;
            y = k / width;
        }
        if (wrong != 1) fail_msg("%s: %lld wrong", seen[i].name, (long long)wrong);
        if (seen[i].width && seen[i].name[5] != 'b' &&
            !(width == seen[i].width && height == seen[i].height && x == seen[i].x &&
              y == seen[i].y))
            fail_msg("%s: %lld x %lld, wrong at %lld, %lld", seen[i].name, (long long)width,
                     (long long)height, (long long)x, (long long)y);
        assert_true(width <= 400 && height <= 400);
        free(rgb);
        free(html);
    }
}

/* NaN in a block of a large tensor shows whatever else is in it, before it or behind. */
static void test_heat_not_finite(void **state) {
    (void)state;
    for (int behind = 0; behind < 2; behind++) {
        char *html = page_of("heat-nan", info(DTYPE_F32, 2, 3, 5120, 0), behind ? 101 : 97, NAN);
        int64_t width, height, pink = 0;
        uint8_t *rgb = pixels_of(html, 0, &width, &height);
        for (int64_t i = 0; i < width * height; i++) pink += is_color(rgb + 3 * i, 255, 0, 200);
        assert_int_equal(pink, 1);
        free(rgb);
        free(html);
    }
}

/* A single number has no map; its values stand there. */
static void test_heat_scalar(void **state) {
    (void)state;
    char *html = page_of("heat-scalar", (TensorInfo){.count = 1}, 0, 0.5);
    HAS(html,
        "Worst element []: reference <b>0.25</b>, mine <b>0.75</b>, difference <b>5.00e-01</b>");
    HAS_NOT(html, "base64");
    free(html);
}

/* Reference and mine are drawn on one scale: equal values have equal colours. */
static void test_heat_common_scale(void **state) {
    (void)state;
    char *html = page_of("heat-scale", info(DTYPE_F32, 2, 5, 40, 0), 137, 1e6);
    int64_t width, height;
    uint8_t *ref = pixels_of(html, 1, &width, &height), *mine = pixels_of(html, 2, &width, &height);
    int differ = 0;
    for (int64_t i = 0; i < width * height; i++)
        differ += memcmp(ref + 3 * i, mine + 3 * i, 3) != 0;
    assert_int_equal(differ, 1);
    assert_true(is_color(mine + 3 * 137, 178, 24, 43)); /* the scale's end */
    assert_true(is_color(ref, 178, 24, 43));            /* cos 0 */
    free(ref);
    free(mine);
    free(html);
}

/* ---- the pieces ---------------------------------------------------------------------------------- */

static void assert_escaped(const char *text, size_t most, const char *escaped, bool name) {
    Error err = {0};
    Text out = {.err = &err};
    put(&out, "%s", "");
    if (name)
        put_escaped_name(&out, text, most);
    else
        put_escaped(&out, text, most);
    assert_string_equal(out.bytes, escaped);
    free(out.bytes);
}

static void test_escaping(void **state) {
    (void)state;
    assert_escaped("a<b>&\"'", 99, "a&lt;b&gt;&amp;&quot;&#39;", false);
    assert_escaped("abcdef", 6, "abcdef", false);
    assert_escaped("abcdefg", 6, "abcdef\xe2\x80\xa6", false);
    assert_escaped("abcdefg", 7, "abcdefg", true);
    assert_escaped("abcdefghijkl", 6, "ab\xe2\x80\xa6ijkl", true);
    assert_escaped("\xc3\xa4\xc3\xb6\xc3\xbc\xff", 3, "\xc3\xa4\xe2\x80\xa6\xc3\xbc\xef\xbf\xbd",
                   true);
    assert_escaped("", 0, "", true);
}

static void test_numbers(void **state) {
    (void)state;
    char n[NUMBER_SIZE];
    assert_string_equal(number_text(n, 0.000123456), "1.23e-04");
    assert_string_equal(number_text(n, -0.0), "0");
    assert_string_equal(number_text(n, -NAN), "NaN");
    assert_string_equal(number_text(n, -INFINITY), "-inf");
    assert_string_equal(value_text(n, -1234.5678901234, 9), "-1234.56789");
    assert_string_equal(value_text(n, -1.7976931348623157e308, 9), "-1.79769313e+308");
    assert_string_equal(length_text(n, 12.34), "12.3");
    assert_string_equal(length_text(n, 12), "12.0");
}

/* The checker of these tests sees what it must. */
static void test_well_formed_is_strict(void **state) {
    (void)state;
    static const char *const bad[] = {"<a>",         "<a></b>",       "</a>",
                                      "<a b></a>",   "<a b=c></a>",   "<a b=\"<\"></a>",
                                      "<a>&</a>",    "<a>&nbsp;</a>", "<a><b></a></b>",
                                      "<a>\xff</a>", "<a>\x01</a>",   "<a>></a>",
                                      "<",           "<meta>"};
    static const char *const good[] = {"<a></a>", "<a b=\"c\" d-e=\"f\"/>", "<a>&lt;\xc3\xa4</a>",
                                       "<style>a>b{}</style>"};
    const char *where;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (well_formed(bad[i], false, &where)) fail_msg("passes: %s", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!well_formed(good[i], false, &where)) fail_msg("fails: %s", good[i]);
    assert_true(
        well_formed("<!DOCTYPE html>\n<html><meta charset=\"utf-8\"></html>", true, &where));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_well_formed_is_strict),
        cmocka_unit_test(test_escaping),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_all_match),
        cmocka_unit_test(test_diverges),
        cmocka_unit_test(test_one_row),
        cmocka_unit_test(test_no_rows),
        cmocka_unit_test(test_missing_only),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_ten_thousand),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_heat_places),
        cmocka_unit_test(test_heat_not_finite),
        cmocka_unit_test(test_heat_scalar),
        cmocka_unit_test(test_heat_common_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
