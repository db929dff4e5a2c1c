/* The library as a program meets it, through ref/llmdiff.h: results, misuse, cancelling, threads, and
 * what `make install` leaves. */
#include "library_run.h"

#include <math.h>
#include <pthread.h>

/* ---- helpers ------------------------------------------------------------------------------------- */

static llmdiff_pack *open_micro(llmdiff_use use) {
    llmdiff_options o = {.size = sizeof o, .model = MICRO, .use = use};
    return opened_pack(&o);
}

static llmdiff_request request(void) {
    llmdiff_request r;
    assert_int_equal(llmdiff_request_default(&r, sizeof r), LLMDIFF_OK);
    r.prompt = "a red circle";
    r.steps = 2;
    r.threads = 1;
    return r;
}

static void assert_same_tensor(const llmdiff_tensor *a, const llmdiff_tensor *b) {
    assert_non_null(a);
    assert_non_null(b);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->dtype, b->dtype);
    assert_int_equal(a->ndim, b->ndim);
    assert_memory_equal(a->dim, b->dim, sizeof a->dim);
    assert_memory_equal(a->data, b->data, bytes_of(a));
}

static void assert_same_picture(const llmdiff_result *a, const llmdiff_result *b) {
    assert_same_tensor(llmdiff_latents(a), llmdiff_latents(b));
    assert_int_equal(llmdiff_width(a), llmdiff_width(b));
    assert_memory_equal(llmdiff_rgb(a), llmdiff_rgb(b),
                        (size_t)(3 * llmdiff_width(a) * llmdiff_height(a)));
}

#define ASSERT_MISUSE(call, part)                                                                  \
    do {                                                                                           \
        llmdiff_error error = {LLMDIFF_OK, ""};                                                    \
        assert_int_equal(call, LLMDIFF_MISUSE);                                                    \
        assert_int_equal(error.status, LLMDIFF_MISUSE);                                            \
        assert_holds(error.message, part);                                                         \
    } while (0)

#define ASSERT_FAILED(call, part)                                                                  \
    do {                                                                                           \
        llmdiff_error error = {LLMDIFF_OK, ""};                                                    \
        assert_int_equal(call, LLMDIFF_FAILED);                                                    \
        assert_int_equal(error.status, LLMDIFF_FAILED);                                            \
        assert_holds(error.message, part);                                                         \
    } while (0)

/* ---- misuse -------------------------------------------------------------------------------------- */

static void it_says_what_it_is(void **state) {
    (void)state;
    assert_string_equal(llmdiff_version(), LLMDIFF_VERSION);
    assert_string_equal(llmdiff_precision(), REAL_NAME);
}

static void null_is_misuse_everywhere(void **state) {
    (void)state;
    llmdiff_options o = {.size = sizeof o, .model = MICRO};
    llmdiff_request r = request();
    llmdiff_pack *none, *pack = open_micro(LLMDIFF_USE_GENERATE);
    llmdiff_result *result;
    int64_t *ids;
    size_t count;
    char *text;
    ASSERT_MISUSE(llmdiff_open(NULL, &none, &error), "llmdiff_options: expected a pointer");
    assert_null(none);
    ASSERT_MISUSE(llmdiff_open(&o, NULL, &error), "pack: ");
    ASSERT_MISUSE(llmdiff_tokenize(NULL, "a", 1, &ids, &count, &error), "pack: ");
    ASSERT_MISUSE(llmdiff_tokenize(pack, NULL, 1, &ids, &count, &error), "text: ");
    ASSERT_MISUSE(llmdiff_tokenize(pack, "a", 1, NULL, &count, &error), "ids: ");
    ASSERT_MISUSE(llmdiff_tokenize(pack, "a", 1, &ids, NULL, &error), "count: ");
    ASSERT_MISUSE(llmdiff_encode(NULL, &r, &result, &error), "pack: ");
    ASSERT_MISUSE(llmdiff_encode(pack, NULL, &result, &error), "llmdiff_request: ");
    ASSERT_MISUSE(llmdiff_generate(NULL, &r, &result, &error), "pack: ");
    assert_null(result);
    ASSERT_MISUSE(llmdiff_generate(pack, NULL, &result, &error), "llmdiff_request: ");
    ASSERT_MISUSE(llmdiff_generate(pack, &r, NULL, &error), "result: ");
    ASSERT_MISUSE(llmdiff_check(NULL, &r, &error), "pack: ");
    ASSERT_MISUSE(llmdiff_save_png(NULL, "a.png", &error), "result: ");
    ASSERT_MISUSE(llmdiff_save_tensors(NULL, "a.npy", NULL, &error), "result: ");
    ASSERT_MISUSE(llmdiff_check_setting(NULL, &error), "assignment: ");
    ASSERT_MISUSE(llmdiff_check_output(NULL, &error), "path: ");
    ASSERT_MISUSE(llmdiff_describe(NULL, 0, &text, &error), "path: ");
    ASSERT_MISUSE(llmdiff_describe(MICRO, 0, NULL, &error), "text: ");
    ASSERT_MISUSE(llmdiff_init_adapter(&o, NULL, 1, NULL, &error), "directory: ");
    assert_int_equal(llmdiff_request_default(NULL, sizeof r), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_open(NULL, &none, NULL), LLMDIFF_MISUSE); /* nobody to tell */
    r.prompt = NULL;
    ASSERT_MISUSE(llmdiff_generate(pack, &r, &result, &error), "llmdiff_request.prompt: ");
    assert_null(llmdiff_rgb(NULL));
    assert_null(llmdiff_latents(NULL));
    assert_null(llmdiff_activation(NULL, "ids"));
    assert_null(llmdiff_activation_at(NULL, 0));
    assert_null(llmdiff_note(NULL, 0));
    assert_null(llmdiff_settings(NULL));
    assert_null(llmdiff_piece(NULL, 0));
    assert_int_equal(llmdiff_width(NULL) + llmdiff_height(NULL), 0);
    assert_int_equal(llmdiff_peak_bytes(NULL), 0);
    assert_int_equal(llmdiff_text_at(NULL, 0, NULL, NULL), 0);
    llmdiff_close(NULL);
    llmdiff_result_free(NULL);
    llmdiff_free(NULL);
    llmdiff_parameters_text(1, NULL);
    llmdiff_close(pack);
}

static void a_struct_tells_its_size(void **state) {
    (void)state;
    struct {
        llmdiff_request known;
        int64_t later;
    } newer;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE), *none;
    llmdiff_options o = {.model = MICRO};
    llmdiff_request r = request();
    ASSERT_MISUSE(llmdiff_open(&o, &none, &error), "llmdiff_options.size: expected sizeof");
    o.size = sizeof o - 8;
    ASSERT_MISUSE(llmdiff_open(&o, &none, &error), "llmdiff_options.size: expected sizeof");
    r.size = 0;
    ASSERT_MISUSE(llmdiff_check(pack, &r, &error), "llmdiff_request.size: expected sizeof");
    r.size = (size_t)-1;
    ASSERT_MISUSE(llmdiff_check(pack, &r, &error), "llmdiff_request.size: expected sizeof");
    assert_int_equal(llmdiff_request_default(&r, 8), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_request_default(&newer.known, sizeof newer), LLMDIFF_OK);
    assert_int_equal(newer.later, 0);
    newer.known.steps = 1;
    assert_int_equal(llmdiff_check(pack, &newer.known, NULL), LLMDIFF_OK);
    newer.later = 1;
    ASSERT_MISUSE(llmdiff_check(pack, &newer.known, &error), "does not know");
    llmdiff_close(pack);
}

static void a_closed_handle_is_misuse(void **state) {
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    print_message("skipped: the sanitizer stops the program at the first look\n");
    skip();
#else
    int64_t *ids;
    size_t count;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_TOKENIZE);
    llmdiff_pack *volatile dead = pack; /* or the compiler sees it and warns */
    llmdiff_close(pack);
    ASSERT_MISUSE(llmdiff_tokenize(dead, "a", 1, &ids, &count, &error), "closed");
    llmdiff_close(dead);
#endif
}

static void another_pointer_is_misuse(void **state) {
    (void)state;
    static const char zeros[1024];
    llmdiff_request r = request();
    llmdiff_result *result;
    ASSERT_MISUSE(llmdiff_generate((const void *)zeros, &r, &result, &error), "another pointer");
    ASSERT_MISUSE(llmdiff_save_png((const void *)zeros, "a.png", &error), "another pointer");
}

static void requests_have_limits(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE);
    llmdiff_result *result;
    float z = 0;
    llmdiff_tensor t = {.name = "z", .ndim = 3, .dim = {1, 1, 1}, .data = &z};
    static const struct {
        llmdiff_request r;
        const char *part;
    } bad[] = {{{.width = 7}, "--width: expected a positive multiple"},
               {{.height = -16}, "--height: "},
               {{.steps = -1}, "steps"},
               {{.steps = 5000}, "steps"},
               {{.eta = 2}, "--eta: expected 0 to 1, found 2"},
               {{.eta = NAN}, "--eta: expected 0 to 1, found "},
               {{.cfg_scale = INFINITY}, "--cfg-scale: expected a finite number"},
               {{.threads = -1}, "--threads: expected 0 to 1024, found -1"},
               {{.sampling_method = "heun"}, "--sampling-method: expected ddpm"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        llmdiff_request r = request();
        if (bad[i].r.width) r.width = bad[i].r.width;
        if (bad[i].r.height) r.height = bad[i].r.height;
        if (bad[i].r.steps) r.steps = bad[i].r.steps;
        if (!(bad[i].r.eta <= 0)) r.eta = bad[i].r.eta;
        if (bad[i].r.cfg_scale > 0) r.cfg_scale = bad[i].r.cfg_scale;
        if (bad[i].r.threads) r.threads = bad[i].r.threads;
        r.sampling_method = bad[i].r.sampling_method;
        ASSERT_MISUSE(llmdiff_check(pack, &r, &error), bad[i].part);
        ASSERT_MISUSE(llmdiff_generate(pack, &r, &result, &error), bad[i].part);
        assert_null(result);
    }
    llmdiff_request r = request();
    r.init_latents = &t;
    ASSERT_FAILED(llmdiff_check(pack, &r, &error), "expected shape [4, 8, 8]");
    r.init_latents_file = "z.npy";
    ASSERT_MISUSE(llmdiff_check(pack, &r, &error), "expected one of them, found both");
    t.data = NULL;
    r.init_latents_file = NULL;
    ASSERT_MISUSE(llmdiff_check(pack, &r, &error), "init_latents.data");
    r = request();
    r.noise_file = "/nowhere";
    ASSERT_FAILED(llmdiff_generate(pack, &r, &result, &error), "/nowhere: ");
    llmdiff_close(pack);
}

static void a_pack_does_what_it_was_opened_for(void **state) {
    (void)state;
    llmdiff_request r = request();
    llmdiff_result *result;
    llmdiff_pack *tokens = open_micro(LLMDIFF_USE_TOKENIZE), *text = open_micro(LLMDIFF_USE_ENCODE);
    ASSERT_MISUSE(llmdiff_encode(tokens, &r, &result, &error),
                  "opened for the tokenizer alone, not for encoding");
    ASSERT_MISUSE(llmdiff_generate(text, &r, &result, &error),
                  "opened for encoding, not for pictures");
    assert_null(llmdiff_settings(tokens));
    llmdiff_close(tokens);
    llmdiff_close(text);
}

static void opening_says_what_is_wrong(void **state) {
    (void)state;
    llmdiff_pack *pack;
    const char *set[] = {"word_score=maybe"};
    llmdiff_options o = {.size = sizeof o, .model = "/nowhere"};
    ASSERT_FAILED(llmdiff_open(&o, &pack, &error), "/nowhere/llm: expected a directory");
    assert_null(pack);
    assert_int_equal(llmdiff_open(&o, &pack, NULL), LLMDIFF_FAILED);
    o = (llmdiff_options){.size = sizeof o, .model = MICRO, .set = set, .sets = 1};
    ASSERT_MISUSE(llmdiff_open(&o, &pack, &error), "word_score");
    ASSERT_MISUSE(llmdiff_check_setting(set[0], &error), "word_score");
    assert_int_equal(llmdiff_check_setting("word_score=false", NULL), LLMDIFF_OK);
    o.set = NULL;
    ASSERT_MISUSE(llmdiff_open(&o, &pack, &error), "llmdiff_options.set");
    o.sets = 0;
    o.use = (llmdiff_use)9;
    ASSERT_MISUSE(llmdiff_open(&o, &pack, &error), "llmdiff_options.use");
}

/* ---- results ------------------------------------------------------------------------------------- */

static void tokens_begin_with_the_begin_token(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_TOKENIZE);
    int64_t *ids;
    size_t count;
    assert_int_equal(llmdiff_tokenize(pack, "", 0, &ids, &count, NULL), LLMDIFF_OK);
    assert_int_equal(count, 1);
    assert_string_equal(llmdiff_piece(pack, ids[0]), "<|endoftext|>");
    assert_null(llmdiff_piece(pack, 1 << 30));
    llmdiff_free(ids);
    llmdiff_close(pack);
}

static void the_program_draws_the_same_picture(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE);
    llmdiff_request r = request();
    llmdiff_result *result = draw(pack, &r);
    assert_ok(GENERATE("--save-latents", "@/z.npy"));
    assert_int_equal(llmdiff_save_png(result, path("@/lib.png"), NULL), LLMDIFF_OK);
    const char *names[] = {"latents/2", NULL};
    assert_int_equal(llmdiff_save_tensors(result, path("@/lib.npy"), names, NULL), LLMDIFF_OK);
    assert_true(same_file("@/x.png", "@/lib.png"));
    assert_true(same_file("@/z.npy", "@/lib.npy"));
    assert_int_equal(llmdiff_width(result), 16);
    assert_true(llmdiff_peak_bytes(result) > 0);
    const char *key = NULL, *value = NULL;
    assert_int_equal(llmdiff_text_at(result, 0, &key, &value), 1);
    assert_string_equal(key, "prompt");
    assert_string_equal(value, "a red circle");
    assert_int_equal(llmdiff_text_at(result, 999, &key, &value), 0);
    llmdiff_result_free(result);
    llmdiff_close(pack);
}

/* Image to image draws at strength 0.8 and inpainting at 1, unless the request says. */
/* As many digits as give the same number back: a picture can be drawn again from its own text. */
static void recorded_numbers_are_exact(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE);
    llmdiff_request r = request();
    r.steps = 1;
    r.cfg_scale = 0.1 + 0.2;
    llmdiff_result *result = draw(pack, &r);
    const char *key, *value, *found = NULL;
    for (size_t i = 0; llmdiff_text_at(result, i, &key, &value); i++)
        if (strcmp(key, "cfg_scale") == 0) found = value;
    assert_non_null(found);
    assert_string_equal(found, "0.30000000000000004");
    llmdiff_result_free(result);
    llmdiff_close(pack);
}

static void strength_has_its_defaults(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE);
    llmdiff_request r = request();
    r.steps = 5;
    llmdiff_result *result = draw(pack, &r);
    assert_int_equal(llmdiff_save_png(result, path("@/in.png"), NULL), LLMDIFF_OK);
    llmdiff_result_free(result);
    char in[256];
    snprintf(in, sizeof in, "%s", path("@/in.png"));
    r.init_image_file = in;
    for (int masked = 0; masked < 2; masked++) {
        r.mask_file = masked ? in : NULL;
        r.strength = 0;
        llmdiff_result *unsaid = draw(pack, &r);
        r.strength = masked ? 1 : 0.8;
        llmdiff_result *said = draw(pack, &r);
        assert_same_picture(unsaid, said);
        llmdiff_result_free(unsaid);
        llmdiff_result_free(said);
    }
    llmdiff_close(pack);
}

typedef struct Seen {
    const char *name;
    char *data;
    size_t bytes, count;
} Seen;

static int look(void *user, const llmdiff_tensor *t) {
    Seen *seen = user;
    seen->count++;
    if (seen->name && strcmp(t->name, seen->name) == 0) {
        seen->bytes = bytes_of(t);
        seen->data = malloc(seen->bytes);
        memcpy(seen->data, t->data, seen->bytes);
    }
    return 0;
}

static void kept_activations_are_those_observed(void **state) {
    (void)state;
    static const char *const names[] = {"ids",        "alg1/c.0",  "uncond/ids",
                                        "unet/1/eps", "latents/0", "unet/0/cond/mid_block"};
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE);
    llmdiff_request plain = request();
    llmdiff_result *alone = draw(pack, &plain);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        Seen seen = {.name = names[i]};
        llmdiff_request r = request();
        r.keep = (const char *const[]){names[i], "no/such/name", NULL};
        r.observe = look;
        r.user = &seen;
        llmdiff_result *result = draw(pack, &r);
        const llmdiff_tensor *t = llmdiff_activation(result, names[i]);
        if (!t || !seen.data) fail_msg("%s was not seen", names[i]);
        assert_int_equal(bytes_of(t), seen.bytes);
        assert_memory_equal(t->data, seen.data, seen.bytes);
        assert_same_tensor(llmdiff_activation_at(result, 0), t);
        assert_null(llmdiff_activation_at(result, 1));
        assert_null(llmdiff_activation(result, "no/such/name"));
        assert_same_picture(alone, result); /* looking changes nothing */
        free(seen.data);
        llmdiff_result_free(result);
    }
    llmdiff_result_free(alone);
    llmdiff_close(pack);
}

static void a_star_keeps_all_that_begin_so(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE);
    Seen seen = {0};
    llmdiff_request r = request();
    r.keep = (const char *const[]){"latents/*", NULL};
    llmdiff_result *result = draw(pack, &r);
    assert_string_equal(llmdiff_activation_at(result, 0)->name, "latents/0");
    assert_same_tensor(llmdiff_activation_at(result, 2), llmdiff_latents(result));
    assert_null(llmdiff_activation_at(result, 3));
    llmdiff_result_free(result);
    r.keep = (const char *const[]){"*", NULL};
    r.observe = look;
    r.user = &seen;
    result = draw(pack, &r);
    assert_non_null(llmdiff_activation_at(result, seen.count - 1));
    assert_null(llmdiff_activation_at(result, seen.count));
    assert_true(seen.count > 100);
    assert_int_equal(llmdiff_save_tensors(result, path("@/all.safetensors"), NULL, NULL), 0);
    assert_holds(RUN("info", "@/all.safetensors").out, "unet/0/cond/mid_block ");
    llmdiff_result_free(result);
    llmdiff_close(pack);
}

static void an_encoding_has_no_picture(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_ENCODE);
    llmdiff_request r = request();
    llmdiff_result *result;
    assert_int_equal(llmdiff_encode(pack, &r, &result, NULL), LLMDIFF_OK);
    const llmdiff_tensor *c = llmdiff_activation(result, "alg1/c.0");
    const llmdiff_tensor *ids = llmdiff_activation(result, "ids");
    assert_int_equal(c->ndim, 2);
    assert_int_equal(c->dim[1], 40);
    assert_int_equal(c->dim[0], ids->dim[0]);
    assert_int_equal(ids->dtype, LLMDIFF_I64);
    assert_null(llmdiff_rgb(result));
    assert_null(llmdiff_latents(result));
    ASSERT_MISUSE(llmdiff_save_png(result, path("@/c.png"), &error), "not a picture");
    ASSERT_MISUSE(llmdiff_save_tensors(result, path("@/c.npy"), NULL, &error), "one tensor, not 2");
    ASSERT_MISUSE(llmdiff_save_tensors(result, path("@/c.bin"), NULL, &error), "ends in .npy");
    const char *names[] = {"ids", NULL}, *no[] = {"c", NULL};
    ASSERT_MISUSE(llmdiff_save_tensors(result, path("@/c.npy"), names, &error), "holds floats");
    ASSERT_MISUSE(llmdiff_save_tensors(result, path("@/c.safetensors"), no, &error), "was it kept");
    ASSERT_FAILED(llmdiff_save_tensors(result, "/nowhere/c.safetensors", NULL, &error), "/nowhere");
    assert_directory("");
    llmdiff_result_free(result);
    llmdiff_close(pack);
}

static void first_latents_from_memory_are_those_of_a_file(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE);
    llmdiff_request r = request();
    llmdiff_result *first = draw(pack, &r);
    assert_int_equal(llmdiff_save_tensors(first, path("@/z.npy"),
                                          (const char *const[]){"latents/2", NULL}, NULL),
                     LLMDIFF_OK);
    r.init_latents = llmdiff_latents(first);
    llmdiff_result *memory = draw(pack, &r);
    r.init_latents = NULL;
    r.init_latents_file = path("@/z.npy");
    llmdiff_result *file = draw(pack, &r);
    assert_same_picture(memory, file);

    /* Several are not one. */
    static double zeros[2 * 4 * 64 * 64];
    llmdiff_tensor several = *llmdiff_latents(first);
    several.ndim = 4;
    several.dim[0] = 2;
    memcpy(several.dim + 1, llmdiff_latents(first)->dim, 3 * sizeof *several.dim);
    assert_true(bytes_of(&several) <= sizeof zeros);
    several.data = zeros;
    r.init_latents_file = NULL;
    r.init_latents = &several;
    llmdiff_result *none;
    ASSERT_FAILED(llmdiff_generate(pack, &r, &none, &error), "expected shape [4, ");
    llmdiff_result_free(first);
    llmdiff_result_free(memory);
    llmdiff_result_free(file);
    llmdiff_close(pack);
}

static void other_tools(void **state) {
    (void)state;
    char *text, size[64];
    int64_t count;
    llmdiff_options o = {.size = sizeof o, .model = MICRO};
    assert_int_equal(llmdiff_describe(MICRO, 1, &text, NULL), LLMDIFF_OK);
    assert_holds(text, "T (blocks)                 3\n");
    assert_holds(text, "  F32  phi.weight [28, 40]\n");
    llmdiff_free(text);
    ASSERT_FAILED(llmdiff_describe("/nowhere", 0, &text, &error), "/nowhere: can't be opened");
    llmdiff_free(text);
    assert_int_equal(llmdiff_init_adapter(&o, path("@/fresh"), 3, &count, NULL), LLMDIFF_OK);
    assert_int_equal(count, 7962);
    ASSERT_FAILED(llmdiff_init_adapter(&o, path("@/fresh"), 3, &count, &error), "is there already");
    assert_int_equal(count, 0);
    o.model = NULL;
    ASSERT_MISUSE(llmdiff_init_adapter(&o, path("@/b"), 3, &count, &error), "no model");
    llmdiff_parameters_text(45512345, size);
    assert_string_equal(size, "45,512,345 parameters (45.5M)");
    llmdiff_parameters_text(INT64_MAX, size);
    assert_int_equal(llmdiff_check_output(path("@/new"), NULL), LLMDIFF_OK);
    ASSERT_FAILED(llmdiff_check_output(work, &error), "it is a directory");
    assert_directory("fresh ");
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE);
    assert_holds(llmdiff_note(pack, 0), "was never trained");
    assert_null(llmdiff_note(pack, 1));
    assert_holds(llmdiff_settings(pack), "\"word_score\":true");
    llmdiff_close(pack);
}

/* ---- cancelling ---------------------------------------------------------------------------------- */

typedef struct Countdown {
    size_t calls, stop_at; /* SIZE_MAX: never */
    bool stopped;
} Countdown;

static int count(Countdown *c) {
    assert_false(c->stopped); /* nobody is called after it */
    return c->stopped = c->calls++ == c->stop_at;
}
static int count_cancel(void *user) { return count(user); }
static int count_progress(void *user, const char *stage, int64_t done, int64_t of) {
    assert_true(stage && done <= of);
    return count(user);
}
static int count_observe(void *user, const llmdiff_tensor *t) {
    assert_non_null(t->data);
    return count(user);
}

/* Stops at each call of one callback in turn; of a few hundred calls every `stride`-th. */
static void cancel_everywhere(int which, size_t stride) {
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE);
    llmdiff_result *result;
    llmdiff_error error;
    size_t calls = SIZE_MAX;
    for (size_t at = SIZE_MAX; at == SIZE_MAX || at < calls; at += at == SIZE_MAX ? 1 : stride) {
        Countdown c = {.stop_at = at};
        llmdiff_request r = request();
        r.steps = 1;
        r.user = &c;
        r.keep = (const char *const[]){"unet/*", NULL};
        if (which == 0) r.progress = count_progress;
        if (which == 1) r.cancel = count_cancel;
        if (which == 2) r.observe = count_observe;
        llmdiff_status status = llmdiff_generate(pack, &r, &result, &error);
        assert_int_equal(status, at == SIZE_MAX ? LLMDIFF_OK : LLMDIFF_CANCELLED);
        assert_int_equal(error.status, status);
        assert_true((result != NULL) == (status == LLMDIFF_OK));
        if (status) assert_holds(error.message, "cancelled");
        if (at == SIZE_MAX) calls = c.calls;
        llmdiff_result_free(result);
    }
    assert_true(calls > 2);
    llmdiff_close(pack);
}

static void cancelled_at_every_progress(void **state) {
    (void)state;
    cancel_everywhere(0, 1);
}
static void cancelled_at_every_activation(void **state) {
    (void)state;
    cancel_everywhere(1, 3);
}
static void cancelled_at_every_observation(void **state) {
    (void)state;
    cancel_everywhere(2, 3);
}

static void an_encoding_is_cancelled_too(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_ENCODE);
    llmdiff_result *result;
    for (size_t at = 0; at < 10; at++) {
        Countdown c = {.stop_at = at};
        llmdiff_request r = request();
        r.user = &c;
        r.cancel = count_cancel;
        assert_int_equal(llmdiff_encode(pack, &r, &result, NULL), LLMDIFF_CANCELLED);
        assert_null(result);
    }
    llmdiff_close(pack);
}

static int draw_inside(void *user, const char *stage, int64_t done, int64_t of) {
    (void)done, (void)of;
    if (strcmp(stage, "decode") == 0) {
        llmdiff_request r = request();
        llmdiff_result_free(draw(user, &r));
    }
    return 0;
}

static void a_callback_may_use_the_library(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE);
    llmdiff_request r = request();
    llmdiff_result *alone = draw(pack, &r);
    r.progress = draw_inside;
    r.user = pack;
    llmdiff_result *result = draw(pack, &r);
    assert_same_picture(alone, result);
    llmdiff_result_free(alone);
    llmdiff_result_free(result);
    llmdiff_close(pack);
}

/* ---- threads ------------------------------------------------------------------------------------- */

#define THREADS 2

typedef struct Worker {
    const llmdiff_pack *pack;
    uint64_t seed;
    llmdiff_status status;
    llmdiff_result *result;
} Worker;

static void *work_on(void *self) {
    Worker *w = self;
    llmdiff_request r;
    llmdiff_request_default(&r, sizeof r);
    r.prompt = "a red circle";
    r.steps = 2;
    r.threads = 2;
    r.seed = w->seed;
    for (int round = 0; round < 3; round++) {
        llmdiff_result_free(w->result);
        w->status = llmdiff_generate(w->pack, &r, &w->result, NULL);
    }
    return NULL;
}

static void draw_at_once(llmdiff_pack *const packs[THREADS]) {
    pthread_t thread[THREADS];
    Worker worker[THREADS];
    for (int i = 0; i < THREADS; i++) {
        worker[i] = (Worker){.pack = packs[i], .seed = (uint64_t)i};
        assert_int_equal(pthread_create(&thread[i], NULL, work_on, &worker[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        llmdiff_request r = request();
        r.seed = (uint64_t)i;
        llmdiff_result *alone = draw(packs[i], &r);
        assert_int_equal(worker[i].status, LLMDIFF_OK);
        assert_same_picture(alone, worker[i].result);
        llmdiff_result_free(alone);
        llmdiff_result_free(worker[i].result);
    }
}

static void threads_share_a_pack(void **state) {
    (void)state;
    llmdiff_pack *pack = open_micro(LLMDIFF_USE_GENERATE);
    draw_at_once((llmdiff_pack *const[]){pack, pack});
    llmdiff_close(pack);
}

static void threads_have_packs_of_their_own(void **state) {
    (void)state;
    llmdiff_pack *a = open_micro(LLMDIFF_USE_GENERATE), *b = open_micro(LLMDIFF_USE_GENERATE);
    draw_at_once((llmdiff_pack *const[]){a, b});
    llmdiff_close(a);
    llmdiff_close(b);
}

/* ---- what is built and installed ----------------------------------------------------------------- */

#ifdef __SANITIZE_ADDRESS__
#    define SANITIZER " -fsanitize=address,undefined"
#    define VARIANT_SAN " SAN=1"
#else
#    define SANITIZER ""
#    define VARIANT_SAN ""
#endif
#define VARIANT (sizeof(real) == 8 ? "REAL=double" VARIANT_SAN : "REAL=float" VARIANT_SAN)

/* Runs a shell command in which every '@' is the test's directory. */
static int shell(const char *command) {
    char text[4096];
    replace_all(text, sizeof text, command, "@", work);
    return system(text);
}

static void the_program_sees_the_public_header_alone(void **state) {
    (void)state;
    assert_int_not_equal(shell("grep -h '^ *# *include \"' ref/cli.h ref/cli.c ref/cli_*.c | "
                               "grep -v '\"ref/cli.h\"\\|\"ref/cli_team.h\"\\|\"ref/llmdiff.h\"\\|"
                               "\"ref/cli_eval.h\"'"),
                         0);
    /* but for eval's judge, which knows nothing of the library either */
    assert_int_not_equal(
        shell("grep -h '^ *# *include \"' ref/cli_eval.h ref/world/*.[ch] | grep -v "
              "'\"ref/cli.h\"\\|\"ref/world/[a-z]*.h\"\\|\"tensor/error.h\"\\|"
              "\"weights/file.h\"\\|\"weights/json.h\"'"),
        0);
    assert_int_not_equal(shell("grep -n '^ *# *include \"' ref/llmdiff.h"), 0);
}

static void every_flag_is_in_manual_and_completion(void **state) {
    (void)state;
    static const char *const commands[] = {"generate",     "encode",  "tokenize", "info",
                                           "init-adapter", "compare", "verify",   "eval"};
    Result completion = RUN("help", "--completion");
    assert_ok(completion);
    assert_ok(RUN("help", "--man"));
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        Result help = RUN("help", commands[i]), manual = RUN("help", "--man", commands[i]);
        char start[64], flags[4096], *own;
        assert_ok(manual);
        snprintf(start, sizeof start, "    %s)\n", commands[i]);
        own = strstr(completion.out, start);
        assert_non_null(own);
        assert_non_null(own = strstr(own, "flags='"));
        snprintf(flags, sizeof flags, "%.*s ", (int)strcspn(own + 7, "'"), own + 7);
        size_t count = 0;
        for (char *p = help.out; (p = strstr(p, "--")) != NULL; count++) {
            size_t n = 2 + strcspn(p + 2, " \n");
            char name[64], escaped[128];
            snprintf(name, sizeof name, "%.*s ", (int)n, p);
            bool row = p[-1] == ' ' && (p[-2] == ' ' || p[-2] == ',');
            p += n;
            if (!row) continue; /* a flag in a sentence */
            assert_holds(flags, name);
            name[n] = '\0';
            replace_all(escaped, sizeof escaped, name, "-", "\\-");
            assert_holds(manual.out, escaped);
        }
        assert_true(count >= 2);
    }
    put_text("@/completion", completion.out);
    if (system("bash --version >/dev/null 2>&1") != 0) {
        print_message("skipped: no bash\n");
        return;
    }
    assert_int_equal(shell("bash -c 'source @/completion && complete -p llmdiff >/dev/null && "
                           "COMP_WORDS=(llmdiff generate --ste) COMP_CWORD=2 && _llmdiff && "
                           "[ \"${COMPREPLY[*]}\" = --steps ]'"),
                     0);
}

/* The program of README.md, against what is installed, as a user builds it. */
static void the_readme_example_compiles_and_draws(void **state) {
    (void)state;
    char command[4096];
    if (shell("cc --version >@/cc 2>&1 && pkg-config --version >@/pc 2>&1") != 0) {
        print_message("skipped: no cc or no pkg-config\n");
        skip();
    }
    snprintf(command, sizeof command,
             "env -u MAKEFLAGS -u MAKELEVEL make -s install PREFIX=@/usr %s >@/log 2>&1 || "
             "{ cat @/log; false; }",
             VARIANT);
    assert_int_equal(shell(command), 0);
    assert_int_equal(shell("sed -n '/^```c$/,/^```$/p' README.md | sed '/^```/d' >@/example.c"), 0);
    const char *name = strrchr(LLMDIFF_PROGRAM, '/') + 1;
    snprintf(command, sizeof command,
             "export PKG_CONFIG_PATH=@/usr/lib/pkgconfig; cc -std=c99 -Wall -Wextra -Wpedantic "
             "-Werror%s @/example.c $(pkg-config --cflags --libs %s) -Wl,-rpath,@/usr/lib -o "
             "@/example && @/example " MICRO " @/e.png 2>@/progress",
             SANITIZER, name);
    assert_int_equal(shell(command), 0);
    assert_holds(RUN("info", "@/e.png").out, "PNG, 16 x 16");
    assert_int_equal(shell("grep -q '^sample ' @/progress"), 0);
    snprintf(command, sizeof command,
             "nm -D --defined-only @/usr/lib/lib%s.so | awk '{print $3}' | grep -v '^llmdiff_' | "
             "grep -v '^__\\|^_\\(init\\|fini\\)$'",
             name);
    assert_int_not_equal(shell(command), 0);
    snprintf(command, sizeof command,
             "nm -g --defined-only @/usr/lib/lib%s.a | awk 'NF == 3 {print $3}' | grep -v "
             "'^llmdiff_\\|^_*odr_asan'",
             name);
    assert_int_not_equal(shell(command), 0);
    snprintf(command, sizeof command,
             "make -s uninstall PREFIX=@/usr %s >/dev/null && test -z \"$(find @/usr ! -type d | "
             "grep -v san)\"",
             VARIANT);
    assert_int_equal(shell(command), 0);
}

static void the_header_is_c99_and_cpp(void **state) {
    (void)state;
    put_text("@/h.c", "#include \"ref/llmdiff.h\"\nint main(void) { return 0; }\n");
    if (shell("cc --version >@/cc 2>&1") != 0) {
        print_message("skipped: no cc\n");
        skip();
    }
    assert_int_equal(shell("cc -std=c99 -Wall -Wextra -Wpedantic -Werror -I. -fsyntax-only @/h.c"),
                     0);
    if (shell("c++ --version >@/cc 2>&1") != 0)
        print_message("skipped: no c++\n");
    else
        assert_int_equal(
            shell("c++ -Wall -Wextra -Wpedantic -Werror -I. -fsyntax-only -x c++ @/h.c"), 0);
}

#define T(test) cmocka_unit_test_setup_teardown(test, fresh_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(it_says_what_it_is),
        T(null_is_misuse_everywhere),
        T(a_struct_tells_its_size),
        T(a_closed_handle_is_misuse),
        T(another_pointer_is_misuse),
        T(requests_have_limits),
        T(a_pack_does_what_it_was_opened_for),
        T(opening_says_what_is_wrong),
        T(tokens_begin_with_the_begin_token),
        T(the_program_draws_the_same_picture),
        T(recorded_numbers_are_exact),
        T(strength_has_its_defaults),
        T(kept_activations_are_those_observed),
        T(a_star_keeps_all_that_begin_so),
        T(an_encoding_has_no_picture),
        T(first_latents_from_memory_are_those_of_a_file),
        T(other_tools),
        T(cancelled_at_every_progress),
        T(cancelled_at_every_activation),
        T(cancelled_at_every_observation),
        T(an_encoding_is_cancelled_too),
        T(a_callback_may_use_the_library),
        T(threads_share_a_pack),
        T(threads_have_packs_of_their_own),
        T(the_program_sees_the_public_header_alone),
        T(every_flag_is_in_manual_and_completion),
        T(the_readme_example_compiles_and_draws),
        T(the_header_is_c99_and_cpp),
    };
    return cmocka_run_group_tests_name("library", tests, NULL, NULL);
}
