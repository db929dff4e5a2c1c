/* Opening a kit, and what it allows. See kit.h; kit_manifest.c reads the manifest. */
#include "ref/yardstick/kit.h"
#include "weights/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool kit_is_walk(KitKind kind) { return kind >= KIT_ALGORITHM1 && kind <= KIT_PICTURE; }
const char *kit_mode_name(KitMode mode) { return mode == KIT_FORCED ? "forced" : "free"; }

char *kit_path(const Kit *kit, const char *relative, Error *err) {
    const size_t n = strlen(kit->dir) + strlen(relative) + 2;
    char *path = malloc(n);
    if (path)
        snprintf(path, n, "%s/%s", kit->dir, relative);
    else
        fail(err, "out of memory opening %s", kit->dir);
    return path;
}

const KitPack *kit_pack(const Kit *kit, const char *name) {
    for (size_t i = 0; i < kit->packs; i++)
        if (strcmp(kit->pack[i].name, name) == 0) return &kit->pack[i];
    return NULL;
}

/* ---- the files ------------------------------------------------------------------------------------ */

static int find_inputs(const KitGroup *g, const KitCase *c, const char *path, Error *err) {
    char name[512];
    for (size_t i = 0; i < c->inputs; i++) {
        snprintf(name, sizeof name, "%s%s%s", c->name, *c->name ? "/" : "", c->input[i]);
        if (!safetensors_find(g->inputs, name))
            return fail(err, "%s: expected the input \"%s\" of the manifest, found none", path,
                        name);
    }
    return 0;
}

static int find_output(const KitGroup *g, KitOutput *o, const char *path, Error *err) {
    o->expected = tensor_file_find(g->expected, o->stored);
    if (o->expected == tensor_file_count(g->expected))
        return fail(err, "%s: expected the output \"%s\" of the manifest, found none", path,
                    o->stored);
    const TensorInfo *t = tensor_file_at(g->expected, o->expected);
    bool same = t->ndim == o->ndim;
    for (int i = 0; same && i < t->ndim; i++) same = t->dim[i] == o->dim[i];
    if (!same) {
        char theirs[SHAPE_TEXT], found[SHAPE_TEXT];
        shape_text(theirs, sizeof theirs, o->ndim, o->dim);
        shape_text(found, sizeof found, t->ndim, t->dim);
        return fail(err, "%s: \"%s\": expected the manifest's shape %s, found %s", path, o->stored,
                    theirs, found);
    }
    if (t->dtype != DTYPE_F64 && t->dtype != DTYPE_I64)
        return fail(err, "%s: \"%s\": expected F64 or I64, found %s", path, o->stored,
                    dtype_name(t->dtype));
    return 0;
}

static void open_group(const Kit *kit, KitGroup *g, Error *err) {
    char *inputs = kit_path(kit, g->inputs_file, err);
    char *expected = kit_path(kit, g->expected_file, err);
    size_t outputs = 0;
    if (!err->set) g->inputs = safetensors_open(inputs, err);
    if (!err->set) g->expected = tensor_file_open(expected, NULL, err);
    for (size_t i = 0; i < g->count && !err->set; i++) {
        KitCase *c = &g->cases[i];
        find_inputs(g, c, inputs, err);
        for (size_t o = 0; o < c->outputs && !err->set; o++, outputs++)
            find_output(g, &c->output[o], expected, err);
    }
    if (!err->set && outputs != tensor_file_count(g->expected))
        fail(err, "%s: expected the %zu outputs of the manifest, found %zu tensors", expected,
             outputs, tensor_file_count(g->expected));
    free(inputs);
    free(expected);
}

Kit *kit_open(const char *dir, Error *err) {
    Kit *kit = calloc(1, sizeof *kit);
    if (kit) kit->dir = strdup(dir);
    if (!kit || !kit->dir)
        fail(err, "out of memory opening %s", dir);
    else if (!is_directory(dir))
        fail(err, "%s: expected a directory with a kit, found %s", dir,
             file_exists(dir) ? "a file" : "nothing");
    else
        kit_read_manifest(kit, err);
    for (size_t g = 0; kit && g < kit->groups && !err->set; g++)
        open_group(kit, &kit->group[g], err);
    if (!err->set) return kit;
    kit_close(kit);
    return NULL;
}

static void close_group(KitGroup *g) {
    for (size_t i = 0; i < g->count; i++) {
        KitCase *c = &g->cases[i];
        for (size_t o = 0; o < c->outputs; o++) free(c->output[o].stored);
        free(c->output);
        free(c->input);
    }
    free(g->cases);
    safetensors_close(g->inputs);
    tensor_file_close(g->expected);
}

void kit_close(Kit *kit) {
    if (!kit) return;
    for (size_t g = 0; g < kit->groups; g++) close_group(&kit->group[g]);
    free(kit->group);
    free(kit->pack);
    cJSON_Delete(kit->json);
    free(kit->dir);
    free(kit);
}

/* ---- what is allowed ------------------------------------------------------------------------------ */

/* Float64 is upstream computed exactly, but for the order of its additions. */
static double float64_allowance(KitKind kind) {
    return kind == KIT_OPERATORS ? 1e-12
           : kind == KIT_MODULES ? 1e-10
           : kind == KIT_TRAIN   ? 1e-9
                                 : 1e-8;
}

int kit_tolerance(const KitOutput *output, KitKind kind, KitMode mode, Dtype dtype, double largest,
                  Tolerance *t, Error *err) {
    static const char all_zero[] = "all zero: exactly zero";
    const Yardstick y = output->yardstick[mode];
    double torch = NAN;
    const char *type = "";
    *t = (Tolerance){0};
    switch (dtype) {
    case DTYPE_F64:
        t->relative = float64_allowance(kind);
        snprintf(t->source, sizeof t->source, "float64: %g of the largest", t->relative);
        if (largest == 0) snprintf(t->source, sizeof t->source, "%s", all_zero);
        return 0;
    case DTYPE_F32: torch = y.f32, type = "float32"; break;
    case DTYPE_F16: torch = y.f16, type = "float16"; break;
    case DTYPE_BF16: torch = y.bf16, type = "bfloat16"; break;
    default: snprintf(t->source, sizeof t->source, "whole numbers: equal"); return 0;
    }
    if (isnan(torch))
        return fail(err,
                    "\"%s\" is stored as %s, and the kit does not know torch's own error in %s "
                    "there; store float32 or float64",
                    output->stored, dtype_name(dtype), type);
    t->relative = 2 * torch;
    t->absolute = four_ulp_of(largest, dtype);
    snprintf(t->source, sizeof t->source, "2 x torch %s's own error there, + 4 ulp", type);
    if (largest == 0) snprintf(t->source, sizeof t->source, "%s", all_zero);
    return 0;
}
