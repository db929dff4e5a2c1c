/* What the files that look for hints share. Not for others: they call hints_from_tensors.
 *
 * A hint says what was done to the reference to get MINE ("transposed", "times 2"). It is given only
 * if doing the same to the reference leaves a residual of at most `limit` in every element, and if
 * that is no accident: each element that was wrong and comes out right is worth log2(error / limit)
 * bits, each number that had to be fitted costs one element, and EVIDENCE bits are wanted. So one
 * number is never "a constant factor", but it can be "twice", if it is so to eight digits. */
#ifndef LLMDIFF_HINTS_H
#define LLMDIFF_HINTS_H

#include "ref/yardstick/yardstick.h"

#define HINT_LINES 24
#define HINT_PROBES 32
#define EVIDENCE 24.0

typedef struct HintLine {
    int rank; /* lower is more telling */
    double residual;
    char text[640];
} HintLine;

typedef struct Hints {
    const HintQuestion *q;
    const Row *row;
    const double *ref, *mine; /* [count] */
    int64_t count;
    int ndim;
    const int64_t *dim;
    bool is_integer;
    double largest;             /* max |ref| */
    double mine_largest;        /* max |mine| */
    double lowest, highest;     /* of ref */
    double error;               /* max |mine - ref| */
    double limit;               /* largest residual of an explanation */
    int64_t wrong;              /* elements whose error is above the limit */
    double bits;                /* what each of them is worth if it comes out within the limit */
    int64_t probe[HINT_PROBES]; /* some of them: looked at first, most guesses fail there */
    int probes;
    int64_t budget; /* comparisons still to be made: bounds the time that guesses take */
    HintLine line[HINT_LINES];
    int lines;
    Error *err; /* out of memory */
} Hints;

/* Ranks: the smaller statement first. */
enum {
    RANK_FACT = 10,    /* shape, type, zeros, NaN: seen, not guessed */
    RANK_ELEMENT = 20, /* one element */
    RANK_PRECISION = 25,
    RANK_NAMED = 30, /* a known constant */
    RANK_LAYOUT = 35,
    RANK_SWAPPED = 37, /* another tensor's numbers, and it has these */
    RANK_EQUALS = 40,  /* another tensor's numbers */
    RANK_TERMS = 45,   /* a sum's coefficients */
    RANK_FACTOR = 50,  /* any constant */
    RANK_FUNCTION = 55,
    RANK_SLICES = 60, /* a constant per row or channel */
    RANK_PERMUTATION = 65,
    RANK_PLACE = 70 /* where, if not what */
};

/* Is an explanation with so many fitted numbers, which leaves that residual, no accident? Never, if
 * the residual is above the limit (INFINITY). */
bool hint_evident(const Hints *h, double fitted, double residual);
/* Adds a line; the residual is appended as ", to 3e-08" (relative to mine's largest) unless it is
 * negative: nothing to say. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
void hint_add(Hints *h, int rank, double residual, const char *format, ...);
/* Has a line of this rank or a more telling one (down to RANK_ELEMENT) been found? */
bool hint_found(const Hints *h, int rank);
/* An array, or NULL with the message set. */
double *hint_numbers(Hints *h, int64_t n);

/* "row", "token", "pixel", "channel", "feature", "column" or "index of axis 2". */
const char *hint_axis(const Hints *h, int axis);
/* A tensor as [outer, n, inner] around one of its axes. */
typedef struct HintAxis {
    int axis;
    int64_t outer, n, inner;
} HintAxis;
HintAxis hint_around(const Hints *h, int axis);

/* "[5, 40]" */
typedef struct ShapeText {
    char text[200];
} ShapeText;
ShapeText hint_shape(int ndim, const int64_t *dim);

/* Greatest |mine - guess|, guess [count]; INFINITY as soon as it is above the limit. */
double hint_residual(Hints *h, const double *guess);

/* mine[i] = ref[map(i)]: mine's numbers, counted by `dim`, stand in the reference at offset + stride. */
typedef struct IndexMap {
    int n;
    int64_t dim[6], stride[6], offset;
} IndexMap;
double hint_residual_mapped(Hints *h, const IndexMap *map);

/* Each looks for its kind of difference; the names say which. mine's shape is the reference's in all but
 * hint_other_shape. */
void hint_not_finite(Hints *h);
void hint_constant(Hints *h);
void hint_places(Hints *h);
void hint_precision(Hints *h);
void hint_factor(Hints *h);
void hint_function(Hints *h);
void hint_slices(Hints *h);
void hint_layout(Hints *h);
void hint_shifted(Hints *h);
void hint_permuted(Hints *h);
void hint_neighbours(Hints *h);
void hint_terms(Hints *h);
void hint_other_shape(Hints *h, const double *mine, const TensorInfo *info);
void hint_missing(Hints *h);

#endif
