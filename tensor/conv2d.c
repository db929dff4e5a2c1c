/* y[b,i,j,n] = bias[n] + sum_{c,u,v} x[b, i*stride+u-top, j*stride+v-left, c] w[n,c,u,v]
 * torch.nn.functional.pad + conv2d, x [B, H, W, C], w [N, C, kh, kw] -> [B, H', W', N]
 *
 * A convolution is a linear layer over patches: the C*kh*kw numbers that an output pixel sees, in the
 * weight's own order, so that the stored weight is the matrix [N, C*kh*kw] as it stands. The patches
 * of all pixels would be kh*kw times the map, so they are gathered for a strip of pixels at a time;
 * within a strip both the gathering and the product use all threads. */
#include "tensor/stand_in.h"

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

Tensor conv2d(Context *ctx, Tensor x, const Weight *w, const Weight *b, Conv2d opt) {
    STAND_IN(ctx, OP_CONV2D, .x = x, .w = w, .b = b, .conv = opt);
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim == 4 && w->ndim == 4 && w->dim[1] == x.dim[3] && opt.stride >= 1);
    const int64_t B = x.dim[0], H = x.dim[1], W = x.dim[2], C = x.dim[3];
    const int64_t N = w->dim[0], kh = w->dim[2], kw = w->dim[3], patch = C * kh * kw;
    assert(H + opt.top + opt.bottom >= kh && W + opt.left + opt.right >= kw);
    assert(kh * kw <= MAX_TAPS);
    const int64_t height = (H + opt.top + opt.bottom - kh) / opt.stride + 1;
    const int64_t width = (W + opt.left + opt.right - kw) / opt.stride + 1;
    const int64_t pixels = B * height * width;
    Tensor y = TENSOR_NEW(ctx, B, height, width, N);

    if (kh == 1 && kw == 1 && opt.stride == 1 && height == H && width == W) {
        gemm_weight(ctx, pixels, N, C, x.data, w, y.data); /* the map is its own patches */
        bias_add(ctx, y, b);
        return ctx->error.set ? (Tensor){0} : y;
    }

    ArenaMark mark = scope_begin(ctx);
    const int64_t strip = strip_size(pixels, patch);
    real *patches = scratch_reals(ctx, (size_t)(strip * patch));
    real *zeros = scratch_reals(ctx, (size_t)C);
    if (zeros) memset(zeros, 0, (size_t)C * sizeof(real));
    for (int64_t first = 0; first < pixels && !poll_cancelled(ctx, "conv2d"); first += strip) {
        const int64_t count = least(strip, pixels - first);
        const int threads = parallel_threads(ctx, count * patch / GRAIN);
#pragma omp parallel for num_threads(threads)
        for (int64_t p = 0; p < count; p++) {
            const int64_t at = first + p, picture = at / (height * width);
            const int64_t i = at / width % height, j = at % width;
            gather(patches + p * patch, x.data + picture * H * W * C, zeros, H, W, C, kh, kw,
                   i * opt.stride - opt.top, j * opt.stride - opt.left);
        }
        gemm_weight(ctx, count, N, patch, patches, w, y.data + first * N);
    }
    arena_release(&ctx->arena, mark);
    bias_add(ctx, y, b);
    return ctx->error.set ? (Tensor){0} : y;
}
