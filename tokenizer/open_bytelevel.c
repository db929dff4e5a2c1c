#include "tokenizer/open.h"

#include <stdlib.h>
#include <string.h>

/* transformers 5 rebuilds CodeGen's and GPT-2's pre-tokenizer from tokenizer_config.json and does
 * not look at tokenizer.json's; the tokenizers library does the opposite. Where the two files
 * disagree there is no right answer. */
static int read_pre_tokenizer(Tokenizer *t, const Json *file, const Json *config, Error *err) {
    const cJSON *pre = json_get(file->root, "pre_tokenizer");
    if (expect_type(file, "pre_tokenizer", pre, "ByteLevel", err) ||
        json_bool(file, pre, "add_prefix_space", "pre_tokenizer.add_prefix_space", true,
                  &t->add_prefix_space, err) ||
        json_bool(file, pre, "use_regex", "pre_tokenizer.use_regex", true, &t->use_regex, err))
        return -1; /* trim_offsets moves offsets only, which we don't report */
    bool other;
    if (json_bool(config, config->root, "add_prefix_space", "add_prefix_space", t->add_prefix_space,
                  &other, err))
        return -1;
    if (other != t->add_prefix_space)
        return fail(err, "%s: add_prefix_space: expected %s as in %s, found %s", config->path,
                    t->add_prefix_space ? "true" : "false", file->path, other ? "true" : "false");
    return 0;
}

int open_bytelevel_json(Tokenizer *t, const Json *file, const Json *config, Error *err) {
    const cJSON *normalizer = json_get(file->root, "normalizer");
    t->kind = BYTE_LEVEL;
    if (normalizer && !cJSON_IsNull(normalizer))
        return json_unexpected(
            file, "normalizer", "null",
            json_get(normalizer, "type") ? json_get(normalizer, "type") : normalizer, err);
    if (read_pre_tokenizer(t, file, config, err) ||
        expect_type(file, "decoder", json_get(file->root, "decoder"), "ByteLevel", err) ||
        read_json_model(t, file, "", false, err) ||
        letters_init(&t->letters, &t->pieces, "", -1, file->path, err))
        return -1;
    return read_json_added(t, file, err);
}

int open_bytelevel_files(Tokenizer *t, const char *dir, const Json *config, Error *err) {
    t->kind = BYTE_LEVEL;
    t->use_regex = true;
    if (json_bool(config, config->root, "add_prefix_space", "add_prefix_space", false,
                  &t->add_prefix_space, err) ||
        read_vocab_merges(t, dir, err))
        return -1;
    char *path = tokenizer_path(dir, "vocab.json", err);
    int status = path ? letters_init(&t->letters, &t->pieces, "", -1, path, err) : -1;
    free(path);
    return status;
}
