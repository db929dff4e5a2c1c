/* zip: the members of an archive, for what numpy (npz) and PyTorch (.pt) write.
 *
 *     Zip *z = zip_open("port.npz", &err);
 *     const ZipMember *m = zip_at(z, 0);
 *     zip_read(z, m, out, &err);                  // out [m->size]
 *     zip_close(z);
 *
 * Stored and deflated members, zip64. The file is mapped; the directory is checked against its size
 * before anything is believed: every member lies inside the file, none overlaps another, no name is
 * there twice, and no size is claimed that its bytes can't hold. */
#ifndef LLMDIFF_ZIP_H
#define LLMDIFF_ZIP_H

#include "tensor/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Zip Zip;

typedef struct ZipMember {
    const char *name; /* UTF-8 */
    size_t size;      /* of its contents */
    size_t packed;    /* of its bytes in the file */
    bool deflated;    /* or stored: then size = packed */
    uint32_t crc;
    const unsigned char *data; /* [packed], in the mapping; stored: the contents, CRC unchecked */
} ZipMember;

/* NULL with a message if the file is missing, truncated or malformed. */
Zip *zip_open(const char *path, Error *err);
void zip_close(Zip *z); /* NULL is fine */
const char *zip_path(const Zip *z);
size_t zip_count(const Zip *z);
/* In the order of their data in the file. */
const ZipMember *zip_at(const Zip *z, size_t i);
const ZipMember *zip_find(const Zip *z, const char *name); /* NULL: none */

/* The contents, their CRC checked. out [size]. 0 or -1. */
int zip_read(const Zip *z, const ZipMember *m, void *out, Error *err);
/* The first n (at most `size`) bytes, unchecked. 0 or -1. */
int zip_read_start(const Zip *z, const ZipMember *m, void *out, size_t n, Error *err);
/* Whether a stored member's bytes have their CRC: then data may be used as it lies. 0 or -1. */
int zip_check(const Zip *z, const ZipMember *m, Error *err);

#endif
