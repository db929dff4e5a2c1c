/* The options that decide a run's bytes, as a checkpoint keeps them: see TrainState.options. */
#include "ref/train/run.h"

static bool add_fixed(cJSON *to, const llmdiff_train_options *o, const Settings *settings) {
    cJSON *json = settings_to_json(settings);
    char *set = json ? cJSON_PrintUnformatted(json) : NULL;
    const bool good = set && cJSON_AddStringToObject(to, "set", set);
    cJSON_Delete(json);
    cJSON_free(set);
    return good && cJSON_AddNumberToObject(to, "seed", (double)o->seed) &&
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

char *run_options(const TrainRun *r, const Settings *settings, Error *err) {
    cJSON *json = cJSON_CreateObject();
    cJSON *fixed = json ? cJSON_AddObjectToObject(json, "fixed") : NULL;
    cJSON *changeable = fixed ? cJSON_AddObjectToObject(json, "free") : NULL;
    const bool good = changeable && add_fixed(fixed, r->o, settings) && add_free(changeable, r);
    char *text = good ? cJSON_PrintUnformatted(json) : NULL;
    cJSON_Delete(json);
    if (!text) fail(err, "out of memory");
    return text;
}
