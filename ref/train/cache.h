/* Frozen work that is not repeated: what the VAE's encoder says of a picture, what the LLM says of a
 * caption. One file per entry,
 *
 *     DIR/<first two digits>/<key>.safetensors,   key = SHA-256 of all that its numbers depend on
 *
 * so that several runs, and the ranks of one, may share a directory. A file appears when it is complete,
 * has a checksum of its numbers, and is computed anew where that doesn't fit: with a cache a run gives the
 * same bytes as without.
 *
 *     cache_key(c, CACHE_VAE, "512 512 0 0 0", rgb, size, key);
 *     if (!cache_get(ctx, c, key, 2, names, tensors)) { ...compute...; cache_put(c, key, 2, names, tensors); } */
#ifndef LLMDIFF_CACHE_H
#define LLMDIFF_CACHE_H

#include "tensor/tensor.h"

typedef struct Cache Cache;

/* Whose numbers they are. */
typedef enum CachePart { CACHE_VAE, CACHE_LLM, CACHE_PARTS } CachePart;

typedef struct CacheOptions {
    const char *dir;   /* created */
    double limit;      /* bytes on the disk, all runs together: then nothing more is written */
    const char *files; /* PackHash.files: which VAE, which LLM */
    void (*note)(void *self, const char *line); /* told once, when nothing more can be written */
    void *note_self;
} CacheOptions;

enum { CACHE_KEY = 65 }; /* SHA256_HEX */

/* NULL with a message: a directory that can't be made or read. */
Cache *cache_open(const CacheOptions *options, Error *err);
void cache_close(Cache *c); /* NULL is fine */

/* The key of what `part` makes of these bytes in the way that `how` says. */
void cache_key(const Cache *c, CachePart part, const char *how, const void *bytes, size_t size,
               char key[CACHE_KEY]);
/* Fills n tensors (at most 4), which have their shapes. False: there is no entry, or no good one; what the
 * tensors hold is then undefined. */
bool cache_get(const Cache *c, const char *key, int n, const char *const *name, const Tensor *into);
/* Keeps them; where that fails, it isn't the run's matter. */
void cache_put(Cache *c, const char *key, int n, const char *const *name, const Tensor *from);

#endif
