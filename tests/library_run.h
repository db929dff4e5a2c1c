/* What tests that use the library as a program does share. */
#ifndef LLMDIFF_LIBRARY_RUN_H
#define LLMDIFF_LIBRARY_RUN_H

#include "cli_run.h"

#include "ref/llmdiff.h"

static inline llmdiff_pack *opened_pack(const llmdiff_options *o) {
    llmdiff_pack *pack;
    llmdiff_error error;
    if (llmdiff_open(o, &pack, &error)) fail_msg("%s", error.message);
    return pack;
}

static inline llmdiff_result *draw(const llmdiff_pack *pack, const llmdiff_request *r) {
    llmdiff_result *result;
    llmdiff_error error;
    if (llmdiff_generate(pack, r, &result, &error)) fail_msg("%s", error.message);
    return result;
}

static inline size_t bytes_of(const llmdiff_tensor *t) {
    size_t n = t->dtype == LLMDIFF_F32 ? 4 : 8;
    for (int i = 0; i < t->ndim; i++) n *= (size_t)t->dim[i];
    return n;
}

#endif
