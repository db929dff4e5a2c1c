/* The kit's operators: each with the shapes that it asks for. See run.h and tensor/tensor.h. */
#include "ref/yardstick/run.h"
#include "tensor/tape.h"

#include <stdio.h>
#include <string.h>

typedef struct Operator {
    const char *name, *shapes; /* as given_fits reads them */
    Tensor (*run)(const Given *in, int64_t *size);
} Operator;

#define WEIGHT(name) given_weight(in, name, &(Weight){0})

static void refuse(const Given *in, const char *why) {
    fail(&in->ctx->error, "%s/manifest.json: %s/%s: %s", in->kit_dir, in->group->name, in->c->name,
         why);
}

/* ---- matrix products ------------------------------------------------------------------------------ */

static Tensor run_linear(const Given *in, int64_t *size) {
    (void)size;
    return linear(in->ctx, given_tensor(in, "x"), WEIGHT("w"), WEIGHT("b"));
}

static Tensor run_conv2d(const Given *in, int64_t *size) {
    int64_t pad[4];
    given_wholes(in, "padding", pad, 4, 0, 64);
    Conv2d o = {given_whole(in, "stride", 1, 64), pad[0], pad[1], pad[2], pad[3]};
    if (SIZE('H') + o.top + o.bottom < SIZE('U') || SIZE('W') + o.left + o.right < SIZE('V') ||
        SIZE('U') > 7 || SIZE('V') > 7)
        refuse(in, "a kernel larger than 7 x 7 or than its padded map");
    if (in->ctx->error.set) return (Tensor){0};
    return conv2d(in->ctx, given_tensor(in, "x"), WEIGHT("w"), WEIGHT("b"), o);
}

static Tensor run_embedding(const Given *in, int64_t *size) {
    int64_t n = 0;
    const int64_t *ids = given_ids(in, "ids", &n);
    for (int64_t i = 0; ids && i < n; i++)
        if (ids[i] < 0 || ids[i] >= SIZE('V')) refuse(in, "an id without a row in w");
    return in->ctx->error.set ? (Tensor){0} : embedding(in->ctx, ids, n, WEIGHT("w"));
}

/* ---- norms ---------------------------------------------------------------------------------------- */

static Tensor run_layer_norm(const Given *in, int64_t *size) {
    (void)size;
    return layer_norm(in->ctx, given_tensor(in, "x"), WEIGHT("w"), WEIGHT("b"),
                      given_number(in, "eps"));
}

static Tensor run_rms_norm(const Given *in, int64_t *size) {
    (void)size;
    return rms_norm(in->ctx, given_tensor(in, "x"), WEIGHT("w"), given_number(in, "eps"));
}

static Tensor run_group_norm(const Given *in, int64_t *size) {
    const int64_t groups = given_whole(in, "groups", 1, 1 << 20);
    const double eps = given_number(in, "eps");
    Tensor x = given_tensor(in, "x");
    if (!in->ctx->error.set && (SIZE('C') % groups || x.ndim < 3))
        refuse(in, "expected groups that divide the channels of a map or of rows [B, L, C]");
    if (in->ctx->error.set) return (Tensor){0};
    return group_norm(in->ctx, x, WEIGHT("w"), WEIGHT("b"), groups, eps);
}

/* ---- activations ---------------------------------------------------------------------------------- */

#define ACTIVATION(op)                                                                             \
    static Tensor run_##op(const Given *in, int64_t *size) {                                       \
        (void)size;                                                                                \
        return op(in->ctx, given_tensor(in, "x"));                                                 \
    }
ACTIVATION(silu)
ACTIVATION(gelu)
ACTIVATION(gelu_new)
ACTIVATION(quick_gelu)
ACTIVATION(softmax)
ACTIVATION(channels_last)
ACTIVATION(channels_first)

static Tensor run_geglu(const Given *in, int64_t *size) {
    if (SIZE('K') % 2) refuse(in, "expected an even width: value and gate");
    return in->ctx->error.set ? (Tensor){0} : geglu(in->ctx, given_tensor(in, "x"));
}

/* ---- attention ------------------------------------------------------------------------------------ */

static bool read_mask(const Given *in, AttentionMask *mask) {
    static const char *const names[] = {"none", "causal", "own"};
    const char *name = given_text(in, "mask");
    if (!name && !given_has_parameter(in, "mask")) name = "none";
    for (int i = 0; name && i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *mask = (AttentionMask)i;
            return true;
        }
    refuse(in, "parameters.mask: expected none, causal or own");
    return false;
}

static Tensor run_attention(const Given *in, int64_t *size) {
    const int64_t heads = given_whole(in, "heads", 1, 1 << 16);
    const int64_t kv_heads =
        given_has_parameter(in, "kv_heads") ? given_whole(in, "kv_heads", 1, 1 << 16) : heads;
    const bool slides = strcmp(in->c->runs, "attention_window") == 0;
    const int64_t window = slides ? given_whole(in, "window", 1, 1 << 24) : 0;
    AttentionMask mask = MASK_NONE;
    if (in->ctx->error.set || !read_mask(in, &mask)) return (Tensor){0};
    if (SIZE('C') % heads || heads % kv_heads || SIZE('B') > MAX_BATCH) {
        refuse(in, "expected heads that divide the width, kv_heads that divide heads, and at most "
                   "8 elements");
        return (Tensor){0};
    }
    Tensor k[MAX_BATCH], v[MAX_BATCH];
    for (int64_t b = 0; b < SIZE('B'); b++) {
        char name[2][16], shapes[48];
        int64_t own[26] = {['D' - 'A'] = SIZE('C') / heads * kv_heads,
                           ['L' - 'A'] = mask == MASK_NONE && !slides ? 0 : SIZE('L')};
        snprintf(name[0], sizeof name[0], "k.%d", (int)b);
        snprintf(name[1], sizeof name[1], "v.%d", (int)b);
        snprintf(shapes, sizeof shapes, "%s:LD %s:LD", name[0], name[1]);
        if (!given_fits(in, shapes, own)) return (Tensor){0};
        k[b] = given_tensor(in, name[0]);
        v[b] = given_tensor(in, name[1]);
    }
    Tensor q = given_tensor(in, "q");
    if (in->ctx->error.set) return q;
    return slides ? attention_window(in->ctx, q, k, v, heads, kv_heads, window)
                  : attention(in->ctx, q, k, v, heads, kv_heads, mask);
}

static Tensor run_rope(const Given *in, int64_t *size) {
    const int64_t heads = given_whole(in, "heads", 1, 1 << 16);
    const int64_t rotary = given_whole(in, "rotary", 0, 1 << 16);
    const int64_t position = given_whole(in, "position", 0, 1 << 24);
    const double theta = given_number(in, "theta");
    const double factor = given_has_parameter(in, "factor") ? given_number(in, "factor") : 1;
    if (!in->ctx->error.set && (SIZE('K') % heads || rotary % 2 || rotary > SIZE('K') / heads))
        refuse(in, "expected heads that divide the width, and an even rotary within a head's");
    if (in->ctx->error.set) return (Tensor){0};
    return rope(in->ctx, given_tensor(in, "x"), heads, rotary, theta, factor, position);
}

/* ---- the rest ------------------------------------------------------------------------------------- */

static Tensor run_resize_nearest(const Given *in, int64_t *size) {
    (void)size;
    const int64_t height = given_whole(in, "height", 1, 4096);
    const int64_t width = given_whole(in, "width", 1, 4096);
    Tensor x = given_tensor(in, "x");
    return in->ctx->error.set ? x : resize_nearest(in->ctx, x, height, width);
}

/* a and b of one shape; add_channels and concat: what stands in the table. */
static bool same_shapes(const Given *in, Tensor a, Tensor b) {
    bool same = a.ndim == b.ndim;
    for (int i = 0; i < MAX_DIMS; i++) same &= a.dim[i] == b.dim[i];
    if (!same) refuse(in, "expected a and b of one shape");
    return same && !in->ctx->error.set;
}

#define OF_TWO(op, ...)                                                                            \
    static Tensor run_##op(const Given *in, int64_t *size) {                                       \
        (void)size;                                                                                \
        Tensor a = given_tensor(in, "a"), b = given_tensor(in, "b");                               \
        return same_shapes(in, a, b) ? op(__VA_ARGS__) : (Tensor){0};                              \
    }
OF_TWO(add, in->ctx, a, b)
OF_TWO(sub, in->ctx, a, b)
OF_TWO(mul, in->ctx, a, b)
OF_TWO(axpby, in->ctx, given_number(in, "s"), a, given_number(in, "t"), b)

static Tensor run_scale(const Given *in, int64_t *size) {
    (void)size;
    return scale(in->ctx, given_tensor(in, "x"), given_number(in, "s"));
}

static Tensor run_add_channels(const Given *in, int64_t *size) {
    Tensor x = given_tensor(in, "x"), v = given_tensor(in, "v");
    if (x.data && (x.ndim < 2 || x.dim[0] != SIZE('B'))) refuse(in, "expected a vector for each x");
    return in->ctx->error.set ? (Tensor){0} : add_channels(in->ctx, x, v);
}

static Tensor run_concat(const Given *in, int64_t *size) {
    (void)size;
    Tensor a = given_tensor(in, "a"), b = given_tensor(in, "b"), c = b;
    c.dim[c.ndim > 0 ? c.ndim - 1 : 0] = a.dim[a.ndim > 0 ? a.ndim - 1 : 0];
    return same_shapes(in, a, c) ? concat(in->ctx, a, b) : (Tensor){0};
}

static const Operator operators[] = {
    {"linear", "x:*K w:NK b?:N", run_linear},
    {"conv2d", "x:BHWC w:NCUV b?:N", run_conv2d},
    {"embedding", "ids:N w:VD", run_embedding},
    {"layer_norm", "x:*C w:C b?:C", run_layer_norm},
    {"rms_norm", "x:*C w:C", run_rms_norm},
    {"group_norm", "x:*C w:C b?:C", run_group_norm},
    {"silu", "x:*K", run_silu},
    {"gelu", "x:*K", run_gelu},
    {"gelu_new", "x:*K", run_gelu_new},
    {"quick_gelu", "x:*K", run_quick_gelu},
    {"geglu", "x:*K", run_geglu},
    {"softmax", "x:*K", run_softmax},
    {"attention", "q:BLC", run_attention},
    {"attention_window", "q:BLC", run_attention},
    {"rope", "x:LK", run_rope},
    {"resize_nearest", "x:BHWC", run_resize_nearest},
    {"add", "a:*K b:*K", run_add},
    {"sub", "a:*K b:*K", run_sub},
    {"mul", "a:*K b:*K", run_mul},
    {"scale", "x:*K", run_scale},
    {"axpby", "a:*K b:*K", run_axpby},
    {"add_channels", "x:*C v:BC", run_add_channels},
    {"concat", "a:*K b:*N", run_concat},
    {"channels_last", "x:CHW", run_channels_last},
    {"channels_first", "x:HWC", run_channels_first},
};

/* Forward, and back from dy: the gradients that the case wants. */
static void run_back(const Given *in, const Operator *o, int64_t *size) {
    Gradients gradients = {.count = 0};
    Tape tape = {0};
    Given learning = *in;
    learning.gradients = &gradients;
    in->ctx->tape = &tape;
    Tensor y = o->run(&learning, size), dy = given_tensor(in, "dy");
    if (y.data && dy.data && !same_shapes(in, y, dy)) y.var = 0;
    if (!in->ctx->error.set && y.var)
        tape_backward(in->ctx, y, dy.data);
    else
        tape_clear(in->ctx);
    in->ctx->tape = NULL;
    tape_free(&tape);
    for (int i = 0; i < gradients.count && !in->ctx->error.set; i++)
        give(in, gradients.of[i].name, gradients.of[i].d);
}

void run_operator(const Given *in) {
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (strcmp(operators[i].name, in->c->runs) != 0) continue;
        int64_t size[26] = {0};
        if (!given_fits(in, operators[i].shapes, size)) return;
        if (given_has(in, "dy"))
            run_back(in, &operators[i], size);
        else
            give(in, "y", operators[i].run(in, size));
        return;
    }
    fail(&in->ctx->error, "%s/manifest.json: %s/%s: op: this program has no operator \"%.80s\"",
         in->kit_dir, in->group->name, in->c->name, in->c->runs);
}
