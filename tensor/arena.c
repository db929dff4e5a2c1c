/* A chain of blocks with one moving end: see arena.h. Under AddressSanitizer released memory is
 * poisoned and allocations are kept apart, so that a stale pointer or an overrun is reported. */
#include "tensor/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#    include <sanitizer/asan_interface.h>
#    define POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#    define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#    define RED_ZONE ((size_t)ARENA_ALIGN)
#else
#    define POISON(p, n) ((void)(p), (void)(n))
#    define UNPOISON(p, n) ((void)(p), (void)(n))
#    define RED_ZONE ((size_t)0)
#endif

#define FIRST_BLOCK ((size_t)16 << 20)

static ArenaBlock *block_new(size_t size) {
    ArenaBlock *b = malloc(sizeof *b);
    if (!b) return NULL;
    b->data = aligned_alloc(ARENA_ALIGN, size);
    if (!b->data) {
        free(b);
        return NULL;
    }
    b->next = NULL;
    b->size = size;
    b->used = 0;
    POISON(b->data, size);
    return b;
}

void *arena_alloc(Arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX / 2) return NULL;
    size_t need = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN + RED_ZONE;
    if (need == 0) need = ARENA_ALIGN;
    ArenaBlock *b = arena->current;
    while (b && b->size - b->used < need && b->next) b = b->next;
    if (!b || b->size - b->used < need) {
        size_t size = b ? 2 * b->size : FIRST_BLOCK;
        if (size > ((size_t)256 << 20)) size = (size_t)256 << 20;
        if (size < need) size = need;
        ArenaBlock *fresh = block_new(size);
        if (!fresh) return NULL;
        if (b)
            b->next = fresh;
        else
            arena->first = fresh;
        b = fresh;
    }
    void *p = b->data + b->used;
    b->used += need;
    arena->current = b;
    arena->in_use += need;
    if (arena->in_use > arena->peak) arena->peak = arena->in_use;
    UNPOISON(p, bytes);
    return p;
}

ArenaMark arena_mark(const Arena *arena) {
    ArenaBlock *b = arena->current;
    return (ArenaMark){b, b ? b->used : 0, arena->in_use};
}

static void rewind_to(Arena *arena, ArenaMark mark) {
    if (mark.in_use < arena->pin.in_use) mark = arena->pin;
    ArenaBlock *b = mark.block ? mark.block : arena->first;
    arena->current = b;
    arena->in_use = mark.in_use;
    if (!b) return;
    b->used = mark.used;
    for (ArenaBlock *later = b->next; later; later = later->next) later->used = 0;
}

static void poison_free(Arena *arena) {
    for (ArenaBlock *b = arena->current; b; b = b->next)
        POISON(b->data + b->used, b->size - b->used);
}

void arena_release(Arena *arena, ArenaMark mark) {
    rewind_to(arena, mark);
    poison_free(arena);
}

void *arena_release_keeping(Arena *arena, ArenaMark mark, const void *keep, size_t bytes) {
    rewind_to(arena, mark);
    /* The kept bytes fit where they were, at the latest, so this allocation takes no new block. */
    void *to = arena_alloc(arena, bytes);
    memmove(to, keep, bytes);
    POISON((unsigned char *)to + bytes,
           (size_t)(arena->current->data + arena->current->used - ((unsigned char *)to + bytes)));
    poison_free(arena);
    return to;
}

ArenaMark arena_pin(Arena *arena) {
    ArenaMark before = arena->pin;
    arena->pin = arena_mark(arena);
    return before;
}

void arena_unpin(Arena *arena, ArenaMark before) { arena->pin = before; }

bool arena_pinned(const Arena *arena, const void *p) {
    if (arena->pin.in_use == 0) return false;
    for (const ArenaBlock *b = arena->first; b; b = b->next) {
        const size_t kept = b == arena->pin.block ? arena->pin.used : b->size;
        if ((uintptr_t)p - (uintptr_t)b->data < kept) return true;
        if (b == arena->pin.block) return false;
    }
    return false;
}

void arena_free(Arena *arena) {
    for (ArenaBlock *b = arena->first, *next; b; b = next) {
        next = b->next;
        UNPOISON(b->data, b->size);
        free(b->data);
        free(b);
    }
    *arena = (Arena){0};
}
