/* Hashing files: see sha256.h. */
#include "weights/sha256.h"

#include "weights/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE ((size_t)1 << 20) /* read at a time */

void sha256_finish(struct sha256_ctx *sha, char hex[SHA256_HEX]) {
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(sha, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void sha256_bytes(const void *bytes, size_t size, char hex[SHA256_HEX]) {
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, size, bytes);
    sha256_finish(&sha, hex);
}

int sha256_file(const char *path, bool (*cancelled)(void *self), void *self, char hex[SHA256_HEX],
                Error *err) {
    struct sha256_ctx sha;
    size_t size;
    const int fd = file_open(path, &size, err);
    if (fd < 0) return -1;
    uint8_t *buffer = malloc(PIECE);
    if (!buffer) fail(err, "%s: out of memory", path);
    sha256_init(&sha);
    for (ssize_t n = 1; n != 0 && !err->set;) {
        n = read(fd, buffer, PIECE);
        if (n > 0)
            sha256_update(&sha, (size_t)n, buffer);
        else if (n < 0 && errno != EINTR)
            fail(err, "%s: can't be read: %s", path, strerror(errno));
        if (cancelled && cancelled(self)) fail(err, "cancelled at %s", path);
    }
    sha256_finish(&sha, hex);
    free(buffer);
    close(fd);
    return err->set ? -1 : 0;
}
