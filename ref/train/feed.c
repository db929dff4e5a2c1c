/* Samples made ready for a step: see feed.h. */
#include "ref/train/feed.h"

#include "ref/train/keyed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_TIMES_AS_LONG 64 /* as wide: of a longer picture too little would be left */

/* ---- which samples --------------------------------------------------------------------------------- */

static int check_tokens(const Feed *f, const Sample *s, Error *why) {
    const Llm *llm = f->pack->llm;
    TokenIds ids;
    if (tokenizer_encode(f->pack->tokenizer, s->caption, strlen(s->caption), true, &ids, why))
        return -1;
    if ((int64_t)ids.count > llm->max_positions)
        fail(why, "%s: its caption has %zu tokens, the LLM has %lld positions", s->id, ids.count,
             (long long)llm->max_positions);
    for (size_t i = 0; i < ids.count; i++)
        if (ids.id[i] >= llm->vocabulary)
            fail(why, "%s: its caption has token %lld, the LLM has %lld of them", s->id,
                 (long long)ids.id[i], (long long)llm->vocabulary);
    token_ids_free(&ids);
    return why->set ? -1 : 0;
}

static int accept(void *self, const Sample *s, Error *why) {
    const int64_t longer = s->width > s->height ? s->width : s->height;
    const int64_t shorter = s->width > s->height ? s->height : s->width;
    if (longer / shorter >= MOST_TIMES_AS_LONG)
        return fail(why,
                    "%s: a picture of %lld x %lld: expected less than %d times as long as wide",
                    s->id, (long long)s->width, (long long)s->height, MOST_TIMES_AS_LONG);
    return check_tokens(self, s, why);
}

int feed_open(Feed *f, const DatasetOptions *options, Error *err) {
    DatasetOptions o = *options;
    o.accept = accept;
    o.accept_self = f;
    f->data = dataset_open(&o, err);
    return f->data ? 0 : -1;
}

void feed_close(Feed *f) {
    dataset_close(f->data);
    f->data = NULL;
}

/* ---- frozen work ----------------------------------------------------------------------------------- */

/* What the VAE says of the augmented picture. [1, h, w, C] each */
static VaePosterior encode_picture(Context *ctx, const Feed *f, const Sample *s,
                                   const Augmentation *plan) {
    const int64_t R = f->augment.resolution;
    ArenaMark mark = scope_begin(ctx);
    Tensor image = TENSOR_NEW(ctx, 1, R, R, 3);
    if (!image.data) return (VaePosterior){0};
    augment_apply(&f->augment, plan, s->rgb, s->width, s->height, image.data, &ctx->error);
    /* Its activations' names would be the same for every sample of a step. */
    const Observer *observer = ctx->observer;
    ctx->observer = NULL;
    Tensor moments = vae_moments_piece(ctx, f->pack->vae, image, "vae/encoder/");
    ctx->observer = observer;
    moments = scope_end(ctx, mark, moments);
    return vae_posterior(ctx, moments);
}

static VaePosterior posterior_of(Context *ctx, const Feed *f, const Sample *s) {
    static const char *const names[] = {"mean", "logvar"};
    const Vae *vae = f->pack->vae;
    const int64_t side = f->augment.resolution / vae->factor;
    const Augmentation p = augment_plan(&f->augment, s->width, s->height, s->index);
    if (!f->cache || ctx->observer) return encode_picture(ctx, f, s, &p);
    char how[256], key[CACHE_KEY];
    snprintf(how, sizeof how, "moments %lld of %lld x %lld to %lld x %lld at %lld %lld flip %d",
             (long long)f->augment.resolution, (long long)s->width, (long long)s->height,
             (long long)p.width, (long long)p.height, (long long)p.left, (long long)p.top, p.flip);
    cache_key(f->cache, CACHE_VAE, how, s->rgb, (size_t)(s->width * s->height * 3), key);
    const ArenaMark mark = scope_begin(ctx);
    const Tensor there[] = {TENSOR_NEW(ctx, 1, side, side, vae->latent_channels),
                            TENSOR_NEW(ctx, 1, side, side, vae->latent_channels)};
    if (ctx->error.set) return (VaePosterior){0};
    if (cache_get(f->cache, key, 2, names, there)) return (VaePosterior){there[0], there[1]};
    arena_release(&ctx->arena, mark);
    const VaePosterior made = encode_picture(ctx, f, s, &p);
    if (!ctx->error.set)
        cache_put(f->cache, key, 2, names, (const Tensor[]){made.mean, made.logvar});
    return made;
}

static FrozenPrompt prompt_of(Context *ctx, const Feed *f, const int64_t *ids, int64_t n) {
    static const char *const names[] = {"delta"};
    const Llm *llm = f->pack->llm;
    if (!f->cache || ctx->observer) return frozen_prompt(ctx, llm, f->settings, ids, n);
    char how[64], key[CACHE_KEY];
    snprintf(how, sizeof how, "delta, word score %d", f->settings->word_score);
    cache_key(f->cache, CACHE_LLM, how, ids, (size_t)n * sizeof *ids, key);
    const ArenaMark mark = scope_begin(ctx);
    FrozenPrompt p = {llm_embedding(ctx, llm, ids, n), TENSOR_NEW(ctx, llm->T, n, llm->D)};
    if (ctx->error.set) return (FrozenPrompt){0};
    if (cache_get(f->cache, key, 1, names, &p.delta)) return p;
    arena_release(&ctx->arena, mark);
    p = frozen_prompt(ctx, llm, f->settings, ids, n);
    if (!ctx->error.set) cache_put(f->cache, key, 1, names, &p.delta);
    return p;
}

/* ---- a sample -------------------------------------------------------------------------------------- */

/* One of 2^53 steps from 0 to below 1. */
static bool drops_caption(const Feed *f, uint64_t index) {
    const uint64_t bits = keyed_bits(f->augment.seed, DRAW_DROPOUT, index, 0);
    return (double)(bits >> 11) * 0x1p-53 < f->caption_dropout;
}

/* The caption, or the begin token alone. */
static void read_caption(Context *ctx, const Feed *f, const Sample *s, Fed *fed) {
    const char *text = drops_caption(f, (uint64_t)s->index) ? "" : s->caption;
    TokenIds ids;
    char name[40];
    if (tokenizer_encode(f->pack->tokenizer, text, strlen(text), true, &ids, &ctx->error)) return;
    snprintf(name, sizeof name, "%sids", fed->group);
    if (f->show_ids && ctx->observer) f->show_ids(f->self, name, ids.id, (int64_t)ids.count);
    fed->prompt = prompt_of(ctx, f, ids.id, (int64_t)ids.count);
    observe(ctx, fed->prompt.x_T, "%sllm/x.%lld", fed->group, (long long)f->pack->llm->T);
    observe(ctx, fed->prompt.delta, "%strain/delta", fed->group);
    token_ids_free(&ids);
}

static void read_picture(Context *ctx, const Feed *f, const Sample *s, Fed *fed) {
    const VaePosterior p = fed->sample.posterior = posterior_of(ctx, f, s);
    const char *prefix = ctx->prefix[0];
    ctx->prefix[0] = fed->group;
    observe_each(ctx, p.mean, "train/latent_mean");
    observe_each(ctx, p.logvar, "train/latent_logvar");
    ctx->prefix[0] = prefix;
}

static void tell_upscaled(Feed *f, const Sample *s) {
    const int64_t R = f->augment.resolution;
    if (f->told_upscaled || (s->width >= R && s->height >= R)) return;
    char line[512];
    f->told_upscaled = true;
    snprintf(line, sizeof line,
             "warning: %.300s has %lld x %lld pixels, less than the resolution %lld: such pictures "
             "are enlarged",
             s->id, (long long)s->width, (long long)s->height, (long long)R);
    if (f->note) f->note(f->self, line);
}

int feed_next(Context *ctx, Feed *f, int64_t b, Fed *fed) {
    Sample s;
    int got = 0;
    *fed = (Fed){0};
    while (got == 0 && !poll_cancelled(ctx, "the next picture"))
        got = dataset_next(f->data, &s, &ctx->error); /* 0: another epoch */
    if (got <= 0) return -1;
    const uint64_t seed = f->augment.seed, i = (uint64_t)s.index;
    snprintf(fed->group, sizeof fed->group, "%lld/", (long long)b);
    tell_upscaled(f, &s);
    /* Neither is on the tape. */
    struct Tape *tape = ctx->tape;
    ctx->tape = NULL;
    read_caption(ctx, f, &s, fed);
    read_picture(ctx, f, &s, fed);
    ctx->tape = tape;
    fed->sample.prompt = &fed->prompt;
    fed->sample.group = fed->group;
    fed->sample.t =
        (int64_t)keyed_below(seed, DRAW_TIMESTEP, i, 0, (uint64_t)f->pack->schedule->train_steps);
    fed->sample.noise.rng = rng_seed(keyed_bits(seed, DRAW_NOISE, i, 0));
    fed->sample.noise_offset = f->noise_offset;
    fed->sample.offset.rng = rng_seed(keyed_bits(seed, DRAW_OFFSET, i, 0));
    fed->id = s.id;
    s.id = NULL;
    sample_free(&s);
    return ctx->error.set ? -1 : 0;
}

void fed_free(Fed *fed) {
    free(fed->id);
    *fed = (Fed){0};
}
