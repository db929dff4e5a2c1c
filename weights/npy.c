/* numpy's npy files: see npy.h. The format (numpy.lib.format): "\x93NUMPY", version (two bytes),
 * length of the header (2 bytes little-endian in 1.0, 4 in 2.0 and 3.0), the header as a Python
 * dict literal padded with spaces to a line end, then the numbers.
 *
 *     {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
 *
 * Numpy evaluates that dict as Python; the three keys are all that it may hold, so a cursor that
 * knows them is enough. */
#include "weights/npy.h"

#include "weights/file.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "\x93NUMPY"
#define MAGIC_SIZE 6

/* ---- the header -------------------------------------------------------------------------------- */

typedef struct Header {
    char descr[16];
    bool fortran_order;
    int ndim;
    int64_t dim[STORED_MAX_DIMS];
} Header;

typedef struct Cursor {
    const char *p, *end;
} Cursor;

static void skip_space(Cursor *c) {
    while (c->p < c->end && strchr(" \t\r\n", *c->p) && *c->p) c->p++;
}

/* Steps over `word`, and the space before it, if it is next. */
static bool accept(Cursor *c, const char *word) {
    skip_space(c);
    size_t n = strlen(word);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0) return false;
    c->p += n;
    return true;
}

/* 'text' or "text", without escapes. */
static bool parse_string(Cursor *c, char *out, size_t size) {
    skip_space(c);
    char quote = c->p < c->end ? *c->p : '\0';
    if (quote != '\'' && quote != '"') return false;
    const char *start = ++c->p;
    while (c->p < c->end && *c->p != quote && *c->p != '\\') c->p++;
    if (c->p == c->end || *c->p != quote) return false;
    size_t n = (size_t)(c->p++ - start);
    if (n >= size) return false;
    memcpy(out, start, n);
    out[n] = '\0';
    return true;
}

static bool parse_integer(Cursor *c, int64_t *out) {
    skip_space(c);
    if (c->p == c->end || !isdigit((unsigned char)*c->p)) return false;
    int64_t v = 0;
    for (; c->p < c->end && isdigit((unsigned char)*c->p); c->p++) {
        if (v > (INT64_MAX - 9) / 10) return false;
        v = 10 * v + (*c->p - '0');
    }
    *out = v;
    return true;
}

/* (), (2,), (2, 3), (2, 3,): a tuple, so one number needs its comma. */
static bool parse_shape(Cursor *c, Header *h) {
    if (!accept(c, "(")) return false;
    bool comma = true;
    while (!accept(c, ")")) {
        if (!comma || h->ndim == STORED_MAX_DIMS) return false;
        if (!parse_integer(c, &h->dim[h->ndim++])) return false;
        comma = accept(c, ",");
    }
    return comma || h->ndim > 1;
}

/* NULL, or what was wrong. */
static const char *parse_header(Cursor c, Header *h) {
    bool has_descr = false, has_order = false, has_shape = false;
    if (!accept(&c, "{")) return "expected a dict { }";
    while (!accept(&c, "}")) {
        char key[32];
        if (!parse_string(&c, key, sizeof key) || !accept(&c, ":")) return "expected 'key': value";
        if (strcmp(key, "descr") == 0 && !has_descr) {
            has_descr = parse_string(&c, h->descr, sizeof h->descr);
            if (!has_descr) return "descr: expected a plain type such as '<f4'";
        } else if (strcmp(key, "fortran_order") == 0 && !has_order) {
            h->fortran_order = accept(&c, "True");
            has_order = h->fortran_order || accept(&c, "False");
            if (!has_order) return "fortran_order: expected True or False";
        } else if (strcmp(key, "shape") == 0 && !has_shape) {
            has_shape = parse_shape(&c, h);
            if (!has_shape) return "shape: expected a tuple of at most 8 whole numbers";
        } else {
            return "expected the keys descr, fortran_order and shape, each once";
        }
        if (!accept(&c, ",") && !(c.p < c.end && *c.p == '}')) return "expected , or }";
    }
    skip_space(&c);
    if (c.p != c.end) return "something follows the dict";
    if (!has_descr || !has_order || !has_shape)
        return "expected the keys descr, fortran_order and shape, each once";
    return NULL;
}

/* Sets the cursor on the header: the data begin where it ends. */
static int find_header(const char *where, const char *text, size_t there, size_t size,
                       Cursor *header, Error *err) {
    const unsigned char *p = (const unsigned char *)text;
    if (there < MAGIC_SIZE + 2 || memcmp(text, MAGIC, MAGIC_SIZE) != 0)
        return fail(err, "%s: not an npy file (it doesn't begin with \\x93NUMPY)", where);
    int major = p[MAGIC_SIZE], minor = p[MAGIC_SIZE + 1];
    if (major < 1 || major > 3 || minor != 0)
        return fail(err, "%s: npy version %d.%d is not supported (1.0, 2.0, 3.0 are)", where, major,
                    minor);
    size_t digits = major == 1 ? 2 : 4, start = MAGIC_SIZE + 2 + digits, length = 0;
    if (there >= start)
        for (size_t i = 0; i < digits; i++) length |= (size_t)p[MAGIC_SIZE + 2 + i] << (8 * i);
    if (there < start || length > size - start)
        return fail(err, "%s: the header ends past the file (%zu bytes)", where, size);
    if (length > there - start)
        return fail(err, "%s: a header of %zu bytes is longer than any array's", where, length);
    *header = (Cursor){text + start, text + start + length};
    return 0;
}

/* ---- the numbers ------------------------------------------------------------------------------- */

#define KNOWN "'<f2', '<f4', '<f8', '<i2', '<i4', '<i8', '|i1', '|u1', '|b1'"

static int parse_descr(const char *where, const char *descr, Dtype *out, Error *err) {
    static const struct {
        const char *name;
        Dtype dtype;
    } known[] = {{"<f2", DTYPE_F16}, {"<f4", DTYPE_F32}, {"<f8", DTYPE_F64},
                 {"<i2", DTYPE_I16}, {"<i4", DTYPE_I32}, {"<i8", DTYPE_I64},
                 {"|i1", DTYPE_I8},  {"|u1", DTYPE_U8},  {"|b1", DTYPE_BOOL}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(descr, known[i].name) == 0) return *out = known[i].dtype, 0;
    if (strcmp(descr, "<V2") == 0 || strcmp(descr, "|V2") == 0)
        return fail(err,
                    "%s: type '%s' is not supported: numpy has no bfloat16, which safetensors has",
                    where, descr);
    return fail(err, "%s: type '%s' is not supported (" KNOWN " are)", where, descr);
}

/* to[C order] = from[Fortran order]: there the first index runs fastest. */
static void reorder(const StoredTensor *a, const double *from, double *to, int64_t n) {
    int64_t stride[STORED_MAX_DIMS], index[STORED_MAX_DIMS] = {0}, at = 0;
    for (int i = 0; i < a->ndim; i++) stride[i] = i ? stride[i - 1] * a->dim[i - 1] : 1;
    for (int64_t k = 0; k < n; k++) {
        to[k] = from[at];
        for (int i = a->ndim - 1; i >= 0; i--) { /* the next index in C order */
            at += stride[i];
            if (++index[i] < a->dim[i]) break;
            at -= index[i] * stride[i];
            index[i] = 0;
        }
    }
}

/* The bytes that its shape and type need; all of `size`. */
static int check_size(const StoredTensor *t, size_t size, Error *err) {
    uint64_t bytes = dtype_size(t->dtype);
    for (int i = 0; i < t->ndim; i++) {
        if (t->dim[i] && bytes > INT64_MAX / (uint64_t)t->dim[i])
            return fail(err, "%s: shape is too large for any file", t->name);
        bytes *= (uint64_t)t->dim[i];
    }
    if (bytes != size)
        return fail(err, "%s: its shape and type need %" PRIu64 " bytes of data, found %zu",
                    t->name, bytes, size);
    return 0;
}

int npy_view(const char *where, const void *bytes, size_t there, size_t size, NpyView *out,
             size_t *start, Error *err) {
    Cursor cursor;
    Header h = {0};
    StoredTensor t = {.name = where};
    if (find_header(where, bytes, there, size, &cursor, err)) return -1;
    const char *wrong = parse_header(cursor, &h);
    if (wrong) return fail(err, "%s: header: %s", where, wrong);
    if (parse_descr(where, h.descr, &t.dtype, err)) return -1;
    t.ndim = h.ndim;
    memcpy(t.dim, h.dim, sizeof t.dim);
    *start = (size_t)(cursor.end - (const char *)bytes);
    t.data = cursor.end;
    t.bytes = size - *start;
    if (check_size(&t, t.bytes, err)) return -1;
    *out = (NpyView){t, h.fortran_order};
    return 0;
}

int npy_widen(const NpyView *v, double *out, Error *err) {
    const StoredTensor *t = &v->stored;
    int64_t n = stored_numel(t);
    if (!v->fortran_order) return stored_widen(t, out, err);
    double *in_file_order = malloc(((size_t)n + 1) * sizeof(double));
    if (!in_file_order) return fail(err, "%s: out of memory (%" PRId64 " numbers)", t->name, n);
    int status = stored_widen(t, in_file_order, err);
    if (status == 0) reorder(t, in_file_order, out, n);
    free(in_file_order);
    return status;
}

static int read_text(const char *path, const char *text, size_t size, Npy *out, Error *err) {
    NpyView v;
    size_t start;
    if (npy_view(path, text, size, size, &v, &start, err)) return -1;
    int64_t n = stored_numel(&v.stored);
    out->dtype = v.stored.dtype;
    out->ndim = v.stored.ndim;
    memcpy(out->dim, v.stored.dim, sizeof out->dim);
    out->data = malloc(((size_t)n + 1) * sizeof(double));
    if (!out->data) return fail(err, "%s: out of memory (%" PRId64 " numbers)", path, n);
    return npy_widen(&v, out->data, err);
}

int npy_read(const char *path, Npy *out, Error *err) {
    *out = (Npy){0};
    size_t size;
    char *text = file_read(path, &size, err);
    if (!text) return -1;
    int status = read_text(path, text, size, out, err);
    free(text);
    if (status) npy_free(out);
    return status;
}

void npy_free(Npy *a) {
    free(a->data);
    *a = (Npy){0};
}

/* ---- writing ----------------------------------------------------------------------------------- */

int npy_write(const char *path, Dtype dtype, int ndim, const int64_t *dim, const void *data,
              Error *err) {
    assert(dtype == DTYPE_F32 || dtype == DTYPE_F64);
    assert(ndim >= 0 && ndim <= STORED_MAX_DIMS);
    char header[512];
    size_t room = sizeof header, n = 1;
    size_t used = (size_t)snprintf(
        header, room, "{'descr': '<f%zu', 'fortran_order': False, 'shape': (", dtype_size(dtype));
    for (int i = 0; i < ndim; i++) {
        used += (size_t)snprintf(header + used, room - used, "%s%" PRId64 "%s", i ? " " : "",
                                 dim[i], i + 1 < ndim || ndim == 1 ? "," : "");
        n *= (size_t)dim[i];
    }
    used += (size_t)snprintf(header + used, room - used, "), }");

    /* Numpy pads so that the data start at a multiple of 64. */
    size_t before = MAGIC_SIZE + 2 + 2, padded = (before + used + 1 + 63) / 64 * 64 - before;
    assert(padded < room);
    memset(header + used, ' ', padded - used - 1);
    header[padded - 1] = '\n';

    OutFile f;
    if (outfile_open(&f, path, err)) return -1;
    fwrite(MAGIC "\x01\x00", 1, MAGIC_SIZE + 2, f.stream);
    putc((int)(padded & 255), f.stream);
    putc((int)(padded >> 8), f.stream);
    fwrite(header, 1, padded, f.stream);
    if (n) fwrite(data, dtype_size(dtype), n, f.stream);
    return outfile_close(&f, err);
}
