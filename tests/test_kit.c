/* llmdiff verify and the kit: our own outputs, a port's directory, and every bad input. */
#include "cli_run.h"

#include "ref/llmdiff.h"
#include "ref/yardstick/kit.h"
#include "weights/json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <sys/stat.h>

#define KIT "golden/kit"
#define VERIFY(...) RUN("verify", "--kit", KIT, __VA_ARGS__)
#define JUDGE(...) RUN("verify", "--kit", KIT, "--port", "@/port", __VA_ARGS__)
#define JUDGE_ALL() RUN("verify", "--kit", KIT, "--port", "@/port")

/* ---- counting -------------------------------------------------------------------------------------- */

static Kit *open_kit(void) {
    Error err = {0};
    Kit *kit = kit_open(KIT, &err);
    if (!kit) fail_msg("%s", err.message);
    return kit;
}

/* Outputs of operators and modules, and of the walks. */
static void count_outputs(size_t *single, size_t *walks) {
    Kit *kit = open_kit();
    *single = *walks = 0;
    for (size_t g = 0; g < kit->groups; g++)
        for (size_t c = 0; c < kit->group[g].count; c++)
            *(kit_is_walk(kit->group[g].kind) ? walks : single) += kit->group[g].cases[c].outputs;
    kit_close(kit);
}

static void assert_all_match(Result r, size_t n) {
    char line[96];
    snprintf(line, sizeof line, "\n%zu tensor%s: %zu match\nfirst divergence: none\n", n,
             n == 1 ? "" : "s", n);
    assert_ok(r);
    assert_holds(r.out, line);
}

/* ---- our own ---------------------------------------------------------------------------------------- */

static void this_build_verifies_clean(void **state) {
    (void)state;
    size_t single, walks;
    count_outputs(&single, &walks);
    assert_true(single >= 390 && walks >= 340);
    assert_all_match(VERIFY("-t", "2"), single + 2 * walks);
    assert_all_match(VERIFY("--free"), single + walks);
    assert_all_match(VERIFY("--forced"), single + walks);
}

static void only_judges_what_it_matches(void **state) {
    (void)state;
    size_t single, walks;
    count_outputs(&single, &walks);
    assert_all_match(VERIFY("--only", "^operators/rope/linear/y$"), 1);
    assert_all_match(VERIFY("--only", "^picture.f[a-z]*/unet/0/eps$"), 2);
    Result r = VERIFY("--only", "^picture.free/latents/[01]$");
    assert_all_match(r, 2);
    assert_holds(r.out, "\npicture.free\n latents/0 ");
    assert_null(strstr(r.out, "picture.forced"));
    assert_error(VERIFY("--only", "^operators/rope/linear/x$"), 3,
                 KIT ": holds no output that --only names: there is nothing to judge");
    assert_error(VERIFY("--only", "("), 2,
                 "--only: expected a regular expression, found \"(\": Unmatched ( or \\(");
}

/* What is written is what a port writes: the same numbers, judged the same, at any thread count. */
static void our_outputs_are_a_port(void **state) {
    (void)state;
    size_t single, walks, n[2];
    count_outputs(&single, &walks);
    assert_ok(VERIFY("-t", "1", "-o", "@/port", "--json", "@/own.json"));
    assert_ok(VERIFY("-t", "3", "-o", "@/three"));
    assert_all_match(JUDGE("--json", "@/port.json"), single + 2 * walks);
    char *own = contents("@/own.json", &n[0]), *port = contents("@/port.json", &n[1]);
    /* After the names of what was compared they are the same. */
    const char *a = strstr(own, "\"code\""), *b = strstr(port, "\"code\"");
    assert_true(a && b);
    assert_string_equal(a, b);
    free(own);
    free(port);
    Kit *kit = open_kit();
    for (size_t g = 0; g < kit->groups; g++)
        for (int m = 0; m < (kit_is_walk(kit->group[g].kind) ? 2 : 1); m++) {
            char name[2][128];
            const char *dot = kit_is_walk(kit->group[g].kind) ? "." : "";
            for (int i = 0; i < 2; i++)
                snprintf(name[i], sizeof name[i], "@/%s/%s%s%s.safetensors", i ? "three" : "port",
                         kit->group[g].name, dot, *dot ? kit_mode_name((KitMode)m) : "");
            assert_true(same_file(name[0], name[1]));
        }
    kit_close(kit);
}

static void usage(void **state) {
    (void)state;
    assert_error(RUN("verify"), 2, "verify: by which kit? Give its directory with --kit");
    assert_error(VERIFY("--free", "--forced"), 2,
                 "--free and --forced: expected one of them; both is the default");
    assert_error(VERIFY("--port", "@", "-o", "@/out"), 2,
                 "--port and --output: expected one of them: what a port wrote is there already");
    assert_error(VERIFY("--port", "@/none"), 3,
                 "@/none: expected a directory with a port's outputs, found nothing");
    put_text("@/file", "");
    assert_error(VERIFY("--port", "@/file"), 3,
                 "@/file: expected a directory with a port's outputs, found a file");
    assert_error(VERIFY("--json", "@/none/x.json"), 2,
                 "@/none/x.json: can't be created: No such file or directory");
    assert_error(VERIFY("-o", "@/none/out"), 3,
                 "@/none/out: can't be made: No such file or directory");
    assert_error(RUN("verify", "--kit", "@/none"), 3,
                 "@/none: expected a directory with a kit, found nothing");
    assert_error(RUN("verify", "--kit", "@/file"), 3,
                 "@/file: expected a directory with a kit, found a file");
    assert_error_holds(RUN("verify", "--kit", "@"), 3, "@/manifest.json");
}

/* ---- a port's files --------------------------------------------------------------------------------- */

/* One tensor of a port's file as the test wants it, widened. */
typedef struct Edit {
    const char *name;
    Dtype dtype; /* to be stored as; with `as_is` as it was */
    bool as_is, drop, transpose;
    int64_t at;   /* this element ... */
    double value; /* ... gets this value; NaN at -1: none */
} Edit;

static size_t put_number(unsigned char *to, Dtype dtype, double x) {
    const float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    bits >>= 16;
    switch (dtype) {
    case DTYPE_F64: memcpy(to, &x, 8); break;
    case DTYPE_F32: memcpy(to, &f, 4); break;
    case DTYPE_BF16: memcpy(to, &bits, 2); break;
    case DTYPE_I64: memcpy(to, &(int64_t){(int64_t)x}, 8); break;
    case DTYPE_I32: memcpy(to, &(int32_t){(int32_t)x}, 4); break;
    default: fail_msg("not a type of this test's");
    }
    return dtype_size(dtype);
}

/* Tensor t with the edit, in memory of its own. */
static StoredTensor edited(const StoredTensor *t, const Edit *e) {
    const int64_t n = stored_numel(t);
    double *wide = malloc(((size_t)n + 1) * sizeof *wide);
    unsigned char *bytes = malloc((size_t)n * 8 + 8);
    Error err = {0};
    StoredTensor out = *t;
    assert_true(wide && bytes);
    assert_int_equal(stored_widen(t, wide, &err), 0);
    if (e->at >= 0) wide[e->at] = e->value;
    if (!e->as_is) out.dtype = e->dtype;
    if (e->transpose) {
        out.dim[0] = t->dim[1];
        out.dim[1] = t->dim[0];
    }
    out.bytes = 0;
    for (int64_t i = 0; i < n; i++) out.bytes += put_number(bytes + out.bytes, out.dtype, wide[i]);
    out.data = bytes;
    free(wide);
    return out;
}

/* The port's file `name` ("@/port/operators.safetensors") with one tensor edited; `more`, if any, at its
 * end. */
static void edit_file(const char *name, const Edit *e, const StoredTensor *more) {
    Error err = {0};
    Safetensors *s = safetensors_open(path(name), &err);
    if (!s) fail_msg("%s", err.message);
    StoredTensor *all = calloc(safetensors_count(s) + 1, sizeof *all);
    void *own = NULL;
    size_t n = 0, found = !e;
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const StoredTensor *t = safetensors_at(s, i);
        const bool it = e && strcmp(t->name, e->name) == 0;
        found += it;
        if (it && e->drop) continue;
        all[n] = it ? edited(t, e) : *t;
        if (it) own = (void *)(uintptr_t)all[n].data;
        n++;
    }
    assert_int_equal(found, 1);
    if (more) all[n++] = *more;
    assert_int_equal(safetensors_write(path(name), all, n, NULL, &err), 0);
    safetensors_close(s);
    free(own);
    free(all);
}

#define OPERATORS "@/port/operators.safetensors"
#define GELU "gelu/small/y" /* [3, 10] */
static const Edit unchanged = {.as_is = true, .at = -1};

/* A port's directory that is right: our own outputs. */
static int fresh_port(void **state) {
    if (fresh_directory(state)) return -1;
    return VERIFY("-o", "@/port").code;
}

static double number_at(const char *file, const char *name, int64_t i) {
    Error err = {0};
    TensorFile *f = tensor_file_open(path(file), NULL, &err);
    assert_non_null(f);
    double *x = tensor_file_load(f, tensor_file_find(f, name), &err), y;
    assert_non_null(x);
    y = x[i];
    free(x);
    tensor_file_close(f);
    return y;
}

static void a_wrong_element_is_a_mismatch(void **state) {
    (void)state;
    Kit *kit = open_kit();
    const KitGroup *g = &kit->group[0];
    const KitOutput *o = NULL;
    Tolerance t;
    Error err = {0};
    for (size_t c = 0; c < g->count; c++)
        if (strcmp(g->cases[c].name, "gelu/small") == 0) o = g->cases[c].output;
    assert_non_null(o);
    double *truth = tensor_file_load(g->expected, o->expected, &err), largest = 0;
    for (int i = 0; i < 30; i++) largest = fmax(largest, fabs(truth[i]));
    const Dtype own = sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32;
    assert_int_equal(kit_tolerance(o, g->kind, KIT_FREE, own, largest, &t, &err), 0);
    const double allowed = t.absolute + t.relative * largest;
    Edit e = unchanged;
    e.name = GELU;
    e.at = 17;
    e.value = truth[17] + 0.9 * allowed;
    edit_file(OPERATORS, &e, NULL);
    assert_ok(JUDGE("--only", "gelu/small"));
    e.value = truth[17] + 3 * allowed;
    edit_file(OPERATORS, &e, NULL);
    Result r = JUDGE_ALL();
    assert_int_equal(r.code, 1);
    assert_holds(r.out, "first divergence: operators " GELU ": off by ");
    assert_holds(r.out, "\n     worst at [1,7]: ");
    free(truth);
    kit_close(kit);
}

static void not_a_number_is_never_a_match(void **state) {
    (void)state;
    Edit e = unchanged;
    e.name = "llm/x.1";
    e.at = 3;
    e.value = NAN;
    edit_file("@/port/picture.forced.safetensors", &e, NULL);
    e.value = INFINITY;
    edit_file("@/port/picture.free.safetensors", &e, NULL);
    Result r = JUDGE_ALL();
    assert_int_equal(r.code, 4);
    assert_holds(r.out, "first divergence: picture.forced llm/x.1: 1 of ");
    assert_holds(r.out, ", 2 non-finite\n");
    /* Missing comes before not finite, and that before a mismatch. */
    e = (Edit){.name = GELU, .as_is = true, .at = 0, .value = 9};
    edit_file(OPERATORS, &e, NULL);
    assert_int_equal(JUDGE_ALL().code, 4);
    e.drop = true;
    edit_file(OPERATORS, &e, NULL);
    assert_int_equal(JUDGE_ALL().code, 3);
}

static void missing_and_extra(void **state) {
    (void)state;
    Edit e = {.name = GELU, .drop = true, .at = -1};
    static const float extra[2] = {1, 2};
    const StoredTensor more = {"debug/mine", DTYPE_F32, 1, {2}, extra, sizeof extra};
    edit_file(OPERATORS, NULL, &more);
    Result r = JUDGE("--json", "@/r.json");
    assert_ok(r);
    assert_holds(r.out, " match; 1 extra, not judged\n");
    assert_holds(r.out, " debug/mine ");
    edit_file(OPERATORS, &e, NULL);
    r = JUDGE_ALL();
    assert_int_equal(r.code, 3);
    assert_holds(r.out, ", 1 missing; 1 extra, not judged\nfirst divergence: operators " GELU
                        ": missing\n");
}

static void other_shapes_and_types(void **state) {
    (void)state;
    Edit e = {.name = GELU, .as_is = true, .transpose = true, .at = -1};
    edit_file(OPERATORS, &e, NULL);
    Result r = JUDGE("--only", "^operators/gelu/small");
    assert_int_equal(r.code, 3);
    assert_holds(r.out, "expected F64 [3,10], found ");
    assert_holds(r.out, "first divergence: operators " GELU ": another shape or kind of type\n");

    e = (Edit){.name = GELU, .dtype = DTYPE_I64, .transpose = true, .at = -1};
    edit_file(OPERATORS, &e, NULL);
    r = JUDGE("--only", "^operators/gelu/small");
    assert_int_equal(r.code, 3);
    assert_holds(r.out, "expected F64 [3,10], found I64 [3,10]\n");

    /* Whole numbers: of any width, but not as floats. */
    e = (Edit){.name = "ids", .dtype = DTYPE_I32, .at = -1};
    edit_file("@/port/picture.free.safetensors", &e, NULL);
    assert_ok(JUDGE("--only", "^picture.free/ids"));
    e.dtype = DTYPE_F32;
    edit_file("@/port/picture.free.safetensors", &e, NULL);
    r = JUDGE("--only", "^picture.free/ids");
    assert_int_equal(r.code, 3);
    assert_holds(r.out, "expected I64 ");
    e = (Edit){.name = "ids", .as_is = true, .at = 1, .value = 7};
    edit_file("@/port/picture.forced.safetensors", &e, NULL);
    assert_int_equal(JUDGE("--only", "^picture.forced/ids").code, 1);
}

/* The type that a tensor is stored in says what is expected of it. */
static void tolerance_by_stored_type(void **state) {
    (void)state;
    Edit e = {.name = "linear/tokens/y", .dtype = DTYPE_F64, .at = -1};
    edit_file(OPERATORS, &e, NULL);
    Result r = JUDGE("--only", "^operators/linear/tokens");
    assert_holds(r.out, "allowed: float64: 1e-12 of the largest (1 tensor)\n");
    assert_int_equal(r.code, sizeof(real) == sizeof(double) ? 0 : 1); /* float32 in disguise */
    e.dtype = DTYPE_BF16;
    edit_file(OPERATORS, &e, NULL);
    r = JUDGE("--only", "^operators/linear/tokens");
    assert_holds(r.out, "allowed: 2 x torch bfloat16's own error there, + 4 ulp (1 tensor)\n");
    assert_int_equal(r.code, 0);
    e.dtype = DTYPE_F32;
    e.at = 5;
    e.value = number_at(OPERATORS, e.name, 5) + 1e-3; /* bfloat16 may, float32 may not */
    edit_file(OPERATORS, &e, NULL);
    assert_int_equal(JUDGE("--only", "^operators/linear/tokens").code, 1);
}

static void a_file_that_is_not_there(void **state) {
    (void)state;
    size_t single, walks;
    char line[128];
    count_outputs(&single, &walks);
    assert_int_equal(unlink(path("@/port/picture.free.safetensors")), 0);
    Result r = JUDGE("--free");
    assert_int_equal(r.code, 3);
    assert_holds(r.out, "first divergence: picture.free ids: missing\n");
    Kit *kit = open_kit();
    size_t here = 0;
    for (size_t g = 0; g < kit->groups; g++)
        if (strcmp(kit->group[g].name, "picture") == 0) here = kit->group[g].cases[0].outputs;
    kit_close(kit);
    snprintf(line, sizeof line,
             "\npicture.free: all %zu tensors are missing: no picture.free.safetensors or .npz\n",
             here);
    assert_holds(r.out, line);
    assert_true(strstr(strstr(r.out, line) + 1, line) == NULL);
    assert_null(strstr(r.out, "hint: "));
    assert_ok(JUDGE("--forced"));
    /* It is there, but not under its name. */
    size_t size;
    char *bytes = contents("@/port/picture.forced.safetensors", &size);
    put("@/port/picture.safetensors", bytes, size);
    put("@/port/settings.json", "", 0);
    free(bytes);
    assert_holds(JUDGE_ALL().out, "\nhint: picture.safetensors is none of the kit's files: ");
    assert_ok(JUDGE("--forced"));
    /* What is there but is no file isn't missing. */
    assert_int_equal(mkdir(path("@/port/picture.free.safetensors"), 0777), 0);
    assert_error(JUDGE("--free"), 3,
                 "@/port/picture.free.safetensors: can't be opened: it is a directory, not a file");
    assert_int_equal(rmdir(path("@/port/picture.free.safetensors")), 0);
    assert_int_equal(symlink("nothing", path("@/port/picture.free.npz")), 0);
    assert_error(JUDGE("--free"), 3,
                 "@/port/picture.free.npz: can't be opened: No such file or directory");
}

/* A small fault in one place must not hide a big one elsewhere: forced, each is its own. */
static void what_diverges_by_itself_is_listed(void **state) {
    (void)state;
#define ALSO "\nalso diverging by themselves (forced, operators, modules): "
    static const struct {
        const char *walk, *name;
        double value;
    } faults[] = {{"forced", "unet/0/cond/conv_in", 3}, {"forced", "unet/1/uncond/conv_in", 40},
                  {"forced", "uncond/llm/x.1", 900},    {"forced", "latents/1", 7},
                  {"forced", "latents/2", 5},           {"free", "image", 1e6},
                  {"forced", "unet/2/cond/eps", 1e3},   {"forced", "unet/2/cond/mid_block", 2e3},
                  {"forced", "unet/2/cond/conv_out", 0}};
    char file[64];
    Edit e = unchanged;
    e.at = 0;
    e.name = GELU;
    e.value = 1e-3;
    edit_file(OPERATORS, &e, NULL);
    assert_null(strstr(JUDGE_ALL().out, "also diverging"));
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        if (i == 6) {
            Result r = JUDGE_ALL();
            assert_holds(r.out, "first divergence: operators " GELU ": ");
            assert_holds(r.out, ALSO "llm/x.1, unet/conv_in, latents\n");
        }
        snprintf(file, sizeof file, "@/port/picture.%s.safetensors", faults[i].walk);
        e.name = faults[i].name;
        e.value = faults[i].value;
        edit_file(file, &e, NULL);
    }
    e.name = "linear/tokens/y";
    e.value = NAN; /* nothing is worse */
    edit_file(OPERATORS, &e, NULL);
    Result r = JUDGE("--json", "@/r.json", "--html", "@/r.html");
    const char *also = strstr(r.out, ALSO);
    assert_non_null(also);
    assert_holds(also, "unet/conv_in, gelu/small, latents, and 1 more\n");
    size_t n;
    char *json = contents("@/r.json", &n), *html = contents("@/r.html", &n);
    assert_holds(json, "\"also_diverging\":\t{\n\t\t\"count\":\t7,\n");
    assert_holds(html, "Also diverging by themselves (forced, operators, modules): ");
    free(json);
    free(html);
    assert_null(strstr(JUDGE("--free", "--only", "^picture").out,
                       "also diverging")); /* there errors are inherited */
}

static void files_that_are_no_files(void **state) {
    (void)state;
    size_t size;
    char *good = contents(OPERATORS, &size);
    put("@/port/operators.npz", good, size);
    assert_error(JUDGE_ALL(), 3,
                 "@/port/operators.safetensors and @/port/operators.npz: expected one of them, "
                 "found both");
    assert_int_equal(unlink(path("@/port/operators.npz")), 0);
    put(OPERATORS, good, 0);
    assert_error(JUDGE_ALL(), 3, "@/port/operators.safetensors: is empty");
    static const size_t cut[] = {7, 8, 100, 5000};
    for (size_t i = 0; i < sizeof cut / sizeof cut[0]; i++) {
        put(OPERATORS, good, cut[i]);
        assert_error_holds(JUDGE_ALL(), 3, "@/port/operators.safetensors");
    }
    put(OPERATORS, good, size - 1);
    assert_error_holds(JUDGE_ALL(), 3, "@/port/operators.safetensors");
    put_text("@/port/operators.npz", "PK\x03\x04 no zip");
    assert_int_equal(unlink(path(OPERATORS)), 0);
    assert_error_holds(JUDGE_ALL(), 3, "@/port/operators.npz");
    free(good);
}

static void put_raw(const char *name, const char *header, size_t zeros) {
    const uint64_t length = strlen(header);
    char *bytes = calloc(1, 8 + (size_t)length + zeros);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, (size_t)length);
    put(name, bytes, 8 + (size_t)length + zeros);
    free(bytes);
}

/* What the readers refuse, once through the program; their own tests have the rest. */
static void absurd_headers(void **state) {
    (void)state;
    put_raw(OPERATORS,
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
            "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
            4);
    assert_error_holds(JUDGE_ALL(), 3, "@/port/operators.safetensors");
    put_raw(OPERATORS,
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],"
            "\"data_offsets\":[0,4]}}",
            4);
    assert_error_holds(JUDGE_ALL(), 3, "@/port/operators.safetensors");
    put_raw(OPERATORS, "{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    assert_error_holds(JUDGE_ALL(), 3, "@/port/operators.safetensors");
    static const char huge[8] = {-1, -1, -1, -1, -1, -1, -1, 127};
    put(OPERATORS, huge, sizeof huge);
    assert_error_holds(JUDGE_ALL(), 3, "@/port/operators.safetensors");
}

/* ---- npz ------------------------------------------------------------------------------------------- */

static uint32_t crc_of(const unsigned char *p, size_t n) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int b = 0; b < 8; b++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static void put_le(FILE *f, uint32_t v, int bytes) {
    for (int i = 0; i < bytes; i++) fputc((int)(v >> 8 * i & 255), f);
}

/* The fields that a local header and the directory's entry share, from "version needed" on. */
static void put_entry(FILE *f, uint32_t crc, size_t size, size_t name) {
    put_le(f, 20, 2);
    put_le(f, 0, 2); /* flags */
    put_le(f, 0, 2); /* stored */
    put_le(f, 0, 4); /* time, date */
    put_le(f, crc, 4);
    put_le(f, (uint32_t)size, 4);
    put_le(f, (uint32_t)size, 4);
    put_le(f, (uint32_t)name, 2);
    put_le(f, 0, 2); /* extra */
}

/* As numpy.savez writes it. */
static void write_npz(const char *name, const Safetensors *s) {
    enum { MOST = 400 };
    static uint32_t crc[MOST], at[MOST];
    static size_t size[MOST];
    FILE *f = fopen(path(name), "wb");
    const size_t n = safetensors_count(s);
    assert_true(f && n <= MOST);
    for (size_t i = 0; i < n; i++) {
        const StoredTensor *t = safetensors_at(s, i);
        char shape[128] = "", header[256];
        for (int k = 0; k < t->ndim; k++)
            snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%lld, ",
                     (long long)t->dim[k]);
        const int used = snprintf(header, sizeof header,
                                  "{'descr': '%s', 'fortran_order': False, 'shape': (%s)}",
                                  t->dtype == DTYPE_F64   ? "<f8"
                                  : t->dtype == DTYPE_F32 ? "<f4"
                                  : t->dtype == DTYPE_U8  ? "|u1"
                                                          : "<i8",
                                  shape);
        const size_t padded = ((size_t)used + 1 + 10 + 63) / 64 * 64 - 10;
        size[i] = 10 + padded + t->bytes;
        unsigned char *bytes = calloc(1, size[i]);
        memcpy(bytes, "\x93NUMPY\1\0", 8);
        bytes[8] = (unsigned char)padded;
        bytes[9] = (unsigned char)(padded >> 8);
        memset(bytes + 10, ' ', padded);
        memcpy(bytes + 10, header, (size_t)used);
        bytes[10 + padded - 1] = '\n';
        memcpy(bytes + 10 + padded, t->data, t->bytes);
        crc[i] = crc_of(bytes, size[i]);
        at[i] = (uint32_t)ftell(f);
        put_le(f, 0x04034b50, 4);
        put_entry(f, crc[i], size[i], strlen(t->name) + 4);
        fprintf(f, "%s.npy", t->name);
        assert_int_equal(fwrite(bytes, 1, size[i], f), size[i]);
        free(bytes);
    }
    const uint32_t directory = (uint32_t)ftell(f);
    for (size_t i = 0; i < n; i++) {
        const char *entry = safetensors_at(s, i)->name;
        put_le(f, 0x02014b50, 4);
        put_le(f, 20, 2);
        put_entry(f, crc[i], size[i], strlen(entry) + 4);
        put_le(f, 0, 2);
        put_le(f, 0, 2);
        put_le(f, 0, 2);
        put_le(f, 0, 4);
        put_le(f, at[i], 4);
        fprintf(f, "%s.npy", entry);
    }
    const uint32_t end = (uint32_t)ftell(f);
    put_le(f, 0x06054b50, 4);
    put_le(f, 0, 4);
    put_le(f, (uint32_t)n, 2);
    put_le(f, (uint32_t)n, 2);
    put_le(f, end - directory, 4);
    put_le(f, directory, 4);
    put_le(f, 0, 2);
    assert_int_equal(fclose(f), 0);
}

static void npz_is_as_good(void **state) {
    (void)state;
    Error err = {0};
    Result before = JUDGE_ALL();
    static const char *const files[] = {"operators", "modules", "picture.free"};
    for (int i = 0; i < 3; i++) {
        char plain[96], npz[96];
        snprintf(plain, sizeof plain, "@/port/%s.safetensors", files[i]);
        snprintf(npz, sizeof npz, "@/port/%s.npz", files[i]);
        Safetensors *s = safetensors_open(path(plain), &err);
        assert_non_null(s);
        write_npz(npz, s);
        safetensors_close(s);
        assert_int_equal(unlink(path(plain)), 0);
    }
    Result after = JUDGE_ALL();
    assert_ok(after);
    assert_string_equal(after.out, before.out);
}

/* ---- a manifest that is wrong ------------------------------------------------------------------------ */

/* The place in the manifest: "groups/0/cases/3/name". The last key's item is set, or removed. */
static void set_in(cJSON *json, const char *place, const char *value) {
    char key[64];
    for (;;) {
        const size_t n = strcspn(place, "/");
        snprintf(key, sizeof key, "%.*s", (int)n, place);
        place += n;
        const bool is_list = cJSON_IsArray(json);
        if (!*place) break;
        place++;
        json = is_list ? cJSON_GetArrayItem(json, atoi(key))
                       : cJSON_GetObjectItemCaseSensitive(json, key);
        assert_non_null(json);
    }
    cJSON *item = value ? cJSON_Parse(value) : NULL;
    assert_true(!value || item);
    if (cJSON_IsArray(json)) {
        item ? cJSON_ReplaceItemInArray(json, atoi(key), item)
             : cJSON_DeleteItemFromArray(json, atoi(key));
    } else {
        if (!item || cJSON_GetObjectItemCaseSensitive(json, key))
            cJSON_DeleteItemFromObjectCaseSensitive(json, key);
        if (item) cJSON_AddItemToObject(json, key, item);
    }
}

/* A kit in @/kit: golden/kit's files behind links, the manifest edited at these places. */
static void kit_with(const char *const *edits) {
    char command[512];
    size_t size;
    Error err = {0};
    char *bytes = file_read(KIT "/manifest.json", &size, &err);
    cJSON *json = json_parse_object(bytes, size, "manifest", &err);
    assert_non_null(json);
    free(bytes);
    for (; edits[0]; edits += 2) set_in(json, edits[0], edits[1]);
    snprintf(command, sizeof command,
             "mkdir -p '%s/kit' && ln -sfn \"$PWD/" KIT "/inputs\" '%s/kit/inputs' && "
             "ln -sfn \"$PWD/" KIT "/expected\" '%s/kit/expected'",
             work, work, work);
    assert_int_equal(system(command), 0);
    char *text = cJSON_Print(json);
    put_text("@/kit/manifest.json", text);
    cJSON_free(text);
    cJSON_Delete(json);
}
#define KIT_WITH(...) kit_with((const char *const[]){__VA_ARGS__, NULL, NULL})
#define JUDGE_BY_IT() RUN("verify", "--kit", "@/kit", "--port", "@")

/* Neither what we compute nor a report may take the place of what is read. */
static void nothing_overwrites_the_kit_or_the_port(void **state) {
    (void)state;
    static const char *const flags[] = {"--json", "--html", "--svg"};
    char message[256];
    Edit e = unchanged;
    e.name = GELU;
    edit_file(OPERATORS, &e, NULL);
    KIT_WITH("version", "1");
    assert_int_equal(link(path(OPERATORS), path("@/hard")), 0);
    assert_int_equal(rename(path("@/port/modules.safetensors"), path("@/elsewhere")), 0);
    assert_int_equal(symlink("../elsewhere", path("@/port/modules.safetensors")), 0);
    static const char *const kit[] = {"@/kit/manifest.json", "@/kit/new.json", "@/kit/../kit/x",
                                      "@/kit/expected/picture.safetensors", "@/port/../kit/x"};
    for (int f = 0; f < 3; f++) {
        for (size_t i = 0; i < sizeof kit / sizeof *kit; i++) {
            snprintf(message, sizeof message, "%s: %s is in the kit, which is not written to",
                     flags[f], kit[i]);
            assert_error(RUN("verify", "--kit", "@/kit", flags[f], kit[i]), 2, message);
            assert_error(RUN("compare", OPERATORS, OPERATORS, "--kit", "@/kit", flags[f], kit[i]),
                         2, message);
        }
#define PORT_BY_IT(...) RUN("verify", "--kit", "@/kit", "--port", "@/port", __VA_ARGS__)
        assert_error_holds(PORT_BY_IT(flags[f], OPERATORS), 2, "is among the port's outputs: ");
        assert_error_holds(PORT_BY_IT(flags[f], "@/port/new.npz"), 2, "is among the port's output");
        assert_error_holds(PORT_BY_IT(flags[f], "@/hard"), 2,
                           ": @/hard is the port's operators.safetensors: it would be overwritten");
        assert_error_holds(PORT_BY_IT(flags[f], "@/elsewhere"), 2,
                           ": @/elsewhere is the port's modules.safetensors: it would be");
    }
    static const char *const out[] = {
        "@/kit",        "@/kit/",         "@/kit/new",         "@/kit/new/",
        "@/kit/../kit", "@/kit/expected", "@/kit/expected/new"};
    for (size_t i = 0; i < sizeof out / sizeof *out; i++) {
        snprintf(message, sizeof message, "--output: %s is in the kit, which is not written to",
                 out[i]);
        assert_error(RUN("verify", "--kit", "@/kit", "-o", out[i]), 2, message);
    }
    assert_error(RUN("verify", "--kit", "@/kit", "-o", "@/port", "--json", OPERATORS), 2,
                 "--json: " OPERATORS " is among the outputs of --output: expected two files");
    assert_error(RUN("verify", "--kit", "@/kit", "-o", "@/new", "--svg", "@/./new"), 2,
                 "--svg: @/./new is among the outputs of --output: expected two files");
    assert_error(PORT_BY_IT("--json", "@/x", "--svg", "@/./x"), 2,
                 "--json and --svg: expected two files, found \"@/x\" twice");
    assert_directory("elsewhere hard kit port ");
    Result r = JUDGE("--json", "@/port/report.json");
    assert_ok(r);
    assert_ok(JUDGE("--json", "@/port/report.json")); /* again: a report is no output of a port */
}

static void other_versions_are_refused_by_name(void **state) {
    (void)state;
    KIT_WITH("version", "2");
    assert_error(JUDGE_BY_IT(), 3,
                 "@/kit/manifest.json: version: this program knows version 1 of the kit, found "
                 "version 2; take the kit and llmdiff from one release");
    KIT_WITH("version", "\"1\"");
    assert_error(JUDGE_BY_IT(), 3, "@/kit/manifest.json: version: expected 1, found a text");
    KIT_WITH("version", NULL);
    assert_error(JUDGE_BY_IT(), 3, "@/kit/manifest.json: version: expected 1, found nothing");
    KIT_WITH("format", "\"npz\"");
    assert_error(JUDGE_BY_IT(), 3,
                 "@/kit/manifest.json: format: expected \"llmdiff-kit\", found npz");
    KIT_WITH("format", NULL);
    assert_error(JUDGE_BY_IT(), 3,
                 "@/kit/manifest.json: format: expected \"llmdiff-kit\", found nothing");
    put_text("@/kit/manifest.json", "[]");
    assert_error(JUDGE_BY_IT(), 3, "@/kit/manifest.json: expected a JSON object { }");
    put_text("@/kit/manifest.json", "{\"format\": \"llmdiff-kit\"");
    assert_error_holds(JUDGE_BY_IT(), 3, "@/kit/manifest.json: not JSON");
    put_text("@/kit/manifest.json",
             "{\"format\": \"llmdiff-kit\", \"version\": 1, \"version\": 1}");
    assert_error_holds(JUDGE_BY_IT(), 3, "the key \"version\" stands there twice");
}

typedef struct Wrong {
    const char *place, *value, *message;
} Wrong;

static const Wrong wrongs[] = {
    {"packs", NULL, "packs: expected an object, found nothing"},
    {"packs/micro", "3", "packs.micro: expected an object, found a number"},
    {"packs/micro/path", NULL, "packs.micro.path: expected a text, found nothing"},
    {"packs/micro/path", "\"/etc\"",
     "packs.micro.path: expected a path relative to the kit, found \"/etc\""},
    {"packs/micro/sha256", NULL, "packs.micro.sha256: expected a text, found nothing"},
    {"packs/micro/sha256", "\"abc\"",
     "packs.micro.sha256: expected 64 hexadecimal digits, found \"abc\""},
    {"groups", NULL, "groups: expected a list, found nothing"},
    {"groups", "[]", "groups: expected at least one, found none"},
    {"groups/0", "null", "groups[0]: expected an object, found null"},
    {"groups/0/name", NULL, "groups[0].name: expected a text, found nothing"},
    {"groups/0/name", "\"../operators\"",
     "groups[0].name: expected letters, digits, _ - and . only, found \"../operators\""},
    {"groups/0/name", "\"modules\"", "groups: \"modules\" is there twice"},
    {"groups/0/kind", "\"operator\"",
     "groups[0].kind: expected operators, modules, algorithm1, unet, picture or train, found "
     "\"operator\""},
    {"groups/0/inputs", "\"../micro/llm/model.safetensors\"",
     "groups[0].inputs: expected a path below the kit, found \"../micro/llm/model.safetensors\""},
    {"groups/0/inputs", "\"inputs/../../x\"",
     "groups[0].inputs: expected a path below the kit, found \"inputs/../../x\""},
    {"groups/0/expected", "\"/etc/passwd\"",
     "groups[0].expected: expected a path below the kit, found \"/etc/passwd\""},
    {"groups/0/expected", NULL, "groups[0].expected: expected a text, found nothing"},
    {"groups/0/cases", NULL, "groups[0].cases: expected a list, found nothing"},
    {"groups/0/cases", "[]", "groups[0].cases: expected at least one, found none"},
    {"groups/0/cases/2", "[]", "groups[0].cases[2]: expected an object, found a list"},
    {"groups/0/cases/2/name", "\"\"",
     "groups[0].cases[2].name: expected 1 to 200 characters and no control characters among them"},
    {"groups/0/cases/2/name", "\"linear/one\"", "groups[0].cases: \"linear/one\" is there twice"},
    {"groups/0/cases/2/op", NULL, "groups[0].cases[2].op: expected a text, found nothing"},
    {"groups/1/cases/2/module", "{}",
     "groups[1].cases[2].module: expected a text, found an object"},
    {"groups/1/cases/2/pack", "\"macro\"",
     "groups[1].cases[2].pack: expected one of the manifest's packs, found \"macro\""},
    {"groups/1/cases/2/adapter", "\"../adapter\"",
     "groups[1].cases[2].adapter: expected a directory of the pack, found \"../adapter\""},
    {"groups/0/cases/2/parameters", "7",
     "groups[0].cases[2].parameters: expected an object, found a number"},
    {"groups/0/cases/2/inputs", "\"x\"",
     "groups[0].cases[2].inputs: expected a list, found a text"},
    {"groups/0/cases/2/inputs/0", "1",
     "groups[0].cases[2].inputs[0]: expected a text, found a number"},
    {"groups/0/cases/2/outputs", "[]",
     "groups[0].cases[2].outputs: expected at least one, found none"},
    {"groups/0/cases/2/outputs/0/name", NULL,
     "groups[0].cases[2].outputs[0].name: expected a text, found nothing"},
    {"groups/0/cases/2/outputs/0/shape", NULL,
     "groups[0].cases[2].outputs[0].shape: expected a list, found nothing"},
    {"groups/0/cases/2/outputs/0/shape", "[1, -2]",
     "groups[0].cases[2].outputs[0].shape: expected whole numbers of 0 to 2^32"},
    {"groups/0/cases/2/outputs/0/shape", "[1, 1e30]",
     "groups[0].cases[2].outputs[0].shape: expected whole numbers of 0 to 2^32"},
    {"groups/0/cases/2/outputs/0/shape", "[1, 2.5]",
     "groups[0].cases[2].outputs[0].shape: expected whole numbers of 0 to 2^32"},
    {"groups/0/cases/2/outputs/0/shape", "[1,1,1,1,1,1,1,1,1]",
     "groups[0].cases[2].outputs[0].shape: expected at most 8 entries, found 9"},
    {"groups/0/cases/2/outputs/0/yardstick", "0.1",
     "groups[0].cases[2].outputs[0].yardstick: expected an object, found a number"},
    {"groups/0/cases/2/outputs/0/yardstick/float32", "-1",
     "groups[0].cases[2].outputs[0].yardstick.float32: expected a number of 0 to 10, found another "
     "number\n"}, /* once, though it is forced's and free's */
    {"groups/0/cases/2/outputs/0/yardstick/float32", "1e308",
     "groups[0].cases[2].outputs[0].yardstick.float32: expected a number of 0 to 10, found "},
    {"groups/2/outputs/4/yardstick/free/bfloat16", "\"1\"",
     "groups[2].outputs[4].yardstick.free.bfloat16: expected a number of 0 to 10, found a text"},
    {"groups/2/pack", NULL, "groups[2].pack: expected a text, found nothing"},
    {"groups/2/inputs_names", NULL, "groups[2].inputs_names: expected a list, found nothing"},
};

static void every_wrong_field_is_named(void **state) {
    (void)state;
    char expected[1024];
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        KIT_WITH(wrongs[i].place, wrongs[i].value);
        snprintf(expected, sizeof expected, "@/kit/manifest.json: %s", wrongs[i].message);
        assert_error_holds(JUDGE_BY_IT(), 3, expected);
    }
    /* All at once, and not without end. */
    KIT_WITH("groups/0/cases/1/op", "1", "groups/1/cases/0/outputs/0/shape", "2");
    assert_error(JUDGE_BY_IT(), 3,
                 "@/kit/manifest.json: groups[0].cases[1].op: expected a text, found a number; "
                 "groups[1].cases[0].outputs[0].shape: expected a list, found a number");
    static char list[90000] = "[";
    for (int i = 0; i < 4096; i++) strcat(list, i ? ",{}" : "{}");
    strcat(list, "]");
    KIT_WITH("groups/0/cases", list);
    assert_error_holds(JUDGE_BY_IT(), 3, " more\n");
    list[strlen(list) - 1] = '\0';
    strcat(list, ",{}]");
    KIT_WITH("groups/0/cases", list);
    assert_error_holds(JUDGE_BY_IT(), 3,
                       "groups[0].cases: expected at most 4096 entries, found 4097");
}

static void a_manifest_and_its_files(void **state) {
    (void)state;
    KIT_WITH("groups/0/expected", "\"expected/none.safetensors\"");
    assert_error_holds(JUDGE_BY_IT(), 3, "@/kit/expected/none.safetensors");
    KIT_WITH("groups/0/inputs", "\"inputs/none.safetensors\"");
    assert_error_holds(JUDGE_BY_IT(), 3, "@/kit/inputs/none.safetensors");
    KIT_WITH("groups/0/cases/2/outputs/0/shape", "[7, 5]");
    assert_error(JUDGE_BY_IT(), 3,
                 "@/kit/expected/operators.safetensors: \"linear/plain/y\": expected the "
                 "manifest's shape [7, 5], found [5, 7]");
    KIT_WITH("groups/0/cases/2/outputs/0/name", "\"z\"");
    assert_error(JUDGE_BY_IT(), 3,
                 "@/kit/expected/operators.safetensors: expected the output \"linear/plain/z\" of "
                 "the manifest, found none");
    KIT_WITH("groups/0/cases/2/inputs/0", "\"z\"");
    assert_error(JUDGE_BY_IT(), 3,
                 "@/kit/inputs/operators.safetensors: expected the input \"linear/plain/z\" of the "
                 "manifest, found none");
    KIT_WITH("groups/0/cases/2", NULL);
    assert_error_holds(JUDGE_BY_IT(), 3, "outputs of the manifest, found ");
}

/* Our own run finds what a port never sees. */
static void a_kit_that_we_cannot_run(void **state) {
    (void)state;
#define RUN_IT(...) RUN("verify", "--kit", "@/kit", "--only", __VA_ARGS__)
    KIT_WITH("groups/0/cases/2/op", "\"linar\"");
    assert_error(RUN_IT("^operators/linear/plain"), 3,
                 "operators/linear/plain: @/kit/manifest.json: operators/linear/plain: op: this "
                 "program has no operator \"linar\"");
    KIT_WITH("groups/0/cases/2/op", "\"conv2d\"");
    assert_error(RUN_IT("^operators/linear/plain"), 3,
                 "operators/linear/plain: @/kit/inputs/operators.safetensors: "
                 "operators/linear/plain: input \"x\": expected floats [B, H, W, C], found F32 "
                 "[5, 3]");
    assert_error_holds(RUN_IT("^modules/llm"), 3, "@/kit/../micro: expected the pack \"micro\" ");
    assert_error_holds(RUN_IT("^picture"), 3, "@/kit/../micro: expected the pack \"micro\" ");
    /* The pack is there, but not the one. */
    char command[256];
    snprintf(command, sizeof command, "ln -s \"$PWD/golden/micro\" '%s/micro'", work);
    assert_int_equal(system(command), 0);
    assert_ok(RUN_IT("^modules/llm/block/micro"));
    KIT_WITH("packs/micro/sha256",
             "\"0123456789012345678901234567890123456789012345678901234567890123\"");
    assert_error_holds(
        RUN_IT("^modules/llm/block/micro"), 3,
        "@/kit/../micro: expected the pack \"micro\" that the kit was made with, of hash "
        "0123456789012345678901234567890123456789012345678901234567890123, found ");
    assert_ok(RUN_IT("^operators/"));
}

/* ---- the library ------------------------------------------------------------------------------------- */

static int stop_at_the_third(void *user, int64_t done, int64_t of) {
    int *calls = user;
    assert_true(done <= of);
    return ++*calls == 3;
}

static void the_library_judges_and_can_be_stopped(void **state) {
    (void)state;
    llmdiff_verify_options o = {.size = sizeof o, .kit = KIT, .only = "^operators/rope"};
    llmdiff_report *report;
    llmdiff_error error;
    assert_int_equal(llmdiff_verify(&o, &report, &error), LLMDIFF_OK);
    assert_int_equal(llmdiff_report_code(report), LLMDIFF_CODE_MATCH);
    llmdiff_report_free(report);
    int calls = 0;
    o.progress = stop_at_the_third;
    o.user = &calls;
    assert_int_equal(llmdiff_verify(&o, &report, &error), LLMDIFF_CANCELLED);
    assert_null(report);
    assert_int_equal(calls, 3);
    o.kit = NULL;
    assert_int_equal(llmdiff_verify(&o, &report, &error), LLMDIFF_MISUSE);
    o.kit = KIT;
    o.walks = (llmdiff_walks)3;
    assert_int_equal(llmdiff_verify(&o, &report, &error), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_verify(NULL, &report, &error), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_verify(&o, NULL, &error), LLMDIFF_MISUSE);
}

/* Twice torch's own error in that mode and type, and four units in the last place of the largest. */
static void tolerances_are_the_documented_ones(void **state) {
    (void)state;
    char stored[] = "y";
    KitOutput o = {.name = "y", .stored = stored};
    o.yardstick[KIT_FREE] = (Yardstick){.f32 = 1e-3, .f16 = NAN, .bf16 = 1e-1};
    o.yardstick[KIT_FORCED] = (Yardstick){.f32 = 1e-6, .f16 = NAN, .bf16 = 1e-2};
    static const struct {
        KitKind kind;
        KitMode mode;
        Dtype dtype;
        double relative, absolute; /* of a largest of 1 */
    } cases[] = {{KIT_PICTURE, KIT_FREE, DTYPE_F32, 2e-3, 0x1p-21},
                 {KIT_PICTURE, KIT_FORCED, DTYPE_F32, 2e-6, 0x1p-21},
                 {KIT_PICTURE, KIT_FREE, DTYPE_BF16, 2e-1, 0x1p-5},
                 {KIT_PICTURE, KIT_FORCED, DTYPE_BF16, 2e-2, 0x1p-5},
                 {KIT_OPERATORS, KIT_FREE, DTYPE_F64, 1e-12, 0},
                 {KIT_MODULES, KIT_FREE, DTYPE_F64, 1e-10, 0},
                 {KIT_PICTURE, KIT_FORCED, DTYPE_F64, 1e-8, 0},
                 {KIT_TRAIN, KIT_FORCED, DTYPE_F64, 1e-9, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Tolerance t;
        Error err = {0};
        assert_int_equal(
            kit_tolerance(&o, cases[i].kind, cases[i].mode, cases[i].dtype, 1, &t, &err), 0);
        assert_true(t.relative == cases[i].relative && t.absolute == cases[i].absolute);
    }
    Tolerance t;
    Error err = {0};
    assert_int_equal(kit_tolerance(&o, KIT_PICTURE, KIT_FREE, DTYPE_F16, 1, &t, &err), -1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh_directory, remove_directory)
#define PORT(f) cmocka_unit_test_setup_teardown(f, fresh_port, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tolerances_are_the_documented_ones),
        TEST(this_build_verifies_clean),
        TEST(only_judges_what_it_matches),
        TEST(our_outputs_are_a_port),
        TEST(usage),
        PORT(a_wrong_element_is_a_mismatch),
        PORT(not_a_number_is_never_a_match),
        PORT(missing_and_extra),
        PORT(other_shapes_and_types),
        PORT(tolerance_by_stored_type),
        PORT(a_file_that_is_not_there),
        PORT(nothing_overwrites_the_kit_or_the_port),
        PORT(what_diverges_by_itself_is_listed),
        PORT(files_that_are_no_files),
        PORT(npz_is_as_good),
        PORT(absurd_headers),
        TEST(other_versions_are_refused_by_name),
        TEST(every_wrong_field_is_named),
        TEST(a_manifest_and_its_files),
        TEST(a_kit_that_we_cannot_run),
        TEST(the_library_judges_and_can_be_stopped),
    };
    return cmocka_run_group_tests_name("the kit", tests, NULL, NULL);
}
