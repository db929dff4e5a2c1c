/* Pictures with captions to train on, streamed from a directory in shuffled order, epoch after epoch.
 *
 *     Dataset *d = dataset_open(&(DatasetOptions){.dir = "flowers", .seed = 42}, &err);
 *     while ((status = dataset_next(d, &sample, &err)) > 0) {          // 0: the epoch's end
 *         ...
 *         sample_free(&sample);
 *     }
 *     dataset_close(d);
 *
 * Three layouts, in DIR or, where DIR itself has none of them, in DIR/train:
 *
 *     metadata.jsonl       Hugging Face's imagefolder: in each line {"file_name": "a.jpg", "text": "..."}
 *     *.tar                shards of img2dataset and webdataset: 00012.jpg (.jpeg, .png) and 00012.txt
 *                          or 00012.json, one behind the other
 *     a.jpg and a.txt      pictures with captions beside them, also in folders below
 *
 * In JSON the caption is "text", else "caption"; of a list of captions one is drawn each time. A .txt loses
 * the white space at its end; where there are .txt and .json, the .txt counts. An empty caption is one.
 * Links to files are followed, links to folders below DIR are not.
 *
 * Memory doesn't grow with the set, but for its list: 8 bytes a line of metadata.jsonl, a path and 16
 * bytes a picture with .txt, nothing for what is in shards.
 *
 * The order depends on the seed and the epoch alone. A folder is permuted as a whole; shards are taken
 * in another order each epoch, and pass through a buffer from which the next sample is drawn.
 *
 * Broken samples (undecodable, no caption, a missing file, a path that leaves the folder) are passed over,
 * told to the log, and counted, each once however many epochs there are; the damaged rest of a shard
 * counts as one.
 *
 * Of n ranks, rank r gets the good samples r, r + n, r + 2n, ... of one global order that runs on over
 * the epochs' ends: together they see what one alone would see. To know which samples are good, every
 * rank decodes all of them (some milliseconds each; a training step takes seconds): so all are in the
 * same place without a word between them, and give up at the same one. */
#ifndef LLMDIFF_DATASET_H
#define LLMDIFF_DATASET_H

#include "tensor/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Dataset Dataset;
struct Sample;

typedef struct DatasetOptions {
    const char *dir;
    uint64_t seed;
    int64_t buffer;          /* of shards: how many samples wait to be drawn; 0: 1000 */
    int64_t buffer_bytes;    /* and how many bytes these may have, as they are stored; 0: 256 MB */
    int64_t rank, ranks;     /* ranks 0: 1 */
    int64_t max_bad_samples; /* more of them are an error */
    void (*log)(void *self, const char *line); /* NULL: nothing is told */
    void *log_self;
    /* NULL, or whether a sample can be trained on: -1 with a message makes it a broken one. */
    int (*accept)(void *self, const struct Sample *sample, Error *why);
    void *accept_self;
} DatasetOptions;

typedef struct Sample {
    char *id;      /* "00003.tar:000012" or the file's path below the directory; UTF-8 */
    char *caption; /* UTF-8 */
    uint8_t *rgb;  /* [height, width, 3] */
    int64_t width, height;
    int64_t
        index; /* in the global order, from 0 on, over all epochs and ranks: what draws are keyed by */
} Sample;

/* NULL with a message: no such directory, no set in it, no captions. */
Dataset *dataset_open(const DatasetOptions *options, Error *err);
void dataset_close(Dataset *d); /* NULL is fine */

/* 1: a sample, for sample_free. 0: the end of the epoch; the next call begins another one. -1: a message;
 * then there is nothing more to be had from it. */
int dataset_next(Dataset *d, Sample *sample, Error *err);
void sample_free(Sample *sample);

int64_t dataset_epoch(const Dataset *d); /* from 0 on */
int64_t dataset_bad(const Dataset *d);   /* broken samples so far */
/* Samples in an epoch, broken ones too; -1: not known before the shards were read. */
int64_t dataset_count(const Dataset *d);

/* Where it is, as bytes for a checkpoint (malloc'ed). Restored into a set opened with the same seed and
 * buffer, it goes on with the sample that would have come next. Any rank may restore what any other has
 * saved, also among another number of ranks: all go on where the last round of ranks ended. 0 or -1. */
int dataset_save(const Dataset *d, void **bytes, size_t *size, Error *err);
/* -1 with a message if the bytes are damaged, or of another set, seed or buffer; then `d` is to be closed. */
int dataset_restore(Dataset *d, const void *bytes, size_t size, Error *err);

#endif
