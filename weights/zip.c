/* Reading zip archives (PKWARE's APPNOTE 6.3): see zip.h. From the end backwards:
 *
 *     member: local header, name, extra, data        for each
 *     directory: one record for each member          sizes and places are taken from here
 *     zip64 end record, zip64 locator                only where a number doesn't fit below
 *     end record, comment
 *
 * What is demanded beyond what most readers do: the directory ends where the end records begin, and
 * a member's local header tells the same name and method. A file that breaks this was cut off, put
 * together wrongly, or made to be read differently by different programs. */
#include "weights/zip.h"

#include "weights/file.h"
#include "weights/json.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

enum { END = 22, LOCATOR = 20, END64 = 56, RECORD = 46, LOCAL = 30 }; /* fixed parts, in bytes */
enum { STORED = 0, DEFLATED = 8 };                                    /* methods */
#define LONGEST_COMMENT 65535
#define MOST_FROM_A_BYTE 1032 /* what deflate can make of one byte: 258 from two bits */

struct Zip {
    char *path;
    const unsigned char *map;
    size_t size;
    ZipMember *member; /* in the order of the data */
    const ZipMember **by_name;
    char *names; /* what the members' names point into */
    size_t count;
};

/* Where the directory is, by the end records. */
typedef struct Directory {
    uint64_t count, size, at;
    size_t end; /* where the end records begin */
} Directory;

/* ---- numbers ------------------------------------------------------------------------------------- */

static uint64_t little(const unsigned char *p, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}
static unsigned two(const unsigned char *p) { return (unsigned)little(p, 2); }
static uint32_t four(const unsigned char *p) { return (uint32_t)little(p, 4); }

/* ---- the end records ----------------------------------------------------------------------------- */

/* The end record has a comment behind it that may look like another one: the true one's comment ends
 * with the file. NULL: none. */
static const unsigned char *find_end(const Zip *z) {
    for (size_t comment = 0; comment <= LONGEST_COMMENT && comment + END <= z->size; comment++) {
        const unsigned char *p = z->map + z->size - END - comment;
        if (memcmp(p, "PK\5\6", 4) == 0 && two(p + 20) == comment) return p;
    }
    return NULL;
}

/* A number of the end record and the same one of zip64's: the small one says the same, or that it
 * had no room. */
static bool agree(uint64_t small, uint64_t full, uint64_t large) {
    return small == full || small == large;
}

/* Reads zip64's end record, which the locator before the end record points to. */
static int read_end64(const Zip *z, const unsigned char *end, Directory *d, Error *err) {
    const unsigned char *locator = end - LOCATOR;
    uint64_t at = little(locator + 8, 8), before = (uint64_t)(locator - z->map);
    if (before < END64 || at > before - END64 || memcmp(z->map + at, "PK\6\6", 4) != 0)
        return fail(err, "%s: its zip64 end record is not at %" PRIu64 ", where it should be",
                    z->path, at);
    const unsigned char *p = z->map + at;
    if (little(p + 4, 8) != before - at - 12)
        return fail(err, "%s: its zip64 end record doesn't end where the next one begins", z->path);
    if (four(locator + 4) || four(locator + 16) > 1 || four(p + 16) || four(p + 20))
        return fail(err, "%s: an archive in several parts is not supported", z->path);
    Directory full = {little(p + 32, 8), little(p + 40, 8), little(p + 48, 8), (size_t)at};
    if (little(p + 24, 8) != full.count || !agree(d->count, 0xffff, full.count) ||
        !agree(d->size, 0xffffffff, full.size) || !agree(d->at, 0xffffffff, full.at))
        return fail(err, "%s: its two end records disagree", z->path);
    *d = full;
    return 0;
}

static int find_directory(const Zip *z, Directory *d, Error *err) {
    const unsigned char *end = find_end(z);
    if (!end) return fail(err, "%s: not a zip archive, or cut off (it has no end record)", z->path);
    *d = (Directory){two(end + 10), four(end + 12), four(end + 16), (size_t)(end - z->map)};
    bool has64 = d->end >= LOCATOR && memcmp(end - LOCATOR, "PK\6\7", 4) == 0;
    if (has64) {
        if (read_end64(z, end, d, err)) return -1;
    } else if (two(end + 4) || two(end + 6) || two(end + 8) != d->count) {
        return fail(err, "%s: an archive in several parts is not supported", z->path);
    }
    if (d->at > d->end || d->size != d->end - d->at)
        return fail(err,
                    "%s: its directory (%" PRIu64 " bytes at %" PRIu64
                    ") doesn't end where the end record begins (%zu)",
                    z->path, d->size, d->at, d->end);
    if (d->count > d->size / RECORD)
        return fail(err,
                    "%s: its directory of %" PRIu64 " bytes is too short for %" PRIu64 " members",
                    z->path, d->size, d->count);
    return 0;
}

/* ---- a member ------------------------------------------------------------------------------------ */

/* The fields that don't fit into a record are in its extra field 1, in this order. */
typedef struct Sizes {
    uint64_t size, packed, at;
} Sizes;

/* Replaces what says that it had no room. False: the extra field is broken. */
static bool read_sizes64(const unsigned char *extra, size_t length, Sizes *s) {
    uint64_t *field[3] = {&s->size, &s->packed, &s->at};
    bool wanted = false;
    for (int i = 0; i < 3; i++) wanted = wanted || *field[i] == 0xffffffff;
    while (length >= 4) {
        size_t n = two(extra + 2);
        if (n > length - 4) return false;
        const unsigned char *p = extra + 4, *end = p + n;
        for (int i = 0; two(extra) == 1 && wanted && i < 3; i++) {
            if (*field[i] != 0xffffffff) continue;
            if (end - p < 8) return false;
            *field[i] = little(p, 8);
            p += 8;
        }
        if (two(extra) == 1) wanted = false;
        extra = end;
        length -= 4 + n;
    }
    return true; /* 0xffffffff itself is a size, where no extra field says otherwise */
}

/* The local header before the data: where those begin, and that it tells the same. */
static int read_local(const Zip *z, ZipMember *m, uint64_t at, unsigned method, size_t limit,
                      Error *err) {
    const unsigned char *p = z->map + (at < limit ? at : limit);
    size_t name = strlen(m->name);
    if (at > limit || limit - at < LOCAL || memcmp(p, "PK\3\4", 4) != 0)
        return fail(err, "%s: \"%s\" is not at %" PRIu64 ", where the directory says", z->path,
                    m->name, at);
    size_t header = (size_t)LOCAL + two(p + 26) + two(p + 28);
    if (header > limit - at || m->packed > limit - at - header)
        return fail(err, "%s: \"%s\": its %zu bytes at %" PRIu64 " end past the members (%zu)",
                    z->path, m->name, m->packed, at, limit);
    if (two(p + 8) != method || two(p + 26) != name || memcmp(p + LOCAL, m->name, name) != 0)
        return fail(err, "%s: \"%s\": the directory and the member's own header disagree", z->path,
                    m->name);
    m->data = p + header;
    return 0;
}

static int check_kind(const Zip *z, const ZipMember *m, unsigned flags, unsigned method,
                      Error *err) {
    if (flags & 1) return fail(err, "%s: \"%s\" is encrypted", z->path, m->name);
    if (method != STORED && method != DEFLATED)
        return fail(err,
                    "%s: \"%s\": compression method %u is not supported (stored and deflated are)",
                    z->path, m->name, method);
    if (method == STORED && m->size != m->packed)
        return fail(err, "%s: \"%s\" is stored, and is %zu bytes of which %zu are there", z->path,
                    m->name, m->size, m->packed);
    if (m->size / MOST_FROM_A_BYTE > m->packed)
        return fail(err, "%s: \"%s\" claims %zu bytes, more than %zu deflated ones can hold",
                    z->path, m->name, m->size, m->packed);
    return 0;
}

/* Member i from the directory's record at *p. */
static int read_record(Zip *z, size_t i, const unsigned char **p, const unsigned char *end,
                       char **names, size_t limit, Error *err) {
    const unsigned char *r = *p;
    if (end - r < RECORD || memcmp(r, "PK\1\2", 4) != 0)
        return fail(err, "%s: record %zu of its directory is broken", z->path, i);
    size_t name = two(r + 28), extra = two(r + 30), comment = two(r + 32);
    if ((size_t)(end - r) - RECORD < name + extra + comment)
        return fail(err, "%s: record %zu of its directory is cut off", z->path, i);
    const char *text = (const char *)r + RECORD;
    if (memchr(text, '\0', name) || !utf8_valid(text, name))
        return fail(err, "%s: the name of member %zu is not valid UTF-8", z->path, i);
    Sizes s = {four(r + 24), four(r + 20), four(r + 42)};
    if (!read_sizes64(r + RECORD + name, extra, &s))
        return fail(err, "%s: record %zu of its directory has a broken extra field", z->path, i);
    *p = r + RECORD + name + extra + comment;

    ZipMember *m = &z->member[i];
    m->name = memcpy(*names, text, name);
    (*names)[name] = '\0';
    *names += name + 1;
    if (s.size > PTRDIFF_MAX || s.packed > PTRDIFF_MAX)
        return fail(err, "%s: \"%s\" claims %" PRIu64 " bytes, more than any file has", z->path,
                    m->name, s.size > s.packed ? s.size : s.packed);
    m->size = (size_t)s.size;
    m->packed = (size_t)s.packed;
    m->deflated = two(r + 10) == DEFLATED;
    m->crc = four(r + 16);
    if (check_kind(z, m, two(r + 8), two(r + 10), err)) return -1;
    return read_local(z, m, s.at, two(r + 10), limit, err);
}

/* ---- the directory ------------------------------------------------------------------------------- */

static int by_data(const void *a, const void *b) {
    const ZipMember *x = a, *y = b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const ZipMember *const *)a)->name, (*(const ZipMember *const *)b)->name);
}

/* Between two members' data lies at least a local header: as they are apart, so are those. */
static int check_order(Zip *z, Error *err) {
    qsort(z->member, z->count, sizeof *z->member, by_data);
    for (size_t i = 0; i < z->count; i++) z->by_name[i] = &z->member[i];
    for (size_t i = 1; i < z->count; i++) {
        const ZipMember *m = &z->member[i - 1];
        if ((size_t)(m[1].data - m->data) < m->packed + LOCAL + strlen(m[1].name))
            return fail(err, "%s: \"%s\" and \"%s\" overlap", z->path, m->name, m[1].name);
    }
    qsort(z->by_name, z->count, sizeof *z->by_name, by_name);
    for (size_t i = 1; i < z->count; i++)
        if (by_name(&z->by_name[i - 1], &z->by_name[i]) == 0)
            return fail(err, "%s: \"%s\" is there twice", z->path, z->by_name[i]->name);
    return 0;
}

static int read_directory(Zip *z, Error *err) {
    Directory d = {0};
    if (find_directory(z, &d, err)) return -1;
    z->count = (size_t)d.count; /* a record has 46 bytes: no more than the file has room for */
    z->member = calloc(z->count + 1, sizeof *z->member);
    z->by_name = calloc(z->count + 1, sizeof *z->by_name);
    z->names = malloc((size_t)d.size + 1); /* a record is longer than its name and a NUL */
    if (!z->member || !z->by_name || !z->names) return fail(err, "%s: out of memory", z->path);
    const unsigned char *p = z->map + d.at, *end = z->map + d.end;
    char *names = z->names;
    for (size_t i = 0; i < z->count; i++)
        if (read_record(z, i, &p, end, &names, (size_t)d.at, err)) return -1;
    if (p != end)
        return fail(err, "%s: its directory is longer than its %zu members", z->path, z->count);
    return check_order(z, err);
}

/* ---- the file ------------------------------------------------------------------------------------ */

static int map_file(Zip *z, Error *err) {
    int fd = file_open(z->path, &z->size, err);
    if (fd < 0) return -1;
    int status = 0;
    if (z->size < END) {
        status = fail(err, "%s: %zu bytes are too few for a zip archive", z->path, z->size);
    } else {
        void *map = mmap(NULL, z->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            status = fail(err, "%s: can't be mapped into memory (%zu bytes)", z->path, z->size);
        else
            z->map = map;
    }
    close(fd); /* the mapping stays */
    return status;
}

Zip *zip_open(const char *path, Error *err) {
    Zip *z = calloc(1, sizeof *z);
    if (z) z->path = strdup(path);
    if (!z || !z->path) {
        free(z);
        fail(err, "%s: out of memory", path);
        return NULL;
    }
    if (map_file(z, err) || read_directory(z, err)) {
        zip_close(z);
        return NULL;
    }
    return z;
}

void zip_close(Zip *z) {
    if (!z) return;
    if (z->map) munmap((void *)(uintptr_t)z->map, z->size);
    free(z->member);
    free(z->by_name);
    free(z->names);
    free(z->path);
    free(z);
}

const char *zip_path(const Zip *z) { return z->path; }
size_t zip_count(const Zip *z) { return z->count; }
const ZipMember *zip_at(const Zip *z, size_t i) { return &z->member[i]; }

const ZipMember *zip_find(const Zip *z, const char *name) {
    const ZipMember key = {.name = name}, *p = &key;
    const ZipMember **found = bsearch(&p, z->by_name, z->count, sizeof *z->by_name, by_name);
    return found ? *found : NULL;
}

/* ---- contents ------------------------------------------------------------------------------------ */

static uInt piece(size_t left) { return left < 1u << 30 ? (uInt)left : 1u << 30; }

static uint32_t crc_of(const unsigned char *p, size_t size) {
    uLong crc = crc32(0, NULL, 0);
    for (uInt n; size; p += n, size -= n) crc = crc32(crc, p, n = piece(size));
    return (uint32_t)crc;
}

static int check_crc(const Zip *z, const ZipMember *m, const void *contents, Error *err) {
    uint32_t found = crc_of(contents, m->size);
    if (found == m->crc) return 0;
    return fail(err, "%s: \"%s\" is damaged: its CRC is %08" PRIx32 ", expected %08" PRIx32,
                z->path, m->name, found, m->crc);
}

int zip_check(const Zip *z, const ZipMember *m, Error *err) {
    return check_crc(z, m, m->data, err);
}

/* The first n bytes, and nothing behind them if they are all. */
static int inflate_start(const Zip *z, const ZipMember *m, unsigned char *out, size_t n,
                         Error *err) {
    if (n == 0 && m->size) return 0;
    z_stream s = {.next_in = (z_const Bytef *)(uintptr_t)m->data};
    unsigned char beyond; /* room for a byte too many: it would be seen */
    size_t in = m->packed, made = 0;
    int status = inflateInit2(&s, -MAX_WBITS); /* without zlib's own header */
    if (status != Z_OK) return fail(err, "%s: out of memory", z->path);
    while (status == Z_OK && made <= n) {
        uInt give = piece(in), room = made < n ? piece(n - made) : 1;
        s.avail_in = give;
        s.next_out = made < n ? out + made : &beyond;
        s.avail_out = room;
        status = inflate(&s, Z_NO_FLUSH);
        in -= give - s.avail_in;
        made += room - s.avail_out;
        if (made == n && n < m->size) break;
    }
    inflateEnd(&s);
    if (status == Z_MEM_ERROR) return fail(err, "%s: out of memory", z->path);
    if (made > n)
        return fail(err, "%s: \"%s\" holds more than the %zu bytes that it claims", z->path,
                    m->name, n);
    if (status == Z_STREAM_END && in)
        return fail(err, "%s: \"%s\": %zu bytes follow its deflated data", z->path, m->name, in);
    if (status == Z_STREAM_END ? made < n : n == m->size || status != Z_OK)
        return fail(err,
                    "%s: \"%s\" is damaged: its data end or make no sense after %zu of %zu bytes",
                    z->path, m->name, made, m->size);
    return 0;
}

int zip_read_start(const Zip *z, const ZipMember *m, void *out, size_t n, Error *err) {
    if (m->deflated) return inflate_start(z, m, out, n, err);
    if (n) memcpy(out, m->data, n);
    return 0;
}

int zip_read(const Zip *z, const ZipMember *m, void *out, Error *err) {
    if (zip_read_start(z, m, out, m->size, err)) return -1;
    return check_crc(z, m, out, err);
}
