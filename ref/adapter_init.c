/* A fresh adapter: see adapter_init in adapter.h. */
#include "ref/adapter.h"
#include "ref/adapter_save.h"
#include "weights/file.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The parameters as they are filled, all float32. */
typedef struct Fresh {
    StoredTensor *tensor;
    size_t count;
    int64_t parameters;
    Rng rng;
    Error *err;
} Fresh;

/* An unfilled parameter of that shape and name; NULL when memory has run out. */
static float *fresh_tensor(Fresh *f, Shape shape, const char *layer, const char *name) {
    int64_t n = 1;
    for (int i = 0; i < shape.ndim; i++) n *= shape.dim[i];
    StoredTensor *grown = realloc(f->tensor, (f->count + 1) * sizeof *grown);
    float *data = malloc((size_t)n * sizeof *data);
    size_t length = strlen(layer) + strlen(name) + 2;
    char *full = malloc(length);
    if (grown) f->tensor = grown;
    if (!grown || !data || !full) {
        free(data);
        free(full);
        fail(f->err, "out of memory for a fresh adapter");
        return NULL;
    }
    snprintf(full, length, "%s%s%s", layer, *layer ? "." : "", name);
    StoredTensor t = {.name = full,
                      .dtype = DTYPE_F32,
                      .ndim = shape.ndim,
                      .data = data,
                      .bytes = (size_t)n * sizeof *data};
    memcpy(t.dim, shape.dim, sizeof shape.dim);
    f->tensor[f->count++] = t;
    f->parameters += n;
    return data;
}

static void constant(Fresh *f, Shape shape, const char *layer, const char *name, float value) {
    float *p = fresh_tensor(f, shape, layer, name);
    for (int64_t i = 0; p && i < shape.dim[0]; i++) p[i] = value;
}

/* torch.nn.Linear.reset_parameters: U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weight and bias. */
static void linear_start(Fresh *f, Shape shape, int64_t fan_in, const char *layer,
                         const char *name) {
    float *p = fresh_tensor(f, shape, layer, name);
    int64_t n = shape.dim[0] * (shape.ndim > 1 ? shape.dim[1] : 1);
    double bound = 1 / sqrt((double)fan_in);
    if (p) rng_uniform(&f->rng, -bound, bound, p, n);
}

/* A copy of tau_hat where the shapes agree, else as torch.nn.Linear starts. */
static void tau_start(Fresh *f, Shape shape, const Weight *tau_hat, const char *layer,
                      const char *name) {
    bool same = tau_hat->ndim == shape.ndim;
    for (int i = 0; same && i < shape.ndim; i++) same = tau_hat->dim[i] == shape.dim[i];
    if (!same) {
        linear_start(f, shape, shape.dim[1], layer, name);
        return;
    }
    float *p = fresh_tensor(f, shape, layer, name);
    int64_t columns = shape.ndim > 1 ? shape.dim[1] : 1;
    real *row = malloc((size_t)columns * sizeof *row);
    if (!row) fail(f->err, "out of memory for a fresh adapter");
    for (int64_t i = 0; p && row && i < shape.dim[0]; i++) {
        weight_read(tau_hat, i * columns, columns, row);
        for (int64_t j = 0; j < columns; j++) p[i * columns + j] = (float)row[j];
    }
    free(row);
}

static void fill(Fresh *f, const Llm *llm, const Unet *unet, const Settings *s) {
    const int64_t E = unet->cross_attention_dim, D = llm->D, T = llm->T;
    linear_start(f, SHAPE(E, D), D, "phi", "weight");
    linear_start(f, SHAPE(E), D, "phi", "bias");
    constant(f, SHAPE(T), "", "g", 1);
    constant(f, SHAPE(T), "", "eta", -12);
    for (int64_t i = 0; i < unet->cross_layers && !f->err->set; i++) {
        const CrossAttention *o = &unet->cross[i];
        int64_t C = o->channels, width = s->tau_input == TAU_INPUT_C ? D : E;
        tau_start(f, SHAPE(C, C), o->to_q, o->name, "tau_q.weight");
        tau_start(f, SHAPE(C, width), o->to_k, o->name, "tau_k.weight");
        tau_start(f, SHAPE(C, width), o->to_v, o->name, "tau_v.weight");
        if (s->out == OUT_OWN) {
            tau_start(f, SHAPE(C, C), o->to_out_w, o->name, "tau_out.weight");
            tau_start(f, SHAPE(C), o->to_out_b, o->name, "tau_out.bias");
        }
        constant(f, SHAPE(1), o->name, "a1", 1);
        constant(f, SHAPE(1), o->name, "b1", 0);
        constant(f, SHAPE(1), o->name, "a2", 0);
        constant(f, SHAPE(1), o->name, "b2", 0);
    }
}

int64_t adapter_init(const char *dir, const Llm *llm, const Unet *unet, const Settings *settings,
                     uint64_t seed, Error *err) {
    size_t length = strlen(dir) + 32;
    char *path = malloc(length);
    Fresh f = {.rng = rng_seed(seed), .err = err};
    if (!path) fail(err, "out of memory for a fresh adapter");
    bool made = path && mkdir(dir, 0777) == 0;
    if (path && !made && errno != EEXIST)
        fail(err, "%s: can't be created: %s", dir, strerror(errno));
    static const char *const files[] = {"adapter.safetensors", "config.json"};
    for (int i = 0; i < 2 && !err->set; i++) {
        snprintf(path, length, "%s/%s", dir, files[i]);
        if (file_exists(path)) fail(err, "%s: is there already; not overwritten", path);
    }
    if (!err->set) fill(&f, llm, unet, settings);
    if (!err->set) {
        const AdapterFiles fresh = {.tensor = f.tensor,
                                    .count = f.count,
                                    .settings = settings,
                                    .D = llm->D,
                                    .T = llm->T,
                                    .E = unet->cross_attention_dim};
        adapter_save(dir, &fresh, err);
    }
    if (made && err->set) rmdir(dir);
    for (size_t i = 0; i < f.count; i++) {
        free((void *)(uintptr_t)f.tensor[i].name);
        free((void *)(uintptr_t)f.tensor[i].data);
    }
    free(f.tensor);
    free(path);
    return err->set ? -1 : f.parameters;
}
