#include "tokenizer/bytebpe.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

/* ---- The alphabet ---------------------------------------------------------------------------------
 * openai/gpt-2, bytes_to_unicode(): the bytes that Latin-1 prints, '!'..'~', 0xA1..0xAC and
 * 0xAE..0xFF, are their own letters; the 68 others are U+0100, U+0101, ... in their order. */
static bool prints(int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

static void make_alphabet(ByteBpe *b) {
    for (int i = 0; i < BYTE_LETTERS; i++) b->byte_of[i] = -1;
    int next = 0x100;
    for (int byte = 0; byte < 256; byte++) {
        int letter = prints(byte) ? byte : next++;
        b->letter_of[byte] = (int16_t)letter;
        b->byte_of[letter] = (int16_t)byte;
    }
}

/* ---- Merges --------------------------------------------------------------------------------------- */

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The slot that holds the pair, or the free one where it belongs. */
static Merge *find_merge(const ByteBpe *b, int32_t left, int32_t right) {
    uint64_t pair = pair_of(left, right);
    uint64_t h = pair * 0x9E3779B97F4A7C15u; /* Fibonacci hashing: the high bits are well mixed */
    size_t at = (size_t)(h >> 32) & (b->slots - 1);
    while (b->slot[at].id >= 0 && b->slot[at].pair != pair) at = (at + 1) & (b->slots - 1);
    return &b->slot[at];
}

int bytebpe_init(ByteBpe *b, const Pieces *pieces, size_t merges, const char *file, Error *err) {
    *b = (ByteBpe){0};
    make_alphabet(b);
    for (int byte = 0; byte < 256; byte++) {
        char letter[5] = {0};
        size_t n = utf8_put(b->letter_of[byte], letter);
        b->byte_id[byte] = pieces_find(pieces, letter, n);
        if (b->byte_id[byte] < 0)
            return fail(err,
                        "%s: expected a piece for each of the 256 bytes, found none for 0x%02X "
                        "(\"%s\")",
                        file, (unsigned)byte, letter);
    }
    if (merges > INT32_MAX) return fail(err, "%s: %zu merges are too many", file, merges);
    b->slots = 2;
    while (b->slots < 2 * merges) b->slots *= 2;
    b->slot = malloc(b->slots * sizeof *b->slot);
    if (!b->slot) return fail(err, "%s: no memory for %zu merges", file, merges);
    for (size_t i = 0; i < b->slots; i++) b->slot[i] = (Merge){.id = -1};
    return 0;
}

static int unknown_piece(const char *file, const char *entry, size_t number, const char *piece,
                         size_t length, Error *err) {
    return fail(err, "%s: %s %zu: expected pieces of the vocabulary, found \"%.*s\", which is none",
                file, entry, number, length > 200 ? 200 : (int)length, piece);
}

int bytebpe_merge(ByteBpe *b, const Pieces *pieces, int32_t rank, const char *left,
                  size_t left_length, const char *right, size_t right_length, const char *file,
                  const char *entry, size_t number, Error *err) {
    int32_t left_id = pieces_find(pieces, left, left_length);
    if (left_id < 0) return unknown_piece(file, entry, number, left, left_length, err);
    int32_t right_id = pieces_find(pieces, right, right_length);
    if (right_id < 0) return unknown_piece(file, entry, number, right, right_length, err);
    char *joined = malloc(left_length + right_length + 1);
    if (!joined) return fail(err, "%s: no memory", file);
    memcpy(joined, left, left_length);
    memcpy(joined + left_length, right, right_length);
    int32_t id = pieces_find(pieces, joined, left_length + right_length);
    if (id < 0) unknown_piece(file, entry, number, joined, left_length + right_length, err);
    free(joined);
    if (id < 0) return -1;
    *find_merge(b, left_id, right_id) = (Merge){pair_of(left_id, right_id), rank, id};
    return 0;
}

void bytebpe_free(ByteBpe *b) { free(b->slot); }

/* ---- One word ---------------------------------------------------------------------------------------
 * Of all neighbours that a merge joins, the pair of lowest rank, and of those the leftmost, is
 * joined until none is left. The symbols are a linked list and the pairs wait in a heap, so that a
 * word of n bytes takes O(n log n); searching the list for every merge would take O(n^2). */

#define NONE SIZE_MAX

typedef struct Symbol {
    int32_t id; /* -1: it went into its left neighbour */
    size_t prev, next;
} Symbol;

/* symbol[at] and its right neighbour may be joined to `id`. */
typedef struct Candidate {
    size_t at;
    int32_t rank, id;
} Candidate;

static bool before(Candidate a, Candidate b) {
    return a.rank < b.rank || (a.rank == b.rank && a.at < b.at);
}

static void heap_push(Candidate *heap, size_t *count, Candidate c) {
    size_t i = (*count)++;
    for (; i > 0 && before(c, heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = c;
}

static Candidate heap_pop(Candidate *heap, size_t *count) {
    Candidate top = heap[0], last = heap[--*count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *count; i = child) {
        if (child + 1 < *count && before(heap[child + 1], heap[child])) child++;
        if (!before(heap[child], last)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* Queues symbol[at] and its right neighbour if a merge joins them. */
static void consider(const ByteBpe *b, const Symbol *symbol, size_t at, Candidate *heap,
                     size_t *count) {
    if (at == NONE || symbol[at].next == NONE) return;
    const Merge *m = find_merge(b, symbol[at].id, symbol[symbol[at].next].id);
    if (m->id >= 0) heap_push(heap, count, (Candidate){at, m->rank, m->id});
}

static int reserve_scratch(BpeScratch *s, size_t length, Error *err) {
    if (length <= s->reserve) return 0;
    if (length > SIZE_MAX / (4 * sizeof(Candidate)))
        return fail(err, "no memory for a word of %zu bytes", length);
    size_t reserve = length < 64 ? 64 : length;
    bpe_scratch_free(s);
    s->symbol = malloc(reserve * sizeof *s->symbol);
    /* n - 1 pairs at first, and each of at most n - 1 merges puts two new ones in for the one that
     * it takes out */
    s->heap = malloc(2 * reserve * sizeof *s->heap);
    s->letters = malloc(2 * reserve); /* a letter is below U+0800 */
    if (!s->symbol || !s->heap || !s->letters)
        return fail(err, "no memory for a word of %zu bytes", length);
    s->reserve = reserve;
    return 0;
}

/* ignore_merges: the id of the word if it is a piece of the model as it stands, else -1. Added tokens
 * don't count: one with single_word may stand inside a word, and is not that word's piece. */
static int32_t whole_word(const ByteBpe *b, const Pieces *pieces, const char *word, size_t length,
                          char *letters) {
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        char letter[4];
        size_t bytes = utf8_put(b->letter_of[(unsigned char)word[i]], letter);
        memcpy(letters + n, letter, bytes);
        n += bytes;
    }
    int32_t id = pieces_find(pieces, letters, n);
    return id >= 0 && pieces->of_model[id] ? id : -1;
}

int bytebpe_word(const ByteBpe *b, const Pieces *pieces, const char *word, size_t length,
                 BpeScratch *scratch, IdList *out, Error *err) {
    if (reserve_scratch(scratch, length, err)) return -1;
    if (b->ignore_merges) {
        int32_t id = whole_word(b, pieces, word, length, scratch->letters);
        if (id >= 0) return idlist_push(out, id, err);
    }
    Symbol *symbol = scratch->symbol;
    Candidate *heap = scratch->heap;
    size_t waiting = 0;
    for (size_t i = 0; i < length; i++)
        symbol[i] = (Symbol){b->byte_id[(unsigned char)word[i]], i > 0 ? i - 1 : NONE,
                             i + 1 < length ? i + 1 : NONE};
    for (size_t i = 0; i < length; i++) consider(b, symbol, i, heap, &waiting);

    while (waiting > 0) {
        Candidate c = heap_pop(heap, &waiting);
        Symbol *left = &symbol[c.at];
        if (left->id < 0 || left->next == NONE) continue; /* a merge took it meanwhile, */
        Symbol *right = &symbol[left->next];
        if (find_merge(b, left->id, right->id)->id != c.id) continue; /* or its neighbour */
        left->id = c.id;
        right->id = -1;
        left->next = right->next;
        if (left->next != NONE) symbol[left->next].prev = c.at;
        consider(b, symbol, left->prev, heap, &waiting);
        consider(b, symbol, c.at, heap, &waiting);
    }

    for (size_t i = 0; i != NONE; i = symbol[i].next)
        if (idlist_push(out, symbol[i].id, err)) return -1;
    return 0;
}

void bpe_scratch_free(BpeScratch *s) {
    free(s->symbol);
    free(s->heap);
    free(s->letters);
    *s = (BpeScratch){0};
}
