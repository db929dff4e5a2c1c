/* The adapter's parameters as arrays of our own: see parameters.h. */
#include "ref/train/parameters.h"

#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

/* One place where the adapter points to a parameter. */
typedef struct Slot {
    const Weight **at;
    bool used; /* by a forward with these settings */
    bool scalar;
} Slot;

enum { SHARED = 4, EACH_LAYER = 9 };

static int64_t find_slots(const Parameters *p, const Unet *unet, Slot *slot) {
    Adapter *a = (Adapter *)(uintptr_t)&p->adapter;
    const Settings *s = &a->settings;
    int64_t n = 0;
    slot[n++] = (Slot){&a->phi.w, true, false};
    slot[n++] = (Slot){&a->phi.b, true, false};
    slot[n++] = (Slot){&a->scalars.g, true, true};
    slot[n++] = (Slot){&a->scalars.eta, s->noise && s->h_scale > 0, true};
    for (int64_t i = 0; i < unet->cross_layers; i++) {
        AddedAttention *l = &a->layer[i];
        const Slot of_layer[EACH_LAYER] = {
            {&l->tau_q, true, false},     {&l->tau_k, true, false},
            {&l->tau_v, true, false},     {&l->tau_out_w, true, false},
            {&l->tau_out_b, true, false}, {&l->a1, isnan(s->a1), true},
            {&l->b1, isnan(s->b1), true}, {&l->a2, isnan(s->a2), true},
            {&l->b2, isnan(s->b2), true},
        };
        for (int k = 0; k < EACH_LAYER; k++) {
            if (!*of_layer[k].at) continue; /* no tau_out where out is "shared" */
            slot[n] = of_layer[k];
            slot[n++].used &= l->active;
        }
    }
    return n;
}

static int64_t numel(const Weight *w) {
    int64_t n = 1;
    for (int i = 0; i < w->ndim; i++) n *= w->dim[i];
    return n;
}

/* Leaves out what train_only leaves out. */
static int choose(Slot *slot, int64_t n, const char *train_only, Error *err) {
    regex_t pattern;
    int64_t left = 0;
    if (!train_only) return 0;
    const int status = regcomp(&pattern, train_only, REG_EXTENDED | REG_NOSUB);
    if (status == REG_ESPACE) return fail(err, "--train-only %s: out of memory", train_only);
    if (status) {
        char why[128];
        regerror(status, &pattern, why, sizeof why);
        return fail(err, "--train-only %s: not a regular expression: %s", train_only, why);
    }
    int outcome = 0;
    for (int64_t i = 0; i < n && outcome != REG_ESPACE; i++) {
        outcome = regexec(&pattern, (*slot[i].at)->name, 0, NULL, 0);
        slot[i].used &= outcome == 0;
        left += slot[i].used;
    }
    regfree(&pattern);
    if (outcome == REG_ESPACE) return fail(err, "--train-only %s: out of memory", train_only);
    if (left) return 0;
    return fail(err,
                "--train-only %s: matches no parameter that these settings use; they are named as "
                "%s or %s",
                train_only, (*slot[0].at)->name, (*slot[n - 1].at)->name);
}

/* Copies each parameter and lets the adapter read the copy. */
static void take(Parameters *p, const Slot *slot, int64_t n, double weight_decay) {
    real *value = p->memory, *m = p->gradient + p->numbers, *v = m + p->numbers;
    real *gradient = p->gradient;
    for (int64_t i = 0; i < n; i++) {
        Weight *w = &p->weight[i];
        const int64_t size = numel(*slot[i].at);
        *w = **slot[i].at;
        weight_read(w, 0, size, value);
        w->data = value;
        w->dtype = sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32;
        *slot[i].at = w;
        if (slot[i].used) {
            w->grad = gradient;
            p->scalar[p->learned_count] = slot[i].scalar;
            p->learned[p->learned_count++] =
                (Learned){value, gradient, m, v, size, w->ndim == 2 ? weight_decay : 0};
            gradient += size;
            m += size;
            v += size;
        }
        value += size;
    }
}

int parameters_open(Parameters *p, const Adapter *from, const Unet *unet,
                    const ParametersOptions *options, Error *err) {
    const int64_t layers = unet->cross_layers, most = SHARED + EACH_LAYER * layers;
    const Settings *s = &from->settings;
    *p = (Parameters){.adapter = *from};
    p->adapter.layer = malloc((size_t)(layers + 1) * sizeof *p->adapter.layer);
    p->weight = calloc((size_t)most, sizeof *p->weight);
    p->learned = calloc((size_t)most, sizeof *p->learned);
    p->scalar = calloc((size_t)most, sizeof *p->scalar);
    Slot *slot = malloc((size_t)most * sizeof *slot);
    int64_t all = 0;
    if (!p->adapter.layer || !p->weight || !p->learned || !p->scalar || !slot) goto no_memory;
    memcpy(p->adapter.layer, from->layer, (size_t)layers * sizeof *from->layer);
    p->count = find_slots(p, unet, slot);
    if (choose(slot, p->count, options->train_only, err)) goto failed;
    for (int64_t i = 0; i < p->count; i++) {
        all += numel(*slot[i].at);
        if (slot[i].used) p->numbers += numel(*slot[i].at);
    }
    /* values; gradients, AdamW's m and v of what is learned */
    p->memory = calloc((size_t)(all + 3 * p->numbers), sizeof *p->memory);
    if (!p->memory) goto no_memory;
    p->gradient = p->memory + all;
    take(p, slot, p->count, options->weight_decay);
    for (int64_t i = 0; i < layers; i++) {
        AddedAttention *l = &p->adapter.layer[i];
        if (isnan(s->a1)) l->blend.a1 = l->a1;
        if (isnan(s->b1)) l->blend.b1 = l->b1;
        if (isnan(s->a2)) l->blend.a2 = l->a2;
        if (isnan(s->b2)) l->blend.b2 = l->b2;
    }
    free(slot);
    return 0;
no_memory:
    fail(err, "out of memory for the adapter's parameters, their gradients and AdamW's moments");
failed:
    free(slot);
    parameters_close(p);
    return -1;
}

void parameters_close(Parameters *p) {
    free(p->adapter.layer);
    free(p->weight);
    free(p->learned);
    free(p->scalar);
    free(p->memory);
    *p = (Parameters){0};
}

void parameters_zero_gradients(Parameters *p) {
    memset(p->gradient, 0, (size_t)p->numbers * sizeof *p->gradient);
}
