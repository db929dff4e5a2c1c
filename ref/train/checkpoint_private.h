/* What checkpoint.c (writing), checkpoint_read.c and checkpoint_dir.c (which there are) share. */
#ifndef LLMDIFF_CHECKPOINT_PRIVATE_H
#define LLMDIFF_CHECKPOINT_PRIVATE_H

#include "ref/train/checkpoint.h"

#define CHECKPOINT_FORMAT "llmdiff-checkpoint"
#define CHECKPOINT_SUMS "SHA256SUMS"
#define REAL_DTYPE (sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32)

/* Whose checksums SHA256SUMS has, in this order; then NULL. */
extern const char *const checkpoint_files[];

/* "<dir>/<name>", malloc'ed; NULL with a message. */
char *path_in(const char *dir, const char *name, Error *err);
/* "<out>/checkpoint-<step>" and "<out>/.checkpoint-<step>.partial" */
char *checkpoint_path(const char *out, int64_t step, Error *err);
char *checkpoint_partial(const char *out, int64_t step, Error *err);
/* The step if the path's last part is checkpoint-<step>, else -1. */
int64_t checkpoint_number(const char *path);
/* The next older checkpoint in the same directory, malloc'ed; NULL: none. */
char *checkpoint_before(const char *path);
/* The directory and the files in it; a directory in it stays, and is an error. 0 or -1. */
int remove_directory_of_files(const char *dir, Error *err);

#endif
