/* The blocks that Stable Diffusion's U-Net and VAE are made of (diffusers ResnetBlock2D,
 * Transformer2DModel, Downsample2D, Upsample2D). All maps are [B, H, W, C].
 *
 * Each block knows its module path; parameters stand in the file under scope + path ("decoder." +
 * "mid_block.resnets.0" in a VAE), activations are named by the path alone. */
#ifndef LLMDIFF_UNET_BLOCKS_H
#define LLMDIFF_UNET_BLOCKS_H

#include "ref/eq9_attention.h"
#include "weights/model_dir.h"

#define PATH_MAX_CHARS 96

/* A convolution or linear layer with bias. */
typedef struct Affine {
    const Weight *w, *b;
} Affine;

typedef struct NormSpec {
    int64_t groups;
    double eps;
} NormSpec;

typedef struct Resnet {
    char name[PATH_MAX_CHARS];
    NormSpec norm;
    Affine norm1, conv1, norm2, conv2;
    Affine time_emb_proj; /* NULLs: no time embedding (VAE) */
    Affine conv_shortcut; /* NULLs: as many channels out as in */
    double output_scale_factor;
} Resnet;

/* time_dim 0: a block without time embedding. */
Resnet resnet_take(ModelDir *m, const char *scope, const char *name, int64_t in, int64_t out,
                   int64_t time_dim, NormSpec norm, double output_scale_factor);
/* x [B, H, W, in], temb [B, time_dim] (already through SiLU; empty in a VAE) -> [B, H, W, out] */
Tensor resnet_forward(Context *ctx, const Resnet *r, Tensor x, Tensor temb);

/* BasicTransformerBlock: self-attention, cross-attention, feed-forward, each behind a LayerNorm. */
typedef struct TransformerBlock {
    char name[PATH_MAX_CHARS];
    Affine norm1, norm2, norm3;
    const Weight *to_q, *to_k, *to_v; /* attn1 */
    Affine to_out;
    Affine ff_in, ff_out; /* ff.net.0.proj, ff.net.2 */
    int64_t cross;        /* index of its attn2 in Unet.cross */
} TransformerBlock;

typedef struct Transformer {
    char name[PATH_MAX_CHARS];
    int64_t channels, heads;
    int64_t groups;
    Affine norm, proj_in, proj_out;
    TransformerBlock *block; /* [blocks], malloc'ed */
    int64_t blocks;
} Transformer;

/* The cross-attentions of one U-Net evaluation: how layer i is done. */
typedef struct CrossLayers {
    const CrossAttention *original;         /* [layers], the U-Net's own */
    const AddedAttention *added;            /* [layers], or NULL: no adapter */
    int out_choice;                         /* OutChoice */
    const CrossContext *context[MAX_BATCH]; /* [batch][layers] */
} CrossLayers;

Tensor transformer_forward(Context *ctx, const Transformer *t, Tensor x, const CrossLayers *cross);
/* Its parts, each h [B, HW, C] -> [B, HW, C]: a block, and of a block the softmax attention of the map
 * over itself and the feed-forward (both read what their LayerNorm made, and are not yet added to h). */
Tensor transformer_block_forward(Context *ctx, const TransformerBlock *b, int64_t heads, Tensor h,
                                 const CrossLayers *cross);
Tensor self_attention(Context *ctx, const TransformerBlock *b, int64_t heads, Tensor h);
Tensor feed_forward(Context *ctx, const TransformerBlock *b, Tensor h);

/* 3x3 convolution with stride 2; padding 1, or 0 for one row and column at bottom and right. */
Tensor downsample_forward(Context *ctx, Affine conv, int64_t padding, Tensor x);
/* Nearest neighbour to height x width, then a 3x3 convolution. */
Tensor upsample_forward(Context *ctx, Affine conv, Tensor x, int64_t height, int64_t width);

Affine affine_take(ModelDir *m, Shape weight, const char *scope, const char *name,
                   const char *part);
/* k x k, stride 1, padding (k - 1) / 2: 3x3 almost everywhere */
Tensor conv_same(Context *ctx, Tensor x, Affine conv);

#endif
