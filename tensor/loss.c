/* mean((x - y)^2), or with a weight for each sample mean_b( weight[b] mean((x[b] - y[b])^2) )
 * torch.nn.functional.mse_loss; weighted as diffusers' training scripts weight by min-SNR. */
#include "tensor/tape.h"

#include <assert.h>
#include <string.h>

#define GRAIN 65536 /* elements per thread that are worth waking it */

typedef struct Mse {
    Tensor x, y;
    double weight[MAX_BATCH];
    int64_t samples; /* which have a weight of their own; else 1 */
} Mse;

static TapeBackward mse_backward;

Tensor mean_squared_error(Context *ctx, Tensor x, Tensor y, const double *weight) {
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim == y.ndim && memcmp(x.dim, y.dim, sizeof x.dim) == 0);
    assert(!weight || x.dim[0] <= MAX_BATCH);
    Mse call = {.x = x, .y = y, .weight = {1}, .samples = weight ? x.dim[0] : 1};
    if (weight) memcpy(call.weight, weight, (size_t)x.dim[0] * sizeof *weight);

    Tensor loss = TENSOR_NEW(ctx, 1);
    ArenaMark mark = scope_begin(ctx);
    x.var = y.var = 0; /* recorded here, as one operator */
    Tensor d = sub(ctx, x, y);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(x), each = n / call.samples;
    double total = 0;
    for (int64_t b = 0; b < call.samples; b++)
        total += call.weight[b] * dot(ctx, each, d.data + b * each, d.data + b * each);
    if (ctx->error.set) return (Tensor){0};
    loss.data[0] = (real)(total / (double)n);
    arena_release(&ctx->arena, mark);
    if (is_variable(ctx, call.x) || is_variable(ctx, call.y))
        loss = tape_record(ctx, loss, mse_backward, &call, sizeof call);
    return loss;
}

/* to += factor (x - y) */
static void add_difference(const Context *ctx, int64_t n, real factor, const real *x, const real *y,
                           real *to) {
    if (!to) return;
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) to[i] += factor * (x[i] - y[i]);
}

/* dx += 2 weight (x - y) / n dloss,  dy += the opposite */
static void mse_backward(Context *ctx, const void *call, Tensor loss, const real *dloss) {
    (void)loss;
    const Mse *c = call;
    const int64_t n = tensor_numel(c->x), each = n / c->samples;
    const real *x = c->x.data, *y = c->y.data;
    real *dx = tape_gradient(ctx, c->x), *dy = tape_gradient(ctx, c->y);
    if (ctx->error.set) return;
    for (int64_t b = 0; b < c->samples; b++) {
        const real factor = (real)(2 * c->weight[b] / (double)n * (double)*dloss);
        const int64_t at = b * each;
        add_difference(ctx, each, factor, x + at, y + at, dx ? dx + at : NULL);
        add_difference(ctx, each, -factor, x + at, y + at, dy ? dy + at : NULL);
    }
}
