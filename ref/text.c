/* A text that grows in memory: see text.h. */
#include "ref/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void put(Text *out, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    size_t needed = out->length + (size_t)(length < 0 ? 0 : length) + 1;
    if (needed > out->room) {
        size_t room = needed > 2 * out->room ? needed : 2 * out->room;
        char *more = realloc(out->bytes, room);
        if (!more) {
            fail(out->err, "out of memory");
            return;
        }
        out->bytes = more;
        out->room = room;
    }
    va_start(args, fmt);
    vsnprintf(out->bytes + out->length, needed - out->length, fmt, args);
    va_end(args);
    out->length = needed - 1;
}

char *text_finish(Text *out) {
    char *bytes = out->bytes;
    if (out->err->set) {
        free(bytes);
        bytes = NULL;
    }
    *out = (Text){.err = out->err};
    return bytes;
}
