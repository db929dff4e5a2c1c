/* Six samplers against diffusers' schedulers: whole trajectories from text and from images, for the
 * choices of their configs, and the timesteps of every number of steps (golden/export_samplers.py). */
#include "tests/check.h"

#include "ref/samplers.h"
#include "tests/temp.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- trajectories -------------------------------------------------------------------------------- */

typedef struct Case {
    Golden *g;
    const char *name;
    Context ctx;
} Case;

static const char *key_of(const Case *c, const char *what, int64_t k) {
    static char key[160]; /* until the next call */
    if (k < 0)
        snprintf(key, sizeof key, "%s/%s", c->name, what);
    else
        snprintf(key, sizeof key, "%s/%s.%lld", c->name, what, (long long)k);
    return key;
}

static const char *text_of(const Case *c, const char *what) {
    char key[160];
    snprintf(key, sizeof key, "%s:%s", what, c->name);
    const char *text = safetensors_metadata(golden_file(c->g), key);
    if (!text) fail_msg("no metadata %s", key);
    return text;
}

static Tensor as_map(Context *ctx, Tensor chw) {
    Tensor x = channels_last(ctx, chw);
    return TENSOR_VIEW(x, 1, x.dim[0], x.dim[1], x.dim[2]);
}

static Tensor input(Case *c, const char *what) {
    return golden_tensor(c->g, &c->ctx, key_of(c, what, -1));
}

static void check_map(Case *c, const char *what, int64_t k, Tensor x) {
    assert_context_ok(&c->ctx);
    golden_check(c->g, key_of(c, what, k), channels_first(&c->ctx, tensor_at(x, 0)), MODULE);
}

static void check_numbers(Case *c, const char *what, const double *v, int64_t n) {
    Tensor x = TENSOR_NEW(&c->ctx, n);
    assert_context_ok(&c->ctx);
    for (int64_t i = 0; i < n; i++) x.data[i] = (real)v[i];
    golden_check(c->g, key_of(c, what, -1), x, OPERATOR);
}

static void check_trajectory(Case *c, Sampler *s, double strength) {
    Context *ctx = &c->ctx;
    const int64_t n = sampler_evaluations(s);
    int64_t count;
    const int64_t *draws = golden_ids(c->g, key_of(c, "draws", -1), &count);
    assert_int_equal(n, count);
    double *t = calloc((size_t)n, sizeof *t);
    assert_non_null(t);
    for (int64_t k = 0; k < n; k++) t[k] = sampler_timestep(s, k);
    check_numbers(c, "timesteps", t, n);
    free(t);

    Tensor clean = as_map(ctx, input(c, "latents")), x, first_noise = {0}, noise = {0};
    if (strength > 0) {
        first_noise = as_map(ctx, input(c, "first_noise"));
        x = sampler_add_noise(ctx, s, 0, clean, first_noise);
    } else {
        double sigma = sampler_init_noise_sigma(s);
        check_numbers(c, "init_noise_sigma", &sigma, 1);
        x = scale(ctx, clean, sigma);
    }
    check_map(c, "latents", 0, x);
    Tensor outputs = input(c, "model_outputs");
    if (golden_has(c->g, key_of(c, "noise", -1))) noise = input(c, "noise");
    for (int64_t k = 0; k < n; k++) {
        assert_int_equal(sampler_wants_noise(s, k), draws[k]);
        Tensor z = draws[k] ? as_map(ctx, tensor_at(noise, k)) : (Tensor){0};
        Tensor shown = sampler_scale_input(ctx, s, k, x);
        if (golden_has(c->g, key_of(c, "input", k)))
            check_map(c, "input", k, shown);
        else
            assert_ptr_equal(shown.data, x.data);
        x = sampler_step(ctx, s, k, as_map(ctx, tensor_at(outputs, k)), x, z);
        check_map(c, "latents", k + 1, x);
        if (strength > 0 && k + 1 < n)
            check_map(c, "renoised", k + 1, sampler_add_noise(ctx, s, k + 1, clean, first_noise));
    }
}

static Schedule *load(const char *config, Error *err) {
    char path[128];
    snprintf(path, sizeof path, "golden/data/samplers/%s", config);
    return schedule_load(path, err);
}

static void trajectory_equals_upstream(void **state) {
    Case c = {.g = golden_open("samplers"), .name = *state};
    Schedule *schedule = load(text_of(&c, "config"), &c.ctx.error);
    assert_context_ok(&c.ctx);
    const double strength = atof(text_of(&c, "strength"));
    SamplerKind kind = sampler_of_name(text_of(&c, "sampler"));
    assert_true(kind != SAMPLER_KINDS);
    /* The pack's own and the same by its name are the same. */
    if (sampler_of_class(schedule->class_name) == kind) kind = SAMPLER_OWN;
    Sampler *s = sampler_new(schedule, kind, atoll(text_of(&c, "steps")), atof(text_of(&c, "eta")),
                             &c.ctx.error);
    assert_context_ok(&c.ctx);
    if (strength > 0) assert_int_equal(sampler_begin_at_strength(s, strength, &c.ctx.error), 0);
    check_trajectory(&c, s, strength);
    /* A sampler begins anew: nothing of the last run is left. */
    check_trajectory(&c, s, strength);
    sampler_free(s);
    schedule_free(schedule);
    golden_close(c.g);
    context_free(&c.ctx);
}

/* ---- timesteps of every number of steps ------------------------------------------------------------ */

static void every_number_of_steps(void **state) {
    const char *name = *state, *config = strchr(name + strlen("timesteps/"), '_') + 1;
    char sampler[16];
    snprintf(sampler, sizeof sampler, "%.*s", (int)(config - 1 - strchr(name, '/') - 1),
             strchr(name, '/') + 1);
    Error err = {0};
    Safetensors *f = safetensors_open("golden/data/samplers.safetensors", &err);
    assert_non_null(f);
    const StoredTensor *sums = safetensors_find(f, name);
    Schedule *schedule = load(config, &err);
    assert_non_null(schedule);
    assert_int_equal(sums->bytes, 8000);
    for (int64_t steps = 1; steps <= 1000; steps++) {
        double expected, found = 0;
        memcpy(&expected, (const char *)sums->data + 8 * (steps - 1), 8);
        err = (Error){0};
        Sampler *s = sampler_new(schedule, sampler_of_name(sampler), steps, 0, &err);
        if (expected == 0 || strstr(err.message, "the first timestep would be 1000")) {
            assert_null(s); /* upstream goes on with a timestep that was never trained */
            continue;
        }
        if (!s) fail_msg("%s, %d steps: %s", name, (int)steps, err.message);
        for (int64_t k = 0; k < sampler_evaluations(s); k++)
            found += (double)(k + 1) * (sampler_timestep(s, k) + 1);
        if (!(fabs(found - expected) <= 1e-12 * expected))
            fail_msg("%s, %d steps: expected %.17g, found %.17g", name, (int)steps, expected,
                     found);
        sampler_free(s);
    }
    schedule_free(schedule);
    safetensors_close(f);
}

/* ---- what is refused ------------------------------------------------------------------------------- */

/* What making that sampler with a config of these keys says: the message, or "made". */
static void assert_says(const char *keys, const char *sampler, int64_t steps,
                        const char *expected) {
    char text[512];
    Error err = {0};
    Temp temp = temp_new();
    snprintf(text, sizeof text, "{%s}", keys);
    temp_write(&temp, "scheduler_config.json", text, strlen(text));
    Schedule *schedule = schedule_load(temp.dir, &err);
    Sampler *s = schedule ? sampler_new(schedule, sampler_of_name(sampler), steps, 0, &err) : NULL;
    assert_true((s == NULL) == err.set);
    const char *found = s ? "made" : err.message, *file = strstr(found, "scheduler_config.json: ");
    if (file) found = file + strlen("scheduler_config.json: ");
    assert_string_equal(found, expected);
    sampler_free(s);
    schedule_free(schedule);
    temp_free(&temp);
}

static void what_is_not_supported_is_refused_by_its_key(void **state) {
    (void)state;
    static const struct {
        const char *keys, *sampler, *expected;
    } rows[] = {
        {"\"thresholding\": true", "ddim",
         "thresholding: the sampler ddim expects false, found true"},
        {"\"thresholding\": true", "ddpm",
         "thresholding: the sampler ddpm expects false, found true"},
        {"\"thresholding\": true", "dpm++2m",
         "thresholding: the sampler dpm++2m expects false, found true"},
        {"\"prediction_type\": \"sample\"", "pndm",
         "prediction_type: the sampler pndm expects \"epsilon\" or \"v_prediction\", found "
         "\"sample\""},
        {"\"prediction_type\": \"sample\"", "euler_a",
         "prediction_type: the sampler euler_a expects \"epsilon\" or \"v_prediction\", found "
         "\"sample\""},
        {"\"prediction_type\": \"flow_prediction\"", "dpm++2m",
         "prediction_type: expected \"epsilon\", \"sample\" or \"v_prediction\", found "
         "\"flow_prediction\""},
        {"\"variance_type\": \"learned_range\"", "ddpm",
         "variance_type: the sampler ddpm expects \"fixed_small\", \"fixed_small_log\" or "
         "\"fixed_large\", found \"learned_range\""},
        {"\"variance_type\": \"learned\"", "ddpm",
         "variance_type: the sampler ddpm expects \"fixed_small\", \"fixed_small_log\" or "
         "\"fixed_large\", found \"learned\""},
        {"\"variance_type\": \"fixed_large_log\"", "ddpm",
         "variance_type: the sampler ddpm expects \"fixed_small\", \"fixed_small_log\" or "
         "\"fixed_large\", found \"fixed_large_log\""},
        {"\"variance_type\": \"learned\"", "dpm++2m",
         "variance_type: the sampler dpm++2m expects null, found \"learned\""},
        {"\"use_exponential_sigmas\": true", "euler",
         "use_exponential_sigmas: the sampler euler expects false, found true"},
        {"\"use_beta_sigmas\": true", "euler",
         "use_beta_sigmas: the sampler euler expects false, found true"},
        {"\"interpolation_type\": \"log_linear\"", "euler",
         "interpolation_type: the sampler euler expects \"linear\", found \"log_linear\""},
        {"\"timestep_type\": \"continuous\"", "euler",
         "timestep_type: the sampler euler expects \"discrete\", found \"continuous\""},
        {"\"use_exponential_sigmas\": true", "dpm++2m",
         "use_exponential_sigmas: the sampler dpm++2m expects false, found true"},
        {"\"use_beta_sigmas\": true", "dpm++2m",
         "use_beta_sigmas: the sampler dpm++2m expects false, found true"},
        {"\"use_lu_lambdas\": true", "dpm++2m",
         "use_lu_lambdas: the sampler dpm++2m expects false, found true"},
        {"\"use_flow_sigmas\": true", "dpm++2m",
         "use_flow_sigmas: the sampler dpm++2m expects false, found true"},
        {"\"use_dynamic_shifting\": true", "dpm++2m",
         "use_dynamic_shifting: the sampler dpm++2m expects false, found true"},
        {"\"algorithm_type\": \"sde-dpmsolver++\"", "dpm++2m",
         "algorithm_type: the sampler dpm++2m expects \"dpmsolver++\", found "
         "\"sde-dpmsolver++\""},
        {"\"solver_order\": 3", "dpm++2m", "solver_order: the sampler dpm++2m expects 2, found 3"},
        {"\"lambda_min_clipped\": 30", "dpm++2m",
         "lambda_min_clipped: the sampler dpm++2m expects less than the largest lambda, found 30"},
        {"\"lambda_min_clipped\": Infinity", "dpm++2m",
         "lambda_min_clipped: expected a number, found Infinity"},
        {"\"sigma_min\": 0", "euler", "sigma_min, sigma_max: expected numbers above 0, found 0"},
        {"\"beta_schedule\": \"sigmoid\"", "ddpm",
         "beta_schedule: expected \"linear\", \"scaled_linear\" or \"squaredcos_cap_v2\", found "
         "\"sigmoid\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_says(rows[i].keys, rows[i].sampler, 7, rows[i].expected);
}

/* As in diffusers, where from_config leaves out what a class does not know. */
static void keys_of_other_samplers_mean_nothing(void **state) {
    (void)state;
    assert_says("\"thresholding\": true, \"variance_type\": \"learned\"", "pndm", 7, "made");
    assert_says("\"thresholding\": true, \"use_beta_sigmas\": true", "euler_a", 7, "made");
    assert_says("\"thresholding\": true, \"solver_order\": 3", "euler", 7, "made");
    assert_says("\"use_karras_sigmas\": true, \"use_beta_sigmas\": true, \"solver_order\": 3, "
                "\"algorithm_type\": \"deis\", \"solver_type\": \"bh2\"",
                "ddim", 7, "made");
}

static void numbers_of_steps_that_are_refused(void **state) {
    (void)state;
    assert_says("", "euler", 0, "--steps: expected 1 to 1000 (num_train_timesteps), found 0");
    assert_says("", "dpm++2m", 1001,
                "--steps: expected 1 to 1000 (num_train_timesteps), found 1001");
    assert_says("", "pndm", 3,
                "skip_prk_steps: the sampler pndm expects true below 4 steps (its Runge-Kutta "
                "steps), found false");
    assert_says("", "pndm", 4, "made");
    assert_says("\"beta_end\": -Infinity", "pndm", 4,
                "beta_end: expected a number, found -Infinity");
    assert_says("\"_note\": \"-Infinity \\\" Infinity\"", "pndm", 4, "made");
    assert_says("\"skip_prk_steps\": true", "pndm", 3, "made");
    assert_says("\"timestep_spacing\": \"leading\"", "dpm++2m", 1000,
                "--steps: dpm++2m expects at most 999 with leading spacing, found 1000");
}

static void strengths_that_are_refused(void **state) {
    (void)state;
    Error err = {0};
    Schedule *schedule = load("sd15", &err);
    Sampler *s = sampler_new(schedule, SAMPLER_PNDM, 7, 0, &err);
    assert_non_null(s);
    assert_int_equal(sampler_evaluations(s), 8);
    assert_int_equal(sampler_begin_at_strength(s, 0.1, &err), -1);
    assert_string_equal(err.message, "--strength 0.1: of 7 steps none is left");
    err = (Error){0};
    assert_int_equal(sampler_begin_at_strength(s, NAN, &err), -1);
    assert_string_equal(err.message, "--strength: expected above 0 and at most 1, found nan");
    err = (Error){0};
    assert_int_equal(sampler_begin_at_strength(s, 1.5, &err), -1);
    assert_int_equal(sampler_evaluations(s), 8);
    assert_int_equal(sampler_begin_at_strength(s, 0.6, &(Error){0}), 0); /* int(4.2) of 7 */
    assert_int_equal(sampler_evaluations(s), 5);
    assert_int_equal(sampler_begin_at_strength(s, 1, &(Error){0}), 0);
    assert_int_equal(sampler_evaluations(s), 8);
    sampler_free(s);
    schedule_free(schedule);
}

static void names_and_classes(void **state) {
    (void)state;
    for (SamplerKind kind = SAMPLER_DDPM; kind < SAMPLER_KINDS; kind++)
        assert_int_equal(sampler_of_name(sampler_name(kind)), kind);
    assert_int_equal(sampler_of_class("EulerAncestralDiscreteScheduler"), SAMPLER_EULER_A);
    assert_int_equal(sampler_of_class("DPMSolverMultistepScheduler"), SAMPLER_DPMPP_2M);
    assert_int_equal(sampler_of_class("LMSDiscreteScheduler"), SAMPLER_KINDS);
    assert_int_equal(sampler_of_name("own"), SAMPLER_KINDS);
    assert_int_equal(sampler_of_name(""), SAMPLER_KINDS);
}

/* abar 0 and eta 1: what is left for the direction is 0 but for rounding, on either side of it. */
static void no_root_of_less_than_nothing(void **state) {
    (void)state;
    for (int64_t steps = 1; steps <= 60; steps++) {
        Context ctx = {0};
        Schedule *schedule = load("zero_snr", &ctx.error);
        assert_context_ok(&ctx);
        Sampler *s = sampler_new(schedule, SAMPLER_DDIM, steps, 1, &ctx.error);
        assert_context_ok(&ctx);
        assert_true(sampler_timestep(s, 0) == 999);
        Tensor x = TENSOR_NEW(&ctx, 1, 1, 1, 4), m = scale(&ctx, x, 1), z = scale(&ctx, x, 1);
        Rng rng = rng_seed((uint64_t)steps);
        rng_normal(&rng, x.data, 4);
        for (int64_t i = 0; i < sampler_evaluations(s); i++) {
            rng_normal(&rng, m.data, 4);
            rng_normal(&rng, z.data, 4);
            x = sampler_step(&ctx, s, i, m, x, z);
            assert_context_ok(&ctx);
            for (int64_t k = 0; k < 4; k++)
                if (!isfinite((double)x.data[k]))
                    fail_msg("%d steps: step %d gives %g", (int)steps, (int)i, (double)x.data[k]);
        }
        sampler_free(s);
        schedule_free(schedule);
        context_free(&ctx);
    }
}

/* One test for each case that the golden's metadata name, so that none is forgotten here. */
int main(void) {
    enum { MAX_TESTS = 400, CASES = 170, COUNTS = 14 };
    static struct CMUnitTest tests[MAX_TESTS] = {
        cmocka_unit_test(what_is_not_supported_is_refused_by_its_key),
        cmocka_unit_test(keys_of_other_samplers_mean_nothing),
        cmocka_unit_test(numbers_of_steps_that_are_refused),
        cmocka_unit_test(strengths_that_are_refused),
        cmocka_unit_test(names_and_classes),
        cmocka_unit_test(no_root_of_less_than_nothing),
    };
    size_t n = 6, found = 0, counts = 0;
    Error err = {0};
    Safetensors *f = safetensors_open("golden/data/samplers.safetensors", &err);
    for (size_t i = 0; f && i < safetensors_metadata_count(f); i++) {
        const char *key, *value;
        safetensors_metadata_at(f, i, &key, &value);
        bool is_case = strncmp(key, "sampler:", 8) == 0;
        bool is_count = strncmp(key, "yardstick:timesteps/", 20) == 0;
        if ((!is_case && !is_count) || n == MAX_TESTS) continue;
        found += is_case;
        counts += is_count;
        const char *name = strchr(key, ':') + 1;
        tests[n++] =
            (struct CMUnitTest){name, is_case ? trajectory_equals_upstream : every_number_of_steps,
                                NULL, NULL, (void *)(uintptr_t)name};
    }
    if (found != CASES || counts != COUNTS) {
        fprintf(stderr, "golden/data/samplers: %zu cases, %zu counts; %s\n", found, counts,
                err.message);
        return 1;
    }
    /* An array of its own length: cmocka takes the length from the type. */
    int failed = _cmocka_run_group_tests("samplers", tests, n, NULL, NULL);
    safetensors_close(f);
    return failed;
}
