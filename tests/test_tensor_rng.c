/* torch.randn's float32 stream (golden/export_operators.py, rng). */
#include "tests/test_tensor.h"

#include <inttypes.h>
#include <stdio.h>

static const uint64_t seeds[] = {0, 42, ((uint64_t)1 << 32) + 5, INT64_MAX};

static void assert_stream(const real *got, Tensor expected) {
    for (int64_t i = 0; i < tensor_numel(expected); i++)
        if (!(fabs((double)got[i] - (double)expected.data[i]) <= 2e-6))
            fail_msg("draw %" PRId64 " is %.9g, torch's %.9g", i, (double)got[i],
                     (double)expected.data[i]);
}

static void test_size(void **state) {
    const int64_t n = *(const int64_t *)*state;
    Golden *g = golden_open("ops_rng");
    Context ctx = {0};
    Tensor got = TENSOR_NEW(&ctx, n);
    for (size_t s = 0; s < sizeof seeds / sizeof *seeds; s++) {
        char name[64];
        snprintf(name, sizeof name, "%" PRIu64 "/%" PRId64, seeds[s], n);
        Rng rng = rng_seed(seeds[s]);
        rng_normal(&rng, got.data, n);
        assert_stream(got.data, golden_tensor(g, &ctx, name));
    }
    assert_context_ok(&ctx);
    context_free(&ctx);
    golden_close(g);
}

static void test_calls(void **state) {
    (void)state;
    Golden *g = golden_open("ops_rng");
    Context ctx = {0};
    int64_t count;
    const int64_t *sizes = golden_ids(g, "sizes", &count);
    for (size_t s = 0; s < sizeof seeds / sizeof *seeds; s++) {
        char name[64];
        snprintf(name, sizeof name, "%" PRIu64 "/calls", seeds[s]);
        Tensor expected = golden_tensor(g, &ctx, name), got = tensor_copy(&ctx, expected);
        Rng rng = rng_seed(seeds[s]);
        int64_t at_draw = 0;
        for (int64_t i = 0; i < count; at_draw += sizes[i++])
            rng_normal(&rng, got.data + at_draw, sizes[i]);
        assert_int_equal(at_draw, tensor_numel(expected));
        assert_stream(got.data, expected);
    }
    context_free(&ctx);
    golden_close(g);
}

static void test_uniform(void **state) {
    (void)state;
    Golden *g = golden_open("ops_rng");
    Context ctx = {0};
    for (size_t s = 0; s < sizeof seeds / sizeof *seeds; s++) {
        char name[64];
        snprintf(name, sizeof name, "%" PRIu64 "/uniform", seeds[s]);
        Tensor expected = golden_tensor(g, &ctx, name);
        float got[50];
        Rng rng = rng_seed(seeds[s]);
        rng_uniform(&rng, -0.3, 0.7, got, 50);
        for (int i = 0; i < 50; i++)
            assert_true(fabs((double)got[i] - (double)expected.data[i]) <= 1e-7);
    }
    context_free(&ctx);
    golden_close(g);
}

/* The reference implementation's first outputs: init_genrand(5489), whose 10000th is known too. */
static void test_twister(void **state) {
    (void)state;
    Rng rng = rng_seed(5489);
    float u = 0;
    rng_uniform(&rng, 0, 1, &u, 1);
    assert_true(u == (float)(3499211612u & 0xffffff) * 0x1p-24f);
    for (int i = 1; i < 10000; i++) rng_uniform(&rng, 0, 1, &u, 1);
    assert_true(u == (float)(4123659995u & 0xffffff) * 0x1p-24f);
}

static void test_low_32_bits_seed(void **state) {
    (void)state;
    real a[40], b[40];
    Rng first = rng_seed(7), second = rng_seed(((uint64_t)9 << 32) + 7);
    rng_normal(&first, a, 40);
    rng_normal(&second, b, 40);
    assert_memory_equal(a, b, sizeof a);
}

static void test_kept_normal_survives_long_fill(void **state) {
    (void)state;
    real pair[2], one, fill[16];
    Rng a = rng_seed(3), b = rng_seed(3);
    rng_normal(&a, pair, 2);
    rng_normal(&b, &one, 1);
    rng_normal(&b, fill, 16);
    rng_normal(&b, &one, 1);
    assert_true(one == pair[1]);
}

static void test_moments(void **state) {
    (void)state;
    enum { N = 200000 };
    real *x = malloc(N * sizeof *x);
    assert_non_null(x);
    Rng rng = rng_seed(1);
    rng_normal(&rng, x, N);
    double mean = 0, square = 0;
    for (int i = 0; i < N; i++) {
        assert_true(isfinite(x[i]) &&
                    (real)(float)x[i] == x[i]); /* float32 numbers in both builds */
        mean += (double)x[i] / N;
        square += (double)x[i] * (double)x[i] / N;
    }
    assert_true(fabs(mean) < 0.01 && fabs(square - 1) < 0.02);
    free(x);
}

#define SIZE(n)                                                                                    \
    {                                                                                              \
        "randn " #n, test_size, NULL, NULL, &(int64_t) { n }                                       \
    }

int main(void) {
    const struct CMUnitTest tests[] = {
        SIZE(1),
        SIZE(2),
        SIZE(7),
        SIZE(15),
        SIZE(16),
        SIZE(17),
        SIZE(31),
        SIZE(100),
        SIZE(16384),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_twister),
        cmocka_unit_test(test_low_32_bits_seed),
        cmocka_unit_test(test_kept_normal_survives_long_fill),
        cmocka_unit_test(test_moments),
    };
    return cmocka_run_group_tests_name("tensor rng", tests, NULL, NULL);
}
