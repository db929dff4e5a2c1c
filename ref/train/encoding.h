/* Algorithm 1 where only g and eta change: the LLM is frozen, so that of a caption x^T and each block's
 * delta_t = S_sentence - S_word are computed once, and c is a sum over them:
 *
 *     c = c^T + sum_t [ g(t) delta_t + sqrt(2 h(t)) eps_t ],   h(t) = softplus(eta_t)
 *
 * for score "residual"; g_scale, h_scale and score "difference" as alg1_step has them.
 *
 *     FrozenPrompt prompt = frozen_prompt(ctx, llm, &settings, ids, n);
 *     Tensor c = encoding_sum(ctx, &prompt, scalars, &settings, &noise, "");
 *
 * The same bytes as alg1_encoding, with a gradient for g and eta. */
#ifndef LLMDIFF_TRAIN_ENCODING_H
#define LLMDIFF_TRAIN_ENCODING_H

#include "ref/alg1_encoding.h"

/* What the LLM says of a caption. It depends on the settings by `word_score` alone. */
typedef struct FrozenPrompt {
    Tensor x_T;   /* [N, D] the token embeddings */
    Tensor delta; /* [T, N, D] in block order, l = T - t; without the word score S_sentence */
} FrozenPrompt;

/* In the context's arena; empty Tensors if the context failed. */
FrozenPrompt frozen_prompt(Context *ctx, const Llm *llm, const Settings *choice, const int64_t *ids,
                           int64_t n);

/* c [N, D]. Noise is drawn as alg1_encoding draws it, names begin with `group`. `choice` and the prompt
 * must stay until the way back. */
Tensor encoding_sum(Context *ctx, const FrozenPrompt *prompt, Alg1Scalars scalars,
                    const Settings *choice, Noise *noise, const char *group);

#endif
