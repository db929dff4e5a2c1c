/* The optimizer of the kit's training steps: ours, or with a known mistake in it. See run.h. */
#include "ref/yardstick/run.h"

#include <math.h>

/* ---- clipping --------------------------------------------------------------------------------------- */

static void clip_values(const Learned *p, int64_t count, double most) {
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < p[i].n; j++)
            p[i].grad[j] = (real)fmax(-most, fmin(most, (double)p[i].grad[j]));
}

double kit_clip(const Given *in, Learned *p, int64_t count, double max_norm) {
    const TrainMistake wrong = in->mistake;
    const bool otherwise =
        wrong == TRAIN_NO_CLIP || wrong == TRAIN_CLIP_TENSOR || wrong == TRAIN_CLIP_VALUE;
    const double norm = clip_gradients(in->ctx, p, count, otherwise ? INFINITY : max_norm);
    if (wrong == TRAIN_CLIP_VALUE) clip_values(p, count, max_norm);
    for (int64_t i = 0; wrong == TRAIN_CLIP_TENSOR && i < count; i++)
        clip_gradients(in->ctx, &p[i], 1, max_norm);
    return norm;
}

/* ---- AdamW ------------------------------------------------------------------------------------------ */

/* As tensor/adamw.c has it, in double, but for the mistake. */
static void mistaken_step(const AdamW *o, int64_t step, const Learned *p, TrainMistake wrong) {
    const bool swapped = wrong == TRAIN_BETAS_SWAPPED;
    const double beta1 = swapped ? o->beta2 : o->beta1, beta2 = swapped ? o->beta1 : o->beta2;
    const double n = (double)step + (wrong == TRAIN_CORRECTION_LATE);
    const bool neither = wrong == TRAIN_NO_CORRECTION;
    const double of_m = neither || wrong == TRAIN_NO_CORRECTION_M ? 1 : 1 - pow(beta1, n);
    const double of_v = neither || wrong == TRAIN_NO_CORRECTION_V ? 1 : 1 - pow(beta2, n);
    const double decay = p->weight_decay;
    for (int64_t i = 0; i < p->n; i++) {
        double w = (double)p->w[i], g = (double)p->grad[i];
        if (wrong == TRAIN_DECAY_COUPLED)
            g += decay * w;
        else
            w *= 1 - (wrong == TRAIN_DECAY_WITHOUT_LR ? 1 : o->lr) * decay;
        const double m = beta1 * (double)p->m[i] + (1 - beta1) * g;
        const double v = beta2 * (double)p->v[i] + (1 - beta2) * g * g;
        double root = sqrt(v / of_v) + o->eps;
        if (wrong == TRAIN_EPS_IN_ROOT) root = sqrt(v / of_v + o->eps);
        if (wrong == TRAIN_EPS_UNCORRECTED) root = (sqrt(v) + o->eps) / sqrt(of_v);
        if (wrong == TRAIN_EPS_DEFAULT) root = sqrt(v / of_v) + 1e-8;
        p->w[i] = (real)(w - o->lr * m / of_m / root);
        p->m[i] = (real)m;
        p->v[i] = (real)v;
    }
}

void kit_adamw(const Given *in, const AdamW *o, int64_t step, const Learned *p) {
    Learned other = *p;
    if (in->mistake == TRAIN_NO_DECAY) other.weight_decay = 0;
    if (in->mistake == TRAIN_DECAY_ALL) other.weight_decay = given_number(in, "weight_decay");
    if (in->mistake >= TRAIN_DECAY_COUPLED)
        mistaken_step(o, step, p, in->mistake);
    else
        adamw_step(in->ctx, o, step, &other);
}
