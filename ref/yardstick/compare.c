/* llmdiff compare: two files -> a Report. See yardstick.h. */
#include "ref/yardstick/compare.h"
#include "weights/file.h"

#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Work {
    const CompareRequest *q;
    TensorFile *ref, *mine;
    Kit *kit;              /* or NULL */
    const KitGroup *group; /* its group that says what is allowed */
    regex_t only;
    bool has_only;
    int64_t done, of; /* elements of the reference */
    Report *report;
} Work;

/* ---- which tensors ------------------------------------------------------------------------------- */

int compare_check_only(const char *only, Error *err) {
    regex_t regex;
    int status = regcomp(&regex, only, REG_EXTENDED | REG_NOSUB);
    if (status == 0) {
        regfree(&regex);
        return 0;
    }
    char why[160];
    regerror(status, &regex, why, sizeof why);
    if (status == REG_ESPACE) return fail(err, "--only: out of memory");
    return fail(err, "--only: expected a regular expression, found \"%s\": %s", only, why);
}

/* False, with a message, also where matching takes more memory than there is. */
static bool wanted(const Work *w, const char *name, Error *err) {
    int status = w->has_only ? regexec(&w->only, name, 0, NULL, 0) : 0;
    if (status && status != REG_NOMATCH) fail(err, "--only: out of memory");
    return status == 0;
}

/* Tensor i of the reference in the other file; its count if there is none. A .npy has no names
 * inside: where one is compared with a file of one tensor, those two are meant. */
static size_t counterpart(const Work *w, size_t i) {
    bool nameless = tensor_file_nameless(w->ref) || tensor_file_nameless(w->mine);
    if (nameless && tensor_file_count(w->ref) == 1 && tensor_file_count(w->mine) == 1) return 0;
    return tensor_file_find(w->mine, tensor_file_at(w->ref, i)->name);
}

/* ---- what error is allowed ------------------------------------------------------------------------ */

/* Of two float types the one that knows fewer digits: what both can have in common. */
static Dtype coarser(Dtype a, Dtype b) { return a > b ? a : b; }

static Tolerance by_default(Dtype dtype) {
    static const double relative[] = {
        [DTYPE_F64] = 1e-8, [DTYPE_F32] = 1e-4, [DTYPE_F16] = 1e-2, [DTYPE_BF16] = 5e-2};
    Tolerance t = {.relative = dtype_is_float(dtype) ? relative[dtype] : 0, .guessed = true};
    snprintf(t.source, sizeof t.source, "default for %s: %g of the tensor's largest",
             dtype_name(dtype), t.relative);
    return t;
}

static Tolerance by_request(const CompareRequest *q) {
    Tolerance t = {.absolute = fmax(q->atol, 0), .relative = fmax(q->rtol, 0)};
    size_t used = 0;
    t.source[0] = '\0';
    if (q->rtol >= 0)
        used = (size_t)snprintf(t.source, sizeof t.source, "--rtol %g%s", q->rtol,
                                q->atol >= 0 ? ", " : "");
    if (q->atol >= 0) snprintf(t.source + used, sizeof t.source - used, "--atol %g", q->atol);
    return t;
}

/* Torch float32's own relative error, as golden files have it in "yardstick:<name>". 1: there is
 * none; 0, or -1 with a message. */
static int yardstick_of(const Work *w, const char *name, double *out, Error *err) {
    char key[1100];
    snprintf(key, sizeof key, "yardstick:%s", name);
    const char *text = tensor_file_metadata(w->ref, key);
    if (!text) return 1;
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end || !(*out >= 0 && *out <= YARDSTICK_MAX))
        return fail(err, "%s: %s: expected a number of 0 to %d, found \"%s\"",
                    tensor_file_path(w->ref), key, YARDSTICK_MAX, text);
    return 0;
}

/* What was asked for, else the kit's, else the reference's own yardstick, else by type. */
static int choose_tolerance(const Work *w, const Row *row, const double *ref, Tolerance *t,
                            Error *err) {
    double own, largest = largest_of(ref, row->ref.count);
    Dtype dtype = coarser(row->ref.dtype, row->mine.dtype);
    *t = by_default(dtype);
    if (w->q->rtol >= 0 || w->q->atol >= 0) {
        *t = by_request(w->q);
        return 0;
    }
    const KitOutput *known = compare_output(w->group, row->ref.name, NULL);
    if (known) return kit_tolerance(known, w->group->kind, KIT_FREE, dtype, largest, t, err);
    int status = dtype == DTYPE_F32 ? yardstick_of(w, row->ref.name, &own, err) : 1;
    if (status) return status < 0 ? -1 : 0;
    t->guessed = false;
    t->relative = 2 * own;
    t->absolute = four_ulp_of(largest, dtype);
    snprintf(t->source, sizeof t->source, "2 x torch float32's %.2g of the largest, + 4 ulp", own);
    return 0;
}

/* ---- rows ---------------------------------------------------------------------------------------- */

static int judge(Work *w, Row *row, size_t i, size_t k, Error *err) {
    Tolerance tolerance;
    double *ref = tensor_file_load(w->ref, i, err);
    double *mine = ref ? tensor_file_load(w->mine, k, err) : NULL;
    if (!mine || choose_tolerance(w, row, ref, &tolerance, err)) {
        free(ref);
        free(mine);
        return -1;
    }
    measure(row, ref, mine, row->ref.count, row->mine.dtype, &tolerance);
    report_offer_worst(w->report, row, ref, mine);
    return 0;
}

/* The row belongs to the report from here on; its name is copied. */
static int add_row(Work *w, Row *row, const char *name, Error *err) {
    row->name = strdup(name);
    if (!row->name) return fail(err, "out of memory");
    if (row->ref.name) row->ref.name = row->name;
    if (row->mine.name) row->mine.name = row->name;
    if (report_add(w->report, row, err) == 0) return 0;
    free(row->name);
    return -1;
}

static int compare_one(Work *w, size_t i, Error *err) {
    const TensorInfo *ref = tensor_file_at(w->ref, i);
    size_t k = counterpart(w, i);
    Row row = {.ref = *ref, .verdict = ROW_MISSING};
    if (k < tensor_file_count(w->mine)) {
        row.mine = *tensor_file_at(w->mine, k);
        row.verdict = ROW_MISSHAPEN;
        if (tensors_alike(ref, &row.mine) && judge(w, &row, i, k, err)) return -1;
    }
    return add_row(w, &row, ref->name, err);
}

static int report_progress(Work *w, Error *err) {
    if (!w->q->progress || !w->q->progress(w->q->user, w->done, w->of)) return 0;
    return fail(err, "cancelled");
}

static int compare_all(Work *w, Error *err) {
    for (size_t i = 0; i < tensor_file_count(w->ref); i++) {
        const TensorInfo *t = tensor_file_at(w->ref, i);
        if (!wanted(w, t->name, err)) continue;
        if (report_progress(w, err) || compare_one(w, i, err)) return -1;
        w->done += t->count;
    }
    return err->set ? -1 : report_progress(w, err);
}

/* What only the other file has. */
static int add_extra(Work *w, Error *err) {
    size_t judged = w->report->rows;
    if (judged == 1 && w->report->row[0].mine.name && tensor_file_count(w->mine) == 1) return 0;
    for (size_t k = 0; k < tensor_file_count(w->mine); k++) {
        const TensorInfo *t = tensor_file_at(w->mine, k);
        if (!wanted(w, t->name, err) ||
            tensor_file_find(w->ref, t->name) < tensor_file_count(w->ref))
            continue;
        Row row = {.mine = *t, .verdict = ROW_EXTRA};
        if (add_row(w, &row, t->name, err)) return -1;
    }
    return err->set ? -1 : 0;
}

/* ---- hints ---------------------------------------------------------------------------------------- */

static int look_for_hints(const Work *w, Error *err) {
    Report *r = w->report;
    if (r->first == r->rows) return 0;
    ComparePair p = {.request = w->q, .kit = w->kit, .ref = w->ref, .mine = w->mine};
    p.ref_at = tensor_file_find(w->ref, r->row[r->first].name);
    p.mine_at = counterpart(w, p.ref_at);
    return compare_hints(r, &p, err);
}

/* ---- the files ----------------------------------------------------------------------------------- */

static int open_files(Work *w, Error *err) {
    const CompareRequest *q = w->q;
    NameMap *map = q->map_file ? name_map_open(q->map_file, err) : NULL;
    if (!err->set) w->ref = tensor_file_open(q->reference, NULL, err);
    if (w->ref) w->mine = tensor_file_open(q->mine, map, err);
    name_map_free(map);
    if (w->mine && q->model && !is_directory(q->model))
        fail(err, "%s: expected a pack's directory, found %s: give one with -m", q->model,
             file_exists(q->model) ? "a file" : "nothing");
    if (w->mine && !err->set) w->kit = q->kit ? kit_open(q->kit, err) : compare_own_kit(q, err);
    if (w->kit) w->group = compare_group(w->kit, q->reference);
    if (err->set) return -1;
    if (q->only) {
        if (compare_check_only(q->only, err)) return -1;
        w->has_only = regcomp(&w->only, q->only, REG_EXTENDED | REG_NOSUB) == 0;
        if (!w->has_only) return fail(err, "--only: out of memory");
    }
    size_t count = 0;
    for (size_t i = 0; i < tensor_file_count(w->ref); i++) {
        const TensorInfo *t = tensor_file_at(w->ref, i);
        if (wanted(w, t->name, err)) count++, w->of += t->count;
    }
    if (count && !err->set) return 0;
    return fail(err, "%s: holds no tensor%s: there is nothing to compare", q->reference,
                q->only ? " that --only names" : "");
}

static int new_report(Work *w, Error *err) {
    Report *r = w->report = calloc(1, sizeof *r);
    if (r) {
        r->title = strdup("compare");
        r->reference = strdup(w->q->reference);
        r->mine = strdup(w->q->mine);
    }
    if (r && r->title && r->reference && r->mine) return 0;
    return fail(err, "out of memory");
}

Report *compare_files(const CompareRequest *q, Error *err) {
    Work w = {.q = q};
    if (open_files(&w, err) == 0 && new_report(&w, err) == 0 && compare_all(&w, err) == 0 &&
        add_extra(&w, err) == 0) {
        report_conclude(w.report);
        look_for_hints(&w, err);
    }
    if (w.has_only) regfree(&w.only);
    tensor_file_close(w.ref);
    tensor_file_close(w.mine);
    kit_close(w.kit);
    if (!err->set) return w.report;
    report_free(w.report);
    return NULL;
}
