/* The training step on golden/micro against torch autograd through the upstream classes
 * (golden/export_train.py): every gradient of every adapter parameter for each choice of the spec, ten
 * steps of AdamW; and what must hold exactly: the encoding of training is Algorithm 1's, the bytes of a
 * gradient depend on neither threads nor checkpointing nor what else is learned. */
#include "tests/train_case.h"

#include <math.h>

static void open_all(Parameters *p, TrainCase *c) {
    parameters_open(p, c->pack.adapter, c->pack.unet, &(ParametersOptions){0}, &c->ctx.error);
    assert_context_ok(&c->ctx);
}

static void check_loss(TrainCase *c, double loss) {
    golden_check_data(c->golden, "train/loss", &(real){(real)loss}, 1, (int64_t[]){1}, MODULE);
}

/* Loss and gradients of all samples, from zero. */
static double gradients(TrainCase *c, Parameters *p, int threads, bool checkpoint,
                        const Observer *observer) {
    Tape tape = {.checkpoint = checkpoint};
    Context ctx = {.threads = threads, .tape = &tape, .observer = observer};
    parameters_zero_gradients(p);
    const double loss = train_case_run(c, &ctx, p, 0, c->samples);
    assert_context_ok(&ctx);
    assert_int_equal(ctx.arena.in_use, 0);
    assert_int_equal(tape.in_use, 0);
    tape_free(&tape);
    context_free(&ctx);
    check_loss(c, loss);
    return loss;
}

/* Is `name` one of the lines of `list`? */
static bool listed(const char *list, const char *name) {
    const size_t length = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at += length)
        if ((at == list || at[-1] == '\n') && (at[length] == '\n' || !at[length])) return true;
    return false;
}

/* Those without a gradient are those that autograd leaves out. */
static int64_t check_gradients(TrainCase *c, const Parameters *p) {
    const char *unused = safetensors_metadata(golden_file(c->golden), "unused");
    int64_t values = 0, in_golden = 0;
    char name[200];
    for (int64_t i = 0; i < p->count; i++) {
        const Weight *w = &p->weight[i];
        snprintf(name, sizeof name, "grad/%s", w->name);
        assert_true(golden_has(c->golden, name));
        if (!w->grad != listed(unused, w->name))
            fail_msg("%s: %s", w->name, w->grad ? "autograd has no gradient" : "has no gradient");
        if (!w->grad) continue;
        golden_check_data(c->golden, name, w->grad, w->ndim, w->dim, GRADIENT);
        values++;
    }
    for (size_t i = 0; i < safetensors_count(golden_file(c->golden)); i++)
        in_golden += strncmp(safetensors_at(golden_file(c->golden), i)->name, "grad/", 5) == 0;
    assert_int_equal(p->count, in_golden);
    assert_int_equal(p->learned_count, values);
    return values;
}

static void encoding_is_algorithm_1(TrainCase *c) {
    Context ctx = {.threads = 2};
    const Adapter *a = c->pack.adapter;
    for (int b = 0; b < c->samples; b++) {
        int64_t tokens;
        char name[64];
        snprintf(name, sizeof name, "%d/ids", b);
        const int64_t *ids = golden_ids(c->golden, name, &tokens);
        Noise noise = c->sample[b].noise, again = noise;
        Tensor whole = alg1_encoding(&ctx, c->pack.llm, a->scalars, &a->settings, ids, tokens,
                                     &noise, c->group[b]);
        Tensor sum =
            encoding_sum(&ctx, &c->prompt[b], a->scalars, &a->settings, &again, c->group[b]);
        assert_context_ok(&ctx);
        assert_memory_equal(whole.data, sum.data, (size_t)tensor_numel(sum) * sizeof(real));
    }
    context_free(&ctx);
}

/* What the golden has as inputs the step is given, and shows as they are. */
static void see_outputs(void *self, const char *name, const real *data, int ndim,
                        const int64_t *dim) {
    static const char *const inputs[] = {"train/t", "train/noise", "train/posterior_noise"};
    const char *path = strchr(name, '/') + 1;
    if (strncmp(path, "alg1/", 5) == 0 && strcmp(path, "alg1/c.0") != 0) return;
    for (int i = 0; i < 3; i++)
        if (strcmp(path, inputs[i]) == 0) return;
    golden_observer(self).see(self, name, data, ndim, dim);
}

/* The same bytes at any number of threads and with checkpointing. */
static void check_bytes(TrainCase *c, Parameters *p, real loss) {
    const size_t bytes = (size_t)p->numbers * sizeof(real);
    real *once = malloc(bytes);
    assert_non_null(once);
    memcpy(once, p->gradient, bytes);
    for (int variant = 0; variant < 3; variant++) {
        const real again = (real)gradients(c, p, variant ? 3 : 2, variant != 0, NULL);
        assert_memory_equal(&again, &loss, sizeof loss);
        assert_memory_equal(p->gradient, once, bytes);
    }
    free(once);
}

static void equals_autograd(void **state) {
    TrainCase c;
    Parameters p;
    train_case_open(&c, *state);
    encoding_is_algorithm_1(&c);
    open_all(&p, &c);
    GoldenObserver seen = {c.golden, "", MODULE, 0};
    const Observer observer = {see_outputs, &seen};
    const real loss = (real)gradients(&c, &p, 1, false, &observer);
    assert_int_equal(seen.compared, 3 * c.samples); /* z0, z_t, c */
    const int64_t checked = check_gradients(&c, &p);
    print_message("%d gradients of %d samples, %d numbers\n", (int)checked, (int)c.samples,
                  (int)p.numbers);

    check_bytes(&c, &p, loss);
    parameters_close(&p);
    train_case_close(&c);
}

/* All samples, each with its own t and a prompt of its own length, in one pass of the U-Net; and in two. */
static void together_equals_autograd(void **state) {
    TrainCase c;
    Parameters p;
    train_case_open(&c, *state);
    open_all(&p, &c);
    for (c.together = c.samples; c.together > 1; c.together -= c.samples / 2) {
        GoldenObserver seen = {c.golden, "", MODULE, 0};
        const Observer observer = {see_outputs, &seen};
        const real loss = (real)gradients(&c, &p, 1, false, &observer);
        assert_int_equal(seen.compared, 3 * c.samples);
        check_gradients(&c, &p);
        check_bytes(&c, &p, loss);
    }
    parameters_close(&p);
    train_case_close(&c);
}

static void central_differences(void **state) {
    TrainCase c;
    Parameters p;
    train_case_open(&c, *state);
    open_all(&p, &c);
    gradients(&c, &p, 2, false, NULL);
    Context ctx = {.threads = 2};
    double norm = sqrt(dot(&ctx, p.numbers, p.gradient, p.gradient)), worst = 0;
    Rng rng = rng_seed(5);
    const int coordinates = sizeof(real) == sizeof(double) ? 240 : 0; /* float is too coarse */
    for (int k = 0; k < coordinates; k++) {
        /* any parameter as likely as any other, so that the scalars come up too */
        float draw[2];
        rng_uniform(&rng, 0, 1, draw, 2);
        const Learned *l = &p.learned[(int64_t)((double)draw[0] * (double)p.learned_count)];
        real *x = &l->w[(int64_t)((double)draw[1] * (double)l->n)];
        const real at = *x, h = (real)1e-5;
        *x = at + h;
        const double up = train_case_run(&c, &ctx, &p, 0, c.samples);
        *x = at - h;
        const double down = train_case_run(&c, &ctx, &p, 0, c.samples);
        *x = at;
        const double difference = (up - down) / (2 * (double)h);
        const double error = fabs(difference - (double)l->grad[x - l->w]);
        worst = fmax(worst, error / norm);
        assert_true(error <= 1e-8 * norm);
    }
    assert_context_ok(&ctx);
    print_message("%d coordinates, worst difference %.2g of the gradient's norm\n", coordinates,
                  worst);
    context_free(&ctx);
    parameters_close(&p);
    train_case_close(&c);
}

static void check_parameters(TrainCase *c, const Parameters *p, int step) {
    char name[200];
    for (int64_t i = 0; i < p->count; i++) {
        const Weight *w = &p->weight[i];
        snprintf(name, sizeof name, "after.%d/%s", step, w->name);
        golden_check_data(c->golden, name, w->data, w->ndim, w->dim, GRADIENT);
    }
}

static void ten_steps(void **state) {
    TrainCase c;
    Parameters p;
    real loss[10], norm[10];
    train_case_open(&c, *state);
    const Golden *g = c.golden;
    const ParametersOptions options = {.weight_decay = golden_number(g, "weight_decay")};
    parameters_open(&p, c.pack.adapter, c.pack.unet, &options, &c.ctx.error);
    assert_context_ok(&c.ctx);
    const AdamW adamw = {golden_number(g, "lr"), golden_number(g, "beta1"),
                         golden_number(g, "beta2"), golden_number(g, "eps")};
    Tape tape = {0};
    Context ctx = {.threads = 2, .tape = &tape};
    for (int k = 0; k < 10; k++) {
        parameters_zero_gradients(&p);
        loss[k] = (real)train_case_run(&c, &ctx, &p, 2 * k % 8, 2);
        norm[k] = (real)clip_gradients(&ctx, p.learned, p.learned_count,
                                       golden_number(g, "max_grad_norm"));
        for (int64_t i = 0; i < p.learned_count; i++)
            adamw_step(&ctx, &adamw, k + 1, &p.learned[i]);
        assert_context_ok(&ctx);
        if (k == 0 || k == 9) check_parameters(&c, &p, k + 1);
    }
    golden_check_data(c.golden, "loss", loss, 1, (int64_t[]){10}, GRADIENT);
    golden_check_data(c.golden, "norm", norm, 1, (int64_t[]){10}, GRADIENT);
    tape_free(&tape);
    context_free(&ctx);
    parameters_close(&p);
    train_case_close(&c);
}

/* The chosen ones get the same gradient as when all are learned, the others neither gradient nor step. */
static void train_only(void **state) {
    static const struct {
        const char *pattern;
        int count;
    } choice[] = {{"^phi\\.", 2},
                  {"^(g|eta)$", 2},
                  {"[ab][12]$", 16},
                  {"mid_block.*tau_", 5},
                  {"up_blocks.*tau_out.bias", 2}};
    TrainCase c;
    Parameters all, some;
    train_case_open(&c, *state);
    open_all(&all, &c);
    gradients(&c, &all, 2, false, NULL);
    for (size_t k = 0; k < sizeof choice / sizeof choice[0]; k++) {
        const ParametersOptions options = {.train_only = choice[k].pattern, .weight_decay = 0.1};
        parameters_open(&some, c.pack.adapter, c.pack.unet, &options, &c.ctx.error);
        assert_context_ok(&c.ctx);
        assert_int_equal(some.learned_count, choice[k].count);
        gradients(&c, &some, 2, true, NULL);
        for (int64_t i = 0; i < some.learned_count; i++)
            adamw_step(&c.ctx, &(AdamW){1e-2, 0.9, 0.99, 1e-8}, 1, &some.learned[i]);
        for (int64_t i = 0; i < some.count; i++) {
            const Weight *w = &some.weight[i], *same = &all.weight[i];
            size_t bytes = sizeof(real);
            for (int d = 0; d < w->ndim; d++) bytes *= (size_t)w->dim[d];
            assert_string_equal(w->name, same->name);
            if (w->grad)
                assert_memory_equal(w->grad, same->grad, bytes);
            else
                assert_memory_equal(w->data, same->data, bytes);
            if (w->grad) assert_memory_not_equal(w->data, same->data, bytes);
        }
        parameters_close(&some);
    }
    Error err = {0};
    const ParametersOptions broken = {.train_only = "(phi"}, nothing = {.train_only = "^psi"};
    assert_int_equal(parameters_open(&some, c.pack.adapter, c.pack.unet, &broken, &err), -1);
    assert_non_null(strstr(err.message, "--train-only (phi: not a regular expression"));
    err.set = false;
    assert_int_equal(parameters_open(&some, c.pack.adapter, c.pack.unet, &nothing, &err), -1);
    assert_non_null(strstr(err.message, "--train-only ^psi: matches no parameter"));
    parameters_close(&all);
    train_case_close(&c);
}

static void what_cannot_be_trained_on(void **state) {
    TrainCase c;
    Training t;
    train_case_open(&c, *state);
    Context ctx = {.threads = 1};
    assert_int_equal(training_open(&t, &c.pack, c.pack.adapter, 0, &ctx.error), 0);
    /* without a tape, and with the adapter as it was loaded: the loss alone */
    const Parameters loaded = {.adapter = *c.pack.adapter};
    check_loss(&c, train_case_run(&c, &ctx, &loaded, 0, c.samples));
    TrainSample late = c.sample[0];
    late.t = 1000;
    training_sample(&ctx, &t, &late, 1);
    assert_non_null(strstr(ctx.error.message, "t = 1000: the schedule has t = 0 to 999"));
    training_close(&t);
    ctx.error.set = false;
    c.pack.schedule->prediction = PREDICT_SAMPLE;
    assert_int_equal(training_open(&t, &c.pack, c.pack.adapter, 0, &ctx.error), -1);
    assert_non_null(strstr(ctx.error.message, "found \"sample\""));
    context_free(&ctx);
    train_case_close(&c);
}

/* alpha-bar 0: snr 0, which neither weight may divide by. */
static void weights_of_noise_alone(void **state) {
    static const struct {
        int prediction;
        double gamma, weight;
    } w[] = {{PREDICT_V, 0, 1},
             {PREDICT_V, 5, 0},
             {PREDICT_V, 0.1, 0},
             {PREDICT_EPSILON, 0, 1},
             {PREDICT_EPSILON, 5, 1}};
    Pack pack;
    Error err = {0};
    (void)state;
    if (pack_open(&pack, &(PackPaths){.model = "golden/micro"}, PACK_GENERATE, &err))
        fail_msg("%s", err.message);
    pack.schedule->rescale_betas_zero_snr = true;
    for (size_t i = 0; i < sizeof w / sizeof *w; i++) {
        Training t;
        pack.schedule->prediction = w[i].prediction;
        assert_int_equal(training_open(&t, &pack, pack.adapter, w[i].gamma, &err), 0);
        assert_true(t.abar[999] == 0 && t.abar[998] > 0);
        assert_true(training_weight(&t, 999) == w[i].weight);
        assert_true(training_weight(&t, 998) > 0);
        training_close(&t);
    }
    pack_close(&pack);
}

#define TEST(name, f, file)                                                                        \
    { name ", " file, f, NULL, NULL, (void *)(uintptr_t)("train_" file) }

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST("gradients", equals_autograd, "plain"),
        TEST("gradients", equals_autograd, "no_noise"),
        TEST("gradients", equals_autograd, "tau_c"),
        TEST("gradients", equals_autograd, "shared"),
        TEST("gradients", equals_autograd, "difference"),
        TEST("gradients", equals_autograd, "rms"),
        TEST("gradients", equals_autograd, "blocks"),
        TEST("gradients", equals_autograd, "layers"),
        TEST("gradients", equals_autograd, "sentence"),
        TEST("gradients", equals_autograd, "accumulation"),
        TEST("gradients", equals_autograd, "min_snr"),
        TEST("gradients", equals_autograd, "v_prediction"),
        TEST("gradients", equals_autograd, "zero_snr"),
        TEST("together", together_equals_autograd, "plain"),
        TEST("together", together_equals_autograd, "tau_c"),
        TEST("together", together_equals_autograd, "accumulation"),
        TEST("together", together_equals_autograd, "min_snr"),
        TEST("together", together_equals_autograd, "v_prediction"),
        TEST("together", together_equals_autograd, "zero_snr"),
        cmocka_unit_test(weights_of_noise_alone),
        TEST("central differences", central_differences, "plain"),
        TEST("central differences", central_differences, "sentence"),
        TEST("ten steps", ten_steps, "adamw"),
        TEST("train only", train_only, "plain"),
        TEST("refused", what_cannot_be_trained_on, "plain"),
    };
    return cmocka_run_group_tests_name("training against torch autograd", tests, NULL, NULL);
}
