#include "tokenizer/open.h"

#include <stdlib.h>
#include <string.h>

/* ---- What the class does ------------------------------------------------------------------------------ */

/* transformers 5.23, LlamaTokenizer.__init__: no normalizer, Metaspace without split, whatever
 * tokenizer.json says. `legacy`: a low line also after a special token, as versions before 4.31. */
int spm_llama_rules(Tokenizer *t, const Json *config, Error *err) {
    bool prefix = true, legacy = false;
    const cJSON *item = json_get(config->root, "add_prefix_space");
    if (!cJSON_IsNull(item) &&
        json_bool(config, config->root, "add_prefix_space", "add_prefix_space", true, &prefix, err))
        return -1;
    item = json_get(config->root, "legacy");
    if (!cJSON_IsNull(item) &&
        json_bool(config, config->root, "legacy", "legacy", false, &legacy, err))
        return -1;
    t->spm.metaspace = true;
    t->spm.prefix = !prefix ? PREFIX_NEVER : legacy ? PREFIX_ALWAYS : PREFIX_FIRST;
    t->spm.strip = prefix;
    return 0;
}

/* ---- What the file says --------------------------------------------------------------------------------- */

static bool is_text(const cJSON *item, const char *text) {
    return cJSON_IsString(item) && strcmp(item->valuestring, text) == 0;
}

/* {"type": "Replace", "pattern": {"String": from}, "content": to} */
static bool is_replace(const cJSON *item, const char *from, const char *to) {
    return is_type(item, "Replace") &&
           is_text(json_get(json_get(item, "pattern"), "String"), from) &&
           is_text(json_get(item, "content"), to);
}

static bool read_normalizer_step(Spm *s, const cJSON *item) {
    if (is_type(item, "Prepend") && is_text(json_get(item, "prepend"), SPM_SPACE) &&
        !s->normalize_prefix && !s->normalize_space)
        return s->normalize_prefix = true;
    if (is_replace(item, " ", SPM_SPACE) && !s->normalize_space) return s->normalize_space = true;
    return false;
}

static int read_normalizer(Tokenizer *t, const Json *file, Error *err) {
    const cJSON *normalizer = json_get(file->root, "normalizer");
    if (!normalizer || cJSON_IsNull(normalizer)) return 0;
    bool fine = true;
    if (is_type(normalizer, "Sequence")) {
        const cJSON *each, *list = json_get(normalizer, "normalizers");
        cJSON_ArrayForEach(each, list) fine = fine && read_normalizer_step(&t->spm, each);
    } else {
        fine = read_normalizer_step(&t->spm, normalizer);
    }
    if (fine) return 0;
    return json_unexpected(file, "normalizer",
                           "null, or Prepend \"" SPM_SPACE "\" and Replace \" \" by \"" SPM_SPACE
                           "\"",
                           normalizer, err);
}

/* Older files have add_prefix_space and no prepend_scheme. */
static int read_pre_tokenizer(Tokenizer *t, const Json *file, Error *err) {
    static const char *const scheme[] = {"never", "first", "always"};
    const cJSON *pre = json_get(file->root, "pre_tokenizer");
    if (!pre || cJSON_IsNull(pre)) return 0;
    if (expect_type(file, "pre_tokenizer", pre, "Metaspace", err)) return -1;
    const cJSON *item = json_get(pre, "replacement");
    if (!is_text(item, SPM_SPACE))
        return json_unexpected(file, "pre_tokenizer.replacement", "\"" SPM_SPACE "\"", item, err);
    bool add_prefix;
    if (json_bool(file, pre, "split", "pre_tokenizer.split", true, &t->spm.split, err) ||
        json_bool(file, pre, "add_prefix_space", "pre_tokenizer.add_prefix_space", true,
                  &add_prefix, err))
        return -1;
    t->spm.metaspace = true;
    t->spm.prefix = PREFIX_ALWAYS;
    item = json_get(pre, "prepend_scheme");
    bool known = !item;
    for (int i = 0; item && i < 3; i++) {
        if (!is_text(item, scheme[i])) continue;
        t->spm.prefix = (SpmPrefix)i;
        known = true;
    }
    if (!known || (!add_prefix && t->spm.prefix != PREFIX_NEVER))
        return json_unexpected(file, "pre_tokenizer.prepend_scheme",
                               add_prefix ? "\"always\", \"first\" or \"never\""
                                          : "\"never\", as add_prefix_space is false",
                               item, err);
    return 0;
}

/* Sequence of Replace, ByteFallback, Fuse and mostly Strip */
static int read_decoder(Tokenizer *t, const Json *file, Error *err) {
    const cJSON *decoder = json_get(file->root, "decoder");
    if (expect_type(file, "decoder", decoder, "Sequence", err)) return -1;
    const cJSON *list = json_get(decoder, "decoders"), *strip = cJSON_GetArrayItem(list, 3);
    int count = cJSON_GetArraySize(list);
    const cJSON *start = json_get(strip, "start"), *stop = json_get(strip, "stop");
    t->spm.strip = count == 4;
    if ((count == 3 || count == 4) && is_replace(cJSON_GetArrayItem(list, 0), SPM_SPACE, " ") &&
        is_type(cJSON_GetArrayItem(list, 1), "ByteFallback") &&
        is_type(cJSON_GetArrayItem(list, 2), "Fuse") &&
        (count == 3 || (is_type(strip, "Strip") && is_text(json_get(strip, "content"), " ") &&
                        cJSON_IsNumber(start) && start->valuedouble == 1 && cJSON_IsNumber(stop) &&
                        stop->valuedouble == 0)))
        return 0;
    return json_unexpected(file, "decoder.decoders",
                           "Replace \"" SPM_SPACE "\" by \" \", ByteFallback, Fuse, and Strip of "
                           "one \" \" at the start or nothing",
                           list, err);
}

int open_spm_json(Tokenizer *t, const Json *file, const Json *config, bool llama, Error *err) {
    t->kind = SENTENCEPIECE;
    if (llama ? spm_llama_rules(t, config, err)
              : read_normalizer(t, file, err) || read_pre_tokenizer(t, file, err) ||
                    read_decoder(t, file, err))
        return -1;
    if (read_json_model(t, file, "", true, err) || spm_init(&t->spm, &t->pieces, file->path, err))
        return -1;
    if (llama) t->ignore_merges = false; /* the class builds its BPE without it */
    return read_json_added(t, file, err);
}
