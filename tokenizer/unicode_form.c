#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

/* ---- NFC ------------------------------------------------------------------------------------------------
 * Upstream's (tokenizers 0.23: the crate unicode-normalization-alignments) knows Unicode 9. Marks that
 * came later are of combining class 0 to it: no other mark moves over them; and the one pair that
 * later versions compose (U+11935 U+11930, Unicode 13) stays a pair. utf8proc 2.8 knows Unicode 15. With
 * class 0 and no composition such a character divides the text, so each side is composed for
 * itself. What Unicode 15.1 and 16 added divides too, for the day that utf8proc knows it. */
static const struct {
    int32_t first, last;
} new_to_upstream[] = {
    {0x07FD, 0x07FD},   {0x0898, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},
    {0x0C3C, 0x0C3C},   {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x10D24, 0x10D27},
    {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85},
    {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11930, 0x11930}, {0x11935, 0x11935}, {0x1193D, 0x1193E}, {0x11943, 0x11943},
    {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99},
    {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}};

static bool divides(int32_t code) {
    if (code < 0x300) return false;
    for (size_t i = 0; i < sizeof new_to_upstream / sizeof *new_to_upstream; i++)
        if (code >= new_to_upstream[i].first && code <= new_to_upstream[i].last) return true;
    return kind_since_15(code) != 0;
}

/* Appends the NFC of a part to out + *n. */
static bool compose(const char *s, size_t length, char *out, size_t *n) {
    if (length == 0) return true;
    utf8proc_uint8_t *part = NULL;
    utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)length,
                                         &part, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (size < 0) return false;
    memcpy(out + *n, part, (size_t)size);
    *n += (size_t)size;
    free(part);
    return true;
}

char *utf8_nfc(const char *s, size_t length, size_t *composed) {
    if (length > PTRDIFF_MAX / 32) return NULL; /* utf8proc needs 4 bytes for each of 3 and more */
    char *out =
        malloc(3 * length + 1); /* UAX #15, section 9: NFC in UTF-8 grows at most threefold */
    size_t n = 0, begin = 0;
    bool fine = out != NULL;
    for (size_t at = 0; fine && at < length;) {
        int32_t code;
        size_t step = utf8_next(s + at, length - at, &code);
        if (divides(code)) {
            fine = compose(s + begin, at - begin, out, &n);
            memcpy(out + n, s + at, step);
            n += step;
            begin = at + step;
        }
        at += step;
    }
    if (!fine || !compose(s + begin, length - begin, out, &n)) {
        free(out);
        return NULL;
    }
    out[n] = '\0';
    *composed = n;
    return out;
}

/* ---- Lower case -------------------------------------------------------------------------------------------
 * Upstream's is Rust's char::to_lowercase of Unicode 17. It differs from utf8proc 2.8 (Unicode 15) in
 * the 55 letters below, which Unicode 16 and 17 added or gave a lower case, and in U+0130, I with a
 * dot, the only character whose lower case is two. */
static const struct {
    int32_t first, last, by; /* by: what is added */
} lower_since_15[] = {
    {0x1C89, 0x1C89, 1},    {0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
    {0xA7CC, 0xA7CC, 1},    {0xA7CE, 0xA7CE, 1},
    {0xA7D2, 0xA7D2, 1},    {0xA7D4, 0xA7D4, 1},
    {0xA7DA, 0xA7DA, 1},    {0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
    {0x10D50, 0x10D65, 32}, {0x16EA0, 0x16EB8, 27},
};

size_t utf8_put_lower(int32_t code, char out[4]) {
    if (code == 0x130) {
        memcpy(out, "i\xCC\x87", 3);
        return 3;
    }
    for (size_t i = 0; i < sizeof lower_since_15 / sizeof *lower_since_15; i++)
        if (code >= lower_since_15[i].first && code <= lower_since_15[i].last)
            return utf8_put(code + lower_since_15[i].by, out);
    return utf8_put(utf8proc_tolower(code), out);
}
