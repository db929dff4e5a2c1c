/* ResnetBlock2D, Transformer2DModel, Downsample2D, Upsample2D. See unet_blocks.h. */
#include "ref/unet_blocks.h"

#include <stdio.h>

#define TRANSFORMER_GROUP_NORM_EPS 1e-6 /* Transformer2DModel, fixed upstream */
#define LAYER_NORM_EPS 1e-5             /* BasicTransformerBlock, torch's default */

Affine affine_take(ModelDir *m, Shape weight, const char *scope, const char *name,
                   const char *part) {
    return (Affine){model_take(m, weight, "%s%s%s.weight", scope, name, part),
                    model_take(m, SHAPE(weight.dim[0]), "%s%s%s.bias", scope, name, part)};
}

Tensor conv_same(Context *ctx, Tensor x, Affine conv) {
    int64_t pad = (conv.w->dim[2] - 1) / 2;
    return conv2d(ctx, x, conv.w, conv.b, (Conv2d){1, pad, pad, pad, pad});
}

/* ---- ResnetBlock2D --------------------------------------------------------------------------- */

Resnet resnet_take(ModelDir *m, const char *scope, const char *name, int64_t in, int64_t out,
                   int64_t time_dim, NormSpec norm, double output_scale_factor) {
    Resnet r = {.norm = norm, .output_scale_factor = output_scale_factor};
    snprintf(r.name, sizeof r.name, "%s", name);
    r.norm1 = affine_take(m, SHAPE(in), scope, name, ".norm1");
    r.conv1 = affine_take(m, SHAPE(out, in, 3, 3), scope, name, ".conv1");
    if (time_dim)
        r.time_emb_proj = affine_take(m, SHAPE(out, time_dim), scope, name, ".time_emb_proj");
    r.norm2 = affine_take(m, SHAPE(out), scope, name, ".norm2");
    r.conv2 = affine_take(m, SHAPE(out, out, 3, 3), scope, name, ".conv2");
    if (in != out)
        r.conv_shortcut = affine_take(m, SHAPE(out, in, 1, 1), scope, name, ".conv_shortcut");
    return r;
}

/* h = conv1(silu(norm1(x))) + time_emb_proj(temb)
 * y = (shortcut(x) + conv2(silu(norm2(h)))) / output_scale_factor */
Tensor resnet_forward(Context *ctx, const Resnet *r, Tensor x, Tensor temb) {
    ArenaMark mark = scope_begin(ctx);
    NormSpec n = r->norm;
    Tensor h = silu(ctx, group_norm(ctx, x, r->norm1.w, r->norm1.b, n.groups, n.eps));
    h = conv_same(ctx, h, r->conv1);
    if (r->time_emb_proj.w)
        h = add_channels(ctx, h, linear(ctx, temb, r->time_emb_proj.w, r->time_emb_proj.b));
    h = silu(ctx, group_norm(ctx, h, r->norm2.w, r->norm2.b, n.groups, n.eps));
    h = conv_same(ctx, h, r->conv2);
    if (r->conv_shortcut.w)
        x = conv2d(ctx, x, r->conv_shortcut.w, r->conv_shortcut.b, (Conv2d){.stride = 1});
    Tensor y = add(ctx, x, h);
    if (r->output_scale_factor != 1) y = scale(ctx, y, 1 / r->output_scale_factor);
    y = scope_end(ctx, mark, y);
    observe_each(ctx, y, "%s", r->name);
    return y;
}

/* ---- Transformer2DModel ---------------------------------------------------------------------- */

Tensor self_attention(Context *ctx, const TransformerBlock *b, int64_t heads, Tensor h) {
    if (ctx->error.set) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    Tensor q = linear(ctx, h, b->to_q, NULL);
    Tensor k = linear(ctx, h, b->to_k, NULL);
    Tensor v = linear(ctx, h, b->to_v, NULL);
    Tensor k_each[MAX_BATCH], v_each[MAX_BATCH];
    for (int64_t i = 0; i < h.dim[0]; i++) {
        k_each[i] = tensor_at(k, i);
        v_each[i] = tensor_at(v, i);
    }
    Tensor y = attention(ctx, q, k_each, v_each, heads, heads, MASK_NONE);
    return scope_end(ctx, mark, linear(ctx, y, b->to_out.w, b->to_out.b));
}

/* ff.net.2(GEGLU(ff.net.0.proj(h))) */
Tensor feed_forward(Context *ctx, const TransformerBlock *b, Tensor h) {
    ArenaMark mark = scope_begin(ctx);
    Tensor y = geglu(ctx, linear(ctx, h, b->ff_in.w, b->ff_in.b));
    return scope_end(ctx, mark, linear(ctx, y, b->ff_out.w, b->ff_out.b));
}

static Tensor normed(Context *ctx, Tensor h, Affine norm) {
    return layer_norm(ctx, h, norm.w, norm.b, LAYER_NORM_EPS);
}

/* h = h + attn1(norm1(h));  h = h + attn2(norm2(h), prompt);  h = h + ff(norm3(h)) */
Tensor transformer_block_forward(Context *ctx, const TransformerBlock *b, int64_t heads, Tensor h,
                                 const CrossLayers *cross) {
    ArenaMark mark = scope_begin(ctx);
    Tensor y = self_attention(ctx, b, heads, normed(ctx, h, b->norm1));
    observe_each(ctx, y, "%s.attn1", b->name);
    h = add(ctx, h, y);

    CrossContext context[MAX_BATCH] = {0};
    for (int64_t i = 0; i < MAX_BATCH && cross->context[i]; i++)
        context[i] = cross->context[i][b->cross];
    y = eq9_attention(ctx, &cross->original[b->cross],
                      cross->added ? &cross->added[b->cross] : NULL, cross->out_choice,
                      normed(ctx, h, b->norm2), context);
    observe_each(ctx, y, "%s.attn2", b->name);
    h = add(ctx, h, y);

    y = feed_forward(ctx, b, normed(ctx, h, b->norm3));
    observe_each(ctx, y, "%s.ff", b->name);
    h = scope_end(ctx, mark, add(ctx, h, y));
    observe_each(ctx, h, "%s", b->name);
    return h;
}

Tensor transformer_forward(Context *ctx, const Transformer *t, Tensor x, const CrossLayers *cross) {
    if (ctx->error.set) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    const int64_t B = x.dim[0], HW = x.dim[1] * x.dim[2], C = t->channels;
    const Conv2d pointwise = {.stride = 1};
    Tensor h = group_norm(ctx, x, t->norm.w, t->norm.b, t->groups, TRANSFORMER_GROUP_NORM_EPS);
    /* proj_in and proj_out are 1x1 convolutions, or linear layers (use_linear_projection): the same
     * numbers, since a map of pixels is rows of channels here. */
    bool is_linear = t->proj_in.w->ndim == 2;
    Tensor rows = TENSOR_VIEW(h, B, HW, C);
    h = is_linear ? linear(ctx, rows, t->proj_in.w, t->proj_in.b)
                  : conv2d(ctx, h, t->proj_in.w, t->proj_in.b, pointwise);
    h = TENSOR_VIEW(h, B, HW, C);
    for (int64_t i = 0; i < t->blocks; i++)
        h = transformer_block_forward(ctx, &t->block[i], t->heads, h, cross);
    h = is_linear ? linear(ctx, h, t->proj_out.w, t->proj_out.b)
                  : conv2d(ctx, TENSOR_VIEW(h, B, x.dim[1], x.dim[2], C), t->proj_out.w,
                           t->proj_out.b, pointwise);
    return scope_end(ctx, mark, add(ctx, x, TENSOR_VIEW(h, B, x.dim[1], x.dim[2], C)));
}

/* ---- Downsample2D, Upsample2D ---------------------------------------------------------------- */

Tensor downsample_forward(Context *ctx, Affine conv, int64_t padding, Tensor x) {
    return conv2d(ctx, x, conv.w, conv.b, (Conv2d){2, padding, padding, 1, 1});
}

Tensor upsample_forward(Context *ctx, Affine conv, Tensor x, int64_t height, int64_t width) {
    ArenaMark mark = scope_begin(ctx);
    Tensor y = resize_nearest(ctx, x, height, width);
    return scope_end(ctx, mark, conv_same(ctx, y, conv));
}
