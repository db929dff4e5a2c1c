/* What the tests of the tensor room share: numbers to compute with, and comparing. */
#ifndef LLMDIFF_TEST_TENSOR_H
#define LLMDIFF_TEST_TENSOR_H

#include "tests/check.h"

#include <math.h>
#include <stdlib.h>

/* -1 .. 1, the same for the same seed. */
static inline double number(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(*seed >> 33) * 0x1p-30 - 1;
}

static inline Tensor filled(Tensor t, uint64_t seed) {
    for (int64_t i = 0; i < tensor_numel(t); i++) t.data[i] = (real)number(&seed);
    return t;
}

/* A float32 parameter whose data starts `offset` bytes after an aligned address. */
typedef struct Parameter {
    Weight w;
    unsigned char *memory;
} Parameter;

static inline Parameter parameter(uint64_t seed, size_t offset, int ndim, const int64_t *dim) {
    Parameter p = {.w = {.dtype = DTYPE_F32, .ndim = ndim, .dim = {1, 1, 1, 1}, .name = "w"}};
    size_t n = 1;
    for (int i = 0; i < ndim; i++) n *= (size_t)(p.w.dim[i] = dim[i]);
    p.memory = malloc(n * sizeof(float) + offset);
    assert_non_null(p.memory);
    for (size_t i = 0; i < n; i++) {
        float v = (float)number(&seed);
        memcpy(p.memory + offset + i * sizeof v, &v, sizeof v);
    }
    p.w.data = p.memory + offset;
    return p;
}
#define PARAMETER(seed, ...)                                                                       \
    parameter(seed, 0, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                  \
              (int64_t[]){__VA_ARGS__})

/* Element i of a float32 parameter. */
static inline double at(const Weight *w, int64_t i) {
    float v;
    memcpy(&v, (const unsigned char *)w->data + 4 * i, sizeof v);
    return (double)v;
}

/* Rounding of `terms` additions of numbers around 1, with room; NaN is never near. */
static inline void assert_near(real got, double truth, int64_t terms) {
    const double limit = (double)REAL_EPSILON * (4 + (double)terms);
    if (!(fabs((double)got - truth) <= limit))
        fail_msg("%.17g where %.17g was expected, limit %.3g", (double)got, truth, limit);
}

static inline void assert_same_bytes(Tensor a, Tensor b) {
    assert_int_equal(a.ndim, b.ndim);
    assert_memory_equal(a.dim, b.dim, sizeof a.dim);
    assert_memory_equal(a.data, b.data, (size_t)tensor_numel(a) * sizeof(real));
}

#endif
