/* tar archives: see tar.h. The format: POSIX.1-2001 (pax), and the manual of GNU tar. */
#include "weights/tar.h"
#include "weights/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BLOCK = 512,         /* headers, and what contents are padded to */
    BUFFER = 128 * BLOCK /* bytes read at once */
};
#define MOST_EXTENDED (1 << 20) /* bytes of a long name or a pax header; names are a few hundred */

/* Where the fields of a header are. */
enum {
    NAME = 0,
    NAME_SIZE = 100,
    SIZE = 124,
    SIZE_SIZE = 12,
    CHECKSUM = 148,
    CHECKSUM_SIZE = 8,
    TYPE = 156,
    MAGIC = 257,
    PREFIX = 345,
    PREFIX_SIZE = 155
};

struct Tar {
    char *path;
    int fd;
    uint64_t size;
    uint64_t at;                /* the next header */
    uint64_t contents, content; /* of the current member: where they begin, and how many */
    char *name;                 /* of the current member */
    uint64_t begin;             /* the buffer is the file's bytes from here on [filled] */
    size_t filled;
    unsigned char buffer[BUFFER];
};

/* What extended headers say of the member behind them. */
typedef struct Extended {
    char *name; /* or NULL */
    bool has_size, sparse;
    uint64_t size;
} Extended;

/* ---- bytes of the file ------------------------------------------------------------------------------- */

static int fill(Tar *t, uint64_t at, Error *err) {
    t->begin = at;
    t->filled = 0;
    ssize_t n;
    do n = pread(t->fd, t->buffer, BUFFER, (off_t)at);
    while (n < 0 && errno == EINTR);
    if (n < 0) return fail(err, "%s: can't be read: %s", t->path, strerror(errno));
    if (n == 0) return fail(err, "%s: can't be read: it became shorter", t->path);
    t->filled = (size_t)n;
    return 0;
}

/* The file's bytes from `at` on, which are there: the caller has compared with its size. */
static int copy_bytes(Tar *t, uint64_t at, void *out, uint64_t n, Error *err) {
    for (unsigned char *p = out; n;) {
        if (at < t->begin || at - t->begin >= t->filled) {
            if (fill(t, at, err)) return -1;
        }
        size_t from = (size_t)(at - t->begin), some = t->filled - from;
        if (some > n) some = (size_t)n;
        memcpy(p, t->buffer + from, some);
        p += some;
        at += some;
        n -= some;
    }
    return 0;
}

static uint64_t padded(uint64_t size) { return (size + BLOCK - 1) / BLOCK * BLOCK; }

/* ---- a header's fields ------------------------------------------------------------------------------ */

/* Octal digits between spaces, or, where the first bit is set, base 256. False: no number of 0 .. 2^63. */
static bool read_number(const unsigned char *p, size_t n, uint64_t *out) {
    uint64_t v = 0;
    if (*p & 0x80) {
        if (*p != 0x80) return false; /* negative, or far more than any file has */
        for (size_t i = 1; i < n; i++) {
            if (v >> 55) return false;
            v = v << 8 | p[i];
        }
        *out = v;
        return true;
    }
    size_t i = 0, digits = 0;
    while (i < n && p[i] == ' ') i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++, digits++) {
        if (v >> 60) return false;
        v = v << 3 | (uint64_t)(p[i] - '0');
    }
    for (; i < n; i++)
        if (p[i] != ' ' && p[i] != '\0') return false;
    *out = v;
    return digits > 0;
}

/* The sum of all bytes, its own field taken as blanks. Some old programs summed them as signed. */
static bool checksum_is_right(const unsigned char *h) {
    uint64_t wanted;
    int64_t plain = 0, with_sign = 0;
    if (!read_number(h + CHECKSUM, CHECKSUM_SIZE, &wanted)) return false;
    for (int i = 0; i < BLOCK; i++) {
        int byte = i >= CHECKSUM && i < CHECKSUM + CHECKSUM_SIZE ? ' ' : h[i];
        plain += byte;
        with_sign += byte < 128 ? byte : byte - 256;
    }
    return wanted == (uint64_t)plain || (with_sign >= 0 && wanted == (uint64_t)with_sign);
}

static bool all_zero(const unsigned char *h) {
    for (int i = 0; i < BLOCK; i++)
        if (h[i]) return false;
    return true;
}

static size_t field_length(const unsigned char *p, size_t n) {
    const unsigned char *end = memchr(p, '\0', n);
    return end ? (size_t)(end - p) : n;
}

static char *copy_name(const unsigned char *p, size_t n) {
    char *name = malloc(n + 1);
    if (!name) return NULL;
    memcpy(name, p, n);
    name[n] = '\0';
    return name;
}

/* Of ustar the prefix, a slash and the name; elsewhere the name alone. */
static char *header_name(const unsigned char *h) {
    size_t n = field_length(h + NAME, NAME_SIZE);
    size_t prefix = memcmp(h + MAGIC, "ustar", 6) == 0 ? field_length(h + PREFIX, PREFIX_SIZE) : 0;
    if (prefix == 0) return copy_name(h + NAME, n);
    char *name = malloc(prefix + n + 2);
    if (!name) return NULL;
    memcpy(name, h + PREFIX, prefix);
    name[prefix] = '/';
    memcpy(name + prefix + 1, h + NAME, n);
    name[prefix + 1 + n] = '\0';
    return name;
}

/* Links, devices, directories and fifos have no contents, whatever their size says. */
static bool has_contents(char type) { return !(type >= '1' && type <= '6'); }
static bool is_regular(char type) { return type == '0' || type == '\0' || type == '7'; }

/* ---- extended headers ------------------------------------------------------------------------------- */

static int broken_pax(const Tar *t, uint64_t at, Error *err) {
    return fail(err, "%s: the pax header at byte %" PRIu64 " is broken", t->path, at);
}

static bool read_decimal(const unsigned char *p, size_t n, uint64_t *out) {
    uint64_t v = 0;
    if (n == 0 || n > 18) return false;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return false;
        v = v * 10 + (uint64_t)(p[i] - '0');
    }
    *out = v;
    return true;
}

static int take_name(const Tar *t, Extended *x, const unsigned char *p, size_t n, Error *err) {
    free(x->name);
    x->name = copy_name(p, n);
    return x->name ? 0 : fail(err, "%s: out of memory", t->path);
}

static bool is_key(const unsigned char *p, size_t n, const char *key) {
    return n == strlen(key) && memcmp(p, key, n) == 0;
}

/* "24 path=images/00001.jpg\n" and so on: the first number counts the whole record. */
static int read_pax(const Tar *t, uint64_t at, const unsigned char *p, size_t left, Extended *x,
                    Error *err) {
    while (left) {
        const unsigned char *space = memchr(p, ' ', left);
        uint64_t length;
        if (!space || !read_decimal(p, (size_t)(space - p), &length) || length > left)
            return broken_pax(t, at, err);
        const unsigned char *key = space + 1, *end = p + length;
        if (end <= key || end[-1] != '\n') return broken_pax(t, at, err);
        const unsigned char *equals = memchr(key, '=', (size_t)(end - key));
        if (!equals) return broken_pax(t, at, err);
        const size_t key_size = (size_t)(equals - key), size = (size_t)(end - 1 - (equals + 1));
        if (is_key(key, key_size, "path")) {
            if (memchr(equals + 1, '\0', size)) return broken_pax(t, at, err);
            if (take_name(t, x, equals + 1, size, err)) return -1;
        } else if (is_key(key, key_size, "size")) {
            if (!read_decimal(equals + 1, size, &x->size)) return broken_pax(t, at, err);
            x->has_size = true;
        } else if (key_size > 11 && memcmp(key, "GNU.sparse.", 11) == 0) {
            x->sparse = true;
        }
        p = end;
        left -= (size_t)length;
    }
    return 0;
}

/* The contents of a header of type L, K, x or g, which say something of the member that follows. */
static int read_extended(Tar *t, char type, uint64_t at, uint64_t size, Extended *x, Error *err) {
    if (size > MOST_EXTENDED)
        return fail(err, "%s: the extended header at byte %" PRIu64 " claims %" PRIu64 " bytes",
                    t->path, at, size);
    unsigned char *bytes = malloc((size_t)size + 1);
    int status = bytes ? copy_bytes(t, at + BLOCK, bytes, size, err)
                       : fail(err, "%s: out of memory", t->path);
    if (status == 0 && type == 'L')
        status = take_name(t, x, bytes, field_length(bytes, (size_t)size), err);
    if (status == 0 && (type == 'x' || type == 'X'))
        status = read_pax(t, at, bytes, (size_t)size, x, err);
    free(bytes); /* of K the link's target, of g what holds for all: neither is needed */
    return status;
}

/* ---- members ----------------------------------------------------------------------------------------- */

/* The header at `at` and the size of the contents behind it, checked. 0: the archive's end. */
static int read_header(Tar *t, uint64_t at, unsigned char *h, uint64_t *size, Error *err) {
    if (at > t->size || t->size - at < BLOCK)
        return fail(err,
                    "%s: truncated: it has %" PRIu64 " bytes, and the header at byte %" PRIu64
                    " or the archive's end is missing",
                    t->path, t->size, at);
    if (copy_bytes(t, at, h, BLOCK, err)) return -1;
    if (all_zero(h)) return 0;
    if (!checksum_is_right(h))
        return fail(err, "%s: %s: the header at byte %" PRIu64 " has a wrong checksum", t->path,
                    at ? "damaged" : "not a tar archive", at);
    if (!read_number(h + SIZE, SIZE_SIZE, size))
        return fail(err, "%s: damaged: the header at byte %" PRIu64 " has no valid size", t->path,
                    at);
    return 1;
}

static int check_size(const Tar *t, uint64_t at, uint64_t size, Error *err) {
    const uint64_t left = t->size - at - BLOCK;
    if (size <= left) return 0;
    return fail(err,
                "%s: truncated: the member at byte %" PRIu64 " has %" PRIu64
                " bytes, of which %" PRIu64 " are there",
                t->path, at, size, left);
}

static int take_member(Tar *t, const unsigned char *h, uint64_t first, uint64_t size, Extended *x,
                       TarMember *m, Error *err) {
    const char type = (char)h[TYPE];
    if (x->has_size) size = x->size;
    if (!has_contents(type)) size = 0;
    if (check_size(t, t->at, size, err)) return -1;
    if (type == 'S' || x->sparse)
        return fail(err, "%s: the member at byte %" PRIu64 " is sparse, which is not supported",
                    t->path, t->at);
    free(t->name);
    t->name = x->name ? x->name : header_name(h);
    x->name = NULL;
    if (!t->name) return fail(err, "%s: out of memory", t->path);
    if (!*t->name)
        return fail(err, "%s: damaged: the member at byte %" PRIu64 " has no name", t->path, t->at);
    t->contents = t->at + BLOCK;
    t->content = size;
    t->at = t->contents + padded(size);
    *m = (TarMember){t->name, is_regular(type), size, first};
    return 1;
}

int tar_next(Tar *t, TarMember *m, Error *err) {
    const uint64_t first = t->at;
    unsigned char h[BLOCK];
    Extended x = {0};
    int status;
    for (;;) {
        uint64_t size = 0;
        status = read_header(t, t->at, h, &size, err);
        if (status == 0 && t->at != first)
            status = fail(err, "%s: damaged: nothing follows the extended header at byte %" PRIu64,
                          t->path, first);
        if (status <= 0) break;
        const char type = (char)h[TYPE];
        if (type == '\0' || !strchr("LKxXg", type)) {
            status = take_member(t, h, first, size, &x, m, err);
            break;
        }
        status = check_size(t, t->at, size, err);
        if (status == 0) status = read_extended(t, type, t->at, size, &x, err);
        if (status) break;
        t->at += BLOCK + padded(size);
    }
    free(x.name);
    return status;
}

int tar_read(Tar *t, void *out, Error *err) {
    return copy_bytes(t, t->contents, out, t->content, err);
}

int tar_seek(Tar *t, uint64_t at, Error *err) {
    if (at > padded(t->size) || at % BLOCK)
        return fail(err, "%s: no member begins at byte %" PRIu64 " of %" PRIu64, t->path, at,
                    t->size);
    t->at = at;
    return 0;
}

/* ---- the file ------------------------------------------------------------------------------------------ */

Tar *tar_open(const char *path, Error *err) {
    size_t size;
    int fd = file_open(path, &size, err);
    if (fd < 0) return NULL;
    Tar *t = calloc(1, sizeof *t);
    if (t) t->path = strdup(path);
    if (!t || !t->path) {
        free(t);
        close(fd);
        fail(err, "%s: out of memory", path);
        return NULL;
    }
    t->fd = fd;
    t->size = size;
    return t;
}

void tar_close(Tar *t) {
    if (!t) return;
    close(t->fd);
    free(t->name);
    free(t->path);
    free(t);
}

uint64_t tar_tell(const Tar *t) { return t->at; }
uint64_t tar_size(const Tar *t) { return t->size; }
