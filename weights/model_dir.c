/* A model directory: opening config.json and the (sharded) tensors, handing tensors out by name and
 * shape, and telling at the end everything that didn't fit. See model_dir.h; config.c reads
 * config.json. */
#include "weights/model_dir_private.h"

#include "weights/file.h"
#include "weights/json.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- complaints -------------------------------------------------------------------------------- */

void complain(Complaints *c, const char *fmt, ...) {
    c->count++;
    if (c->told + 1 < c->count) return; /* once something didn't fit, the rest is only counted */
    size_t room = sizeof c->text - c->used, comma = c->told ? 2 : 0;
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (length < 0 || (size_t)length + comma >= room) return;
    memcpy(c->text + c->used, ", ", comma);
    va_start(args, fmt);
    vsnprintf(c->text + c->used + comma, room - comma, fmt, args);
    va_end(args);
    c->used += (size_t)length + comma;
    c->told++;
}

void complaints_text(const Complaints *c, char *out) {
    if (c->told < c->count)
        snprintf(out, COMPLAINTS_TEXT, "%s ... and %zu more", c->text, c->count - c->told);
    else
        snprintf(out, COMPLAINTS_TEXT, "%s", c->text);
}

/* ---- paths ------------------------------------------------------------------------------------- */

/* dir/name, malloc'ed. */
static char *join(const char *dir, const char *name, Error *err) {
    size_t n = strlen(dir);
    const char *slash = n && dir[n - 1] == '/' ? "" : "/";
    size_t room = n + strlen(name) + 2;
    char *path = malloc(room);
    if (path)
        snprintf(path, room, "%s%s%s", dir, slash, name);
    else
        fail(err, "%s: out of memory", dir);
    return path;
}

/* ---- opening: config.json ----------------------------------------------------------------------- */

static cJSON *read_json(const char *path, Error *err) {
    size_t size;
    char *text = file_read(path, &size, err);
    if (text) json_spell_infinity(text, size); /* schedulers' lambda_min_clipped */
    cJSON *json = text ? json_parse_object(text, size, path, err) : NULL;
    free(text);
    if (!json) return NULL;
    bool no_memory = false;
    const char *twice = json_duplicate(json, &no_memory);
    if (!twice && !no_memory) return json;
    if (twice)
        fail(err, "%s: \"%s\" is there twice", path, twice);
    else
        fail(err, "%s: out of memory", path);
    cJSON_Delete(json);
    return NULL;
}

ModelDir *model_open_config(const char *dir, const char *config_file, Error *err) {
    ModelDir *m = calloc(1, sizeof *m);
    if (!m) {
        fail(err, "%s: out of memory", dir);
        return NULL;
    }
    m->err = err;
    m->path = strdup(dir);
    m->config_path = join(dir, config_file, err);
    if (!m->path) fail(err, "%s: out of memory", dir);
    if (!m->path || !m->config_path) goto failed;
    m->config = read_json(m->config_path, err);
    if (!m->config) goto failed;
    m->asked = calloc((size_t)cJSON_GetArraySize(m->config) + 1, sizeof *m->asked);
    if (m->asked) return m;
    fail(err, "%s: out of memory", dir);
failed:
    model_close(m);
    return NULL;
}

/* ---- opening: tensors --------------------------------------------------------------------------- */

static bool plain_file_name(const char *name) {
    return *name && !strpbrk(name, "/\\") && !strstr(name, "..") && strcmp(name, ".") != 0;
}

/* The shard of that file name, opened when it is asked for first. */
static const Safetensors *open_shard(ModelDir *m, const char *file, Error *err) {
    char *path = join(m->path, file, err);
    if (!path) return NULL;
    for (size_t i = 0; i < m->shards; i++)
        if (strcmp(safetensors_path(m->shard[i]), path) == 0) {
            free(path);
            return m->shard[i];
        }
    Safetensors **grown = realloc(m->shard, (m->shards + 1) * sizeof *grown);
    if (grown) {
        m->shard = grown;
        Safetensors *s = safetensors_open(path, err);
        if (s) m->shard[m->shards++] = s;
        free(path);
        return s;
    }
    free(path);
    fail(err, "%s: out of memory", m->path);
    return NULL;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const StoredTensor *const *)a)->name, (*(const StoredTensor *const *)b)->name);
}

static int reserve(ModelDir *m, size_t n, Error *err) {
    m->tensor = calloc(n + 1, sizeof *m->tensor);
    m->weight = calloc(n + 1, sizeof *m->weight);
    m->ignored = calloc(n + 1, sizeof *m->ignored);
    if (m->tensor && m->weight && m->ignored) return 0;
    return fail(err, "%s: out of memory", m->path);
}

static int open_single(ModelDir *m, const char *file, Error *err) {
    const Safetensors *s = open_shard(m, file, err);
    if (!s || reserve(m, safetensors_count(s), err)) return -1;
    m->tensors = safetensors_count(s);
    for (size_t i = 0; i < m->tensors; i++) m->tensor[i] = safetensors_at(s, i);
    return 0;
}

/* The index decides: {"weight_map": {tensor: shard}}. What a shard holds beyond it is not seen, as
 * upstream doesn't see it either. */
static int open_index(ModelDir *m, const char *path, const cJSON *index, Error *err) {
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map");
    if (!cJSON_IsObject(map)) return fail(err, "%s: weight_map missing or not an object", path);
    bool no_memory = false;
    const char *twice = json_duplicate(map, &no_memory);
    if (no_memory) return fail(err, "%s: out of memory", path);
    if (twice) return fail(err, "%s: tensor \"%s\" is there twice", path, twice);
    if (reserve(m, (size_t)cJSON_GetArraySize(map), err)) return -1;

    Complaints absent = {0};
    for (const cJSON *item = map->child; item; item = item->next) {
        const char *file = cJSON_GetStringValue(item);
        if (!file || !plain_file_name(file))
            return fail(err, "%s: tensor \"%s\": expected the name of a file beside it, found %s",
                        path, item->string, file ? file : "no string");
        const Safetensors *s = open_shard(m, file, err);
        if (!s) return -1;
        const StoredTensor *t = safetensors_find(s, item->string);
        if (t)
            m->tensor[m->tensors++] = t;
        else
            complain(&absent, "%s (%s)", item->string, file);
    }
    if (!absent.count) return 0;
    char text[COMPLAINTS_TEXT];
    complaints_text(&absent, text);
    return fail(err, "%s: %zu tensor%s not in the file named for %s: %s", path, absent.count,
                absent.count == 1 ? " is" : "s are", absent.count == 1 ? "it" : "them", text);
}

/* 1: opened; 0: no such files; -1: failed. */
static int try_stem(ModelDir *m, const char *stem, Error *err) {
    char single[64], sharded[80];
    snprintf(single, sizeof single, "%s.safetensors", stem);
    snprintf(sharded, sizeof sharded, "%s.index.json", single);
    char *path = join(m->path, single, err), *index_path = join(m->path, sharded, err);
    int status = -1;
    if (path && index_path) {
        bool is_single = file_exists(path), is_sharded = file_exists(index_path);
        if (is_single && is_sharded) {
            /* transformers would take the one, diffusers the other */
            fail(err, "%s: both %s and %s are there: one of them must go", m->path, single,
                 sharded);
        } else if (is_single) {
            status = open_single(m, single, err) ? -1 : 1;
        } else if (is_sharded) {
            cJSON *index = read_json(index_path, err);
            if (index) status = open_index(m, index_path, index, err) ? -1 : 1;
            cJSON_Delete(index);
            m->index_path = index_path;
            index_path = NULL;
        } else {
            status = 0;
        }
    }
    free(path);
    free(index_path);
    return status;
}

ModelDir *model_open(const char *dir, Error *err) {
    static const char *const stem[] = {"model", "diffusion_pytorch_model", "adapter"};
    ModelDir *m = model_open_config(dir, "config.json", err);
    if (!m) return NULL;
    int status = 0;
    for (size_t i = 0; i < sizeof stem / sizeof stem[0] && status == 0; i++)
        status = try_stem(m, stem[i], err);
    if (status == 0)
        fail(err,
             "%s: no tensors: expected model.safetensors, diffusion_pytorch_model.safetensors or "
             "adapter.safetensors, or one of them with .index.json and its shards",
             dir);
    if (status != 1) {
        model_close(m);
        return NULL;
    }
    qsort(m->tensor, m->tensors, sizeof *m->tensor, by_name);
    return m;
}

void model_close(ModelDir *m) {
    if (!m) return;
    for (size_t i = 0; i < m->shards; i++) safetensors_close(m->shard[i]);
    free(m->shard);
    free(m->tensor);
    free(m->weight);
    free(m->ignored);
    cJSON_Delete(m->config);
    free(m->asked);
    free(m->path);
    free(m->config_path);
    free(m->index_path);
    free(m);
}

bool model_failed(const ModelDir *m) { return m->err->set; }
const char *model_path(const ModelDir *m) { return m->path; }

/* ---- taking ------------------------------------------------------------------------------------ */

static const StoredTensor **find(const ModelDir *m, const char *name) {
    const StoredTensor key = {.name = name}, *p = &key;
    return m->tensors ? bsearch(&p, m->tensor, m->tensors, sizeof *m->tensor, by_name) : NULL;
}

static bool has_shape(const StoredTensor *t, Shape shape) {
    if (t->ndim != shape.ndim) return false;
    for (int i = 0; i < shape.ndim; i++)
        if (t->dim[i] != shape.dim[i]) return false;
    return true;
}

static bool is_float(Dtype dtype) {
    return dtype == DTYPE_F64 || dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16;
}

static const Weight *take(ModelDir *m, Shape shape, bool optional, const char *fmt, va_list args) {
    char name[512];
    int length = vsnprintf(name, sizeof name, fmt, args);
    assert(length >= 0 && (size_t)length < sizeof name);
    (void)length;
    const StoredTensor **at = find(m, name), *t = at ? *at : NULL;
    if (!t) {
        if (!optional) complain(&m->missing, "%s", name);
        return NULL;
    }
    Weight *w = &m->weight[at - m->tensor];
    w->name = t->name; /* known, even if it is not as it should be */
    if (!has_shape(t, shape)) {
        char expected[SHAPE_TEXT], found[SHAPE_TEXT];
        shape_text(expected, sizeof expected, shape.ndim, shape.dim);
        shape_text(found, sizeof found, t->ndim, t->dim);
        complain(&m->misshapen, "%s (config.json says %s, file has %s)", name, expected, found);
        return NULL;
    }
    if (!is_float(t->dtype)) {
        complain(&m->mistyped, "%s (expected floating-point numbers, file has %s)", name,
                 dtype_name(t->dtype));
        return NULL;
    }
    w->data = t->data;
    w->dtype = t->dtype;
    w->ndim = t->ndim;
    for (int i = 0; i < MAX_DIMS; i++) w->dim[i] = i < t->ndim ? t->dim[i] : 1;
    return w;
}

const Weight *model_take(ModelDir *m, Shape shape, const char *name, ...) {
    va_list args;
    va_start(args, name);
    const Weight *w = take(m, shape, false, name, args);
    va_end(args);
    return w;
}

const Weight *model_take_optional(ModelDir *m, Shape shape, const char *name, ...) {
    va_list args;
    va_start(args, name);
    const Weight *w = take(m, shape, true, name, args);
    va_end(args);
    return w;
}

bool model_has(const ModelDir *m, const char *name) { return find(m, name) != NULL; }

bool model_has_any(const ModelDir *m, const char *prefix) {
    for (size_t i = 0; i < m->tensors; i++)
        if (strncmp(m->tensor[i]->name, prefix, strlen(prefix)) == 0) return true;
    return false;
}

void model_ignore(ModelDir *m, const char *prefix) {
    for (size_t i = 0; i < m->tensors; i++)
        if (strncmp(m->tensor[i]->name, prefix, strlen(prefix)) == 0) m->ignored[i] = true;
}

/* ---- the end ----------------------------------------------------------------------------------- */

/* Appends "; 2 <plural>: a, b". */
static void add_kind(char *message, size_t size, const Complaints *c, const char *one,
                     const char *many) {
    if (!c->count) return;
    char text[COMPLAINTS_TEXT];
    complaints_text(c, text);
    size_t used = strlen(message);
    snprintf(message + used, size - used, "%s%zu %s: %s", used ? "; " : "", c->count,
             c->count == 1 ? one : many, text);
}

int model_finish(ModelDir *m) {
    Complaints unused = {0};
    for (size_t i = 0; i < m->tensors; i++)
        if (!m->weight[i].name && !m->ignored[i]) complain(&unused, "%s", m->tensor[i]->name);

    char message[4 * (COMPLAINTS_TEXT + 64)] = "";
    add_kind(message, sizeof message, &m->missing, "tensor missing", "tensors missing");
    add_kind(message, sizeof message, &m->misshapen, "has another shape", "have another shape");
    add_kind(message, sizeof message, &m->mistyped, "has another type", "have another type");
    add_kind(message, sizeof message, &unused, "not used", "not used");
    if (*message) fail(m->err, "%s: %s", m->path, message);
    return m->err->set ? -1 : 0;
}

size_t model_tensor_count(const ModelDir *m) { return m->tensors; }
const StoredTensor *model_tensor_at(const ModelDir *m, size_t i) { return m->tensor[i]; }

const char *model_file_at(const ModelDir *m, size_t i) {
    if (i == 0) return m->config_path;
    if (i == 1 && m->index_path) return m->index_path;
    i -= m->index_path ? 2 : 1;
    return i < m->shards ? safetensors_path(m->shard[i]) : NULL;
}
