/* Reading whole files, and writing files that are whole or absent: see file.h. */
#include "weights/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_TRIES 100 /* temporary names tried before giving up */

bool file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool is_directory(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- reading ----------------------------------------------------------------------------------- */

int file_open(const char *path, size_t *size, Error *err) {
    /* Not to wait for a writer, should it be a fifo; a regular file doesn't mind. */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        fail(err, "%s: can't be opened: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        fail(err, "%s: can't be opened: it is %s", path,
             S_ISDIR(st.st_mode) ? "a directory, not a file" : "not a regular file");
    } else {
        *size = (size_t)st.st_size;
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}

static bool read_all(int fd, char *out, size_t size) {
    while (size) {
        ssize_t n = read(fd, out, size);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = 0; /* it became shorter meanwhile */
        if (n <= 0) return false;
        out += n;
        size -= (size_t)n;
    }
    return true;
}

char *file_read(const char *path, size_t *size, Error *err) {
    int fd = file_open(path, size, err);
    if (fd < 0) return NULL;
    char *text = malloc(*size + 1);
    if (!text) {
        fail(err, "%s: out of memory (%zu bytes)", path, *size);
    } else if (!read_all(fd, text, *size)) {
        fail(err, "%s: can't be read: %s", path, errno ? strerror(errno) : "it became shorter");
        free(text);
        text = NULL;
    } else {
        text[*size] = '\0';
    }
    close(fd);
    return text;
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* Creates a new file beside the target, so that the rename stays within one file system. Not
 * mkstemp, which would make it private to its owner: with open the umask decides, as for any file
 * that a program writes. */
static int create_beside(OutFile *f, const char *path) {
    size_t room = strlen(path) + 64;
    f->temporary = malloc(room);
    if (!f->temporary) {
        errno = ENOMEM; /* which C leaves open */
        return -1;
    }
    for (int i = 0; i < MAX_TRIES; i++) {
        snprintf(f->temporary, room, "%s.%ld-%d.tmp", path, (long)getpid(), i);
        int fd = open(f->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

static void forget(OutFile *f) {
    free(f->path);
    free(f->temporary);
    *f = (OutFile){0};
}

int outfile_open(OutFile *f, const char *path, Error *err) {
    *f = (OutFile){0};
    struct stat st;
    /* A rename would replace /dev/null itself. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return fail(err, "%s: can't be written: it is not a regular file", path);

    f->path = strdup(path);
    if (!f->path) return fail(err, "%s: out of memory", path);

    int fd = create_beside(f, path);
    if (fd < 0) {
        fail(err, "%s: can't be created: %s", path, strerror(errno));
        forget(f);
        return -1;
    }
    f->stream = fdopen(fd, "wb");
    if (!f->stream) {
        fail(err, "%s: can't be created: %s", path, strerror(errno));
        close(fd);
        unlink(f->temporary);
        forget(f);
        return -1;
    }
    return 0;
}

void outfile_write(OutFile *f, const void *data, size_t size) {
    errno = 0;
    if (size && fwrite(data, 1, size, f->stream) != size && !f->why) f->why = errno;
}

int outfile_close(OutFile *f, Error *err) {
    /* A write that failed earlier left its mark in the stream, but its errno may be gone. */
    errno = 0;
    bool good = !ferror(f->stream);
    good = fflush(f->stream) == 0 && good;
    good = good && fsync(fileno(f->stream)) == 0;
    int why = f->why ? f->why : errno;
    if (fclose(f->stream) != 0 && good) good = false, why = errno;
    f->stream = NULL;
    if (good && rename(f->temporary, f->path) != 0) good = false, why = errno;
    if (!good) {
        fail(err, "%s: can't be written: %s", f->path, why ? strerror(why) : "a write failed");
        unlink(f->temporary);
    }
    forget(f);
    return good ? 0 : -1;
}

void outfile_discard(OutFile *f) {
    if (f->stream) fclose(f->stream);
    if (f->temporary) unlink(f->temporary);
    forget(f);
}

int directory_sync(const char *path, Error *err) {
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* EINVAL: a file system that has nothing to sync there */
    const bool good = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
    if (!good) fail(err, "%s: can't be written: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return good ? 0 : -1;
}
