/* A trace: every named activation of one run in a safetensors file, in the order of execution.
 *
 *     Trace *trace = trace_open("run.safetensors", "^unet/0/", &err);      // NULL: every name
 *     trace_add(trace, &tensor, &err);                                     // for each, as it comes
 *     trace_close(trace, metadata, &err);                                  // or trace_discard
 *
 * Nothing of a tensor stays in memory but its line in the header. */
#ifndef LLMDIFF_TRACE_H
#define LLMDIFF_TRACE_H

#include "weights/safetensors.h"

typedef struct Trace Trace;

/* Is `only` (or NULL) a POSIX extended regular expression? 0, or -1 with a message. */
int trace_check_only(const char *only, Error *err);
/* `only`: names in which it matches anywhere; NULL: all. NULL with a message. */
Trace *trace_open(const char *path, const char *only, Error *err);
/* 0, or -1 with a message. Nothing if the name is not among those asked for. */
int trace_add(Trace *trace, const StoredTensor *tensor, Error *err);
/* Ends it in any case. metadata: key, value, ..., NULL. 0, or -1 with a message and no file, as when no
 * name was among those asked for. */
int trace_close(Trace *trace, const char *const *metadata, Error *err);
void trace_discard(Trace *trace); /* leaves nothing; NULL is fine */

#endif
