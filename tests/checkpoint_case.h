/* A run's state to be saved, and one to be restored into, for the tests of checkpoints. */
#ifndef LLMDIFF_CHECKPOINT_CASE_H
#define LLMDIFF_CHECKPOINT_CASE_H

#include "tests/scratch.h"

#include "ref/pipeline.h"
#include "ref/train/checkpoint.h"

#include <math.h>

#define OPTIONS                                                                                    \
    "{\"fixed\":{\"seed\":42,\"train-only\":null},\"free\":{\"learning-rate\":0.0001,"             \
    "\"max-train-steps\":1000}}"
#define PACK_SUM "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* An adapter, its parameters and their averages, all from one directory. */
typedef struct Run {
    Pack pack; /* of the LLM and the U-Net; without an adapter */
    Adapter *adapter;
    Parameters p;
    Ema ema;
} Run;

static inline void run_try(Run *r, const char *adapter, const char *train_only, Error *err) {
    const PackPaths paths = {.model = "golden/micro", .adapter = adapter};
    *r = (Run){0};
    if (pack_open(&r->pack, &paths, PACK_GENERATE, err)) return;
    r->adapter = r->pack.adapter;
    const ParametersOptions options = {.train_only = train_only, .weight_decay = 0.1};
    if (parameters_open(&r->p, r->adapter, r->pack.unet, &options, err)) return;
    ema_open(&r->ema, &r->p, 0.99, err);
}

static inline void run_close(Run *r) {
    ema_close(&r->ema);
    parameters_close(&r->p);
    pack_close(&r->pack);
}

static inline void run_open(Run *r, const char *adapter, const char *train_only) {
    Error err = {0};
    run_try(r, adapter, train_only, &err);
    if (err.set) fail_msg("%s", err.message);
}

/* Numbers that tell every place of every array from every other. */
static inline void run_advance(Run *r, int64_t step) {
    int64_t at = 0;
    for (int64_t i = 0; i < r->p.learned_count; i++)
        for (int64_t j = 0; j < r->p.learned[i].n; j++, at++) {
            const double x = (double)(at + 1) / 3 + (double)step;
            r->p.learned[i].w[j] = (real)x;
            r->p.learned[i].m[j] = (real)-x / 7;
            r->p.learned[i].v[j] = (real)x / 11;
            r->ema.average[at] = (real)(1 / x);
        }
}

static inline TrainState state_of(int64_t step) {
    static unsigned char position[] = {0, 1, 0x7f, 0x80, 0xff};
    return (TrainState){.step = step,
                        .smoothed_loss = 1.0 / 3,
                        .samples = 4 * step,
                        .seconds = 0.1 * (double)step,
                        .position = position,
                        .position_size = sizeof position,
                        .options = (char *)(uintptr_t)OPTIONS,
                        .pack_sha256 = (char *)(uintptr_t)PACK_SUM};
}

/* 0 or -1 */
static inline int run_save(Run *r, bool averages, int64_t step, Error *err) {
    const TrainState state = state_of(step);
    run_advance(r, step);
    return checkpoint_save(scratch_dir, &r->p, averages ? &r->ema : NULL, &state, err);
}

/* Restored from `path`, and equal to what run_advance makes of `like` at that step? Fails the test if not. */
static inline void assert_restored(const char *path, Run *like, bool averages, int64_t step) {
    Error err = {0};
    Run r;
    Checkpoint *c = checkpoint_open(path, &err);
    if (!c) fail_msg("%s", err.message);
    run_open(&r, path, NULL);
    if (checkpoint_restore(c, &r.p, averages ? &r.ema : NULL, &err)) fail_msg("%s", err.message);
    run_advance(like, step);
    assert_int_equal(r.p.learned_count, like->p.learned_count);
    for (int64_t i = 0; i < r.p.learned_count; i++) {
        const Learned *a = &r.p.learned[i], *b = &like->p.learned[i];
        const size_t bytes = (size_t)a->n * sizeof(real);
        assert_int_equal(a->n, b->n);
        assert_memory_equal(a->w, b->w, bytes);
        assert_memory_equal(a->m, b->m, bytes);
        assert_memory_equal(a->v, b->v, bytes);
    }
    if (averages)
        assert_memory_equal(r.ema.average, like->ema.average, (size_t)r.p.numbers * sizeof(real));
    const TrainState *s = checkpoint_state(c), expected = state_of(step);
    assert_int_equal(s->step, step);
    assert_int_equal(s->samples, expected.samples);
    assert_true(s->seconds == expected.seconds);
    assert_true(s->smoothed_loss == expected.smoothed_loss);
    assert_int_equal(s->position_size, expected.position_size);
    assert_memory_equal(s->position, expected.position, expected.position_size);
    assert_string_equal(s->options, OPTIONS);
    assert_string_equal(s->pack_sha256, PACK_SUM);
    checkpoint_close(c);
    run_close(&r);
}

/* What `sha256sum -c` says of it. */
static inline bool sums_right(const char *path) {
    char command[512];
    snprintf(command, sizeof command, "cd '%s' && sha256sum --strict --quiet -c SHA256SUMS", path);
    return system(command) == 0;
}

/* ---- one run for a test program, in its scratch directory --------------------------------------- */

static Run shared;

static inline int open_shared(void **state) {
    if (scratch_make(state)) return -1;
    run_open(&shared, "golden/micro/adapter", NULL);
    return 0;
}

static inline int close_shared(void **state) {
    run_close(&shared);
    return scratch_remove(state);
}

static inline int clean(void **state) {
    (void)state;
    scratch_entries(scratch_dir, true);
    return 0;
}

static inline void save(bool averages, int64_t step) {
    Error err = {0};
    if (run_save(&shared, averages, step, &err)) fail_msg("%s", err.message);
}

/* "a b c": the names in the directory, sorted */
static inline const char *names_in(const char *dir) {
    static char text[512];
    char command[512];
    snprintf(command, sizeof command, "cd '%s' && LC_ALL=C ls -A | LC_ALL=C sort | tr '\\n' ' '",
             dir);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    const size_t n = fread(text, 1, sizeof text - 1, f);
    text[n > 0 ? n - 1 : 0] = '\0';
    assert_int_equal(pclose(f), 0);
    return text;
}

static inline void shell(const char *commands) {
    char all[1024];
    snprintf(all, sizeof all, "cd '%s' && { %s; }", scratch_dir, commands);
    if (system(all) != 0) fail_msg("%s", all);
}

#endif
