/* Nearest neighbour: y[b,i,j] = x[b, floor(i H / H'), floor(j W / W')]
 * torch.nn.functional.interpolate(mode="nearest"), x [B, H, W, C] -> [B, H', W', C]
 *
 * torch multiplies i by the float32 ratio H / H' before it takes the floor; this is the exact integer
 * quotient. The two agree for H' = 2 H and for the odd skip sizes of a U-Net, 2 H - 1 and 2 H + 1, where
 * no quotient but the first is whole. */
#include "tensor/stand_in.h"

#include <assert.h>
#include <string.h>

#define GRAIN 65536 /* copied elements per thread that are worth waking it */

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
    return y;
}
