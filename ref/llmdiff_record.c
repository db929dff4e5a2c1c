/* What determines a result, as text for a PNG's chunks or a safetensors file's metadata: enough to
 * make it again. Nothing here depends on time, machine or thread count. See llmdiff_private.h. */
#include "ref/llmdiff_private.h"
#include "tokenizer/unicode.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Valid UTF-8, malloc'ed; NULL with a message. */
static char *repaired(const char *text, Error *err) {
    char *copy = utf8_repair(text, strlen(text), &(size_t){0});
    if (!copy) fail(err, "out of memory");
    return copy;
}

/* Adds an entry; nothing if the value is NULL. */
static void add_text(Record *record, const char *key, const char *value, Error *err) {
    if (!value || err->set) return;
    assert(record->entries < RECORD_MAX);
    char **slot = &record->text[2 * record->entries];
    slot[0] = repaired(key, err);
    slot[1] = repaired(value, err);
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

int record_fill(Record *record, const llmdiff_pack *pack, const llmdiff_request *asked,
                const Request *r, Error *err) {
    *record = (Record){0};
    add_text(record, "prompt", asked->prompt, err);
    if (r) add_text(record, "negative_prompt", r->negative, err);
    add_whole(record, "seed", asked->seed, err);
    if (r) {
        add_whole(record, "steps", (uint64_t)r->steps, err);
        add_number(record, "cfg_scale", r->cfg_scale, err);
        add_number(record, "eta", r->eta, err);
        add_whole(record, "width", (uint64_t)r->width, err);
        add_whole(record, "height", (uint64_t)r->height, err);
        add_text(record, "sampler", sampler_name(r->sampler), err);
        add_text(record, "conditioner", pack->pack.clip ? "clip" : "llmdiff", err);
        if (pack->pack.clip) add_whole(record, "clip_skip", (uint64_t)r->clip_skip, err);
        add_text(record, "init_image", asked->init_image_file, err);
        add_text(record, "mask", asked->mask_file, err);
        if (r->init_image) add_number(record, "strength", r->strength, err);
        if (r->vae_tiling) add_text(record, "vae_tiling", "true", err);
    }
    add_text(record, "model", pack->model, err);
    add_text(record, "llm", pack->llm, err);
    add_text(record, "unet", r ? pack->unet : NULL, err);
    add_text(record, "vae", r ? pack->vae : NULL, err);
    add_text(record, "adapter", pack->adapter, err);
    add_text(record, "text_encoder", pack->text_encoder, err);
    add_text(record, "tokenizer", pack->tokenizer, err);
    if (r)
        add_text(record, "init_latents",
                 asked->init_latents ? "given in memory" : asked->init_latents_file, err);
    add_text(record, "noise", asked->noise_file, err);
    add_text(record, "force", asked->force_file, err);
    add_text(record, "settings", pack->settings, err);
    add_text(record, "Software", "llmdiff " LLMDIFF_VERSION " (" REAL_NAME ")", err);
    if (!err->set) return 0;
    record_free(record);
    return -1;
}

int record_fill_trace(Record *record, const llmdiff_pack *pack, const llmdiff_request *asked,
                      const Request *r, const PackHash *hash, Error *err) {
    if (record_fill(record, pack, asked, r, err)) return -1;
    add_text(record, "program", "llmdiff " LLMDIFF_VERSION, err);
    add_text(record, "precision", REAL_NAME, err);
    add_text(record, "trace_only", asked->trace_only, err);
    add_text(record, "pack_files", hash->files, err);
    add_text(record, "pack_sha256", hash->sha256, err);
    if (!err->set) return 0;
    record_free(record);
    return -1;
}

void record_free(Record *record) {
    for (size_t i = 0; i < 2 * record->entries; i++) free(record->text[i]); /* NULL: no memory */
    *record = (Record){0};
}
