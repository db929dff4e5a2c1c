/* The tiled products against the loops of their definitions, in double, over a grid of shapes on both
 * sides of every tile and strip. */
#include "tests/test_tensor.h"

/* ---- matrix products ----------------------------------------------------------------------------- */

static void check_gemm_weight(int64_t M, int64_t N, int64_t K, size_t offset) {
    Context ctx = {.threads = 2};
    Parameter w = parameter(1, offset, 2, (int64_t[]){N, K});
    Tensor x = filled(TENSOR_NEW(&ctx, M, K), 2), y = TENSOR_NEW(&ctx, M, N);
    gemm_weight(&ctx, M, N, K, x.data, &w.w, y.data);
    assert_context_ok(&ctx);
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) {
            double sum = 0;
            for (int64_t k = 0; k < K; k++) sum += (double)x.data[m * K + k] * at(&w.w, n * K + k);
            assert_near(y.data[m * N + n], sum, K);
        }
    free(w.memory);
    context_free(&ctx);
}

static void test_gemm_weight_grid(void **state) {
    (void)state;
    const int64_t M[] = {1, 2, 10, 63, 64, 65, 256, 257}, N[] = {1, 3, 64, 65, 130, 257},
                  K[] = {1, 7, 33};
    for (size_t m = 0; m < sizeof M / sizeof *M; m++)
        for (size_t n = 0; n < sizeof N / sizeof *N; n++)
            for (size_t k = 0; k < sizeof K / sizeof *K; k++)
                check_gemm_weight(M[m], N[n], K[k], 0);
}

static void test_gemm_weight_unaligned(void **state) {
    (void)state;
    for (size_t offset = 1; offset < 8; offset++) {
        check_gemm_weight(300, 260, 19, offset); /* two panels, each for two tiles of rows */
        check_gemm_weight(10, 150, 19, offset);
    }
}

static void test_gemm_weight_nothing(void **state) {
    (void)state;
    Context ctx = {0};
    Parameter w = PARAMETER(1, 3, 4);
    gemm_weight(&ctx, 0, 3, 4, NULL, &w.w, NULL);
    assert_context_ok(&ctx);
    free(w.memory);
    context_free(&ctx);
}

static void test_gemm_tile(void **state) {
    (void)state;
    enum { M = 9, N = 13, K = 17, GAP = 3 };
    Context ctx = {0};
    parallel_threads(&ctx, 1); /* what every caller of gemm_tile has done */
    Tensor a = filled(TENSOR_NEW(&ctx, M, K + GAP), 1),
           b = filled(TENSOR_NEW(&ctx, N + K, N + K), 2);
    for (int transpose = 0; transpose <= 1; transpose++) {
        Tensor c = filled(TENSOR_NEW(&ctx, M, N + GAP), 3);
        Tensor before = tensor_copy(&ctx, c);
        gemm_tile(transpose, M, N, K, (real)0.5, a.data, K + GAP, b.data, N + K, c.data, N + GAP);
        for (int m = 0; m < M; m++) {
            for (int n = 0; n < N; n++) {
                double sum = 0;
                for (int k = 0; k < K; k++)
                    sum += (double)a.data[m * (K + GAP) + k] *
                           (double)b.data[transpose ? n * (N + K) + k : k * (N + K) + n];
                assert_near(c.data[m * (N + GAP) + n], sum / 2, K);
            }
            assert_memory_equal(c.data + m * (N + GAP) + N, before.data + m * (N + GAP) + N,
                                GAP * sizeof(real)); /* nothing between the rows */
        }
    }
    context_free(&ctx);
}

static void test_parallel_threads(void **state) {
    (void)state;
    Context ctx = {.threads = 3};
    assert_int_equal(parallel_threads(&ctx, 100), 3);
    assert_int_equal(parallel_threads(&ctx, 2), 2);
    assert_int_equal(parallel_threads(&ctx, 0), 1);
    ctx.threads = 1;
    assert_int_equal(parallel_threads(&ctx, 100), 1);
    ctx.threads = 0;
    assert_true(parallel_threads(&ctx, 100) >= 1);
    assert_int_equal(parallel_threads(&ctx, 1), 1);
}

/* ---- convolution --------------------------------------------------------------------------------- */

static void check_conv(int64_t B, int64_t H, int64_t W, int64_t C, int64_t N, int64_t kh,
                       int64_t kw, Conv2d o) {
    Context ctx = {.threads = 2};
    Parameter w = PARAMETER(1, N, C, kh, kw), bias = PARAMETER(2, N);
    Tensor x = filled(TENSOR_NEW(&ctx, B, H, W, C), 3);
    Tensor y = conv2d(&ctx, x, &w.w, &bias.w, o);
    assert_context_ok(&ctx);
    const int64_t height = (H + o.top + o.bottom - kh) / o.stride + 1;
    const int64_t width = (W + o.left + o.right - kw) / o.stride + 1;
    assert_int_equal(y.dim[1], height);
    assert_int_equal(y.dim[2], width);
    const real *got = y.data;
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < height; i++)
            for (int64_t j = 0; j < width; j++)
                for (int64_t n = 0; n < N; n++) {
                    double sum = at(&bias.w, n);
                    for (int64_t c = 0; c < C; c++)
                        for (int64_t u = 0; u < kh; u++)
                            for (int64_t v = 0; v < kw; v++) {
                                int64_t r = i * o.stride + u - o.top, s = j * o.stride + v - o.left;
                                if (r < 0 || r >= H || s < 0 || s >= W) continue;
                                sum += (double)x.data[((b * H + r) * W + s) * C + c] *
                                       at(&w.w, ((n * C + c) * kh + u) * kw + v);
                            }
                    assert_near(*got++, sum, C * kh * kw);
                }
    free(w.memory);
    free(bias.memory);
    context_free(&ctx);
}

static void test_conv_grid(void **state) {
    (void)state;
    for (int64_t k = 1; k <= 5; k += 2)
        for (int64_t stride = 1; stride <= 3; stride++)
            for (int64_t pad = 0; pad <= 2; pad++) {
                Conv2d same = {stride, pad, pad, pad, pad}, corner = {stride, 0, 0, pad, pad};
                check_conv(2, 7, 9, 3, 4, k, k, same);
                check_conv(1, 6, 5, 2, 3, k, k, corner);
            }
}

static void test_conv_uneven_kernel(void **state) {
    (void)state;
    check_conv(2, 6, 7, 3, 2, 1, 3, (Conv2d){1, 0, 1, 0, 1});
    check_conv(2, 6, 7, 3, 2, 3, 1, (Conv2d){2, 1, 0, 1, 0});
    check_conv(1, 6, 7, 3, 2, 2, 4, (Conv2d){1, 1, 2, 0, 3});
}

/* More pixels than a strip, and a batch whose pictures end within one. */
static void test_conv_strips(void **state) {
    (void)state;
    check_conv(3, 31, 23, 2, 3, 3, 3, (Conv2d){1, 1, 1, 1, 1});
    check_conv(1, 1, 1100, 2, 2, 3, 3, (Conv2d){1, 1, 1, 1, 1});
}

/* A 1x1 convolution of stride 1 is a linear layer on the map: the same bytes. */
static void test_conv_1x1_is_linear(void **state) {
    (void)state;
    Context ctx = {.threads = 2};
    Parameter w = PARAMETER(1, 6, 5, 1, 1), b = PARAMETER(2, 6);
    Tensor x = filled(TENSOR_NEW(&ctx, 2, 4, 3, 5), 3);
    Weight flat = w.w;
    flat.ndim = 2;
    assert_same_bytes(conv2d(&ctx, x, &w.w, &b.w, (Conv2d){1, 0, 0, 0, 0}),
                      linear(&ctx, x, &flat, &b.w));
    free(w.memory);
    free(b.memory);
    context_free(&ctx);
}

/* ---- attention ----------------------------------------------------------------------------------- */

static void check_attention(int64_t B, int64_t Lq, int64_t Lk, int64_t heads, int64_t kv_heads,
                            int64_t d, AttentionMask mask, int64_t window) {
    Context ctx = {.threads = 2};
    Tensor q = filled(TENSOR_NEW(&ctx, B, Lq, heads * d), 1), k[3], v[3];
    for (int64_t b = 0; b < B; b++) { /* each element has its own number of keys */
        const int64_t keys = mask == MASK_NONE ? Lk + 3 * b : Lq;
        k[b] = filled(TENSOR_NEW(&ctx, keys, kv_heads * d), (uint64_t)(10 + b));
        v[b] = filled(TENSOR_NEW(&ctx, keys, kv_heads * d), (uint64_t)(20 + b));
    }
    Tensor y = window ? attention_window(&ctx, q, k, v, heads, kv_heads, window)
                      : attention(&ctx, q, k, v, heads, kv_heads, mask);
    assert_context_ok(&ctx);
    double *p = malloc((size_t)(Lk + Lq + 9) * sizeof *p);
    assert_non_null(p);
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i < Lq; i++)
            for (int64_t h = 0; h < heads; h++) {
                const int64_t column = h / (heads / kv_heads) * d, width = kv_heads * d;
                const real *row = q.data + (b * Lq + i) * heads * d + h * d;
                const int64_t last_unseen = window ? i - window : -1;
                const int64_t from = mask == MASK_OWN ? i : last_unseen < 0 ? 0 : last_unseen + 1;
                const int64_t to = mask == MASK_NONE ? k[b].dim[0] : i + 1;
                double sum = 0;
                for (int64_t j = from; j < to; j++) {
                    double dot = 0;
                    for (int64_t c = 0; c < d; c++)
                        dot += (double)row[c] * (double)k[b].data[j * width + column + c];
                    sum += p[j] = exp(dot / sqrt((double)d));
                }
                for (int64_t c = 0; c < d; c++) {
                    double expected = 0;
                    for (int64_t j = from; j < to; j++)
                        expected += p[j] / sum * (double)v[b].data[j * width + column + c];
                    assert_near(y.data[(b * Lq + i) * heads * d + h * d + c], expected, 16);
                }
            }
    free(p);
    context_free(&ctx);
}

static void test_attention_grid(void **state) {
    (void)state;
    const int64_t Lq[] = {1, 2, 63, 64, 65, 130}, Lk[] = {1, 5, 77, 131};
    for (size_t i = 0; i < sizeof Lq / sizeof *Lq; i++)
        for (size_t j = 0; j < sizeof Lk / sizeof *Lk; j++)
            check_attention(2, Lq[i], Lk[j], 2, 2, 5, MASK_NONE, 0);
}

static void test_attention_causal_grid(void **state) {
    (void)state;
    const int64_t L[] = {1, 2, 17, 63, 64, 65, 129};
    for (size_t i = 0; i < sizeof L / sizeof *L; i++)
        check_attention(2, L[i], L[i], 4, 2, 6, MASK_CAUSAL, 0);
}

/* Windows around the tile of 64 queries and around the length. */
static void test_attention_window_grid(void **state) {
    (void)state;
    const int64_t L[] = {1, 2, 17, 64, 65, 200}, window[] = {1, 2, 5, 63, 64, 65, 128, 199, 1000};
    for (size_t i = 0; i < sizeof L / sizeof *L; i++)
        for (size_t j = 0; j < sizeof window / sizeof *window; j++)
            check_attention(2, L[i], L[i], 4, 2, 3, MASK_CAUSAL, window[j]);
}

/* A window as wide as the prompt is no window, and a window of 1 sees the token alone. */
static void test_attention_window_limits(void **state) {
    (void)state;
    enum { L = 100, C = 12 };
    Context ctx = {.threads = 2};
    Tensor q = filled(TENSOR_NEW(&ctx, 1, L, C), 1), k = filled(TENSOR_NEW(&ctx, L, C), 2);
    Tensor v = filled(TENSOR_NEW(&ctx, L, C), 3);
    assert_same_bytes(attention_window(&ctx, q, &k, &v, 3, 3, L),
                      attention(&ctx, q, &k, &v, 3, 3, MASK_CAUSAL));
    assert_same_bytes(attention_window(&ctx, q, &k, &v, 3, 3, 1),
                      attention(&ctx, q, &k, &v, 3, 3, MASK_OWN));
    context_free(&ctx);
}

static void test_attention_own_grid(void **state) {
    (void)state;
    const int64_t L[] = {1, 17, 65};
    for (size_t i = 0; i < sizeof L / sizeof *L; i++)
        check_attention(2, L[i], L[i], 6, 2, 3, MASK_OWN, 0);
}

static void test_attention_grouped(void **state) {
    (void)state;
    for (int64_t kv_heads = 1; kv_heads <= 8; kv_heads *= 2)
        check_attention(3, 10, 12, 8, kv_heads, 4, MASK_NONE, 0);
}

/* A token's output doesn't change when those after it do. */
static void test_attention_causal_is_causal(void **state) {
    (void)state;
    enum { L = 100, C = 12, CHANGED = 70 };
    Context ctx = {.threads = 2};
    Tensor q = filled(TENSOR_NEW(&ctx, 1, L, C), 1), k = filled(TENSOR_NEW(&ctx, L, C), 2);
    Tensor v = filled(TENSOR_NEW(&ctx, L, C), 3);
    Tensor before = attention(&ctx, q, &k, &v, 3, 3, MASK_CAUSAL);
    for (int64_t i = CHANGED * C; i < L * C; i++) k.data[i] = v.data[i] = q.data[i] = 7;
    Tensor after = attention(&ctx, q, &k, &v, 3, 3, MASK_CAUSAL);
    assert_memory_equal(before.data, after.data, CHANGED * C * sizeof(real));
    assert_memory_not_equal(before.data + CHANGED * C, after.data + CHANGED * C, C * sizeof(real));
    context_free(&ctx);
}

/* ---- softmax ------------------------------------------------------------------------------------- */

/* Rows around the 16 lanes, down to where exp leaves the range. */
static void test_softmax_row(void **state) {
    (void)state;
    real x[100], y[100];
    for (int64_t n = 1; n <= 100; n++)
        for (double spread = 0.1; spread < 1e5; spread *= 10) {
            uint64_t seed = (uint64_t)n;
            double sum = 0, max = -INFINITY;
            for (int64_t i = 0; i < n; i++) {
                x[i] = y[i] = (real)(spread * number(&seed));
                max = fmax(max, (double)x[i]);
            }
            for (int64_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
            softmax_row(y, n);
            for (int64_t i = 0; i < n; i++) assert_near(y[i], exp((double)x[i] - max) / sum, 0);
        }
}

static void test_softmax_of_nan_is_nan(void **state) {
    (void)state;
    for (int bad = 0; bad < 20; bad++) {
        real x[20] = {0};
        x[bad] = (real)NAN;
        softmax_row(x, 20);
        for (int i = 0; i < 20; i++) assert_true(isnan(x[i]));
    }
}

/* ---- signs and limits ---------------------------------------------------------------------------- */

static void test_activations_at_the_ends(void **state) {
    (void)state;
    Context ctx = {0};
    Tensor x = TENSOR_NEW(&ctx, 4);
    const real ends[4] = {(real)-1e30, -200, 200, (real)1e30};
    memcpy(x.data, ends, sizeof ends);
    Tensor y[4] = {silu(&ctx, x), gelu(&ctx, x), gelu_new(&ctx, x), quick_gelu(&ctx, x)};
    for (int f = 0; f < 4; f++) {
        assert_true(y[f].data[0] == 0 && fabs((double)y[f].data[1]) < 1e-80);
        assert_true(y[f].data[2] == 200 && y[f].data[3] == (real)1e30);
    }
    context_free(&ctx);
}

static void test_layouts_are_inverse(void **state) {
    (void)state;
    Context ctx = {.threads = 2};
    Tensor x = filled(TENSOR_NEW(&ctx, 37, 41, 33), 1);
    assert_same_bytes(channels_last(&ctx, channels_first(&ctx, x)), x);
    assert_same_bytes(channels_first(&ctx, channels_last(&ctx, x)), x);
    context_free(&ctx);
}

/* Norms around the mean don't see what is added to all of it, not in one bit: here every sum is a
 * whole number below 2^53 and every count a power of two. A variance that is the difference of two
 * sums of squares would have lost it. */
static void test_norms_around_the_mean(void **state) {
    (void)state;
    enum { ROWS = 16, C = 64 };
    Context ctx = {.threads = 2};
    Parameter w = PARAMETER(1, C), b = PARAMETER(2, C);
    Tensor x = TENSOR_NEW(&ctx, 1, ROWS, C), far = TENSOR_NEW(&ctx, 1, ROWS, C);
    for (int64_t i = 0; i < ROWS * C; i++) {
        x.data[i] = (real)(i * i % 17 - 8);
        far.data[i] = x.data[i] + (real)(1 << 23);
    }
    assert_same_bytes(layer_norm(&ctx, far, &w.w, &b.w, 1e-5),
                      layer_norm(&ctx, x, &w.w, &b.w, 1e-5));
    assert_same_bytes(group_norm(&ctx, far, &w.w, &b.w, 2, 1e-5),
                      group_norm(&ctx, x, &w.w, &b.w, 2, 1e-5));
    free(w.memory);
    free(b.memory);
    context_free(&ctx);
}

/* Linear scaling: every third row at factor 3 stands where all rows stand at factor 1, to the
 * rounding of w / 3 * 3. */
static void test_rope_factor(void **state) {
    (void)state;
    Context ctx = {.threads = 2};
    Tensor x = TENSOR_NEW(&ctx, 13, 8), same = TENSOR_NEW(&ctx, 5, 8);
    for (int64_t i = 0; i < 13 * 8; i++) x.data[i] = (real)(i % 8 + 1);
    memcpy(same.data, x.data, 5 * 8 * sizeof(real));
    Tensor slow = rope(&ctx, x, 1, 8, 1e4, 3, 0), plain = rope(&ctx, same, 1, 8, 1e4, 1, 0);
    for (int64_t row = 0; row < 5; row++)
        for (int64_t j = 0; j < 8; j++)
            assert_near(slow.data[3 * row * 8 + j], (double)plain.data[row * 8 + j], 16);
    context_free(&ctx);
}

/* Position enters as m alone: rows 0 .. 9 at position 5 are rows 5 .. 14 at position 0. */
static void test_rope_offset(void **state) {
    (void)state;
    Context ctx = {.threads = 2};
    Tensor x = filled(TENSOR_NEW(&ctx, 15, 24), 1);
    Tensor all = rope(&ctx, x, 2, 8, 1e4, 1, 0);
    Tensor late = rope(&ctx, (Tensor){.data = x.data + 5 * 24, .ndim = 2, .dim = {10, 24, 1, 1}}, 2,
                       8, 1e4, 1, 5);
    assert_memory_equal(late.data, all.data + 5 * 24, 10 * 24 * sizeof(real));
    assert_memory_equal(all.data, x.data, 24 * sizeof(real)); /* position 0 turns nothing */
    context_free(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gemm_weight_grid),
        cmocka_unit_test(test_gemm_weight_unaligned),
        cmocka_unit_test(test_gemm_weight_nothing),
        cmocka_unit_test(test_gemm_tile),
        cmocka_unit_test(test_parallel_threads),
        cmocka_unit_test(test_conv_grid),
        cmocka_unit_test(test_conv_uneven_kernel),
        cmocka_unit_test(test_conv_strips),
        cmocka_unit_test(test_conv_1x1_is_linear),
        cmocka_unit_test(test_attention_grid),
        cmocka_unit_test(test_attention_causal_grid),
        cmocka_unit_test(test_attention_window_grid),
        cmocka_unit_test(test_attention_window_limits),
        cmocka_unit_test(test_attention_own_grid),
        cmocka_unit_test(test_attention_grouped),
        cmocka_unit_test(test_attention_causal_is_causal),
        cmocka_unit_test(test_softmax_row),
        cmocka_unit_test(test_softmax_of_nan_is_nan),
        cmocka_unit_test(test_activations_at_the_ends),
        cmocka_unit_test(test_layouts_are_inverse),
        cmocka_unit_test(test_norms_around_the_mean),
        cmocka_unit_test(test_rope_offset),
        cmocka_unit_test(test_rope_factor),
    };
    return cmocka_run_group_tests_name("tensor against plain loops", tests, NULL, NULL);
}
