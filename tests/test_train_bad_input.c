/* llmdiff train on what it can't work with: one line that says what and where, nothing overwritten; and ended
 * from outside. */
#include "train_run.h"

#define TRAIN(...)                                                                                 \
    RUN("train", "-m", MICRO, "--output-dir", "@/out", "--train-batch-size", "2", "-t", "1",       \
        "--max-train-steps", "2", __VA_ARGS__)
#define TRAIN_ON(...) TRAIN("--train-data-dir", PICTURES, __VA_ARGS__)

/* And nothing was begun. */
static void refused(Result r, int code, const char *part) {
    assert_error_holds(r, code, part);
    if (is_there("@/out")) fail_msg("%s: and yet there is an output", part);
}

static void shell(const char *command) {
    char text[2048];
    replace_all(text, sizeof text, command, "@", work);
    if (system(text)) fail_msg("%s", text);
}

static void prints_what_it_made(void **state) {
    (void)state;
    Result r = TRAIN_ON("--quiet");
    assert_int_equal(r.code, 0);
    assert_string_equal(r.err, "");
    assert_holds(r.out, "@/out: 2 steps, smoothed loss ");
    assert_int_equal(TRAIN_ON("--quiet", "--output-dir", "@/a/b//c").code, 0);
    assert_true(is_there("@/a/b/c/adapter.safetensors"));
    r = TRAIN_ON("--resume-from-checkpoint", "latest", "--max-train-steps", "3");
    assert_int_equal(r.code, 0);
    assert_holds(r.err, "llmdiff: --max-train-steps: was 2 up to step 2, is now 3\n");
    assert_holds(r.err, "llmdiff: going on from checkpoint-2, step 2 of 3\n");
    assert_holds(r.err, "llmdiff: checkpoint-3 written\n");
    assert_holds(r.out, "@/out: 3 steps, ");
}

static void readme_has_the_help(void **state) {
    (void)state;
    Error err = {0};
    size_t size;
    Result r = RUN("help", "train");
    char block[2 * sizeof r.out] = "", *readme = file_read("README.md", &size, &err);
    assert_non_null(readme);
    size_t used = 0;
    for (const char *p = r.out, *end; *p && (end = strchr(p, '\n')); p = end + 1)
        used += (size_t)snprintf(block + used, sizeof block - used, "%s%.*s\n",
                                 end > p ? "    " : "", (int)(end - p), p);
    assert_true(used > 1000);
    if (!strstr(readme, block)) fail_msg("README.md has another \"llmdiff help train\"");
    free(readme);
}

static void what_is_asked_for(void **state) {
    (void)state;
    refused(TRAIN("--quiet"), 2, "no data set: give a directory with --train-data-dir");
    refused(RUN("train", "-m", MICRO, "--train-data-dir", PICTURES), 2,
            "no output: say with --output-dir where the adapter goes");
    refused(RUN("train", "--output-dir", "@/out", "--train-data-dir", PICTURES), 2,
            "no model: give a pack with -m");
    refused(TRAIN_ON("--resolution", "17"), 2,
            "--resolution: expected a positive multiple of 2, the VAE's factor, found 17");
    refused(TRAIN_ON("--train-batch-size", "0"), 2, "--train-batch-size: expected 1 to 1048576");
    refused(TRAIN_ON("--max-train-steps", "0"), 2, "--max-train-steps: expected 1 or more");
    refused(TRAIN_ON("--learning-rate", "-1"), 2, "--learning-rate: expected 0 to ");
    refused(TRAIN_ON("--learning-rate", "nan"), 2, "--learning-rate: expected a number");
    refused(TRAIN_ON("--scalar-lr-scale", "-1"), 2, "--scalar-lr-scale: expected 0 to ");
    refused(TRAIN_ON("--added-start", "2"), 2, "--added-start: expected 0 to 1");
    refused(TRAIN_ON("--adam-beta1", "1"), 2, "--adam-beta1: expected 0 to less than 1, found 1");
    refused(TRAIN_ON("--adam-beta2", "1"), 2, "--adam-beta2: expected 0 to less than 1, found 1");
    refused(TRAIN_ON("--ema-decay", "1"), 2, "--ema-decay: expected 0 to less than 1, found 1");
    refused(TRAIN_ON("--max-grad-norm", "0"), 2, "--max-grad-norm: expected more than 0, found 0");
    refused(TRAIN_ON("--caption-dropout", "1.5"), 2, "--caption-dropout: expected 0 to 1");
    refused(TRAIN_ON("--seed", "-1"), 2, "--seed: expected 0 to ");
    refused(TRAIN_ON("--lr-scheduler", "polynomial"), 2,
            "--lr-scheduler: expected constant, linear or cosine, found \"polynomial\"");
    refused(TRAIN_ON("--train-only", "xyz"), 1, "--train-only xyz: matches no parameter");
    refused(TRAIN_ON("--train-only", "("), 1, "--train-only (: not a regular expression");
    refused(TRAIN_ON("--set", "foo=1"), 2, "--set foo: no such key");
    refused(TRAIN_ON("--trace", "@/t.npz"), 2,
            "--trace: expected a name that ends in .safetensors");
    refused(TRAIN_ON("--trace-only", "^g"), 2, "--trace-only: expected a trace to choose for");
    refused(TRAIN_ON("--trace", "@/t.safetensors", "--trace-only", "("), 2, "--trace-only: ");
    refused(TRAIN_ON("--trace", "@/no/t.safetensors"), 1, "can't be created");
    refused(TRAIN_ON("--trace", MICRO "/unet/diffusion_pytorch_model.safetensors"), 2,
            "--trace: " MICRO
            "/unet/diffusion_pytorch_model.safetensors is the unet's: it would be "
            "overwritten");
    char prompt[2048];
    for (size_t i = 0; i < sizeof prompt - 1; i++) prompt[i] = i % 2 ? ' ' : 'x';
    prompt[sizeof prompt - 1] = '\0';
    refused(TRAIN_ON("--validation-prompt", prompt), 2,
            "--validation-prompt: expected at most 128 tokens, the LLM's positions, found ");
    refused(
        TRAIN_ON("--resume-from-checkpoint", "checkpoint-7"), 1,
        "--resume-from-checkpoint: expected \"latest\" or a checkpoint's directory, found nothing "
        "at checkpoint-7");
    refused(TRAIN_ON("--cache-dir", "@/no/cache"), 1, "--cache-dir @/no/cache: can't be created");
    refused(TRAIN_ON("--adam-epsilon", "0"), 2, "--adam-epsilon: expected 1e-30 to ");
    put_text("@/file", "");
    refused(TRAIN_ON("--cache-dir", "@/file"), 1,
            "--cache-dir @/file: can't be created: it is a file");
    refused(TRAIN_ON("--output-dir", "@/file/out"), 1,
            "--output-dir @/file/out: can't be created: Not a directory");
    refused(TRAIN_ON("--output-dir", "@/file"), 1,
            "--output-dir @/file: can't be created: it is a file");
}

static void packs_that_do_not_do(void **state) {
    (void)state;
    shell("cp -r " MICRO " @/p && rm -r @/p/vae @/p/adapter");
    refused(RUN("train", "-m", "@/p", "--train-data-dir", PICTURES, "--output-dir", "@/out"), 1,
            "@/p/vae: expected a directory with the vae, found nothing");
    shell("cp -r " MICRO "/vae @/p && sed -i s/epsilon/sample/ @/p/scheduler/*.json");
    refused(RUN("train", "-m", "@/p", "--train-data-dir", PICTURES, "--output-dir", "@/out"), 1,
            "prediction_type: expected \"epsilon\" or \"v_prediction\"");
    shell("sed -i s/sample\\\"/v_prediction\\\"/ @/p/scheduler/*.json");
    assert_int_equal(RUN("train", "-m", "@/p", "--train-data-dir", PICTURES, "--output-dir",
                         "@/out", "--max-train-steps", "1", "--train-batch-size", "1")
                         .code,
                     0);
    shell("rm -r @/out");
    refused(TRAIN_ON("--adapter", "@/p"), 1, "@/p/config.json");
}

static void data_sets_that_are_none(void **state) {
    (void)state;
    shell("cp -r " PICTURES " @/data");
    assert_error_holds(TRAIN("--train-data-dir", "@/data", "--output-dir", "@/data/out"), 1,
                       "--output-dir @/data/out: is in the data set @/data");
    assert_false(is_there("@/data/out"));
    shell("mkdir @/empty @/bare @/gone && cp " PICTURES "/0.png @/bare && cp " PICTURES
          "/0.png @/gone");
    refused(TRAIN("--train-data-dir", "@/none"), 1, "@/none: can't be opened");
    refused(TRAIN("--train-data-dir", "@/empty"), 1, "@/empty: no data set");
    refused(TRAIN("--train-data-dir", "@/bare"), 1, "@/bare: no captions");
    put_text("@/gone/metadata.jsonl", "{\"file_name\": \"1.png\", \"text\": \"a\"}\n"
                                      "{\"file_name\": \"2.png\", \"text\": \"b\"}\n");
    Result r = TRAIN("--train-data-dir", "@/gone", "--quiet");
    assert_error_holds(r, 1, "@/gone: all 2 samples are broken; the last: @/gone/");
}

/* A file that isn't there, a caption longer than the LLM's positions, a picture all but a line. */
static void samples_that_are_broken(void **state) {
    (void)state;
    char caption[4096], text[8192];
    for (size_t i = 0; i < sizeof caption - 1; i++) caption[i] = i % 2 ? ' ' : 'x';
    caption[sizeof caption - 1] = '\0';
    shell("mkdir @/set && cp " PICTURES "/0.png @/set");
    snprintf(text, sizeof text,
             "{\"file_name\": \"0.png\", \"text\": \"a\"}\n"
             "{\"file_name\": \"1.png\", \"text\": \"b\"}\n"
             "{\"file_name\": \"0.png\", \"text\": \"%s\"}\n",
             caption);
    put_text("@/set/metadata.jsonl", text);
    Result r = TRAIN("--train-data-dir", "@/set", "--max-bad-samples", "2");
    assert_int_equal(r.code, 0);
    assert_holds(r.err, "skipped: 0.png: its caption has ");
    assert_holds(r.err, " tokens, the LLM has 128 positions\n");
    assert_holds(r.err, "skipped: @/set/1.png: can't be opened");
    assert_holds(r.err, "llmdiff: broken sample 2, ");
    assert_holds(r.err,
                 "llmdiff: warning: 0.png has 12 x 10 pixels, less than the resolution 16: such "
                 "pictures are enlarged\n");
    assert_null(strstr(strstr(r.err, "enlarged") + 8, "enlarged"));
    LogLines l;
    int bad = 0;
    read_log("@/out/train.jsonl", &l);
    for (int i = 0; i < l.events; i++) bad += strcmp(l.event[i], "bad_sample") == 0;
    assert_int_equal(bad, 2);
    r = TRAIN("--train-data-dir", "@/set", "--max-bad-samples", "1", "--output-dir", "@/o2",
              "--max-train-steps", "9", "--quiet");
    assert_error_holds(r, 1, "@/set: 2 broken samples, of which 1 are allowed");
}

/* The run ends, and says where; checkpoints of before stay as they are. */
static void numbers_that_are_none(void **state) {
    (void)state;
    Result r = TRAIN_ON("--learning-rate", "1e6", "--max-train-steps", "50", "--quiet",
                        "--checkpointing-steps", "1");
    assert_error_holds(r, 1, "step ");
    assert_holds(r.err, "a value is not finite");
    assert_false(is_there("@/out/adapter.safetensors"));
    LogLines l;
    read_log("@/out/train.jsonl", &l);
    char last[64], none[64];
    snprintf(last, sizeof last, "@/out/checkpoint-%d", (int)l.steps);
    snprintf(none, sizeof none, "@/out/checkpoint-%d", (int)l.steps + 1);
    assert_true(l.steps >= 1 && is_there(last) && !is_there(none));
}

static void outputs_that_are_taken(void **state) {
    (void)state;
    assert_int_equal(TRAIN_ON("--quiet").code, 0);
    shell("cp -r @/out @/before");
    assert_error_holds(TRAIN_ON("--quiet"), 1,
                       "@/out/checkpoint-2: is there already; not overwritten: go on with "
                       "--resume-from-checkpoint latest, or give another --output-dir");
    shell("diff -r @/out @/before");
    static const char *const names[] = {"adapter.safetensors", "config.json", "figure6.svg",
                                        "train.jsonl", "validation"};
    for (int i = 0; i < 5; i++) {
        char name[64], said[128];
        shell("rm -rf @/out && mkdir @/out");
        snprintf(name, sizeof name, "@/out/%s", names[i]);
        snprintf(said, sizeof said, "@/out/%s: is there already; not overwritten", names[i]);
        put_text(name, "mine");
        assert_error_holds(TRAIN_ON("--quiet"), 1, said);
        /* an attempt's own log is none that counts; a result that nothing explains is */
        Result r = TRAIN_ON("--quiet", "--resume-from-checkpoint", "latest");
        if (i < 3)
            assert_error_holds(r, 1, said);
        else
            assert_int_equal(r.code, i == 3 ? 0 : r.code);
        size_t size;
        char *mine = i < 3 ? contents(name, &size) : NULL;
        if (mine) assert_int_equal(mine[0], 'm');
        free(mine);
    }
    /* the pack itself is such a place */
    assert_error_holds(TRAIN_ON("--output-dir", MICRO "/adapter"), 1,
                       MICRO "/adapter/adapter.safetensors: is there already");
}

/* What a resumed run must not change, and what it may. */
static void runs_that_do_not_go_on(void **state) {
    (void)state;
    assert_int_equal(TRAIN_ON("--quiet").code, 0);
    shell("cp -r @/out @/before; mkdir @/other && cp " PICTURES
          "/0.png @/other && echo a >@/other/0.txt");
    static const char *const changed[][3] = {
        {"--seed", "43", "--seed: "},
        {"--resolution", "32", "--resolution: "},
        {"--train-only", "phi", "--train-only: "},
        {"--ema-decay", "0.9", "--ema-decay: "},
        {"--set", "noise=false", "--set noise: expected true, as it was trained with, found false"},
        {"--adapter", MICRO "/adapter", "--adapter: expected "},
        {"--train-data-dir", "@/other", "not the data set"},
        {"--unet", "golden/data/unet_linear_projection", ""},
    };
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        Result r = TRAIN_ON("--quiet", "--resume-from-checkpoint", "latest", "--max-train-steps",
                            "3", changed[i][0], changed[i][1]);
        assert_error_holds(r, 1, changed[i][2]);
        shell("diff -r @/out @/before");
    }
    Result r = TRAIN_ON("--resume-from-checkpoint", "latest", "--max-train-steps", "3",
                        "--learning-rate", "1e-5", "--train-batch-size", "1");
    assert_int_equal(r.code, 0);
    assert_holds(r.err, "--learning-rate: was 0.0001 up to step 2, is now 1e-05\n");
    assert_holds(r.err, "--train-batch-size: was 2 up to step 2, is now 1\n");
    assert_error_holds(TRAIN_ON("--resume-from-checkpoint", "checkpoint-2", "--quiet"), 1,
                       "checkpoint-2");
}

static void ctrl_c_saves(void **state) {
    (void)state;
    static const char *const args[] = {"train",   "-m",
                                       MICRO,     "--output-dir",
                                       "@/out",   "--train-data-dir",
                                       PICTURES,  "--max-train-steps",
                                       "1000000", "-t",
                                       "1",       "--train-batch-size",
                                       "1",       "--checkpointing-steps",
                                       "1000000", NULL};
    static const int numbers[] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) { /* the first line is the warning of small pictures */
        shell("rm -rf @/out");
        Result r = interrupt(start("", args), numbers[i]);
        assert_int_equal(r.code, 130);
        assert_holds(r.err, "llmdiff: cancelled ");
        if (!strstr(r.err, "before the first step")) {
            assert_holds(r.err, " of 1000000; go on with the same command and "
                                "--resume-from-checkpoint latest\n");
            LogLines l;
            read_log("@/out/train.jsonl", &l);
            char name[64], steps[32];
            snprintf(name, sizeof name, "@/out/checkpoint-%d", (int)l.steps);
            assert_true(is_there(name));
            snprintf(steps, sizeof steps, "%d", (int)l.steps + 1);
            r = RUN("train", "-m", MICRO, "--output-dir", "@/out", "--train-data-dir", PICTURES,
                    "--train-batch-size", "1", "--max-train-steps", steps,
                    "--resume-from-checkpoint", "latest");
            assert_int_equal(r.code, 0);
        }
        assert_true(is_there("@/out/train.jsonl"));
    }
}

/* A second run into the same directory would mix with the first. */
static void one_run_at_a_time(void **state) {
    (void)state;
    static const char *const args[] = {"train",   "-m",
                                       MICRO,     "--output-dir",
                                       "@/out",   "--train-data-dir",
                                       PICTURES,  "--max-train-steps",
                                       "1000000", "-t",
                                       "1",       NULL};
    char first[64];
    pid_t child = start("", args);
    for (int i = 0; i < 600 && !is_there("@/out/train.jsonl"); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    strcpy(first, capture); /* what it printed is not looked at */
    shell("mkdir @/printed");
    strcpy(capture, path("@/printed"));
    Result r = TRAIN_ON("--quiet", "--resume-from-checkpoint", "latest");
    strcpy(capture, first);
    kill(child, SIGTERM);
    finish(child);
    assert_error_holds(r, 1, "@/out: ");
}

/* What a model is read from is never an output, of any command, by whatever path. */
static void models_stay(void **state) {
    (void)state;
    shell("cp -r " MICRO " @/p && cp -r @/p @/before && ln -s p/adapter @/link");
    static const char *const file[] = {
        "@/p/unet/diffusion_pytorch_model.safetensors", "@/p/adapter/adapter.safetensors",
        "@/link/adapter.safetensors", "@/p/llm/model-00001-of-00002.safetensors"};
    for (int i = 0; i < 4; i++) {
        assert_error_holds(RUN("generate", "-m", "@/p", "--adapter", "@/p/adapter", "-p", "a", "-o",
                               "@/x.png", "--trace", file[i]),
                           2, "it would be overwritten");
        assert_error_holds(
            RUN("generate", "-m", "@/p", "-p", "a", "-o", "@/x.png", "--save-latents", file[i]), 2,
            "it would be overwritten");
        assert_error_holds(RUN("encode", "-m", "@/p", "-p", "a", "-o", file[i]), 2,
                           "it would be overwritten");
        assert_error_holds(RUN("train", "-m", "@/p", "--adapter", "@/p/adapter", "--output-dir",
                               "@/out", "--train-data-dir", PICTURES, "--trace", file[i]),
                           2, "it would be overwritten");
    }
    shell("diff -r @/p @/before");
    assert_false(is_there("@/out"));
    assert_int_equal(RUN("generate", "-m", "@/p", "-p", "a", "-o", "@/x.png", "--steps", "1",
                         "--trace", "@/p/adapter/trace.safetensors")
                         .code,
                     0);
}

static void misuse_is_told(void **state) {
    (void)state;
    llmdiff_error error;
    llmdiff_train_options o = training("@/out");
    llmdiff_pack *pack = open_training(NULL);
    assert_int_equal(llmdiff_train(pack, NULL, &error), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_train(NULL, &o, &error), LLMDIFF_MISUSE);
    o.size = 8;
    assert_int_equal(llmdiff_train(pack, &o, &error), LLMDIFF_MISUSE);
    assert_holds(error.message, "llmdiff_train_options.size: expected sizeof");
    o = training("@/out");
    o.lr_scheduler = NULL;
    assert_int_equal(llmdiff_train(pack, &o, &error), LLMDIFF_MISUSE);
    o = training("@/out");
    const llmdiff_team team = {.rank = 1, .ranks = 1};
    o.team = &team;
    assert_int_equal(llmdiff_train(pack, &o, &error), LLMDIFF_MISUSE);
    assert_holds(error.message, "llmdiff_team: rank 1 of 1");
    /* a pack is for what it was opened for */
    llmdiff_request r;
    llmdiff_result *result;
    llmdiff_request_default(&r, sizeof r);
    assert_int_equal(llmdiff_generate(pack, &r, &result, &error), LLMDIFF_MISUSE);
    assert_string_equal(error.message, "pack: opened for training, not for pictures");
    llmdiff_close(pack);
    const llmdiff_options drawing = {.size = sizeof drawing, .model = MICRO};
    pack = opened_pack(&drawing);
    o = training("@/out");
    assert_int_equal(llmdiff_train(pack, &o, &error), LLMDIFF_MISUSE);
    assert_string_equal(error.message, "pack: opened for pictures, not for training");
    llmdiff_close(pack);
    assert_false(is_there("@/out"));
}

#define IN_A_DIRECTORY(test)                                                                       \
    cmocka_unit_test_setup_teardown(test, fresh_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_DIRECTORY(prints_what_it_made),     IN_A_DIRECTORY(readme_has_the_help),
        IN_A_DIRECTORY(what_is_asked_for),       IN_A_DIRECTORY(packs_that_do_not_do),
        IN_A_DIRECTORY(data_sets_that_are_none), IN_A_DIRECTORY(samples_that_are_broken),
        IN_A_DIRECTORY(numbers_that_are_none),   IN_A_DIRECTORY(outputs_that_are_taken),
        IN_A_DIRECTORY(runs_that_do_not_go_on),  IN_A_DIRECTORY(ctrl_c_saves),
        IN_A_DIRECTORY(one_run_at_a_time),       IN_A_DIRECTORY(models_stay),
        IN_A_DIRECTORY(misuse_is_told),
    };
    return cmocka_run_group_tests_name("training on bad input", tests, NULL, NULL);
}
