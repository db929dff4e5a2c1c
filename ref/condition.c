/* From a text to what the U-Net's cross-attentions read: by Algorithm 1 and the adapter or, for the plain
 * Stable Diffusion baseline, by CLIP's text encoder. */
#include "ref/pipeline.h"

int prompt_ids(const Pack *pack, const char *text, size_t length, TokenIds *ids, int64_t *dropped,
               Error *err) {
    *dropped = 0;
    if (!pack->clip) return tokenizer_encode(pack->tokenizer, text, length, true, ids, err);
    size_t cut = 0;
    int64_t places = tokenizer_max_length(pack->tokenizer);
    if (places < 2 || places > pack->clip->max_positions) places = pack->clip->max_positions;
    int status =
        tokenizer_encode_padded(pack->tokenizer, text, length, (size_t)places, ids, &cut, err);
    *dropped = (int64_t)cut;
    return status;
}

Tensor encode(Context *ctx, const Pack *pack, const char *text, size_t length, Noise *langevin,
              const char *group) {
    TokenIds ids;
    int64_t dropped;
    if (prompt_ids(pack, text, length, &ids, &dropped, &ctx->error)) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    Tensor c = alg1_encoding(ctx, pack->llm, pack->adapter->scalars, &pack->adapter->settings,
                             ids.id, (int64_t)ids.count, langevin, group);
    token_ids_free(&ids);
    return scope_end(ctx, mark, c);
}

/* CLIP's encoding, as plain Stable Diffusion has it. [77, E] */
static Tensor clip_encode(Context *ctx, const Pack *pack, const char *text, size_t length,
                          int64_t skip, const char *group, int64_t *dropped) {
    TokenIds ids;
    if (prompt_ids(pack, text, length, &ids, dropped, &ctx->error)) return (Tensor){0};
    Tensor c = clip_text_encode(ctx, pack->clip, ids.id, (int64_t)ids.count, skip, group);
    token_ids_free(&ids);
    return c;
}

/* What the U-Net is told: the prompt and, with guidance, the negative prompt. */
Prompts condition(Context *ctx, const Pack *pack, const Request *r) {
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
        if (r->progress) r->progress(r->progress_self, "encode", b, p.count);
        const char *text = b == 0 ? r->prompt : r->negative, *group = b == 0 ? "" : "uncond/";
        size_t length = b == 0 ? r->prompt_length : r->negative_length;
        if (adapter) {
            Tensor c = encode(ctx, pack, text, length, &langevin, group);
            p.cross.context[b] = adapter_condition(ctx, adapter, unet, c, group);
        } else {
            int64_t skip = b == 0 ? r->clip_skip : 0; /* diffusers skips for the prompt alone */
            int64_t dropped = 0;
            Tensor c = clip_encode(ctx, pack, text, length, skip, group, &dropped);
            if (b == 0) p.dropped = dropped;
            p.cross.context[b] = eq9_contexts(ctx, unet->cross, NULL, unet->cross_layers, c, c);
        }
    }
    return p;
}
