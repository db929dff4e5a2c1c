/* The choices of the specification: names, defaults, reading, printing. See settings.h. */
#include "ref/settings.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum Kind {
    KIND_CHOICE,
    KIND_BOOL,
    KIND_NUMBER,
    KIND_OVERRIDE,
    KIND_BLOCKS,
    KIND_LAYERS
} Kind;

typedef struct Key {
    const char *name;
    Kind kind;
    size_t offset;
    const char *choices[4]; /* KIND_CHOICE: the words, in the order of the enum */
} Key;

#define AT(field) offsetof(Settings, field)

static const Key keys[] = {
    {"init", KIND_CHOICE, AT(init), {"embedding", "zeros", "normal"}},
    {"noise", KIND_BOOL, AT(noise), {0}},
    {"score", KIND_CHOICE, AT(score), {"residual", "difference"}},
    {"word_score", KIND_BOOL, AT(word_score), {0}},
    {"normalize", KIND_CHOICE, AT(normalize), {"none", "rms"}},
    {"blocks", KIND_BLOCKS, 0, {0}},
    {"g_scale", KIND_NUMBER, AT(g_scale), {0}},
    {"h_scale", KIND_NUMBER, AT(h_scale), {0}},
    {"tau_input", KIND_CHOICE, AT(tau_input), {"phi_c", "c"}},
    {"out", KIND_CHOICE, AT(out), {"own", "shared"}},
    {"layers", KIND_LAYERS, 0, {0}},
    {"a1", KIND_OVERRIDE, AT(a1), {0}},
    {"b1", KIND_OVERRIDE, AT(b1), {0}},
    {"a2", KIND_OVERRIDE, AT(a2), {0}},
    {"b2", KIND_OVERRIDE, AT(b2), {0}},
};
#define KEYS (sizeof keys / sizeof keys[0])

Settings settings_default(void) {
    return (Settings){.noise = true,
                      .word_score = true,
                      .last = -1,
                      .g_scale = 1,
                      .h_scale = 1,
                      .all_layers = true,
                      .a1 = NAN,
                      .b1 = NAN,
                      .a2 = NAN,
                      .b2 = NAN};
}

/* ---- reading --------------------------------------------------------------------------------- */

static int expected(Error *err, const char *where, const char *key, const char *what,
                    const cJSON *found) {
    char *text = cJSON_PrintUnformatted(found);
    fail(err, "%s: %s: expected %s, found %.200s", where, key, what, text ? text : "?");
    cJSON_free(text);
    return -1;
}

static int set_choice(Settings *s, const Key *k, const cJSON *value, const char *where,
                      Error *err) {
    char words[128] = "";
    for (int i = 0; i < 4 && k->choices[i]; i++) {
        if (cJSON_IsString(value) && strcmp(value->valuestring, k->choices[i]) == 0) {
            *(int *)((char *)s + k->offset) = i;
            return 0;
        }
        size_t used = strlen(words);
        snprintf(words + used, sizeof words - used, "%s\"%s\"", i ? " or " : "", k->choices[i]);
    }
    return expected(err, where, k->name, words, value);
}

static bool whole(const cJSON *v) {
    return cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < 1e9 &&
           floor(v->valuedouble) == v->valuedouble;
}

static int set_blocks(Settings *s, const Key *k, const cJSON *value, const char *where,
                      Error *err) {
    if (cJSON_IsNull(value)) {
        s->first = 0;
        s->last = -1;
        return 0;
    }
    const cJSON *first = cJSON_GetArrayItem(value, 0), *last = cJSON_GetArrayItem(value, 1);
    if (cJSON_GetArraySize(value) != 2 || !whole(first) || !whole(last) ||
        first->valuedouble > last->valuedouble)
        return expected(err, where, k->name, "null or [first, last] with 0 <= first <= last",
                        value);
    s->first = (int64_t)first->valuedouble;
    s->last = (int64_t)last->valuedouble;
    return 0;
}

static int set_layers(Settings *s, const Key *k, const cJSON *value, const char *where,
                      Error *err) {
    const char *want = "null or a list of attn2 paths";
    s->all_layers = cJSON_IsNull(value);
    s->layers[0] = '\0';
    if (s->all_layers) return 0;
    if (!cJSON_IsArray(value)) return expected(err, where, k->name, want, value);
    const cJSON *item;
    cJSON_ArrayForEach(item, value) {
        size_t used = strlen(s->layers);
        if (!cJSON_IsString(item) || strchr(item->valuestring, '\n'))
            return expected(err, where, k->name, want, value);
        if (strlen(item->valuestring) + 2 > sizeof s->layers - used)
            return fail(err, "%s: %s: longer than %zu characters", where, k->name,
                        sizeof s->layers);
        snprintf(s->layers + used, sizeof s->layers - used, "%s\n", item->valuestring);
    }
    return 0;
}

int settings_set(Settings *s, const char *key, const cJSON *value, const char *where, Error *err) {
    for (size_t i = 0; i < KEYS; i++) {
        const Key *k = &keys[i];
        if (strcmp(k->name, key) != 0) continue;
        void *field = (char *)s + k->offset;
        switch (k->kind) {
        case KIND_CHOICE: return set_choice(s, k, value, where, err);
        case KIND_BLOCKS: return set_blocks(s, k, value, where, err);
        case KIND_LAYERS: return set_layers(s, k, value, where, err);
        case KIND_BOOL:
            if (!cJSON_IsBool(value)) return expected(err, where, key, "true or false", value);
            *(bool *)field = cJSON_IsTrue(value);
            return 0;
        case KIND_OVERRIDE:
            if (cJSON_IsNull(value)) {
                *(double *)field = NAN;
                return 0;
            }
            if (!cJSON_IsNumber(value) || !isfinite(value->valuedouble))
                return expected(err, where, key, "null or a number", value);
            *(double *)field = value->valuedouble;
            return 0;
        case KIND_NUMBER:
            if (!cJSON_IsNumber(value) || !isfinite(value->valuedouble) || value->valuedouble < 0)
                return expected(err, where, key, "a number that is not negative", value);
            *(double *)field = value->valuedouble;
            return 0;
        }
    }
    return 1;
}

int settings_parse(Settings *s, const char *assignment, Error *err) {
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        return fail(err, "--set %s: expected KEY=VALUE", assignment);
    char key[64];
    snprintf(key, sizeof key, "%.*s", (int)(equals - assignment), assignment);
    errno = 0;
    cJSON *value = cJSON_ParseWithOpts(equals + 1, NULL, true);
    if (!value && errno != ENOMEM) value = cJSON_CreateString(equals + 1);
    if (!value) return fail(err, "out of memory");
    int status = settings_set(s, key, value, "--set", err);
    cJSON_Delete(value);
    if (status != 1) return status;
    char names[256] = "";
    for (size_t i = 0; i < KEYS; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", keys[i].name);
    }
    return fail(err, "--set %s: no such key; there are %s", key, names);
}

/* ---- printing -------------------------------------------------------------------------------- */

/* The shortest text that reads back as the same number; cJSON's own drops the last digits. */
static cJSON *exact_number(double number) {
    char text[40];
    if (isnan(number)) return cJSON_CreateNull();
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number) break;
    }
    return cJSON_CreateRaw(text);
}

static cJSON *layers_to_json(const Settings *s) {
    if (s->all_layers) return cJSON_CreateNull();
    cJSON *list = cJSON_CreateArray();
    char line[sizeof s->layers];
    for (const char *p = s->layers; list && *p;) {
        size_t n = strcspn(p, "\n");
        memcpy(line, p, n);
        line[n] = '\0';
        if (!cJSON_AddItemToArray(list, cJSON_CreateString(line))) {
            cJSON_Delete(list);
            return NULL;
        }
        p += n + (p[n] == '\n');
    }
    return list;
}

cJSON *settings_to_json(const Settings *s) {
    cJSON *out = cJSON_CreateObject();
    for (size_t i = 0; out && i < KEYS; i++) {
        const Key *k = &keys[i];
        const void *field = (const char *)s + k->offset;
        cJSON *value = NULL;
        switch (k->kind) {
        case KIND_CHOICE: value = cJSON_CreateString(k->choices[*(const int *)field]); break;
        case KIND_BOOL: value = cJSON_CreateBool(*(const bool *)field); break;
        case KIND_LAYERS: value = layers_to_json(s); break;
        case KIND_NUMBER:
        case KIND_OVERRIDE: value = exact_number(*(const double *)field); break;
        case KIND_BLOCKS:
            value = s->last < 0 ? cJSON_CreateNull()
                                : cJSON_CreateIntArray((int[]){(int)s->first, (int)s->last}, 2);
            break;
        }
        if (!value || !cJSON_AddItemToObject(out, k->name, value)) {
            cJSON_Delete(value);
            cJSON_Delete(out);
            return NULL;
        }
    }
    return out;
}

bool settings_layer_active(const Settings *s, const char *attn2_path) {
    if (s->all_layers) return true;
    size_t length = strlen(attn2_path);
    for (const char *p = s->layers; *p;) {
        size_t n = strcspn(p, "\n");
        if (n == length && strncmp(p, attn2_path, n) == 0) return true;
        p += n + (p[n] == '\n');
    }
    return false;
}
