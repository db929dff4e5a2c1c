/* Guidance and DDIM. Latents are [1, h, w, C]; coefficients are doubles in both builds. */
#include "ref/samplers.h"

#include <math.h>

Tensor guidance(Context *ctx, Tensor eps_cond, Tensor eps_uncond, double s) {
    return axpby(ctx, 1, eps_uncond, s, sub(ctx, eps_cond, eps_uncond));
}

/* DDIM (arXiv 2010.02502, equations 12 and 16), as diffusers has it:
 *
 *     t_prev  = t - train_steps / steps             (whole division; alpha-bar before 0: final_alpha)
 *     x0, e   = what the model's output m says of the clean latents and of the noise
 *     sigma^2 = eta^2 (1 - abar_prev) / (1 - abar) (1 - abar / abar_prev)
 *     x_prev  = sqrt(abar_prev) x0 + sqrt(1 - abar_prev - sigma^2) e + sigma noise
 */
Tensor ddim_step(Context *ctx, const Schedule *s, int64_t steps, int64_t t, double eta, Tensor m,
                 Tensor x, Tensor noise) {
    const int64_t t_prev = t - s->train_steps / steps;
    const double abar = s->alphas_cumprod[t];
    const double abar_prev = t_prev >= 0 ? s->alphas_cumprod[t_prev] : s->final_alpha;
    const double variance = (1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev);
    const double sigma = eta * sqrt(variance);
    const double signal = sqrt(abar), remains = sqrt(1 - abar);
    /* Never below 0, but for rounding where eta is 1 and abar 0 (zero terminal SNR). */
    const double direction = sqrt(fmax(1 - abar_prev - sigma * sigma, 0));

    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    if (ctx->error.set) return (Tensor){0};
    for (int64_t k = 0; k < tensor_numel(x); k++) {
        const double xk = (double)x.data[k], mk = (double)m.data[k];
        double x0 = 0, e = 0;
        switch (s->prediction) {
        case PREDICT_EPSILON:
            x0 = (xk - remains * mk) / signal;
            e = mk;
            break;
        case PREDICT_SAMPLE:
            x0 = mk;
            e = (xk - signal * x0) / remains;
            break;
        case PREDICT_V:
            x0 = signal * xk - remains * mk;
            e = signal * mk + remains * xk;
            break;
        }
        /* Clipping changes x0 alone: e stays what the unclipped x0 said. */
        if (s->clip_sample) x0 = fmin(fmax(x0, -s->clip_sample_range), s->clip_sample_range);
        double next = sqrt(abar_prev) * x0 + direction * e;
        if (eta > 0) next += sigma * (double)noise.data[k];
        y.data[k] = (real)next;
    }
    return y;
}
