/* Pictures in folders: the lines of metadata.jsonl, or pictures with .txt captions. See dataset.h.
 *
 * What stays in memory is where each line begins, or the pictures' paths; the rest is read when its turn
 * comes. Which one that is, a permutation says that needs no memory either. */
#include "ref/train/dataset_private.h"

#include "ref/train/keyed.h"
#include "weights/file.h"
#include "weights/json.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LINE ((uint64_t)1 << 24)
#define MAX_DEPTH 16  /* of folders */
#define LINES_TRIED 8 /* for a caption, before the set is believed to have some */

struct Folder {
    int64_t count;
    char *metadata;   /* its path; NULL: by .txt */
    int fd;           /* of it */
    uint64_t *offset; /* where its lines begin, and its size [count + 1] */
    char *names;      /* paths below the root, NUL after each */
    char **name;      /* each of them, sorted [count] */
    size_t used, room, captions;
};

int64_t folder_count(const Folder *f) { return f->count; }

void folder_close(Folder *f) {
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    free(f->metadata);
    free(f->offset);
    free(f->names);
    free(f->name);
    free(f);
}

static char *join(const char *dir, const char *name) {
    char *path = malloc(strlen(dir) + strlen(name) + 2);
    if (path) sprintf(path, "%s%s%s", dir, *dir ? "/" : "", name);
    return path;
}

/* ---- metadata.jsonl: where its lines are -------------------------------------------------------------- */

/* Room for one more, grown by doubling. */
static bool add_offset(Folder *f, uint64_t at) {
    const size_t n = (size_t)f->count;
    if ((n & (n - 1)) == 0) {
        uint64_t *more = realloc(f->offset, (n ? 2 * n : 1) * sizeof *more);
        if (!more) return false;
        f->offset = more;
    }
    f->offset[f->count++] = at;
    return true;
}

/* A sample begins at the first byte of a line that is not white space. */
static bool find_lines(Folder *f, const unsigned char *p, size_t n, uint64_t at, bool *in_line) {
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n')
            *in_line = false;
        else if (!*in_line && !strchr(" \t\r", p[i])) {
            *in_line = true;
            if (!add_offset(f, at + i)) return false;
        }
    }
    return true;
}

static int scan_lines(Dataset *d, Folder *f, uint64_t size, Error *err) {
    unsigned char buffer[1 << 16];
    bool in_line = false;
    uint64_t at = 0;
    d->fingerprint = HASH_START;
    while (at < size) {
        ssize_t n = pread(f->fd, buffer, sizeof buffer, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return fail(err, "%s: can't be read: %s", f->metadata,
                        n ? strerror(errno) : "it became shorter");
        const size_t skip = at == 0 && n >= 3 && memcmp(buffer, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
        d->fingerprint = hash_bytes(d->fingerprint, buffer, (size_t)n);
        if (!find_lines(f, buffer + skip, (size_t)n - skip, at + skip, &in_line))
            return fail(err, "%s: out of memory", f->metadata);
        at += (uint64_t)n;
    }
    const int64_t lines = f->count;
    if (!add_offset(f, size)) return fail(err, "%s: out of memory", f->metadata);
    f->count = lines;
    return lines ? 0 : fail(err, "%s: no samples", f->metadata);
}

/* Line i as JSON. */
static Outcome read_line(const Folder *f, int64_t i, cJSON **json, Error *why, Error *err) {
    const uint64_t at = f->offset[i];
    const size_t size = (size_t)(f->offset[i + 1] - at);
    char where[512];
    snprintf(where, sizeof where, "%.400s, line at byte %llu", f->metadata, (unsigned long long)at);
    if (size > MAX_LINE) {
        fail(why, "%s: %zu bytes: expected at most %llu", where, size,
             (unsigned long long)MAX_LINE);
        return BROKEN;
    }
    char *text = malloc(size + 1);
    if (!text) {
        fail(err, "%s: out of memory", where);
        return FAILED;
    }
    Outcome outcome = GOOD;
    for (size_t got = 0; outcome == GOOD && got < size;) {
        ssize_t n = pread(f->fd, text + got, size - got, (off_t)(at + got));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            fail(err, "%s: can't be read: %s", f->metadata,
                 n ? strerror(errno) : "it became shorter");
            outcome = FAILED;
        } else {
            got += (size_t)n;
        }
    }
    if (outcome == GOOD) outcome = parse_json(text, size, where, json, why, err);
    free(text);
    return outcome;
}

/* The whole set has no captions if none of its first lines has one. */
static int look_for_captions(const Folder *f, Error *err) {
    int without = 0;
    for (int64_t i = 0; i < f->count && i < LINES_TRIED; i++) {
        Error why = {0};
        cJSON *json;
        char *caption;
        Outcome outcome = read_line(f, i, &json, &why, err);
        if (outcome == FAILED) return -1;
        if (outcome == BROKEN) return 0; /* its turn will come */
        outcome = caption_of_json(json, f->metadata, 0, &caption, &why, err);
        cJSON_Delete(json);
        if (outcome == FAILED) return -1;
        if (outcome == GOOD) {
            free(caption);
            return 0;
        }
        without++;
    }
    return fail(err,
                "%s: no captions: expected \"text\" (or \"caption\") beside \"file_name\", found "
                "neither in %s",
                f->metadata, without == 1 ? "its line" : "its first lines");
}

static int open_metadata(Dataset *d, Folder *f, Error *err) {
    size_t size;
    f->metadata = join(d->root, "metadata.jsonl");
    if (!f->metadata) return fail(err, "%s: out of memory", d->root);
    f->fd = file_open(f->metadata, &size, err);
    if (f->fd < 0 || scan_lines(d, f, size, err)) return -1;
    return look_for_captions(f, err);
}

/* ---- pictures with .txt: what they are called --------------------------------------------------------- */

static bool add_name(Folder *f, const char *below, const char *name) {
    const size_t more = strlen(below) + strlen(name) + 2;
    if (f->room - f->used < more) {
        const size_t room = 2 * f->room + more + 4096;
        char *names = realloc(f->names, room);
        if (!names) return false;
        f->names = names;
        f->room = room;
    }
    sprintf(f->names + f->used, "%s%s%s", below, *below ? "/" : "", name);
    f->used += strlen(f->names + f->used) + 1;
    f->count++;
    return true;
}

static int scan_folder(Folder *f, const char *root, const char *below, int depth, Error *err);

/* An entry that is no picture and no caption: perhaps a folder. */
static int scan_below(Folder *f, const char *root, const char *below, const char *name, int depth,
                      Error *err) {
    struct stat st;
    char *path = join(below, name), *whole = path ? join(root, path) : NULL;
    int status = 0;
    if (!whole)
        status = fail(err, "%s: out of memory", root);
    else if (lstat(whole, &st) == 0 && S_ISDIR(st.st_mode))
        status = depth < MAX_DEPTH ? scan_folder(f, root, path, depth + 1, err)
                                   : fail(err, "%s: folders more than %d deep", whole, MAX_DEPTH);
    free(whole);
    free(path);
    return status;
}

static int scan_folder(Folder *f, const char *root, const char *below, int depth, Error *err) {
    char *path = *below ? join(root, below) : strdup(root);
    if (!path) return fail(err, "%s: out of memory", root);
    DIR *dir = opendir(path);
    int status = dir ? 0 : fail(err, "%s: can't be opened: %s", path, strerror(errno));
    for (struct dirent *e; status == 0 && (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        if (has_suffix(e->d_name, ".txt"))
            f->captions++;
        else if (!is_picture_name(e->d_name))
            status = scan_below(f, root, below, e->d_name, depth, err);
        else if (!add_name(f, below, e->d_name))
            status = fail(err, "%s: out of memory", path);
    }
    if (dir) closedir(dir);
    free(path);
    return status;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int open_pictures(Dataset *d, Folder *f, Error *err) {
    if (scan_folder(f, d->root, "", 0, err)) return -1;
    if (f->count == 0)
        return fail(err,
                    "%s: no data set: expected metadata.jsonl, .tar shards, or pictures (.jpg, "
                    ".jpeg, .png) with .txt captions",
                    d->dir);
    if (f->captions == 0)
        return fail(err,
                    "%s: no captions for its %lld pictures: expected metadata.jsonl, or a .txt of "
                    "the same name beside each",
                    d->root, (long long)f->count);
    f->name = malloc((size_t)f->count * sizeof *f->name);
    if (!f->name) return fail(err, "%s: out of memory", d->root);
    char *p = f->names;
    for (int64_t i = 0; i < f->count; i++, p += strlen(p) + 1) f->name[i] = p;
    qsort(f->name, (size_t)f->count, sizeof *f->name, by_name); /* not as the disk has them */
    d->fingerprint = HASH_START;
    for (int64_t i = 0; i < f->count; i++)
        d->fingerprint = hash_bytes(d->fingerprint, f->name[i], strlen(f->name[i]) + 1);
    return 0;
}

Folder *folder_open(Dataset *d, bool by_text, Error *err) {
    Folder *f = calloc(1, sizeof *f);
    if (!f) {
        fail(err, "%s: out of memory", d->dir);
        return NULL;
    }
    f->fd = -1;
    if ((by_text ? open_pictures(d, f, err) : open_metadata(d, f, err)) == 0) return f;
    folder_close(f);
    return NULL;
}

/* ---- candidates ------------------------------------------------------------------------------------------- */

/* A name from a file must not lead out of the folder. */
static bool stays_below(const char *name) {
    if (*name == '/' || *name == '\0') return false;
    for (const char *part = name; part; part = strchr(part, '/'), part += part != NULL)
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0')) return false;
    return true;
}

/* The picture of that name below the root. */
static Outcome take_picture(const Dataset *d, const char *name, Candidate *c, Error *why,
                            Error *err) {
    char *path = join(d->root, name);
    c->id = strdup(name);
    Outcome outcome = FAILED;
    if (!path || !c->id)
        fail(err, "%s: out of memory", d->root);
    else
        outcome = read_whole(path, MAX_PICTURE_BYTES, &c->picture, &c->size, why, err);
    if (c->id) make_utf8(c->id);
    free(path);
    return outcome;
}

static Outcome take_line(const Dataset *d, int64_t i, Candidate *c, Error *why, Error *err) {
    cJSON *json;
    Outcome outcome = read_line(d->folder, i, &json, why, err);
    if (outcome != GOOD) return outcome;
    char where[512];
    snprintf(where, sizeof where, "%.400s, line at byte %llu", d->folder->metadata,
             (unsigned long long)d->folder->offset[i]);
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(json, "file_name");
    if (!cJSON_IsString(name)) {
        fail(why, "%s: expected a string as \"file_name\"", where);
        outcome = BROKEN;
    } else if (!stays_below(name->valuestring)) {
        fail(why, "%s: \"%.1000s\" leads out of the folder", where, name->valuestring);
        outcome = BROKEN;
    } else {
        outcome = caption_of_json(json, where, caption_pick(d), &c->caption, why, err);
        if (outcome == GOOD) outcome = take_picture(d, name->valuestring, c, why, err);
    }
    cJSON_Delete(json);
    return outcome;
}

static Outcome take_named(const Dataset *d, int64_t i, Candidate *c, Error *why, Error *err) {
    const char *name = d->folder->name[i];
    unsigned char *text = NULL;
    size_t size;
    char *path = malloc(strlen(d->root) + strlen(name) + sizeof "/.txt");
    if (!path) {
        fail(err, "%s: out of memory", d->root);
        return FAILED;
    }
    sprintf(path, "%s/%s", d->root, name);
    strcpy(strrchr(path, '.'), ".txt");
    Outcome outcome = read_whole(path, MAX_CAPTION_BYTES, &text, &size, why, err);
    if (outcome == GOOD) outcome = caption_of_text(text, size, path, &c->caption, why, err);
    if (outcome == GOOD) outcome = take_picture(d, name, c, why, err);
    free(text);
    free(path);
    return outcome;
}

Outcome folder_next(Dataset *d, Candidate *c, Error *why, Error *err) {
    const Folder *f = d->folder;
    if (d->drawn >= f->count) return AT_END;
    const uint64_t key = keyed_bits(d->options.seed, DRAW_ORDER, (uint64_t)d->epoch, 0);
    const int64_t i = (int64_t)keyed_permute(key, (uint64_t)f->count, (uint64_t)d->drawn);
    c->key[1] = (uint64_t)i;
    return f->metadata ? take_line(d, i, c, why, err) : take_named(d, i, c, why, err);
}
