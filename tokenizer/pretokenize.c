#include "tokenizer/pretokenize.h"
#include "tokenizer/unicode.h"

#include <string.h>

/* Bytes at the beginning of text that are characters of that class. */
static size_t run(const char *text, size_t length, CharClass wanted) {
    size_t at = 0;
    while (at < length) {
        int32_t code;
        size_t n = utf8_next(text + at, length - at, &code);
        if (char_class(code) != wanted) break;
        at += n;
    }
    return at;
}

/* 's|'t|'re|'ve|'m|'ll|'d at the beginning of text; 0: none. */
static size_t contraction(const char *text, size_t length) {
    static const char known[][4] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = strlen(known[i]);
        if (length >= n && memcmp(text, known[i], n) == 0) return n;
    }
    return 0;
}

/* openai/gpt-2, src/encoder.py:
 *
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *
 * The alternatives are tried from left to right and the first that matches is taken, so that "'s"
 * is split off only where no longer run of punctuation began before it. Lower case only: "'S" is
 * "'" and "S". */
size_t gpt2_word(const char *text, size_t length) {
    size_t short_word = contraction(text, length);
    if (short_word > 0) return short_word;

    /*  ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+
     * The classes exclude each other, so the character after the optional space decides. */
    size_t space = text[0] == ' ';
    if (space < length) {
        int32_t code;
        utf8_next(text + space, length - space, &code);
        CharClass first = char_class(code);
        if (first != SPACE) return space + run(text + space, length - space, first);
    }

    /* \s+(?!\S)|\s+
     * A run of white space that reaches the end of the text is one word. Before anything else it
     * gives its last character back: that one is the optional space above if it is ' ', else a
     * word of its own (by the second alternative). */
    size_t whole = run(text, length, SPACE);
    if (whole == length) return whole;
    int32_t code;
    size_t last = utf8_last(text, whole, &code);
    return whole > last ? whole - last : whole;
}

/* transformers 5, CLIPTokenizer:
 *
 *   <\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
 *
 * White space, which no alternative takes, is left out. Version 4 did without the first two. */
size_t clip_word(const char *text, size_t length, size_t *skip) {
    static const char *const marker[] = {"<|startoftext|>", "<|endoftext|>"};
    *skip = run(text, length, SPACE);
    text += *skip;
    length -= *skip;
    if (length == 0) return 0;
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(marker[i]);
        if (length >= n && memcmp(text, marker[i], n) == 0) return n;
    }
    size_t short_word = contraction(text, length);
    if (short_word > 0) return short_word;
    int32_t code;
    size_t n = utf8_next(text, length, &code);
    CharClass first = char_class(code);
    return first == NUMBER ? n : run(text, length, first);
}
