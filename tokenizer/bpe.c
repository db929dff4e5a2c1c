#include "tokenizer/bpe.h"

#include <stdlib.h>
#include <string.h>

/* ---- Merges --------------------------------------------------------------------------------------- */

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The slot that holds the pair, or the free one where it belongs. */
static Merge *find_merge(const Bpe *b, int32_t left, int32_t right) {
    uint64_t pair = pair_of(left, right);
    uint64_t h = pair * 0x9E3779B97F4A7C15u; /* Fibonacci hashing: the high bits are well mixed */
    size_t at = (size_t)(h >> 32) & (b->slots - 1);
    while (b->slot[at].id >= 0 && b->slot[at].pair != pair) at = (at + 1) & (b->slots - 1);
    return &b->slot[at];
}

int bpe_init(Bpe *b, size_t merges, const char *file, Error *err) {
    *b = (Bpe){0};
    if (merges > INT32_MAX) return fail(err, "%s: %zu merges are too many", file, merges);
    b->slots = 2;
    while (b->slots < 2 * merges) b->slots *= 2;
    b->slot = malloc(b->slots * sizeof *b->slot);
    if (!b->slot) return fail(err, "%s: out of memory for %zu merges", file, merges);
    for (size_t i = 0; i < b->slots; i++) b->slot[i] = (Merge){.id = -1};
    return 0;
}

void bpe_add(Bpe *b, int32_t left, int32_t right, int32_t rank, int32_t id) {
    *find_merge(b, left, right) = (Merge){pair_of(left, right), rank, id};
}

static int unknown_piece(const char *file, const char *entry, size_t number, const char *piece,
                         size_t length, Error *err) {
    return fail(err, "%s: %s %zu: expected pieces of the vocabulary, found \"%.*s\", which is none",
                file, entry, number, length > 200 ? 200 : (int)length, piece);
}

int bpe_add_pieces(Bpe *b, const Pieces *pieces, int32_t rank, const char *left, size_t left_length,
                   const char *right, size_t right_length, const char *file, const char *entry,
                   size_t number, Error *err) {
    int32_t left_id = pieces_find(pieces, left, left_length);
    if (left_id < 0) return unknown_piece(file, entry, number, left, left_length, err);
    int32_t right_id = pieces_find(pieces, right, right_length);
    if (right_id < 0) return unknown_piece(file, entry, number, right, right_length, err);
    char *joined = malloc(left_length + right_length + 1);
    if (!joined) return fail(err, "%s: out of memory", file);
    memcpy(joined, left, left_length);
    memcpy(joined + left_length, right, right_length);
    int32_t id = pieces_find(pieces, joined, left_length + right_length);
    if (id < 0) unknown_piece(file, entry, number, joined, left_length + right_length, err);
    free(joined);
    if (id < 0) return -1;
    bpe_add(b, left_id, right_id, rank, id);
    return 0;
}

void bpe_free(Bpe *b) { free(b->slot); }

/* ---- One word ---------------------------------------------------------------------------------------
 * Of all neighbours that a merge joins, the pair of lowest rank, and of those the leftmost, is
 * joined until none is left. The symbols are a linked list and the pairs wait in a heap, so that a
 * word of n symbols takes O(n log n); searching the list for every merge would take O(n^2). */

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
static void consider(const Bpe *b, const Symbol *symbol, size_t at, Candidate *heap,
                     size_t *count) {
    if (at == NONE || symbol[at].next == NONE) return;
    const Merge *m = find_merge(b, symbol[at].id, symbol[symbol[at].next].id);
    if (m->id >= 0) heap_push(heap, count, (Candidate){at, m->rank, m->id});
}

int bpe_reserve(BpeScratch *s, size_t symbols, Error *err) {
    if (symbols <= s->reserve) return 0;
    if (symbols > SIZE_MAX / (4 * sizeof(Candidate)))
        return fail(err, "out of memory for a word of %zu symbols", symbols);
    size_t reserve = symbols < 64 ? 64 : symbols;
    bpe_scratch_free(s);
    s->id = malloc(reserve * sizeof *s->id);
    s->symbol = malloc(reserve * sizeof *s->symbol);
    /* n - 1 pairs at first, and each of at most n - 1 merges puts two new ones in for the one that
     * it takes out */
    s->heap = malloc(2 * reserve * sizeof *s->heap);
    if (!s->id || !s->symbol || !s->heap)
        return fail(err, "out of memory for a word of %zu symbols", symbols);
    s->reserve = reserve;
    return 0;
}

int bpe_join(const Bpe *b, BpeScratch *scratch, size_t symbols, IdList *out, Error *err) {
    Symbol *symbol = scratch->symbol;
    Candidate *heap = scratch->heap;
    size_t waiting = 0;
    for (size_t i = 0; i < symbols; i++)
        symbol[i] = (Symbol){scratch->id[i], i > 0 ? i - 1 : NONE, i + 1 < symbols ? i + 1 : NONE};
    for (size_t i = 0; i < symbols; i++) consider(b, symbol, i, heap, &waiting);

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

    for (size_t i = symbols > 0 ? 0 : NONE; i != NONE; i = symbol[i].next)
        if (idlist_push(out, symbol[i].id, err)) return -1;
    return 0;
}

void bpe_scratch_free(BpeScratch *s) {
    free(s->id);
    free(s->symbol);
    free(s->heap);
    *s = (BpeScratch){0};
}
