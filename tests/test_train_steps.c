/* What a training run's steps are made of, by its trace and its log: how draws are spread, that the loss is
 * the mean over all samples, that the update is AdamW's of the clipped gradient, that the log adds up;
 * and that a step whose numbers aren't finite is none. */
#include "train_run.h"

#include "ref/noise.h"
#include "ref/train/keyed.h"

/* ---- a run's first step ---------------------------------------------------------------------------------- */

static Safetensors *trace_of(llmdiff_train_options *o, const char *only) {
    static char file[128];
    Error err = {0};
    snprintf(file, sizeof file, "%s", path("@/trace.safetensors"));
    o->trace_file = file;
    o->trace_only = only;
    train_well(o);
    Safetensors *t = safetensors_open(file, &err);
    if (!t) fail_msg("%s", err.message);
    return t;
}

/* Tensor "<b>/<name>", widened, malloc'ed; b < 0: without a sample. */
static double *numbers_of(const Safetensors *t, int b, const char *name, int64_t *n) {
    char full[200];
    Error err = {0};
    if (b < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "%d/%s", b, name);
    const StoredTensor *x = safetensors_find(t, full);
    if (!x) fail_msg("no %s", full);
    *n = stored_numel(x);
    double *numbers = malloc((size_t)*n * sizeof *numbers + 1);
    assert_non_null(numbers);
    if (stored_to_double(x, numbers, &err)) fail_msg("%s", err.message);
    return numbers;
}

static double number_of(const Safetensors *t, int b, const char *name) {
    int64_t n;
    double *x = numbers_of(t, b, name, &n);
    const double first = x[0];
    free(x);
    return first;
}

/* ---- draws ----------------------------------------------------------------------------------------------- */

enum { MANY = 300 };

/* A fair coin's 300 throws are 75 of a quarter, give or take 5 deviations of 7.5. */
static void draws_are_spread(void **state) {
    (void)state;
    llmdiff_train_options o = training("@/out");
    o.train_batch_size = MANY;
    o.max_train_steps = 1;
    o.caption_dropout = 0.25;
    o.noise_offset = 0.1;
    Safetensors *t = trace_of(&o, "/(ids|train/(t|noise_offset|posterior_noise))$");
    int64_t n;
    Context ctx = {.threads = 1};
    int dropped = 0, late = 0;
    double mean = 0, *noise[MANY];
    for (int b = 0; b < MANY; b++) {
        char ids[16];
        snprintf(ids, sizeof ids, "%d/ids", b);
        assert_non_null(safetensors_find(t, ids));
        dropped += stored_numel(safetensors_find(t, ids)) == 1;
        const double time = number_of(t, b, "train/t");
        assert_true(time >= 0 && time <= 999 && time == floor(time));
        mean += time / MANY;
        late += time >= 900;
        noise[b] = numbers_of(t, b, "train/posterior_noise", &n);
        Noise own = {.rng = rng_seed(keyed_bits(42, DRAW_OFFSET, (uint64_t)b, 0))};
        const Tensor offset = noise_draw(&ctx, &own, "", 3, (int64_t[]){4, 1, 1});
        assert_true((double)offset.data[0] == number_of(t, b, "train/noise_offset"));
    }
    context_free(&ctx);
    print_message("%d of %d captions dropped, mean t %.0f, %d from 900 on\n", dropped, MANY, mean,
                  late);
    assert_true(dropped >= 38 && dropped <= 112);
    assert_true(mean > 499.5 - 84 && mean < 499.5 + 84);
    assert_true(late >= 5 && late <= 56);
    for (int b = 0; b < MANY; b++)
        for (int c = 0; c < b; c++) assert_true(noise[b][0] != noise[c][0]);
    for (int b = 0; b < MANY; b++) free(noise[b]);
    safetensors_close(t);
}

/* The place in a batch has no say. */
static void the_next_step_has_other_draws(void **state) {
    (void)state;
    double first[4], then[4], t[2];
    for (int k = 0; k < 2; k++) {
        llmdiff_train_options o = training("@/out");
        o.train_batch_size = 1;
        o.max_train_steps = k + 1;
        o.resume_from_checkpoint = k ? "latest" : NULL;
        o.noise_offset = 0.1;
        Safetensors *s = trace_of(&o, NULL);
        static const char *const names[] = {"train/posterior_noise", "train/noise",
                                            "train/noise_offset", "alg1/eps.3"};
        for (int i = 0; i < 4; i++) (k ? then : first)[i] = number_of(s, 0, names[i]);
        t[k] = number_of(s, 0, "train/t");
        safetensors_close(s);
    }
    for (int i = 0; i < 4; i++) assert_true(first[i] != then[i]);
    assert_true(t[0] != t[1]);
}

/* ---- loss and update ------------------------------------------------------------------------------------- */

/* mean((eps_theta - eps)^2) over all of the step's samples, accumulated ones too */
static void the_loss_is_the_mean(void **state) {
    (void)state;
    LogLines l;
    llmdiff_train_options o = training("@/out");
    enum { SAMPLES = 12 }; /* more than go through the U-Net together */
    o.train_batch_size = SAMPLES / 2;
    o.gradient_accumulation_steps = 2;
    o.max_train_steps = 1;
    Safetensors *t = trace_of(&o, "/(train/noise|conv_out)$|^train/loss$");
    double mean = 0;
    for (int b = 0; b < SAMPLES; b++) {
        int64_t n, m;
        double *eps = numbers_of(t, b, "train/noise", &n);
        double *predicted = numbers_of(t, b, "conv_out", &m);
        assert_int_equal(n, m);
        for (int64_t i = 0; i < n; i++)
            mean += (predicted[i] - eps[i]) * (predicted[i] - eps[i]) / (double)n / SAMPLES;
        free(eps);
        free(predicted);
    }
    read_log("@/out/train.jsonl", &l);
    assert_true(fabs(l.loss[0] - mean) <= 1e-5 * mean);
    assert_true(fabs(number_of(t, -1, "train/loss") - mean) <= 1e-5 * mean);
    safetensors_close(t);
}

static bool near(double a, double b, double largest) { return fabs(a - b) <= 1e-5 * largest; }

/* w after the first step of AdamW, of the gradient scaled by max_grad_norm / norm. */
static void the_update_is_adamws(void **state) {
    (void)state;
    LogLines l;
    Error err = {0};
    llmdiff_train_options o = training("@/out");
    o.max_train_steps = 1;
    o.max_grad_norm = 0.05;
    o.learning_rate = 1e-3;
    o.adam_beta1 = 0.8;
    o.adam_beta2 = 0.95;
    o.adam_epsilon = 1e-4;
    o.adam_weight_decay = 0.3;
    Safetensors *t = trace_of(&o, NULL);
    read_log("@/out/train.jsonl", &l);
    assert_ok(RUN("init-adapter", "-m", MICRO, "-o", "@/fresh", "-s", "42"));
    Safetensors *fresh = safetensors_open(path("@/fresh/adapter.safetensors"), &err);
    Safetensors *trained = safetensors_open(path("@/out/adapter.safetensors"), &err);
    if (err.set) fail_msg("%s", err.message);
    assert_true(l.norm[0] > 0.05);
    const double factor = 0.05 / (l.norm[0] + 1e-6);
    for (size_t k = 0; k < safetensors_count(fresh); k++) {
        const char *name = safetensors_at(fresh, k)->name;
        const double decay = safetensors_at(fresh, k)->ndim == 2 ? 0.3 : 0;
        char full[3][200];
        int64_t n;
        snprintf(full[0], 200, "grad/%s", name);
        snprintf(full[1], 200, "adamw/%s/m", name);
        snprintf(full[2], 200, "adamw/%s/v", name);
        double *g = numbers_of(t, -1, full[0], &n), *m = numbers_of(t, -1, full[1], &n),
               *v = numbers_of(t, -1, full[2], &n), *before = numbers_of(fresh, -1, name, &n),
               *after = numbers_of(trained, -1, name, &n), largest = 0;
        for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(g[i]) * factor);
        for (int64_t i = 0; i < n; i++) {
            const double along = g[i] * factor;
            const double w = before[i] * (1 - 1e-3 * decay) - 1e-3 * along / (fabs(along) + 1e-4);
            assert_true(near(m[i], 0.2 * along, largest));
            assert_true(near(v[i], 0.05 * along * along, largest * largest));
            if (!near(after[i], w, 0.1)) fail_msg("%s: %g for %g", name, after[i], w);
        }
        free(g), free(m), free(v), free(before), free(after);
    }
    safetensors_close(t);
    safetensors_close(fresh);
    safetensors_close(trained);
}

/* ---- the log --------------------------------------------------------------------------------------------- */

/* smoothed_loss: the mean of all steps so far, from the 50th on each counts a fiftieth. */
static void the_log_adds_up(void **state) {
    (void)state;
    llmdiff_train_options o = training("@/out");
    o.train_batch_size = 1;
    o.gradient_accumulation_steps = 2;
    o.max_train_steps = 55;
    train_well(&o);
    size_t size;
    char *text = contents("@/out/train.jsonl", &size);
    double smoothed = 0, seconds = 0;
    int steps = 0;
    for (char *line = text, *end; *line; line = end + 1) {
        Error err = {0};
        end = strchr(line, '\n');
        cJSON *json = json_parse_object(line, (size_t)(end - line), "", &err);
#define NUMBER(key) cJSON_GetNumberValue(cJSON_GetObjectItem(json, key))
        if (!cJSON_GetObjectItem(json, "event")) {
            const double weight = ++steps < 50 ? 1.0 / steps : 0.02;
            smoothed += weight * (NUMBER("loss") - smoothed);
            assert_true(NUMBER("step") == steps && NUMBER("samples") == 2 * steps);
            assert_true(fabs(NUMBER("smoothed_loss") - smoothed) <= 1e-12 * smoothed);
            assert_true(NUMBER("seconds") >= seconds && NUMBER("samples_per_second") > 0);
            assert_true(NUMBER("epoch") == floor((2 * steps - 1) / 7.0));
            seconds = NUMBER("seconds");
        }
        cJSON_Delete(json);
    }
    assert_int_equal(steps, 55);
    free(text);
}

/* The run died in the midst of the line after the checkpoint's. */
static void a_torn_line_goes(void **state) {
    (void)state;
    LogLines l;
    llmdiff_train_options o = training("@/out");
    train_until(o, 2);
    FILE *f = fopen(path("@/out/train.jsonl"), "a");
    assert_non_null(f);
    fputs("{\"step\":3,\"lo", f);
    fclose(f);
    o.resume_from_checkpoint = "latest";
    train_well(&o);
    read_log("@/out/train.jsonl", &l);
    assert_int_equal(l.steps, 4);
}

/* ---- numbers that are none -------------------------------------------------------------------------------- */

/* An adapter in which an added attention is as large as numbers get, and counts nothing (a2 = 0): the loss
 * is finite, the gradient of a2 isn't. */
static void write_adapter_that_overflows(void) {
    Error err = {0};
    const real largest = sizeof(real) == sizeof(double) ? (real)DBL_MAX : (real)FLT_MAX;
    StoredTensor tensor[64];
    real *memory[64];
    assert_ok(RUN("init-adapter", "-m", MICRO, "-o", "@/large"));
    const char *const file = path("@/large/adapter.safetensors");
    Safetensors *s = safetensors_open(file, &err);
    if (!s) fail_msg("%s", err.message);
    const size_t count = safetensors_count(s);
    assert_true(count <= 64);
    for (size_t k = 0; k < count; k++) {
        const StoredTensor *from = safetensors_at(s, k);
        int64_t n;
        double *x = numbers_of(s, -1, from->name, &n);
        memory[k] = malloc((size_t)n * sizeof(real));
        assert_non_null(memory[k]);
        for (int64_t i = 0; i < n; i++) {
            const bool bias = strstr(from->name, "up_blocks.1.attentions.1") &&
                              strstr(from->name, "tau_out.bias");
            memory[k][i] = bias ? largest / 4 : (real)x[i];
        }
        free(x);
        tensor[k] = *from;
        tensor[k].name = strdup(from->name);
        tensor[k].dtype = sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32;
        tensor[k].bytes = (size_t)n * sizeof(real);
        tensor[k].data = memory[k];
    }
    safetensors_close(s);
    if (safetensors_write(path("@/large/adapter.safetensors"), tensor, count,
                          (const char *const[]){"format", "llmdiff-adapter", "step", "0", NULL},
                          &err))
        fail_msg("%s", err.message);
    for (size_t k = 0; k < count; k++) {
        free((char *)(uintptr_t)tensor[k].name);
        free(memory[k]);
    }
}

static void an_infinite_gradient_is_no_step(void **state) {
    (void)state;
    llmdiff_error error;
    llmdiff_train_options o = training("@/out");
    write_adapter_that_overflows();
    llmdiff_pack *pack = open_training(path("@/large"));
    const bool overflows = sizeof(real) == sizeof(double); /* the norm of floats is a double */
    assert_int_equal(llmdiff_train(pack, &o, &error), overflows ? LLMDIFF_FAILED : LLMDIFF_OK);
    llmdiff_close(pack);
    if (!overflows) return;
    assert_holds(error.message, "the gradient is not finite");
    assert_holds(error.message, "a smaller --learning-rate may help");
    assert_false(is_there("@/out/checkpoint-1"));
}

/* What the steps before left may be unsound already: nothing is saved that wasn't. */
static void unsound_numbers_are_not_saved(void **state) {
    (void)state;
    llmdiff_error error;
    LogLines l;
    llmdiff_train_options o = training("@/out");
    o.learning_rate = 1e6;
    o.max_train_steps = 50;
    assert_int_equal(try_train(&o, &error), LLMDIFF_FAILED);
    assert_holds(error.message, "not finite");
    read_log("@/out/train.jsonl", &l);
    assert_true(l.steps >= 1);
    char command[128];
    snprintf(command, sizeof command, "ls -d '%s'/checkpoint-* 2>/dev/null", path("@/out"));
    assert_int_not_equal(system(command), 0);
}

#define IN_A_DIRECTORY(test)                                                                       \
    cmocka_unit_test_setup_teardown(test, fresh_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_A_DIRECTORY(draws_are_spread),
        IN_A_DIRECTORY(the_next_step_has_other_draws),
        IN_A_DIRECTORY(the_loss_is_the_mean),
        IN_A_DIRECTORY(the_update_is_adamws),
        IN_A_DIRECTORY(the_log_adds_up),
        IN_A_DIRECTORY(a_torn_line_goes),
        IN_A_DIRECTORY(an_infinite_gradient_is_no_step),
        IN_A_DIRECTORY(unsound_numbers_are_not_saved),
    };
    return cmocka_run_group_tests_name("the steps of a training run", tests, NULL, NULL);
}
