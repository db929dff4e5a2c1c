/* A small network of every kind of layer that a U-Net has, for the tests of the tape: resnet with a
 * time embedding, self-attention, Eq. 9's two cross-attentions over prompts of different lengths,
 * GEGLU, up- and downsampling, a skip; and its loss. */
#ifndef LLMDIFF_TAPE_NET_H
#define LLMDIFF_TAPE_NET_H

#include "tests/test_tensor.h"

#include "tensor/tape.h"

enum { HEADS = 4, GROUPS = 4, PROMPTS = 2 };

/* clang-format off */
enum { IN_W, IN_B, NORM1_W, NORM1_B, CONV1_W, CONV1_B, TIME_W, TIME_B, NORM2_W, NORM2_B, CONV2_W, CONV2_B,
       LAYER_W, LAYER_B, Q_W, K_W, V_W, O_W, O_B, RMS_W, QHAT_W, KHAT_W, VHAT_W, TAU_Q, TAU_K, TAU_V,
       A1, B1, A2, B2, FF1_W, FF1_B, FF2_W, FF2_B, OUT_W, OUT_B, WEIGHTS };
/* clang-format on */

/* The inputs: the map, the time embedding, two prompts. */
enum { X, TIME, PROMPT0, PROMPT1, INPUTS };

/* A Weight's or an input's numbers and gradient. */
typedef struct Numbers {
    int ndim;
    int64_t dim[4], n;
    real *data, *grad; /* grad: as long as data; used if `learned` */
    bool learned;
} Numbers;

typedef struct Net {
    int64_t B, H, W, C, E;
    Numbers part[WEIGHTS + INPUTS];
    Tensor target;
    real *memory, *target_memory;
    bool checkpoint, nested; /* the two blocks as checkpointed segments; in one more around both */
} Net;

static inline void net_shape(Net *net, int i, int ndim, int64_t a, int64_t b, int64_t c,
                             int64_t d) {
    net->part[i] =
        (Numbers){.ndim = ndim, .dim = {a, b, c, d}, .n = a * b * c * d, .learned = true};
}

/* Everything is learned; reset `learned` in what is not to be. */
static inline Net net_new(int64_t H, int64_t W, int64_t C, uint64_t seed) {
    Net net = {.B = 2, .H = H, .W = W, .C = C, .E = 12};
    const int64_t E = net.E, T = 6;
    net_shape(&net, IN_W, 4, C, 3, 3, 3);
    net_shape(&net, CONV1_W, 4, C, C, 3, 3);
    net_shape(&net, CONV2_W, 4, C, C, 3, 3);
    net_shape(&net, OUT_W, 4, 3, 2 * C, 3, 3);
    for (int i = 0; i < WEIGHTS; i++)
        if (!net.part[i].n) net_shape(&net, i, 1, C, 1, 1, 1); /* norms and biases, for now */
    net_shape(&net, OUT_B, 1, 3, 1, 1, 1);
    net_shape(&net, TIME_W, 2, C, T, 1, 1);
    const int square[] = {Q_W, K_W, V_W, O_W, QHAT_W, TAU_Q};
    for (int i = 0; i < 6; i++) net_shape(&net, square[i], 2, C, C, 1, 1);
    const int across[] = {KHAT_W, VHAT_W, TAU_K, TAU_V};
    for (int i = 0; i < 4; i++) net_shape(&net, across[i], 2, C, E, 1, 1);
    for (int i = A1; i <= B2; i++) net_shape(&net, i, 1, 1, 1, 1, 1);
    net_shape(&net, FF1_W, 2, 4 * C, C, 1, 1);
    net_shape(&net, FF1_B, 1, 4 * C, 1, 1, 1);
    net_shape(&net, FF2_W, 2, C, 2 * C, 1, 1);
    net_shape(&net, WEIGHTS + X, 4, 2, H, W, 3);
    net_shape(&net, WEIGHTS + TIME, 2, 2, T, 1, 1);
    net_shape(&net, WEIGHTS + PROMPT0, 2, 7, E, 1, 1);
    net_shape(&net, WEIGHTS + PROMPT1, 2, 3, E, 1, 1);

    int64_t total = 0;
    for (int i = 0; i < WEIGHTS + INPUTS; i++) total += 2 * net.part[i].n;
    net.memory = malloc((size_t)total * sizeof(real));
    net.target_memory = malloc((size_t)(2 * H * W * 3) * sizeof(real));
    assert_non_null(net.memory);
    assert_non_null(net.target_memory);
    real *at = net.memory;
    for (int i = 0; i < WEIGHTS + INPUTS; i++) {
        Numbers *p = &net.part[i];
        p->data = at, p->grad = at + p->n, at += 2 * p->n;
        const double fan_in = i < WEIGHTS && p->ndim > 1 ? (double)(p->n / p->dim[0]) : 1;
        for (int64_t j = 0; j < p->n; j++) p->data[j] = (real)(1.5 * number(&seed) / sqrt(fan_in));
    }
    net.target = (Tensor){.data = net.target_memory, .ndim = 4, .dim = {2, H, W, 3}};
    filled(net.target, seed);
    return net;
}

static inline void net_zero(Net *net) {
    for (int i = 0; i < WEIGHTS + INPUTS; i++)
        memset(net->part[i].grad, 0, (size_t)net->part[i].n * sizeof(real));
}

static inline void net_free(Net *net) {
    free(net->memory);
    free(net->target_memory);
}

static inline Weight net_weight(const Net *net, int i) {
    const Numbers *p = &net->part[i];
    Weight w = {.data = p->data, .ndim = p->ndim, .name = "w"};
    w.dtype = sizeof(real) == 8 ? DTYPE_F64 : DTYPE_F32;
    w.grad = p->learned ? p->grad : NULL;
    memcpy(w.dim, p->dim, sizeof w.dim);
    return w;
}
#define W_(i) (&(Weight[]){net_weight(net, i)}[0])

static inline Tensor net_input(Context *ctx, const Net *net, int i) {
    const Numbers *p = &net->part[WEIGHTS + i];
    Tensor x = {.data = p->data, .ndim = p->ndim};
    memcpy(x.dim, p->dim, sizeof x.dim);
    return tape_variable(ctx, x, p->learned ? p->grad : NULL);
}

/* What a block reads. */
typedef struct Block {
    const Net *net;
    Tensor h, time, prompt[PROMPTS];
} Block;

static inline Tensor net_resnet(Context *ctx, const void *args) {
    const Block *b = args;
    const Net *net = b->net;
    ArenaMark mark = scope_begin(ctx);
    Tensor h = silu(ctx, group_norm(ctx, b->h, W_(NORM1_W), W_(NORM1_B), GROUPS, 1e-5));
    h = conv2d(ctx, h, W_(CONV1_W), W_(CONV1_B), (Conv2d){1, 1, 1, 1, 1});
    h = add_channels(ctx, h, linear(ctx, b->time, W_(TIME_W), W_(TIME_B)));
    observe_each(ctx, h, "resnet");
    h = silu(ctx, group_norm(ctx, h, W_(NORM2_W), W_(NORM2_B), GROUPS, 1e-5));
    h = conv2d(ctx, h, W_(CONV2_W), W_(CONV2_B), (Conv2d){2, 1, 1, 1, 1});
    return scope_end(ctx, mark, h);
}

static inline Tensor net_cross(Context *ctx, const Block *b, Tensor h, int q, int k, int v) {
    if (ctx->error.set) return (Tensor){0};
    const Net *net = b->net;
    Tensor keys[PROMPTS], values[PROMPTS];
    for (int i = 0; i < PROMPTS; i++) {
        keys[i] = rope(ctx, linear(ctx, b->prompt[i], W_(k), NULL), HEADS, 2, 100, 1, 1);
        values[i] = linear(ctx, b->prompt[i], W_(v), NULL);
        if (ctx->error.set) return (Tensor){0};
    }
    return attention(ctx, linear(ctx, h, W_(q), NULL), keys, values, HEADS, HEADS, MASK_NONE);
}

static inline Tensor net_transformer(Context *ctx, const void *args) {
    if (ctx->error.set) return (Tensor){0};
    const Block *b = args;
    const Net *net = b->net;
    ArenaMark mark = scope_begin(ctx);
    Tensor h = TENSOR_VIEW(b->h, b->h.dim[0], b->h.dim[1] * b->h.dim[2], b->h.dim[3]);
    Tensor n = layer_norm(ctx, h, W_(LAYER_W), W_(LAYER_B), 1e-5);
    Tensor k = linear(ctx, n, W_(K_W), NULL), v = linear(ctx, n, W_(V_W), NULL);
    Tensor q = linear(ctx, n, W_(Q_W), NULL);
    if (ctx->error.set) return (Tensor){0};
    Tensor each_k[] = {tensor_at(k, 0), tensor_at(k, 1)};
    Tensor each_v[] = {tensor_at(v, 0), tensor_at(v, 1)};
    Tensor y = attention(ctx, q, each_k, each_v, HEADS, HEADS, MASK_NONE);
    h = add(ctx, h, linear(ctx, y, W_(O_W), W_(O_B)));
    n = rms_norm(ctx, h, W_(RMS_W), 1e-6);
    Tensor original = net_cross(ctx, b, n, QHAT_W, KHAT_W, VHAT_W);
    Tensor added = net_cross(ctx, b, n, TAU_Q, TAU_K, TAU_V);
    if (ctx->error.set) return (Tensor){0};
    h = add(ctx, h, blend_exp(ctx, (Blend){W_(A1), W_(B1), W_(A2), W_(B2)}, original, added));
    n = geglu(ctx, linear(ctx, h, W_(FF1_W), W_(FF1_B)));
    h = add(ctx, h, linear(ctx, n, W_(FF2_W), W_(FF2_B)));
    h = scope_end(ctx, mark, h);
    if (ctx->error.set) return (Tensor){0};
    return TENSOR_VIEW(h, b->h.dim[0], b->h.dim[1], b->h.dim[2], b->h.dim[3]);
}

static inline Tensor net_both(Context *ctx, const void *args) {
    Block b = *(const Block *)args;
    const bool segments = b.net->checkpoint;
    b.h = segments ? tape_checkpoint(ctx, net_resnet, &b, sizeof b) : net_resnet(ctx, &b);
    return segments ? tape_checkpoint(ctx, net_transformer, &b, sizeof b)
                    : net_transformer(ctx, &b);
}

/* -> the loss, [1] */
static inline Tensor net_forward(Context *ctx, const Net *net) {
    ArenaMark mark = scope_begin(ctx);
    Tensor x = net_input(ctx, net, X);
    Tensor skip = conv2d(ctx, x, W_(IN_W), W_(IN_B), (Conv2d){1, 1, 1, 1, 1});
    Block b = {net,
               skip,
               net_input(ctx, net, TIME),
               {net_input(ctx, net, PROMPT0), net_input(ctx, net, PROMPT1)}};
    Tensor h = net->nested ? tape_checkpoint(ctx, net_both, &b, sizeof b) : net_both(ctx, &b);
    if (ctx->error.set) return (Tensor){0};
    h = concat(ctx, resize_nearest(ctx, h, net->H, net->W), skip);
    h = conv2d(ctx, h, W_(OUT_W), W_(OUT_B), (Conv2d){1, 1, 1, 1, 1});
    if (ctx->error.set) return (Tensor){0};
    h = mean_squared_error(ctx, h, net->target, (double[]){0.5, 1.25});
    return scope_end(ctx, mark, h);
}

/* The loss, its gradients added to those of everything learned. */
static inline real net_backward(Context *ctx, const Net *net) {
    ArenaMark mark = scope_begin(ctx);
    Tensor loss = net_forward(ctx, net);
    real value = ctx->error.set ? (real)0 : loss.data[0];
    if (!ctx->error.set) tape_backward(ctx, loss, NULL);
    if (ctx->error.set) tape_clear(ctx);
    arena_release(&ctx->arena, mark);
    return value;
}

#endif
