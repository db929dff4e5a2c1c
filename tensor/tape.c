/* Recording and walking: see tape.h. */
#include "tensor/tape.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define REHEARSED INT64_MAX /* will be a variable, once its segment is recorded */

static bool out_of_memory(Context *ctx, size_t bytes, const char *what) {
    fail(&ctx->error,
         "out of memory: %zu bytes wanted for %s, %zu in use for activations, %zu for gradients",
         bytes, what, ctx->arena.in_use, ctx->tape->in_use);
    return false;
}

static size_t gradient_bytes(const TapeNode *n) {
    return (size_t)tensor_numel(n->y) * sizeof(real);
}

static void release_gradient(Tape *tape, TapeNode *n) {
    if (!n->dy || n->lent) return;
    tape->in_use -= gradient_bytes(n);
    free(n->dy);
    n->dy = NULL;
}

/* ---- recording ----------------------------------------------------------------------------------- */

/* Everything that the node refers to is in the arena by now: the pin moves above it. */
static Tensor push(Context *ctx, TapeNode n) {
    Tape *tape = ctx->tape;
    assert(!ctx->forcing); /* a forced value isn't what its node computed */
    if (tape->count == tape->capacity) {
        const int64_t capacity = tape->capacity ? 2 * tape->capacity : 256;
        const size_t bytes = (size_t)capacity * sizeof *tape->node;
        TapeNode *grown = realloc(tape->node, bytes);
        if (!grown) return out_of_memory(ctx, bytes, "the tape"), (Tensor){0};
        tape->node = grown;
        tape->capacity = capacity;
    }
    const ArenaMark before = arena_pin(&ctx->arena);
    if (!tape->pinned) tape->pin = before;
    tape->pinned = true;
    tape->node[tape->count++] = n;
    n.y.var = tape->walked + tape->count;
    n.y.at = 0;
    return n.y;
}

static Tensor rehearsed(Tensor y) {
    y.var = REHEARSED;
    y.at = 0;
    return y;
}

static void *keep(Context *ctx, const void *what, size_t size) {
    void *kept = arena_alloc(&ctx->arena, size);
    if (!kept) return out_of_memory(ctx, size, "the tape"), NULL;
    return size ? memcpy(kept, what, size) : kept;
}

Tensor tape_record(Context *ctx, Tensor y, TapeBackward *backward, const void *call, size_t size) {
    if (ctx->error.set) return (Tensor){0};
    if (ctx->tape->rehearsing) return rehearsed(y);
    const void *kept = keep(ctx, call, size);
    if (!kept) return (Tensor){0};
    return push(ctx, (TapeNode){.backward = backward, .call = kept, .y = y});
}

Tensor tape_variable(Context *ctx, Tensor x, real *dx) {
    if (ctx->error.set) return (Tensor){0};
    x.var = x.at = 0;
    if (!ctx->tape || !dx) return x;
    if (ctx->tape->rehearsing) return rehearsed(x);
    return push(ctx, (TapeNode){.y = x, .dy = dx, .lent = true});
}

/* ---- walking ------------------------------------------------------------------------------------- */

real *tape_gradient(Context *ctx, Tensor x) {
    if (ctx->error.set || !is_variable(ctx, x)) return NULL;
    Tape *tape = ctx->tape;
    const int64_t i = x.var - tape->walked - 1;
    assert(i < tape->count);
    TapeNode *n = &tape->node[i];
    assert(x.at >= 0 && x.at + tensor_numel(x) <= tensor_numel(n->y));
    if (!n->dy) {
        const size_t bytes = gradient_bytes(n);
        n->dy = calloc(bytes ? bytes : 1, 1);
        if (!n->dy) return out_of_memory(ctx, bytes, "a gradient"), NULL;
        tape->in_use += bytes;
        if (tape->in_use > tape->peak) tape->peak = tape->in_use;
    }
    return n->dy + x.at;
}

/* From the last node down to number `below`. A node is taken out before its backward runs, so that a
 * segment may record itself anew in its place. */
static void walk(Context *ctx, int64_t below) {
    Tape *tape = ctx->tape;
    while (tape->count > below && !poll_cancelled(ctx, "the way back")) {
        TapeNode n = tape->node[--tape->count];
        if (n.backward && n.dy) n.backward(ctx, n.call, n.y, n.dy);
        release_gradient(tape, &n);
    }
}

void tape_backward(Context *ctx, Tensor y, const real *dy) {
    assert(ctx->tape && !ctx->tape->rehearsing);
    const int64_t n = tensor_numel(y);
    real *start = tape_gradient(ctx, y);
    for (int64_t i = 0; start && i < n; i++) start[i] += dy ? dy[i] : 1;
    walk(ctx, 0);
    tape_clear(ctx);
}

static void forget(Tape *tape) {
    for (int64_t i = 0; i < tape->count; i++) release_gradient(tape, &tape->node[i]);
    tape->count = 0;
}

void tape_clear(Context *ctx) {
    Tape *tape = ctx->tape;
    /* New names from here on: a Tensor of this walk must not pass for a variable of the next. */
    tape->walked += tape->capacity;
    if (tape->pinned) arena_unpin(&ctx->arena, tape->pin);
    tape->pinned = false;
    forget(tape);
}

void tape_free(Tape *tape) {
    forget(tape);
    free(tape->node);
    *tape = (Tape){0};
}

/* ---- checkpointed segments ------------------------------------------------------------------------ */

typedef struct Segment {
    Tensor (*run)(Context *ctx, const void *args);
    const void *args;
} Segment;

/* Runs the segment again, recorded, on top of what there is; hands dy to its result; walks back
 * through it. Its nodes read the same variables as at first, so their gradients are added to directly
 * and in the same order as if the segment had been recorded then. */
static void segment_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Segment *s = call;
    const int64_t below = ctx->tape->count;
    const ArenaMark mark = scope_begin(ctx), pin = ctx->arena.pin;
    const Observer *observer = ctx->observer;
    const char *batch_prefix = ctx->batch_prefix, *prefix[MAX_BATCH];
    memcpy(prefix, ctx->prefix, sizeof prefix);
    memset(ctx->prefix, 0, sizeof prefix); /* as at first they may be gone, with their caller */
    ctx->batch_prefix = NULL;
    ctx->observer = NULL;

    Tensor again = s->run(ctx, s->args);
    add_scaled(ctx, tensor_numel(y), 1, dy, tape_gradient(ctx, again));
    walk(ctx, below);

    memcpy(ctx->prefix, prefix, sizeof prefix);
    ctx->batch_prefix = batch_prefix;
    ctx->observer = observer;
    if (ctx->error.set) return; /* tape_backward releases all */
    arena_unpin(&ctx->arena, pin);
    arena_release(&ctx->arena, mark);
}

Tensor tape_checkpoint(Context *ctx, Tensor (*run)(Context *ctx, const void *args),
                       const void *args, size_t size) {
    Tape *tape = ctx->tape;
    if (ctx->error.set) return (Tensor){0};
    if (!tape || tape->rehearsing) return run(ctx, args);
    const ArenaMark mark = scope_begin(ctx);
    tape->rehearsing = true;
    Tensor y = scope_end(ctx, mark, run(ctx, args));
    tape->rehearsing = false;
    if (y.var != REHEARSED)
        return y; /* nothing in it is learned, or it returns what it was given */
    y.var = y.at = 0;
    Segment s = {run, keep(ctx, args, size)};
    return tape_record(ctx, y, segment_backward, &s, sizeof s);
}
