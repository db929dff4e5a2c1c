/* Checkpoints: what is saved comes back bit for bit, and nothing that isn't a leftover is touched.
 * tests/test_checkpoint_refused.c has those that are refused, tests/test_checkpoint_faults.c the deaths. */
#include "tests/checkpoint_case.h"

#include "weights/file.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- what is saved comes back ------------------------------------------------------------------ */

static void comes_back(void **state) {
    const bool averages = *(const bool *)*state;
    save(averages, 7);
    assert_string_equal(names_in(scratch_dir), "checkpoint-7");
    assert_string_equal(names_in(scratch("checkpoint-7")),
                        "SHA256SUMS adapter.safetensors config.json state.safetensors");
    assert_true(sums_right(scratch("checkpoint-7")));
    assert_restored(scratch("checkpoint-7"), &shared, averages, 7);
}

/* Another text of the same numbers would have other bytes, a checkpoint made twice the same. */
static void is_the_same_twice(void **state) {
    (void)state;
    save(true, 7);
    shell("mv checkpoint-7 first");
    save(true, 7);
    shell("diff -r first checkpoint-7");
}

/* The adapter in it is the averages', for drawing, and says its step. */
static void its_adapter_is_one(void **state) {
    const bool averages = *(const bool *)*state;
    Run r;
    Error err = {0};
    save(averages, 7);
    run_open(&r, scratch("checkpoint-7"), NULL);
    const real *average = shared.ema.average;
    for (int64_t i = 0; i < r.p.learned_count; i++) {
        const real *expected = averages ? average : shared.p.learned[i].w;
        const int64_t n = r.p.learned[i].n;
        assert_memory_equal(r.p.learned[i].w, expected, (size_t)n * sizeof(real));
        average += n;
    }
    assert_int_equal(config_int(r.adapter->files, "step", -1, 0, 100), 7);
    run_close(&r);
    Safetensors *f = safetensors_open(scratch("checkpoint-7/adapter.safetensors"), &err);
    assert_non_null(f);
    assert_string_equal(safetensors_metadata(f, "step"), "7");
    assert_string_equal(safetensors_metadata(f, "format"), "llmdiff-adapter");
    safetensors_close(f);
}

/* Only what is learned has a state, and the rest is in the adapter all the same. */
static void a_part_comes_back(void **state) {
    (void)state;
    Run some, again;
    Error err = {0};
    const TrainState s = state_of(3);
    run_open(&some, "golden/micro/adapter", "tau_k|^g$");
    assert_true(some.p.learned_count < some.p.count);
    run_advance(&some, 3);
    assert_int_equal(checkpoint_save(scratch_dir, &some.p, &some.ema, &s, &err), 0);
    Checkpoint *c = checkpoint_open(scratch("checkpoint-3"), &err);
    assert_non_null(c);
    run_open(&again, scratch("checkpoint-3"), "tau_k|^g$");
    assert_int_equal(checkpoint_restore(c, &again.p, &again.ema, &err), 0);
    /* the numbers of all weights, then gradients and moments of what is learned */
    const size_t bytes = (size_t)(some.p.gradient + 3 * some.p.numbers - some.p.memory);
    assert_memory_equal(again.p.memory, some.p.memory, bytes * sizeof(real));
    run_close(&again);
    run_open(&again, scratch("checkpoint-3"), NULL);
    assert_int_equal(checkpoint_restore(c, &again.p, &again.ema, &err), -1);
    assert_error(
        &err,
        "checkpoint-3/state.safetensors: m/phi.weight: expected [28, 40], found no such tensor");
    run_close(&again);
    checkpoint_close(c);
    run_close(&some);
}

/* Before the first step there is no loss yet. */
static void without_a_loss(void **state) {
    (void)state;
    Error err = {0};
    TrainState s = state_of(0);
    s.smoothed_loss = NAN;
    s.position_size = 0;
    assert_int_equal(checkpoint_save(scratch_dir, &shared.p, NULL, &s, &err), 0);
    Checkpoint *c = checkpoint_open(scratch("checkpoint-0"), &err);
    assert_non_null(c);
    assert_true(isnan(checkpoint_state(c)->smoothed_loss));
    assert_int_equal(checkpoint_state(c)->position_size, 0);
    checkpoint_close(c);
}

static void is_not_overwritten(void **state) {
    (void)state;
    Error err = {0};
    save(false, 7);
    assert_int_equal(run_save(&shared, true, 7, &err), -1);
    assert_error(&err, "checkpoint-7: is there already; not overwritten");
    assert_string_equal(names_in(scratch_dir), "checkpoint-7");
    assert_restored(scratch("checkpoint-7"), &shared, false, 7);
}

static void into_no_directory(void **state) {
    (void)state;
    Error err = {0};
    const TrainState s = state_of(1);
    assert_int_equal(checkpoint_save(scratch("none"), &shared.p, NULL, &s, &err), -1);
    assert_error(&err, "none/.checkpoint-1.partial: can't be created: No such file or directory");
}

/* ---- which there are --------------------------------------------------------------------------- */

static void the_latest(void **state) {
    (void)state;
    Error err = {0};
    char *path = NULL;
    assert_int_equal(checkpoint_find_latest(scratch("none"), &path, &err), 0);
    assert_null(path);
    assert_int_equal(checkpoint_find_latest(scratch_dir, &path, &err), 0);
    assert_null(path);
    shell("mkdir checkpoint-9 checkpoint-100 checkpoint-20 checkpoint-0200 checkpoint-300x "
          "checkpoint- checkpoint--400 checkpoint-9999999999999999999 xcheckpoint-500 "
          ".checkpoint-600.partial && touch checkpoint-700");
    assert_int_equal(checkpoint_find_latest(scratch_dir, &path, &err), 0);
    assert_string_equal(path, scratch("checkpoint-100"));
    free(path);
    assert_int_equal(checkpoint_find_latest(scratch("checkpoint-700"), &path, &err), -1);
    assert_error(&err, "checkpoint-700: can't be read: Not a directory");
}

static void only_the_latest_is_followed(void **state) {
    (void)state;
    Error err = {0};
    shell("mkdir elsewhere && mkdir elsewhere/checkpoint-5");
    assert_int_equal(checkpoint_may_follow(scratch("elsewhere/checkpoint-5"), scratch_dir, &err),
                     0);
    shell("mkdir checkpoint-5 checkpoint-10 && ln -s checkpoint-10 best");
    assert_int_equal(checkpoint_may_follow(scratch("checkpoint-10/"), scratch_dir, &err), 0);
    assert_int_equal(checkpoint_may_follow(scratch("best"), scratch_dir, &err), 0);
    assert_int_equal(checkpoint_may_follow(scratch("checkpoint-5"), scratch_dir, &err), -1);
    assert_error(&err, "--resume-from-checkpoint checkpoint-5:  has a later one, checkpoint-10, "
                       "which is not overwritten: go on from that (latest), or give another "
                       "--output-dir");
    err.set = false;
    assert_int_equal(checkpoint_may_follow(scratch("elsewhere/checkpoint-5"), scratch_dir, &err),
                     -1);
}

static void the_oldest_go(void **state) {
    (void)state;
    Error err = {0};
    for (int64_t step = 8; step <= 12; step++) save(false, step);
    shell("mkdir checkpoint-x && touch checkpoint-8/a_note");
    assert_int_equal(checkpoints_limit(scratch_dir, 5, &err), 0);
    assert_string_equal(names_in(scratch_dir), "checkpoint-10 checkpoint-11 checkpoint-12 "
                                               "checkpoint-8 checkpoint-9 checkpoint-x");
    assert_int_equal(checkpoints_limit(scratch_dir, 2, &err), 0);
    assert_string_equal(names_in(scratch_dir), "checkpoint-11 checkpoint-12 checkpoint-x");
    assert_int_equal(checkpoints_limit(scratch_dir, INT64_MAX, &err), 0);
    assert_string_equal(names_in(scratch_dir), "checkpoint-11 checkpoint-12 checkpoint-x");
    assert_restored(scratch("checkpoint-11"), &shared, false, 11);
    assert_restored(scratch("checkpoint-12"), &shared, false, 12);
}

/* A directory in it isn't ours: it stays, and is named. */
static void what_is_not_ours_stays(void **state) {
    (void)state;
    Error err = {0};
    save(false, 1);
    save(false, 2);
    shell("mkdir checkpoint-1/mine");
    assert_int_equal(checkpoints_limit(scratch_dir, 1, &err), -1);
    assert_true(strncmp(err.message, scratch_dir, strlen(scratch_dir)) == 0);
    assert_non_null(strstr(err.message, "can't be removed: "));
    assert_true(is_directory(scratch(".checkpoint-1.partial/mine")));
    shell("rm -r .checkpoint-1.partial");
}

/* ---- leftovers --------------------------------------------------------------------------------- */

static void leftovers_are_swept(void **state) {
    (void)state;
    Error err = {0};
    int lock;
    save(false, 7);
    shell("cp -r checkpoint-7 .checkpoint-8.partial && mkdir .initial .checkpoint-9.partial "
          ".checkpoint-x.partial .checkpoint-9.partial.keep mine.12-0.tmp && touch "
          ".initial/config.json "
          ".checkpoint-9.partial/config.json.77-0.tmp adapter.safetensors.12-0.tmp "
          "config.json.1-99.tmp train.jsonl.5-1.tmp figure6.svg.5-1.tmp train.jsonl "
          "notes.12-0.tmp adapter.safetensors.old-0.tmp adapter.safetensors.12.tmp "
          "adapter.safetensors.12-0.tmp.keep && mkdir validation && cd validation && touch "
          "step-000012.png step-000012.png.7-0.tmp step-1000000.png.70-11.tmp mine.png.7-0.tmp "
          "step-000012.png.7.tmp");
    if (checkpoints_begin(scratch_dir, &lock, &err)) fail_msg("%s", err.message);
    close(lock);
    assert_string_equal(names_in(scratch_dir),
                        ".checkpoint-9.partial.keep .checkpoint-x.partial "
                        "adapter.safetensors.12-0.tmp.keep "
                        "adapter.safetensors.12.tmp adapter.safetensors.old-0.tmp checkpoint-7 "
                        "mine.12-0.tmp notes.12-0.tmp train.jsonl validation");
    assert_string_equal(names_in(scratch("validation")),
                        "mine.png.7-0.tmp step-000012.png step-000012.png.7.tmp");
    assert_restored(scratch("checkpoint-7"), &shared, false, 7);
    /* what a killed run left for this very step */
    shell("mkdir .checkpoint-8.partial && echo x >.checkpoint-8.partial/adapter.safetensors");
    save(false, 8);
    assert_restored(scratch("checkpoint-8"), &shared, false, 8);
}

static void one_at_a_time(void **state) {
    (void)state;
    Error err = {0};
    int lock, second, status;
    assert_int_equal(checkpoints_begin(scratch_dir, &lock, &err), 0);
    shell("mkdir .checkpoint-1.partial"); /* the one that is being written */
    assert_int_equal(checkpoints_begin(scratch_dir, &second, &err), -1);
    assert_error(&err, ": another process is training into it");
    assert_true(is_directory(scratch(".checkpoint-1.partial")));
    close(lock);
    /* gone with its process, however that ends */
    const pid_t child = fork();
    if (child == 0) {
        err.set = false;
        if (checkpoints_begin(scratch_dir, &lock, &err)) _exit(1);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    err.set = false;
    assert_int_equal(checkpoints_begin(scratch_dir, &lock, &err), 0);
    close(lock);
    assert_int_equal(checkpoints_begin(scratch("none"), &lock, &err), -1);
    assert_error(&err, "none: can't be opened: No such file or directory");
}

/* ---- the result -------------------------------------------------------------------------------- */

static void published(void **state) {
    (void)state;
    Error err = {0};
    save(true, 7);
    save(true, 8);
    assert_int_equal(checkpoint_publish(scratch("checkpoint-7"), scratch_dir, &err), 0);
    assert_string_equal(names_in(scratch_dir),
                        "adapter.safetensors checkpoint-7 checkpoint-8 config.json");
    shell("cmp adapter.safetensors checkpoint-7/adapter.safetensors && "
          "cmp config.json checkpoint-7/config.json && touch -d 2001-01-01 *.json *.safetensors");
    assert_int_equal(checkpoint_publish(scratch("checkpoint-7"), scratch_dir, &err), 0);
    shell("test $(find . -maxdepth 1 -type f -newermt 2001-01-02 | wc -l) = 0");
    shell("rm config.json");
    assert_int_equal(checkpoint_publish(scratch("checkpoint-7"), scratch_dir, &err), 0);
    shell("test $(find . -maxdepth 1 -type f -newermt 2001-01-02) = ./config.json");
    assert_int_equal(checkpoint_publish(scratch("checkpoint-8"), scratch_dir, &err), 0);
    shell("cmp adapter.safetensors checkpoint-8/adapter.safetensors && "
          "cmp config.json checkpoint-8/config.json");
    shell("chmod 600 checkpoint-8/config.json && rm checkpoint-8/config.json config.json");
    assert_int_equal(checkpoint_publish(scratch("checkpoint-8"), scratch_dir, &err), -1);
    assert_error(&err, "checkpoint-8/config.json: can't be opened: No such file or directory");
    assert_string_equal(names_in(scratch_dir), "adapter.safetensors checkpoint-7 checkpoint-8");
}

int main(void) {
    static bool yes = true, no = false;
#define WITH(test, which)                                                                          \
    { #test, test, NULL, clean, &which }
#define PLAIN(test)                                                                                \
    { #test, test, NULL, clean, NULL }
    const struct CMUnitTest tests[] = {
        WITH(comes_back, no),
        WITH(comes_back, yes),
        PLAIN(is_the_same_twice),
        WITH(its_adapter_is_one, no),
        WITH(its_adapter_is_one, yes),
        PLAIN(a_part_comes_back),
        PLAIN(without_a_loss),
        PLAIN(is_not_overwritten),
        PLAIN(into_no_directory),
        PLAIN(the_latest),
        PLAIN(only_the_latest_is_followed),
        PLAIN(the_oldest_go),
        PLAIN(what_is_not_ours_stays),
        PLAIN(leftovers_are_swept),
        PLAIN(one_at_a_time),
        PLAIN(published),
    };
    return cmocka_run_group_tests_name("checkpoints", tests, open_shared, close_shared);
}
