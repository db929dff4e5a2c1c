/* Where random numbers come from: a seeded generator that equals torch's, or a file.
 *
 * Latents, sampler noise and Langevin noise have a source each, so that the latents do not depend
 * on the conditioner. In a file every draw stands under the name that a trace gives it (spec,
 * section 8: "latents/0", "sampler/noise.3", "alg1/eps.24", "uncond/alg1/eps.24"). */
#ifndef LLMDIFF_NOISE_H
#define LLMDIFF_NOISE_H

#include "tensor/tensor.h"
#include "weights/safetensors.h"

typedef struct Noise {
    Rng rng;
    const Safetensors *file; /* NULL: from the generator */
} Noise;

/* N(0, 1) of that shape: the generator's next numbers or, where there is a file, its tensor of that
 * name. Fails the context if the file lacks it or has it in another shape: a draw is never made up. */
Tensor noise_draw(Context *ctx, Noise *noise, const char *name, int ndim, const int64_t *dim);

#endif
