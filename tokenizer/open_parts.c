#include "tokenizer/open.h"
#include "weights/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Vocabulary: {"piece": id, ...} ----------------------------------------------------------------- */

static int read_vocab(Tokenizer *t, const Json *file, const cJSON *vocab, Error *err) {
    const cJSON *entry;
    cJSON_ArrayForEach(entry, vocab) {
        int32_t id;
        char where[200];
        snprintf(where, sizeof where, "id of \"%s\"", entry->string);
        if (json_id(file, entry, where, json_id_limit(file), &id, err)) return -1;
        if (pieces_add(&t->pieces, entry->string, id, true, file->path, err)) return -1;
    }
    return 0;
}

/* ---- Merges ------------------------------------------------------------------------------------------ */

/* "left right": both not empty, one space between them. `entry` and `number` say where. */
static int read_merge(Tokenizer *t, int32_t rank, const char *text, size_t length, const char *file,
                      const char *entry, size_t number, Error *err) {
    const char *space = length > 0 ? memchr(text, ' ', length) : NULL;
    const char *end = text + length;
    if (!space || space == text || space + 1 == end ||
        memchr(space + 1, ' ', (size_t)(end - space - 1)))
        return fail(err,
                    "%s: %s %zu: expected two pieces with one space between them, found \"%.*s\"",
                    file, entry, number, length > 200 ? 200 : (int)length, text);
    return bpe_add_pieces(&t->bpe, &t->pieces, rank, text, (size_t)(space - text), space + 1,
                          (size_t)(end - space - 1), file, entry, number, err);
}

/* Either form of tokenizer.json: "left right" or ["left", "right"]. */
static int read_merges(Tokenizer *t, const Json *file, const cJSON *merges, Error *err) {
    if (bpe_init(&t->bpe, (size_t)cJSON_GetArraySize(merges), file->path, err)) return -1;
    int32_t rank = 0;
    const cJSON *merge;
    cJSON_ArrayForEach(merge, merges) {
        int status;
        if (cJSON_IsString(merge)) {
            const char *text = merge->valuestring;
            status =
                read_merge(t, rank, text, strlen(text), file->path, "merge", (size_t)rank, err);
        } else if (cJSON_IsArray(merge) && cJSON_GetArraySize(merge) == 2 &&
                   cJSON_IsString(merge->child) && cJSON_IsString(merge->child->next)) {
            const char *left = merge->child->valuestring, *right = merge->child->next->valuestring;
            status = bpe_add_pieces(&t->bpe, &t->pieces, rank, left, strlen(left), right,
                                    strlen(right), file->path, "merge", (size_t)rank, err);
        } else {
            char where[40];
            snprintf(where, sizeof where, "merge %d", (int)rank);
            status =
                json_unexpected(file, where, "\"left right\" or [\"left\", \"right\"]", merge, err);
        }
        if (status) return -1;
        rank++;
    }
    return 0;
}

/* The next line of text + *at without its end ("\n" or "\r\n"); false at the end of the text. */
static bool next_line(const char *text, size_t size, size_t *at, const char **line,
                      size_t *length) {
    if (*at >= size) return false;
    *line = text + *at;
    const char *end = memchr(*line, '\n', size - *at);
    *length = end ? (size_t)(end - *line) : size - *at;
    *at += *length + 1;
    if (end && *length > 0 && (*line)[*length - 1] == '\r') --*length;
    return true;
}

/* merges.txt: one merge a line, the first one first; "#version" lines are no merges. */
static int read_merges_text(Tokenizer *t, const char *path, Error *err) {
    size_t size;
    char *text = file_read(path, &size, err);
    if (!text) return -1;
    size_t lines = 0;
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    int status = bpe_init(&t->bpe, lines + 1, path, err);
    size_t at = 0, number = 0, length;
    int32_t rank = 0;
    for (const char *line; status == 0 && next_line(text, size, &at, &line, &length);) {
        number++;
        if (length >= 8 && memcmp(line, "#version", 8) == 0) continue;
        status = read_merge(t, rank++, line, length, path, "line", number, err);
    }
    free(text);
    return status;
}

/* ---- tokenizer.json ---------------------------------------------------------------------------------- */

bool is_type(const cJSON *object, const char *type) {
    const cJSON *t = json_get(object, "type");
    return cJSON_IsString(t) && strcmp(t->valuestring, type) == 0;
}

/* {"type": type, ...} in file's member `name`. */
int expect_type(const Json *file, const char *name, const cJSON *object, const char *type,
                Error *err) {
    if (is_type(object, type)) return 0;
    const cJSON *found = cJSON_IsObject(object) ? json_get(object, "type") : object;
    char where[80], expected[80];
    snprintf(where, sizeof where, cJSON_IsObject(object) ? "%s.type" : "%s", name);
    snprintf(expected, sizeof expected,
             cJSON_IsObject(object) ? "\"%s\"" : "an object of type \"%s\"", type);
    return json_unexpected(file, where, expected, found, err);
}

/* Members that change the ids. What a kind does not have must be at its neutral value. */
static int expect_model(const Json *file, const cJSON *model, const char *suffix,
                        bool byte_fallback, Error *err) {
    const cJSON *item = json_get(model, "dropout");
    if (item && !cJSON_IsNull(item) && !(cJSON_IsNumber(item) && item->valuedouble == 0))
        return json_unexpected(file, "model.dropout", "null", item, err);
    const char *const affix[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *const wanted[] = {"", suffix};
    for (int i = 0; i < 2; i++) {
        item = json_get(model, affix[i]);
        const char *found = cJSON_IsString(item) ? item->valuestring : "";
        bool of_type = !item || cJSON_IsNull(item) || cJSON_IsString(item);
        if (of_type && strcmp(found, wanted[i]) == 0) continue;
        char where[60], expected[40];
        snprintf(where, sizeof where, "model.%s", affix[i]);
        snprintf(expected, sizeof expected, wanted[i][0] ? "\"%s\"" : "null or \"%s\"", wanted[i]);
        return json_unexpected(file, where, expected, item, err);
    }
    item = json_get(model, "byte_fallback");
    if (byte_fallback ? !cJSON_IsTrue(item) : item && !cJSON_IsFalse(item))
        return json_unexpected(file, "model.byte_fallback", byte_fallback ? "true" : "false", item,
                               err);
    return 0;
}

/* The post-processor puts begin and end tokens around the ids and changes nothing else. The
 * caller of tokenizer_encode says whether it wants the begin token, so it is not run. */
static int check_post_processor(const Json *file, const cJSON *post, Error *err) {
    if (!post || cJSON_IsNull(post) || is_type(post, "ByteLevel") ||
        is_type(post, "TemplateProcessing") || is_type(post, "RobertaProcessing"))
        return 0;
    if (!is_type(post, "Sequence"))
        return json_unexpected(file, "post_processor.type",
                               "\"ByteLevel\", \"TemplateProcessing\" or a \"Sequence\" of them",
                               cJSON_IsObject(post) ? json_get(post, "type") : post, err);
    const cJSON *each;
    cJSON_ArrayForEach(each, json_get(post, "processors")) {
        if (check_post_processor(file, each, err)) return -1;
    }
    return 0;
}

int read_json_model(Tokenizer *t, const Json *file, const char *suffix, bool byte_fallback,
                    Error *err) {
    const cJSON *model = json_get(file->root, "model");
    const cJSON *vocab = json_get(model, "vocab"), *merges = json_get(model, "merges");
    if (expect_model(file, model, suffix, byte_fallback, err) ||
        check_post_processor(file, json_get(file->root, "post_processor"), err))
        return -1;
    if (!cJSON_IsObject(vocab))
        return json_unexpected(file, "model.vocab", "an object", vocab, err);
    if (!cJSON_IsArray(merges))
        return json_unexpected(file, "model.merges", "an array", merges, err);
    if (read_vocab(t, file, vocab, err) || read_merges(t, file, merges, err)) return -1;
    return json_bool(file, model, "ignore_merges", "model.ignore_merges", false, &t->ignore_merges,
                     err);
}

int read_json_added(Tokenizer *t, const Json *file, Error *err) {
    const cJSON *added = json_get(file->root, "added_tokens");
    if (added && !cJSON_IsArray(added) && !cJSON_IsNull(added))
        return json_unexpected(file, "added_tokens", "an array", added, err);
    return open_added_list(t, file, added, err);
}

/* ---- vocab.json and merges.txt ------------------------------------------------------------------------ */

int read_vocab_merges(Tokenizer *t, const char *dir, Error *err) {
    Json vocab;
    if (json_read(&vocab, dir, "vocab.json", err)) return -1;
    int status = read_vocab(t, &vocab, vocab.root, err);
    json_free(&vocab);
    if (status) return -1;
    char *path = tokenizer_path(dir, "merges.txt", err);
    status = path ? read_merges_text(t, path, err) : -1;
    free(path);
    return status;
}
