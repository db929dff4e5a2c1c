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
 *     outfile_write(&f, data, size);            // or anything that writes to f.stream
 *     return outfile_close(&f, err);            // or outfile_discard(&f)
 */
typedef struct OutFile {
    FILE *stream;
    char *path, *temporary;
    int why; /* errno of the first outfile_write that failed */
} OutFile;

int outfile_open(OutFile *f, const char *path, Error *err);
/* A failure is told by outfile_close. */
void outfile_write(OutFile *f, const void *data, size_t size);
/* Checks every earlier write, waits until the disk has it, renames. On failure: message, nothing left
 * behind. The new name itself survives a loss of power once the directory is synced. */
int outfile_close(OutFile *f, Error *err);
void outfile_discard(OutFile *f);

/* Waits until the disk has the directory's names. 0, or -1 with a message. */
int directory_sync(const char *path, Error *err);

#endif
