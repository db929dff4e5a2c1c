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

/* openai/gpt-2, src/encoder.py:
 *
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *
 * The alternatives are tried from left to right and the first that matches is taken, so that "'s"
 * is split off only where no longer run of punctuation began before it. Lower case only: "'S" is
 * "'" and "S". */
size_t gpt2_word(const char *text, size_t length) {
    /* 's|'t|'re|'ve|'m|'ll|'d */
    static const char contraction[][4] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < sizeof contraction / sizeof *contraction; i++) {
        size_t n = strlen(contraction[i]);
        if (length >= n && memcmp(text, contraction[i], n) == 0) return n;
    }

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
