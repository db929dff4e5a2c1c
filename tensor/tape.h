/* Reverse mode: how a gradient runs back through what the operators computed.
 *
 *     Tape tape = {0};
 *     Context ctx = {.tape = &tape};
 *     Weight w = {..., .grad = dw};                     // learned: its gradient is added to dw
 *     Tensor x = tape_variable(&ctx, given, dx);        // a leaf: its gradient is added to dx
 *     Tensor loss = mean_squared_error(&ctx, linear(&ctx, x, &w, NULL), target, NULL);
 *     tape_backward(&ctx, loss, NULL);                  // dx += d loss / d x,  dw += d loss / d w
 *     tape_free(&tape);
 *
 * With a tape in its context, an operator that reads a variable, or a Weight with a gradient, makes its
 * result a variable and records a node: its backward function and what it was called with. Everything
 * else is a constant: frozen parts, and all that comes before the first learned one, record nothing.
 * Without a tape no operator records anything.
 *
 * Memory. What nodes refer to (arguments, results) lies in the arena below its pin, which every node
 * moves up; scopes release what is above. The gradient of a variable is allocated when the first of
 * its readers is walked and released as soon as the node that computed it was; those of leaves and
 * Weights belong to the caller. tape_backward leaves an empty tape, and the caller's outermost scope
 * then releases the activations. */
#ifndef LLMDIFF_TAPE_H
#define LLMDIFF_TAPE_H

#include "tensor/tensor.h"

#include <assert.h>

/* An operator's way back: adds to the gradients of what it read. `call` is the copy of its arguments,
 * y its result, dy [numel(y)] the gradient of y. */
typedef void TapeBackward(Context *ctx, const void *call, Tensor y, const real *dy);

typedef struct TapeNode {
    TapeBackward *backward; /* NULL: a leaf */
    const void *call;
    Tensor y;
    real *dy;  /* NULL: nothing has reached y yet */
    bool lent; /* dy is the caller's */
} TapeNode;

typedef struct Tape {
    TapeNode *node;
    int64_t count, capacity;
    int64_t walked;  /* variables of earlier walks: node i is variable walked + i + 1 */
    bool checkpoint; /* for models: put each block into a segment of its own (tape_checkpoint) */
    bool rehearsing; /* in a checkpointed segment, whose nodes are recorded later */
    bool pinned;     /* the arena is, because of this tape; before, its pin was: */
    ArenaMark pin;
    size_t in_use, peak; /* bytes of gradients that the tape holds, and the most it ever held */
} Tape;

/* ---- for those who train -------------------------------------------------------------------------- */

/* x as a leaf: its gradient will be added to dx [numel(x)]. A constant if dx is NULL or there is no tape. */
Tensor tape_variable(Context *ctx, Tensor x, real *dx);

/* Walks back from y, whose gradient is dy [numel(y)] (NULL: ones), to every leaf and Weight that it
 * depends on, and empties the tape, also if the context fails. Tensors computed before keep their
 * numbers until the caller's scope ends; to read them further, with this tape, make them constants
 * (x.var = 0) or leaves. */
void tape_backward(Context *ctx, Tensor y, const real *dy);

/* run(ctx, args) without its intermediate results: they are released at once, and computed again when
 * the way back comes here. The gradients have the same bytes as without. `args` (size bytes) is copied;
 * what it points to must stay until then, Tensors as any that an operator reads, and `run` must compute
 * the same from it. No observer sees the second run. Segments may lie in segments. */
Tensor tape_checkpoint(Context *ctx, Tensor (*run)(Context *ctx, const void *args),
                       const void *args, size_t size);

/* Forgets what was recorded without walking it. */
void tape_clear(Context *ctx);
/* Also gives the memory back. Clear it first if its context lives on. */
void tape_free(Tape *tape);

/* ---- for operators -------------------------------------------------------------------------------- */

/* Is there a gradient to pass on? What an operator asks of each of its inputs. */
static inline bool is_variable(const Context *ctx, Tensor x) {
    if (!ctx->tape || !x.var) return false;
    assert(x.var > ctx->tape->walked); /* else it is from before the last walk */
    return true;
}
static inline bool is_trained(const Context *ctx, const Weight *w) {
    return ctx->tape && w && w->grad;
}

/* y, made a variable. `call` (size bytes) is copied. Records once y is complete and scratch released. */
Tensor tape_record(Context *ctx, Tensor y, TapeBackward *backward, const void *call, size_t size);

/* Where the gradient of x's elements is accumulated; NULL: x is a constant, or the context fails. */
real *tape_gradient(Context *ctx, Tensor x);

/* *w, or a Weight without data in place of NULL: how a node keeps a parameter. */
static inline Weight weight_kept(const Weight *w) { return w ? *w : (Weight){0}; }

#endif
