/* SentencePiece's BPE (Kudo and Richardson, 2018) as Llama uses it: a word begins as its characters,
 * a character that is no piece as the pieces of its bytes, <0x00> to <0xFF>; a space is shown as
 * U+2581, a low line. */
#ifndef LLMDIFF_TOKENIZER_SPM_H
#define LLMDIFF_TOKENIZER_SPM_H

#include "tokenizer/bpe.h"

#define SPM_SPACE "\xE2\x96\x81" /* U+2581 */

/* When the low line is put in front of a part of the text that does not begin with one */
typedef enum SpmPrefix { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS } SpmPrefix;

typedef struct Spm {
    int32_t byte_id[256];
    /* the normalizer, which added tokens with `normalized` go through too */
    bool normalize_prefix; /* a low line in front, always */
    bool normalize_space;  /* spaces become low lines */
    /* the pre-tokenizer (Metaspace) */
    bool metaspace;   /* spaces become low lines, then: */
    SpmPrefix prefix; /* FIRST: only at the very beginning of the text */
    bool split;       /* every low line begins a word */
    bool strip;       /* decoding takes one space away from the beginning of the text */
} Spm;

/* Needs the pieces of all 256 bytes. 0 or -1 with a message naming `file`. */
int spm_init(Spm *s, const Pieces *pieces, const char *file, Error *err);
/* malloc'ed; NULL with a message. */
char *spm_normalize(const Spm *s, const char *text, size_t length, size_t *out_length, Error *err);
/* Appends the ids of a text without added tokens, valid UTF-8 and not empty. first: it stands at
 * the beginning of the whole text. */
int spm_encode(const Spm *s, const Pieces *pieces, const Bpe *b, bool ignore_merges,
               const char *text, size_t length, bool first, BpeScratch *scratch, IdList *out,
               Error *err);
/* The text of pieces: malloc'ed, NUL-terminated. piece[0 .. count - 1] are not NULL. */
char *spm_decode(const Spm *s, const char *const *piece, size_t count, size_t *length, Error *err);

#endif
