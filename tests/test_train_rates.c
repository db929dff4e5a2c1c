/* What changes from step to step by a rule: the learning rate and the moving average, beside diffusers'
 * get_scheduler and EMAModel. */
#include "tests/check.h"

#include "ref/train/ema.h"
#include "ref/train/learning_rate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- learning rate ----------------------------------------------------------------------------- */

static void rates_are_upstreams(void **state) {
    (void)state;
    Error err = {0};
    Safetensors *f = safetensors_open("golden/data/learning_rate.safetensors", &err);
    if (!f) fail_msg("%s", err.message);
    size_t compared = 0;
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const StoredTensor *t = safetensors_at(f, i);
        char kind[16];
        int warmup, steps;
        double *truth = malloc(t->bytes);
        assert_non_null(truth);
        assert_int_equal(sscanf(t->name, "%15[a-z]/%d_%d", kind, &warmup, &steps), 3);
        assert_int_equal(stored_to_double(t, truth, &err), 0);
        LearningRate lr = {.base = 1e-4, .warmup = warmup, .steps = steps};
        assert_int_equal(learning_rate_kind(kind, &lr.kind, &err), 0);
        for (int64_t k = 0; k < t->dim[0]; k++) {
            const double got = learning_rate(&lr, k);
            if (!(fabs(got - truth[k]) <= 1e-15 * 1e-4))
                fail_msg("%s: step %d: expected %.17g, found %.17g", t->name, (int)k, truth[k],
                         got);
            compared++;
        }
        free(truth);
    }
    assert_int_equal(compared, 3 * (6 + 15 + 15 + 15 + 15 + 15 + 15 + 6));
    safetensors_close(f);
}

static void an_unknown_schedule(void **state) {
    (void)state;
    Error err = {0};
    LearningRateKind kind;
    assert_int_equal(learning_rate_kind("polynomial", &kind, &err), -1);
    assert_string_equal(
        err.message, "--lr-scheduler: expected constant, linear or cosine, found \"polynomial\"");
}

/* ---- moving average ---------------------------------------------------------------------------- */

/* Two learned tensors that share the n numbers. */
typedef struct Net {
    Parameters p;
    Learned learned[2];
    real *w;
} Net;

static void net_open(Net *net, int64_t n) {
    net->w = calloc((size_t)n, sizeof *net->w);
    assert_non_null(net->w);
    net->learned[0] = (Learned){.w = net->w, .n = 2};
    net->learned[1] = (Learned){.w = net->w + 2, .n = n - 2};
    net->p = (Parameters){.learned = net->learned, .learned_count = 2, .numbers = n};
}

static void averages_are_upstreams(void **state) {
    (void)state;
    Golden *g = golden_open("ema");
    Context ctx = {.threads = 1};
    Error err = {0};
    for (int i = 0; i < 4; i++) {
        const char *name = (const char *[]){"0.9999", "0.5", "0", "1"}[i];
        char text[32];
        snprintf(text, sizeof text, "%s/parameters", name);
        const Tensor walk = golden_tensor(g, &ctx, text);
        assert_context_ok(&ctx);
        const int64_t steps = walk.dim[0] - 1, n = walk.dim[1];
        Net net;
        Ema ema;
        net_open(&net, n);
        memcpy(net.w, walk.data, (size_t)n * sizeof(real));
        assert_int_equal(ema_open(&ema, &net.p, atof(name), &err), 0);
        assert_memory_equal(ema.average, walk.data, (size_t)n * sizeof(real));
        real *averages = malloc((size_t)(steps * n) * sizeof(real));
        real *decay = malloc((size_t)steps * sizeof(real));
        assert_true(averages && decay);
        for (int64_t k = 0; k < steps; k++) {
            memcpy(net.w, walk.data + (k + 1) * n, (size_t)n * sizeof(real));
            ema_step(&ctx, &ema, &net.p, k + 1);
            decay[k] = (real)ema_decay(&ema, k + 1);
            memcpy(averages + k * n, ema.average, (size_t)n * sizeof(real));
        }
        snprintf(text, sizeof text, "%s/averages", name);
        golden_check_data(g, text, averages, 2, (int64_t[]){steps, n}, OPERATOR);
        snprintf(text, sizeof text, "%s/decay", name);
        golden_check_data(g, text, decay, 1, &steps, OPERATOR);
        free(averages);
        free(decay);
        ema_close(&ema);
        free(net.w);
    }
    context_free(&ctx);
    golden_close(g);
}

/* For drawing with the averages in the midst of training. */
static void swapped_twice_is_as_before(void **state) {
    (void)state;
    Error err = {0};
    Net net;
    Ema ema;
    net_open(&net, 5);
    for (int i = 0; i < 5; i++) net.w[i] = (real)i;
    assert_int_equal(ema_open(&ema, &net.p, 0.9, &err), 0);
    net.w[0] = NAN; /* bits, not numbers */
    for (int i = 1; i < 5; i++) net.w[i] = (real)(10 + i);
    ema_swap(&ema, &net.p);
    for (int i = 0; i < 5; i++) assert_true(net.w[i] == (real)i);
    for (int i = 1; i < 5; i++) assert_true(ema.average[i] == (real)(10 + i));
    ema_swap(&ema, &net.p);
    assert_true(isnan(net.w[0]));
    for (int i = 1; i < 5; i++) assert_true(net.w[i] == (real)(10 + i));
    for (int i = 0; i < 5; i++) assert_true(ema.average[i] == (real)i);
    ema_close(&ema);
    free(net.w);
}

/* Large enough to be shared among threads. */
static void threads_change_nothing(void **state) {
    (void)state;
    enum { N = 100000 };
    real *first = malloc(N * sizeof *first);
    Error err = {0};
    assert_non_null(first);
    for (int threads = 1; threads <= 3; threads++) {
        Context ctx = {.threads = threads};
        Net net;
        Ema ema;
        net_open(&net, N);
        assert_int_equal(ema_open(&ema, &net.p, 0.9, &err), 0);
        for (int64_t step = 1; step <= 3; step++) {
            for (int i = 0; i < N; i++) net.w[i] += (real)sin((double)i * (double)step);
            ema_step(&ctx, &ema, &net.p, step);
        }
        if (threads == 1) memcpy(first, ema.average, N * sizeof *first);
        assert_memory_equal(first, ema.average, N * sizeof *first);
        ema_close(&ema);
        free(net.w);
        context_free(&ctx);
    }
    free(first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_upstreams),    cmocka_unit_test(an_unknown_schedule),
        cmocka_unit_test(averages_are_upstreams), cmocka_unit_test(swapped_twice_is_as_before),
        cmocka_unit_test(threads_change_nothing),
    };
    return cmocka_run_group_tests_name("learning rate and moving average", tests, NULL, NULL);
}
