/* Rotary position embedding, half-split layout   transformers apply_rotary_pos_emb (rotate_half)
 * x [L, heads * d]; the first `rotary` features of each head turn, the rest pass through:
 *     y[j]            = x[j] cos(m w_j)            - x[j + rotary/2] sin(m w_j)
 *     y[j + rotary/2] = x[j + rotary/2] cos(m w_j) + x[j] sin(m w_j)
 * with m = position + row and w_j = theta^(-2j/rotary) / factor: linear scaling, which is upstream's
 * _compute_linear_scaling_rope_parameters, squeezes `factor` positions into the space of one.
 *
 * Angles, sines and cosines are double in both builds and rounded once: at m = 2000 an angle
 * computed in float is off by 1e-4, as upstream's float32 tables are. */
#include "tensor/stand_in.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define GRAIN 1024 /* angles per thread that are worth waking it */

Tensor rope(Context *ctx, Tensor x, int64_t heads, int64_t rotary, double theta, double factor,
            int64_t position) {
    STAND_IN(ctx, OP_ROPE, .x = x, .heads = heads, .rotary = rotary, .theta = theta,
             .factor = factor, .position = position);
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim == 2 && x.dim[1] % heads == 0);
    const int64_t L = x.dim[0], d = x.dim[1] / heads, half = rotary / 2;
    assert(rotary % 2 == 0 && rotary <= d);
    Tensor y = tensor_copy(ctx, x);
    if (ctx->error.set) return (Tensor){0};

    const int threads = parallel_threads(ctx, L * half / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < L; row++)
        for (int64_t j = 0; j < half; j++) {
            const double w = pow(theta, -2 * (double)j / (double)rotary) / factor;
            const double angle = (double)(position + row) * w;
            const real cosine = (real)cos(angle), sine = (real)sin(angle);
            for (int64_t h = 0; h < heads; h++) {
                const real *in = x.data + (row * heads + h) * d;
                real *out = y.data + (row * heads + h) * d;
                out[j] = in[j] * cosine - in[j + half] * sine;
                out[j + half] = in[j + half] * cosine + in[j] * sine;
            }
        }
    return y;
}
