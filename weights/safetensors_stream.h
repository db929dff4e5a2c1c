/* A safetensors file whose tensors are not known beforehand: each goes to the disk as it comes, and
 * only its line of the header is kept.
 *
 *     SafetensorsStream *s = safetensors_stream_open("trace.safetensors", &err);
 *     while (...) safetensors_stream_add(s, &tensor, &err);
 *     safetensors_stream_close(s, metadata, &err);              // or safetensors_stream_discard(s)
 *
 * The data are in the order of the calls, without gaps, as the format demands: a tensor may begin at
 * any byte. The file appears under its name when it is complete. */
#ifndef LLMDIFF_SAFETENSORS_STREAM_H
#define LLMDIFF_SAFETENSORS_STREAM_H

#include "weights/safetensors.h"

typedef struct SafetensorsStream SafetensorsStream;

SafetensorsStream *safetensors_stream_open(const char *path, Error *err); /* NULL with a message */
/* 0, or -1 with a message: then no more can be added. */
int safetensors_stream_add(SafetensorsStream *s, const StoredTensor *tensor, Error *err);
size_t safetensors_stream_count(const SafetensorsStream *s);
/* Ends it in any case. metadata: key, value, ..., NULL; or NULL. 0, or -1 with a message and no file,
 * as when a name was added twice. */
int safetensors_stream_close(SafetensorsStream *s, const char *const *metadata, Error *err);
void safetensors_stream_discard(SafetensorsStream *s); /* leaves nothing; NULL is fine */

#endif
