/* The same bytes at any number of threads: every operator on shapes large enough that the work is
 * really divided, at 1, 2, 3 and 7 threads. */
#include "tests/test_tensor.h"

#include <omp.h>

/* 2 * H * W * C elements are worth six threads to the operators that want the most of each. */
enum { H = 67, W = 71, C = 48, L = 1155 };

/* What an operator reads, the same in every run. */
typedef struct Inputs {
    Tensor map, other, rows, keys[2], values[2], vectors;
    Weight square, kernel, norm, half;
} Inputs;

typedef Tensor (*Operator)(Context *ctx, const Inputs *in);

static void test_operator(void **state) {
    Operator run = *(const Operator *)*state;
    Parameter square = PARAMETER(1, 150, C), kernel = PARAMETER(2, 20, C, 3, 3),
              norm = PARAMETER(3, C);
    /* The same bytes without the highest exponent bit, taken as halves: numbers below 2. */
    Parameter half = PARAMETER(1, 150, C);
    half.w.dtype = DTYPE_F16;
    for (size_t i = 1; i < 150 * C * sizeof(float); i += 2) half.memory[i] &= 0xbf;
    Tensor expected = {0};
    Context ctx[4];
    const int threads[4] = {1, 2, 3, 7};
    for (int t = 0; t < 4; t++) {
        ctx[t] = (Context){.threads = threads[t]};
        Context *c = &ctx[t];
        Inputs in = {.square = square.w, .kernel = kernel.w, .norm = norm.w, .half = half.w};
        in.map = filled(TENSOR_NEW(c, 2, H, W, C), 4);
        in.other = filled(TENSOR_NEW(c, 2, H, W, C), 5);
        in.rows = (Tensor){
            .data = in.map.data, .ndim = 3, .dim = {2, L, C, 1}}; /* the beginning of the map */
        for (int b = 0; b < 2; b++) {
            in.keys[b] = filled(TENSOR_NEW(c, L, C), (uint64_t)(6 + b));
            in.values[b] = filled(TENSOR_NEW(c, L, C), (uint64_t)(8 + b));
        }
        in.vectors = filled(TENSOR_NEW(c, 2, C), 10);
        Tensor y = run(c, &in);
        assert_context_ok(c);
        if (t == 0)
            expected = y;
        else
            assert_same_bytes(y, expected);
    }
    for (int t = 0; t < 4; t++) context_free(&ctx[t]);
    free(square.memory);
    free(half.memory);
    free(kernel.memory);
    free(norm.memory);
}

/* Without this the tests above would compare one thread with itself. */
static void test_threads_are_there(void **state) {
    (void)state;
    Context ctx = {.threads = 3};
    int seen = 0;
#pragma omp parallel num_threads(parallel_threads(&ctx, 100))
    {
#pragma omp single
        seen = omp_get_num_threads();
    }
    assert_int_equal(seen, 3);
}

#define OPERATOR_IS(name, ...)                                                                     \
    static Tensor run_##name(Context *c, const Inputs *in) { return __VA_ARGS__; }
OPERATOR_IS(linear, linear(c, in->rows, &in->square, NULL))
OPERATOR_IS(linear_few_rows,
            linear(c, (Tensor){.data = in->rows.data, .ndim = 2, .dim = {10, C, 1, 1}}, &in->square,
                   NULL))
OPERATOR_IS(linear_f16, linear(c, (Tensor){.data = in->rows.data, .ndim = 2, .dim = {300, C, 1, 1}},
                               &in->half, NULL))
OPERATOR_IS(conv2d, conv2d(c, in->map, &in->kernel, NULL, (Conv2d){1, 1, 1, 1, 1}))
OPERATOR_IS(conv2d_stride2, conv2d(c, in->map, &in->kernel, NULL, (Conv2d){2, 0, 0, 1, 1}))
OPERATOR_IS(layer_norm, layer_norm(c, in->map, &in->norm, &in->norm, 1e-5))
OPERATOR_IS(rms_norm, rms_norm(c, in->map, &in->norm, 1e-5))
OPERATOR_IS(group_norm, group_norm(c, in->map, &in->norm, &in->norm, 8, 1e-5))
OPERATOR_IS(silu, silu(c, in->map))
OPERATOR_IS(gelu, gelu(c, in->map))
OPERATOR_IS(gelu_new, gelu_new(c, in->map))
OPERATOR_IS(quick_gelu, quick_gelu(c, in->map))
OPERATOR_IS(geglu, geglu(c, in->map))
OPERATOR_IS(softmax, softmax(c, in->map))
OPERATOR_IS(attention, attention(c, in->rows, in->keys, in->values, 4, 4, MASK_NONE))
OPERATOR_IS(attention_causal, attention(c, in->rows, in->keys, in->values, 4, 4, MASK_CAUSAL))
OPERATOR_IS(attention_window, attention_window(c, in->rows, in->keys, in->values, 4, 4, 70))
OPERATOR_IS(attention_own, attention(c, in->rows, in->keys, in->values, 4, 4, MASK_OWN))
OPERATOR_IS(rope, rope(c, in->keys[0], 4, 8, 1e4, 2.5, 3))
OPERATOR_IS(embedding, embedding(c, (int64_t[]){3, 149, 0}, 3, &in->square))
OPERATOR_IS(resize_nearest, resize_nearest(c, in->map, 2 * H, 2 * W))
OPERATOR_IS(add, add(c, in->map, in->other))
OPERATOR_IS(sub, sub(c, in->map, in->other))
OPERATOR_IS(mul, mul(c, in->map, in->other))
OPERATOR_IS(scale, scale(c, in->map, 0.3))
OPERATOR_IS(axpby, axpby(c, 0.3, in->map, -1.1, in->other))
OPERATOR_IS(add_channels, add_channels(c, in->map, in->vectors))
OPERATOR_IS(concat, concat(c, in->map, in->other))
OPERATOR_IS(channels_last, channels_last(c, tensor_at(in->map, 1)))
OPERATOR_IS(channels_first, channels_first(c, tensor_at(in->map, 1)))

#define TEST(name)                                                                                 \
    {                                                                                              \
#        name, test_operator, NULL, NULL, &(Operator) { run_##name }                               \
    }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_are_there),
        TEST(linear),
        TEST(linear_few_rows),
        TEST(linear_f16),
        TEST(conv2d),
        TEST(conv2d_stride2),
        TEST(layer_norm),
        TEST(rms_norm),
        TEST(group_norm),
        TEST(silu),
        TEST(gelu),
        TEST(gelu_new),
        TEST(quick_gelu),
        TEST(geglu),
        TEST(softmax),
        TEST(attention),
        TEST(attention_causal),
        TEST(attention_window),
        TEST(attention_own),
        TEST(rope),
        TEST(embedding),
        TEST(resize_nearest),
        TEST(add),
        TEST(sub),
        TEST(mul),
        TEST(scale),
        TEST(axpby),
        TEST(add_channels),
        TEST(concat),
        TEST(channels_last),
        TEST(channels_first),
    };
    return cmocka_run_group_tests_name("tensor at any number of threads", tests, NULL, NULL);
}
