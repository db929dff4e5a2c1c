/* The adapter's file, and what it makes of an encoding. See adapter.h; adapter_init.c begins one. */
#include "ref/adapter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* phi(c) = c W_phi^T + b_phi, and from it each layer's keys and values. */
CrossContext *adapter_condition(Context *ctx, const Adapter *a, const Unet *unet, Tensor c,
                                const char *group) {
    if (ctx->error.set) return NULL;
    c = alg1_normalize(ctx, c, &a->settings);
    if (a->settings.normalize != NORMALIZE_NONE) observe(ctx, c, "%sadapter/c", group);
    Tensor phi_c = linear(ctx, c, a->phi.w, a->phi.b);
    observe(ctx, phi_c, "%sadapter/phi_c", group);
    Tensor c_prime = a->settings.tau_input == TAU_INPUT_C ? c : phi_c;
    return eq9_contexts(ctx, unet->cross, a->layer, unet->cross_layers, phi_c, c_prime);
}

/* ---- loading --------------------------------------------------------------------------------- */

/* A scalar that the blend reads: the setting's number, which is kept in *number, or the learned one. */
static const Weight *scalar(const Weight *learned, const double *setting, Weight *number) {
    if (isnan(*setting)) return learned;
    *number =
        (Weight){.data = setting, .dtype = DTYPE_F64, .ndim = 1, .dim = {1, 1, 1, 1}, .name = ""};
    return number;
}

static void take_layer(Adapter *a, const CrossAttention *o, AddedAttention *layer) {
    ModelDir *m = a->files;
    const Settings *s = &a->settings;
    int64_t C = o->channels, width = s->tau_input == TAU_INPUT_C ? a->D : a->E;
    layer->tau_q = model_take(m, SHAPE(C, C), "%s.tau_q.weight", o->name);
    layer->tau_k = model_take(m, SHAPE(C, width), "%s.tau_k.weight", o->name);
    layer->tau_v = model_take(m, SHAPE(C, width), "%s.tau_v.weight", o->name);
    if (s->out == OUT_OWN) {
        layer->tau_out_w = model_take(m, SHAPE(C, C), "%s.tau_out.weight", o->name);
        layer->tau_out_b = model_take(m, SHAPE(C), "%s.tau_out.bias", o->name);
    }
    layer->a1 = model_take(m, SHAPE(1), "%s.a1", o->name);
    layer->b1 = model_take(m, SHAPE(1), "%s.b1", o->name);
    layer->a2 = model_take(m, SHAPE(1), "%s.a2", o->name);
    layer->b2 = model_take(m, SHAPE(1), "%s.b2", o->name);
    layer->blend =
        (Blend){scalar(layer->a1, &s->a1, &a->number[0]), scalar(layer->b1, &s->b1, &a->number[1]),
                scalar(layer->a2, &s->a2, &a->number[2]), scalar(layer->b2, &s->b2, &a->number[3])};
    layer->active = settings_layer_active(s, o->name);
}

static void read_settings(Adapter *a, const char *const *set, size_t n, Error *err) {
    static const char *const about_the_file[] = {"llm_hidden_size", "llm_num_blocks",
                                                 "cross_attention_dim", "step", NULL};
    const cJSON *item;
    a->settings = settings_default();
    const char *name = config_string(a->files, "_class_name", "LLMDiffAdapter");
    if (strcmp(name, "LLMDiffAdapter") != 0)
        config_fail(a->files, "_class_name: expected \"LLMDiffAdapter\", found \"%s\"", name);
    cJSON_ArrayForEach(item, model_config(a->files)) {
        bool known = item->string[0] == '_';
        for (int i = 0; about_the_file[i]; i++) known |= !strcmp(about_the_file[i], item->string);
        if (known) continue;
        Error one = {0};
        int status = settings_set(&a->settings, item->string, item, "adapter", &one);
        if (status == 1) config_fail(a->files, "%s: no such setting", item->string);
        if (status == -1) config_fail(a->files, "%s", one.message);
    }
    const Settings made = a->settings;
    for (size_t i = 0; i < n; i++)
        if (settings_parse(&a->settings, set[i], err)) return;
    /* These two decide what the file holds. */
    if (made.tau_input != a->settings.tau_input || made.out != a->settings.out)
        fail(err,
             "--set tau_input, out: %s was made with tau_input \"%s\" and out \"%s\"; another is "
             "made by "
             "init-adapter with that --set",
             model_path(a->files), made.tau_input == TAU_INPUT_C ? "c" : "phi_c",
             made.out == OUT_SHARED ? "shared" : "own");
}

/* Every path in `layers` must be one of the U-Net's. */
static void check_layers(const Adapter *a, const Unet *unet, Error *err) {
    const char *end;
    for (const char *p = a->settings.layers; *p; p = end + 1) {
        end = strchr(p, '\n');
        bool found = false;
        for (int64_t i = 0; i < unet->cross_layers; i++)
            found |= strlen(unet->cross[i].name) == (size_t)(end - p) &&
                     strncmp(unet->cross[i].name, p, (size_t)(end - p)) == 0;
        if (!found)
            fail(err, "layers: the U-Net has no cross-attention \"%.*s\"; its first is \"%s\"",
                 (int)(end - p), p, unet->cross_layers ? unet->cross[0].name : "(none)");
    }
}

static void check_size(Adapter *a, const char *key, int64_t expected, const char *of) {
    int64_t found = config_int(a->files, key, -1, 1, 1 << 30);
    if (found == -1)
        config_fail(a->files, "%s: expected %lld, as %s has, found none", key, (long long)expected,
                    of);
    else if (found != expected)
        config_fail(a->files, "%s: the adapter is for %lld, but %s has %lld", key, (long long)found,
                    of, (long long)expected);
}

Adapter *adapter_load(const char *dir, const Llm *llm, const Unet *unet, const char *const *set,
                      size_t n, Error *err) {
    Adapter *a = calloc(1, sizeof *a);
    if (!a) {
        fail(err, "out of memory loading %s", dir);
        return NULL;
    }
    a->files = model_open(dir, err);
    if (!a->files) goto failed;
    a->D = llm->D;
    a->T = llm->T;
    check_size(a, "llm_hidden_size", a->D, model_path(llm->files));
    check_size(a, "llm_num_blocks", a->T, model_path(llm->files));
    if (unet) {
        a->E = unet->cross_attention_dim;
        check_size(a, "cross_attention_dim", a->E, model_path(unet->files));
    }
    read_settings(a, set, n, err);
    if (unet && !err->set) check_layers(a, unet, err);
    if (err->set) goto failed;

    a->scalars.g = model_take(a->files, SHAPE(a->T), "g");
    a->scalars.eta = model_take(a->files, SHAPE(a->T), "eta");
    if (unet) {
        a->layer = calloc((size_t)unet->cross_layers + 1, sizeof *a->layer);
        if (!a->layer) {
            fail(err, "out of memory loading %s", dir);
            goto failed;
        }
        a->phi = affine_take(a->files, SHAPE(a->E, a->D), "", "phi", "");
        for (int64_t i = 0; i < unet->cross_layers; i++)
            take_layer(a, &unet->cross[i], &a->layer[i]);
    } else {
        model_ignore(a->files, ""); /* the rest belongs to the U-Net */
    }
    if (model_finish(a->files) == 0) return a;
failed:
    adapter_free(a);
    return NULL;
}

void adapter_free(Adapter *a) {
    if (!a) return;
    model_close(a->files);
    free(a->layer);
    free(a);
}
