/* Algorithm 1: from the LLM's blocks to the text encoding c. */
#ifndef LLMDIFF_ALG1_ENCODING_H
#define LLMDIFF_ALG1_ENCODING_H

#include "ref/llm.h"
#include "ref/noise.h"
#include "ref/settings.h"

/* The scalars per block that are learned with the adapter, [T] in block order: index l = T - t. */
typedef struct Alg1Scalars {
    const Weight *g;   /* g(t) */
    const Weight *eta; /* h(t) = softplus(eta) */
} Alg1Scalars;

/* ids [n] -> c [n, D]. `group` is "" for the prompt and "uncond/" for the negative one: it begins
 * the names of the activations ("uncond/alg1/c.3") and of the noise in a file. */
Tensor alg1_encoding(Context *ctx, const Llm *llm, Alg1Scalars scalars, const Settings *choice,
                     const int64_t *ids, int64_t n, Noise *noise, const char *group);

/* One step of it, in place on c [N, D]: what block t adds, with g(t), h(t) before g_scale and h_scale. `before` is
 * the delta of the block before (0 at the first), eps the noise where there is any. Returns this block's
 * delta = S_sentence - S_word (without the word score S_sentence). */
Tensor alg1_step(Context *ctx, const Settings *choice, double g, double h, LlmScores s,
                 Tensor before, Tensor eps, Tensor c);

/* Its parts. The last block that takes part (fails the context if there is no such block); g or eta of
 * block l; softplus(x) = log(1 + exp(x)), without overflow (torch.nn.functional.softplus); c^T, where
 * "normal" draws it from the noise ("alg1/c.T"); a draw like x named <group>alg1/<what>.<t>. */
int64_t alg1_last_block(Context *ctx, const Settings *choice, int64_t T);
double alg1_scalar(const Weight *w, int64_t l);
double softplus(double x);
Tensor alg1_initial(Context *ctx, const Settings *choice, Tensor x, Noise *noise, const char *group,
                    int64_t T);
Tensor alg1_draw(Context *ctx, Noise *noise, const char *group, const char *what, int64_t t,
                 Tensor like);

/* What the adapter reads: c itself, or with normalize "rms" each token's row divided by its root
 * mean square (a row of zeros stays zero). c [N, D] -> [N, D] */
Tensor alg1_normalize(Context *ctx, Tensor c, const Settings *choice);

#endif
