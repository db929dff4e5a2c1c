/* Family phi (Phi-1, Phi-1.5, Phi-2): one block with its sentence score and its word score.
 *
 * A phi block (transformers PhiDecoderLayer) runs attention and MLP in parallel under one norm:
 *     h = LayerNorm(x);   F(x) = x + W_o Attention(h) + MLP(h),   MLP(h) = W_2 act(W_1 h)
 * so the residual branch, which is the score S, is W_o Attention(h) + MLP(h), and sentence and word
 * score differ in the attention's mask alone. */
#include "ref/llm_family.h"

#include <string.h>

/* ---- the block ------------------------------------------------------------------------------- */

/* x [N, heads d] normed per head (qk_layernorm), if the model does that. */
static Tensor head_norm(Context *ctx, Tensor x, const Weight *w, const Weight *b, int64_t heads,
                        const Llm *llm) {
    if (!w) return x;
    int64_t rows = tensor_rows(x);
    Tensor y = TENSOR_VIEW(x, rows * heads, llm->head_dim);
    return TENSOR_VIEW(layer_norm(ctx, y, w, b, llm->norm_eps), rows, heads * llm->head_dim);
}

/* fc2(act(fc1(h))). h [N, D] -> [N, D] */
static Tensor mlp(Context *ctx, const Llm *llm, const LlmBlock *b, Tensor h) {
    ArenaMark mark = scope_begin(ctx);
    Tensor y = linear(ctx, h, b->fc1_w, b->fc1_b);
    y = llm->gelu_erf ? gelu(ctx, y) : gelu_new(ctx, y);
    return scope_end(ctx, mark, linear(ctx, y, b->fc2_w, b->fc2_b));
}

/* W_o Attention(h), causal. h [N, D], v [N, kv_heads d] -> [1, N, D] */
static Tensor causal_attention(Context *ctx, const Llm *llm, const LlmBlock *b, Tensor h,
                               Tensor v) {
    ArenaMark mark = scope_begin(ctx);
    Tensor q =
        head_norm(ctx, linear(ctx, h, b->q_w, b->q_b), b->q_norm_w, b->q_norm_b, llm->heads, llm);
    Tensor k = head_norm(ctx, linear(ctx, h, b->k_w, b->k_b), b->k_norm_w, b->k_norm_b,
                         llm->kv_heads, llm);
    q = rope(ctx, q, llm->heads, llm->rotary, llm->rope_theta, 1, 0);
    k = rope(ctx, k, llm->kv_heads, llm->rotary, llm->rope_theta, 1, 0);
    q = TENSOR_VIEW(q, 1, tensor_rows(h), llm->heads * llm->head_dim);
    Tensor y = attention(ctx, q, &k, &v, llm->heads, llm->kv_heads, MASK_CAUSAL);
    return scope_end(ctx, mark, linear(ctx, y, b->out_w, b->out_b));
}

/* The word pass: the same h, hence the same value rows v; with one visible token the softmax is 1, so
 * that queries and keys play no part: W_o v. */
static Tensor own_attention(Context *ctx, const Llm *llm, const LlmBlock *b, Tensor h, Tensor v) {
    ArenaMark mark = scope_begin(ctx);
    Tensor not_read = TENSOR_VIEW(h, 1, tensor_rows(h), llm->D);
    Tensor y = attention(ctx, not_read, &v, &v, llm->heads, llm->kv_heads, MASK_OWN);
    return scope_end(ctx, mark, linear(ctx, y, b->out_w, b->out_b));
}

static LlmScores phi_block(Context *ctx, const Llm *llm, const LlmBlock *b, Tensor x) {
    Tensor h = layer_norm(ctx, x, b->norm_w, b->norm_b, llm->norm_eps);
    Tensor v = linear(ctx, h, b->v_w, b->v_b);
    Tensor m = mlp(ctx, llm, b, h);
    Tensor rows = TENSOR_VIEW(causal_attention(ctx, llm, b, h, v), tensor_rows(x), llm->D);
    Tensor own = TENSOR_VIEW(own_attention(ctx, llm, b, h, v), tensor_rows(x), llm->D);
    Tensor s_sentence = add(ctx, rows, m);
    Tensor s_word = add(ctx, own, m);
    return (LlmScores){add(ctx, x, s_sentence), s_sentence, s_word};
}

/* ---- loading --------------------------------------------------------------------------------- */

/* transformers wrote rope_theta and partial_rotary_factor at the top level until version 4 and
 * inside "rope_parameters" since version 5; both are read. */
static void read_rope(Llm *llm, double *partial) {
    ModelDir *m = llm->files;
    llm->rope_theta = config_double(m, "rope_theta", 10000.0);
    *partial = config_double(m, "partial_rotary_factor", 0.5);
    const cJSON *scaling = cJSON_GetObjectItemCaseSensitive(model_config(m), "rope_scaling");
    const cJSON *rope = cJSON_GetObjectItemCaseSensitive(model_config(m), "rope_parameters");
    for (const cJSON *item = cJSON_IsObject(rope) ? rope->child : NULL; item; item = item->next) {
        if (strcmp(item->string, "rope_theta") == 0 && cJSON_IsNumber(item))
            llm->rope_theta = item->valuedouble;
        else if (strcmp(item->string, "partial_rotary_factor") == 0 && cJSON_IsNumber(item))
            *partial = item->valuedouble;
        else if (strcmp(item->string, "rope_type") != 0 || !cJSON_IsString(item) ||
                 strcmp(item->valuestring, "default") != 0)
            config_fail(m,
                        "rope_parameters.%s: only rope_type \"default\", rope_theta and "
                        "partial_rotary_factor are supported",
                        item->string);
    }
    if (scaling && !cJSON_IsNull(scaling))
        config_fail(m, "rope_scaling: expected null (no other kind is supported for phi)");
}

static void read_config(Llm *llm) {
    ModelDir *m = llm->files;
    llm->D = config_int(m, "hidden_size", 2048, 1, 1 << 20);
    llm->T = config_int(m, "num_hidden_layers", 24, 1, 4096);
    llm->vocabulary = config_int(m, "vocab_size", 51200, 1, INT32_MAX);
    llm->intermediate = config_int(m, "intermediate_size", 8192, 1, 1 << 24);
    llm->max_positions = config_int(m, "max_position_embeddings", 2048, 1, INT32_MAX);
    llm->heads = config_int(m, "num_attention_heads", 32, 1, 1 << 16);
    llm->kv_heads = config_int(m, "num_key_value_heads", llm->heads, 1, 1 << 16);
    llm->norm_eps = config_double(m, "layer_norm_eps", 1e-5);
    if (!(llm->norm_eps >= 0))
        config_fail(m, "layer_norm_eps: expected 0 or more, found %g", llm->norm_eps);
    if (llm->D % llm->heads || llm->heads % llm->kv_heads)
        config_fail(m,
                    "num_attention_heads %lld must divide hidden_size %lld and be a multiple of "
                    "num_key_value_heads %lld",
                    (long long)llm->heads, (long long)llm->D, (long long)llm->kv_heads);
    llm->head_dim = llm->D / llm->heads;
    llm->qk_norm = config_bool(m, "qk_layernorm", false);
    const char *act = config_string(m, "hidden_act", "gelu_new");
    llm->gelu_erf = strcmp(act, "gelu") == 0;
    if (!llm->gelu_erf && strcmp(act, "gelu_new") != 0)
        config_fail(m, "hidden_act: expected \"gelu_new\" or \"gelu\", found \"%s\"", act);
    double partial;
    read_rope(llm, &partial);
    const bool sane = partial > 0 && partial <= 1;
    llm->rotary = sane ? (int64_t)((double)llm->head_dim * partial) : 0;
    if (!sane || llm->rotary < 2 || llm->rotary % 2)
        config_fail(m,
                    "partial_rotary_factor %g rotates %lld of %lld features; expected an even "
                    "number from 2 on",
                    partial, (long long)llm->rotary, (long long)llm->head_dim);
    if (!(llm->rope_theta > 0)) config_fail(m, "rope_theta: expected a positive number");
}

static void take_block(const Llm *llm, LlmBlock *b, const char *at) {
    ModelDir *m = llm->files;
    int64_t D = llm->D, I = llm->intermediate, d = llm->head_dim, kv = llm->kv_heads * d;
    b->norm_w = model_take(m, SHAPE(D), "%sinput_layernorm.weight", at);
    b->norm_b = model_take(m, SHAPE(D), "%sinput_layernorm.bias", at);
    b->q_w = model_take(m, SHAPE(D, D), "%sself_attn.q_proj.weight", at);
    b->q_b = model_take(m, SHAPE(D), "%sself_attn.q_proj.bias", at);
    b->k_w = model_take(m, SHAPE(kv, D), "%sself_attn.k_proj.weight", at);
    b->k_b = model_take(m, SHAPE(kv), "%sself_attn.k_proj.bias", at);
    b->v_w = model_take(m, SHAPE(kv, D), "%sself_attn.v_proj.weight", at);
    b->v_b = model_take(m, SHAPE(kv), "%sself_attn.v_proj.bias", at);
    b->out_w = model_take(m, SHAPE(D, D), "%sself_attn.dense.weight", at);
    b->out_b = model_take(m, SHAPE(D), "%sself_attn.dense.bias", at);
    b->fc1_w = model_take(m, SHAPE(I, D), "%smlp.fc1.weight", at);
    b->fc1_b = model_take(m, SHAPE(I), "%smlp.fc1.bias", at);
    b->fc2_w = model_take(m, SHAPE(D, I), "%smlp.fc2.weight", at);
    b->fc2_b = model_take(m, SHAPE(D), "%smlp.fc2.bias", at);
    if (!llm->qk_norm) return;
    b->q_norm_w = model_take(m, SHAPE(d), "%sself_attn.q_layernorm.weight", at);
    b->q_norm_b = model_take(m, SHAPE(d), "%sself_attn.q_layernorm.bias", at);
    b->k_norm_w = model_take(m, SHAPE(d), "%sself_attn.k_layernorm.weight", at);
    b->k_norm_b = model_take(m, SHAPE(d), "%sself_attn.k_layernorm.bias", at);
}

const LlmFamily llm_phi = {"phi", "final_layernorm.", read_config, take_block, phi_block};
