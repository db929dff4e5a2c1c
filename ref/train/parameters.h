/* What is learned: the adapter's parameters in memory, with their gradients and what AdamW remembers.
 *
 *     Parameters p;
 *     parameters_open(&p, pack.adapter, pack.unet, &(ParametersOptions){.weight_decay = 1e-2}, &err);
 *     CrossContext *kv = adapter_condition(ctx, &p.adapter, unet, c, "");   // as for inference
 *     for (int64_t i = 0; i < p.learned_count; i++) adamw_step(ctx, &adamw, step, &p.learned[i]);
 *     parameters_close(&p);
 *
 * p.adapter is the adapter that was loaded, but reads these numbers; with a tape in the context their
 * gradients are added to. */
#ifndef LLMDIFF_PARAMETERS_H
#define LLMDIFF_PARAMETERS_H

#include "ref/adapter.h"
#include "tensor/adamw.h"

typedef struct ParametersOptions {
    const char *train_only; /* an extended regular expression over the names; NULL: all */
    double weight_decay;    /* of matrices; of all else there is none (spec, section 5) */
} ParametersOptions;

typedef struct Parameters {
    Adapter adapter;
    /* All of the file, in adapter_init's order: phi.weight, phi.bias, g, eta, and layer by layer tau_q,
     * tau_k, tau_v, tau_out.{weight,bias}, a1, b1, a2, b2; data are reals. Where grad is NULL the
     * parameter stays as it is: train_only leaves it out, or the settings don't use it (layers that
     * don't blend, scalars that the settings give, eta without noise). */
    Weight *weight;
    int64_t count;
    /* Those that have a gradient, in the same order. */
    Learned *learned;
    bool *
        scalar; /* which of them are a1, b1, a2, b2, g or eta: those have a learning rate of their own */
    int64_t learned_count;
    int64_t numbers;         /* in all of `learned` */
    real *memory, *gradient; /* gradient: all of them, one after the other */
} Parameters;

/* The numbers that `from` has; it must stay open. 0, or -1 with a message and nothing to close. */
int parameters_open(Parameters *p, const Adapter *from, const Unet *unet,
                    const ParametersOptions *options, Error *err);
void parameters_close(Parameters *p);
void parameters_zero_gradients(Parameters *p);

#endif
