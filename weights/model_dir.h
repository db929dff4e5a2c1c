/* One part of a pack: a Hugging Face model directory, config.json beside (sharded) tensors.
 *
 *     ModelDir *m = model_open("pack/unet", &err);
 *     int64_t heads = config_int(m, "num_attention_heads", 8, 1, 1024);
 *     const Weight *w = model_take(m, SHAPE(320, 4, 3, 3), "conv_in.weight");
 *     model_ignore(m, "lm_head.");
 *     if (model_finish(m)) puts(err.message);       // every missing, misshapen, unused name at once
 *
 * Reading never fails half-way: a wrong key or a missing tensor is noted, a usable value comes back
 * (the default; a NULL Weight), and model_finish tells everything that was wrong. A loader that
 * sizes something by a config value checks model_failed() first. */
#ifndef LLMDIFF_MODEL_DIR_H
#define LLMDIFF_MODEL_DIR_H

#include "tensor/tensor.h"
#include "weights/safetensors.h"

#include <cjson/cJSON.h>

typedef struct ModelDir ModelDir;

/* Opens dir/config.json and whichever of model, diffusion_pytorch_model, adapter is there as
 * `<stem>.safetensors.index.json` (shards) or `<stem>.safetensors`; both at once are refused, since
 * upstream's libraries disagree on which counts. `err` is kept until model_finish and must outlive
 * it. NULL with a message when a file is absent or malformed. */
ModelDir *model_open(const char *dir, Error *err);
/* The same without opening any tensors: model_take is not allowed. */
ModelDir *model_open_config(const char *dir, const char *config_file, Error *err);
void model_close(ModelDir *m); /* NULL is fine; Weights taken from it end here */
bool model_failed(const ModelDir *m);
const char *model_path(const ModelDir *m);

/* ---- config.json ----------------------------------------------------------------------------- */

const cJSON *model_config(const ModelDir *m);
/* A key's value; `absent` when the key is missing or null. A value of another type or outside
 * [min, max] is an error naming file, key, expected and found. */
int64_t config_int(ModelDir *m, const char *key, int64_t absent, int64_t min, int64_t max);
double config_double(ModelDir *m, const char *key, double absent);
bool config_bool(ModelDir *m, const char *key, bool absent);
const char *config_string(ModelDir *m, const char *key, const char *absent);
/* A list of 1 to max_n ints or, where absent_n > 0, one int that stands for absent_n equal ones.
 * Returns how many were stored; `absent_n` values of `absent` if the key is missing. */
int config_ints(ModelDir *m, const char *key, int64_t *out, int max_n, int64_t absent,
                int absent_n);
/* An error unless the key is absent, null, or equal to the (only) value that is supported. */
void config_only_int(ModelDir *m, const char *key, int64_t supported);
void config_only_double(ModelDir *m, const char *key, double supported);
void config_only_bool(ModelDir *m, const char *key, bool supported);
void config_only_string(ModelDir *m, const char *key, const char *supported);
void config_only_null(ModelDir *m, const char *key);
/* Every key that nothing above asked for, that does not begin with '_' and is not in the
 * NULL-ended list, is an error unless its value is null or false: what we don't know we can't
 * claim to follow. */
void config_refuse_unknown(ModelDir *m, const char *const *harmless);
/* Notes an error about the config: "<dir>/config.json: <message>". */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void config_fail(ModelDir *m, const char *fmt, ...);

/* ---- tensors --------------------------------------------------------------------------------- */

typedef struct Shape {
    int ndim;
    int64_t dim[MAX_DIMS];
} Shape;
#define SHAPE(...)                                                                                 \
    ((Shape){(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}})

/* The tensor of that name (printf form), which must have that shape and a float type. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
const Weight *
model_take(ModelDir *m, Shape shape, const char *name, ...);
/* The same, but NULL without complaint when there is none. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
const Weight *
model_take_optional(ModelDir *m, Shape shape, const char *name, ...);
bool model_has(const ModelDir *m, const char *name);
/* Is there a tensor whose name begins so? */
bool model_has_any(const ModelDir *m, const char *prefix);
/* Tensors whose name begins so are known and not needed. */
void model_ignore(ModelDir *m, const char *prefix);
/* 0, or -1 with one message that lists everything missing, misshapen and unused. */
int model_finish(ModelDir *m);

/* For `info`: all tensors of all shards. */
size_t model_tensor_count(const ModelDir *m);
const StoredTensor *model_tensor_at(const ModelDir *m, size_t i);

/* The path of file i = 0, 1, ... of those that were read: the config, the index, the tensors. NULL: no
 * more. */
const char *model_file_at(const ModelDir *m, size_t i);

#endif
