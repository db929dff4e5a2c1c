/* PNDM: pseudo numerical methods for diffusion models (Liu et al., arXiv 2202.09778), as PNDMScheduler
 * has them: DDIM's step as a transfer between any two timesteps, fed with a combination of several
 * model outputs, of which the first few steps need more evaluations than one. */
#include "ref/sampler_kinds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RUNGE_KUTTA = 12 }; /* evaluations of three Runge-Kutta steps */

/* s->kept: the latest four outputs, newest first; what the evaluations of one step share. */
enum { OUTPUT = 0, LATENTS = 4, SUM = 5 };

/* ---- which evaluations --------------------------------------------------------------------------- */

/* Of the run's timesteps d_0 > d_1 > ... (h half the distance between two):
 *
 *     skip_prk_steps    d0 | d1  d1 | d2 | d3 | ...
 *     else              d0  d1+h  d1+h  d1 | d1  d2+h  d2+h  d2 | d2  d3+h  d3+h  d3 | d3 | d4 | ...
 */
static int place_evaluations(Sampler *s, Error *err) {
    const int64_t n = s->count;
    const bool skip = s->schedule->skip_prk_steps;
    if (!skip && n < 4)
        return sampler_refuse(s, "skip_prk_steps", "true below 4 steps (its Runge-Kutta steps)",
                              "false", err);
    const int64_t count = skip ? n + (n > 1) : n - 3 + RUNGE_KUTTA;
    double *d = s->t, *t = calloc((size_t)count, sizeof *t);
    if (!t) return fail(err, "out of memory for %lld timesteps", (long long)count);
    int64_t k = 0;
    if (skip) {
        t[k++] = d[0];
        for (int64_t j = 1; j < n; j++) {
            t[k++] = d[j];
            if (j == 1) t[k++] = d[j];
        }
    } else {
        const double half = (double)(s->schedule->train_steps / s->steps / 2);
        for (int64_t j = 0; j < 3; j++) {
            t[k++] = d[j];
            t[k++] = d[j + 1] + half;
            t[k++] = d[j + 1] + half;
            t[k++] = d[j + 1];
        }
        for (int64_t j = 3; j < n; j++) t[k++] = d[j];
    }
    free(d);
    s->t = t;
    s->count = count;
    return 0;
}

int pndm_init(Sampler *s, Error *err) {
    const Schedule *c = s->schedule;
    if (c->prediction == PREDICT_SAMPLE)
        return sampler_refuse(s, "prediction_type", "\"epsilon\" or \"v_prediction\"", "\"sample\"",
                              err);
    if (c->set_alpha_to_one != 1) s->final_alpha = s->abar[0]; /* default: false */
    int spacing = c->spacing == UNSAID ? SPACING_LEADING : c->spacing;
    if (sampler_place_timesteps(s, (Grid){spacing, c->train_steps, s->steps, true}, err)) return -1;
    return place_evaluations(s, err);
}

/* ---- one step ------------------------------------------------------------------------------------ */

static double alpha_bar(const Sampler *s, int64_t t) {
    return t >= 0 ? s->abar[t] : s->final_alpha;
}

/* Formula (9) of the paper, a = abar_t, b = abar_prev:
 *
 *     x_prev = sqrt(b / a) x - (b - a) e / (a sqrt(1 - b) + sqrt(a (1 - a) b))
 *
 * With v_prediction e = sqrt(a) v + sqrt(1 - a) x, of the combined v. */
static Tensor transfer(Context *ctx, const Sampler *s, int64_t t, int64_t t_prev, Tensor m,
                       const real *x) {
    const double a = alpha_bar(s, t), b = alpha_bar(s, t_prev);
    const double keep = sqrt(b / a);
    const double turn = (b - a) / (a * sqrt(1 - b) + sqrt(a * (1 - a) * b));
    Tensor y = tensor_new(ctx, m.ndim, m.dim);
    for (int64_t j = 0; y.data && j < tensor_numel(m); j++) {
        double e = (double)m.data[j];
        if (s->schedule->prediction == PREDICT_V) e = sqrt(a) * e + sqrt(1 - a) * (double)x[j];
        y.data[j] = (real)(keep * (double)x[j] - turn * e);
    }
    return y;
}

/* Puts the newest output first. */
static bool remember(Context *ctx, Sampler *s, Tensor m) {
    real *oldest = s->kept[OUTPUT + 3];
    memmove(&s->kept[OUTPUT + 1], &s->kept[OUTPUT], 3 * sizeof s->kept[0]);
    s->kept[OUTPUT] = oldest;
    if (s->held < 4) s->held++;
    return sampler_keep(ctx, s, OUTPUT, m);
}

/* The combination sum_j w[j] e_j of the latest outputs. */
static Tensor combine(Context *ctx, const Sampler *s, Tensor like, const double *w, int n) {
    Tensor y = tensor_new(ctx, like.ndim, like.dim);
    for (int64_t k = 0; y.data && k < tensor_numel(y); k++) {
        double sum = 0;
        for (int j = 0; j < n; j++) sum += w[j] * (double)s->kept[OUTPUT + j][k];
        y.data[k] = (real)sum;
    }
    return y;
}

/* The four evaluations of a classical Runge-Kutta step (step_prk): the first three go on from the
 * step's own latents with their own output, the fourth with (m0 + 2 m1 + 2 m2 + m3) / 6. */
static Tensor runge_kutta(Context *ctx, Sampler *s, int64_t i, Tensor m, Tensor x) {
    static const double weight[4] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
    const int64_t half = s->schedule->train_steps / s->steps / 2;
    const int64_t t = (int64_t)s->t[i / 4 * 4];
    const int64_t t_prev = (int64_t)s->t[s->begin + i] - (i % 2 ? 0 : half);
    if (i % 4 == 0) {
        if (!remember(ctx, s, m) || !sampler_keep(ctx, s, LATENTS, x)) return (Tensor){0};
        if (!sampler_keep(ctx, s, SUM, scale(ctx, m, weight[0]))) return (Tensor){0};
    } else {
        Tensor sum = TENSOR_NEW(ctx, s->kept_size);
        if (!sum.data) return sum;
        memcpy(sum.data, s->kept[SUM], (size_t)s->kept_size * sizeof(real));
        sum = axpby(ctx, 1, tensor_view(sum, m.ndim, m.dim), weight[i % 4], m);
        if (!sampler_keep(ctx, s, SUM, sum)) return (Tensor){0};
        if (i % 4 == 3) m = sum;
    }
    return transfer(ctx, s, t, t_prev, m, s->kept[LATENTS]);
}

/* Linear multistep (step_plms): Adams-Bashforth of as many orders as outputs are remembered. The
 * first step has two evaluations, the second of which takes it again with the mean of both. */
static Tensor multistep(Context *ctx, Sampler *s, int64_t i, Tensor m, Tensor x) {
    static const double weight[5][4] = {{0},
                                        {1},
                                        {3.0 / 2, -1.0 / 2},
                                        {23.0 / 12, -16.0 / 12, 5.0 / 12},
                                        {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}};
    const int64_t ratio = s->schedule->train_steps / s->steps;
    const int64_t t = (int64_t)s->t[s->begin + i];
    if (i == 1) {
        Tensor mean = combine(ctx, s, m, (double[]){0.5}, 1);
        mean = axpby(ctx, 1, mean, 0.5, m);
        return mean.data ? transfer(ctx, s, t + ratio, t, mean, s->kept[LATENTS]) : mean;
    }
    if (!remember(ctx, s, m)) return (Tensor){0};
    if (i == 0 && !sampler_keep(ctx, s, LATENTS, x)) return (Tensor){0};
    Tensor mixed = combine(ctx, s, m, weight[s->held], s->held);
    return mixed.data ? transfer(ctx, s, t, t - ratio, mixed, x.data) : mixed;
}

Tensor pndm_step(Context *ctx, Sampler *s, int64_t i, Tensor m, Tensor x) {
    if (i < RUNGE_KUTTA && !s->schedule->skip_prk_steps) return runge_kutta(ctx, s, i, m, x);
    return multistep(ctx, s, i, m, x);
}
