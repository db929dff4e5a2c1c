#include "tokenizer/spm.h"
#include "tokenizer/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MARK = sizeof SPM_SPACE - 1 };

int spm_init(Spm *s, const Pieces *pieces, const char *file, Error *err) {
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        int n = snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        s->byte_id[byte] = pieces_find(pieces, name, (size_t)n);
        if (s->byte_id[byte] < 0)
            return fail(err, "%s: expected a piece for each of the 256 bytes, found no \"%s\"",
                        file, name);
    }
    return 0;
}

/* ---- Spaces ----------------------------------------------------------------------------------------- */

/* text with a low line in front if `prefix`, and for each space if `space`; malloc'ed. */
static char *mark_spaces(const char *text, size_t length, bool prefix, bool space,
                         size_t *out_length, Error *err) {
    char *out = length < SIZE_MAX / MARK - 2 ? malloc(MARK * (length + 1) + 1) : NULL;
    if (!out) {
        fail(err, "out of memory for a text of %zu bytes", length);
        return NULL;
    }
    size_t n = 0;
    if (prefix) {
        memcpy(out, SPM_SPACE, MARK);
        n = MARK;
    }
    for (size_t i = 0; i < length; i++) {
        if (space && text[i] == ' ') {
            memcpy(out + n, SPM_SPACE, MARK);
            n += MARK;
        } else {
            out[n++] = text[i];
        }
    }
    out[n] = '\0';
    *out_length = n;
    return out;
}

char *spm_normalize(const Spm *s, const char *text, size_t length, size_t *out_length, Error *err) {
    return mark_spaces(text, length, s->normalize_prefix, s->normalize_space, out_length, err);
}

/* ---- Text to ids ------------------------------------------------------------------------------------ */

static bool is_mark(const char *text, size_t length) {
    return length >= MARK && memcmp(text, SPM_SPACE, MARK) == 0;
}

/* A piece of the model: an added token may be in the middle of a word and is not that word's. */
static int32_t model_piece(const Pieces *pieces, const char *text, size_t length) {
    int32_t id = pieces_find(pieces, text, length);
    return id >= 0 && pieces->of_model[id] ? id : -1;
}

static int encode_word(const Spm *s, const Pieces *pieces, const Bpe *b, bool ignore_merges,
                       const char *word, size_t length, BpeScratch *scratch, IdList *out,
                       Error *err) {
    int32_t whole = ignore_merges ? model_piece(pieces, word, length) : -1;
    if (whole >= 0) return idlist_push(out, whole, err);
    if (bpe_reserve(scratch, length, err)) return -1;
    size_t symbols = 0;
    for (size_t at = 0; at < length;) {
        int32_t code;
        size_t n = utf8_next(word + at, length - at, &code);
        int32_t id = model_piece(pieces, word + at, n);
        if (id >= 0) {
            scratch->id[symbols++] = id;
        } else {
            for (size_t i = 0; i < n; i++)
                scratch->id[symbols++] = s->byte_id[(unsigned char)word[at + i]];
        }
        at += n;
    }
    return bpe_join(b, scratch, symbols, out, err);
}

/* Up to the next low line but one at the beginning. */
static size_t marked_word(const char *text, size_t length) {
    size_t at = is_mark(text, length) ? MARK : 1;
    while (at < length && !is_mark(text + at, length - at)) at++;
    return at;
}

int spm_encode(const Spm *s, const Pieces *pieces, const Bpe *b, bool ignore_merges,
               const char *text, size_t length, bool first, BpeScratch *scratch, IdList *out,
               Error *err) {
    if (!s->metaspace)
        return encode_word(s, pieces, b, ignore_merges, text, length, scratch, out, err);
    bool marked = text[0] == ' ' || is_mark(text, length);
    bool prefix = !marked && (s->prefix == PREFIX_ALWAYS || (s->prefix == PREFIX_FIRST && first));
    char *spaced = mark_spaces(text, length, prefix, true, &length, err);
    if (!spaced) return -1;
    int status = 0;
    for (size_t at = 0; at < length && status == 0;) {
        size_t n = s->split ? marked_word(spaced + at, length - at) : length;
        status = encode_word(s, pieces, b, ignore_merges, spaced + at, n, scratch, out, err);
        at += n;
    }
    free(spaced);
    return status;
}

/* ---- Ids to text ------------------------------------------------------------------------------------ */

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* "<0x41>": 0x41; -1 for other pieces. */
static int byte_of(const char *piece) {
    if (strlen(piece) != 6 || memcmp(piece, "<0x", 3) != 0 || piece[5] != '>') return -1;
    int high = hex(piece[3]), low = hex(piece[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

/* Upstream's ByteFallback decoder: the bytes of neighbouring byte pieces if together they are UTF-8,
 * else U+FFFD for each one of them, also for those that were fine. Returns how many were put. */
static size_t put_bytes(const char *const *piece, size_t count, char *out, size_t *n) {
    size_t run = 0;
    for (; run < count && byte_of(piece[run]) >= 0; run++)
        out[*n + run] = (char)byte_of(piece[run]);
    if (utf8_prefix(out + *n, run) == run)
        *n += run;
    else
        for (size_t i = 0; i < run; i++) *n += utf8_put(0xFFFD, out + *n);
    return run;
}

char *spm_decode(const Spm *s, const char *const *piece, size_t count, size_t *length, Error *err) {
    size_t total = 0; /* a piece of six bytes becomes at most three */
    for (size_t i = 0; i < count; i++) total += strlen(piece[i]);
    char *out = malloc(total + 1);
    if (!out) {
        fail(err, "out of memory for a text of %zu bytes", total);
        return NULL;
    }
    size_t n = 0;
    for (size_t i = 0; i < count;) {
        size_t run = put_bytes(piece + i, count - i, out, &n);
        i += run;
        if (run > 0) continue;
        for (const char *p = piece[i]; *p;) {
            bool mark = strncmp(p, SPM_SPACE, MARK) == 0;
            out[n++] = mark ? ' ' : *p;
            p += mark ? MARK : 1;
        }
        i++;
    }
    if (s->strip && n > 0 && out[0] == ' ') memmove(out, out + 1, --n);
    out[n] = '\0';
    *length = n;
    return out;
}
