/* Eq. 9's blend (spec, section 4): y = s1 x1 + s2 x2 with s1 = a1 exp(b1) and s2 = a2 exp(b2), where
 * a1, b1, a2, b2 are learned scalars, Weights [1]. Forward is axpby with the factors in double. */
#include "tensor/tape.h"

#include <assert.h>
#include <math.h>

#define GRAIN 65536 /* elements per thread that are worth waking it */

typedef struct BlendCall {
    Weight a1, b1, a2, b2;
    Tensor x1, x2;
} BlendCall;

static TapeBackward blend_backward;

/* A scalar in double, whatever it is stored as. */
static double scalar(const Weight *w) {
    real v;
    assert(w->ndim <= 1 && w->dim[0] == 1);
    weight_read(w, 0, 1, &v);
    return (double)v;
}

Tensor blend_exp(Context *ctx, Blend w, Tensor x1, Tensor x2) {
    if (ctx->error.set) return (Tensor){0};
    const double s1 = scalar(w.a1) * exp(scalar(w.b1)), s2 = scalar(w.a2) * exp(scalar(w.b2));
    const BlendCall call = {*w.a1, *w.b1, *w.a2, *w.b2, x1, x2};
    Tensor c1 = x1, c2 = x2;
    c1.var = c2.var = 0; /* recorded here, as one operator */
    Tensor y = axpby(ctx, s1, c1, s2, c2);
    if (is_variable(ctx, x1) || is_variable(ctx, x2) || is_trained(ctx, w.a1) ||
        is_trained(ctx, w.b1) || is_trained(ctx, w.a2) || is_trained(ctx, w.b2))
        y = tape_record(ctx, y, blend_backward, &call, sizeof call);
    return y;
}

/* dx += s dy,  da += exp(b) <dy, x>,  db += a exp(b) <dy, x>, for either side */
static void side_backward(Context *ctx, const Weight *a, const Weight *b, Tensor x,
                          const real *dy) {
    const double e = exp(scalar(b)), s = scalar(a) * e;
    add_scaled(ctx, tensor_numel(x), s, dy, tape_gradient(ctx, x));
    if (!a->grad && !b->grad) return;
    const double along = dot(ctx, tensor_numel(x), dy, x.data);
    if (a->grad) a->grad[0] += (real)(e * along);
    if (b->grad) b->grad[0] += (real)(s * along);
}

static void blend_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    (void)y;
    const BlendCall *c = call;
    side_backward(ctx, &c->a1, &c->b1, c->x1, dy);
    side_backward(ctx, &c->a2, &c->b2, c->x2, dy);
}
