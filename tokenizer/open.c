#include "tokenizer/open.h"
#include "weights/file.h"

#include <stdlib.h>
#include <string.h>

bool is_class(const Json *config, const char *name) {
    const cJSON *class = json_get(config->root, "tokenizer_class");
    if (!cJSON_IsString(class)) return false;
    const char *found = class->valuestring;
    size_t length = strlen(name);
    return strncmp(found, name, length) == 0 &&
           (found[length] == '\0' || strcmp(found + length, "Fast") == 0);
}

static bool dir_has(const char *dir, const char *name, Error *err) {
    char *path = tokenizer_path(dir, name, err);
    bool has = path && file_exists(path);
    free(path);
    return has;
}

/* Upstream's AutoTokenizer believes tokenizer_class, unless the model is a Mistral: to those it
 * gives the class that reads tokenizer.json as it is. */
static int is_llama(const char *dir, const Json *config, bool *llama, Error *err) {
    *llama = is_class(config, "LlamaTokenizer");
    Json model;
    if (!*llama) return 0;
    if (json_read_optional(&model, dir, "config.json", err)) return -1;
    const cJSON *type = json_get(model.root, "model_type");
    if (cJSON_IsString(type) && strcmp(type->valuestring, "mistral") == 0) *llama = false;
    json_free(&model);
    return 0;
}

/* The files differ by what their model has and how they cut a text. */
static int open_json(Tokenizer *t, const Json *file, const char *dir, const Json *config,
                     Error *err) {
    const cJSON *model = json_get(file->root, "model");
    const cJSON *suffix = json_get(model, "end_of_word_suffix");
    /* the oldest files (GPT-2's own) have no model.type; what has merges is BPE */
    bool untyped = cJSON_IsObject(model) && !json_get(model, "type") && json_get(model, "merges");
    if (!untyped && expect_type(file, "model", model, "BPE", err)) return -1;
    if (json_once(file, model, "model", err)) return -1;
    bool bytes = is_type(json_get(file->root, "pre_tokenizer"), "ByteLevel"), llama;
    if (!bytes && cJSON_IsString(suffix) && strcmp(suffix->valuestring, CLIP_SUFFIX) == 0)
        return open_clip_json(t, file, config, dir, err);
    if (bytes || !cJSON_IsTrue(json_get(model, "byte_fallback")))
        return open_bytelevel_json(t, file, config, err) ||
                       open_added_files(t, dir, config, true, err)
                   ? -1
                   : 0;
    if (is_llama(dir, config, &llama, err) || open_spm_json(t, file, config, llama, err)) return -1;
    return open_added_files(t, dir, config, true, err);
}

/* vocab.json and merges.txt don't say how text is split. Qwen's, for instance, look the same and
 * mean another pattern, so the class has to be one that is known. */
static int open_pair(Tokenizer *t, const char *dir, const Json *config, Error *err) {
    const cJSON *class = json_get(config->root, "tokenizer_class");
    if (is_class(config, "CLIPTokenizer")) return open_clip_files(t, dir, config, err);
    if (class && !cJSON_IsNull(class) && !is_class(config, "CodeGenTokenizer") &&
        !is_class(config, "GPT2Tokenizer"))
        return json_unexpected(config, "tokenizer_class",
                               "\"CodeGenTokenizer\", \"GPT2Tokenizer\" or \"CLIPTokenizer\" where "
                               "there is no tokenizer.json",
                               class, err);
    if (open_bytelevel_files(t, dir, config, err)) return -1;
    return open_added_files(t, dir, config, false, err);
}

/* Which files there are decides what reads them; upstream's order. */
static int open_files(Tokenizer *t, const char *dir, const Json *config, Error *err) {
    if (dir_has(dir, "tokenizer.json", err)) {
        Json file;
        if (json_read(&file, dir, "tokenizer.json", err)) return -1;
        int status = open_json(t, &file, dir, config, err);
        json_free(&file);
        return status;
    }
    if (dir_has(dir, "tokenizer.model", err)) return open_spm_model(t, dir, config, err);
    if (dir_has(dir, "vocab.json", err) || dir_has(dir, "merges.txt", err))
        return open_pair(t, dir, config, err);
    return fail(err,
                "%s: expected a tokenizer: tokenizer.json, tokenizer.model, or vocab.json and "
                "merges.txt; found none of them",
                dir);
}

/* Absurdly large where there is none: transformers writes 10^30. */
static int read_max_length(Tokenizer *t, const Json *config, Error *err) {
    const cJSON *item = json_get(config->root, "model_max_length");
    if (!item || cJSON_IsNull(item)) return 0;
    if (!cJSON_IsNumber(item) || item->valuedouble < 1)
        return json_unexpected(config, "model_max_length", "a number of tokens", item, err);
    if (item->valuedouble < INT32_MAX) t->max_length = (int64_t)item->valuedouble;
    return 0;
}

/* Upstream looks for an added token that is `normalized` in normalized text, and as normalized. */
static int normalize_added(Tokenizer *t, Error *err) {
    for (size_t i = 0; i < t->added.count; i++) {
        AddedToken *a = &t->added.token[i];
        if (!a->normalized) continue;
        char *content = tokenizer_normalize(t, a->content, a->length, &a->length, err);
        if (!content) return -1;
        free(a->content);
        a->content = content;
    }
    added_finish(&t->added);
    return 0;
}

Tokenizer *tokenizer_open(const char *dir, Error *err) {
    Tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        fail(err, "%s: out of memory", dir);
        return NULL;
    }
    t->bos = t->eos = t->pad = t->unk = t->max_length = -1;
    Json config;
    int status = json_read_optional(&config, dir, "tokenizer_config.json", err);
    if (status == 0) status = read_max_length(t, &config, err);
    if (status == 0) status = open_files(t, dir, &config, err);
    json_free(&config);
    if (status == 0 && !err->set) status = normalize_added(t, err);
    if (status || err->set) {
        tokenizer_close(t);
        return NULL;
    }
    return t;
}

void tokenizer_close(Tokenizer *t) {
    if (!t) return;
    added_free(&t->added);
    bpe_free(&t->bpe);
    pieces_free(&t->pieces);
    free(t);
}
