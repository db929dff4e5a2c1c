/* The frozen U-Net (diffusers UNet2DConditionModel, as SD 1.x configures it).
 *
 *     Unet *unet = unet_load("pack/unet", &err);
 *     Tensor eps = unet_forward(ctx, unet, sample, t, &cross);
 *
 * Every number comes from config.json; fields that would change the arithmetic in a way that is not
 * built are refused by name. */
#ifndef LLMDIFF_UNET_H
#define LLMDIFF_UNET_H

#include "ref/unet_blocks.h"

#define UNET_MAX_LEVELS 8
#define UNET_MAX_LAYERS 8 /* resnets in one block */

/* One down, mid or up block: resnets, each followed by its transformer if the type has them. */
typedef struct UnetBlock {
    int64_t layers;
    bool has_attention;
    Resnet resnet[UNET_MAX_LAYERS];
    Transformer transformer[UNET_MAX_LAYERS];
    Affine resample; /* downsamplers.0.conv or upsamplers.0.conv; NULLs: none */
    char resample_name[PATH_MAX_CHARS];
} UnetBlock;

typedef struct Unet {
    ModelDir *files;
    int64_t in_channels, out_channels;
    int64_t levels;
    int64_t sample_size;         /* default side of the latents; 0: none given */
    int64_t cross_attention_dim; /* E */
    int64_t time_channels, time_dim;
    bool flip_sin_to_cos, center_input;
    double freq_shift;
    int64_t downsample_padding;
    NormSpec norm;
    Affine conv_in, linear_1, linear_2, conv_norm_out, conv_out;
    UnetBlock down[UNET_MAX_LEVELS], mid, up[UNET_MAX_LEVELS];
    CrossAttention *cross; /* [cross_layers], in execution order */
    int64_t cross_layers;
} Unet;

Unet *unet_load(const char *dir, Error *err); /* NULL with a message */
void unet_free(Unet *unet);                   /* NULL is fine */

/* eps_theta(sample, t, prompt). sample [B, h, w, in_channels], t may be fractional
 * -> [B, h, w, out_channels]. Activations are named ctx->prefix[b] + module path. */
Tensor unet_forward(Context *ctx, const Unet *unet, Tensor sample, double t,
                    const CrossLayers *cross);
/* The same with a t for each element of the batch, t [B]. */
Tensor unet_forward_each(Context *ctx, const Unet *unet, Tensor sample, const double *t,
                         const CrossLayers *cross);
/* What the resnets know of t, before their SiLU. -> [1, time_dim] */
Tensor unet_time_embedding(Context *ctx, const Unet *unet, double t);

#endif
