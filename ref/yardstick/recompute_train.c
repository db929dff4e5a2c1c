/* Hints by training again: a training step of the kit is run with each of the mistakes that training
 * programs make, one at a time, and if what comes out is MINE, the report says which that was. The
 * mistakes are few and a step of the kit is small, so that all are tried. */
#include "ref/yardstick/hints.h"
#include "ref/yardstick/recompute.h"
#include "ref/yardstick/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One run's outputs; NULL: it couldn't be done, or memory ran out. */
static TensorFile *run_with(KitRun *run, const RecomputeQuestion *q, TrainMistake mistake,
                            Outputs *out, Error *err) {
    Error stopped = {0};
    run->mistake = mistake;
    kit_run_case(run, q->group, q->c, q->mode, out, &stopped);
    recompute_no_memory(&stopped, err);
    return out->count && !stopped.set ? tensor_file_of("", out->tensor, out->count, err) : NULL;
}

/* The tensor of that name, widened; NULL: there is none, or it has another shape. */
static double *numbers(const TensorFile *f, const char *name, int64_t count, Error *err) {
    const size_t at = tensor_file_find(f, name);
    const bool fits = at < tensor_file_count(f) && tensor_file_at(f, at)->count == count;
    return fits ? tensor_file_load(f, at, err) : NULL;
}

/* What a tensor that agrees may be off by: as it is stored, and as we compute. */
static double allowed(const RecomputeQuestion *q, const KitOutput *o, Dtype dtype, double largest) {
    const Dtype ours = sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32;
    const Dtype both[] = {dtype, ours};
    double most = 0;
    for (int i = 0; i < 2; i++) {
        Tolerance t;
        Error err = {0};
        if (kit_tolerance(o, q->group->kind, q->mode, both[i], largest, &t, &err)) return INFINITY;
        most = fmax(most, t.absolute + t.relative * largest);
    }
    return most;
}

/* How well a run with a mistake explains one output of the port's. */
typedef struct Fit {
    bool fails;
    double residual; /* of the tensor asked about */
    double bits;     /* hint_evident's evidence: of what was wrong and comes out right */
} Fit;

static void fit_output(const RecomputeQuestion *q, const KitOutput *o, const TensorFile *theirs,
                       Fit *fit, Error *err) {
    const TensorInfo *info = tensor_file_at(q->group->expected, o->expected);
    const size_t at = tensor_file_find(q->mine_file, o->stored);
    if (!dtype_is_float(info->dtype) || at == tensor_file_count(q->mine_file)) return;
    double *ref = tensor_file_load(q->group->expected, o->expected, err);
    double *mine = numbers(q->mine_file, o->stored, info->count, err);
    double *guess = numbers(theirs, o->stored, info->count, err);
    double error = 0, wrong = 0;
    for (int64_t i = 0; ref && mine && i < info->count; i++)
        error = fmax(error, fabs(mine[i] - ref[i]));
    if (ref && mine && guess && isfinite(error)) {
        const Dtype dtype = tensor_file_at(q->mine_file, at)->dtype;
        const double least = allowed(q, o, dtype, largest_of(ref, info->count));
        const double limit = fmax(least, error / 1000);
        RecomputeQuestion about = *q;
        Row row = {.ref = *info};
        about.row = &row;
        const double residual = recompute_residual(&about, mine, guess, limit);
        for (int64_t i = 0; i < info->count; i++) wrong += fabs(mine[i] - ref[i]) > limit;
        if (!(residual <= limit)) fit->fails = true;
        if (error > limit) fit->bits += wrong * log2(error / limit);
        if (o == q->output) fit->residual = residual;
    } else {
        fit->fails = true;
    }
    free(ref);
    free(mine);
    free(guess);
}

/* Everything that the port has of this case must come out, right or wrong. */
static Fit fit_case(const RecomputeQuestion *q, const TensorFile *theirs, Error *err) {
    Fit fit = {.residual = INFINITY};
    for (size_t o = 0; o < q->c->outputs && !fit.fails && !err->set; o++)
        fit_output(q, &q->c->output[o], theirs, &fit, err);
    return fit;
}

static void try_all(Report *r, const RecomputeQuestion *q, KitRun *run, Error *err) {
    double best = INFINITY;
    int which = 0;
    for (int m = 1; m < TRAIN_MISTAKES && !err->set; m++) {
        Outputs out = {0};
        TensorFile *theirs = run_with(run, q, (TrainMistake)m, &out, err);
        const Fit fit = theirs ? fit_case(q, theirs, err) : (Fit){.fails = true};
        if (!fit.fails && fit.bits >= EVIDENCE && fit.residual < best) {
            best = fit.residual;
            which = m;
        }
        tensor_file_close(theirs);
        outputs_free(&out);
    }
    if (which && !err->set) recompute_say(r, q, train_mistake((TrainMistake)which), best, 0, err);
}

/* "2/ids", where the kit says "2/train/drop". */
static void look_for_caption(Report *r, const RecomputeQuestion *q, Error *err) {
    char drop[64];
    int b, end = 0;
    if (sscanf(q->output->name, "%d/ids%n", &b, &end) != 1 || !end) return;
    snprintf(drop, sizeof drop, "%d/train/drop", b);
    for (size_t i = 0; i < q->c->inputs; i++)
        if (strcmp(q->c->input[i], drop) == 0)
            recompute_put(r, "this caption is to be dropped: its ids are the begin token alone", 0,
                          err);
}

int hints_by_retraining(Report *r, const RecomputeQuestion *q, Error *err) {
    const Row *row = q->row;
    if (!dtype_is_float(row->ref.dtype)) look_for_caption(r, q, err);
    if (q->why && !q->mine_file)
        snprintf(q->why, RECOMPUTE_WHY, "verify does so of training steps");
    if (row->verdict != ROW_MISMATCH || !dtype_is_float(row->ref.dtype) || !q->mine_file)
        return err->set ? -1 : 0;
    KitRun *run = kit_run_new(q->kit, q->threads, err);
    if (run) try_all(r, q, run, err);
    kit_run_free(run);
    return err->set ? -1 : 0;
}
