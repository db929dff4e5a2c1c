/* AdamW (decoupled weight decay) and clipping by the global norm: see adamw.h. */
#include "tensor/adamw.h"

#include <math.h>

#define GRAIN 16384 /* elements per thread that are worth waking it */

#ifdef LLMDIFF_DOUBLE
#    define SQRT sqrt
#else
#    define SQRT sqrtf
#endif

/* torch.nn.utils.clip_grad_norm_. Upstream takes the norm of the tensors' norms, which is this one. */
double clip_gradients(Context *ctx, const Learned *p, int64_t count, double max_norm) {
    double square = 0;
    for (int64_t i = 0; i < count; i++) square += dot(ctx, p[i].n, p[i].grad, p[i].grad);
    const double norm = sqrt(square), factor = max_norm / (norm + 1e-6);
    if (ctx->error.set || factor >= 1) return norm;
    for (int64_t i = 0; i < count; i++) {
        const int64_t n = p[i].n;
        real *grad = p[i].grad;
        const int threads = parallel_threads(ctx, n / GRAIN);
#pragma omp parallel for num_threads(threads)
        for (int64_t j = 0; j < n; j++) grad[j] *= (real)factor;
    }
    return norm;
}

/* torch.optim.AdamW, in its order (torch/optim/adam.py, _single_tensor_adam):
 *     w <- w (1 - lr decay)
 *     m <- m + (1 - beta1) (g - m)
 *     v <- v beta2 + (1 - beta2) g g
 *     w <- w - lr / (1 - beta1^step) m / ( sqrt(v) / sqrt(1 - beta2^step) + eps )
 * The scalars are computed in double and rounded once. */
void adamw_step(const Context *ctx, const AdamW *o, int64_t step, const Learned *p) {
    const real keep = (real)(1 - o->lr * p->weight_decay);
    const real new_m = (real)(1 - o->beta1), old_v = (real)o->beta2, new_v = (real)(1 - o->beta2);
    const real size = (real)(-o->lr / (1 - pow(o->beta1, (double)step)));
    const real root = (real)sqrt(1 - pow(o->beta2, (double)step)), eps = (real)o->eps;
    real *w = p->w, *m = p->m, *v = p->v;
    const real *g = p->grad;
    const int threads = parallel_threads(ctx, p->n / GRAIN);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < p->n; i++) {
        w[i] *= keep;
        /* torch.lerp goes from the nearer end */
        m[i] =
            new_m < (real)0.5 ? m[i] + new_m * (g[i] - m[i]) : g[i] - (g[i] - m[i]) * (1 - new_m);
        v[i] = v[i] * old_v + new_v * g[i] * g[i];
        w[i] += size * m[i] / (SQRT(v[i]) / root + eps);
    }
}
