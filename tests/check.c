/* Comparing with the committed goldens: see check.h. The comparison itself returns a Verdict and
 * fails nothing, so that tests/test_weights_check.c can show that it does say no. */
#include "tests/check.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct Golden {
    char name[128];
    Safetensors *file;
    size_t compared; /* values */
    int64_t **ids;   /* what golden_ids handed out */
    size_t ids_count;
};

/* ---- what is allowed --------------------------------------------------------------------------- */

static const char *const station_name[] = {"operator", "module", "pipeline", "gradient"};

static double limit_double(Station station) {
    static const double relative[] = {1e-12, 1e-10, 1e-8, 1e-9};
    return relative[station];
}

/* 4 ulp of a float of that magnitude. NaN or infinite where there is none: nothing passes. */
static double four_ulp(double largest) {
    float m = (float)largest;
    return 4 * ((double)nextafterf(m, INFINITY) - (double)m);
}

double golden_limit(double largest, double yardstick, Station station, bool is_double) {
    if (largest == 0) return 0;
    if (is_double) return limit_double(station) * largest;
    return 2 * yardstick * largest + four_ulp(largest);
}

/* ---- the comparison ---------------------------------------------------------------------------- */

static bool same_shape(const StoredTensor *t, int ndim, const int64_t *dim) {
    if (t->ndim == 0) return ndim == 0 || (ndim == 1 && dim[0] == 1); /* a Tensor has no scalars */
    if (t->ndim != ndim) return false;
    for (int i = 0; i < ndim; i++)
        if (t->dim[i] != dim[i]) return false;
    return true;
}

static bool parse_number(const char *text, double *out) {
    char *end;
    if (!text || !*text) return false;
    *out = strtod(text, &end);
    return *end == '\0';
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static Verdict
refused(Verdict v, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(v.message, sizeof v.message, fmt, args);
    va_end(args);
    v.ok = false;
    return v;
}

/* The worst element, its error, and the truth's largest magnitude. A NaN counts as the worst. */
static void worst_of(Verdict *v, const double *truth, const real *data, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        double error = fabs((double)data[i] - truth[i]);
        if (fabs(truth[i]) > v->largest) v->largest = fabs(truth[i]);
        if (error <= v->error) continue;
        if (isnan(v->error)) continue; /* the first one is kept */
        v->error = error;
        v->worst = i;
    }
}

Verdict golden_compare(const Golden *g, const char *name, const real *data, int ndim,
                       const int64_t *dim, Station station) {
    Verdict v = {.yardstick = NAN};
    const StoredTensor *t = safetensors_find(g->file, name);
    if (!t) return refused(v, "%s/%s: the golden has no such tensor", g->name, name);
    if (!data) return refused(v, "%s/%s: got an empty tensor", g->name, name);
    if (!same_shape(t, ndim, dim)) {
        char want[SHAPE_TEXT], have[SHAPE_TEXT];
        shape_text(want, sizeof want, t->ndim, t->dim);
        shape_text(have, sizeof have, ndim, dim);
        return refused(v, "%s/%s: shape: expected %s, got %s", g->name, name, want, have);
    }

    char key[512];
    bool is_double = sizeof(real) == sizeof(double);
    snprintf(key, sizeof key, "yardstick:%s", name);
    bool measured = parse_number(safetensors_metadata(g->file, key), &v.yardstick) &&
                    v.yardstick >= 0 && isfinite(v.yardstick);
    if (!measured && !is_double)
        return refused(v, "%s/%s: the golden has no yardstick for it", g->name, name);

    v.count = stored_numel(t);
    double *truth = malloc(((size_t)v.count + 1) * sizeof *truth);
    Error err = {0};
    if (!truth) return refused(v, "%s/%s: out of memory", g->name, name);
    if (stored_to_double(t, truth, &err)) {
        free(truth);
        return refused(v, "%s: %.400s", g->name, err.message);
    }
    worst_of(&v, truth, data, v.count);
    v.limit = golden_limit(v.largest, v.yardstick, station, is_double);
    v.ok = v.error <= v.limit; /* false for NaN */
    if (!v.ok)
        v = refused(
            v,
            "%s/%s: element %" PRId64 " of %" PRId64
            ": got %.17g, truth %.17g: error %.3g is over the limit %.3g (largest truth %.3g, "
            "yardstick %.3g)",
            g->name, name, v.worst, v.count, (double)data[v.worst], truth[v.worst], v.error,
            v.limit, v.largest, v.yardstick);
    free(truth);
    return v;
}

static void report(const Golden *g, const char *name, const Verdict *v, Station station) {
    const char *path = getenv("LLMDIFF_REPORT");
    FILE *fp = path && *path ? fopen(path, "a") : NULL;
    if (!fp) return;
    double largest = v->largest > 0 ? v->largest : 1;
    fprintf(fp, "%s %s %s/%s %.3g %.3g %.3g\n", REAL_NAME, station_name[station], g->name, name,
            v->error / largest, v->yardstick, v->limit / largest);
    fclose(fp);
}

void golden_check_data(Golden *g, const char *name, const real *data, int ndim, const int64_t *dim,
                       Station station) {
    Verdict v = golden_compare(g, name, data, ndim, dim, station);
    if (v.count) report(g, name, &v, station);
    if (!v.ok) fail_msg("%s", v.message);
    g->compared += (size_t)v.count;
}

void golden_check(Golden *g, const char *name, Tensor got, Station station) {
    golden_check_data(g, name, got.data, got.ndim, got.dim, station);
}

/* ---- the observer ------------------------------------------------------------------------------ */

static void see(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    GoldenObserver *o = self;
    char full[512];
    snprintf(full, sizeof full, "%s%s", o->prefix ? o->prefix : "", name);
    if (!golden_has(o->golden, full)) return;
    golden_check_data(o->golden, full, data, ndim, dim, o->station);
    o->compared++;
}

Observer golden_observer(GoldenObserver *self) { return (Observer){.see = see, .self = self}; }

/* ---- the golden file --------------------------------------------------------------------------- */

Golden *golden_open_file(const char *path, const char *name, Error *err) {
    Golden *g = calloc(1, sizeof *g);
    if (!g) return fail(err, "%s: out of memory", path), NULL;
    snprintf(g->name, sizeof g->name, "%s", name);
    g->file = safetensors_open(path, err);
    if (g->file) return g;
    free(g);
    return NULL;
}

Golden *golden_open(const char *name) {
    char path[512];
    Error err = {0};
    snprintf(path, sizeof path, "golden/data/%s.safetensors", name);
    Golden *g = golden_open_file(path, name, &err);
    if (!g) fail_msg("%s", err.message);
    return g;
}

static bool has_outputs(const Golden *g) {
    for (size_t i = 0; i < safetensors_metadata_count(g->file); i++) {
        const char *key, *value;
        safetensors_metadata_at(g->file, i, &key, &value);
        if (strncmp(key, "yardstick:", strlen("yardstick:")) == 0) return true;
    }
    return false;
}

bool golden_blind(const Golden *g) { return g->compared == 0 && has_outputs(g); }

void golden_close(Golden *g) {
    char name[sizeof g->name];
    snprintf(name, sizeof name, "%s", g->name);
    bool blind = golden_blind(g);
    safetensors_close(g->file);
    for (size_t i = 0; i < g->ids_count; i++) free(g->ids[i]);
    free(g->ids);
    free(g);
    if (blind) fail_msg("%s: the golden was opened and nothing was compared with it", name);
}

const Safetensors *golden_file(const Golden *g) { return g->file; }

bool golden_has(const Golden *g, const char *name) {
    return safetensors_find(g->file, name) != NULL;
}

static const StoredTensor *must_find(const Golden *g, const char *name) {
    const StoredTensor *t = safetensors_find(g->file, name);
    if (!t) fail_msg("%s/%s: the golden has no such tensor", g->name, name);
    return t;
}

Tensor golden_tensor(const Golden *g, Context *ctx, const char *name) {
    const StoredTensor *t = must_find(g, name);
    if (t->ndim > MAX_DIMS) fail_msg("%s/%s: too many dimensions", g->name, name);
    Tensor x = tensor_new(ctx, t->ndim ? t->ndim : 1, t->ndim ? t->dim : (int64_t[]){1});
    assert_context_ok(ctx);
    size_t n = (size_t)stored_numel(t);
    double *wide = malloc((n + 1) * sizeof *wide);
    Error err = {0};
    if (!wide || stored_to_double(t, wide, &err)) fail_msg("%s: %s", g->name, err.message);
    for (size_t i = 0; i < n; i++) x.data[i] = (real)wide[i];
    free(wide);
    return x;
}

Weight golden_weight(const Golden *g, const char *name) {
    const StoredTensor *t = must_find(g, name);
    if (t->ndim > MAX_DIMS) fail_msg("%s/%s: too many dimensions", g->name, name);
    Weight w = {.data = t->data, .dtype = t->dtype, .ndim = t->ndim, .name = t->name};
    for (int i = 0; i < MAX_DIMS; i++) w.dim[i] = i < t->ndim ? t->dim[i] : 1;
    return w;
}

const int64_t *golden_ids(const Golden *g, const char *name, int64_t *count) {
    const StoredTensor *t = must_find(g, name);
    if (t->dtype != DTYPE_I64)
        fail_msg("%s/%s: expected I64, found %s", g->name, name, dtype_name(t->dtype));
    /* A copy, because the file aligns nothing. golden_close frees it, hence the cast. */
    Golden *owner = (Golden *)(uintptr_t)g;
    int64_t *ids = malloc(t->bytes + 1);
    int64_t **list = realloc(owner->ids, (owner->ids_count + 1) * sizeof *list);
    if (!ids || !list) fail_msg("%s/%s: out of memory", g->name, name);
    memcpy(ids, t->data, t->bytes);
    list[owner->ids_count++] = ids;
    owner->ids = list;
    *count = stored_numel(t);
    return ids;
}

double golden_number(const Golden *g, const char *key) {
    double v = 0;
    if (!parse_number(safetensors_metadata(g->file, key), &v))
        fail_msg("%s: the golden's metadata has no number \"%s\"", g->name, key);
    return v;
}

void assert_context_ok(const Context *ctx) {
    if (ctx->error.set) fail_msg("%s", ctx->error.message);
}
