/* How the tests compare with the committed goldens, and what is allowed (spec, section 7).
 *
 *     Golden *g = golden_open("ops_linear");            // golden/data/ops_linear.safetensors
 *     Tensor x = golden_tensor(g, &ctx, "small/x");     // an input, rounded to real
 *     golden_check(g, "small/y", y, OPERATOR);          // an output against the float64 truth
 *     golden_close(g);
 *
 * Tolerances: the double build is held to 1e-12 / 1e-10 / 1e-8 of the tensor's largest magnitude
 * (operator / module / pipeline; gradients of a whole step to 1e-9). The float build is held to twice torch float32's own relative
 * error on that case, stored in the golden's metadata as "yardstick:<name>" (largest over at least
 * 8 seeded inputs of max|error| / max|truth|), plus 4 ulp of the tensor's largest magnitude. Where
 * the truth is all zero the result must be exactly zero. */
#ifndef LLMDIFF_CHECK_H
#define LLMDIFF_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

/* cmocka's macro fail() would hide tensor/error.h's function of that name. */
#undef fail
#undef fail_msg
#define fail_msg(...)                                                                              \
    (print_error("ERROR: " __VA_ARGS__), print_error("\n"), _fail(__FILE__, __LINE__))

#include "tensor/tensor.h"
#include "weights/safetensors.h"

typedef enum Station { OPERATOR, MODULE, PIPELINE, GRADIENT } Station;

typedef struct Golden Golden;

/* Fails the test with a message if golden/data/<name>.safetensors can't be read. */
Golden *golden_open(const char *name);
void golden_close(Golden *g);
const Safetensors *golden_file(const Golden *g);
bool golden_has(const Golden *g, const char *name);
/* A float tensor, rounded to real, in the context's arena. Fails the test if absent. */
Tensor golden_tensor(const Golden *g, Context *ctx, const char *name);
/* A float tensor as a Weight in its stored type; valid until golden_close. */
Weight golden_weight(const Golden *g, const char *name);
/* An int64 tensor. */
const int64_t *golden_ids(const Golden *g, const char *name, int64_t *count);
/* A number in the metadata. */
double golden_number(const Golden *g, const char *key);

/* Compares data [numel] having that shape with the truth; fails the test, naming the tensor, the
 * worst element, the error and the limit. Counts what it compared: golden_close fails the test if
 * a golden with outputs was opened and nothing was compared.
 * When LLMDIFF_REPORT names a file, appends "station name error yardstick limit" to it. */
void golden_check(Golden *g, const char *name, Tensor got, Station station);
void golden_check_data(Golden *g, const char *name, const real *data, int ndim, const int64_t *dim,
                       Station station);

/* An Observer that checks every activation that the golden holds under `prefix` + its name. */
typedef struct GoldenObserver {
    Golden *golden;
    const char *prefix; /* "" or "case1/" */
    Station station;
    size_t compared;
} GoldenObserver;
Observer golden_observer(GoldenObserver *self);

/* ---- the comparison itself, which fails nothing: for the tests of the checker --------------------- */

typedef struct Verdict {
    bool ok;
    int64_t count, worst;                    /* values compared; the worst one's index */
    double error, limit, largest, yardstick; /* absolute; of the truth; NaN: none in the golden */
    char message[1024];                      /* what was wrong, if not ok */
} Verdict;

Verdict golden_compare(const Golden *g, const char *name, const real *data, int ndim,
                       const int64_t *dim, Station station);
/* The absolute error allowed where the truth's largest magnitude is `largest`. */
double golden_limit(double largest, double yardstick, Station station, bool is_double);
/* Like golden_open, for any file; NULL with a message. `name` is what messages call it. */
Golden *golden_open_file(const char *path, const char *name, Error *err);
/* True if the golden has outputs and nothing was compared yet: golden_close would complain. */
bool golden_blind(const Golden *g);

/* Fails the test unless the context is fine. */
void assert_context_ok(const Context *ctx);

#endif
