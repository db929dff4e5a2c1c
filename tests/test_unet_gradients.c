/* The way back through whole U-Nets, with the forward as it is written for inference: the gradients of
 * the prompt's encoding and of the sample against central differences along random directions (double),
 * the same bytes at one and three threads. */
#include "tests/test_tensor.h"

#include "ref/unet.h"
#include "tensor/tape.h"

#include <stdio.h>

enum { DIRECTIONS = 8 };

/* sum(eps * r), r random, for a prompt and a sample. */
typedef struct Problem {
    Unet *unet;
    Tensor sample, phi_c, r; /* constants */
    double t;
    Golden *golden;
    char eps[64];
} Problem;

static Tensor forward(Context *ctx, const Problem *p, Tensor sample, Tensor phi_c) {
    CrossLayers cross = {.original = p->unet->cross};
    cross.context[0] = eq9_contexts(ctx, p->unet->cross, NULL, p->unet->cross_layers, phi_c, phi_c);
    return unet_forward(ctx, p->unet, sample, p->t, &cross);
}

static double value(const Problem *p, Tensor sample, Tensor phi_c) {
    Context ctx = {.threads = 2};
    Tensor eps = forward(&ctx, p, sample, phi_c);
    assert_context_ok(&ctx);
    double sum = 0;
    for (int64_t i = 0; i < tensor_numel(eps); i++)
        sum += (double)eps.data[i] * (double)p->r.data[i];
    context_free(&ctx);
    return sum;
}

/* x + h u */
static Tensor moved(Context *ctx, Tensor x, double h, Tensor u) { return axpby(ctx, 1, x, h, u); }

static void gradients(const Problem *p, int threads, Tensor dsample, Tensor dphi_c) {
    Tape tape = {0};
    Context ctx = {.threads = threads, .tape = &tape};
    memset(dsample.data, 0, (size_t)tensor_numel(dsample) * sizeof(real));
    memset(dphi_c.data, 0, (size_t)tensor_numel(dphi_c) * sizeof(real));
    ArenaMark mark = scope_begin(&ctx);
    Tensor sample = tape_variable(&ctx, p->sample, dsample.data);
    Tensor eps = forward(&ctx, p, sample, tape_variable(&ctx, p->phi_c, dphi_c.data));
    assert_context_ok(&ctx);
    Tensor seen = tensor_at(eps, 0);
    seen.var = 0; /* a constant: for looking at */
    golden_check(p->golden, p->eps, channels_first(&ctx, seen), MODULE);
    tape_backward(&ctx, eps, p->r.data);
    assert_context_ok(&ctx);
    assert_int_equal(tape.in_use, 0);
    arena_release(&ctx.arena, mark);
    assert_int_equal(ctx.arena.in_use, 0);
    tape_free(&tape);
    context_free(&ctx);
}

static void test_unet(void **state) {
    const char *const *names = *state; /* the model and its run */
    char dir[64], name[64];
    Context ctx = {.threads = 2};
    snprintf(dir, sizeof dir, "golden/data/unet_%s", names[0]);
    Problem p = {.unet = unet_load(dir, &ctx.error)};
    assert_context_ok(&ctx);
    Golden *g = p.golden = golden_open(strrchr(dir, '/') + 1);
    snprintf(name, sizeof name, "%s/t", names[1]);
    assert_int_equal(stored_to_double(safetensors_find(golden_file(g), name), &p.t, &ctx.error), 0);
    snprintf(p.eps, sizeof p.eps, "%s/eps", names[1]);
    snprintf(name, sizeof name, "%s/sample", names[1]);
    Tensor map = channels_last(&ctx, golden_tensor(g, &ctx, name));
    p.sample = TENSOR_VIEW(map, 1, map.dim[0], map.dim[1], map.dim[2]);
    snprintf(name, sizeof name, "%s/context", names[1]);
    p.phi_c = golden_tensor(g, &ctx, name);
    p.r = filled(TENSOR_NEW(&ctx, 1, map.dim[0], map.dim[1], p.unet->out_channels), 1);

    Tensor dsample = tensor_copy(&ctx, p.sample), dphi_c = tensor_copy(&ctx, p.phi_c);
    Tensor again = tensor_copy(&ctx, p.sample), dphi_again = tensor_copy(&ctx, p.phi_c);
    gradients(&p, 1, dsample, dphi_c);
    gradients(&p, 3, again, dphi_again);
    assert_same_bytes(again, dsample);
    assert_same_bytes(dphi_again, dphi_c);

    if (sizeof(real) == sizeof(double)) {
        double worst = 0;
        for (int k = 0; k < DIRECTIONS; k++) {
            Tensor u = filled(tensor_copy(&ctx, p.sample), (uint64_t)(10 + k));
            Tensor v = filled(tensor_copy(&ctx, p.phi_c), (uint64_t)(20 + k));
            const double h = 1e-5;
            /* the prompt alone, and the sample alone */
            const double by_prompt = (value(&p, p.sample, moved(&ctx, p.phi_c, h, v)) -
                                      value(&p, p.sample, moved(&ctx, p.phi_c, -h, v))) /
                                     (2 * h);
            const double by_sample = (value(&p, moved(&ctx, p.sample, h, u), p.phi_c) -
                                      value(&p, moved(&ctx, p.sample, -h, u), p.phi_c)) /
                                     (2 * h);
            const double prompt = dot(&ctx, tensor_numel(v), dphi_c.data, v.data);
            const double sample = dot(&ctx, tensor_numel(u), dsample.data, u.data);
            const double all_v = sqrt(dot(&ctx, tensor_numel(v), dphi_c.data, dphi_c.data));
            const double all_u = sqrt(dot(&ctx, tensor_numel(u), dsample.data, dsample.data));
            worst = fmax(worst, fabs(by_prompt - prompt) / all_v);
            worst = fmax(worst, fabs(by_sample - sample) / all_u);
            assert_true(fabs(by_prompt - prompt) <= 1e-7 * all_v);
            assert_true(fabs(by_sample - sample) <= 1e-7 * all_u);
        }
        print_message("%d directions, worst difference %.2g of the gradient's norm\n",
                      2 * DIRECTIONS, worst);
    }
    assert_context_ok(&ctx);
    golden_close(g);
    unet_free(p.unet);
    context_free(&ctx);
}

int main(void) {
    static const char *const run[][2] = {{"sd", "full"},         {"sd", "odd"},
                                         {"sd", "one_token"},    {"linear_projection", "full"},
                                         {"choices", "full"},    {"one_level", "full"},
                                         {"unmirrored", "full"}, {"no_mid", "full"},
                                         {"upstream", "odd"}};
    enum { RUNS = sizeof run / sizeof run[0] };
    struct CMUnitTest tests[RUNS];
    char names[RUNS][64];
    for (size_t i = 0; i < RUNS; i++) {
        snprintf(names[i], sizeof names[i], "unet %s, %s", run[i][0], run[i][1]);
        tests[i] = (struct CMUnitTest){names[i], test_unet, NULL, NULL, (void *)(uintptr_t)run[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
