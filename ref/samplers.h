/* From the U-Net's answer to the next latents: guidance, and one step of a sampler. */
#ifndef LLMDIFF_SAMPLERS_H
#define LLMDIFF_SAMPLERS_H

#include "ref/schedule.h"

/* eps = eps_uncond + s (eps_cond - eps_uncond)       classifier-free guidance */
Tensor guidance(Context *ctx, Tensor eps_cond, Tensor eps_uncond, double s);

/* One step of DDIM (diffusers DDIMScheduler.step) from timestep t of a run of `steps` steps.
 * x, the U-Net's output m and, read with eta > 0 only, noise ~ N(0, I), all [1, h, w, C]
 * -> x_{t_prev} [1, h, w, C]. */
Tensor ddim_step(Context *ctx, const Schedule *s, int64_t steps, int64_t t, double eta, Tensor m,
                 Tensor x, Tensor noise);

#endif
