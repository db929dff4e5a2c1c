/* A text that grows in memory.
 *
 *     Text out = {.err = err};
 *     put(&out, "%d tensors\n", n);      // as often as needed: a failure is in err
 *     return out.bytes;                  // malloc'ed; NULL if nothing was put
 *
 * Not a stream in memory (open_memstream): such a one loses what it finds no memory for and doesn't
 * say so. */
#ifndef LLMDIFF_TEXT_H
#define LLMDIFF_TEXT_H

#include "tensor/error.h"

#include <stddef.h>

typedef struct Text {
    char *bytes; /* malloc'ed, NUL-terminated; NULL at first */
    size_t length, room;
    Error *err;
} Text;

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void put(Text *out, const char *fmt, ...);

/* The text, or NULL if anything failed: then its memory is gone. */
char *text_finish(Text *out);

#endif
