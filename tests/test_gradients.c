/* Every operator's gradients against torch autograd in float64 (golden/export_gradients.py), each case
 * its own test: of all inputs and parameters that are learned in it, the same bytes at one, two and
 * three threads, the same forward with and without a tape, and a second walk adds to the first's.
 * And AdamW against torch.optim's. */
#include "tests/test_tensor.h"

#include "tensor/adamw.h"
#include "tensor/tape.h"

#include <stdio.h>

enum { MAX_LEARNED = 20 };

struct Run;

/* A case's parameters, as the exporter's tables have them. */
typedef struct Case {
    const char *golden, *prefix;
    Tensor (*run)(struct Run *r);
    Tensor (*unary)(Context *ctx, Tensor x);
    Tensor (*binary)(Context *ctx, Tensor a, Tensor b);
    Conv2d conv;
    double eps, theta, factor;
    int64_t groups, heads, kv_heads, rotary, position, height, width, window;
    AttentionMask mask;
} Case;

/* One forward and backward: what is learned in it, and the gradients. */
typedef struct Run {
    Context ctx;
    Tape tape;
    Golden *g;
    const Case *c;
    struct {
        char name[128]; /* of its gradient in the golden */
        Tensor d;
    } learned[MAX_LEARNED];
    int count;
    Weight weight[4];
    int weights, walk;
    Tensor y;
} Run;

static const char *path(char out[128], const Case *c, const char *name) {
    snprintf(out, 128, "%s%s", c->prefix, name);
    return out;
}

/* Zeros where the gradient of `name` is to be accumulated, if the golden has one; else NULL. */
static real *gradient(Run *r, const char *name, int ndim, const int64_t *dim) {
    char d[64], *full = r->learned[r->count].name;
    snprintf(d, sizeof d, "d%s", name);
    if (!golden_has(r->g, path(full, r->c, d))) return NULL;
    assert_true(r->count < MAX_LEARNED);
    if (r->walk) return r->learned[r->count++].d.data; /* with what the walk before left there */
    Tensor t = tensor_new(&r->ctx, ndim, dim);
    assert_context_ok(&r->ctx);
    memset(t.data, 0, (size_t)tensor_numel(t) * sizeof(real));
    r->learned[r->count++].d = t;
    return t.data;
}

static Tensor input(Run *r, const char *name) {
    char full[128];
    Tensor x = golden_tensor(r->g, &r->ctx, path(full, r->c, name));
    return tape_variable(&r->ctx, x, gradient(r, name, x.ndim, x.dim));
}

/* NULL if the case has no such parameter. */
static const Weight *param(Run *r, const char *name) {
    char full[128];
    if (!golden_has(r->g, path(full, r->c, name))) return NULL;
    Weight *w = &r->weight[r->weights++];
    *w = golden_weight(r->g, full);
    w->grad = gradient(r, name, w->ndim, w->dim);
    return w;
}

/* `walks` times forward and backward, 0: forward without a tape. */
static void run_case(Run *r, const Case *c, Golden *g, int threads, int walks) {
    char full[128];
    *r = (Run){.ctx = {.threads = threads}, .g = g, .c = c};
    if (walks) r->ctx.tape = &r->tape;
    for (int i = 0; i < (walks ? walks : 1); i++) {
        r->count = r->weights = 0;
        r->walk = i;
        r->y = c->run(r);
        assert_context_ok(&r->ctx);
        if (!walks) return;
        Tensor dy = golden_tensor(g, &r->ctx, path(full, c, "dy"));
        assert_int_equal(r->y.ndim, dy.ndim);
        assert_memory_equal(r->y.dim, dy.dim, sizeof dy.dim);
        assert_true(r->y.var != 0);
        tape_backward(&r->ctx, r->y, dy.data);
        assert_context_ok(&r->ctx);
        assert_int_equal(r->tape.in_use, 0);
        assert_int_equal(r->tape.count, 0);
        assert_int_equal(r->ctx.arena.pin.in_use, 0);
    }
}

static void end_case(Run *r) {
    tape_free(&r->tape);
    context_free(&r->ctx);
}

/* How many gradients the golden has for the case. */
static int gradients_of(const Golden *g, const Case *c) {
    char d[128];
    int n = 0;
    path(d, c, "d");
    for (size_t i = 0; i < safetensors_count(golden_file(g)); i++) {
        const char *name = safetensors_at(golden_file(g), i)->name;
        n += strncmp(name, d, strlen(d)) == 0 && strcmp(name + strlen(d), "y") != 0;
    }
    return n;
}

/* Backward adds: the second walk's gradients to the first's. */
static void assert_doubled(Tensor twice, Tensor once) {
    double largest = 0;
    for (int64_t i = 0; i < tensor_numel(once); i++)
        largest = fmax(largest, fabs((double)once.data[i]));
    for (int64_t i = 0; i < tensor_numel(once); i++) {
        const double error = fabs((double)twice.data[i] - 2 * (double)once.data[i]);
        if (!(error <= 100 * (double)REAL_EPSILON * largest))
            fail_msg("element %d: %.9g after two walks, %.9g after one", (int)i,
                     (double)twice.data[i], (double)once.data[i]);
    }
}

static void test_case(void **state) {
    const Case *c = *state;
    Golden *g = golden_open(c->golden);
    static Run one, more, plain;
    run_case(&one, c, g, 1, 1);
    assert_int_equal(one.count, gradients_of(g, c));
    assert_true(one.count > 0);
    for (int i = 0; i < one.count; i++)
        golden_check(g, one.learned[i].name, one.learned[i].d, OPERATOR);
    for (int threads = 2; threads <= 3; threads++) {
        run_case(&more, c, g, threads, 1);
        assert_int_equal(more.count, one.count);
        for (int i = 0; i < one.count; i++) assert_same_bytes(more.learned[i].d, one.learned[i].d);
        end_case(&more);
    }
    run_case(&more, c, g, 1, 2);
    for (int i = 0; i < one.count; i++) assert_doubled(more.learned[i].d, one.learned[i].d);
    end_case(&more);
    run_case(&plain, c, g, 1, 0);
    assert_same_bytes(plain.y, one.y);
    end_case(&plain);
    end_case(&one);
    golden_close(g);
}

static Tensor run_linear(Run *r) {
    Tensor x = input(r, "x");
    const Weight *w = param(r, "w"), *b = param(r, "b");
    return linear(&r->ctx, x, w, b);
}

static Tensor run_conv2d(Run *r) {
    Tensor x = input(r, "x");
    const Weight *w = param(r, "w"), *b = param(r, "b");
    return conv2d(&r->ctx, x, w, b, r->c->conv);
}

static Tensor run_layer_norm(Run *r) {
    Tensor x = input(r, "x");
    const Weight *w = param(r, "w"), *b = param(r, "b");
    return layer_norm(&r->ctx, x, w, b, r->c->eps);
}

static Tensor run_group_norm(Run *r) {
    Tensor x = input(r, "x");
    const Weight *w = param(r, "w"), *b = param(r, "b");
    return group_norm(&r->ctx, x, w, b, r->c->groups, r->c->eps);
}

static Tensor run_rms_norm(Run *r) {
    Tensor x = input(r, "x");
    return rms_norm(&r->ctx, x, param(r, "w"), r->c->eps);
}

static Tensor run_unary(Run *r) {
    return r->c->unary(&r->ctx, input(r, golden_has(r->g, "scale/a") ? "a" : "x"));
}

static Tensor run_binary(Run *r) {
    Tensor a = input(r, "a");
    return r->c->binary(&r->ctx, a, input(r, "b"));
}

static Tensor run_attention(Run *r) {
    const Case *c = r->c;
    Tensor q = input(r, "q"), k[2], v[2];
    for (int64_t b = 0; b < q.dim[0]; b++) {
        char name[16];
        snprintf(name, sizeof name, "k.%d", (int)b);
        k[b] = input(r, name);
        snprintf(name, sizeof name, "v.%d", (int)b);
        v[b] = input(r, name);
    }
    if (c->window) return attention_window(&r->ctx, q, k, v, c->heads, c->kv_heads, c->window);
    return attention(&r->ctx, q, k, v, c->heads, c->kv_heads, c->mask);
}

static Tensor run_rope(Run *r) {
    const Case *c = r->c;
    return rope(&r->ctx, input(r, "x"), c->heads, c->rotary, c->theta, c->factor, c->position);
}

static Tensor run_embedding(Run *r) {
    char full[128];
    int64_t n;
    const int64_t *ids = golden_ids(r->g, path(full, r->c, "ids"), &n);
    return embedding(&r->ctx, ids, n, param(r, "w"));
}

static Tensor run_resize_nearest(Run *r) {
    return resize_nearest(&r->ctx, input(r, "x"), r->c->height, r->c->width);
}

static Tensor run_add_channels(Run *r) {
    Tensor x = input(r, "x");
    return add_channels(&r->ctx, x, input(r, "v"));
}

static Tensor run_blend(Run *r) {
    Tensor x1 = input(r, "x1"), x2 = input(r, "x2");
    const Weight *a1 = param(r, "a1"), *b1 = param(r, "b1");
    const Weight *a2 = param(r, "a2"), *b2 = param(r, "b2");
    return blend_exp(&r->ctx, (Blend){a1, b1, a2, b2}, x1, x2);
}

static Tensor run_mse(Run *r) {
    Tensor a = input(r, "a"), b = input(r, "b");
    return mean_squared_error(&r->ctx, a, b, NULL);
}

static Tensor run_mse_weighted(Run *r) {
    Tensor a = input(r, "a"), b = input(r, "b"), w = input(r, "weight");
    double weight[3];
    for (int i = 0; i < 3; i++) weight[i] = (double)w.data[i];
    return mean_squared_error(&r->ctx, a, b, weight);
}

static Tensor scale_some(Context *ctx, Tensor x) { return scale(ctx, x, 0.3); }
static Tensor axpby_some(Context *ctx, Tensor a, Tensor b) { return axpby(ctx, 0.3, a, -1.7, b); }

/* ---- AdamW ---------------------------------------------------------------------------------------- */

typedef struct AdamWCase {
    const char *name;
    AdamW options;
    double decay, max_norm;
} AdamWCase;

static void check_learned(Golden *g, const char *prefix, int step, Tensor like, const Learned *p) {
    const struct {
        const char *suffix;
        const real *data;
    } part[] = {{"", p->w}, {".m", p->m}, {".v", p->v}};
    char full[160];
    for (int i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "%s.%d%s", prefix, step, part[i].suffix);
        golden_check_data(g, full, part[i].data, like.ndim, like.dim, OPERATOR);
    }
}

static void test_adamw(void **state) {
    const AdamWCase *c = *state;
    static const char *const names[] = {"p", "q", "s"};
    Golden *g = golden_open("grad_adamw");
    Context ctx = {.threads = 2};
    Tensor w[3], grads[3], norms = TENSOR_NEW(&ctx, 10);
    Learned p[3];
    char full[128];
    for (int i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "%s/%s", c->name, names[i]);
        w[i] = golden_tensor(g, &ctx, full);
        snprintf(full, sizeof full, "%s/%s.grads", c->name, names[i]);
        grads[i] = golden_tensor(g, &ctx, full);
        const int64_t n = tensor_numel(w[i]);
        p[i] = (Learned){.w = w[i].data, .n = n, .weight_decay = i < 2 ? c->decay : 0};
        p[i].m = scratch_reals(&ctx, (size_t)n);
        p[i].v = scratch_reals(&ctx, (size_t)n);
        memset(p[i].m, 0, (size_t)n * sizeof(real));
        memset(p[i].v, 0, (size_t)n * sizeof(real));
    }
    for (int step = 1; step <= 10; step++) {
        for (int i = 0; i < 3; i++) p[i].grad = grads[i].data + (step - 1) * p[i].n;
        norms.data[step - 1] = (real)clip_gradients(&ctx, p, 3, c->max_norm);
        for (int i = 0; i < 3; i++) {
            adamw_step(&ctx, &c->options, step, &p[i]);
            snprintf(full, sizeof full, "%s/%s", c->name, names[i]);
            if (step == 1 || step == 10) check_learned(g, full, step, w[i], &p[i]);
        }
    }
    snprintf(full, sizeof full, "%s/norms", c->name);
    golden_check(g, full, norms, OPERATOR);
    assert_context_ok(&ctx);
    context_free(&ctx);
    golden_close(g);
}

/* A gradient that is not finite is seen in the norm. */
static void test_norm_not_finite(void **state) {
    (void)state;
    Context ctx = {.threads = 1};
    real w[2] = {1, 2}, grad[2] = {1, (real)INFINITY}, m[2] = {0}, v[2] = {0};
    Learned p = {w, grad, m, v, 2, 0};
    assert_true(isinf(clip_gradients(&ctx, &p, 1, 1)));
    grad[1] = (real)NAN;
    assert_true(isnan(clip_gradients(&ctx, &p, 1, 1)));
    context_free(&ctx);
}

/* ---- the table ------------------------------------------------------------------------------------ */

#define CASE(file, op, case_prefix, ...)                                                           \
    {                                                                                              \
#        op " " case_prefix, test_case, NULL, NULL, &(Case) {                                      \
            .golden = "grad_" file, .run = run_##op, .prefix = case_prefix "/", __VA_ARGS__        \
        }                                                                                          \
    }
#define ACTIVATION(op, name) CASE("activation", unary, #op "/" name, .unary = op)
#define ACTIVATIONS(op)                                                                            \
    ACTIVATION(op, "small"), ACTIVATION(op, "map"), ACTIVATION(op, "large"),                       \
        ACTIVATION(op, "huge"), ACTIVATION(op, "tiny"), ACTIVATION(op, "wide")
#define LINEAR(name) CASE("linear", linear, name, .theta = 1)
#define CONV2D(name, ...) CASE("conv2d", conv2d, name, .conv = {__VA_ARGS__})
#define LAYER(name, e) CASE("norm", layer_norm, "layer/" name, .eps = e)
#define GROUP(name, n, e) CASE("norm", group_norm, "group/" name, .groups = n, .eps = e)
#define RMS(name, e) CASE("norm", rms_norm, "rms/" name, .eps = e)
#define ATTENTION(name, n, kv, m)                                                                  \
    CASE("attention", attention, name, .heads = n, .kv_heads = kv, .mask = m)
#define WINDOW(name, n, kv, size)                                                                  \
    CASE("attention", attention, name, .heads = n, .kv_heads = kv, .window = size)
#define ROPE(name, n, r, t, f, at)                                                                 \
    CASE("rope", rope, name, .heads = n, .rotary = r, .theta = t, .factor = f, .position = at)
#define RESIZE(name, h, w) CASE("resample", resize_nearest, name, .height = h, .width = w)
#define UNARY(name, f) CASE("elementwise", unary, name, .unary = f)
#define BINARY(name, f) CASE("elementwise", binary, name, .binary = f)
#define OTHER(op, name) CASE("elementwise", op, name, .theta = 1)
#define ADAMW(case_name, lr, beta1, beta2, eps, ...)                                               \
    {                                                                                              \
        "adamw " case_name, test_adamw, NULL, NULL, &(AdamWCase) {                                 \
            case_name, {lr, beta1, beta2, eps}, __VA_ARGS__                                        \
        }                                                                                          \
    }

int main(void) {
    const struct CMUnitTest tests[] = {
        LINEAR("one"),
        LINEAR("row"),
        LINEAR("plain"),
        LINEAR("tokens"),
        LINEAR("tiles"),
        LINEAR("tall"),
        LINEAR("wide"),
        LINEAR("deep"),
        LINEAR("weight_only"),
        LINEAR("bias_only"),
        LINEAR("f16"),
        LINEAR("bf16"),
        LINEAR("f64"),
        LINEAR("f16_tiles"),
        LINEAR("bf16_tall"),
        /* stride, top, left, bottom, right */
        CONV2D("3x3", 1, 1, 1, 1, 1),
        CONV2D("batch", 1, 1, 1, 1, 1),
        CONV2D("stride2", 2, 1, 1, 1, 1),
        CONV2D("vae_down", 2, 0, 0, 1, 1),
        CONV2D("unused", 2, 0, 0, 0, 0),
        CONV2D("1x1", 1, 0, 0, 0, 0),
        CONV2D("1x1_stride2", 2, 0, 0, 0, 0),
        CONV2D("1x1_padded", 1, 1, 0, 2, 1),
        CONV2D("pixel", 1, 1, 1, 1, 1),
        CONV2D("valid", 1, 0, 0, 0, 0),
        CONV2D("strips", 1, 1, 1, 1, 1),
        CONV2D("strips_stride2", 2, 1, 1, 1, 1),
        CONV2D("frozen", 1, 1, 1, 1, 1),
        CONV2D("weight_only", 1, 1, 1, 1, 1),
        CONV2D("f16", 1, 1, 1, 1, 1),
        CONV2D("bf16", 1, 1, 1, 1, 1),
        CONV2D("7x7", 3, 2, 3, 1, 0),
        LAYER("tokens", 1e-5),
        LAYER("map", 1e-5),
        LAYER("strips", 1e-5),
        LAYER("offset", 1e-5),
        LAYER("no_bias", 1e-6),
        LAYER("frozen", 1e-6),
        LAYER("weight_only", 1e-6),
        LAYER("f16", 1e-5),
        LAYER("bf16", 1e-5),
        GROUP("map", 8, 1e-5),
        GROUP("batch", 6, 1e-6),
        GROUP("strips", 4, 1e-6),
        GROUP("rows", 4, 1e-5),
        GROUP("offset", 4, 1e-5),
        GROUP("pixel", 8, 1e-5),
        GROUP("one", 1, 1e-5),
        GROUP("frozen", 6, 1e-5),
        GROUP("weight_only", 2, 1e-5),
        GROUP("f16", 32, 1e-2),
        RMS("tokens", 1e-6),
        RMS("strips", 1e-5),
        RMS("tiny", 1e-5),
        RMS("bf16", 1e-5),
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
        ATTENTION("queries_only", 2, 2, MASK_NONE),
        ATTENTION("keys_only", 2, 2, MASK_NONE),
        ATTENTION("values_only", 2, 2, MASK_NONE),
        ROPE("llama", 2, 8, 1e4, 1, 0),
        ROPE("phi", 3, 6, 1e4, 1, 3),
        ROPE("long", 2, 16, 1e4, 1, 2045),
        ROPE("linear", 2, 8, 1e4, 2.5, 5),
        CASE("embedding", embedding, "f32", .theta = 1),
        RESIZE("double", 6, 10),
        RESIZE("pixel", 2, 2),
        RESIZE("odd", 5, 7),
        RESIZE("same", 4, 3),
        RESIZE("down", 3, 4),
        BINARY("add", add),
        BINARY("sub", sub),
        BINARY("mul", mul),
        BINARY("axpby", axpby_some),
        UNARY("scale", scale_some),
        UNARY("copy", tensor_copy),
        UNARY("channels_last", channels_last),
        UNARY("channels_first", channels_first),
        OTHER(add_channels, "add_channels/map"),
        OTHER(add_channels, "add_channels/rows"),
        OTHER(add_channels, "add_channels/vectors"),
        BINARY("concat/map", concat),
        BINARY("concat/rows", concat),
        OTHER(blend, "blend"),
        OTHER(blend, "blend_fresh"),
        OTHER(mse, "mse"),
        OTHER(mse_weighted, "mse_weighted"),
        /* lr, beta1, beta2, eps, decay, largest norm */
        ADAMW("plain", 1e-3, 0.9, 0.999, 1e-8, 0.01, INFINITY),
        ADAMW("clipped", 3e-2, 0.8, 0.95, 1e-6, 0.1, 6),
        ADAMW("lerp", 1e-2, 0.3, 0.5, 1e-8, 0, 1),
        cmocka_unit_test(test_norm_not_finite),
    };
    return cmocka_run_group_tests_name("gradients against torch autograd", tests, NULL, NULL);
}
