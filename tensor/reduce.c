/* Sums over many elements. They are cut into chunks of fixed size, each added up in double by one
 * thread, and the chunks' sums are added in order: the same bytes at any number of threads. */
#include "tensor/tensor.h"

#define GRAIN 65536 /* elements per thread that are worth waking it */
#define CHUNK 4096  /* elements whose sum is one term */
#define ROWS 64     /* rows whose sum is one term */

double dot(Context *ctx, int64_t n, const real *a, const real *b) {
    const int64_t chunks = (n + CHUNK - 1) / CHUNK;
    ArenaMark mark = scope_begin(ctx);
    double total = 0, *part = scratch_doubles(ctx, chunks);
    if (!part) return 0;
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t k = 0; k < chunks; k++) {
        const int64_t end = (k + 1) * CHUNK < n ? (k + 1) * CHUNK : n;
        double sum = 0;
        for (int64_t i = k * CHUNK; i < end; i++) sum += (double)a[i] * (double)b[i];
        part[k] = sum;
    }
    for (int64_t k = 0; k < chunks; k++) total += part[k];
    arena_release(&ctx->arena, mark);
    return total;
}

void column_sums(Context *ctx, int64_t M, int64_t C, const real *x, double *out) {
    const int64_t strips = (M + ROWS - 1) / ROWS;
    ArenaMark mark = scope_begin(ctx);
    double *part = scratch_doubles(ctx, strips * C);
    for (int64_t c = 0; c < C; c++) out[c] = 0;
    if (!part) return;
    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t s = 0; s < strips; s++) {
        const int64_t end = (s + 1) * ROWS < M ? (s + 1) * ROWS : M;
        double *sum = part + s * C;
        for (int64_t c = 0; c < C; c++) sum[c] = 0;
        for (int64_t m = s * ROWS; m < end; m++)
            for (int64_t c = 0; c < C; c++) sum[c] += (double)x[m * C + c];
    }
    for (int64_t s = 0; s < strips; s++)
        for (int64_t c = 0; c < C; c++) out[c] += part[s * C + c];
    arena_release(&ctx->arena, mark);
}

void add_scaled(const Context *ctx, int64_t n, double s, const real *x, real *y) {
    if (!y) return;
    const real factor = (real)s;
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y[i] += factor * x[i];
}
