/* A report as one page that needs nothing else: no network, no script. It reads on paper, on a phone
 * and in the dark, and every name in it is a stranger's: put_escaped. Nothing in it depends on the
 * day or the machine. */
#include "ref/yardstick/report_markup.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE_MOST = 2000, NAME_MOST = 300 };

/* ---- the style ----------------------------------------------------------------------------------- */

#define LIGHT                                                                                      \
    "--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--band:#f6f8fa;--good:#1a7f37;"       \
    "--bad:#c2330a;--odd:#8f1d9e;--wash:#fff1ea"
#define DARK                                                                                       \
    "--page:#0d1117;--ink:#e6edf3;--soft:#9aa4af;--line:#30363d;--band:#161b22;--good:#4ac26b;"    \
    "--bad:#ff8a5c;--odd:#e59bf5;--wash:#2b1a14"

static const char style[] =
    "<style>\n"
    ":root{color-scheme:light dark;" LIGHT "}\n"
    "@media(prefers-color-scheme:dark){:root{" DARK "}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1.2rem;max-width:90rem;background:var(--page);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif}\n"
    "h1{font-size:1.5rem;margin:.2rem 0 .6rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}\n"
    "code,td,.key{font-variant-numeric:tabular-nums}\n"
    "code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.92em;"
    "overflow-wrap:anywhere;unicode-bidi:isolate}\n"
    ".verdict{display:inline-block;font-size:.75em;padding:.1em "
    ".8em;margin-left:.4em;border-radius:1em;border:2px solid;"
    "font-weight:700;color:var(--bad)}.verdict.match{color:var(--good)}\n"
    ".files{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:.8rem 0}"
    ".files dt{color:var(--soft)}.files dd{margin:0;overflow-wrap:anywhere}\n"
    ".counts{list-style:none;display:flex;flex-wrap:wrap;gap:.4rem 1.6rem;padding:0;margin:.8rem 0}"
    ".counts b{font-size:1.3rem;font-variant-numeric:tabular-nums}\n"
    ".first{border-left:4px solid var(--bad);background:var(--wash);padding:.6rem 1rem;"
    "margin:1rem 0}.first h2{margin:0}.first p{margin:.3rem 0}.first ul{margin:.3rem 0}\n"
    "figure{margin:0}figcaption,.note{color:var(--soft);font-size:.9rem}\n"
    ".wide{overflow-x:auto}.depth svg{display:block;width:100%;min-width:640px;max-width:1000px;"
    "height:auto}\n"
    ".maps{display:flex;flex-wrap:wrap;gap:1.5rem}.large{flex:1 1 420px;max-width:656px}"
    ".pair{flex:1 1 250px;max-width:660px;display:flex;flex-wrap:wrap;gap:1rem;"
    "align-content:flex-start}.pair figure{flex:1 1 200px}.pair .key{flex-basis:100%}\n"
    ".heat{display:block;width:100%;height:auto}.frame{fill:none;stroke:var(--soft)}"
    ".ring-out,.ring-in{fill:none;stroke:#fff;stroke-width:4}"
    ".ring-in{stroke:#d1006c;stroke-width:2}\n"
    ".key{display:flex;flex-wrap:wrap;align-items:center;gap:.2rem .6rem;margin:.4rem 0;"
    "font-size:.9rem;color:var(--soft)}.ramp{width:9rem;height:.8rem;border:1px solid var(--line)}"
    ".sw{display:inline-block;width:.8rem;height:.8rem;vertical-align:-1px;"
    "border:1px solid var(--line)}.eq{background:#9aa0a6}.nf{background:#ff00c8}"
    ".wo{border:2px solid #d1006c;border-radius:50%;background:#fff}\n"
    ".scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px}\n"
    "table{border-collapse:collapse;width:100%;font-size:.85rem}\n"
    "th,td{padding:.25rem .5rem;text-align:right;vertical-align:top;"
    "border-bottom:1px solid var(--line);white-space:nowrap}\n"
    "thead th{background:var(--band);font-weight:600}tr.fail{background:var(--wash)}\n"
    "th[scope=row],th[scope=rowgroup],.w{text-align:left;font-weight:400}"
    "th[scope=row]{min-width:16rem;max-width:30rem;white-space:normal}"
    "th[scope=rowgroup]{background:var(--band);font-weight:600}\n"
    ".v-good{color:var(--good)}.v-bad{color:var(--bad);font-weight:600}"
    ".v-odd{color:var(--odd);font-weight:600}\n"
    ".terms dt{font-weight:600;margin-top:.5rem}.terms dd{margin:0 0 0 1.2rem;max-width:46rem}\n"
    "@media(max-width:600px){body{padding:.7rem}th[scope=row]{min-width:11rem;max-width:14rem}"
    ".files{grid-template-columns:1fr}.files dd{margin-bottom:.4rem}}\n"
    "@media print{:root{" LIGHT "}body{font-size:9pt;max-width:none;padding:0}"
    "*{print-color-adjust:exact;-webkit-print-color-adjust:exact}"
    ".scroll,.wide{overflow:visible;border:0}table{font-size:6.5pt}th,td{padding:.1rem .25rem}"
    "th[scope=row]{min-width:0}tr,figure,.first{break-inside:avoid}"
    ".depth svg{min-width:0;max-width:180mm}h2{break-after:avoid}@page{size:A4 "
    "landscape;margin:12mm}}\n"
    "</style>\n";

/* ---- the top ------------------------------------------------------------------------------------- */

typedef struct Headline {
    const char *sign, *words;
} Headline;

static Headline headline(const Report *r) {
    if (r->counts[ROW_EXTRA] == r->rows) return (Headline){"?", "Nothing was compared"};
    switch (report_code(r)) {
    case 0: return (Headline){"\xe2\x9c\x93", "Match"};
    case 1: return (Headline){"\xe2\x9c\x97", "Mismatch"};
    case 4: return (Headline){"\xe2\x9c\x97", "Non-finite"};
    default: return (Headline){"\xe2\x9c\x97", "Missing or misshapen"};
    }
}

static void put_file(Text *out, const char *term, const char *name) {
    put(out, "<dt>%s</dt><dd><code>", term);
    put_escaped(out, name ? name : "", 1000);
    put(out, "</code></dd>\n");
}

static void put_counts(Text *out, const Report *r) {
    static const RowVerdict order[] = {ROW_MATCH,     ROW_MISMATCH, ROW_NONFINITE,
                                       ROW_MISSHAPEN, ROW_MISSING,  ROW_EXTRA};
    put(out, "<ul class=\"counts\">\n");
    for (int i = 0; i < 6; i++)
        if (r->counts[order[i]] || order[i] == ROW_MATCH)
            put(out, "<li><b>%zu</b> %s</li>\n", r->counts[order[i]], verdict_name(order[i]));
    put(out, "</ul>\n");
}

static void put_top(Text *out, const Report *r) {
    const Headline head = headline(r);
    const bool match = strcmp(head.words, "Match") == 0;
    put(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    put_escaped(out, r->title ? r->title : "report", 100);
    put(out, ": %s</title>\n%s</head>\n<body>\n<header>\n<h1>llmdiff ", head.words, style);
    put_escaped(out, r->title ? r->title : "report", 100);
    put(out, " <span class=\"verdict%s\"><span aria-hidden=\"true\">%s</span> %s</span></h1>\n",
        match ? " match" : "", head.sign, head.words);
    put(out, "<dl class=\"files\">\n");
    put_file(out, "reference", r->reference);
    put_file(out, "mine", r->mine);
    put(out, "</dl>\n");
    put_counts(out, r);
    put(out, "</header>\n<main>\n");
}

static void put_name(Text *out, const Row *row) {
    put(out, "<code>");
    if (row->group) {
        put_escaped(out, row->group, 100);
        put(out, ": ");
    }
    put_escaped_name(out, row->name, NAME_MOST);
    put(out, "</code>");
}

/* ---- the first divergence ------------------------------------------------------------------------ */

static void put_what_is_wrong(Text *out, const Row *row) {
    char n[5][NUMBER_SIZE];
    switch (row->verdict) {
    case ROW_MISSING:
        put(out, "It isn't there; the reference has ");
        put_shape(out, &row->ref);
        put(out, ".");
        return;
    case ROW_MISSHAPEN:
        put(out, "The reference is %s ", dtype_name(row->ref.dtype));
        put_shape(out, &row->ref);
        put(out, ", mine %s ", dtype_name(row->mine.dtype));
        put_shape(out, &row->mine);
        put(out, ".");
        return;
    case ROW_NONFINITE:
        put(out,
            "%lld of its %lld elements are NaN or infinite. The first that is not finite, in "
            "mine or in the reference: ",
            (long long)row->nonfinite, (long long)row->mine.count);
        break;
    default:
        put(out, "Its error is %s of its largest magnitude, %s are allowed. The worst element: ",
            number_text(n[0], row->max_rel),
            number_text(n[1], row->largest > 0 ? row->allowed / row->largest : row->allowed));
    }
    put_index(out, &row->ref, row->worst);
    put(out, ", reference %s, mine %s.", value_text(n[2], row->worst_ref, 9),
        value_text(n[3], row->worst_mine, 9));
}

static void put_others(Text *out, const Report *r) {
    Others others;
    if (report_others(r, &others, out->err) || !others.count) return;
    put(out, "<p>Also diverging by themselves (forced, operators, modules): ");
    for (size_t i = 0; i < others.shown; i++) {
        put(out, "%s", i ? ", " : "");
        put_escaped(out, others.name[i], OTHER_SIZE);
    }
    if (others.count > others.shown) put(out, ", and %zu more", others.count - others.shown);
    put(out, ".</p>\n");
}

static void put_first(Text *out, const Report *r) {
    if (r->first >= r->rows) return;
    const Row *row = &r->row[r->first];
    put(out, "<section class=\"first\" aria-labelledby=\"first\">\n"
             "<h2 id=\"first\">First divergence</h2>\n<p>");
    put_name(out, row);
    put(out, "</p>\n<p>");
    put_what_is_wrong(out, row);
    put(out, "</p>\n");
    if (r->hints) put(out, "<p>What it looks like:</p>\n<ul>\n");
    for (size_t i = 0; i < r->hints; i++) {
        put(out, "<li>");
        put_escaped(out, r->hint[i], 2000);
        put(out, "</li>\n");
    }
    if (r->hints) put(out, "</ul>\n");
    put_others(out, r);
    put(out, "</section>\n");
}

/* ---- along the depth ----------------------------------------------------------------------------- */

static void put_depth(Text *out, const Report *r) {
    char *svg = report_svg(r, out->err);
    put(out,
        "<section aria-labelledby=\"depth\">\n<h2 id=\"depth\">Along the network's depth</h2>\n"
        "<figure>\n<div class=\"wide depth\" tabindex=\"0\" role=\"region\" "
        "aria-labelledby=\"depth\">\n%s</div>\n",
        svg ? svg : "");
    put(out,
        "<figcaption>Each bar is a tensor and ends at its largest error, relative to the tensor's "
        "largest magnitude, on a log scale; the short line is what is allowed. A bar that ends "
        "below "
        "it is a match (round), above it a mismatch "
        "(diamond).</figcaption>\n</figure>\n</section>\n");
    free(svg);
}

/* ---- the table ----------------------------------------------------------------------------------- */

static bool fails(const Row *row) { return row->verdict != ROW_MATCH && row->verdict != ROW_EXTRA; }

/* The tolerance that all rows share, or NULL. */
static const char *common_source(const Report *r) {
    const char *source = NULL;
    for (size_t i = 0; i < r->rows; i++) {
        const Row *row = &r->row[i];
        if (row->verdict == ROW_EXTRA || row->verdict == ROW_MISSING) continue;
        if (source && strcmp(source, row->tolerance.source) != 0) return NULL;
        source = row->tolerance.source;
    }
    return source && *source ? source : NULL;
}

static void put_number(Text *out, double v) {
    char n[NUMBER_SIZE];
    put(out, "<td>%s</td>", number_text(n, v));
}

static void put_value(Text *out, double v) {
    char n[NUMBER_SIZE];
    put(out, "<td>%s</td>", value_text(n, v, 9));
}

static void put_measures(Text *out, const Row *row) {
    char n[NUMBER_SIZE];
    put_number(out, row->max_rel);
    put_number(out, row->largest > 0 ? row->allowed / row->largest : row->allowed);
    put_number(out, row->max_abs);
    put_number(out, row->nmse);
    put_value(out, row->cosine);
    snprintf(n, sizeof n, "%.1f", row->ulp);
    put(out, "<td>%s</td>", row->ulp < 1e6 ? n : number_text(n, row->ulp));
    put(out, "<td>%lld</td><td>", (long long)row->nonfinite);
    put_index(out, &row->ref, row->worst);
    put(out, "</td>");
    put_value(out, row->worst_ref);
    put_value(out, row->worst_mine);
}

static void put_row(Text *out, const Report *r, size_t i, bool sources) {
    const Row *row = &r->row[i];
    const char *class = row->verdict == ROW_MATCH       ? "v-good"
                        : row->verdict == ROW_EXTRA     ? ""
                        : row->verdict == ROW_NONFINITE ? "v-odd"
                                                        : "v-bad";
    const bool measured =
        row->verdict == ROW_MATCH || row->verdict == ROW_MISMATCH || row->verdict == ROW_NONFINITE;
    const TensorInfo *info = row->verdict == ROW_EXTRA ? &row->mine : &row->ref;
    put(out, "<tr%s><td>%zu</td><th scope=\"row\"><code>", fails(row) ? " class=\"fail\"" : "",
        i + 1);
    put_escaped_name(out, row->name, NAME_MOST);
    put(out, "</code></th><td class=\"w %s\">%s</td><td class=\"w\">", class,
        verdict_name(row->verdict));
    put_shape(out, info);
    if (row->verdict == ROW_MISSHAPEN) {
        put(out, " %s, mine ", dtype_name(info->dtype));
        put_shape(out, &row->mine);
        put(out, " %s", dtype_name(row->mine.dtype));
    }
    put(out, "</td>");
    if (measured)
        put_measures(out, row);
    else
        put(out, "<td colspan=\"10\"></td>");
    if (sources) {
        put(out, "<td class=\"w\">");
        put_escaped(out, measured ? row->tolerance.source : "", sizeof row->tolerance.source);
        put(out, "</td>");
    }
    put(out, "</tr>\n");
}

static bool same_group(const Row *a, const Row *b) {
    return a->group && b->group ? strcmp(a->group, b->group) == 0 : a->group == b->group;
}

/* Every group is a tbody. */
static void put_group(Text *out, const Row *row, bool begins, int columns) {
    put(out, begins ? "<tbody>\n" : "</tbody>\n<tbody>\n");
    if (!row->group) return;
    put(out, "<tr><th scope=\"rowgroup\" colspan=\"%d\">", columns);
    put_escaped(out, row->group, 100);
    put(out, "</th></tr>\n");
}

static void put_head(Text *out, bool sources) {
    static const char *const name[] = {"error", "allowed",  "max abs", "NMSE",      "cosine",
                                       "ULP",   "NaN, inf", "at",      "reference", "mine"};
    put(out, "<thead><tr><th scope=\"col\">#</th><th scope=\"col\" class=\"w\">tensor</th>"
             "<th scope=\"col\" class=\"w\">verdict</th><th scope=\"col\" class=\"w\">shape</th>");
    for (int i = 0; i < 10; i++) put(out, "<th scope=\"col\">%s</th>", name[i]);
    if (sources) put(out, "<th scope=\"col\" class=\"w\">allowed by</th>");
    put(out, "</tr></thead>\n");
}

static void put_table(Text *out, const Report *r) {
    const bool all = r->rows <= TABLE_MOST;
    const char *source = common_source(r);
    const Row *before = NULL;
    size_t shown = 0, wanted = 0;
    for (size_t i = 0; i < r->rows; i++) wanted += all || fails(&r->row[i]);
    if (wanted > TABLE_MOST) wanted = TABLE_MOST;
    put(out, "<section aria-labelledby=\"rows\">\n<h2 id=\"rows\">Every tensor</h2>\n");
    if (wanted == 0) {
        put(out, "<p>%zu tensors match", r->counts[ROW_MATCH]);
        if (!all) put(out, ", too many to be listed here (<code>--json</code> has them)");
        put(out, ".</p>\n</section>\n");
        return;
    }
    if (wanted < r->rows)
        put(out,
            "<p>Of %zu tensors the first %zu that fail are listed; %zu are left out "
            "(<code>--json</code> has them all).</p>\n",
            r->rows, wanted, r->rows - wanted);
    if (source) {
        put(out, "<p>Allowed: ");
        put_escaped(out, source, sizeof r->row->tolerance.source);
        put(out, ".</p>\n");
    }
    put(out,
        "<p class=\"note\">In execution order. <a href=\"#terms\">What the columns mean</a></p>\n"
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
        "aria-labelledby=\"rows\">\n<table>\n");
    put_head(out, !source);
    for (size_t i = 0; i < r->rows && shown < wanted; i++) {
        if (!all && !fails(&r->row[i])) continue;
        if (!before || !same_group(before, &r->row[i]))
            put_group(out, &r->row[i], !before, source ? 14 : 15);
        before = &r->row[i];
        put_row(out, r, i, !source);
        shown++;
    }
    put(out, "%s</table>\n</div>\n</section>\n", before ? "</tbody>\n" : "");
}

/* ---- the words ----------------------------------------------------------------------------------- */

static const char terms[] =
    "<section aria-labelledby=\"terms\">\n<h2 id=\"terms\">What the columns mean</h2>\n"
    "<dl class=\"terms\">\n"
    "<dt>error</dt><dd>The largest |mine - reference| of the tensor, divided by the largest "
    "|reference| of the tensor: a small element next to large ones may be wrong by as much as a "
    "large "
    "one is.</dd>\n"
    "<dt>allowed</dt><dd>On the same scale. A tensor matches if its error is not larger. With a "
    "yardstick that is twice the error of PyTorch in the same precision on the same case, and 4 "
    "units "
    "in the last place of the tensor's largest magnitude; float64 has 1e-12 (an operator), 1e-10 "
    "(a "
    "module) or 1e-8 (a walk through the network); a reference that is all zero and whole numbers "
    "must "
    "be met exactly. <i>forced</i>: every stage began from the reference's numbers, so that "
    "an error is that stage's own. <i>free</i>: from the prompt, with all that has "
    "grown on the way.</dd>\n"
    "<dt>max abs</dt><dd>The largest |mine - reference|.</dd>\n"
    "<dt>NMSE</dt><dd>The sum of (mine - reference)&#178; over the sum of reference&#178;. Its "
    "root "
    "is a typical relative error; one wrong element hardly shows.</dd>\n"
    "<dt>cosine</dt><dd>Between the two as vectors: 1 also if mine is a multiple of the "
    "reference.</dd>\n"
    "<dt>ULP</dt><dd>max abs in units in the last place of the tensor's largest magnitude, in the "
    "type that mine is stored in.</dd>\n"
    "<dt>NaN, inf</dt><dd>How many elements of mine are not finite. One is enough to fail, "
    "whatever the reference has there.</dd>\n"
    "<dt>at, reference, mine</dt><dd>Where max abs is (or the first element that is not finite), "
    "counted from 0, and both values.</dd>\n"
    "<dt>verdict</dt><dd><i>misshapen</i>: another shape, or numbers of another kind. "
    "<i>missing</i>: not in mine. <i>extra</i>: not in the reference, which is no failure.</dd>\n"
    "</dl>\n</section>\n";

char *report_html(const Report *r, Error *err) {
    Text out = {.err = err};
    put_top(&out, r);
    put_first(&out, r);
    put_depth(&out, r);
    put_heat_maps(&out, r);
    put_table(&out, r);
    put(&out, "%s</main>\n</body>\n</html>\n", terms);
    return text_finish(&out);
}
