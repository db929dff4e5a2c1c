/* Reading config.json: every value is typed and bounded here, every error names file, key, what was
 * expected and what was found, and which keys were asked for is remembered so that
 * config_refuse_unknown can tell the rest. See model_dir.h. */
#include "weights/model_dir_private.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const cJSON *model_config(const ModelDir *m) { return m->config; }

void config_fail(ModelDir *m, const char *fmt, ...) {
    char text[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fail(m->err, "%s: %s", m->config_path, text);
}

/* The key's value, or NULL when it is absent or null; either way somebody asked for it. */
static const cJSON *ask(ModelDir *m, const char *key) {
    size_t i = 0;
    for (const cJSON *item = m->config->child; item; item = item->next, i++)
        if (strcmp(item->string, key) == 0) {
            m->asked[i] = true;
            return cJSON_IsNull(item) ? NULL : item;
        }
    return NULL;
}

#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
static void
mismatch(ModelDir *m, const char *key, const cJSON *found, const char *fmt, ...) {
    char expected[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(expected, sizeof expected, fmt, args);
    va_end(args);
    char *text = cJSON_PrintUnformatted(found);
    const char *shown = text ? text : "something else";
    if (cJSON_IsNumber(found) && !isfinite(found->valuedouble)) /* which cJSON prints as null */
        shown = found->valuedouble > 0 ? "Infinity" : "-Infinity";
    config_fail(m, "%s: expected %s, found %.200s", key, expected, shown);
    cJSON_free(text);
}

/* A whole number that a double holds exactly: JSON's numbers arrive as doubles. */
static bool whole(const cJSON *item, int64_t *out) {
    if (!cJSON_IsNumber(item)) return false;
    double v = item->valuedouble;
    if (!(fabs(v) <= 9007199254740992.0) || v != floor(v)) return false;
    *out = (int64_t)v;
    return true;
}

/* ---- values ------------------------------------------------------------------------------------ */

int64_t config_int(ModelDir *m, const char *key, int64_t absent, int64_t min, int64_t max) {
    const cJSON *item = ask(m, key);
    int64_t v;
    if (!item) return absent;
    if (whole(item, &v) && v >= min && v <= max) return v;
    mismatch(m, key, item, "a whole number from %" PRId64 " to %" PRId64, min, max);
    return absent;
}

double config_double(ModelDir *m, const char *key, double absent) {
    const cJSON *item = ask(m, key);
    if (!item) return absent;
    if (cJSON_IsNumber(item) && isfinite(item->valuedouble)) return item->valuedouble;
    mismatch(m, key, item, "a number");
    return absent;
}

bool config_bool(ModelDir *m, const char *key, bool absent) {
    const cJSON *item = ask(m, key);
    if (!item) return absent;
    if (cJSON_IsBool(item)) return cJSON_IsTrue(item);
    mismatch(m, key, item, "true or false");
    return absent;
}

const char *config_string(ModelDir *m, const char *key, const char *absent) {
    const cJSON *item = ask(m, key);
    if (!item) return absent;
    if (cJSON_IsString(item)) return item->valuestring;
    mismatch(m, key, item, "a string");
    return absent;
}

static int fill(int64_t *out, int64_t v, int n) {
    for (int i = 0; i < n; i++) out[i] = v;
    return n;
}

int config_ints(ModelDir *m, const char *key, int64_t *out, int max_n, int64_t absent,
                int absent_n) {
    const cJSON *item = ask(m, key);
    int64_t v;
    if (!item) return fill(out, absent, absent_n);
    if (absent_n > 0 && whole(item, &v)) return fill(out, v, absent_n);
    int n = cJSON_IsArray(item) ? cJSON_GetArraySize(item) : 0;
    bool good = n >= 1 && n <= max_n;
    if (good) {
        const cJSON *element = item->child;
        for (int i = 0; i < n; i++, element = element->next) good = whole(element, &out[i]) && good;
    }
    if (good) return n;
    mismatch(m, key, item, "%s1 to %d whole numbers in a list",
             absent_n > 0 ? "a whole number, or " : "", max_n);
    return fill(out, absent, absent_n);
}

/* ---- values of which only one is built ---------------------------------------------------------- */

void config_only_int(ModelDir *m, const char *key, int64_t supported) {
    const cJSON *item = ask(m, key);
    int64_t v;
    if (item && !(whole(item, &v) && v == supported))
        mismatch(m, key, item, "%" PRId64 " (nothing else is supported)", supported);
}

void config_only_double(ModelDir *m, const char *key, double supported) {
    const cJSON *item = ask(m, key);
    if (!item) return;
    if (!cJSON_IsNumber(item) || !(item->valuedouble == supported))
        mismatch(m, key, item, "%g (nothing else is supported)", supported);
}

void config_only_bool(ModelDir *m, const char *key, bool supported) {
    const cJSON *item = ask(m, key);
    if (item && !(cJSON_IsBool(item) && cJSON_IsTrue(item) == supported))
        mismatch(m, key, item, "%s (nothing else is supported)", supported ? "true" : "false");
}

void config_only_string(ModelDir *m, const char *key, const char *supported) {
    const cJSON *item = ask(m, key);
    if (item && !(cJSON_IsString(item) && strcmp(item->valuestring, supported) == 0))
        mismatch(m, key, item, "\"%s\" (nothing else is supported)", supported);
}

void config_only_null(ModelDir *m, const char *key) {
    const cJSON *item = ask(m, key);
    if (item) mismatch(m, key, item, "null (nothing else is supported)");
}

void config_refuse_unknown(ModelDir *m, const char *const *harmless) {
    Complaints unknown = {0};
    size_t i = 0;
    for (const cJSON *item = m->config->child; item; item = item->next, i++) {
        bool fine =
            m->asked[i] || item->string[0] == '_' || cJSON_IsNull(item) || cJSON_IsFalse(item);
        for (const char *const *h = harmless; h && *h && !fine; h++)
            fine = strcmp(*h, item->string) == 0;
        if (!fine) complain(&unknown, "%s", item->string);
    }
    if (!unknown.count) return;
    char text[COMPLAINTS_TEXT];
    complaints_text(&unknown, text);
    config_fail(m, "%zu key%s not known, so what %s can't be followed: %s", unknown.count,
                unknown.count == 1 ? " is" : "s are", unknown.count == 1 ? "it asks" : "they ask",
                text);
}
