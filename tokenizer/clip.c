#include "tokenizer/clip.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

char *clip_normalize(const char *text, size_t length, size_t *out_length, Error *err) {
    size_t n = 0;
    char *composed = utf8_nfc(text, length, &n);
    /* lower case takes at most half as many bytes again: U+0130 of 2 becomes 3, U+023A of 2 too */
    char *out = composed && n < SIZE_MAX / 2 ? malloc(n + n / 2 + 1) : NULL;
    if (!out) {
        free(composed);
        fail(err, "out of memory for a text of %zu bytes", length);
        return NULL;
    }
    size_t put = 0;
    bool space = false; /* the last character was one */
    for (size_t at = 0; at < n;) {
        int32_t code;
        at += utf8_next(composed + at, n - at, &code);
        bool white = char_class(code) == SPACE;
        if (!white)
            put += utf8_put_lower(code, out + put);
        else if (!space)
            out[put++] = ' ';
        space = white;
    }
    free(composed);
    out[put] = '\0';
    *out_length = put;
    return out;
}

/* Python's str.isspace: white space and the four separators U+001C to U+001F. */
static bool is_python_space(int32_t code) {
    return char_class(code) == SPACE || (code >= 0x1C && code <= 0x1F);
}

size_t clip_tidy(char *text, size_t length) {
    size_t n = 0;
    for (size_t at = 0; at < length; n++) {
        bool suffix = length - at >= 4 && memcmp(text + at, "</w>", 4) == 0;
        text[n] = suffix ? ' ' : text[at];
        at += suffix ? 4 : 1;
    }
    size_t begin = 0;
    int32_t code;
    for (size_t step; n > 0; n -= step) {
        step = utf8_last(text, n, &code);
        if (!is_python_space(code)) break;
    }
    for (size_t step; begin < n; begin += step) {
        step = utf8_next(text + begin, n - begin, &code);
        if (!is_python_space(code)) break;
    }
    memmove(text, text + begin, n - begin);
    text[n - begin] = '\0';
    return n - begin;
}
