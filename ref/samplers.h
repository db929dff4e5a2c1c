/* From noise to latents: guidance, and the samplers of diffusers 0.42.1.
 *
 *     Sampler *s = sampler_new(schedule, SAMPLER_OWN, 20, 0, &err);
 *     x = scale(ctx, x, sampler_init_noise_sigma(s));                  // x ~ N(0, I)
 *     for (int64_t i = 0; i < sampler_evaluations(s); i++) {
 *         m = U-Net(sampler_scale_input(ctx, s, i, x), sampler_timestep(s, i))
 *         noise = sampler_wants_noise(s, i) ? N(0, I) : nothing
 *         x = sampler_step(ctx, s, i, m, x, noise);
 *     }
 *     sampler_free(s);
 *
 * Latents are [1, h, w, C]. Timesteps, sigmas and coefficients are doubles in both builds. */
#ifndef LLMDIFF_SAMPLERS_H
#define LLMDIFF_SAMPLERS_H

#include "ref/schedule.h"

/* eps = eps_uncond + s (eps_cond - eps_uncond)       classifier-free guidance */
Tensor guidance(Context *ctx, Tensor eps_cond, Tensor eps_uncond, double s);

typedef enum SamplerKind {
    SAMPLER_OWN,      /* that of the pack: the schedule's class_name */
    SAMPLER_DDPM,     /* "ddpm"    DDPMScheduler                            sampler_ddim.c */
    SAMPLER_DDIM,     /* "ddim"    DDIMScheduler                            sampler_ddim.c */
    SAMPLER_PNDM,     /* "pndm"    PNDMScheduler                            sampler_pndm.c */
    SAMPLER_EULER,    /* "euler"   EulerDiscreteScheduler                   sampler_euler.c */
    SAMPLER_EULER_A,  /* "euler_a" EulerAncestralDiscreteScheduler          sampler_euler.c */
    SAMPLER_DPMPP_2M, /* "dpm++2m" DPMSolverMultistepScheduler, dpmsolver++, order 2
                                                                            sampler_dpm.c */
    SAMPLER_KINDS
} SamplerKind;

const char *sampler_name(SamplerKind kind);     /* "ddpm"; of SAMPLER_OWN "own" */
SamplerKind sampler_of_name(const char *name);  /* SAMPLER_KINDS: no such name */
SamplerKind sampler_of_class(const char *name); /* SAMPLER_KINDS: no such class */

typedef struct Sampler Sampler;

/* A run of `steps` steps with what Class.from_config(pack.scheduler.config) gives in diffusers: a
 * key that the file has counts, whatever class wrote it; one that it lacks has the default of the
 * sampler's own class. `eta` is DDIM's. The schedule must outlive the sampler. NULL with a message
 * naming the flag or the key that it can't follow. */
Sampler *sampler_new(const Schedule *schedule, SamplerKind kind, int64_t steps, double eta,
                     Error *err);
void sampler_free(Sampler *s); /* NULL is fine */

SamplerKind sampler_kind(const Sampler *s); /* never SAMPLER_OWN */
/* Evaluations of the U-Net, i = 0 .. evaluations - 1: the index {i} of the names of activations.
 * Mostly `steps`; PNDM makes more, and with "trailing" spacing a last one at timestep -1, which
 * upstream's rounding adds for some numbers of steps, is left out. */
int64_t sampler_evaluations(const Sampler *s);
double sampler_timestep(const Sampler *s, int64_t i); /* a whole number but for Euler's */
/* What unit noise is multiplied by to be the first latents. */
double sampler_init_noise_sigma(const Sampler *s);

/* What the U-Net is shown of the latents x at evaluation i. */
Tensor sampler_scale_input(Context *ctx, const Sampler *s, int64_t i, Tensor x);
/* Whether upstream draws noise in step i, even where its factor is 0. */
bool sampler_wants_noise(const Sampler *s, int64_t i);
/* Step i: the U-Net's output m (after guidance), the latents x and, where wanted, noise ~ N(0, I)
 * -> the next latents. Steps are taken in order: a sampler may remember earlier ones, and begins
 * anew at i = 0. */
Tensor sampler_step(Context *ctx, Sampler *s, int64_t i, Tensor m, Tensor x, Tensor noise);

/* Image to image: leaves out the first n - int(n strength) of the n timesteps, after which i counts
 * from 0 among the others; the latents then begin as sampler_add_noise(.., 0, picture, noise), which
 * needs no init_noise_sigma. 0 < strength <= 1; -1 with a message if no step is left. */
int sampler_begin_at_strength(Sampler *s, double strength, Error *err);
/* Clean latents x0 with as much noise as those that evaluation i takes. */
Tensor sampler_add_noise(Context *ctx, const Sampler *s, int64_t i, Tensor x0, Tensor noise);

#endif
