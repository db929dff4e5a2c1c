/* The frozen decoder-only LLM, one block at a time, each with its two scores (spec, section 2).
 *
 *     Llm *llm = llm_load("pack/llm", &err);
 *     Tensor x = llm_embedding(ctx, llm, ids, n);                  // x^T  [N, D]
 *     for (int64_t l = 0; l < llm->T; l++) {
 *         LlmScores s = llm_block(ctx, llm, l, x);                 // t = T - l
 *         x = s.x_next;                                            // x^{t-1} = F_t(x^t)
 *     }
 *
 * Families, by config.json's model_type:
 *     phi            Phi-1, Phi-1.5, Phi-2                transformers PhiForCausalLM    llm_phi.c
 *     llama          Llama-1 and -2, Vicuna, TinyLlama    LlamaForCausalLM               llm_llama.c
 *     mistral        Mistral-7B                           MistralForCausalLM             llm_llama.c
 * The final norm and the head are not used by the method and not loaded. */
#ifndef LLMDIFF_LLM_H
#define LLMDIFF_LLM_H

#include "tensor/tensor.h"
#include "weights/model_dir.h"

/* NULL: this model, or its family, has none. d is the width of a head. */
typedef struct LlmBlock {
    const Weight *norm_w, *norm_b;       /* [D]              input_layernorm */
    const Weight *q_w, *q_b;             /* [heads d, D]     self_attn.q_proj */
    const Weight *k_w, *k_b, *v_w, *v_b; /* [kv_heads d, D]  self_attn.k_proj, v_proj */
    const Weight *out_w, *out_b;         /* [D, heads d]     W_o: self_attn.dense or o_proj */
    /* phi */
    const Weight *q_norm_w, *q_norm_b; /* [d]              self_attn.q_layernorm */
    const Weight *k_norm_w, *k_norm_b; /* [d]              self_attn.k_layernorm */
    const Weight *fc1_w, *fc1_b;       /* [I, D]           mlp.fc1 */
    const Weight *fc2_w, *fc2_b;       /* [D, I]           mlp.fc2 */
    /* llama */
    const Weight *mlp_norm_w;      /* [D]              post_attention_layernorm */
    const Weight *gate_w, *gate_b; /* [I, D]           mlp.gate_proj */
    const Weight *up_w, *up_b;     /* [I, D]           mlp.up_proj */
    const Weight *down_w, *down_b; /* [D, I]           mlp.down_proj */
} LlmBlock;

typedef struct Llm {
    ModelDir *files;
    const struct LlmFamily *kind; /* llm_family.h */
    const char *family;           /* "phi", "llama" or "mistral" */
    int64_t T;                    /* blocks: num_hidden_layers */
    int64_t D;                    /* hidden_size */
    int64_t vocabulary, max_positions;
    int64_t heads, kv_heads, head_dim;
    int64_t intermediate;
    int64_t window; /* keys a query sees, its own included; 0: all before it. mistral */
    int64_t rotary; /* features of each head that are rotated */
    double rope_theta, rope_factor, norm_eps;
    bool gelu_erf;            /* hidden_act "gelu" in place of phi's "gelu_new" or llama's "silu" */
    bool qk_norm;             /* phi: qk_layernorm */
    bool attn_bias, mlp_bias; /* llama: attention_bias, mlp_bias */
    const Weight *embedding;  /* [vocabulary, D] */
    LlmBlock *block;          /* [T] */
} Llm;

/* x^{t-1} = F_t(x^t) and the two scores, all [N, D]:
 *     s_sentence = F_t(x^t)[d] - x^t[d]          token d sees tokens 1 .. d
 *     s_word     = F_t(x^t[d] alone)[d] - x^t[d] token d sees itself alone */
typedef struct LlmScores {
    Tensor x_next, s_sentence, s_word;
} LlmScores;

/* NULL with a message: missing file, another family, a config or a tensor that doesn't fit. */
Llm *llm_load(const char *dir, Error *err);
void llm_free(Llm *llm); /* NULL is fine */

/* The embedding rows of ids [n], x^T. Fails the context for an id outside the vocabulary or more
 * tokens than max_position_embeddings. -> [n, D] */
Tensor llm_embedding(Context *ctx, const Llm *llm, const int64_t *ids, int64_t n);
/* That many tokens, asked before any work. 0 or -1. */
int llm_check_length(const Llm *llm, int64_t n, Error *err);
/* Block l (0-based; time t = T - l) applied to x [N, D]. */
LlmScores llm_block(Context *ctx, const Llm *llm, int64_t l, Tensor x);

#endif
