/* Pictures in tar shards, through a shuffle buffer: see dataset.h.
 *
 *     order of the shards (a permutation by seed and epoch)
 *         -> one shard at a time, from front to back: samples, as their members come
 *         -> the buffer: filled up, then one drawn (by seed, epoch and how many were drawn), and so on
 *
 * A sample is the members whose names agree up to the first dot of their last part (webdataset's rule). In
 * the buffer it is the bytes of its picture and caption. The position is which samples wait in the buffer,
 * by shard and place there, and where reading goes on: restored, they are read again. */
#include "ref/train/dataset_private.h"

#include "ref/train/keyed.h"
#include "weights/json.h"
#include "weights/tar.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A sample that waits. */
typedef struct Entry {
    int64_t shard;
    uint64_t at; /* where its first member's headers begin */
    char *name;  /* the members', up to the dot */
    unsigned char *picture, *text, *json;
    size_t picture_size, text_size, json_size;
    const char *fault; /* what is wrong with its members, or NULL */
} Entry;

struct Shards {
    char **name; /* sorted [count] */
    int64_t count;
    char *path;   /* of the open one */
    Tar *tar;     /* the one being read, or NULL */
    int64_t turn; /* in the epoch's order: which shard is read */
    uint64_t at;  /* where in it the next sample begins */
    uint64_t draws;
    Entry *entry; /* the buffer [waiting], with room for [room] */
    int64_t waiting, room;
    int64_t bytes; /* of them */
};

static void entry_free(Entry *e) {
    free(e->name);
    free(e->picture);
    free(e->text);
    free(e->json);
    *e = (Entry){0};
}

static int64_t entry_bytes(const Entry *e) {
    return (int64_t)(e->picture_size + e->text_size + e->json_size);
}

static void close_shard(Shards *s) {
    tar_close(s->tar);
    free(s->path);
    s->tar = NULL;
    s->path = NULL;
}

void shards_rewind(Shards *s) {
    close_shard(s);
    for (int64_t i = 0; i < s->waiting; i++) entry_free(&s->entry[i]);
    s->waiting = s->turn = s->bytes = 0;
    s->at = s->draws = 0;
}

void shards_close(Shards *s) {
    if (!s) return;
    shards_rewind(s);
    for (int64_t i = 0; i < s->count; i++) free(s->name[i]);
    free(s->name);
    free(s->entry);
    free(s);
}

/* ---- the archives ----------------------------------------------------------------------------------------- */

static Tar *open_shard(const Dataset *d, int64_t shard, char **path, Error *err) {
    const char *name = d->shards->name[shard];
    *path = malloc(strlen(d->root) + strlen(name) + 2);
    if (!*path) {
        fail(err, "%s: out of memory", d->root);
        return NULL;
    }
    sprintf(*path, "%s/%s", d->root, name);
    return tar_open(*path, err);
}

Shards *shards_open(Dataset *d, Listing *l, Error *err) {
    Shards *s = calloc(1, sizeof *s);
    if (!s) {
        fail(err, "%s: out of memory", d->dir);
        return NULL;
    }
    s->name = l->shard;
    s->count = l->shards;
    *l = (Listing){0};
    d->shards = s; /* for open_shard */
    d->fingerprint = HASH_START;
    for (int64_t i = 0; i < s->count && !err->set; i++) {
        char *path;
        Tar *t = open_shard(d, i, &path, err);
        const uint64_t size = t ? tar_size(t) : 0;
        d->fingerprint = hash_bytes(d->fingerprint, s->name[i], strlen(s->name[i]) + 1);
        d->fingerprint = hash_bytes(d->fingerprint, &size, sizeof size);
        tar_close(t);
        free(path);
    }
    return s;
}

/* ---- one sample out of an archive ------------------------------------------------------------------------- */

/* The part of a member's name that its sample's members share; 0: it belongs to none. */
static size_t key_length(const char *name) {
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    const char *dot = strchr(base, '.');
    return dot && dot > base ? (size_t)(dot - name) : 0;
}

typedef enum Kind { OTHER, PICTURE, TEXT, JSON } Kind;

/* By all that follows the first dot: a.seg.png is no picture. */
static Kind kind_of(const char *name, size_t key) {
    static const struct {
        const char *ending;
        Kind kind;
    } kinds[] = {
        {".jpg", PICTURE}, {".jpeg", PICTURE}, {".png", PICTURE}, {".txt", TEXT}, {".json", JSON}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (has_suffix(name, kinds[i].ending) && strlen(name) == key + strlen(kinds[i].ending))
            return kinds[i].kind;
    return OTHER;
}

/* The archive failed: for want of memory, or is it damaged? */
static Outcome tar_failed(Error *why, Error *err) {
    if (errno != ENOMEM) return BROKEN;
    fail(err, "%s", why->message);
    return FAILED;
}

static Outcome keep(Tar *t, const TarMember *m, Kind kind, Entry *e, Error *why, Error *err) {
    unsigned char **bytes = kind == PICTURE ? &e->picture : kind == TEXT ? &e->text : &e->json;
    size_t *size = kind == PICTURE ? &e->picture_size
                   : kind == TEXT  ? &e->text_size
                                   : &e->json_size;
    if (*bytes)
        e->fault = "two members of the same kind";
    else if (m->size > (kind == PICTURE ? MAX_PICTURE_BYTES : MAX_CAPTION_BYTES))
        e->fault = "a member that is too large";
    if (e->fault) return GOOD;
    *bytes = malloc((size_t)m->size + 1); /* no more than the archive has */
    if (!*bytes) {
        fail(err, "%s: out of memory (%llu bytes)", m->name, (unsigned long long)m->size);
        return FAILED;
    }
    *size = (size_t)m->size;
    errno = 0;
    return tar_read(t, *bytes, why) ? tar_failed(why, err) : GOOD;
}

/* The next sample from *at on, which is where the one behind it begins then. AT_END; BROKEN: the archive
 * is damaged, and there is no sample before that. */
static Outcome gather(Tar *t, uint64_t *at, Entry *e, Error *why, Error *err) {
    *e = (Entry){0};
    if (tar_seek(t, *at, why)) return BROKEN;
    for (;;) {
        TarMember m;
        errno = 0;
        const int status = tar_next(t, &m, why);
        if (status < 0) {
            Outcome outcome = tar_failed(why, err);
            if (outcome == FAILED || !e->name) return outcome;
            *why = (Error){0}; /* after this sample, its turn will come */
            return GOOD;
        }
        if (status == 0) return e->name ? GOOD : AT_END;
        const size_t key = m.regular ? key_length(m.name) : 0;
        const Kind kind = key ? kind_of(m.name, key) : OTHER;
        const bool mine = e->name && strlen(e->name) == key && strncmp(e->name, m.name, key) == 0;
        if (e->name && key && !mine) return GOOD; /* *at is that member's */
        if (kind != OTHER) {
            if (!e->name) {
                e->at = m.at;
                e->name = strndup(m.name, key);
                if (!e->name) {
                    fail(err, "%s: out of memory", m.name);
                    return FAILED;
                }
            }
            Outcome outcome = keep(t, &m, kind, e, why, err);
            if (outcome != GOOD) return outcome;
        }
        *at = tar_tell(t);
    }
}

/* ---- the buffer ------------------------------------------------------------------------------------------- */

/* What is behind the damage can't be found. */
static int pass_over_rest(Dataset *d, int64_t shard, Error *why, Error *err) {
    const uint64_t key[2] = {(uint64_t)shard, UINT64_MAX};
    Error whole = {0};
    fail(&whole, "%.900s; the rest of it is passed over", why->message);
    *why = (Error){0};
    return note_bad(d, key, &whole, err);
}

/* The next sample of the epoch, as it is stored. */
static Outcome read_one(Dataset *d, Entry *e, Error *err) {
    Shards *s = d->shards;
    const uint64_t key = keyed_bits(d->options.seed, DRAW_ORDER, (uint64_t)d->epoch, 0);
    for (; s->turn < s->count; s->turn++, s->at = 0) {
        const int64_t shard = (int64_t)keyed_permute(key, (uint64_t)s->count, (uint64_t)s->turn);
        Error why = {0};
        if (!s->tar) s->tar = open_shard(d, shard, &s->path, err);
        if (!s->tar) return FAILED;
        Outcome outcome = gather(s->tar, &s->at, e, &why, err);
        e->shard = shard;
        if (outcome == GOOD) return GOOD;
        entry_free(e);
        if (outcome == FAILED) return FAILED;
        if (outcome == BROKEN && pass_over_rest(d, shard, &why, err)) return FAILED;
        close_shard(s);
    }
    return AT_END;
}

/* Takes the entry over, or frees it. */
static int add_entry(Dataset *d, Entry *e, Error *err) {
    Shards *s = d->shards;
    if (s->waiting == s->room) {
        const int64_t room = s->room ? 2 * s->room : 16;
        Entry *more = realloc(s->entry, (size_t)room * sizeof *more);
        if (!more) {
            entry_free(e);
            return fail(err, "%s: out of memory", d->dir);
        }
        s->entry = more;
        s->room = room;
    }
    s->bytes += entry_bytes(e);
    s->entry[s->waiting++] = *e;
    return 0;
}

static Outcome fill(Dataset *d, Error *err) {
    Shards *s = d->shards;
    while (s->waiting == 0 ||
           (s->waiting < d->options.buffer && s->bytes < d->options.buffer_bytes)) {
        Entry e;
        Outcome outcome = read_one(d, &e, err);
        if (outcome == AT_END) break;
        if (outcome == FAILED || add_entry(d, &e, err)) return FAILED;
    }
    return s->waiting ? GOOD : AT_END;
}

/* ---- candidates ------------------------------------------------------------------------------------------- */

static Outcome caption_of(const Dataset *d, const Entry *e, Candidate *c, Error *why, Error *err) {
    if (e->text) return caption_of_text(e->text, e->text_size, c->id, &c->caption, why, err);
    cJSON *json;
    Outcome outcome = parse_json(e->json, e->json_size, c->id, &json, why, err);
    if (outcome != GOOD) return outcome;
    outcome = caption_of_json(json, c->id, caption_pick(d), &c->caption, why, err);
    cJSON_Delete(json);
    return outcome;
}

static Outcome take_entry(const Dataset *d, Entry *e, Candidate *c, Error *why, Error *err) {
    const char *shard = d->shards->name[e->shard];
    c->key[0] = (uint64_t)e->shard;
    c->key[1] = e->at;
    c->id = malloc(strlen(shard) + strlen(e->name) + 2);
    if (!c->id) {
        fail(err, "%s: out of memory", d->dir);
        return FAILED;
    }
    sprintf(c->id, "%s:%s", shard, e->name);
    make_utf8(c->id);
    if (e->fault)
        fail(why, "%s: it has %s", c->id, e->fault);
    else if (!e->picture)
        fail(why, "%s: no picture: expected a .jpg, .jpeg or .png", c->id);
    else if (!e->text && !e->json)
        fail(why, "%s: no caption: expected a .txt or .json beside the picture", c->id);
    else {
        c->picture = e->picture;
        c->size = e->picture_size;
        e->picture = NULL;
        return caption_of(d, e, c, why, err);
    }
    return BROKEN;
}

Outcome shards_next(Dataset *d, Candidate *c, Error *why, Error *err) {
    Shards *s = d->shards;
    Outcome outcome = fill(d, err);
    if (outcome != GOOD) return outcome;
    const int64_t i = (int64_t)keyed_below(d->options.seed, DRAW_BUFFER, (uint64_t)d->epoch,
                                           s->draws++, (uint64_t)s->waiting);
    Entry e = s->entry[i];
    s->entry[i] = s->entry[--s->waiting];
    s->bytes -= entry_bytes(&e);
    outcome = take_entry(d, &e, c, why, err);
    entry_free(&e);
    return outcome;
}

/* ---- the position ----------------------------------------------------------------------------------------- */

void shards_put(const Dataset *d, Numbers *out) {
    const Shards *s = d->shards;
    put_number(out, (uint64_t)d->options.buffer);
    put_number(out, (uint64_t)d->options.buffer_bytes);
    put_number(out, (uint64_t)s->turn);
    put_number(out, s->at);
    put_number(out, s->draws);
    put_number(out, (uint64_t)s->waiting);
    for (int64_t i = 0; i < s->waiting; i++) {
        put_number(out, (uint64_t)s->entry[i].shard);
        put_number(out, s->entry[i].at);
    }
}

/* Reads a sample that waited once more. *tar is the archive `*opened`, or NULL. */
static int read_again(Dataset *d, Tar **tar, int64_t *opened, int64_t shard, uint64_t at,
                      Error *err) {
    Entry e = {0};
    Error why = {0};
    if (!*tar || *opened != shard) {
        char *path;
        tar_close(*tar);
        *tar = open_shard(d, shard, &path, err);
        free(path);
        *opened = shard;
    }
    if (!*tar) return -1;
    uint64_t next = at;
    Outcome outcome = gather(*tar, &next, &e, &why, err);
    if (outcome == GOOD && e.at == at) {
        e.shard = shard;
        return add_entry(d, &e, err);
    }
    entry_free(&e);
    return fail(err, "%s/%s: not as it was when the position was saved: no sample at byte %llu",
                d->root, d->shards->name[shard], (unsigned long long)at);
}

int shards_get(Dataset *d, Numbers *in, Error *err) {
    Shards *s = d->shards;
    shards_rewind(s);
    const uint64_t buffer = get_number(in), bytes = get_number(in);
    if (buffer != (uint64_t)d->options.buffer || bytes != (uint64_t)d->options.buffer_bytes)
        return fail(
            err,
            "%s: the position was saved with a buffer of %llu samples, %llu bytes: expected "
            "it, found %lld, %lld",
            d->dir, (unsigned long long)buffer, (unsigned long long)bytes,
            (long long)d->options.buffer, (long long)d->options.buffer_bytes);
    s->turn = get_below(in, s->count + 1);
    s->at = get_number(in);
    s->draws = get_number(in);
    const int64_t waiting = get_below(in, d->options.buffer + 1);
    Tar *tar = NULL;
    int64_t opened = 0;
    for (int64_t i = 0; i < waiting && !err->set && !in->failed; i++) {
        const int64_t shard = get_below(in, s->count);
        const uint64_t at = get_number(in);
        if (!in->failed) read_again(d, &tar, &opened, shard, at, err);
    }
    tar_close(tar);
    return err->set ? -1 : 0;
}
