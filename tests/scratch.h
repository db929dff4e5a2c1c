/* A directory for one test program's files, and the errors expected of them.
 *
 *     cmocka_run_group_tests(tests, scratch_make, scratch_remove)
 *     const char *path = scratch("bad.npy");     // valid until the next 7 calls
 *     assert_error(err, "bad.npy: not an npy file ...");      // paths without the directory */
#ifndef LLMDIFF_SCRATCH_H
#define LLMDIFF_SCRATCH_H

#include "tests/check.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch_dir[64];

static inline const char *scratch(const char *name) {
    static char path[8][384];
    static int next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", scratch_dir, name);
    return p;
}

static inline int scratch_make(void **state) {
    (void)state;
    snprintf(scratch_dir, sizeof scratch_dir, "/tmp/llmdiff-test-XXXXXX");
    return mkdtemp(scratch_dir) ? 0 : -1;
}

/* How many entries a directory has; one level of them is removed if asked for. */
static inline int scratch_entries(const char *dir, bool remove_them) {
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        n++;
        char path[384];
        int used = snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (!remove_them || used >= (int)sizeof path) continue;
        if (unlink(path) != 0) {
            scratch_entries(path, true);
            rmdir(path);
        }
    }
    if (d) closedir(d);
    return n;
}

static inline int scratch_remove(void **state) {
    (void)state;
    scratch_entries(scratch_dir, true);
    return rmdir(scratch_dir);
}

static inline void write_bytes(const char *path, const void *data, size_t size) {
    FILE *fp = fopen(path, "wb");
    assert_non_null(fp);
    assert_int_equal(fwrite(data, 1, size, fp), size);
    assert_int_equal(fclose(fp), 0);
}

static inline void write_text(const char *path, const char *text) {
    write_bytes(path, text, strlen(text));
}

/* A safetensors file by hand: `header` as it is and `size` zero bytes of data. */
static inline void write_raw_safetensors(const char *path, const char *header, size_t size) {
    uint64_t length = strlen(header);
    char *bytes = calloc(1, 8 + (size_t)length + size);
    assert_non_null(bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, (size_t)length);
    write_bytes(path, bytes, 8 + (size_t)length + size);
    free(bytes);
}

/* The message is the expected one, wherever the scratch directory's path stands in it. */
static inline void assert_error(const Error *err, const char *expected) {
    assert_true(err->set);
    char text[sizeof err->message];
    size_t used = 0, n = strlen(scratch_dir);
    for (const char *p = err->message; *p;) {
        if (n && strncmp(p, scratch_dir, n) == 0)
            p += p[n] == '/' ? n + 1 : n;
        else
            text[used++] = *p++;
    }
    text[used] = '\0';
    assert_string_equal(text, expected);
}

#endif
