/* weight_read: every stored type, every f16 and bf16 there is, at any address. */
#include "tests/test_tensor.h"

/* What IEEE 754 says, by arithmetic and not by moving bits. */
static double value_of(unsigned bits, int exponent_bits, int fraction_bits) {
    const unsigned fraction = bits & ((1u << fraction_bits) - 1);
    const int exponent = (int)(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
    const int bias = (1 << (exponent_bits - 1)) - 1, special = (1 << exponent_bits) - 1;
    double v;
    if (exponent == special)
        v = fraction ? (double)NAN : (double)INFINITY;
    else if (exponent == 0)
        v = ldexp(fraction, 1 - bias - fraction_bits);
    else
        v = ldexp((1u << fraction_bits) + fraction, exponent - bias - fraction_bits);
    return bits >> (exponent_bits + fraction_bits) ? -v : v;
}

static void check_all(Dtype dtype, int exponent_bits, int fraction_bits, size_t offset) {
    unsigned char *memory = malloc(2 * 65536 + offset);
    real *out = malloc(65536 * sizeof *out);
    assert_true(memory && out);
    for (unsigned i = 0; i < 65536; i++) {
        uint16_t bits = (uint16_t)i;
        memcpy(memory + offset + 2 * i, &bits, sizeof bits);
    }
    Weight w = {.data = memory + offset, .dtype = dtype, .ndim = 1, .dim = {65536, 1, 1, 1}};
    weight_read(&w, 0, 65536, out);
    for (unsigned i = 0; i < 65536; i++) {
        const double v = value_of(i, exponent_bits, fraction_bits);
        if (isnan(v))
            assert_true(isnan(out[i]));
        else if ((double)out[i] != v || !signbit(out[i]) != !signbit(v))
            fail_msg("%s %04x is %.9g, read as %.9g", dtype_name(dtype), i, v, (double)out[i]);
    }
    free(memory);
    free(out);
}

static void test_f16(void **state) {
    (void)state;
    check_all(DTYPE_F16, 5, 10, 0);
}

static void test_f16_unaligned(void **state) {
    (void)state;
    check_all(DTYPE_F16, 5, 10, 1);
}

static void test_bf16(void **state) {
    (void)state;
    check_all(DTYPE_BF16, 8, 7, 0);
}

static void test_bf16_unaligned(void **state) {
    (void)state;
    check_all(DTYPE_BF16, 8, 7, 3);
}

static void test_f16_landmarks(void **state) {
    (void)state;
    const uint16_t bits[] = {0x3c00, 0xc000, 0x0001, 0x03ff, 0x0400, 0x7bff, 0x8000, 0x3555};
    const double value[] = {1, -2, 0x1p-24, 0x3ffp-24, 0x1p-14, 65504, -0.0, 0x555p-12};
    real out[8];
    weight_read(&(Weight){.data = bits, .dtype = DTYPE_F16, .ndim = 1, .dim = {8}}, 0, 8, out);
    for (int i = 0; i < 8; i++) assert_true((double)out[i] == value[i]);
}

static void test_f32_unaligned(void **state) {
    (void)state;
    for (size_t offset = 0; offset < 8; offset++) {
        Parameter p = parameter(5, offset, 1, (int64_t[]){37});
        real out[37];
        weight_read(&p.w, 0, 37, out);
        for (int i = 0; i < 37; i++) assert_true((double)out[i] == at(&p.w, i));
        free(p.memory);
    }
}

static void test_f64(void **state) {
    (void)state;
    const double value[] = {1.0 / 3, -1e-300, 0.1, 3e30};
    unsigned char memory[sizeof value + 1];
    memcpy(memory + 1, value, sizeof value);
    real out[4];
    weight_read(&(Weight){.data = memory + 1, .dtype = DTYPE_F64, .ndim = 1, .dim = {4}}, 0, 4,
                out);
    for (int i = 0; i < 4; i++) assert_true(out[i] == (real)value[i]);
}

static void test_range(void **state) {
    (void)state;
    for (int d = DTYPE_F64; d <= DTYPE_BF16; d++) {
        unsigned char memory[8 * 20];
        uint64_t seed = 9;
        /* Any bytes below 0x40 on top are finite numbers of all four types. */
        for (size_t i = 0; i < sizeof memory; i++)
            memory[i] = (unsigned char)(number(&seed) * 31 + 31);
        Weight w = {.data = memory, .dtype = (Dtype)d, .ndim = 1, .dim = {20}};
        real all[20], part[20] = {0};
        weight_read(&w, 0, 20, all);
        weight_read(&w, 7, 5, part);
        assert_memory_equal(part, all + 7, 5 * sizeof(real));
        assert_true(part[5] == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16),           cmocka_unit_test(test_f16_unaligned),
        cmocka_unit_test(test_bf16),          cmocka_unit_test(test_bf16_unaligned),
        cmocka_unit_test(test_f16_landmarks), cmocka_unit_test(test_f32_unaligned),
        cmocka_unit_test(test_f64),           cmocka_unit_test(test_range),
    };
    return cmocka_run_group_tests_name("tensor weight", tests, NULL, NULL);
}
