/* What model_dir.c and config.c share, and nobody else sees. */
#ifndef LLMDIFF_MODEL_DIR_PRIVATE_H
#define LLMDIFF_MODEL_DIR_PRIVATE_H

#include "weights/model_dir.h"

/* One kind of complaint: how many, and as many of them in words as fit. */
typedef struct Complaints {
    size_t count, told;
    size_t used;
    char text[1600]; /* four of these and a path fit into an Error */
} Complaints;

struct ModelDir {
    char *path, *config_path;
    char *index_path; /* NULL: not in shards */
    Error *err;

    cJSON *config;
    bool *asked; /* per key of config: somebody wanted it */

    Safetensors **shard;
    size_t shards;
    const StoredTensor **tensor; /* of all shards, sorted by name */
    Weight *weight;              /* beside tensor; name is NULL until it is taken */
    bool *ignored;               /* beside tensor */
    size_t tensors;

    Complaints missing, misshapen, mistyped;
};

/* Adds one, in printf form; what doesn't fit is only counted. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void complain(Complaints *c, const char *fmt, ...);
/* Room for what complaints_text writes. */
#define COMPLAINTS_TEXT (sizeof(((Complaints *)0)->text) + 64)
/* "a, b ... and 3 more" */
void complaints_text(const Complaints *c, char *out);

#endif
