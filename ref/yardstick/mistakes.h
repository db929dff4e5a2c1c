/* The mistakes that ports make, as operators done otherwise (tensor/stand_in.h). */
#ifndef LLMDIFF_MISTAKES_H
#define LLMDIFF_MISTAKES_H

#include "tensor/stand_in.h"

typedef struct Mistake {
    Operator op;
    /* After "mine is what comes out "; may have one %g for the value */
    const char *what;
    /* *y: what the operator gives with that mistake. False: this call can't have it. */
    bool (*make)(Context *ctx, const OperatorCall *call, double value, Tensor *y);
    double value;
} Mistake;

/* All of them, those of one operator side by side, the likelier first. */
size_t mistakes_count(void);
const Mistake *mistakes_at(size_t i);
/* How much of the divergence may be left, where what comes out depends on a library's last digits; 0:
 * as little as elsewhere. */
double mistake_share(const Mistake *m);

/* One function per kind of operator, `value` says which mistake: see the table in mistakes.c. */
typedef enum NormMistake {
    NORM_EPS, /* value is the eps itself */
    NORM_NO_BIAS,
    NORM_NO_WEIGHT,
    NORM_WEIGHT_PLUS_ONE,
    NORM_NOT_CENTRED,
    NORM_CENTRED,
    NORM_UNBIASED,
    NORM_EPS_OUTSIDE,
    NORM_INTERLEAVED,
    NORM_GROUPS_HALF,
    NORM_GROUPS_TWICE,
    NORM_GROUPS_ONE,
    NORM_GROUPS_ALL,
    NORM_GROUPS_32
} NormMistake;

typedef enum AttentionMistake {
    ATTENTION_UNSCALED,
    ATTENTION_SCALED_TWICE,
    ATTENTION_WIDTH_SCALED,
    ATTENTION_TWICE_OR_WIDTH,
    ATTENTION_SEES_ALL,
    ATTENTION_CAUSAL,
    ATTENTION_SEES_NEXT,
    ATTENTION_NOT_ITSELF,
    ATTENTION_WINDOW_LESS,
    ATTENTION_WINDOW_MORE,
    ATTENTION_NO_WINDOW,
    ATTENTION_ONE_HEAD,
    ATTENTION_HALF_HEADS,
    ATTENTION_TWICE_HEADS,
    ATTENTION_TILED_HEADS,
    ATTENTION_ZERO,
    ATTENTION_VALUE_BEFORE
} AttentionMistake;

/* mistakes_norm.c, mistakes_attention.c */
bool mistaken_eps(Context *ctx, const OperatorCall *call, double eps, Tensor *y);
bool mistaken_norm(Context *ctx, const OperatorCall *call, double which, Tensor *y);
bool mistaken_attention(Context *ctx, const OperatorCall *call, double which, Tensor *y);
bool mistaken_interleaved_rope(Context *ctx, const OperatorCall *call, double value, Tensor *y);
bool mistaken_rope_exponent(Context *ctx, const OperatorCall *call, double value, Tensor *y);

#endif
