/* The vocabulary: pieces by id and ids by piece.
 *
 * Ids may have holes, as upstream allows; each piece and each id occurs once. A piece is a string
 * without NUL. */
#ifndef LLMDIFF_TOKENIZER_PIECES_H
#define LLMDIFF_TOKENIZER_PIECES_H

#include "tensor/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Pieces {
    char **text;    /* [size] by id; NULL: a hole */
    bool *of_model; /* [size] by id; false: only an added token */
    int32_t size;   /* largest id + 1 */
    size_t count;   /* without the holes */
    int32_t *slot;  /* [slots] hash table of ids, -1: free; at most half full */
    size_t slots;   /* 0, or a power of two */
    size_t reserve; /* allocated length of text and of_model */
} Pieces;

/* The id of the piece, -1 if there is none. */
int32_t pieces_find(const Pieces *p, const char *text, size_t length);
/* `file` for the message. id >= 0; the caller has bounded it. 0 or -1 with a message. */
int pieces_add(Pieces *p, const char *text, int32_t id, bool of_model, const char *file,
               Error *err);
void pieces_free(Pieces *p);

#endif
