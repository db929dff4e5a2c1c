/* Operators done otherwise, from outside: the yardstick asks what a port would have got with a known
 * mistake (another eps, a bias left out), and runs the one forward pass that there is with that
 * operator replaced. Nothing else sets ctx->stand_in. */
#ifndef LLMDIFF_STAND_IN_H
#define LLMDIFF_STAND_IN_H

#include "tensor/tensor.h"

typedef enum Operator {
    OP_LINEAR,
    OP_CONV2D,
    OP_LAYER_NORM,
    OP_RMS_NORM,
    OP_GROUP_NORM,
    OP_SILU,
    OP_GELU,
    OP_GELU_NEW,
    OP_QUICK_GELU,
    OP_GEGLU,
    OP_ATTENTION,
    OP_ROPE,
    OP_RESIZE_NEAREST,
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_SCALE,
    OP_AXPBY,
    OP_ADD_CHANNELS,
    OP_CONCAT,
    OPERATORS
} Operator;

/* The arguments, as the operator's declaration in tensor.h names them; those it doesn't have are 0. */
typedef struct OperatorCall {
    Operator op;
    Tensor x, z; /* the first and the second tensor: a and b, x and v; q of attention is x */
    const Tensor *k, *v;
    const Weight *w, *b;
    Conv2d conv;
    AttentionMask mask;
    int64_t groups, heads, kv_heads, window, rotary, position, height, width;
    double eps, theta, factor, s, t;
} OperatorCall;

struct StandIn {
    /* Whether the result is in *y; else the operator goes on by itself. Operators that this calls are
     * themselves. */
    bool (*compute)(void *self, Context *ctx, const OperatorCall *call, Tensor *y);
    void *self;
};

bool stand_in_for(Context *ctx, const OperatorCall *call, Tensor *y);

/* The first line of an operator. */
#define STAND_IN(ctx, ...)                                                                         \
    do {                                                                                           \
        Tensor instead;                                                                            \
        if ((ctx)->stand_in && stand_in_for(ctx, &(OperatorCall){__VA_ARGS__}, &instead))          \
            return instead;                                                                        \
    } while (0)

#endif
