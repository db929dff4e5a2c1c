/* The U-Net against diffusers UNet2DConditionModel: seven models, sixteen runs, every named
 * activation (golden/export_unet.py says what each is for). */
#include "tests/check.h"

#include "ref/unet.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct Run {
    const char *model, *run;
} Run;

static Tensor as_batch(Context *ctx, Tensor map, int64_t B) {
    Tensor x = channels_last(ctx, map);
    Tensor y = TENSOR_NEW(ctx, B, x.dim[0], x.dim[1], x.dim[2]);
    for (int64_t b = 0; b < B; b++)
        memcpy(tensor_at(y, b).data, x.data, (size_t)tensor_numel(x) * sizeof(real));
    return y;
}

static CrossLayers cross_layers(Context *ctx, const Unet *unet, Tensor phi_c, CrossContext *kv) {
    CrossLayers cross = {.original = unet->cross};
    for (int64_t i = 0; i < unet->cross_layers; i++)
        kv[i] = eq9_context(ctx, &unet->cross[i], NULL, phi_c, phi_c);
    cross.context[0] = kv;
    return cross;
}

/* How many outputs the golden has whose name begins so. */
static size_t outputs(const Golden *g, const char *prefix) {
    size_t n = 0;
    for (size_t i = 0; i < safetensors_count(golden_file(g)); i++) {
        const char *name = safetensors_at(golden_file(g), i)->name;
        char key[256];
        snprintf(key, sizeof key, "yardstick:%s", name);
        n += strncmp(name, prefix, strlen(prefix)) == 0 &&
             safetensors_metadata(golden_file(g), key) != NULL;
    }
    return n;
}

static void equals_upstream(void **state) {
    const Run *run = *state;
    char dir[128], name[96], prefix[64];
    snprintf(name, sizeof name, "unet_%s", run->model);
    snprintf(dir, sizeof dir, "golden/data/%s", name);
    snprintf(prefix, sizeof prefix, "%s/", run->run);

    Context ctx = {0};
    Unet *unet = unet_load(dir, &ctx.error);
    assert_context_ok(&ctx);
    Golden *g = golden_open(name);
    GoldenObserver seen = {g, prefix, MODULE, 0};
    Observer observer = golden_observer(&seen);
    ctx.observer = &observer;

    snprintf(name, sizeof name, "%s/sample", run->run);
    Tensor sample = as_batch(&ctx, golden_tensor(g, &ctx, name), 1);
    snprintf(name, sizeof name, "%s/context", run->run);
    Tensor phi_c = golden_tensor(g, &ctx, name);
    snprintf(name, sizeof name, "%s/t", run->run);
    double t;
    assert_int_equal(stored_to_double(safetensors_find(golden_file(g), name), &t, &ctx.error), 0);

    CrossContext *kv = calloc((size_t)unet->cross_layers + 1, sizeof *kv);
    CrossLayers cross = cross_layers(&ctx, unet, phi_c, kv);
    Tensor eps = unet_forward(&ctx, unet, sample, t, &cross);
    assert_context_ok(&ctx);
    snprintf(name, sizeof name, "%s/eps", run->run);
    golden_check(g, name, channels_first(&ctx, tensor_at(eps, 0)), MODULE);
    /* Everything that the golden holds of this run was produced, under its name. */
    assert_int_equal(seen.compared + 1, outputs(g, prefix));

    free(kv);
    golden_close(g);
    unet_free(unet);
    context_free(&ctx);
}

/* Each element of a batch is what it is alone, to rounding: guidance runs both prompts at once. */
static void batch_elements_are_independent(void **state) {
    (void)state;
    Context ctx = {0};
    Unet *unet = unet_load("golden/data/unet_sd", &ctx.error);
    assert_context_ok(&ctx);
    Golden *g = golden_open("unet_sd");
    Tensor map = golden_tensor(g, &ctx, "full/sample");
    Tensor long_prompt = golden_tensor(g, &ctx, "long/context");
    Tensor prompt = golden_tensor(g, &ctx, "full/context");
    CrossContext *kv[2];
    CrossLayers cross = {0};
    for (int b = 0; b < 2; b++) {
        kv[b] = calloc((size_t)unet->cross_layers, sizeof **kv);
        cross = cross_layers(&ctx, unet, b ? long_prompt : prompt, kv[b]);
    }
    cross.context[0] = kv[0];
    cross.context[1] = kv[1];
    Tensor both = unet_forward(&ctx, unet, as_batch(&ctx, map, 2), 999, &cross);
    assert_context_ok(&ctx);
    golden_check(g, "full/eps", channels_first(&ctx, tensor_at(both, 0)), MODULE);

    cross.context[0] = kv[1];
    cross.context[1] = NULL;
    Tensor alone = unet_forward(&ctx, unet, as_batch(&ctx, map, 1), 999, &cross);
    for (int64_t i = 0; i < tensor_numel(alone); i++) {
        real difference = alone.data[i] - tensor_at(both, 1).data[i];
        assert_true(difference < 64 * REAL_EPSILON && difference > -64 * REAL_EPSILON);
    }
    free(kv[0]);
    free(kv[1]);
    golden_close(g);
    unet_free(unet);
    context_free(&ctx);
}

static void same_bytes_at_any_thread_count(void **state) {
    (void)state;
    Context first = {.threads = 1};
    Unet *unet = unet_load("golden/data/unet_sd", &first.error);
    Golden *g = golden_open("unet_sd");
    real *expected = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        Context ctx = {.threads = threads};
        Tensor sample = as_batch(&ctx, golden_tensor(g, &ctx, "odd/sample"), 2);
        Tensor phi_c = golden_tensor(g, &ctx, "odd/context");
        CrossContext *kv = calloc((size_t)unet->cross_layers, sizeof *kv);
        CrossLayers cross = cross_layers(&ctx, unet, phi_c, kv);
        cross.context[1] = kv;
        Tensor eps = unet_forward(&ctx, unet, sample, 261.25, &cross);
        assert_context_ok(&ctx);
        size_t bytes = (size_t)tensor_numel(eps) * sizeof(real);
        if (!expected) {
            expected = malloc(bytes);
            memcpy(expected, eps.data, bytes);
            golden_check(g, "odd/eps", channels_first(&ctx, tensor_at(eps, 0)), MODULE);
        }
        assert_memory_equal(expected, eps.data, bytes);
        free(kv);
        context_free(&ctx);
    }
    free(expected);
    golden_close(g);
    unet_free(unet);
    context_free(&first);
}

int main(void) {
    static Run runs[] = {{"sd", "full"},
                         {"sd", "odd"},
                         {"sd", "odd_halves"},
                         {"sd", "one_token"},
                         {"sd", "long"},
                         {"linear_projection", "full"},
                         {"linear_projection", "one_token"},
                         {"choices", "full"},
                         {"choices", "zero"},
                         {"one_level", "full"},
                         {"unmirrored", "full"},
                         {"unmirrored", "even"},
                         {"no_mid", "full"},
                         {"no_mid", "odd"},
                         {"upstream", "full"},
                         {"upstream", "odd"}};
    enum { RUNS = sizeof runs / sizeof runs[0] };
    struct CMUnitTest tests[RUNS + 2] = {cmocka_unit_test(batch_elements_are_independent),
                                         cmocka_unit_test(same_bytes_at_any_thread_count)};
    char names[RUNS][64];
    for (size_t i = 0; i < RUNS; i++) {
        snprintf(names[i], sizeof names[i], "unet %s, %s", runs[i].model, runs[i].run);
        tests[2 + i] = (struct CMUnitTest){names[i], equals_upstream, NULL, NULL, &runs[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
