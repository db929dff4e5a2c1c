/* Attention and rotary embedding with a mistake. See mistakes.h. */
#include "ref/yardstick/mistakes.h"

#include <math.h>
#include <string.h>

/* Row i sees keys first .. last; heads read key head h / (heads / kv_heads), or h % kv_heads. Plain
 * loops: masks are the LLM's, whose rows are few. */
typedef struct AttentionAs {
    int64_t before, after; /* first = i - before, last = i + after, within the keys */
    bool tiled;
} AttentionAs;

static void attend_row(const OperatorCall *call, const AttentionAs *as, int64_t b, int64_t i,
                       int64_t h, double *score, real *out) {
    const int64_t C = call->x.dim[2], d = C / call->heads, keys = call->k[b].dim[0];
    const int64_t width = call->kv_heads * d;
    const int64_t from = (as->tiled ? h % call->kv_heads : h / (call->heads / call->kv_heads)) * d;
    const real *q = call->x.data + (b * call->x.dim[1] + i) * C + h * d;
    const int64_t first = as->before > i ? 0 : i - as->before;
    const int64_t last = as->after >= keys - i ? keys - 1 : i + as->after;
    double most = -INFINITY, sum = 0;
    for (int64_t c = 0; c < d; c++) out[c] = 0;
    for (int64_t j = first; j <= last; j++) {
        score[j] = 0;
        for (int64_t c = 0; c < d; c++)
            score[j] += (double)q[c] * (double)call->k[b].data[j * width + from + c];
        score[j] /= sqrt((double)d);
        most = fmax(most, score[j]);
    }
    for (int64_t j = first; j <= last; j++) sum += score[j] = exp(score[j] - most);
    for (int64_t c = 0; c < d; c++) {
        double y = 0;
        for (int64_t j = first; j <= last; j++)
            y += score[j] / sum * (double)call->v[b].data[j * width + from + c];
        out[c] = (real)y;
    }
}

static Tensor attention_as(Context *ctx, const OperatorCall *call, AttentionAs as) {
    Tensor y = tensor_new(ctx, call->x.ndim, call->x.dim);
    int64_t longest = 1;
    for (int64_t b = 0; b < call->x.dim[0]; b++)
        longest = call->k[b].dim[0] > longest ? call->k[b].dim[0] : longest;
    double *score =
        (double *)(void *)scratch_reals(ctx, (size_t)longest * (sizeof(double) / sizeof(real)));
    if (ctx->error.set) return (Tensor){0};
    const int64_t d = call->x.dim[2] / call->heads;
    for (int64_t b = 0; b < y.dim[0]; b++)
        for (int64_t i = 0; i < y.dim[1]; i++)
            for (int64_t h = 0; h < call->heads; h++)
                attend_row(call, &as, b, i, h, score,
                           y.data + (b * y.dim[1] + i) * y.dim[2] + h * d);
    return y;
}

/* The same attention with its scores times a factor. */
static bool scaled(Context *ctx, const OperatorCall *c, double factor, Tensor *y) {
    if (c->mask == MASK_OWN || factor == 1) return false;
    Tensor q = scale(ctx, c->x, factor);
    *y = c->window > 0 && c->window < INT64_MAX
             ? attention_window(ctx, q, c->k, c->v, c->heads, c->kv_heads, c->window)
             : attention(ctx, q, c->k, c->v, c->heads, c->kv_heads, c->mask);
    return true;
}

static bool with_heads(Context *ctx, const OperatorCall *c, int64_t heads, Tensor *y) {
    if (heads < 1 || heads == c->heads || c->kv_heads != c->heads || c->mask == MASK_OWN ||
        c->x.dim[2] % heads)
        return false;
    *y = attention(ctx, c->x, c->k, c->v, heads, heads, c->mask);
    return true;
}

/* The result of own-token attention but for one mistake: rows of values are all it has. */
static bool own(Context *ctx, const OperatorCall *c, AttentionMistake which, Tensor *y) {
    if (c->mask != MASK_OWN) return false;
    *y = attention(ctx, c->x, c->k, c->v, c->heads, c->kv_heads, MASK_OWN);
    if (ctx->error.set) return true;
    const int64_t C = y->dim[2], L = y->dim[1];
    for (int64_t b = 0; b < y->dim[0]; b++) {
        real *rows = y->data + b * L * C;
        if (which == ATTENTION_ZERO)
            memset(rows, 0, (size_t)(L * C) * sizeof(real));
        else
            memmove(rows + C, rows, (size_t)((L - 1) * C) * sizeof(real));
    }
    return true;
}

bool mistaken_attention(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    const int64_t C = c->x.dim[2], d = C / c->heads, far = INT64_MAX / 2;
    const bool causal = c->mask == MASK_CAUSAL, window = causal && c->window < INT64_MAX;
    const AttentionMistake which = (AttentionMistake)value;
    AttentionAs as = {window ? c->window - 1 : far, causal ? 0 : far, false};
    switch (which) {
    case ATTENTION_UNSCALED: return scaled(ctx, c, sqrt((double)d), y);
    /* With d heads of d these two are one. */
    case ATTENTION_SCALED_TWICE: return d != c->heads && scaled(ctx, c, 1 / sqrt((double)d), y);
    case ATTENTION_WIDTH_SCALED:
        return d != c->heads && scaled(ctx, c, sqrt((double)d / (double)C), y);
    case ATTENTION_TWICE_OR_WIDTH: return d == c->heads && scaled(ctx, c, 1 / sqrt((double)d), y);
    case ATTENTION_ONE_HEAD: return with_heads(ctx, c, 1, y);
    case ATTENTION_HALF_HEADS: return with_heads(ctx, c, c->heads / 2, y);
    case ATTENTION_TWICE_HEADS: return with_heads(ctx, c, c->heads * 2, y);
    case ATTENTION_ZERO:
    case ATTENTION_VALUE_BEFORE: return own(ctx, c, which, y);
    case ATTENTION_SEES_ALL: as.after = as.before = far; break;
    case ATTENTION_SEES_NEXT: as.after = 1; break;
    case ATTENTION_NOT_ITSELF: as.after = -1; break;
    case ATTENTION_WINDOW_LESS: as.before--; break;
    case ATTENTION_WINDOW_MORE: as.before++; break;
    case ATTENTION_NO_WINDOW: as.before = far; break;
    case ATTENTION_CAUSAL: as.after = 0; break;
    case ATTENTION_TILED_HEADS: as.tiled = true; break;
    }
    const bool about_window = which == ATTENTION_WINDOW_LESS || which == ATTENTION_WINDOW_MORE ||
                              which == ATTENTION_NO_WINDOW;
    if (c->mask == MASK_OWN || (about_window && (!window || c->window < 2))) return false;
    if (which == ATTENTION_TILED_HEADS) {
        if (c->kv_heads == c->heads || c->kv_heads == 1) return false;
    } else if ((which == ATTENTION_CAUSAL) == causal) {
        return false;
    }
    for (int64_t b = 0; b < c->x.dim[0]; b++)
        if (as.after < far && c->k[b].dim[0] != c->x.dim[1]) return false;
    *y = attention_as(ctx, c, as);
    /* The first row sees nothing if it doesn't see itself: there it keeps its own value. */
    if (which == ATTENTION_NOT_ITSELF && y->data)
        for (int64_t b = 0; b < y->dim[0]; b++) {
            double score;
            for (int64_t h = 0; h < c->heads; h++)
                attend_row(c, &(AttentionAs){0, 0, false}, b, 0, h, &score,
                           y->data + b * y->dim[1] * C + h * d);
        }
    return true;
}

/* Pairs of neighbours, (0, 1), (2, 3), ..., turn in place of (j, j + rotary / 2). */
bool mistaken_interleaved_rope(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    if (c->rotary < 4) return false;
    *y = tensor_copy(ctx, c->x);
    const int64_t d = c->x.dim[1] / c->heads;
    for (int64_t row = 0; y->data && row < c->x.dim[0]; row++)
        for (int64_t h = 0; h < c->heads; h++)
            for (int64_t j = 0; j < c->rotary / 2; j++) {
                const real *in = c->x.data + (row * c->heads + h) * d + 2 * j;
                real *out = y->data + (row * c->heads + h) * d + 2 * j;
                const double w = pow(c->theta, -2 * (double)j / (double)c->rotary) / c->factor;
                const double angle = (double)(c->position + row) * w;
                out[0] = (real)((double)in[0] * cos(angle) - (double)in[1] * sin(angle));
                out[1] = (real)((double)in[1] * cos(angle) + (double)in[0] * sin(angle));
            }
    return true;
}

/* theta^(-2 j / d) in place of theta^(-2 j / rotary): theta^(rotary / d) for theta. */
bool mistaken_rope_exponent(Context *ctx, const OperatorCall *c, double value, Tensor *y) {
    (void)value;
    const int64_t d = c->x.dim[1] / c->heads;
    if (c->rotary == d || c->rotary < 4) return false;
    const double theta = pow(c->theta, (double)c->rotary / (double)d);
    *y = rope(ctx, c->x, c->heads, c->rotary, theta, c->factor, c->position);
    return true;
}
