/* Checkpoints when memory runs out, when the disk refuses or is full, and when the process dies: at every
 * allocation, at every system call that changes the disk, at many places within a file. Each time what was
 * whole before is whole, nothing half-written counts, and what remained to be done can be done. */
#include "tests/checkpoint_case.h"
#include "tests/disk_calls.h"
#include "tests/faults.h"

#include "weights/file.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---- what a run does ---------------------------------------------------------------------------- */

static int prepare(void **state) {
    faults_init();
    return open_shared(state);
}

/* Whatever is still to be done up to OUT with checkpoints 8 and 9, and 9 as the result; from 7 and 8 on. */
static int go_on(Error *err) {
    int lock;
    char *latest = NULL;
    if (checkpoints_begin(scratch_dir, &lock, err)) return -1;
    if (checkpoint_find_latest(scratch_dir, &latest, err) == 0) {
        Checkpoint *c = checkpoint_open(latest, err);
        if (c && (checkpoint_state(c)->step == 9 || run_save(&shared, true, 9, err) == 0) &&
            checkpoints_limit(scratch_dir, 2, err) == 0)
            checkpoint_publish(scratch("checkpoint-9"), scratch_dir, err);
        checkpoint_close(c);
    }
    free(latest);
    close(lock);
    return err->set ? -1 : 0;
}

static void begin_run(void) {
    Error err = {0};
    scratch_entries(scratch_dir, true);
    for (int64_t step = 7; step <= 8; step++)
        if (run_save(&shared, true, step, &err)) fail_msg("%s", err.message);
    if (checkpoint_publish(scratch("checkpoint-7"), scratch_dir, &err)) fail_msg("%s", err.message);
}

/* Every checkpoint that counts is right, and the latest is 8 or 9. */
static void assert_whole(const char *when, int k) {
    Error err = {0};
    char *latest;
    assert_int_equal(checkpoint_find_latest(scratch_dir, &latest, &err), 0);
    assert_non_null(latest);
    for (int64_t step = 7; step <= 9; step++) {
        char name[32];
        snprintf(name, sizeof name, "checkpoint-%d", (int)step);
        if (!is_directory(scratch(name))) continue;
        assert_restored(scratch(name), &shared, true, step);
    }
    const bool nine = strcmp(latest, scratch("checkpoint-9")) == 0;
    if (!nine && strcmp(latest, scratch("checkpoint-8")) != 0)
        fail_msg("%s %d: the latest is %s", when, k, latest);
    free(latest);
}

/* Without further faults everything gets done, and nothing else is left. */
static void assert_goes_on(const char *when, int k) {
    Error err = {0};
    call_mode = CALLS_WORK;
    if (go_on(&err)) fail_msg("%s %d: %s", when, k, err.message);
    assert_int_equal(scratch_entries(scratch_dir, false), 4);
    assert_int_equal(scratch_entries(scratch("checkpoint-8"), false), 4);
    assert_int_equal(scratch_entries(scratch("checkpoint-9"), false), 4);
    assert_restored(scratch("checkpoint-8"), &shared, true, 8);
    assert_restored(scratch("checkpoint-9"), &shared, true, 9);
    char command[512];
    snprintf(command, sizeof command,
             "cd '%s' && cmp adapter.safetensors checkpoint-9/adapter.safetensors && "
             "cmp config.json checkpoint-9/config.json",
             scratch_dir);
    assert_int_equal(system(command), 0);
}

static int count_calls(void) {
    begin_run();
    calls = 0;
    assert_goes_on("call", 0);
    assert_int_equal(calls, 35);
    return calls;
}

/* ---- the tests ---------------------------------------------------------------------------------- */

/* What a loss of power would show, and no test can: a name appears after what it stands for is on the disk. */
static void everything_is_synced_before_it_is_named(void **state) {
    (void)state;
    count_calls();
    order[calls] = '\0';
    assert_string_equal(order, "m"                /* .checkpoint-9.partial */
                               "olfrolfrolfrolfr" /* its four files: made, written, synced, named */
                               "drd"    /* the directory synced, named checkpoint-9, OUT synced */
                               "ruuuux" /* checkpoint-7 is renamed, emptied, removed */
                               "olfrolfrd" /* the result */
    );
}

static void every_call_fails(void **state) {
    const CallMode mode = *(const CallMode *)*state;
    const int all = count_calls();
    for (int k = 1; k <= all; k++) {
        Error err = {0};
        begin_run();
        calls = 0;
        call_at = k;
        call_mode = mode;
        const int status = go_on(&err);
        call_mode = CALLS_WORK;
        assert_int_equal(status, -1);
        if (!strstr(err.message, "No space left on device") ||
            strncmp(err.message, scratch_dir, strlen(scratch_dir)) != 0)
            fail_msg("call %d: \"%s\"", k, err.message);
        assert_whole("call", k);
        assert_goes_on("call", k);
    }
    print_message("%d calls\n", all);
}

/* In a process of its own. True: it died. */
static bool dies(int k, int64_t file_size) {
    int status;
    const pid_t child = fork();
    if (child == 0) {
        Error err = {0};
        calls = 0;
        call_at = k;
        call_mode = k ? CALL_DIES : CALLS_WORK;
        if (file_size >= 0)
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){(rlim_t)file_size, (rlim_t)file_size});
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        signal(SIGXFSZ, SIG_DFL);
        go_on(&err);
        _exit(err.set);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status)) assert_int_equal(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status);
}

static void every_call_kills(void **state) {
    (void)state;
    const int all = count_calls();
    for (int k = 1; k <= all; k++) {
        begin_run();
        assert_true(dies(k, -1));
        assert_whole("call", k);
        assert_goes_on("call", k);
    }
}

static int64_t size_of(const char *name) {
    struct stat st;
    assert_int_equal(stat(scratch(name), &st), 0);
    return st.st_size;
}

/* A file may grow to this size and no further: a full disk, or the end of the process within a write. */
static void every_size(void **state) {
    const bool fatal = *(const bool *)*state;
    count_calls();
    const int64_t largest = size_of("checkpoint-9/state.safetensors");
    assert_true(largest > 50000);
    int stops = 0;
    for (int64_t size = 0; size < largest; size += size < 600 ? 100 : largest / 25) {
        begin_run();
        if (fatal) {
            assert_true(dies(0, size));
        } else {
            Error err = {0};
            struct rlimit before;
            getrlimit(RLIMIT_FSIZE, &before);
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){(rlim_t)size, before.rlim_max});
            const int status = go_on(&err);
            setrlimit(RLIMIT_FSIZE, &before);
            assert_int_equal(status, -1);
            if (!strstr(err.message, ": can't be written: File too large"))
                fail_msg("size %d: \"%s\"", (int)size, err.message);
            assert_int_equal(scratch_entries(scratch_dir, false), 4); /* no part of it */
        }
        assert_whole("size", (int)size);
        assert_goes_on("size", (int)size);
        stops++;
    }
    print_message("%d sizes\n", stops);
    assert_true(stops > 25);
}

/* Is allocation k of n the first or the last one made there? */
static bool is_first_or_last(size_t k, size_t n) {
    size_t before = 0, after = 0;
    for (size_t i = 1; i < k; i++) before += faults_site(i) == faults_site(k);
    for (size_t i = k + 1; i <= n; i++) after += faults_site(i) == faults_site(k);
    return !before || !after;
}

/* Of the recorded ones those to fail, malloc'ed, 0 at the end. */
static size_t *choose(size_t count, size_t *chosen) {
    size_t *k = calloc(count + 1, sizeof *k);
    assert_non_null(k);
    *chosen = 0;
    for (size_t i = 1; i <= count; i++)
        if (is_first_or_last(i, count)) k[(*chosen)++] = i;
    print_message("%d of %d allocations\n", (int)*chosen, (int)count);
    return k;
}

/* Saving, reading, everything. */
static void every_allocation(void **state) {
    (void)state;
    Error err = {0};
    if (faults_unsupported()) {
        print_message("skipped: allocations that fail: %s\n", faults_unsupported());
        skip();
    }
    begin_run();
    faults_begin(RECORD, 0);
    go_on(&err);
    const Faults all = faults_end();
    if (err.set) fail_msg("%s", err.message);
    assert_int_equal(all.live, 0);
    assert_true(all.count > 100);
    size_t chosen, *at = choose(all.count, &chosen);
    for (size_t i = 0; i < chosen; i++)
        for (int mode = 0; mode < 2; mode++) {
            const size_t k = at[i];
            begin_run();
            err.set = false;
            faults_begin(mode ? FAIL_FROM : FAIL_ONE, k);
            const int status = go_on(&err);
            const Faults f = faults_end();
            if (f.live) fail_msg("allocation %d failed: %d are left", (int)k, (int)f.live);
            if ((status != 0) < (f.failed_hard > 0)) fail_msg("allocation %d: no error", (int)k);
            if (status && !strstr(err.message, "out of memory") &&
                !strstr(err.message, "Cannot allocate memory"))
                fail_msg("allocation %d failed: \"%s\"", (int)k, err.message);
            assert_whole("allocation", (int)k);
            assert_goes_on("allocation", (int)k);
        }
    free(at);
}

/* The state's tensors back into the parameters; what checkpoint_check compares. */
static void every_allocation_of_reading(void **state) {
    (void)state;
    if (faults_unsupported()) {
        print_message("skipped: allocations that fail: %s\n", faults_unsupported());
        skip();
    }
    static const char options[] = "{\"fixed\":{\"seed\":42},\"free\":{\"max-train-steps\":10}}";
    Error err = {0};
    size_t chosen = 0, *at = NULL;
    begin_run();
    for (size_t i = 0; i <= chosen; i++) {
        const size_t k = i ? at[i - 1] : 0;
        err.set = false;
        faults_begin(k ? FAIL_ONE : RECORD, k);
        Checkpoint *c = checkpoint_open(scratch("checkpoint-8"), &err);
        if (c && checkpoint_may_follow(scratch("checkpoint-8"), scratch_dir, &err) == 0 &&
            checkpoint_check(c, PACK_SUM, options, NULL, NULL, &err) == 0)
            checkpoint_restore(c, &shared.p, &shared.ema, &err);
        checkpoint_close(c);
        const Faults f = faults_end();
        if (!k) at = choose(f.count, &chosen);
        assert_int_equal(f.live, 0);
        if (k && f.failed_hard && !err.set) fail_msg("allocation %d: no error", (int)k);
        if (err.set && (!k || (!strstr(err.message, "out of memory") &&
                               !strstr(err.message, "Cannot allocate memory"))))
            fail_msg("allocation %d failed: \"%s\"", (int)k, err.message);
    }
    free(at);
}

int main(void) {
    static CallMode one = CALL_FAILS, from = CALLS_FAIL_FROM;
    static bool fatal = true, survived = false;
    const struct CMUnitTest tests[] = {
        {"everything is synced before it is named", everything_is_synced_before_it_is_named, NULL,
         clean, NULL},
        {"every call fails", every_call_fails, NULL, clean, &one},
        {"every call fails, and all that follow", every_call_fails, NULL, clean, &from},
        {"every call kills", every_call_kills, NULL, clean, NULL},
        {"every size a file may have", every_size, NULL, clean, &survived},
        {"every size a file may have, and not survive", every_size, NULL, clean, &fatal},
        {"every allocation", every_allocation, NULL, clean, NULL},
        {"every allocation of reading", every_allocation_of_reading, NULL, clean, NULL},
    };
    return cmocka_run_group_tests_name("checkpoints that fail", tests, prepare, close_shared);
}
