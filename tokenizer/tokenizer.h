/* Text to token ids and back, from the model's own tokenizer files.
 *
 *     Tokenizer *t = tokenizer_open("pack/llm", &err);
 *     TokenIds ids;
 *     tokenizer_encode(t, prompt, strlen(prompt), true, &ids, &err);   // the begin token first
 *     token_ids_free(&ids);  tokenizer_close(t);
 *
 * Three kinds: byte-level BPE with GPT-2's words (Phi, CodeGen), SentencePiece BPE with byte
 * fallback (Llama, Vicuna, Mistral), and CLIP's. Opened from tokenizer.json, or else from
 * tokenizer.model, or else from vocab.json + merges.txt; with tokenizer_config.json,
 * special_tokens_map.json and added_tokens.json beside.
 * Ids equal those of transformers' tokenizer for the same files. Input that is not UTF-8 is read
 * as Python's bytes.decode("utf-8", "replace") reads it: each maximal invalid part is U+FFFD. */
#ifndef LLMDIFF_TOKENIZER_H
#define LLMDIFF_TOKENIZER_H

#include "tensor/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Tokenizer Tokenizer;

typedef struct TokenIds {
    int64_t *id; /* malloc'ed */
    size_t count;
} TokenIds;

/* NULL with a message naming file and place. */
Tokenizer *tokenizer_open(const char *dir, Error *err);
void tokenizer_close(Tokenizer *t); /* NULL is fine */
/* Largest id + 1. */
int64_t tokenizer_size(const Tokenizer *t);
/* The tokenizer's own bos_token (never config.json's bos_token_id); -1: it names none. */
int64_t tokenizer_bos(const Tokenizer *t);
/* In the same way; -1: none. */
int64_t tokenizer_eos(const Tokenizer *t);
int64_t tokenizer_pad(const Tokenizer *t);
/* model_max_length of tokenizer_config.json; -1: none, or absurdly large. */
int64_t tokenizer_max_length(const Tokenizer *t);
/* "byte-level BPE", "SentencePiece BPE" or "CLIP BPE", for info */
const char *tokenizer_kind(const Tokenizer *t);
/* Ids of `text`; the begin token in front if `bos` (an error if there is none). Special tokens
 * written in the text become their ids, as upstream. 0 or -1 with a message. */
int tokenizer_encode(const Tokenizer *t, const char *text, size_t length, bool bos, TokenIds *out,
                     Error *err);
/* Exactly `wanted` ids: begin token, text, end token, then the pad token; what is too long is
 * cut before the end token, *dropped says how many ids. So CLIP's text encoder wants it, with 77. */
int tokenizer_encode_padded(const Tokenizer *t, const char *text, size_t length, size_t wanted,
                            TokenIds *out, size_t *dropped, Error *err);
void token_ids_free(TokenIds *ids);
/* The text of the ids: malloc'ed, NUL-terminated, *length without the NUL (decoded bytes are kept
 * as they are, except that invalid UTF-8 becomes U+FFFD, as upstream). NULL with a message for an
 * id out of range. CLIP's comes back in lower case, with a space after every word but the last. */
char *tokenizer_decode(const Tokenizer *t, const int64_t *ids, size_t count, size_t *length,
                       Error *err);
/* The piece as it stands in the vocabulary ("Ġcircle", "▁circle", "circle</w>"); NULL if there is no such id. */
const char *tokenizer_piece(const Tokenizer *t, int64_t id);

#endif
