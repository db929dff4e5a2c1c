/* AutoencoderKL: loading and decoding. See vae.h. */
#include "ref/vae.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- decoding -------------------------------------------------------------------------------- */

/* One head over all pixels, as wide as the map has channels, behind a group norm and around it the
 * residual. x [B, H, W, C] */
static Tensor mid_attention(Context *ctx, const Vae *vae, Tensor x) {
    if (ctx->error.set) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    const int64_t B = x.dim[0], HW = x.dim[1] * x.dim[2], C = x.dim[3];
    Tensor h =
        group_norm(ctx, x, vae->group_norm.w, vae->group_norm.b, vae->norm.groups, vae->norm.eps);
    h = TENSOR_VIEW(h, B, HW, C);
    Tensor q = linear(ctx, h, vae->to_q.w, vae->to_q.b);
    Tensor k = linear(ctx, h, vae->to_k.w, vae->to_k.b);
    Tensor v = linear(ctx, h, vae->to_v.w, vae->to_v.b);
    Tensor k_each[MAX_BATCH], v_each[MAX_BATCH];
    for (int64_t b = 0; b < B; b++) {
        k_each[b] = tensor_at(k, b);
        v_each[b] = tensor_at(v, b);
    }
    h = attention(ctx, q, k_each, v_each, 1, 1, MASK_NONE);
    h = linear(ctx, h, vae->to_out.w, vae->to_out.b);
    h = add(ctx, x, TENSOR_VIEW(h, B, x.dim[1], x.dim[2], C));
    h = scope_end(ctx, mark, h);
    observe_each(ctx, h, "mid_block.attentions.0");
    return h;
}

Tensor vae_decode(Context *ctx, const Vae *vae, Tensor latents) {
    if (ctx->error.set) return (Tensor){0};
    ArenaMark mark = scope_begin(ctx);
    const Tensor no_time = {0};
    for (int b = 0; b < MAX_BATCH; b++) ctx->prefix[b] = "vae/decoder/";

    Tensor h = scale(ctx, latents, 1 / vae->scaling_factor);
    if (vae->post_quant_conv.w) h = conv_same(ctx, h, vae->post_quant_conv);
    h = conv_same(ctx, h, vae->conv_in);
    observe_each(ctx, h, "conv_in");

    h = resnet_forward(ctx, &vae->mid[0], h, no_time);
    if (vae->mid_attention) h = mid_attention(ctx, vae, h);
    h = resnet_forward(ctx, &vae->mid[1], h, no_time);
    observe_each(ctx, h, "mid_block");

    for (int64_t i = 0; i < vae->levels && !ctx->error.set; i++) {
        const VaeUpBlock *up = &vae->up[i];
        ArenaMark block = scope_begin(ctx);
        for (int64_t j = 0; j < vae->layers; j++)
            h = resnet_forward(ctx, &up->resnet[j], h, no_time);
        if (up->upsample.w && !ctx->error.set) {
            h = upsample_forward(ctx, up->upsample, h, 2 * h.dim[1], 2 * h.dim[2]);
            observe_each(ctx, h, "%s", up->upsample_name);
        }
        h = scope_end(ctx, block, h);
    }

    h = group_norm(ctx, h, vae->conv_norm_out.w, vae->conv_norm_out.b, vae->norm.groups,
                   vae->norm.eps);
    h = conv_same(ctx, silu(ctx, h), vae->conv_out);
    observe_each(ctx, h, "conv_out");
    return scope_end(ctx, mark, h);
}

/* ---- loading --------------------------------------------------------------------------------- */

static void read_config(Vae *vae, int64_t *channels, bool *post_quant) {
    static const char *const no_effect[] = {"sample_size",      "force_upcast",   "in_channels",
                                            "down_block_types", "up_block_types", NULL};
    ModelDir *m = vae->files;
    const char *class_name = config_string(m, "_class_name", "(none)");
    if (strcmp(class_name, "AutoencoderKL") != 0)
        config_fail(m, "_class_name: expected \"AutoencoderKL\", found \"%s\"", class_name);
    vae->levels = config_ints(m, "block_out_channels", channels, VAE_MAX_LEVELS, 64, 1);
    vae->factor = (int64_t)1 << (vae->levels > 0 ? vae->levels - 1 : 0);
    vae->layers = config_int(m, "layers_per_block", 1, 1, VAE_MAX_LAYERS - 1) + 1;
    vae->latent_channels = config_int(m, "latent_channels", 4, 1, 4096);
    vae->out_channels = config_int(m, "out_channels", 3, 1, 4096);
    vae->scaling_factor = config_double(m, "scaling_factor", 0.18215);
    vae->norm = (NormSpec){config_int(m, "norm_num_groups", 32, 1, 4096), 1e-6};
    vae->mid_attention = config_bool(m, "mid_block_add_attention", true);
    *post_quant = config_bool(m, "use_post_quant_conv", true);
    config_bool(m, "use_quant_conv", true);
    config_only_string(m, "act_fn", "silu");
    config_only_double(m, "shift_factor", 0);
    config_only_null(m, "latents_mean");
    config_only_null(m, "latents_std");
    if (!(vae->scaling_factor > 0)) config_fail(m, "scaling_factor: expected a positive number");
    const cJSON *types = cJSON_GetObjectItemCaseSensitive(model_config(m), "up_block_types");
    const cJSON *type;
    if (cJSON_GetArraySize(types) != (int)vae->levels && !(vae->levels == 1 && !types))
        config_fail(m, "up_block_types: expected %lld, as many as block_out_channels",
                    (long long)vae->levels);
    cJSON_ArrayForEach(type, types) {
        const char *name = cJSON_GetStringValue(type);
        if (!name || strcmp(name, "UpDecoderBlock2D") != 0)
            config_fail(m, "up_block_types: expected \"UpDecoderBlock2D\", found \"%s\"",
                        name ? name : "(not a string)");
    }
    for (int64_t i = 0; i < vae->levels; i++)
        if (channels[i] < 1 || channels[i] % vae->norm.groups)
            config_fail(m,
                        "block_out_channels[%lld] = %lld is not a multiple of norm_num_groups %lld",
                        (long long)i, (long long)channels[i], (long long)vae->norm.groups);
    config_refuse_unknown(m, no_effect);
}

static void take_parameters(Vae *vae, const int64_t *channels, bool post_quant) {
    ModelDir *m = vae->files;
    const char *scope = "decoder.", *attention = "mid_block.attentions.0";
    int64_t Z = vae->latent_channels, C = channels[vae->levels - 1];
    char name[PATH_MAX_CHARS];
    if (post_quant)
        vae->post_quant_conv = affine_take(m, SHAPE(Z, Z, 1, 1), "", "post_quant_conv", "");
    vae->conv_in = affine_take(m, SHAPE(C, Z, 3, 3), scope, "conv_in", "");
    vae->mid[0] = resnet_take(m, scope, "mid_block.resnets.0", C, C, 0, vae->norm, 1);
    vae->mid[1] = resnet_take(m, scope, "mid_block.resnets.1", C, C, 0, vae->norm, 1);
    if (vae->mid_attention) {
        vae->group_norm = affine_take(m, SHAPE(C), scope, attention, ".group_norm");
        /* Stable Diffusion 1.5's own file has the names that diffusers used at first. */
        bool old = model_has(m, "decoder.mid_block.attentions.0.query.weight");
        vae->to_q = affine_take(m, SHAPE(C, C), scope, attention, old ? ".query" : ".to_q");
        vae->to_k = affine_take(m, SHAPE(C, C), scope, attention, old ? ".key" : ".to_k");
        vae->to_v = affine_take(m, SHAPE(C, C), scope, attention, old ? ".value" : ".to_v");
        vae->to_out =
            affine_take(m, SHAPE(C, C), scope, attention, old ? ".proj_attn" : ".to_out.0");
    }
    for (int64_t i = 0; i < vae->levels; i++) {
        VaeUpBlock *up = &vae->up[i];
        int64_t in = C;
        C = channels[vae->levels - 1 - i];
        for (int64_t j = 0; j < vae->layers; j++) {
            snprintf(name, sizeof name, "up_blocks.%d.resnets.%d", (int)i, (int)j);
            up->resnet[j] = resnet_take(m, scope, name, j == 0 ? in : C, C, 0, vae->norm, 1);
        }
        if (i + 1 == vae->levels) break;
        snprintf(up->upsample_name, sizeof up->upsample_name, "up_blocks.%d.upsamplers.0", (int)i);
        up->upsample = affine_take(m, SHAPE(C, C, 3, 3), scope, up->upsample_name, ".conv");
    }
    vae->conv_norm_out = affine_take(m, SHAPE(channels[0]), scope, "conv_norm_out", "");
    vae->conv_out =
        affine_take(m, SHAPE(vae->out_channels, channels[0], 3, 3), scope, "conv_out", "");
    model_ignore(m, "encoder.");
    model_ignore(m, "quant_conv.");
}

Vae *vae_load(const char *dir, Error *err) {
    Vae *vae = calloc(1, sizeof *vae);
    if (!vae) {
        fail(err, "out of memory loading %s", dir);
        return NULL;
    }
    int64_t channels[VAE_MAX_LEVELS] = {0};
    bool post_quant = true;
    vae->files = model_open(dir, err);
    if (vae->files) read_config(vae, channels, &post_quant);
    if (vae->files && !model_failed(vae->files)) {
        take_parameters(vae, channels, post_quant);
        if (model_finish(vae->files) == 0) return vae;
    }
    vae_free(vae);
    return NULL;
}

void vae_free(Vae *vae) {
    if (!vae) return;
    model_close(vae->files);
    free(vae);
}
