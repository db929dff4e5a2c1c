/* Sums, joins and changes of layout. What is passed back is dy itself, times the factor and from the
 * place that each operator's equation says; a variable that is read twice gets both parts. */
#include "tensor/stand_in.h"
#include "tensor/tape.h"

#include <assert.h>
#include <string.h>

#define GRAIN 65536 /* elements per thread that are worth waking it */

static bool same_shape(Tensor a, Tensor b) {
    return a.ndim == b.ndim && memcmp(a.dim, b.dim, sizeof a.dim) == 0;
}

typedef struct Two {
    double s, t;
    Tensor a, b;
} Two;

/* da += s dy,  db += t dy: of add, sub and axpby */
static void sum_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Two *two = call;
    add_scaled(ctx, tensor_numel(y), two->s, dy, tape_gradient(ctx, two->a));
    add_scaled(ctx, tensor_numel(y), two->t, dy, tape_gradient(ctx, two->b));
}

static Tensor sum_recorded(Context *ctx, Tensor y, double s, Tensor a, double t, Tensor b) {
    if (!is_variable(ctx, a) && !is_variable(ctx, b)) return y;
    return tape_record(ctx, y, sum_backward, &(Two){s, t, a, b}, sizeof(Two));
}

/* y = a + b */
Tensor add(Context *ctx, Tensor a, Tensor b) {
    STAND_IN(ctx, OP_ADD, .x = a, .z = b);
    if (ctx->error.set) return (Tensor){0};
    assert(same_shape(a, b));
    Tensor y = tensor_new(ctx, a.ndim, a.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(a);
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = a.data[i] + b.data[i];
    return sum_recorded(ctx, y, 1, a, 1, b);
}

/* y = a - b */
Tensor sub(Context *ctx, Tensor a, Tensor b) {
    STAND_IN(ctx, OP_SUB, .x = a, .z = b);
    if (ctx->error.set) return (Tensor){0};
    assert(same_shape(a, b));
    Tensor y = tensor_new(ctx, a.ndim, a.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(a);
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = a.data[i] - b.data[i];
    return sum_recorded(ctx, y, 1, a, -1, b);
}

static TapeBackward mul_backward;

/* y = a * b */
Tensor mul(Context *ctx, Tensor a, Tensor b) {
    STAND_IN(ctx, OP_MUL, .x = a, .z = b);
    if (ctx->error.set) return (Tensor){0};
    assert(same_shape(a, b));
    Tensor y = tensor_new(ctx, a.ndim, a.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(a);
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = a.data[i] * b.data[i];
    if (!is_variable(ctx, a) && !is_variable(ctx, b)) return y;
    return tape_record(ctx, y, mul_backward, &(Two){1, 1, a, b}, sizeof(Two));
}

/* da += dy b,  db += dy a */
static void mul_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Two *two = call;
    const int64_t n = tensor_numel(y);
    const real *a = two->a.data, *b = two->b.data;
    real *da = tape_gradient(ctx, two->a), *db = tape_gradient(ctx, two->b);
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) {
        if (da) da[i] += dy[i] * b[i];
        if (db) db[i] += dy[i] * a[i];
    }
}

/* y = s a */
Tensor scale(Context *ctx, Tensor a, double s) {
    STAND_IN(ctx, OP_SCALE, .x = a, .s = s);
    if (ctx->error.set) return (Tensor){0};
    Tensor y = tensor_new(ctx, a.ndim, a.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(a);
    const real factor = (real)s;
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = factor * a.data[i];
    return sum_recorded(ctx, y, s, a, 0, (Tensor){0});
}

/* y = s a + t b */
Tensor axpby(Context *ctx, double s, Tensor a, double t, Tensor b) {
    STAND_IN(ctx, OP_AXPBY, .x = a, .z = b, .s = s, .t = t);
    if (ctx->error.set) return (Tensor){0};
    assert(same_shape(a, b));
    Tensor y = tensor_new(ctx, a.ndim, a.dim);
    if (ctx->error.set) return (Tensor){0};
    const int64_t n = tensor_numel(a);
    const real fa = (real)s, fb = (real)t;
    const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) y.data[i] = fa * a.data[i] + fb * b.data[i];
    return sum_recorded(ctx, y, s, a, t, b);
}

static TapeBackward add_channels_backward;

/* y[b, ..., c] = x[b, ..., c] + v[b, c]. x [B, ..., C], v [B, C] */
Tensor add_channels(Context *ctx, Tensor x, Tensor v) {
    STAND_IN(ctx, OP_ADD_CHANNELS, .x = x, .z = v);
    if (ctx->error.set) return (Tensor){0};
    const int64_t B = x.dim[0], C = tensor_cols(x), L = tensor_rows(x) / B;
    assert(x.ndim >= 2 && v.ndim == 2 && v.dim[0] == B && v.dim[1] == C);
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    if (ctx->error.set) return (Tensor){0};
    const int threads = parallel_threads(ctx, B * L * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < B * L; row++)
        for (int64_t c = 0; c < C; c++)
            y.data[row * C + c] = x.data[row * C + c] + v.data[row / L * C + c];
    if (!is_variable(ctx, x) && !is_variable(ctx, v)) return y;
    return tape_record(ctx, y, add_channels_backward, &(Two){1, 1, x, v}, sizeof(Two));
}

/* dx += dy,  dv[b, c] += the sum of dy[b, ..., c] */
static void add_channels_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Two *two = call;
    const int64_t B = y.dim[0], C = tensor_cols(y), L = tensor_rows(y) / B;
    add_scaled(ctx, B * L * C, 1, dy, tape_gradient(ctx, two->a));
    real *dv = tape_gradient(ctx, two->b);
    if (!dv) return;
    ArenaMark mark = scope_begin(ctx);
    double *sum = scratch_doubles(ctx, C);
    for (int64_t b = 0; b < B && !ctx->error.set; b++) {
        column_sums(ctx, L, C, dy + b * L * C, sum);
        for (int64_t c = 0; c < C; c++) dv[b * C + c] += (real)sum[c];
    }
    arena_release(&ctx->arena, mark);
}

static TapeBackward concat_backward;

/* torch.cat along the channels. a [..., Ca], b [..., Cb] -> [..., Ca + Cb] */
Tensor concat(Context *ctx, Tensor a, Tensor b) {
    STAND_IN(ctx, OP_CONCAT, .x = a, .z = b);
    if (ctx->error.set) return (Tensor){0};
    assert(a.ndim == b.ndim);
    for (int i = 0; i + 1 < a.ndim; i++) assert(a.dim[i] == b.dim[i]);
    const int64_t M = tensor_rows(a), Ca = tensor_cols(a), Cb = tensor_cols(b), C = Ca + Cb;
    Tensor y = a;
    y.dim[a.ndim - 1] = C;
    y = tensor_new(ctx, y.ndim, y.dim);
    if (ctx->error.set) return (Tensor){0};
    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++) {
        memcpy(y.data + m * C, a.data + m * Ca, (size_t)Ca * sizeof(real));
        memcpy(y.data + m * C + Ca, b.data + m * Cb, (size_t)Cb * sizeof(real));
    }
    if (!is_variable(ctx, a) && !is_variable(ctx, b)) return y;
    return tape_record(ctx, y, concat_backward, &(Two){1, 1, a, b}, sizeof(Two));
}

/* to[m, c] += from[m, c], whose rows lie ld apart */
static void add_columns(const Context *ctx, int64_t M, int64_t C, const real *from, int64_t ld,
                        real *to) {
    if (!to) return;
    const int threads = parallel_threads(ctx, M * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t m = 0; m < M; m++)
        for (int64_t c = 0; c < C; c++) to[m * C + c] += from[m * ld + c];
}

/* da[m] += the first Ca of dy[m],  db[m] += the others */
static void concat_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Two *two = call;
    const int64_t M = tensor_rows(y), Ca = tensor_cols(two->a), Cb = tensor_cols(two->b);
    add_columns(ctx, M, Ca, dy, Ca + Cb, tape_gradient(ctx, two->a));
    add_columns(ctx, M, Cb, dy + Ca, Ca + Cb, tape_gradient(ctx, two->b));
}

/* y [cols, rows] = x [rows, cols]^T, in squares that fit the cache on both sides. */
static void transpose(const Context *ctx, int64_t rows, int64_t cols, const real *x, real *y) {
    enum { SQUARE = 32 };
    const int threads = parallel_threads(ctx, rows * cols / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t r0 = 0; r0 < rows; r0 += SQUARE)
        for (int64_t c0 = 0; c0 < cols; c0 += SQUARE)
            for (int64_t c = c0; c < cols && c < c0 + SQUARE; c++)
                for (int64_t r = r0; r < rows && r < r0 + SQUARE; r++)
                    y[c * rows + r] = x[r * cols + c];
}

/* dx [rows, cols] += dy [cols, rows]^T, for both changes of layout: x [rows, cols] -> y [cols, rows] */
typedef struct Transpose {
    int64_t rows, cols;
    Tensor x;
} Transpose;

static void transpose_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Transpose *t = call;
    real *dx = tape_gradient(ctx, t->x);
    ArenaMark mark = scope_begin(ctx);
    real *back = scratch_reals(ctx, (size_t)tensor_numel(y));
    if (!dx || !back) return;
    transpose(ctx, t->cols, t->rows, dy, back);
    add_scaled(ctx, tensor_numel(y), 1, back, dx);
    arena_release(&ctx->arena, mark);
}

static Tensor transposed(Context *ctx, Transpose t, Tensor y) {
    transpose(ctx, t.rows, t.cols, t.x.data, y.data);
    return is_variable(ctx, t.x) ? tape_record(ctx, y, transpose_backward, &t, sizeof t) : y;
}

/* [C, H, W] -> [H, W, C] */
Tensor channels_last(Context *ctx, Tensor x) {
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim == 3);
    Tensor y = TENSOR_NEW(ctx, x.dim[1], x.dim[2], x.dim[0]);
    if (ctx->error.set) return (Tensor){0};
    return transposed(ctx, (Transpose){x.dim[0], x.dim[1] * x.dim[2], x}, y);
}

/* [H, W, C] -> [C, H, W] */
Tensor channels_first(Context *ctx, Tensor x) {
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim == 3);
    Tensor y = TENSOR_NEW(ctx, x.dim[2], x.dim[0], x.dim[1]);
    if (ctx->error.set) return (Tensor){0};
    return transposed(ctx, (Transpose){x.dim[0] * x.dim[1], x.dim[2], x}, y);
}
