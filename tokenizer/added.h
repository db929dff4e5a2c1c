/* Added tokens: strings that are taken out of the text before the model's own rules see it, such
 * as <|endoftext|>, or Phi's runs of spaces. */
#ifndef LLMDIFF_TOKENIZER_ADDED_H
#define LLMDIFF_TOKENIZER_ADDED_H

#include "tensor/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct AddedToken {
    char *content;    /* not empty */
    size_t length;    /* in bytes */
    int32_t id;       /* */
    bool single_word; /* only where no word character touches it */
    bool lstrip;      /* takes the white space to its left along */
    bool rstrip;      /* and to its right */
    bool normalized;  /* looked for after all that are not */
    bool special;
} AddedToken;

typedef struct AddedTokens {
    AddedToken *token; /* after added_finish: by stage, first byte, longest first */
    size_t count, reserve;
    size_t first[2][257]; /* [stage][byte]: where its tokens begin */
} AddedTokens;

/* A part of the text, which is a token (id >= 0) or still to be encoded. */
typedef struct Span {
    size_t begin, end;
    int32_t id;
} Span;

typedef struct Spans {
    Span *span; /* malloc'ed */
    size_t count, reserve;
} Spans;

/* Copies the token; replaces the one with the same id, if any. */
int added_put(AddedTokens *a, const AddedToken *token, Error *err);
const AddedToken *added_find(const AddedTokens *a, int32_t id); /* NULL: none */
/* Sorts for matching; after the last added_put. */
void added_finish(AddedTokens *a);
/* Stage 0 looks for the tokens that are not normalized, stage 1, in what stage 0 left, for those
 * that are (upstream's order also where there is no normalizer). text is valid UTF-8. */
int added_split(const AddedTokens *a, int stage, const char *text, size_t length, Spans *out,
                Error *err);
void added_free(AddedTokens *a);

#endif
