/* Traces (llmdiff_request.trace_file, --trace): that they hold every activation, in order, as it was, and
 * that nothing else changes; the pack's hash in them; what is refused, and that nothing is left then. */
#include "library_run.h"

#include <sys/resource.h>
#include <sys/stat.h>

/* ---- helpers ------------------------------------------------------------------------------------- */

static const char *const everything[] = {"*", NULL};

static llmdiff_pack *open_micro(void) {
    return opened_pack(&(llmdiff_options){.size = sizeof(llmdiff_options), .model = MICRO});
}

static const llmdiff_options by_clip = {.size = sizeof(llmdiff_options),
                                        .model = MICRO,
                                        .conditioner = "clip",
                                        .text_encoder = "golden/micro_clip/text_encoder",
                                        .tokenizer = "golden/micro_clip/tokenizer"};

static llmdiff_request request(void) {
    llmdiff_request r;
    assert_int_equal(llmdiff_request_default(&r, sizeof r), LLMDIFF_OK);
    r.prompt = "a red circle";
    r.negative_prompt = "two dogs";
    r.steps = 2;
    r.threads = 1;
    return r;
}

static Safetensors *opened(const char *name) {
    Error err = {0};
    Safetensors *s = safetensors_open(path(name), &err);
    if (!s) fail_msg("%s", err.message);
    return s;
}

/* The trace holds what the result kept under "*", in that order. */
static void assert_holds_all(const Safetensors *trace, const llmdiff_result *result) {
    const Dtype dtypes[] = {DTYPE_F32, DTYPE_F64, DTYPE_I64};
    const llmdiff_tensor *t;
    size_t n = 0;
    for (; (t = llmdiff_activation_at(result, n)) != NULL; n++) {
        assert_true(n < safetensors_count(trace));
        const StoredTensor *s = safetensors_at(trace, n);
        assert_string_equal(s->name, t->name);
        assert_int_equal(s->dtype, dtypes[t->dtype]);
        assert_int_equal(s->ndim, t->ndim);
        for (int i = 0; i < t->ndim; i++) assert_int_equal(s->dim[i], t->dim[i]);
        assert_memory_equal(s->data, t->data, s->bytes);
    }
    assert_int_equal(n, safetensors_count(trace));
}

/* ---- what a trace holds -------------------------------------------------------------------------- */

static void it_holds_every_activation_in_order(void **state) {
    (void)state;
    static const struct {
        const char *sampler;
        int64_t steps, preview_every;
        double eta, cfg_scale, strength;
        bool clip, picture, tiling;
    } kinds[] = {{.sampler = "ddim", .steps = 3, .eta = 0.5, .cfg_scale = 7.5},
                 {.sampler = "ddim", .steps = 3, .preview_every = 1, .cfg_scale = 7.5},
                 {.sampler = "euler_a", .steps = 2, .cfg_scale = 1},
                 {.sampler = "pndm", .steps = 4, .cfg_scale = 7.5},
                 {.sampler = "ddpm", .steps = 2, .cfg_scale = 7.5, .clip = true},
                 {.sampler = "ddim",
                  .steps = 3,
                  .cfg_scale = 2,
                  .strength = 0.7,
                  .picture = true,
                  .tiling = true}};
    assert_ok(RUN("generate", "-m", MICRO, "-p", "x", "-o", "@/from.png", "--steps", "1", "--quiet",
                  "-W", "24", "-H", "18"));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        llmdiff_pack *pack = kinds[i].clip ? opened_pack(&by_clip) : open_micro();
        llmdiff_request r = request();
        char from[256], trace[256];
        snprintf(from, sizeof from, "%s", path("@/from.png"));
        snprintf(trace, sizeof trace, "%s", path("@/t.safetensors"));
        r.sampling_method = kinds[i].sampler;
        r.steps = kinds[i].steps;
        r.preview_every = kinds[i].preview_every;
        r.eta = kinds[i].eta;
        r.cfg_scale = kinds[i].cfg_scale;
        r.vae_tiling = kinds[i].tiling;
        if (kinds[i].picture) {
            r.init_image_file = r.mask_file = from;
            r.strength = kinds[i].strength;
        }
        llmdiff_result *plain = draw(pack, &r);
        r.trace_file = trace;
        r.keep = everything;
        llmdiff_result *traced = draw(pack, &r);
        const llmdiff_tensor *a = llmdiff_latents(plain), *b = llmdiff_latents(traced);
        assert_memory_equal(a->data, b->data,
                            (size_t)(a->dim[0] * a->dim[1] * a->dim[2]) * sizeof(real));
        assert_memory_equal(llmdiff_rgb(plain), llmdiff_rgb(traced),
                            (size_t)(3 * llmdiff_width(plain) * llmdiff_height(plain)));
        Safetensors *s = opened("@/t.safetensors");
        assert_true(safetensors_count(s) > 50);
        assert_holds_all(s, traced);
        safetensors_close(s);
        llmdiff_result_free(traced);
        llmdiff_result_free(plain);
        llmdiff_close(pack);
    }
}

/* Upstream's names (golden/export_pipeline.py) are all there, in their shapes. */
static void it_has_the_names_of_the_goldens(void **state) {
    (void)state;
    static const char *const goldens[] = {"pipeline_whole", "pipeline_eta", "pipeline_euler_a"};
    static const char *const how[][2] = {{"ddim", "0"}, {"ddim", "0.7"}, {"euler_a", "0"}};
    for (int i = 0; i < 3; i++) {
        Error err = {0};
        char name[96];
        snprintf(name, sizeof name, "golden/data/%s.safetensors", goldens[i]);
        Safetensors *file = safetensors_open(name, &err);
        if (!file) fail_msg("%s", err.message);
        const StoredTensor *latents = safetensors_find(file, "latents/0");
        char width[16], height[16];
        snprintf(width, sizeof width, "%d", (int)latents->dim[2] * 2);
        snprintf(height, sizeof height, "%d", (int)latents->dim[1] * 2);
        assert_ok(RUN("generate", "-m", MICRO, "-p", safetensors_metadata(file, "prompt"), "-n",
                      safetensors_metadata(file, "negative"), "--steps",
                      safetensors_metadata(file, "steps"), "--sampling-method", how[i][0], "--eta",
                      how[i][1], "-W", width, "-H", height, "-o", "@/x.png", "--trace",
                      "@/t.safetensors", "--quiet"));
        Safetensors *trace = opened("@/t.safetensors");
        for (size_t k = 0; k < safetensors_count(file); k++) {
            const StoredTensor *t = safetensors_at(file, k);
            const StoredTensor *ours = safetensors_find(trace, t->name);
            if (!ours) fail_msg("%s: no %s", goldens[i], t->name);
            assert_int_equal(ours->ndim, t->ndim);
            for (int d = 0; d < t->ndim; d++) assert_int_equal(ours->dim[d], t->dim[d]);
            if (t->dtype != DTYPE_I64) continue;
            assert_int_equal(ours->dtype, DTYPE_I64);
            assert_memory_equal(ours->data, t->data, t->bytes);
        }
        const StoredTensor *t = safetensors_find(trace, "unet/1/t");
        assert_int_equal(t->ndim, 0);
        assert_int_equal(t->dtype, sizeof(real) == 8 ? DTYPE_F64 : DTYPE_F32);
        safetensors_close(trace);
        safetensors_close(file);
    }
}

/* Observing changes nothing: not a byte of the picture or the encoding. */
static void the_output_is_the_same(void **state) {
    (void)state;
    assert_ok(RUN("generate", "-m", MICRO, "-p", "a red circle", "-o", "@/a.png", "--save-latents",
                  "@/a.npy", "--steps", "2", "--quiet"));
    assert_ok(RUN("generate", "-m", MICRO, "-p", "a red circle", "-o", "@/b.png", "--save-latents",
                  "@/b.npy", "--steps", "2", "--quiet", "--trace", "@/b.safetensors", "-t", "2"));
    assert_true(same_file("@/a.png", "@/b.png"));
    assert_true(same_file("@/a.npy", "@/b.npy"));
    assert_ok(RUN("encode", "-m", MICRO, "-p", "a red circle", "-o", "@/c.safetensors", "--quiet"));
    assert_ok(RUN("encode", "-m", MICRO, "-p", "a red circle", "-o", "@/d.safetensors", "--quiet",
                  "--trace", "@/e.safetensors"));
    assert_true(same_file("@/c.safetensors", "@/d.safetensors"));
    assert_ok(RUN("generate", "-m", MICRO, "-p", "a red circle", "-o", "@/b.png", "--steps", "2",
                  "--quiet", "--trace", "@/f.safetensors", "-t", "1"));
    assert_true(same_file("@/b.safetensors", "@/f.safetensors")); /* at any number of threads */

    /* An encoding's trace is the beginning of a picture's. */
    Safetensors *whole = opened("@/b.safetensors"), *part = opened("@/e.safetensors");
    assert_true(safetensors_count(part) > 10);
    for (size_t i = 0; i < safetensors_count(part); i++) {
        const StoredTensor *a = safetensors_at(whole, i), *b = safetensors_at(part, i);
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->bytes, b->bytes);
        assert_memory_equal(a->data, b->data, a->bytes);
    }
    safetensors_close(whole);
    safetensors_close(part);
}

/* Whatever determines the picture stands in its trace too, and what made it. */
static void it_says_how_it_was_made(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro();
    llmdiff_request r = request();
    char trace[256];
    snprintf(trace, sizeof trace, "%s", path("@/t.safetensors"));
    r.trace_file = trace;
    r.trace_only = "^latents/";
    r.seed = 7;
    llmdiff_result *result = draw(pack, &r);
    Safetensors *s = opened("@/t.safetensors");
    const char *key, *value;
    size_t n = 0;
    while (llmdiff_text_at(result, n, &key, &value)) {
        assert_string_equal(safetensors_metadata(s, key), value);
        n++;
    }
    assert_true(n > 10);
    assert_string_equal(safetensors_metadata(s, "prompt"), "a red circle");
    assert_string_equal(safetensors_metadata(s, "negative_prompt"), "two dogs");
    assert_string_equal(safetensors_metadata(s, "seed"), "7");
    assert_string_equal(safetensors_metadata(s, "sampler"), "ddim");
    assert_string_equal(safetensors_metadata(s, "program"), "llmdiff " LLMDIFF_VERSION);
    assert_string_equal(safetensors_metadata(s, "precision"), REAL_NAME);
    assert_string_equal(safetensors_metadata(s, "trace_only"), "^latents/");
    assert_holds(safetensors_metadata(s, "settings"), "\"word_score\":true");
    assert_int_equal(strlen(safetensors_metadata(s, "pack_sha256")), 64);
    assert_int_equal(safetensors_metadata_count(s), n + 5);
    safetensors_close(s);
    llmdiff_result_free(result);
    llmdiff_close(pack);
}

/* ---- a choice of names --------------------------------------------------------------------------- */

static void only_names_that_match(void **state) {
    (void)state;
    static const struct {
        const char *only, *first;
        size_t count;
    } choice[] = {{"^latents/", "latents/0", 3},
                  {"^unet/1/(cond|uncond)/mid_block$", "unet/1/cond/mid_block", 2},
                  {"ids", "ids", 2},
                  {"/t$", "unet/0/t", 2},
                  {"^(llm/x|alg1/c)\\.0$", "llm/x.0", 2},
                  {"attn2/[qf]$", NULL, 0},
                  {".", "ids", 0}};
    llmdiff_pack *pack = open_micro();
    llmdiff_request r = request();
    char trace[256];
    snprintf(trace, sizeof trace, "%s", path("@/t.safetensors"));
    r.keep = everything;
    r.trace_file = trace;
    for (size_t i = 0; i < sizeof choice / sizeof choice[0]; i++) {
        r.trace_only = choice[i].only;
        llmdiff_result *result = draw(pack, &r);
        Safetensors *s = opened("@/t.safetensors");
        size_t n = safetensors_count(s);
        if (choice[i].count) assert_int_equal(n, choice[i].count);
        if (choice[i].first) assert_string_equal(safetensors_at(s, 0)->name, choice[i].first);
        for (size_t k = 0; k < n && i == 5; k++) {
            const char *name = safetensors_at(s, k)->name;
            assert_true(strstr(name, "attn2/q") || strstr(name, "attn2/f"));
        }
        if (i == 6) assert_holds_all(s, result);
        safetensors_close(s);
        llmdiff_result_free(result);
    }
    llmdiff_close(pack);
}

static void no_name_that_matches_is_an_error(void **state) {
    (void)state;
    assert_error(GENERATE("--trace", "@/t.safetensors", "--trace-only", "attn3"), 1,
                 "--trace-only: expected a name of this run to match \"attn3\", found none");
    assert_directory("");
}

/* ---- what is refused, before any work ------------------------------------------------------------ */

static void wrong_usage_is_told_first(void **state) {
    (void)state;
#define ENCODE(...)                                                                                \
    RUN("encode", "-m", MICRO, "-p", "a", "-o", "@/c.safetensors", "--quiet", __VA_ARGS__)
    const char *name = "--trace: expected a name that ends in .safetensors, found \"@/t.npz\"";
    assert_error(GENERATE("--trace", "@/t.npz"), 2, name);
    assert_error(ENCODE("--trace", "@/t.npz"), 2, name);
    const char *alone = "--trace-only: expected a trace to choose for, --trace, found none";
    assert_error(GENERATE("--trace-only", "x"), 2, alone);
    assert_error(ENCODE("--trace-only", "x"), 2, alone);
    const char *bad = "--trace-only: expected an extended regular expression, found \"a(b\": ";
    assert_error_holds(GENERATE("--trace", "@/t.safetensors", "--trace-only", "a(b"), 2, bad);
    assert_error_holds(ENCODE("--trace", "@/t.safetensors", "--trace-only", "a(b"), 2, bad);
    assert_error(ENCODE("--trace", "@/./c.safetensors"), 2,
                 "--trace and --output: expected two files, found \"@/./c.safetensors\" twice");
    assert_error(GENERATE("--trace", "@/t.safetensors", "--save-latents", "@//t.safetensors"), 2,
                 "--trace and --save-latents: expected two files, found \"@/t.safetensors\" twice");
    assert_error(
        GENERATE("-b", "3", "--trace", "@/t.safetensors", "--save-latents", "@/t_2.safetensors"), 2,
        "--trace and --save-latents: expected two files, found \"@/t_2.safetensors\" "
        "twice");
    assert_error(
        GENERATE("-b", "3", "--trace", "@/t_3.safetensors", "--save-latents", "@/t.safetensors"), 2,
        "--trace and --save-latents: expected two files, found \"@/t_3.safetensors\" "
        "twice");
    /* what is read is not written, under whatever name */
    put_text("@/in.safetensors", "x");
    assert_int_equal(symlink("in.safetensors", path("@/soft.safetensors")), 0);
    static const char *const read_by[][2] = {{"--force", "the file of --force"},
                                             {"--noise", "the file of --noise"},
                                             {"--init-latents", "the file of --init-latents"},
                                             {"--init-img", "the picture of --init-img"},
                                             {"--mask", "the picture of --mask"}};
    static const char *const names[] = {"@/in.safetensors", "@/soft.safetensors"};
    for (size_t i = 0; i < sizeof read_by / sizeof *read_by; i++)
        for (int k = 0; k < 2; k++) {
            char message[256];
            snprintf(message, sizeof message, ": %s is %s: it would be overwritten", names[k],
                     read_by[i][1]);
            assert_error_holds(GENERATE(read_by[i][0], "@/in.safetensors", "--trace", names[k]), 2,
                               message);
            assert_error_holds(
                GENERATE(read_by[i][0], "@/in.safetensors", "--save-latents", names[k]), 2,
                message);
            if (i > 1) continue;
            assert_error_holds(ENCODE(read_by[i][0], "@/in.safetensors", "--trace", names[k]), 2,
                               message);
            assert_error_holds(RUN("encode", "-m", MICRO, "-p", "a", read_by[i][0],
                                   "@/in.safetensors", "-o", names[k]),
                               2, message);
        }
    assert_int_equal(rename(path("@/in.safetensors"), path("@/t_2.safetensors")), 0);
    assert_error_holds(
        GENERATE("-b", "2", "--trace", "@/t.safetensors", "--force", "@/t_2.safetensors"), 2,
        "--trace: @/t_2.safetensors is the file of --force: it would be overwritten");
    assert_int_equal(unlink(path("@/t_2.safetensors")) + unlink(path("@/soft.safetensors")), 0);
    const char *nowhere = "@/none/t.safetensors: can't be created: No such file or directory";
    assert_error(GENERATE("--trace", "@/none/t.safetensors"), 1, nowhere);
    assert_error(ENCODE("--trace", "@/none/t.safetensors"), 1, nowhere);
    assert_directory("");
    assert_int_equal(mkdir(path("@/d.safetensors"), 0777), 0);
    assert_error(GENERATE("--trace", "@/d.safetensors"), 1,
                 "@/d.safetensors: can't be written: it is a directory");
    assert_directory("d.safetensors ");
}

/* The same by the library: MISUSE where the request is wrong. */
static void wrong_requests_are_misuse(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro();
    llmdiff_result *result;
    llmdiff_error error;
    static const char *const wrong[][2] = {
        {"t.npy", NULL}, {NULL, "x"}, {"t.safetensors", "["}, {".safetensors", NULL}};
    for (int i = 0; i < 4; i++) {
        llmdiff_request r = request();
        r.trace_file = wrong[i][0];
        r.trace_only = wrong[i][1];
        assert_int_equal(llmdiff_check(pack, &r, &error), LLMDIFF_MISUSE);
        assert_int_equal(llmdiff_generate(pack, &r, &result, &error), LLMDIFF_MISUSE);
        assert_int_equal(llmdiff_encode(pack, &r, &result, &error), LLMDIFF_MISUSE);
        assert_null(result);
    }
    llmdiff_request r = request();
    r.trace_file = "/no/such/t.safetensors";
    assert_int_equal(llmdiff_check(pack, &r, &error), LLMDIFF_FAILED);
    assert_string_equal(error.message,
                        "/no/such/t.safetensors: can't be created: No such file or directory");
    char trace[256];
    snprintf(trace, sizeof trace, "%s", path("@/t.safetensors"));
    r.trace_file = trace;
    assert_int_equal(llmdiff_check(pack, &r, &error), LLMDIFF_OK);
    assert_directory(""); /* tried, and nothing left behind */
    llmdiff_close(pack);
}

/* ---- several pictures ---------------------------------------------------------------------------- */

static void each_picture_has_its_own(void **state) {
    (void)state;
    assert_ok(GENERATE("-b", "3", "-s", "5", "--trace", "@/t.safetensors", "--trace-only",
                       "^latents/0$"));
    assert_directory("t.safetensors t_2.safetensors t_3.safetensors x.png x_2.png x_3.png ");
    static const char *const names[] = {"@/t.safetensors", "@/t_2.safetensors",
                                        "@/t_3.safetensors"};
    static const char *const seeds[] = {"5", "6", "7"};
    for (int i = 0; i < 3; i++) {
        Safetensors *s = opened(names[i]);
        assert_string_equal(safetensors_metadata(s, "seed"), seeds[i]);
        assert_int_equal(safetensors_count(s), 1);
        safetensors_close(s);
    }
    assert_false(same_file(names[0], names[1]));
}

/* ---- what ends a run early ----------------------------------------------------------------------- */

static int stop_at(void *user, const llmdiff_tensor *t) {
    return strcmp(t->name, (const char *)user) == 0;
}

static void a_cancelled_run_leaves_nothing(void **state) {
    (void)state;
    static char last[] = "image", middle[] = "unet/1/eps";
    char *const names[] = {last, middle};
    llmdiff_pack *pack = open_micro();
    llmdiff_request r = request();
    llmdiff_result *result;
    llmdiff_error error;
    char trace[256];
    snprintf(trace, sizeof trace, "%s", path("@/t.safetensors"));
    r.trace_file = trace;
    r.observe = stop_at;
    for (int i = 0; i < 2; i++) {
        r.user = names[i];
        assert_int_equal(llmdiff_generate(pack, &r, &result, &error), LLMDIFF_CANCELLED);
        assert_directory("");
    }
    llmdiff_close(pack);
    /* Ctrl-C, as soon as something was printed */
    pid_t child = start("", (const char *[]){"generate", "-m", MICRO, "-p", "a", "-o", "@/x.png",
                                             "-v", "--steps", "900", "-W", "128", "-H", "128",
                                             "--trace", "@/t.safetensors", NULL});
    Result r2 = interrupt(child, SIGINT);
    assert_int_equal(r2.code, 130);
    assert_directory("");
}

typedef struct Stops {
    int asked, seen;
} Stops;

static int stop_now(void *user) { return ++((Stops *)user)->asked > 0; }
static int count_seen(void *user, const llmdiff_tensor *t) {
    (void)t;
    ((Stops *)user)->seen++;
    return 0;
}

/* Hashing a large pack takes seconds, in which the run can be cancelled. */
static void hashing_can_be_cancelled(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro();
    llmdiff_request r = request();
    llmdiff_result *result;
    llmdiff_error error;
    Stops stops = {0};
    char trace[256];
    snprintf(trace, sizeof trace, "%s", path("@/t.safetensors"));
    r.trace_file = trace;
    r.cancel = stop_now;
    r.observe = count_seen;
    r.user = &stops;
    assert_int_equal(llmdiff_generate(pack, &r, &result, &error), LLMDIFF_CANCELLED);
    assert_holds(error.message, "cancelled at " MICRO "/");
    assert_int_equal(stops.asked, 1);
    assert_int_equal(stops.seen, 0); /* not even the ids, which come first */
    assert_directory("");
    llmdiff_close(pack);
}

/* A full disk, played by the limit on a file's size. */
static void a_full_disk_is_one_error(void **state) {
    (void)state;
    struct rlimit before, small;
    llmdiff_pack *pack = open_micro();
    llmdiff_request r = request();
    llmdiff_result *result;
    llmdiff_error error;
    char trace[256];
    snprintf(trace, sizeof trace, "%s", path("@/t.safetensors"));
    r.trace_file = trace;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = ((rlim_t)4 << 20) + 100000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    llmdiff_status status = llmdiff_generate(pack, &r, &result, &error);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    assert_int_equal(status, LLMDIFF_FAILED);
    assert_null(result);
    assert_holds(error.message, "t.safetensors: can't be written: File too large");
    assert_directory("");
    llmdiff_close(pack);
}

/* ---- the pack's hash ----------------------------------------------------------------------------- */

/* What a shell command prints. */
static void shell(char *out, size_t size, const char *fmt, ...) {
    char command[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    out[fread(out, 1, size - 1, f)] = '\0';
    assert_int_equal(pclose(f), 0);
}

/* Traces an encoding or a picture of the pack; its metadata are the caller's to close. */
static Safetensors *traced(const llmdiff_options *o) {
    llmdiff_pack *pack = opened_pack(o);
    llmdiff_request r = request();
    llmdiff_result *result;
    llmdiff_error error;
    char trace[256];
    snprintf(trace, sizeof trace, "%s", path("@/t.safetensors"));
    r.trace_file = trace;
    r.steps = 1;
    llmdiff_status status = o->use == LLMDIFF_USE_ENCODE
                                ? llmdiff_encode(pack, &r, &result, &error)
                                : llmdiff_generate(pack, &r, &result, &error);
    if (status) fail_msg("%s", error.message);
    llmdiff_result_free(result);
    llmdiff_close(pack);
    return opened("@/t.safetensors");
}

/* The lines are what sha256sum says of these files, and the hash what it says of the lines. */
static void assert_hash(const char *pack, const llmdiff_options *o, const char *files) {
    char expected[8192], hash[128];
    Safetensors *s = traced(o);
    shell(expected, sizeof expected, "cd '%s' && sha256sum %s", path(pack), files);
    assert_string_equal(safetensors_metadata(s, "pack_files"), expected);
    shell(hash, sizeof hash, "cd '%s' && sha256sum %s | sha256sum | cut -c1-64", path(pack), files);
    hash[strcspn(hash, "\n")] = '\0';
    assert_string_equal(safetensors_metadata(s, "pack_sha256"), hash);
    safetensors_close(s);
}

#define LLM_FILES                                                                                  \
    "llm/config.json llm/model.safetensors llm/tokenizer.json llm/tokenizer_config.json "
#define UNET_FILES "unet/config.json unet/diffusion_pytorch_model.safetensors "
#define VAE_FILES "vae/config.json vae/diffusion_pytorch_model.safetensors"

static void the_hash_is_that_of_sha256sum(void **state) {
    (void)state;
    const size_t size = sizeof(llmdiff_options);
    char pack[256], unused[64];
    assert_hash(MICRO, &(llmdiff_options){.size = size, .model = MICRO},
                "adapter/adapter.safetensors adapter/config.json " LLM_FILES
                "scheduler/scheduler_config.json " UNET_FILES VAE_FILES);
    /* what an encoding doesn't need is not in it */
    assert_hash(MICRO, &(llmdiff_options){.size = size, .model = MICRO, .use = LLMDIFF_USE_ENCODE},
                "adapter/adapter.safetensors adapter/config.json " LLM_FILES);

    /* A pack of links: parts have their own names wherever they lie, the shards and their index count,
     * and what isn't read doesn't. */
    shell(unused, sizeof unused,
          "cd '%s' && R=\"$OLDPWD/golden\" && mkdir p p/adapter && ln -s \"$R\"/micro/[usv]* "
          "\"$R\"/micro/llm \"$R\"/micro_clip/* p && cp \"$R\"/micro/adapter/* p/adapter && "
          "mv p/adapter/adapter.safetensors p/adapter/one.safetensors && touch p/adapter/notes.md",
          path("@"));
    snprintf(pack, sizeof pack, "%s", path("@/p"));
    Error err = {0};
    char one[300], index[8192];
    snprintf(one, sizeof one, "%s/adapter/one.safetensors", pack);
    Safetensors *s = safetensors_open(one, &err);
    size_t used = (size_t)snprintf(index, sizeof index, "{\"weight_map\": {");
    for (size_t i = 0; i < safetensors_count(s); i++)
        used += (size_t)snprintf(index + used, sizeof index - used, "%s\"%s\": \"one.safetensors\"",
                                 i ? ", " : "", safetensors_at(s, i)->name);
    safetensors_close(s);
    snprintf(index + used, sizeof index - used, "}}");
    put_text("@/p/adapter/adapter.safetensors.index.json", index);
    assert_hash("@/p", &(llmdiff_options){.size = size, .model = pack},
                "adapter/adapter.safetensors.index.json adapter/config.json "
                "adapter/one.safetensors " LLM_FILES
                "scheduler/scheduler_config.json " UNET_FILES VAE_FILES);
    assert_hash("@/p", &(llmdiff_options){.size = size, .model = pack, .conditioner = "clip"},
                "scheduler/scheduler_config.json text_encoder/config.json "
                "text_encoder/model.safetensors $(ls tokenizer/*.*) " UNET_FILES VAE_FILES);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, fresh_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        T(it_holds_every_activation_in_order),
        T(it_has_the_names_of_the_goldens),
        T(the_output_is_the_same),
        T(it_says_how_it_was_made),
        T(only_names_that_match),
        T(no_name_that_matches_is_an_error),
        T(wrong_usage_is_told_first),
        T(wrong_requests_are_misuse),
        T(each_picture_has_its_own),
        T(a_cancelled_run_leaves_nothing),
        T(hashing_can_be_cancelled),
        T(a_full_disk_is_one_error),
        T(the_hash_is_that_of_sha256sum),
    };
    return cmocka_run_group_tests_name("traces", tests, NULL, NULL);
}
