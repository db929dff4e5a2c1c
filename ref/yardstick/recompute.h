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
    const double *ref, *mine;
    int threads;
} RecomputeQuestion;

/* Puts what it finds in front of the report's hints; nothing is fine. 0, or -1 with a message when out of
 * memory. */
int hints_by_recomputing(Report *r, const RecomputeQuestion *q, Error *err);

#endif
