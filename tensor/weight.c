/* Reading a Weight: its stored type, widened (or, from f64 in the float build, rounded) to real.
 *
 * The data may lie at any address, so elements come through memcpy; compilers turn that into plain
 * loads and vectorise the loops. Every widening is exact, infinities and NaN included. */
#include "tensor/tensor.h"

#include <assert.h>
#include <string.h>

static float float_of_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* 1 sign, 5 exponent, 10 fraction bits, bias 15; float has 8 and 23, bias 127. Without branches:
 * this loop is half of a language model's time with half-precision weights. */
static float widen_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13; /* exponent and fraction in float's places */
    uint32_t normal = magnitude + ((127 - 15) << 23);
    uint32_t special = magnitude | 0x7f800000; /* infinity, NaN */
    /* fraction * 2^-24 as (2^-14 + fraction * 2^-24) - 2^-14: exact, and no subnormal operand. */
    float small = float_of_bits(magnitude + ((127 - 14) << 23)) - 0x1p-14f;
    uint32_t subnormal;
    memcpy(&subnormal, &small, sizeof subnormal);

    uint32_t bits = magnitude < 0x00800000 ? subnormal : normal;
    bits = magnitude < 0x0f800000 ? bits : special;
    return float_of_bits(bits | sign);
}

/* The upper half of a float. */
static float widen_bf16(uint16_t h) { return float_of_bits((uint32_t)h << 16); }

void weight_read(const Weight *w, int64_t first, int64_t n, real *out) {
    const unsigned char *p = (const unsigned char *)w->data + (size_t)first * dtype_size(w->dtype);
    switch (w->dtype) {
    case DTYPE_F64:
        for (int64_t i = 0; i < n; i++) {
            double v;
            memcpy(&v, p + 8 * i, sizeof v);
            out[i] = (real)v;
        }
        return;
    case DTYPE_F32:
        for (int64_t i = 0; i < n; i++) {
            float v;
            memcpy(&v, p + 4 * i, sizeof v);
            out[i] = v;
        }
        return;
    case DTYPE_F16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t v;
            memcpy(&v, p + 2 * i, sizeof v);
            out[i] = widen_f16(v);
        }
        return;
    case DTYPE_BF16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t v;
            memcpy(&v, p + 2 * i, sizeof v);
            out[i] = widen_bf16(v);
        }
        return;
    default: assert(!"a weight has a float type");
    }
}
