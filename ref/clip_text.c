/* CLIPTextModel: encoding and loading. See clip_text.h.
 *
 * A block (transformers CLIPEncoderLayer) is a transformer's with the norms in front:
 *     x = x + Attention(LayerNorm1(x));   x = x + MLP(LayerNorm2(x)) */
#include "ref/clip_text.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- encoding -------------------------------------------------------------------------------- */

/* token_embedding[ids] + position_embedding[0 .. n-1]. -> [n, D] */
static Tensor embeddings(Context *ctx, const ClipText *clip, const int64_t *ids, int64_t n) {
    if (ctx->error.set) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    Tensor tokens = embedding(ctx, ids, n, clip->token_embedding);
    Tensor positions = TENSOR_NEW(ctx, n, clip->D);
    if (!ctx->error.set) weight_read(clip->position_embedding, 0, n * clip->D, positions.data);
    return scope_end(ctx, mark, add(ctx, tokens, positions));
}

/* Attention(h): token i sees tokens 0 .. i. h [n, D] -> [n, D] */
static Tensor self_attention(Context *ctx, const ClipText *clip, const ClipTextBlock *b, Tensor h) {
    if (ctx->error.set) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    const int64_t n = tensor_rows(h), D = clip->D;
    Tensor q = linear(ctx, h, b->q_w, b->q_b);
    Tensor k = linear(ctx, h, b->k_w, b->k_b);
    Tensor v = linear(ctx, h, b->v_w, b->v_b);
    q = TENSOR_VIEW(q, 1, n, D);
    Tensor y = attention(ctx, q, &k, &v, clip->heads, clip->heads, MASK_CAUSAL);
    y = linear(ctx, TENSOR_VIEW(y, n, D), b->out_w, b->out_b);
    return scope_end(ctx, mark, y);
}

/* fc2(act(fc1(h))) */
static Tensor mlp(Context *ctx, const ClipText *clip, const ClipTextBlock *b, Tensor h) {
    ArenaMark mark = scope_begin(ctx);
    Tensor y = linear(ctx, h, b->fc1_w, b->fc1_b);
    y = clip->gelu_erf ? gelu(ctx, y) : quick_gelu(ctx, y);
    return scope_end(ctx, mark, linear(ctx, y, b->fc2_w, b->fc2_b));
}

static Tensor block_forward(Context *ctx, const ClipText *clip, int64_t l, Tensor x,
                            const char *group) {
    ArenaMark mark = scope_begin(ctx);
    const ClipTextBlock *b = &clip->block[l];
    const long long number = (long long)l;
    Tensor h = layer_norm(ctx, x, b->norm1_w, b->norm1_b, clip->norm_eps);
    Tensor y = self_attention(ctx, clip, b, h);
    observe(ctx, y, "%stext/encoder.layers.%lld.self_attn", group, number);
    x = add(ctx, x, y);

    h = layer_norm(ctx, x, b->norm2_w, b->norm2_b, clip->norm_eps);
    y = mlp(ctx, clip, b, h);
    observe(ctx, y, "%stext/encoder.layers.%lld.mlp", group, number);
    x = scope_end(ctx, mark, add(ctx, x, y));
    observe(ctx, x, "%stext/encoder.layers.%lld", group, number);
    return x;
}

static void check_input(Context *ctx, const ClipText *clip, const int64_t *ids, int64_t n,
                        int64_t clip_skip) {
    const char *path = model_path(clip->files);
    assert(n >= 1);
    if (n > clip->max_positions)
        fail(&ctx->error, "the prompt has %lld tokens, the text encoder %s has positions for %lld",
             (long long)n, path, (long long)clip->max_positions);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= clip->vocabulary)
            fail(&ctx->error,
                 "token %lld has id %lld, the text encoder %s has embeddings for ids 0 to %lld: is "
                 "the tokenizer another model's?",
                 (long long)i, (long long)ids[i], path, (long long)clip->vocabulary - 1);
    if (clip_skip < 0 || clip_skip > clip->layers)
        fail(&ctx->error,
             "clip skip: expected 0 to %lld, the layers of the text encoder %s, found "
             "%lld",
             (long long)clip->layers, path, (long long)clip_skip);
}

Tensor clip_text_encode(Context *ctx, const ClipText *clip, const int64_t *ids, int64_t n,
                        int64_t clip_skip, const char *group) {
    if (ctx->error.set) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    check_input(ctx, clip, ids, n, clip_skip);
    Tensor x = embeddings(ctx, clip, ids, n);
    observe(ctx, x, "%stext/embeddings", group);
    for (int64_t l = 0; l < clip->layers - clip_skip && !ctx->error.set; l++)
        x = block_forward(ctx, clip, l, x, group);
    x = scope_end(ctx, mark, layer_norm(ctx, x, clip->norm_w, clip->norm_b, clip->norm_eps));
    observe(ctx, x, "%stext/final_layer_norm", group);
    return x;
}

/* ---- loading --------------------------------------------------------------------------------- */

/* Keys that say nothing about the last hidden state: how it was trained, what the tokenizer pads with,
 * and the options of text generation that transformers once wrote into every config. */
static const char *const harmless[] = {"architectures",
                                       "attention_dropout",
                                       "bos_token_id",
                                       "chunk_size_feed_forward",
                                       "diversity_penalty",
                                       "dropout",
                                       "dtype",
                                       "encoder_no_repeat_ngram_size",
                                       "eos_token_id",
                                       "id2label",
                                       "initializer_factor",
                                       "initializer_range",
                                       "label2id",
                                       "length_penalty",
                                       "max_length",
                                       "min_length",
                                       "no_repeat_ngram_size",
                                       "num_beam_groups",
                                       "num_beams",
                                       "num_return_sequences",
                                       "pad_token_id",
                                       "projection_dim",
                                       "repetition_penalty",
                                       "return_dict",
                                       "temperature",
                                       "tie_word_embeddings",
                                       "top_k",
                                       "top_p",
                                       "torch_dtype",
                                       "transformers_version",
                                       "typical_p",
                                       NULL};

static void read_config(ClipText *clip) {
    ModelDir *m = clip->files;
    const char *type = config_string(m, "model_type", "(none)");
    if (strcmp(type, "clip_text_model") != 0) {
        config_fail(m, "model_type: expected \"clip_text_model\", found \"%s\"", type);
        return;
    }
    clip->vocabulary = config_int(m, "vocab_size", 49408, 1, INT32_MAX);
    clip->D = config_int(m, "hidden_size", 512, 1, 1 << 20);
    clip->intermediate = config_int(m, "intermediate_size", 2048, 1, 1 << 24);
    clip->layers = config_int(m, "num_hidden_layers", 12, 1, 4096);
    clip->heads = config_int(m, "num_attention_heads", 8, 1, 1 << 16);
    clip->max_positions = config_int(m, "max_position_embeddings", 77, 1, INT32_MAX);
    clip->norm_eps = config_double(m, "layer_norm_eps", 1e-5);
    if (clip->D % clip->heads)
        config_fail(m, "num_attention_heads %lld must divide hidden_size %lld",
                    (long long)clip->heads, (long long)clip->D);
    if (!(clip->norm_eps >= 0)) config_fail(m, "layer_norm_eps: expected a number from 0 on");
    const char *act = config_string(m, "hidden_act", "quick_gelu");
    clip->gelu_erf = strcmp(act, "gelu") == 0;
    if (!clip->gelu_erf && strcmp(act, "quick_gelu") != 0)
        config_fail(m, "hidden_act: expected \"quick_gelu\" or \"gelu\", found \"%s\"", act);
    config_only_bool(m, "use_attention_mask", false); /* a key that diffusers looks for */
    config_refuse_unknown(m, harmless);
}

static void take_block(ClipText *clip, const char *prefix, int64_t l) {
    ModelDir *m = clip->files;
    ClipTextBlock *b = &clip->block[l];
    const int64_t D = clip->D, I = clip->intermediate;
    char at[64];
    snprintf(at, sizeof at, "%sencoder.layers.%lld.", prefix, (long long)l);
    b->norm1_w = model_take(m, SHAPE(D), "%slayer_norm1.weight", at);
    b->norm1_b = model_take(m, SHAPE(D), "%slayer_norm1.bias", at);
    b->q_w = model_take(m, SHAPE(D, D), "%sself_attn.q_proj.weight", at);
    b->q_b = model_take(m, SHAPE(D), "%sself_attn.q_proj.bias", at);
    b->k_w = model_take(m, SHAPE(D, D), "%sself_attn.k_proj.weight", at);
    b->k_b = model_take(m, SHAPE(D), "%sself_attn.k_proj.bias", at);
    b->v_w = model_take(m, SHAPE(D, D), "%sself_attn.v_proj.weight", at);
    b->v_b = model_take(m, SHAPE(D), "%sself_attn.v_proj.bias", at);
    b->out_w = model_take(m, SHAPE(D, D), "%sself_attn.out_proj.weight", at);
    b->out_b = model_take(m, SHAPE(D), "%sself_attn.out_proj.bias", at);
    b->norm2_w = model_take(m, SHAPE(D), "%slayer_norm2.weight", at);
    b->norm2_b = model_take(m, SHAPE(D), "%slayer_norm2.bias", at);
    b->fc1_w = model_take(m, SHAPE(I, D), "%smlp.fc1.weight", at);
    b->fc1_b = model_take(m, SHAPE(I), "%smlp.fc1.bias", at);
    b->fc2_w = model_take(m, SHAPE(D, I), "%smlp.fc2.weight", at);
    b->fc2_b = model_take(m, SHAPE(D), "%smlp.fc2.bias", at);
}

static void take_parameters(ClipText *clip) {
    ModelDir *m = clip->files;
    const int64_t D = clip->D;
    /* transformers 5 dropped the prefix that Stable Diffusion's files have. */
    const char *prefix = model_has_any(m, "text_model.") ? "text_model." : "";
    clip->token_embedding =
        model_take(m, SHAPE(clip->vocabulary, D), "%sembeddings.token_embedding.weight", prefix);
    clip->position_embedding = model_take(m, SHAPE(clip->max_positions, D),
                                          "%sembeddings.position_embedding.weight", prefix);
    for (int64_t l = 0; l < clip->layers; l++) take_block(clip, prefix, l);
    clip->norm_w = model_take(m, SHAPE(D), "%sfinal_layer_norm.weight", prefix);
    clip->norm_b = model_take(m, SHAPE(D), "%sfinal_layer_norm.bias", prefix);
    /* 0, 1, 2, ...: stored by transformers until 4.30 */
    model_ignore(m, "text_model.embeddings.position_ids");
    model_ignore(m, "embeddings.position_ids");
}

ClipText *clip_text_load(const char *dir, Error *err) {
    ClipText *clip = calloc(1, sizeof *clip);
    if (!clip) {
        fail(err, "out of memory loading %s", dir);
        return NULL;
    }
    clip->files = model_open(dir, err);
    if (clip->files) read_config(clip);
    if (!clip->files || model_failed(clip->files)) goto failed;
    clip->block = calloc((size_t)clip->layers, sizeof *clip->block);
    if (!clip->block) {
        fail(err, "out of memory loading %s", dir);
        goto failed;
    }
    take_parameters(clip);
    if (model_finish(clip->files) == 0) return clip;
failed:
    clip_text_free(clip);
    return NULL;
}

void clip_text_free(ClipText *clip) {
    if (!clip) return;
    model_close(clip->files);
    free(clip->block);
    free(clip);
}
