#include "tokenizer/open.h"

#include <stdlib.h>
#include <string.h>

/* CLIPTokenizer's own normalizer and pre-tokenizer, as its tokenizer.json has them. transformers 5
 * doesn't look at the file's: it builds them anew. The first pattern is version 5's, the second one
 * version 4's; pretokenize.c says where they differ and follows 5. */
static const char *const normalizer_form =
    "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Replace\", "
    "\"pattern\": {\"Regex\": \"\\\\s+\"}, \"content\": \" \"}, {\"type\": \"Lowercase\"}]}";
static const char *const patterns[] = {
    "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|"
    "[^\\s\\p{L}\\p{N}]+",
    "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"};

static int check_normalizer(const Json *file, Error *err) {
    const cJSON *found = json_get(file->root, "normalizer");
    cJSON *form = cJSON_Parse(normalizer_form);
    if (!form) return fail(err, "%s: out of memory", file->path);
    bool same = cJSON_Compare(form, found, true);
    cJSON_Delete(form);
    if (same) return 0;
    return json_unexpected(file, "normalizer", "CLIP's: NFC, white space to \" \", lower case",
                           found, err);
}

static int check_pre_tokenizer(const Json *file, Error *err) {
    const cJSON *found = json_get(file->root, "pre_tokenizer");
    const cJSON *list = json_get(found, "pretokenizers");
    const cJSON *split = cJSON_GetArrayItem(list, 0), *bytes = cJSON_GetArrayItem(list, 1);
    const cJSON *regex = json_get(json_get(split, "pattern"), "Regex");
    const cJSON *behavior = json_get(split, "behavior");
    bool known = false;
    for (int i = 0; i < 2 && cJSON_IsString(regex); i++)
        known = known || strcmp(regex->valuestring, patterns[i]) == 0;
    if (known && is_type(found, "Sequence") && cJSON_GetArraySize(list) == 2 &&
        is_type(split, "Split") && cJSON_IsString(behavior) &&
        strcmp(behavior->valuestring, "Removed") == 0 && cJSON_IsTrue(json_get(split, "invert")) &&
        is_type(bytes, "ByteLevel") && cJSON_IsFalse(json_get(bytes, "add_prefix_space")) &&
        !cJSON_IsFalse(json_get(bytes, "use_regex")))
        return 0;
    return json_unexpected(file, "pre_tokenizer", "CLIP's: a Split by its pattern, and ByteLevel",
                           found, err);
}

/* Bytes that are no pieces become unk_token, if the model itself has that: so it is in the tiny
 * vocabularies that tests use. */
static int init_letters(Tokenizer *t, const char *path, Error *err) {
    int32_t unk = t->unk >= 0 && t->pieces.of_model[t->unk] ? (int32_t)t->unk : -1;
    return letters_init(&t->letters, &t->pieces, CLIP_SUFFIX, unk, path, err);
}

int open_clip_json(Tokenizer *t, const Json *file, const Json *config, const char *dir,
                   Error *err) {
    t->kind = CLIP;
    if (check_normalizer(file, err) || check_pre_tokenizer(file, err) ||
        expect_type(file, "decoder", json_get(file->root, "decoder"), "ByteLevel", err) ||
        read_json_model(t, file, CLIP_SUFFIX, false, err))
        return -1;
    if (t->ignore_merges)
        return json_unexpected(file, "model.ignore_merges", "false",
                               json_get(json_get(file->root, "model"), "ignore_merges"), err);
    if (read_json_added(t, file, err) || open_added_files(t, dir, config, true, err)) return -1;
    const cJSON *unk = json_get(json_get(file->root, "model"), "unk_token");
    if (t->unk < 0 && cJSON_IsString(unk))
        t->unk = pieces_find(&t->pieces, unk->valuestring, strlen(unk->valuestring));
    return init_letters(t, file->path, err);
}

int open_clip_files(Tokenizer *t, const char *dir, const Json *config, Error *err) {
    t->kind = CLIP;
    if (read_vocab_merges(t, dir, err) || open_added_files(t, dir, config, false, err)) return -1;
    char *path = tokenizer_path(dir, "vocab.json", err);
    int status = path ? init_letters(t, path, err) : -1;
    free(path);
    return status;
}
