/* A function compiled once for every x86-64, and once more for each of the wider vectors that newer
 * processors have; which one runs is decided when the program is loaded. C11 as the Makefile asks for it
 * neither contracts a * b + c nor reorders a sum, so that all of them compute the same bytes. For the
 * innermost loops, static functions: a clone that others can call is exported, whatever the visibility,
 * and what OpenMP outlines of a function is not cloned with it. */
#ifndef LLMDIFF_CLONES_H
#define LLMDIFF_CLONES_H

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) &&                        \
    !defined(__SANITIZE_ADDRESS__)
#    define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#    define CLONES
#endif

/* A function that is part of each clone that calls it. */
#if defined(__GNUC__)
#    define INTO_CLONES static inline __attribute__((always_inline))
#else
#    define INTO_CLONES static inline
#endif

#endif
