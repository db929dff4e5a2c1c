/* llmdiff train when something comes in between: the process is killed, or asked to end, at random moments; the
 * disk is full; the pictures are gone. Each time what is whole stays whole, and going on ends with the bytes
 * of the run that nothing disturbed. tests/test_train_deaths.c has every system call instead of moments. */
#include "train_run.h"

#include "ref/image.h"

#include <sys/mount.h>
#include <sys/resource.h>

#define STEPS 24
#define STEPS_TEXT "24"
#define KILLS 50
#define SIGNALS 12

/* How it is run; what is NULL is as `usual` has it. */
typedef struct How {
    const char *data, *threads, *keep, *every;
    bool loud;
} How;
static const How usual = {0};

static const char *or_else(const char *given, const char *otherwise) {
    return given ? given : otherwise;
}

static pid_t begin(const char *out, How how) {
    const char *const args[] = {"train",
                                "-m",
                                MICRO,
                                "--train-data-dir",
                                or_else(how.data, PICTURES),
                                "--output-dir",
                                out,
                                "--max-train-steps",
                                STEPS_TEXT,
                                "--train-batch-size",
                                "2",
                                "--checkpointing-steps",
                                or_else(how.every, "1"),
                                "--checkpoints-total-limit",
                                or_else(how.keep, "2"),
                                "--ema-decay",
                                "0.9",
                                "--lr-scheduler",
                                "cosine",
                                "--validation-prompt",
                                "a red circle",
                                "--validation-steps",
                                "12",
                                "-t",
                                or_else(how.threads, "1"),
                                "--resume-from-checkpoint",
                                "latest",
                                how.loud ? NULL : "--quiet",
                                NULL};
    return start("", args);
}

static Result go_on_with(const char *out, const char *data) {
    return finish(begin(out, (How){.data = data}));
}

static Result go_on(const char *out) { return finish(begin(out, usual)); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The undisturbed run, in @/whole; how long it took. */
static double undisturbed(void) {
    const double began = now();
    assert_ok(go_on("@/whole"));
    return now() - began;
}

/* A moment between 0 and `most` seconds. */
static void wait_a_moment(Rng *rng, double most) {
    float moment;
    rng_uniform(rng, 0, 1, &moment, 1);
    const double s = moment * most;
    nanosleep(&(struct timespec){(time_t)s, (long)((s - floor(s)) * 1e9)}, NULL);
}

static void shell(const char *command) {
    if (system(path(command)) != 0) fail_msg("%s", path(command));
}

/* Every checkpoint's checksums are right, and no result is there but the right one. */
static void assert_sound(const char *out) {
    char command[512], file[128];
    snprintf(command, sizeof command,
             "for d in %s/checkpoint-*; do [ ! -d $d ] || "
             "(cd $d && sha256sum --strict --quiet -c SHA256SUMS) || exit 1; done",
             out);
    shell(command);
    snprintf(file, sizeof file, "%s/adapter.safetensors", out);
    if (is_there(file)) assert_true(same_file("@/whole/adapter.safetensors", file));
}

/* The same pixels (a picture's text has the path of the adapter that drew it). */
static void assert_same_picture(const char *out, const char *name) {
    char file[128];
    Error err = {0};
    int64_t w, h, v, g;
    snprintf(file, sizeof file, "@/whole/validation/%s", name);
    uint8_t *a = image_read(path(file), &w, &h, &err);
    snprintf(file, sizeof file, "%s/validation/%s", out, name);
    uint8_t *b = image_read(path(file), &v, &g, &err);
    if (!a || !b) fail_msg("%s", err.message);
    assert_true(w == v && h == g);
    assert_memory_equal(a, b, (size_t)(w * h * 3));
    free(a);
    free(b);
}

/* What `out` ends with is what @/whole has. */
static void assert_as_undisturbed_with(const char *out, const char *data) {
    static const char *const files[] = {"adapter.safetensors", "config.json", "figure6.svg"};
    char command[256];
    LogLines a, b;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char whole[128], other[128];
        snprintf(whole, sizeof whole, "@/whole/%s", files[i]);
        snprintf(other, sizeof other, "%s/%s", out, files[i]);
        if (!same_file(whole, other)) fail_msg("%s differs", other);
    }
    assert_same_picture(out, "step-000012.png");
    assert_same_picture(out, "step-000024.png");
    assert_same_result("@/whole", out, STEPS);
    snprintf(command, sizeof command, "%s/train.jsonl", out);
    read_log("@/whole/train.jsonl", &a);
    read_log(command, &b);
    assert_int_equal(a.steps, STEPS);
    assert_int_equal(b.steps, STEPS);
    for (int i = 0; i < STEPS; i++)
        assert_true(a.loss[i] == b.loss[i] && a.rate[i] == b.rate[i] && a.norm[i] == b.norm[i]);
    assert_sound(out);
    /* the cache, which others may share, knows what is left there by its age */
    snprintf(command, sizeof command,
             "find %s/cache -name '*.tmp' -exec touch -d '2 hours ago' {} +", out);
    shell(command);
    assert_ok(go_on_with(out, data));
    snprintf(command, sizeof command, "test -z \"$(find %s -name '*.tmp' -o -name '*.partial')\"",
             out);
    shell(command);
}

static void assert_as_undisturbed(const char *out) { assert_as_undisturbed_with(out, PICTURES); }

/* ---- kill -9 ------------------------------------------------------------------------------------ */

static void killed_at_any_moment(void **state) {
    (void)state;
    Rng rng = rng_seed(1);
    const double whole = undisturbed();
    int ended = 0, writing = 0;
    for (int kills = 0; kills < KILLS;) {
        const char *threads[] = {"1", "2", "3"};
        const pid_t child = begin("@/out", (How){.threads = threads[kills % 3]});
        wait_a_moment(&rng, whole / 3);
        kill(child, SIGKILL);
        const Result r = finish(child);
        writing += system(path("ls -d @/out/.checkpoint-*.partial >/dev/null 2>&1")) == 0;
        assert_sound("@/out");
        if (r.code == 128 + SIGKILL) {
            kills++;
            continue;
        }
        assert_ok(r);
        assert_as_undisturbed("@/out");
        shell("rm -r @/out");
        ended++;
    }
    assert_ok(go_on("@/out"));
    assert_as_undisturbed("@/out");
    print_message("killed %d times, %d of them within a checkpoint; %d runs to the end\n", KILLS,
                  writing, ended + 1);
}

/* ---- Ctrl-C -------------------------------------------------------------------------------------- */

/* Once it has said a word it listens; a moment later it is asked to end. */
static Result ask_to_end(pid_t child, int number, Rng *rng, double most) {
    char err[16384] = "";
    int status;
    for (int looks = 0; !strchr(err, '\n'); looks++) {
        if (ended(child, &status)) return result_of(status);
        read_captured("err", err, sizeof err);
        if (looks > PATIENCE) fail_msg("printed nothing: %s", err);
    }
    wait_a_moment(rng, most);
    kill(child, number);
    return finish(child);
}

/* Without other checkpoints than the one that is saved then. */
static void asked_to_end(void **state) {
    (void)state;
    Rng rng = rng_seed(2);
    const double whole = undisturbed();
    int asked = 0, over = 0;
    while (asked < SIGNALS) {
        const pid_t child = begin("@/out", (How){.threads = "2", .every = "500", .loud = true});
        const Result r = ask_to_end(child, asked % 2 ? SIGTERM : SIGINT, &rng, whole / 4);
        long long step = 0;
        assert_sound("@/out");
        if (r.code == 0) { /* it was over before */
            assert_as_undisturbed("@/out");
            shell("rm -r @/out");
            assert_true(++over < 100);
            continue;
        }
        assert_int_equal(r.code, 130);
        const char *last = strstr(r.err, "llmdiff: cancelled ");
        assert_non_null(last);
        assert_string_equal(strchr(last, '\n'), "\n"); /* the last line */
        if (sscanf(last, "llmdiff: cancelled after step %lld of " STEPS_TEXT, &step) == 1) {
            char name[64];
            assert_holds(last, "; go on with the same command and --resume-from-checkpoint latest");
            snprintf(name, sizeof name, "@/out/checkpoint-%lld/SHA256SUMS", step);
            assert_true(is_there(name));
            snprintf(name, sizeof name, "@/out/checkpoint-%lld", step + 1);
            assert_false(is_there(name));
        } else {
            assert_string_equal(last, "llmdiff: cancelled before the first step was done: there is "
                                      "nothing to go on from\n");
        }
        asked++;
    }
    assert_ok(go_on("@/out"));
    assert_as_undisturbed("@/out");
    print_message("asked %d times, %d runs were over before\n", SIGNALS, over);
}

/* ---- full disks ---------------------------------------------------------------------------------- */

/* Runs until a checkpoint of that step is there, then asks it to end. */
static void run_up_to(const char *out, int step) {
    char name[64];
    int status;
    const pid_t child = begin(out, usual);
    snprintf(name, sizeof name, "%s/checkpoint-%d", out, step);
    while (!is_there(name))
        if (ended(child, &status)) fail_msg("it ended before step %d", step);
    kill(child, SIGINT);
    assert_int_equal(finish(child).code, 130);
}

/* No file may grow further than this. */
static void no_room_in_a_file(void **state) {
    (void)state;
    undisturbed();
    run_up_to("@/out", 3);
    for (rlim_t size = 1000; size <= 64000; size *= 4) {
        struct rlimit before;
        getrlimit(RLIMIT_FSIZE, &before);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){size, before.rlim_max});
        const pid_t child = begin("@/out", usual);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_error_holds(finish(child), 1, "can't be written: File too large");
        assert_sound("@/out");
        assert_true(is_there("@/out/checkpoint-3") || is_there("@/out/checkpoint-4"));
    }
    assert_ok(go_on("@/out"));
    assert_as_undisturbed("@/out");
}

static int unmount_and_remove(void **state) {
    umount(path("@/disk"));
    return remove_directory(state);
}

/* A file system of its own, where that is allowed (to root, mostly). */
static void no_room_on_the_disk(void **state) {
    (void)state;
    shell("mkdir @/disk");
    if (mount("none", path("@/disk"), "tmpfs", 0, "size=1400k")) {
        print_message("no tmpfs can be mounted here (%s): left to no_room_in_a_file\n",
                      strerror(errno));
        return;
    }
    undisturbed();
    const Result r = finish(begin("@/disk/out", (How){.keep = "100"}));
    const bool some = is_there("@/disk/out/checkpoint-2");
    shell("ls -A @/disk/out >@/names");
    assert_sound("@/disk/out");
    const Result again = finish(begin("@/disk/out", (How){.keep = "100"}));
    assert_sound("@/disk/out");
    if (mount("none", path("@/disk"), "tmpfs", MS_REMOUNT, "size=64m")) fail_msg("can't remount");
    const Result well = finish(begin("@/disk/out", (How){.keep = "100"}));
    shell("cp -r @/disk/out @/out");
    assert_error_holds(r, 1, "can't be written: No space left on device");
    assert_error_holds(again, 1, "No space left on device");
    assert_true(some);
    assert_int_equal(system(path("grep -q partial @/names")) == 0, 0);
    assert_ok(well);
    assert_as_undisturbed("@/out");
}

/* ---- pictures that are gone ------------------------------------------------------------------------ */

static void vanishes(const char *data) {
    char command[256];
    int status;
    snprintf(command, sizeof command, "cp -r %s @/data", data);
    shell(command);
    assert_ok(go_on_with("@/whole", data));
    const pid_t child = begin("@/out", (How){.data = "@/data"});
    while (!is_there("@/out/checkpoint-5"))
        if (ended(child, &status)) fail_msg("it ended before step 5");
    shell("mv @/data @/gone");
    for (int looks = 0; !ended(child, &status); looks++)
        if (looks > PATIENCE) {
            kill(child, SIGKILL);
            finish(child);
            fail_msg("goes on without its pictures");
        }
    const Result r = result_of(status);
    assert_error_holds(r, 1, "@/data");
    assert_sound("@/out");
    assert_error_holds(go_on_with("@/out", "@/data"), 1, "@/data");
    shell("mv @/gone @/data");
    assert_ok(go_on_with("@/out", "@/data"));
    assert_as_undisturbed_with("@/out", "@/data");
}

static void pictures_vanish(void **state) {
    (void)state;
    vanishes(PICTURES);
}

static void shards_vanish(void **state) {
    (void)state;
    vanishes("golden/data/dataset/shards");
}

int main(void) {
#define IN_A_DIRECTORY(test)                                                                       \
    cmocka_unit_test_setup_teardown(test, fresh_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        IN_A_DIRECTORY(killed_at_any_moment),
        IN_A_DIRECTORY(asked_to_end),
        IN_A_DIRECTORY(no_room_in_a_file),
        cmocka_unit_test_setup_teardown(no_room_on_the_disk, fresh_directory, unmount_and_remove),
        IN_A_DIRECTORY(pictures_vanish),
        IN_A_DIRECTORY(shards_vanish),
    };
    return cmocka_run_group_tests_name("a training run that is disturbed", tests, NULL, NULL);
}
