/* Where the walk begins: noise, or a picture with noise over it.
 *
 * Image to image and inpainting (diffusers StableDiffusionImg2ImgPipeline and, for a U-Net of four
 * channels, StableDiffusionInpaintPipeline):
 *
 *     z_0 = scaling_factor (mean + exp(logvar / 2) noise_1),  mean, logvar = VAE_encode(2 byte/255 - 1)
 *     z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) noise_2       where the walk begins, t by the strength
 *     after each evaluation:  z = (1 - mask) z_0 at the next t  +  mask z
 *
 * One generator draws noise_1, noise_2 and then the sampler's noise. Inpainting draws once more
 * between: upstream encodes the masked picture too, for U-Nets that read it. */
#include "ref/pipeline.h"

#include <string.h>

Tensor from_pixels(Context *ctx, const uint8_t *rgb, int64_t height, int64_t width) {
    Tensor x = TENSOR_NEW(ctx, 1, height, width, 3);
    for (int64_t i = 0; x.data && i < tensor_numel(x); i++)
        x.data[i] = (real)(2 * ((double)rgb[i] / 255) - 1);
    return x;
}

/* One place of the mask for every latent, its top left pixel, repeated for each channel. */
static Tensor latent_mask(Context *ctx, const uint8_t *mask, int64_t width, int64_t factor,
                          Tensor like) {
    Tensor y = tensor_new(ctx, like.ndim, like.dim);
    const int64_t w = like.dim[2], C = like.dim[3];
    for (int64_t i = 0; y.data && i < tensor_numel(y); i++) {
        const int64_t row = i / C / w, column = i / C % w;
        y.data[i] = mask[row * factor * width + column * factor] >= 128;
    }
    return y;
}

/* N(0, I) [1, h, w, C] for a picture's latents, drawn as torch.randn(1, C, h, w). */
static Tensor draw_like(Context *ctx, Noise *noise, const char *name, Tensor z) {
    if (ctx->error.set) return (Tensor){0};
    Tensor x = noise_draw(ctx, noise, name, 3, (int64_t[]){z.dim[3], z.dim[1], z.dim[2]});
    observe(ctx, x, "%s", name);
    return tensor_view(channels_last(ctx, x), 4, z.dim);
}

static Canvas canvas_new(Context *ctx, const Vae *vae, const Request *r, Noise *noise) {
    Canvas canvas = {0};
    Tensor x = from_pixels(ctx, r->init_image, r->height, r->width);
    VaePosterior p = r->vae_tiling ? vae_encode_tiled(ctx, vae, x) : vae_encode(ctx, vae, x);
    canvas.z0 = vae_sample(ctx, vae, p, draw_like(ctx, noise, "vae/encoder/noise", p.mean));
    observe_each(ctx, canvas.z0, "latents/image");
    canvas.noise = draw_like(ctx, noise, "latents/0", canvas.z0);
    if (r->mask) {
        canvas.mask = latent_mask(ctx, r->mask, r->width, vae->factor, canvas.z0);
        Noise stream = {.rng = noise->rng};
        noise_draw(ctx, &stream, "not used", canvas.z0.ndim, canvas.z0.dim);
        noise->rng = stream.rng;
    }
    return canvas;
}

Tensor canvas_blend(Context *ctx, const Canvas *canvas, const Sampler *s, int64_t i, Tensor x) {
    if (ctx->error.set || !canvas->mask.data) return x;
    Tensor keep = canvas->z0;
    if (i + 1 < sampler_evaluations(s))
        keep = sampler_add_noise(ctx, s, i + 1, canvas->z0, canvas->noise);
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    for (int64_t k = 0; y.data && k < tensor_numel(y); k++) {
        const real m = canvas->mask.data[k];
        y.data[k] = (1 - m) * keep.data[k] + m * x.data[k];
    }
    return y;
}

/* The first latents, N(0, I), as given or as torch.randn(1, C, h, w) draws them. -> [1, h, w, C] */
static Tensor first_latents(Context *ctx, const Pack *pack, const Request *r, Noise *noise) {
    int64_t dim[3] = {pack->vae->latent_channels, r->height / pack->vae->factor,
                      r->width / pack->vae->factor};
    /* Drawn even when they are given, so that the sampler's noise, which continues this stream,
     * does not depend on where the latents come from. */
    Noise seeded = {.rng = noise->rng};
    Tensor x =
        noise_draw(ctx, noise->file && !r->init_latents ? noise : &seeded, "latents/0", 3, dim);
    noise->rng = seeded.rng;
    if (x.data && r->init_latents)
        memcpy(x.data, r->init_latents, (size_t)tensor_numel(x) * sizeof(real));
    x = channels_last(ctx, x);
    return x.data ? TENSOR_VIEW(x, 1, dim[1], dim[2], dim[0]) : x;
}

/* Where the walk begins: noise, or the picture with noise over it. */
Tensor canvas_begin(Context *ctx, const Pack *pack, const Request *r, const Sampler *s,
                    Noise *noise, Canvas *canvas) {
    Tensor x;
    ctx->prefix[0] = "";
    if (r->init_image) {
        *canvas = canvas_new(ctx, pack->vae, r, noise);
        x = canvas->noise;
    } else {
        x = first_latents(ctx, pack, r, noise);
        observe_each(ctx, x, "latents/0");
    }
    /* Inpainting at full strength begins from noise alone; image to image never does. */
    if (r->init_image && !(r->mask && r->strength == 1))
        return sampler_add_noise(ctx, s, 0, canvas->z0, x);
    return scale(ctx, x, sampler_init_noise_sigma(s));
}
