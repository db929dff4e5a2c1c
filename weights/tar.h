/* tar: the members of an archive one after the other, for data sets in shards (webdataset, img2dataset).
 *
 *     Tar *t = tar_open("00000.tar", &err);
 *     TarMember m;
 *     while (tar_next(t, &m, &err) > 0)
 *         if (m.regular) tar_read(t, out, &err);       // out [m.size]; or not: then it is passed over
 *     tar_close(t);
 *
 * ustar, GNU (long names, numbers in base 256) and pax (path and size of the next member); what was
 * written before ustar is read, too. The file is read in order, some KB at a time, whatever its size.
 * Nothing is believed before it is plausible: every header has its checksum, every size fits into
 * what is left of the file, and the archive ends where it says that it does: a file that was cut off
 * is an error at any byte, but inside the zeros of its end. */
#ifndef LLMDIFF_TAR_H
#define LLMDIFF_TAR_H

#include "tensor/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct Tar Tar;

typedef struct TarMember {
    const char *name; /* valid until the next call; not empty, any bytes but NUL */
    bool regular;     /* a file; not a directory, a link, ... */
    uint64_t size;    /* of its contents */
    uint64_t at;      /* where its headers begin: for tar_seek */
} TarMember;

/* NULL with a message. An archive that is no tar at all is noticed by tar_next. */
Tar *tar_open(const char *path, Error *err);
void tar_close(Tar *t); /* NULL is fine */

/* The next member. 1; 0 at the archive's end; -1 with a message. */
int tar_next(Tar *t, TarMember *m, Error *err);
/* The contents of the member that tar_next gave last; out [size]. Once. 0 or -1. */
int tar_read(Tar *t, void *out, Error *err);
/* tar_next goes on with the member whose headers begin at `at`. -1 if that is past the file's end. */
int tar_seek(Tar *t, uint64_t at, Error *err);
uint64_t tar_tell(const Tar *t); /* where the next member's headers begin */
uint64_t tar_size(const Tar *t); /* of the file */

#endif
