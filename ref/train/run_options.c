/* The options that decide a run's bytes, as a checkpoint keeps them: see TrainState.options. */
#include "ref/text.h"
#include "ref/train/run.h"
#include "weights/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each choice by itself, so that a message is about one. */
static bool add_settings(cJSON *to, const Settings *settings) {
    cJSON *json = settings_to_json(settings);
    const cJSON *item;
    bool good = json != NULL;
    cJSON_ArrayForEach(item, json) {
        char name[64];
        char *value = good ? cJSON_PrintUnformatted(item) : NULL;
        snprintf(name, sizeof name, "set %.50s", item->string);
        good = value && cJSON_AddRawToObject(to, name, value);
        cJSON_free(value);
    }
    cJSON_Delete(json);
    return good;
}

static bool add_fixed(cJSON *to, const llmdiff_train_options *o, const Settings *settings,
                      const char *adapter) {
    return add_settings(to, settings) && cJSON_AddStringToObject(to, "adapter", adapter) &&
           cJSON_AddNumberToObject(to, "seed", (double)o->seed) &&
           cJSON_AddNumberToObject(to, "resolution", (double)o->resolution) &&
           cJSON_AddStringToObject(to, "train-only", o->train_only ? o->train_only : "") &&
           cJSON_AddStringToObject(to, "ema-decay", o->ema_decay > 0 ? "on" : "off");
}

static bool add_free(cJSON *to, const TrainRun *r) {
    const llmdiff_train_options *o = r->o;
    const struct {
        const char *name;
        double value;
    } number[] = {
        {"train-batch-size", (double)o->train_batch_size},
        {"gradient-accumulation-steps", (double)o->gradient_accumulation_steps},
        {"processes", (double)r->ranks},
        {"max-train-steps", (double)o->max_train_steps},
        {"learning-rate", o->learning_rate},
        {"scalar-lr-scale", o->scalar_lr_scale},
        {"added-start", o->added_start},
        {"lr-warmup-steps", (double)o->lr_warmup_steps},
        {"adam-beta1", o->adam_beta1},
        {"adam-beta2", o->adam_beta2},
        {"adam-weight-decay", o->adam_weight_decay},
        {"adam-epsilon", o->adam_epsilon},
        {"max-grad-norm", o->max_grad_norm},
        {"caption-dropout", o->caption_dropout},
        {"snr-gamma", o->snr_gamma},
        {"noise-offset", o->noise_offset},
        {"ema-decay", o->ema_decay},
    };
    bool good = true;
    for (size_t i = 0; good && i < sizeof number / sizeof *number; i++)
        good = cJSON_AddNumberToObject(to, number[i].name, number[i].value) != NULL;
    return good && cJSON_AddStringToObject(to, "lr-scheduler", o->lr_scheduler) &&
           cJSON_AddBoolToObject(to, "center-crop", o->center_crop != 0) &&
           cJSON_AddBoolToObject(to, "random-flip", o->random_flip != 0);
}

/* Of the files of the adapter that a run begins with: what tells it from another. */
static void hash_adapter(const Adapter *adapter, char hex[SHA256_HEX], Error *err) {
    Text all = {.err = err};
    const char *path;
    for (size_t i = 0; (path = model_file_at(adapter->files, i)) != NULL && !err->set; i++)
        if (sha256_file(path, NULL, NULL, hex, err) == 0) put(&all, "%s\n", hex);
    char *text = text_finish(&all);
    if (text) sha256_bytes(text, strlen(text), hex);
    free(text);
}

/* "fresh", or the hash of the one given; where a run goes on and none is given, what it began with. */
static void name_adapter(const TrainRun *r, const TrainState *from, char name[SHA256_HEX],
                         Error *err) {
    strcpy(name, "fresh");
    if (r->job->pack->adapter) {
        hash_adapter(r->job->pack->adapter, name, err);
    } else if (from) {
        cJSON *json = cJSON_Parse(from->options);
        const cJSON *fixed = cJSON_GetObjectItemCaseSensitive(json, "fixed");
        const char *then = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(fixed, "adapter"));
        if (then) snprintf(name, SHA256_HEX, "%s", then);
        cJSON_Delete(json);
    }
}

char *run_options(const TrainRun *r, const Settings *settings, const TrainState *from, Error *err) {
    char adapter[SHA256_HEX] = "";
    name_adapter(r, from, adapter, err);
    if (err->set) return NULL;
    cJSON *json = cJSON_CreateObject();
    cJSON *fixed = json ? cJSON_AddObjectToObject(json, "fixed") : NULL;
    cJSON *changeable = fixed ? cJSON_AddObjectToObject(json, "free") : NULL;
    const bool good =
        changeable && add_fixed(fixed, r->o, settings, adapter) && add_free(changeable, r);
    char *text = good ? cJSON_PrintUnformatted(json) : NULL;
    cJSON_Delete(json);
    if (!text) fail(err, "out of memory");
    return text;
}
