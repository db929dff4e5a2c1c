/* Hints by recomputing: a case of the kit is run again with one known mistake at a time (mistakes.h),
 * and if what comes out is MINE, the report says which mistake that was.
 *
 * Tried are, in this order, the mistakes of each operator that the stage calls (what ran between the
 * tensor named before and this one), then each mistake in all calls at once, then single calls
 * further back, whose result may reach this stage without a name. A walk is run forced, so that a
 * mistake elsewhere changes nothing here. */
#include "ref/yardstick/recompute.h"
#include "ref/yardstick/hints.h"
#include "ref/yardstick/mistakes.h"
#include "ref/yardstick/run.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS_MAX 600
#define WORK_MAX 4e12 /* multiplications, over all runs: a minute or two */
#define RUN_MAX 1e12  /* of them in one: a full-size evaluation of the U-Net */
#define FOUND_MAX 64

/* One call of an operator, noted in a run without a mistake. */
typedef struct Call {
    Operator op;
    size_t stage;     /* outputs that were there already */
    const char *name; /* of its weight, or NULL; the model's */
} Call;

/* One thing to try: a mistake in one call, or in all of its operator (ALL_CALLS). */
#define ALL_CALLS (-1)
typedef struct Try {
    const Mistake *mistake;
    int64_t call;
} Try;

typedef struct Found {
    Try what;
    int order; /* in which they were tried */
    double residual;
} Found;

typedef struct Work {
    const RecomputeQuestion *q;
    RecomputePart part; /* what is run of it */
    KitRun *run;
    Call *call; /* [calls] */
    int64_t calls, room;
    double cost;    /* of one run up to the tensor asked about */
    size_t target;  /* the tensor's place among the outputs */
    size_t seen;    /* outputs so far */
    Outputs *out;   /* of the run that is going on */
    int64_t number; /* calls so far in it */
    Try trying;     /* mistake NULL: nothing, calls are noted */
    bool made;      /* the mistake could be made */
    int runs;
    double error, limit; /* what is to be explained, and how closely: as in hints.c */
    Found found[FOUND_MAX];
    int count;
    bool
        explained; /* by the tensors alone: the stage itself may say more, the rest need not be asked */
    Error *err; /* out of memory */
} Work;

/* Says why nothing was recomputed, unless that is said or wasn't asked. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
because(const RecomputeQuestion *q, const char *fmt, ...) {
    va_list args;
    if (!q->why || *q->why) return;
    va_start(args, fmt);
    vsnprintf(q->why, RECOMPUTE_WHY, fmt, args);
    va_end(args);
}

/* ---- one run --------------------------------------------------------------------------------------- */

static double cost_of(const OperatorCall *c) {
    double n = (double)tensor_numel(c->x);
    if (c->op == OP_LINEAR) return n * (double)c->w->dim[0];
    if (c->op == OP_CONV2D)
        return n * (double)(c->w->dim[0] * c->w->dim[2] * c->w->dim[3]) /
               (double)(c->conv.stride * c->conv.stride);
    if (c->op == OP_ATTENTION && c->mask != MASK_OWN) return 2 * n * (double)c->k[0].dim[0];
    return n;
}

static void note(Work *w, Context *ctx, const OperatorCall *c) {
    if (w->calls == w->room) {
        int64_t room = w->room ? 2 * w->room : 256;
        Call *grown = realloc(w->call, (size_t)room * sizeof *grown);
        if (!grown) {
            fail(w->err, "out of memory for hints");
            fail(&ctx->error, "out of memory for hints");
            return;
        }
        w->call = grown;
        w->room = room;
    }
    w->call[w->calls++] = (Call){c->op, w->out->count, c->w ? c->w->name : NULL};
    w->cost += cost_of(c);
}

static bool compute(void *self, Context *ctx, const OperatorCall *c, Tensor *y) {
    Work *w = self;
    const Try *t = &w->trying;
    int64_t number = w->number++;
    if (!t->mistake) return note(w, ctx, c), false;
    if (t->mistake->op != c->op || (t->call != ALL_CALLS && t->call != number)) return false;
    const bool before = w->made;
    w->made = true; /* while it is being made, or `enough` would stop that */
    if (t->mistake->make(ctx, c, t->mistake->value, y)) return true;
    w->made = before;
    return false;
}

/* Nothing after the tensor is of interest, nor anything where the mistake couldn't be made. The first
 * run alone may be more than can be afforded: a pack of full size. */
static bool enough(void *self) {
    Work *w = self;
    if (w->cost > WORK_MAX) return true;
    bool missed =
        w->trying.mistake && w->trying.call != ALL_CALLS && w->number > w->trying.call && !w->made;
    return missed || w->cost > RUN_MAX || (w->target != SIZE_MAX && w->out->count > w->target);
}

/* The tensor asked about, widened; NULL if the run didn't come to it. */
static double *run_once(Work *w, const Try *t) {
    const RecomputeQuestion *q = w->q;
    Outputs out = {0};
    Error stopped = {0}; /* by `enough`, or because the mistake leads to NaN */
    const StandIn stand_in = {compute, w};
    w->trying = t ? *t : (Try){0};
    w->made = false;
    w->number = 0;
    w->out = &out;
    w->run->stand_in = &stand_in;
    w->run->cancelled = enough;
    w->run->cancelled_self = w;
    kit_run_case(w->run, &w->part.group, &w->part.c, q->mode, &out, &stopped);
    recompute_no_memory(&stopped, w->err);
    double *values = NULL;
    TensorFile *file = out.count ? tensor_file_of("", out.tensor, out.count, w->err) : NULL;
    size_t at = file ? tensor_file_find(file, q->output->stored) : 0;
    if (file && at < tensor_file_count(file) && (!t || w->made)) {
        values = tensor_file_load(file, at, w->err);
        for (size_t i = 0; !t && i < out.count; i++)
            if (strcmp(out.tensor[i].name, q->output->stored) == 0) w->target = i;
    }
    if (!values && !t && w->cost <= RUN_MAX)
        because(q, "%s", stopped.set ? stopped.message : "the run doesn't come to this tensor");
    tensor_file_close(file);
    outputs_free(&out);
    w->runs++;
    return values;
}

/* ---- what comes out ---------------------------------------------------------------------------------- */

double recompute_residual(const RecomputeQuestion *q, const double *a, const double *b,
                          double limit) {
    double residual = 0;
    for (int64_t i = 0; i < q->row->ref.count; i++) {
        double d = fabs(a[i] - b[i]);
        if (!(d <= limit)) return INFINITY;
        residual = fmax(residual, d);
    }
    return residual;
}

static bool affordable(const Work *w) {
    return w->runs < RUNS_MAX && (w->runs + 1) * w->cost <= WORK_MAX && w->count < FOUND_MAX &&
           !w->err->set;
}

static void attempt(Work *w, const Mistake *m, int64_t call) {
    Try t = {m, call};
    if (!affordable(w)) return;
    double *values = run_once(w, &t);
    const double limit = fmax(w->limit, mistake_share(m) * w->error);
    double residual = values ? recompute_residual(w->q, w->q->mine, values, limit) : INFINITY;
    if (residual <= limit) w->found[w->count++] = (Found){t, w->runs, residual};
    free(values);
}

/* All mistakes of one call. */
static void attempt_call(Work *w, int64_t number) {
    for (size_t i = 0; i < mistakes_count(); i++)
        if (mistakes_at(i)->op == w->call[number].op) attempt(w, mistakes_at(i), number);
}

static bool is_called(const Work *w, Operator op) {
    for (int64_t i = 0; i < w->calls; i++)
        if (w->call[i].op == op && w->call[i].stage <= w->target) return true;
    return false;
}

static void search(Work *w) {
    for (int64_t i = w->calls; i-- > 0;)
        if (w->call[i].stage == w->target) attempt_call(w, i);
    if (w->explained) return;
    for (size_t i = 0; w->count == 0 && i < mistakes_count(); i++)
        if (is_called(w, mistakes_at(i)->op)) attempt(w, mistakes_at(i), ALL_CALLS);
    for (int64_t i = w->calls; w->count == 0 && i-- > 0;)
        if (w->call[i].stage < w->target) attempt_call(w, i);
}

/* ---- what is said ------------------------------------------------------------------------------------- */

/* "down_blocks.0.resnets.0.norm1" of its weight's name; of a call without weight its number among
 * those of the stage, if there are several. */
static void place_of(const Work *w, const Try *t, char *text, size_t size) {
    text[0] = '\0';
    if (t->call == ALL_CALLS) {
        snprintf(text, size, ", everywhere");
        return;
    }
    const Call *c = &w->call[t->call];
    if (c->name && strrchr(c->name, '.')) {
        snprintf(text, size, " in %.*s", (int)(strrchr(c->name, '.') - c->name), c->name);
        return;
    }
    int64_t same = 0, at = 0;
    for (int64_t i = 0; i < w->calls; i++) {
        if (w->call[i].op != c->op || w->call[i].stage != c->stage) continue;
        same++;
        if (i == t->call) at = same;
    }
    if (same > 1)
        snprintf(text, size, " (number %lld of %lld in this stage)", (long long)at,
                 (long long)same);
}

void recompute_put(Report *r, const char *text, size_t position, Error *err) {
    char *line = strdup(text);
    if (!line) {
        fail(err, "out of memory for hints");
        return;
    }
    if (r->hints == HINTS_MAX) free(r->hint[--r->hints]);
    memmove(&r->hint[position + 1], &r->hint[position], (r->hints - position) * sizeof r->hint[0]);
    r->hint[position] = line;
    r->hints++;
}

void recompute_say(Report *r, const RecomputeQuestion *q, const char *what, double residual,
                   size_t position, Error *err) {
    char text[700];
    double scale = 0;
    for (int64_t i = 0; i < q->row->ref.count; i++)
        scale = fmax(scale, fmax(fabs(q->mine[i]), fabs(q->ref[i])));
    int used = snprintf(text, sizeof text, "recomputed: mine is what comes out %s, ", what);
    if (residual == 0)
        snprintf(text + used, sizeof text - (size_t)used, "exactly");
    else
        snprintf(text + used, sizeof text - (size_t)used, "to %.0e", residual / scale);
    recompute_put(r, text, position, err);
}

static void say(Work *w, Report *r, const Found *f, size_t position) {
    char place[300], what[200], text[520];
    place_of(w, &f->what, place, sizeof place);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(what, sizeof what, f->what.mistake->what, f->what.mistake->value);
#pragma GCC diagnostic pop
    snprintf(text, sizeof text, "%s%s", what, place);
    recompute_say(r, w->q, text, f->residual, position, w->err);
}

static int closer(const void *a, const void *b) {
    const Found *x = a, *y = b;
    if (x->residual != y->residual) return x->residual < y->residual ? -1 : 1;
    return x->order - y->order;
}

/* Another eps, another theta: of one mistake's variants only one was made. */
static bool is_variant(const Try *a, const Try *b) {
    return a->call == b->call && strcmp(a->mistake->what, b->mistake->what) == 0;
}

/* The closest, and another mistake that is as close as makes no difference. */
static void conclude(Work *w, Report *r) {
    size_t said = 0;
    qsort(w->found, (size_t)w->count, sizeof *w->found, closer);
    for (int i = 0; i < w->count && said < 2 && !w->err->set; i++) {
        if (i && (w->found[i].residual > 3 * w->found[0].residual ||
                  is_variant(&w->found[i].what, &w->found[0].what)))
            continue;
        say(w, r, &w->found[i], said++);
    }
}

/* Differences that a thousand guesses could hit by chance are not asked about. */
static bool is_a_question(Work *w) {
    const Row *row = w->q->row;
    int64_t wrong = 0;
    for (int64_t i = 0; i < row->ref.count; i++)
        w->error = fmax(w->error, fabs(w->q->mine[i] - w->q->ref[i]));
    w->limit = fmax(fmin(row->allowed, w->error / 3), w->error / 100);
    if (!isfinite(w->error) || !(w->limit > 0)) return false;
    for (int64_t i = 0; i < row->ref.count; i++)
        wrong += fabs(w->q->mine[i] - w->q->ref[i]) > w->limit;
    return (double)wrong * log2(w->error / w->limit) >= EVIDENCE / 2;
}

int hints_by_recomputing(Report *r, const RecomputeQuestion *q, Error *err) {
    if (q->group->kind == KIT_TRAIN) return hints_by_retraining(r, q, err);
    Work *w = calloc(1, sizeof *w);
    if (!w) return fail(err, "out of memory for hints");
    w->q = q;
    w->err = err;
    w->target = SIZE_MAX;
    w->explained = r->explained;
    if (q->row->verdict == ROW_MISMATCH && dtype_is_float(q->row->ref.dtype) && is_a_question(w)) {
        recompute_part(&w->part, q->group, q->c, q->mode, q->output->name, err);
        w->run = err->set ? NULL : kit_run_new(q->kit, q->threads, err);
        double *plain = w->run ? run_once(w, NULL) : NULL;
        /* What we compute without a mistake must be right, or nothing can be learned from it. */
        if (plain && w->cost <= RUN_MAX &&
            recompute_residual(q, q->ref, plain, w->limit) <= w->limit) {
            search(w);
            conclude(w, r);
        } else if (w->cost > RUN_MAX) {
            because(q, "one run takes more than %.0e multiplications", RUN_MAX);
        } else if (plain) {
            because(q, "this program, run again, doesn't give the reference's numbers there: it "
                       "was made by another pack or program");
        }
        free(plain);
        kit_run_free(w->run);
        recompute_part_end(&w->part);
    } else {
        because(q, "%s",
                q->row->verdict != ROW_MISMATCH ? "a known mistake gives finite numbers"
                : dtype_is_float(q->row->ref.dtype)
                    ? "too little is off to tell one mistake from another"
                    : "known mistakes are of numbers that are not whole");
    }
    free(w->call);
    free(w);
    return err->set ? -1 : 0;
}
