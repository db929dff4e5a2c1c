/* The learning rate of each step: diffusers' get_scheduler (optimization.py), its "linear", "cosine" and
 * "constant_with_warmup".
 *
 *     LearningRate lr = {.kind = LEARNING_RATE_COSINE, .base = 1e-4, .warmup = 500, .steps = 10000};
 *     adamw.lr = learning_rate(&lr, done);       // of the step after `done` steps: 0 for the first
 *
 * As in diffusers' training scripts the first step has lr_lambda(0), which with a warmup is 0: it learns
 * nothing and only fills AdamW's moments. Where the scripts' "constant" ignores the warmup, ours has it. */
#ifndef LLMDIFF_LEARNING_RATE_H
#define LLMDIFF_LEARNING_RATE_H

#include "tensor/error.h"

#include <stdint.h>

typedef enum LearningRateKind {
    LEARNING_RATE_CONSTANT,
    LEARNING_RATE_LINEAR,
    LEARNING_RATE_COSINE
} LearningRateKind;

typedef struct LearningRate {
    LearningRateKind kind;
    double base;
    int64_t warmup, steps; /* the warmup is part of the steps */
} LearningRate;

/* "constant", "linear" or "cosine". 0, or -1 with a message about --lr-scheduler. */
int learning_rate_kind(const char *name, LearningRateKind *kind, Error *err);
double learning_rate(const LearningRate *lr, int64_t done);

#endif
