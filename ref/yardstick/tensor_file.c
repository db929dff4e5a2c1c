/* Named tensors of a safetensors, npz or npy file, under our names. See yardstick.h. */
#include "ref/yardstick/yardstick.h"

#include "weights/file.h"
#include "weights/npy.h"
#include "weights/npz.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NAME_ROOM 1024

typedef struct Entry {
    TensorInfo info; /* its name is malloc'ed */
    char *theirs;    /* the name in the file; malloc'ed */
    size_t at;       /* index there */
} Entry;

struct TensorFile {
    char *path;
    /* One of these. */
    Safetensors *safetensors;
    Npz *npz;
    const StoredTensor *memory;
    unsigned char *npy; /* mapped */
    size_t npy_size;
    NpyView array; /* of npy */
    Entry *entry;  /* in the file's order */
    const Entry **by_name;
    size_t count;
};

/* ---- what the three kinds hold ------------------------------------------------------------------- */

typedef enum Kind { KIND_SAFETENSORS, KIND_NPZ, KIND_NPY } Kind;

/* By the first bytes; the extension counts only where those could be either. */
static int kind_of(const char *path, Error *err) {
    unsigned char head[6] = {0};
    size_t size;
    int fd = file_open(path, &size, err);
    if (fd < 0) return -1;
    ssize_t n = read(fd, head, sizeof head);
    int why = errno;
    close(fd);
    if (n < 0) return fail(err, "%s: can't be read: %s", path, strerror(why));
    if (n == 0) return fail(err, "%s: is empty", path);
    if (n == 6 && memcmp(head, "\x93NUMPY", 6) == 0) return KIND_NPY;
    if (n >= 4 && memcmp(head, "PK", 2) == 0) return KIND_NPZ;
    size_t length = strlen(path);
    if (length > 4 && strcmp(path + length - 4, ".npz") == 0) return KIND_NPZ;
    return length > 4 && strcmp(path + length - 4, ".npy") == 0 ? KIND_NPY : KIND_SAFETENSORS;
}

static int open_npy(TensorFile *f, Error *err) {
    size_t start;
    int fd = file_open(f->path, &f->npy_size, err);
    if (fd < 0) return -1;
    void *map = f->npy_size ? mmap(NULL, f->npy_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    close(fd);
    if (map == MAP_FAILED)
        return fail(err, "%s: can't be mapped into memory (%zu bytes)", f->path, f->npy_size);
    f->npy = map;
    return npy_view(f->path, map, f->npy_size, f->npy_size, &f->array, &start, err);
}

static int open_kind(TensorFile *f, Error *err) {
    switch (kind_of(f->path, err)) {
    case KIND_SAFETENSORS:
        f->safetensors = safetensors_open(f->path, err);
        if (!f->safetensors) return -1;
        f->count = safetensors_count(f->safetensors);
        return 0;
    case KIND_NPZ:
        f->npz = npz_open(f->path, err);
        if (!f->npz) return -1;
        f->count = npz_count(f->npz);
        return 0;
    case KIND_NPY:
        if (open_npy(f, err)) return -1;
        f->count = 1;
        return 0;
    default: return -1;
    }
}

static const StoredTensor *stored_at(const TensorFile *f, size_t i) {
    return f->memory        ? &f->memory[i]
           : f->safetensors ? safetensors_at(f->safetensors, i)
           : f->npz         ? npz_at(f->npz, i)
                            : &f->array.stored;
}

/* ---- names --------------------------------------------------------------------------------------- */

/* A .npy has no name inside. Its file's stands for it, without ".npy", and with "/" where that has
 * "__", since no file name holds a "/": latents__20.npy is "latents/20". */
static char *name_of_npy(const char *path) {
    const char *slash = strrchr(path, '/');
    char *name = strdup(slash ? slash + 1 : path);
    if (!name) return NULL;
    size_t n = strlen(name);
    if (n > 4 && strcmp(name + n - 4, ".npy") == 0) name[n - 4] = '\0';
    char *to = name;
    for (const char *p = name; *p; p++) {
        bool both = p[0] == '_' && p[1] == '_';
        *to++ = both ? '/' : *p;
        p += both;
    }
    *to = '\0';
    return name;
}

static int name_entry(const TensorFile *f, Entry *e, const NameMap *map, Error *err) {
    char ours[NAME_ROOM];
    const StoredTensor *t = stored_at(f, e->at);
    e->theirs = f->npy ? name_of_npy(f->path) : strdup(t->name);
    if (!e->theirs) return fail(err, "%s: out of memory", f->path);
    if (map && name_map_apply(map, e->theirs, ours, sizeof ours, err)) return -1;
    e->info.name = strdup(map ? ours : e->theirs);
    if (!e->info.name) return fail(err, "%s: out of memory", f->path);
    e->info.dtype = t->dtype;
    e->info.ndim = t->ndim;
    memcpy(e->info.dim, t->dim, sizeof t->dim);
    e->info.count = stored_numel(t);
    return 0;
}

static int by_name(const void *a, const void *b) {
    const Entry *x = *(const Entry *const *)a, *y = *(const Entry *const *)b;
    return strcmp(x->info.name, y->info.name);
}

static int sort_names(TensorFile *f, Error *err) {
    for (size_t i = 0; i < f->count; i++) f->by_name[i] = &f->entry[i];
    qsort(f->by_name, f->count, sizeof *f->by_name, by_name);
    for (size_t i = 1; i < f->count; i++) {
        const Entry *a = f->by_name[i - 1], *b = f->by_name[i];
        if (strcmp(a->info.name, b->info.name) != 0) continue;
        if (strcmp(a->theirs, b->theirs) == 0)
            return fail(err, "%s: tensor \"%s\" is there twice", f->path, a->theirs);
        return fail(err, "%s: \"%s\" and \"%s\" are both called \"%s\" here", f->path,
                    (a < b ? a : b)->theirs, (a < b ? b : a)->theirs, a->info.name);
    }
    return 0;
}

/* ---- the file ------------------------------------------------------------------------------------ */

static int open_entries(TensorFile *f, const NameMap *map, Error *err) {
    f->entry = calloc(f->count + 1, sizeof *f->entry);
    f->by_name = calloc(f->count + 1, sizeof *f->by_name);
    if (!f->entry || !f->by_name) return fail(err, "%s: out of memory", f->path);
    for (size_t i = 0; i < f->count; i++) {
        f->entry[i].at = i;
        if (name_entry(f, &f->entry[i], map, err)) return -1;
    }
    return sort_names(f, err);
}

static TensorFile *new_file(const char *path, Error *err) {
    TensorFile *f = calloc(1, sizeof *f);
    if (f) f->path = strdup(path);
    if (f && f->path) return f;
    free(f);
    fail(err, "%s: out of memory", path);
    return NULL;
}

TensorFile *tensor_file_open(const char *path, const NameMap *map, Error *err) {
    TensorFile *f = new_file(path, err);
    if (!f) return NULL;
    if (open_kind(f, err) == 0 && open_entries(f, map, err) == 0) return f;
    tensor_file_close(f);
    return NULL;
}

TensorFile *tensor_file_of(const char *path, const StoredTensor *tensors, size_t n, Error *err) {
    TensorFile *f = new_file(path, err);
    if (!f) return NULL;
    f->memory = tensors;
    f->count = n;
    if (open_entries(f, NULL, err) == 0) return f;
    tensor_file_close(f);
    return NULL;
}

void tensor_file_close(TensorFile *f) {
    if (!f) return;
    for (size_t i = 0; f->entry && i < f->count; i++) {
        free((char *)(uintptr_t)f->entry[i].info.name);
        free(f->entry[i].theirs);
    }
    free(f->entry);
    free(f->by_name);
    safetensors_close(f->safetensors);
    npz_close(f->npz);
    if (f->npy) munmap(f->npy, f->npy_size);
    free(f->path);
    free(f);
}

const char *tensor_file_path(const TensorFile *f) { return f->path; }
size_t tensor_file_count(const TensorFile *f) { return f->count; }
const TensorInfo *tensor_file_at(const TensorFile *f, size_t i) { return &f->entry[i].info; }
bool tensor_file_nameless(const TensorFile *f) { return f->npy != NULL; }

size_t tensor_file_find(const TensorFile *f, const char *name) {
    const Entry key = {.info = {.name = name}}, *p = &key;
    const Entry **found = bsearch(&p, f->by_name, f->count, sizeof *f->by_name, by_name);
    return found ? (size_t)(*found - f->entry) : f->count;
}

double *tensor_file_load(const TensorFile *f, size_t i, Error *err) {
    const Entry *e = &f->entry[i];
    double *out = malloc(((size_t)e->info.count + 1) * sizeof *out);
    int status = 0;
    if (!out)
        status = fail(err, "%s: \"%s\": out of memory (%lld numbers)", f->path, e->theirs,
                      (long long)e->info.count);
    else if (f->npz)
        status = npz_read(f->npz, e->at, out, err);
    else if (f->npy)
        status = npy_widen(&f->array, out, err);
    else
        status = stored_widen(stored_at(f, e->at), out, err);
    if (status == 0) return out;
    free(out);
    return NULL;
}

const char *tensor_file_metadata(const TensorFile *f, const char *key) {
    return f->safetensors ? safetensors_metadata(f->safetensors, key) : NULL;
}
