/* Config values that would load and then do harm: each is refused where it enters, by its key. */
#include "tests/check.h"

#include "ref/pipeline.h"
#include "tests/edited_model.h"

#include <sys/stat.h>

static void unet_says(const char *key, const char *value, const char *message) {
    Error err = {0};
    EditedModel e = edited_model("golden/micro/unet", NULL, key, value);
    assert_null(unet_load(e.dir, &err));
    assert_says(&e, &err, message);
    edited_model_remove(&e);
}

static void kernels_are_odd_and_small(void **state) {
    (void)state;
    unet_says("conv_in_kernel", "2",
              "@/config.json: conv_in_kernel 2, conv_out_kernel 3: expected odd numbers");
    unet_says("conv_out_kernel", "9",
              "@/config.json: conv_out_kernel: expected a whole number from 1 to 7, found 9");
    unet_says("norm_eps", "-1", "@/config.json: norm_eps: expected 0 or more, found -1");
}

static void a_picture_has_three_channels(void **state) {
    (void)state;
    Error err = {0};
    Pack pack;
    PackPaths paths = {.model = "golden/micro", .vae = "golden/data/vae_plain"};
    assert_int_equal(pack_open(&pack, &paths, PACK_GENERATE, &err), -1);
    assert_string_equal(err.message,
                        "golden/data/vae_plain: out_channels: expected 3, a picture's, found 1");
}

static void what_the_adapter_was_made_with_stays(void **state) {
    (void)state;
    const char *set[] = {"tau_input=c"};
    Error err = {0};
    Pack pack;
    PackPaths paths = {.model = "golden/micro", .set = set, .sets = 1};
    assert_int_equal(pack_open(&pack, &paths, PACK_GENERATE, &err), -1);
    assert_string_equal(
        err.message, "--set tau_input, out: golden/micro/adapter was made with tau_input "
                     "\"phi_c\" and out \"own\"; another is made by init-adapter with that --set");
}

static void pictures_larger_than_memory_are_refused(void **state) {
    (void)state;
    Error err = {0};
    Pack pack;
    assert_int_equal(pack_open(&pack, &(PackPaths){.model = "golden/micro"}, PACK_GENERATE, &err),
                     0);
    Request r = request_default(&pack);
    r.width = r.height = 65536;
    assert_int_equal(request_check(&r, &pack, &err), -1);
    assert_int_equal(strncmp(err.message, "--width, --height: 65536 x 65536 takes about ", 45), 0);
    pack_close(&pack);
}

static void scheduler_says(const char *text, const char *message) {
    EditedModel e = {.dir = "/tmp/llmdiff-test-XXXXXX"};
    Error err = {0};
    assert_non_null(mkdtemp(e.dir));
    snprintf(e.config, sizeof e.config, "%s/scheduler_config.json", e.dir);
    FILE *f = fopen(e.config, "wb");
    fputs(text, f);
    fclose(f);
    Schedule *s = schedule_load(e.dir, &err);
    Sampler *sampler = s ? sampler_new(s, SAMPLER_OWN, 4, 0, &err) : NULL;
    assert_null(sampler);
    assert_says(&e, &err, message);
    schedule_free(s);
    unlink(e.config);
    assert_int_equal(rmdir(e.dir), 0);
}

static void schedulers_are_known(void **state) {
    (void)state;
    scheduler_says(
        "{\"_class_name\": \"DDIMScheduler\", \"beta_strat\": 0.3}",
        "@/scheduler_config.json: 1 key is not known, so what it asks can't be followed: "
        "beta_strat");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_are_odd_and_small),
        cmocka_unit_test(a_picture_has_three_channels),
        cmocka_unit_test(what_the_adapter_was_made_with_stays),
        cmocka_unit_test(pictures_larger_than_memory_are_refused),
        cmocka_unit_test(schedulers_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
