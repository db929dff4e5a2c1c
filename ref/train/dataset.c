/* Samples of candidates, whose turn it is, and what is broken: see dataset.h. */
#include "ref/train/dataset_private.h"

#include "ref/image.h"
#include "weights/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_BUFFER 1000
#define DEFAULT_BUFFER_BYTES ((int64_t)256 << 20)

uint64_t hash_bytes(uint64_t h, const void *bytes, size_t size) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < size; i++) h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

void candidate_free(Candidate *c) {
    free(c->id);
    free(c->caption);
    free(c->picture);
    *c = (Candidate){0};
}

void sample_free(Sample *s) {
    free(s->id);
    free(s->caption);
    free(s->rgb);
    *s = (Sample){0};
}

/* ---- which layout ----------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void listing_free(Listing *l) {
    for (int64_t i = 0; i < l->shards; i++) free(l->shard[i]);
    free(l->shard);
    *l = (Listing){0};
}

static bool add_shard(Listing *l, const char *name) {
    char **more = l->shards & (l->shards - 1) /* grown by doubling */
                      ? l->shard
                      : realloc(l->shard, (size_t)(l->shards ? 2 * l->shards : 1) * sizeof *more);
    if (!more) return false;
    l->shard = more;
    more[l->shards] = strdup(name);
    if (!more[l->shards]) return false;
    l->shards++;
    return true;
}

static int list(const char *path, Listing *l, Error *err) {
    *l = (Listing){0};
    DIR *dir = opendir(path);
    if (!dir) return fail(err, "%s: can't be opened: %s", path, strerror(errno));
    bool good = true;
    for (struct dirent *e; good && (e = readdir(dir));) {
        const char *name = e->d_name;
        if (name[0] == '.') continue;
        l->metadata |= strcmp(name, "metadata.jsonl") == 0;
        l->other_metadata[0] |= strcmp(name, "metadata.csv") == 0;
        l->other_metadata[1] |= strcmp(name, "metadata.parquet") == 0;
        l->pictures |= is_picture_name(name);
        if (has_suffix(name, ".tar")) good = add_shard(l, name);
    }
    closedir(dir);
    if (good && l->shards) qsort(l->shard, (size_t)l->shards, sizeof *l->shard, by_name);
    if (good) return 0;
    listing_free(l);
    return fail(err, "%s: out of memory", path);
}

static bool has_layout(const Listing *l) {
    return l->metadata || l->other_metadata[0] || l->other_metadata[1] || l->shards || l->pictures;
}

/* The directory itself, or train/ in it. */
static int choose_root(Dataset *d, Listing *l, Error *err) {
    d->root = strdup(d->dir);
    if (!d->root) return fail(err, "%s: out of memory", d->dir);
    if (list(d->root, l, err)) return -1;
    if (has_layout(l)) return 0;
    char *below = malloc(strlen(d->dir) + sizeof "/train");
    if (!below) return fail(err, "%s: out of memory", d->dir);
    sprintf(below, "%s/train", d->dir);
    if (!is_directory(below)) {
        free(below);
        return 0;
    }
    free(d->root);
    d->root = below;
    return list(d->root, l, err);
}

static int open_source(Dataset *d, Listing *l, Error *err) {
    static const char *const other[] = {"metadata.csv", "metadata.parquet"};
    if (l->metadata && l->shards)
        return fail(err, "%s: it holds both metadata.jsonl and .tar shards: expected one of them",
                    d->root);
    for (int i = 0; !l->metadata && i < 2; i++)
        if (l->other_metadata[i])
            return fail(err,
                        "%s/%s: not read: expected metadata.jsonl, with {\"file_name\": ..., "
                        "\"text\": ...} in each line",
                        d->root, other[i]);
    if (l->shards)
        d->shards = shards_open(d, l, err);
    else
        d->folder = folder_open(d, !l->metadata, err);
    return err->set ? -1 : 0;
}

static int check_options(const DatasetOptions *o, Error *err) {
    if (o->ranks < 1 || o->rank < 0 || o->rank >= o->ranks)
        return fail(err, "data set: rank %lld of %lld", (long long)o->rank, (long long)o->ranks);
    if (o->buffer < 1 || o->buffer_bytes < 1 || o->max_bad_samples < 0)
        return fail(err, "data set: a buffer of %lld samples, %lld bytes; %lld broken samples",
                    (long long)o->buffer, (long long)o->buffer_bytes,
                    (long long)o->max_bad_samples);
    return 0;
}

Dataset *dataset_open(const DatasetOptions *options, Error *err) {
    Dataset *d = calloc(1, sizeof *d);
    if (!d || !(d->dir = strdup(options->dir))) {
        free(d);
        fail(err, "%s: out of memory", options->dir);
        return NULL;
    }
    d->options = *options;
    d->options.dir = d->dir;
    if (!options->ranks) d->options.ranks = 1;
    if (!options->buffer) d->options.buffer = DEFAULT_BUFFER;
    if (!options->buffer_bytes) d->options.buffer_bytes = DEFAULT_BUFFER_BYTES;
    Listing l = {0};
    int status = check_options(&d->options, err);
    if (status == 0) status = choose_root(d, &l, err);
    if (status == 0) status = open_source(d, &l, err);
    listing_free(&l);
    if (status == 0) return d;
    dataset_close(d);
    return NULL;
}

void dataset_close(Dataset *d) {
    if (!d) return;
    folder_close(d->folder);
    shards_close(d->shards);
    free(d->bad);
    free(d->root);
    free(d->dir);
    free(d);
}

int64_t dataset_epoch(const Dataset *d) { return d->epoch; }
int64_t dataset_bad(const Dataset *d) { return d->bads; }
int64_t dataset_count(const Dataset *d) { return d->folder ? folder_count(d->folder) : -1; }

/* ---- what is broken --------------------------------------------------------------------------------------- */

/* Where the key is, or belongs, among the sorted ones. */
static int64_t find_bad(const Dataset *d, const uint64_t key[2]) {
    int64_t low = 0, high = d->bads;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        const uint64_t *k = d->bad[middle];
        if (k[0] < key[0] || (k[0] == key[0] && k[1] < key[1]))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int note_bad(Dataset *d, const uint64_t key[2], const Error *why, Error *err) {
    snprintf(d->last_bad, sizeof d->last_bad, "%.1000s", why->message);
    const int64_t at = find_bad(d, key);
    if (at < d->bads && memcmp(d->bad[at], key, sizeof d->bad[at]) == 0) return 0;
    if ((d->bads & (d->bads - 1)) == 0) {
        const size_t room = d->bads ? 2 * (size_t)d->bads : 1;
        uint64_t(*more)[2] = realloc(d->bad, room * sizeof *more);
        if (!more) return fail(err, "%s: out of memory", d->dir);
        d->bad = more;
    }
    memmove(d->bad + at + 1, d->bad + at, (size_t)(d->bads - at) * sizeof *d->bad);
    memcpy(d->bad[at], key, sizeof d->bad[at]);
    d->bads++;
    if (d->options.log) {
        char line[sizeof d->last_bad + 64];
        snprintf(line, sizeof line, "broken sample %lld, skipped: %s", (long long)d->bads,
                 d->last_bad);
        d->options.log(d->options.log_self, line);
    }
    if (d->bads <= d->options.max_bad_samples) return 0;
    return fail(err,
                "%s: %lld broken samples, of which %lld are allowed (--max-bad-samples); the last: "
                "%s",
                d->dir, (long long)d->bads, (long long)d->options.max_bad_samples, d->last_bad);
}

/* ---- samples ---------------------------------------------------------------------------------------------- */

static Outcome next_candidate(Dataset *d, Candidate *c, Error *why, Error *err) {
    *c = (Candidate){0};
    Outcome outcome = d->folder ? folder_next(d, c, why, err) : shards_next(d, c, why, err);
    if (outcome == GOOD || outcome == BROKEN) d->drawn++;
    return outcome;
}

static Outcome decode(const Candidate *c, Sample *s, Error *why, Error *err) {
    Image image;
    switch (image_decode(c->picture, c->size, c->id, &image, why)) {
    case IMAGE_OK: break;
    case IMAGE_BROKEN: return BROKEN;
    default: fail(err, "%s", why->message); return FAILED;
    }
    s->rgb = image.rgb;
    s->width = image.width;
    s->height = image.height;
    return GOOD;
}

/* Does who trains want it? */
static Outcome accepted(const Dataset *d, const Sample *s, Error *why, Error *err) {
    if (!d->options.accept || d->options.accept(d->options.accept_self, s, why) == 0) return GOOD;
    if (!strstr(why->message, "out of memory")) return BROKEN;
    fail(err, "%s", why->message);
    return FAILED;
}

/* The next candidate that is whole. */
static Outcome next_good(Dataset *d, Sample *s, Error *err) {
    for (;;) {
        Candidate c;
        Error why = {0};
        *s = (Sample){0};
        Outcome outcome = next_candidate(d, &c, &why, err);
        if (outcome == GOOD) outcome = decode(&c, s, &why, err);
        if (outcome == GOOD) {
            s->id = c.id;
            s->caption = c.caption;
            c.id = c.caption = NULL;
            outcome = accepted(d, s, &why, err);
        }
        if (outcome == BROKEN && note_bad(d, c.key, &why, err)) outcome = FAILED;
        if (outcome != GOOD) sample_free(s);
        candidate_free(&c);
        if (outcome != BROKEN) return outcome;
    }
}

static int end_epoch(Dataset *d, Error *err) {
    if (d->drawn == 0 && !*d->last_bad)
        return fail(err,
                    "%s: its shards hold no samples: expected pictures (.jpg, .jpeg, .png), each "
                    "with a .txt or .json of the same name behind it",
                    d->dir);
    if (d->good_in_epoch == 0)
        return fail(err, "%s: all %lld samples are broken; the last: %s", d->dir,
                    (long long)d->drawn, d->last_bad);
    d->epoch++;
    d->drawn = d->good_in_epoch = 0;
    if (d->shards) shards_rewind(d->shards);
    return 0;
}

int dataset_next(Dataset *d, Sample *sample, Error *err) {
    for (;;) {
        Outcome outcome = next_good(d, sample, err);
        if (outcome == FAILED) return -1;
        if (outcome == AT_END) return end_epoch(d, err);
        sample->index = d->index++;
        d->good_in_epoch++;
        const int64_t since = sample->index - d->base;
        if (since >= 0 && since % d->options.ranks == d->options.rank) return 1;
        sample_free(sample);
    }
}
