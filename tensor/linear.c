/* y[..., n] = sum_k x[..., k] w[n, k] + b[n]        torch.nn.functional.linear
 * x [..., K], w [N, K], b [N] or NULL -> [..., N] */
#include "tensor/stand_in.h"
#include "tensor/tape.h"

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

/* db[n] += sum_m dy[m, n] */
void bias_add_backward(Context *ctx, int64_t M, int64_t N, const real *dy, const Weight *b) {
    if (ctx->error.set || !b->grad) return;
    ArenaMark mark = scope_begin(ctx);
    double *sum = scratch_doubles(ctx, N);
    if (sum) column_sums(ctx, M, N, dy, sum);
    if (ctx->error.set) return;
    for (int64_t n = 0; n < N; n++) b->grad[n] += (real)sum[n];
    arena_release(&ctx->arena, mark);
}

typedef struct Linear {
    Tensor x;
    Weight w, b;
} Linear;

static TapeBackward linear_backward;

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
    if (is_variable(ctx, x) || is_trained(ctx, w) || is_trained(ctx, b))
        y = tape_record(ctx, y, linear_backward, &(Linear){x, *w, weight_kept(b)}, sizeof(Linear));
    return ctx->error.set ? (Tensor){0} : y;
}

/* dx[m, k] += sum_n dy[m, n] w[n, k]      dw[n, k] += sum_m dy[m, n] x[m, k]      db as above */
static void linear_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Linear *l = call;
    const int64_t M = tensor_rows(y), N = tensor_cols(y), K = tensor_cols(l->x);
    real *dx = tape_gradient(ctx, l->x), *dw = l->w.grad;
    if (dx) gemm_weight_dx(ctx, M, N, K, dy, &l->w, dx);
    if (dw) gemm_weight_dw(ctx, M, N, K, dy, l->x.data, dw);
    bias_add_backward(ctx, M, N, dy, &l->b);
}
