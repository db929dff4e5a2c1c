#include "tokenizer/json_file.h"
#include "weights/file.h"
#include "weights/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

char *tokenizer_path(const char *dir, const char *name, Error *err) {
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s/%s", dir, name);
    else
        fail(err, "%s: out of memory", dir);
    return path;
}

int json_once(const Json *j, const cJSON *object, const char *where, Error *err) {
    bool failed = false;
    const char *twice = json_duplicate(object, &failed);
    if (failed) return fail(err, "%s: out of memory", j->path);
    if (!twice) return 0;
    return fail(err, "%s: %s: expected every member once, found \"%s\" twice", j->path, where,
                twice);
}

int json_read(Json *j, const char *dir, const char *name, Error *err) {
    *j = (Json){.path = tokenizer_path(dir, name, err)};
    if (!j->path) return -1;
    size_t size;
    char *text = file_read(j->path, &size, err);
    if (text) {
        j->root = json_parse_object(text, size, j->path, err);
        j->size = size;
    }
    free(text);
    int status = j->root ? json_once(j, j->root, "root", err) : -1;
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
