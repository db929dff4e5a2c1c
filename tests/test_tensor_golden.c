/* Every operator against upstream's function in float64 (golden/export_operators.py), each case its
 * own test, and the same bytes at one, two and three threads. */
#include "tests/test_tensor.h"

#include <stdio.h>

/* A case's parameters, as the exporter's tables have them. */
typedef struct Case {
    const char *golden, *prefix;
    Tensor (*run)(Context *ctx, Golden *g, const struct Case *c);
    Conv2d conv;
    double eps, theta, factor;
    int64_t groups, heads, kv_heads, rotary, position, height, width, window;
    AttentionMask mask;
} Case;

static const char *path(char out[128], const Case *c, const char *name) {
    snprintf(out, 128, "%s%s", c->prefix, name);
    return out;
}

static Tensor input(Context *ctx, Golden *g, const Case *c, const char *name) {
    char full[128];
    return golden_tensor(g, ctx, path(full, c, name));
}

/* NULL if the case has no such parameter. */
static const Weight *param(Weight *w, Golden *g, const Case *c, const char *name) {
    char full[128];
    if (!golden_has(g, path(full, c, name))) return NULL;
    *w = golden_weight(g, full);
    return w;
}

static void test_case(void **state) {
    const Case *c = *state;
    char full[128];
    Golden *g = golden_open(c->golden);
    Context one = {.threads = 1};
    Tensor y = c->run(&one, g, c);
    assert_context_ok(&one);
    golden_check(g, path(full, c, "y"), y, OPERATOR);
    for (int threads = 2; threads <= 3; threads++) {
        Context more = {.threads = threads};
        assert_same_bytes(c->run(&more, g, c), y);
        context_free(&more);
    }
    context_free(&one);
    golden_close(g);
}

static Tensor run_linear(Context *ctx, Golden *g, const Case *c) {
    Weight w, b;
    return linear(ctx, input(ctx, g, c, "x"), param(&w, g, c, "w"), param(&b, g, c, "b"));
}

static Tensor run_conv2d(Context *ctx, Golden *g, const Case *c) {
    Weight w, b;
    return conv2d(ctx, input(ctx, g, c, "x"), param(&w, g, c, "w"), param(&b, g, c, "b"), c->conv);
}

static Tensor run_layer_norm(Context *ctx, Golden *g, const Case *c) {
    Weight w, b;
    return layer_norm(ctx, input(ctx, g, c, "x"), param(&w, g, c, "w"), param(&b, g, c, "b"),
                      c->eps);
}

static Tensor run_group_norm(Context *ctx, Golden *g, const Case *c) {
    Weight w, b;
    return group_norm(ctx, input(ctx, g, c, "x"), param(&w, g, c, "w"), param(&b, g, c, "b"),
                      c->groups, c->eps);
}

static Tensor run_rms_norm(Context *ctx, Golden *g, const Case *c) {
    Weight w;
    return rms_norm(ctx, input(ctx, g, c, "x"), param(&w, g, c, "w"), c->eps);
}

static Tensor run_silu(Context *ctx, Golden *g, const Case *c) {
    return silu(ctx, input(ctx, g, c, "x"));
}
static Tensor run_gelu(Context *ctx, Golden *g, const Case *c) {
    return gelu(ctx, input(ctx, g, c, "x"));
}
static Tensor run_gelu_new(Context *ctx, Golden *g, const Case *c) {
    return gelu_new(ctx, input(ctx, g, c, "x"));
}
static Tensor run_quick_gelu(Context *ctx, Golden *g, const Case *c) {
    return quick_gelu(ctx, input(ctx, g, c, "x"));
}
static Tensor run_geglu(Context *ctx, Golden *g, const Case *c) {
    return geglu(ctx, input(ctx, g, c, "x"));
}
static Tensor run_softmax(Context *ctx, Golden *g, const Case *c) {
    return softmax(ctx, input(ctx, g, c, "x"));
}

static Tensor run_attention(Context *ctx, Golden *g, const Case *c) {
    Tensor q = input(ctx, g, c, "q"), k[2], v[2];
    for (int64_t b = 0; b < q.dim[0]; b++) {
        char name[16];
        snprintf(name, sizeof name, "k.%d", (int)b);
        k[b] = input(ctx, g, c, name);
        snprintf(name, sizeof name, "v.%d", (int)b);
        v[b] = input(ctx, g, c, name);
    }
    if (c->window) return attention_window(ctx, q, k, v, c->heads, c->kv_heads, c->window);
    return attention(ctx, q, k, v, c->heads, c->kv_heads, c->mask);
}

static Tensor run_rope(Context *ctx, Golden *g, const Case *c) {
    return rope(ctx, input(ctx, g, c, "x"), c->heads, c->rotary, c->theta, c->factor, c->position);
}

static Tensor run_embedding(Context *ctx, Golden *g, const Case *c) {
    Weight w;
    char full[128];
    int64_t n;
    const int64_t *ids = golden_ids(g, path(full, c, "ids"), &n);
    return embedding(ctx, ids, n, param(&w, g, c, "w"));
}

static Tensor run_resize_nearest(Context *ctx, Golden *g, const Case *c) {
    return resize_nearest(ctx, input(ctx, g, c, "x"), c->height, c->width);
}

static Tensor run_add_channels(Context *ctx, Golden *g, const Case *c) {
    return add_channels(ctx, input(ctx, g, c, "x"), input(ctx, g, c, "v"));
}

static Tensor run_concat(Context *ctx, Golden *g, const Case *c) {
    return concat(ctx, input(ctx, g, c, "a"), input(ctx, g, c, "b"));
}

static void test_elementwise(void **state) {
    (void)state;
    Golden *g = golden_open("ops_elementwise");
    Context ctx = {.threads = 2};
    Tensor a = golden_tensor(g, &ctx, "two/a"), b = golden_tensor(g, &ctx, "two/b");
    golden_check(g, "two/add", add(&ctx, a, b), OPERATOR);
    golden_check(g, "two/sub", sub(&ctx, a, b), OPERATOR);
    golden_check(g, "two/mul", mul(&ctx, a, b), OPERATOR);
    golden_check(g, "two/scale", scale(&ctx, a, 0.3), OPERATOR);
    golden_check(g, "two/axpby", axpby(&ctx, 0.3, a, -1.7, b), OPERATOR);
    golden_check(g, "two/channels_last", channels_last(&ctx, a), OPERATOR);
    golden_check(g, "two/channels_first", channels_first(&ctx, a), OPERATOR);
    assert_context_ok(&ctx);
    context_free(&ctx);
    golden_close(g);
}

#define CASE(file, op, case_prefix, ...)                                                           \
    {                                                                                              \
#        op " " case_prefix, test_case, NULL, NULL, &(Case) {                                      \
            .golden = "ops_" file, .run = run_##op, .prefix = case_prefix "/", __VA_ARGS__         \
        }                                                                                          \
    }
#define ACTIVATION(op, name) CASE("activation", op, #op "/" name, .theta = 1)
#define ACTIVATIONS(op)                                                                            \
    ACTIVATION(op, "small"), ACTIVATION(op, "map"), ACTIVATION(op, "large"),                       \
        ACTIVATION(op, "huge"), ACTIVATION(op, "tiny"), ACTIVATION(op, "wide")
#define LINEAR(name) CASE("linear", linear, name, .theta = 1)
#define CONV2D(name, ...) CASE("conv2d", conv2d, name, .conv = {__VA_ARGS__})
#define ATTENTION(name, n, kv, m)                                                                  \
    CASE("attention", attention, name, .heads = n, .kv_heads = kv, .mask = m)
#define WINDOW(name, n, kv, size)                                                                  \
    CASE("attention", attention, name, .heads = n, .kv_heads = kv, .window = size)
#define ROPE(name, n, r, t, at)                                                                    \
    CASE("rope", rope, name, .heads = n, .rotary = r, .theta = t, .factor = 1, .position = at)
#define ROPE_LINEAR(name, n, r, t, f, at)                                                          \
    CASE("rope", rope, name, .heads = n, .rotary = r, .theta = t, .factor = f, .position = at)
#define RESIZE(name, h, w) CASE("resample", resize_nearest, name, .height = h, .width = w)

int main(void) {
    const struct CMUnitTest tests[] = {
        LINEAR("one"),
        LINEAR("row"),
        LINEAR("plain"),
        LINEAR("tokens"),
        LINEAR("tiles"),
        LINEAR("long"),
        LINEAR("f16"),
        LINEAR("bf16"),
        LINEAR("f64"),
        LINEAR("f16_tiles"),
        /* stride, top, left, bottom, right */
        CONV2D("3x3", 1, 1, 1, 1, 1),
        CONV2D("batch", 1, 1, 1, 1, 1),
        CONV2D("stride2", 2, 1, 1, 1, 1),
        CONV2D("vae_down", 2, 0, 0, 1, 1),
        CONV2D("1x1", 1, 0, 0, 0, 0),
        CONV2D("1x1_stride2", 2, 0, 0, 0, 0),
        CONV2D("1x1_padded", 1, 1, 0, 2, 1),
        CONV2D("pixel", 1, 1, 1, 1, 1),
        CONV2D("valid", 1, 0, 0, 0, 0),
        CONV2D("one_channel", 1, 1, 1, 1, 1),
        CONV2D("strips", 1, 1, 1, 1, 1),
        CONV2D("f16", 1, 1, 1, 1, 1),
        CONV2D("bf16", 1, 1, 1, 1, 1),
        CONV2D("f64", 1, 1, 1, 1, 1),
        CONV2D("7x7", 3, 2, 3, 1, 0),
        CASE("norm", layer_norm, "layer/tokens", .eps = 1e-5),
        CASE("norm", layer_norm, "layer/map", .eps = 1e-5),
        CASE("norm", layer_norm, "layer/offset", .eps = 1e-5),
        CASE("norm", layer_norm, "layer/tiny", .eps = 1e-5),
        CASE("norm", layer_norm, "layer/no_bias", .eps = 1e-6),
        CASE("norm", layer_norm, "layer/f16", .eps = 1e-5),
        CASE("norm", layer_norm, "layer/bf16", .eps = 1e-5),
        CASE("norm", group_norm, "group/map", .groups = 8, .eps = 1e-5),
        CASE("norm", group_norm, "group/batch", .groups = 6, .eps = 1e-6),
        CASE("norm", group_norm, "group/strips", .groups = 4, .eps = 1e-6),
        CASE("norm", group_norm, "group/rows", .groups = 4, .eps = 1e-5),
        CASE("norm", group_norm, "group/offset", .groups = 4, .eps = 1e-5),
        CASE("norm", group_norm, "group/pixel", .groups = 8, .eps = 1e-5),
        CASE("norm", group_norm, "group/one", .groups = 1, .eps = 1e-5),
        CASE("norm", group_norm, "group/instance", .groups = 6, .eps = 1e-5),
        CASE("norm", group_norm, "group/f16", .groups = 32, .eps = 1e-2),
        CASE("norm", rms_norm, "rms/tokens", .eps = 1e-6),
        CASE("norm", rms_norm, "rms/large", .eps = 1e-5),
        CASE("norm", rms_norm, "rms/tiny", .eps = 1e-5),
        CASE("norm", rms_norm, "rms/f16", .eps = 1e-5),
        CASE("norm", rms_norm, "rms/bf16", .eps = 1e-5),
        ACTIVATIONS(silu),
        ACTIVATIONS(gelu),
        ACTIVATIONS(gelu_new),
        ACTIVATIONS(quick_gelu),
        ACTIVATIONS(geglu),
        ACTIVATIONS(softmax),
        ATTENTION("self", 2, 2, MASK_NONE),
        ATTENTION("cross", 3, 3, MASK_NONE),
        ATTENTION("one_key", 2, 2, MASK_NONE),
        ATTENTION("one_query", 4, 4, MASK_NONE),
        ATTENTION("tiles", 2, 2, MASK_NONE),
        ATTENTION("sharp", 2, 2, MASK_NONE),
        ATTENTION("one_head", 1, 1, MASK_NONE),
        ATTENTION("causal", 2, 2, MASK_CAUSAL),
        ATTENTION("causal_tiles", 2, 2, MASK_CAUSAL),
        ATTENTION("causal_one", 2, 2, MASK_CAUSAL),
        ATTENTION("causal_grouped", 6, 2, MASK_CAUSAL),
        ATTENTION("grouped", 4, 1, MASK_NONE),
        ATTENTION("own", 2, 2, MASK_OWN),
        ATTENTION("own_grouped", 6, 3, MASK_OWN),
        WINDOW("window", 4, 2, 5),
        WINDOW("window_tiles", 2, 1, 70),
        WINDOW("window_wide", 2, 2, 12),
        ROPE("llama", 2, 8, 1e4, 0),
        ROPE("phi", 3, 6, 1e4, 0),
        ROPE("offset", 2, 4, 1e4, 13),
        ROPE("long", 2, 16, 1e4, 2045),
        ROPE("theta", 1, 8, 1e6, 100),
        ROPE("row", 1, 2, 1e4, 0),
        ROPE("pairs", 2, 2, 1e4, 1),
        ROPE_LINEAR("linear", 2, 8, 1e4, 2.5, 5),
        ROPE_LINEAR("linear_long", 2, 16, 1e4, 4, 4090),
        CASE("embedding", embedding, "f32", .theta = 1),
        CASE("embedding", embedding, "f16", .theta = 1),
        CASE("embedding", embedding, "bf16", .theta = 1),
        CASE("embedding", embedding, "f64", .theta = 1),
        RESIZE("double", 6, 10),
        RESIZE("pixel", 2, 2),
        RESIZE("odd", 5, 7),
        RESIZE("same", 4, 3),
        RESIZE("down", 3, 4),
        cmocka_unit_test(test_elementwise),
        CASE("elementwise", add_channels, "add_channels/map", .theta = 1),
        CASE("elementwise", add_channels, "add_channels/rows", .theta = 1),
        CASE("elementwise", add_channels, "add_channels/vectors", .theta = 1),
        CASE("elementwise", concat, "concat/map", .theta = 1),
        CASE("elementwise", concat, "concat/rows", .theta = 1),
    };
    return cmocka_run_group_tests_name("tensor against upstream", tests, NULL, NULL);
}
