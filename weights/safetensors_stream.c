/* safetensors written as it comes: see safetensors_stream.h.
 *
 * The header stands in front of the data and is known after them. So the data begin behind a gap, which
 * takes no room on the disk until it is filled:
 *
 *     8 bytes | header, spaces up to GAP | data          large files: the gap becomes the header
 *     8 bytes | header | data                            small files, and where the gap is too small:
 *                                                        the data move to where the header ends */
#include "weights/safetensors_stream.h"

#include "weights/file.h"
#include "weights/json.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define GAP ((uint64_t)4 << 20)    /* enough for some 30000 tensors */
#define SMALL ((uint64_t)64 << 20) /* less data than that are moved: 4 MiB of spaces would show */
#define PIECE ((size_t)1 << 20)    /* what is moved at a time */
#define HEADER_MAX ((size_t)100000000) /* bytes; upstream's limit */

typedef struct Name {
    size_t at, length; /* in the header's text, quoted and escaped */
} Name;

struct SafetensorsStream {
    OutFile file;
    char *text; /* "name":{...},"name":{...}, ...; malloc'ed */
    size_t length, room;
    Name *name; /* [count] */
    size_t count, names_room;
    uint64_t data; /* bytes so far */
};

static int no_memory(const SafetensorsStream *s, Error *err) {
    return fail(err, "%s: out of memory", s->file.path);
}

static int write_failed(const SafetensorsStream *s, Error *err) {
    return fail(err, "%s: can't be written: %s", s->file.path,
                errno ? strerror(errno) : "a write failed");
}

static int put(SafetensorsStream *s, const void *bytes, size_t size, Error *err) {
    errno = 0;
    return size == 0 || fwrite(bytes, 1, size, s->file.stream) == size ? 0 : write_failed(s, err);
}

SafetensorsStream *safetensors_stream_open(const char *path, Error *err) {
    SafetensorsStream *s = calloc(1, sizeof *s);
    if (!s) {
        fail(err, "%s: out of memory", path);
        return NULL;
    }
    if (outfile_open(&s->file, path, err) == 0) {
        errno = 0;
        if (fseeko(s->file.stream, (off_t)GAP, SEEK_SET) == 0) return s;
        write_failed(s, err);
    }
    safetensors_stream_discard(s);
    return NULL;
}

size_t safetensors_stream_count(const SafetensorsStream *s) { return s->count; }

void safetensors_stream_discard(SafetensorsStream *s) {
    if (!s) return;
    outfile_discard(&s->file);
    free(s->text);
    free(s->name);
    free(s);
}

/* ---- one tensor ---------------------------------------------------------------------------------- */

/* Room for `more` bytes of header and one more name. */
static int make_room(SafetensorsStream *s, size_t more, Error *err) {
    if (s->length + more > s->room) {
        size_t room = 2 * s->room + more + 4096;
        char *text = realloc(s->text, room);
        if (!text) return no_memory(s, err);
        s->text = text;
        s->room = room;
    }
    if (s->count == s->names_room) {
        size_t room = 2 * s->names_room + 64;
        Name *name = realloc(s->name, room * sizeof *name);
        if (!name) return no_memory(s, err);
        s->name = name;
        s->names_room = room;
    }
    return 0;
}

/* The name as JSON has it: quoted, escaped. malloc'ed; NULL with a message. */
static char *quoted(const SafetensorsStream *s, const char *name, Error *err) {
    if (!utf8_valid(name, strlen(name))) {
        fail(err, "%s: can't be written: tensor name \"%s\" is not valid UTF-8", s->file.path,
             name);
        return NULL;
    }
    cJSON *string = cJSON_CreateString(name);
    char *text = string ? cJSON_PrintUnformatted(string) : NULL;
    if (!text) no_memory(s, err);
    cJSON_Delete(string);
    return text;
}

/* "name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}, */
static int describe(SafetensorsStream *s, const StoredTensor *t, Error *err) {
    char *name = quoted(s, t->name, err);
    if (!name) return -1;
    const size_t length = strlen(name), numbers = 128 + 24 * (size_t)t->ndim;
    if (make_room(s, length + numbers, err)) {
        cJSON_free(name);
        return -1;
    }
    s->name[s->count++] = (Name){s->length, length};
    char *to = s->text + s->length, *end = to + length + numbers;
    memcpy(to, name, length);
    cJSON_free(name);
    to += length;
    to += snprintf(to, (size_t)(end - to), ":{\"dtype\":\"%s\",\"shape\":[", dtype_name(t->dtype));
    for (int i = 0; i < t->ndim; i++)
        to += snprintf(to, (size_t)(end - to), "%s%" PRId64, i ? "," : "", t->dim[i]);
    to += snprintf(to, (size_t)(end - to), "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]},",
                   s->data, s->data + t->bytes);
    s->length = (size_t)(to - s->text);
    return 0;
}

int safetensors_stream_add(SafetensorsStream *s, const StoredTensor *t, Error *err) {
    assert(t->bytes == (size_t)stored_numel(t) * dtype_size(t->dtype));
    assert(strcmp(t->name, "__metadata__") != 0);
    if (describe(s, t, err) || put(s, t->data, t->bytes, err)) return -1;
    s->data += t->bytes;
    return 0;
}

/* ---- the end: header ----------------------------------------------------------------------------- */

typedef struct Slice {
    const char *text;
    size_t length;
} Slice;

static int by_text(const void *a, const void *b) {
    const Slice *x = a, *y = b;
    if (x->length != y->length) return x->length < y->length ? -1 : 1;
    return memcmp(x->text, y->text, x->length);
}

static int check_names(const SafetensorsStream *s, Error *err) {
    if (s->count < 2) return 0;
    Slice *name = malloc(s->count * sizeof *name);
    if (!name) return no_memory(s, err);
    for (size_t i = 0; i < s->count; i++)
        name[i] = (Slice){s->text + s->name[i].at, s->name[i].length};
    qsort(name, s->count, sizeof *name, by_text);
    for (size_t i = 1; i < s->count; i++)
        if (by_text(&name[i - 1], &name[i]) == 0) {
            fail(err, "%s: can't be written: tensor %.*s twice", s->file.path, (int)name[i].length,
                 name[i].text);
            break;
        }
    free(name);
    return err->set ? -1 : 0;
}

/* "__metadata__":{...}, or "", malloc'ed; NULL with a message. */
static char *metadata_text(const SafetensorsStream *s, const char *const *metadata, Error *err) {
    if (!metadata || !metadata[0]) {
        char *none = cJSON_malloc(1);
        if (none) *none = '\0';
        if (!none) no_memory(s, err);
        return none;
    }
    cJSON *header = cJSON_CreateObject();
    cJSON *object = header ? cJSON_AddObjectToObject(header, "__metadata__") : NULL;
    for (size_t i = 0; object && metadata[i] && !err->set; i += 2) {
        const char *key = metadata[i], *value = metadata[i + 1];
        if (!utf8_valid(key, strlen(key)) || !utf8_valid(value, strlen(value)))
            fail(err, "%s: can't be written: metadata \"%s\" is not valid UTF-8", s->file.path,
                 key);
        else if (!cJSON_AddStringToObject(object, key, value))
            no_memory(s, err);
    }
    char *text = object && !err->set ? cJSON_PrintUnformatted(header) : NULL;
    if (!text && !err->set) no_memory(s, err);
    cJSON_Delete(header);
    if (!text) return NULL;
    size_t n = strlen(text);    /* {...} -> ..., */
    memmove(text, text + 1, n); /* with the NUL */
    text[n - 2] = ',';
    return text;
}

/* ---- the end: the data to their place ------------------------------------------------------------ */

static int copy_within(SafetensorsStream *s, char *buffer, uint64_t from, uint64_t to, size_t size,
                       Error *err) {
    const int fd = fileno(s->file.stream);
    for (size_t done = 0; done < size;) {
        errno = 0;
        ssize_t n = pread(fd, buffer + done, size - done, (off_t)(from + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return write_failed(s, err);
        done += (size_t)n;
    }
    for (size_t done = 0; done < size;) {
        errno = 0;
        ssize_t n = pwrite(fd, buffer + done, size - done, (off_t)(to + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return write_failed(s, err);
        done += (size_t)n;
    }
    return 0;
}

/* The data, which begin at GAP, to where they are to begin: from the end that doesn't tread on what is
 * still to be moved. */
static int move_data(SafetensorsStream *s, uint64_t to, Error *err) {
    if (to == GAP) return 0;
    errno = 0;
    if (fflush(s->file.stream)) return write_failed(s, err);
    char *buffer = malloc(PIECE);
    if (!buffer) return no_memory(s, err);
    for (uint64_t done = 0; done < s->data && !err->set;) {
        const size_t n = s->data - done < PIECE ? (size_t)(s->data - done) : PIECE;
        const uint64_t at = to < GAP ? done : s->data - done - n;
        copy_within(s, buffer, GAP + at, to + at, n, err);
        done += n;
    }
    free(buffer);
    errno = 0;
    if (!err->set && ftruncate(fileno(s->file.stream), (off_t)(to + s->data))) write_failed(s, err);
    return err->set ? -1 : 0;
}

/* {<metadata><tensors>}, of which the last comma goes, and spaces. */
static int put_header(SafetensorsStream *s, const char *metadata, size_t used, size_t length,
                      Error *err) {
    const size_t first = strlen(metadata), tensors = s->length ? s->length - 1 : 0;
    char size[8];
    for (int i = 0; i < 8; i++) size[i] = (char)((uint64_t)length >> (8 * i) & 255);
    errno = 0;
    if (fseeko(s->file.stream, 0, SEEK_SET)) return write_failed(s, err);
    if (put(s, size, sizeof size, err) || put(s, "{", 1, err) ||
        put(s, metadata, s->length || !first ? first : first - 1, err) ||
        put(s, s->text, tensors, err) || put(s, "}", 1, err))
        return -1;
    for (size_t i = used; i < length; i++)
        if (put(s, " ", 1, err)) return -1;
    return 0;
}

static int finish(SafetensorsStream *s, const char *metadata, Error *err) {
    const size_t both = strlen(metadata) + s->length, used = both ? both + 1 : 2; /* a comma less */
    const size_t least = (used + 7) / 8 * 8;
    if (least > HEADER_MAX)
        return fail(err,
                    "%s: can't be written: %zu tensors need a header of %zu bytes, the format "
                    "allows %zu: choose fewer",
                    s->file.path, s->count, least, HEADER_MAX);
    const bool stays = least <= GAP - 8 && s->data >= SMALL;
    const size_t length = stays ? (size_t)GAP - 8 : least;
    if (check_names(s, err) || move_data(s, 8 + length, err)) return -1;
    return put_header(s, metadata, used, length, err);
}

int safetensors_stream_close(SafetensorsStream *s, const char *const *metadata, Error *err) {
    char *text = metadata_text(s, metadata, err);
    int status = text ? finish(s, text, err) : -1;
    cJSON_free(text);
    if (status == 0) status = outfile_close(&s->file, err);
    safetensors_stream_discard(s);
    return status;
}
