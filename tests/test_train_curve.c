/* The loss over 100 steps of AdamW on 32 pairs with their t and noise, beside torch's
 * (golden/export_train.py, train_curve): in double the same curve, in float it stays with torch's as long
 * as torch's own float32 does; and it falls. An error that a single step's tolerance hides (a moment
 * that is not kept, a gradient not zeroed, a bias correction that stops) adds up here. */
#include "tests/train_case.h"

enum { STEPS = 100, BATCH = 4, PAIRS = 32, EPOCH = PAIRS / BATCH };

static void descend(TrainCase *c, real *loss) {
    const Golden *g = c->golden;
    const ParametersOptions options = {.weight_decay = golden_number(g, "weight_decay")};
    const AdamW adamw = {golden_number(g, "lr"), golden_number(g, "beta1"),
                         golden_number(g, "beta2"), golden_number(g, "eps")};
    Parameters p;
    Tape tape = {0};
    Context ctx = {.threads = 2, .tape = &tape};
    parameters_open(&p, c->pack.adapter, c->pack.unet, &options, &c->ctx.error);
    assert_context_ok(&c->ctx);
    for (int k = 0; k < STEPS; k++) {
        parameters_zero_gradients(&p);
        loss[k] = (real)train_case_run(c, &ctx, &p, BATCH * k % PAIRS, BATCH);
        for (int64_t i = 0; i < p.learned_count; i++)
            adamw_step(&ctx, &adamw, k + 1, &p.learned[i]);
        assert_context_ok(&ctx);
    }
    tape_free(&tape);
    context_free(&ctx);
    parameters_close(&p);
}

/* Each tenth has a yardstick of its own: runs that round differently move apart. */
static void is_torch_s(const real *loss, Golden *g) {
    char name[24];
    for (int k = 0; k < STEPS; k += 10) {
        snprintf(name, sizeof name, "loss.%d", k + 10);
        golden_check_data(g, name, loss + k, 1, (int64_t[]){10}, GRADIENT);
    }
}

/* Every epoch's mean is below the last one's. */
static void falls(const real *loss) {
    double first = 0, before = 0;
    for (int e = 0; e < STEPS / EPOCH; e++) {
        double mean = 0;
        for (int k = 0; k < EPOCH; k++) mean += (double)loss[EPOCH * e + k] / EPOCH;
        if (e && !(mean < before))
            fail_msg("epoch %d: loss %g, after %g in the one before", e, mean, before);
        before = mean;
        if (!e) first = mean;
    }
    print_message("loss %.4f -> %.4f\n", first, before);
    assert_true(before < 0.85 * first);
}

static void hundred_steps(void **state) {
    (void)state;
    TrainCase c;
    real loss[STEPS];
    train_case_open(&c, "train_curve");
    assert_int_equal(c.samples, PAIRS);
    descend(&c, loss);
    is_torch_s(loss, c.golden);
    falls(loss);
    train_case_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(hundred_steps)};
    return cmocka_run_group_tests_name("the loss curve", tests, NULL, NULL);
}
