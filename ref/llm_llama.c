/* Families llama (Llama-1 and -2, Vicuna, TinyLlama) and mistral: one block with its two scores.
 *
 * A llama block (transformers LlamaDecoderLayer, MistralDecoderLayer) runs its MLP after its
 * attention, each under a norm of its own:
 *     h = RMSNorm(x);   a = x + W_o Attention(h);   F(x) = a + MLP(RMSNorm(a))
 *     MLP(h) = W_down (act(W_gate h) * W_up h),  act: silu, or gelu by hidden_act
 * so the residual branch, which is the score, is
 *     S = W_o Attention(h) + MLP(RMSNorm(x + W_o Attention(h)))
 * The MLP reads what the attention gave, so that, unlike phi's, it does not cancel from
 * S_sentence - S_word: the word pass runs it again, on its own a. S is summed as it stands here, not
 * taken as F(x) - x, which would lose the digits by which x is larger. */
#include "ref/llm_family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the block ------------------------------------------------------------------------------- */

/* Attention(h), causal, in mistral no further back than the window. h [N, D], v [N, kv_heads d]
 * -> [N, heads d] */
static Tensor causal_heads(Context *ctx, const Llm *llm, const LlmBlock *b, Tensor h, Tensor v) {
    ArenaMark mark = scope_begin(ctx);
    int64_t N = tensor_rows(h), width = llm->heads * llm->head_dim;
    Tensor q = linear(ctx, h, b->q_w, b->q_b), k = linear(ctx, h, b->k_w, b->k_b);
    q = rope(ctx, q, llm->heads, llm->rotary, llm->rope_theta, llm->rope_factor, 0);
    k = rope(ctx, k, llm->kv_heads, llm->rotary, llm->rope_theta, llm->rope_factor, 0);
    q = TENSOR_VIEW(q, 1, N, width);
    Tensor y = llm->window
                   ? attention_window(ctx, q, &k, &v, llm->heads, llm->kv_heads, llm->window)
                   : attention(ctx, q, &k, &v, llm->heads, llm->kv_heads, MASK_CAUSAL);
    return scope_end(ctx, mark, TENSOR_VIEW(y, N, width));
}

/* Attention(h) of the word pass: the same h, hence the same value rows v; with one visible token the
 * softmax is 1, so each head is its own value row. -> [N, heads d] */
static Tensor own_heads(Context *ctx, const Llm *llm, Tensor v) {
    int64_t N = tensor_rows(v), width = llm->heads * llm->head_dim;
    ArenaMark mark = scope_begin(ctx);
    Tensor not_read = TENSOR_NEW(ctx, 1, N, width);
    Tensor y = attention(ctx, not_read, &v, &v, llm->heads, llm->kv_heads, MASK_OWN);
    return scope_end(ctx, mark, TENSOR_VIEW(y, N, width));
}

/* W_down (act(W_gate h) * W_up h). h [N, D] -> [N, D] */
static Tensor mlp(Context *ctx, const Llm *llm, const LlmBlock *b, Tensor h) {
    ArenaMark mark = scope_begin(ctx);
    Tensor gate = linear(ctx, h, b->gate_w, b->gate_b);
    gate = llm->gelu_erf ? gelu(ctx, gate) : silu(ctx, gate);
    Tensor y = mul(ctx, gate, linear(ctx, h, b->up_w, b->up_b));
    return scope_end(ctx, mark, linear(ctx, y, b->down_w, b->down_b));
}

/* S of one pass, from x and its attention's heads [N, heads d]. -> [N, D] */
static Tensor residual_branch(Context *ctx, const Llm *llm, const LlmBlock *b, Tensor x,
                              Tensor heads) {
    ArenaMark mark = scope_begin(ctx);
    Tensor attended = linear(ctx, heads, b->out_w, b->out_b);
    Tensor a = add(ctx, x, attended);
    Tensor m = mlp(ctx, llm, b, rms_norm(ctx, a, b->mlp_norm_w, llm->norm_eps));
    return scope_end(ctx, mark, add(ctx, attended, m));
}

static LlmScores llama_block(Context *ctx, const Llm *llm, const LlmBlock *b, Tensor x) {
    Tensor h = rms_norm(ctx, x, b->norm_w, llm->norm_eps);
    Tensor v = linear(ctx, h, b->v_w, b->v_b);
    Tensor s_sentence = residual_branch(ctx, llm, b, x, causal_heads(ctx, llm, b, h, v));
    Tensor s_word = residual_branch(ctx, llm, b, x, own_heads(ctx, llm, v));
    return (LlmScores){add(ctx, x, s_sentence), s_sentence, s_word};
}

/* ---- loading --------------------------------------------------------------------------------- */

static const cJSON *config_item(const Llm *llm, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(model_config(llm->files), key);
}

/* The object under that key, NULL if there is none or nothing in it. */
static const cJSON *rope_object(const Llm *llm, const char *key) {
    const cJSON *item = config_item(llm, key);
    if (item && !cJSON_IsNull(item) && !cJSON_IsObject(item))
        config_fail(llm->files, "%s: expected an object or null", key);
    return cJSON_IsObject(item) && item->child ? item : NULL;
}

/* The kind of scaling: "rope_type", or "type" as transformers wrote it until 4.42. */
static const char *rope_kind(const Llm *llm, const cJSON *rope) {
    const cJSON *kind = cJSON_GetObjectItemCaseSensitive(rope, "rope_type");
    if (!kind) kind = cJSON_GetObjectItemCaseSensitive(rope, "type");
    if (!kind) return "default";
    const char *name = cJSON_GetStringValue(kind);
    if (name && (!strcmp(name, "default") || !strcmp(name, "linear") || !strcmp(name, "dynamic")))
        return name;
    config_fail(llm->files,
                "%s.%s: expected \"default\", \"linear\" or \"dynamic\" (the scalings supported), "
                "found %s%s%s",
                rope->string, kind->string, name ? "\"" : "", name ? name : "no string",
                name ? "\"" : "");
    return NULL;
}

/* Rotary numbers stand at the top level with "rope_scaling" beside them (transformers 4), or all in
 * "rope_parameters" (5).
 *
 *     linear     w_j = theta^(-2j/d) / factor, at every length
 *     dynamic    theta grows with the prompt's length, but only beyond max_position_embeddings
 *                (upstream dynamic_frequency_update: seq_len > max_seq_len_cached). Upstream goes
 *                there; here a longer prompt is an error (spec, section 3), so that "dynamic" with
 *                any factor is "default" for every prompt that runs.
 *
 * Every other kind (llama3, yarn, longrope, ...) changes the frequencies at any length: refused. */
static void read_rope(Llm *llm) {
    ModelDir *m = llm->files;
    llm->rope_theta = config_double(m, "rope_theta", 10000.0);
    llm->rope_factor = 1;
    config_only_double(m, "partial_rotary_factor", 1);
    const cJSON *rope = rope_object(llm, "rope_scaling");
    const cJSON *parameters = rope_object(llm, "rope_parameters");
    if (rope && parameters) {
        config_fail(m, "rope_scaling and rope_parameters are both there: one of them must go");
        return;
    }
    if (!rope) rope = parameters;
    const char *kind = rope ? rope_kind(llm, rope) : "default";
    if (!kind) return; /* a refused kind's own keys are not worth a word */

    bool scales = strcmp(kind, "default") != 0;
    double factor = NAN;
    for (const cJSON *item = rope ? rope->child : NULL; item; item = item->next) {
        const char *key = item->string;
        double number = cJSON_IsNumber(item) ? item->valuedouble : NAN;
        if (strcmp(key, "rope_theta") == 0)
            llm->rope_theta = number;
        else if (strcmp(key, "factor") == 0 && scales)
            factor = number;
        else if (strcmp(key, "rope_type") != 0 && strcmp(key, "type") != 0 &&
                 !(strcmp(key, "partial_rotary_factor") == 0 && number == 1))
            config_fail(m, "%s.%s: not supported with rope_type \"%s\"", rope->string, key, kind);
    }
    if (!(llm->rope_theta > 0) || isinf(llm->rope_theta))
        config_fail(m, "rope_theta: expected a positive number");
    if (scales && (!(factor > 0) || isinf(factor)))
        config_fail(m, "%s.factor: expected a positive number", rope->string);
    if (strcmp(kind, "linear") == 0) llm->rope_factor = factor;
}

/* What the two classes share. */
static void read_common(Llm *llm) {
    ModelDir *m = llm->files;
    llm->D = config_int(m, "hidden_size", 4096, 1, 1 << 20);
    llm->T = config_int(m, "num_hidden_layers", 32, 1, 4096);
    llm->vocabulary = config_int(m, "vocab_size", 32000, 1, INT32_MAX);
    llm->heads = config_int(m, "num_attention_heads", 32, 1, 1 << 16);
    llm->norm_eps = config_double(m, "rms_norm_eps", 1e-6);
    if (!(llm->norm_eps >= 0))
        config_fail(m, "rms_norm_eps: expected 0 or more, found %g", llm->norm_eps);
    llm->head_dim = config_int(m, "head_dim", 0, 1, 1 << 16);
    if (llm->head_dim == 0 && llm->D % llm->heads)
        config_fail(m,
                    "num_attention_heads %lld must divide hidden_size %lld, or head_dim be there",
                    (long long)llm->heads, (long long)llm->D);
    if (llm->head_dim == 0) llm->head_dim = llm->D / llm->heads;
    if (llm->head_dim < 2 || llm->head_dim % 2)
        config_fail(m, "head_dim %lld: expected an even number", (long long)llm->head_dim);
    if (!(llm->norm_eps >= 0)) config_fail(m, "rms_norm_eps: expected a number from 0 on");
    llm->rotary = llm->head_dim;
    const char *act = config_string(m, "hidden_act", "silu");
    llm->gelu_erf = strcmp(act, "gelu") == 0;
    if (!llm->gelu_erf && strcmp(act, "silu") != 0)
        config_fail(m, "hidden_act: expected \"silu\" or \"gelu\", found \"%s\"", act);
    read_rope(llm);
}

/* num_key_value_heads, where `absent` stands for no key at all and null for as many as heads. */
static void read_kv_heads(Llm *llm, int64_t absent) {
    const char *key = "num_key_value_heads";
    if (config_item(llm, key)) absent = llm->heads;
    llm->kv_heads = config_int(llm->files, key, absent, 1, 1 << 16);
    if (llm->heads % llm->kv_heads)
        config_fail(llm->files,
                    "num_attention_heads %lld must be a multiple of num_key_value_heads %lld",
                    (long long)llm->heads, (long long)llm->kv_heads);
}

static void read_llama(Llm *llm) {
    ModelDir *m = llm->files;
    read_common(llm);
    read_kv_heads(llm, llm->heads);
    llm->intermediate = config_int(m, "intermediate_size", 11008, 1, 1 << 24);
    llm->max_positions = config_int(m, "max_position_embeddings", 2048, 1, INT32_MAX);
    llm->attn_bias = config_bool(m, "attention_bias", false);
    llm->mlp_bias = config_bool(m, "mlp_bias", false);
}

/* MistralConfig's defaults are Mistral-7B's own: 8 key heads, a window of 4096 (null: none). */
static void read_mistral(Llm *llm) {
    ModelDir *m = llm->files;
    read_common(llm);
    read_kv_heads(llm, 8);
    llm->intermediate = config_int(m, "intermediate_size", 14336, 1, 1 << 24);
    llm->max_positions = config_int(m, "max_position_embeddings", 4096 * 32, 1, INT32_MAX);
    llm->window = config_int(m, "sliding_window", config_item(llm, "sliding_window") ? 0 : 4096, 1,
                             INT32_MAX);
}

/* A matrix and, where the config says so, its bias. */
static void take_affine(const Llm *llm, const Weight **w, const Weight **b, bool bias, int64_t out,
                        int64_t in, const char *at, const char *name) {
    *w = model_take(llm->files, SHAPE(out, in), "%s%s.weight", at, name);
    if (bias) *b = model_take(llm->files, SHAPE(out), "%s%s.bias", at, name);
}

static void take_block(const Llm *llm, LlmBlock *b, const char *at) {
    ModelDir *m = llm->files;
    int64_t D = llm->D, I = llm->intermediate;
    int64_t q = llm->heads * llm->head_dim, kv = llm->kv_heads * llm->head_dim;
    bool attn = llm->attn_bias, mlp_too = llm->mlp_bias;
    b->norm_w = model_take(m, SHAPE(D), "%sinput_layernorm.weight", at);
    take_affine(llm, &b->q_w, &b->q_b, attn, q, D, at, "self_attn.q_proj");
    take_affine(llm, &b->k_w, &b->k_b, attn, kv, D, at, "self_attn.k_proj");
    take_affine(llm, &b->v_w, &b->v_b, attn, kv, D, at, "self_attn.v_proj");
    take_affine(llm, &b->out_w, &b->out_b, attn, D, q, at, "self_attn.o_proj");
    b->mlp_norm_w = model_take(m, SHAPE(D), "%spost_attention_layernorm.weight", at);
    take_affine(llm, &b->gate_w, &b->gate_b, mlp_too, I, D, at, "mlp.gate_proj");
    take_affine(llm, &b->up_w, &b->up_b, mlp_too, I, D, at, "mlp.up_proj");
    take_affine(llm, &b->down_w, &b->down_b, mlp_too, D, I, at, "mlp.down_proj");
    /* Old checkpoints, Llama-2's and Vicuna's own among them, store the rotary frequencies in each
     * layer. Upstream ignores them too and computes its own. */
    char table[96];
    snprintf(table, sizeof table, "%sself_attn.rotary_emb.inv_freq", at);
    model_ignore(m, table);
}

const LlmFamily llm_llama = {"llama", "norm.", read_llama, take_block, llama_block};
const LlmFamily llm_mistral = {"mistral", "norm.", read_mistral, take_block, llama_block};
