/* llmdiff info of a directory: a pack, or one part of one. Every part is loaded as a run loads it,
 * so that what info shows is what a run finds. */
#include "ref/cli.h"
#include "weights/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Info {
    bool tensors;
    int64_t total; /* parameters of all parts */
    Llm *llm;      /* kept for the adapter */
    Unet *unet;
    Error *err;
} Info;

static bool has_file(const char *dir, const char *name, Error *err) {
    char *path = cli_join(dir, name, err);
    bool there = path && file_exists(path);
    free(path);
    return there;
}

/* ---- lines --------------------------------------------------------------------------------------- */

static void heading(const char *part, const char *path) { printf("%s: %s\n", part, path); }

static void whole(const char *key, int64_t value) {
    printf("  %-26s %lld\n", key, (long long)value);
}

static void number(const char *key, double value) { printf("  %-26s %.10g\n", key, value); }

/* A key of a config as it stands in the file. */
static void as_in_file(const cJSON *item) {
    char *text = cJSON_PrintUnformatted(item);
    info_text(item->string, text ? text : "?");
    cJSON_free(text);
}

static void config_line(const ModelDir *m, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(model_config(m), key);
    if (item) as_in_file(item);
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
    printf("  %-26s ", "size");
    print_parameters(count);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (seen[types[i]]) printf(", %s", dtype_name(types[i]));
    putchar('\n');
    for (size_t i = 0; info->tensors && i < model_tensor_count(m); i++)
        info_tensor(model_tensor_at(m, i));
}

static void settings_lines(const Settings *settings, Error *err) {
    cJSON *json = settings_to_json(settings), *item;
    if (!json) fail(err, "out of memory");
    puts("settings");
    cJSON_ArrayForEach(item, json) as_in_file(item);
    cJSON_Delete(json);
}

/* ---- parts --------------------------------------------------------------------------------------- */

static void info_llm(Info *info, const char *dir) {
    Llm *llm = info->llm = llm_load(dir, info->err);
    Tokenizer *tokenizer = llm ? tokenizer_open(dir, info->err) : NULL;
    if (tokenizer) {
        int64_t bos = tokenizer_bos(tokenizer);
        heading("llm", dir);
        info_text("family", llm->family);
        whole("T (blocks)", llm->T);
        whole("D (width)", llm->D);
        whole("heads", llm->heads);
        whole("key heads", llm->kv_heads);
        whole("MLP width", llm->intermediate);
        whole("vocabulary", llm->vocabulary);
        whole("positions", llm->max_positions);
        printf("  %-26s %s, %lld ids\n", "tokenizer", tokenizer_kind(tokenizer),
               (long long)tokenizer_size(tokenizer));
        if (bos >= 0)
            printf("  %-26s %lld %s\n", "begin token", (long long)bos,
                   tokenizer_piece(tokenizer, bos));
        else
            info_text("begin token", "none");
        parameters(info, llm->files);
    }
    tokenizer_close(tokenizer);
}

static void info_unet(Info *info, const char *dir) {
    Unet *unet = info->unet = unet_load(dir, info->err);
    if (!unet) return;
    heading("unet", dir);
    info_text("class", "UNet2DConditionModel");
    whole("levels", unet->levels);
    config_line(unet->files, "block_out_channels");
    config_line(unet->files, "layers_per_block");
    whole("latent channels", unet->in_channels);
    whole("sample size", unet->sample_size);
    whole("cross-attentions", unet->cross_layers);
    whole("E (text width)", unet->cross_attention_dim);
    parameters(info, unet->files);
}

static void info_vae(Info *info, const char *dir) {
    Vae *vae = vae_load(dir, info->err);
    if (!vae) return;
    heading("vae", dir);
    info_text("class", "AutoencoderKL");
    whole("factor", vae->factor);
    config_line(vae->files, "block_out_channels");
    whole("latent channels", vae->latent_channels);
    number("scaling factor", vae->scaling_factor);
    parameters(info, vae->files);
    vae_free(vae);
}

static void info_scheduler(Info *info, const char *dir) {
    Schedule *schedule = schedule_load(dir, info->err);
    ModelDir *m = schedule ? model_open_config(dir, "scheduler_config.json", info->err) : NULL;
    if (m) {
        const cJSON *item;
        SamplerKind own = sampler_of_class(schedule->class_name);
        heading("scheduler", dir);
        info_text("class", schedule->class_name);
        info_text("sampled with", own == SAMPLER_KINDS ? "none; another with --sampling-method"
                                                       : sampler_name(own));
        cJSON_ArrayForEach(item, model_config(m)) if (item->string[0] != '_') as_in_file(item);
    }
    model_close(m);
    schedule_free(schedule);
}

/* With both models at hand the adapter is checked against them. */
static void info_adapter(Info *info, const char *dir) {
    Adapter *adapter = adapter_load(dir, info->llm, info->unet, NULL, 0, info->err);
    if (!adapter) return;
    heading("adapter", dir);
    config_line(adapter->files, "step");
    parameters(info, adapter->files);
    settings_lines(&adapter->settings, info->err);
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
        heading("adapter", dir);
        config_line(m, "llm_hidden_size");
        config_line(m, "llm_num_blocks");
        config_line(m, "cross_attention_dim");
        config_line(m, "step");
        parameters(info, m);
        settings_lines(&settings, info->err);
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
    for (size_t i = 0; i < sizeof part / sizeof part[0] && !info->err->set; i++) {
        char *path = cli_join(dir, part[i].name, info->err);
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
    printf("total: ");
    print_parameters(info->total);
    putchar('\n');
}

int info_directory(const char *path, bool tensors, Error *err) {
    Info info = {.tensors = tensors, .err = err};
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
