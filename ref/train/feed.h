/* From the data set to what a step takes: a picture and its caption drawn, augmented, encoded by the frozen
 * VAE and LLM (or found in the cache), and the sample's own random numbers.
 *
 *     Feed f = {.pack = pack, .settings = &adapter->settings, ...};
 *     feed_open(&f, &(DatasetOptions){.dir = "flowers", .seed = 42}, &err);
 *     Fed fed;
 *     if (feed_next(ctx, &f, 0, &fed) == 0) training_sample(ctx, &training, &fed.sample, share);
 *     fed_free(&fed);                                    // its tensors are in the context's arena
 *
 * Every draw is keyed by the seed, what it is for, and Sample.index: so that nothing depends on how
 * samples are cut into batches and shared out, on threads, on restarts, or on what the cache holds. */
#ifndef LLMDIFF_FEED_H
#define LLMDIFF_FEED_H

#include "ref/train/augment.h"
#include "ref/train/cache.h"
#include "ref/train/step.h"

typedef struct Feed {
    const Pack *pack;         /* the LLM with its tokenizer, the VAE, the schedule */
    const Settings *settings; /* the adapter's */
    Augment augment;          /* its seed is every draw's */
    double caption_dropout, noise_offset;
    Cache *cache; /* NULL: none */
    void (*note)(void *self, const char *line);
    /* NULL, or shown the token ids of what is trained on, as "3/ids" */
    void (*show_ids)(void *self, const char *name, const int64_t *ids, int64_t n);
    void *self;
    /* its own */
    Dataset *data;
    bool told_upscaled;
} Feed;

typedef struct Fed {
    TrainSample sample; /* points into this struct */
    FrozenPrompt prompt;
    char group[24]; /* "3/" */
    char *id;       /* Sample.id */
} Fed;

/* Samples that can't be trained on (more tokens than the LLM has positions, a picture all but a line) count
 * as broken ones. `options` without accept. 0 or -1. */
int feed_open(Feed *f, const DatasetOptions *options, Error *err);
void feed_close(Feed *f);

/* Number b of a step. 0, or -1 with the message in ctx->error; fed_free in any case. */
int feed_next(Context *ctx, Feed *f, int64_t b, Fed *fed);
void fed_free(Fed *fed);

#endif
