/* Matrix products: the only file that includes cblas.h.
 *
 * Work is cut into tiles whose size depends on the shapes alone, and every tile is one
 * single-threaded BLAS call inside an OpenMP loop: the same bytes come out at any number of
 * threads, and the process never holds two teams of threads that compete for the cores. */
#include "tensor/tensor.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>
#include <omp.h>
#include <stdint.h>

#ifdef LLMDIFF_DOUBLE
#    define GEMM cblas_dgemm
#    define DTYPE_REAL DTYPE_F64
#else
#    define GEMM cblas_sgemm
#    define DTYPE_REAL DTYPE_F32
#endif

#define GRAIN ((int64_t)1 << 22) /* multiply-adds per thread that are worth waking it */

/* Every parallel loop asks here how many threads to use, and so BLAS is told here, before its first
 * call in that loop, to stay on the thread that calls it. OpenBLAS comes in three builds: the pthread
 * one would otherwise start its own team for every tile (threads times threads on the cores), the
 * OpenMP one runs single-threaded inside a parallel region but not in a loop of one thread, and the
 * serial one ignores the call. Repeating it costs a comparison. */
int parallel_threads(const Context *ctx, int64_t tasks) {
    openblas_set_num_threads(1);
    int64_t threads = ctx->threads > 0 ? ctx->threads : omp_get_max_threads();
    if (threads > tasks) threads = tasks;
    return threads > 1 ? (int)threads : 1;
}

void gemm_tile(bool transpose_b, int64_t M, int64_t N, int64_t K, real alpha, const real *a,
               int64_t lda, const real *b, int64_t ldb, real *c, int64_t ldc) {
    /* BLAS counts in 32 bits; offsets beyond that are in the pointers. */
    assert(M <= INT_MAX && N <= INT_MAX && K <= INT_MAX);
    assert(lda <= INT_MAX && ldb <= INT_MAX && ldc <= INT_MAX);
    GEMM(CblasRowMajor, CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, (int)M, (int)N,
         (int)K, alpha, a, (int)lda, b, (int)ldb, 0, c, (int)ldc);
}

void gemm_tile_add(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, real alpha,
                   const real *a, int64_t lda, const real *b, int64_t ldb, real *c, int64_t ldc) {
    assert(M <= INT_MAX && N <= INT_MAX && K <= INT_MAX);
    assert(lda <= INT_MAX && ldb <= INT_MAX && ldc <= INT_MAX);
    GEMM(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans,
         transpose_b ? CblasTrans : CblasNoTrans, (int)M, (int)N, (int)K, alpha, a, (int)lda, b,
         (int)ldb, 1, c, (int)ldc);
}

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Cuts `total` into equal tiles of at most `most`, in steps of 16 (320 by 256: twice 160, so that
 * two threads have the same to do). */
static int64_t tile_size(int64_t total, int64_t most) {
    int64_t tiles = ceil_div(total, most);
    return ceil_div(ceil_div(total, tiles), 16) * 16;
}

static bool usable_in_place(const Weight *w) {
    return w->dtype == DTYPE_REAL && (uintptr_t)w->data % sizeof(real) == 0;
}

/* A few tokens (M small) leave only N to divide, so the panels are narrow; many pixels allow wide
 * ones, which pack x less often. Tiles that follow one another share a panel, and a thread widens a
 * panel of half-precision weights once for all its tiles in that panel. */
void gemm_weight(Context *ctx, int64_t M, int64_t N, int64_t K, const real *x, const Weight *w,
                 real *y) {
    if (ctx->error.set || M == 0 || N == 0) return;
    const int64_t rows = tile_size(M, 256), cols = tile_size(N, M <= 64 ? 64 : 256);
    const int64_t down = ceil_div(M, rows), across = ceil_div(N, cols);
    const int threads = parallel_threads(ctx, least(down * across, M * N * K / GRAIN));
    const bool in_place = usable_in_place(w);

    ArenaMark mark = scope_begin(ctx);
    real *panels = in_place ? NULL : scratch_reals(ctx, (size_t)(threads * cols * K));
    if (!in_place && !panels) return;
#pragma omp parallel num_threads(threads)
    {
        real *widened = in_place ? NULL : panels + omp_get_thread_num() * cols * K;
        int64_t held = -1;
#pragma omp for schedule(dynamic)
        for (int64_t tile = 0; tile < down * across; tile++) {
            const int64_t m0 = tile % down * rows, n0 = tile / down * cols;
            const int64_t m = least(rows, M - m0), n = least(cols, N - n0);
            const real *panel = widened;
            if (in_place) {
                panel = (const real *)w->data + n0 * K;
            } else if (held != n0) {
                weight_read(w, n0 * K, n * K, widened);
                held = n0;
            }
            gemm_tile(true, m, n, K, 1, x + m0 * K, K, panel, K, y + m0 * N + n0, N);
        }
    }
    arena_release(&ctx->arena, mark);
}

/* dx = dy w: the stored rows of w are summed over, so a panel is a range of its columns, all rows,
 * read from the stored type as in gemm_weight. */
void gemm_weight_dx(Context *ctx, int64_t M, int64_t N, int64_t K, const real *dy, const Weight *w,
                    real *dx) {
    if (ctx->error.set || M == 0 || N == 0 || K == 0) return;
    const int64_t rows = tile_size(M, 256), cols = tile_size(K, M <= 64 ? 64 : 256);
    const int64_t down = ceil_div(M, rows), across = ceil_div(K, cols);
    const int threads = parallel_threads(ctx, least(down * across, M * N * K / GRAIN));
    const bool in_place = usable_in_place(w);

    ArenaMark mark = scope_begin(ctx);
    real *panels = in_place ? NULL : scratch_reals(ctx, (size_t)(threads * cols * N));
    if (!in_place && !panels) return;
#pragma omp parallel num_threads(threads)
    {
        real *widened = in_place ? NULL : panels + omp_get_thread_num() * cols * N;
        int64_t held = -1;
#pragma omp for schedule(dynamic)
        for (int64_t tile = 0; tile < down * across; tile++) {
            const int64_t m0 = tile % down * rows, k0 = tile / down * cols;
            const int64_t m = least(rows, M - m0), k = least(cols, K - k0);
            if (!in_place && held != k0) {
                for (int64_t n = 0; n < N; n++) weight_read(w, n * K + k0, k, widened + n * k);
                held = k0;
            }
            const real *panel = in_place ? (const real *)w->data + k0 : widened;
            gemm_tile_add(false, false, m, k, N, 1, dy + m0 * N, N, panel, in_place ? K : k,
                          dx + m0 * K + k0, K);
        }
    }
    arena_release(&ctx->arena, mark);
}

/* dw = dy^T x: every element of dw is one sum over all M rows, in one product. */
void gemm_weight_dw(Context *ctx, int64_t M, int64_t N, int64_t K, const real *dy, const real *x,
                    real *dw) {
    if (ctx->error.set || M == 0 || N == 0 || K == 0) return;
    const int64_t rows = tile_size(N, 256), cols = tile_size(K, 256);
    const int64_t down = ceil_div(N, rows), across = ceil_div(K, cols);
    const int threads = parallel_threads(ctx, least(down * across, M * N * K / GRAIN));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t tile = 0; tile < down * across; tile++) {
        const int64_t n0 = tile % down * rows, k0 = tile / down * cols;
        gemm_tile_add(true, false, least(rows, N - n0), least(cols, K - k0), M, 1, dy + n0, N,
                      x + k0, K, dw + n0 * K + k0, K);
    }
}
