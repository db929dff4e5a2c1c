/* UTF-8 and the few properties of characters that the tokenizers ask for. */
#ifndef LLMDIFF_TOKENIZER_UNICODE_H
#define LLMDIFF_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first character of s (length > 0): its code point in *code, its bytes returned. For bytes
 * that are not UTF-8, *code is -1 and the result is the length of the maximal invalid part, which
 * Python's "replace" and Rust's from_utf8_lossy turn into one U+FFFD. */
size_t utf8_next(const char *s, size_t length, int32_t *code);
/* Bytes of the character that ends at s + length; s is valid UTF-8, length > 0. */
size_t utf8_last(const char *s, size_t length, int32_t *code);
/* Writes 1 to 4 bytes. */
size_t utf8_put(int32_t code, char out[4]);
/* Length of the longest valid beginning of s: `length` if all of it is UTF-8. */
size_t utf8_prefix(const char *s, size_t length);
/* A copy with each maximal invalid part as U+FFFD, NUL-terminated, malloc'ed; NULL: no memory. */
char *utf8_repair(const char *s, size_t length, size_t *repaired);

typedef enum CharClass { LETTER, NUMBER, SPACE, OTHER } CharClass;
/* \p{L}, \p{N}, \s or none of them: the classes that GPT-2's pattern distinguishes. */
CharClass char_class(int32_t code);
/* \w, for added tokens with single_word. */
bool is_word_char(int32_t code);

/* What Unicode 15.1 and 16.0 added: 'L', 'N' or 'M', else 0. */
char kind_since_15(int32_t code);

/* NFC of valid UTF-8: malloc'ed; NULL: no memory. */
char *utf8_nfc(const char *s, size_t length, size_t *composed);
/* The character in lower case, by itself (a sigma at the end of a word is like any other): 1 to 4
 * bytes written, at most half as many again as the character had. */
size_t utf8_put_lower(int32_t code, char out[4]);

#endif
