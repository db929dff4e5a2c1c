/* Every allocation fails once: loading, encoding, drawing, writing, reading, a fresh adapter.
 *
 * Each part below is run once to number its allocations and to tell their sites apart (a site is the
 * stack of calls that leads to it, all the way up). Then each site's first allocation and some later
 * ones fail: alone, and with all that follow. Every time: the part fails and says that memory ran out,
 * nothing stays allocated, no file is left that is not whole; and the same part, run again in the same
 * process, makes the same bytes. Only libc, utf8proc and libjpeg may do without what they asked for: then the
 * bytes are the same at once.
 *
 * The arena takes its memory in few large blocks, so those are also made to fail at every place where
 * a picture needs more of it than ever before. */
#include "tests/faults.h"
#include "tests/scratch.h"

#include "ref/clip_text.h"
#include "ref/image.h"
#include "ref/llmdiff.h"
#include "ref/pipeline.h"
#include "ref/train/augment.h"
#include "ref/train/dataset.h"
#include "ref/yardstick/yardstick.h"
#include "weights/file.h"
#include "ref/yardstick/kit.h"
#include "weights/npy.h"

static const char prompt[] = "A red circle \xff beside\ta    blue cafe\xcc\x81, 1234567890, "
                             "unbelievablyunbelievablyunbelievably"
                             "unbelievablyunbelievably<|endoftext|>";
#define SETS "golden/data/dataset/"
static Pack shared;   /* the models, for the parts that are not about loading */
static Pack baseline; /* CLIP in place of LLM and adapter */

/* ---- what a part made ---------------------------------------------------------------------------- */

static void mix(uint64_t *digest, const void *data, size_t size) {
    const unsigned char *p = data;
    for (size_t i = 0; i < size; i++) *digest = (*digest ^ p[i]) * 0x100000001B3u;
}

static void mix_text(uint64_t *digest, const char *text) {
    if (text) mix(digest, text, strlen(text) + 1);
}

static void mix_model(uint64_t *digest, const ModelDir *m) {
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        const StoredTensor *t = model_tensor_at(m, i);
        mix_text(digest, t->name);
        mix(digest, t->data, t->bytes < 64 ? t->bytes : 64);
    }
}

/* ---- the parts ----------------------------------------------------------------------------------- */

typedef struct Part {
    const char *name;
    void (*run)(const char *what, Error *err, uint64_t *digest);
    const char *what; /* a directory, or NULL */
} Part;

static void mix_pack(uint64_t *digest, const Pack *p) {
    mix_model(digest, p->llm->files);
    mix_model(digest, p->adapter->files);
    const Weight *a2 = p->adapter->layer[1].blend.a2;
    mix(digest, a2->data, dtype_size(a2->dtype));
    if (!p->unet) return;
    mix_model(digest, p->unet->files);
    mix_model(digest, p->vae->files);
    mix(digest, &p->unet->cross_layers, sizeof p->unet->cross_layers);
    mix(digest, p->schedule->alphas_cumprod,
        (size_t)p->schedule->train_steps * sizeof *p->schedule->alphas_cumprod);
    for (int64_t i = 0; i < tokenizer_size(p->tokenizer); i++)
        if (tokenizer_piece(p->tokenizer, i)) mix_text(digest, tokenizer_piece(p->tokenizer, i));
}

static void load(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    static const char *const set[] = {"a2=0.5", "normalize=rms", "blocks=[0, 1]"};
    Pack pack;
    PackPaths paths = {.model = "golden/micro", .set = set, .sets = 3};
    if (pack_open(&pack, &paths, PACK_GENERATE, err)) return;
    mix_pack(digest, &pack);
    pack_close(&pack);
}

static void open_baseline(Pack *pack, Error *err) {
    PackPaths paths = {.model = scratch("in/baseline"), .conditioner = CONDITIONER_CLIP};
    pack_open(pack, &paths, PACK_GENERATE, err);
}

static void load_baseline(const char *what, Error *err, uint64_t *digest) {
    Pack pack;
    (void)what;
    open_baseline(&pack, err);
    if (err->set) return;
    mix_model(digest, pack.clip->files);
    pack_close(&pack);
}

/* A layout that golden/micro has not: tensors in a shard behind an index. */
static void load_shards(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    Adapter *a = adapter_load(scratch("in/sharded"), shared.llm, shared.unet, NULL, 0, err);
    if (!a) return;
    mix_model(digest, a->files);
    adapter_free(a);
}

static void load_llm(const char *what, Error *err, uint64_t *digest) {
    Llm *llm = llm_load(what, err);
    if (!llm) return;
    mix_model(digest, llm->files);
    llm_free(llm);
}

static void clip_text(const char *what, Error *err, uint64_t *digest) {
    static const int64_t ids[4] = {1, 2, 3, 4};
    ClipText *clip = clip_text_load(what, err);
    if (!clip) return;
    Context ctx = {.threads = 1};
    Tensor c = clip_text_encode(&ctx, clip, ids, 4, 1, "");
    if (c.data) mix(digest, c.data, (size_t)tensor_numel(c) * sizeof(real));
    *err = ctx.error;
    context_free(&ctx);
    clip_text_free(clip);
}

static void there_and_back(const Tokenizer *t, bool bos, Error *err, uint64_t *digest) {
    TokenIds ids;
    size_t length;
    if (tokenizer_encode(t, prompt, strlen(prompt), bos, &ids, err)) return;
    mix(digest, ids.id, ids.count * sizeof *ids.id);
    char *back = tokenizer_decode(t, ids.id, ids.count, &length, err);
    if (back) mix(digest, back, length);
    free(back);
    token_ids_free(&ids);
}

static void tokenizer(const char *what, Error *err, uint64_t *digest) {
    Tokenizer *t = tokenizer_open(what, err);
    if (!t) return;
    for (int64_t i = 0; i < tokenizer_size(t); i++)
        if (tokenizer_piece(t, i)) mix_text(digest, tokenizer_piece(t, i));
    there_and_back(t, tokenizer_bos(t) >= 0, err, digest);
    tokenizer_close(t);
}

static void text(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    there_and_back(shared.tokenizer, true, err, digest);
}

/* Algorithm 1 alone. */
static void encoding(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    Context ctx = {.threads = 1};
    Noise langevin = {rng_seed(7), NULL};
    Tensor c = encode(&ctx, &shared, prompt, strlen(prompt), &langevin, "");
    if (c.data) mix(digest, c.data, (size_t)tensor_numel(c) * sizeof(real));
    *err = ctx.error;
    context_free(&ctx);
}

/* From noise, as small as can be. */
static Request small_request(void) {
    Request r = request_default(&shared);
    r.prompt = prompt;
    r.prompt_length = strlen(prompt);
    r.sampler = SAMPLER_DDIM;
    r.width = r.height = shared.vae->factor;
    r.steps = 2;
    r.eta = 0.5;
    return r;
}

static void see_preview(void *self, int64_t done, int64_t of, const Picture *seen) {
    (void)done, (void)of;
    mix(self, seen->rgb, (size_t)(seen->width * seen->height * 3));
}

/* From a picture, in part, in tiles, with a look at it half-way. */
static Request retouching_request(uint64_t *digest) {
    static uint8_t from[24 * 16 * 3], mask[24 * 16];
    for (size_t i = 0; i < sizeof from; i++) from[i] = (uint8_t)(i * 7);
    memset(mask, 255, sizeof mask / 2);
    Request r = small_request();
    r.sampler = SAMPLER_DPMPP_2M;
    r.width = 24; /* a tile is 16 x 16 */
    r.height = 16;
    r.init_image = from;
    r.mask = mask;
    r.strength = 1;
    r.vae_tiling = true;
    r.preview_every = 1;
    r.preview = see_preview;
    r.preview_self = digest;
    return r;
}

static void draw(Context *ctx, const Pack *pack, const Request *r, uint64_t *digest) {
    Picture drawn;
    if (generate(ctx, pack, r, &drawn)) {
        assert_null(drawn.rgb);
        assert_null(drawn.latents);
        return;
    }
    size_t latents =
        (size_t)drawn.latent_dim[0] * (size_t)drawn.latent_dim[1] * (size_t)drawn.latent_dim[2];
    mix(digest, drawn.rgb, (size_t)(drawn.width * drawn.height * 3));
    mix(digest, drawn.latents, latents * sizeof(real));
    picture_free(&drawn);
}

static void picture(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    Context ctx = {.threads = 1};
    Request r = small_request();
    draw(&ctx, &shared, &r, digest);
    *err = ctx.error;
    context_free(&ctx);
}

static void baseline_picture(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    Context ctx = {.threads = 1};
    Request r = small_request();
    draw(&ctx, &baseline, &r, digest);
    *err = ctx.error;
    context_free(&ctx);
}

static void retouching(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    Context ctx = {.threads = 1};
    Request r = retouching_request(digest);
    draw(&ctx, &shared, &r, digest);
    *err = ctx.error;
    context_free(&ctx);
}

/* All of them, with half the latents for the U-Net's answer. */
static void samplers(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    Context ctx = {.threads = 1};
    for (SamplerKind kind = SAMPLER_OWN + 1; kind < SAMPLER_KINDS && !ctx.error.set; kind++) {
        Rng rng = rng_seed(kind);
        Sampler *s = sampler_new(shared.schedule, kind, 4, 0.5, &ctx.error);
        Tensor x = TENSOR_NEW(&ctx, 1, 2, 2, 4), noise = TENSOR_NEW(&ctx, 1, 2, 2, 4);
        if (noise.data) rng_normal(&rng, x.data, 16), rng_normal(&rng, noise.data, 16);
        for (int64_t i = 0; !ctx.error.set && i < sampler_evaluations(s); i++) {
            Tensor m = scale(&ctx, sampler_scale_input(&ctx, s, i, x), 0.5);
            x = sampler_step(&ctx, s, i, m, x, sampler_wants_noise(s, i) ? noise : (Tensor){0});
        }
        if (!ctx.error.set) mix(digest, x.data, 16 * sizeof(real));
        sampler_free(s);
    }
    *err = ctx.error;
    context_free(&ctx);
}

/* Something of everything that is written. */
static const uint8_t pixels[4 * 5 * 3] = {255, 0, 0, 17, 18, 19, 1, 2, 3};
static const float numbers[6] = {1, 2, 3, 4, 5, 6};
static const char *const words[] = {"prompt", "a red\ncircle", "seed", "42", NULL};

static void outputs(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    (void)digest; /* the files are compared by themselves */
    const StoredTensor t[2] = {{"a", DTYPE_F32, 2, {2, 3}, numbers, sizeof numbers},
                               {"b", DTYPE_F32, 0, {0}, numbers, sizeof numbers[0]}};
    if (safetensors_write(scratch("out/t.safetensors"), t, 2, words, err)) return;
    if (npy_write(scratch("out/t.npy"), DTYPE_F32, 2, t[0].dim, numbers, err)) return;
    image_write_png(scratch("out/t.png"), pixels, 4, 5, words, err);
}

static void read_npy(const char *path, Error *err, uint64_t *digest) {
    Npy a;
    if (err->set || npy_read(path, &a, err)) return;
    mix(digest, a.data, 6 * sizeof *a.data);
    npy_free(&a);
}

static void read_png(const char *path, Error *err, uint64_t *digest) {
    ImageInfo info;
    int64_t w, h;
    if (err->set || image_read_info(path, &info, err)) return;
    for (size_t i = 0; info.text[i]; i++) mix_text(digest, info.text[i]);
    image_info_free(&info);
    uint8_t *rgb = image_read(path, &w, &h, err);
    uint8_t *larger = rgb ? image_resize(rgb, w, h, 3, 7, 9, err) : NULL;
    if (larger) mix(digest, larger, 7 * 9 * 3);
    free(larger);
    free(rgb);
}

/* Every kind of picture, turned and not. */
static void pictures(const char *what, Error *err, uint64_t *digest) {
    static const char *const name[] = {"420.jpg",     "progressive.jpg", "cmyk.jpg",
                                       "turned6.jpg", "turned6.png",     "palette_clear.png"};
    (void)what;
    for (size_t i = 0; i < sizeof name / sizeof name[0] && !err->set; i++) {
        char path[128];
        int64_t w, h;
        snprintf(path, sizeof path, "golden/data/dataset/pictures/%s", name[i]);
        uint8_t *rgb = image_read(path, &w, &h, err);
        if (rgb) mix(digest, rgb, (size_t)(w * h * 3));
        free(rgb);
    }
}

/* Lack of memory must not make a sample a broken one: five might be. */
static void data_set(const char *what, Error *err, uint64_t *digest) {
    const DatasetOptions o = {.dir = what, .seed = 1, .buffer = 3, .max_bad_samples = 5};
    const Augment a = {.resolution = 8};
    real out[8 * 8 * 3];
    void *position = NULL;
    size_t size = 0;
    Sample s;
    Dataset *d = dataset_open(&o, err);
    for (int i = 0; d && i < 9 && !err->set; i++) {
        if (i == 4 && dataset_save(d, &position, &size, err) == 0) {
            dataset_close(d);
            d = dataset_open(&o, err);
            if (!d || dataset_restore(d, position, size, err)) break;
        }
        if (err->set || dataset_next(d, &s, err) <= 0) continue;
        Augmentation p = augment_plan(&a, s.width, s.height, s.index);
        if (augment_apply(&a, &p, s.rgb, s.width, s.height, out, err) == 0)
            mix(digest, out, sizeof out);
        mix_text(digest, s.id);
        mix_text(digest, s.caption);
        sample_free(&s);
    }
    free(position);
    dataset_close(d);
}

static void inputs(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    Safetensors *s = safetensors_open(scratch("in/t.safetensors"), err);
    if (!s) return;
    for (size_t i = 0; i < safetensors_count(s); i++)
        mix(digest, safetensors_at(s, i)->data, safetensors_at(s, i)->bytes);
    mix_text(digest, safetensors_metadata(s, "prompt"));
    safetensors_close(s);
    read_npy(scratch("in/t.npy"), err, digest);
    read_npy(scratch("in/fortran.npy"), err, digest);
    read_png(scratch("in/t.png"), err, digest);
}

/* Written, and read again. */
static void fresh_adapter(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    Settings s = settings_default();
    s.all_layers = false;
    for (int i = 0; i < 2; i++)
        snprintf(s.layers + strlen(s.layers), sizeof s.layers - strlen(s.layers), "%s\n",
                 shared.unet->cross[i].name);
    s.first = 0;
    s.last = 1;
    if (adapter_init(scratch("out/adapter"), shared.llm, shared.unet, &s, 3, err) < 0) return;
    Adapter *a = adapter_load(scratch("out/adapter"), shared.llm, shared.unet, NULL, 0, err);
    if (!a) return;
    mix_model(digest, a->files);
    mix_text(digest, a->settings.layers);
    adapter_free(a);
}

/* Pictures of errors; the texts grow, the pixels are a PNG. */
static void report_page(const char *what, Error *err, uint64_t *digest) {
    static char title[] = "compare", name[] = "latents/0", hint[] = "zeros";
    static double ref[12] = {1, 2, 3}, mine[12] = {1, 2};
    const TensorInfo t = {.ndim = 3, .dim = {2, 2, 3}, .count = 12};
    Row row[3];
    (void)what;
    for (int i = 0; i < 3; i++)
        row[i] = (Row){.name = name, .verdict = ROW_MISMATCH, .ref = t, .mine = t, .max_rel = 1};
    Report r = {.title = title, .reference = name, .mine = name, .row = row, .rows = 3};
    r.worst_ref = ref;
    r.worst_mine = mine;
    r.hint[0] = hint;
    r.hints = 1;
    report_conclude(&r);
    char *page = report_html(&r, err), *picture_alone = err->set ? NULL : report_svg(&r, err);
    assert_true(err->set || (page && picture_alone));
    mix_text(digest, page);
    mix_text(digest, picture_alone);
    free(page);
    free(picture_alone);
}

/* ---- the same by the library's header ------------------------------------------------------------- */

static llmdiff_pack *library_pack; /* golden/micro, for the parts that are not about opening */

/* Lack of memory is never the caller's mistake. */
static bool well(llmdiff_status status, const llmdiff_error *e, Error *err) {
    if (status != LLMDIFF_OK) fail(err, "%s", e->message);
    assert_true(status == LLMDIFF_OK || status == LLMDIFF_FAILED);
    return status == LLMDIFF_OK;
}

static void library_open(const char *what, Error *err, uint64_t *digest) {
    static const char *const set[] = {"a2=0.5", "normalize=rms"};
    llmdiff_options o = {.size = sizeof o,
                         .model = "golden/micro",
                         .llm = "golden/micro/llm",
                         .adapter = scratch("in/fresh"),
                         .set = set,
                         .sets = 2};
    llmdiff_pack *pack;
    llmdiff_error e;
    (void)what;
    bool open = well(llmdiff_open(&o, &pack, &e), &e, err);
    assert_true(open == (pack != NULL));
    if (!open) return;
    mix_text(digest, llmdiff_settings(pack));
    mix_text(digest, llmdiff_note(pack, 0)); /* never trained */
    llmdiff_close(pack);
}

static void mix_result(uint64_t *digest, const llmdiff_result *r) {
    const llmdiff_tensor *t;
    const char *key, *value;
    for (size_t i = 0; (t = llmdiff_activation_at(r, i)); i++) mix_text(digest, t->name);
    for (size_t i = 0; llmdiff_text_at(r, i, &key, &value); i++) mix_text(digest, value);
}

static void library_encode(const char *what, Error *err, uint64_t *digest) {
    llmdiff_request q;
    llmdiff_result *r;
    llmdiff_error e;
    int64_t *ids;
    size_t count;
    (void)what;
    llmdiff_request_default(&q, sizeof q);
    q.prompt = prompt;
    q.threads = 1;
    llmdiff_status status =
        llmdiff_tokenize(library_pack, prompt, strlen(prompt), &ids, &count, &e);
    if (!well(status, &e, err)) return;
    mix(digest, ids, count * sizeof *ids);
    llmdiff_free(ids);
    if (!well(llmdiff_encode(library_pack, &q, &r, &e), &e, err)) {
        assert_null(r);
        return;
    }
    mix_result(digest, r);
    llmdiff_result_free(r);
}

/* Traced and forced. Without trace_only: glibc's regcomp leaks where it gets no memory. */
static void library_trace(const char *what, Error *err, uint64_t *digest) {
    llmdiff_request q;
    llmdiff_result *r = NULL;
    llmdiff_error e;
    (void)what;
    llmdiff_request_default(&q, sizeof q);
    q.prompt = "a square";
    q.threads = 1;
    q.force_file = scratch("in/force.safetensors");
    q.trace_file = scratch("out/t.safetensors");
    if (well(llmdiff_encode(library_pack, &q, &r, &e), &e, err)) mix_result(digest, r);
    llmdiff_result_free(r);
}

static void library_draw(const char *what, Error *err, uint64_t *digest) {
    static const char *const keep[] = {"latents/*", "ids", NULL}, *const one[] = {"latents/2",
                                                                                  NULL};
    llmdiff_request q;
    llmdiff_result *r = NULL;
    llmdiff_error e;
    (void)what;
    llmdiff_request_default(&q, sizeof q);
    q.prompt = prompt;
    q.threads = 1;
    q.sampling_method = "ddim";
    q.width = q.height = shared.vae->factor;
    q.steps = 2;
    q.eta = 0.5;
    q.keep = keep;
    q.init_latents_file = scratch("in/latents.npy");
    if (well(llmdiff_check(library_pack, &q, &e), &e, err) &&
        well(llmdiff_generate(library_pack, &q, &r, &e), &e, err) &&
        well(llmdiff_save_png(r, scratch("out/p.png"), &e), &e, err) &&
        well(llmdiff_save_tensors(r, scratch("out/p.safetensors"), NULL, &e), &e, err) &&
        well(llmdiff_save_tensors(r, scratch("out/p.npy"), one, &e), &e, err)) {
        mix(digest, llmdiff_rgb(r), (size_t)(llmdiff_width(r) * llmdiff_height(r) * 3));
        mix_result(digest, r);
    }
    llmdiff_result_free(r);
}

static int see_result(void *user, int64_t done, int64_t of, const llmdiff_result *r) {
    (void)done, (void)of;
    mix(user, llmdiff_rgb(r), (size_t)(llmdiff_width(r) * llmdiff_height(r) * 3));
    return 0;
}

/* From a PNG, where another one says so, by every file and callback that drawing by noise has not. */
static void library_retouch(const char *what, Error *err, uint64_t *digest) {
    llmdiff_request q;
    llmdiff_result *r = NULL;
    llmdiff_error e;
    (void)what;
    llmdiff_request_default(&q, sizeof q);
    q.prompt = "a square";
    q.threads = 1;
    q.sampling_method = "dpm++2m";
    q.width = q.height = shared.vae->factor;
    q.steps = 2;
    q.init_image_file = scratch("in/t.png");
    q.mask_file = scratch("in/t.png");
    q.preview_every = 1;
    q.preview = see_result;
    q.user = digest;
    if (well(llmdiff_generate(library_pack, &q, &r, &e), &e, err))
        mix(digest, llmdiff_rgb(r), (size_t)(llmdiff_width(r) * llmdiff_height(r) * 3));
    llmdiff_result_free(r);
}

static void library_describe(const char *what, Error *err, uint64_t *digest) {
    char *found;
    llmdiff_error e;
    llmdiff_status status = llmdiff_describe(what, 1, &found, &e);
    if (well(status, &e, err)) mix_text(digest, found);
    llmdiff_free(found); /* also of a failure: what was found before it */
}

static void library_describe_files(const char *what, Error *err, uint64_t *digest) {
    static const char *const file[] = {"in/t.safetensors", "in/t.npy", "in/t.png"};
    (void)what;
    for (int i = 0; i < 3 && !err->set; i++) library_describe(scratch(file[i]), err, digest);
}

static void library_init_adapter(const char *what, Error *err, uint64_t *digest) {
    static const char *const set[] = {"layers=null"};
    llmdiff_options o = {.size = sizeof o, .model = "golden/micro", .set = set, .sets = 1};
    llmdiff_error e;
    int64_t parameters;
    (void)what;
    llmdiff_status status = llmdiff_init_adapter(&o, scratch("out/adapter"), 3, &parameters, &e);
    if (well(status, &e, err)) mix(digest, &parameters, sizeof parameters);
}

/* Every way to open a file of tensors, other names, hints, and the report in every form. No --only:
 * glibc's regcomp leaks what it had when it runs out of memory. */
static void comparing(const char *what, Error *err, uint64_t *digest) {
    typedef llmdiff_status (*Telling)(const llmdiff_report *, char **, llmdiff_error *);
    static const Telling tell[] = {llmdiff_report_json, llmdiff_report_html, llmdiff_report_svg};
    llmdiff_compare_options o;
    llmdiff_report *report;
    llmdiff_error e;
    char *found;
    llmdiff_compare_default(&o, sizeof o);
    o.reference = what ? scratch("in/ours.safetensors") : scratch("in/t.npy");
    o.mine = what ? what : scratch("in/fortran.npy");
    o.map_file = scratch("in/map.json");
    if (!well(llmdiff_compare(&o, &report, &e), &e, err)) {
        assert_null(report);
        return;
    }
    assert_int_equal(llmdiff_report_code(report), LLMDIFF_CODE_MISMATCH);
    if (well(llmdiff_report_text(report, 1, &found, &e), &e, err)) {
        mix_text(digest, found);
        well(llmdiff_save_text(found, scratch("out/r.txt"), &e), &e, err);
        llmdiff_free(found);
    }
    for (int i = 0; i < 3 && !err->set; i++)
        if (well(tell[i](report, &found, &e), &e, err)) {
            mix_text(digest, found);
            llmdiff_free(found);
        }
    llmdiff_report_free(report);
}

static void trace_as_kit(const char *what, Error *err, uint64_t *digest) {
    (void)what;
    Kit *kit = kit_of_trace(scratch("in/ours.safetensors"), "golden/micro", err);
    if (!kit) return;
    char *parameters = cJSON_PrintUnformatted(kit->json);
    if (parameters)
        mix_text(digest, parameters);
    else
        fail(err, "out of memory");
    free(parameters);
    for (size_t i = 0; i < kit->group->cases->outputs; i++)
        mix_text(digest, kit->group->cases->output[i].stored);
    kit_close(kit);
}

/* ---- the files it left --------------------------------------------------------------------------- */

typedef struct Listing {
    char name[8][64];
    uint64_t hash[8];
    int count;
} Listing;

/* Directories are entries too: an empty one is not whole either. */
static void list_files(const char *below, Listing *all) {
    char dir[256], name[64];
    snprintf(dir, sizeof dir, "%s/out%s", scratch_dir, below);
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(name, sizeof name, "%.20s/%.40s", below, e->d_name);
        assert_true(all->count < 8);
        int i = all->count++;
        strcpy(all->name[i], name);
        all->hash[i] = 0;
        snprintf(dir, sizeof dir, "%s/out%s", scratch_dir, name);
        if (is_directory(dir)) {
            list_files(name, all);
            continue;
        }
        size_t size;
        Error err = {0};
        char *bytes = file_read(dir, &size, &err);
        assert_non_null(bytes);
        mix(&all->hash[i], bytes, size);
        free(bytes);
    }
    closedir(d);
}

/* What is there is whole, and an adapter has both its files or isn't there. */
static bool only_whole_files(const Listing *found, const Listing *whole) {
    int in_adapter = 0;
    for (int i = 0; i < found->count; i++) {
        int j = 0;
        while (j < whole->count && strcmp(found->name[i], whole->name[j]) != 0) j++;
        if (j == whole->count || found->hash[i] != whole->hash[j]) return false;
        in_adapter += strncmp(found->name[i], "/adapter", 8) == 0;
    }
    return in_adapter == 0 || in_adapter == 3;
}

/* ---- one run ------------------------------------------------------------------------------------- */

typedef struct Outcome {
    Error err;
    uint64_t digest;
    Listing files;
    Faults faults;
} Outcome;

static size_t under_way; /* the allocation that fails in this run; 0 between runs */

static Outcome run(const Part *part, FaultMode mode, size_t k) {
    static Outcome o; /* an Error is large */
    o = (Outcome){.digest = 0};
    under_way = k;
    faults_begin(mode, k);
    part->run(part->what, &o.err, &o.digest);
    o.faults = faults_end();
    under_way = 0;
    list_files("", &o.files);
    scratch_entries(scratch("out"), true);
    return o;
}

static const char *wrong_when_good(const Outcome *o, const Outcome *good) {
    if (o->err.set) return "an error";
    if (o->digest != good->digest) return "other results";
    if (o->files.count != good->files.count || !only_whole_files(&o->files, &good->files))
        return "other files";
    if (o->faults.live) return "a leak";
    return NULL;
}

/* What was wrong with a run in which allocations failed, or NULL. */
static const char *wrong_when_failed(const Outcome *o, const Outcome *good) {
    if (o->faults.failed == 0) return "nothing failed: not the same run";
    if (o->faults.live) return "a leak";
    if (o->faults.failed_hard == 0 && !o->err.set) return wrong_when_good(o, good);
    if (!o->err.set) return "no error";
    if (!strstr(o->err.message, "out of memory") &&
        !strstr(o->err.message, "Cannot allocate memory"))
        return "an error that says nothing of memory";
    if (!only_whole_files(&o->files, &good->files)) return "a file that is not whole";
    return NULL;
}

/* ---- every site ---------------------------------------------------------------------------------- */

typedef struct Pick {
    size_t k;
    FaultMode mode;
} Pick;

#ifdef __SANITIZE_ADDRESS__
enum { FEW = 100, LATER = 1 }; /* it takes four times as long */
#else
enum { FEW = 400, LATER = 2 };
#endif

/* What to make fail, in both modes: every allocation where there are few (or LLMDIFF_FAULTS=all is set:
 * minutes), else each site's first and some of its later ones. The caller frees the list. */
static Pick *pick(size_t count, size_t *picks, size_t *sites) {
    const bool every = count <= FEW || getenv("LLMDIFF_FAULTS");
    Rng rng = rng_seed(count);
    Pick *all = malloc(2 * (LATER + 1) * (count + 1) * sizeof *all);
    bool *seen = calloc(count + 1, sizeof *seen);
    assert_true(all && seen);
    *picks = *sites = 0;
    for (size_t k = 1; k <= count; k++) {
        bool first = !seen[k];
        size_t chosen[LATER + 1] = {k}, same = 0;
        *sites += first;
        for (size_t j = k + 1; first && j <= count; j++) {
            if (faults_site(j) != faults_site(k)) continue;
            seen[j] = true;
            float u; /* each of them as likely as the others to be among the chosen */
            rng_uniform(&rng, 0, 1, &u, 1);
            size_t at = same < LATER ? same : (size_t)(u * (float)(same + 1));
            if (at < LATER) chosen[at + 1] = j;
            same++;
        }
        for (size_t i = 0; (first || every) && i <= LATER && chosen[i]; i++) {
            all[(*picks)++] = (Pick){chosen[i], FAIL_ONE};
            all[(*picks)++] = (Pick){chosen[i], FAIL_FROM};
            if (every) break;
        }
    }
    free(seen);
    return all;
}

/* Runs it again so that the stack of the allocation is printed. */
static void complain_about(const Part *part, const Pick *p, const char *wrong, const Outcome *o) {
    size_t k = o->faults.live ? faults_leaked() : p->k;
    print_error("allocation %zu failed%s: %s\n", p->k,
                p->mode == FAIL_FROM ? ", and all after" : "", wrong);
    print_error("message: %s\n%s, at\n", o->err.set ? o->err.message : "none",
                o->faults.live ? "left behind" : "failed");
    faults_show(k);
    run(part, p->mode, p->k);
}

static size_t all_sites, all_failures;

static void every_site(void **state) {
    const Part *part = *state;
    Outcome good = run(part, FAIL_NONE, 0); /* also OpenBLAS's and libgomp's first time */
    if (good.err.set) fail_msg("%s", good.err.message);
    assert_true(good.files.count > 0 || good.digest != 0);
    Outcome all = run(part, RECORD, 0);
    assert_null(wrong_when_good(&all, &good));
    assert_int_equal(all.faults.other, 0);

    size_t picks, sites, bad = 0;
    Pick *todo = pick(all.faults.count, &picks, &sites);
    for (size_t i = 0; i < picks && bad < 10; i++) {
        Outcome o = run(part, todo[i].mode, todo[i].k);
        const char *wrong = wrong_when_failed(&o, &good);
        if (wrong) {
            complain_about(part, &todo[i], wrong, &o);
            bad++;
        }
        if (i % 2 == 0) continue; /* both ways first */
        o = run(part, FAIL_NONE, 0);
        wrong = wrong_when_good(&o, &good);
        if (wrong) fail_msg("allocation %zu had failed; the next run: %s", todo[i].k, wrong);
    }
    free(todo);
    if (bad) fail_msg("%zu failures were not survived", bad);
    print_message("    %zu allocations at %zu sites, %zu failures\n", all.faults.count, sites,
                  picks);
    all_sites += sites;
    all_failures += picks;
}

/* After a crash, which cmocka turns into a failed test: what it was that failed. */
static int name_crash(void **state) {
    (void)state;
    if (under_way) print_error("crashed when allocation %zu failed\n", under_way);
    under_way = 0;
    faults_end();
    scratch_entries(scratch("out"), true);
    return 0;
}

/* The checker itself: allocations of every library that makes some for us are numbered. */
static void libraries_are_watched(void **state) {
    (void)state;
    faults_begin(FAIL_ONE, 1);
    cJSON *json = cJSON_CreateNull();
    char *kept = malloc(1), *copy = strdup("x");
    Faults f = faults_end();
    assert_null(json);
    assert_non_null(kept);
    assert_int_equal(f.count, 3);
    assert_int_equal(f.live, 2);
    assert_int_equal(f.failed, 1);
    assert_int_equal(f.failed_hard, 1);
    free(kept);
    free(copy);
    Error err = {0};
    faults_begin(FAIL_NONE, 0);
    image_write_png(scratch("out/t.png"), pixels, 4, 5, NULL, &err);
    f = faults_end();
    assert_false(err.set);
    assert_true(f.count > 8); /* libpng's and zlib's */
    assert_int_equal(f.live, 0);
    scratch_entries(scratch("out"), true);
}

/* The numbering is of one thread's allocations. The others, which share a picture's work, make none. */
static void other_threads_allocate_nothing(void **state) {
    (void)state;
    uint64_t digest[2] = {0};
    for (int threads = 1; threads <= 2; threads++) {
        Context ctx = {.threads = threads};
        Request r = small_request();
        r.width = r.height = 32 * shared.vae->factor;
        Picture drawn;
        faults_begin(FAIL_NONE, 0);
        generate(&ctx, &shared, &r, &drawn);
        Faults f = faults_end();
        assert_context_ok(&ctx);
        assert_int_equal(f.other, 0);
        mix(&digest[threads - 1], drawn.rgb, (size_t)(drawn.width * drawn.height * 3));
        picture_free(&drawn);
        context_free(&ctx);
    }
    assert_true(digest[0] == digest[1]);
}

/* ---- the arena ----------------------------------------------------------------------------------- */

#ifdef __SANITIZE_ADDRESS__
enum { RED_ZONE = ARENA_ALIGN }; /* between allocations: tensor/arena.c */
#else
enum { RED_ZONE = 0 };
#endif

/* A context whose first block has `room` bytes left, as if a large picture had taken the rest. */
static Context crowded(size_t room) {
    Context ctx = {.threads = 1};
    assert_non_null(arena_alloc(&ctx.arena, ((size_t)16 << 20) - room - RED_ZONE));
    assert_int_equal(ctx.arena.first->size - ctx.arena.first->used, room);
    return ctx;
}

/* The room with which a run that failed gets past that place. */
static size_t room_needed(const Context *ctx, size_t filled, size_t room) {
    size_t wanted, in_use, needed = 0;
    if (sscanf(ctx->error.message, "out of memory: %zu bytes wanted, %zu in use", &wanted,
               &in_use) == 2)
        needed =
            in_use - filled + (wanted + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN + RED_ZONE;
    return needed > room ? needed : room + ARENA_ALIGN;
}

/* Wherever a picture needs more memory than ever before, there is none. Then there is some, and the
 * same context draws the same picture. Returns how many places there are. */
static size_t growth_fails(const Pack *pack, Request (*make)(uint64_t *digest)) {
    uint64_t good = 0, digest;
    Context ctx = {.threads = 1};
    Request r = make(&good);
    draw(&ctx, pack, &r, &good);
    assert_context_ok(&ctx);
    context_free(&ctx);

    r = make(&digest);
    size_t places = 0;
    for (size_t room = ARENA_ALIGN;; places++) {
        ctx = crowded(room);
        size_t filled = ctx.arena.in_use;
        faults_begin(FAIL_ALIGNED, 0);
        draw(&ctx, pack, &r, &digest);
        Faults f = faults_end();
        if (f.failed == 0) break; /* it fits */
        assert_int_equal(f.live, 0);
        assert_true(ctx.error.set);
        if (!strstr(ctx.error.message, "out of memory")) fail_msg("%s", ctx.error.message);
        assert_int_equal(ctx.arena.in_use, filled);
        room = room_needed(&ctx, filled, room);

        ctx.error = (Error){0};
        digest = 0;
        draw(&ctx, pack, &r, &digest);
        assert_context_ok(&ctx);
        assert_true(digest == good);
        context_free(&ctx);
    }
    context_free(&ctx);
    return places;
}

static Request small(uint64_t *digest) {
    (void)digest;
    return small_request();
}

static void every_growth(void **state) {
    (void)state;
    size_t drawing = growth_fails(&shared, small), by_clip = growth_fails(&baseline, small),
           with_picture = growth_fails(&shared, retouching_request);
    assert_true(drawing > 5 && by_clip > 5 && with_picture > 5);
    all_sites += drawing + by_clip + with_picture;
    all_failures += drawing + by_clip + with_picture;
    print_message("    the arena's growth failed at %zu, %zu and %zu places\n", drawing, by_clip,
                  with_picture);
}

/* ---- before and after all ------------------------------------------------------------------------ */

static cJSON *parsed(const char *path) {
    size_t size;
    Error err = {0};
    char *text_read = file_read(path, &size, &err);
    assert_non_null(text_read);
    cJSON *json = cJSON_ParseWithLength(text_read, size);
    assert_non_null(json);
    free(text_read);
    return json;
}

static void write_json(const char *path, cJSON *json) {
    char *printed = cJSON_PrintUnformatted(json);
    assert_non_null(printed);
    write_text(path, printed);
    cJSON_free(printed);
}

/* golden/micro's adapter as a shard behind an index. */
static void make_sharded_adapter(void) {
    size_t size;
    Error err = {0};
    char *bytes = file_read("golden/micro/adapter/adapter.safetensors", &size, &err);
    assert_non_null(bytes);
    write_bytes(scratch("in/sharded/one.safetensors"), bytes, size);
    free(bytes);
    cJSON *json = parsed("golden/micro/adapter/config.json");
    write_json(scratch("in/sharded/config.json"), json);
    cJSON_Delete(json);
    json = cJSON_CreateObject();
    cJSON *map = cJSON_AddObjectToObject(json, "weight_map");
    for (size_t i = 0; i < model_tensor_count(shared.adapter->files); i++)
        cJSON_AddStringToObject(map, model_tensor_at(shared.adapter->files, i)->name,
                                "one.safetensors");
    write_json(scratch("in/sharded/adapter.safetensors.index.json"), json);
    cJSON_Delete(json);
}

/* A pack of links to its parts, which are in two places. */
static void make_baseline(void) {
    static const char *const part[] = {"micro/unet", "micro/vae", "micro/scheduler",
                                       "micro_clip/text_encoder", "micro_clip/tokenizer"};
    char here[256], target[384], link[64];
    assert_non_null(getcwd(here, sizeof here));
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        snprintf(target, sizeof target, "%s/golden/%s", here, part[i]);
        snprintf(link, sizeof link, "in/baseline%s", strchr(part[i], '/'));
        assert_int_equal(symlink(target, scratch(link)), 0);
    }
}

/* What golden/data/files' npz are compared with: one tensor off, under another name, and one not. */
static int write_ours(Error *err) {
    static float f4[24];
    static double f8[24];
    for (int i = 0; i < 24; i++) f4[i] = (float)(f8[i] = (i - 1) / 2.0);
    f4[7] = 9;
    const StoredTensor t[2] = {{"ours", DTYPE_F32, 3, {2, 3, 4}, f4, sizeof f4},
                               {"f8", DTYPE_F64, 3, {2, 3, 4}, f8, sizeof f8}};
    write_text(scratch("in/map.json"), "{\"f4\": \"ours\", \"unet/*/f8\": \"f8*\", "
                                       "\"unet/0/f8\": \"f8\"}");
    static const char *const how[] = {"prompt",         "a", "steps", "3", "settings",
                                      "{\"a1\": null}", NULL};
    return safetensors_write(scratch("in/ours.safetensors"), t, 2, how, err);
}

/* ---- the kit -------------------------------------------------------------------------------------- */

/* A kit of a few cases of every kind. */
static const char *const kept_cases[] = {"linear/plain", "gelu/small", "guidance/7.5",
                                         "llm/block/micro.0", "eq9/adapter/mid_block."};
static const char *const kept_groups[] = {"operators", "modules", "algorithm1_one_token"};

static bool begins_with_one(const char *name, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strncmp(name, list[i], strlen(list[i])) == 0) return true;
    return false;
}
#define AMONG(name, list) begins_with_one(name, list, sizeof list / sizeof list[0])

static void copy_kept(const char *file, bool all) {
    char from[128], to[64];
    Error err = {0};
    size_t n = 0;
    snprintf(from, sizeof from, "golden/kit/%s", file);
    snprintf(to, sizeof to, "in/kit/%s", file);
    Safetensors *s = safetensors_open(from, &err);
    assert_non_null(s);
    StoredTensor *kept = calloc(safetensors_count(s) + 1, sizeof *kept);
    assert_non_null(kept);
    for (size_t i = 0; i < safetensors_count(s); i++)
        if (all || AMONG(safetensors_at(s, i)->name, kept_cases)) kept[n++] = *safetensors_at(s, i);
    assert_true(n > 0);
    assert_int_equal(safetensors_write(scratch(to), kept, n, NULL, &err), 0);
    free(kept);
    safetensors_close(s);
}

static void make_small_kit(void) {
    static const char *const dirs[] = {"in/kit", "in/kit/inputs", "in/kit/expected"};
    char here[256], target[384];
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        assert_int_equal(mkdir(scratch(dirs[i]), 0777), 0);
    assert_non_null(getcwd(here, sizeof here));
    snprintf(target, sizeof target, "%s/golden/micro", here);
    assert_int_equal(symlink(target, scratch("in/micro")), 0);
    cJSON *json = parsed("golden/kit/manifest.json");
    cJSON *groups = cJSON_GetObjectItem(json, "groups");
    for (int g = cJSON_GetArraySize(groups) - 1; g >= 0; g--) {
        cJSON *group = cJSON_GetArrayItem(groups, g), *cases = cJSON_GetObjectItem(group, "cases");
        if (!AMONG(cJSON_GetObjectItem(group, "name")->valuestring, kept_groups)) {
            cJSON_DeleteItemFromArray(groups, g);
            continue;
        }
        copy_kept(cJSON_GetObjectItem(group, "inputs")->valuestring, !cases);
        copy_kept(cJSON_GetObjectItem(group, "expected")->valuestring, !cases);
        for (int c = cJSON_GetArraySize(cases) - 1; c >= 0; c--) {
            const cJSON *one = cJSON_GetArrayItem(cases, c);
            if (!AMONG(cJSON_GetObjectItem(one, "name")->valuestring, kept_cases))
                cJSON_DeleteItemFromArray(cases, c);
        }
    }
    write_json(scratch("in/kit/manifest.json"), json);
    cJSON_Delete(json);
}

/* Ours, or a port's in `what`. Without `only`: glibc's regcomp leaks where it gets no memory. */
static void library_verify(const char *what, Error *err, uint64_t *digest) {
    llmdiff_verify_options o = {.size = sizeof o, .kit = scratch("in/kit"), .threads = 1};
    llmdiff_report *report = NULL;
    llmdiff_error e;
    char *told = NULL;
    if (what)
        o.port = scratch(what);
    else
        o.output = scratch("out/port");
    if (well(llmdiff_verify(&o, &report, &e), &e, err) &&
        well(llmdiff_report_json(report, &told, &e), &e, err)) {
        const int code = llmdiff_report_code(report);
        mix(digest, &code, sizeof code);
        mix_text(digest, told);
    }
    llmdiff_free(told);
    llmdiff_report_free(report);
}

/* What was written before is a port's now, with one case twice what it should be, so that there is a hint to
 * find, and one that the kit doesn't know. */
static void make_damaged_port(void) {
    Error err = {0};
    library_verify(NULL, &err, &(uint64_t){0});
    assert_int_equal(rename(scratch("out/port"), scratch("in/port")), 0);
    Safetensors *s = safetensors_open(scratch("in/port/operators.safetensors"), &err);
    assert_non_null(s);
    StoredTensor t[3] = {*safetensors_at(s, 0), *safetensors_at(s, 1), *safetensors_at(s, 1)};
    real *twice = malloc(t[0].bytes);
    assert_non_null(twice);
    memcpy(twice, t[0].data, t[0].bytes);
    for (int64_t i = 0; i < stored_numel(&t[0]); i++) twice[i] *= 2;
    t[0].data = twice;
    t[2].name = "debug";
    assert_int_equal(safetensors_write(scratch("in/port/operators.safetensors"), t, 3, NULL, &err),
                     0);
    free(twice);
    safetensors_close(s);
}

static int prepare(void **state) {
    static const char *const dirs[] = {"in", "out", "in/sharded", "in/baseline"};
    static const char *const made[] = {"t.safetensors", "t.npy", "t.png"};
    static const char fortran[] = "\x93NUMPY\1\0\x49\0{'descr': '<f4', 'fortran_order': True, "
                                  "'shape': (2, 3)}                \n";
    Error err = {0};
    faults_init();
    if (scratch_make(state)) return -1;
    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        if (mkdir(scratch(dirs[i]), 0777)) return -1;
    if (pack_open(&shared, &(PackPaths){.model = "golden/micro"}, PACK_GENERATE, &err)) return -1;
    make_baseline();
    open_baseline(&baseline, &err);
    llmdiff_options o = {.size = sizeof o, .model = "golden/micro"};
    if (err.set || llmdiff_open(&o, &library_pack, NULL)) return -1;
    make_sharded_adapter();
    make_small_kit();
    make_damaged_port();
    Settings settings = settings_default();
    if (adapter_init(scratch("in/fresh"), shared.llm, shared.unet, &settings, 1, &err) < 0)
        return -1;
    const int64_t latents[3] = {shared.vae->latent_channels, 1, 1};
    assert_true(latents[0] <= 6);
    if (npy_write(scratch("in/latents.npy"), DTYPE_F32, 3, latents, numbers, &err)) return -1;
    char array[sizeof fortran - 1 + sizeof numbers];
    memcpy(array, fortran, sizeof fortran - 1);
    memcpy(array + sizeof fortran - 1, numbers, sizeof numbers);
    write_bytes(scratch("in/fortran.npy"), array, sizeof array);
    if (write_ours(&err)) return -1;
    outputs(NULL, &err, &(uint64_t){0});
    const float c[6 * 40] = {1};
    const StoredTensor forced = {.name = "alg1/c.1",
                                 .ndim = 2,
                                 .dim = {6, 40},
                                 .dtype = DTYPE_F32,
                                 .data = c,
                                 .bytes = sizeof c};
    if (safetensors_write(scratch("in/force.safetensors"), &forced, 1, NULL, &err)) return -1;
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        char from[64], to[64];
        snprintf(from, sizeof from, "out/%s", made[i]);
        snprintf(to, sizeof to, "in/%s", made[i]);
        if (rename(scratch(from), scratch(to))) return -1;
    }
    return err.set ? -1 : 0;
}

static int tidy(void **state) {
    print_message("%zu sites, %zu failures\n", all_sites, all_failures);
    pack_close(&shared);
    pack_close(&baseline);
    llmdiff_close(library_pack);
    scratch_entries(scratch("in"), true);
    return scratch_remove(state);
}

#define TOKENIZER "golden/data/tokenizer/"

int main(void) {
    static Part part[] = {
        {"loading a pack", load, NULL},
        {"loading the baseline", load_baseline, NULL},
        {"loading shards", load_shards, NULL},
        {"loading a llama", load_llm, "golden/data/llama_dynamic"},
        {"CLIP's text encoder", clip_text, "golden/data/clip_sd"},
        {"tokenizer.json, bytes", tokenizer, TOKENIZER "own"},
        {"vocab.json and merges.txt", tokenizer, TOKENIZER "own_older"},
        {"tokenizer.json, pieces", tokenizer, TOKENIZER "spm_json"},
        {"tokenizer.json of a Mistral", tokenizer, TOKENIZER "spm_mistral"},
        {"tokenizer.model", tokenizer, TOKENIZER "spm_model"},
        {"CLIP's tokenizer.json", tokenizer, TOKENIZER "clip_json"},
        {"CLIP's vocab.json", tokenizer, TOKENIZER "clip"},
        {"text to ids and back", text, NULL},
        {"encoding", encoding, NULL},
        {"samplers", samplers, NULL},
        {"drawing", picture, NULL},
        {"drawing by CLIP", baseline_picture, NULL},
        {"drawing over a picture", retouching, NULL},
        {"writing files", outputs, NULL},
        {"reading files", inputs, NULL},
        {"a trace as a kit", trace_as_kit, NULL},
        {"reading pictures", pictures, NULL},
        {"a set with metadata.jsonl", data_set, SETS "folder"},
        {"a set with .txt", data_set, SETS "texts"},
        {"a set in shards", data_set, SETS "shards"},
        {"comparing npy", comparing, NULL},
        {"comparing npz", comparing, "golden/data/files/stored.npz"},
        {"comparing deflated npz", comparing, "golden/data/files/deflated.npz"},
        {"a fresh adapter", fresh_adapter, NULL},
        {"a report's page", report_page, NULL},
        {"llmdiff_verify, ourselves", library_verify, NULL},
        {"llmdiff_verify, a port", library_verify, "in/port"},
        {"llmdiff_open", library_open, NULL},
        {"llmdiff_encode", library_encode, NULL},
        {"llmdiff_encode, traced and forced", library_trace, NULL},
        {"llmdiff_generate", library_draw, NULL},
        {"llmdiff_generate, retouching", library_retouch, NULL},
        {"llmdiff_describe, a pack", library_describe, "golden/micro"},
        {"llmdiff_describe, the U-Net", library_describe, "golden/micro/unet"},
        {"llmdiff_describe, files", library_describe_files, NULL},
        {"llmdiff_init_adapter", library_init_adapter, NULL},
    };
    enum { PARTS = sizeof part / sizeof part[0], OTHERS = 3 };
    if (faults_unsupported()) {
        printf("skipped: allocations that fail: %s\n[  SKIPPED ] 1 test(s).\n",
               faults_unsupported());
        return 0;
    }
    struct CMUnitTest tests[PARTS + OTHERS] = {cmocka_unit_test(libraries_are_watched),
                                               cmocka_unit_test(other_threads_allocate_nothing),
                                               cmocka_unit_test(every_growth)};
    for (size_t i = 0; i < PARTS; i++)
        tests[OTHERS + i] =
            (struct CMUnitTest){part[i].name, every_site, NULL, name_crash, &part[i]};
    return cmocka_run_group_tests(tests, prepare, tidy);
}
