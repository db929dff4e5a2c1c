#include "tokenizer/added.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

const AddedToken *added_find(const AddedTokens *a, int32_t id) {
    for (size_t i = 0; i < a->count; i++)
        if (a->token[i].id == id) return &a->token[i];
    return NULL;
}

int added_put(AddedTokens *a, const AddedToken *token, Error *err) {
    AddedToken *place = (AddedToken *)added_find(a, token->id);
    if (!place && a->count == a->reserve) {
        size_t reserve = a->reserve ? 2 * a->reserve : 64;
        AddedToken *more = realloc(a->token, reserve * sizeof *more);
        if (!more) return fail(err, "out of memory for %zu added tokens", reserve);
        a->token = more;
        a->reserve = reserve;
    }
    char *copy = malloc(token->length + 1);
    if (!copy) return fail(err, "out of memory for an added token of %zu bytes", token->length);
    memcpy(copy, token->content, token->length);
    copy[token->length] = '\0';
    if (place)
        free(place->content);
    else
        place = &a->token[a->count++];
    *place = *token;
    place->content = copy;
    return 0;
}

static int first_byte(const AddedToken *t) { return (unsigned char)t->content[0]; }

static int by_stage_byte_length(const void *x, const void *y) {
    const AddedToken *a = x, *b = y;
    if (a->normalized != b->normalized) return a->normalized - b->normalized;
    if (first_byte(a) != first_byte(b)) return first_byte(a) - first_byte(b);
    return (a->length < b->length) - (a->length > b->length);
}

void added_finish(AddedTokens *a) {
    if (a->count > 0) qsort(a->token, a->count, sizeof *a->token, by_stage_byte_length);
    size_t i = 0;
    for (int stage = 0; stage < 2; stage++) {
        for (int byte = 0; byte < 256; byte++) {
            a->first[stage][byte] = i;
            while (i < a->count && a->token[i].normalized == (stage == 1) &&
                   first_byte(&a->token[i]) == byte)
                i++;
        }
        a->first[stage][256] = i;
    }
}

/* The longest token at the beginning of text, or NULL. */
static const AddedToken *longest(const AddedTokens *a, int stage, const char *text, size_t length) {
    const size_t *first = &a->first[stage][(unsigned char)text[0]];
    for (size_t i = first[0]; i < first[1]; i++) {
        const AddedToken *t = &a->token[i];
        if (t->length <= length && memcmp(text, t->content, t->length) == 0) return t;
    }
    return NULL;
}

static int push(Spans *out, size_t begin, size_t end, int32_t id, Error *err) {
    if (out->count == out->reserve) {
        size_t reserve = out->reserve ? 2 * out->reserve : 16;
        Span *more = realloc(out->span, reserve * sizeof *more);
        if (!more) return fail(err, "out of memory for %zu parts of a text", reserve);
        out->span = more;
        out->reserve = reserve;
    }
    out->span[out->count++] = (Span){begin, end, id};
    return 0;
}

static bool touches_word(const char *text, size_t length, size_t begin, size_t end) {
    int32_t code;
    if (begin > 0) {
        utf8_last(text, begin, &code);
        if (is_word_char(code)) return true;
    }
    if (end == length) return false;
    utf8_next(text + end, length - end, &code);
    return is_word_char(code);
}

/* Matches are leftmost-longest in the text as it stands and never overlap; what lstrip and rstrip
 * take along changes the span, but not where the next match is looked for. So, as upstream, white
 * space that a token took may be a token as well: "<x>" with rstrip, two spaces and a token of two
 * spaces give both tokens; but a token that itself has lstrip can't begin in what is taken already,
 * and is dropped when nothing remains of it (upstream drops it or, if the other one took more,
 * panics). */
int added_split(const AddedTokens *a, int stage, const char *text, size_t length, Spans *out,
                Error *err) {
    size_t covered = 0; /* up to here, spans are pushed */
    for (size_t at = 0; at < length;) {
        const AddedToken *t = longest(a, stage, text + at, length - at);
        if (!t) {
            at++;
            continue;
        }
        size_t begin = at, end = at + t->length;
        at = end;
        if (t->single_word && touches_word(text, length, begin, end)) continue;
        while (t->lstrip && begin > covered) {
            int32_t code;
            size_t n = utf8_last(text, begin, &code);
            if (char_class(code) != SPACE) break;
            begin -= n;
        }
        if (t->lstrip && begin < covered) begin = covered;
        while (t->rstrip && end < length) {
            int32_t code;
            size_t n = utf8_next(text + end, length - end, &code);
            if (char_class(code) != SPACE) break;
            end += n;
        }
        if (begin >= end) continue;
        if (covered < begin && push(out, covered, begin, -1, err)) return -1;
        if (push(out, begin, end, t->id, err)) return -1;
        covered = end;
    }
    if (covered < length && push(out, covered, length, -1, err)) return -1;
    return 0;
}

void added_free(AddedTokens *a) {
    for (size_t i = 0; i < a->count; i++) free(a->token[i].content);
    free(a->token);
    *a = (AddedTokens){0};
}
