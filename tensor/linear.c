/* y[..., n] = sum_k x[..., k] w[n, k] + b[n]        torch.nn.functional.linear
 * x [..., K], w [N, K], b [N] or NULL -> [..., N] */
#include "tensor/stand_in.h"

#include <assert.h>

#define GRAIN 65536 /* additions per thread that are worth waking it */

void bias_add(Context *ctx, Tensor y, const Weight *b) {
    if (ctx->error.set || !b) return;
    const int64_t M = tensor_rows(y), N = tensor_cols(y);
    assert(b->ndim == 1 && b->dim[0] == N);

    ArenaMark mark = scope_begin(ctx);
    real *bias = scratch_reals(ctx, (size_t)N);
    if (!bias) return;
    weight_read(b, 0, N, bias);
    const int threads = parallel_threads(ctx, M * N / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++) {
        real *row = y.data + m * N;
        for (int64_t n = 0; n < N; n++) row[n] += bias[n];
    }
    arena_release(&ctx->arena, mark);
}

Tensor linear(Context *ctx, Tensor x, const Weight *w, const Weight *b) {
    STAND_IN(ctx, OP_LINEAR, .x = x, .w = w, .b = b);
    if (ctx->error.set) return (Tensor){0};
    const int64_t M = tensor_rows(x), K = tensor_cols(x), N = w->dim[0];
    assert(w->ndim == 2 && w->dim[1] == K);

    Tensor y = x;
    y.dim[x.ndim - 1] = N;
    y = tensor_new(ctx, y.ndim, y.dim);
    gemm_weight(ctx, M, N, K, x.data, w, y.data);
    bias_add(ctx, y, b);
    return ctx->error.set ? (Tensor){0} : y;
}
