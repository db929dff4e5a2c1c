/* Random draws that depend on what they are for, never on what was drawn before: the same on every rank,
 * after every restart, in any order. */
#ifndef LLMDIFF_KEYED_H
#define LLMDIFF_KEYED_H

#include <stdint.h>

/* What a draw is for. */
typedef enum Purpose {
    DRAW_ORDER = 1,
    DRAW_BUFFER,
    DRAW_CAPTION,
    DRAW_CROP,
    DRAW_FLIP,
    DRAW_TIMESTEP,
    DRAW_DROPOUT,
    DRAW_NOISE, /* the seed of a sample's generator, from which TrainSample draws */
    DRAW_OFFSET /* and of the one for its noise offset */
} Purpose;

/* 64 random bits of a key. */
uint64_t keyed_bits(uint64_t seed, Purpose what, uint64_t a, uint64_t b);
/* One of 0 .. n - 1, n > 0, each as likely (to 2^-32 where n is below 2^32). */
uint64_t keyed_below(uint64_t seed, Purpose what, uint64_t a, uint64_t b, uint64_t n);
/* Where element i of n (at most 2^62) stands in the permutation of that key. */
uint64_t keyed_permute(uint64_t key, uint64_t n, uint64_t i);

#endif
