/* The LLMDiff adapter: phi, the added attentions, g and eta (spec, sections 3 and 4).
 *
 *     Adapter *a = adapter_load("pack/adapter", llm, unet, NULL, 0, &err);
 *     CrossContext *kv = adapter_condition(ctx, a, unet, c, "");   // once per picture
 *
 * One adapter.safetensors beside a config.json with every choice of the spec. */
#ifndef LLMDIFF_ADAPTER_H
#define LLMDIFF_ADAPTER_H

#include "ref/alg1_encoding.h"
#include "ref/unet.h"

typedef struct Adapter {
    ModelDir *files;
    Settings settings;
    int64_t D, T, E; /* the LLM's width and blocks, the U-Net's text width */
    Affine phi;      /* [E, D], [E]; NULLs when loaded without a U-Net */
    Alg1Scalars scalars;
    AddedAttention *layer; /* [unet->cross_layers]; NULL when loaded without a U-Net */
    Weight number[4];      /* a1, b1, a2, b2 of the settings, where they are numbers */
} Adapter;

/* unet NULL: for the encoding alone. `set`: n assignments "KEY=VALUE" that override config.json.
 * NULL with a message: an adapter for another LLM or U-Net, a missing or misshapen parameter. */
Adapter *adapter_load(const char *dir, const Llm *llm, const Unet *unet, const char *const *set,
                      size_t n, Error *err);
void adapter_free(Adapter *a); /* NULL is fine */

/* What every U-Net evaluation of one picture reads of a prompt: the keys and values of each layer
 * [unet->cross_layers], in the context's arena; NULL if the context failed. c [N, D], as Algorithm 1
 * returns it. `group`: "" or "uncond/", before the activations' names. */
CrossContext *adapter_condition(Context *ctx, const Adapter *a, const Unet *unet, Tensor c,
                                const char *group);

/* Writes a fresh adapter for this LLM and this U-Net to `dir` (created; an adapter already there is
 * an error): a1 = 1, b1 = a2 = b2 = 0, tau copies of tau_hat where shapes agree, else and phi as
 * torch.nn.Linear starts, drawn from `seed`; g = 1, eta = -12. Returns its number of parameters,
 * or -1 with a message. */
int64_t adapter_init(const char *dir, const Llm *llm, const Unet *unet, const Settings *settings,
                     uint64_t seed, Error *err);

#endif
