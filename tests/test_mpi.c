/* One command by several processes: mpirun -np N llmdiff generate. By make test-mpi, or make MPI=1 test. */
#include "mpi_run.h"

#include <sys/stat.h>

/* Three prompts, two pictures of each, by `np` ranks. */
#define SHARED(np, ...)                                                                            \
    RUN("-np", np, MPI_PROGRAM, "generate", "-m", MICRO, "--prompt-file", "@/p.txt", "--steps",    \
        "2", "-b", "2", "--quiet", "--enlarge", "1", __VA_ARGS__)

#define PROMPTS "a red circle\na blue square\n\na green dog\n"

static void sums_are_those_of_the_order_of_ranks(void **state) {
    (void)state;
    static const char *const ranks[] = {"2", "3"};
    for (int i = 0; i < 2; i++) {
        Result r = RUN("-np", ranks[i], LLMDIFF_MPI_DIR "/mpi_sum");
        assert_ok(r);
        assert_string_equal(r.out, "sums agree\n");
    }
}

static void pictures_are_shared_out(void **state) {
    (void)state;
    static const char *const ranks[] = {"1", "2", "3", "7"}; /* 7: more than there are pictures */
    char expected[512] = "", name[2][32];
    put_text("@/p.txt", PROMPTS);
    for (int k = 0; k < 6; k++) {
        snprintf(name[0], sizeof name[0], k ? "@/x_%d.png" : "@/x.png", k + 1);
        snprintf(expected + strlen(expected), 64, "%s: 16 x 16, seed %d\n", name[0], 5 + k % 2);
    }
    for (int i = 0; i < 4; i++) {
        Result r = SHARED(ranks[i], "-s", "5", "-o", "@/x.png");
        assert_ok(r);
        assert_string_equal(r.out, expected);
        for (int k = 0; k < 6; k++) {
            snprintf(name[0], sizeof name[0], k ? "@/x_%d.png" : "@/x.png", k + 1);
            snprintf(name[1], sizeof name[1], "@/a%d.png", k);
            if (i > 0) assert_true(same_file(name[0], name[1]));
            char from[96];
            snprintf(from, sizeof from, "%s", path(name[0]));
            assert_int_equal(rename(from, path(name[1])), 0);
        }
        assert_directory("a0.png a1.png a2.png a3.png a4.png a5.png p.txt ");
    }
}

static void standard_input_and_a_random_seed_are_shared(void **state) {
    (void)state;
    char how[128];
    unsigned long long seed[2];
    put_text("@/p.txt", PROMPTS);
    snprintf(how, sizeof how, "<%s/p.txt", work);
    Result r = RUN_WITH(how, "-np", "3", MPI_PROGRAM, "generate", "-m", MICRO, "--prompt-file", "-",
                        "--steps", "2", "--quiet", "-s", "-1", "-o", "@/x.png");
    assert_ok(r);
    assert_int_equal(sscanf(strstr(r.out, "seed"), "seed %llu", &seed[0]), 1);
    assert_int_equal(sscanf(strstr(r.out, "x_3.png"), "x_3.png: 16 x 16, seed %llu", &seed[1]), 1);
    assert_true(seed[0] == seed[1]);
    char text[32];
    snprintf(text, sizeof text, "%llu", seed[0]);
    assert_ok(RUN("-np", "1", MPI_PROGRAM, "generate", "-m", MICRO, "-p", "a green dog", "--steps",
                  "2", "--quiet", "-s", text, "-o", "@/y.png"));
    assert_true(same_file("@/x_3.png", "@/y.png"));
}

/* ---- one message, whoever failed -------------------------------------------------------------------- */

static void what_is_wrong_everywhere_is_told_once(void **state) {
    (void)state;
    put_text("@/p.txt", PROMPTS);
    assert_error(SHARED("3", "--stpes", "3"), 2,
                 "generate: unknown flag --stpes; did you mean --steps?");
    assert_error(SHARED("3", "-o", "@/no/x.png"), 1,
                 "@/no/x.png: can't be created: No such file or directory");
    assert_error(SHARED("3", "-m", "@"), 1,
                 "@/llm: expected a directory with the llm, found nothing");
    assert_error(SHARED("3", "--prompt-file", "@/none"), 2,
                 "--prompt-file @/none: can't be opened: No such file or directory");
    assert_directory("p.txt ");
    Result help = SHARED("3", "--help"), alone = SHARED("1", "--help");
    assert_ok(help);
    assert_string_equal(help.out, alone.out);
}

/* Nobody draws where one can't: the prompt in line 2 is that of rank 1. */
static void what_is_wrong_with_one_is_told_by_it(void **state) {
    (void)state;
    char long_prompt[20000] = "a\n";
    for (int i = 0; i < 9000; i++) strcat(long_prompt, "%%");
    put_text("@/p.txt", long_prompt);
    Result r = RUN("-np", "2", MPI_PROGRAM, "generate", "-m", MICRO, "--prompt-file", "@/p.txt",
                   "-o", "@/x.png", "--quiet");
    assert_error_holds(r, 1, "llmdiff: rank 1 on ");
    assert_holds(r.err, ": --prompt-file @/p.txt, line 2: the prompt has ");
    assert_directory("p.txt ");
}

/* On one command line for all; mpirun allows for one each. */
static void what_differs_is_refused(void **state) {
    (void)state;
    put_text("@/p.txt", PROMPTS);
#define ONE_OF_TWO "-np", "1", MPI_PROGRAM, "generate", "-m", MICRO, "-o", "@/x.png", "--quiet"
    Result r = RUN(ONE_OF_TWO, "--prompt-file", "@/p.txt", ":", ONE_OF_TWO, "-p", "a");
    assert_error_holds(r, 2, "llmdiff: rank 1 on ");
    assert_holds(r.err, ": expected 3 pictures, as rank 0, found 1\n");
    r = RUN(ONE_OF_TWO, "-p", "a", "-b", "2", ":", ONE_OF_TWO, "-b", "2");
    assert_error_holds(r, 2, "llmdiff: rank 1 on ");
    assert_holds(r.err, ": no prompt: ");
    r = RUN(ONE_OF_TWO, "-p", "a", ":", ONE_OF_TWO, "-p", "a", "-o", "x");
    assert_error_holds(r, 2, "llmdiff: rank 1 on ");
    assert_holds(r.err, ": --output: expected a name that ends in .png");
    assert_directory("p.txt ");
}

/* A directory stands where rank 1 would put its preview of step 3; rank 0 would draw for minutes. */
static void who_fails_on_the_way_stops_the_others(void **state) {
    (void)state;
    put_text("@/p.txt", PROMPTS);
    assert_int_equal(mkdir(path("@/x_2_step3.png"), 0700), 0);
    Result r = RUN("-np", "3", MPI_PROGRAM, "generate", "-m", MICRO, "--prompt-file", "@/p.txt",
                   "--steps", "900", "--preview-every", "3", "-o", "@/x.png", "--quiet");
    assert_error_holds(r, 1, "llmdiff: rank 1 on ");
    assert_holds(r.err, ": @/x_2_step3.png: can't be");
    assert_int_equal(access(path("@/x.png"), F_OK), -1);
}

static void another_precision_is_refused(void **state) {
    (void)state;
    put_text("@/p.txt", PROMPTS);
    if (access("build/f32/mpi/llmdiff", X_OK) || access("build/f64/mpi/llmdiff-f64", X_OK)) {
        printf("skipped: one of both precisions has not been built\n");
        skip();
    }
    Result r = RUN("-np", "1", "build/f32/mpi/llmdiff", "generate", ":", "-np", "1",
                   "build/f64/mpi/llmdiff-f64", "generate");
    assert_error_holds(r, 1, "llmdiff: rank 1 on ");
    assert_holds(r.err, ": expected rank 0's program, llmdiff 0.1.0 (float32), found llmdiff "
                        "0.1.0 (float64)\n");
}

/* ---- signals ------------------------------------------------------------------------------------------- */

/* Sends the signal to mpirun, or to one of two ranks, when both are at work. */
static Result signalled(int number, bool to_a_rank) {
    put_text("@/p.txt", PROMPTS);
    pid_t rank[2] = {0}, run = start("", (const char *[]){"-np", "2", MPI_PROGRAM, "generate", "-m",
                                                          MICRO, "--prompt-file", "@/p.txt",
                                                          "--steps", "900", "--preview-every", "2",
                                                          "-o", "@/x.png", "--quiet", NULL});
    int status = 0, looks = 0;
    while ((access(path("@/x_step2.png"), F_OK) || access(path("@/x_2_step2.png"), F_OK)) &&
           !ended(run, &status))
        assert_true(++looks < PATIENCE);
    assert_int_equal(children(run, rank, 2), 2);
    kill(to_a_rank ? rank[1] : run, number);
    Result r = must_end(run);
    for (int i = 0; i < 2; i++) assert_true(gone(rank[i]));
    assert_int_equal(access(path("@/x.png"), F_OK), -1);
    return r;
}

static void cancelling(void **state) {
    (void)state;
    /* mpirun's own exit code, and a second for its processes to end by themselves */
    Result r = signalled(SIGINT, false);
    assert_string_equal(r.err, "llmdiff: cancelled\n");
    assert_int_not_equal(r.code, 0);
}

static void cancelling_by_the_signal_that_is_passed_on(void **state) {
    (void)state;
    assert_error_holds(signalled(SIGUSR1, false), 130, "llmdiff: cancelled");
}

static void cancelling_one_rank(void **state) {
    (void)state;
    Result r = signalled(SIGINT, true);
    assert_holds(r.err, "cancelled\n");
    assert_int_equal(r.code, 130);
}

static void a_rank_that_is_killed(void **state) {
    (void)state;
    assert_int_not_equal(signalled(SIGKILL, true).code, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(sums_are_those_of_the_order_of_ranks),
        T(pictures_are_shared_out),
        T(standard_input_and_a_random_seed_are_shared),
        T(what_is_wrong_everywhere_is_told_once),
        T(what_is_wrong_with_one_is_told_by_it),
        T(what_differs_is_refused),
        T(who_fails_on_the_way_stops_the_others),
        T(another_precision_is_refused),
        T(cancelling),
        T(cancelling_by_the_signal_that_is_passed_on),
        T(cancelling_one_rank),
        T(a_rank_that_is_killed),
    };
    if (skipped_without_mpi(sizeof tests / sizeof *tests)) return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
