/* y[i] = w[ids[i]]                                              torch.nn.functional.embedding
 * ids [n], w [V, D] -> [n, D]. That ids are in range is for the caller to check where they enter. */
#include "tensor/tape.h"

#include <assert.h>
#include <string.h>

typedef struct Embedding {
    Weight w;
    const int64_t *ids;
} Embedding;

static TapeBackward embedding_backward;

Tensor embedding(Context *ctx, const int64_t *ids, int64_t n, const Weight *w) {
    if (ctx->error.set) return (Tensor){0};
    assert(w->ndim == 2);
    const int64_t V = w->dim[0], D = w->dim[1];
    Tensor y = TENSOR_NEW(ctx, n, D);
    if (ctx->error.set) return (Tensor){0};
    for (int64_t i = 0; i < n; i++) {
        assert(ids[i] >= 0 && ids[i] < V);
        weight_read(w, ids[i] * D, D, y.data + i * D);
    }
    if (!is_trained(ctx, w)) return y;
    int64_t *kept = arena_alloc(&ctx->arena, (size_t)n * sizeof *kept);
    if (!kept) return fail(&ctx->error, "out of memory for %lld ids", (long long)n), (Tensor){0};
    memcpy(kept, ids, (size_t)n * sizeof *kept);
    return tape_record(ctx, y, embedding_backward, &(Embedding){*w, kept}, sizeof(Embedding));
}

/* dw[ids[i]] += dy[i] */
static void embedding_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    (void)ctx;
    const Embedding *e = call;
    const int64_t n = y.dim[0], D = y.dim[1];
    for (int64_t i = 0; i < n; i++)
        for (int64_t d = 0; d < D; d++) e->w.grad[e->ids[i] * D + d] += dy[i * D + d];
}
