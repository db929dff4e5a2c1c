/* The sticky error message: see error.h. */
#include "tensor/error.h"

#include <stdarg.h>
#include <stdio.h>

int fail(Error *err, const char *fmt, ...) {
    if (err->set) return -1;
    err->set = true;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, args);
    va_end(args);
    return -1;
}
