/* llmdiff compare as a person runs it, and llmdiff_compare as a program calls it. */
#include "cli_run.h"
#include "ref/llmdiff.h"

#include <cjson/cJSON.h>
#include <math.h>

#define FILES "golden/data/files/"

static const float good[6] = {1, 2, 3, 4, 5, 6}, off[6] = {1, 2, 3, 4, 5.5f, 6},
                   not_finite[6] = {1, 2, NAN, 4, 5, 6};

static StoredTensor tensor(const char *name, const float *data, int64_t rows, int64_t columns) {
    return (StoredTensor){
        name, DTYPE_F32, 2, {rows, columns}, data, (size_t)(rows * columns) * sizeof *data};
}

static void write_file(const char *file, const StoredTensor *t, size_t n) {
    Error err = {0};
    if (safetensors_write(path(file), t, n, NULL, &err)) fail_msg("%s", err.message);
}

/* ref: a, b, c. Files that differ from it in one way each. */
static void write_files(void) {
    StoredTensor t[4] = {tensor("a", good, 2, 3), tensor("b", good, 2, 3), tensor("c", good, 3, 2)};
    write_file("@/ref.safetensors", t, 3);
    write_file("@/missing.safetensors", t, 2);
    t[3] = tensor("d", good, 1, 1);
    write_file("@/extra.safetensors", t, 4);
    t[1] = tensor("b", off, 2, 3);
    write_file("@/off.safetensors", t, 3);
    t[1] = tensor("b", not_finite, 2, 3);
    write_file("@/nan.safetensors", t, 3);
    t[1] = tensor("b", good, 3, 2);
    write_file("@/shape.safetensors", t, 3);
}

static void every_exit_code(void **state) {
    (void)state;
    static const struct {
        const char *mine;
        int code;
        const char *counts, *first;
    } cases[] = {{"@/ref.safetensors", 0, "3 tensors: 3 match\n", "first divergence: none\n"},
                 {"@/extra.safetensors", 0, "3 tensors: 3 match; 1 extra, not judged\n",
                  "first divergence: none\n"},
                 {"@/off.safetensors", 1, "3 tensors: 2 match, 1 mismatch\n",
                  "first divergence: b: off by 0.5 (0.083 of the largest)\n"
                  "  where 0.0006 is allowed: default for F32: 0.0001 of the tensor's largest\n"},
                 {"@/nan.safetensors", 4, "3 tensors: 2 match, 1 non-finite\n",
                  "first divergence: b: 1 of 6 numbers are not finite\n"},
                 {"@/shape.safetensors", 3, "3 tensors: 2 match, 1 misshapen\n",
                  "first divergence: b: another shape or kind of type\n"},
                 {"@/missing.safetensors", 3, "3 tensors: 2 match, 1 missing\n",
                  "first divergence: c: missing\n"}};
    write_files();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Result r = RUN("compare", "@/ref.safetensors", cases[i].mine);
        assert_string_equal(r.err, "");
        assert_int_equal(r.code, cases[i].code);
        assert_holds(r.out, cases[i].counts);
        assert_holds(r.out, cases[i].first);
        /* the other way round NaN is as bad, and what is extra is missing */
        r = RUN("compare", cases[i].mine, "@/ref.safetensors");
        assert_int_equal(r.code, i == 1 ? 3 : i == 5 ? 0 : cases[i].code);
    }
}

static void the_whole_table(void **state) {
    (void)state;
    write_files();
    Result r = RUN("compare", "@/ref.safetensors", "@/off.safetensors", "--only", "^[ab]$");
    assert_string_equal(
        r.out,
        "compare: reference @/ref.safetensors, mine @/off.safetensors\n"
        "allowed: default for F32: 0.0001 of the tensor's largest (2 tensors)\n"
        "\n"
        " tensor                                     shape          max abs max rel    NMSE    "
        "cosine      ULP n-fin  verdict\n"
        " a                                          [2,3]                0       0       0     "
        "    1        0     0  match\n"
        " b                                          [2,3]          5.0e-01 8.3e-02 2.7e-03  "
        "0.999058 1.05e+06     0  mismatch\n"
        "     worst at [1,1]: reference 5, mine 5.5; allowed 0.0006\n"
        "\n"
        "2 tensors: 1 match, 1 mismatch\n"
        "first divergence: b: off by 0.5 (0.083 of the largest)\n"
        "  where 0.0006 is allowed: default for F32: 0.0001 of the tensor's largest\n"
        "hint: a single element is off, [1, 1]: all others agree to 0e+00 of the largest value\n");
}

static void tolerances_from_the_command_line(void **state) {
    (void)state;
    write_files();
    static const struct {
        const char *flag, *value;
        int code;
    } cases[] = {{"--atol", "0.5", 0},   {"--atol", "0.49", 1}, {"--rtol", "0.084", 0},
                 {"--rtol", "0.083", 1}, {"--rtol", "0", 1},    {"--atol", "1e3", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Result r =
            RUN("compare", "@/ref.safetensors", "@/off.safetensors", cases[i].flag, cases[i].value);
        assert_int_equal(r.code, cases[i].code);
    }
    Result r = RUN("compare", "--rtol", "0", "--atol=0", "@/ref.safetensors", "@/ref.safetensors");
    assert_int_equal(r.code, 0);
    assert_holds(r.out, "allowed: --rtol 0, --atol 0 (3 tensors)\n");
    r = RUN("compare", "--atol", "1e300", "@/ref.safetensors", "@/nan.safetensors");
    assert_int_equal(r.code, 4);
}

/* For names that the kit knows; a port's type may be one that it has no yardstick for. */
static void tolerances_of_the_kit(void **state) {
    (void)state;
    static const char *const expected = "golden/kit/expected/picture.safetensors";
    Result r =
        RUN("compare", expected, expected, "--kit", "golden/kit", "--only", "^latents/|^ids$");
    assert_string_equal(r.err, "");
    assert_int_equal(r.code, 0);
    assert_holds(r.out, "float64: 1e-08 of the largest (");
    assert_holds(r.out, "whole numbers: equal (1 tensor)\n");
    /* asked for is asked for; a name that the kit doesn't know goes by type */
    r = RUN("compare", expected, expected, "--kit", "golden/kit", "--rtol", "1", "--only",
            "^image$");
    assert_holds(r.out, "allowed: --rtol 1 (1 tensor)\n");
    write_files();
    r = RUN("compare", "@/ref.safetensors", "@/ref.safetensors", "--kit", "golden/kit");
    assert_holds(r.out, "allowed: default for F32: 0.0001 of the tensor's largest (3 tensors)\n");
    assert_error_holds(RUN("compare", expected, expected, "--kit", "@"), 3, "@/manifest.json");
    /* a float32 port's: within 2 x torch's own error there */
    StoredTensor image = tensor("image", good, 0, 0);
    Error err = {0};
    Safetensors *truth = safetensors_open(expected, &err);
    if (!truth) fail_msg("%s", err.message);
    const StoredTensor *t = safetensors_find(truth, "image");
    assert_non_null(t);
    size_t n = (size_t)stored_numel(t);
    double *wide = malloc(n * sizeof *wide);
    float *narrow = malloc(n * sizeof *narrow);
    assert_int_equal(stored_to_double(t, wide, &err), 0);
    for (size_t i = 0; i < n; i++) narrow[i] = (float)wide[i];
    image.ndim = t->ndim;
    memcpy(image.dim, t->dim, sizeof t->dim);
    image.data = narrow;
    image.bytes = n * sizeof *narrow;
    write_file("@/image.safetensors", &image, 1);
    r = RUN("compare", expected, "@/image.safetensors", "--kit", "golden/kit", "--only", "^image$");
    assert_int_equal(r.code, 0);
    assert_holds(r.out, "allowed: 2 x torch float32's own error there, + 4 ulp (1 tensor)\n");
    narrow[3] += 2e-5f;
    write_file("@/image.safetensors", &image, 1);
    r = RUN("compare", expected, "@/image.safetensors", "--kit", "golden/kit", "--only", "^image$");
    assert_int_equal(r.code, 1);
    safetensors_close(truth);
    free(wide);
    free(narrow);
}

/* ---- hints by recomputing ------------------------------------------------------------------------- */

static void shell(const char *command) {
    char text[1024];
    replace_all(text, sizeof text, command, "@", work);
    assert_int_equal(system(text), 0);
}

static Result traced(const char *pack, const char *trace) {
    Result r = RUN("generate", "-m", pack, "-p", "a red circle", "--steps", "1", "-o", "@/x.png",
                   "--quiet", "--trace", trace);
    assert_ok(r);
    return r;
}

/* A pack whose U-Net has another eps is a port with that mistake. */
static void a_mistake_is_found_by_making_it(void **state) {
    (void)state;
    shell("cp -r " MICRO " @/pack && sed -i 's/\"norm_eps\": 1e-05/\"norm_eps\": 0.001/' "
          "@/pack/unet/config.json");
    traced(MICRO, "@/ref.safetensors");
    traced("@/pack", "@/mine.safetensors");
    Result r = RUN("compare", "@/ref.safetensors", "@/mine.safetensors", "-m", MICRO);
    assert_string_equal(r.err, "");
    assert_int_equal(r.code, 1);
    assert_holds(r.out, "first divergence: unet/0/cond/down_blocks.0.resnets.0: ");
    assert_holds(r.out, "hint: recomputed: mine is what comes out with 0.001 for the norm's eps, "
                        "everywhere, ");
    r = RUN("compare", "@/ref.safetensors", "@/mine.safetensors");
    assert_int_equal(r.code, 1);
    assert_null(strstr(r.out, "recomputed"));
    /* the other way round it is this program that is wrong: nothing to be learned from it */
    r = RUN("compare", "@/mine.safetensors", "@/ref.safetensors", "-m", MICRO);
    assert_int_equal(r.code, 1);
    assert_null(strstr(r.out, "recomputed: mine"));
    static const char *const not_ours = "hint: nothing was recomputed: this program, run again, "
                                        "doesn't give the reference's numbers "
                                        "there: it was made by another pack or program\n";
    assert_holds(r.out, not_ours);
    assert_holds(RUN("compare", "@/ref.safetensors", "@/mine.safetensors", "-m", "@/pack").out,
                 not_ours);
    /* a pack of quite another kind */
    r = RUN("compare", "@/ref.safetensors", "@/mine.safetensors", "-m", "golden/data/llama_plain");
    assert_int_equal(r.code, 1);
    assert_holds(r.out, "hint: nothing was recomputed: @/ref.safetensors: golden/data/"
                        "llama_plain/./unet/config.json: can't be opened: ");
    /* the kit has the pack that the trace was made with, and knows it by its hash */
    r = RUN("compare", "@/ref.safetensors", "@/mine.safetensors", "--kit", "golden/kit", "--rtol",
            "1e-4");
    assert_holds(r.out, "hint: recomputed: mine is what comes out with 0.001 for the norm's eps, "
                        "everywhere, ");
    r = RUN("compare", "@/mine.safetensors", "@/ref.safetensors", "--kit", "golden/kit", "--rtol",
            "1e-4");
    assert_holds(r.out, "hint: nothing was recomputed: ");
    for (int same = 0; same < 2; same++)
        assert_error(RUN("compare", "@/ref.safetensors",
                         same ? "@/ref.safetensors" : "@/mine.safetensors", "-m", "@/no"),
                     3, "@/no: expected a pack's directory, found nothing: give one with -m");
}

static void only_a_trace_can_be_recomputed(void **state) {
    (void)state;
    write_files();
    Result r = RUN("compare", "@/ref.safetensors", "@/off.safetensors", "-m", MICRO);
    assert_int_equal(r.code, 1);
    assert_holds(r.out, "hint: nothing was recomputed: the reference is no trace of llmdiff, whose "
                        "metadata say how it was made\n");
}

/* A file of the kit is known as one by where it lies. */
static void the_kit_around_the_reference(void **state) {
    (void)state;
    static const char *const expected = "golden/kit/expected/operators.safetensors";
    shell("mkdir -p @/no_kit/expected && cp golden/kit/expected/operators.safetensors @/copy && "
          "cp @/copy @/no_kit/expected/x && echo '{}' > @/no_kit/manifest.json");
    Result r = RUN("compare", expected, "@/copy", "--only", "^group_norm");
    assert_ok(r);
    assert_holds(r.out, "allowed: float64: 1e-12 of the largest (");
    assert_null(strstr(r.out, "judged by a default"));
    static const char *const others[] = {"@/copy", "@/no_kit/expected/x"};
    for (int i = 0; i < 2; i++) {
        r = RUN("compare", others[i], "@/copy", "--only", "^group_norm");
        assert_ok(r);
        assert_holds(r.out, "allowed: default for F64: 1e-08 of the tensor's largest (");
        assert_holds(r.out, "\nfirst divergence: none\n"
                            "judged by a default; a kit's tolerances are stricter (--kit)\n");
    }
    r = RUN("compare", "@/copy", "@/copy", "--rtol", "0");
    assert_null(strstr(r.out, "judged by a default"));
}

/* A linear layer of the kit without its bias. */
static void the_kits_own_cases_are_recomputed(void **state) {
    (void)state;
    static const char *const expected = "golden/kit/expected/operators.safetensors";
    Error err = {0};
    Safetensors *truth = safetensors_open(expected, &err);
    Safetensors *given = safetensors_open("golden/kit/inputs/operators.safetensors", &err);
    if (err.set) fail_msg("%s", err.message);
    const StoredTensor *y = safetensors_find(truth, "linear/tokens/y"),
                       *b = safetensors_find(given, "linear/tokens/b");
    assert_true(y && b && y->dtype == DTYPE_F64);
    size_t n = (size_t)stored_numel(y), m = (size_t)stored_numel(b);
    double *without = malloc(n * sizeof *without), *bias = malloc(m * sizeof *bias);
    assert_int_equal(stored_to_double(y, without, &err), 0);
    assert_int_equal(stored_to_double(b, bias, &err), 0);
    for (size_t i = 0; i < n; i++) without[i] -= bias[i % m];
    StoredTensor mine = *y;
    mine.data = without;
    write_file("@/mine.safetensors", &mine, 1);
    Result r = RUN("compare", expected, "@/mine.safetensors", "--kit", "golden/kit", "--only",
                   "^linear/tokens/y$");
    assert_int_equal(r.code, 1);
    assert_holds(r.out, "allowed: float64: 1e-12 of the largest (1 tensor)\n"); /* an operator's */
    assert_holds(r.out, "hint: recomputed: mine is what comes out without the bias");
    safetensors_close(truth);
    safetensors_close(given);
    free(without);
    free(bias);
}

static void wrong_usage(void **state) {
    (void)state;
    write_files();
    assert_error(RUN("compare"), 2, "compare: expected two files, REF and MINE, found none");
    assert_error(RUN("compare", "@/ref.safetensors"), 2,
                 "compare: expected two files, REF and MINE, found one");
    assert_error(RUN("compare", "a", "b", "c"), 2,
                 "compare: expected REF and MINE, found \"c\" behind them");
    assert_error(RUN("compare", "a", "b", "--rtol", "-1"), 2,
                 "--rtol: expected 0 or more, found -1");
    assert_error(RUN("compare", "a", "b", "--atol", "nan"), 2,
                 "--atol: expected a number, found \"nan\"");
    assert_error(RUN("compare", "a", "b", "--only", "("), 2,
                 "--only: expected a regular expression, found \"(\": Unmatched ( or \\(");
    assert_error(RUN("compare", "a", "b", "--tensors"), 2,
                 "compare: unknown flag --tensors; it belongs to llmdiff info");
    assert_error(RUN("compare", "a", "b", "--json", "-", "--svg", "-"), 2,
                 "--json, --html, --svg: expected one of them on standard output");
    assert_error(RUN("compare", "a", "b", "--json", "@/no/x.json"), 2,
                 "@/no/x.json: can't be created: No such file or directory");
    assert_error(RUN("info", "a", "b"), 2, "info: expected one DIR|FILE, found \"a\" and \"b\"");
}

/* Whatever the path or link that leads to it. */
static void no_report_overwrites_what_it_is_about(void **state) {
    (void)state;
    static const char *const flags[] = {"--json", "--html", "--svg"};
    static const struct {
        const char *path, *what;
    } inputs[] = {{"@/ref.safetensors", "the reference"},
                  {"@/./ref.safetensors", "the reference"},
                  {"@/soft", "the reference"},
                  {"@/hard", "the reference"},
                  {"@/off.safetensors", "MINE"},
                  {"@/map.json", "the file of --map"}};
    char message[256];
    write_files();
    put_text("@/map.json", "{\"x\": \"y\"}");
    shell(
        "ln -s ref.safetensors @/soft && ln @/ref.safetensors @/hard && cp @/off.safetensors @/o");
    for (int f = 0; f < 3; f++) {
        for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
            snprintf(message, sizeof message, "%s: %s is %s: it would be overwritten", flags[f],
                     inputs[i].path, inputs[i].what);
            assert_error(RUN("compare", "@/ref.safetensors", "@/off.safetensors", "--map",
                             "@/map.json", flags[f], inputs[i].path),
                         2, message);
        }
        const char *first = f == 2 ? "--html" : "--json", *second = f ? "--svg" : "--html";
        snprintf(message, sizeof message, "%s and %s: expected two files, found \"@/x\" twice",
                 first, second);
        assert_error(RUN("compare", "@/ref.safetensors", "@/off.safetensors", first, "@/x", second,
                         "@/.//x"),
                     2, message);
    }
    assert_true(same_file("@/off.safetensors", "@/o"));
    assert_true(file_exists(path("@/hard")) && !file_exists(path("@/x")));
}

/* A file that can't be read is no mismatch: nothing was judged. */
static void files_that_are_no_tensors(void **state) {
    (void)state;
    write_files();
    size_t n;
    char *bytes = contents("@/ref.safetensors", &n);
    put("@/cut.safetensors", bytes, n - 1);
    put("@/empty.safetensors", "", 0);
    put_text("@/map.json", "{\"a\": 1}");
    put_text("@/two.json", "{\"a\": \"x\", \"b\": \"x\"}");
    free(bytes);
    assert_error(RUN("compare", "@/ref.safetensors", "@/absent"), 3,
                 "@/absent: can't be opened: No such file or directory");
    assert_error(RUN("compare", "@", "@/ref.safetensors"), 3,
                 "@: can't be opened: it is a directory, not a file");
    assert_error_holds(RUN("compare", "@/ref.safetensors", "@/cut.safetensors"), 3,
                       "end past the file's data (71 bytes)");
    assert_error(RUN("compare", "@/ref.safetensors", "@/empty.safetensors"), 3,
                 "@/empty.safetensors: is empty");
    assert_error(RUN("compare", "@/ref.safetensors", FILES "object.npz"), 3,
                 FILES "object.npz: x.npy: type '|O' is not supported ('<f2', '<f4', '<f8', '<i2', "
                       "'<i4', '<i8', '|i1', '|u1', '|b1' are)");
    assert_error(
        RUN("compare", "@/ref.safetensors", "@/ref.safetensors", "--only", "x"), 3,
        "@/ref.safetensors: holds no tensor that --only names: there is nothing to compare");
    assert_error(RUN("compare", "@/ref.safetensors", "@/ref.safetensors", "--map", "@/map.json"), 3,
                 "@/map.json: \"a\": expected a name in quotes");
    assert_error(RUN("compare", "@/ref.safetensors", "@/ref.safetensors", "--map", "@/two.json"), 3,
                 "@/ref.safetensors: \"a\" and \"b\" are both called \"x\" here");
}

static void files_of_every_kind(void **state) {
    (void)state;
    static const char *const kinds[] = {FILES "stored.npz", FILES "deflated.npz", FILES "piped.npz",
                                        FILES "zip64.npz"};
    for (int i = 0; i < 4; i++) {
        Result r = RUN("compare", kinds[i], kinds[(i + 1) % 4]);
        assert_string_equal(r.err, "");
        assert_int_equal(r.code, 0);
        assert_holds(r.out, "8 tensors: 8 match\n");
    }
    Result r = RUN("compare", FILES "f4.npy", FILES "f8_fortran.npy");
    assert_int_equal(r.code, 0);
    /* upstream's types hold NaN and infinity on purpose */
    r = RUN("compare", FILES "types.safetensors", FILES "types.safetensors");
    assert_int_equal(r.code, 4);
    assert_holds(r.out, "16 tensors: 14 match, 2 non-finite\n");
}

static void reports_go_to_files(void **state) {
    (void)state;
    write_files();
    Result r = RUN("compare", "@/ref.safetensors", "@/off.safetensors", "--json", "@/r.json",
                   "--html", "@/r.html", "--svg", "@/r.svg");
    assert_int_equal(r.code, 1);
    assert_string_equal(r.err, "");
    assert_holds(r.out, "first divergence: b");
    size_t n;
    char *json = contents("@/r.json", &n), *html = contents("@/r.html", &n),
         *svg = contents("@/r.svg", &n);
    Result to_stdout = RUN("compare", "@/ref.safetensors", "@/off.safetensors", "--json", "-");
    char plain[32768];
    replace_all(plain, sizeof plain, json, work, "@");
    assert_string_equal(to_stdout.out, plain);
    assert_int_equal(to_stdout.code, 1);
    cJSON *parsed = cJSON_Parse(json);
    assert_non_null(parsed);
    assert_int_equal(cJSON_GetObjectItem(parsed, "code")->valueint, 1);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(parsed, "rows")), 3);
    cJSON_Delete(parsed);
    assert_true(strncmp(html, "<!DOCTYPE html>", 15) == 0 ||
                strncmp(html, "<!doctype html>", 15) == 0);
    assert_holds(svg, "<svg ");
    free(json);
    free(html);
    free(svg);
    assert_directory("extra.safetensors missing.safetensors nan.safetensors off.safetensors r.html "
                     "r.json r.svg ref.safetensors shape.safetensors ");
}

/* A mismatch is 1: what could not be said must not look like one. */
static void a_report_that_does_not_arrive(void **state) {
    (void)state;
    write_files();
    Result r = RUN_WITH(">/dev/full", "compare", "@/ref.safetensors", "@/ref.safetensors");
    assert_int_equal(r.code, 3);
    assert_holds(r.err, "llmdiff: stdout: can't be written: No space left on device\n");
    r = RUN_WITH(">&-", "compare", "@/ref.safetensors", "@/off.safetensors");
    assert_int_equal(r.code, 3);
}

/* ---- the library ----------------------------------------------------------------------------------- */

static llmdiff_compare_options options_for(const char *reference, const char *mine) {
    llmdiff_compare_options o;
    assert_int_equal(llmdiff_compare_default(&o, sizeof o), LLMDIFF_OK);
    o.reference = reference;
    o.mine = mine;
    return o;
}

static void defaults_of_a_comparison(void **state) {
    (void)state;
    llmdiff_compare_options o;
    memset(&o, 1, sizeof o);
    assert_int_equal(llmdiff_compare_default(&o, sizeof o), LLMDIFF_OK);
    assert_int_equal(o.size, sizeof o);
    assert_true(o.rtol < 0 && o.atol < 0);
    assert_true(!o.reference && !o.mine && !o.only && !o.map_file && !o.progress);
    assert_int_equal(llmdiff_compare_default(NULL, sizeof o), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_compare_default(&o, sizeof o - 1), LLMDIFF_MISUSE);
}

static void a_comparison_by_the_library(void **state) {
    (void)state;
    write_files();
    char ref[128], mine[128];
    snprintf(ref, sizeof ref, "%s", path("@/ref.safetensors"));
    snprintf(mine, sizeof mine, "%s", path("@/off.safetensors"));
    llmdiff_compare_options o = options_for(ref, mine);
    llmdiff_report *report;
    llmdiff_error e;
    char *text, *all;
    assert_int_equal(llmdiff_compare(&o, &report, &e), LLMDIFF_OK);
    assert_string_equal(e.message, "");
    assert_int_equal(llmdiff_report_code(report), LLMDIFF_CODE_MISMATCH);
    assert_int_equal(llmdiff_report_text(report, 0, &text, &e), LLMDIFF_OK);
    assert_int_equal(llmdiff_report_text(report, 1, &all, NULL), LLMDIFF_OK);
    assert_string_equal(text, all);
    llmdiff_free(text);
    llmdiff_free(all);
    llmdiff_report_free(report);
    llmdiff_report_free(NULL);
    o.atol = 0.5;
    assert_int_equal(llmdiff_compare(&o, &report, NULL), LLMDIFF_OK);
    assert_int_equal(llmdiff_report_code(report), LLMDIFF_CODE_MATCH);
    llmdiff_report_free(report);
}

static void assert_misuse(llmdiff_status status, const llmdiff_error *e, const char *message) {
    assert_int_equal(status, LLMDIFF_MISUSE);
    assert_int_equal(e->status, LLMDIFF_MISUSE);
    assert_string_equal(e->message, message);
}

static void misuse_is_defined(void **state) {
    (void)state;
    llmdiff_compare_options o = options_for("a", "b"), bad;
    llmdiff_report *report = (llmdiff_report *)&o;
    llmdiff_error e;
    char *text = (char *)&o;
    assert_misuse(llmdiff_compare(NULL, &report, &e), &e,
                  "llmdiff_compare_options: expected a pointer, found NULL");
    assert_null(report);
    assert_misuse(llmdiff_compare(&o, NULL, &e), &e, "report: expected a pointer, found NULL");
    bad = o;
    bad.size = 3;
    assert_int_equal(llmdiff_compare(&bad, &report, &e), LLMDIFF_MISUSE);
    assert_holds(e.message,
                 "llmdiff_compare_options.size: expected sizeof(llmdiff_compare_options)");
    bad = o;
    bad.mine = NULL;
    assert_misuse(llmdiff_compare(&bad, &report, &e), &e,
                  "llmdiff_compare_options.mine: expected a pointer, found NULL");
    bad = o;
    bad.reference = NULL;
    assert_int_equal(llmdiff_compare(&bad, &report, &e), LLMDIFF_MISUSE);
    bad = o;
    bad.rtol = NAN;
    assert_misuse(llmdiff_compare(&bad, &report, &e), &e, "--rtol: expected a number, found nan");
    bad = o;
    bad.atol = INFINITY;
    assert_misuse(llmdiff_compare(&bad, &report, &e), &e, "--atol: expected a number, found inf");
    bad = o;
    bad.only = "[";
    assert_int_equal(llmdiff_compare(&bad, &report, &e), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_compare(&o, &report, &e), LLMDIFF_FAILED); /* no such files */
    assert_string_equal(e.message, "a: can't be opened: No such file or directory");
    assert_null(report);

    assert_int_equal(llmdiff_report_code(NULL), LLMDIFF_CODE_USAGE);
    uint64_t other[8] = {0};
    llmdiff_report *wrong = (llmdiff_report *)other;
    assert_int_equal(llmdiff_report_code(wrong), LLMDIFF_CODE_USAGE);
    llmdiff_report_free(wrong);
    assert_misuse(llmdiff_report_text(wrong, 0, &text, &e), &e,
                  "report: expected what a comparison gave, found another pointer or one that was "
                  "freed");
    assert_null(text);
    assert_misuse(llmdiff_report_json(NULL, &text, &e), &e,
                  "report: expected a pointer, found NULL");
    assert_int_equal(llmdiff_report_html(NULL, &text, &e), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_report_svg(NULL, &text, &e), LLMDIFF_MISUSE);
    assert_misuse(llmdiff_save_text(NULL, "x", &e), &e, "text: expected a pointer, found NULL");
    assert_misuse(llmdiff_save_text("x", NULL, &e), &e, "path: expected a pointer, found NULL");
    assert_int_equal(llmdiff_save_text("x", "/no/x", &e), LLMDIFF_FAILED);

    o = options_for(FILES "f4.npy", FILES "f4.npy");
    assert_int_equal(llmdiff_compare(&o, &report, &e), LLMDIFF_OK);
    assert_misuse(llmdiff_report_text(report, 0, NULL, &e), &e,
                  "text: expected a pointer, found NULL");
    llmdiff_report_free(report);
}

static int cancel(void *user, int64_t done, int64_t of) {
    (void)done;
    (void)of;
    return ++*(int *)user > 1;
}

static void progress_cancels(void **state) {
    (void)state;
    int calls = 0;
    llmdiff_compare_options o = options_for(FILES "stored.npz", FILES "stored.npz");
    llmdiff_report *report;
    llmdiff_error e;
    o.progress = cancel;
    o.user = &calls;
    assert_int_equal(llmdiff_compare(&o, &report, &e), LLMDIFF_CANCELLED);
    assert_string_equal(e.message, "cancelled");
    assert_null(report);
    assert_int_equal(calls, 2);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, fresh_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        TEST(every_exit_code),
        TEST(the_whole_table),
        TEST(tolerances_from_the_command_line),
        TEST(tolerances_of_the_kit),
        TEST(a_mistake_is_found_by_making_it),
        TEST(only_a_trace_can_be_recomputed),
        TEST(the_kits_own_cases_are_recomputed),
        TEST(wrong_usage),
        TEST(the_kit_around_the_reference),
        TEST(no_report_overwrites_what_it_is_about),
        TEST(files_that_are_no_tensors),
        TEST(files_of_every_kind),
        TEST(reports_go_to_files),
        TEST(a_report_that_does_not_arrive),
        TEST(defaults_of_a_comparison),
        TEST(a_comparison_by_the_library),
        TEST(misuse_is_defined),
        TEST(progress_cancels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
