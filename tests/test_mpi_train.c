/* Training by several processes: mpirun -np N llmdiff train. By make test-mpi, or make MPI=1 test. */
#include "mpi_run.h"

#include "weights/json.h"
#include "weights/safetensors.h"

#include <math.h>
#include <sys/stat.h>

#define PICTURES "golden/data/dataset/folder"
#define SHARDS "golden/data/dataset/shards"

/* `np` ranks x `batch` pictures x `accumulate`, with every random draw there is, into @/<out>. */
#define TRAIN(np, batch, accumulate, data, steps, out)                                             \
    "-np", np, MPI_PROGRAM, "train", "-m", MICRO, "--train-data-dir", data, "--train-batch-size",  \
        batch, "--gradient-accumulation-steps", accumulate, "--max-train-steps", steps,            \
        "--output-dir", "@/" out, "--random-flip", "--caption-dropout", "0.3", "--noise-offset",   \
        "0.1", "--learning-rate", "1e-2", "--lr-warmup-steps", "2", "--quiet", "-t", "1"

/* ---- one result, however the pictures are shared out ------------------------------------------------------- */

static Safetensors *opened(const char *name) {
    Error err = {0};
    Safetensors *s = safetensors_open(path(name), &err);
    if (!s) fail_msg("%s", err.message);
    return s;
}

/* Every tensor of a file, to `most` of its largest number. */
static void assert_close(const char *a, const char *b, double most) {
    Safetensors *x = opened(a), *y = opened(b);
    Error err = {0};
    assert_int_equal(safetensors_count(x), safetensors_count(y));
    for (size_t i = 0; i < safetensors_count(x); i++) {
        const StoredTensor *t = safetensors_at(x, i), *u = safetensors_find(y, t->name);
        assert_non_null(u);
        assert_int_equal(t->bytes, u->bytes);
        const size_t n = t->bytes / sizeof(real);
        double *p = malloc((n + 1) * sizeof *p), *q = malloc((n + 1) * sizeof *q);
        double largest = 0, error = 0;
        assert_int_equal(stored_to_double(t, p, &err), 0);
        assert_int_equal(stored_to_double(u, q, &err), 0);
        for (size_t k = 0; k < n; k++) {
            assert_true(isfinite(p[k]) && isfinite(q[k]));
            largest = fmax(largest, fabs(p[k]));
            error = fmax(error, fabs(p[k] - q[k]));
        }
        if (!(error <= most * largest))
            fail_msg("%s: %s is off by %g of its largest", b, t->name, error / largest);
        free(p);
        free(q);
    }
    safetensors_close(x);
    safetensors_close(y);
}

/* Loss and gradient's norm of each step; how many lines. AdamW's result doesn't show a gradient's scale. */
static int read_steps(const char *name, double numbers[][2], int most) {
    size_t size;
    int lines = 0;
    char *text = contents(name, &size);
    for (char *line = text, *end; *line; line = end + 1) {
        Error err = {0};
        end = strchr(line, '\n');
        cJSON *json = json_parse_object(line, (size_t)(end - line), name, &err);
        assert_non_null(json);
        const cJSON *loss = cJSON_GetObjectItem(json, "loss");
        if (loss) {
            assert_true(lines < most);
            numbers[lines][0] = loss->valuedouble;
            numbers[lines++][1] = cJSON_GetObjectItem(json, "grad_norm")->valuedouble;
        }
        cJSON_Delete(json);
    }
    free(text);
    return lines;
}

static void assert_same_steps(const char *a, const char *b, int steps, double most) {
    double x[64][2], y[64][2];
    assert_int_equal(read_steps(a, x, 64), steps);
    assert_int_equal(read_steps(b, y, 64), steps);
    const int compared = sizeof(real) == 8 ? steps : 1;
    for (int i = 0; i < compared; i++)
        for (int k = 0; k < 2; k++)
            if (!(fabs(x[i][k] - y[i][k]) <= most * x[i][k]))
                fail_msg("%s: step %d: %s %.17g, expected %.17g", b, i + 1, k ? "norm" : "loss",
                         y[i][k], x[i][k]);
}

/* In float a sum's rounding grows from step to step: there only the first step says something. */
static const double exact = sizeof(real) == 8 ? 1e-12 : 1e-5;

static void assert_same_run(const char *a, const char *b, int steps) {
    char x[64], y[64];
    snprintf(x, sizeof x, "@/%s/train.jsonl", a);
    snprintf(y, sizeof y, "@/%s/train.jsonl", b);
    assert_same_steps(x, y, steps, exact);
    if (sizeof(real) == 4) return;
    snprintf(x, sizeof x, "@/%s/adapter.safetensors", a);
    snprintf(y, sizeof y, "@/%s/adapter.safetensors", b);
    assert_close(x, y, exact);
    snprintf(x, sizeof x, "@/%s/checkpoint-%d/state.safetensors", a, steps);
    snprintf(y, sizeof y, "@/%s/checkpoint-%d/state.safetensors", b, steps);
    assert_close(x, y, exact);
}

static void ranks_and_batch_make_no_difference(void **state) {
    (void)state;
    assert_ok(RUN(TRAIN("1", "4", "1", PICTURES, "6", "one")));
    assert_ok(RUN(TRAIN("2", "2", "1", PICTURES, "6", "two")));
    assert_ok(RUN(TRAIN("4", "1", "1", PICTURES, "6", "four")));
    assert_ok(RUN(TRAIN("2", "1", "2", PICTURES, "6", "accumulated")));
    assert_same_run("one", "two", 6);
    assert_same_run("one", "four", 6);
    assert_same_run("one", "accumulated", 6);
    /* from shards, by ranks that share nothing evenly, with an average of the parameters */
    assert_ok(RUN(TRAIN("1", "6", "1", SHARDS, "4", "shards"), "--ema-decay", "0.9"));
    assert_ok(RUN(TRAIN("3", "2", "1", SHARDS, "4", "shards3"), "--ema-decay", "0.9"));
    assert_same_run("shards", "shards3", 4);
}

static bool same_in(const char *a, const char *b, const char *name) {
    char x[96], y[96];
    snprintf(x, sizeof x, "@/%s/%s", a, name);
    snprintf(y, sizeof y, "@/%s/%s", b, name);
    return same_file(x, y);
}

/* Names below OUT, the cache's entries included. */
static void listing(const char *out, char *text, size_t size) {
    char command[256];
    snprintf(command, sizeof command, "cd %s/%s && find . | sort", work, out);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    text[fread(text, 1, size - 1, p)] = '\0';
    pclose(p);
}

static void the_same_ranks_give_the_same_bytes(void **state) {
    (void)state;
    static char a[32768], b[32768];
    Result r = RUN(TRAIN("3", "1", "2", PICTURES, "5", "a"), "--checkpointing-steps", "2",
                   "--validation-prompt", "a", "--validation-steps", "3");
    assert_ok(r);
    assert_int_equal(strncmp(r.out, "@/a: 5 steps", 12), 0);
    assert_string_equal(strchr(r.out, '\n'), "\n"); /* said by one */
    char first[96]; /* a picture's text has the adapter's path: the same one both times */
    snprintf(first, sizeof first, "%s", path("@/a"));
    assert_int_equal(rename(first, path("@/b")), 0);
    assert_ok(RUN(TRAIN("3", "1", "2", PICTURES, "5", "a"), "--checkpointing-steps", "2",
                  "--validation-prompt", "a", "--validation-steps", "3"));
    static const char *const names[] = {"adapter.safetensors",
                                        "config.json",
                                        "figure6.svg",
                                        "validation/step-000003.png",
                                        "validation/step-000005.png",
                                        "checkpoint-2/adapter.safetensors",
                                        "checkpoint-4/adapter.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_true(same_in("a", "b", names[i]));
    /* and what one process leaves, no more and no less */
    assert_ok(RUN(TRAIN("1", "6", "1", PICTURES, "5", "c"), "--checkpointing-steps", "2",
                  "--validation-prompt", "a", "--validation-steps", "3"));
    listing("a", a, sizeof a);
    listing("c", b, sizeof b);
    assert_string_equal(a, b);
}

static void another_number_of_ranks_goes_on(void **state) {
    (void)state;
    assert_ok(RUN(TRAIN("1", "6", "1", PICTURES, "6", "whole")));
    assert_ok(RUN(TRAIN("2", "3", "1", PICTURES, "2", "parts")));
    assert_ok(
        RUN(TRAIN("3", "2", "1", PICTURES, "4", "parts"), "--resume-from-checkpoint", "latest"));
    assert_ok(
        RUN(TRAIN("1", "3", "2", PICTURES, "6", "parts"), "--resume-from-checkpoint", "latest"));
    assert_same_run("whole", "parts", 6);
    assert_ok(RUN(TRAIN("2", "3", "1", PICTURES, "6", "parts"), "--resume-from-checkpoint",
                  "latest")); /* nothing left to do */
}

/* ---- what goes wrong -------------------------------------------------------------------------------------------- */

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++) n++;
    return n;
}

static void broken_samples_are_told_once(void **state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "cp -r %s %s/set && echo x >%s/set/2.png", PICTURES, work,
             work);
    assert_int_equal(system(command), 0);
    assert_ok(RUN(TRAIN("1", "4", "1", "@/set", "5", "one")));
    /* without --quiet, which stands in TRAIN */
    Result r = RUN("-np", "2", MPI_PROGRAM, "train", "-m", MICRO, "--train-data-dir", "@/set",
                   "--train-batch-size", "2", "--max-train-steps", "5", "--output-dir", "@/two",
                   "--random-flip", "--caption-dropout", "0.3", "--noise-offset", "0.1",
                   "--learning-rate", "1e-2", "--lr-warmup-steps", "2");
    assert_int_equal(r.code, 0);
    assert_int_equal(count(r.err, "2.png"), 1);
    assert_int_equal(count(r.err, "checkpoint-5 written"), 1);
    assert_same_run("one", "two", 5);
    r = RUN(TRAIN("3", "1", "1", "@/set", "5", "none"), "--max-bad-samples", "0");
    assert_error_holds(r, 1, "2.png");
}

static void what_is_wrong_is_told_once(void **state) {
    (void)state;
    assert_error_holds(RUN(TRAIN("3", "1", "1", "@/nowhere", "5", "a")), 1, "llmdiff: @/nowhere: ");
    assert_error_holds(RUN(TRAIN("3", "1", "1", PICTURES, "5", "a"), "--snr-gamma", "-1"), 2,
                       "--snr-gamma: expected ");
    put_text("@/no", "");
    assert_error_holds(RUN(TRAIN("3", "1", "1", PICTURES, "5", "no/a")), 1,
                       "llmdiff: --output-dir @/no/a: can't be created");
    assert_directory("no ");
    assert_ok(RUN(TRAIN("2", "1", "1", PICTURES, "2", "a")));
    assert_error_holds(RUN(TRAIN("2", "1", "1", PICTURES, "2", "a")), 1,
                       "checkpoint-2: is there already; not overwritten");
}

/* On the second of two machines. */
#define SECOND                                                                                     \
    ":", "-np", "1", MPI_PROGRAM, "train", "-m", MICRO, "--max-train-steps", "3", "-t", "1"
#define FIRST(out)                                                                                 \
    "-np", "1", MPI_PROGRAM, "train", "-m", MICRO, "--max-train-steps", "3", "-t", "1", "--quiet", \
        "--train-data-dir", PICTURES, "--output-dir", out

static void what_is_wrong_with_one_is_told_by_it(void **state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "cp -r %s/vae %s/vae && echo >>%s/vae/config.json", MICRO,
             work, work);
    assert_int_equal(system(command), 0);
    Result r = RUN(FIRST("@/a"), SECOND, "--output-dir", "@/a", "--train-data-dir", "@/nowhere");
    assert_error_holds(r, 1, "llmdiff: rank 1 on ");
    assert_holds(r.err, ": @/nowhere: ");
    assert_error(RUN(FIRST("@/a"), SECOND, "--output-dir", "@/a", "--train-data-dir", SHARDS), 1,
                 "the data set: expected the same on all processes");
    r = RUN(FIRST("@/a"), SECOND, "--output-dir", "@/a", "--train-data-dir", PICTURES,
            "--resolution", "15");
    assert_error_holds(r, 2, "llmdiff: rank 1 on ");
    assert_holds(r.err, ": --resolution: expected a positive multiple of 2");
    r = RUN(FIRST("@/a"), SECOND, "--output-dir", "@/a", "--seeed", "1");
    assert_error_holds(r, 2, "llmdiff: rank 1 on ");
    assert_holds(r.err, ": train: unknown flag --seeed");
    assert_error(RUN(FIRST("@/b"), SECOND, "--output-dir", "@/b", "--train-data-dir", PICTURES,
                     "--learning-rate", "1"),
                 1, "the options: expected the same on all processes");
    assert_error(RUN(FIRST("@/c"), SECOND, "--output-dir", "@/c", "--train-data-dir", PICTURES,
                     "--vae", "@/vae"),
                 1, "the pack: expected the same on all processes");
    assert_error(RUN(FIRST("@/d"), SECOND, "--output-dir", "@/d", "--train-data-dir", PICTURES,
                     "--adapter", MICRO "/adapter"),
                 1, "--adapter and --resume-from-checkpoint: expected the same on all processes");
    r = RUN("-np", "1", MPI_PROGRAM, "generate", "-p", "a", "-o", "@/a.png", SECOND, "--output-dir",
            "@/e", "--train-data-dir", PICTURES);
    assert_error_holds(r, 2, "llmdiff: rank 1 on ");
    assert_holds(r.err, ": mpirun: expected one command for all processes, found several");
}

/* ---- ends that nobody chose --------------------------------------------------------------------------------------- */

/* Two ranks on a run of 40 steps; when checkpoint-4 is there the signal goes to mpirun or to a rank. */
static Result signalled(const char *out, int number, int to_rank) {
    char checkpoint[64];
    const char *const train[] = {TRAIN("2", "2", "1", PICTURES, "40", "undisturbed"),
                                 "--checkpointing-steps", "4", NULL};
    const char *args[48];
    size_t n = 0;
    for (; train[n]; n++) args[n] = strcmp(train[n], "@/undisturbed") == 0 ? out : train[n];
    args[n] = NULL;
    pid_t rank[2] = {0}, run = start("", args);
    int status;
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint-4", out);
    for (int looks = 0; access(path(checkpoint), F_OK); looks++)
        if (looks > PATIENCE || ended(run, &status)) fail_msg("there is no checkpoint");
    assert_int_equal(children(run, rank, 2), 2);
    if (rank[0] > rank[1]) rank[0] ^= rank[1], rank[1] ^= rank[0], rank[0] ^= rank[1];
    kill(to_rank < 0 ? run : rank[to_rank], number);
    Result r = must_end(run);
    for (int i = 0; i < 2; i++) assert_true(gone(rank[i]));
    assert_int_not_equal(r.code, 0);
    return r;
}

static void must_go_on_to_the_same_bytes(const char *out) {
    char adapter[96];
    const char *const train[] = {TRAIN("2", "2", "1", PICTURES, "40", "undisturbed"),
                                 "--checkpointing-steps",
                                 "4",
                                 "--resume-from-checkpoint",
                                 "latest",
                                 NULL};
    const char *args[48];
    size_t n = 0;
    for (; train[n]; n++) args[n] = strcmp(train[n], "@/undisturbed") == 0 ? out : train[n];
    args[n] = NULL;
    assert_ok(run("", args));
    snprintf(adapter, sizeof adapter, "%s/adapter.safetensors", out);
    assert_true(same_file(adapter, "@/undisturbed/adapter.safetensors"));
}

static void ends_that_nobody_chose(void **state) {
    (void)state;
    assert_ok(RUN(TRAIN("2", "2", "1", PICTURES, "40", "undisturbed")));
    signalled("@/rank0", SIGKILL, 0);
    must_go_on_to_the_same_bytes("@/rank0");
    signalled("@/rank1", SIGKILL, 1);
    must_go_on_to_the_same_bytes("@/rank1");
    /* saved: by the signal that mpirun passes on, and by Ctrl-C to one of the ranks */
    static const char says[] = "go on with the same command and --resume-from-checkpoint latest";
    Result r = signalled("@/passed", SIGUSR1, -1);
    assert_error_holds(r, 130, "llmdiff: cancelled after step ");
    assert_holds(r.err, says);
    must_go_on_to_the_same_bytes("@/passed");
    r = signalled("@/one", SIGINT, 1);
    assert_error_holds(r, 130, says);
    must_go_on_to_the_same_bytes("@/one");
    /* Ctrl-C to mpirun, which gives one second and may pass no line on any more */
    signalled("@/all", SIGINT, -1);
    must_go_on_to_the_same_bytes("@/all");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(ranks_and_batch_make_no_difference),
        T(the_same_ranks_give_the_same_bytes),
        T(another_number_of_ranks_goes_on),
        T(broken_samples_are_told_once),
        T(what_is_wrong_is_told_once),
        T(what_is_wrong_with_one_is_told_by_it),
        T(ends_that_nobody_chose),
    };
    if (skipped_without_mpi(sizeof tests / sizeof *tests)) return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
