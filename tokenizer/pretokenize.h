/* GPT-2's and CLIP's splitting of a text into words, before BPE. */
#ifndef LLMDIFF_TOKENIZER_PRETOKENIZE_H
#define LLMDIFF_TOKENIZER_PRETOKENIZE_H

#include <stddef.h>

/* Bytes of the word at the beginning of text, which is valid UTF-8 and not empty. Words cover the
 * text without a gap: the next one begins where this one ends. */
size_t gpt2_word(const char *text, size_t length);

/* CLIP's: the next word of normalized text begins *skip bytes on (white space is left out) and has the
 * bytes returned; 0: there is none. */
size_t clip_word(const char *text, size_t length, size_t *skip);

#endif
