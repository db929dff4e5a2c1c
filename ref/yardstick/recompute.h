/* recompute.c: a stage done again with a known mistake. */
#ifndef LLMDIFF_RECOMPUTE_H
#define LLMDIFF_RECOMPUTE_H

#include "ref/yardstick/kit.h"

/* The first divergence of a port from the kit. ref and mine [row->ref.count]. */
typedef struct RecomputeQuestion {
    const Kit *kit;
    const KitGroup *group;
    const KitCase *c;
    KitMode mode;
    const KitOutput *output;
    const Row *row;
    const double *ref, *mine;    /* mine: NULL if its shape differs */
    const TensorFile *mine_file; /* with all of the port's group; NULL: not known */
    int threads;
    char *why; /* [RECOMPUTE_WHY], "" before: why nothing was recomputed. NULL: not asked */
} RecomputeQuestion;

#define RECOMPUTE_WHY 400

/* Puts what it finds in front of the report's hints; nothing is fine. 0, or -1 with a message when out of
 * memory. */
int hints_by_recomputing(Report *r, const RecomputeQuestion *q, Error *err);
/* recompute_train.c: the same for a training step, with the mistakes of mistakes_train.h. */
int hints_by_retraining(Report *r, const RecomputeQuestion *q, Error *err);

/* recompute_part.c: the group and the case to run for the tensor `name`; the same ones where there is no
 * smaller part. Ended by recompute_part_end in any case. */
typedef struct RecomputePart {
    KitGroup group;
    KitCase c;
    cJSON *parameters;
    Safetensors *inputs;
    const char **names; /* of inputs */
} RecomputePart;

void recompute_part(RecomputePart *p, const KitGroup *group, const KitCase *c, KitMode mode,
                    const char *name, Error *err);
void recompute_part_end(RecomputePart *p);

/* What both ways share. Greatest |a - b|, INFINITY as soon as it is above the limit; a line of the report
 * ("mine is what comes out <what>"), in front of what the tensors alone said: this names the cause. */
double recompute_residual(const RecomputeQuestion *q, const double *a, const double *b,
                          double limit);
void recompute_say(Report *r, const RecomputeQuestion *q, const char *what, double residual,
                   size_t position, Error *err);
/* Any line, there. */
void recompute_put(Report *r, const char *text, size_t position, Error *err);

/* An error on the way only means that there is no hint, but for one: that goes to `err`. */
void recompute_no_memory(const Error *on_the_way, Error *err);

#endif
