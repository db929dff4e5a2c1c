/* What determines a result, as text for a PNG's chunks or a safetensors file's metadata: enough to
 * make it again. Nothing here depends on time, machine or thread count. See cli.h. */
#include "ref/cli.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds an entry; nothing if the value is NULL. */
static void add_text(Record *record, const char *key, const char *value, Error *err) {
    if (!value || err->set) return;
    assert(record->entries < RECORD_MAX);
    char **slot = &record->text[2 * record->entries];
    slot[0] = cli_utf8(key, err);
    slot[1] = cli_utf8(value, err);
    record->entries++; /* record_free frees what there is of it */
}

static void add_whole(Record *record, const char *key, uint64_t value, Error *err) {
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    add_text(record, key, text, err);
}

/* The fewest digits that give the same double back. */
static void add_number(Record *record, const char *key, double value, Error *err) {
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    add_text(record, key, text, err);
}

static void add_settings(Record *record, const Settings *settings, Error *err) {
    cJSON *json = settings_to_json(settings);
    char *text = json ? cJSON_PrintUnformatted(json) : NULL;
    if (!text) fail(err, "out of memory");
    add_text(record, "settings", text, err);
    cJSON_free(text);
    cJSON_Delete(json);
}

int record_fill(Record *record, const Options *o, const PackPaths *paths, const Settings *settings,
                const char *prompt, uint64_t seed, const Request *r, Error *err) {
    *record = (Record){0};
    add_text(record, "prompt", prompt, err);
    if (r) add_text(record, "negative_prompt", r->negative, err);
    add_whole(record, "seed", seed, err);
    if (r) {
        add_whole(record, "steps", (uint64_t)r->steps, err);
        add_number(record, "cfg_scale", r->cfg_scale, err);
        add_number(record, "eta", r->eta, err);
        add_whole(record, "width", (uint64_t)r->width, err);
        add_whole(record, "height", (uint64_t)r->height, err);
        add_text(record, "sampler", sampler_name(r->sampler), err);
    }
    add_text(record, "model", paths->model, err);
    add_text(record, "llm", paths->llm, err);
    add_text(record, "unet", r ? paths->unet : NULL, err);
    add_text(record, "vae", r ? paths->vae : NULL, err);
    add_text(record, "adapter", paths->adapter, err);
    add_text(record, "init_latents", r ? o->init_latents : NULL, err);
    add_text(record, "noise", o->noise, err);
    add_settings(record, settings, err);
    add_text(record, "Software", "llmdiff " LLMDIFF_VERSION " (" REAL_NAME ")", err);
    if (!err->set) return 0;
    record_free(record);
    return -1;
}

void record_free(Record *record) {
    for (size_t i = 0; i < 2 * record->entries; i++) free(record->text[i]); /* NULL: no memory */
    *record = (Record){0};
}
