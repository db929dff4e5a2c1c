/* AutoencoderKL: reading config.json and taking the parameters. See vae.h. */
#include "ref/vae.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- config.json ------------------------------------------------------------------------------ */

/* A list of block types: as many as levels, all of the one kind that there is. */
static void only_blocks(Vae *vae, const char *key, const char *supported) {
    ModelDir *m = vae->files;
    const cJSON *types = cJSON_GetObjectItemCaseSensitive(model_config(m), key);
    const cJSON *type;
    /* The class's default is one block. */
    if (cJSON_GetArraySize(types) != (int)vae->levels && !(vae->levels == 1 && !types))
        config_fail(m, "%s: expected %lld, as many as block_out_channels", key,
                    (long long)vae->levels);
    cJSON_ArrayForEach(type, types) {
        const char *name = cJSON_GetStringValue(type);
        if (!name || strcmp(name, supported) != 0)
            config_fail(m, "%s: expected \"%s\", found \"%s\"", key, supported,
                        name ? name : "(not a string)");
    }
}

static void read_config(Vae *vae, int64_t *channels, bool *quant, bool *post_quant) {
    static const char *const no_effect[] = {"force_upcast", "down_block_types", "up_block_types",
                                            NULL};
    ModelDir *m = vae->files;
    const char *class_name = config_string(m, "_class_name", "(none)");
    if (strcmp(class_name, "AutoencoderKL") != 0)
        config_fail(m, "_class_name: expected \"AutoencoderKL\", found \"%s\"", class_name);
    vae->levels = config_ints(m, "block_out_channels", channels, VAE_MAX_LEVELS, 64, 1);
    vae->factor = (int64_t)1 << (vae->levels > 0 ? vae->levels - 1 : 0);
    vae->layers = config_int(m, "layers_per_block", 1, 1, VAE_MAX_LAYERS - 1);
    vae->in_channels = config_int(m, "in_channels", 3, 1, 4096);
    vae->latent_channels = config_int(m, "latent_channels", 4, 1, 4096);
    vae->out_channels = config_int(m, "out_channels", 3, 1, 4096);
    int64_t sample_size[2] = {32,
                              32}; /* a number, or [height, width], of which upstream reads one */
    config_ints(m, "sample_size", sample_size, 2, 32, 1);
    vae->sample_size = sample_size[0];
    vae->scaling_factor = config_double(m, "scaling_factor", 0.18215);
    vae->norm = (NormSpec){config_int(m, "norm_num_groups", 32, 1, 4096), 1e-6};
    *post_quant = config_bool(m, "use_post_quant_conv", true);
    *quant = config_bool(m, "use_quant_conv", true);
    config_only_string(m, "act_fn", "silu");
    config_only_double(m, "shift_factor", 0);
    config_only_null(m, "latents_mean");
    config_only_null(m, "latents_std");
    if (!(vae->scaling_factor > 0)) config_fail(m, "scaling_factor: expected a positive number");
    only_blocks(vae, "up_block_types", "UpDecoderBlock2D");
    if (vae->has_encoder) only_blocks(vae, "down_block_types", "DownEncoderBlock2D");
    for (int64_t i = 0; i < vae->levels; i++)
        if (channels[i] < 1 || channels[i] % vae->norm.groups)
            config_fail(m,
                        "block_out_channels[%lld] = %lld is not a multiple of norm_num_groups %lld",
                        (long long)i, (long long)channels[i], (long long)vae->norm.groups);
    config_refuse_unknown(m, no_effect);
}

/* ---- parameters ------------------------------------------------------------------------------- */

static VaeMidBlock take_mid(Vae *vae, const char *scope, int64_t C, bool with_attention) {
    ModelDir *m = vae->files;
    const char *attention = "mid_block.attentions.0";
    VaeMidBlock mid = {0};
    mid.resnet[0] = resnet_take(m, scope, "mid_block.resnets.0", C, C, 0, vae->norm, 1);
    mid.resnet[1] = resnet_take(m, scope, "mid_block.resnets.1", C, C, 0, vae->norm, 1);
    if (!with_attention) return mid;
    /* Stable Diffusion 1.5's own file has the names that diffusers used at first. */
    char query[PATH_MAX_CHARS];
    snprintf(query, sizeof query, "%s%s.query.weight", scope, attention);
    bool old = model_has(m, query);
    Shape square = SHAPE(C, C);
    mid.group_norm = affine_take(m, SHAPE(C), scope, attention, ".group_norm");
    mid.to_q = affine_take(m, square, scope, attention, old ? ".query" : ".to_q");
    mid.to_k = affine_take(m, square, scope, attention, old ? ".key" : ".to_k");
    mid.to_v = affine_take(m, square, scope, attention, old ? ".value" : ".to_v");
    mid.to_out = affine_take(m, square, scope, attention, old ? ".proj_attn" : ".to_out.0");
    return mid;
}

/* Block i of `kind` ("up", "down"): `layers` resnets and, unless it is the last, a resampler. */
static void take_block(Vae *vae, VaeBlock *block, const char *scope, const char *kind, int64_t i,
                       int64_t layers, int64_t in, int64_t out) {
    ModelDir *m = vae->files;
    char name[PATH_MAX_CHARS];
    for (int64_t j = 0; j < layers; j++) {
        snprintf(name, sizeof name, "%s_blocks.%d.resnets.%d", kind, (int)i, (int)j);
        block->resnet[j] = resnet_take(m, scope, name, j == 0 ? in : out, out, 0, vae->norm, 1);
    }
    if (i + 1 == vae->levels) return;
    snprintf(block->resample_name, sizeof block->resample_name, "%s_blocks.%d.%ssamplers.0", kind,
             (int)i, kind);
    block->resample = affine_take(m, SHAPE(out, out, 3, 3), scope, block->resample_name, ".conv");
}

static void take_decoder(Vae *vae, const int64_t *channels, bool attention) {
    ModelDir *m = vae->files;
    VaeDecoder *d = &vae->decoder;
    const char *scope = "decoder.";
    const int64_t Z = vae->latent_channels, top = channels[vae->levels - 1];
    d->conv_in = affine_take(m, SHAPE(top, Z, 3, 3), scope, "conv_in", "");
    d->mid = take_mid(vae, scope, top, attention);
    for (int64_t i = 0, in = top; i < vae->levels; i++) {
        int64_t out = channels[vae->levels - 1 - i];
        take_block(vae, &d->up[i], scope, "up", i, vae->layers + 1, in, out);
        in = out;
    }
    d->conv_norm_out = affine_take(m, SHAPE(channels[0]), scope, "conv_norm_out", "");
    d->conv_out =
        affine_take(m, SHAPE(vae->out_channels, channels[0], 3, 3), scope, "conv_out", "");
}

static void take_encoder(Vae *vae, const int64_t *channels, bool attention) {
    ModelDir *m = vae->files;
    VaeEncoder *e = &vae->encoder;
    const char *scope = "encoder.";
    const int64_t Z = vae->latent_channels, top = channels[vae->levels - 1];
    e->conv_in = affine_take(m, SHAPE(channels[0], vae->in_channels, 3, 3), scope, "conv_in", "");
    for (int64_t i = 0; i < vae->levels; i++)
        take_block(vae, &e->down[i], scope, "down", i, vae->layers, channels[i > 0 ? i - 1 : 0],
                   channels[i]);
    e->mid = take_mid(vae, scope, top, attention);
    e->conv_norm_out = affine_take(m, SHAPE(top), scope, "conv_norm_out", "");
    e->conv_out = affine_take(m, SHAPE(2 * Z, top, 3, 3), scope, "conv_out", "");
}

Vae *vae_load(const char *dir, Error *err) {
    Vae *vae = calloc(1, sizeof *vae);
    if (!vae) {
        fail(err, "out of memory loading %s", dir);
        return NULL;
    }
    int64_t channels[VAE_MAX_LEVELS] = {0};
    bool quant = true, post_quant = true, attention = true;
    ModelDir *m = vae->files = model_open(dir, err);
    if (m) {
        /* Drawing needs no encoder, so a file may come without; then without all of it. */
        vae->has_encoder = model_has_any(m, "encoder.") || model_has_any(m, "quant_conv.");
        attention = config_bool(m, "mid_block_add_attention", true);
        read_config(vae, channels, &quant, &post_quant);
    }
    if (m && !model_failed(m)) {
        const int64_t Z = vae->latent_channels;
        if (post_quant)
            vae->post_quant_conv = affine_take(m, SHAPE(Z, Z, 1, 1), "", "post_quant_conv", "");
        take_decoder(vae, channels, attention);
        if (vae->has_encoder) take_encoder(vae, channels, attention);
        if (vae->has_encoder && quant)
            vae->quant_conv = affine_take(m, SHAPE(2 * Z, 2 * Z, 1, 1), "", "quant_conv", "");
        if (model_finish(m) == 0) return vae;
    }
    vae_free(vae);
    return NULL;
}

void vae_free(Vae *vae) {
    if (!vae) return;
    model_close(vae->files);
    free(vae);
}
