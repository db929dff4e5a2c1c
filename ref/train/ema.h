/* The moving average of what is learned: diffusers' EMAModel (training_utils.py), without its
 * use_ema_warmup, as its training scripts make it.
 *
 *     Ema ema;
 *     ema_open(&ema, &parameters, 0.9999, &err);      // begins as a copy of the parameters
 *     ema_step(&ctx, &ema, &parameters, step);        // after AdamW's step 1, 2, ...
 *     ema_swap(&ema, &parameters);  ...draw...  ema_swap(&ema, &parameters);
 *     ema_close(&ema);
 *
 * What isn't learned doesn't change and has no average. */
#ifndef LLMDIFF_EMA_H
#define LLMDIFF_EMA_H

#include "ref/train/parameters.h"

typedef struct Ema {
    real *average; /* [parameters->numbers]: those of `learned`, one after the other */
    double decay;
} Ema;

int ema_open(Ema *e, const Parameters *p, double decay, Error *err);
void ema_close(Ema *e);

/* Of step 1, 2, ...: 0 for step 1, which makes the average the parameters; then with s = step - 1
 * min(decay, (1 + s) / (10 + s)). */
double ema_decay(const Ema *e, int64_t step);
/* average <- average - (1 - ema_decay(step)) (average - parameter) */
void ema_step(const Context *ctx, Ema *e, const Parameters *p, int64_t step);

/* Exchanges averages and parameters, so that p->adapter draws with the other ones. Twice: as before, bit
 * for bit. */
void ema_swap(Ema *e, Parameters *p);

#endif
