/* The frozen VAE: latents to a picture and back (diffusers AutoencoderKL.decode, .encode). */
#ifndef LLMDIFF_VAE_H
#define LLMDIFF_VAE_H

#include "ref/unet_blocks.h"

#define VAE_MAX_LEVELS 8
#define VAE_MAX_LAYERS 8

/* Two resnets and, between them, one attention head over all pixels. */
typedef struct VaeMidBlock {
    Resnet resnet[2];
    Affine group_norm, to_q, to_k, to_v, to_out; /* NULLs: mid_block_add_attention is false */
} VaeMidBlock;

/* A level of the encoder or of the decoder. */
typedef struct VaeBlock {
    Resnet resnet[VAE_MAX_LAYERS];
    Affine resample; /* downsamplers.0.conv or upsamplers.0.conv; NULLs in the last block */
    char resample_name[PATH_MAX_CHARS];
} VaeBlock;

typedef struct VaeDecoder {
    Affine conv_in;
    VaeMidBlock mid;
    VaeBlock up[VAE_MAX_LEVELS];
    Affine conv_norm_out, conv_out;
} VaeDecoder;

typedef struct VaeEncoder {
    Affine conv_in;
    VaeBlock down[VAE_MAX_LEVELS];
    VaeMidBlock mid;
    Affine conv_norm_out, conv_out;
} VaeEncoder;

typedef struct Vae {
    ModelDir *files;
    int64_t in_channels, latent_channels, out_channels;
    int64_t levels,
        layers;          /* layers_per_block: resnets of a down block; an up block has one more */
    int64_t factor;      /* pixels per latent: 2^(levels - 1) */
    int64_t sample_size; /* pixels; tiles are as large */
    double scaling_factor;
    NormSpec norm;
    Affine post_quant_conv, quant_conv; /* NULLs: use_[post_]quant_conv is false */
    VaeDecoder decoder;
    bool has_encoder; /* false: the file has only what decoding needs */
    VaeEncoder encoder;
} Vae;

/* ---- vae_load.c ------------------------------------------------------------------------------ */

Vae *vae_load(const char *dir, Error *err); /* NULL with a message */
void vae_free(Vae *vae);                    /* NULL is fine */

/* ---- vae.c ----------------------------------------------------------------------------------- */

/* latents [B, h, w, latent_channels] -> [B, h * factor, w * factor, out_channels], about -1 .. 1.
 *     image = decoder(post_quant_conv(latents / scaling_factor)) */
Tensor vae_decode(Context *ctx, const Vae *vae, Tensor latents);

/* The distribution of the latents that a picture stands for: independent normals, each
 * [B, h, w, latent_channels], logvar clamped to -30 .. 20. Both empty if the context failed. */
typedef struct VaePosterior {
    Tensor mean, logvar;
} VaePosterior;

/* image [B, H, W, in_channels], -1 .. 1 -> [B, H / factor, W / factor, latent_channels], rounded
 * down. Fails the context if the file has no encoder or the picture is smaller than one latent.
 *     mean, logvar = quant_conv(encoder(image)) */
VaePosterior vae_encode(Context *ctx, const Vae *vae, Tensor image);

/* Both of one piece, for tiling: activations named `prefix` + path. Moments [B, h, w, 2
 * latent_channels] are mean and log-variance side by side, not yet clamped. */
Tensor vae_decode_piece(Context *ctx, const Vae *vae, Tensor latents, const char *prefix);
Tensor vae_moments_piece(Context *ctx, const Vae *vae, Tensor image, const char *prefix);
VaePosterior vae_posterior(Context *ctx, Tensor moments);

/* One head over all pixels, as wide as the map has channels, behind a group norm and around it the
 * residual. x [B, H, W, C] -> the same shape */
Tensor vae_attention(Context *ctx, const VaeMidBlock *mid, NormSpec norm, Tensor x);

/* z_0 = scaling_factor (mean + exp(logvar / 2) noise), as the U-Net knows latents; noise [B, h, w,
 * latent_channels] of unit variance. */
Tensor vae_sample(Context *ctx, const Vae *vae, VaePosterior posterior, Tensor noise);

/* ---- vae_tiling.c ---------------------------------------------------------------------------- */

/* The same for one large picture, in overlapping tiles of sample_size: what the network needs of memory
 * no longer grows with the picture, and what a tile sees ends at its edge. A picture no larger than a
 * tile is done whole. */
Tensor vae_decode_tiled(Context *ctx, const Vae *vae, Tensor latents);
VaePosterior vae_encode_tiled(Context *ctx, const Vae *vae, Tensor image);

#endif
