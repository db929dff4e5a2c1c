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
#include "tensor/tape.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define GRAIN 1024 /* angles per thread that are worth waking it */

typedef struct Rope {
    Tensor x;
    int64_t heads, rotary, position;
    double theta, factor;
} Rope;

static TapeBackward rope_backward;

/* Turns every row of `from` by the angle of its position, times `direction`, into `to` (added if `add`). */
static void turn(const Context *ctx, const Rope *r, const real *from, real *to, double direction,
                 bool add) {
    const int64_t heads = r->heads, L = r->x.dim[0], d = r->x.dim[1] / heads, half = r->rotary / 2;
    const int threads = parallel_threads(ctx, L * half / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < L; row++)
        for (int64_t j = 0; j < half; j++) {
            const double w = pow(r->theta, -2 * (double)j / (double)r->rotary) / r->factor;
            const double angle = (double)(r->position + row) * w * direction;
            const real cosine = (real)cos(angle), sine = (real)sin(angle);
            for (int64_t h = 0; h < heads; h++) {
                const real *in = from + (row * heads + h) * d;
                real *out = to + (row * heads + h) * d;
                const real first = in[j] * cosine - in[j + half] * sine;
                const real second = in[j + half] * cosine + in[j] * sine;
                out[j] = add ? out[j] + first : first;
                out[j + half] = add ? out[j + half] + second : second;
            }
        }
}

Tensor rope(Context *ctx, Tensor x, int64_t heads, int64_t rotary, double theta, double factor,
            int64_t position) {
    STAND_IN(ctx, OP_ROPE, .x = x, .heads = heads, .rotary = rotary, .theta = theta,
             .factor = factor, .position = position);
    if (ctx->error.set) return (Tensor){0};
    assert(x.ndim == 2 && x.dim[1] % heads == 0);
    assert(rotary % 2 == 0 && rotary <= x.dim[1] / heads);
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    if (ctx->error.set) return (Tensor){0};
    const Rope r = {x, heads, rotary, position, theta, factor};
    memcpy(y.data, x.data, (size_t)tensor_numel(x) * sizeof(real));
    turn(ctx, &r, x.data, y.data, 1, false);
    return is_variable(ctx, x) ? tape_record(ctx, y, rope_backward, &r, sizeof r) : y;
}

/* A rotation's transpose is the rotation by the opposite angle; what passed through passes back. */
static void rope_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Rope *r = call;
    const int64_t rows = y.dim[0] * r->heads, d = y.dim[1] / r->heads;
    real *dx = tape_gradient(ctx, r->x);
    if (!dx) return;
    turn(ctx, r, dy, dx, -1, true);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = r->rotary; j < d; j++) dx[i * d + j] += dy[i * d + j];
}
