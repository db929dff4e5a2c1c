/* What the files of the data set share: see dataset.h.
 *
 * A source (dataset_folder.c, dataset_shards.c) hands out candidates in the order of the epoch; dataset.c
 * decodes them and makes samples of those that are whole. What goes wrong is of two kinds: `why` says what
 * is wrong with this candidate, `err` that the run can't go on (no memory, the limit of broken samples). */
#ifndef LLMDIFF_DATASET_PRIVATE_H
#define LLMDIFF_DATASET_PRIVATE_H

#include "ref/train/dataset.h"
#include "weights/json.h"

#include <stdbool.h>

#define MAX_PICTURE_BYTES ((size_t)1 << 28) /* of a file; it is read as a whole */
#define MAX_CAPTION_BYTES ((size_t)1 << 20)

typedef enum Outcome { FAILED = -1, AT_END, GOOD, BROKEN } Outcome;

/* A picture and its caption, as they are stored. */
typedef struct Candidate {
    uint64_t key[2]; /* of which file and where: no two have the same */
    char *id, *caption;
    unsigned char *picture;
    size_t size;
} Candidate;

typedef struct Folder Folder;
typedef struct Shards Shards;
typedef struct Numbers Numbers;

struct Dataset {
    DatasetOptions options; /* without zeros; dir is ours */
    char *dir;
    char *root;     /* dir, or dir/train */
    Folder *folder; /* one of these */
    Shards *shards;
    uint64_t fingerprint; /* of the list of files */
    int64_t epoch;
    int64_t drawn;         /* candidates of this epoch */
    int64_t good_in_epoch; /* samples of this epoch */
    int64_t index;         /* of the next sample */
    int64_t base;          /* the ranks share out what begins here */
    uint64_t (*bad)[2];    /* keys, sorted [bads] */
    int64_t bads;
    char last_bad[1024]; /* what was wrong */
};

/* ---- dataset_folder.c ---------------------------------------------------------------------------------- */

/* What is in a directory, to tell the layouts apart. */
typedef struct Listing {
    char **shard; /* names of *.tar, sorted [shards] */
    int64_t shards;
    bool metadata, other_metadata[2]; /* .jsonl; .csv, .parquet */
    bool pictures;
} Listing;

/* metadata.jsonl, or pictures with .txt (by_text), below d->root. Sets d->fingerprint. */
Folder *folder_open(Dataset *d, bool by_text, Error *err);
void folder_close(Folder *f);
int64_t folder_count(const Folder *f);
/* Candidate d->drawn of the epoch. */
Outcome folder_next(Dataset *d, Candidate *c, Error *why, Error *err);

/* ---- dataset_shards.c ---------------------------------------------------------------------------------- */

/* Takes over the listing's names. Sets d->fingerprint. */
Shards *shards_open(Dataset *d, Listing *l, Error *err);
void shards_close(Shards *s);
Outcome shards_next(Dataset *d, Candidate *c, Error *why, Error *err);
void shards_rewind(Shards *s);
/* The position as numbers; restored, each is checked. */
void shards_put(const Dataset *d, Numbers *out);
int shards_get(Dataset *d, Numbers *in, Error *err);

/* ---- dataset_caption.c --------------------------------------------------------------------------------- */

/* All of a file, of at most `limit` bytes; malloc'ed. GOOD, BROKEN or FAILED. */
Outcome read_whole(const char *path, size_t limit, unsigned char **bytes, size_t *size, Error *why,
                   Error *err);
/* The caption of a .txt, or of a JSON object, `where` it stands; `pick` chooses one of a list. */
Outcome caption_of_text(const unsigned char *bytes, size_t size, const char *where, char **caption,
                        Error *why, Error *err);
Outcome caption_of_json(const cJSON *json, const char *where, uint64_t pick, char **caption,
                        Error *why, Error *err);
/* The object of a text. */
Outcome parse_json(const void *text, size_t size, const char *where, cJSON **json, Error *why,
                   Error *err);
/* The random number that chooses the next sample's caption. */
uint64_t caption_pick(const Dataset *d);
/* A name as UTF-8: what is none becomes '?'. In place. */
void make_utf8(char *name);
/* Where a name has this ending (".jpg"), in any case. */
bool has_suffix(const char *name, const char *suffix);
bool is_picture_name(const char *name);

/* ---- dataset.c ------------------------------------------------------------------------------------------ */

void candidate_free(Candidate *c);
/* Counts and tells it, if it is new. -1: that was one too many. */
int note_bad(Dataset *d, const uint64_t key[2], const Error *why, Error *err);
uint64_t hash_bytes(uint64_t h, const void *bytes,
                    size_t size); /* FNV-1a; the first h is HASH_START */
#define HASH_START 0xCBF29CE484222325u

/* ---- dataset_position.c --------------------------------------------------------------------------------- */

/* Whole numbers as bytes. */
struct Numbers {
    unsigned char *bytes;
    size_t size, room, at;
    bool failed; /* no memory, or nothing left to get */
};

void put_number(Numbers *n, uint64_t v);
uint64_t get_number(Numbers *n);
/* One below `limit`; else it has failed. */
int64_t get_below(Numbers *n, int64_t limit);

#endif
