#include "tokenizer/json_file.h"
#include "tokenizer/unicode.h"
#include "weights/file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

char *tokenizer_path(const char *dir, const char *name, Error *err) {
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s/%s", dir, name);
    else
        fail(err, "%s: no memory", dir);
    return path;
}

/* What cJSON takes without a word, but would read wrongly: its strings end at a NUL, and it copies
 * bytes that are not UTF-8. */
static int check_text(const char *path, const char *text, size_t size, Error *err) {
    size_t valid = utf8_prefix(text, size);
    if (valid < size)
        return fail(err, "%s: byte %zu: expected UTF-8, found 0x%02X", path, valid,
                    (unsigned)(unsigned char)text[valid]);
    const char *nul = memchr(text, '\0', size);
    if (nul)
        return fail(err, "%s: byte %zu: expected JSON, found a NUL byte", path,
                    (size_t)(nul - text));
    for (const char *p = text; (p = strchr(p, '\\')) != NULL; p += p[1] ? 2 : 1)
        if (strncmp(p, "\\u0000", 6) == 0)
            return fail(err, "%s: byte %zu: expected strings without NUL, found \\u0000", path,
                        (size_t)(p - text));
    return 0;
}

static int parse(Json *j, const char *text, size_t size, Error *err) {
    if (check_text(j->path, text, size, err)) return -1;
    const char *end = NULL;
    j->root = cJSON_ParseWithLengthOpts(text, size + 1, &end, true);
    if (!j->root) {
        size_t line = 1, at = end ? (size_t)(end - text) : 0;
        if (at > size) at = size;
        for (size_t i = 0; i < at; i++) line += text[i] == '\n';
        return fail(err, "%s: line %zu, byte %zu: expected JSON, found something else", j->path,
                    line, at);
    }
    j->size = size;
    if (!cJSON_IsObject(j->root)) return json_unexpected(j, "root", "an object", j->root, err);
    return 0;
}

int json_read(Json *j, const char *dir, const char *name, Error *err) {
    *j = (Json){.path = tokenizer_path(dir, name, err)};
    if (!j->path) return -1;
    size_t size;
    char *text = file_read(j->path, &size, err);
    int status = text ? parse(j, text, size, err) : -1;
    free(text);
    if (status) json_free(j);
    return status;
}

int json_read_optional(Json *j, const char *dir, const char *name, Error *err) {
    *j = (Json){0};
    char *path = tokenizer_path(dir, name, err);
    if (!path) return -1;
    bool exists = file_exists(path);
    free(path);
    return exists ? json_read(j, dir, name, err) : 0;
}

void json_free(Json *j) {
    cJSON_Delete(j->root);
    free(j->path);
    *j = (Json){0};
}

const cJSON *json_get(const cJSON *object, const char *name) {
    return object ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
}

const char *json_found(const cJSON *item, char *buffer, size_t size) {
    if (!item) return "nothing";
    if (cJSON_IsNull(item)) return "null";
    if (cJSON_IsTrue(item)) return "true";
    if (cJSON_IsFalse(item)) return "false";
    if (cJSON_IsArray(item)) return "an array";
    if (cJSON_IsObject(item)) return "an object";
    if (cJSON_IsString(item))
        snprintf(buffer, size, "\"%s\"", item->valuestring);
    else
        snprintf(buffer, size, "%.17g", item->valuedouble);
    return buffer;
}

int json_unexpected(const Json *j, const char *where, const char *expected, const cJSON *item,
                    Error *err) {
    char buffer[200];
    return fail(err, "%s: %s: expected %s, found %s", j->path, where, expected,
                json_found(item, buffer, sizeof buffer));
}

int json_bool(const Json *j, const cJSON *object, const char *name, const char *where, bool missing,
              bool *out, Error *err) {
    const cJSON *item = json_get(object, name);
    *out = item ? cJSON_IsTrue(item) : missing;
    if (!item || cJSON_IsBool(item)) return 0;
    return json_unexpected(j, where, "true or false", item, err);
}

int json_id(const Json *j, const cJSON *item, const char *where, int32_t limit, int32_t *out,
            Error *err) {
    double v = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (v >= 0 && v < limit && v == floor(v)) {
        *out = (int32_t)v;
        return 0;
    }
    char expected[64];
    snprintf(expected, sizeof expected, "an id from 0 to %d", (int)limit - 1);
    return json_unexpected(j, where, expected, item, err);
}

int32_t json_id_limit(const Json *j) { return j->size < INT32_MAX ? (int32_t)j->size : INT32_MAX; }
