/* The front door of the tensor room: what a Tensor, a Weight and a Context are, and every operator
 * with its shapes, its equation and the upstream operator that it equals.
 *
 *     Context ctx = {.threads = 2};
 *     Tensor y = linear(&ctx, x, weight, bias);
 *     if (ctx.error.set) puts(ctx.error.message);
 *     context_free(&ctx);
 *
 * Operators are eager and allocate their result from the context's arena. Shapes are the caller's
 * duty (asserted); what can fail at run time (memory, a value that is not finite, a cancelled run)
 * fails the context: the message stays in ctx->error and every later operator returns an empty
 * Tensor at once, so that a model needs to look only at its end.
 *
 * With a tape in the context (tensor/tape.h) an operator also records how to run back; its backward
 * stands directly below its forward. Forward overwrites, backward adds to the gradients d*.
 *
 * Dimension letters: B batch, H W height and width, C channels, L rows (tokens or pixels),
 * K input and N output features. Storage is dense and row-major; images are [B, H, W, C]. */
#ifndef LLMDIFF_TENSOR_H
#define LLMDIFF_TENSOR_H

#include "tensor/arena.h"
#include "tensor/error.h"
#include "tensor/real.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_DIMS 4
#define MAX_BATCH 8

/* ---- what there is ------------------------------------------------------------------------- */

typedef struct Tensor {
    real *data; /* NULL: empty, the context has failed */
    int ndim;
    int64_t dim[MAX_DIMS]; /* unused ones are 1 */
    int64_t var;           /* the variable on the tape that this is (a part of); 0: a constant */
    int64_t at;            /* where in that variable it begins */
} Tensor;

typedef enum Dtype {
    DTYPE_F64,
    DTYPE_F32,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I64,
    DTYPE_I32,
    DTYPE_I16,
    DTYPE_I8,
    DTYPE_U8,
    DTYPE_BOOL
} Dtype;

/* A parameter: a view into a mapped file in its stored type. `data` may be unaligned. */
typedef struct Weight {
    const void *data;
    Dtype dtype; /* one of the float types */
    int ndim;
    int64_t dim[MAX_DIMS];
    const char *name; /* as in the file */
    real *grad; /* NULL: frozen; else, with a tape, its gradient is added here, as dense as data */
} Weight;

/* Sees every named activation (spec, section 8), in execution order, in upstream's layout: maps as
 * [C, H, W], rows as [L, C]. `name` and `data` live for the call only. */
typedef struct Observer {
    void (*see)(void *self, const char *name, const real *data, int ndim, const int64_t *dim);
    void *self;
} Observer;

/* Puts other values in a named activation's place, right after it was computed, checked and shown: the
 * run goes on from them. `data` holds what was computed, in the observer's layout; `force` returns
 * whether it wrote there, or fails with a message. Single numbers (observe_scalar) are never forced. */
typedef struct Forcing {
    bool (*force)(void *self, const char *name, real *data, int ndim, const int64_t *dim,
                  Error *err);
    void *self;
} Forcing;

/* Operators done otherwise: what a known mistake would give. See tensor/stand_in.h. */
typedef struct StandIn StandIn;

typedef struct Context {
    int threads; /* 0: as OpenMP decides. Results don't depend on it. */
    Arena arena;
    Error error;                   /* sticky: set once, then every operator is a no-op */
    const Observer *observer;      /* NULL: nobody looks */
    const Forcing *forcing;        /* NULL: every value stays as computed */
    const StandIn *stand_in;       /* NULL: every operator does what it says */
    bool (*cancelled)(void *self); /* NULL: never; polled at every named activation */
    void *cancelled_self;
    const char *prefix[MAX_BATCH]; /* "unet/3/cond/": stands before the names of element b */
    const char *batch_prefix;      /* "unet/3/": before names that belong to the whole batch */
    struct Tape *tape;             /* NULL: nothing is recorded (tensor/tape.h) */
} Context;

void context_free(Context *ctx);

/* ---- context.c: memory, scopes, observing --------------------------------------------------- */

size_t dtype_size(Dtype dtype);
const char *dtype_name(Dtype dtype); /* "F32", as in safetensors */

int64_t tensor_numel(Tensor t);
int64_t tensor_rows(Tensor t); /* product of all dimensions but the last */
int64_t tensor_cols(Tensor t); /* the last dimension */
/* Uninitialised, from the arena. Empty if the context has failed or fails here. */
Tensor tensor_new(Context *ctx, int ndim, const int64_t *dim);
#define TENSOR_NEW(ctx, ...)                                                                       \
    tensor_new(ctx, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                     \
               (int64_t[]){__VA_ARGS__})
Tensor tensor_copy(Context *ctx, Tensor x);
/* Element b along the first dimension, that dimension dropped. A view: no copy. */
Tensor tensor_at(Tensor x, int64_t b);
/* The same numbers under other dimensions. A view. */
Tensor tensor_view(Tensor x, int ndim, const int64_t *dim);
#define TENSOR_VIEW(x, ...)                                                                        \
    tensor_view(x, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                      \
                (int64_t[]){__VA_ARGS__})

/* Everything allocated between begin and end is released, but for `result`, which moves down. What a
 * tape refers to stays until the tape was walked. */
ArenaMark scope_begin(Context *ctx);
Tensor scope_end(Context *ctx, ArenaMark mark, Tensor result);

/* Scratch of `n` reals (uninitialised); NULL if the context has failed or fails here. */
real *scratch_reals(Context *ctx, size_t n);
double *scratch_doubles(Context *ctx, int64_t n);

/* n elements of w from element `first` on, widened or rounded to real. */
void weight_read(const Weight *w, int64_t first, int64_t n, real *out);

/* Names an activation: fails the context, naming it, if a value is not finite; polls `cancelled`;
 * shows it to the observer. The numbers change only where ctx->forcing says so: x must then be what the
 * rest of the run reads, and nobody else's storage. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
void observe(Context *ctx, Tensor x, const char *name, ...);
/* Asks `cancelled`; true if the run is to stop, or has failed already: `where` is then in the message.
 * For loops that take long between two names. */
bool poll_cancelled(Context *ctx, const char *where);
/* The same for a single number, shown with no dimensions. */
void observe_scalar(Context *ctx, double x, const char *name);
/* The same for each element b of a batch, as ctx->prefix[b] + name. [B, H, W, C] is shown as maps
 * [C, H, W], [B, L, C] as rows [L, C]. Name in printf form. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
void observe_each(Context *ctx, Tensor x, const char *name, ...);

/* ---- gemm.c: the only file that includes cblas.h --------------------------------------------- */

/* Threads that a parallel loop over `tasks` independent tasks should use, at least 1. */
int parallel_threads(const Context *ctx, int64_t tasks);

/* y [M, N] = x [M, K] w[n0 .. n0+N, K]^T, all rows dense. The one matrix product with a Weight:
 * cut into tiles whose size depends on M, N, K alone. Fails the context for lack of scratch. */
void gemm_weight(Context *ctx, int64_t M, int64_t N, int64_t K, const real *x, const Weight *w,
                 real *y);
/* c [M, N] (rows ldc apart) = alpha * a [M, K] (lda) op(b) (ldb), op(b) = b^T for b [N, K], else
 * b [K, N]. One thread, for use inside a parallel loop. */
void gemm_tile(bool transpose_b, int64_t M, int64_t N, int64_t K, real alpha, const real *a,
               int64_t lda, const real *b, int64_t ldb, real *c, int64_t ldc);
/* c += alpha * op(a) op(b), op as above: a [M, K] or, transposed, [K, M]. */
void gemm_tile_add(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, real alpha,
                   const real *a, int64_t lda, const real *b, int64_t ldb, real *c, int64_t ldc);
/* Back through gemm_weight: dx [M, K] += dy [M, N] w [N, K], and dw [N, K] += dy^T x. */
void gemm_weight_dx(Context *ctx, int64_t M, int64_t N, int64_t K, const real *dy, const Weight *w,
                    real *dx);
void gemm_weight_dw(Context *ctx, int64_t M, int64_t N, int64_t K, const real *dy, const real *x,
                    real *dw);

/* ---- linear.c -------------------------------------------------------------------------------- */

/* y[..., n] = sum_k x[..., k] w[n, k] + b[n]        torch.nn.functional.linear
 * x [..., K], w [N, K], b [N] or NULL -> [..., N] */
Tensor linear(Context *ctx, Tensor x, const Weight *w, const Weight *b);
/* y[..., n] += b[n] in place; nothing if b is NULL. How linear and conv2d end; they also pass its
 * gradient on: db[n] += sum_m dy[m, n], dy [M, N]. */
void bias_add(Context *ctx, Tensor y, const Weight *b);
void bias_add_backward(Context *ctx, int64_t M, int64_t N, const real *dy, const Weight *b);

/* ---- conv2d.c -------------------------------------------------------------------------------- */

typedef struct Conv2d {
    int64_t stride;
    int64_t top, left, bottom, right; /* zero padding */
} Conv2d;

/* y[b,i,j,n] = b[n] + sum_{c,u,v} x[b, i*stride+u-top, j*stride+v-left, c] w[n,c,u,v]
 * torch.nn.functional.pad + conv2d. x [B, H, W, C], w [N, C, kh, kw], b [N] or NULL
 * -> [B, (H+top+bottom-kh)/stride+1, (W+left+right-kw)/stride+1, N] */
Tensor conv2d(Context *ctx, Tensor x, const Weight *w, const Weight *b, Conv2d opt);

/* ---- norm.c ---------------------------------------------------------------------------------- */

/* y = (x - mean(x)) / sqrt(var(x) + eps) * w + b over the last dimension, var biased.
 * torch.nn.functional.layer_norm. x [..., C], w [C], b [C] or NULL */
Tensor layer_norm(Context *ctx, Tensor x, const Weight *w, const Weight *b, double eps);
/* y = x / sqrt(mean(x^2) + eps) * w over the last dimension. transformers LlamaRMSNorm */
Tensor rms_norm(Context *ctx, Tensor x, const Weight *w, double eps);
/* Like layer_norm over each of `groups` groups of neighbouring channels of one picture, with w and b per
 * channel. torch.nn.functional.group_norm. x [B, H, W, C] or [B, L, C] */
Tensor group_norm(Context *ctx, Tensor x, const Weight *w, const Weight *b, int64_t groups,
                  double eps);

/* ---- activation.c ---------------------------------------------------------------------------- */

/* x / (1 + exp(-x))                                        torch.nn.functional.silu */
Tensor silu(Context *ctx, Tensor x);
/* x/2 (1 + erf(x/sqrt(2)))                                 torch.nn.functional.gelu */
Tensor gelu(Context *ctx, Tensor x);
/* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))            transformers NewGELUActivation */
Tensor gelu_new(Context *ctx, Tensor x);
/* x / (1 + exp(-1.702 x))                                  transformers QuickGELUActivation */
Tensor quick_gelu(Context *ctx, Tensor x);
/* [..., 2C] = (value, gate) -> value * gelu(gate) [..., C] diffusers GEGLU, after its projection */
Tensor geglu(Context *ctx, Tensor x);
/* exp(x - max) / sum exp(x - max) over the last dimension  torch.softmax */
Tensor softmax(Context *ctx, Tensor x);
/* The same in place on one row of n: what attention uses. */
void softmax_row(real *x, int64_t n);
/* And back: dy <- y (dy - sum_j y_j dy_j). */
void softmax_row_backward(const real *y, real *dy, int64_t n);

/* ---- attention.c ----------------------------------------------------------------------------- */

typedef enum AttentionMask {
    MASK_NONE,   /* every query sees every key */
    MASK_CAUSAL, /* query i sees keys 0 .. i; Lk = Lq */
    MASK_OWN     /* query i sees key i alone: the result is its own value row */
} AttentionMask;

/* softmax(Q K^T / sqrt(d)) V per head, d = C / heads.   torch scaled_dot_product_attention
 * q [B, Lq, C]; k and v: B tensors each, [L_b, kv_heads * d] (prompts of a batch differ in length;
 * query head h reads key head h / (heads / kv_heads)) -> [B, Lq, C].
 * Cut into tiles of queries: scores of one tile and head only are ever in memory. */
Tensor attention(Context *ctx, Tensor q, const Tensor *k, const Tensor *v, int64_t heads,
                 int64_t kv_heads, AttentionMask mask);
/* Causal, and no further back than a sliding window: query i sees the `window` keys that end with
 * its own, i - window + 1 .. i (all up to i while there are fewer).
 * transformers sliding_window_causal_mask_function */
Tensor attention_window(Context *ctx, Tensor q, const Tensor *k, const Tensor *v, int64_t heads,
                        int64_t kv_heads, int64_t window);

/* ---- rope.c ---------------------------------------------------------------------------------- */

/* Rotary position embedding in the half-split layout (transformers rotate_half), on the first
 * `rotary` of each head's d features, the rest unchanged. With m = position + row,
 * w_j = theta^(-2j/rotary) / factor, j < rotary/2 (factor: linear scaling, 1 for none):
 *     y[j] = x[j] cos(m w_j) - x[j + rotary/2] sin(m w_j)
 *     y[j + rotary/2] = x[j + rotary/2] cos(m w_j) + x[j] sin(m w_j)
 * x [L, heads * d] -> the same shape */
Tensor rope(Context *ctx, Tensor x, int64_t heads, int64_t rotary, double theta, double factor,
            int64_t position);

/* ---- embedding.c ----------------------------------------------------------------------------- */

/* Row ids[i] of w.  torch.nn.functional.embedding. ids [n], each 0 <= id < V; w [V, D] -> [n, D] */
Tensor embedding(Context *ctx, const int64_t *ids, int64_t n, const Weight *w);

/* ---- resample.c ------------------------------------------------------------------------------ */

/* Nearest neighbour to H' x W': y[i,j] = x[floor(i H / H'), floor(j W / W')].
 * torch.nn.functional.interpolate(mode="nearest"). x [B, H, W, C] -> [B, H', W', C] */
Tensor resize_nearest(Context *ctx, Tensor x, int64_t height, int64_t width);

/* ---- elementwise.c --------------------------------------------------------------------------- */

Tensor add(Context *ctx, Tensor a, Tensor b); /* a + b, same shape */
Tensor sub(Context *ctx, Tensor a, Tensor b); /* a - b */
Tensor mul(Context *ctx, Tensor a, Tensor b); /* a * b, element by element */
Tensor scale(Context *ctx, Tensor a, double s);
/* y = s a + t b, same shape */
Tensor axpby(Context *ctx, double s, Tensor a, double t, Tensor b);
/* y = a1 exp(b1) x1 + a2 exp(b2) x2, same shape: Eq. 9's blend (spec, section 4), each of a1, b1, a2, b2
 * a Weight [1], so that it can be learned. The numbers are axpby's with these factors. */
typedef struct Blend {
    const Weight *a1, *b1, *a2, *b2;
} Blend;
Tensor blend_exp(Context *ctx, Blend w, Tensor x1, Tensor x2);
/* y[b, ..., c] = x[b, ..., c] + v[b, c]: a vector added to every pixel. x [B, ..., C], v [B, C] */
Tensor add_channels(Context *ctx, Tensor x, Tensor v);
/* Along the last dimension: [..., Ca], [..., Cb] -> [..., Ca + Cb]. torch.cat(dim=1) of maps */
Tensor concat(Context *ctx, Tensor a, Tensor b);
/* [C, H, W] -> [H, W, C] and back */
Tensor channels_last(Context *ctx, Tensor x);
Tensor channels_first(Context *ctx, Tensor x);

/* ---- loss.c ---------------------------------------------------------------------------------- */

/* mean((x - y)^2) over all elements; with `weight` (one for each x.dim[0], NULL: none)
 * mean_b( weight[b] mean((x[b] - y[b])^2) ).  torch.nn.functional.mse_loss. x, y: same shape -> [1] */
Tensor mean_squared_error(Context *ctx, Tensor x, Tensor y, const double *weight);

/* ---- reduce.c: sums whose order is fixed ------------------------------------------------------- */

/* sum_i a[i] b[i], added up in double; 0 if there is no memory for it (the context then has failed). */
double dot(Context *ctx, int64_t n, const real *a, const real *b);
/* out[c] = sum_m x[m, c], added up in double. */
void column_sums(Context *ctx, int64_t M, int64_t C, const real *x, double *out);
/* y[i] += s x[i]; nothing if y is NULL. */
void add_scaled(const Context *ctx, int64_t n, double s, const real *x, real *y);

/* ---- rng.c ----------------------------------------------------------------------------------- */

/* torch.Generator("cpu"): Mersenne twister 19937 and torch.randn's float32 normal stream. */
typedef struct Rng {
    uint32_t state[624];
    int index;
    bool has_next; /* torch keeps the second normal of a pair in fills shorter than 16 */
    double next;
} Rng;

Rng rng_seed(uint64_t seed); /* manual_seed(seed) */
/* n draws of torch.randn(n, dtype=float32) in one call (fills of < 16 and >= 16 differ, as in
 * torch), widened to real. */
void rng_normal(Rng *rng, real *out, int64_t n);
/* torch.empty(n, dtype=float32).uniform_(low, high), one call. */
void rng_uniform(Rng *rng, double low, double high, float *out, int64_t n);

#endif
