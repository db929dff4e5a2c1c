/* Eq. 9: the U-Net's original cross-attention and the adapter's own, blended. */
#ifndef LLMDIFF_EQ9_ATTENTION_H
#define LLMDIFF_EQ9_ATTENTION_H

#include "ref/settings.h"
#include "tensor/tensor.h"

/* The frozen cross-attention of one layer (diffusers Attention "attn2"): tau_hat. */
typedef struct CrossAttention {
    char name[120];   /* "down_blocks.0.attentions.0.transformer_blocks.0.attn2" */
    int64_t channels; /* C */
    int64_t heads;
    const Weight *to_q;                /* tau_hat_q [C, C] */
    const Weight *to_k, *to_v;         /* tau_hat_k, tau_hat_v [C, E] */
    const Weight *to_out_w, *to_out_b; /* [C, C], [C] */
} CrossAttention;

/* What the adapter adds to that layer. */
typedef struct AddedAttention {
    const Weight *tau_q;                 /* [C, C] */
    const Weight *tau_k, *tau_v;         /* [C, E], or [C, D] when tau_input is "c" */
    const Weight *tau_out_w, *tau_out_b; /* [C, C], [C]; NULL when out is "shared" */
    const Weight *a1, *b1, *a2, *b2;     /* [1] each, as learned */
    Blend blend; /* what the forward reads: these or, for each that has one, the settings' number */
    bool active; /* false: f = A_hat, as without an adapter */
} AddedAttention;

/* Keys and values of one prompt at one layer: the same for every step of a picture.
 * k_hat, v_hat, k, v [N, C]; k and v are empty without an active adapter. */
typedef struct CrossContext {
    Tensor k_hat, v_hat, k, v;
} CrossContext;

/* added may be NULL (no adapter). phi_c [N, E]; c_prime [N, E or D] is what tau_k, tau_v read. */
CrossContext eq9_context(Context *ctx, const CrossAttention *original, const AddedAttention *added,
                         Tensor phi_c, Tensor c_prime);

/* The same for all `layers` of the U-Net, in the context's arena; NULL if the context failed. `added`:
 * one for each layer, or NULL. */
CrossContext *eq9_contexts(Context *ctx, const CrossAttention *original,
                           const AddedAttention *added, int64_t layers, Tensor phi_c,
                           Tensor c_prime);

/* q [B, HW, C] -> f [B, HW, C]; context[b] belongs to element b. */
Tensor eq9_attention(Context *ctx, const CrossAttention *original, const AddedAttention *added,
                     int out_choice, Tensor q, const CrossContext *context);

#endif
