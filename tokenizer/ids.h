/* A list of ids that grows. */
#ifndef LLMDIFF_TOKENIZER_IDS_H
#define LLMDIFF_TOKENIZER_IDS_H

#include "tokenizer/tokenizer.h"

typedef struct IdList {
    TokenIds ids;
    size_t reserve;
} IdList;

int idlist_push(IdList *list, int64_t id, Error *err);

#endif
