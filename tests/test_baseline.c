/* The plain Stable Diffusion baseline, part by part without a pipeline: CLIP's encoding, the U-Net
 * without adapter, guidance, DDIM, the VAE, against diffusers' StableDiffusionPipeline
 * (golden/export_baseline.py). */
#include "tests/check.h"

#include "ref/clip_text.h"
#include "ref/samplers.h"
#include "ref/unet.h"
#include "ref/vae.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct Parts {
    ClipText *clip;
    Unet *unet;
    Vae *vae;
    Schedule *schedule;
} Parts;

static Parts parts_load(Error *err) {
    return (Parts){clip_text_load("golden/micro_clip/text_encoder", err),
                   unet_load("golden/micro/unet", err), vae_load("golden/micro/vae", err),
                   schedule_load("golden/micro/scheduler", err)};
}

static void parts_free(Parts *p) {
    clip_text_free(p->clip);
    unet_free(p->unet);
    vae_free(p->vae);
    schedule_free(p->schedule);
}

/* Keys and values of the prompt at every layer: what the adapter would make of phi(c). */
static CrossContext *context_of(Context *ctx, const Parts *p, Golden *g, const char *group,
                                int64_t clip_skip) {
    char name[32];
    int64_t n;
    snprintf(name, sizeof name, "%sids", group);
    const int64_t *ids = golden_ids(g, name, &n);
    assert_int_equal(n, p->clip->max_positions);
    Tensor c = clip_text_encode(ctx, p->clip, ids, n, clip_skip, group);
    CrossContext *kv = calloc((size_t)p->unet->cross_layers, sizeof *kv);
    assert_non_null(kv);
    for (int64_t i = 0; i < p->unet->cross_layers; i++)
        kv[i] = eq9_context(ctx, &p->unet->cross[i], NULL, c, c);
    return kv;
}

/* eps of evaluation i, after guidance. z [1, h, w, C] */
static Tensor predict(Context *ctx, const Parts *p, const CrossLayers *cross, int prompts,
                      double cfg_scale, int64_t i, double t, Tensor z) {
    char name[4][32];
    snprintf(name[0], sizeof name[0], "unet/%d/cond/", (int)i);
    snprintf(name[1], sizeof name[1], "unet/%d/uncond/", (int)i);
    snprintf(name[2], sizeof name[2], "unet/%d/", (int)i);
    snprintf(name[3], sizeof name[3], "unet/%d/t", (int)i);
    ctx->prefix[0] = ctx->batch_prefix = name[2];
    observe_each(ctx, z, "sample");
    observe_scalar(ctx, t, name[3]);
    Tensor both = TENSOR_NEW(ctx, prompts, z.dim[1], z.dim[2], z.dim[3]);
    for (int b = 0; b < prompts; b++) {
        ctx->prefix[b] = name[b];
        memcpy(tensor_at(both, b).data, z.data, (size_t)tensor_numel(z) * sizeof(real));
    }
    Tensor eps = unet_forward(ctx, p->unet, both, t, cross);
    observe_each(ctx, eps, "eps");
    assert_context_ok(ctx);
    Tensor cond = tensor_view(tensor_at(eps, 0), 4, z.dim);
    if (prompts == 2)
        cond = guidance(ctx, cond, tensor_view(tensor_at(eps, 1), 4, z.dim), cfg_scale);
    ctx->prefix[0] = name[2];
    observe_each(ctx, cond, "eps");
    ctx->prefix[0] = ctx->prefix[1] = ctx->batch_prefix = "";
    return cond;
}

static void picture_equals_upstream(void **state) {
    char file[64];
    snprintf(file, sizeof file, "baseline_%s", (const char *)*state);
    Golden *g = golden_open(file);
    Context ctx = {0};
    Parts parts = parts_load(&ctx.error);
    assert_context_ok(&ctx);
    GoldenObserver seen = {g, "", PIPELINE, 0};
    Observer observer = golden_observer(&seen);
    ctx.observer = &observer;

    const double cfg_scale = golden_number(g, "cfg_scale");
    const int64_t steps = (int64_t)golden_number(g, "steps");
    const int prompts = cfg_scale == 1 ? 1 : 2;
    CrossContext *kv[2] = {context_of(&ctx, &parts, g, "", (int64_t)golden_number(g, "clip_skip"))};
    if (prompts == 2) kv[1] = context_of(&ctx, &parts, g, "uncond/", 0);
    CrossLayers cross = {.original = parts.unet->cross, .context = {kv[0], kv[1]}};

    Tensor z = channels_last(&ctx, golden_tensor(g, &ctx, "latents/0"));
    z = TENSOR_VIEW(z, 1, z.dim[0], z.dim[1], z.dim[2]);
    ctx.prefix[0] = "";
    observe_each(&ctx, z, "latents/0");
    Sampler *sampler = sampler_new(parts.schedule, SAMPLER_DDIM, steps, 0, &ctx.error);
    assert_context_ok(&ctx);
    for (int64_t i = 0; i < sampler_evaluations(sampler); i++) {
        double t = sampler_timestep(sampler, i);
        Tensor eps = predict(&ctx, &parts, &cross, prompts, cfg_scale, i, t, z);
        z = sampler_step(&ctx, sampler, i, eps, z, (Tensor){0});
        observe_each(&ctx, z, "latents/%d", (int)i + 1);
    }
    Tensor image = vae_decode(&ctx, parts.vae, z);
    assert_context_ok(&ctx);
    golden_check(g, "image", channels_first(&ctx, tensor_at(image, 0)), PIPELINE);
    /* Everything that the golden holds was compared; all but the ids and the image by its name. */
    size_t expected = 0;
    for (size_t i = 0; i < safetensors_count(golden_file(g)); i++)
        expected += safetensors_at(golden_file(g), i)->dtype != DTYPE_I64;
    assert_int_equal(seen.compared, expected - 1);

    sampler_free(sampler);
    free(kv[0]);
    free(kv[1]);
    parts_free(&parts);
    golden_close(g);
    context_free(&ctx);
}

int main(void) {
    static char cases[][16] = {"whole", "skip", "skip_all", "unguided", "cut"};
    enum { CASES = sizeof cases / sizeof cases[0] };
    static char names[CASES][32];
    struct CMUnitTest tests[CASES];
    for (size_t i = 0; i < CASES; i++) {
        snprintf(names[i], sizeof names[i], "baseline, %.15s", cases[i]);
        tests[i] = (struct CMUnitTest){names[i], picture_equals_upstream, NULL, NULL, cases[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
