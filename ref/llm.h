/* The frozen decoder-only LLM, one block at a time, each with its two scores (spec, section 2).
 *
 *     Llm *llm = llm_load("pack/llm", &err);
 *     Tensor x = llm_embedding(ctx, llm, ids, n);                  // x^T  [N, D]
 *     for (int64_t l = 0; l < llm->T; l++) {
 *         LlmScores s = llm_block(ctx, llm, l, x);                 // t = T - l
 *         x = s.x_next;                                            // x^{t-1} = F_t(x^t)
 *     }
 *
 * Family phi (Phi-1, Phi-1.5, Phi-2): transformers PhiForCausalLM. The final norm and the head are
 * not used by the method and not loaded. */
#ifndef LLMDIFF_LLM_H
#define LLMDIFF_LLM_H

#include "tensor/tensor.h"
#include "weights/model_dir.h"

typedef struct LlmBlock {
    const Weight *norm_w, *norm_b;       /* [D]          input_layernorm */
    const Weight *q_w, *q_b;             /* [D, D]       self_attn.q_proj */
    const Weight *k_w, *k_b, *v_w, *v_b; /* [kv_heads d, D] */
    const Weight *q_norm_w, *q_norm_b;   /* [d]          q_layernorm, or NULL */
    const Weight *k_norm_w, *k_norm_b;   /* [d]          k_layernorm, or NULL */
    const Weight *dense_w, *dense_b;     /* [D, D]       self_attn.dense: W_o */
    const Weight *fc1_w, *fc1_b;         /* [I, D]       mlp.fc1 */
    const Weight *fc2_w, *fc2_b;         /* [D, I]       mlp.fc2 */
} LlmBlock;

typedef struct Llm {
    ModelDir *files;
    const char *family; /* "phi" */
    int64_t T;          /* blocks: num_hidden_layers */
    int64_t D;          /* hidden_size */
    int64_t vocabulary, max_positions;
    int64_t heads, kv_heads, head_dim;
    int64_t intermediate;
    int64_t rotary; /* features of each head that are rotated: partial_rotary_factor * head_dim */
    double rope_theta, norm_eps;
    bool gelu_erf;           /* hidden_act "gelu" in place of "gelu_new" */
    const Weight *embedding; /* [vocabulary, D] */
    LlmBlock *block;         /* [T] */
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
/* Block l (0-based; time t = T - l) applied to x [N, D]. */
LlmScores llm_block(Context *ctx, const Llm *llm, int64_t l, Tensor x);

#endif
