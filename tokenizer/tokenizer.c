#include "tokenizer/open.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/unicode.h"
#include "weights/file.h"

#include <stdlib.h>
#include <string.h>

/* ---- Opening ---------------------------------------------------------------------------------------- */

static bool dir_has(const char *dir, const char *name, Error *err) {
    char *path = tokenizer_path(dir, name, err);
    bool has = path && file_exists(path);
    free(path);
    return has;
}

/* Which files there are decides what reads them. */
static int open_files(Tokenizer *t, const char *dir, const Json *config, Error *err) {
    bool tokenizer_json = dir_has(dir, "tokenizer.json", err);
    int status;
    if (tokenizer_json) {
        Json file;
        if (json_read(&file, dir, "tokenizer.json", err)) return -1;
        status = open_tokenizer_json(t, &file, config, err);
        json_free(&file);
    } else if (dir_has(dir, "vocab.json", err) || dir_has(dir, "merges.txt", err)) {
        status = open_vocab_merges(t, dir, config, err);
    } else {
        return fail(err,
                    "%s: expected a tokenizer: tokenizer.json, or vocab.json and merges.txt; "
                    "found neither",
                    dir);
    }
    if (status) return -1;
    return open_added_files(t, dir, config, tokenizer_json, err);
}

Tokenizer *tokenizer_open(const char *dir, Error *err) {
    Tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        fail(err, "%s: no memory", dir);
        return NULL;
    }
    t->bos = -1;
    Json config;
    int status = json_read_optional(&config, dir, "tokenizer_config.json", err);
    if (status == 0) status = open_files(t, dir, &config, err);
    json_free(&config);
    if (status || err->set) {
        tokenizer_close(t);
        return NULL;
    }
    added_finish(&t->added);
    return t;
}

void tokenizer_close(Tokenizer *t) {
    if (!t) return;
    added_free(&t->added);
    bytebpe_free(&t->bpe);
    pieces_free(&t->pieces);
    free(t);
}

int64_t tokenizer_size(const Tokenizer *t) { return t->pieces.size; }

int64_t tokenizer_bos(const Tokenizer *t) { return t->bos; }

const char *tokenizer_kind(const Tokenizer *t) {
    (void)t;
    return "byte-level BPE";
}

const char *tokenizer_piece(const Tokenizer *t, int64_t id) {
    return id >= 0 && id < t->pieces.size ? t->pieces.text[id] : NULL;
}

/* ---- Text to ids ------------------------------------------------------------------------------------ */

int idlist_push(IdList *list, int64_t id, Error *err) {
    if (list->ids.count == list->reserve) {
        size_t reserve = list->reserve ? 2 * list->reserve : 64;
        int64_t *more = realloc(list->ids.id, reserve * sizeof *more);
        if (!more) return fail(err, "no memory for %zu ids", reserve);
        list->ids.id = more;
        list->reserve = reserve;
    }
    list->ids.id[list->ids.count++] = id;
    return 0;
}

void token_ids_free(TokenIds *ids) {
    free(ids->id);
    *ids = (TokenIds){0};
}

/* Text between added tokens, valid UTF-8 and not empty. */
static int encode_words(const Tokenizer *t, const char *text, size_t length, BpeScratch *scratch,
                        IdList *out, Error *err) {
    while (length > 0) {
        size_t n = t->use_regex ? gpt2_word(text, length) : length;
        if (bytebpe_word(&t->bpe, &t->pieces, text, n, scratch, out, err)) return -1;
        text += n;
        length -= n;
    }
    return 0;
}

static int encode_text(const Tokenizer *t, const char *text, size_t length, BpeScratch *scratch,
                       IdList *out, Error *err) {
    if (!t->add_prefix_space || text[0] == ' ')
        return encode_words(t, text, length, scratch, out, err);
    char *spaced = malloc(length + 1);
    if (!spaced) return fail(err, "no memory for a text of %zu bytes", length);
    spaced[0] = ' ';
    memcpy(spaced + 1, text, length);
    int status = encode_words(t, spaced, length + 1, scratch, out, err);
    free(spaced);
    return status;
}

/* Takes the added tokens of `stage` out, then those of the next one; encodes what is left. */
static int encode_stage(const Tokenizer *t, int stage, const char *text, size_t length,
                        BpeScratch *scratch, IdList *out, Error *err) {
    if (stage == 2) return encode_text(t, text, length, scratch, out, err);
    Spans spans = {0};
    int status = added_split(&t->added, stage, text, length, &spans, err);
    for (size_t i = 0; i < spans.count && status == 0; i++) {
        const Span *s = &spans.span[i];
        status = s->id >= 0 ? idlist_push(out, s->id, err)
                            : encode_stage(t, stage + 1, text + s->begin, s->end - s->begin,
                                           scratch, out, err);
    }
    free(spans.span);
    return status;
}

int tokenizer_encode(const Tokenizer *t, const char *text, size_t length, bool bos, TokenIds *out,
                     Error *err) {
    *out = (TokenIds){0};
    if (bos && t->bos < 0)
        return fail(err,
                    "a begin token is wanted, but the tokenizer names none: expected bos_token "
                    "in tokenizer_config.json or special_tokens_map.json");
    char *repaired = NULL;
    if (utf8_prefix(text, length) < length) {
        repaired = utf8_repair(text, length, &length);
        if (!repaired) return fail(err, "no memory for a text of %zu bytes", length);
        text = repaired;
    }
    IdList list = {0};
    BpeScratch scratch = {0};
    int status = bos ? idlist_push(&list, t->bos, err) : 0;
    if (status == 0) status = encode_stage(t, 0, text, length, &scratch, &list, err);
    bpe_scratch_free(&scratch);
    free(repaired);
    if (status) token_ids_free(&list.ids);
    *out = list.ids;
    return status;
}

/* ---- Ids to text ------------------------------------------------------------------------------------ */

/* The bytes of a piece; out has room for strlen(piece). Upstream's ByteLevel decoder decides piece
 * by piece: if every character is a letter of the byte alphabet, they are bytes, otherwise the
 * piece stands for itself. That goes for added tokens too: "  " stays two spaces, as a space is no
 * letter, while an added token "é" would come out as the byte 0xE9. */
static size_t piece_bytes(const ByteBpe *b, const char *piece, char *out) {
    size_t length = strlen(piece), n = 0;
    for (size_t at = 0; at < length;) {
        int32_t code;
        at += utf8_next(piece + at, length - at, &code);
        if (code < 0 || code >= BYTE_LETTERS || b->byte_of[code] < 0) {
            memcpy(out, piece, length);
            return length;
        }
        out[n++] = (char)b->byte_of[code];
    }
    return n;
}

char *tokenizer_decode(const Tokenizer *t, const int64_t *ids, size_t count, size_t *length,
                       Error *err) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        const char *piece = tokenizer_piece(t, ids[i]);
        if (!piece) {
            fail(err, "id %zu: expected one of the vocabulary (0 to %d), found %lld", i,
                 (int)t->pieces.size - 1, (long long)ids[i]);
            return NULL;
        }
        total += strlen(piece);
    }
    char *bytes = malloc(total + 1);
    char *text = NULL;
    if (bytes) {
        size_t n = 0;
        for (size_t i = 0; i < count; i++)
            n += piece_bytes(&t->bpe, tokenizer_piece(t, ids[i]), bytes + n);
        text = utf8_repair(bytes, n, length);
        free(bytes);
    }
    if (!text) fail(err, "no memory for a text of %zu bytes", total);
    return text;
}
