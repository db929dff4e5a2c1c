/* Reading safetensors: the file is mapped, its header checked line by line against the file's size,
 * and from then on every StoredTensor lies inside the mapping. See safetensors.h.
 *
 * What is demanded beyond "inside the file": the tensors cover the data without gap or overlap, as
 * the upstream reader demands. A file that breaks that rule was cut off, or made to be read
 * differently by different programs. */
#include "weights/safetensors.h"

#include "weights/file.h"
#include "weights/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#    error "tensors are used where they lie in the file, which is little-endian"
#endif

#define MAX_HEADER 100000000 /* bytes; upstream's limit */
#define METADATA "__metadata__"

struct Safetensors {
    char *path;
    unsigned char *map;
    size_t map_size;
    cJSON *header;         /* owns every name and metadata text */
    const cJSON *metadata; /* NULL: none */
    StoredTensor *tensor;  /* in the order of the data */
    const StoredTensor **by_name;
    size_t count;
};

/* ---- one tensor of the header ------------------------------------------------------------------ */

static bool dtype_parse(const char *name, Dtype *out) {
    for (Dtype d = DTYPE_F64; d <= DTYPE_BOOL; d++)
        if (strcmp(name, dtype_name(d)) == 0) return *out = d, true;
    return false;
}

static int parse_dtype(const Safetensors *s, const cJSON *item, StoredTensor *t, Error *err) {
    const char *name = cJSON_GetStringValue(item);
    if (!name) return fail(err, "%s: tensor \"%s\": dtype missing", s->path, t->name);
    if (!dtype_parse(name, &t->dtype))
        return fail(err,
                    "%s: tensor \"%s\": dtype \"%s\" is not supported (F64, F32, F16, BF16, I64, "
                    "I32, I16, I8, U8, BOOL are)",
                    s->path, t->name, name);
    return 0;
}

/* Fills dim, and bytes from shape and dtype. */
static int parse_shape(const Safetensors *s, const cJSON *shape, StoredTensor *t, Error *err) {
    if (!cJSON_IsArray(shape))
        return fail(err, "%s: tensor \"%s\": shape missing or not an array", s->path, t->name);
    uint64_t bytes = dtype_size(t->dtype);
    for (const cJSON *item = shape->child; item; item = item->next) {
        int64_t dim;
        if (!json_count(item, &dim))
            return fail(err, "%s: tensor \"%s\": shape holds something other than whole numbers",
                        s->path, t->name);
        if (t->ndim == STORED_MAX_DIMS)
            return fail(err, "%s: tensor \"%s\": more than %d dimensions", s->path, t->name,
                        STORED_MAX_DIMS);
        if (dim && bytes > INT64_MAX / (uint64_t)dim)
            return fail(err, "%s: tensor \"%s\": shape is too large for any file", s->path,
                        t->name);
        bytes *= (uint64_t)dim;
        t->dim[t->ndim++] = dim;
    }
    t->bytes = (size_t)bytes;
    return 0;
}

/* Fills data. `size` is that of the file's data, which starts at `data`. */
static int parse_offsets(const Safetensors *s, const cJSON *offsets, StoredTensor *t,
                         const unsigned char *data, size_t size, Error *err) {
    int64_t begin, end;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !json_count(offsets->child, &begin) || !json_count(offsets->child->next, &end))
        return fail(err, "%s: tensor \"%s\": data_offsets missing or not two whole numbers",
                    s->path, t->name);
    char where[128];
    snprintf(where, sizeof where, "data_offsets [%" PRId64 ", %" PRId64 "]", begin, end);
    if (begin > end)
        return fail(err, "%s: tensor \"%s\": %s end before they begin", s->path, t->name, where);
    if ((uint64_t)end > size)
        return fail(err, "%s: tensor \"%s\": %s end past the file's data (%zu bytes)", s->path,
                    t->name, where, size);
    if ((uint64_t)(end - begin) != t->bytes)
        return fail(err,
                    "%s: tensor \"%s\": %s hold %" PRId64 " bytes, its shape and dtype need %zu",
                    s->path, t->name, where, end - begin, t->bytes);
    t->data = data + begin;
    return 0;
}

static int parse_tensor(const Safetensors *s, const cJSON *item, StoredTensor *t,
                        const unsigned char *data, size_t size, Error *err) {
    t->name = item->string;
    if (!cJSON_IsObject(item))
        return fail(err, "%s: tensor \"%s\": expected an object with dtype, shape, data_offsets",
                    s->path, t->name);
    bool no_memory = false;
    const char *twice = json_duplicate(item, &no_memory);
    if (no_memory) return fail(err, "%s: out of memory", s->path);
    if (twice)
        return fail(err, "%s: tensor \"%s\": \"%s\" is there twice", s->path, t->name, twice);
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    if (parse_dtype(s, dtype, t, err) || parse_shape(s, shape, t, err)) return -1;
    return parse_offsets(s, offsets, t, data, size, err);
}

/* ---- the header -------------------------------------------------------------------------------- */

static int check_metadata(const Safetensors *s, Error *err) {
    if (!cJSON_IsObject(s->metadata))
        return fail(err, "%s: " METADATA " is not an object", s->path);
    for (const cJSON *item = s->metadata->child; item; item = item->next)
        if (!cJSON_IsString(item))
            return fail(err, "%s: " METADATA ": the value of \"%s\" is not a string", s->path,
                        item->string);
    bool no_memory = false;
    const char *twice = json_duplicate(s->metadata, &no_memory);
    if (no_memory) return fail(err, "%s: out of memory", s->path);
    if (twice) return fail(err, "%s: " METADATA ": \"%s\" is there twice", s->path, twice);
    return 0;
}

static int by_data(const void *a, const void *b) {
    const StoredTensor *x = a, *y = b;
    const unsigned char *p = x->data, *q = y->data;
    if (p != q) return p < q ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* an empty one comes first */
    return strcmp(x->name, y->name);
}

static int check_coverage(const Safetensors *s, const unsigned char *data, size_t size,
                          Error *err) {
    size_t covered = 0;
    for (size_t i = 0; i < s->count; i++) {
        const StoredTensor *t = &s->tensor[i];
        size_t begin = (size_t)((const unsigned char *)t->data - data);
        if (begin != covered)
            return fail(err,
                        "%s: tensor \"%s\": its data begin at %zu, where those before it end at "
                        "%zu: there must be no %s",
                        s->path, t->name, begin, covered, begin < covered ? "overlap" : "gap");
        covered += t->bytes;
    }
    if (covered != size)
        return fail(err, "%s: the tensors end at %zu, the file's data at %zu", s->path, covered,
                    size);
    return 0;
}

static int compare_names(const void *a, const void *b) {
    return strcmp((*(const StoredTensor *const *)a)->name, (*(const StoredTensor *const *)b)->name);
}

static int sort_names(Safetensors *s, Error *err) {
    for (size_t i = 0; i < s->count; i++) s->by_name[i] = &s->tensor[i];
    qsort(s->by_name, s->count, sizeof *s->by_name, compare_names);
    for (size_t i = 1; i < s->count; i++)
        if (strcmp(s->by_name[i - 1]->name, s->by_name[i]->name) == 0)
            return fail(err, "%s: tensor \"%s\" is there twice", s->path, s->by_name[i]->name);
    return 0;
}

static int parse_header(Safetensors *s, const char *text, size_t length, Error *err) {
    char where[1024];
    snprintf(where, sizeof where, "%s: header", s->path);
    s->header = json_parse_object(text, length, where, err);
    if (!s->header) return -1;

    size_t n = 0;
    for (const cJSON *item = s->header->child; item; item = item->next) n++;
    s->tensor = calloc(n + 1, sizeof *s->tensor);
    s->by_name = calloc(n + 1, sizeof *s->by_name);
    if (!s->tensor || !s->by_name) return fail(err, "%s: out of memory", s->path);

    const unsigned char *data = s->map + 8 + length;
    size_t size = s->map_size - 8 - length;
    for (const cJSON *item = s->header->child; item; item = item->next) {
        if (strcmp(item->string, METADATA) == 0) {
            if (s->metadata) return fail(err, "%s: " METADATA " is there twice", s->path);
            s->metadata = item;
            if (check_metadata(s, err)) return -1;
        } else if (parse_tensor(s, item, &s->tensor[s->count++], data, size, err)) {
            return -1;
        }
    }
    qsort(s->tensor, s->count, sizeof *s->tensor, by_data);
    if (sort_names(s, err))
        return -1; /* first: clearer than "overlap" where a name is there twice */
    return check_coverage(s, data, size, err);
}

/* ---- the file ---------------------------------------------------------------------------------- */

static int map_file(Safetensors *s, Error *err) {
    int fd = file_open(s->path, &s->map_size, err);
    if (fd < 0) return -1;
    int status = 0;
    if (s->map_size < 8) {
        status =
            fail(err, "%s: %zu bytes are too few for a safetensors file", s->path, s->map_size);
    } else {
        void *map = mmap(NULL, s->map_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            status = fail(err, "%s: can't be mapped into memory (%zu bytes)", s->path, s->map_size);
        else
            s->map = map;
    }
    close(fd); /* the mapping stays */
    return status;
}

static int read_header(Safetensors *s, Error *err) {
    uint64_t length = 0;
    for (int i = 0; i < 8; i++) length |= (uint64_t)s->map[i] << (8 * i);
    if (length > MAX_HEADER)
        return fail(err,
                    "%s: not a safetensors file (its header would be %" PRIu64
                    " bytes long; at most %d are allowed)",
                    s->path, length, MAX_HEADER);
    if (length > s->map_size - 8)
        return fail(err, "%s: the header's %" PRIu64 " bytes end past the file (%zu bytes)",
                    s->path, length, s->map_size);
    const char *text = (const char *)s->map + 8;
    if (length == 0 || text[0] != '{')
        return fail(err, "%s: not a safetensors file (its header doesn't begin with '{')", s->path);
    return parse_header(s, text, (size_t)length, err);
}

Safetensors *safetensors_open(const char *path, Error *err) {
    Safetensors *s = calloc(1, sizeof *s);
    if (s) s->path = strdup(path);
    if (!s || !s->path) {
        free(s);
        fail(err, "%s: out of memory", path);
        return NULL;
    }
    if (map_file(s, err) || read_header(s, err)) {
        safetensors_close(s);
        return NULL;
    }
    return s;
}

void safetensors_close(Safetensors *s) {
    if (!s) return;
    if (s->map) munmap(s->map, s->map_size);
    cJSON_Delete(s->header);
    free(s->tensor);
    free(s->by_name);
    free(s->path);
    free(s);
}

/* ---- looking ----------------------------------------------------------------------------------- */

const char *safetensors_path(const Safetensors *s) { return s->path; }
size_t safetensors_count(const Safetensors *s) { return s->count; }
const StoredTensor *safetensors_at(const Safetensors *s, size_t i) { return &s->tensor[i]; }

const StoredTensor *safetensors_find(const Safetensors *s, const char *name) {
    const StoredTensor key = {.name = name}, *p = &key;
    const StoredTensor **found =
        bsearch(&p, s->by_name, s->count, sizeof *s->by_name, compare_names);
    return found ? *found : NULL;
}

const char *safetensors_metadata(const Safetensors *s, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(s->metadata, key));
}

size_t safetensors_metadata_count(const Safetensors *s) {
    return s->metadata ? (size_t)cJSON_GetArraySize(s->metadata) : 0;
}

void safetensors_metadata_at(const Safetensors *s, size_t i, const char **key, const char **value) {
    const cJSON *item = cJSON_GetArrayItem(s->metadata, (int)i);
    *key = item->string;
    *value = item->valuestring;
}
