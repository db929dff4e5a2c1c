/* softmax(Q K^T / sqrt(d)) V per head              torch.nn.functional.scaled_dot_product_attention
 * q [B, Lq, C], per picture or prompt k and v [Lk, kv_heads * d], d = C / heads -> [B, Lq, C]
 *
 * One task is one head of one batch element and 128 of its queries: two products and a softmax over
 * scores [128, Lk] that no other task needs, so all scores are never in memory. Heads are columns of
 * the row, reached through the row stride: nothing is transposed or copied.
 *
 * A sliding window adds a lower end to what a causal query sees, and to the keys a tile touches. */
#include "tensor/stand_in.h"
#include "tensor/tape.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <stdatomic.h>
#include <string.h>

#define QUERIES 128
#define GRAIN ((int64_t)1 << 20) /* multiply-adds per thread that are worth waking it */
#define LONG 1000                /* that many of them: about a second */
#define NO_WINDOW INT64_MAX

/* What is attended to: the shapes of a call, and what backward needs of it. */
typedef struct Attention {
    Tensor q, k[MAX_BATCH], v[MAX_BATCH];
    int64_t heads, kv_heads, window;
    AttentionMask mask;
    int64_t d, ldq, ldk, longest; /* a head's width; distances of rows; the most keys of a prompt */
} Attention;

/* n queries from `first` on, and the keys start .. start + keys - 1, which at least one of them sees:
 * keys after the tile's last query, and those that its first no longer sees, are left out. */
typedef struct Tile {
    int64_t first, n, start, keys;
} Tile;

static Tile tile_at(const Attention *a, int64_t first, int64_t Lk) {
    const int64_t left = a->q.dim[1] - first;
    Tile t = {.first = first, .n = left < QUERIES ? left : QUERIES};
    t.start = first >= a->window ? first - a->window + 1 : 0;
    t.keys = (a->mask == MASK_CAUSAL ? first + t.n : Lk) - t.start;
    return t;
}

/* p [n, keys] = softmax(Q K^T / sqrt(d)), 0 where a query doesn't see. q, k: the tile's first rows. */
static void probabilities(const Attention *a, Tile t, const real *q, const real *k, real *p) {
    const real factor = (real)(1 / sqrt((double)a->d));
    gemm_tile(true, t.n, t.keys, a->d, factor, q, a->ldq, k, a->ldk, p, t.keys);
    for (int64_t i = 0; i < t.n; i++) {
        real *row = p + i * t.keys;
        const int64_t query = t.first + i; /* sees the keys start + from .. start + to - 1 */
        const int64_t from = query >= a->window ? query - a->window + 1 - t.start : 0;
        const int64_t to = a->mask == MASK_CAUSAL ? query + 1 - t.start : t.keys;
        softmax_row(row + from, to - from);
        for (int64_t j = 0; j < from; j++) row[j] = 0;
        for (int64_t j = to; j < t.keys; j++) row[j] = 0;
    }
}

/* With one visible key its probability is 1: the output is the query's own value row. */
static void own_values(Tensor y, const Tensor *v, int64_t heads, int64_t kv_heads) {
    const int64_t B = y.dim[0], L = y.dim[1], d = y.dim[2] / heads;
    for (int64_t row = 0; row < B * L; row++) {
        const real *own = v[row / L].data + row % L * kv_heads * d;
        for (int64_t h = 0; h < heads; h++)
            memcpy(y.data + (row * heads + h) * d, own + h / (heads / kv_heads) * d,
                   (size_t)d * sizeof(real));
    }
}

static TapeBackward attention_backward;

static Tensor masked(Context *ctx, Tensor q, const Tensor *k, const Tensor *v, int64_t heads,
                     int64_t kv_heads, AttentionMask mask, int64_t window) {
    STAND_IN(ctx, OP_ATTENTION, .x = q, .k = k, .v = v, .heads = heads, .kv_heads = kv_heads,
             .mask = mask, .window = window);
    if (ctx->error.set) return (Tensor){0};
    assert(q.ndim == 3 && q.dim[2] % heads == 0 && heads % kv_heads == 0);
    const int64_t B = q.dim[0], Lq = q.dim[1], C = q.dim[2], d = C / heads, width = kv_heads * d;
    assert(B <= MAX_BATCH);
    Attention a = {.q = q, .heads = heads, .kv_heads = kv_heads, .window = window, .mask = mask};
    a.d = d, a.ldq = C, a.ldk = width, a.longest = 1;
    bool variable = is_variable(ctx, q);
    for (int64_t b = 0; b < B; b++) {
        assert(k[b].ndim == 2 && v[b].ndim == 2 && k[b].dim[1] == width && v[b].dim[1] == width);
        assert(k[b].dim[0] >= 1 && k[b].dim[0] == v[b].dim[0]);
        assert(mask == MASK_NONE || k[b].dim[0] == Lq);
        if (k[b].dim[0] > a.longest) a.longest = k[b].dim[0];
        variable = variable || is_variable(ctx, k[b]) || is_variable(ctx, v[b]);
        a.k[b] = k[b], a.v[b] = v[b];
    }
    Tensor y = tensor_new(ctx, q.ndim, q.dim);
    if (ctx->error.set) return (Tensor){0};
    if (mask == MASK_OWN) {
        own_values(y, v, heads, kv_heads);
        return variable ? tape_record(ctx, y, attention_backward, &a, sizeof a) : y;
    }

    const int64_t tiles = (Lq + QUERIES - 1) / QUERIES, tasks = B * heads * tiles;
    const int64_t worth = B * heads * Lq * a.longest * d / GRAIN;
    const int threads = parallel_threads(ctx, worth < tasks ? worth : tasks);
    ArenaMark mark = scope_begin(ctx);
    real *scratch = scratch_reals(ctx, (size_t)(threads * QUERIES * a.longest));
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
        const Tile t = tile_at(&a, task % tiles * QUERIES, k[b].dim[0]);
        const int64_t at = (b * Lq + t.first) * C + h * d;
        const int64_t from = t.start * width + h / (heads / kv_heads) * d;
        real *p = scratch + omp_get_thread_num() * QUERIES * a.longest;
        probabilities(&a, t, q.data + at, k[b].data + from, p);
        gemm_tile(false, t.n, d, t.keys, 1, p, t.keys, v[b].data + from, width, y.data + at, C);
    }
    arena_release(&ctx->arena, mark);
    if (variable) y = tape_record(ctx, y, attention_backward, &a, sizeof a);
    return ctx->error.set ? (Tensor){0} : y;
}

/* Where the gradients of element b go; NULL: constants. */
typedef struct Gradients {
    real *dq, *dk[MAX_BATCH], *dv[MAX_BATCH];
} Gradients;

/* A tile of one head, from O = P V, P = softmax(S), S = Q K^T / sqrt(d), all of one tile:
 *     dV += P^T dO,   dP = dO V^T,   dS = P (dP - sum_j P dP),
 *     dQ += dS K / sqrt(d),   dK += dS^T Q / sqrt(d)
 * P is computed again: storing it would take [heads, Lq, Lk] for every layer. Pointers are to the
 * tile's first rows; p and ds are scratch for [n, keys] each. */
static void tile_backward(const Attention *a, Tile t, const real *q, const real *k, const real *v,
                          const real *dy, real *dq, real *dk, real *dv, real *p, real *ds) {
    const int64_t n = t.n, keys = t.keys, d = a->d, ldq = a->ldq, ldk = a->ldk;
    const real factor = (real)(1 / sqrt((double)d));
    probabilities(a, t, q, k, p);
    if (dv) gemm_tile_add(true, false, keys, d, n, 1, p, keys, dy, ldq, dv, ldk);
    if (!dq && !dk) return;
    gemm_tile(true, n, keys, d, 1, dy, ldq, v, ldk, ds, keys);
    for (int64_t i = 0; i < n; i++) softmax_row_backward(p + i * keys, ds + i * keys, keys);
    if (dq) gemm_tile_add(false, false, n, d, keys, factor, ds, keys, k, ldk, dq, ldq);
    if (dk) gemm_tile_add(true, false, keys, d, n, factor, ds, keys, q, ldq, dk, ldk);
}

/* All queries of all heads that read key head g of element b, in order. */
static void group_backward(const Attention *a, int64_t b, int64_t g, const real *dy,
                           const Gradients *to, real *p, real *ds) {
    const int64_t Lq = a->q.dim[1], repeats = a->heads / a->kv_heads;
    for (int64_t h = g * repeats; h < (g + 1) * repeats; h++)
        for (int64_t first = 0; first < Lq; first += QUERIES) {
            const Tile t = tile_at(a, first, a->k[b].dim[0]);
            const int64_t at = (b * Lq + first) * a->ldq + h * a->d;
            const int64_t from = t.start * a->ldk + g * a->d;
            tile_backward(a, t, a->q.data + at, a->k[b].data + from, a->v[b].data + from, dy + at,
                          to->dq ? to->dq + at : NULL, to->dk[b] ? to->dk[b] + from : NULL,
                          to->dv[b] ? to->dv[b] + from : NULL, p, ds);
        }
}

/* The output was the own value row: so is its gradient. q and k had no say. */
static void own_backward(const Attention *a, const real *dy, const Gradients *to) {
    const int64_t B = a->q.dim[0], L = a->q.dim[1], d = a->d, repeats = a->heads / a->kv_heads;
    for (int64_t row = 0; row < B * L; row++) {
        real *dv = to->dv[row / L];
        for (int64_t i = 0; dv && i < a->heads * d; i++)
            dv[(row % L * a->kv_heads + i / d / repeats) * d + i % d] += dy[row * a->heads * d + i];
    }
}

/* Do parts of one variable stand in different places of the call, as when prompts share their keys? */
static bool shares_gradients(const Attention *a) {
    Tensor all[2 * MAX_BATCH + 1] = {a->q};
    int64_t n = 1;
    for (int64_t b = 0; b < a->q.dim[0]; b++) all[n++] = a->k[b], all[n++] = a->v[b];
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++)
            if (all[i].var && all[i].var == all[j].var &&
                all[i].at < all[j].at + tensor_numel(all[j]) &&
                all[j].at < all[i].at + tensor_numel(all[i]))
                return true;
    return false;
}

/* A task is one key head of one batch element, the columns of dq, dk and dv that no other task adds
 * to; where gradients are shared, all tasks run on one thread, in the same order. */
static void attention_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    (void)y;
    const Attention *a = call;
    const int64_t B = a->q.dim[0], Lq = a->q.dim[1], tasks = B * a->kv_heads;
    Gradients to = {.dq = tape_gradient(ctx, a->q)};
    for (int64_t b = 0; b < B; b++) {
        to.dk[b] = tape_gradient(ctx, a->k[b]);
        to.dv[b] = tape_gradient(ctx, a->v[b]);
    }
    if (ctx->error.set) return;
    if (a->mask == MASK_OWN) {
        own_backward(a, dy, &to);
        return;
    }
    const int64_t worth = B * a->heads * Lq * a->longest * a->d / GRAIN;
    int threads = parallel_threads(ctx, worth < tasks ? worth : tasks);
    if (shares_gradients(a)) threads = 1;
    ArenaMark mark = scope_begin(ctx);
    const int64_t scores = QUERIES * a->longest;
    real *scratch = scratch_reals(ctx, (size_t)(threads * 2 * scores));
    if (!scratch) return;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < tasks; task++) {
        real *p = scratch + omp_get_thread_num() * 2 * scores;
        group_backward(a, task / a->kv_heads, task % a->kv_heads, dy, &to, p, p + scores);
    }
    arena_release(&ctx->arena, mark);
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
