/* Wilson's interval; pictures made worse, to try the checker. See world.h. */
#include "ref/world/world.h"

#include <math.h>
#include <string.h>

void wilson_interval(int64_t passed, int64_t asked, double *low, double *high) {
    *low = 0;
    *high = 1;
    if (asked <= 0) return;
    const double z = 1.959963984540054, n = (double)asked, p = (double)passed / n;
    const double middle = p + z * z / (2 * n);
    const double half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    if (passed > 0) *low = (middle - half) / (1 + z * z / n);
    if (passed < asked) *high = (middle + half) / (1 + z * z / n);
}

/* ---- blur and noise -------------------------------------------------------------------------------- */

#define REACH 12

static int mirrored(int i) {
    if (i < 0) i = -1 - i;
    return i < WORLD_SIDE ? i : 2 * WORLD_SIDE - 1 - i;
}

/* One axis: `along` is the distance in memory of two pixels along it, `across` of two lines. */
static void blur_lines(const double *from, double *to, int along, int across, double sigma) {
    double tap[2 * REACH + 1], sum = 0;
    const int reach = (int)fmin(REACH, ceil(4 * sigma));
    for (int i = -reach; i <= reach; i++)
        sum += tap[i + reach] = exp(-0.5 * (i / sigma) * (i / sigma));
    for (int line = 0; line < WORLD_SIDE; line++)
        for (int at = 0; at < WORLD_SIDE; at++)
            for (int c = 0; c < 3; c++) {
                double v = 0;
                for (int i = -reach; i <= reach; i++)
                    v += tap[i + reach] * from[line * across + mirrored(at + i) * along + c];
                to[line * across + at * along + c] = v / sum;
            }
}

/* splitmix64: the next of a sequence that has nothing to do with any model's draws */
static uint64_t next_bits(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double next_normal(uint64_t *state) {
    const double u = ((double)(next_bits(state) >> 11) + 0.5) * 0x1p-53;
    const double v = ((double)(next_bits(state) >> 11) + 0.5) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

void world_degrade(uint8_t *rgb, double sigma, double noise, uint64_t seed) {
    double picture[WORLD_BYTES], between[WORLD_BYTES];
    for (int i = 0; i < WORLD_BYTES; i++) picture[i] = rgb[i];
    if (sigma > 0) {
        blur_lines(picture, between, 3, 3 * WORLD_SIDE, sigma);
        blur_lines(between, picture, 3 * WORLD_SIDE, 3, sigma);
    }
    for (int i = 0; i < WORLD_BYTES; i++) {
        const double v = picture[i] + (noise > 0 ? 255 * noise * next_normal(&seed) : 0);
        rgb[i] = (uint8_t)floor(fmin(fmax(v, 0), 255) + 0.5);
    }
}
