/* The LLM of any family: opening its directory, the embedding, and the way to the family's block.
 * The block itself, which is what Algorithm 1 reads, is in llm_phi.c and llm_llama.c. See llm.h. */
#include "ref/llm_family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const LlmFamily *const families[] = {&llm_phi, &llm_llama, &llm_mistral};
enum { FAMILIES = sizeof families / sizeof families[0] };

LlmScores llm_block(Context *ctx, const Llm *llm, int64_t l, Tensor x) {
    return llm->kind->block(ctx, llm, &llm->block[l], x);
}

int llm_check_length(const Llm *llm, int64_t n, Error *err) {
    if (n <= llm->max_positions) return 0;
    return fail(err, "the prompt has %lld tokens, the LLM %s has positions for %lld", (long long)n,
                model_path(llm->files), (long long)llm->max_positions);
}

Tensor llm_embedding(Context *ctx, const Llm *llm, const int64_t *ids, int64_t n) {
    llm_check_length(llm, n, &ctx->error);
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= llm->vocabulary)
            fail(&ctx->error,
                 "token %lld has id %lld, the LLM %s has embeddings for ids 0 to %lld: is the "
                 "tokenizer another model's?",
                 (long long)i, (long long)ids[i], model_path(llm->files),
                 (long long)llm->vocabulary - 1);
    return embedding(ctx, ids, n, llm->embedding);
}

/* ---- loading --------------------------------------------------------------------------------- */

/* Newer transformers writes each layer's kind of attention. A model that mixes them is not of these
 * families, though its config says so. */
static void check_layer_types(const Llm *llm) {
    ModelDir *m = llm->files;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(model_config(m), "layer_types"), *item;
    const char *expected = llm->window ? "sliding_attention" : "full_attention";
    if (!list || cJSON_IsNull(list)) return;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != llm->T) {
        config_fail(m, "layer_types: expected a list of num_hidden_layers %lld names",
                    (long long)llm->T);
        return;
    }
    cJSON_ArrayForEach(item, list) {
        const char *found = cJSON_GetStringValue(item);
        if (found && strcmp(found, expected) == 0) continue;
        config_fail(m, "layer_types: expected \"%s\" in every layer, found %s%s%s", expected,
                    found ? "\"" : "", found ? found : "no string", found ? "\"" : "");
        return;
    }
}

static void read_config(Llm *llm) {
    /* Training, generation, bookkeeping; the rotary keys and layer_types, which are read by hand;
     * pretraining_tp, which cuts the same products into slices; Llama-1's max_sequence_length, in
     * place of which upstream reads max_position_embeddings. */
    static const char *const harmless[] = {"architectures",
                                           "attention_dropout",
                                           "auto_map",
                                           "bos_token_id",
                                           "chunk_size_feed_forward",
                                           "dtype",
                                           "embd_pdrop",
                                           "eos_token_id",
                                           "id2label",
                                           "initializer_range",
                                           "is_decoder",
                                           "is_encoder_decoder",
                                           "label2id",
                                           "layer_types",
                                           "max_sequence_length",
                                           "output_attentions",
                                           "output_hidden_states",
                                           "pad_token_id",
                                           "pretraining_tp",
                                           "problem_type",
                                           "resid_pdrop",
                                           "return_dict",
                                           "rope_parameters",
                                           "rope_scaling",
                                           "sep_token_id",
                                           "tie_word_embeddings",
                                           "torch_dtype",
                                           "transformers_version",
                                           "use_cache",
                                           NULL};
    ModelDir *m = llm->files;
    llm->family = config_string(m, "model_type", "(none)");
    for (int i = 0; i < FAMILIES; i++)
        if (strcmp(llm->family, families[i]->model_type) == 0) llm->kind = families[i];
    if (!llm->kind) {
        config_fail(m,
                    "model_type: expected \"phi\", \"llama\" or \"mistral\" (the LLM families "
                    "supported), found \"%s\"",
                    llm->family);
        return;
    }
    llm->kind->read_config(llm);
    check_layer_types(llm);
    config_refuse_unknown(m, harmless);
}

static void take_tensors(Llm *llm) {
    ModelDir *m = llm->files;
    /* PhiForCausalLM saves "model.layers...", PhiModel alone "layers..."; the others likewise. */
    const char *prefix = model_has(m, "embed_tokens.weight") ? "" : "model.";
    char at[64];
    llm->embedding = model_take(m, SHAPE(llm->vocabulary, llm->D), "%sembed_tokens.weight", prefix);
    for (int64_t l = 0; l < llm->T; l++) {
        snprintf(at, sizeof at, "%slayers.%lld.", prefix, (long long)l);
        llm->kind->take_block(llm, &llm->block[l], at);
    }
    snprintf(at, sizeof at, "%s%s", prefix, llm->kind->final_norm);
    model_ignore(m, at);
    model_ignore(m, "lm_head.");
}

Llm *llm_load(const char *dir, Error *err) {
    Llm *llm = calloc(1, sizeof *llm);
    if (!llm) {
        fail(err, "out of memory loading %s", dir);
        return NULL;
    }
    llm->files = model_open(dir, err);
    if (llm->files) read_config(llm);
    if (!llm->files || model_failed(llm->files)) goto failed;
    llm->block = calloc((size_t)llm->T, sizeof *llm->block);
    if (!llm->block) {
        fail(err, "out of memory loading %s", dir);
        goto failed;
    }
    take_tensors(llm);
    if (model_finish(llm->files) == 0) return llm;
failed:
    llm_free(llm);
    return NULL;
}

void llm_free(Llm *llm) {
    if (!llm) return;
    model_close(llm->files);
    free(llm->block);
    free(llm);
}
