/* UNet2DConditionModel from its directory: config.json and every parameter by name. See unet.h. */
#include "ref/unet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the config says of each level, highest resolution first. */
typedef struct Levels {
    int64_t channels[UNET_MAX_LEVELS], heads[UNET_MAX_LEVELS], layers[UNET_MAX_LEVELS],
        transformer_layers[UNET_MAX_LEVELS];
    bool down_attention[UNET_MAX_LEVELS], up_attention[UNET_MAX_LEVELS];
    bool use_linear_projection;
    int64_t mid_resnets; /* 2 around an attention, 1 without attention, 0: no mid block */
    double mid_scale;
    int64_t kernel_in, kernel_out;
} Levels;

/* ---- config.json ----------------------------------------------------------------------------- */

/* The list of block types under `key`, each one of the two kinds, with or without attention. */
static void read_block_types(Unet *u, const char *key, const char *plain, const char *attending,
                             bool *attention) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(model_config(u->files), key);
    if (cJSON_GetArraySize(list) != (int)u->levels)
        config_fail(u->files, "%s: expected %lld block types, one for each of block_out_channels",
                    key, (long long)u->levels);
    for (int i = 0; i < (int)u->levels && !model_failed(u->files); i++) {
        const char *type = cJSON_GetStringValue(cJSON_GetArrayItem(list, i));
        attention[i] = type && strcmp(type, attending) == 0;
        if (!attention[i] && !(type && strcmp(type, plain) == 0))
            config_fail(u->files, "%s: expected \"%s\" or \"%s\", found \"%s\"", key, attending,
                        plain, type ? type : "(not a string)");
    }
}

/* Null, unlike a key that is absent, means that there is none. */
static int64_t read_mid_block_type(ModelDir *m) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(model_config(m), "mid_block_type");
    const char *type = item ? cJSON_GetStringValue(item) : "UNetMidBlock2DCrossAttn";
    if (cJSON_IsNull(item)) return 0;
    if (type && strcmp(type, "UNetMidBlock2DCrossAttn") == 0) return 2;
    if (type && strcmp(type, "UNetMidBlock2D") == 0) return 1;
    config_fail(m,
                "mid_block_type: expected \"UNetMidBlock2DCrossAttn\", \"UNetMidBlock2D\" or "
                "null, found \"%s\"",
                type ? type : "(not a string)");
    return 0;
}

static void refuse_what_is_not_built(ModelDir *m) {
    static const char *const no_effect[] = {"sample_size",
                                            "dropout",
                                            "upcast_attention",
                                            "resnet_skip_time_act",
                                            "resnet_out_scale_factor",
                                            "cross_attention_norm",
                                            "mid_block_only_cross_attention",
                                            "addition_embed_type_num_heads",
                                            "addition_time_embed_dim",
                                            "projection_class_embeddings_input_dim",
                                            "mid_block_type",
                                            "down_block_types",
                                            "up_block_types",
                                            NULL};
    config_only_string(m, "act_fn", "silu");
    config_only_bool(m, "only_cross_attention", false);
    config_only_bool(m, "dual_cross_attention", false);
    config_only_bool(m, "class_embeddings_concat", false);
    config_only_string(m, "resnet_time_scale_shift", "default");
    config_only_string(m, "time_embedding_type", "positional");
    config_only_string(m, "attention_type", "default");
    config_only_null(m, "reverse_transformer_layers_per_block");
    config_only_null(m, "encoder_hid_dim");
    config_only_null(m, "encoder_hid_dim_type");
    config_only_null(m, "num_attention_heads");
    config_only_null(m, "class_embed_type");
    config_only_null(m, "addition_embed_type");
    config_only_null(m, "num_class_embeds");
    config_only_null(m, "time_embedding_act_fn");
    config_only_null(m, "timestep_post_act");
    config_only_null(m, "time_cond_proj_dim");
    config_refuse_unknown(m, no_effect);
}

/* Absent keys mean the upstream class's defaults, which are not SD 1.5's in every case. */
static void read_config(Unet *u, Levels *lv) {
    ModelDir *m = u->files;
    static const int64_t default_channels[] = {320, 640, 1280, 1280};
    const char *class_name = config_string(m, "_class_name", "(none)");
    if (strcmp(class_name, "UNet2DConditionModel") != 0)
        config_fail(m, "_class_name: expected \"UNet2DConditionModel\", found \"%s\"", class_name);
    int levels = config_ints(m, "block_out_channels", lv->channels, UNET_MAX_LEVELS, 0, 0);
    if (levels == 0) {
        levels = 4;
        memcpy(lv->channels, default_channels, sizeof default_channels);
    }
    u->levels = levels;
    struct {
        const char *key;
        int64_t *out, absent;
    } per_level[] = {{"layers_per_block", lv->layers, 2},
                     {"transformer_layers_per_block", lv->transformer_layers, 1},
                     /* SD's misnomer, kept upstream: attention_head_dim is the number of heads */
                     {"attention_head_dim", lv->heads, 8}};
    for (size_t i = 0; i < sizeof per_level / sizeof per_level[0]; i++)
        if (config_ints(m, per_level[i].key, per_level[i].out, levels, per_level[i].absent,
                        levels) != levels)
            config_fail(m, "%s: expected one number, or %d as block_out_channels has",
                        per_level[i].key, levels);
    u->in_channels = config_int(m, "in_channels", 4, 1, 4096);
    u->out_channels = config_int(m, "out_channels", 4, 1, 4096);
    u->sample_size = config_int(m, "sample_size", 0, 0, 8192);
    u->cross_attention_dim = config_int(m, "cross_attention_dim", 1280, 1, 1 << 20);
    u->flip_sin_to_cos = config_bool(m, "flip_sin_to_cos", true);
    u->freq_shift = config_double(m, "freq_shift", 0);
    u->downsample_padding = config_int(m, "downsample_padding", 1, 0, 1);
    u->norm.groups = config_int(m, "norm_num_groups", 32, 1, 4096);
    u->norm.eps = config_double(m, "norm_eps", 1e-5);
    if (!(u->norm.eps >= 0)) config_fail(m, "norm_eps: expected 0 or more, found %g", u->norm.eps);
    lv->use_linear_projection = config_bool(m, "use_linear_projection", false);
    lv->mid_scale = config_double(m, "mid_block_scale_factor", 1);
    lv->mid_resnets = read_mid_block_type(m);
    lv->kernel_in = config_int(m, "conv_in_kernel", 3, 1, 7);
    lv->kernel_out = config_int(m, "conv_out_kernel", 3, 1, 7);
    if (lv->kernel_in % 2 == 0 || lv->kernel_out % 2 == 0)
        config_fail(m, "conv_in_kernel %lld, conv_out_kernel %lld: expected odd numbers",
                    (long long)lv->kernel_in, (long long)lv->kernel_out);
    u->center_input = config_bool(m, "center_input_sample", false);
    u->time_channels = lv->channels[0];
    u->time_dim = config_int(m, "time_embedding_dim", 4 * lv->channels[0], 1, 1 << 20);
    read_block_types(u, "down_block_types", "DownBlock2D", "CrossAttnDownBlock2D",
                     lv->down_attention);
    read_block_types(u, "up_block_types", "UpBlock2D", "CrossAttnUpBlock2D", lv->up_attention);
    for (int i = 0; i < levels && !model_failed(m); i++) {
        if (lv->channels[i] < 1 || lv->channels[i] % u->norm.groups)
            config_fail(m,
                        "block_out_channels[%d] = %lld is not a multiple of norm_num_groups %lld",
                        i, (long long)lv->channels[i], (long long)u->norm.groups);
        const bool attends = lv->down_attention[i] || lv->up_attention[levels - 1 - i] ||
                             (i + 1 == levels && lv->mid_resnets == 2);
        if (attends && (lv->heads[i] < 1 || lv->channels[i] % lv->heads[i]))
            config_fail(m, "attention_head_dim[%d] = %lld (heads) does not divide %lld channels", i,
                        (long long)lv->heads[i], (long long)lv->channels[i]);
        if (lv->layers[i] < 1 || lv->layers[i] >= UNET_MAX_LAYERS)
            config_fail(m, "layers_per_block[%d]: expected 1 to %d, found %lld", i,
                        UNET_MAX_LAYERS - 1, (long long)lv->layers[i]);
        if (lv->transformer_layers[i] < 1 || lv->transformer_layers[i] > 64)
            config_fail(m, "transformer_layers_per_block[%d]: expected 1 to 64, found %lld", i,
                        (long long)lv->transformer_layers[i]);
    }
    refuse_what_is_not_built(m);
}

/* ---- parameters ------------------------------------------------------------------------------ */

static void take_cross_attention(Unet *u, const char *block, int64_t C, int64_t heads) {
    ModelDir *m = u->files;
    int64_t E = u->cross_attention_dim;
    CrossAttention *grown = realloc(u->cross, (size_t)(u->cross_layers + 1) * sizeof *grown);
    if (!grown) {
        config_fail(m, "out of memory");
        return;
    }
    u->cross = grown;
    CrossAttention *a = &u->cross[u->cross_layers++];
    *a = (CrossAttention){.channels = C, .heads = heads};
    snprintf(a->name, sizeof a->name, "%s.attn2", block);
    a->to_q = model_take(m, SHAPE(C, C), "%s.to_q.weight", a->name);
    a->to_k = model_take(m, SHAPE(C, E), "%s.to_k.weight", a->name);
    a->to_v = model_take(m, SHAPE(C, E), "%s.to_v.weight", a->name);
    a->to_out_w = model_take(m, SHAPE(C, C), "%s.to_out.0.weight", a->name);
    a->to_out_b = model_take(m, SHAPE(C), "%s.to_out.0.bias", a->name);
}

static void take_transformer_block(Unet *u, TransformerBlock *b, int64_t C, int64_t heads) {
    ModelDir *m = u->files;
    b->norm1 = affine_take(m, SHAPE(C), "", b->name, ".norm1");
    b->norm2 = affine_take(m, SHAPE(C), "", b->name, ".norm2");
    b->norm3 = affine_take(m, SHAPE(C), "", b->name, ".norm3");
    b->to_q = model_take(m, SHAPE(C, C), "%s.attn1.to_q.weight", b->name);
    b->to_k = model_take(m, SHAPE(C, C), "%s.attn1.to_k.weight", b->name);
    b->to_v = model_take(m, SHAPE(C, C), "%s.attn1.to_v.weight", b->name);
    b->to_out = affine_take(m, SHAPE(C, C), "", b->name, ".attn1.to_out.0");
    b->ff_in = affine_take(m, SHAPE(8 * C, C), "", b->name, ".ff.net.0.proj");
    b->ff_out = affine_take(m, SHAPE(C, 4 * C), "", b->name, ".ff.net.2");
    b->cross = u->cross_layers;
    take_cross_attention(u, b->name, C, heads);
}

static void take_transformer(Unet *u, Transformer *t, const char *block, int64_t j, int64_t C,
                             int64_t heads, int64_t blocks, bool is_linear) {
    ModelDir *m = u->files;
    *t = (Transformer){.channels = C, .heads = heads, .groups = u->norm.groups};
    snprintf(t->name, sizeof t->name, "%s.attentions.%d", block, (int)j);
    t->block = calloc((size_t)blocks, sizeof *t->block);
    if (!t->block) {
        config_fail(m, "out of memory");
        return;
    }
    Shape projection = is_linear ? SHAPE(C, C) : SHAPE(C, C, 1, 1);
    t->norm = affine_take(m, SHAPE(C), "", t->name, ".norm");
    t->proj_in = affine_take(m, projection, "", t->name, ".proj_in");
    t->proj_out = affine_take(m, projection, "", t->name, ".proj_out");
    for (t->blocks = 0; t->blocks < blocks; t->blocks++) {
        TransformerBlock *b = &t->block[t->blocks];
        snprintf(b->name, sizeof b->name, "%.60s.transformer_blocks.%d", t->name, (int)t->blocks);
        take_transformer_block(u, b, C, heads);
    }
}

/* `in[j]`: the channels that resnet j reads. `level`: where heads and transformer layers come from. */
static void take_block(Unet *u, UnetBlock *b, const char *name, int64_t layers, bool attention,
                       const int64_t *in, const Levels *lv, int64_t level, double scale_factor) {
    int64_t C = lv->channels[level];
    bool is_mid = b == &u->mid;
    b->layers = layers;
    b->has_attention = attention;
    for (int64_t j = 0; j < layers; j++) {
        char resnet[PATH_MAX_CHARS];
        snprintf(resnet, sizeof resnet, "%s.resnets.%d", name, (int)j);
        b->resnet[j] =
            resnet_take(u->files, "", resnet, in[j], C, u->time_dim, u->norm, scale_factor);
        if (attention && !(is_mid && j + 1 == layers))
            take_transformer(u, &b->transformer[j], name, j, C, lv->heads[level],
                             lv->transformer_layers[level], lv->use_linear_projection);
    }
}

static void take_resample(Unet *u, UnetBlock *b, const char *name, const char *kind, int64_t C) {
    snprintf(b->resample_name, sizeof b->resample_name, "%s.%s.0", name, kind);
    b->resample = affine_take(u->files, SHAPE(C, C, 3, 3), "", b->resample_name, ".conv");
}

static void take_parameters(Unet *u, const Levels *lv) {
    const int64_t L = u->levels, *ch = lv->channels;
    int64_t in[UNET_MAX_LAYERS];
    char name[32];
    u->conv_in = affine_take(u->files, SHAPE(ch[0], u->in_channels, lv->kernel_in, lv->kernel_in),
                             "", "conv_in", "");
    u->linear_1 =
        affine_take(u->files, SHAPE(u->time_dim, ch[0]), "", "time_embedding", ".linear_1");
    u->linear_2 =
        affine_take(u->files, SHAPE(u->time_dim, u->time_dim), "", "time_embedding", ".linear_2");

    for (int64_t i = 0; i < L; i++) {
        snprintf(name, sizeof name, "down_blocks.%d", (int)i);
        for (int64_t j = 0; j < lv->layers[i]; j++) in[j] = j == 0 ? ch[i > 0 ? i - 1 : 0] : ch[i];
        take_block(u, &u->down[i], name, lv->layers[i], lv->down_attention[i], in, lv, i, 1);
        if (i + 1 < L) take_resample(u, &u->down[i], name, "downsamplers", ch[i]);
    }

    in[0] = in[1] = ch[L - 1];
    take_block(u, &u->mid, "mid_block", lv->mid_resnets, lv->mid_resnets == 2, in, lv, L - 1,
               lv->mid_scale);

    /* Up block i works at level L-1-i and takes that level's skips from the top: its resnets' own
     * outputs there, and last the one that entered the level, which has the channels above. */
    for (int64_t i = 0; i < L; i++) {
        int64_t level = L - 1 - i, layers = lv->layers[level] + 1;
        int64_t before = i == 0 ? ch[L - 1] : ch[level + 1], above = ch[level > 0 ? level - 1 : 0];
        snprintf(name, sizeof name, "up_blocks.%d", (int)i);
        for (int64_t j = 0; j < layers; j++)
            in[j] = (j == 0 ? before : ch[level]) + (j + 1 == layers ? above : ch[level]);
        take_block(u, &u->up[i], name, layers, lv->up_attention[i], in, lv, level, 1);
        if (i + 1 < L) take_resample(u, &u->up[i], name, "upsamplers", ch[level]);
    }
    u->conv_norm_out = affine_take(u->files, SHAPE(ch[0]), "", "conv_norm_out", "");
    u->conv_out =
        affine_take(u->files, SHAPE(u->out_channels, ch[0], lv->kernel_out, lv->kernel_out), "",
                    "conv_out", "");
}

Unet *unet_load(const char *dir, Error *err) {
    Unet *u = calloc(1, sizeof *u);
    if (!u) {
        fail(err, "out of memory loading %s", dir);
        return NULL;
    }
    Levels lv = {0};
    u->files = model_open(dir, err);
    if (u->files) read_config(u, &lv);
    if (u->files && !model_failed(u->files)) {
        take_parameters(u, &lv);
        if (model_finish(u->files) == 0) return u;
    }
    unet_free(u);
    return NULL;
}

static void free_block(UnetBlock *b) {
    for (int j = 0; j < UNET_MAX_LAYERS; j++) free(b->transformer[j].block);
}

void unet_free(Unet *u) {
    if (!u) return;
    for (int i = 0; i < UNET_MAX_LEVELS; i++) {
        free_block(&u->down[i]);
        free_block(&u->up[i]);
    }
    free_block(&u->mid);
    free(u->cross);
    model_close(u->files);
    free(u);
}
