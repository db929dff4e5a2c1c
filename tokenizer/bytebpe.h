/* Byte-level BPE (Radford et al., GPT-2): a word is its bytes, written as one printable character
 * each, joined pairwise by the merges in the order in which training found them. */
#ifndef LLMDIFF_TOKENIZER_BYTEBPE_H
#define LLMDIFF_TOKENIZER_BYTEBPE_H

#include "tokenizer/ids.h"
#include "tokenizer/pieces.h"

#define BYTE_LETTERS 324 /* the letters are code points below */

typedef struct Merge {
    uint64_t pair; /* left id << 32 | right id */
    int32_t rank;  /* lower is earlier */
    int32_t id;    /* the joined piece; -1: a free slot */
} Merge;

typedef struct ByteBpe {
    int32_t byte_id[256];          /* the piece of a single byte */
    int16_t letter_of[256];        /* 0x20 -> U+0120, the letter G with a dot that shows a space */
    int16_t byte_of[BYTE_LETTERS]; /* and back; -1: no byte has this letter */
    Merge *slot;                   /* [slots] hash table by pair */
    size_t slots;                  /* a power of two; at most half of them are used */
    bool ignore_merges;            /* a word that is a piece is taken whole */
} ByteBpe;

/* Room for working on a word, kept from word to word; {0} at first. */
typedef struct BpeScratch {
    struct Symbol *symbol;
    struct Candidate *heap;
    char *letters;
    size_t reserve; /* in bytes of a word */
} BpeScratch;

/* `pieces` must have a piece for each of the 256 bytes. 0 or -1 with a message naming `file`. */
int bytebpe_init(ByteBpe *b, const Pieces *pieces, size_t merges, const char *file, Error *err);
/* Merge number `rank` joins left and right; a repeated pair keeps the last rank, as upstream. At
 * most as many as announced. `file`, `entry` ("line") and `number` are for the message. */
int bytebpe_merge(ByteBpe *b, const Pieces *pieces, int32_t rank, const char *left,
                  size_t left_length, const char *right, size_t right_length, const char *file,
                  const char *entry, size_t number, Error *err);
/* Appends the ids of one word, which is not empty. */
int bytebpe_word(const ByteBpe *b, const Pieces *pieces, const char *word, size_t length,
                 BpeScratch *scratch, IdList *out, Error *err);
void bytebpe_free(ByteBpe *b);
void bpe_scratch_free(BpeScratch *scratch);

#endif
