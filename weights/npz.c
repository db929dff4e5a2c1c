/* numpy's npz: see npz.h. Only headers are read on opening; an array's numbers when they are asked
 * for, where they lie if the archive stores them. */
#include "weights/npz.h"

#include "weights/npy.h"
#include "weights/zip.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_ROOM 4096 /* numpy's headers of plain types have 128 bytes or little more */

typedef struct Array {
    StoredTensor stored; /* its name is this one's */
    const ZipMember *member;
    char *name;  /* without ".npy" */
    char *where; /* "port.npz: a.npy", for messages */
} Array;

struct Npz {
    Zip *zip;
    Array *array;
    size_t count;
};

static int read_header(const Zip *zip, Array *a, Error *err) {
    char head[HEADER_ROOM];
    NpyView view;
    size_t there = a->member->size < sizeof head ? a->member->size : sizeof head, start;
    if (zip_read_start(zip, a->member, head, there, err) ||
        npy_view(a->where, head, there, a->member->size, &view, &start, err))
        return -1;
    a->stored = view.stored;
    a->stored.name = a->name;
    a->stored.data = NULL;
    return 0;
}

static int open_array(const Zip *zip, Array *a, const ZipMember *m, Error *err) {
    size_t length = strlen(m->name), room = strlen(zip_path(zip)) + length + 3;
    a->member = m;
    a->name = strdup(m->name);
    a->where = malloc(room);
    if (!a->name || !a->where) return fail(err, "%s: out of memory", zip_path(zip));
    if (length > 4 && strcmp(m->name + length - 4, ".npy") == 0) a->name[length - 4] = '\0';
    snprintf(a->where, room, "%s: %s", zip_path(zip), m->name);
    return read_header(zip, a, err);
}

static int open_arrays(Npz *n, Error *err) {
    n->array = calloc(zip_count(n->zip) + 1, sizeof *n->array);
    if (!n->array) return fail(err, "%s: out of memory", zip_path(n->zip));
    while (n->count < zip_count(n->zip)) {
        size_t i = n->count++; /* npz_close frees what there is of it */
        if (open_array(n->zip, &n->array[i], zip_at(n->zip, i), err)) return -1;
    }
    return 0;
}

Npz *npz_open(const char *path, Error *err) {
    Npz *n = calloc(1, sizeof *n);
    if (!n) {
        fail(err, "%s: out of memory", path);
        return NULL;
    }
    n->zip = zip_open(path, err);
    if (n->zip && open_arrays(n, err) == 0) return n;
    npz_close(n);
    return NULL;
}

void npz_close(Npz *n) {
    if (!n) return;
    for (size_t i = 0; i < n->count; i++) {
        free(n->array[i].name);
        free(n->array[i].where);
    }
    free(n->array);
    zip_close(n->zip);
    free(n);
}

size_t npz_count(const Npz *n) { return n->count; }
const StoredTensor *npz_at(const Npz *n, size_t i) { return &n->array[i].stored; }

/* The array's bytes have their CRC, so that its header is now what it was on opening, or was damaged
 * then: it is read once more. */
static int widen(const Array *a, const void *bytes, double *out, Error *err) {
    NpyView view;
    size_t size = a->member->size, start;
    if (npy_view(a->where, bytes, size, size, &view, &start, err)) return -1;
    if (view.stored.bytes != a->stored.bytes || view.stored.dtype != a->stored.dtype)
        return fail(err, "%s: changed while it was read", a->where);
    return npy_widen(&view, out, err);
}

int npz_read(const Npz *n, size_t i, double *out, Error *err) {
    const Array *a = &n->array[i];
    const ZipMember *m = a->member;
    if (!m->deflated) return zip_check(n->zip, m, err) || widen(a, m->data, out, err) ? -1 : 0;
    unsigned char *bytes = malloc(m->size + 1);
    if (!bytes) return fail(err, "%s: out of memory (%zu bytes)", a->where, m->size);
    int status = zip_read(n->zip, m, bytes, err) || widen(a, bytes, out, err) ? -1 : 0;
    free(bytes);
    return status;
}
