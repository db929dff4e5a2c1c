/* AutoencoderKL: decoding and encoding. See vae.h; vae_load.c reads the files. */
#include "ref/vae.h"

#include <math.h>

static void name_all(Context *ctx, const char *prefix) {
    for (int b = 0; b < MAX_BATCH; b++) ctx->prefix[b] = prefix;
}

Tensor vae_attention(Context *ctx, const VaeMidBlock *mid, NormSpec norm, Tensor x) {
    if (ctx->error.set) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    const int64_t B = x.dim[0], HW = x.dim[1] * x.dim[2], C = x.dim[3];
    Tensor h = group_norm(ctx, x, mid->group_norm.w, mid->group_norm.b, norm.groups, norm.eps);
    h = TENSOR_VIEW(h, B, HW, C);
    Tensor q = linear(ctx, h, mid->to_q.w, mid->to_q.b);
    Tensor k = linear(ctx, h, mid->to_k.w, mid->to_k.b);
    Tensor v = linear(ctx, h, mid->to_v.w, mid->to_v.b);
    Tensor k_each[MAX_BATCH], v_each[MAX_BATCH];
    for (int64_t b = 0; b < B; b++) {
        k_each[b] = tensor_at(k, b);
        v_each[b] = tensor_at(v, b);
    }
    h = attention(ctx, q, k_each, v_each, 1, 1, MASK_NONE);
    h = linear(ctx, h, mid->to_out.w, mid->to_out.b);
    h = add(ctx, x, TENSOR_VIEW(h, B, x.dim[1], x.dim[2], C));
    h = scope_end(ctx, mark, h);
    observe_each(ctx, h, "mid_block.attentions.0");
    return h;
}

static Tensor mid_block(Context *ctx, const VaeMidBlock *mid, NormSpec norm, Tensor h) {
    const Tensor no_time = {0};
    h = resnet_forward(ctx, &mid->resnet[0], h, no_time);
    if (mid->group_norm.w) h = vae_attention(ctx, mid, norm, h);
    h = resnet_forward(ctx, &mid->resnet[1], h, no_time);
    observe_each(ctx, h, "mid_block");
    return h;
}

/* conv_out(silu(conv_norm_out(h))): how decoder and encoder end. */
static Tensor last_convolution(Context *ctx, Affine norm, NormSpec spec, Affine conv, Tensor h) {
    h = silu(ctx, group_norm(ctx, h, norm.w, norm.b, spec.groups, spec.eps));
    h = conv_same(ctx, h, conv);
    observe_each(ctx, h, "conv_out");
    return h;
}

/* ---- decoding -------------------------------------------------------------------------------- */

Tensor vae_decode_piece(Context *ctx, const Vae *vae, Tensor latents, const char *prefix) {
    if (ctx->error.set) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    const VaeDecoder *decoder = &vae->decoder;
    const Tensor no_time = {0};
    name_all(ctx, prefix);

    Tensor h = scale(ctx, latents, 1 / vae->scaling_factor);
    if (vae->post_quant_conv.w) h = conv_same(ctx, h, vae->post_quant_conv);
    h = conv_same(ctx, h, decoder->conv_in);
    observe_each(ctx, h, "conv_in");
    h = mid_block(ctx, &decoder->mid, vae->norm, h);

    for (int64_t i = 0; i < vae->levels && !ctx->error.set; i++) {
        const VaeBlock *up = &decoder->up[i];
        ArenaMark block = scope_begin(ctx);
        for (int64_t j = 0; j < vae->layers + 1; j++)
            h = resnet_forward(ctx, &up->resnet[j], h, no_time);
        if (up->resample.w && !ctx->error.set) {
            h = upsample_forward(ctx, up->resample, h, 2 * h.dim[1], 2 * h.dim[2]);
            observe_each(ctx, h, "%s", up->resample_name);
        }
        h = scope_end(ctx, block, h);
    }
    h = last_convolution(ctx, decoder->conv_norm_out, vae->norm, decoder->conv_out, h);
    name_all(ctx, "");
    return scope_end(ctx, mark, h);
}

Tensor vae_decode(Context *ctx, const Vae *vae, Tensor latents) {
    return vae_decode_piece(ctx, vae, latents, "vae/decoder/");
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* moments [B, h, w, 2 latent_channels] = (mean, logvar) */
VaePosterior vae_posterior(Context *ctx, Tensor moments) {
    if (ctx->error.set) return (VaePosterior){0};
    const int64_t pixels = tensor_rows(moments), Z = tensor_cols(moments) / 2;
    int64_t dim[MAX_DIMS] = {moments.dim[0], moments.dim[1], moments.dim[2], Z};
    VaePosterior p = {tensor_new(ctx, 4, dim), tensor_new(ctx, 4, dim)};
    if (ctx->error.set) return (VaePosterior){0};
    for (int64_t i = 0; i < pixels * Z; i++) {
        const real *pixel = moments.data + i / Z * 2 * Z;
        const real logvar = pixel[Z + i % Z];
        p.mean.data[i] = pixel[i % Z];
        p.logvar.data[i] = logvar < -30 ? -30 : logvar > 20 ? 20 : logvar;
    }
    return p;
}

Tensor vae_moments_piece(Context *ctx, const Vae *vae, Tensor image, const char *prefix) {
    if (ctx->error.set) return (Tensor){0};
    const VaeEncoder *encoder = &vae->encoder;
    const Tensor no_time = {0};
    if (!vae->has_encoder)
        fail(&ctx->error,
             "%s: a picture can't be read in: this VAE has no encoder (the tensors encoder.* and "
             "quant_conv.* are not in the file)",
             model_path(vae->files));
    else if (image.dim[1] < vae->factor || image.dim[2] < vae->factor)
        fail(&ctx->error, "a picture of %lldx%lld is too small for the VAE %s: at least %lldx%lld",
             (long long)image.dim[2], (long long)image.dim[1], model_path(vae->files),
             (long long)vae->factor, (long long)vae->factor);
    if (ctx->error.set) return (Tensor){0};

    ArenaMark mark = scope_begin(ctx);
    name_all(ctx, prefix);
    Tensor h = conv_same(ctx, image, encoder->conv_in);
    observe_each(ctx, h, "conv_in");
    for (int64_t i = 0; i < vae->levels; i++) {
        const VaeBlock *down = &encoder->down[i];
        ArenaMark block = scope_begin(ctx);
        for (int64_t j = 0; j < vae->layers; j++)
            h = resnet_forward(ctx, &down->resnet[j], h, no_time);
        if (down->resample.w) {
            /* Unlike the U-Net's, padded at bottom and right alone. */
            h = downsample_forward(ctx, down->resample, 0, h);
            observe_each(ctx, h, "%s", down->resample_name);
        }
        h = scope_end(ctx, block, h);
    }
    h = mid_block(ctx, &encoder->mid, vae->norm, h);
    h = last_convolution(ctx, encoder->conv_norm_out, vae->norm, encoder->conv_out, h);
    if (vae->quant_conv.w) h = conv_same(ctx, h, vae->quant_conv);
    name_all(ctx, "");
    return scope_end(ctx, mark, h);
}

VaePosterior vae_encode(Context *ctx, const Vae *vae, Tensor image) {
    Tensor moments = vae_moments_piece(ctx, vae, image, "vae/encoder/");
    name_all(ctx, "vae/");
    if (vae->quant_conv.w) observe_each(ctx, moments, "quant_conv");
    name_all(ctx, "");
    return vae_posterior(ctx, moments);
}

Tensor vae_sample(Context *ctx, const Vae *vae, VaePosterior posterior, Tensor noise) {
    if (ctx->error.set) return (Tensor){0};
    Tensor z = tensor_new(ctx, posterior.mean.ndim, posterior.mean.dim);
    if (ctx->error.set) return (Tensor){0};
    for (int64_t i = 0; i < tensor_numel(z); i++) {
        double deviation = exp((double)posterior.logvar.data[i] / 2);
        z.data[i] = (real)(vae->scaling_factor *
                           ((double)posterior.mean.data[i] + deviation * (double)noise.data[i]));
    }
    return z;
}
