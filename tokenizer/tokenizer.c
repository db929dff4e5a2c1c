#include "tokenizer/clip.h"
#include "tokenizer/open.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

/* ---- What it is --------------------------------------------------------------------------------------- */

int64_t tokenizer_size(const Tokenizer *t) { return t->pieces.size; }

int64_t tokenizer_bos(const Tokenizer *t) { return t->bos; }

int64_t tokenizer_eos(const Tokenizer *t) { return t->eos; }

int64_t tokenizer_pad(const Tokenizer *t) { return t->pad; }

int64_t tokenizer_max_length(const Tokenizer *t) { return t->max_length; }

const char *tokenizer_kind(const Tokenizer *t) {
    static const char *const name[] = {"byte-level BPE", "SentencePiece BPE", "CLIP BPE"};
    return name[t->kind];
}

const char *tokenizer_piece(const Tokenizer *t, int64_t id) {
    return id >= 0 && id < t->pieces.size ? t->pieces.text[id] : NULL;
}

/* ---- Text to ids ------------------------------------------------------------------------------------ */

int idlist_push(IdList *list, int64_t id, Error *err) {
    if (list->ids.count == list->reserve) {
        size_t reserve = list->reserve ? 2 * list->reserve : 64;
        int64_t *more = realloc(list->ids.id, reserve * sizeof *more);
        if (!more) return fail(err, "out of memory for %zu ids", reserve);
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

char *tokenizer_normalize(const Tokenizer *t, const char *text, size_t length, size_t *out_length,
                          Error *err) {
    if (t->kind == CLIP) return clip_normalize(text, length, out_length, err);
    return spm_normalize(&t->spm, text, length, out_length, err); /* BYTE_LEVEL: a copy */
}

/* What one call of tokenizer_encode works with. */
typedef struct Run {
    const Tokenizer *t;
    BpeScratch scratch;
    IdList out;
    Error *err;
} Run;

/* The id of a word that is a piece of the model as it stands, else -1. Added tokens don't count: one
 * with single_word may stand inside a word, and is not that word's piece. */
static int whole_word(Run *r, const char *word, size_t length, int32_t *id) {
    size_t n;
    char *letters = letters_of(&r->t->letters, word, length, &n, r->err);
    if (!letters) return -1;
    *id = pieces_find(&r->t->pieces, letters, n);
    if (*id >= 0 && !r->t->pieces.of_model[*id]) *id = -1;
    free(letters);
    return 0;
}

static int encode_word(Run *r, const char *word, size_t length) {
    int32_t id = -1;
    if (r->t->ignore_merges && whole_word(r, word, length, &id)) return -1;
    if (id >= 0) return idlist_push(&r->out, id, r->err);
    return letters_word(&r->t->letters, &r->t->bpe, word, length, &r->scratch, &r->out, r->err);
}

static int encode_words(Run *r, const char *text, size_t length) {
    while (length > 0) {
        size_t n = r->t->use_regex ? gpt2_word(text, length) : length;
        if (encode_word(r, text, n)) return -1;
        text += n;
        length -= n;
    }
    return 0;
}

static int encode_bytelevel(Run *r, const char *text, size_t length) {
    if (!r->t->add_prefix_space || text[0] == ' ') return encode_words(r, text, length);
    char *spaced = malloc(length + 1);
    if (!spaced) return fail(r->err, "out of memory for a text of %zu bytes", length);
    spaced[0] = ' ';
    memcpy(spaced + 1, text, length);
    int status = encode_words(r, spaced, length + 1);
    free(spaced);
    return status;
}

/* By CLIP's pattern, then each word by GPT-2's, which upstream's byte-level step brings along: it
 * cuts "<|endoftext|>" into three. */
static int encode_clip(Run *r, const char *text, size_t length) {
    size_t skip;
    for (size_t at = 0, n; (n = clip_word(text + at, length - at, &skip)) > 0; at += n) {
        at += skip;
        for (size_t done = 0, part; done < n; done += part) {
            part = gpt2_word(text + at + done, n - done);
            if (encode_word(r, text + at + done, part)) return -1;
        }
    }
    return 0;
}

/* Text between added tokens, normalized, valid UTF-8 and not empty. first: of the whole text. */
static int encode_text(Run *r, const char *text, size_t length, bool first) {
    const Tokenizer *t = r->t;
    switch (t->kind) {
    case BYTE_LEVEL: return encode_bytelevel(r, text, length);
    case CLIP: return encode_clip(r, text, length);
    case SENTENCEPIECE: break;
    }
    return spm_encode(&t->spm, &t->pieces, &t->bpe, t->ignore_merges, text, length, first,
                      &r->scratch, &r->out, r->err);
}

/* Takes the added tokens of `stage` out: those that are not normalized from the text as it is, the
 * others from what is left of it, normalized; encodes the rest. */
static int encode_stage(Run *r, int stage, const char *text, size_t length, bool first) {
    if (stage == 2) return encode_text(r, text, length, first);
    char *normalized = NULL;
    if (stage == 1 && r->t->kind != BYTE_LEVEL) {
        normalized = tokenizer_normalize(r->t, text, length, &length, r->err);
        if (!normalized) return -1;
        text = normalized;
    }
    Spans spans = {0};
    int status = added_split(&r->t->added, stage, text, length, &spans, r->err);
    for (size_t i = 0; i < spans.count && status == 0; i++) {
        const Span *s = &spans.span[i];
        status = s->id >= 0 ? idlist_push(&r->out, s->id, r->err)
                            : encode_stage(r, stage + 1, text + s->begin, s->end - s->begin,
                                           first && s->begin == 0);
    }
    free(spans.span);
    free(normalized);
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
        if (!repaired) return fail(err, "out of memory for a text of %zu bytes", length);
        text = repaired;
    }
    Run r = {.t = t, .err = err};
    int status = bos ? idlist_push(&r.out, t->bos, err) : 0;
    if (status == 0) status = encode_stage(&r, 0, text, length, true);
    bpe_scratch_free(&r.scratch);
    free(repaired);
    if (status) token_ids_free(&r.out.ids);
    *out = r.out.ids;
    return status;
}

int tokenizer_encode_padded(const Tokenizer *t, const char *text, size_t length, size_t wanted,
                            TokenIds *out, size_t *dropped, Error *err) {
    *out = (TokenIds){0};
    if (t->bos < 0 || t->eos < 0 || t->pad < 0 || wanted < 2)
        return fail(err,
                    "expected bos_token, eos_token and pad_token in tokenizer_config.json or "
                    "special_tokens_map.json, and a length of at least 2; found %lld, %lld, %lld "
                    "(-1: none) and %zu",
                    (long long)t->bos, (long long)t->eos, (long long)t->pad, wanted);
    TokenIds ids;
    if (tokenizer_encode(t, text, length, true, &ids, err)) return -1;
    size_t kept = ids.count < wanted ? ids.count : wanted - 1;
    int64_t *id = malloc(wanted * sizeof *id);
    if (id) {
        memcpy(id, ids.id, kept * sizeof *id);
        id[kept] = t->eos;
        for (size_t i = kept + 1; i < wanted; i++) id[i] = t->pad;
        *out = (TokenIds){id, wanted};
        *dropped = ids.count - kept;
    }
    token_ids_free(&ids);
    return id ? 0 : fail(err, "out of memory for %zu ids", wanted);
}

/* ---- Ids to text ------------------------------------------------------------------------------------ */

static char *decode_letters(const Tokenizer *t, const char *const *piece, size_t count,
                            size_t *length, Error *err) {
    size_t total = 0, n = 0;
    for (size_t i = 0; i < count; i++) total += strlen(piece[i]);
    char *bytes = malloc(total + 1);
    char *text = NULL;
    if (bytes) {
        for (size_t i = 0; i < count; i++) n += letters_bytes(&t->letters, piece[i], bytes + n);
        text = utf8_repair(bytes, n, length);
        free(bytes);
    }
    if (!text) fail(err, "out of memory for a text of %zu bytes", total);
    return text;
}

/* What an id decodes from: its piece, but of an added token with `normalized` what normalization
 * made of it, as upstream: "▁<x>", not "<x>", by Mistral's rules. */
static const char *decoded_piece(const Tokenizer *t, int64_t id) {
    const char *piece = tokenizer_piece(t, id);
    const AddedToken *added =
        piece && t->kind != BYTE_LEVEL ? added_find(&t->added, (int32_t)id) : NULL;
    return added && added->normalized ? added->content : piece;
}

char *tokenizer_decode(const Tokenizer *t, const int64_t *ids, size_t count, size_t *length,
                       Error *err) {
    const char **piece = calloc(count + 1, sizeof *piece);
    if (!piece) {
        fail(err, "out of memory for %zu pieces", count);
        return NULL;
    }
    char *text = NULL;
    size_t known = 0;
    while (known < count && (piece[known] = decoded_piece(t, ids[known])) != NULL) known++;
    if (known < count)
        fail(err, "id %zu: expected one of the vocabulary (0 to %d), found %lld", known,
             (int)t->pieces.size - 1, (long long)ids[known]);
    else if (t->kind == SENTENCEPIECE)
        text = spm_decode(&t->spm, piece, count, length, err);
    else
        text = decode_letters(t, piece, count, length, err);
    free(piece);
    if (text && t->kind == CLIP) *length = clip_tidy(text, *length);
    return text;
}
