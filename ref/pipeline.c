/* The walk from a prompt to a picture:
 *
 *     prompt -> ids [N] -> Algorithm 1: c [N, D] -> phi(c) [N, E], keys and values of each layer
 *     noise  -> latents -> steps x (U-Net with Eq. 9 in each cross-attention, guidance, DDIM)
 *            -> VAE decoder -> picture
 */
#include "ref/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- prompt -> c ----------------------------------------------------------------------------- */

Tensor encode(Context *ctx, const Pack *pack, const char *text, size_t length, Noise *langevin,
              const char *group) {
    TokenIds ids;
    if (tokenizer_encode(pack->tokenizer, text, length, true, &ids, &ctx->error))
        return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    Tensor c = alg1_encoding(ctx, pack->llm, pack->adapter->scalars, &pack->adapter->settings,
                             ids.id, (int64_t)ids.count, langevin, group);
    token_ids_free(&ids);
    return scope_end(ctx, mark, c);
}

/* ---- one evaluation of the U-Net, with guidance ----------------------------------------------- */

typedef struct Prompts {
    CrossLayers cross; /* element 0: the prompt; 1: the negative prompt */
    int64_t count;     /* 2 with guidance, else 1 */
    double cfg_scale;
} Prompts;

/* The map x [1, h, w, C] once for each prompt -> [count, h, w, C] */
static Tensor for_each_prompt(Context *ctx, Tensor x, int64_t count) {
    Tensor y = TENSOR_NEW(ctx, count, x.dim[1], x.dim[2], x.dim[3]);
    for (int64_t b = 0; y.data && b < count; b++)
        memcpy(tensor_at(y, b).data, x.data, (size_t)tensor_numel(x) * sizeof(real));
    return y;
}

/* Evaluation i at timestep t: latents [1, h, w, C] -> eps after guidance [1, h, w, C] */
static Tensor predict(Context *ctx, const Unet *unet, int64_t i, double t, Tensor latents,
                      const Prompts *p) {
    ArenaMark mark = scope_begin(ctx);
    char name[MAX_BATCH][40], all[32];
    snprintf(all, sizeof all, "unet/%lld/", (long long)i);
    snprintf(name[0], sizeof name[0], "unet/%lld/cond/", (long long)i);
    snprintf(name[1], sizeof name[1], "unet/%lld/uncond/", (long long)i);

    ctx->prefix[0] = ctx->batch_prefix = all;
    observe_each(ctx, latents, "sample");
    snprintf(name[2], sizeof name[2], "unet/%lld/t", (long long)i);
    observe_scalar(ctx, t, name[2]);

    ctx->prefix[0] = name[0];
    ctx->prefix[1] = name[1];
    Tensor both = for_each_prompt(ctx, latents, p->count);
    Tensor eps = unet_forward(ctx, unet, both, t, &p->cross);
    observe_each(ctx, eps, "eps");
    if (ctx->error.set) return (Tensor){0};

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

/* ---- latents -> picture ----------------------------------------------------------------------- */

/* round((x/2 + 1/2) * 255), clamped: diffusers VaeImageProcessor. x [1, H, W, 3] */
static void to_pixels(Tensor x, uint8_t *rgb) {
    for (int64_t i = 0, n = tensor_numel(x); i < n; i++) {
        double v = fmin(fmax((double)x.data[i] / 2 + 0.5, 0), 1);
        rgb[i] = (uint8_t)rint(v * 255);
    }
}

static int to_picture(Context *ctx, Tensor latents, Tensor image, Picture *out) {
    Tensor z = channels_first(ctx, tensor_at(latents, 0));
    if (ctx->error.set) return -1;
    *out = (Picture){.width = image.dim[2], .height = image.dim[1]};
    memcpy(out->latent_dim, z.dim, sizeof out->latent_dim);
    size_t bytes = (size_t)tensor_numel(z) * sizeof(real);
    out->rgb = malloc((size_t)tensor_numel(image));
    out->latents = malloc(bytes);
    if (!out->rgb || !out->latents) {
        picture_free(out);
        return fail(&ctx->error, "out of memory for a picture of %lld x %lld",
                    (long long)out->width, (long long)out->height);
    }
    to_pixels(image, out->rgb);
    memcpy(out->latents, z.data, bytes);
    return 0;
}

void picture_free(Picture *picture) {
    free(picture->rgb);
    free(picture->latents);
    *picture = (Picture){0};
}

/* ---- the walk -------------------------------------------------------------------------------- */

static void report(const Request *r, const char *stage, int64_t done, int64_t of) {
    if (r->progress) r->progress(r->progress_self, stage, done, of);
}

/* CLIP's encoding of a text, as plain Stable Diffusion has it: 77 tokens, cut or padded. [77, E] */
static Tensor clip_encode(Context *ctx, const Pack *pack, const char *text, size_t length,
                          int64_t skip, const char *group, int64_t *dropped) {
    TokenIds ids;
    size_t cut;
    int64_t places = tokenizer_max_length(pack->tokenizer);
    if (places < 2 || places > pack->clip->max_positions) places = pack->clip->max_positions;
    if (tokenizer_encode_padded(pack->tokenizer, text, length, (size_t)places, &ids, &cut,
                                &ctx->error))
        return (Tensor){0};
    if (*group == '\0') *dropped = (int64_t)cut;
    Tensor c = clip_text_encode(ctx, pack->clip, ids.id, (int64_t)ids.count, skip, group);
    token_ids_free(&ids);
    return c;
}

/* What the U-Net is told: the prompt and, with guidance, the negative prompt. */
static Prompts condition(Context *ctx, const Pack *pack, const Request *r, int64_t *dropped) {
    const Adapter *adapter = pack->adapter;
    const Unet *unet = pack->unet;
    Noise langevin = {rng_seed(r->seed), r->noise};
    Prompts p = {.count = r->cfg_scale == 1 ? 1 : 2, .cfg_scale = r->cfg_scale};
    p.cross.original = unet->cross;
    if (adapter) {
        p.cross.added = adapter->layer;
        p.cross.out_choice = adapter->settings.out;
    }
    for (int64_t b = 0; b < p.count; b++) {
        report(r, "encode", b, p.count);
        const char *text = b == 0 ? r->prompt : r->negative, *group = b == 0 ? "" : "uncond/";
        size_t length = b == 0 ? r->prompt_length : r->negative_length;
        if (adapter) {
            Tensor c = encode(ctx, pack, text, length, &langevin, group);
            p.cross.context[b] = adapter_condition(ctx, adapter, unet, c, group);
        } else {
            int64_t skip = b == 0 ? r->clip_skip : 0; /* diffusers skips for the prompt alone */
            Tensor c = clip_encode(ctx, pack, text, length, skip, group, dropped);
            p.cross.context[b] = eq9_contexts(ctx, unet->cross, NULL, unet->cross_layers, c, c);
        }
    }
    return p;
}

/* The first latents, N(0, I), as given or as torch.randn(1, C, h, w) draws them. -> [1, h, w, C] */
static Tensor first_latents(Context *ctx, const Pack *pack, const Request *r, Noise *noise) {
    int64_t dim[3] = {pack->vae->latent_channels, r->height / pack->vae->factor,
                      r->width / pack->vae->factor};
    /* Drawn even when they are given, so that the sampler's noise, which continues this stream,
     * does not depend on where the latents come from. */
    Noise seeded = {.rng = noise->rng};
    Tensor x =
        noise_draw(ctx, noise->file && !r->init_latents ? noise : &seeded, "latents/0", 3, dim);
    noise->rng = seeded.rng;
    if (x.data && r->init_latents)
        memcpy(x.data, r->init_latents, (size_t)tensor_numel(x) * sizeof(real));
    x = channels_last(ctx, x);
    return x.data ? TENSOR_VIEW(x, 1, dim[1], dim[2], dim[0]) : x;
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

/* Where the walk begins: noise, or the picture with noise over it. */
static Tensor begin(Context *ctx, const Pack *pack, const Request *r, const Sampler *s,
                    Noise *noise, Canvas *canvas) {
    Tensor x;
    ctx->prefix[0] = "";
    if (r->init_image) {
        *canvas = canvas_new(ctx, pack->vae, r, noise);
        x = canvas->noise;
    } else {
        x = first_latents(ctx, pack, r, noise);
        observe_each(ctx, x, "latents/0");
    }
    /* Inpainting at full strength begins from noise alone; image to image never does. */
    if (r->init_image && !(r->mask && r->strength == 1))
        return sampler_add_noise(ctx, s, 0, canvas->z0, x);
    return scale(ctx, x, sampler_init_noise_sigma(s));
}

/* The latents after evaluation i as the U-Net would be shown them, decoded; nobody observes it. */
static void preview(Context *ctx, const Pack *pack, const Request *r, const Sampler *s, int64_t i,
                    Tensor latents) {
    const int64_t done = i + 1, of = sampler_evaluations(s);
    if (!r->preview || !r->preview_every || done % r->preview_every || done == of) return;
    ArenaMark mark = scope_begin(ctx);
    const Observer *observer = ctx->observer;
    Picture picture = {0};
    ctx->observer = NULL;
    Tensor z = sampler_scale_input(ctx, s, done, latents);
    Tensor image = decode(ctx, pack, r, z);
    if (!ctx->error.set && to_picture(ctx, z, image, &picture) == 0)
        r->preview(r->preview_self, done, of, &picture);
    picture_free(&picture);
    ctx->observer = observer;
    arena_release(&ctx->arena, mark);
}

static int walk(Context *ctx, const Pack *pack, const Request *r, Sampler *s, Picture *picture) {
    /* prompt -> c -> phi(c), keys and values; the same for the negative prompt */
    int64_t dropped = 0;
    Prompts prompts = condition(ctx, pack, r, &dropped);

    /* noise, or a picture -> latents, evaluation by evaluation */
    const int64_t count = sampler_evaluations(s);
    Noise noise = {rng_seed(r->seed), r->noise};
    Canvas canvas = {0};
    Tensor latents = begin(ctx, pack, r, s, &noise, &canvas);
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
    picture->dropped = dropped;
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
