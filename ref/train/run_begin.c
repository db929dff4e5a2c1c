/* What is there before the first step of a run: see loop.h.
 *
 * The ranks agree after each part, so that none goes on where another could not; what only one may do is
 * rank 0's. OUT is read by all of them. */
#include "ref/train/run.h"
#include "weights/file.h"
#include "weights/sha256.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INITIAL ".initial"

/* ---- OUT -------------------------------------------------------------------------------------------- */

static bool is_there(const TrainRun *r, const char *name, Error *err) {
    char *path = run_path(r, name, err);
    const bool there = path && (file_exists(path) || is_directory(path));
    free(path);
    return there;
}

/* A result that no checkpoint of a run here explains would be lost; a run that begins anew would also
 * mix its log and pictures with those of another. */
static int refuse_results(const TrainRun *r, Error *err) {
    static const char *const names[] = {"adapter.safetensors", "config.json", "figure6.svg",
                                        "train.jsonl",         "validation",  NULL};
    const bool resumes = r->o->resume_from_checkpoint != NULL;
    char *latest = NULL;
    if (checkpoint_find_latest(r->o->output_dir, &latest, err)) return -1;
    if (latest && !resumes)
        fail(
            err,
            "%s: is there already; not overwritten: go on with --resume-from-checkpoint latest, or "
            "give another --output-dir",
            latest);
    for (int i = 0; !latest && !err->set && names[i]; i++) {
        if (resumes && i >= 3) break;
        if (is_there(r, names[i], err))
            fail(err, "%s/%s: is there already; not overwritten: give another --output-dir%s",
                 r->o->output_dir, names[i],
                 i >= 3 ? ", or begin anew over it with --resume-from-checkpoint latest" : "");
    }
    free(latest);
    return err->set ? -1 : 0;
}

/* With those above it; what can't be made is told by who needs it. */
static bool make_directories(const char *path) {
    char *copy = strdup(path);
    for (char *p = copy; p && *p; p++)
        if (*p == '/' && p > copy) {
            *p = '\0';
            (void)mkdir(copy, 0777);
            *p = '/';
        }
    free(copy);
    return mkdir(path, 0777) == 0;
}

/* Its validation pictures would count as the data set's. */
static void refuse_inside(const TrainRun *r, Error *err) {
    char *out = realpath(r->o->output_dir, NULL), *data = realpath(r->o->train_data_dir, NULL);
    const size_t n = data ? strlen(data) : 0;
    if (out && data && strncmp(out, data, n) == 0 && (out[n] == '/' || !out[n]))
        fail(err,
             "--output-dir %s: is in the data set %s, as whose pictures its own would count; "
             "expected "
             "another place",
             r->o->output_dir, r->o->train_data_dir);
    free(out);
    free(data);
}

static void begin_directory(TrainRun *r, Error *err) {
    const char *out = r->o->output_dir;
    r->created = make_directories(out);
    if (!r->created && !is_directory(out))
        fail(err, "--output-dir %s: can't be created: %s", out,
             file_exists(out) ? "it is a file" : strerror(errno));
    refuse_inside(r, err);
    if (!err->set && checkpoints_begin(out, &r->lock, err) == 0) refuse_results(r, err);
}

/* Where the run goes on from: *path malloc'ed, or NULL if it begins anew. */
static int find_checkpoint(TrainRun *r, char **path, Error *err) {
    const char *from = r->o->resume_from_checkpoint;
    *path = NULL;
    if (!from) return 0;
    if (strcmp(from, "latest") == 0) {
        if (checkpoint_find_latest(r->o->output_dir, path, err)) return -1;
        if (!*path) {
            char line[512];
            snprintf(line, sizeof line, "note: %.400s: no checkpoint yet: the run begins anew",
                     r->o->output_dir);
            run_note(r, "warning", line);
        }
        return 0;
    }
    *path = is_directory(from) ? strdup(from) : run_path(r, from, err);
    if (!*path) return fail(err, "out of memory");
    if (!is_directory(*path))
        return fail(err,
                    "--resume-from-checkpoint: expected \"latest\" or a checkpoint's directory, "
                    "found nothing at %s",
                    from);
    return checkpoint_may_follow(*path, r->o->output_dir, err);
}

/* ---- the adapter -------------------------------------------------------------------------------------- */

static void remove_initial(TrainRun *r) {
    static const char *const names[] = {INITIAL "/adapter.safetensors", INITIAL "/config.json",
                                        INITIAL};
    Error ignored = {0};
    for (int i = 0; i < 3; i++) {
        char *path = run_path(r, names[i], &ignored);
        if (path) (void)remove(path);
        free(path);
    }
}

static bool is_cancelled(void *self) {
    TrainRun *r = self;
    if (!r->stopped && r->o->cancel && r->o->cancel(r->o->user)) r->stopped = true;
    return r->stopped;
}

/* A fresh one goes by way of a file, as any other adapter comes. */
static void open_fresh(TrainRun *r, Error *err) {
    const TrainJob *job = r->job;
    char *dir = run_path(r, INITIAL, err);
    if (dir && r->rank == 0) {
        remove_initial(r);
        adapter_init(dir, job->pack->llm, job->pack->unet, &job->settings, r->o->seed, err);
    }
    if (run_agree(r, err) == 0)
        r->adapter = adapter_load(dir, job->pack->llm, job->pack->unet, NULL, 0, err);
    run_agree(r, err);
    if (r->rank == 0) remove_initial(r);
    free(dir);
}

static const Adapter *open_adapter(TrainRun *r, const char *checkpoint, Error *err) {
    const TrainJob *job = r->job;
    if (!checkpoint && job->pack->adapter) return job->pack->adapter;
    if (checkpoint)
        r->adapter =
            adapter_load(checkpoint, job->pack->llm, job->pack->unet, job->set, job->sets, err);
    else
        open_fresh(r, err);
    return r->adapter;
}

/* f = (1 - x) A_hat + x A: as long as A is A_hat's copy the same as a fresh adapter's f = A_hat, but A
 * learns from the first step on. With a2 = 0 tau's gradient is 0 until a2 has moved. */
static void start_added(Parameters *p, int64_t layers, double x) {
    for (int64_t i = 0; i < layers; i++) {
        *(real *)(uintptr_t)p->adapter.layer[i].a1->data = (real)(1 - x);
        *(real *)(uintptr_t)p->adapter.layer[i].a2->data = (real)x;
    }
}

static void open_parameters(TrainRun *r, const Adapter *adapter, Error *err) {
    const llmdiff_train_options *o = r->o;
    const ParametersOptions options = {o->train_only, o->adam_weight_decay};
    const Unet *unet = r->job->pack->unet;
    if (o->added_start != 0 && r->job->pack->adapter) {
        fail(err, "--added-start: expected a fresh adapter, found one to begin with, --adapter");
        return;
    }
    if (parameters_open(&r->p, adapter, unet, &options, err)) return;
    if (o->added_start != 0) start_added(&r->p, unet->cross_layers, o->added_start);
    if (o->ema_decay > 0) ema_open(&r->ema, &r->p, o->ema_decay, err);
    if (!err->set) training_open(&r->training, r->job->pack, &r->p.adapter, o->snr_gamma, err);
    r->rate = (LearningRate){
        .base = o->learning_rate, .warmup = o->lr_warmup_steps, .steps = o->max_train_steps};
    if (!err->set) learning_rate_kind(o->lr_scheduler, &r->rate.kind, err);
}

/* ---- the state ------------------------------------------------------------------------------------------ */

static void on_note(void *self, const char *line) { run_note(self, "note", line); }

static void restore(TrainRun *r, const Checkpoint *c, Error *err) {
    const TrainState *from = checkpoint_state(c);
    TrainState *s = &r->state;
    char name[64], line[640];
    if (checkpoint_check(c, s->pack_sha256, s->options, on_note, r, err) ||
        checkpoint_restore(c, &r->p, r->o->ema_decay > 0 ? &r->ema : NULL, err) ||
        dataset_restore(r->feed.data, from->position, from->position_size, err))
        return;
    s->position = malloc(from->position_size + 1);
    if (!s->position) {
        fail(err, "out of memory");
        return;
    }
    memcpy(s->position, from->position, from->position_size);
    s->position_size = from->position_size;
    s->step = from->step;
    s->samples = from->samples;
    s->smoothed_loss = from->smoothed_loss;
    s->seconds = from->seconds;
    r->progress.smoothed_loss = from->smoothed_loss;
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)s->step);
    if (is_there(r, name, err)) r->saved = s->step;
    snprintf(line, sizeof line, "going on from %.500s, step %lld of %lld", name, (long long)s->step,
             (long long)r->o->max_train_steps);
    if (s->step >= r->o->max_train_steps)
        snprintf(line, sizeof line, "%.500s: all of the %lld steps are done", name,
                 (long long)r->o->max_train_steps);
    if (r->rank == 0 && r->o->note) r->o->note(r->o->user, line);
}

/* ---- what else a run has --------------------------------------------------------------------------------- */

static void on_bad_sample(void *self, const char *line) { run_note(self, "bad_sample", line); }
static void on_warning(void *self, const char *line) { run_note(self, "warning", line); }

static void show(TrainRun *r, const StoredTensor *t) {
    if (r->trace) trace_add(r->trace, t, &r->ctx.error);
}

static void see(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    StoredTensor t = {.name = name,
                      .dtype = sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32,
                      .ndim = ndim,
                      .data = data,
                      .bytes = sizeof(real)};
    for (int i = 0; i < ndim; i++) t.bytes *= (size_t)(t.dim[i] = dim[i]);
    show(self, &t);
}

static void show_ids(void *self, const char *name, const int64_t *ids, int64_t n) {
    show(self, &(StoredTensor){.name = name,
                               .dtype = DTYPE_I64,
                               .ndim = 1,
                               .dim = {n},
                               .data = ids,
                               .bytes = (size_t)n * sizeof *ids});
}

static void open_feed(TrainRun *r, Error *err) {
    const llmdiff_train_options *o = r->o;
    const DatasetOptions data = {.dir = o->train_data_dir,
                                 .seed = o->seed,
                                 .rank = r->rank,
                                 .ranks = r->ranks,
                                 .max_bad_samples = o->max_bad_samples,
                                 .log = on_bad_sample,
                                 .log_self = r};
    r->feed = (Feed){.pack = r->job->pack,
                     .augment = {o->resolution, o->center_crop != 0, o->random_flip != 0, o->seed},
                     .caption_dropout = o->caption_dropout,
                     .noise_offset = o->noise_offset,
                     .note = on_warning,
                     .show_ids = show_ids,
                     .self = r};
    feed_open(&r->feed, &data, err);
}

static void open_cache(TrainRun *r, Error *err) {
    const llmdiff_train_options *o = r->o;
    if (o->cache_limit <= 0) return;
    char *own = o->cache_dir ? NULL : run_path(r, "cache", err);
    const CacheOptions options = {.dir = o->cache_dir ? o->cache_dir : own,
                                  .limit = o->cache_limit * 1e9,
                                  .files = r->hash.files,
                                  .note = on_warning,
                                  .note_self = r};
    if (!err->set) r->cache = cache_open(&options, err);
    r->feed.cache = r->cache;
    free(own);
}

/* The files that rank 0 writes as it goes; a run that is over already writes none. */
static void open_outputs(TrainRun *r, Error *err) {
    const llmdiff_train_options *o = r->o;
    char line[128];
    if (r->rank != 0) return;
    char *path = run_path(r, "train.jsonl", err);
    if (path) r->log = log_open(path, r->state.step, err);
    free(path);
    if (err->set || r->state.step >= o->max_train_steps) return;
    snprintf(line, sizeof line, "step %lld of %lld, %lld parameters learned",
             (long long)r->state.step, (long long)o->max_train_steps, (long long)r->p.numbers);
    log_event(r->log, r->state.step ? "resume" : "start", r->state.step, line, err);
    if (o->trace_file && !err->set) r->trace = trace_open(o->trace_file, o->trace_only, err);
}

/* ---- all of it -------------------------------------------------------------------------------------------- */

static void hash_frozen(TrainRun *r, Error *err) {
    Pack frozen = *r->job->pack;
    frozen.adapter = NULL;
    if (pack_hash(&frozen, is_cancelled, r, &r->hash, err) == 0)
        r->state.pack_sha256 = r->hash.sha256;
}

static void open_state(TrainRun *r, const char *path, Error *err) {
    Checkpoint *c = path ? checkpoint_open(path, err) : NULL;
    const Adapter *adapter = err->set ? NULL : open_adapter(r, path, err);
    if (!err->set) open_parameters(r, adapter, err);
    if (!err->set)
        r->state.options = run_options(r, &adapter->settings, c ? checkpoint_state(c) : NULL, err);
    if (!err->set && c) restore(r, c, err);
    if (!err->set && !c)
        dataset_save(r->feed.data, &r->state.position, &r->state.position_size, err);
    checkpoint_close(c);
    r->feed.settings = &r->p.adapter.settings;
}

/* Machines with a data set or a pack of their own may have another one. On all ranks alike. */
static void check_same(TrainRun *r, const char *what, const void *bytes, size_t size, Error *err) {
    const llmdiff_team *team = r->o->team;
    char hex[SHA256_HEX];
    if (!team || err->set) return;
    sha256_bytes(bytes, size, hex);
    hex[7] = '\0'; /* 28 bits: as an int, and negated, too */
    int most = (int)strtol(hex, NULL, 16), least = -most;
    if (team->worst(team->self, &most) || team->worst(team->self, &least))
        fail(err, "the other processes can't be reached");
    else if (most != -least)
        fail(err, "%s: expected the same on all processes", what);
}

int run_begin(TrainRun *r, Error *err) {
    const llmdiff_train_options *o = r->o;
    char *path = NULL;
    r->tape.checkpoint = o->gradient_checkpointing != 0;
    r->ctx = (Context){
        .threads = o->threads, .cancelled = is_cancelled, .cancelled_self = r, .tape = &r->tape};
    open_feed(r, err);
    if (run_agree(r, err)) return -1;
    if (r->rank == 0) begin_directory(r, err);
    if (run_agree(r, err)) return -1;
    find_checkpoint(r, &path, err);
    if (!err->set) hash_frozen(r, err);
    run_agree(r, err);
    const char from = path ? 'c' : r->job->pack->adapter ? 'a' : 'f'; /* fresh: a call of all */
    check_same(r, "--adapter and --resume-from-checkpoint", &from, 1, err);
    if (!err->set) open_state(r, path, err);
    free(path);
    if (run_agree(r, err)) return -1;
    const real *moments_end = r->p.gradient + 3 * r->p.numbers;
    check_same(r, "the options", r->state.options, strlen(r->state.options), err);
    check_same(r, "the pack", r->hash.sha256, strlen(r->hash.sha256), err);
    check_same(r, "the data set", r->state.position, r->state.position_size, err);
    check_same(r, "the adapter", r->p.memory, (size_t)(moments_end - r->p.memory) * sizeof(real),
               err);
    if (!err->set) open_cache(r, err);
    if (!err->set) open_outputs(r, err);
    if (run_agree(r, err)) return -1;
    r->observer = (Observer){see, r};
    if (r->trace) r->ctx.observer = &r->observer;
    r->began = clock_now();
    r->since = r->began - r->state.seconds;
    return 0;
}
