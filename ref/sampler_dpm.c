/* DPM-Solver++ 2M (Lu et al., arXiv 2211.01095): DPMSolverMultistepScheduler with algorithm_type
 * dpmsolver++ and solver_order 2. It solves for the clean latents x0, which the model's output m says
 * are, with x = alpha x0 + sigma e, alpha^2 + sigma^2 = 1:
 *
 *     epsilon         x0 = (x - sigma m) / alpha
 *     sample          x0 = m
 *     v_prediction    x0 = alpha x - sigma m
 */
#include "ref/sampler_kinds.h"

#include <math.h>
#include <stdio.h>

/* alpha, sigma and lambda = log(alpha / sigma) of one of the run's sigmas, which are sigma / alpha */
typedef struct Level {
    double alpha, sigma, lambda;
} Level;

static Level level(const Sampler *s, int64_t k) {
    double alpha = 1 / sqrt(s->sigma[k] * s->sigma[k] + 1), sigma = s->sigma[k] * alpha;
    return (Level){alpha, sigma, log(alpha) - log(sigma)}; /* sigma 0: lambda is infinite */
}

/* ---- timesteps ----------------------------------------------------------------------------------- */

static int refuse_others(const Sampler *s, Error *err) {
    const Schedule *c = s->schedule;
    char found[64];
    if (c->algorithm_type != DPMSOLVER_PP) {
        snprintf(found, sizeof found, "\"%s\"", schedule_algorithms[c->algorithm_type]);
        return sampler_refuse(s, "algorithm_type", "\"dpmsolver++\"", found, err);
    }
    if (c->solver_order != 2) {
        snprintf(found, sizeof found, "%lld", (long long)c->solver_order);
        return sampler_refuse(s, "solver_order", "2", found, err);
    }
    if (c->variance_type == VARIANCE_LEARNED || c->variance_type == VARIANCE_LEARNED_RANGE)
        return sampler_refuse(
            s, "variance_type", "null",
            c->variance_type == VARIANCE_LEARNED ? "\"learned\"" : "\"learned_range\"", err);
    const struct {
        const char *key;
        bool set;
    } off[] = {
        {"thresholding", c->thresholding},
        {"use_exponential_sigmas", c->use_exponential_sigmas},
        {"use_beta_sigmas", c->use_beta_sigmas},
        {"use_lu_lambdas", c->use_lu_lambdas},
        {"use_flow_sigmas", c->use_flow_sigmas},
        {"use_dynamic_shifting", c->use_dynamic_shifting},
    };
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++)
        if (off[i].set) return sampler_refuse(s, off[i].key, "false", "true", err);
    return 0;
}

/* The training timesteps whose lambda is not below lambda_min_clipped. */
static int64_t last_timestep(const Sampler *s) {
    int64_t last = s->schedule->train_steps;
    while (last > 0 && -log(sampler_sigma_at(s, last - 1)) < s->schedule->lambda_min_clipped)
        last--;
    return last;
}

int dpm_init(Sampler *s, Error *err) {
    const Schedule *c = s->schedule;
    if (refuse_others(s, err)) return -1;
    Grid grid = {c->spacing == UNSAID ? SPACING_LINSPACE : c->spacing, last_timestep(s),
                 s->steps + 1, true}; /* 0, the last point, is not visited */
    if (grid.last < 1) {
        char found[32];
        snprintf(found, sizeof found, "%g", c->lambda_min_clipped);
        return sampler_refuse(s, "lambda_min_clipped", "less than the largest lambda", found, err);
    }
    if (grid.spacing == SPACING_LEADING && grid.last < grid.points)
        return fail(err, "--steps: dpm++2m expects at most %lld with leading spacing, found %lld",
                    (long long)(grid.last - 1), (long long)s->steps);
    if (sampler_place_timesteps(s, grid, err) || sampler_place_sigmas(s, err)) return -1;
    if (c->use_karras_sigmas) {
        sampler_place_karras(s, sampler_sigma_at(s, c->train_steps - 1), sampler_sigma_at(s, 0),
                             c->beta_schedule != BETAS_SQUAREDCOS_CAP_V2);
        for (int64_t k = 0; k < s->count; k++)
            s->t[k] = trunc(s->t[k]); /* upstream's are integers */
    }
    return 0;
}

/* ---- one step ------------------------------------------------------------------------------------ */

static Tensor clean(Context *ctx, const Sampler *s, Level now, Tensor m, Tensor x) {
    switch (s->schedule->prediction) {
    case PREDICT_SAMPLE: return m;
    case PREDICT_V: return axpby(ctx, now.alpha, x, -now.sigma, m);
    default: return axpby(ctx, 1 / now.alpha, x, -now.sigma / now.alpha, m);
    }
}

/* From s (now) to t (next), h = lambda_t - lambda_s, with x0 of now and D1 = (x0 - x0_before) h / h0,
 * h0 the step before:
 *
 *     first order           x_t = sigma_t / sigma_s x - alpha_t (e^-h - 1) x0                 (DDIM)
 *     second, "midpoint"        ... - alpha_t (e^-h - 1) / 2 D1
 *     second, "heun"            ... + alpha_t ((e^-h - 1) / h + 1) D1
 *
 * The first step has nothing before it. The last one is of first order where it ends at sigma 0, or
 * where euler_at_final or (in runs of less than 15 steps) lower_order_final says so. */
Tensor dpm_step(Context *ctx, Sampler *s, int64_t k, Tensor m, Tensor x) {
    const Schedule *c = s->schedule;
    const Level now = level(s, k), next = level(s, k + 1);
    const double h = next.lambda - now.lambda, shrink = exp(-h) - 1;
    const bool first_order_last = c->euler_at_final || (c->lower_order_final && s->count < 15) ||
                                  c->final_sigmas_type == FINAL_SIGMAS_ZERO;
    Tensor x0 = clean(ctx, s, now, m, x);
    Tensor y = axpby(ctx, next.sigma / now.sigma, x, -next.alpha * shrink, x0);
    if (ctx->error.set) return y;
    if (s->held && !(k == s->count - 1 && first_order_last)) {
        const double h0 = now.lambda - level(s, k - 1).lambda;
        double change = c->solver_type == SOLVER_HEUN ? next.alpha * (shrink / h + 1)
                                                      : -0.5 * next.alpha * shrink;
        change *= h / h0;
        for (int64_t j = 0; j < tensor_numel(x); j++)
            y.data[j] += (real)(change * ((double)x0.data[j] - (double)s->kept[0][j]));
    }
    if (!sampler_keep(ctx, s, 0, x0)) return (Tensor){0};
    s->held = 1;
    return y;
}
