/* What a training run is fed with: which pictures and captions it takes, and that its cache mixes nothing
 * up and doesn't outgrow its limit. */
#include "train_run.h"

#include "ref/image.h"
#include "ref/llm.h"
#include "tokenizer/tokenizer.h"

/* ---- the cache -------------------------------------------------------------------------------------------- */

static void write_picture(const char *name, int64_t width, int64_t height, int factor) {
    uint8_t rgb[4096];
    char file[32];
    Error err = {0};
    assert_true(3 * width * height <= 4096);
    for (int64_t i = 0; i < 3 * width * height; i++)
        rgb[i] = (uint8_t)(i < 1000 ? i % 97 : i * factor % 251);
    snprintf(file, sizeof file, "@/data/%s.png", name);
    if (image_write_png(path(file), rgb, width, height, NULL, &err)) fail_msg("%s", err.message);
    snprintf(file, sizeof file, "@/data/%s.txt", name);
    put_text(file, "a red circle");
}

/* Two pictures of one size that begin alike, and are cut from anywhere. */
static void write_pictures(void) {
    assert_int_equal(mkdir(path("@/data"), 0777), 0);
    write_picture("a", 16, 40, 5);
    write_picture("b", 16, 40, 7);
}

/* A run of eight steps with that choice, with the cache that all share (limit in GB; 0: without). */
static void run_on_pictures(const char *out, const char *choice, bool random_flip, double limit) {
    static char data[128], cache[128];
    llmdiff_error error;
    llmdiff_train_options o = training(out);
    snprintf(data, sizeof data, "%s", path("@/data"));
    snprintf(cache, sizeof cache, "%s", path("@/shared"));
    o.train_data_dir = data;
    o.cache_dir = cache;
    o.cache_limit = limit;
    o.random_flip = random_flip;
    o.train_batch_size = 1;
    o.max_train_steps = 8;
    const llmdiff_options with = {.size = sizeof with,
                                  .model = MICRO,
                                  .use = LLMDIFF_USE_TRAIN,
                                  .set = &choice,
                                  .sets = choice != NULL};
    llmdiff_pack *pack = opened_pack(&with);
    if (llmdiff_train(pack, &o, &error)) fail_msg("%s", error.message);
    llmdiff_close(pack);
}

/* Runs that differ in one thing don't find each other's entries. */
static void the_cache_tells_apart(void **state) {
    (void)state;
    static const struct {
        const char *choice;
        bool random_flip;
    } run[] = {{NULL, false}, {"word_score=false", false}, {"score=difference", true}};
    write_pictures();
    for (int i = 0; i < 3; i++) {
        char with[32], without[32];
        snprintf(with, sizeof with, "@/with%d", i);
        snprintf(without, sizeof without, "@/without%d", i);
        run_on_pictures(with, run[i].choice, run[i].random_flip, 1);
        run_on_pictures(without, run[i].choice, run[i].random_flip, 0);
        assert_same_result(with, without, 8);
    }
}

static int64_t entries(void) {
    char command[160];
    long long n = -1;
    snprintf(command, sizeof command, "find '%s' -name '*.safetensors' | wc -l", path("@/shared"));
    FILE *p = popen(command, "r");
    assert_int_equal(fscanf(p, "%lld", &n), 1);
    pclose(p);
    return n;
}

/* The limit is that of the directory: what an earlier run left there counts. */
static void the_cache_stays_full(void **state) {
    (void)state;
    const double little = 1.5e-6 * sizeof(real);
    write_pictures();
    run_on_pictures("@/first", NULL, false, little);
    const int64_t full = entries();
    assert_true(full >= 1);
    run_on_pictures("@/all", NULL, false, 1);
    const int64_t all = entries();
    assert_true(all > full); /* the limit was met */
    assert_int_equal(system(path("rm -r @/shared @/first")), 0);
    run_on_pictures("@/first", NULL, false, little);
    assert_int_equal(entries(), full);
    run_on_pictures("@/second", "word_score=false", true, little);
    assert_int_equal(entries(), full);
}

/* ---- samples that don't do -------------------------------------------------------------------------------- */

static void threads_of_pixels_are_skipped(void **state) {
    (void)state;
    write_pictures();
    write_picture("long", 2, 128, 5); /* 64 times as long as wide: one too many */
    write_picture("wide", 127, 2, 5);
    run_on_pictures("@/out", NULL, false, 0);
    size_t size;
    char *log = contents("@/out/train.jsonl", &size);
    assert_holds(log,
                 "long.png: a picture of 2 x 128: expected less than 64 times as long as wide");
    assert_null(strstr(log, "wide.png: a picture"));
    free(log);
}

/* A caption may have as many tokens as the LLM has positions, the begin token among them. */
static void captions_fit_the_llm(void **state) {
    (void)state;
    Error err = {0};
    Llm *llm = llm_load(MICRO "/llm", &err);
    Tokenizer *tokenizer = tokenizer_open(MICRO "/llm", &err);
    if (err.set) fail_msg("%s", err.message);
    char *caption = calloc(1, 4 * (size_t)llm->max_positions + 8);
    assert_non_null(caption);
    write_pictures();
    for (int k = 0; k < 2; k++) { /* full, one too many */
        TokenIds ids = {0};
        while ((int64_t)ids.count < llm->max_positions + k) {
            token_ids_free(&ids);
            strcat(caption, " a");
            assert_int_equal(
                tokenizer_encode(tokenizer, caption, strlen(caption), true, &ids, &err), 0);
        }
        assert_int_equal(ids.count, llm->max_positions + k);
        token_ids_free(&ids);
        put_text(k ? "@/data/b.txt" : "@/data/a.txt", caption);
    }
    run_on_pictures("@/out", NULL, false, 0);
    size_t size;
    char *log = contents("@/out/train.jsonl", &size), expected[80];
    snprintf(expected, sizeof expected, "b.png: its caption has %d tokens, the LLM has %d",
             (int)llm->max_positions + 1, (int)llm->max_positions);
    assert_holds(log, expected);
    assert_null(strstr(log, "a.png: its caption"));
    free(log);
    free(caption);
    tokenizer_close(tokenizer);
    llm_free(llm);
}

#define IN_A_DIRECTORY(test)                                                                       \
    cmocka_unit_test_setup_teardown(test, fresh_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_DIRECTORY(the_cache_tells_apart),
        IN_A_DIRECTORY(the_cache_stays_full),
        IN_A_DIRECTORY(threads_of_pixels_are_skipped),
        IN_A_DIRECTORY(captions_fit_the_llm),
    };
    return cmocka_run_group_tests_name("what a training run is fed with", tests, NULL, NULL);
}
