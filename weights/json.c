/* What cJSON lets pass and this program does not: see json.h. */
#include "weights/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool utf8_valid(const char *text, size_t size) {
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    while (size) {
        utf8proc_int32_t codepoint;
        utf8proc_ssize_t n = utf8proc_iterate(p, (utf8proc_ssize_t)size, &codepoint);
        if (n <= 0) return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

static bool has_nul(const char *text, size_t size) {
    if (memchr(text, 0, size)) return true;
    for (const char *p = text, *end = text + size; end - p >= 6; p++) {
        p = memchr(p, '\\', (size_t)(end - p));
        if (!p || end - p < 6) return false;
        if (memcmp(p, "\\u0000", 6) == 0) return true;
        p++; /* the escaped character, which may itself be a backslash */
    }
    return false;
}

cJSON *json_parse_object(const char *text, size_t size, const char *where, Error *err) {
    if (!utf8_valid(text, size)) {
        fail(err, "%s: not valid UTF-8", where);
        return NULL;
    }
    if (has_nul(text, size)) {
        fail(err, "%s: holds a NUL character", where);
        return NULL;
    }
    const char *stop = text;
    errno = 0; /* malloc tells why cJSON failed; cJSON itself doesn't */
    cJSON *json = cJSON_ParseWithLengthOpts(text, size, &stop, 0);
    if (!json && errno == ENOMEM) {
        fail(err, "%s: out of memory", where);
        return NULL;
    }
    const char *rest = stop;
    while (json && rest < text + size && strchr(" \t\r\n", *rest)) rest++;
    if (!json || rest < text + size) {
        fail(err, "%s: not JSON (at byte %zu of %zu)", where, (size_t)(rest - text), size);
        cJSON_Delete(json);
        return NULL;
    }
    if (!cJSON_IsObject(json)) {
        fail(err, "%s: expected a JSON object { }", where);
        cJSON_Delete(json);
        return NULL;
    }
    return json;
}

void json_spell_infinity(char *text, size_t size) {
    static const char word[] = "Infinity", number[] = "1e99999 ";
    const size_t n = sizeof word - 1;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        if (in_string && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            in_string = !in_string;
        else if (!in_string && size - i >= n && memcmp(text + i, word, n) == 0)
            memcpy(text + i, number, n);
    }
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *json_duplicate(const cJSON *object, bool *failed) {
    size_t n = 0;
    for (const cJSON *item = object->child; item; item = item->next) n++;
    if (n < 2) return NULL;
    const char **key = malloc(n * sizeof *key);
    if (!key) {
        *failed = true;
        return NULL;
    }
    size_t i = 0;
    for (const cJSON *item = object->child; item; item = item->next) key[i++] = item->string;
    qsort(key, n, sizeof *key, by_text);
    const char *twice = NULL;
    for (i = 1; i < n && !twice; i++)
        if (strcmp(key[i - 1], key[i]) == 0) twice = key[i];
    free(key);
    return twice;
}

bool json_count(const cJSON *item, int64_t *out) {
    if (!cJSON_IsNumber(item)) return false;
    double v = item->valuedouble;
    if (!(v >= 0 && v <= 9007199254740992.0) || v != floor(v)) return false;
    *out = (int64_t)v;
    return true;
}
