/* A training run that dies at every system call that changes the disk: each time every checkpoint is whole, no
 * wrong result is there, and going on ends with the bytes of the run that nothing disturbed. The same with
 * a call that fails: one error, or none where it isn't the run's matter. (tests/test_train_kill.c kills the
 * program at moments.) Each run is a process of its own. */
#include "train_run.h"

#include "disk_calls.h"

#define STEPS 2

/* As the whole run has it, into `out`: 0 well, 1 failed; -1 died at call `at` (0: none). */
static int run_in_child(const char *out, CallMode mode, int at, int *made) {
    int status, pipes[2];
    assert_int_equal(pipe(pipes), 0);
    const pid_t child = fork();
    if (child == 0) {
        llmdiff_train_options o = training(out);
        llmdiff_error error;
        o.max_train_steps = STEPS;
        o.checkpointing_steps = 1;
        o.checkpoints_total_limit = 1;
        o.validation_prompt = "a";
        o.validation_steps = 2;
        o.cache_limit = 1;
        o.ema_decay = 0.5;
        o.resume_from_checkpoint = "latest";
        calls = 0;
        call_at = at;
        call_mode = at ? mode : CALLS_WORK;
        const int code = try_train(&o, &error) != LLMDIFF_OK;
        call_mode = CALLS_WORK;
        if (code && !error.message[0]) _exit(99);
        if (write(pipes[1], &calls, sizeof calls) != sizeof calls) _exit(98);
        _exit(code);
    }
    assert_true(child > 0);
    close(pipes[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    int count = 0;
    const ssize_t got = read(pipes[0], &count, sizeof count);
    close(pipes[0]);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return -1;
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1 && got == sizeof count);
    if (made) *made = count;
    return WEXITSTATUS(status);
}

static void shell(const char *command) {
    if (system(path(command)) != 0) fail_msg("%s", path(command));
}

static void assert_sound(int call) {
    if (system(path("for d in @/out/checkpoint-*; do [ ! -d $d ] || (cd $d && sha256sum --strict "
                    "--quiet -c SHA256SUMS) || exit 1; done")) != 0)
        fail_msg("call %d: a checkpoint isn't whole", call);
    if (is_there("@/out/adapter.safetensors"))
        assert_true(same_file("@/whole/adapter.safetensors", "@/out/adapter.safetensors"));
    if (is_there("@/out/config.json"))
        assert_true(same_file("@/whole/config.json", "@/out/config.json"));
}

static void assert_as_whole(void) {
    LogLines a, b;
    assert_sound(0);
    assert_same_result("@/whole", "@/out", STEPS);
    assert_true(same_file("@/whole/config.json", "@/out/config.json"));
    assert_true(same_file("@/whole/figure6.svg", "@/out/figure6.svg"));
    assert_true(is_there("@/out/validation/step-000002.png"));
    assert_false(is_there("@/out/checkpoint-1"));
    read_log("@/whole/train.jsonl", &a);
    read_log("@/out/train.jsonl", &b);
    assert_int_equal(b.steps, STEPS);
    for (int i = 0; i < STEPS; i++) assert_true(a.loss[i] == b.loss[i]);
    shell("test -z \"$(find @/out -name cache -prune -o -name '*.tmp' -print -o -name '*.partial' "
          "-print -o -name .initial -print)\"");
}

static int whole(void) {
    int made;
    assert_int_equal(run_in_child("@/whole", CALLS_WORK, 0, &made), 0);
    return made;
}

/* A second death on the way from the first. */
static void dies_at_every_call(void **state) {
    (void)state;
    const int all = whole();
    for (int k = 1; k <= all; k++) {
        assert_int_equal(run_in_child("@/out", CALL_DIES, k, NULL), -1);
        assert_sound(k);
        if (k % 3 == 0) {
            run_in_child("@/out", CALL_DIES, 1 + k / 3, NULL);
            assert_sound(k);
        }
        if (run_in_child("@/out", CALLS_WORK, 0, NULL)) fail_msg("call %d", k);
        assert_as_whole();
        shell("rm -r @/out");
    }
    print_message("%d calls\n", all);
    assert_true(all > 100);
}

/* Every other one alone, those between with all that follow. */
static void every_call_fails(void **state) {
    (void)state;
    const int all = whole();
    int failed = 0;
    for (int k = 1; k <= all; k++) {
        const int status = run_in_child("@/out", k % 2 ? CALL_FAILS : CALLS_FAIL_FROM, k, NULL);
        assert_true(status >= 0);
        failed += status;
        assert_sound(k);
        if (run_in_child("@/out", CALLS_WORK, 0, NULL)) fail_msg("call %d", k);
        assert_as_whole();
        shell("rm -r @/out");
    }
    print_message("%d of %d calls end the run\n", failed, all);
    assert_true(failed > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        {"dies at every call", dies_at_every_call, fresh_directory, remove_directory, NULL},
        {"every call fails", every_call_fails, fresh_directory, remove_directory, NULL},
    };
    return cmocka_run_group_tests_name("a training run that dies", tests, NULL, NULL);
}
