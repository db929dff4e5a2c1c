/* Euler and Euler ancestral: x = x0 + sigma e, sigma = sqrt((1 - abar) / abar), from k-diffusion.
 *
 * The model's output m says what the clean latents are (it was shown x / sqrt(sigma^2 + 1)):
 *
 *     epsilon         x0 = x - sigma m
 *     sample          x0 = m                                                     (Euler alone)
 *     v_prediction    x0 = x / (sigma^2 + 1) - sigma / sqrt(sigma^2 + 1) m
 *
 * and the ODE is dx / dsigma = (x - x0) / sigma. */
#include "ref/sampler_kinds.h"

#include <math.h>

static double clean(const Schedule *c, double sigma, double m, double x) {
    switch (c->prediction) {
    case PREDICT_SAMPLE: return m;
    case PREDICT_V: return m * (-sigma / sqrt(sigma * sigma + 1)) + x / (sigma * sigma + 1);
    default: return x - sigma * m;
    }
}

static int place(Sampler *s, Error *err) {
    const Schedule *c = s->schedule;
    int spacing = c->spacing == UNSAID ? SPACING_LINSPACE : c->spacing;
    if (sampler_place_timesteps(s, (Grid){spacing, c->train_steps, s->steps, false}, err))
        return -1;
    return sampler_place_sigmas(s, err);
}

/* x + (x - x0) / sigma (sigma_next - sigma) + up noise */
static Tensor follow(Context *ctx, const Sampler *s, double sigma, double sigma_next, double up,
                     Tensor m, Tensor x, Tensor noise) {
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    for (int64_t j = 0; y.data && j < tensor_numel(x); j++) {
        const double from = (double)x.data[j];
        const double x0 = clean(s->schedule, sigma, (double)m.data[j], from);
        double next = from + (from - x0) / sigma * (sigma_next - sigma);
        if (up > 0) next += up * (double)noise.data[j];
        y.data[j] = (real)next;
    }
    return y;
}

/* ---- Euler --------------------------------------------------------------------------------------- */

int euler_init(Sampler *s, Error *err) {
    const Schedule *c = s->schedule;
    if (c->use_exponential_sigmas)
        return sampler_refuse(s, "use_exponential_sigmas", "false", "true", err);
    if (c->use_beta_sigmas) return sampler_refuse(s, "use_beta_sigmas", "false", "true", err);
    if (c->log_linear)
        return sampler_refuse(s, "interpolation_type", "\"linear\"", "\"log_linear\"", err);
    if (c->continuous)
        return sampler_refuse(s, "timestep_type", "\"discrete\"", "\"continuous\"", err);
    if (place(s, err)) return -1;
    if (c->use_karras_sigmas) {
        /* From the first to the last sigma of this run. Where upstream's list has one timestep more
         * (samplers.h, sampler_evaluations), -1, the last one's sigma is that of timestep 0. */
        const double N = (double)c->train_steps;
        bool one_more =
            c->spacing == SPACING_TRAILING && ceil(N / (N / (double)s->steps)) > (double)s->steps;
        double last = one_more ? sampler_sigma_at(s, 0) : s->sigma[s->count - 1];
        sampler_place_karras(s, s->sigma[0], last, false);
    }
    return 0;
}

/* EulerDiscreteScheduler.step with s_churn = 0: Karras et al. (arXiv 2206.00364), algorithm 2
 * without its second-order correction. */
Tensor euler_step(Context *ctx, const Sampler *s, int64_t k, Tensor m, Tensor x) {
    return follow(ctx, s, s->sigma[k], s->sigma[k + 1], 0, m, x, (Tensor){0});
}

/* ---- Euler ancestral ------------------------------------------------------------------------------- */

int euler_a_init(Sampler *s, Error *err) {
    if (s->schedule->prediction == PREDICT_SAMPLE)
        return sampler_refuse(s, "prediction_type", "\"epsilon\" or \"v_prediction\"", "\"sample\"",
                              err);
    return place(s, err);
}

/* EulerAncestralDiscreteScheduler.step: down to sigma_down, then up by noise to the next sigma,
 *
 *     sigma_up^2   = sigma_next^2 (sigma^2 - sigma_next^2) / sigma^2
 *     sigma_down^2 = sigma_next^2 - sigma_up^2
 */
Tensor euler_a_step(Context *ctx, const Sampler *s, int64_t k, Tensor m, Tensor x, Tensor noise) {
    const double from = s->sigma[k] * s->sigma[k], to = s->sigma[k + 1] * s->sigma[k + 1];
    const double up = to * (from - to) / from;
    return follow(ctx, s, s->sigma[k], sqrt(fmax(to - up, 0)), sqrt(up), m, x, noise);
}
