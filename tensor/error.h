/* One clear message for the person who has to act on it: what, where, expected, found.
 *
 *     if (!fp) return fail(err, "%s: can't be opened: %s", path, strerror(errno));
 *
 * The first message stays: a later fail() on the same Error changes nothing, so that the cause is
 * what is reported and not its consequences. */
#ifndef LLMDIFF_ERROR_H
#define LLMDIFF_ERROR_H

#include <stdbool.h>

typedef struct Error {
    bool set;
    char message[8192];
} Error;

/* Records the message unless one is there already. Always returns -1. `err` is never NULL. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
int fail(Error *err, const char *fmt, ...);

#endif
