/* torch.Generator("cpu") and torch.randn's float32 stream, so that one seed gives one picture here
 * and in PyTorch (ATen/core/MT19937RNGEngine.h, native/cpu/DistributionTemplates.h).
 *
 * torch has two ways to draw normals, and which one it takes depends on the size of the call:
 *   16 or more   uniforms for the whole call, then Box-Muller in float over groups of 16 in place:
 *                the first 8 of a group are radii, the last 8 angles. If the size is no multiple of
 *                16, the last 16 elements are drawn afresh, over what the groups left there.
 *   fewer        one at a time, Box-Muller in double; each pair's second normal is kept in the
 *                generator for the next such call, across calls of the other kind.
 * The float32 numbers agree to 5e-7: torch's vectorised log, sin and cos differ in the last bits
 * from one type of CPU to another. */
#include "tensor/tensor.h"

#include <math.h>

#define TWO_PI 6.28318530717958647693
#define GROUP 16

/* Matsumoto and Nishimura's MT19937, init_genrand. torch seeds with the lower 32 bits alone. */
Rng rng_seed(uint64_t seed) {
    Rng rng = {.index = 624};
    rng.state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < 624; i++) {
        const uint32_t before = rng.state[i - 1];
        rng.state[i] = 1812433253u * (before ^ (before >> 30)) + i;
    }
    return rng;
}

static void next_state(uint32_t *s) {
    for (int i = 0; i < 624; i++) {
        const uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % 624] & 0x7fffffffu);
        s[i] = s[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
}

static uint32_t random32(Rng *rng) {
    if (rng->index == 624) {
        next_state(rng->state);
        rng->index = 0;
    }
    uint32_t y = rng->state[rng->index++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* [0, 1) from the lower 24 bits of one draw: exact in float. */
static float uniform_float(Rng *rng) { return (float)(random32(rng) & 0xffffff) * 0x1p-24f; }

/* [0, 1) from the lower 53 bits of two draws, the first one on top. */
static double uniform_double(Rng *rng) {
    const uint64_t high = random32(rng), low = random32(rng);
    return (double)((high << 32 | low) & 0x1fffffffffffff) * 0x1p-53;
}

/* One group of 16 uniforms to normals, rounded to float where torch's vectorised code rounds (its plain
 * code, for CPUs without AVX2, takes the angle from a double product and differs by up to 2.5e-6). */
static void box_muller(real *group) {
    for (int j = 0; j < GROUP / 2; j++) {
        const float u1 = 1 - (float)group[j], u2 = (float)group[j + GROUP / 2]; /* u1 in (0, 1] */
        const float radius = sqrtf(-2 * logf(u1)), angle = (float)TWO_PI * u2;
        group[j] = radius * cosf(angle);
        group[j + GROUP / 2] = radius * sinf(angle);
    }
}

static double normal_double(Rng *rng) {
    if (rng->has_next) {
        rng->has_next = false;
        return rng->next;
    }
    const double u1 = uniform_double(rng), u2 = uniform_double(rng);
    const double radius = sqrt(-2 * log1p(-u2)), angle = TWO_PI * u1;
    rng->next = radius * sin(angle);
    rng->has_next = true;
    return radius * cos(angle);
}

void rng_normal(Rng *rng, real *out, int64_t n) {
    if (n < GROUP) {
        for (int64_t i = 0; i < n; i++) out[i] = (real)(float)normal_double(rng);
        return;
    }
    for (int64_t i = 0; i < n; i++) out[i] = uniform_float(rng);
    for (int64_t i = 0; i + GROUP <= n; i += GROUP) box_muller(out + i);
    if (n % GROUP) {
        real *last = out + n - GROUP;
        for (int j = 0; j < GROUP; j++) last[j] = uniform_float(rng);
        box_muller(last);
    }
}

void rng_uniform(Rng *rng, double low, double high, float *out, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = uniform_float(rng) * (float)(high - low) + (float)low;
}
