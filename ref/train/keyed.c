/* Counters through a mixing function: see keyed.h. */
#include "ref/train/keyed.h"

/* The last step of SplitMix64 (Steele, Lea, Flood 2014), which takes any counter to bits that pass for
 * random ones. */
static uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

uint64_t keyed_bits(uint64_t seed, Purpose what, uint64_t a, uint64_t b) {
    return mix(mix(mix(mix(seed) ^ (uint64_t)what) ^ a) ^ b);
}

uint64_t keyed_below(uint64_t seed, Purpose what, uint64_t a, uint64_t b, uint64_t n) {
    const uint64_t bits = keyed_bits(seed, what, a, b);
    if (n >> 32) return bits % n;
    return (bits >> 32) * n >> 32;
}

/* A Feistel network permutes the numbers of an even number of bits; those that it takes past n are taken
 * through it again, until they are not. No memory, and any element alone. Fewer than 8 bits would leave
 * it too few permutations to choose from. */
uint64_t keyed_permute(uint64_t key, uint64_t n, uint64_t i) {
    int half = 4;
    while (n > (uint64_t)1 << (2 * half)) half++;
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 6; round++) {
            const uint64_t swapped = left ^ (mix(mix(key + round) ^ right) & mask);
            left = right;
            right = swapped;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}
