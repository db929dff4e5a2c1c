/* Writing safetensors: header, padded with spaces so that the data start at a multiple of 8 as
 * upstream's do, then the data. See safetensors.h. */
#include "weights/safetensors.h"

#include "weights/file.h"
#include "weights/json.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, or NULL when out of memory. */
static cJSON *describe(const StoredTensor *t, uint64_t begin) {
    cJSON *item = cJSON_CreateObject();
    cJSON *shape = cJSON_CreateArray();
    for (int i = 0; shape && i < t->ndim; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->dim[i]));
    double offset[2] = {(double)begin, (double)(begin + t->bytes)};
    cJSON *offsets = cJSON_CreateDoubleArray(offset, 2);
    bool good = cJSON_AddStringToObject(item, "dtype", dtype_name(t->dtype)) != NULL;
    if (cJSON_AddItemToObject(item, "shape", shape)) {
        good = good && cJSON_GetArraySize(shape) == t->ndim;
    } else {
        cJSON_Delete(shape);
        good = false;
    }
    if (!cJSON_AddItemToObject(item, "data_offsets", offsets)) {
        cJSON_Delete(offsets);
        good = false;
    }
    if (good) return item;
    cJSON_Delete(item);
    return NULL;
}

static int add_metadata(cJSON *header, const char *const *metadata, const char *path, Error *err) {
    if (!metadata || !metadata[0]) return 0;
    cJSON *object = cJSON_AddObjectToObject(header, "__metadata__");
    for (size_t i = 0; metadata[i]; i += 2) {
        const char *key = metadata[i], *value = metadata[i + 1];
        if (!utf8_valid(key, strlen(key)) || !utf8_valid(value, strlen(value)))
            return fail(err, "%s: can't be written: metadata \"%s\" is not valid UTF-8", path, key);
        if (!cJSON_AddStringToObject(object, key, value))
            return fail(err, "%s: out of memory", path);
    }
    return 0;
}

static int add_tensors(cJSON *header, const StoredTensor *tensors, size_t n, const char *path,
                       Error *err) {
    uint64_t offset = 0;
    for (size_t i = 0; i < n; i++) {
        const StoredTensor *t = &tensors[i];
        assert(t->bytes == (size_t)stored_numel(t) * dtype_size(t->dtype));
        assert(strcmp(t->name, "__metadata__") != 0);
        if (!utf8_valid(t->name, strlen(t->name)))
            return fail(err, "%s: can't be written: tensor name \"%s\" is not valid UTF-8", path,
                        t->name);
        cJSON *item = describe(t, offset);
        if (!item || !cJSON_AddItemToObject(header, t->name, item)) {
            cJSON_Delete(item);
            return fail(err, "%s: out of memory", path);
        }
        offset += t->bytes;
    }
    bool no_memory = false;
    const char *twice = json_duplicate(header, &no_memory);
    if (no_memory) return fail(err, "%s: out of memory", path);
    if (twice) return fail(err, "%s: can't be written: tensor \"%s\" twice", path, twice);
    return 0;
}

static char *make_header(const StoredTensor *tensors, size_t n, const char *const *metadata,
                         const char *path, Error *err) {
    char *text = NULL;
    cJSON *header = cJSON_CreateObject();
    if (!header) {
        fail(err, "%s: out of memory", path);
    } else if (add_metadata(header, metadata, path, err) == 0 &&
               add_tensors(header, tensors, n, path, err) == 0) {
        text = cJSON_PrintUnformatted(header);
        if (!text) fail(err, "%s: out of memory", path);
    }
    cJSON_Delete(header);
    return text;
}

static void put_header(OutFile *out, const char *text) {
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    unsigned char size[8];
    for (int i = 0; i < 8; i++) size[i] = (unsigned char)((uint64_t)padded >> (8 * i) & 255);
    outfile_write(out, size, sizeof size);
    outfile_write(out, text, length);
    outfile_write(out, "       ", padded - length);
}

int safetensors_write(const char *path, const StoredTensor *tensors, size_t n,
                      const char *const *metadata, Error *err) {
    char *header = make_header(tensors, n, metadata, path, err);
    if (!header) return -1;
    OutFile f;
    if (outfile_open(&f, path, err)) {
        cJSON_free(header);
        return -1;
    }
    put_header(&f, header);
    cJSON_free(header);
    for (size_t i = 0; i < n; i++) outfile_write(&f, tensors[i].data, tensors[i].bytes);
    return outfile_close(&f, err);
}
