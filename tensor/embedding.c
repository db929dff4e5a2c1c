/* y[i] = w[ids[i]]                                              torch.nn.functional.embedding
 * ids [n], w [V, D] -> [n, D]. That ids are in range is for the caller to check where they enter. */
#include "tensor/tensor.h"

#include <assert.h>

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
    return y;
}
