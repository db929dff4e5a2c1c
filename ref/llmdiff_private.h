/* What the files ref/llmdiff*.c share: the structs behind the handles of llmdiff.h. Nothing outside
 * them includes this.
 *
 *     llmdiff.c         opening a pack, tokens, a fresh adapter
 *     llmdiff_run.c     a request: checked, run, watched
 *     llmdiff_result.c  what came out      llmdiff_record.c  the text that says how
 *     llmdiff_train.c   a training run
 *     llmdiff_files.c   latents from files, tensors and pictures to files
 *     llmdiff_info.c    what a directory or file holds, with llmdiff_info_model.c
 *
 * Inside, a function fails with an Error; at the border that becomes a status and the caller's
 * llmdiff_error. */
#ifndef LLMDIFF_PRIVATE_H
#define LLMDIFF_PRIVATE_H

#include "ref/image.h"
#include "ref/llmdiff.h"
#include "ref/pack_hash.h"
#include "ref/pipeline.h"
#include "ref/text.h"

#include <stdio.h>

/* ---- handles ------------------------------------------------------------------------------------- */

/* The word that a live handle carries; it is wiped before the memory is given back. */
#define PACK_MAGIC UINT64_C(0x6c6c6d6470616b31)
#define RESULT_MAGIC UINT64_C(0x6c6c6d6472657331)
#define NOTES_MAX 4

struct llmdiff_pack {
    /* as they were asked for, or NULL */
    char *model, *llm, *unet, *vae, *adapter, *text_encoder, *tokenizer;
    uint64_t magic; /* not first: free() writes there */
    llmdiff_use use;
    Pack pack;
    char *settings; /* JSON */
    char **set;     /* [sets], as it was asked for */
    size_t sets;
    char *note[NOTES_MAX];
    size_t notes;
};

/* Everything that determines a result: key, value, key, value, ..., NULL. */
#define RECORD_MAX 40
typedef struct Record {
    char *text[2 * RECORD_MAX + 1];
    size_t entries;
} Record;

typedef struct Kept {
    llmdiff_tensor seen;
    char *name;
    void *data;
} Kept;

struct llmdiff_result {
    Picture picture; /* zero: an encoding */
    uint64_t magic;
    char latents_name[40];
    llmdiff_tensor latents;
    Kept *tensor; /* [tensors], room for [room] */
    size_t tensors, room;
    Record record;
    size_t peak_bytes;
};

/* ---- the border (llmdiff.c) ---------------------------------------------------------------------- */

/* Tells `error`, which may be NULL, and returns the status. */
llmdiff_status finished(llmdiff_error *error, const Error *err); /* FAILED if err->set, else OK */
llmdiff_status misuse(llmdiff_error *error, const Error *err);
llmdiff_status cancelled(llmdiff_error *error, const Error *err);

/* Each false with a message. */
bool given(const void *pointer, const char *what, Error *err);
bool pack_alive(const llmdiff_pack *pack, Error *err);
bool result_alive(const llmdiff_result *result, Error *err);
/* Copies a caller's struct, whose first member is its size, over `into` [known bytes], which holds the
 * defaults. `least`: the size it had in the first version. */
bool take_struct(void *into, size_t known, size_t least, const void *from, const char *type,
                 Error *err);

/* The defaults, with `sets` assignments over them. False with a message. */
bool take_settings(Settings *settings, const char *const *set, size_t sets, Error *err);
/* As JSON, to end with cJSON_free; NULL with a message. */
char *settings_text(const Settings *settings, Error *err);
/* Is it alive, and opened for that? False with a message. */
bool opened_for(const llmdiff_pack *pack, llmdiff_use use, Error *err);

/* ---- llmdiff_record.c ---------------------------------------------------------------------------- */

/* `r` NULL: of an encoding. 0 or -1. */
int record_fill(Record *record, const llmdiff_pack *pack, const llmdiff_request *asked,
                const Request *r, Error *err);
/* The same for a trace of it. */
int record_fill_trace(Record *record, const llmdiff_pack *pack, const llmdiff_request *asked,
                      const Request *r, const PackHash *hash, Error *err);
void record_free(Record *record);

/* ---- llmdiff_files.c ----------------------------------------------------------------------------- */

typedef enum FileKind { FILE_SAFETENSORS, FILE_NPY, FILE_PNG } FileKind;
/* By the file's first bytes; -1 with a message if it can't be read. */
int file_kind(const char *path, Error *err);
/* init_latents or init_latents_file, malloc'ed. NULL with a message. */
real *latents_take(const llmdiff_request *asked, const int64_t dim[3], Error *err);
/* As a file holds it; shares name and data. */
StoredTensor stored_tensor(const llmdiff_tensor *t);
/* Does the name end so, in upper or lower case? */
bool has_ending(const char *path, const char *extension);

/* ---- llmdiff_result.c ---------------------------------------------------------------------------- */

/* A copy of the tensor, kept under its name. 0, or -1 when out of memory. */
int result_keep(llmdiff_result *result, const llmdiff_tensor *tensor);

/* ---- llmdiff_info.c ------------------------------------------------------------------------------ */

void info_tensor(Text *out, const StoredTensor *t);
/* A value from a file on one line: as JSON if it has control characters. */
void info_text(Text *out, const char *key, const char *value);

/* ---- llmdiff_info_model.c ------------------------------------------------------------------------ */

/* "dir/name", malloc'ed; NULL with a message. */
char *joined(const char *dir, const char *name, Error *err);
int info_directory(Text *out, const char *path, bool tensors, Error *err);

#endif
