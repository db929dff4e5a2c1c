/* The frozen VAE's decoder: latents to a picture (diffusers AutoencoderKL.decode). */
#ifndef LLMDIFF_VAE_H
#define LLMDIFF_VAE_H

#include "ref/unet_blocks.h"

#define VAE_MAX_LEVELS 8
#define VAE_MAX_LAYERS 8

typedef struct VaeUpBlock {
    Resnet resnet[VAE_MAX_LAYERS];
    Affine upsample; /* upsamplers.0.conv; NULLs in the last block */
    char upsample_name[PATH_MAX_CHARS];
} VaeUpBlock;

typedef struct Vae {
    ModelDir *files;
    int64_t latent_channels, out_channels;
    int64_t levels, layers; /* layers: resnets in an up block, layers_per_block + 1 */
    int64_t factor;         /* pixels per latent: 2^(levels - 1) */
    double scaling_factor;
    NormSpec norm;
    Affine post_quant_conv; /* NULLs: use_post_quant_conv is false */
    Affine conv_in, conv_norm_out, conv_out;
    Resnet mid[2];
    bool mid_attention; /* mid_block_add_attention */
    Affine group_norm, to_q, to_k, to_v, to_out;
    VaeUpBlock up[VAE_MAX_LEVELS];
} Vae;

Vae *vae_load(const char *dir, Error *err); /* NULL with a message */
void vae_free(Vae *vae);                    /* NULL is fine */

/* latents [B, h, w, latent_channels] -> [B, h * factor, w * factor, out_channels], about -1 .. 1.
 *     image = decoder(post_quant_conv(latents / scaling_factor)) */
Tensor vae_decode(Context *ctx, const Vae *vae, Tensor latents);

#endif
