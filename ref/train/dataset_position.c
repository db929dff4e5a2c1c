/* The position of a data set as bytes, for a checkpoint: see dataset.h. Numbers of 64 bits, little-endian:
 *
 *     magic, fingerprint of the list of files, seed
 *     epoch, candidates drawn, samples among them, index of the next sample, where ranks begin to share
 *     broken samples: how many, their keys
 *     of shards: see shards_put
 *     hash of all of these */
#include "ref/train/dataset_private.h"

#include <stdlib.h>
#include <string.h>

#define POSITION_MAGIC 0x3130736f706c6c64u /* "dllpos01" */

void put_number(Numbers *n, uint64_t v) {
    if (n->room - n->size < 8 && !n->failed) {
        const size_t room = 2 * n->room + 256;
        unsigned char *more = realloc(n->bytes, room);
        n->failed = !more;
        if (more) n->bytes = more, n->room = room;
    }
    for (int i = 0; i < 8 && !n->failed; i++) n->bytes[n->size++] = (unsigned char)(v >> 8 * i);
}

uint64_t get_number(Numbers *n) {
    if (n->failed || n->size - n->at < 8) {
        n->failed = true;
        return 0;
    }
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v |= (uint64_t)n->bytes[n->at++] << 8 * i;
    return v;
}

int64_t get_below(Numbers *n, int64_t limit) {
    const uint64_t v = get_number(n);
    if (v < (uint64_t)limit) return (int64_t)v;
    n->failed = true;
    return 0;
}

/* A round of ranks that has begun counts as done: whoever restores begins with the next one. */
static int64_t next_round(const Dataset *d) {
    const int64_t n = d->options.ranks;
    return d->index <= d->base ? d->base : d->base + (d->index - d->base + n - 1) / n * n;
}

int dataset_save(const Dataset *d, void **bytes, size_t *size, Error *err) {
    Numbers n = {0};
    put_number(&n, POSITION_MAGIC);
    put_number(&n, d->fingerprint);
    put_number(&n, d->options.seed);
    put_number(&n, (uint64_t)d->epoch);
    put_number(&n, (uint64_t)d->drawn);
    put_number(&n, (uint64_t)d->good_in_epoch);
    put_number(&n, (uint64_t)d->index);
    put_number(&n, (uint64_t)next_round(d));
    put_number(&n, (uint64_t)d->bads);
    for (int64_t i = 0; i < d->bads; i++)
        for (int k = 0; k < 2; k++) put_number(&n, d->bad[i][k]);
    if (d->shards) shards_put(d, &n);
    put_number(&n, n.failed ? 0 : hash_bytes(HASH_START, n.bytes, n.size));
    if (n.failed) {
        free(n.bytes);
        return fail(err, "%s: out of memory for the position in the data set", d->dir);
    }
    *bytes = n.bytes;
    *size = n.size;
    return 0;
}

static int get_bad(Dataset *d, Numbers *n, Error *err) {
    const int64_t bads = get_below(n, (int64_t)(n->size / 16) + 1);
    int64_t room = 1; /* as note_bad would have grown it */
    while (room < bads) room *= 2;
    uint64_t(*bad)[2] = realloc(d->bad, (size_t)room * sizeof *bad);
    if (!bad) return fail(err, "%s: out of memory", d->dir);
    d->bad = bad;
    d->bads = bads;
    for (int64_t i = 0; i < bads; i++)
        for (int k = 0; k < 2; k++) bad[i][k] = get_number(n);
    return 0;
}

int dataset_restore(Dataset *d, const void *bytes, size_t size, Error *err) {
    Numbers n = {.bytes = (unsigned char *)(uintptr_t)bytes, .size = size, .at = size - 8};
    if (size < 80 || size % 8 || get_number(&n) != hash_bytes(HASH_START, bytes, size - 8))
        return fail(err, "the position in the data set is damaged");
    n.at = 0;
    n.size = size - 8;
    if (get_number(&n) != POSITION_MAGIC)
        return fail(err, "the position in the data set is of another version of this program");
    if (get_number(&n) != d->fingerprint)
        return fail(err,
                    "%s: not the data set that the position was saved with: its files have "
                    "changed",
                    d->dir);
    const uint64_t seed = get_number(&n);
    if (seed != d->options.seed)
        return fail(err, "%s: the position was saved with seed %llu: expected it, found %llu",
                    d->dir, (unsigned long long)seed, (unsigned long long)d->options.seed);
    d->epoch = get_below(&n, INT64_MAX);
    d->drawn = get_below(&n, d->folder ? folder_count(d->folder) + 1 : INT64_MAX);
    d->good_in_epoch = get_below(&n, d->drawn + 1);
    d->index = get_below(&n, INT64_MAX);
    d->base = get_below(&n, INT64_MAX);
    if (get_bad(d, &n, err)) return -1;
    if (d->shards && !n.failed && shards_get(d, &n, err)) return -1;
    if (n.failed || n.at != n.size) return fail(err, "the position in the data set is damaged");
    return 0;
}
