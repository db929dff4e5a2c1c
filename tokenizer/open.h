/* What a Tokenizer is, and reading it from its files. */
#ifndef LLMDIFF_TOKENIZER_OPEN_H
#define LLMDIFF_TOKENIZER_OPEN_H

#include "tokenizer/added.h"
#include "tokenizer/bytebpe.h"
#include "tokenizer/json_file.h"
#include "tokenizer/pieces.h"
#include "tokenizer/tokenizer.h"

struct Tokenizer {
    Pieces pieces; /* the model's vocabulary and the added tokens */
    ByteBpe bpe;
    AddedTokens added;
    int64_t bos;           /* -1: none */
    bool add_prefix_space; /* a space in front of every text between added tokens */
    bool use_regex;        /* GPT-2's splitting into words */
};

/* The two layouts of byte-level BPE. `config` is tokenizer_config.json (root NULL: absent). Both
 * fill pieces, bpe, add_prefix_space and use_regex; the first one reads its added tokens too. */
int open_tokenizer_json(Tokenizer *t, const Json *file, const Json *config, Error *err);
int open_vocab_merges(Tokenizer *t, const char *dir, const Json *config, Error *err);

/* open_added.c. Added tokens that upstream gives the ids that follow on: the smallest id first. */
int open_added_list(Tokenizer *t, const Json *file, const cJSON *list, Error *err);
/* The files beside the vocabulary: added_tokens.json (only without tokenizer.json), and
 * added_tokens_decoder and the named special tokens in tokenizer_config.json and
 * special_tokens_map.json; sets bos. */
int open_added_files(Tokenizer *t, const char *dir, const Json *config, bool tokenizer_json,
                     Error *err);

#endif
