/* What compare.c and compare_hints.c share. */
#ifndef LLMDIFF_COMPARE_H
#define LLMDIFF_COMPARE_H

#include "ref/yardstick/kit.h"

/* The kit that the reference lies in, <kit>/expected/<reference>, as one of its files. NULL: none, or with
 * a message. */
Kit *compare_own_kit(const CompareRequest *request, Error *err);
/* Is the reference that group's file itself, and not a trace? */
bool compare_is_truth(const KitGroup *group, const char *reference);
/* The group that the reference is the truth of; else the first picture, which it may be a trace of: a
 * yardstick there will do, and recompute.c learns nothing from a run that doesn't give the reference.
 * NULL: the kit has none. */
const KitGroup *compare_group(const Kit *kit, const char *reference);
/* The output of that name in the group's file, and its case; NULL: none. `group` and `of` may be NULL. */
const KitOutput *compare_output(const KitGroup *group, const char *name, const KitCase **of);

/* The first divergence: where its tensors are. */
typedef struct ComparePair {
    const CompareRequest *request;
    const Kit *kit; /* or NULL */
    const TensorFile *ref, *mine;
    size_t ref_at, mine_at;
} ComparePair;

/* Adds hints at the report's first divergence, whose tensors it reads once more; nothing if there is
 * none. 0, or -1 with a message. */
int compare_hints(Report *r, const ComparePair *p, Error *err);

#endif
