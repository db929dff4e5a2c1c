/* llmdiff_describe of a directory: a pack, or one part of one. Every part is loaded as a run loads it,
 * so that what is shown is what a run finds. */
#include "ref/llmdiff_private.h"
#include "weights/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Info {
    Text *out;
    bool tensors;
    int64_t total; /* parameters of all parts */
    Llm *llm;      /* kept for the adapter */
    Unet *unet;
    Error *err;
} Info;

char *joined(const char *dir, const char *name, Error *err) {
    size_t room = strlen(dir) + strlen(name) + 2;
    char *path = malloc(room);
    if (!path)
        fail(err, "out of memory");
    else
        snprintf(path, room, "%s/%s", dir, name);
    return path;
}

static bool has_file(const char *dir, const char *name, Error *err) {
    char *path = joined(dir, name, err);
    bool there = path && file_exists(path);
    free(path);
    return there;
}

/* ---- lines --------------------------------------------------------------------------------------- */

static void heading(const Info *info, const char *part, const char *path) {
    put(info->out, "%s: %s\n", part, path);
}

static void text(const Info *info, const char *key, const char *value) {
    info_text(info->out, key, value);
}

static void whole(const Info *info, const char *key, int64_t value) {
    put(info->out, "  %-26s %lld\n", key, (long long)value);
}

static void number(const Info *info, const char *key, double value) {
    put(info->out, "  %-26s %.10g\n", key, value);
}

/* A key of a config as it stands in the file. */
static void as_in_file(const Info *info, const cJSON *item) {
    char *value = cJSON_PrintUnformatted(item);
    if (value)
        text(info, item->string, value);
    else
        fail(info->err, "out of memory");
    cJSON_free(value);
}

static void config_line(const Info *info, const ModelDir *m, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(model_config(m), key);
    if (item) as_in_file(info, item);
}

/* "parameters  1,234 parameters (1.2k), F32", types in the order of Dtype; and the list itself. */
static void parameters(Info *info, const ModelDir *m) {
    static const Dtype types[] = {DTYPE_F64, DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_I64,
                                  DTYPE_I32, DTYPE_I16, DTYPE_I8,  DTYPE_U8,   DTYPE_BOOL};
    bool seen[sizeof types / sizeof types[0]] = {false};
    int64_t count = 0;
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        count += stored_numel(model_tensor_at(m, i));
        seen[model_tensor_at(m, i)->dtype] = true;
    }
    info->total += count;
    char size[64];
    llmdiff_parameters_text(count, size);
    put(info->out, "  %-26s %s", "size", size);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (seen[types[i]]) put(info->out, ", %s", dtype_name(types[i]));
    put(info->out, "\n");
    for (size_t i = 0; info->tensors && i < model_tensor_count(m); i++)
        info_tensor(info->out, model_tensor_at(m, i));
}

static void settings_lines(const Info *info, const Settings *settings) {
    cJSON *json = settings_to_json(settings), *item;
    if (!json) fail(info->err, "out of memory");
    put(info->out, "settings\n");
    cJSON_ArrayForEach(item, json) as_in_file(info, item);
    cJSON_Delete(json);
}

/* ---- parts --------------------------------------------------------------------------------------- */

static void info_llm(Info *info, const char *dir) {
    Llm *llm = info->llm = llm_load(dir, info->err);
    Tokenizer *tokenizer = llm ? tokenizer_open(dir, info->err) : NULL;
    if (tokenizer) {
        int64_t bos = tokenizer_bos(tokenizer);
        heading(info, "llm", dir);
        text(info, "family", llm->family);
        whole(info, "T (blocks)", llm->T);
        whole(info, "D (width)", llm->D);
        whole(info, "heads", llm->heads);
        whole(info, "key heads", llm->kv_heads);
        whole(info, "MLP width", llm->intermediate);
        whole(info, "vocabulary", llm->vocabulary);
        whole(info, "positions", llm->max_positions);
        put(info->out, "  %-26s %s, %lld ids\n", "tokenizer", tokenizer_kind(tokenizer),
            (long long)tokenizer_size(tokenizer));
        if (bos >= 0)
            put(info->out, "  %-26s %lld %s\n", "begin token", (long long)bos,
                tokenizer_piece(tokenizer, bos));
        else
            text(info, "begin token", "none");
        parameters(info, llm->files);
    }
    tokenizer_close(tokenizer);
}

static void info_unet(Info *info, const char *dir) {
    Unet *unet = info->unet = unet_load(dir, info->err);
    if (!unet) return;
    heading(info, "unet", dir);
    text(info, "class", "UNet2DConditionModel");
    whole(info, "levels", unet->levels);
    config_line(info, unet->files, "block_out_channels");
    config_line(info, unet->files, "layers_per_block");
    whole(info, "latent channels", unet->in_channels);
    whole(info, "sample size", unet->sample_size);
    whole(info, "cross-attentions", unet->cross_layers);
    whole(info, "E (text width)", unet->cross_attention_dim);
    parameters(info, unet->files);
}

static void info_vae(Info *info, const char *dir) {
    Vae *vae = vae_load(dir, info->err);
    if (!vae) return;
    heading(info, "vae", dir);
    text(info, "class", "AutoencoderKL");
    whole(info, "factor", vae->factor);
    config_line(info, vae->files, "block_out_channels");
    whole(info, "latent channels", vae->latent_channels);
    number(info, "scaling factor", vae->scaling_factor);
    parameters(info, vae->files);
    vae_free(vae);
}

static void info_scheduler(Info *info, const char *dir) {
    Schedule *schedule = schedule_load(dir, info->err);
    ModelDir *m = schedule ? model_open_config(dir, "scheduler_config.json", info->err) : NULL;
    if (m) {
        const cJSON *item;
        SamplerKind own = sampler_of_class(schedule->class_name);
        heading(info, "scheduler", dir);
        text(info, "class", schedule->class_name);
        text(info, "sampled with",
             own == SAMPLER_KINDS ? "none; another with --sampling-method" : sampler_name(own));
        cJSON_ArrayForEach(item, model_config(m)) if (item->string[0] != '_')
            as_in_file(info, item);
    }
    model_close(m);
    schedule_free(schedule);
}

/* With both models at hand the adapter is checked against them. */
static void info_adapter(Info *info, const char *dir) {
    Adapter *adapter = adapter_load(dir, info->llm, info->unet, NULL, 0, info->err);
    if (!adapter) return;
    heading(info, "adapter", dir);
    config_line(info, adapter->files, "step");
    parameters(info, adapter->files);
    settings_lines(info, &adapter->settings);
    adapter_free(adapter);
}

static void info_adapter_alone(Info *info, const char *dir) {
    ModelDir *m = model_open(dir, info->err);
    Settings settings = settings_default();
    const cJSON *item;
    if (!m) return;
    cJSON_ArrayForEach(item, model_config(m))
        settings_set(&settings, item->string, item, dir, info->err);
    if (!info->err->set) {
        heading(info, "adapter", dir);
        config_line(info, m, "llm_hidden_size");
        config_line(info, m, "llm_num_blocks");
        config_line(info, m, "cross_attention_dim");
        config_line(info, m, "step");
        parameters(info, m);
        settings_lines(info, &settings);
    }
    model_close(m);
}

/* ---- which it is --------------------------------------------------------------------------------- */

static bool is_class(const cJSON *config, const char *name) {
    const char *found =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(config, "_class_name"));
    return found && strcmp(found, name) == 0;
}

static void info_part(Info *info, const char *dir) {
    ModelDir *m = model_open_config(dir, "config.json", info->err);
    if (!m) return;
    const cJSON *config = model_config(m);
    if (cJSON_HasObjectItem(config, "model_type"))
        info_llm(info, dir);
    else if (is_class(config, "UNet2DConditionModel"))
        info_unet(info, dir);
    else if (is_class(config, "AutoencoderKL"))
        info_vae(info, dir);
    else if (cJSON_HasObjectItem(config, "llm_hidden_size"))
        info_adapter_alone(info, dir);
    else
        fail(info->err,
             "%s/config.json: expected an LLM's model_type, a _class_name UNet2DConditionModel or "
             "AutoencoderKL, or an adapter's llm_hidden_size, found none of them",
             dir);
    model_close(m);
}

/* What a request gets if it doesn't say. */
static void info_defaults(Info *info, const char *dir) {
    int64_t steps;
    double cfg_scale;
    if (!has_file(dir, "model_index.json", info->err) ||
        pack_defaults(dir, &steps, &cfg_scale, info->err))
        return;
    heading(info, "pack", dir);
    whole(info, "num_inference_steps", steps);
    number(info, "guidance_scale", cfg_scale);
}

static void info_pack(Info *info, const char *dir) {
    static const struct {
        const char *name;
        void (*show)(Info *, const char *);
    } part[] = {{"llm", info_llm},
                {"unet", info_unet},
                {"vae", info_vae},
                {"scheduler", info_scheduler},
                {"adapter", info_adapter}};
    int found = 0;
    info_defaults(info, dir);
    for (size_t i = 0; i < sizeof part / sizeof part[0] && !info->err->set; i++) {
        char *path = joined(dir, part[i].name, info->err);
        if (path && is_directory(path)) {
            bool alone = part[i].show == info_adapter && !(info->llm && info->unet);
            if (alone)
                info_adapter_alone(info, path);
            else
                part[i].show(info, path);
            found++;
        }
        free(path);
    }
    if (!info->err->set && found == 0)
        fail(info->err,
             "%s: expected a pack (llm/ unet/ vae/ scheduler/ adapter/) or a part of one "
             "(config.json), found neither",
             dir);
    if (info->err->set) return;
    char size[64];
    llmdiff_parameters_text(info->total, size);
    put(info->out, "total: %s\n", size);
}

int info_directory(Text *out, const char *path, bool tensors, Error *err) {
    Info info = {.out = out, .tensors = tensors, .err = err};
    if (has_file(path, "config.json", err))
        info_part(&info, path);
    else if (has_file(path, "scheduler_config.json", err))
        info_scheduler(&info, path);
    else
        info_pack(&info, path);
    unet_free(info.unet);
    llm_free(info.llm);
    return err->set ? -1 : 0;
}
