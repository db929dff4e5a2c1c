#include "tokenizer/open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Added tokens are spread over up to four files. This is transformers' reading of them
 * (5.x, PreTrainedTokenizerBase._from_pretrained and TokenizersBackend.__init__). */

/* ---- One token --------------------------------------------------------------------------------------- */

/* A token that the model does not have gets the number of pieces so far as its id: so the tokenizers
 * library counts, whatever id the file gives (0.23, AddedVocabulary::add_tokens). Where the two
 * differ, upstream would quietly take another row of the embedding than the file means; here it is
 * an error. A vocabulary with holes may be refused for it, as an id of its own may come next. */
/* token->id < 0: the file gives none. */
static int put(Tokenizer *t, const Json *file, AddedToken *token, Error *err) {
    int32_t known = pieces_find(&t->pieces, token->content, token->length);
    int32_t id = known >= 0 ? known : (int32_t)t->pieces.count;
    if (token->id >= 0 && token->id != id)
        return fail(err, "%s: id of the added token \"%s\": expected %d, %s, found %d", file->path,
                    token->content, (int)id,
                    known >= 0 ? "which it has in the vocabulary" : "the next one free",
                    (int)token->id);
    token->id = id;
    if (known < 0 && pieces_add(&t->pieces, token->content, id, false, file->path, err)) return -1;
    return added_put(&t->added, token, err);
}

/* "content", or {"content": ..., "lstrip": ...}; *found is false for null or nothing. */
static int parse_token(const Json *file, const cJSON *item, const char *where, AddedToken *token,
                       bool *found, Error *err) {
    *token = (AddedToken){.id = -1};
    *found = item && !cJSON_IsNull(item);
    if (!*found) return 0;
    const cJSON *content = cJSON_IsObject(item) ? json_get(item, "content") : item;
    if (!cJSON_IsString(content) || content->valuestring[0] == '\0')
        return json_unexpected(file, where, "a token", content, err);
    token->content = content->valuestring;
    token->length = strlen(content->valuestring);
    if (!cJSON_IsObject(item)) return 0;
    return json_bool(file, item, "single_word", where, false, &token->single_word, err) ||
                   json_bool(file, item, "lstrip", where, false, &token->lstrip, err) ||
                   json_bool(file, item, "rstrip", where, false, &token->rstrip, err) ||
                   json_bool(file, item, "special", where, false, &token->special, err) ||
                   json_bool(file, item, "normalized", where, !token->special, &token->normalized,
                             err)
               ? -1
               : 0;
}

/* ---- Lists of tokens with ids -------------------------------------------------------------------------- */

static int by_id(const void *x, const void *y) {
    const AddedToken *a = x, *b = y;
    return (a->id > b->id) - (a->id < b->id);
}

/* Puts the smallest id first, as transformers does, so that the order in the file is free. */
static int put_all(Tokenizer *t, const Json *file, AddedToken *token, size_t count, Error *err) {
    if (count > 0) qsort(token, count, sizeof *token, by_id);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && token[i].id == token[i - 1].id)
            return fail(err,
                        "%s: expected every added token with its own id, found %d for \"%s\" "
                        "and for \"%s\"",
                        file->path, (int)token[i].id, token[i - 1].content, token[i].content);
        if (put(t, file, &token[i], err)) return -1;
    }
    return 0;
}

static AddedToken *new_list(const cJSON *list, Error *err) {
    size_t count = (size_t)cJSON_GetArraySize(list);
    AddedToken *token = calloc(count + 1, sizeof *token);
    if (!token) fail(err, "out of memory for %zu added tokens", count);
    return token;
}

/* tokenizer.json: [{"id": 50256, "content": "<|endoftext|>", ...}, ...] */
int open_added_list(Tokenizer *t, const Json *file, const cJSON *list, Error *err) {
    AddedToken *token = new_list(list, err);
    if (!token) return -1;
    size_t count = 0;
    int status = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        char where[60];
        snprintf(where, sizeof where, "added_tokens[%zu]", count);
        bool found;
        int32_t id = -1;
        status = parse_token(file, item, where, &token[count], &found, err);
        if (status == 0 && !found) status = json_unexpected(file, where, "a token", item, err);
        if (status == 0) status = json_id(file, json_get(item, "id"), where, INT32_MAX, &id, err);
        if (status) break;
        token[count++].id = id;
    }
    if (status == 0) status = put_all(t, file, token, count, err);
    free(token);
    return status;
}

/* tokenizer_config.json, added_tokens_decoder: {"50256": {"content": "<|endoftext|>", ...}, ...} */
static int put_decoder(Tokenizer *t, const Json *config, const cJSON *decoder, Error *err) {
    AddedToken *token = new_list(decoder, err);
    if (!token) return -1;
    size_t count = 0;
    int status = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, decoder) {
        char where[120], *end;
        snprintf(where, sizeof where, "added_tokens_decoder[\"%.60s\"]", item->string);
        bool found;
        status = parse_token(config, item, where, &token[count], &found, err);
        if (status == 0 && !found) status = json_unexpected(config, where, "a token", item, err);
        long long id = strtoll(item->string, &end, 10);
        if (status == 0 && (end == item->string || *end != '\0' || id < 0 || id >= INT32_MAX))
            status = fail(err, "%s: added_tokens_decoder: expected ids as names, found \"%s\"",
                          config->path, item->string);
        if (status) break;
        token[count++].id = (int32_t)id;
    }
    if (status == 0) status = put_all(t, config, token, count, err);
    free(token);
    return status;
}

/* ---- Special tokens that have a name ------------------------------------------------------------------- */

static const char *const special_names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                            "pad_token", "cls_token", "mask_token"};
enum { SPECIAL_NAMES = sizeof special_names / sizeof *special_names };

/* special_tokens_map.json has the word, but is not read where tokenizer_config.json is of the newer
 * kind, with an added_tokens_decoder; there it only fills what is missing. */
static const cJSON *named(const Json *config, const Json *map, const char *name,
                          const Json **from) {
    const cJSON *in_config = json_get(config->root, name), *in_map = json_get(map->root, name);
    bool newer = json_get(config->root, "added_tokens_decoder") != NULL;
    if (cJSON_IsNull(in_config)) in_config = NULL;
    if (cJSON_IsNull(in_map)) in_map = NULL;
    bool take_map = in_map && (!newer || !in_config);
    *from = take_map ? map : config;
    return take_map ? in_map : in_config;
}

/* A special token that no list of added tokens has becomes one, of the vocabulary's id if it is
 * there, so that it is found in a text. `listed` is how many tokens the lists had. */
static int put_special(Tokenizer *t, const Json *file, const cJSON *item, const char *where,
                       size_t listed, Error *err) {
    AddedToken token;
    bool found;
    if (parse_token(file, item, where, &token, &found, err)) return -1;
    if (!found) return 0;
    int32_t id = pieces_find(&t->pieces, token.content, token.length);
    const AddedToken *other = id >= 0 ? added_find(&t->added, id) : NULL;
    if (other && (size_t)(other - t->added.token) < listed) return 0;
    token.special = true;
    if (!cJSON_IsObject(item) || !json_get(item, "normalized")) token.normalized = false;
    return put(t, file, &token, err);
}

/* The same text was given before, and as the same: both as a string, or both as an object. */
static bool said_before(const Json *config, const Json *map, int names, const cJSON *item) {
    const cJSON *content = cJSON_IsObject(item) ? json_get(item, "content") : item;
    const Json *from;
    for (int i = 0; i < names && cJSON_IsString(content); i++) {
        const cJSON *other = named(config, map, special_names[i], &from);
        bool object = cJSON_IsObject(other);
        if (object != cJSON_IsObject(item)) continue;
        if (object) other = json_get(other, "content");
        if (cJSON_IsString(other) && strcmp(other->valuestring, content->valuestring) == 0)
            return true;
    }
    return false;
}

/* Where two names give one token with different flags ("<|endoftext|>" as eos_token, an object, and
 * as pad_token, a string, in SD 1.x), the later name wins, as upstream. */
static int put_specials(Tokenizer *t, const Json *config, const Json *map, Error *err) {
    const Json *from;
    size_t listed = t->added.count;
    for (int i = 0; i < SPECIAL_NAMES; i++) {
        const cJSON *item = named(config, map, special_names[i], &from);
        if (said_before(config, map, i, item)) continue;
        if (put_special(t, from, item, special_names[i], listed, err)) return -1;
    }
    static const char *const more[] = {"additional_special_tokens", "extra_special_tokens"};
    for (int i = 0; i < 2; i++) {
        const cJSON *each, *list = named(config, map, more[i], &from);
        cJSON_ArrayForEach(each, list) {
            if (put_special(t, from, each, more[i], t->added.count, err)) return -1;
        }
    }
    return 0;
}

static bool is_special(const Json *config, const Json *map, const char *content) {
    const Json *from;
    for (int i = 0; i < SPECIAL_NAMES; i++) {
        const cJSON *item = named(config, map, special_names[i], &from);
        if (cJSON_IsObject(item)) item = json_get(item, "content");
        if (cJSON_IsString(item) && strcmp(item->valuestring, content) == 0) return true;
    }
    return false;
}

/* added_tokens.json, the older kind: {"<|endoftext|>": 50256, ...} */
static int put_older(Tokenizer *t, const Json *file, const Json *config, const Json *map,
                     Error *err) {
    AddedToken *token = new_list(file->root, err);
    if (!token) return -1;
    size_t count = 0;
    int status = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, file->root) {
        char where[120];
        snprintf(where, sizeof where, "id of \"%.60s\"", item->string);
        int32_t id;
        status = json_id(file, item, where, INT32_MAX, &id, err);
        if (status == 0 && item->string[0] == '\0')
            status = fail(err, "%s: expected tokens, found \"\"", file->path);
        if (status) break;
        bool special = is_special(config, map, item->string);
        token[count++] = (AddedToken){.content = item->string,
                                      .length = strlen(item->string),
                                      .id = id,
                                      .normalized = !special,
                                      .special = special};
    }
    if (status == 0) status = put_all(t, file, token, count, err);
    free(token);
    return status;
}

/* ---- All files -------------------------------------------------------------------------------------------- */

/* A bos_token that is no piece would be given a new id upstream, which no embedding has. */
static int read_bos(Tokenizer *t, const Json *config, const Json *map, Error *err) {
    const Json *from;
    const cJSON *item = named(config, map, "bos_token", &from);
    AddedToken token;
    bool found;
    if (parse_token(from, item, "bos_token", &token, &found, err)) return -1;
    if (!found) return 0;
    t->bos = pieces_find(&t->pieces, token.content, token.length);
    if (t->bos < 0)
        return fail(err, "%s: bos_token: expected a piece of the vocabulary, found \"%s\"",
                    from->path, token.content);
    return 0;
}

/* The others; put_specials has seen to it that they are pieces. */
static int64_t named_id(const Tokenizer *t, const Json *config, const Json *map, const char *name) {
    const Json *from;
    const cJSON *item = named(config, map, name, &from);
    if (cJSON_IsObject(item)) item = json_get(item, "content");
    if (!cJSON_IsString(item)) return -1;
    return pieces_find(&t->pieces, item->valuestring, strlen(item->valuestring));
}

int open_added_piece(Tokenizer *t, int32_t id, bool special, Error *err) {
    if (added_find(&t->added, id)) return 0;
    char *text = t->pieces.text[id];
    const AddedToken token = {
        .content = text, .length = strlen(text), .id = id, .special = special};
    return added_put(&t->added, &token, err);
}

/* What the classes' constructors fall back on, for a token that no file mentions; one that a file
 * sets to null there is none of. */
static int put_class_tokens(Tokenizer *t, const Json *config, const Json *map, Error *err) {
    static const struct {
        const char *class, *name, *piece;
    } known[] = {
        {"LlamaTokenizer", "bos_token", "<s>"},
        {"LlamaTokenizer", "eos_token", "</s>"},
        {"LlamaTokenizer", "unk_token", "<unk>"},
        {"CLIPTokenizer", "bos_token", "<|startoftext|>"},
        {"CLIPTokenizer", "eos_token", "<|endoftext|>"},
        {"CLIPTokenizer", "unk_token", "<|endoftext|>"},
        {"CLIPTokenizer", "pad_token", "<|endoftext|>"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *piece = known[i].piece;
        int32_t id = pieces_find(&t->pieces, piece, strlen(piece));
        if (id < 0 || !is_class(config, known[i].class) || json_get(config->root, known[i].name) ||
            json_get(map->root, known[i].name))
            continue;
        int64_t *const place = !strcmp(known[i].name, "bos_token")   ? &t->bos
                               : !strcmp(known[i].name, "eos_token") ? &t->eos
                               : !strcmp(known[i].name, "unk_token") ? &t->unk
                                                                     : &t->pad;
        *place = id;
        if (open_added_piece(t, id, true, err)) return -1;
    }
    return 0;
}

static int put_files(Tokenizer *t, const Json *config, const Json *map, const Json *older,
                     Error *err) {
    const cJSON *decoder = json_get(config->root, "added_tokens_decoder");
    if (decoder && !cJSON_IsObject(decoder))
        return json_unexpected(config, "added_tokens_decoder", "an object", decoder, err);
    if (decoder ? put_decoder(t, config, decoder, err)
                : older->root && put_older(t, older, config, map, err))
        return -1;
    if (read_bos(t, config, map, err) || put_specials(t, config, map, err)) return -1;
    t->eos = named_id(t, config, map, "eos_token");
    t->unk = named_id(t, config, map, "unk_token");
    t->pad = named_id(t, config, map, "pad_token");
    return put_class_tokens(t, config, map, err);
}

int open_added_files(Tokenizer *t, const char *dir, const Json *config, bool tokenizer_json,
                     Error *err) {
    Json map = {0}, older = {0};
    int status = json_read_optional(&map, dir, "special_tokens_map.json", err);
    if (status == 0 && !tokenizer_json)
        status = json_read_optional(&older, dir, "added_tokens.json", err);
    if (status == 0) status = put_files(t, config, &map, &older, err);
    json_free(&older);
    json_free(&map);
    return status;
}
