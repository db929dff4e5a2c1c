/* The steps and the guidance that a pack's model_index.json names: for requests that don't. */
#include "tests/cli_run.h"

#include "ref/llmdiff.h"

#include <sys/stat.h>

/* golden/micro's parts under an index of its own; NULL: none */
static void make_pack(const char *index) {
    static const char *const parts[] = {"llm", "unet", "vae", "scheduler", "adapter"};
    char here[2048], target[4096], link[64];
    assert_non_null(getcwd(here, sizeof here));
    mkdir(path("@/pack"), 0777);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(target, sizeof target, "%s/" MICRO "/%s", here, parts[i]);
        snprintf(link, sizeof link, "@/pack/%s", parts[i]);
        if (symlink(target, path(link))) assert_int_equal(errno, EEXIST);
    }
    remove(path("@/pack/model_index.json"));
    if (index) put_text("@/pack/model_index.json", index);
}

#define DRAW(...)                                                                                  \
    RUN("generate", "-m", "@/pack", "-p", "a red circle", "-o", "@/x.png", "--quiet", __VA_ARGS__)

static void assert_drawn(Result r, const char *steps, const char *cfg_scale) {
    char line[128];
    assert_ok(r);
    Result info = RUN("info", "@/x.png");
    snprintf(line, sizeof line, "\n  steps                      %s\n", steps);
    assert_holds(info.out, line);
    snprintf(line, sizeof line, "\n  cfg_scale                  %s\n", cfg_scale);
    assert_holds(info.out, line);
}

static void generate_takes_them(void **state) {
    (void)state;
    make_pack("{\"_class_name\": \"LLMDiffPipeline\", \"llm\": [\"transformers\", \"x\"],\n"
              " \"num_inference_steps\": 3, \"guidance_scale\": 2.5}");
    assert_drawn(DRAW("-s", "1"), "3", "2.5");
    assert_drawn(DRAW("--steps", "2"), "2", "2.5");
    assert_drawn(DRAW("--cfg-scale", "0"), "3", "0");
    assert_drawn(DRAW("--cfg-scale=-1", "--steps", "20"), "20", "-1");
    make_pack("{\"guidance_scale\": 3}");
    assert_drawn(DRAW("-s", "1"), "20", "3");
    make_pack("{\"num_inference_steps\": 2, \"guidance_scale\": null}");
    assert_drawn(DRAW("-s", "1"), "2", "7.5");
    make_pack(NULL);
    assert_drawn(DRAW("-s", "1"), "20", "7.5");
    make_pack("{\"num_inference_steps\": 2}"); /* the parts' own directories have none */
    assert_drawn(
        RUN("generate", "--llm", MICRO "/llm", "-m", MICRO, "-p", "a", "-o", "@/x.png", "--quiet"),
        "20", "7.5");
}

static void the_picture_is_that_of_the_same_flags(void **state) {
    (void)state;
    make_pack("{\"num_inference_steps\": 3, \"guidance_scale\": 2.5}");
    assert_ok(DRAW("--save-latents", "@/a.npy"));
    make_pack(NULL);
    assert_ok(DRAW("--steps", "3", "--cfg-scale", "2.5", "--save-latents", "@/b.npy"));
    assert_true(same_file("@/a.npy", "@/b.npy"));
}

static void info_shows_them(void **state) {
    (void)state;
    make_pack("{\"num_inference_steps\": 3, \"guidance_scale\": 2.5}");
    assert_holds(RUN("info", "@/pack").out, "pack: @/pack\n"
                                            "  num_inference_steps        3\n"
                                            "  guidance_scale             2.5\n"
                                            "llm: @/pack/llm\n");
    make_pack("{\"_class_name\": \"LLMDiffPipeline\"}");
    assert_holds(RUN("info", "@/pack").out, "  num_inference_steps        20\n"
                                            "  guidance_scale             7.5\n");
    make_pack(NULL);
    assert_int_equal(strncmp(RUN("info", "@/pack").out, "llm: ", 5), 0);
}

static void what_can_not_be(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"{\"num_inference_steps\": 0}",
         "@/pack/model_index.json: num_inference_steps: expected a whole number from 1 to 1000000, "
         "found 0"},
        {"{\"num_inference_steps\": \"20\"}",
         "@/pack/model_index.json: num_inference_steps: expected a whole number from 1 to 1000000, "
         "found \"20\""},
        {"{\"guidance_scale\": [3]}",
         "@/pack/model_index.json: guidance_scale: expected a number, found [3]"},
        {"{", "@/pack/model_index.json: "}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        make_pack(bad[i][0]);
        assert_error_holds(DRAW("-s", "1"), 1, bad[i][1]);
        assert_error_holds(RUN("info", "@/pack"), 1, bad[i][1]);
    }
}

static void a_program_asks_for_them(void **state) {
    (void)state;
    make_pack("{\"num_inference_steps\": 3, \"guidance_scale\": 2.5}");
    llmdiff_options o = {.size = sizeof o, .model = path("@/pack")};
    llmdiff_pack *pack;
    llmdiff_request r;
    llmdiff_error error;
    assert_int_equal(llmdiff_open(&o, &pack, &error), LLMDIFF_OK);
    llmdiff_request_default(&r, sizeof r);
    assert_int_equal(r.steps, 20);
    assert_int_equal(llmdiff_request_for(pack, &r, sizeof r), LLMDIFF_OK);
    assert_int_equal(r.size, sizeof r);
    assert_int_equal(r.steps, 3);
    assert_float_equal(r.cfg_scale, 2.5, 0);
    assert_int_equal(r.seed, 42);
    assert_int_equal(llmdiff_request_for(NULL, &r, sizeof r), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_request_for(pack, NULL, sizeof r), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_request_for(pack, &r, 8), LLMDIFF_MISUSE);
    llmdiff_close(pack);
    o.use = LLMDIFF_USE_ENCODE;
    assert_int_equal(llmdiff_open(&o, &pack, &error), LLMDIFF_OK);
    assert_int_equal(llmdiff_request_for(pack, &r, sizeof r), LLMDIFF_MISUSE);
    llmdiff_close(pack);
}

static void validation_pictures_have_them(void **state) {
    (void)state;
    make_pack("{\"num_inference_steps\": 3, \"guidance_scale\": 2.5}");
    assert_ok(RUN("train", "-m", "@/pack", "--train-data-dir", "golden/data/dataset/folder",
                  "--output-dir", "@/out", "--max-train-steps", "1", "--train-batch-size", "1",
                  "--validation-prompt", "a red circle", "--quiet"));
    assert_ok(RUN("generate", "-m", "@/pack", "--adapter", "@/out/checkpoint-1", "-p",
                  "a red circle", "-o", "@/x.png", "--steps", "3", "--cfg-scale", "2.5",
                  "--save-latents", "@/z.npy", "--quiet"));
    Result info = RUN("info", "@/out/validation/step-000001.png");
    assert_ok(info);
    assert_holds(info.out, "\n  steps                      3\n  cfg_scale                  2.5\n");
    assert_true(same_file("@/out/validation/step-000001.png", "@/x.png"));
}

#define T(test) cmocka_unit_test_setup_teardown(test, fresh_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(generate_takes_them),     T(the_picture_is_that_of_the_same_flags),
        T(info_shows_them),         T(what_can_not_be),
        T(a_program_asks_for_them), T(validation_pictures_have_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
