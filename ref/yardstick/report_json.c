/* A Report for programs: JSON with every number as it is, so that reading it back gives the same
 * double. What JSON has no number for is a string: "NaN", "Infinity", "-Infinity", which Python's
 * float() and JavaScript's Number() take. See yardstick.h. */
#include "ref/yardstick/yardstick.h"

#include "ref/llmdiff.h"
#include "tokenizer/unicode.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- members ------------------------------------------------------------------------------------- */

/* Puts `item` into the object, or into the array where `key` is NULL. */
static cJSON *put_in(cJSON *to, const char *key, cJSON *item, Error *err) {
    bool good = item && !err->set &&
                (key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item));
    if (good) return item;
    cJSON_Delete(item);
    fail(err, "out of memory");
    return NULL;
}

static void add_number(cJSON *to, const char *key, double v, Error *err) {
    const char *word = isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity";
    put_in(to, key, isfinite(v) ? cJSON_CreateNumber(v) : cJSON_CreateString(word), err);
}

/* Names of files need not be UTF-8, which JSON is. NULL: null. */
static void add_text(cJSON *to, const char *key, const char *text, Error *err) {
    size_t length;
    char *valid = text ? utf8_repair(text, strlen(text), &length) : NULL;
    if (text && !valid) fail(err, "out of memory");
    put_in(to, key, valid ? cJSON_CreateString(valid) : cJSON_CreateNull(), err);
    free(valid);
}

static cJSON *add_object(cJSON *to, const char *key, Error *err) {
    return put_in(to, key, cJSON_CreateObject(), err);
}

static cJSON *add_array(cJSON *to, const char *key, Error *err) {
    return put_in(to, key, cJSON_CreateArray(), err);
}

/* ---- a row --------------------------------------------------------------------------------------- */

/* {"dtype": "F32", "shape": [2, 3]}, or null where there is no such tensor. */
static void add_info(cJSON *to, const char *key, const TensorInfo *t, Error *err) {
    if (!t->name) {
        put_in(to, key, cJSON_CreateNull(), err);
        return;
    }
    cJSON *object = add_object(to, key, err);
    add_text(object, "dtype", dtype_name(t->dtype), err);
    cJSON *shape = add_array(object, "shape", err);
    for (int i = 0; i < t->ndim; i++) add_number(shape, NULL, (double)t->dim[i], err);
}

static void add_worst(cJSON *to, const Row *row, Error *err) {
    if (row->ref.count == 0) {
        put_in(to, "worst", cJSON_CreateNull(), err);
        return;
    }
    int64_t index[STORED_MAX_DIMS], rest = row->worst;
    for (int i = row->ref.ndim - 1; i >= 0; i--) {
        index[i] = rest % row->ref.dim[i];
        rest /= row->ref.dim[i];
    }
    cJSON *worst = add_object(to, "worst", err), *list = add_array(worst, "index", err);
    for (int i = 0; i < row->ref.ndim; i++) add_number(list, NULL, (double)index[i], err);
    add_number(worst, "reference", row->worst_ref, err);
    add_number(worst, "mine", row->worst_mine, err);
}

static void add_row(cJSON *rows, const Row *row, Error *err) {
    cJSON *o = add_object(rows, NULL, err);
    add_text(o, "group", row->group, err);
    add_text(o, "name", row->name, err);
    add_text(o, "verdict", verdict_name(row->verdict), err);
    add_info(o, "reference", &row->ref, err);
    add_info(o, "mine", &row->mine, err);
    if (row->verdict > ROW_NONFINITE) return; /* nothing was measured */
    add_number(o, "largest", row->largest, err);
    add_number(o, "max_abs", row->max_abs, err);
    add_number(o, "max_rel", row->max_rel, err);
    add_number(o, "nmse", row->nmse, err);
    add_number(o, "cosine", row->cosine, err);
    add_number(o, "ulp", row->ulp, err);
    add_number(o, "nonfinite", (double)row->nonfinite, err);
    add_worst(o, row, err);
    add_number(o, "allowed", row->allowed, err);
    cJSON *tolerance = add_object(o, "tolerance", err);
    add_number(tolerance, "absolute", row->tolerance.absolute, err);
    add_number(tolerance, "relative", row->tolerance.relative, err);
    add_text(tolerance, "source", row->tolerance.source, err);
}

/* ---- the report ---------------------------------------------------------------------------------- */

static void add_first(cJSON *json, const Report *r, Error *err) {
    if (r->first == r->rows) {
        put_in(json, "first_divergence", cJSON_CreateNull(), err);
        return;
    }
    cJSON *first = add_object(json, "first_divergence", err);
    add_number(first, "row", (double)r->first, err);
    add_text(first, "group", r->row[r->first].group, err);
    add_text(first, "name", r->row[r->first].name, err);
}

static void add_others(cJSON *json, const Report *r, Error *err) {
    Others others;
    if (report_others(r, &others, err)) return;
    cJSON *also = add_object(json, "also_diverging", err);
    add_number(also, "count", (double)others.count, err);
    cJSON *names = add_array(also, "largest", err);
    for (size_t i = 0; i < others.shown; i++) add_text(names, NULL, others.name[i], err);
}

static void add_report(cJSON *json, const Report *r, Error *err) {
    add_text(json, "format", "llmdiff-report", err);
    add_number(json, "version", 1, err);
    add_text(json, "llmdiff", LLMDIFF_VERSION, err);
    add_text(json, "title", r->title, err);
    add_text(json, "reference", r->reference, err);
    add_text(json, "mine", r->mine, err);
    add_number(json, "code", report_code(r), err);
    cJSON *counts = add_object(json, "counts", err);
    for (RowVerdict v = ROW_MATCH; v <= ROW_EXTRA; v++)
        add_number(counts, verdict_name(v), (double)r->counts[v], err);
    add_first(json, r, err);
    cJSON *hints = add_array(json, "hints", err);
    for (size_t i = 0; i < r->hints; i++) add_text(hints, NULL, r->hint[i], err);
    add_others(json, r, err);
    cJSON *rows = add_array(json, "rows", err);
    for (size_t i = 0; i < r->rows && !err->set; i++) add_row(rows, &r->row[i], err);
}

char *report_json(const Report *r, Error *err) {
    cJSON *json = cJSON_CreateObject();
    if (json)
        add_report(json, r, err);
    else
        fail(err, "out of memory");
    char *text = err->set ? NULL : cJSON_Print(json);
    if (!text) fail(err, "out of memory");
    cJSON_Delete(json);
    return text;
}
