/* Memory for activations: allocate by moving a pointer, free by moving it back.
 *
 *     ArenaMark mark = arena_mark(&a);
 *     real *scratch = arena_alloc(&a, bytes);      // 64-byte aligned, uninitialised
 *     arena_release(&a, mark);                     // everything allocated since is gone
 *
 * Blocks are kept for reuse, so that a long run faults its pages in once.
 *
 * arena_pin keeps everything that is allocated at that moment: releasing to an older mark then goes
 * down to the pin only. This is how a tape (tensor/tape.h) holds on to what its backward will read,
 * with no change to the scopes that the models are written in. */
#ifndef LLMDIFF_ARENA_H
#define LLMDIFF_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#define ARENA_ALIGN 64

typedef struct ArenaBlock {
    struct ArenaBlock *next;
    unsigned char *data; /* aligned; `size` bytes */
    size_t size, used;
} ArenaBlock;

typedef struct ArenaMark {
    ArenaBlock *block;
    size_t used, in_use;
} ArenaMark;

typedef struct Arena {
    ArenaBlock *first, *current;
    size_t in_use; /* bytes handed out now, rounded to the alignment */
    size_t peak;   /* the most that was ever in use */
    ArenaMark pin; /* nothing below is released; all zero: no pin */
} Arena;

/* NULL when the system has no more memory (or `bytes` overflows). */
void *arena_alloc(Arena *arena, size_t bytes);
ArenaMark arena_mark(const Arena *arena);
void arena_release(Arena *arena, ArenaMark mark);
/* Releases to `mark` but keeps `bytes` at `keep` (allocated after the mark): moved down to the mark.
 * Returns its new place. */
void *arena_release_keeping(Arena *arena, ArenaMark mark, const void *keep, size_t bytes);
/* Pins all that is allocated now; returns the pin before, for arena_unpin. */
ArenaMark arena_pin(Arena *arena);
void arena_unpin(Arena *arena, ArenaMark before);
/* Does p lie below the pin? */
bool arena_pinned(const Arena *arena, const void *p);
void arena_free(Arena *arena);

#endif
