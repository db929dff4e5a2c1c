/* The moving average of the parameters: see ema.h. */
#include "ref/train/ema.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GRAIN 16384 /* elements per thread that are worth waking it */

int ema_open(Ema *e, const Parameters *p, double decay, Error *err) {
    *e = (Ema){.decay = decay};
    e->average = malloc((size_t)p->numbers * sizeof *e->average);
    if (!e->average) return fail(err, "out of memory for the parameters' moving averages");
    real *to = e->average;
    for (int64_t i = 0; i < p->learned_count; to += p->learned[i].n, i++)
        memcpy(to, p->learned[i].w, (size_t)p->learned[i].n * sizeof *to);
    return 0;
}

void ema_close(Ema *e) {
    free(e->average);
    *e = (Ema){0};
}

double ema_decay(const Ema *e, int64_t step) {
    const double s = (double)(step - 1);
    return s <= 0 ? 0 : fmin(e->decay, (1 + s) / (10 + s));
}

void ema_step(const Context *ctx, Ema *e, const Parameters *p, int64_t step) {
    const real rest = (real)(1 - ema_decay(e, step));
    real *average = e->average;
    for (int64_t i = 0; i < p->learned_count; average += p->learned[i].n, i++) {
        const int64_t n = p->learned[i].n;
        const real *w = p->learned[i].w;
        const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
        for (int64_t j = 0; j < n; j++) average[j] -= rest * (average[j] - w[j]);
    }
}

void ema_swap(Ema *e, Parameters *p) {
    real *average = e->average;
    for (int64_t i = 0; i < p->learned_count; average += p->learned[i].n, i++)
        for (int64_t j = 0; j < p->learned[i].n; j++) {
            const real w = p->learned[i].w[j];
            p->learned[i].w[j] = average[j];
            average[j] = w;
        }
}
