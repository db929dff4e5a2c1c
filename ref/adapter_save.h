/* An adapter's two files: adapter.safetensors and the config.json that says what it is for and what the
 * settings are. Everything that writes an adapter does it here. */
#ifndef LLMDIFF_ADAPTER_SAVE_H
#define LLMDIFF_ADAPTER_SAVE_H

#include "ref/settings.h"
#include "weights/safetensors.h"

typedef struct AdapterFiles {
    const StoredTensor *tensor; /* in the order in which they are written */
    size_t count;
    const Settings *settings;
    int64_t D, T, E; /* of the LLM and the U-Net: see Adapter */
    int64_t step;    /* how long it was trained */
} AdapterFiles;

/* Into a directory that is there and has neither; each appears when it is complete. 0, or -1 with a
 * message and neither of them. */
int adapter_save(const char *dir, const AdapterFiles *files, Error *err);

#endif
