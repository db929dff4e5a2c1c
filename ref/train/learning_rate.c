/* Warmup, then constant, a line or half a cosine down to 0: see learning_rate.h. */
#include "ref/train/learning_rate.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define PI 3.14159265358979323846

int learning_rate_kind(const char *name, LearningRateKind *kind, Error *err) {
    static const char *const names[] = {[LEARNING_RATE_CONSTANT] = "constant",
                                        [LEARNING_RATE_LINEAR] = "linear",
                                        [LEARNING_RATE_COSINE] = "cosine"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *kind = (LearningRateKind)i;
            return 0;
        }
    return fail(err, "--lr-scheduler: expected constant, linear or cosine, found \"%s\"", name);
}

/* lr_lambda: the factor on the base rate */
static double factor(const LearningRate *lr, int64_t done) {
    const int64_t after = lr->steps - lr->warmup; /* the steps behind the warmup */
    const double length = (double)(after > 1 ? after : 1);
    if (done < lr->warmup) return (double)done / (double)lr->warmup;
    switch (lr->kind) {
    case LEARNING_RATE_CONSTANT: break;
    case LEARNING_RATE_LINEAR: return fmax(0, (double)(lr->steps - done) / length);
    case LEARNING_RATE_COSINE:
        /* upstream rises again behind the last step, and so does this */
        return fmax(0, 0.5 * (1 + cos(PI * ((double)(done - lr->warmup) / length))));
    }
    return 1;
}

double learning_rate(const LearningRate *lr, int64_t done) { return lr->base * factor(lr, done); }
