/* How parameters are updated from their gradients: torch.optim.AdamW and
 * torch.nn.utils.clip_grad_norm_, the same numbers in the same order.
 *
 *     double norm = clip_gradients(&ctx, parameters, count, 1.0);
 *     for (int i = 0; i < count; i++) adamw_step(&ctx, &options, step, &parameters[i]);   // step 1, 2, ...
 */
#ifndef LLMDIFF_ADAMW_H
#define LLMDIFF_ADAMW_H

#include "tensor/tensor.h"

typedef struct AdamW {
    double lr, beta1, beta2, eps;
} AdamW;

/* One learned tensor of n elements, with its gradient and what the optimizer remembers of it (zero
 * before the first step). */
typedef struct Learned {
    real *w, *grad, *m, *v;
    int64_t n;
    double weight_decay; /* 0 for what is no matrix (spec, section 5) */
} Learned;

/* The norm of all gradients together, before they are scaled: by max_norm / (norm + 1e-6), if that is
 * less than 1. NaN or infinity, if a gradient is not finite: then don't step. */
double clip_gradients(Context *ctx, const Learned *p, int64_t count, double max_norm);

/* Step number `step`, counted from 1. */
void adamw_step(const Context *ctx, const AdamW *o, int64_t step, const Learned *p);

#endif
