/* What a Tokenizer is, and reading it from its files. */
#ifndef LLMDIFF_TOKENIZER_OPEN_H
#define LLMDIFF_TOKENIZER_OPEN_H

#include "tokenizer/added.h"
#include "tokenizer/bpe.h"
#include "tokenizer/bytebpe.h"
#include "tokenizer/json_file.h"
#include "tokenizer/pieces.h"
#include "tokenizer/spm.h"
#include "tokenizer/tokenizer.h"

#define CLIP_SUFFIX "</w>" /* carried by the last piece of a word */

typedef enum Kind { BYTE_LEVEL, SENTENCEPIECE, CLIP } Kind;

struct Tokenizer {
    Kind kind;
    Pieces pieces; /* the model's vocabulary and the added tokens */
    Bpe bpe;
    bool ignore_merges; /* a word that is a piece is taken whole */
    AddedTokens added;
    int64_t bos, eos, pad, unk; /* -1: none */
    int64_t max_length;         /* model_max_length; -1: none */
    ByteLetters letters;        /* BYTE_LEVEL and CLIP */
    bool add_prefix_space; /* BYTE_LEVEL: a space in front of every text between added tokens */
    bool use_regex;        /* BYTE_LEVEL: GPT-2's splitting into words */
    Spm spm;               /* SENTENCEPIECE */
};

/* What the kind's normalizer makes of a text, valid UTF-8: malloc'ed. NULL with a message. */
char *tokenizer_normalize(const Tokenizer *t, const char *text, size_t length, size_t *out_length,
                          Error *err);

/* One layout each. `config` is tokenizer_config.json (root NULL: absent). They set the kind and
 * whatever belongs to it; those with `dir` also read the added tokens in the files beside. */
int open_bytelevel_json(Tokenizer *t, const Json *file, const Json *config, Error *err);
int open_bytelevel_files(Tokenizer *t, const char *dir, const Json *config, Error *err);
/* llama: by the rules of the class LlamaTokenizer, not by those in the file. */
int open_spm_json(Tokenizer *t, const Json *file, const Json *config, bool llama, Error *err);
int open_spm_model(Tokenizer *t, const char *dir, const Json *config, Error *err);
int spm_llama_rules(Tokenizer *t, const Json *config, Error *err);
int open_clip_json(Tokenizer *t, const Json *file, const Json *config, const char *dir, Error *err);
int open_clip_files(Tokenizer *t, const char *dir, const Json *config, Error *err);

/* open_parts.c: what the layouts share. */
bool is_type(const cJSON *object, const char *type); /* {"type": type, ...} */
/* The same for file's member `name`, with a message. */
int expect_type(const Json *file, const char *name, const cJSON *object, const char *type,
                Error *err);
/* model.vocab, model.merges, model.ignore_merges; the model must have that suffix and
 * byte_fallback, the post-processor must be one that only puts tokens around. */
int read_json_model(Tokenizer *t, const Json *file, const char *suffix, bool byte_fallback,
                    Error *err);
int read_json_added(Tokenizer *t, const Json *file, Error *err);
int read_vocab_merges(Tokenizer *t, const char *dir, Error *err);

/* open_added.c. Added tokens that upstream gives the ids that follow on: the smallest id first. */
int open_added_list(Tokenizer *t, const Json *file, const cJSON *list, Error *err);
/* A token of the model itself, unless a file has said something about it. */
int open_added_piece(Tokenizer *t, int32_t id, bool special, Error *err);
/* The files beside the vocabulary: added_tokens.json (only without tokenizer.json), and
 * added_tokens_decoder and the named special tokens in tokenizer_config.json and
 * special_tokens_map.json; sets bos, eos, pad and unk. Where they name none, those that the class
 * (tokenizer_class) falls back on. */
int open_added_files(Tokenizer *t, const char *dir, const Json *config, bool tokenizer_json,
                     Error *err);
/* tokenizer_class without "Fast", as transformers 5 reads it: is it `name`? */
bool is_class(const Json *config, const char *name);

#endif
