/* softmax(Q K^T / sqrt(d)) V per head              torch.nn.functional.scaled_dot_product_attention
 * q [B, Lq, C], per picture or prompt k and v [Lk, kv_heads * d], d = C / heads -> [B, Lq, C]
 *
 * One task is one head of one batch element and 64 of its queries: two products and a softmax over
 * scores [64, Lk] that no other task needs, so all scores are never in memory. Heads are columns of
 * the row, reached through the row stride: nothing is transposed or copied.
 *
 * A sliding window adds a lower end to what a causal query sees, and to the keys a tile touches. */
#include "tensor/stand_in.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <string.h>

#define QUERIES 64
#define GRAIN ((int64_t)1 << 20) /* multiply-adds per thread that are worth waking it */
#define LONG 1000                /* that many of them: about a second */
#define NO_WINDOW INT64_MAX

/* One head of n queries starting at query `first`. ld*: distance between rows. */
static void attend(const real *q, const real *k, const real *v, real *out, real *scores,
                   int64_t first, int64_t n, int64_t Lk, int64_t d, int64_t ldq, int64_t ldk,
                   AttentionMask mask, int64_t window) {
    /* Keys after the tile's last query, and those that its first no longer sees, are masked for all
     * of the tile. */
    const int64_t start = first >= window ? first - window + 1 : 0;
    const int64_t keys = (mask == MASK_CAUSAL ? first + n : Lk) - start;
    k += start * ldk;
    v += start * ldk;
    gemm_tile(true, n, keys, d, (real)(1 / sqrt((double)d)), q, ldq, k, ldk, scores, keys);
    for (int64_t i = 0; i < n; i++) {
        real *row = scores + i * keys;
        const int64_t query = first + i; /* sees the keys start + from .. start + to - 1 */
        const int64_t from = query >= window ? query - window + 1 - start : 0;
        const int64_t to = mask == MASK_CAUSAL ? query + 1 - start : keys;
        softmax_row(row + from, to - from);
        for (int64_t j = 0; j < from; j++) row[j] = 0;
        for (int64_t j = to; j < keys; j++) row[j] = 0;
    }
    gemm_tile(false, n, d, keys, 1, scores, keys, v, ldk, out, ldq);
}

/* With one visible key its probability is 1: the output is the query's own value row. */
static Tensor own_values(Tensor y, const Tensor *v, int64_t heads, int64_t kv_heads) {
    const int64_t B = y.dim[0], L = y.dim[1], d = y.dim[2] / heads;
    for (int64_t row = 0; row < B * L; row++) {
        const real *own = v[row / L].data + row % L * kv_heads * d;
        for (int64_t h = 0; h < heads; h++)
            memcpy(y.data + (row * heads + h) * d, own + h / (heads / kv_heads) * d,
                   (size_t)d * sizeof(real));
    }
    return y;
}

static Tensor masked(Context *ctx, Tensor q, const Tensor *k, const Tensor *v, int64_t heads,
                     int64_t kv_heads, AttentionMask mask, int64_t window) {
    STAND_IN(ctx, OP_ATTENTION, .x = q, .k = k, .v = v, .heads = heads, .kv_heads = kv_heads,
             .mask = mask, .window = window);
    if (ctx->error.set) return (Tensor){0};
    assert(q.ndim == 3 && q.dim[2] % heads == 0 && heads % kv_heads == 0);
    const int64_t B = q.dim[0], Lq = q.dim[1], C = q.dim[2], d = C / heads, width = kv_heads * d;
    int64_t longest = 1;
    for (int64_t b = 0; b < B; b++) {
        assert(k[b].ndim == 2 && v[b].ndim == 2 && k[b].dim[1] == width && v[b].dim[1] == width);
        assert(k[b].dim[0] >= 1 && k[b].dim[0] == v[b].dim[0]);
        assert(mask == MASK_NONE || k[b].dim[0] == Lq);
        if (k[b].dim[0] > longest) longest = k[b].dim[0];
    }
    Tensor y = tensor_new(ctx, q.ndim, q.dim);
    if (ctx->error.set) return (Tensor){0};
    if (mask == MASK_OWN) return own_values(y, v, heads, kv_heads);

    const int64_t tiles = (Lq + QUERIES - 1) / QUERIES, tasks = B * heads * tiles;
    const int64_t worth = B * heads * Lq * longest * d / GRAIN;
    const int threads = parallel_threads(ctx, worth < tasks ? worth : tasks);
    ArenaMark mark = scope_begin(ctx);
    real *scratch = scratch_reals(ctx, (size_t)(threads * QUERIES * longest));
    if (!scratch) return (Tensor){0};
    /* A large map's attention takes long enough that Ctrl-C should not wait for it; only the thread
     * that made the call may ask. */
    const bool asks = worth > LONG;
    atomic_bool stop = false;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < tasks; task++) {
        if (atomic_load(&stop)) continue;
        if (asks && omp_get_thread_num() == 0 && poll_cancelled(ctx, "attention"))
            atomic_store(&stop, true);
        const int64_t b = task / (heads * tiles), h = task / tiles % heads;
        const int64_t first = task % tiles * QUERIES;
        const int64_t n = Lq - first < QUERIES ? Lq - first : QUERIES;
        const int64_t at = (b * Lq + first) * C + h * d, group = h / (heads / kv_heads) * d;
        attend(q.data + at, k[b].data + group, v[b].data + group, y.data + at,
               scratch + omp_get_thread_num() * QUERIES * longest, first, n, k[b].dim[0], d, C,
               width, mask, window);
    }
    arena_release(&ctx->arena, mark);
    return ctx->error.set ? (Tensor){0} : y;
}

Tensor attention(Context *ctx, Tensor q, const Tensor *k, const Tensor *v, int64_t heads,
                 int64_t kv_heads, AttentionMask mask) {
    return masked(ctx, q, k, v, heads, kv_heads, mask, NO_WINDOW);
}

Tensor attention_window(Context *ctx, Tensor q, const Tensor *k, const Tensor *v, int64_t heads,
                        int64_t kv_heads, int64_t window) {
    assert(window >= 1);
    return masked(ctx, q, k, v, heads, kv_heads, MASK_CAUSAL, window);
}
