/* Guidance, and what every sampler has: how it is made, asked and stepped. See samplers.h. */
#include "ref/sampler_kinds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

Tensor guidance(Context *ctx, Tensor eps_cond, Tensor eps_uncond, double s) {
    return axpby(ctx, 1, eps_uncond, s, sub(ctx, eps_cond, eps_uncond));
}

/* ---- which there are --------------------------------------------------------------------------- */

typedef struct KindInfo {
    const char *name, *class_name;
    int (*init)(Sampler *s, Error *err);
} KindInfo;

static const KindInfo kinds[SAMPLER_KINDS] = {
    [SAMPLER_OWN] = {"own", "", NULL},
    [SAMPLER_DDPM] = {"ddpm", "DDPMScheduler", ddpm_init},
    [SAMPLER_DDIM] = {"ddim", "DDIMScheduler", ddim_init},
    [SAMPLER_PNDM] = {"pndm", "PNDMScheduler", pndm_init},
    [SAMPLER_EULER] = {"euler", "EulerDiscreteScheduler", euler_init},
    [SAMPLER_EULER_A] = {"euler_a", "EulerAncestralDiscreteScheduler", euler_a_init},
    [SAMPLER_DPMPP_2M] = {"dpm++2m", "DPMSolverMultistepScheduler", dpm_init},
};

const char *sampler_name(SamplerKind kind) { return kinds[kind].name; }

SamplerKind sampler_of_name(const char *name) {
    SamplerKind kind = SAMPLER_OWN + 1;
    while (kind < SAMPLER_KINDS && strcmp(kinds[kind].name, name) != 0) kind++;
    return kind;
}

SamplerKind sampler_of_class(const char *name) {
    SamplerKind kind = SAMPLER_OWN + 1;
    while (kind < SAMPLER_KINDS && strcmp(kinds[kind].class_name, name) != 0) kind++;
    return kind;
}

/* ---- making one -------------------------------------------------------------------------------- */

int sampler_refuse(const Sampler *s, const char *key, const char *expected, const char *found,
                   Error *err) {
    return fail(err, "%s: %s: the sampler %s expects %s, found %s", s->schedule->path, key,
                kinds[s->kind].name, expected, found);
}

static int init(Sampler *s, Error *err) {
    const Schedule *c = s->schedule;
    if (s->kind == SAMPLER_OWN) s->kind = sampler_of_class(c->class_name);
    if (s->kind == SAMPLER_KINDS)
        return fail(err,
                    "%s: _class_name: expected DDPMScheduler, DDIMScheduler, PNDMScheduler, "
                    "EulerDiscreteScheduler, EulerAncestralDiscreteScheduler or "
                    "DPMSolverMultistepScheduler, found %s; --sampling-method NAME samples with "
                    "another one from the same file",
                    c->path, c->class_name);
    if (s->steps < 1 || s->steps > c->train_steps)
        return fail(err, "--steps: expected 1 to %lld (num_train_timesteps), found %lld",
                    (long long)c->train_steps, (long long)s->steps);
    /* PNDMScheduler has no such key. */
    bool zero_snr = c->rescale_betas_zero_snr && s->kind != SAMPLER_PNDM;
    s->abar = schedule_alphas(c, zero_snr, err);
    if (!s->abar) return -1;
    s->final_alpha = 1;
    /* "Close to 0 without being 0 so first sigma is not inf": the samplers with sigmas. */
    if (zero_snr && s->kind >= SAMPLER_EULER) s->abar[c->train_steps - 1] = ldexp(1, -24);
    return kinds[s->kind].init(s, err);
}

Sampler *sampler_new(const Schedule *schedule, SamplerKind kind, int64_t steps, double eta,
                     Error *err) {
    Sampler *s = calloc(1, sizeof *s);
    if (!s) {
        fail(err, "out of memory for a sampler");
        return NULL;
    }
    s->kind = kind;
    s->schedule = schedule;
    s->steps = steps;
    s->eta = eta;
    if (init(s, err) == 0) return s;
    sampler_free(s);
    return NULL;
}

static void forget(Sampler *s) {
    for (int i = 0; i < MAX_KEPT; i++) {
        free(s->kept[i]);
        s->kept[i] = NULL;
    }
    s->held = 0;
}

void sampler_free(Sampler *s) {
    if (!s) return;
    forget(s);
    free(s->t);
    free(s->abar);
    free(s->sigma);
    free(s);
}

bool sampler_keep(Context *ctx, Sampler *s, int slot, Tensor x) {
    if (ctx->error.set) return false;
    size_t bytes = (size_t)s->kept_size * sizeof(real);
    if (!s->kept[slot]) s->kept[slot] = malloc(bytes);
    if (s->kept[slot])
        memcpy(s->kept[slot], x.data, bytes);
    else
        fail(&ctx->error, "out of memory for the memory of %s, %zu bytes", kinds[s->kind].name,
             bytes);
    return s->kept[slot] != NULL;
}

/* ---- asking it --------------------------------------------------------------------------------- */

SamplerKind sampler_kind(const Sampler *s) { return s->kind; }
int64_t sampler_evaluations(const Sampler *s) { return s->count - s->begin; }
double sampler_timestep(const Sampler *s, int64_t i) { return s->t[s->begin + i]; }

bool sampler_wants_noise(const Sampler *s, int64_t i) {
    switch (s->kind) {
    case SAMPLER_DDPM: return sampler_timestep(s, i) > 0;
    case SAMPLER_DDIM: return s->eta > 0;
    case SAMPLER_EULER_A: return true; /* even in the last step, where its factor is 0 */
    default: return false;
    }
}

/* Samplers with sigmas work on x = x0 + sigma noise. Upstream takes sqrt(sigma^2 + 1) where the
 * spacing stops short of the last training timestep, sigma where it begins there. */
static bool has_large_latents(const Sampler *s) {
    return s->kind == SAMPLER_EULER || s->kind == SAMPLER_EULER_A;
}

double sampler_init_noise_sigma(const Sampler *s) {
    double largest = 0;
    if (!has_large_latents(s)) return 1;
    for (int64_t k = 0; k <= s->count; k++) largest = fmax(largest, s->sigma[k]);
    return s->schedule->spacing == SPACING_LEADING ? sqrt(largest * largest + 1) : largest;
}

Tensor sampler_scale_input(Context *ctx, const Sampler *s, int64_t i, Tensor x) {
    if (!has_large_latents(s)) return x;
    const double sigma = s->sigma[s->begin + i];
    return scale(ctx, x, 1 / sqrt(sigma * sigma + 1));
}

/* ---- stepping ---------------------------------------------------------------------------------- */

Tensor sampler_step(Context *ctx, Sampler *s, int64_t i, Tensor m, Tensor x, Tensor noise) {
    const int64_t k = s->begin + i;
    if (ctx->error.set) return (Tensor){0};
    if (i == 0) {
        forget(s);
        s->kept_size = tensor_numel(x);
    }
    switch (s->kind) {
    case SAMPLER_DDPM: return ddpm_step(ctx, s, k, m, x, noise);
    case SAMPLER_DDIM: return ddim_step(ctx, s, k, m, x, noise);
    case SAMPLER_PNDM: return pndm_step(ctx, s, i, m, x);
    case SAMPLER_EULER: return euler_step(ctx, s, k, m, x);
    case SAMPLER_EULER_A: return euler_a_step(ctx, s, k, m, x, noise);
    default: return dpm_step(ctx, s, k, m, x);
    }
}

/* ---- image to image ------------------------------------------------------------------------------ */

/* StableDiffusionImg2ImgPipeline.get_timesteps: t_start = max(n - int(n strength), 0) */
int sampler_begin_at_strength(Sampler *s, double strength, Error *err) {
    if (!(strength > 0 && strength <= 1))
        return fail(err, "--strength: expected above 0 and at most 1, found %g", strength);
    const int64_t taken = (int64_t)((double)s->steps * strength);
    if (taken < 1 || s->steps - taken >= s->count)
        return fail(err, "--strength %g: of %lld steps none is left", strength,
                    (long long)s->steps);
    s->begin = s->steps - taken;
    return 0;
}

Tensor sampler_add_noise(Context *ctx, const Sampler *s, int64_t i, Tensor x0, Tensor noise) {
    const int64_t k = s->begin + i;
    if (has_large_latents(s)) return axpby(ctx, 1, x0, s->sigma[k], noise);
    if (s->sigma) {
        double alpha = 1 / sqrt(s->sigma[k] * s->sigma[k] + 1);
        return axpby(ctx, alpha, x0, s->sigma[k] * alpha, noise);
    }
    const double abar = s->abar[(int64_t)s->t[k]];
    return axpby(ctx, sqrt(abar), x0, sqrt(1 - abar), noise);
}
