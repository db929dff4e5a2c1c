/* Joining the symbols of a word pairwise by merges, in the order in which training found them: what
 * every kind of BPE does once it knows the symbols that a word begins as. */
#ifndef LLMDIFF_TOKENIZER_BPE_H
#define LLMDIFF_TOKENIZER_BPE_H

#include "tokenizer/ids.h"
#include "tokenizer/pieces.h"

typedef struct Merge {
    uint64_t pair; /* left id << 32 | right id */
    int32_t rank;  /* lower is earlier; of equal ranks the leftmost pair is earlier */
    int32_t id;    /* the joined piece; -1: a free slot */
} Merge;

typedef struct Bpe {
    Merge *slot;  /* [slots] hash table by pair */
    size_t slots; /* a power of two; at most half of them are used */
} Bpe;

/* Room for working on a word, kept from word to word; {0} at first. */
typedef struct BpeScratch {
    int32_t *id; /* [reserve] the caller puts the word's symbols here */
    struct Symbol *symbol;
    struct Candidate *heap;
    size_t reserve;
} BpeScratch;

/* For at most that many merges. 0 or -1 with a message naming `file`. */
int bpe_init(Bpe *b, size_t merges, const char *file, Error *err);
/* left and right become id. A repeated pair keeps the last rank, as upstream. */
void bpe_add(Bpe *b, int32_t left, int32_t right, int32_t rank, int32_t id);
/* The same by the pieces' texts; what they join to is their texts joined. `file`, `entry` ("line")
 * and `number` are for the message. */
int bpe_add_pieces(Bpe *b, const Pieces *pieces, int32_t rank, const char *left, size_t left_length,
                   const char *right, size_t right_length, const char *file, const char *entry,
                   size_t number, Error *err);
/* Room for a word of that many symbols. */
int bpe_reserve(BpeScratch *scratch, size_t symbols, Error *err);
/* Joins scratch->id[0 .. symbols - 1] and appends what remains. */
int bpe_join(const Bpe *b, BpeScratch *scratch, size_t symbols, IdList *out, Error *err);
void bpe_free(Bpe *b);
void bpe_scratch_free(BpeScratch *scratch);

#endif
