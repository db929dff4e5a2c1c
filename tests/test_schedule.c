/* DDIM against diffusers DDIMScheduler: whole trajectories for every choice of its config, and the
 * timesteps of every number of steps (golden/export_schedule.py). */
#include "tests/check.h"

#include "ref/sampler_kinds.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const cases[] = {"sd",
                                    "sd_50",
                                    "sd_1",
                                    "sd_2",
                                    "sd_7",
                                    "sd_999",
                                    "defaults",
                                    "defaults_ancestral",
                                    "clip_2",
                                    "clip_v",
                                    "clip_sample_prediction",
                                    "linspace",
                                    "linspace_1",
                                    "linspace_ancestral",
                                    "trailing",
                                    "trailing_48",
                                    "trailing_1",
                                    "v",
                                    "v_ancestral",
                                    "sample",
                                    "sample_ancestral",
                                    "offset_0",
                                    "squaredcos",
                                    "linear",
                                    "zero_snr",
                                    "zero_snr_ancestral",
                                    "zero_snr_sample",
                                    "zero_snr_epsilon",
                                    "trained_100",
                                    "sd_100",
                                    "pndm_config"};
enum { CASES = sizeof cases / sizeof cases[0] };

static Tensor as_map(Context *ctx, Tensor chw) {
    Tensor x = channels_last(ctx, chw);
    return TENSOR_VIEW(x, 1, x.dim[0], x.dim[1], x.dim[2]);
}

static void trajectory_equals_upstream(void **state) {
    const char *name = *state;
    char path[128], key[128];
    Context ctx = {0};
    Golden *g = golden_open("schedule");
    snprintf(path, sizeof path, "golden/data/schedule/%s", name);
    Schedule *s = schedule_load(path, &ctx.error);
    assert_context_ok(&ctx);
    snprintf(key, sizeof key, "steps:%s", name);
    int64_t steps = (int64_t)golden_number(g, key);
    snprintf(key, sizeof key, "eta:%s", name);
    double eta = golden_number(g, key);

    Sampler *sampler = sampler_new(s, SAMPLER_DDIM, steps, eta, &ctx.error);
    assert_context_ok(&ctx);

    snprintf(key, sizeof key, "%s/alphas_cumprod", name);
    if (golden_has(g, key)) {
        Tensor alphas = TENSOR_NEW(&ctx, s->train_steps);
        for (int64_t i = 0; i < s->train_steps; i++) alphas.data[i] = (real)sampler->abar[i];
        golden_check(g, key, alphas, OPERATOR);
    }

    int64_t count;
    snprintf(key, sizeof key, "%s/timesteps", name);
    const int64_t *expected = golden_ids(g, key, &count);
    assert_int_equal(count, steps);
    assert_int_equal(sampler_evaluations(sampler), steps);
    for (int64_t k = 0; k < steps; k++)
        assert_true(sampler_timestep(sampler, k) == (double)expected[k]);

    snprintf(key, sizeof key, "%s/latents", name);
    Tensor x = as_map(&ctx, golden_tensor(g, &ctx, key));
    snprintf(key, sizeof key, "%s/model_outputs", name);
    Tensor outputs = golden_tensor(g, &ctx, key), noise = {0};
    snprintf(key, sizeof key, "%s/noise", name);
    if (eta > 0) noise = golden_tensor(g, &ctx, key);
    for (int64_t k = 0; k < steps; k++) {
        Tensor z = eta > 0 ? as_map(&ctx, tensor_at(noise, k)) : (Tensor){0};
        assert_true(sampler_wants_noise(sampler, k) == (eta > 0));
        x = sampler_step(&ctx, sampler, k, as_map(&ctx, tensor_at(outputs, k)), x, z);
        assert_context_ok(&ctx);
        snprintf(key, sizeof key, "%s/latents.%d", name, (int)k + 1);
        golden_check(g, key, channels_first(&ctx, tensor_at(x, 0)), PIPELINE);
    }
    sampler_free(sampler);
    golden_close(g);
    schedule_free(s);
    context_free(&ctx);
}

/* For 1 .. 1000 steps: how many timesteps there are, and sum_k (k + 1) t_k. Where upstream ends in
 * one more, -1, that one is left out here (samplers.h). */
static void every_number_of_steps(const char *name, Spacing spacing) {
    char key[64];
    Error err = {0};
    Safetensors *f = safetensors_open("golden/data/schedule.safetensors", &err);
    Schedule *s = schedule_load("golden/data/schedule/defaults", &err);
    assert_non_null(f);
    assert_non_null(s);
    s->spacing = (int)spacing;
    snprintf(key, sizeof key, "timesteps/%s/count", name);
    const StoredTensor *counts = safetensors_find(f, key);
    snprintf(key, sizeof key, "timesteps/%s/sum", name);
    const StoredTensor *sums = safetensors_find(f, key);
    assert_true(counts && sums && counts->bytes == 8000 && sums->bytes == 8000);
    for (int64_t steps = 1; steps <= 1000; steps++) {
        int64_t found = 0, count, sum;
        Sampler *sampler = sampler_new(s, SAMPLER_DDIM, steps, 0, &err);
        assert_non_null(sampler);
        assert_int_equal(sampler_evaluations(sampler), steps);
        for (int64_t k = 0; k < steps; k++)
            found += (k + 1) * (int64_t)sampler_timestep(sampler, k);
        memcpy(&count, (const char *)counts->data + 8 * (steps - 1), 8);
        memcpy(&sum, (const char *)sums->data + 8 * (steps - 1), 8);
        int64_t beyond = count - steps;
        assert_true(beyond == 0 || (beyond == 1 && spacing == SPACING_TRAILING));
        assert_int_equal(found - beyond * (steps + 1), sum);
        sampler_free(sampler);
    }
    schedule_free(s);
    safetensors_close(f);
}

static void leading_timesteps(void **state) {
    (void)state;
    every_number_of_steps("leading", SPACING_LEADING);
}
static void linspace_timesteps(void **state) {
    (void)state;
    every_number_of_steps("linspace", SPACING_LINSPACE);
}
static void trailing_timesteps(void **state) {
    (void)state;
    every_number_of_steps("trailing", SPACING_TRAILING);
}

static void too_many_steps_are_refused(void **state) {
    (void)state;
    Error err = {0};
    Schedule *s = schedule_load("golden/data/schedule/sd", &err);
    assert_non_null(s);
    assert_null(sampler_new(s, SAMPLER_DDIM, 1001, 0, &err));
    assert_string_equal(err.message,
                        "--steps: expected 1 to 1000 (num_train_timesteps), found 1001");
    err = (Error){0};
    assert_null(sampler_new(s, SAMPLER_DDIM, 1000, 0,
                            &err)); /* leading with steps_offset 1 begins at 1000 */
    assert_non_null(strstr(err.message, "the first timestep would be 1000"));
    schedule_free(s);
}

int main(void) {
    struct CMUnitTest tests[CASES + 4] = {
        cmocka_unit_test(leading_timesteps), cmocka_unit_test(linspace_timesteps),
        cmocka_unit_test(trailing_timesteps), cmocka_unit_test(too_many_steps_are_refused)};
    static char names[CASES][64], states[CASES][64];
    for (size_t i = 0; i < CASES; i++) {
        snprintf(states[i], sizeof states[i], "%s", cases[i]);
        snprintf(names[i], sizeof names[i], "ddim trajectory %s", cases[i]);
        tests[4 + i] =
            (struct CMUnitTest){names[i], trajectory_equals_upstream, NULL, NULL, states[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
