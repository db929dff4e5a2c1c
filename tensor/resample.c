/* Nearest neighbour: y[b,i,j] = x[b, floor(i H / H'), floor(j W / W')]
 * torch.nn.functional.interpolate(mode="nearest"), x [B, H, W, C] -> [B, H', W', C]
 *
 * torch multiplies i by the float32 ratio H / H' before it takes the floor; this is the exact integer
 * quotient. The two agree for H' = 2 H and for the odd skip sizes of a U-Net, 2 H - 1 and 2 H + 1, where
 * no quotient but the first is whole. */
#include "tensor/stand_in.h"
#include "tensor/tape.h"

#include <assert.h>
#include <string.h>

#define GRAIN 65536 /* copied elements per thread that are worth waking it */

static TapeBackward resize_backward;

Tensor resize_nearest(Context *ctx, Tensor x, int64_t height, int64_t width) {
    STAND_IN(ctx, OP_RESIZE_NEAREST, .x = x, .height = height, .width = width);
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim == 4 && height > 0 && width > 0);
    const int64_t B = x.dim[0], H = x.dim[1], W = x.dim[2], C = x.dim[3];
    Tensor y = TENSOR_NEW(ctx, B, height, width, C);
    if (ctx->error.set) return (Tensor){0};
    const int threads = parallel_threads(ctx, B * height * width * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < B * height; row++) {
        const int64_t b = row / height, i = row % height;
        const real *from = x.data + (b * H + i * H / height) * W * C;
        real *to = y.data + row * width * C;
        for (int64_t j = 0; j < width; j++)
            memcpy(to + j * C, from + j * W / width * C, (size_t)C * sizeof(real));
    }
    return is_variable(ctx, x) ? tape_record(ctx, y, resize_backward, &x, sizeof x) : y;
}

/* dx[b, i, j] += the sum of dy[b, i', j'] over the pixels that were copied from it: floor(i' H / H') = i
 * for i' = ceil(i H' / H) .. ceil((i + 1) H' / H) - 1, and j' likewise. */
static void resize_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Tensor x = *(const Tensor *)call;
    const int64_t B = x.dim[0], H = x.dim[1], W = x.dim[2], C = x.dim[3];
    const int64_t height = y.dim[1], width = y.dim[2];
    real *dx = tape_gradient(ctx, x);
    if (!dx) return;
    const int threads = parallel_threads(ctx, B * height * width * C / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < B * H; row++) {
        const int64_t b = row / H, i = row % H;
        for (int64_t u = (i * height + H - 1) / H; u < ((i + 1) * height + H - 1) / H; u++)
            for (int64_t v = 0; v < width; v++) {
                const real *from = dy + ((b * height + u) * width + v) * C;
                real *to = dx + (row * W + v * W / width) * C;
                for (int64_t c = 0; c < C; c++) to[c] += from[c];
            }
    }
}
