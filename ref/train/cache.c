/* A directory of tensors under the hashes of what they were made from: see cache.h. */
#include "ref/train/cache.h"

#include "weights/file.h"
#include "weights/safetensors.h"
#include "weights/sha256.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FORMAT "llmdiff cache 1"
enum { MOST = 4, LEFT_AFTER = 3600 /* seconds */ };

struct Cache {
    char *dir;
    double limit, used;
    char part[CACHE_PARTS][CACHE_KEY]; /* SHA-256 of the part's lines in PackHash.files */
    bool closed;                       /* nothing more is written */
    void (*note)(void *self, const char *line);
    void *note_self;
};

static void digest(struct sha256_ctx *sha, const void *bytes, size_t size) {
    sha256_update(sha, size, bytes);
}

/* ---- opening -------------------------------------------------------------------------------------- */

/* Of the lines "<sha256>  <part>/<file>". */
static void hash_part(const char *files, const char *part, char hex[CACHE_KEY]) {
    struct sha256_ctx sha;
    sha256_init(&sha);
    for (const char *line = files, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        const char *name = strstr(line, "  ") + 2;
        if (strncmp(name, part, strlen(part)) == 0) digest(&sha, line, (size_t)(end - line) + 1);
    }
    sha256_finish(&sha, hex);
}

/* What a killed run left half-written: no other takes that long for an entry. */
static bool is_leftover(const char *name, const struct stat *st) {
    const size_t n = strlen(name);
    return n > 4 && strcmp(name + n - 4, ".tmp") == 0 && st->st_mtime < time(NULL) - LEFT_AFTER;
}

static double bytes_in(const char *dir) {
    double sum = 0;
    char path[4096];
    DIR *d = opendir(dir);
    for (const struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        if (e->d_name[0] == '.') continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path &&
            stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
            !(is_leftover(e->d_name, &st) && unlink(path) == 0))
            sum += (double)st.st_size;
    }
    if (d) closedir(d);
    return sum;
}

static double bytes_used(const char *dir) {
    static const char digits[] = "0123456789abcdef";
    double sum = 0;
    char path[4096];
    for (int i = 0; i < 256; i++)
        if (snprintf(path, sizeof path, "%s/%c%c", dir, digits[i / 16], digits[i % 16]) <
            (int)sizeof path)
            sum += bytes_in(path);
    return sum;
}

Cache *cache_open(const CacheOptions *o, Error *err) {
    Cache *c = calloc(1, sizeof *c);
    if (!c || !(c->dir = strdup(o->dir))) {
        free(c);
        fail(err, "--cache-dir %s: out of memory", o->dir);
        return NULL;
    }
    if (mkdir(o->dir, 0777) && !is_directory(o->dir)) {
        fail(err, "--cache-dir %s: can't be created: %s", o->dir,
             errno == EEXIST ? "it is a file" : strerror(errno));
        cache_close(c);
        return NULL;
    }
    c->limit = o->limit;
    c->note = o->note;
    c->note_self = o->note_self;
    c->used = bytes_used(o->dir);
    hash_part(o->files, "vae/", c->part[CACHE_VAE]);
    hash_part(o->files, "llm/", c->part[CACHE_LLM]);
    return c;
}

void cache_close(Cache *c) {
    if (!c) return;
    free(c->dir);
    free(c);
}

/* ---- entries -------------------------------------------------------------------------------------- */

void cache_key(const Cache *c, CachePart part, const char *how, const void *bytes, size_t size,
               char key[CACHE_KEY]) {
    struct sha256_ctx sha;
    sha256_init(&sha);
    digest(&sha, FORMAT "\n" REAL_NAME "\n", sizeof FORMAT "\n" REAL_NAME "\n" - 1);
    digest(&sha, c->part[part], CACHE_KEY - 1);
    digest(&sha, how, strlen(how) + 1);
    digest(&sha, bytes, size);
    sha256_finish(&sha, key);
}

/* "DIR/ab", or "DIR/ab/<key>.safetensors"; malloc'ed. */
static char *entry_path(const Cache *c, const char *key, bool whole) {
    const size_t room = strlen(c->dir) + CACHE_KEY + 20;
    char *path = malloc(room);
    if (path && whole) snprintf(path, room, "%s/%.2s/%s.safetensors", c->dir, key, key);
    if (path && !whole) snprintf(path, room, "%s/%.2s", c->dir, key);
    return path;
}

static void describe(const Tensor *x, const char *name, StoredTensor *t) {
    *t = (StoredTensor){.name = name,
                        .dtype = sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32,
                        .ndim = x->ndim,
                        .data = x->data,
                        .bytes = (size_t)tensor_numel(*x) * sizeof(real)};
    memcpy(t->dim, x->dim, (size_t)x->ndim * sizeof *t->dim);
}

static void checksum(const StoredTensor *t, int n, char hex[CACHE_KEY]) {
    struct sha256_ctx sha;
    sha256_init(&sha);
    for (int i = 0; i < n; i++) digest(&sha, t[i].data, t[i].bytes);
    sha256_finish(&sha, hex);
}

static bool same_shape(const StoredTensor *a, const StoredTensor *b) {
    return a->dtype == b->dtype && a->ndim == b->ndim && a->bytes == b->bytes &&
           memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof *a->dim) == 0;
}

static bool read_entry(const Safetensors *file, int n, const char *const *name,
                       const Tensor *into) {
    StoredTensor there[MOST];
    char hex[CACHE_KEY];
    for (int i = 0; i < n; i++) {
        StoredTensor wanted;
        const StoredTensor *t = safetensors_find(file, name[i]);
        describe(&into[i], name[i], &wanted);
        if (!t || !same_shape(t, &wanted)) return false;
        there[i] = *t;
    }
    checksum(there, n, hex);
    const char *expected = safetensors_metadata(file, "sha256");
    if (!expected || strcmp(expected, hex) != 0) return false;
    for (int i = 0; i < n; i++) memcpy(into[i].data, there[i].data, there[i].bytes);
    return true;
}

bool cache_get(const Cache *c, const char *key, int n, const char *const *name,
               const Tensor *into) {
    Error ignored = {0};
    char *path = entry_path(c, key, true);
    Safetensors *file = path && file_exists(path) ? safetensors_open(path, &ignored) : NULL;
    const bool found = file && read_entry(file, n, name, into);
    safetensors_close(file);
    free(path);
    return found;
}

static void stop_writing(Cache *c, const char *why) {
    char line[1024];
    c->closed = true;
    snprintf(line, sizeof line, "warning: the cache %.400s is not written to any more: %.400s",
             c->dir, why);
    if (c->note) c->note(c->note_self, line);
}

void cache_put(Cache *c, const char *key, int n, const char *const *name, const Tensor *from) {
    StoredTensor t[MOST];
    char hex[CACHE_KEY];
    Error err = {0};
    double bytes = 0;
    for (int i = 0; i < n; i++) {
        describe(&from[i], name[i], &t[i]);
        bytes += (double)t[i].bytes;
    }
    if (c->closed) return;
    if (c->used + bytes > c->limit) {
        stop_writing(c, "it has the size of --cache-limit");
        return;
    }
    checksum(t, n, hex);
    char *dir = entry_path(c, key, false), *path = entry_path(c, key, true);
    if (!dir || !path)
        fail(&err, "out of memory");
    else if (mkdir(dir, 0777) && !is_directory(dir))
        fail(&err, "%s: can't be created: %s", dir, strerror(errno));
    else if (safetensors_write(path, t, (size_t)n, (const char *const[]){"sha256", hex, NULL},
                               &err) == 0)
        c->used += bytes;
    if (err.set) stop_writing(c, err.message);
    free(dir);
    free(path);
}
