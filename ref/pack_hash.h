/* What tells one pack from another: SHA-256 over every file that a run of it read.
 *
 *     "<sha256 of the file>  <part>/<file name>\n"      for each of these files of each part in use:
 *         llm, unet, vae, adapter, text_encoder   config.json, the tensors that were opened and, where
 *                                                 they are in shards, their .safetensors.index.json
 *         scheduler                               scheduler_config.json
 *         llm or, for CLIP, tokenizer             those of tokenizer_files that are there
 *
 * sorted by the bytes of <part>/<file name>: the text that `sha256sum` prints for them, inside the pack.
 * The pack's hash is the SHA-256 of that text. A part has its own name wherever its directory is, and a
 * symbolic link counts as the file it leads to. */
#ifndef LLMDIFF_PACK_HASH_H
#define LLMDIFF_PACK_HASH_H

#include "ref/pipeline.h"

extern const char *const tokenizer_files[]; /* NULL at the end */

typedef struct PackHash {
    char *files;     /* that text, malloc'ed */
    char sha256[65]; /* its hash, in hexadecimal */
} PackHash;

/* Reads every one of these files: seconds for some gigabytes. `cancelled` (or NULL) is asked every
 * mebibyte. 0, or -1 with a message and nothing in *out. */
int pack_hash(const Pack *pack, bool (*cancelled)(void *self), void *self, PackHash *out,
              Error *err);
void pack_hash_free(PackHash *hash);

#endif
