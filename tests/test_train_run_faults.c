/* A training run when memory runs out: allocations of every site fail, alone and with all that follow. Each
 * time the run says so, or did without and has the right bytes; nothing stays allocated; and the same run
 * gone on with ends as if nothing had been. */
#include "tests/faults.h"
#include "tests/scratch.h"

#include "ref/train/loop.h"
#include "weights/file.h"

#include <math.h>

/* Nothing here takes the power away, and waiting for the disk thousands of times takes minutes. */
int __wrap_fsync(int fd);
int __wrap_fsync(int fd) { return fd < 0 ? -1 : 0; }

static Pack pack;
static char *result; /* of an undisturbed run: adapter.safetensors [result_size] */
static size_t result_size;

static void run(Error *err, bool resume) {
    char out[384];
    llmdiff_train_options o;
    llmdiff_train_default(&o, sizeof o);
    snprintf(out, sizeof out, "%s", scratch("out"));
    o.train_data_dir = "golden/data/dataset/folder";
    o.output_dir = out;
    o.resolution = 16;
    o.train_batch_size = 1;
    o.gradient_accumulation_steps = 2;
    o.max_train_steps = 2;
    o.checkpointing_steps = 1;
    o.checkpoints_total_limit = 1;
    o.ema_decay = 0.9;
    o.noise_offset = 0.1;
    o.threads = 1;
    o.cache_limit = 1;
    if (resume) o.resume_from_checkpoint = "latest";
    const TrainJob job = {.pack = &pack, .settings = settings_default(), .options = &o};
    *err = (Error){0};
    train(&job, err);
}

static void clean(void) {
    char command[512];
    snprintf(command, sizeof command, "rm -rf '%s'", scratch("out"));
    assert_int_equal(system(command), 0);
}

static bool has_result(void) {
    Error err = {0};
    size_t size;
    char *bytes = file_read(scratch("out/adapter.safetensors"), &size, &err);
    const bool same = bytes && size == result_size && memcmp(bytes, result, size) == 0;
    free(bytes);
    return same;
}

static const char *wrong(const Error *err, const Faults *f) {
    if (f->live) return "something stays allocated";
    if (err->set) return strstr(err->message, "emory") ? NULL : err->message;
    return has_result() ? NULL : "it ended well with other bytes";
}

/* Resumed, or begun anew where there was no checkpoint yet. */
static void go_on(size_t k) {
    Error err;
    run(&err, true);
    if (err.set) fail_msg("allocation %d had failed; gone on with: %s", (int)k, err.message);
    if (!has_result()) fail_msg("allocation %d had failed; the result has other bytes", (int)k);
}

static void every_site(void **state) {
    (void)state;
    Error err;
    clean();
    run(&err, false); /* also OpenBLAS's first time */
    if (err.set) fail_msg("%s", err.message);
    result = file_read(scratch("out/adapter.safetensors"), &result_size, &err);
    assert_non_null(result);
    clean();
    faults_begin(RECORD, 0);
    run(&err, false);
    const Faults all = faults_end();
    assert_false(err.set);
    assert_int_equal(all.live, 0);
    assert_true(has_result());
    uint64_t *site = malloc(all.count * sizeof *site);
    assert_non_null(site);
    for (size_t k = 0; k < all.count; k++) site[k] = faults_site(k + 1);
    int sites = 0, failures = 0;
    for (size_t k = 0; k < all.count; k++) {
        bool seen = false;
        for (size_t i = 0; i < k && !seen; i++) seen = site[i] == site[k];
        sites += !seen;
        for (int mode = 0; !seen && mode < 2; mode++, failures++) {
            clean();
            faults_begin(mode ? FAIL_FROM : FAIL_ONE, k + 1);
            run(&err, false);
            const Faults f = faults_end();
            assert_true(f.failed > 0);
            const char *what = wrong(&err, &f);
            if (what) {
                print_error("allocation %d%s: %s\n", (int)k + 1, mode ? " and all after" : "",
                            what);
                faults_show(f.live ? faults_leaked() : k + 1);
                clean();
                faults_begin(mode ? FAIL_FROM : FAIL_ONE, k + 1);
                run(&err, false);
                faults_end();
                fail_msg("not survived");
            }
            if (failures % 5 == 0) go_on(k + 1);
        }
    }
    print_message("%d allocations at %d sites, %d failures\n", (int)all.count, sites, failures);
    assert_true(sites > 100);
    free(site);
    free(result);
    clean();
}

static int prepare(void **state) {
    Error err = {0};
    faults_init();
    if (scratch_make(state)) return -1;
    const PackPaths paths = {.model = "golden/micro"};
    return pack_open(&pack, &paths, PACK_TRAIN, &err);
}

static int tidy(void **state) {
    pack_close(&pack);
    return scratch_remove(state);
}

int main(void) {
    if (faults_unsupported()) {
        printf("skipped: allocations that fail: %s\n[  SKIPPED ] 1 test(s).\n",
               faults_unsupported());
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_site)};
    return cmocka_run_group_tests_name("a training run without memory", tests, prepare, tidy);
}
