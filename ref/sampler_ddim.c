/* DDPM and DDIM: alpha-bar, the predicted x0 and the noise between two timesteps.
 *
 * In both, the model's output m says what the clean latents x0 and the noise e are that x is made
 * of, x = sqrt(abar) x0 + sqrt(1 - abar) e:
 *
 *     epsilon         e = m                                  x0 = (x - sqrt(1 - abar) m) / sqrt(abar)
 *     sample          e = (x - sqrt(abar) m) / sqrt(1 - abar)              x0 = m
 *     v_prediction    e = sqrt(abar) m + sqrt(1 - abar) x    x0 = sqrt(abar) x - sqrt(1 - abar) m
 *
 * and clip_sample clips x0 alone: e stays what the unclipped x0 said. */
#include "ref/sampler_kinds.h"

#include <math.h>

typedef struct Parts {
    double x0, e;
} Parts;

static Parts parts(const Schedule *c, double abar, double m, double x) {
    const double signal = sqrt(abar), remains = sqrt(1 - abar);
    Parts p = {0};
    switch (c->prediction) {
    case PREDICT_EPSILON: p = (Parts){(x - remains * m) / signal, m}; break;
    case PREDICT_SAMPLE: p = (Parts){m, (x - signal * m) / remains}; break;
    case PREDICT_V: p = (Parts){signal * x - remains * m, signal * m + remains * x}; break;
    }
    if (c->clip_sample) p.x0 = fmin(fmax(p.x0, -c->clip_sample_range), c->clip_sample_range);
    return p;
}

static int place(Sampler *s, Error *err) {
    const Schedule *c = s->schedule;
    if (c->thresholding) return sampler_refuse(s, "thresholding", "false", "true", err);
    int spacing = c->spacing == UNSAID ? SPACING_LEADING : c->spacing;
    return sampler_place_timesteps(s, (Grid){spacing, c->train_steps, s->steps, true}, err);
}

/* ---- DDIM ---------------------------------------------------------------------------------------- */

int ddim_init(Sampler *s, Error *err) {
    if (s->schedule->set_alpha_to_one == 0) s->final_alpha = s->abar[0]; /* default: true */
    return place(s, err);
}

/* DDIM (arXiv 2010.02502, equations 12 and 16), as DDIMScheduler.step has it:
 *
 *     t_prev  = t - train_steps / steps             (whole division; alpha-bar before 0: final_alpha)
 *     sigma^2 = eta^2 (1 - abar_prev) / (1 - abar) (1 - abar / abar_prev)
 *     x_prev  = sqrt(abar_prev) x0 + sqrt(1 - abar_prev - sigma^2) e + sigma noise
 */
Tensor ddim_step(Context *ctx, const Sampler *s, int64_t k, Tensor m, Tensor x, Tensor noise) {
    const int64_t t = (int64_t)s->t[k], t_prev = t - s->schedule->train_steps / s->steps;
    const double abar = s->abar[t], abar_prev = t_prev >= 0 ? s->abar[t_prev] : s->final_alpha;
    const double variance = (1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev);
    const double sigma = s->eta * sqrt(variance), signal = sqrt(abar_prev);
    /* Never below 0, but for rounding where eta is 1 and abar 0 (zero terminal SNR). */
    const double direction = sqrt(fmax(1 - abar_prev - sigma * sigma, 0));

    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    for (int64_t j = 0; y.data && j < tensor_numel(x); j++) {
        Parts p = parts(s->schedule, abar, (double)m.data[j], (double)x.data[j]);
        double next = signal * p.x0 + direction * p.e;
        if (s->eta > 0) next += sigma * (double)noise.data[j];
        y.data[j] = (real)next;
    }
    return y;
}

/* ---- DDPM ---------------------------------------------------------------------------------------- */

int ddpm_init(Sampler *s, Error *err) {
    static const char expected[] = "\"fixed_small\", \"fixed_small_log\" or \"fixed_large\"";
    switch (s->schedule->variance_type) {
    /* Upstream takes log(beta) for the variance here, and the square root of that: a number below 0,
     * so that its own latents are not numbers after one step. */
    case VARIANCE_FIXED_LARGE_LOG:
        return sampler_refuse(s, "variance_type", expected, "\"fixed_large_log\"", err);
    case VARIANCE_LEARNED: return sampler_refuse(s, "variance_type", expected, "\"learned\"", err);
    case VARIANCE_LEARNED_RANGE:
        return sampler_refuse(s, "variance_type", expected, "\"learned_range\"", err);
    }
    return place(s, err);
}

/* DDPM (arXiv 2006.11239, equations 6 and 7), as DDPMScheduler.step has it: t_prev is the next
 * timestep of the run, alpha-bar after the last one is 1,
 *
 *     alpha = abar / abar_prev, beta = 1 - alpha    over the whole step
 *     mean  = sqrt(abar_prev) beta / (1 - abar) x0 + sqrt(alpha) (1 - abar_prev) / (1 - abar) x
 *     var   = (1 - abar_prev) / (1 - abar) beta, at least 1e-20      fixed_small, fixed_small_log
 *             beta                                                   fixed_large
 *     x_prev = mean + sqrt(var) noise               without noise at t = 0
 */
Tensor ddpm_step(Context *ctx, const Sampler *s, int64_t k, Tensor m, Tensor x, Tensor noise) {
    const double abar = s->abar[(int64_t)s->t[k]];
    const double abar_prev = k + 1 < s->count ? s->abar[(int64_t)s->t[k + 1]] : s->final_alpha;
    const double alpha = abar / abar_prev, beta = 1 - alpha;
    const double small = (1 - abar_prev) / (1 - abar) * beta;
    const double from_x0 = sqrt(abar_prev) * beta / (1 - abar);
    const double from_x = sqrt(alpha) * (1 - abar_prev) / (1 - abar);
    const bool large = s->schedule->variance_type == VARIANCE_FIXED_LARGE;
    const double deviation = sqrt(large ? beta : fmax(small, 1e-20));

    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    for (int64_t j = 0; y.data && j < tensor_numel(x); j++) {
        Parts p = parts(s->schedule, abar, (double)m.data[j], (double)x.data[j]);
        double next = from_x0 * p.x0 + from_x * (double)x.data[j];
        if (s->t[k] > 0) next += deviation * (double)noise.data[j];
        y.data[j] = (real)next;
    }
    return y;
}
