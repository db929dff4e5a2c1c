/* Whole pictures on golden/micro against upstream classes (golden/export_pipeline.py): Eq. 9 in every
 * cross-attention, guidance, DDIM, the VAE; and the demo's picture, whose golden is of golden/export_demo.py. */
#include "tests/check.h"

#include "ref/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int64_t latent_dim(const Golden *g, int axis) {
    const StoredTensor *t = safetensors_find(golden_file(g), "latents/0");
    assert_true(t && t->ndim == 3);
    return t->dim[axis];
}

static void picture_equals_upstream(void **state) {
    const char *name = *state;
    char file[64], adapter[96], text[8][512];
    const char *list[8];
    snprintf(file, sizeof file, "%s", name);
    Golden *g = golden_open(file);
    const bool clip = strncmp(name, "baseline", 8) == 0;
    if (!clip)
        snprintf(adapter, sizeof adapter, "golden/micro/%s",
                 safetensors_metadata(golden_file(g), "adapter"));
    cJSON *settings = clip ? NULL : cJSON_Parse(safetensors_metadata(golden_file(g), "settings"));
    const cJSON *item;
    size_t sets = 0;
    cJSON_ArrayForEach(item, settings) {
        char *value = cJSON_PrintUnformatted(item);
        snprintf(text[sets], sizeof text[0], "%s=%s", item->string, value);
        list[sets] = text[sets];
        sets++;
        cJSON_free(value);
    }

    Context ctx = {0};
    Pack pack;
    PackPaths paths = {.model = "golden/micro", .adapter = adapter, .set = list, .sets = sets};
    if (clip)
        paths = (PackPaths){.model = "golden/micro",
                            .conditioner = CONDITIONER_CLIP,
                            .text_encoder = "golden/micro_clip/text_encoder",
                            .tokenizer = "golden/micro_clip/tokenizer"};
    pack_open(&pack, &paths, PACK_GENERATE, &ctx.error);
    assert_context_ok(&ctx);
    GoldenObserver seen = {g, "", PIPELINE, 0};
    Observer observer = golden_observer(&seen);
    ctx.observer = &observer;

    Request r = request_default(&pack);
    r.prompt = safetensors_metadata(golden_file(g), "prompt");
    r.negative = safetensors_metadata(golden_file(g), "negative");
    r.prompt_length = strlen(r.prompt);
    r.negative_length = strlen(r.negative);
    r.steps = (int64_t)golden_number(g, "steps");
    r.cfg_scale = golden_number(g, "cfg_scale");
    if (clip)
        r.clip_skip = (int64_t)golden_number(g, "clip_skip");
    else
        r.eta = golden_number(g, "eta");
    const char *sampler = safetensors_metadata(golden_file(g), "sampler");
    if (sampler) r.sampler = sampler_of_name(sampler);
    r.height = latent_dim(g, 1) * pack.vae->factor;
    r.width = latent_dim(g, 2) * pack.vae->factor;
    r.noise = golden_file(g);
    const StoredTensor *from = safetensors_find(golden_file(g), "image_in");
    const StoredTensor *mask = safetensors_find(golden_file(g), "mask_in");
    if (from) {
        r.init_image = from->data;
        r.mask = mask ? mask->data : NULL;
        r.strength = golden_number(g, "strength");
    }

    Picture picture;
    generate(&ctx, &pack, &r, &picture);
    assert_context_ok(&ctx);
    snprintf(file, sizeof file, "latents/%d", (int)picture.evaluations);
    golden_check_data(g, file, picture.latents, 3, picture.latent_dim, PIPELINE);
    /* Everything that the golden holds was produced, under its name, except ids and bytes. */
    size_t expected = 0;
    for (size_t i = 0; i < safetensors_count(golden_file(g)); i++) {
        Dtype type = safetensors_at(golden_file(g), i)->dtype;
        expected += type != DTYPE_I64 && type != DTYPE_U8;
    }
    assert_int_equal(seen.compared, expected);

    picture_free(&picture);
    cJSON_Delete(settings);
    golden_close(g);
    pack_close(&pack);
    context_free(&ctx);
}

/* Own random numbers, own tokenizer, shipped pack, its own steps and guidance: every pixel within 1/255 of
 * PyTorch's. With CLIP it is diffusers' StableDiffusionPipeline that drew (golden/export_demo.py). */
static void demo_equals_pytorch(Conditioner conditioner, const char *ids_name,
                                const char *rgb_name) {
    Context ctx = {0};
    Safetensors *f = safetensors_open("golden/data/tiny_demo.safetensors", &ctx.error);
    assert_context_ok(&ctx);
    Pack pack;
    pack_open(&pack, &(PackPaths){.model = "weights/tiny", .conditioner = conditioner},
              PACK_GENERATE, &ctx.error);
    assert_context_ok(&ctx);
    Request r = request_default(&pack);
    r.prompt = safetensors_metadata(f, "prompt");
    r.prompt_length = strlen(r.prompt);
    assert_true((double)r.steps == strtod(safetensors_metadata(f, "steps"), NULL));
    assert_true(r.cfg_scale == strtod(safetensors_metadata(f, "cfg_scale"), NULL));
    r.seed = strtoull(safetensors_metadata(f, "seed"), NULL, 10);

    TokenIds ids;
    int64_t dropped;
    prompt_ids(&pack, r.prompt, r.prompt_length, &ids, &dropped, &ctx.error);
    assert_context_ok(&ctx);
    const StoredTensor *expected_ids = safetensors_find(f, ids_name);
    assert_non_null(expected_ids);
    assert_int_equal(ids.count * sizeof(int64_t), expected_ids->bytes);
    assert_memory_equal(ids.id, expected_ids->data, expected_ids->bytes);
    token_ids_free(&ids);

    Picture picture;
    generate(&ctx, &pack, &r, &picture);
    assert_context_ok(&ctx);
    const StoredTensor *rgb = safetensors_find(f, rgb_name);
    assert_true(rgb && rgb->dtype == DTYPE_U8 && rgb->ndim == 3);
    assert_true(rgb->dim[0] == picture.height && rgb->dim[1] == picture.width && rgb->dim[2] == 3);
    const uint8_t *expected = rgb->data;
    size_t off = 0;
    for (size_t i = 0; i < rgb->bytes; i++) {
        int difference = abs(picture.rgb[i] - expected[i]);
        if (difference > 1)
            fail_msg("byte %zu: %d, PyTorch has %d", i, picture.rgb[i], expected[i]);
        off += difference == 1;
    }
    assert_true(off < rgb->bytes / 100); /* rounding at the edge of a step, here and there */
    picture_free(&picture);
    pack_close(&pack);
    safetensors_close(f);
    context_free(&ctx);
}

static void demo_with_the_llm(void **state) {
    (void)state;
    demo_equals_pytorch(CONDITIONER_LLMDIFF, "ids", "rgb");
}

static void demo_with_clip(void **state) {
    (void)state;
    demo_equals_pytorch(CONDITIONER_CLIP, "clip/ids", "clip/rgb");
}

static void same_bytes_at_any_thread_count(void **state) {
    (void)state;
    Picture first = {0};
    for (int threads = 1; threads <= 3; threads++) {
        Context ctx = {.threads = threads};
        Pack pack;
        pack_open(&pack, &(PackPaths){.model = "weights/tiny"}, PACK_GENERATE, &ctx.error);
        assert_context_ok(&ctx);
        Request r = request_default(&pack);
        r.prompt = "two shapes";
        r.prompt_length = strlen(r.prompt);
        r.steps = 2;
        r.eta = 0.5;
        Picture picture;
        generate(&ctx, &pack, &r, &picture);
        assert_context_ok(&ctx);
        size_t latents =
            (size_t)(picture.latent_dim[0] * picture.latent_dim[1] * picture.latent_dim[2]) *
            sizeof(real);
        if (threads == 1) {
            first = picture;
        } else {
            assert_memory_equal(first.latents, picture.latents, latents);
            assert_memory_equal(first.rgb, picture.rgb,
                                (size_t)(picture.width * picture.height * 3));
            picture_free(&picture);
        }
        pack_close(&pack);
        context_free(&ctx);
    }
    picture_free(&first);
}

static void see_nothing(void *self, const char *name, const real *data, int ndim,
                        const int64_t *dim) {
    (void)name, (void)data, (void)ndim, (void)dim;
    ++*(size_t *)self;
}

/* Observing changes no byte. */
static void observing_changes_nothing(void **state) {
    (void)state;
    size_t seen = 0;
    Observer observer = {see_nothing, &seen};
    Picture pictures[2];
    for (int i = 0; i < 2; i++) {
        Context ctx = {.observer = i ? &observer : NULL};
        Pack pack;
        pack_open(&pack, &(PackPaths){.model = "golden/micro"}, PACK_GENERATE, &ctx.error);
        assert_context_ok(&ctx);
        Request r = request_default(&pack);
        r.steps = 2;
        generate(&ctx, &pack, &r, &pictures[i]);
        assert_context_ok(&ctx);
        pack_close(&pack);
        context_free(&ctx);
    }
    assert_true(seen > 200);
    assert_memory_equal(pictures[0].rgb, pictures[1].rgb,
                        (size_t)(pictures[0].width * pictures[0].height * 3));
    const int64_t *dim = pictures[0].latent_dim;
    assert_memory_equal(dim, pictures[1].latent_dim, sizeof pictures[0].latent_dim);
    assert_memory_equal(pictures[0].latents, pictures[1].latents,
                        (size_t)(dim[0] * dim[1] * dim[2]) * sizeof(real));
    picture_free(&pictures[0]);
    picture_free(&pictures[1]);
}

/* ---- what the walk does, by the names it gives ---------------------------------------------------- */

enum { KEPT = 3 };

/* Keeps the activations of those names and counts the names that begin so. */
typedef struct Kept {
    const char *name[KEPT], *counted[2];
    real *data[KEPT];
    int64_t numel[KEPT];
    size_t count;
} Kept;

static void keep(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    Kept *k = self;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++) n *= dim[i];
    for (int i = 0; i < 2; i++)
        k->count += k->counted[i] && strncmp(name, k->counted[i], strlen(k->counted[i])) == 0;
    for (int i = 0; i < KEPT; i++) {
        if (!k->name[i] || strcmp(name, k->name[i]) != 0) continue;
        assert_null(k->data[i]); /* once */
        k->data[i] = malloc((size_t)n * sizeof(real));
        assert_non_null(k->data[i]);
        memcpy(k->data[i], data, (size_t)n * sizeof(real));
        k->numel[i] = n;
    }
}

static void kept_free(Kept *k) {
    for (int i = 0; i < KEPT; i++) free(k->data[i]);
}

/* The walk of `r` on the micro pack with what its names keep. */
static void keep_from(const Pack *pack, const Request *r, Kept *k) {
    Observer observer = {keep, k};
    Context ctx = {.observer = &observer};
    Picture picture;
    generate(&ctx, pack, r, &picture);
    assert_context_ok(&ctx);
    for (int i = 0; i < KEPT; i++)
        if (k->name[i] && !k->data[i]) fail_msg("%s: not produced", k->name[i]);
    picture_free(&picture);
    context_free(&ctx);
}

static void open_micro(Pack *pack) {
    Error err = {0};
    pack_open(pack, &(PackPaths){.model = "golden/micro"}, PACK_GENERATE, &err);
    if (err.set) fail_msg("%s", err.message);
}

/* The stream of the latents goes on where it would if they had been drawn. */
static void given_latents_do_not_move_the_samplers_noise(void **state) {
    (void)state;
    Pack pack;
    open_micro(&pack);
    Request r = request_default(&pack);
    r.steps = 2;
    r.eta = 1;
    Kept drawn = {.name = {"latents/0", "sampler/noise.0", "sampler/noise.1"}}, given = drawn;
    keep_from(&pack, &r, &drawn);
    const size_t n = (size_t)drawn.numel[0];
    real *latents = calloc(n, sizeof *latents);
    assert_non_null(latents);
    for (size_t i = 0; i < n; i++) latents[i] = (real)(i % 7) / 4 - (real)0.5;
    r.init_latents = latents;
    keep_from(&pack, &r, &given);
    assert_memory_equal(given.data[0], latents, n * sizeof(real));
    assert_memory_not_equal(drawn.data[0], latents, n * sizeof(real));
    for (int i = 1; i < KEPT; i++) {
        assert_int_equal(given.numel[i], n);
        assert_memory_equal(given.data[i], drawn.data[i], n * sizeof(real));
        assert_memory_not_equal(drawn.data[i], drawn.data[0], n * sizeof(real));
    }
    free(latents);
    kept_free(&drawn);
    kept_free(&given);
    pack_close(&pack);
}

/* eps = eps_uncond + s (eps_cond - eps_uncond) for every s but 1, below it as above. */
static void guidance_at_any_scale(void **state) {
    (void)state;
    static const double scales[] = {0.5, 0, -1, 0.999, 7.5};
    Pack pack;
    open_micro(&pack);
    for (size_t k = 0; k < sizeof scales / sizeof scales[0]; k++) {
        Request r = request_default(&pack);
        r.prompt = "a red circle";
        r.prompt_length = strlen(r.prompt);
        r.steps = 1;
        r.cfg_scale = scales[k];
        Kept seen = {.name = {"unet/0/eps", "unet/0/cond/eps", "unet/0/uncond/eps"},
                     .counted = {"uncond/", "unet/0/uncond/"}};
        keep_from(&pack, &r, &seen);
        assert_true(seen.count > 20);
        double apart = 0, largest = 0, error = 0;
        for (int64_t i = 0; i < seen.numel[0]; i++) {
            const double c = (double)seen.data[1][i], u = (double)seen.data[2][i];
            apart = fmax(apart, fabs(c - u));
            largest = fmax(largest, fabs(u) + fabs(scales[k]) * (fabs(c) + fabs(u)));
            error = fmax(error, fabs((double)seen.data[0][i] - (u + scales[k] * (c - u))));
        }
        assert_int_equal(seen.numel[0], seen.numel[1]);
        assert_int_equal(seen.numel[0], seen.numel[2]);
        assert_true(apart > 1e-3);
        if (!(error <= 4 * (double)REAL_EPSILON * largest))
            fail_msg("scale %g: off by %g of %g", scales[k], error, largest);
        kept_free(&seen);
    }
    pack_close(&pack);
}

static void no_guidance_at_scale_one(void **state) {
    (void)state;
    Pack pack;
    open_micro(&pack);
    Request r = request_default(&pack);
    r.steps = 1;
    r.cfg_scale = 1;
    Kept seen = {.name = {"unet/0/eps", "unet/0/cond/eps"},
                 .counted = {"uncond/", "unet/0/uncond/"}};
    keep_from(&pack, &r, &seen);
    assert_int_equal(seen.count, 0);
    assert_int_equal(seen.numel[0], seen.numel[1]);
    assert_memory_equal(seen.data[0], seen.data[1], (size_t)seen.numel[0] * sizeof(real));
    kept_free(&seen);
    pack_close(&pack);
}

static bool cancel_after(void *self) { return --*(int *)self < 0; }

/* A run that is cancelled, wherever it is, leaves no picture and says where. */
static void cancelled_anywhere(void **state) {
    (void)state;
    Error err = {0};
    Pack pack;
    pack_open(&pack, &(PackPaths){.model = "golden/micro"}, PACK_GENERATE, &err);
    assert_false(err.set);
    int polls = 0;
    for (bool finished = false; !finished; polls += 7) {
        int left = polls;
        Context ctx = {.cancelled = cancel_after, .cancelled_self = &left};
        Request r = request_default(&pack);
        r.steps = 1;
        Picture picture;
        finished = generate(&ctx, &pack, &r, &picture) == 0;
        if (!finished) {
            assert_null(picture.rgb);
            assert_int_equal(strncmp(ctx.error.message, "cancelled at ", 13), 0);
        }
        picture_free(&picture);
        context_free(&ctx);
    }
    assert_true(polls > 100);
    pack_close(&pack);
}

/* A picture whose decoding takes more memory than the machine has is refused at once; in tiles it is
 * decoded in what a tile takes. (Of the smallest pack that is so; micro's U-Net takes more than its VAE.) */
static void tiles_lift_the_memory_limit(void **state) {
    (void)state;
    Error err = {0};
    Pack pack;
    pack_open(&pack, &(PackPaths){.model = "weights/tiny"}, PACK_GENERATE, &err);
    assert_false(err.set);
    Request r = request_default(&pack);
    for (r.width = 512; r.width <= 1 << 16 && !err.set; r.width += 512) {
        r.height = r.width;
        request_check(&r, &pack, &err);
    }
    r.width = r.height;
    assert_true(err.set);
    assert_non_null(strstr(err.message, "takes about "));
    assert_non_null(strstr(err.message, "; --vae-tiling takes less"));
    err.set = false;
    r.vae_tiling = true;
    assert_int_equal(request_check(&r, &pack, &err), 0);
    /* what the U-Net takes remains */
    for (; r.width <= 1 << 16 && !err.set; r.width += 512) {
        r.height = r.width;
        request_check(&r, &pack, &err);
    }
    assert_null(strstr(err.message, "--vae-tiling"));
    pack_close(&pack);
}

int main(void) {
    static char cases[][32] = {"baseline_whole",
                               "baseline_skip",
                               "baseline_skip_all",
                               "baseline_unguided",
                               "baseline_cut",
                               "pipeline_whole",
                               "pipeline_eta",
                               "pipeline_odd_unguided",
                               "pipeline_odd_eta",
                               "pipeline_tau_c",
                               "pipeline_tau_c_rms_normal",
                               "pipeline_shared",
                               "pipeline_shared_layers",
                               "pipeline_layers",
                               "pipeline_original_only",
                               "pipeline_added_only",
                               "pipeline_scalars",
                               "pipeline_ddpm",
                               "pipeline_pndm",
                               "pipeline_euler",
                               "pipeline_euler_a",
                               "pipeline_dpm++2m",
                               "image_img2img",
                               "image_img2img_eta",
                               "image_img2img_full",
                               "image_inpaint",
                               "image_inpaint_part",
                               "image_inpaint_eta"};
    enum { CASES = sizeof cases / sizeof cases[0], OTHERS = 9 };
    struct CMUnitTest tests[CASES + OTHERS] = {
        cmocka_unit_test(demo_with_the_llm),
        cmocka_unit_test(demo_with_clip),
        cmocka_unit_test(same_bytes_at_any_thread_count),
        cmocka_unit_test(observing_changes_nothing),
        cmocka_unit_test(cancelled_anywhere),
        cmocka_unit_test(given_latents_do_not_move_the_samplers_noise),
        cmocka_unit_test(guidance_at_any_scale),
        cmocka_unit_test(no_guidance_at_scale_one),
        cmocka_unit_test(tiles_lift_the_memory_limit)};
    static char names[CASES][48];
    for (size_t i = 0; i < CASES; i++) {
        snprintf(names[i], sizeof names[i], "picture, %.31s", cases[i]);
        tests[OTHERS + i] =
            (struct CMUnitTest){names[i], picture_equals_upstream, NULL, NULL, cases[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
