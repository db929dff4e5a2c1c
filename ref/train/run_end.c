/* What a run leaves, and its memory: see loop.h. */
#include "ref/train/run.h"
#include "weights/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool has_bytes(const char *path, const char *text) {
    Error ignored = {0};
    size_t size;
    char *there = file_exists(path) ? file_read(path, &size, &ignored) : NULL;
    const bool same = there && size == strlen(text) && memcmp(there, text, size) == 0;
    free(there);
    return same;
}

static void write_figure(TrainRun *r, Error *err) {
    const bool averaged = r->o->ema_decay > 0;
    OutFile out;
    char *path = run_path(r, "figure6.svg", err);
    if (averaged) ema_swap(&r->ema, &r->p);
    char *svg = path ? figure6_svg(&r->p.adapter, r->job->pack->unet, r->state.step, err) : NULL;
    if (averaged) ema_swap(&r->ema, &r->p);
    if (svg && !has_bytes(path, svg) && outfile_open(&out, path, err) == 0) {
        fputs(svg, out.stream);
        outfile_close(&out, err);
    }
    free(svg);
    free(path);
}

int run_publish(TrainRun *r, Error *err) {
    char name[64];
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)r->state.step);
    char *path = run_path(r, name, err);
    if (path) write_figure(r, err);
    if (!err->set) checkpoint_publish(path, r->o->output_dir, err);
    free(path);
    if (err->set || !r->here) return err->set ? -1 : 0;
    if (log_event(r->log, "end", r->state.step, r->o->output_dir, err)) return -1;
    return log_sync(r->log, err);
}

void run_free(TrainRun *r) {
    if (r->ctx.error.set || r->tape.count) tape_clear(&r->ctx);
    tape_free(&r->tape);
    context_free(&r->ctx);
    trace_discard(r->trace);
    log_close(r->log);
    cache_close(r->cache);
    feed_close(&r->feed);
    training_close(&r->training);
    ema_close(&r->ema);
    parameters_close(&r->p);
    adapter_free(r->adapter);
    pack_hash_free(&r->hash);
    free(r->state.position);
    cJSON_free(r->state.options);
    if (r->created) (void)rmdir(r->o->output_dir);
    if (r->lock >= 0) close(r->lock);
}
