#include "tokenizer/pieces.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a */
static uint64_t hash(const char *s, size_t length) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < length; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001B3u;
    return h ^ h >> 32;
}

/* The slot that holds the piece, or the free one where it belongs. slots > 0. */
static size_t find_slot(const Pieces *p, const char *text, size_t length) {
    size_t at = (size_t)hash(text, length) & (p->slots - 1);
    for (; p->slot[at] >= 0; at = (at + 1) & (p->slots - 1)) {
        const char *other = p->text[p->slot[at]];
        if (strncmp(other, text, length) == 0 && other[length] == '\0') break;
    }
    return at;
}

int32_t pieces_find(const Pieces *p, const char *text, size_t length) {
    if (p->slots == 0 || memchr(text, '\0', length)) return -1;
    return p->slot[find_slot(p, text, length)];
}

static int grow_slots(Pieces *p, Error *err) {
    size_t slots = p->slots ? 2 * p->slots : 1024;
    int32_t *slot = malloc(slots * sizeof *slot);
    if (!slot) return fail(err, "out of memory for a vocabulary of %zu pieces", p->count);
    for (size_t i = 0; i < slots; i++) slot[i] = -1;
    free(p->slot);
    p->slot = slot;
    p->slots = slots;
    for (int32_t id = 0; id < p->size; id++)
        if (p->text[id]) p->slot[find_slot(p, p->text[id], strlen(p->text[id]))] = id;
    return 0;
}

static int reserve_ids(Pieces *p, int32_t id, Error *err) {
    size_t needed = (size_t)id + 1;
    if (needed <= p->reserve) return 0;
    size_t reserve = needed > 2 * p->reserve ? needed : 2 * p->reserve;
    char **text = realloc(p->text, reserve * sizeof *text);
    if (text) p->text = text;
    bool *of_model = text ? realloc(p->of_model, reserve * sizeof *of_model) : NULL;
    if (of_model) p->of_model = of_model;
    if (!of_model) return fail(err, "out of memory for a vocabulary of ids up to %d", (int)id);
    for (size_t i = p->reserve; i < reserve; i++) {
        text[i] = NULL;
        of_model[i] = false;
    }
    p->reserve = reserve;
    return 0;
}

int pieces_add(Pieces *p, const char *text, int32_t id, bool of_model, const char *file,
               Error *err) {
    size_t length = strlen(text);
    int32_t other = pieces_find(p, text, length);
    if (other >= 0)
        return fail(err, "%s: expected every piece once, found \"%s\" with the ids %d and %d", file,
                    text, (int)other, (int)id);
    if (id < p->size && p->text[id])
        return fail(err, "%s: expected every id once, found %d for \"%s\" and for \"%s\"", file,
                    (int)id, p->text[id], text);
    if (2 * (p->count + 1) > p->slots && grow_slots(p, err)) return -1;
    if (reserve_ids(p, id, err)) return -1;
    char *copy = malloc(length + 1);
    if (!copy) return fail(err, "out of memory for a piece of %zu bytes", length);
    memcpy(copy, text, length + 1);
    p->text[id] = copy;
    p->of_model[id] = of_model;
    p->count++;
    if (id >= p->size) p->size = id + 1;
    p->slot[find_slot(p, text, length)] = id;
    return 0;
}

void pieces_free(Pieces *p) {
    for (int32_t id = 0; id < p->size; id++) free(p->text[id]);
    free(p->text);
    free(p->of_model);
    free(p->slot);
    *p = (Pieces){0};
}
