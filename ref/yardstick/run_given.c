/* What a case is given, and where its results go. See run.h. */
#include "ref/yardstick/run.h"
#include "tensor/tape.h"
#include "weights/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "group_norm/map: ", the beginning of a message */
#define ABOUT(in) (in)->group->name, *(in)->c->name ? "/" : "", (in)->c->name

const StoredTensor *given_stored(const Given *in, const char *name) {
    char full[512];
    const char *of = in->c->name;
    for (size_t i = 0; i < in->c->inputs; i++) {
        if (strcmp(in->c->input[i], name) != 0) continue;
        snprintf(full, sizeof full, "%s%s%s", of, *of ? "/" : "", name);
        return safetensors_find(in->group->inputs, full);
    }
    return NULL;
}

bool given_has(const Given *in, const char *name) { return given_stored(in, name) != NULL; }

/* ---- shapes --------------------------------------------------------------------------------------- */

static bool fits(const StoredTensor *t, const char *letters, int64_t *size) {
    const bool more = *letters == '*';
    const int n = (int)strlen(letters) - more;
    if (t->ndim > MAX_DIMS || (more ? t->ndim < n : t->ndim != n)) return false;
    for (int i = 0; i < t->ndim; i++)
        if (t->dim[i] < 1 || t->dim[i] > 1 << 24) return false;
    for (int i = 0; i < n; i++) {
        int64_t *want = &size[letters[more + i] - 'A'], found = t->dim[t->ndim - n + i];
        if (!*want) *want = found;
        if (*want != found) return false;
    }
    return true;
}

static bool ends_with(const char *name, const char *end) {
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static const char *type_of(const char *name) {
    static const char *const pixels[] = {"rgb", "image_in", "mask_in"};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, pixels[i]) == 0) return "U8";
    static const char *const whole[] = {"ids", "/ids", "/train/t", "/train/drop"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, whole[i]) == 0 || (i && ends_with(name, whole[i]))) return "I64";
    return "floats";
}

static bool right_type(const char *name, Dtype dtype) {
    const char *type = type_of(name);
    return strcmp(type, "floats") == 0 ? dtype_is_float(dtype)
                                       : strcmp(type, dtype_name(dtype)) == 0;
}

static void tell_misfit(const Given *in, const StoredTensor *t, const char *name,
                        const char *letters, const int64_t *size) {
    char want[128] = "", found[128] = "";
    size_t used = 0;
    for (const char *p = letters; *p && used < sizeof want - 24; p++) {
        const int64_t n = *p == '*' ? 0 : size[*p - 'A'];
        used += (size_t)(n ? snprintf(want + used, sizeof want - used, "%s%lld", used ? ", " : "",
                                      (long long)n)
                           : snprintf(want + used, sizeof want - used, "%s%s", used ? ", " : "",
                                      *p == '*' ? "..." : (char[]){*p, '\0'}));
    }
    used = 0;
    for (int i = 0; i < t->ndim && used < sizeof found - 24; i++)
        used += (size_t)snprintf(found + used, sizeof found - used, "%s%lld", i ? ", " : "",
                                 (long long)t->dim[i]);
    fail(&in->ctx->error, "%s: %s%s%s: input \"%s\": expected %s [%s], found %s [%s]",
         safetensors_path(in->group->inputs), ABOUT(in), name, type_of(name), want,
         dtype_name(t->dtype), found);
}

bool given_fits(const Given *in, const char *pattern, int64_t *size) {
    while (!in->ctx->error.set && *pattern) {
        char name[64], letters[16];
        int used = 0;
        if (sscanf(pattern, "%63[^: ]:%15[A-Z*]%n", name, letters, &used) < 1) break;
        if (!used) { /* a scalar has no letters */
            letters[0] = '\0';
            used = (int)strlen(name) + 1;
        }
        pattern += used;
        pattern += *pattern == ' ';
        char *maybe = strchr(name, '?');
        if (maybe) *maybe = '\0';
        const StoredTensor *t = given_stored(in, name);
        if (!t && maybe) continue;
        if (!t) {
            fail(&in->ctx->error, "%s: %s%s%s: expected an input \"%s\", found none",
                 safetensors_path(in->group->inputs), ABOUT(in), name);
            break;
        }
        if (!right_type(name, t->dtype) || !fits(t, letters, size))
            tell_misfit(in, t, name, letters, size);
    }
    return !in->ctx->error.set;
}

/* ---- inputs --------------------------------------------------------------------------------------- */

static const StoredTensor *must(const Given *in, const char *name) {
    const StoredTensor *t = given_stored(in, name);
    if (!t)
        fail(&in->ctx->error, "%s: %s%s%s: expected an input \"%s\", found none",
             safetensors_path(in->group->inputs), ABOUT(in), name);
    return in->ctx->error.set ? NULL : t;
}

/* Zeros for the gradient of that argument; NULL: it is not run back, or nobody asks for it. */
static real *gradient_of(const Given *in, const char *name, int ndim, const int64_t *dim) {
    Gradients *g = in->gradients;
    char d[sizeof g->of[0].name];
    snprintf(d, sizeof d, "d%.20s", name);
    bool wanted = false;
    for (size_t i = 0; g && i < in->c->outputs; i++)
        wanted |= strcmp(in->c->output[i].name, d) == 0;
    if (!wanted || g->count == GRADIENTS_MAX) return NULL;
    Tensor zeros = tensor_new(in->ctx, ndim, dim);
    if (!zeros.data) return NULL;
    memset(zeros.data, 0, (size_t)tensor_numel(zeros) * sizeof(real));
    memcpy(g->of[g->count].name, d, sizeof d);
    g->of[g->count++].d = zeros;
    return zeros.data;
}

Tensor given_tensor(const Given *in, const char *name) {
    Context *ctx = in->ctx;
    const StoredTensor *t = must(in, name);
    if (!t) return (Tensor){0};
    if (t->ndim > MAX_DIMS)
        fail(&ctx->error, "%s: \"%s\": expected at most %d dimensions, found %d",
             safetensors_path(in->group->inputs), t->name, MAX_DIMS, t->ndim);
    const int64_t one = 1;
    Tensor x = tensor_new(ctx, t->ndim ? t->ndim : 1, t->ndim ? t->dim : &one);
    if (!x.data) return (Tensor){0};
    const int64_t n = tensor_numel(x);
    ArenaMark mark = scope_begin(ctx);
    double *wide = arena_alloc(&ctx->arena, (size_t)n * sizeof *wide + 1);
    if (!wide)
        fail(&ctx->error, "out of memory reading \"%s\"", t->name);
    else if (stored_to_double(t, wide, &ctx->error) == 0)
        for (int64_t i = 0; i < n; i++) x.data[i] = (real)wide[i];
    arena_release(&ctx->arena, mark);
    if (ctx->error.set) return (Tensor){0};
    return tape_variable(ctx, x, gradient_of(in, name, x.ndim, x.dim));
}

double given_scalar(const Given *in, const char *name) {
    const StoredTensor *t = must(in, name);
    double x = 0;
    if (t && stored_numel(t) != 1)
        fail(&in->ctx->error, "%s: \"%s\": expected one number",
             safetensors_path(in->group->inputs), t->name);
    if (t && !in->ctx->error.set) stored_to_double(t, &x, &in->ctx->error);
    return x;
}

Tensor given_map(const Given *in, const char *name) {
    Tensor x = given_tensor(in, name);
    if (!x.data) return x;
    x = channels_last(in->ctx, x);
    return x.data ? TENSOR_VIEW(x, 1, x.dim[0], x.dim[1], x.dim[2]) : x;
}

Tensor given_rows(const Given *in, const char *name) {
    Tensor x = given_tensor(in, name);
    return x.data ? TENSOR_VIEW(x, 1, x.dim[0], x.dim[1]) : x;
}

const Weight *given_weight(const Given *in, const char *name, Weight *w) {
    const StoredTensor *t = given_stored(in, name);
    if (!t) return NULL;
    *w = (Weight){.data = t->data, .dtype = t->dtype, .ndim = t->ndim, .name = t->name};
    for (int i = 0; i < MAX_DIMS; i++) w->dim[i] = i < t->ndim ? t->dim[i] : 1;
    w->grad = gradient_of(in, name, w->ndim, w->dim);
    return w;
}

const int64_t *given_ids(const Given *in, const char *name, int64_t *n) {
    const StoredTensor *t = must(in, name);
    int64_t *ids = t ? arena_alloc(&in->ctx->arena, t->bytes + 1) : NULL;
    if (t && !ids) fail(&in->ctx->error, "out of memory reading \"%s\"", t->name);
    if (!ids) return NULL;
    memcpy(ids, t->data, t->bytes);
    *n = stored_numel(t);
    return ids;
}

/* ---- parameters ----------------------------------------------------------------------------------- */

static const cJSON *parameter(const Given *in, const char *name) {
    return cJSON_GetObjectItemCaseSensitive(in->c->parameters, name);
}

bool given_has_parameter(const Given *in, const char *name) {
    const cJSON *item = parameter(in, name);
    return item && !cJSON_IsNull(item);
}

double given_number(const Given *in, const char *name) {
    const cJSON *item = parameter(in, name);
    if (cJSON_IsNumber(item) && isfinite(item->valuedouble)) return item->valuedouble;
    fail(&in->ctx->error, "%s/manifest.json: %s%s%s: parameters.%s: expected a number", in->kit_dir,
         ABOUT(in), name);
    return 0;
}

int64_t given_whole(const Given *in, const char *name, int64_t least, int64_t most) {
    const double x = given_number(in, name);
    if (in->ctx->error.set) return least;
    if (x >= (double)least && x <= (double)most && x == floor(x)) return (int64_t)x;
    fail(&in->ctx->error,
         "%s/manifest.json: %s%s%s: parameters.%s: expected a whole number of %lld to %lld, found "
         "%g",
         in->kit_dir, ABOUT(in), name, (long long)least, (long long)most, x);
    return least;
}

void given_wholes(const Given *in, const char *name, int64_t *out, int n, int64_t least,
                  int64_t most) {
    const cJSON *list = parameter(in, name), *item = cJSON_IsArray(list) ? list->child : NULL;
    bool right = cJSON_GetArraySize(list) == n;
    for (int i = 0; i < n; i++, item = item ? item->next : NULL) {
        out[i] = least;
        right = right && item && json_count(item, &out[i]) && out[i] >= least && out[i] <= most;
    }
    if (right) return;
    fail(&in->ctx->error,
         "%s/manifest.json: %s%s%s: parameters.%s: expected %d whole numbers of %lld to %lld",
         in->kit_dir, ABOUT(in), name, n, (long long)least, (long long)most);
}

bool given_switch(const Given *in, const char *name) { return cJSON_IsTrue(parameter(in, name)); }

const char *given_text(const Given *in, const char *name) {
    return cJSON_GetStringValue(parameter(in, name));
}

/* ---- results -------------------------------------------------------------------------------------- */

void give_raw(const Given *in, const char *output, Dtype dtype, int ndim, const int64_t *dim,
              const void *data) {
    for (size_t i = 0; i < in->c->outputs && !in->ctx->error.set; i++)
        if (strcmp(in->c->output[i].name, output) == 0)
            outputs_add(in->out, in->c->output[i].stored, dtype, ndim, dim, data, &in->ctx->error);
}

void give(const Given *in, const char *output, Tensor x) {
    const Dtype dtype = sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32;
    if (x.data) give_raw(in, output, dtype, x.ndim, x.dim, x.data);
}

void give_doubles(const Given *in, const char *output, int64_t n, const double *x) {
    Tensor y = tensor_new(in->ctx, 1, &n);
    for (int64_t i = 0; y.data && i < n; i++) y.data[i] = (real)x[i];
    give(in, output, y);
}

void give_as_map(const Given *in, const char *output, Tensor x) {
    if (!x.data) return;
    x = channels_first(in->ctx, TENSOR_VIEW(x, x.dim[1], x.dim[2], x.dim[3]));
    give(in, output, x);
}

void give_as_rows(const Given *in, const char *output, Tensor x) {
    if (x.data) give(in, output, tensor_at(x, 0));
}
