/* Eq. 9 (spec, section 4; paper, section 4.2): two cross-attentions over one prompt, blended.
 *
 *     f = A_hat(q, phi(c)) a1 exp(b1)  +  A(q, c') a2 exp(b2)
 *
 *     A_hat(q, phi(c)) = out_hat( attn( tau_hat_q(q), tau_hat_k(phi(c)), tau_hat_v(phi(c)) ) )
 *     A(q, c')         = tau_out( attn( tau_q(q),     tau_k(c'),         tau_v(c')         ) )
 *     attn(Q, K, V)    = softmax(Q K^T / sqrt(d_head)) V     per head
 */
#include "ref/eq9_attention.h"

#include <assert.h>

CrossContext eq9_context(Context *ctx, const CrossAttention *original, const AddedAttention *added,
                         Tensor phi_c, Tensor c_prime) {
    CrossContext kv = {0};
    kv.k_hat = linear(ctx, phi_c, original->to_k, NULL); /* tau_hat_k(phi(c)) */
    kv.v_hat = linear(ctx, phi_c, original->to_v, NULL); /* tau_hat_v(phi(c)) */
    if (added && added->active) {
        kv.k = linear(ctx, c_prime, added->tau_k, NULL); /* tau_k(c') */
        kv.v = linear(ctx, c_prime, added->tau_v, NULL); /* tau_v(c') */
    }
    return kv;
}

CrossContext *eq9_contexts(Context *ctx, const CrossAttention *original,
                           const AddedAttention *added, int64_t layers, Tensor phi_c,
                           Tensor c_prime) {
    if (ctx->error.set) return NULL;
    CrossContext *kv = arena_alloc(&ctx->arena, (size_t)layers * sizeof *kv);
    if (!kv) {
        fail(&ctx->error, "out of memory for %lld cross-attentions", (long long)layers);
        return NULL;
    }
    for (int64_t i = 0; i < layers; i++)
        kv[i] = eq9_context(ctx, &original[i], added ? &added[i] : NULL, phi_c, c_prime);
    return kv;
}

Tensor eq9_attention(Context *ctx, const CrossAttention *layer, const AddedAttention *added,
                     int out_choice, Tensor q, const CrossContext *context) {
    if (ctx->error.set) return (Tensor){0};
    const int64_t B = q.dim[0];
    assert(B <= MAX_BATCH);
    const bool blend = added && added->active, own = out_choice == OUT_OWN;
    Tensor k_hat[MAX_BATCH], v_hat[MAX_BATCH], k[MAX_BATCH], v[MAX_BATCH];
    for (int64_t b = 0; b < B; b++) {
        k_hat[b] = context[b].k_hat;
        v_hat[b] = context[b].v_hat;
        k[b] = context[b].k;
        v[b] = context[b].v;
    }
    ArenaMark mark = scope_begin(ctx);
    observe_each(ctx, q, "%s/q", layer->name);

    /* attn(tau_hat_q(q), tau_hat_k(phi(c)), tau_hat_v(phi(c))) */
    Tensor original = attention(ctx, linear(ctx, q, layer->to_q, NULL), k_hat, v_hat, layer->heads,
                                layer->heads, MASK_NONE);
    if (own) original = linear(ctx, original, layer->to_out_w, layer->to_out_b);
    observe_each(ctx, original, "%s/original", layer->name);
    Tensor f = original;

    if (blend) {
        /* attn(tau_q(q), tau_k(c'), tau_v(c')) */
        Tensor ours = attention(ctx, linear(ctx, q, added->tau_q, NULL), k, v, layer->heads,
                                layer->heads, MASK_NONE);
        if (own) ours = linear(ctx, ours, added->tau_out_w, added->tau_out_b);
        observe_each(ctx, ours, "%s/added", layer->name);

        /* f = A_hat a1 exp(b1) + A a2 exp(b2) */
        f = blend_exp(ctx, added->blend, original, ours);
    }
    if (!own) f = linear(ctx, f, layer->to_out_w, layer->to_out_b);
    observe_each(ctx, f, "%s/f", layer->name);
    return scope_end(ctx, mark, f);
}
