#include "tokenizer/bytebpe.h"
#include "tokenizer/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* openai/gpt-2, bytes_to_unicode(): the bytes that Latin-1 prints, '!'..'~', 0xA1..0xAC and
 * 0xAE..0xFF, are their own letters; the 68 others are U+0100, U+0101, ... in their order. */
static bool prints(int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

static void make_alphabet(ByteLetters *l) {
    for (int i = 0; i < BYTE_LETTERS; i++) l->byte_of[i] = -1;
    int next = 0x100;
    for (int byte = 0; byte < 256; byte++) {
        int letter = prints(byte) ? byte : next++;
        l->letter_of[byte] = (int16_t)letter;
        l->byte_of[letter] = (int16_t)byte;
    }
}

static int find_letter(const Pieces *pieces, const char *letter, int byte, int32_t unknown,
                       int32_t *id, const char *file, Error *err) {
    *id = pieces_find(pieces, letter, strlen(letter));
    if (*id >= 0) return 0;
    *id = unknown;
    if (unknown >= 0) return 0;
    return fail(err,
                "%s: expected a piece for each of the 256 bytes, found none for 0x%02X (\"%s\")",
                file, (unsigned)byte, letter);
}

int letters_init(ByteLetters *l, const Pieces *pieces, const char *suffix, int32_t unknown,
                 const char *file, Error *err) {
    make_alphabet(l);
    for (int byte = 0; byte < 256; byte++) {
        char letter[5] = {0}, last[16];
        utf8_put(l->letter_of[byte], letter);
        snprintf(last, sizeof last, "%s%s", letter, suffix);
        if (find_letter(pieces, letter, byte, unknown, &l->id[byte], file, err) ||
            find_letter(pieces, last, byte, unknown, &l->last_id[byte], file, err))
            return -1;
    }
    return 0;
}

char *letters_of(const ByteLetters *l, const char *word, size_t length, size_t *letters_length,
                 Error *err) {
    char *letters = length < SIZE_MAX / 2 ? malloc(2 * length + 1) : NULL; /* each below U+0800 */
    if (!letters) {
        fail(err, "out of memory for a word of %zu bytes", length);
        return NULL;
    }
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        char letter[4];
        size_t bytes = utf8_put(l->letter_of[(unsigned char)word[i]], letter);
        memcpy(letters + n, letter, bytes);
        n += bytes;
    }
    letters[n] = '\0';
    *letters_length = n;
    return letters;
}

int letters_word(const ByteLetters *l, const Bpe *b, const char *word, size_t length,
                 BpeScratch *scratch, IdList *out, Error *err) {
    if (bpe_reserve(scratch, length, err)) return -1;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)word[i];
        scratch->id[i] = i + 1 < length ? l->id[byte] : l->last_id[byte];
    }
    return bpe_join(b, scratch, length, out, err);
}

/* Upstream's ByteLevel decoder decides piece by piece: if every character is a letter of the byte
 * alphabet, they are bytes, otherwise the piece stands for itself. That goes for added tokens too:
 * "  " stays two spaces, as a space is no letter, while an added token "é" would come out as the
 * byte 0xE9. */
size_t letters_bytes(const ByteLetters *l, const char *piece, char *out) {
    size_t length = strlen(piece), n = 0;
    for (size_t at = 0; at < length;) {
        int32_t code;
        at += utf8_next(piece + at, length - at, &code);
        if (code < 0 || code >= BYTE_LETTERS || l->byte_of[code] < 0) {
            memcpy(out, piece, length);
            return length;
        }
        out[n++] = (char)l->byte_of[code];
    }
    return n;
}
