/* The checkpoints in a directory: which there are, which stay, whose it is. See checkpoint.h. */
#include "ref/train/checkpoint_private.h"

#include "ref/text.h"
#include "weights/file.h"
#include "weights/sha256.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "checkpoint-"
#define PIECE ((size_t)1 << 20) /* copied at a time */

/* ---- names ------------------------------------------------------------------------------------- */

char *path_in(const char *dir, const char *name, Error *err) {
    Text text = {.err = err};
    put(&text, "%s/%s", dir, name);
    return text_finish(&text);
}

char *checkpoint_path(const char *out, int64_t step, Error *err) {
    Text text = {.err = err};
    put(&text, "%s/" PREFIX "%" PRId64, out, step);
    return text_finish(&text);
}

char *checkpoint_partial(const char *out, int64_t step, Error *err) {
    Text text = {.err = err};
    put(&text, "%s/." PREFIX "%" PRId64 ".partial", out, step);
    return text_finish(&text);
}

/* A number as we print it, and what follows it; -1 if there is none. */
static int64_t number_at(const char *text, const char **end) {
    const size_t digits = strspn(text, "0123456789");
    *end = text + digits;
    if (digits < 1 || digits > 18 || (digits > 1 && *text == '0')) return -1;
    return strtoll(text, NULL, 10);
}

static int64_t number_of(const char *name) {
    const char *end;
    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0) return -1;
    const int64_t n = number_at(name + strlen(PREFIX), &end);
    return *end ? -1 : n;
}

/* Where the path's last part begins; slashes at its end are not counted. */
static const char *last_part(const char *path, size_t *length) {
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t begin = end;
    while (begin && path[begin - 1] != '/') begin--;
    *length = end - begin;
    return path + begin;
}

int64_t checkpoint_number(const char *path) {
    char name[64];
    size_t length;
    const char *part = last_part(path, &length);
    snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : 0), part);
    return number_of(name);
}

/* ---- which there are --------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int add_number(int64_t **numbers, size_t n, int64_t number) {
    int64_t *more = realloc(*numbers, (n + 1) * sizeof *more);
    if (!more) return -1;
    more[n] = number;
    *numbers = more;
    return 0;
}

/* The steps of all checkpoints in `out`, rising, malloc'ed. 0, or -1 with a message. */
static int list(const char *out, int64_t **numbers, size_t *count, Error *err) {
    *numbers = NULL;
    *count = 0;
    errno = 0;
    DIR *d = opendir(out);
    if (!d && errno == ENOENT) return 0;
    if (!d) return fail(err, "%s: can't be read: %s", out, strerror(errno));
    for (struct dirent *e; !err->set && (e = readdir(d));) {
        const int64_t number = number_of(e->d_name);
        char *path = number < 0 ? NULL : path_in(out, e->d_name, err);
        if (path && is_directory(path) && add_number(numbers, (*count)++, number))
            fail(err, "%s: out of memory", out);
        free(path);
    }
    closedir(d);
    if (err->set) {
        free(*numbers);
        *numbers = NULL;
        return -1;
    }
    if (*count) qsort(*numbers, *count, sizeof **numbers, by_value);
    return 0;
}

int checkpoint_find_latest(const char *out, char **path, Error *err) {
    int64_t *numbers;
    size_t n;
    *path = NULL;
    if (list(out, &numbers, &n, err)) return -1;
    if (n) *path = checkpoint_path(out, numbers[n - 1], err);
    free(numbers);
    return err->set ? -1 : 0;
}

/* The directory in which `path` is, malloc'ed. */
static char *directory_of(const char *path, Error *err) {
    size_t length;
    const size_t n = (size_t)(last_part(path, &length) - path);
    Text text = {.err = err};
    put(&text, "%.*s", n ? (int)(n > 1 ? n - 1 : 1) : 1, n ? path : ".");
    return text_finish(&text);
}

char *checkpoint_before(const char *path) {
    Error ignored = {0}; /* it is but a hint */
    const int64_t number = checkpoint_number(path);
    char *out = directory_of(path, &ignored), *before = NULL;
    int64_t *numbers;
    size_t n;
    if (number >= 0 && out && list(out, &numbers, &n, &ignored) == 0) {
        while (n && numbers[n - 1] >= number) n--;
        if (n) before = checkpoint_path(out, numbers[n - 1], &ignored);
        free(numbers);
    }
    free(out);
    return before;
}

int checkpoint_may_follow(const char *path, const char *out, Error *err) {
    char *latest;
    struct stat a, b;
    if (checkpoint_find_latest(out, &latest, err)) return -1;
    if (latest && stat(latest, &a) == 0 &&
        (stat(path, &b) != 0 || a.st_dev != b.st_dev || a.st_ino != b.st_ino))
        fail(err,
             "--resume-from-checkpoint %s: %s has a later one, %s, which is not overwritten: go on "
             "from that (latest), or give another --output-dir",
             path, out, latest);
    free(latest);
    return err->set ? -1 : 0;
}

/* ---- removing ---------------------------------------------------------------------------------- */

int remove_directory_of_files(const char *dir, Error *err) {
    DIR *d = opendir(dir);
    if (!d) return fail(err, "%s: can't be removed: %s", dir, strerror(errno));
    for (struct dirent *e; !err->set && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char *path = path_in(dir, e->d_name, err);
        if (path && unlink(path)) fail(err, "%s: can't be removed: %s", path, strerror(errno));
        free(path);
    }
    closedir(d);
    if (!err->set && rmdir(dir)) fail(err, "%s: can't be removed: %s", dir, strerror(errno));
    return err->set ? -1 : 0;
}

/* Whoever looks in between finds it whole or not at all. */
static int remove_checkpoint(const char *out, int64_t number, Error *err) {
    char *path = checkpoint_path(out, number, err);
    char *partial = checkpoint_partial(out, number, err);
    if (!err->set && rename(path, partial))
        fail(err, "%s: can't be removed: %s", path, strerror(errno));
    if (!err->set) remove_directory_of_files(partial, err);
    free(path);
    free(partial);
    return err->set ? -1 : 0;
}

int checkpoints_limit(const char *out, int64_t keep, Error *err) {
    int64_t *numbers;
    size_t n;
    if (list(out, &numbers, &n, err)) return -1;
    for (size_t i = 0; i + (size_t)keep < n && !err->set; i++)
        remove_checkpoint(out, numbers[i], err);
    free(numbers);
    return err->set ? -1 : 0;
}

/* <one of ours>.<process>-<number>.tmp (see outfile_open); in validation/ those of step-<number>.png */
static bool is_temporary(const char *name, bool validation) {
    static const char *const ours[] = {"adapter.safetensors.", "config.json.", "train.jsonl.",
                                       "figure6.svg.", NULL};
    const char *end = NULL;
    for (int i = 0; !validation && !end && ours[i]; i++)
        if (strncmp(name, ours[i], strlen(ours[i])) == 0) end = name + strlen(ours[i]);
    if (validation && strncmp(name, "step-", 5) == 0) {
        end = name + 5 + strspn(name + 5, "0123456789");
        end = strncmp(end, ".png.", 5) == 0 ? end + 5 : NULL;
    }
    if (!end || number_at(end, &end) < 0 || *end != '-') return false;
    return number_at(end + 1, &end) >= 0 && strcmp(end, ".tmp") == 0;
}

static bool is_partial(const char *name) {
    const char *end;
    if (strncmp(name, "." PREFIX, strlen(PREFIX) + 1) != 0) return false;
    return number_at(name + strlen(PREFIX) + 1, &end) >= 0 && strcmp(end, ".partial") == 0;
}

static int sweep(const char *dir, bool validation, Error *err) {
    DIR *d = opendir(dir);
    if (!d && validation && (errno == ENOENT || errno == ENOTDIR)) return 0;
    if (!d) return fail(err, "%s: can't be read: %s", dir, strerror(errno));
    for (struct dirent *e; !err->set && (e = readdir(d));) {
        const char *name = e->d_name;
        const bool file = is_temporary(name, validation);
        const bool directory = !validation && (is_partial(name) || strcmp(name, ".initial") == 0);
        char *path = file || directory ? path_in(dir, name, err) : NULL;
        if (path && directory) remove_directory_of_files(path, err);
        if (path && file && unlink(path))
            fail(err, "%s: can't be removed: %s", path, strerror(errno));
        free(path);
    }
    closedir(d);
    return err->set ? -1 : 0;
}

static int sweep_all(const char *out, Error *err) {
    char *pictures = path_in(out, "validation", err);
    if (pictures && sweep(out, false, err) == 0) sweep(pictures, true, err);
    free(pictures);
    return err->set ? -1 : 0;
}

int checkpoints_begin(const char *out, int *lock, Error *err) {
    *lock = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0) return fail(err, "%s: can't be opened: %s", out, strerror(errno));
    /* where a file system has no locks one has to do without */
    if (flock(*lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        fail(err, "%s: another process is training into it", out);
    if (!err->set && sweep_all(out, err) == 0) return 0;
    close(*lock);
    return -1;
}

/* ---- the result -------------------------------------------------------------------------------- */

/* Has `b` the bytes of `a`? False also where it isn't there, or with a message. */
static bool same_file(const char *a, const char *b, Error *err) {
    char x[SHA256_HEX], y[SHA256_HEX];
    return file_exists(b) && sha256_file(a, NULL, NULL, x, err) == 0 &&
           sha256_file(b, NULL, NULL, y, err) == 0 && strcmp(x, y) == 0;
}

static int copy_file(const char *from, const char *to, Error *err) {
    size_t size;
    OutFile out;
    FILE *in = NULL;
    const int fd = file_open(from, &size, err);
    if (fd < 0) return -1;
    char *buffer = malloc(PIECE);
    if (buffer) in = fdopen(fd, "rb");
    if (!in) {
        fail(err, "%s: out of memory", from);
        close(fd);
    } else if (outfile_open(&out, to, err) == 0) {
        for (size_t n; (n = fread(buffer, 1, PIECE, in)) != 0;) outfile_write(&out, buffer, n);
        if (ferror(in)) {
            fail(err, "%s: can't be read: %s", from, strerror(errno));
            outfile_discard(&out);
        } else {
            outfile_close(&out, err);
        }
    }
    if (in) fclose(in);
    free(buffer);
    return err->set ? -1 : 0;
}

int checkpoint_publish(const char *path, const char *out, Error *err) {
    bool wrote = false;
    for (int i = 0; i < 2 && !err->set; i++) {
        char *from = path_in(path, checkpoint_files[i], err);
        char *to = path_in(out, checkpoint_files[i], err);
        if (from && to && !same_file(from, to, err) && !err->set)
            wrote |= copy_file(from, to, err) == 0;
        free(from);
        free(to);
    }
    if (wrote && !err->set) directory_sync(out, err);
    return err->set ? -1 : 0;
}
