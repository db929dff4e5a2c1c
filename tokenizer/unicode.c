#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

/* ---- UTF-8 (Unicode, table 3-7: well-formed byte sequences) ----------------------------------- */

size_t utf8_next(const char *s, size_t length, int32_t *code) {
    const unsigned char *p = (const unsigned char *)s;
    unsigned char lead = p[0], low = 0x80, high = 0xBF; /* the range of the second byte */
    if (lead < 0x80) {
        *code = lead;
        return 1;
    }
    size_t more;
    int32_t c;
    *code = -1;
    if (lead >= 0xC2 && lead <= 0xDF) {
        more = 1;
        c = lead & 0x1F;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        more = 2;
        c = lead & 0x0F;
        if (lead == 0xE0) low = 0xA0;  /* below: overlong */
        if (lead == 0xED) high = 0x9F; /* above: surrogates */
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        more = 3;
        c = lead & 0x07;
        if (lead == 0xF0) low = 0x90;  /* below: overlong */
        if (lead == 0xF4) high = 0x8F; /* above: beyond U+10FFFF */
    } else {
        return 1; /* a stray continuation byte, or a byte that no character has */
    }
    for (size_t i = 1; i <= more; i++) {
        if (i >= length || p[i] < low || p[i] > high) return i; /* the maximal subpart */
        c = c << 6 | (p[i] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *code = c;
    return more + 1;
}

size_t utf8_last(const char *s, size_t length, int32_t *code) {
    size_t begin = length - 1;
    while (begin > 0 && ((unsigned char)s[begin] & 0xC0) == 0x80) begin--;
    return utf8_next(s + begin, length - begin, code);
}

size_t utf8_put(int32_t code, char out[4]) {
    return (size_t)utf8proc_encode_char(code, (utf8proc_uint8_t *)out);
}

size_t utf8_prefix(const char *s, size_t length) {
    size_t at = 0;
    while (at < length) {
        int32_t code;
        size_t n = utf8_next(s + at, length - at, &code);
        if (code < 0) break;
        at += n;
    }
    return at;
}

char *utf8_repair(const char *s, size_t length, size_t *repaired) {
    if (length > (SIZE_MAX - 1) / 3) return NULL;
    char *out = malloc(3 * length + 1); /* at worst every byte becomes EF BF BD */
    if (!out) return NULL;
    size_t n = 0;
    for (size_t at = 0; at < length;) {
        int32_t code;
        size_t step = utf8_next(s + at, length - at, &code);
        if (code >= 0) {
            memcpy(out + n, s + at, step);
            n += step;
        } else {
            n += utf8_put(0xFFFD, out + n);
        }
        at += step;
    }
    out[n] = '\0';
    *repaired = n;
    return out;
}

/* ---- Classes --------------------------------------------------------------------------------------
 * Upstream (tokenizers 0.23: Oniguruma for the pattern, the regex crate for \w and \s) knows
 * Unicode 16.0; Debian's utf8proc 2.8 knows 15.0. Compared over all code points, they differ in
 * exactly the letters, digits and marks below, which 15.1 and 16.0 added: with this table every
 * code point is classified as upstream does (tests/test_tokenizer.c compares them all). A utf8proc
 * of Unicode 17 or later would know letters that upstream does not; that is the only difference
 * left to come. */
static const struct {
    int32_t first, last;
    char kind; /* L, N or M */
} added_since_15[] = {
    {0x0897, 0x0897, 'M'},   {0x1C89, 0x1C8A, 'L'},   {0xA7CB, 0xA7CD, 'L'},
    {0xA7DA, 0xA7DC, 'L'},   {0x105C0, 0x105F3, 'L'}, {0x10D40, 0x10D49, 'N'},
    {0x10D4A, 0x10D65, 'L'}, {0x10D69, 0x10D6D, 'M'}, {0x10D6F, 0x10D85, 'L'},
    {0x10EC2, 0x10EC4, 'L'}, {0x10EFC, 0x10EFC, 'M'}, {0x11380, 0x11389, 'L'},
    {0x1138B, 0x1138B, 'L'}, {0x1138E, 0x1138E, 'L'}, {0x11390, 0x113B5, 'L'},
    {0x113B7, 0x113B7, 'L'}, {0x113B8, 0x113C0, 'M'}, {0x113C2, 0x113C2, 'M'},
    {0x113C5, 0x113C5, 'M'}, {0x113C7, 0x113CA, 'M'}, {0x113CC, 0x113D0, 'M'},
    {0x113D1, 0x113D1, 'L'}, {0x113D2, 0x113D2, 'M'}, {0x113D3, 0x113D3, 'L'},
    {0x113E1, 0x113E2, 'M'}, {0x116D0, 0x116E3, 'N'}, {0x11BC0, 0x11BE0, 'L'},
    {0x11BF0, 0x11BF9, 'N'}, {0x11F5A, 0x11F5A, 'M'}, {0x13460, 0x143FA, 'L'},
    {0x16100, 0x1611D, 'L'}, {0x1611E, 0x1612F, 'M'}, {0x16130, 0x16139, 'N'},
    {0x16D40, 0x16D6C, 'L'}, {0x16D70, 0x16D79, 'N'}, {0x18CFF, 0x18CFF, 'L'},
    {0x1CCF0, 0x1CCF9, 'N'}, {0x1E5D0, 0x1E5ED, 'L'}, {0x1E5EE, 0x1E5EF, 'M'},
    {0x1E5F0, 0x1E5F0, 'L'}, {0x1E5F1, 0x1E5FA, 'N'}, {0x2EBF0, 0x2EE5D, 'L'},
};

char kind_since_15(int32_t code) {
    for (size_t i = 0; i < sizeof added_since_15 / sizeof *added_since_15; i++)
        if (code >= added_since_15[i].first && code <= added_since_15[i].last)
            return added_since_15[i].kind;
    return 0;
}

/* White_Space of Unicode's PropList.txt, unchanged since 6.3. It is not a matter of categories:
 * TAB is Cc, and ZERO WIDTH SPACE (Cf) is none. */
static bool is_space(int32_t c) {
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

CharClass char_class(int32_t code) {
    if (is_space(code)) return SPACE;
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return NUMBER;
    case UTF8PROC_CATEGORY_CN: {
        char kind = kind_since_15(code);
        return kind == 'L' ? LETTER : kind == 'N' ? NUMBER : OTHER;
    }
    default: return OTHER;
    }
}

/* UTS #18, annex C: \p{Alphabetic} \p{M} \p{Nd} \p{Pc} \p{Join_Control}. Alphabetic is L and Nl,
 * some marks (all in M anyway), and the letters in circles and squares, which are symbols (So). */
bool is_word_char(int32_t code) {
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    case UTF8PROC_CATEGORY_SO:
        return (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) ||
               (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189);
    case UTF8PROC_CATEGORY_CF: return code == 0x200C || code == 0x200D;
    case UTF8PROC_CATEGORY_CN: return kind_since_15(code) != 0;
    default: return false;
    }
}
