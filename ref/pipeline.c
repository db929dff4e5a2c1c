/* The walk from a prompt to a picture:
 *
 *     prompt -> ids [N] -> Algorithm 1: c [N, D] -> phi(c) [N, E], keys and values of each layer
 *     noise  -> latents -> steps x (U-Net with Eq. 9 in each cross-attention, guidance, sampler)
 *            -> VAE decoder -> picture
 *
 * The first line is condition.c, where the latents begin is canvas.c. */
#include "ref/pipeline.h"

#include <stdio.h>
#include <string.h>

/* ---- one evaluation of the U-Net, with guidance ----------------------------------------------- */

/* The map x [1, h, w, C] once for each prompt -> [count, h, w, C] */
static Tensor for_each_prompt(Context *ctx, Tensor x, int64_t count) {
    Tensor y = TENSOR_NEW(ctx, count, x.dim[1], x.dim[2], x.dim[3]);
    for (int64_t b = 0; y.data && b < count; b++)
        memcpy(tensor_at(y, b).data, x.data, (size_t)tensor_numel(x) * sizeof(real));
    return y;
}

Tensor predict(Context *ctx, const Unet *unet, int64_t i, double t, Tensor latents,
               const Prompts *p) {
    if (ctx->error.set) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    /* A copy: forcing `sample` changes what the U-Net is shown, not what the sampler steps from. */
    Tensor sample = tensor_copy(ctx, latents);
    char name[MAX_BATCH][40], all[32];
    snprintf(all, sizeof all, "unet/%lld/", (long long)i);
    snprintf(name[0], sizeof name[0], "unet/%lld/cond/", (long long)i);
    snprintf(name[1], sizeof name[1], "unet/%lld/uncond/", (long long)i);

    ctx->prefix[0] = ctx->batch_prefix = all;
    observe_each(ctx, sample, "sample");
    snprintf(name[2], sizeof name[2], "unet/%lld/t", (long long)i);
    observe_scalar(ctx, t, name[2]);

    ctx->prefix[0] = name[0];
    ctx->prefix[1] = name[1];
    Tensor both = for_each_prompt(ctx, sample, p->count);
    Tensor eps = unet_forward(ctx, unet, both, t, &p->cross);
    observe_each(ctx, eps, "eps");
    if (ctx->error.set) {
        ctx->prefix[0] = ctx->prefix[1] = ctx->batch_prefix = "";
        return (Tensor){0};
    }
    Tensor one = TENSOR_VIEW(tensor_at(eps, 0), 1, eps.dim[1], eps.dim[2], eps.dim[3]);
    if (p->count == 2) {
        Tensor uncond = TENSOR_VIEW(tensor_at(eps, 1), 1, eps.dim[1], eps.dim[2], eps.dim[3]);
        one = guidance(ctx, one, uncond, p->cfg_scale);
    }
    ctx->prefix[0] = all;
    observe_each(ctx, one, "eps");
    ctx->prefix[0] = ctx->prefix[1] = ctx->batch_prefix = "";
    return scope_end(ctx, mark, one);
}

/* ---- the walk -------------------------------------------------------------------------------- */

static void report(const Request *r, const char *stage, int64_t done, int64_t of) {
    if (r->progress) r->progress(r->progress_self, stage, done, of);
}

/* What step i of the sampler adds: N(0, I) like x [1, h, w, C], drawn as torch.randn(1, C, h, w). */
static Tensor sampler_noise(Context *ctx, Tensor x, int64_t i, Noise *noise) {
    char name[40];
    if (ctx->error.set) return (Tensor){0};
    snprintf(name, sizeof name, "sampler/noise.%lld", (long long)i);
    Tensor z = noise_draw(ctx, noise, name, 3, (int64_t[]){x.dim[3], x.dim[1], x.dim[2]});
    observe(ctx, z, "%s", name);
    z = channels_last(ctx, z);
    return tensor_view(z, 4, x.dim);
}

static Tensor decode(Context *ctx, const Pack *pack, const Request *r, Tensor latents) {
    return r->vae_tiling ? vae_decode_tiled(ctx, pack->vae, latents)
                         : vae_decode(ctx, pack->vae, latents);
}

/* The latents after evaluation i as the U-Net would be shown them, decoded; nobody observes or forces
 * it, for its names are those of the picture itself. */
static void preview(Context *ctx, const Pack *pack, const Request *r, const Sampler *s, int64_t i,
                    Tensor latents) {
    const int64_t done = i + 1, of = sampler_evaluations(s);
    if (!r->preview || !r->preview_every || done % r->preview_every || done == of) return;
    ArenaMark mark = scope_begin(ctx);
    const Observer *observer = ctx->observer;
    const Forcing *forcing = ctx->forcing;
    Picture picture = {0};
    ctx->observer = NULL;
    ctx->forcing = NULL;
    Tensor z = sampler_scale_input(ctx, s, done, latents);
    Tensor image = decode(ctx, pack, r, z);
    if (!ctx->error.set && to_picture(ctx, z, image, &picture) == 0)
        r->preview(r->preview_self, done, of, &picture);
    picture_free(&picture);
    ctx->observer = observer;
    ctx->forcing = forcing;
    arena_release(&ctx->arena, mark);
}

static int walk(Context *ctx, const Pack *pack, const Request *r, Sampler *s, Picture *picture) {
    /* prompt -> c -> phi(c), keys and values; the same for the negative prompt */
    Prompts prompts = condition(ctx, pack, r);

    /* noise, or a picture -> latents, evaluation by evaluation */
    const int64_t count = sampler_evaluations(s);
    Noise noise = {rng_seed(r->seed), r->noise};
    Canvas canvas = {0};
    Tensor latents = canvas_begin(ctx, pack, r, s, &noise, &canvas);
    for (int64_t i = 0; i < count && !ctx->error.set; i++) {
        report(r, "sample", i, count);
        ArenaMark mark = scope_begin(ctx);
        Tensor shown = sampler_scale_input(ctx, s, i, latents);
        Tensor eps = predict(ctx, pack->unet, i, sampler_timestep(s, i), shown, &prompts);
        bool noisy = sampler_wants_noise(s, i);
        Tensor z = noisy ? sampler_noise(ctx, latents, i, &noise) : (Tensor){0};
        latents = sampler_step(ctx, s, i, eps, latents, z);
        latents = scope_end(ctx, mark, canvas_blend(ctx, &canvas, s, i, latents));
        ctx->prefix[0] = "";
        observe_each(ctx, latents, "latents/%lld", (long long)(i + 1));
        preview(ctx, pack, r, s, i, latents);
    }

    /* latents -> picture */
    report(r, "decode", 0, 1);
    Tensor image = decode(ctx, pack, r, latents);
    ctx->prefix[0] = "";
    observe_each(ctx, image, "image");
    report(r, "done", 1, 1);
    if (ctx->error.set || to_picture(ctx, latents, image, picture)) return -1;
    picture->evaluations = count;
    picture->dropped = prompts.dropped;
    return 0;
}

int generate(Context *ctx, const Pack *pack, const Request *r, Picture *picture) {
    *picture = (Picture){0};
    if (request_check(r, pack, &ctx->error)) return -1;
    Sampler *s = sampler_new(pack->schedule, r->sampler, r->steps, r->eta, &ctx->error);
    int status = s ? 0 : -1;
    if (s && r->init_image) status = sampler_begin_at_strength(s, r->strength, &ctx->error);
    ArenaMark mark = scope_begin(ctx);
    if (status == 0) status = walk(ctx, pack, r, s, picture);
    arena_release(&ctx->arena, mark);
    sampler_free(s);
    return status;
}
