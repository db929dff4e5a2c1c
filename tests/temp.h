/* A temporary directory for tests that need files of their own making. */
#ifndef LLMDIFF_TESTS_TEMP_H
#define LLMDIFF_TESTS_TEMP_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Temp {
    char dir[64];
    char file[16][96]; /* written so far */
    int files;
} Temp;

static inline Temp temp_new(void) {
    Temp t = {.dir = "/tmp/llmdiff-test-XXXXXX"};
    assert_non_null(mkdtemp(t.dir));
    return t;
}

static inline void temp_write(Temp *t, const char *name, const char *data, size_t size) {
    char path[96];
    snprintf(path, sizeof path, "%.40s/%.50s", t->dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    for (int i = 0; i < t->files; i++)
        if (strcmp(t->file[i], path) == 0) return;
    assert_true(t->files < 16);
    strcpy(t->file[t->files++], path);
}

static inline void temp_free(Temp *t) {
    for (int i = 0; i < t->files; i++) unlink(t->file[i]);
    assert_int_equal(rmdir(t->dir), 0);
}

#endif
