/* The plain Stable Diffusion baseline's text encoder (transformers CLIPTextModel): a prompt's ids to
 * what the U-Net's cross-attentions read, without LLM and adapter.
 *
 *     ClipText *clip = clip_text_load("pack/text_encoder", &err);
 *     Tensor c = clip_text_encode(ctx, clip, ids, 77, 0, "");
 *
 * The pooled output and CLIP's projection are not used by Stable Diffusion and not computed. */
#ifndef LLMDIFF_CLIP_TEXT_H
#define LLMDIFF_CLIP_TEXT_H

#include "tensor/tensor.h"
#include "weights/model_dir.h"

typedef struct ClipTextBlock {
    const Weight *norm1_w, *norm1_b; /* [D]     layer_norm1 */
    const Weight *q_w, *q_b;         /* [D, D]  self_attn.q_proj */
    const Weight *k_w, *k_b, *v_w, *v_b;
    const Weight *out_w, *out_b;     /* [D, D]  self_attn.out_proj */
    const Weight *norm2_w, *norm2_b; /* [D]     layer_norm2 */
    const Weight *fc1_w, *fc1_b;     /* [I, D]  mlp.fc1 */
    const Weight *fc2_w, *fc2_b;     /* [D, I]  mlp.fc2 */
} ClipTextBlock;

typedef struct ClipText {
    ModelDir *files;
    int64_t layers; /* num_hidden_layers */
    int64_t D;      /* hidden_size: the U-Net's cross_attention_dim */
    int64_t heads, intermediate;
    int64_t vocabulary, max_positions;
    double norm_eps;
    bool gelu_erf;                    /* hidden_act "gelu" (SD 2.x) in place of "quick_gelu" */
    const Weight *token_embedding;    /* [vocabulary, D] */
    const Weight *position_embedding; /* [max_positions, D] */
    ClipTextBlock *block;             /* [layers] */
    const Weight *norm_w, *norm_b;    /* [D] final_layer_norm */
} ClipText;

ClipText *clip_text_load(const char *dir, Error *err); /* NULL with a message */
void clip_text_free(ClipText *clip);                   /* NULL is fine */

/* The hidden state after all blocks but the last `clip_skip`, through final_layer_norm. ids [n]: as
 * Stable Diffusion wants them, the begin token, the prompt, the end token and then the tokenizer's
 * pad token up to max_position_embeddings (77); no attention mask, so that the padding is read like
 * any token. -> [n, D]
 *
 * clip_skip counts as diffusers does: 0 skips nothing, 1 takes the output of the block before the
 * last, up to `layers`, the embeddings alone. stable-diffusion.cpp and the web UIs count from 1:
 * their "clip skip 2" is 1 here. diffusers skips for the prompt alone: the negative prompt's
 * encoding is always made with 0.
 *
 * Fails the context for an id outside the vocabulary, too many ids or layers skipped. `group`: "" for
 * the prompt, "uncond/" for the negative one; it stands before the names "text/...". */
Tensor clip_text_encode(Context *ctx, const ClipText *clip, const int64_t *ids, int64_t n,
                        int64_t clip_skip, const char *group);

#endif
