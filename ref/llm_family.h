/* What a family of LLMs is to llm.c: how it reads its config, what a block holds, and the block. */
#ifndef LLMDIFF_LLM_FAMILY_H
#define LLMDIFF_LLM_FAMILY_H

#include "ref/llm.h"

typedef struct LlmFamily {
    const char *model_type; /* in config.json */
    const char *final_norm; /* its tensors begin so; not used by the method */
    void (*read_config)(Llm *llm);
    /* Takes the tensors of the block whose names begin with `at`: "model.layers.3." */
    void (*take_block)(const Llm *llm, LlmBlock *b, const char *at);
    /* x [N, D], which both scores read. */
    LlmScores (*block)(Context *ctx, const Llm *llm, const LlmBlock *b, Tensor x);
} LlmFamily;

extern const LlmFamily llm_phi, llm_llama, llm_mistral;

#endif
