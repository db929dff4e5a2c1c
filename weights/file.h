/* Reading whole files and writing them so that they are whole or absent. */
#ifndef LLMDIFF_FILE_H
#define LLMDIFF_FILE_H

#include "tensor/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

bool file_exists(const char *path);
bool is_directory(const char *path);
/* A regular file, opened for reading, and its size. -1 with a message. */
int file_open(const char *path, size_t *size, Error *err);
/* The whole file, NUL-terminated (the NUL not counted in *size); malloc'ed. NULL with a message. */
char *file_read(const char *path, size_t *size, Error *err);

/* A file that appears under its name only when it is complete.
 *
 *     OutFile f;
 *     if (outfile_open(&f, path, err)) return -1;
 *     fwrite(..., f.stream);
 *     return outfile_close(&f, err);            // or outfile_discard(&f)
 */
typedef struct OutFile {
    FILE *stream;
    char *path, *temporary;
} OutFile;

int outfile_open(OutFile *f, const char *path, Error *err);
/* Flushes, checks every earlier write, renames. On failure: message, nothing left behind. */
int outfile_close(OutFile *f, Error *err);
void outfile_discard(OutFile *f);

#endif
