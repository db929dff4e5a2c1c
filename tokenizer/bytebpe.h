/* Bytes written as one printable character each (Radford et al., GPT-2), so that a vocabulary of
 * strings can hold any of them: the symbols that a word of byte-level BPE begins as. */
#ifndef LLMDIFF_TOKENIZER_BYTEBPE_H
#define LLMDIFF_TOKENIZER_BYTEBPE_H

#include "tokenizer/bpe.h"

#define BYTE_LETTERS 324 /* the letters are code points below */

typedef struct ByteLetters {
    int32_t id[256];               /* the piece of a single byte */
    int32_t last_id[256];          /* the same at the end of a word, where CLIP's has </w> */
    int16_t letter_of[256];        /* 0x20 -> U+0120, the letter G with a dot that shows a space */
    int16_t byte_of[BYTE_LETTERS]; /* and back; -1: no byte has this letter */
} ByteLetters;

/* suffix: what a word's last letter carries, "" or "</w>". A letter that is no piece becomes
 * `unknown`; if that is -1, it is refused. 0 or -1 with a message naming `file`. */
int letters_init(ByteLetters *l, const Pieces *pieces, const char *suffix, int32_t unknown,
                 const char *file, Error *err);
/* The word in letters, without suffix: malloc'ed. NULL with a message. */
char *letters_of(const ByteLetters *l, const char *word, size_t length, size_t *letters_length,
                 Error *err);
/* Appends the ids of one word, which is not empty. */
int letters_word(const ByteLetters *l, const Bpe *b, const char *word, size_t length,
                 BpeScratch *scratch, IdList *out, Error *err);
/* The bytes of a piece; out has room for strlen(piece). */
size_t letters_bytes(const ByteLetters *l, const char *piece, char *out);

#endif
