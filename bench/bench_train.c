/* Times training steps: what `llmdiff train` does between a batch and the next.
 *
 *     build/f32/bench_train PACK INPUTS.safetensors [--steps N] [--threads N] [--checkpointing] [--llm]
 *
 * INPUTS (bench/bench_train.py --write) holds a batch: captions as what the frozen LLM says of them,
 * posteriors, t and every draw; PyTorch's bench_train.py reads the same file. --llm has the pack's LLM
 * compute the captions instead, before the first step. A line for each step,
 *     loss L forward S backward S optimizer S processor S
 * in seconds (processor: of all threads, which other programs on the machine disturb less), then the peak resident memory of the steps and what the arena and the tape held, in MB. */
#include "ref/train/parameters.h"
#include "ref/train/step.h"
#include "tensor/tape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 64 };

typedef struct Options {
    const char *pack, *inputs;
    int steps, threads;
    bool checkpointing, llm;
} Options;

typedef struct Batch {
    Safetensors *file;
    Context ctx; /* holds what the samples refer to */
    int64_t count;
    FrozenPrompt prompt[MOST];
    TrainSample sample[MOST];
    char group[MOST][16];
} Batch;

/* The way back begins where the tape no longer grows: seen by who is asked whether to cancel. */
typedef struct Watch {
    const Tape *tape;
    int64_t count;
    double last, turned; /* when asked last; when the tape was longest, 0: not yet */
} Watch;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double processor(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool watch(void *self) {
    Watch *w = self;
    if (w->tape->count < w->count && w->turned == 0) w->turned = w->last;
    w->count = w->tape->count;
    w->last = now();
    return false;
}

/* Of /proc/self/status, in MB; the peak begins anew with reset_peak. */
static double peak_rss(void) {
    char line[256];
    double kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmHWM:", 6) == 0) kb = atof(line + 6);
    if (f) fclose(f);
    return kb / 1024;
}

static void reset_peak(void) {
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (f) fputs("5", f);
    if (f) fclose(f);
}

static Tensor stored(Batch *b, int64_t i, const char *what, bool map) {
    char name[64];
    Context *ctx = &b->ctx;
    snprintf(name, sizeof name, "%lld/%s", (long long)i, what);
    const StoredTensor *s = safetensors_find(b->file, name);
    if (!s) return fail(&ctx->error, "%s: no \"%s\"", safetensors_path(b->file), name), (Tensor){0};
    Noise of_file = {.file = b->file};
    Tensor x = noise_draw(ctx, &of_file, name, s->ndim, s->dim);
    if (!map) return x;
    x = channels_last(ctx, x);
    return x.data ? TENSOR_VIEW(x, 1, x.dim[0], x.dim[1], x.dim[2]) : x;
}

static void batch_open(Batch *b, const Pack *pack, const Options *o) {
    Context *ctx = &b->ctx;
    *b = (Batch){.ctx = {.threads = o->threads}};
    b->file = safetensors_open(o->inputs, &ctx->error);
    const char *count = b->file ? safetensors_metadata(b->file, "batch") : NULL;
    b->count = count ? atoll(count) : 0;
    if (b->count < 1 || b->count > MOST) fail(&ctx->error, "%s: no batch", o->inputs);
    for (int64_t i = 0; i < b->count && !ctx->error.set; i++) {
        snprintf(b->group[i], sizeof b->group[i], "%lld/", (long long)i);
        const FrozenPrompt given = {stored(b, i, "x_T", false), stored(b, i, "delta", false)};
        const Tensor t = stored(b, i, "train/t", false);
        const VaePosterior posterior = {stored(b, i, "latent_mean", true),
                                        stored(b, i, "latent_logvar", true)};
        if (ctx->error.set) return;
        b->prompt[i] = given;
        if (o->llm) {
            int64_t ids[256];
            const int64_t n = given.x_T.dim[0] < 256 ? given.x_T.dim[0] : 256;
            for (int64_t k = 0; k < n; k++) ids[k] = 17 * k + i;
            b->prompt[i] = frozen_prompt(ctx, pack->llm, &pack->adapter->settings, ids, n);
        }
        b->sample[i] = (TrainSample){.prompt = &b->prompt[i],
                                     .posterior = posterior,
                                     .t = (int64_t)t.data[0],
                                     .noise = {.file = b->file},
                                     .group = b->group[i]};
    }
}

/* The steps of `llmdiff train`: gradients of the batch, clipping, AdamW. */
static void run(const Options *o, const Pack *pack, Batch *b, Error *err) {
    const ParametersOptions learn = {.weight_decay = 1e-2};
    const AdamW adamw = {.lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    Parameters p;
    Training training;
    Tape tape = {.checkpoint = o->checkpointing};
    Watch w = {.tape = &tape};
    Context ctx = {.threads = o->threads, .tape = &tape, .cancelled = watch, .cancelled_self = &w};
    if (parameters_open(&p, pack->adapter, pack->unet, &learn, err)) return;
    if (training_open(&training, pack, &p.adapter, 0, err)) return parameters_close(&p);
    reset_peak();
    for (int step = 1; step <= o->steps && !ctx.error.set; step++) {
        double loss = 0, forward = 0, backward = 0;
        const double share = 1 / (double)b->count, used = processor();
        parameters_zero_gradients(&p);
        const int64_t most = training_together(&b->sample[0]);
        for (int64_t i = 0; i < b->count; i += most) {
            const double start = now();
            const int64_t n = b->count - i < most ? b->count - i : most;
            TrainSample *sample[MAX_BATCH];
            for (int64_t k = 0; k < n; k++) sample[k] = &b->sample[i + k];
            w.turned = w.last = 0;
            w.count = 0;
            loss += share * training_samples(&ctx, &training, sample, n, share);
            forward += w.turned - start;
            backward += now() - w.turned;
        }
        const double start = now();
        clip_gradients(&ctx, p.learned, p.learned_count, 1);
        for (int64_t i = 0; i < p.learned_count; i++) adamw_step(&ctx, &adamw, step, &p.learned[i]);
        if (!ctx.error.set)
            printf("loss %.9g forward %.6f backward %.6f optimizer %.6f processor %.6f\n", loss,
                   forward, backward, now() - start, processor() - used);
        fflush(stdout);
    }
    printf("peak %.1f arena %.1f gradients %.1f\n", peak_rss(), (double)ctx.arena.peak / 0x1p20,
           (double)tape.peak / 0x1p20);
    if (ctx.error.set) *err = ctx.error;
    training_close(&training);
    parameters_close(&p);
    tape_free(&tape);
    context_free(&ctx);
}

static bool read_options(Options *o, int argc, char **argv) {
    *o = (Options){.steps = 3, .threads = 2};
    for (int i = 1; i < argc; i++) {
        const bool more = i + 1 < argc;
        if (strcmp(argv[i], "--checkpointing") == 0)
            o->checkpointing = true;
        else if (strcmp(argv[i], "--llm") == 0)
            o->llm = true;
        else if (strcmp(argv[i], "--steps") == 0 && more)
            o->steps = atoi(argv[++i]);
        else if (strcmp(argv[i], "--threads") == 0 && more)
            o->threads = atoi(argv[++i]);
        else if (!o->pack)
            o->pack = argv[i];
        else
            o->inputs = argv[i];
    }
    return o->inputs && o->steps > 0;
}

int main(int argc, char **argv) {
    Options o;
    Pack pack;
    static Batch batch;
    Error err = {0};
    if (!read_options(&o, argc, argv)) {
        fprintf(stderr, "usage: bench_train PACK INPUTS [--steps N] [--threads N] "
                        "[--checkpointing] [--llm]\n");
        return 2;
    }
    if (pack_open(&pack, &(PackPaths){.model = o.pack}, PACK_GENERATE, &err) == 0) {
        batch_open(&batch, &pack, &o);
        if (batch.ctx.error.set)
            err = batch.ctx.error;
        else
            run(&o, &pack, &batch, &err);
        safetensors_close(batch.file);
        context_free(&batch.ctx);
        pack_close(&pack);
    }
    if (err.set) fprintf(stderr, "bench_train: %s\n", err.message);
    return err.set ? 1 : 0;
}
