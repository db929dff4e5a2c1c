/* A golden training step (golden/export_train.py) set up in C, for the tests of training. */
#ifndef LLMDIFF_TRAIN_CASE_H
#define LLMDIFF_TRAIN_CASE_H

#include "tests/check.h"

#include "ref/train/parameters.h"
#include "ref/train/step.h"
#include "tensor/tape.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_SAMPLES = 32 };

typedef struct TrainCase {
    Golden *golden;
    Context ctx; /* holds what the samples refer to; no tape */
    Pack pack;
    TrainSample sample[MOST_SAMPLES];
    FrozenPrompt prompt[MOST_SAMPLES];
    char group[MOST_SAMPLES][16];
    int64_t samples, together; /* how many there are; go through the U-Net at once, 0: one by one */
    double snr_gamma;
} TrainCase;

static inline Tensor latents_of(TrainCase *c, int b, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "%d/train/%s", b, what);
    Tensor x = channels_last(&c->ctx, golden_tensor(c->golden, &c->ctx, name));
    return x.data ? TENSOR_VIEW(x, 1, x.dim[0], x.dim[1], x.dim[2]) : x;
}

/* All samples of the golden, as it says to; the pack without the adapter's Parameters. */
static inline void train_case_open(TrainCase *c, const char *file) {
    char adapter[96], text[8][512], name[64];
    const char *set[8];
    size_t sets = 0;
    *c = (TrainCase){.golden = golden_open(file), .ctx = {.threads = 1}};
    const Safetensors *f = golden_file(c->golden);
    snprintf(adapter, sizeof adapter, "golden/micro/%s", safetensors_metadata(f, "adapter"));
    cJSON *settings = cJSON_Parse(safetensors_metadata(f, "settings"));
    const cJSON *item;
    cJSON_ArrayForEach(item, settings) {
        char *value = cJSON_PrintUnformatted(item);
        snprintf(text[sets], sizeof text[0], "%s=%s", item->string, value);
        set[sets] = text[sets];
        sets++;
        cJSON_free(value);
    }
    cJSON_Delete(settings);
    const PackPaths paths = {.model = "golden/micro", .adapter = adapter, .set = set, .sets = sets};
    pack_open(&c->pack, &paths, PACK_GENERATE, &c->ctx.error);
    assert_context_ok(&c->ctx);
    const char *prediction = safetensors_metadata(f, "prediction");
    if (prediction && strcmp(prediction, "v_prediction") == 0)
        c->pack.schedule->prediction = PREDICT_V;
    if (safetensors_metadata(f, "zero_snr")) c->pack.schedule->rescale_betas_zero_snr = true;
    if (safetensors_metadata(f, "snr_gamma")) c->snr_gamma = golden_number(c->golden, "snr_gamma");

    for (int b = 0; b < MOST_SAMPLES; b++) {
        int64_t tokens, one;
        snprintf(name, sizeof name, "%d/ids", b);
        if (!golden_has(c->golden, name)) break;
        const int64_t *ids = golden_ids(c->golden, name, &tokens);
        snprintf(name, sizeof name, "%d/train/t", b);
        snprintf(c->group[b], sizeof c->group[b], "%d/", b);
        c->prompt[b] = frozen_prompt(&c->ctx, c->pack.llm, &c->pack.adapter->settings, ids, tokens);
        c->sample[b] = (TrainSample){
            .prompt = &c->prompt[b],
            .posterior = {latents_of(c, b, "latent_mean"), latents_of(c, b, "latent_logvar")},
            .t = *golden_ids(c->golden, name, &one),
            .noise = {.file = f},
            .group = c->group[b]};
        c->samples = b + 1;
    }
    assert_context_ok(&c->ctx);
    assert_true(c->samples >= 2);
}

static inline void train_case_close(TrainCase *c) {
    pack_close(&c->pack);
    golden_close(c->golden);
    context_free(&c->ctx);
}

/* The mean loss of `count` samples from `first` on; its gradient is added to the parameters' if ctx has
 * a tape. */
static inline double train_case_run(TrainCase *c, Context *ctx, const Parameters *p, int64_t first,
                                    int64_t count) {
    Training t;
    TrainSample *sample[MOST_SAMPLES];
    double loss = 0;
    const int64_t each = c->together ? c->together : 1;
    for (int64_t b = 0; b < count; b++) sample[b] = &c->sample[first + b];
    if (training_open(&t, &c->pack, &p->adapter, c->snr_gamma, &ctx->error) == 0)
        for (int64_t b = 0; b < count; b += each)
            loss += training_samples(ctx, &t, sample + b, each < count - b ? each : count - b,
                                     1 / (double)count) /
                    (double)count;
    training_close(&t);
    return loss;
}

#endif
