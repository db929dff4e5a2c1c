/* UNet2DConditionModel.forward. Loading stands in unet_load.c. See unet.h. */
#include "ref/unet.h"

#include "tensor/tape.h"

#include <math.h>
#include <string.h>

/* The sinusoid of t, then linear_2(silu(linear_1(.))). diffusers Timesteps, TimestepEmbedding.
 *     freq_k = exp(-ln(10000) k / (half - freq_shift)),  k < half = channels / 2
 * [sin | cos] of t freq_k, or [cos | sin] with flip_sin_to_cos. Computed in double and rounded once:
 * t freq_k has lost 3e-5 by t = 999 where it is computed in float32. -> [1, time_dim] */
Tensor unet_time_embedding(Context *ctx, const Unet *u, double t) {
    ArenaMark mark = scope_begin(ctx);
    Tensor wave = TENSOR_NEW(ctx, 1, u->time_channels);
    if (!wave.data) return wave;
    int64_t half = u->time_channels / 2;
    wave.data[u->time_channels - 1] = 0; /* an odd width ends in a zero */
    for (int64_t k = 0; k < half; k++) {
        double freq = exp(-log(10000.0) * (double)k / ((double)half - u->freq_shift));
        wave.data[u->flip_sin_to_cos ? half + k : k] = (real)sin(t * freq);
        wave.data[u->flip_sin_to_cos ? k : half + k] = (real)cos(t * freq);
    }
    Tensor y = silu(ctx, linear(ctx, wave, u->linear_1.w, u->linear_1.b));
    return scope_end(ctx, mark, linear(ctx, y, u->linear_2.w, u->linear_2.b));
}

/* What every resnet reads, silu of the time embedding, for each of B pictures: t [times], one for all of
 * them or one for each. -> [B, time_dim] */
static Tensor embed_times(Context *ctx, const Unet *u, const double *t, int64_t times, int64_t B) {
    Tensor y = TENSOR_NEW(ctx, B, u->time_dim);
    ArenaMark mark = scope_begin(ctx);
    for (int64_t b = 0; b < times && !ctx->error.set; b++) {
        Tensor row = unet_time_embedding(ctx, u, t[b]);
        const char *prefix = times == 1 ? ctx->batch_prefix : ctx->prefix[b];
        observe(ctx, TENSOR_VIEW(row, u->time_dim), "%stime_embedding", prefix ? prefix : "");
        row = silu(ctx, row);
        for (int64_t i = b; row.data && i < (times == 1 ? B : b + 1); i++)
            memcpy(tensor_at(y, i).data, row.data, (size_t)u->time_dim * sizeof(real));
        arena_release(&ctx->arena, mark);
    }
    return ctx->error.set ? (Tensor){0} : y;
}

/* center_input_sample: 2 x - 1 */
static Tensor center(Context *ctx, Tensor x) {
    Tensor y = scale(ctx, x, 2);
    for (int64_t i = 0; y.data && i < tensor_numel(y); i++) y.data[i] -= 1;
    return y;
}

/* A resnet with the transformer that stands before it (mid block) or after it, if there is one. */
typedef struct UnetLayer {
    Tensor h, skip; /* skip: what stands beside h in an up block; else empty */
    Tensor temb;
    const Resnet *resnet;
    const Transformer *before, *after;
    CrossLayers cross;
} UnetLayer;

static Tensor layer_run(Context *ctx, const void *args) {
    const UnetLayer *l = args;
    ArenaMark mark = scope_begin(ctx);
    Tensor h = l->h;
    if (l->before) h = transformer_forward(ctx, l->before, h, &l->cross);
    if (l->skip.data) h = concat(ctx, h, l->skip);
    h = resnet_forward(ctx, l->resnet, h, l->temb);
    if (l->after) h = transformer_forward(ctx, l->after, h, &l->cross);
    return scope_end(ctx, mark, h);
}

/* What gradient checkpointing computes twice in place of keeping it. */
static Tensor layer_forward(Context *ctx, UnetLayer l) {
    if (ctx->error.set) return (Tensor){0};
    if (ctx->tape && ctx->tape->checkpoint) return tape_checkpoint(ctx, layer_run, &l, sizeof l);
    return layer_run(ctx, &l);
}

static Tensor forward(Context *ctx, const Unet *u, Tensor sample, const double *t, int64_t times,
                      const CrossLayers *cross) {
    if (ctx->error.set) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    Tensor skip[UNET_MAX_LEVELS * (UNET_MAX_LAYERS + 1) + 1];
    int64_t skips = 0;
    Tensor temb = embed_times(ctx, u, t, times, sample.dim[0]);

    if (u->center_input) sample = center(ctx, sample);
    Tensor h = conv_same(ctx, sample, u->conv_in);
    observe_each(ctx, h, "conv_in");
    skip[skips++] = h;

    for (int64_t level = 0; level < u->levels; level++) {
        const UnetBlock *b = &u->down[level];
        for (int64_t j = 0; j < b->layers; j++) {
            h = layer_forward(ctx,
                              (UnetLayer){.h = h,
                                          .temb = temb,
                                          .resnet = &b->resnet[j],
                                          .after = b->has_attention ? &b->transformer[j] : NULL,
                                          .cross = *cross});
            skip[skips++] = h;
        }
        if (b->resample.w) {
            h = downsample_forward(ctx, b->resample, u->downsample_padding, h);
            observe_each(ctx, h, "%s", b->resample_name);
            skip[skips++] = h;
        }
    }

    for (int64_t j = 0; j < u->mid.layers; j++) {
        const bool attends = j > 0 && u->mid.has_attention;
        h = layer_forward(ctx, (UnetLayer){.h = h,
                                           .temb = temb,
                                           .before = attends ? &u->mid.transformer[j - 1] : NULL,
                                           .resnet = &u->mid.resnet[j],
                                           .cross = *cross});
    }
    if (u->mid.layers) observe_each(ctx, h, "mid_block");

    for (int64_t level = 0; level < u->levels; level++) {
        const UnetBlock *b = &u->up[level];
        for (int64_t j = 0; j < b->layers && !ctx->error.set; j++) {
            h = layer_forward(ctx,
                              (UnetLayer){.h = h,
                                          .skip = skip[--skips],
                                          .temb = temb,
                                          .resnet = &b->resnet[j],
                                          .after = b->has_attention ? &b->transformer[j] : NULL,
                                          .cross = *cross});
        }
        if (b->resample.w && !ctx->error.set) {
            /* Twice the size or, where a level had an odd side, the size of the skip to come. */
            Tensor next = skip[skips - 1];
            h = upsample_forward(ctx, b->resample, h, next.dim[1], next.dim[2]);
            observe_each(ctx, h, "%s", b->resample_name);
        }
    }

    h = group_norm(ctx, h, u->conv_norm_out.w, u->conv_norm_out.b, u->norm.groups, u->norm.eps);
    h = conv_same(ctx, silu(ctx, h), u->conv_out);
    observe_each(ctx, h, "conv_out");
    return scope_end(ctx, mark, h);
}

Tensor unet_forward(Context *ctx, const Unet *u, Tensor sample, double t,
                    const CrossLayers *cross) {
    return forward(ctx, u, sample, &t, 1, cross);
}

Tensor unet_forward_each(Context *ctx, const Unet *u, Tensor sample, const double *t,
                         const CrossLayers *cross) {
    return forward(ctx, u, sample, t, ctx->error.set ? 0 : sample.dim[0], cross);
}
