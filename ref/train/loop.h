/* A whole training run: see llmdiff_train in ref/llmdiff.h for what it does and writes.
 *
 *     TrainJob job = {.pack = pack, .options = &options, ...};
 *     TrainOutcome outcome = train(&job, &err);
 *
 *     loop.c        the steps, and what follows on one: log, checkpoint, validation picture
 *     run_begin.c   what is there before the first step: OUT, the adapter, a checkpoint gone on from
 *     run_end.c     OUT's adapter and figure6.svg; the run's memory
 *     feed.c        samples      log.c   train.jsonl      cache.c   frozen work      figure6.c  the SVG */
#ifndef LLMDIFF_TRAIN_LOOP_H
#define LLMDIFF_TRAIN_LOOP_H

#include "ref/llmdiff.h"
#include "ref/pipeline.h"

typedef struct TrainJob {
    const Pack *pack;       /* adapter: the one to begin with, or NULL: a fresh one */
    Settings settings;      /* of a fresh one */
    const char *const *set; /* [sets] what was set over the settings of an adapter's file */
    size_t sets;
    const char *const *about; /* of the pack, for a trace: key, value, ..., NULL; or NULL */
    const llmdiff_train_options *options; /* complete and within their limits */
    /* Draws the validation prompt with that adapter, which `from` is to be called, into a PNG. 0, or -1 with
     * a message; cancelled, it sets *stopped. */
    int (*draw)(void *self, const Adapter *adapter, const char *from, const char *png,
                bool *stopped, Error *err);
    void *draw_self;
} TrainJob;

typedef enum TrainOutcome { TRAIN_DONE, TRAIN_FAILED, TRAIN_CANCELLED } TrainOutcome;

/* Not TRAIN_DONE: with a message. */
TrainOutcome train(const TrainJob *job, Error *err);

#endif
