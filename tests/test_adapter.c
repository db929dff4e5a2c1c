/* A fresh adapter: what init-adapter puts in each parameter (spec, section 4). */
#include "tests/scratch.h"

#include "ref/adapter.h"

#include <math.h>

typedef struct Fresh {
    Llm *llm;
    Unet *unet;
    Safetensors *file, *upstream; /* the adapter's, and the U-Net's own */
    Error err;
} Fresh;

/* An adapter for the micro pack with that tau_input, in scratch(name). */
static Fresh fresh(const char *name, int tau_input) {
    Fresh f = {0};
    char path[400];
    f.llm = llm_load("golden/micro/llm", &f.err);
    f.unet = unet_load("golden/micro/unet", &f.err);
    Settings settings = settings_default();
    settings.tau_input = tau_input;
    if (!f.err.set) adapter_init(scratch(name), f.llm, f.unet, &settings, 42, &f.err);
    snprintf(path, sizeof path, "%s/adapter.safetensors", scratch(name));
    if (!f.err.set) f.file = safetensors_open(path, &f.err);
    if (!f.err.set)
        f.upstream =
            safetensors_open("golden/micro/unet/diffusion_pytorch_model.safetensors", &f.err);
    if (f.err.set) fail_msg("%s", f.err.message);
    return f;
}

static void fresh_free(Fresh *f) {
    safetensors_close(f->file);
    safetensors_close(f->upstream);
    unet_free(f->unet);
    llm_free(f->llm);
}

/* The values of a parameter, malloc'ed. */
static double *values(Safetensors *file, const char *layer, const char *name, int64_t count) {
    char full[256];
    Error err = {0};
    snprintf(full, sizeof full, "%s%s%s", layer, *layer ? "." : "", name);
    const StoredTensor *t = safetensors_find(file, full);
    if (!t) fail_msg("no %s", full);
    assert_int_equal(stored_numel(t), count);
    double *v = malloc((size_t)count * sizeof *v);
    assert_non_null(v);
    if (stored_to_double(t, v, &err)) fail_msg("%s", err.message);
    return v;
}

static void all_are(Fresh *f, const char *layer, const char *name, int64_t count, double expected) {
    double *v = values(f->file, layer, name, count);
    for (int64_t i = 0; i < count; i++)
        if (v[i] != expected) fail_msg("%s.%s: found %g, expected %g", layer, name, v[i], expected);
    free(v);
}

/* Uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in), as torch.nn.Linear starts. */
static void starts_as_linear(Fresh *f, const char *layer, const char *name, int64_t count,
                             int64_t fan_in) {
    double *v = values(f->file, layer, name, count), low = 0, high = 0, sum = 0, squares = 0;
    const double bound = 1 / sqrt((double)fan_in);
    for (int64_t i = 0; i < count; i++) {
        low = fmin(low, v[i]);
        high = fmax(high, v[i]);
        sum += v[i];
        squares += v[i] * v[i];
    }
    const double edge = count > 500 ? 0.98 : 0.8, root = sqrt((double)count);
    if (!(low >= -bound && high <= bound && low < -edge * bound && high > edge * bound))
        fail_msg("%s.%s: between %g and %g, expected +-%g", layer, name, low, high, bound);
    /* The mean 0 and the variance bound^2 / 3, to four standard errors. */
    assert_true(fabs(sum) <= 4 * root * bound / sqrt(3));
    assert_true(fabs(squares - (double)count * bound * bound / 3) <=
                4 * root * bound * bound * sqrt(1.0 / 5 - 1.0 / 9));
    free(v);
}

static void copies(Fresh *f, const char *layer, const char *name, const char *from, int64_t count) {
    double *v = values(f->file, layer, name, count), *w = values(f->upstream, layer, from, count);
    assert_memory_equal(v, w, (size_t)count * sizeof *v);
    free(v);
    free(w);
}

static void the_llms_part(Fresh *f) {
    const int64_t E = f->unet->cross_attention_dim, D = f->llm->D;
    assert_true(E != D);
    starts_as_linear(f, "", "phi.weight", E * D, D);
    starts_as_linear(f, "", "phi.bias", E, D);
    all_are(f, "", "g", f->llm->T, 1);
    all_are(f, "", "eta", f->llm->T, -12);
}

static void the_layers_part(Fresh *f, const CrossAttention *o) {
    const int64_t C = o->channels;
    copies(f, o->name, "tau_q.weight", "to_q.weight", C * C);
    copies(f, o->name, "tau_out.weight", "to_out.0.weight", C * C);
    copies(f, o->name, "tau_out.bias", "to_out.0.bias", C);
    all_are(f, o->name, "a1", 1, 1);
    all_are(f, o->name, "b1", 1, 0);
    all_are(f, o->name, "a2", 1, 0);
    all_are(f, o->name, "b2", 1, 0);
}

static void a_fresh_adapter_begins_as_the_original(void **state) {
    (void)state;
    Fresh f = fresh("phi_c", TAU_INPUT_PHI_C);
    the_llms_part(&f);
    assert_int_equal(f.unet->cross_layers, 4);
    for (int64_t i = 0; i < f.unet->cross_layers; i++) {
        const CrossAttention *o = &f.unet->cross[i];
        const int64_t n = o->channels * f.unet->cross_attention_dim;
        the_layers_part(&f, o);
        copies(&f, o->name, "tau_k.weight", "to_k.weight", n);
        copies(&f, o->name, "tau_v.weight", "to_v.weight", n);
    }
    assert_int_equal(safetensors_count(f.file), 4 + 9 * f.unet->cross_layers);
    fresh_free(&f);
}

/* With tau_input "c" keys and values are made of D features and can't be copies. */
static void what_has_no_original_starts_as_torch_does(void **state) {
    (void)state;
    Fresh f = fresh("c", TAU_INPUT_C);
    the_llms_part(&f);
    for (int64_t i = 0; i < f.unet->cross_layers; i++) {
        const CrossAttention *o = &f.unet->cross[i];
        the_layers_part(&f, o);
        starts_as_linear(&f, o->name, "tau_k.weight", o->channels * f.llm->D, f.llm->D);
        starts_as_linear(&f, o->name, "tau_v.weight", o->channels * f.llm->D, f.llm->D);
    }
    fresh_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_adapter_begins_as_the_original),
        cmocka_unit_test(what_has_no_original_starts_as_torch_does),
    };
    return cmocka_run_group_tests_name("adapter", tests, scratch_make, scratch_remove);
}
