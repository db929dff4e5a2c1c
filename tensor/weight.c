/* Reading a Weight: its stored type, widened (or, from f64 in the float build, rounded) to real.
 *
 * The data may lie at any address, so elements come through memcpy; compilers turn that into plain
 * loads and vectorise the loops. Every widening is exact, infinities and NaN included. */
#include "tensor/clones.h"
#include "tensor/tensor.h"

#include <assert.h>
#include <string.h>

static float float_of_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* 1 sign, 5 exponent and 10 fraction bits, bias 15; float has 8 and 23, bias 127. Moved to float's
 * places the bits stand for the number times 2^(15-127), subnormals too, and the product is exact.
 * Infinity and NaN have the largest exponent, and keep it. Without branches: this loop is a large
 * part of a language model's time with half-precision weights. */
static float widen_f16(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = (uint32_t)(h & 0x7fff) << 13;
    const uint32_t special = magnitude >= 0x1fu << 23 ? 0x7f800000 : 0;
    const float widened = float_of_bits(magnitude) * 0x1p112f;
    uint32_t bits;
    memcpy(&bits, &widened, sizeof bits);
    return float_of_bits(bits | special | sign);
}

/* The upper half of a float. */
static float widen_bf16(uint16_t h) { return float_of_bits((uint32_t)h << 16); }

CLONES static void widen(Dtype dtype, const unsigned char *p, int64_t n, real *out) {
    switch (dtype) {
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

void weight_read(const Weight *w, int64_t first, int64_t n, real *out) {
    widen(w->dtype, (const unsigned char *)w->data + (size_t)first * dtype_size(w->dtype), n, out);
}
