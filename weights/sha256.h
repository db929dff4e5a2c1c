/* SHA-256 in the hexadecimal form that sha256sum prints. It is nettle's, which uses the CPU's own
 * instructions. */
#ifndef LLMDIFF_SHA256_H
#define LLMDIFF_SHA256_H

#include "tensor/error.h"

#include <nettle/sha2.h>
#include <stddef.h>

#define SHA256_HEX (2 * SHA256_DIGEST_SIZE + 1) /* with the NUL */

/* Of what `sha` was updated with; begins it anew. */
void sha256_finish(struct sha256_ctx *sha, char hex[SHA256_HEX]);
void sha256_bytes(const void *bytes, size_t size, char hex[SHA256_HEX]);
/* Of a file, of any size. `cancelled` (or NULL) is asked every mebibyte. 0, or -1 with a message. */
int sha256_file(const char *path, bool (*cancelled)(void *self), void *self, char hex[SHA256_HEX],
                Error *err);

#endif
