/* Forcing: a run that goes on from a file's values (llmdiff_request.force_file, Context.forcing). */
#include "library_run.h"

#include "ref/force.h"
#include "ref/pipeline.h"

#include <math.h>

/* ---- helpers ------------------------------------------------------------------------------------- */

static const char *const everything[] = {"*", NULL};

typedef struct Case {
    const char *name;
    bool clip;
    const char *sampler;
    double eta, cfg_scale;
    const char *init_image, *mask;
    int tiling;
} Case;

static const Case plain = {.name = "ddim", .sampler = "ddim", .cfg_scale = 7.5};

static llmdiff_pack *open_pack(bool clip) {
    llmdiff_options o = {.size = sizeof o, .model = MICRO};
    if (clip) {
        o.conditioner = "clip";
        o.text_encoder = "golden/micro_clip/text_encoder";
        o.tokenizer = "golden/micro_clip/tokenizer";
    }
    return opened_pack(&o);
}

static llmdiff_request request(const Case *c) {
    llmdiff_request r;
    assert_int_equal(llmdiff_request_default(&r, sizeof r), LLMDIFF_OK);
    r.prompt = "a red circle";
    r.negative_prompt = "two dogs";
    r.steps = 2;
    r.threads = 1;
    r.sampling_method = c->sampler;
    r.eta = c->eta;
    r.cfg_scale = c->cfg_scale;
    r.init_image_file = c->init_image;
    r.mask_file = c->mask;
    r.vae_tiling = c->tiling;
    r.keep = everything;
    return r;
}

static bool same(const llmdiff_tensor *a, const llmdiff_tensor *b) {
    assert_string_equal(a->name, b->name);
    assert_int_equal(bytes_of(a), bytes_of(b));
    return memcmp(a->data, b->data, bytes_of(a)) == 0;
}

static void save(const llmdiff_result *result, const char *name) {
    llmdiff_error error;
    if (llmdiff_save_tensors(result, path(name), NULL, &error)) fail_msg("%s", error.message);
}

static bool same_pixels(const llmdiff_result *a, const llmdiff_result *b) {
    return memcmp(llmdiff_rgb(a), llmdiff_rgb(b),
                  (size_t)(3 * llmdiff_width(a) * llmdiff_height(a))) == 0;
}

/* One tensor in a file of its own. */
static void put_tensor(const char *name, Dtype dtype, int ndim, const int64_t *dim,
                       const void *data) {
    StoredTensor t = {.name = name, .dtype = dtype, .ndim = ndim, .data = data};
    for (int i = 0; i < ndim; i++) t.dim[i] = dim[i];
    t.bytes = (size_t)stored_numel(&t) * dtype_size(dtype);
    Error err = {0};
    if (safetensors_write(path("@/force.safetensors"), &t, 1, NULL, &err))
        fail_msg("%s", err.message);
}

/* ---- what it does -------------------------------------------------------------------------------- */

/* Forced by what it computed itself, a run computes the same bytes: nothing of a forced value is lost on
 * its way to the file and back, into the storage that the run reads. */
static void own_values_change_nothing(void **state) {
    (void)state;
    static const Case cases[] = {
        {.name = "ddim", .sampler = "ddim", .cfg_scale = 7.5},
        {.name = "no guidance", .sampler = "ddim", .eta = 0.7, .cfg_scale = 1},
        {.name = "euler_a", .sampler = "euler_a", .cfg_scale = 3},
        {.name = "pndm", .sampler = "pndm", .cfg_scale = 7.5},
        {.name = "dpm++2m", .sampler = "dpm++2m", .cfg_scale = 7.5},
        {.name = "clip", .clip = true, .sampler = "ddpm", .cfg_scale = 7.5},
        {.name = "inpainting, in tiles",
         .sampler = "ddim",
         .cfg_scale = 7.5,
         .init_image = "@/from.png",
         .mask = "@/from.png",
         .tiling = 1}};
    assert_ok(RUN("generate", "-m", MICRO, "-p", "x", "-o", "@/from.png", "--steps", "1", "--quiet",
                  "-W", "24", "-H", "18"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        llmdiff_pack *pack = open_pack(cases[i].clip);
        llmdiff_request r = request(&cases[i]);
        if (strcmp(cases[i].name, "pndm") == 0) r.steps = 4; /* it takes no less */
        if (r.init_image_file) r.init_image_file = r.mask_file = path(r.init_image_file);
        llmdiff_result *free_run = draw(pack, &r);
        save(free_run, "@/own.safetensors");
        r.force_file = path("@/own.safetensors");
        llmdiff_result *forced = draw(pack, &r);
        const llmdiff_tensor *a, *b;
        size_t n = 0;
        while ((a = llmdiff_activation_at(free_run, n)) != NULL) {
            b = llmdiff_activation_at(forced, n++);
            if (!b || !same(a, b)) fail_msg("%s: %s differs", cases[i].name, a->name);
        }
        assert_null(llmdiff_activation_at(forced, n));
        assert_true(n > 50);
        assert_true(same_pixels(free_run, forced));
        assert_true(same(llmdiff_latents(free_run), llmdiff_latents(forced)));
        llmdiff_result_free(forced);
        llmdiff_result_free(free_run);
        llmdiff_close(pack);
    }
}

/* The names that differ between two runs, a blank after each. */
static void differing(const llmdiff_result *a, const llmdiff_result *b, char *out, size_t size) {
    const llmdiff_tensor *t;
    out[0] = '\0';
    for (size_t i = 0; (t = llmdiff_activation_at(a, i)) != NULL; i++) {
        size_t used = strlen(out);
        if (!same(t, llmdiff_activation_at(b, i)) && used < size)
            snprintf(out + used, size - used, "%s ", t->name);
    }
}

/* The run's own values, but for one tensor, which is wrong. */
static llmdiff_result *with_one_wrong(const llmdiff_pack *pack, const llmdiff_result *right,
                                      const char *name) {
    StoredTensor list[512];
    size_t n = 0;
    const llmdiff_tensor *t;
    real *wrong = NULL;
    for (; (t = llmdiff_activation_at(right, n)) != NULL; n++) {
        static const Dtype dtypes[] = {DTYPE_F32, DTYPE_F64, DTYPE_I64};
        assert_true(n < 512);
        list[n] = (StoredTensor){.name = t->name,
                                 .dtype = dtypes[t->dtype],
                                 .ndim = t->ndim,
                                 .data = t->data,
                                 .bytes = bytes_of(t)};
        for (int i = 0; i < t->ndim; i++) list[n].dim[i] = t->dim[i];
        if (strcmp(t->name, name) != 0) continue;
        wrong = malloc(bytes_of(t));
        for (size_t i = 0; i < bytes_of(t) / sizeof(real); i++)
            wrong[i] =
                ((const real *)t->data)[i] * (real)1.5 + (real)(0.1 + 0.01 * (double)(i % 7));
        list[n].data = wrong;
    }
    assert_non_null(wrong);
    Error err = {0};
    if (safetensors_write(path("@/wrong.safetensors"), list, n, NULL, &err))
        fail_msg("%s", err.message);
    free(wrong);
    llmdiff_request r = request(&plain);
    r.force_file = path("@/wrong.safetensors");
    return draw(pack, &r);
}

#define DOWN "unet/0/cond/down_blocks.0."
#define BLOCK DOWN "attentions.0.transformer_blocks.0"

/* One wrong tensor in a file that is right otherwise: only the stages that read that very tensor err,
 * those behind them start from right values again. So the wrong values did reach the storage that the
 * run reads, and nobody else's. */
static void one_wrong_tensor_reaches_its_readers_alone(void **state) {
    (void)state;
    static const struct {
        const char *wrong, *readers;
    } expected[] = {
        {"llm/x.3", "llm/s_sentence.3 llm/s_word.3 llm/x.2 "},
        {"llm/s_sentence.2", "alg1/c.1 "},
        {"llm/s_word.2", "alg1/c.1 "},
        {"uncond/llm/s_word.2", "uncond/alg1/c.1 "},
        {"alg1/eps.2", "alg1/c.1 "},
        {"alg1/c.2", "alg1/c.1 "},
        {"alg1/c.0", "adapter/phi_c "},
        {"latents/0", "unet/0/sample latents/1 "},
        {"latents/1", "unet/1/sample latents/2 "},
        {"unet/0/sample", "unet/0/cond/conv_in unet/0/uncond/conv_in "},
        {BLOCK ".attn2/q", BLOCK ".attn2/original " BLOCK ".attn2/added "},
        {BLOCK ".attn2/original", BLOCK ".attn2/f "},
        {BLOCK ".attn2/added", BLOCK ".attn2/f "},
        {BLOCK ".attn2/f", BLOCK ".attn2 "},
        {BLOCK ".attn1", BLOCK ".attn2/q " BLOCK ".ff " BLOCK " "},
        {BLOCK ".attn2", BLOCK ".ff " BLOCK " "},
        {BLOCK ".ff", BLOCK " "},
        {"unet/0/cond/conv_out", "unet/0/cond/eps "},
        {"unet/0/cond/eps", "unet/0/eps "},
        {"unet/0/uncond/eps", "unet/0/eps "},
        {"unet/0/eps", "latents/1 "},
        {"latents/2", "vae/decoder/conv_in "},
        {"vae/decoder/conv_in", "vae/decoder/mid_block.resnets.0 "},
        {"vae/decoder/conv_out", "image "},
        {"image", ""},
    };
    llmdiff_pack *pack = open_pack(false);
    llmdiff_request r = request(&plain);
    llmdiff_result *right = draw(pack, &r);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        char found[4096];
        llmdiff_result *wrong = with_one_wrong(pack, right, expected[i].wrong);
        differing(right, wrong, found, sizeof found);
        if (strcmp(found, expected[i].readers) != 0)
            fail_msg("%s wrong: expected \"%s\", found \"%s\"", expected[i].wrong,
                     expected[i].readers, found);
        llmdiff_result_free(wrong);
    }
    llmdiff_result *wrong = with_one_wrong(pack, right, "image");
    assert_false(same_pixels(right, wrong)); /* the picture is what was forced */
    llmdiff_result_free(wrong);
    llmdiff_result_free(right);
    llmdiff_close(pack);
}

/* Every tensor is read by somebody behind it, but for these. */
static void every_forced_tensor_is_read(void **state) {
    (void)state;
    static const char *const read_by_nobody[] = {"llm/x.0", "uncond/llm/x.0", "image", NULL};
    llmdiff_pack *pack = open_pack(false);
    llmdiff_request r = request(&plain);
    llmdiff_result *right = draw(pack, &r);
    const llmdiff_tensor *t;
    size_t tried = 0;
    for (size_t i = 0; (t = llmdiff_activation_at(right, i)) != NULL; i++) {
        if (t->ndim == 0 || t->dtype == LLMDIFF_I64) continue;
        char found[4096];
        bool unread = false;
        for (int k = 0; read_by_nobody[k]; k++) unread |= !strcmp(t->name, read_by_nobody[k]);
        llmdiff_result *wrong = with_one_wrong(pack, right, t->name);
        differing(right, wrong, found, sizeof found);
        if (unread != !found[0]) fail_msg("%s wrong: \"%s\" differ", t->name, found);
        assert_true(same(t, llmdiff_activation_at(wrong, i))); /* seen as computed, not as forced */
        llmdiff_result_free(wrong);
        tried++;
    }
    assert_true(tried > 100);
    llmdiff_result_free(right);
    llmdiff_close(pack);
}

/* A preview decodes under the names of the picture itself, and must not be forced with its values. */
typedef struct Previews {
    uint8_t rgb[3 * 64 * 64];
    int seen;
} Previews;

static int see_preview(void *user, int64_t done, int64_t of, const llmdiff_result *picture) {
    Previews *p = user;
    (void)done, (void)of;
    assert_true(llmdiff_width(picture) * llmdiff_height(picture) <= 64 * 64);
    memcpy(p->rgb, llmdiff_rgb(picture),
           (size_t)(3 * llmdiff_width(picture) * llmdiff_height(picture)));
    p->seen++;
    return 0;
}

static void previews_are_not_forced(void **state) {
    (void)state;
    llmdiff_pack *pack = open_pack(false);
    llmdiff_request r = request(&plain);
    static Previews free_ones, forced_ones;
    r.preview_every = 1;
    r.preview = see_preview;
    r.user = &free_ones;
    llmdiff_result *free_run = draw(pack, &r);
    save(free_run, "@/own.safetensors");
    r.force_file = path("@/own.safetensors");
    r.user = &forced_ones;
    llmdiff_result *forced = draw(pack, &r);
    assert_int_equal(free_ones.seen, 1);
    assert_memory_equal(&free_ones, &forced_ones, sizeof free_ones);
    llmdiff_result_free(forced);
    llmdiff_result_free(free_run);
    llmdiff_close(pack);
}

/* ---- against upstream's values ------------------------------------------------------------------- */

/* Worst error of an activation, relative to the truth's largest magnitude. */
typedef struct Errors {
    const Safetensors *truth;
    double worst;
    char name[256];
    size_t compared;
} Errors;

static void compare(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    Errors *e = self;
    const StoredTensor *t = safetensors_find(e->truth, name);
    if (!t || ndim == 0) return;
    (void)dim;
    Error err = {0};
    int64_t n = stored_numel(t);
    double *truth = malloc((size_t)n * sizeof *truth), largest = 0, worst = 0;
    assert_int_equal(stored_to_double(t, truth, &err), 0);
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(truth[i]));
        worst = fmax(worst, fabs(truth[i] - (double)data[i]));
    }
    free(truth);
    e->compared++;
    if (largest > 0 && worst / largest > e->worst) {
        e->worst = worst / largest;
        snprintf(e->name, sizeof e->name, "%s", name);
    }
}

static Errors run_on_golden(bool forced) {
    Context ctx = {.threads = 1};
    Pack pack;
    pack_open(&pack, &(PackPaths){.model = MICRO}, PACK_GENERATE, &ctx.error);
    Safetensors *file = safetensors_open("golden/data/pipeline_whole.safetensors", &ctx.error);
    assert_context_ok(&ctx);
    Errors errors = {.truth = file};
    Observer observer = {compare, &errors};
    Force force = {.file = file};
    Forcing forcing = {force_from_file, &force};
    ctx.observer = &observer;
    if (forced) ctx.forcing = &forcing;
    Request r = request_default(&pack);
    r.prompt = safetensors_metadata(file, "prompt");
    r.prompt_length = strlen(r.prompt);
    r.steps = 3;
    r.noise = file;
    Picture picture;
    generate(&ctx, &pack, &r, &picture);
    assert_context_ok(&ctx);
    assert_int_equal(force.forced, forced ? errors.compared : 0);
    picture_free(&picture);
    safetensors_close(file);
    pack_close(&pack);
    context_free(&ctx);
    errors.truth = NULL;
    return errors;
}

/* Forced by upstream's float64 values, every stage starts right, and no error grows from the stage
 * before it. */
static void forced_errors_are_those_of_one_stage(void **state) {
    (void)state;
    Errors free_run = run_on_golden(false), forced = run_on_golden(true);
    print_message("[ %-8s ] worst error free %.2g (%s), forced %.2g (%s)\n", REAL_NAME,
                  free_run.worst, free_run.name, forced.worst, forced.name);
    assert_true(forced.compared == free_run.compared && forced.compared > 100);
    assert_true(forced.worst > 0);
    assert_true(forced.worst < (sizeof(real) == 8 ? 3e-15 : 1.5e-6));
    assert_true(forced.worst < free_run.worst);
}

/* ---- types, and what is wrong with a file -------------------------------------------------------- */

/* The final latents are what the file says, exactly, whatever type it is stored in. */
static void every_float_type_is_read(void **state) {
    (void)state;
    enum { N = 4 * 8 * 8 };
    static uint16_t half[N], bfloat[N];
    static float single[N];
    static double wide[N];
    const int64_t dim[3] = {4, 8, 8};
    for (int i = 0; i < N; i++) {
        wide[i] = (double)(i % 16 - 8) / 8; /* exact in all of them */
        single[i] = (float)wide[i];
        uint32_t bits;
        memcpy(&bits, &single[i], sizeof bits);
        bfloat[i] = (uint16_t)(bits >> 16);
        int exponent;
        double m = frexp(fabs(wide[i]), &exponent); /* m 2^exponent, 1/2 <= m < 1 */
        int magnitude = wide[i] == 0 ? 0 : (exponent + 14) << 10 | (int)(m * 2048 - 1024);
        half[i] = (uint16_t)(magnitude | (wide[i] < 0 ? 0x8000 : 0));
    }
    const void *data[] = {wide, single, half, bfloat};
    const Dtype dtypes[] = {DTYPE_F64, DTYPE_F32, DTYPE_F16, DTYPE_BF16};
    llmdiff_pack *pack = open_pack(false);
    llmdiff_request r = request(&plain);
    for (int k = 0; k < 4; k++) {
        put_tensor("latents/2", dtypes[k], 3, dim, data[k]);
        r.force_file = path("@/force.safetensors");
        llmdiff_result *result = draw(pack, &r);
        const real *z = llmdiff_latents(result)->data;
        for (int i = 0; i < N; i++)
            if ((double)z[i] != wide[i]) fail_msg("type %d: element %d is %g", k, i, (double)z[i]);
        llmdiff_result_free(result);
    }
    llmdiff_close(pack);
}

static void assert_fails(const llmdiff_pack *pack, const char *part) {
    llmdiff_request r = request(&plain);
    llmdiff_result *result;
    llmdiff_error error;
    r.force_file = path("@/force.safetensors");
    assert_int_equal(llmdiff_generate(pack, &r, &result, &error), LLMDIFF_FAILED);
    assert_null(result);
    assert_holds(error.message, "--force ");
    assert_holds(error.message, part);
}

static void wrong_files_are_named(void **state) {
    (void)state;
    static double numbers[64 * 64];
    llmdiff_pack *pack = open_pack(false);
    put_tensor("unet/1/cond/conv_in", DTYPE_F64, 3, (int64_t[]){8, 8, 16}, numbers);
    assert_fails(pack, "force.safetensors: tensor \"unet/1/cond/conv_in\": expected shape [16, 8, "
                       "8], found [8, 8, 16]");
    put_tensor("unet/0/cond/eps", DTYPE_F64, 4, (int64_t[]){1, 4, 8, 8}, numbers);
    assert_fails(pack, "expected shape [4, 8, 8], found [1, 4, 8, 8]");
    put_tensor("latents/1", DTYPE_I64, 3, (int64_t[]){4, 8, 8}, numbers);
    assert_fails(pack, "tensor \"latents/1\": expected floating-point numbers, found I64");
    numbers[200] = NAN;
    put_tensor("latents/1", DTYPE_F64, 3, (int64_t[]){4, 8, 8}, numbers);
    assert_fails(pack, "tensor \"latents/1\": expected finite numbers, found nan");
    numbers[200] = 1e39; /* too large for a float */
    put_tensor("latents/1", DTYPE_F64, 3, (int64_t[]){4, 8, 8}, numbers);
    if (sizeof(real) == 4) assert_fails(pack, "expected finite numbers, found 1e+39");
    numbers[200] = 0;
    put_tensor("latents/7", DTYPE_F64, 3, (int64_t[]){4, 8, 8}, numbers);
    assert_fails(pack, "expected names of activations, found none that occurs in this run");
    put_tensor("ids", DTYPE_I64, 1, (int64_t[]){64}, numbers); /* ids are never forced */
    assert_fails(pack, "expected names of activations, found none");
    put_tensor("unet/0/t", DTYPE_F64, 0, NULL, numbers); /* nor are single numbers */
    assert_fails(pack, "expected names of activations, found none");
    llmdiff_close(pack);
}

/* The same by the command line, before anything is computed where that is possible. */
static void the_command_line_forces(void **state) {
    (void)state;
    assert_error_holds(GENERATE("--force", "@/none.safetensors"), 1,
                       "@/none.safetensors: can't be opened");
    put_text("@/bad.safetensors", "no tensors here");
    assert_error_holds(GENERATE("--force", "@/bad.safetensors"), 1, "not a safetensors file");
    assert_error_holds(RUN("encode", "-m", MICRO, "-p", "x", "-o", "@/c.safetensors", "--force",
                           "@/bad.safetensors"),
                       1, "not a safetensors file");
    assert_directory("bad.safetensors ");

    Result r = RUN("encode", "-m", MICRO, "-p", "a red circle", "--noise",
                   "golden/data/pipeline_whole.safetensors", "--force",
                   "golden/data/pipeline_whole.safetensors", "-o", "@/c.safetensors", "--quiet");
    assert_int_equal(r.code, 0);
    Error err = {0};
    Safetensors *truth = safetensors_open("golden/data/pipeline_whole.safetensors", &err);
    Safetensors *c = safetensors_open(path("@/c.safetensors"), &err);
    assert_false(err.set);
    assert_string_equal(safetensors_metadata(c, "force"), "golden/data/pipeline_whole.safetensors");
    double a[8 * 40], b[8 * 40], worst = 0;
    assert_int_equal(stored_to_double(safetensors_find(truth, "alg1/c.0"), a, &err), 0);
    assert_int_equal(stored_to_double(safetensors_find(c, "alg1/c.0"), b, &err), 0);
    for (int i = 0; i < 8 * 40; i++) worst = fmax(worst, fabs(a[i] - b[i]));
    assert_true(worst < (sizeof(real) == 8 ? 1e-14 : 2e-6));
    safetensors_close(c);
    safetensors_close(truth);
    assert_ok(GENERATE("--force", "golden/data/pipeline_whole.safetensors"));
    assert_holds(RUN("info", "@/x.png").out, "pipeline_whole.safetensors");
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, fresh_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        T(own_values_change_nothing),
        T(one_wrong_tensor_reaches_its_readers_alone),
        T(every_forced_tensor_is_read),
        T(previews_are_not_forced),
        T(forced_errors_are_those_of_one_stage),
        T(every_float_type_is_read),
        T(wrong_files_are_named),
        T(the_command_line_forces),
    };
    return cmocka_run_group_tests_name("forcing", tests, NULL, NULL);
}
