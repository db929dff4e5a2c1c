/* y[b,i,j,n] = bias[n] + sum_{c,u,v} x[b, i*stride+u-top, j*stride+v-left, c] w[n,c,u,v]
 * torch.nn.functional.pad + conv2d, x [B, H, W, C], w [N, C, kh, kw] -> [B, H', W', N]
 *
 * A convolution is a linear layer over patches: the C*kh*kw numbers that an output pixel sees, in the
 * weight's own order, so that the stored weight is the matrix [N, C*kh*kw] as it stands. The patches
 * of all pixels would be kh*kw times the map, so they are gathered for a strip of pixels at a time;
 * within a strip both the gathering and the product use all threads. */
#include "tensor/stand_in.h"
#include "tensor/tape.h"

#include <assert.h>
#include <string.h>

#define MAX_TAPS 64
#define GRAIN 65536 /* copied elements per thread that are worth waking it */
/* A strip of patches should stay in a cache between gathering and product, but all weights are read
 * (and widened) once per strip, so it has a fair number of pixels whatever their patches' size. */
#define STRIP_REALS ((int64_t)1 << 20)
#define STRIP_PIXELS_MIN 256
#define STRIP_PIXELS_MAX 1024

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Pixels per strip, by the shapes alone (determinism), in equal strips. */
static int64_t strip_size(int64_t pixels, int64_t patch) {
    int64_t most = least(STRIP_REALS / patch, STRIP_PIXELS_MAX);
    if (most < STRIP_PIXELS_MIN) most = STRIP_PIXELS_MIN;
    const int64_t strips = (pixels + most - 1) / most;
    return (pixels + strips - 1) / strips;
}

/* The patch of one output pixel, [C, kh, kw]. `zeros` [C] stands in for every tap in the padding. */
static void gather(real *restrict patch, const real *picture, const real *zeros, int64_t H,
                   int64_t W, int64_t C, int64_t kh, int64_t kw, int64_t top, int64_t left) {
    const real *tap[MAX_TAPS];
    const int64_t taps = kh * kw;
    for (int64_t u = 0; u < kh; u++)
        for (int64_t v = 0; v < kw; v++) {
            const int64_t i = top + u, j = left + v;
            const bool inside = i >= 0 && i < H && j >= 0 && j < W;
            tap[u * kw + v] = inside ? picture + (i * W + j) * C : zeros;
        }
    for (int64_t c = 0; c < C; c++)
        for (int64_t t = 0; t < taps; t++) *patch++ = tap[t][c];
}

/* What both directions need to know of a convolution. */
typedef struct Geometry {
    int64_t B, H, W, C, height, width, N, kh, kw, patch, pixels, strip;
    bool pointwise; /* the map is its own patches */
} Geometry;

static Geometry geometry_of(Tensor x, const Weight *w, Conv2d opt) {
    Geometry g = {.B = x.dim[0], .H = x.dim[1], .W = x.dim[2], .C = x.dim[3]};
    g.N = w->dim[0], g.kh = w->dim[2], g.kw = w->dim[3], g.patch = g.C * g.kh * g.kw;
    g.height = (g.H + opt.top + opt.bottom - g.kh) / opt.stride + 1;
    g.width = (g.W + opt.left + opt.right - g.kw) / opt.stride + 1;
    g.pixels = g.B * g.height * g.width;
    g.strip = strip_size(g.pixels, g.patch);
    g.pointwise = g.kh == 1 && g.kw == 1 && opt.stride == 1 && g.height == g.H && g.width == g.W;
    return g;
}

/* The patches of `count` output pixels from `first` on. */
static void gather_strip(const Context *ctx, const Geometry *g, Conv2d opt, const real *x,
                         const real *zeros, int64_t first, int64_t count, real *patches) {
    const int threads = parallel_threads(ctx, count * g->patch / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t p = 0; p < count; p++) {
        const int64_t at = first + p, picture = at / (g->height * g->width);
        const int64_t i = at / g->width % g->height, j = at % g->width;
        gather(patches + p * g->patch, x + picture * g->H * g->W * g->C, zeros, g->H, g->W, g->C,
               g->kh, g->kw, i * opt.stride - opt.top, j * opt.stride - opt.left);
    }
}

typedef struct Convolution {
    Tensor x;
    Weight w, b;
    Conv2d opt;
} Convolution;

static TapeBackward conv2d_backward;

Tensor conv2d(Context *ctx, Tensor x, const Weight *w, const Weight *b, Conv2d opt) {
    STAND_IN(ctx, OP_CONV2D, .x = x, .w = w, .b = b, .conv = opt);
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim == 4 && w->ndim == 4 && w->dim[1] == x.dim[3] && opt.stride >= 1);
    assert(x.dim[1] + opt.top + opt.bottom >= w->dim[2]);
    assert(x.dim[2] + opt.left + opt.right >= w->dim[3] && w->dim[2] * w->dim[3] <= MAX_TAPS);
    const Geometry g = geometry_of(x, w, opt);
    Tensor y = TENSOR_NEW(ctx, g.B, g.height, g.width, g.N);

    if (g.pointwise) {
        gemm_weight(ctx, g.pixels, g.N, g.C, x.data, w, y.data);
    } else {
        ArenaMark mark = scope_begin(ctx);
        real *patches = scratch_reals(ctx, (size_t)(g.strip * g.patch));
        real *zeros = scratch_reals(ctx, (size_t)g.C);
        if (zeros) memset(zeros, 0, (size_t)g.C * sizeof(real));
        for (int64_t first = 0; first < g.pixels && !poll_cancelled(ctx, "conv2d");
             first += g.strip) {
            const int64_t count = least(g.strip, g.pixels - first);
            gather_strip(ctx, &g, opt, x.data, zeros, first, count, patches);
            gemm_weight(ctx, count, g.N, g.patch, patches, w, y.data + first * g.N);
        }
        arena_release(&ctx->arena, mark);
    }
    bias_add(ctx, y, b);
    if (is_variable(ctx, x) || is_trained(ctx, w) || is_trained(ctx, b))
        y = tape_record(ctx, y, conv2d_backward, &(Convolution){x, *w, weight_kept(b), opt},
                        sizeof(Convolution));
    return ctx->error.set ? (Tensor){0} : y;
}

/* Adds the gradients of a strip's patches to the pixels that they were gathered from. By input rows,
 * so that no two threads write to the same: input pixel (i, j) stands at tap (u, v) of the output
 * pixel ((i + top - u) / stride, (j + left - v) / stride), where there is one. */
static void scatter_strip(const Context *ctx, const Geometry *g, Conv2d opt, const real *dpatches,
                          int64_t first, int64_t count, real *dx) {
    const int64_t row0 = first / g->width,
                  row1 = (first + count - 1) / g->width; /* of the output */
    int64_t top = row0 % g->height * opt.stride - opt.top;
    int64_t end = row1 % g->height * opt.stride - opt.top + g->kh;
    top = row0 / g->height * g->H + (top < 0 ? 0 : least(top, g->H));
    end = row1 / g->height * g->H + (end < 0 ? 0 : least(end, g->H));
    const int64_t taps = g->kh * g->kw;
    const int threads = parallel_threads(ctx, count * g->patch / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = top; row < end; row++)
        for (int64_t j = 0; j < g->W; j++)
            for (int64_t u = 0; u < g->kh; u++)
                for (int64_t v = 0; v < g->kw; v++) {
                    const int64_t i_u = row % g->H + opt.top - u, j_v = j + opt.left - v;
                    const int64_t oi = i_u / opt.stride, oj = j_v / opt.stride;
                    if (i_u < 0 || i_u % opt.stride || oi >= g->height) continue;
                    if (j_v < 0 || j_v % opt.stride || oj >= g->width) continue;
                    const int64_t p = (row / g->H * g->height + oi) * g->width + oj - first;
                    if (p < 0 || p >= count) continue;
                    const real *from = dpatches + p * g->patch + u * g->kw + v;
                    real *to = dx + (row * g->W + j) * g->C;
                    for (int64_t c = 0; c < g->C; c++) to[c] += from[c * taps];
                }
}

/* With the patches P [pixels, C*kh*kw] of x, y = P w^T + b:
 *     dP = dy w, each element of which is added to the x that it is a copy of;  dw += dy^T P;
 *     db += column sums of dy.     Strip by strip, as forward. */
static void conv2d_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    (void)y;
    const Convolution *c = call;
    const Geometry g = geometry_of(c->x, &c->w, c->opt);
    real *dx = tape_gradient(ctx, c->x), *dw = c->w.grad;
    bias_add_backward(ctx, g.pixels, g.N, dy, &c->b);
    if (g.pointwise) {
        if (dx) gemm_weight_dx(ctx, g.pixels, g.N, g.C, dy, &c->w, dx);
        if (dw) gemm_weight_dw(ctx, g.pixels, g.N, g.C, dy, c->x.data, dw);
        return;
    }

    if (!dx && !dw) return;
    ArenaMark mark = scope_begin(ctx);
    real *patches = scratch_reals(ctx, (size_t)(g.strip * g.patch));
    real *zeros = scratch_reals(ctx, (size_t)g.C);
    if (!patches || !zeros) return;
    memset(zeros, 0, (size_t)g.C * sizeof(real));
    for (int64_t first = 0; first < g.pixels && !poll_cancelled(ctx, "conv2d, backward");
         first += g.strip) {
        const int64_t count = least(g.strip, g.pixels - first);
        if (dw) {
            gather_strip(ctx, &g, c->opt, c->x.data, zeros, first, count, patches);
            gemm_weight_dw(ctx, count, g.N, g.patch, dy + first * g.N, patches, dw);
        }
        if (dx) {
            memset(patches, 0, (size_t)(count * g.patch) * sizeof(real));
            gemm_weight_dx(ctx, count, g.N, g.patch, dy + first * g.N, &c->w, patches);
            scatter_strip(ctx, &g, c->opt, patches, first, count, dx);
        }
    }
    arena_release(&ctx->arena, mark);
}
