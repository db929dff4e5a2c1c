/* The steps of a training run: see loop.h. */
#include "ref/train/loop.h"

#include "ref/train/run.h"
#include "weights/file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define SMOOTHED_OVER 50 /* steps that smoothed_loss is the mean of, about */

double clock_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

char *run_path(const TrainRun *r, const char *name, Error *err) {
    const size_t room = strlen(r->o->output_dir) + strlen(name) + 2;
    char *path = malloc(room);
    if (path)
        snprintf(path, room, "%s/%s", r->o->output_dir, name);
    else
        fail(err, "out of memory");
    return path;
}

void run_note(TrainRun *r, const char *event, const char *line) {
    Error ignored = {0}; /* a full disk is told by the next step's line */
    if (r->rank != 0) return;
    if (r->o->note) r->o->note(r->o->user, line);
    if (r->log) log_event(r->log, event, r->state.step, line, &ignored);
}

/* ---- who else trains ------------------------------------------------------------------------------- */

enum { WELL, STOPPED, FAILING };

int run_agree(TrainRun *r, Error *err) {
    const llmdiff_team *team = r->o->team;
    int status = r->stopped ? STOPPED : err->set ? FAILING : WELL;
    if (team && !r->others_lost && team->worst(team->self, &status)) {
        r->others_lost = true;
        fail(err, "the other processes can't be reached");
    }
    if (status == FAILING && !err->set) {
        r->follows = true;
        fail(err, "another process failed");
    }
    if (status == STOPPED) r->stopped = true;
    if (r->stopped) fail(err, "cancelled");
    return err->set ? -1 : 0;
}

/* The step's gradient and loss over all ranks. */
static void sum_over_ranks(TrainRun *r, double *loss, Error *err) {
    const llmdiff_team *team = r->o->team;
    real sum = (real)*loss;
    if (!team) return;
    if (team->sum(team->self, r->p.gradient, (size_t)r->p.numbers) ||
        team->sum(team->self, &sum, 1)) {
        r->others_lost = true;
        fail(err, "the other processes can't be reached");
    }
    *loss = (double)sum;
}

/* ---- what is shown ---------------------------------------------------------------------------------- */

static int64_t samples_of_rank(const TrainRun *r) {
    return r->o->train_batch_size * r->o->gradient_accumulation_steps;
}

static void show_progress(TrainRun *r, int64_t sample) {
    llmdiff_train_progress *p = &r->progress;
    const double seconds = clock_now() - r->began;
    p->step = r->state.step;
    p->steps = r->o->max_train_steps;
    p->sample = sample;
    p->samples = samples_of_rank(r);
    if (r->here) {
        p->samples_per_second = (double)(r->here * p->samples * r->ranks) / seconds;
        p->seconds_left = seconds / (double)r->here * (double)(p->steps - p->step);
    }
    if (r->rank == 0 && r->o->progress && r->o->progress(r->o->user, p)) r->stopped = true;
}

static void observe_learned(TrainRun *r, const char *before, const char *after, int64_t which) {
    Context *ctx = &r->ctx;
    if (!ctx->observer) return;
    for (int64_t i = 0, k = 0; i < r->p.count && !ctx->error.set; i++) {
        const Weight *w = &r->p.weight[i];
        if (!w->grad) continue;
        const Learned *l = &r->p.learned[k++];
        real *const data[] = {l->grad, l->m, l->v};
        const Tensor flat = {.data = data[which], .ndim = 1, .dim = {l->n, 1, 1, 1}};
        observe(ctx, tensor_view(flat, w->ndim, w->dim), "%s%s%s", before, w->name, after);
    }
}

/* ---- one step --------------------------------------------------------------------------------------- */

/* Whom of n samples the message is about: names of activations begin with a sample's group. */
static const char *culprit(const Fed *fed, int64_t n, const char *message) {
    for (int64_t k = 0; k < n; k++)
        if (strncmp(message, fed[k].group, strlen(fed[k].group)) == 0) return fed[k].id;
    return n == 1 ? fed[0].id : NULL;
}

/* From sample b of the step on, as many as go through the U-Net together, whatever the batch size: a batch
 * and as many accumulated steps of one are the same. Returns how many; their losses and gradients are
 * added up. */
static int64_t run_together(TrainRun *r, int64_t b, double share, double *loss, Error *err) {
    Context *ctx = &r->ctx;
    Fed fed[MAX_BATCH];
    TrainSample *sample[MAX_BATCH];
    int64_t n = 0, most = 1;
    const int64_t left = samples_of_rank(r) - b;
    const ArenaMark mark = scope_begin(ctx);
    while (n < most && !ctx->error.set && !r->stopped) {
        show_progress(r, b + n);
        sample[n] = &fed[n].sample;
        if (feed_next(ctx, &r->feed, b + n, &fed[n]) == 0) most = training_together(sample[n]);
        if (most > left) most = left;
        n++;
    }
    const char *id = ctx->error.set && n ? fed[n - 1].id : NULL;
    if (!r->stopped && !ctx->error.set) {
        *loss += share * training_samples(ctx, &r->training, sample, n, share);
        r->unsound = ctx->error.set && strstr(ctx->error.message, "not finite");
        if (ctx->error.set) id = culprit(fed, n, ctx->error.message);
    }
    if (id)
        fail(err, "step %lld, %.1000s: %s%s", (long long)r->state.step + 1, id, ctx->error.message,
             r->unsound ? "; a smaller --learning-rate may help" : "");
    else if (ctx->error.set)
        fail(err, "%s", ctx->error.message);
    for (int64_t k = 0; k < n; k++) fed_free(&fed[k]);
    arena_release(&ctx->arena, mark);
    return n;
}

/* The mean loss over this rank's samples, of which each has `share`; its gradient is added up. */
static double run_samples(TrainRun *r, double share, Error *err) {
    double loss = 0;
    for (int64_t b = 0; b < samples_of_rank(r) && !err->set;) {
        b += run_together(r, b, share, &loss, err);
        if (r->stopped) fail(err, "cancelled");
    }
    return loss;
}

static void update(TrainRun *r, double rate) {
    const llmdiff_train_options *o = r->o;
    const AdamW adamw = {rate, o->adam_beta1, o->adam_beta2, o->adam_epsilon};
    AdamW of_scalars = adamw;
    of_scalars.lr *= o->scalar_lr_scale;
    for (int64_t i = 0; i < r->p.learned_count; i++)
        adamw_step(&r->ctx, r->p.scalar[i] ? &of_scalars : &adamw, r->state.step + 1,
                   &r->p.learned[i]);
    if (o->ema_decay > 0) ema_step(&r->ctx, &r->ema, &r->p, r->state.step + 1);
}

/* The state after the step; whatever could fail has been done before. */
static void count_step(TrainRun *r, double loss, void *position, size_t size) {
    TrainState *s = &r->state;
    free(s->position);
    s->position = position;
    s->position_size = size;
    s->step++;
    s->samples += samples_of_rank(r) * r->ranks;
    s->seconds = clock_now() - r->since;
    r->here++;
    const double weight = s->step < SMOOTHED_OVER ? 1 / (double)s->step : 1.0 / SMOOTHED_OVER;
    s->smoothed_loss = s->step == 1 ? loss : s->smoothed_loss + weight * (loss - s->smoothed_loss);
    r->progress.loss = loss;
    r->progress.smoothed_loss = s->smoothed_loss;
}

static int log_this(TrainRun *r, double norm, Error *err) {
    show_progress(r, 0);
    if (!r->log) return 0;
    const TrainState *s = &r->state;
    const LoggedStep line = {.step = s->step,
                             .loss = r->progress.loss,
                             .smoothed_loss = s->smoothed_loss,
                             .learning_rate = r->progress.learning_rate,
                             .grad_norm = norm,
                             .epoch = dataset_epoch(r->feed.data),
                             .samples = s->samples,
                             .seconds = s->seconds,
                             .samples_per_second = r->progress.samples_per_second};
    return log_step(r->log, &line, err);
}

static int one_step(TrainRun *r, Error *err) {
    const llmdiff_train_options *o = r->o;
    void *position = NULL;
    size_t size = 0;
    parameters_zero_gradients(&r->p);
    double loss = run_samples(r, 1 / (double)(samples_of_rank(r) * r->ranks), err);
    if (!err->set) dataset_save(r->feed.data, &position, &size, err);
    if (run_agree(r, err) == 0) sum_over_ranks(r, &loss, err);
    observe_scalar(&r->ctx, loss, "train/loss");
    if (!err->set) observe_learned(r, "grad/", "", 0);
    const double norm =
        err->set ? 0 : clip_gradients(&r->ctx, r->p.learned, r->p.learned_count, o->max_grad_norm);
    if (!err->set && r->ctx.error.set) fail(err, "%s", r->ctx.error.message);
    if (!err->set && (!isfinite(loss) || !isfinite(norm))) {
        r->unsound = true;
        fail(err, "step %lld: the %s is not finite: a smaller --learning-rate may help",
             (long long)r->state.step + 1, isfinite(loss) ? "gradient" : "loss");
    }
    if (err->set) {
        free(position);
        return -1;
    }
    r->progress.learning_rate = learning_rate(&r->rate, r->state.step);
    update(r, r->progress.learning_rate);
    count_step(r, loss, position, size);
    log_this(r, norm, err);
    observe_learned(r, "adamw/", "/m", 1);
    observe_learned(r, "adamw/", "/v", 2);
    if (r->ctx.error.set) fail(err, "%s", r->ctx.error.message);
    return err->set ? -1 : 0;
}

/* ---- between steps ---------------------------------------------------------------------------------- */

static bool is_due(const TrainRun *r, int64_t every) {
    const int64_t step = r->state.step;
    return step == r->o->max_train_steps || (every && step % every == 0);
}

static int save(TrainRun *r, Error *err) {
    char line[64];
    if (r->rank != 0 || r->saved == r->state.step) return 0;
    if (r->log && log_sync(r->log, err)) return -1;
    if (checkpoint_save(r->o->output_dir, &r->p, r->o->ema_decay > 0 ? &r->ema : NULL, &r->state,
                        err))
        return -1;
    r->saved = r->state.step;
    snprintf(line, sizeof line, "checkpoint-%lld written", (long long)r->state.step);
    run_note(r, "checkpoint", line);
    return 0;
}

/* The adapter as of now by the name under which a checkpoint of this step is found. */
static void draw(TrainRun *r, const char *png, Error *err) {
    char name[64];
    const bool averaged = r->o->ema_decay > 0;
    if (r->saved == r->state.step)
        snprintf(name, sizeof name, "checkpoint-%lld", (long long)r->state.step);
    else
        snprintf(name, sizeof name, "step %lld", (long long)r->state.step);
    char line[640], *from = run_path(r, name, err);
    if (!from) return;
    arena_free(&r->ctx.arena); /* drawing has one of its own */
    if (averaged) ema_swap(&r->ema, &r->p);
    if (r->job->draw(r->job->draw_self, &r->p.adapter, from, png, &r->stopped, err) == 0) {
        snprintf(line, sizeof line, "%.600s written", strrchr(png, '/') + 1);
        run_note(r, "validation", line);
    }
    if (averaged) ema_swap(&r->ema, &r->p);
    free(from);
}

/* A picture that this step's own run has left stays. */
static int validate(TrainRun *r, Error *err) {
    char name[64];
    if (!r->o->validation_prompt || r->rank != 0 || r->state.step == 0 ||
        !is_due(r, r->o->validation_steps))
        return 0;
    snprintf(name, sizeof name, "validation/step-%06lld.png", (long long)r->state.step);
    char *dir = run_path(r, "validation", err), *png = run_path(r, name, err);
    if (!err->set && mkdir(dir, 0777) && !is_directory(dir))
        fail(err, "%s: can't be created: %s", dir, strerror(errno));
    if (!err->set && (r->here || !file_exists(png))) draw(r, png, err);
    free(dir);
    free(png);
    return err->set ? -1 : 0;
}

/* Checkpoint and picture, while the others wait. */
static int follow_up(TrainRun *r, Error *err) {
    const int64_t keep = r->o->checkpoints_total_limit;
    if (!err->set && r->state.step && is_due(r, r->o->checkpointing_steps)) {
        save(r, err);
        if (!err->set && keep && r->rank == 0) checkpoints_limit(r->o->output_dir, keep, err);
    }
    if (!err->set) validate(r, err);
    return run_agree(r, err);
}

/* As of generate's traces (golden/README.md), with the options under their flags' names. */
static void end_trace(TrainRun *r, Error *err) {
    enum { MOST = 40 };
    const char *metadata[2 * MOST + 1];
    char seed[32], side[32];
    int n = 0;
    r->ctx.observer = NULL;
    if (!r->trace || err->set) return;
    cJSON *settings = settings_to_json(&r->p.adapter.settings);
    char *text = settings ? cJSON_PrintUnformatted(settings) : NULL;
    cJSON_Delete(settings);
    if (!text) fail(err, "out of memory");
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)r->o->seed);
    snprintf(side, sizeof side, "%lld", (long long)r->o->resolution);
    const char *const own[] = {"program",     "llmdiff " LLMDIFF_VERSION,
                               "precision",   REAL_NAME,
                               "seed",        seed,
                               "width",       side,
                               "height",      side,
                               "settings",    text,
                               "options",     r->state.options,
                               "train_data",  r->o->train_data_dir,
                               "pack_files",  r->hash.files,
                               "pack_sha256", r->hash.sha256,
                               "trace_only",  r->o->trace_only};
    for (size_t i = 0; i < sizeof own / sizeof *own; i += 2)
        if (own[i + 1]) metadata[n++] = own[i], metadata[n++] = own[i + 1];
    for (const char *const *about = r->job->about; about && *about && n < 2 * MOST; about++)
        metadata[n++] = *about;
    metadata[n] = NULL;
    if (!err->set) trace_close(r->trace, metadata, err);
    if (text) r->trace = NULL;
    cJSON_free(text);
}

static void run_steps(TrainRun *r, Error *err) {
    show_progress(r, 0);
    follow_up(r, err); /* what a run that was ended did not come to */
    while (!err->set && r->state.step < r->o->max_train_steps) {
        if (one_step(r, err) == 0) end_trace(r, err);
        follow_up(r, err);
    }
}

/* ---- all of it ---------------------------------------------------------------------------------------- */

/* A run that ends early leaves what it has done; of a failure's two messages the first counts. */
static TrainOutcome stop_early(TrainRun *r, Error *err) {
    Error saving = {0};
    const long long step = (long long)r->state.step;
    const bool began = r->log != NULL || r->rank != 0;
    if (r->log && step && !r->unsound) save(r, &saving);
    if (!r->stopped) return r->follows ? TRAIN_CANCELLED : TRAIN_FAILED;
    *err = saving;
    if (err->set) return TRAIN_FAILED;
    if (!step || !began)
        fail(err, "cancelled before the first step was done: there is nothing to go on from");
    else
        fail(err,
             "cancelled after step %lld of %lld; go on with the same command and "
             "--resume-from-checkpoint latest",
             step, (long long)r->o->max_train_steps);
    return TRAIN_CANCELLED;
}

TrainOutcome train(const TrainJob *job, Error *err) {
    const llmdiff_train_options *o = job->options;
    TrainRun r = {.job = job,
                  .o = o,
                  .rank = o->team ? o->team->rank : 0,
                  .ranks = o->team ? o->team->ranks : 1,
                  .lock = -1,
                  .saved = -1,
                  .state = {.smoothed_loss = NAN},
                  .progress = {.loss = NAN, .smoothed_loss = NAN}};
    TrainOutcome outcome = TRAIN_DONE;
    if (run_begin(&r, err) == 0) run_steps(&r, err);
    if (!err->set) { /* on all ranks alike */
        if (r.rank == 0) run_publish(&r, err);
        run_agree(&r, err);
    }
    if (err->set) outcome = stop_early(&r, err);
    run_free(&r);
    return outcome;
}
