/* Reading a checkpoint back: see checkpoint.h. Everything in it is checked before it is used. */
#include "ref/train/checkpoint_private.h"

#include "ref/llmdiff.h"
#include "ref/text.h"
#include "weights/file.h"
#include "weights/json.h"
#include "weights/sha256.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE_MAX ((int64_t)1 << 53)

struct Checkpoint {
    char *path;
    Safetensors *file; /* state.safetensors */
    TrainState state;
    cJSON *options;
    bool averages; /* raw/ is there */
};

/* ---- checksums --------------------------------------------------------------------------------- */

/* One line of SHA256SUMS, and what the file has. *at goes to the next line. */
static int check_sum(const char *dir, const char *name, const char **at, Error *err) {
    char expected[SHA256_HEX + 64], found[SHA256_HEX];
    const size_t hex = SHA256_HEX - 1;
    if (strspn(*at, "0123456789abcdef") != hex)
        return fail(err, "%s/" CHECKPOINT_SUMS ": expected a SHA-256 of %s", dir, name);
    snprintf(expected, sizeof expected, "%.*s  %s\n", (int)hex, *at, name);
    if (strncmp(*at, expected, strlen(expected)) != 0)
        return fail(err, "%s/" CHECKPOINT_SUMS ": expected the line of %s, as sha256sum prints it",
                    dir, name);
    *at += strlen(expected);
    char *path = path_in(dir, name, err);
    if (path && sha256_file(path, NULL, NULL, found, err) == 0 &&
        strncmp(found, expected, hex) != 0)
        fail(err,
             "%s: is damaged: its SHA-256 is expected to be %.*s, as " CHECKPOINT_SUMS
             " says, found %s",
             path, (int)hex, expected, found);
    free(path);
    return err->set ? -1 : 0;
}

static int check_sums(const char *dir, Error *err) {
    size_t size;
    char *path = path_in(dir, CHECKPOINT_SUMS, err);
    char *text = path ? file_read(path, &size, err) : NULL;
    const char *at = text;
    for (int i = 0; text && checkpoint_files[i] && !err->set; i++)
        check_sum(dir, checkpoint_files[i], &at, err);
    if (!err->set && at != text + size) fail(err, "%s: expected %d lines, found more", path, 3);
    free(text);
    free(path);
    return err->set ? -1 : 0;
}

/* With what to do about it. */
static int check_whole(const char *dir, Error *err) {
    Error found = {0};
    if (!is_directory(dir)) return fail(err, "%s: no such checkpoint", dir);
    if (check_sums(dir, &found) == 0) return 0;
    char *before = checkpoint_before(dir);
    fail(err, "%s; %s%s", found.message,
         before ? "the checkpoint before it is " : "there is no checkpoint before it",
         before ? before : "");
    free(before);
    return -1;
}

/* ---- the state's metadata ---------------------------------------------------------------------- */

static int wrong(const Checkpoint *c, const char *key, const char *expected, const char *found,
                 Error *err) {
    return fail(err, "%s: metadata %s: expected %s, found %s%.100s%s", safetensors_path(c->file),
                key, expected, found ? "\"" : "none", found ? found : "", found ? "\"" : "");
}

static int64_t whole_number(const Checkpoint *c, const char *key, Error *err) {
    const char *text = safetensors_metadata(c->file, key);
    const size_t digits = text ? strspn(text, "0123456789") : 0;
    const int64_t n = digits && digits < 18 && !text[digits] ? strtoll(text, NULL, 10) : -1;
    if (n < 0 || n > WHOLE_MAX) wrong(c, key, "a whole number up to 2^53", text, err);
    return n;
}

static double number(const Checkpoint *c, const char *key, Error *err) {
    const char *text = safetensors_metadata(c->file, key);
    char *end = NULL;
    const double x = text ? strtod(text, &end) : 0;
    if (!text || end == text || *end || isinf(x)) wrong(c, key, "a number", text, err);
    return x;
}

static void read_position(Checkpoint *c, Error *err) {
    const char *text = safetensors_metadata(c->file, "position");
    const size_t n = text ? strlen(text) : 1;
    if (n % 2 || strspn(text, "0123456789abcdef") != n) {
        wrong(c, "position", "bytes in hexadecimal", text, err);
        return;
    }
    unsigned char *bytes = malloc(n / 2 + 1);
    if (!bytes) {
        fail(err, "%s: out of memory", c->path);
        return;
    }
    for (size_t i = 0; i < n / 2; i++) {
        const char two[] = {text[2 * i], text[2 * i + 1], '\0'};
        bytes[i] = (unsigned char)strtoul(two, NULL, 16);
    }
    c->state.position = bytes;
    c->state.position_size = n / 2;
}

/* {"fixed": {...}, "free": {...}}; NULL with a message. */
static cJSON *parse_options(const char *text, const char *where, Error *err) {
    cJSON *json = json_parse_object(text, strlen(text), where, err);
    if (!json) return NULL;
    if (cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(json, "fixed")) &&
        cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(json, "free")))
        return json;
    fail(err, "%s: expected the objects \"fixed\" and \"free\"", where);
    cJSON_Delete(json);
    return NULL;
}

static void read_options(Checkpoint *c, Error *err) {
    const char *text = safetensors_metadata(c->file, "options");
    Text where = {.err = err};
    put(&where, "%s: metadata options", safetensors_path(c->file));
    char *place = text_finish(&where);
    if (!text)
        wrong(c, "options", "a JSON object", NULL, err);
    else if (place)
        c->options = parse_options(text, place, err);
    free(place);
    c->state.options = (char *)(uintptr_t)text;
}

static void read_pack(Checkpoint *c, Error *err) {
    const char *text = safetensors_metadata(c->file, "pack_sha256");
    if (!text || strlen(text) != SHA256_HEX - 1 ||
        strspn(text, "0123456789abcdef") != SHA256_HEX - 1)
        wrong(c, "pack_sha256", "a SHA-256", text, err);
    c->state.pack_sha256 = (char *)(uintptr_t)text;
}

/* Written by this program, in this version and precision? */
static int check_origin(const Checkpoint *c, Error *err) {
    const char *format = safetensors_metadata(c->file, "format");
    const char *program = safetensors_metadata(c->file, "program");
    const char *precision = safetensors_metadata(c->file, "precision");
    if (!format || strcmp(format, CHECKPOINT_FORMAT) != 0)
        return wrong(c, "format", "\"" CHECKPOINT_FORMAT "\"", format, err);
    if (!program || strcmp(program, "llmdiff " LLMDIFF_VERSION) != 0)
        return fail(err,
                    "%s: was written by another version: expected llmdiff " LLMDIFF_VERSION
                    ", found %.100s; its adapter can be drawn with, or trained anew: --adapter %s",
                    c->path, program ? program : "none", c->path);
    if (!precision || strcmp(precision, dtype_name(REAL_DTYPE)) != 0)
        return fail(err,
                    "%s: was written in another precision: expected %s, which this program "
                    "computes in, found %.100s",
                    c->path, dtype_name(REAL_DTYPE), precision ? precision : "none");
    return 0;
}

static int read_state(Checkpoint *c, Error *err) {
    TrainState *s = &c->state;
    if (check_origin(c, err)) return -1;
    s->step = whole_number(c, "step", err);
    s->samples = whole_number(c, "samples", err);
    s->seconds = number(c, "seconds", err);
    s->smoothed_loss = number(c, "smoothed_loss", err);
    if (!(s->seconds >= 0))
        wrong(c, "seconds", "0 or more", safetensors_metadata(c->file, "seconds"), err);
    read_pack(c, err);
    read_options(c, err);
    read_position(c, err);
    for (size_t i = 0; i < safetensors_count(c->file); i++)
        c->averages |= strncmp(safetensors_at(c->file, i)->name, "raw/", 4) == 0;
    const int64_t named = checkpoint_number(c->path);
    if (!err->set && named >= 0 && named != s->step)
        fail(err, "%s: expected the state of step %lld, found that of step %lld", c->path,
             (long long)named, (long long)s->step);
    return err->set ? -1 : 0;
}

Checkpoint *checkpoint_open(const char *path, Error *err) {
    if (check_whole(path, err)) return NULL;
    Checkpoint *c = calloc(1, sizeof *c);
    char *state = path_in(path, checkpoint_files[2], err);
    if (c) c->path = strdup(path);
    if (!c || !c->path) fail(err, "%s: out of memory", path);
    if (!err->set) c->file = safetensors_open(state, err);
    free(state);
    if (!err->set && read_state(c, err) == 0) return c;
    checkpoint_close(c);
    return NULL;
}

void checkpoint_close(Checkpoint *c) {
    if (!c) return;
    safetensors_close(c->file);
    cJSON_Delete(c->options);
    free(c->state.position);
    free(c->path);
    free(c);
}

const TrainState *checkpoint_state(const Checkpoint *c) { return &c->state; }

/* ---- does a run go on with it? ----------------------------------------------------------------- */

/* The value as JSON, malloc'ed; "none" where it is absent or null. NULL with a message. */
static char *value_text(const cJSON *item, Error *err) {
    char *text = item && !cJSON_IsNull(item) ? cJSON_PrintUnformatted(item) : strdup("none");
    if (!text) fail(err, "out of memory");
    return text;
}

/* One option: as the run has it and as the checkpoint has it. */
static void compare_option(const Checkpoint *c, const char *name, const cJSON *now,
                           const cJSON *then, bool fixed,
                           void (*note)(void *self, const char *line), void *self, Error *err) {
    char *a = value_text(then, err), *b = value_text(now, err);
    if (a && b && strcmp(a, b) != 0) {
        Text line = {.err = err};
        if (fixed)
            fail(err, "%s: --%s: expected %s, as it was trained with, found %s", c->path, name, a,
                 b);
        else
            put(&line, "--%s: was %s up to step %lld, is now %s", name, a, (long long)c->state.step,
                b);
        char *text = text_finish(&line);
        if (text && note) note(self, text);
        free(text);
    }
    free(a);
    free(b);
}

static void compare_group(const Checkpoint *c, const char *group, const cJSON *options,
                          void (*note)(void *self, const char *line), void *self, Error *err) {
    const cJSON *now = cJSON_GetObjectItemCaseSensitive(options, group), *item;
    const cJSON *then = cJSON_GetObjectItemCaseSensitive(c->options, group);
    const bool fixed = strcmp(group, "fixed") == 0;
    cJSON_ArrayForEach(item, now) if (!err->set)
        compare_option(c, item->string, item, cJSON_GetObjectItemCaseSensitive(then, item->string),
                       fixed, note, self, err);
    cJSON_ArrayForEach(item,
                       then) if (!err->set && !cJSON_GetObjectItemCaseSensitive(now, item->string))
        compare_option(c, item->string, NULL, item, fixed, note, self, err);
}

int checkpoint_check(const Checkpoint *c, const char *pack_sha256, const char *options,
                     void (*note)(void *self, const char *line), void *self, Error *err) {
    if (strcmp(pack_sha256, c->state.pack_sha256) != 0)
        return fail(err,
                    "%s: was trained with another pack: its LLM, U-Net, VAE and scheduler are "
                    "expected to have the SHA-256 %s, found %s",
                    c->path, c->state.pack_sha256, pack_sha256);
    cJSON *json = parse_options(options, "options", err);
    if (json) compare_group(c, "fixed", json, note, self, err);
    if (!err->set) compare_group(c, "free", json, note, self, err);
    cJSON_Delete(json);
    return err->set ? -1 : 0;
}

/* ---- what it holds ----------------------------------------------------------------------------- */

/* <kind>/<name of w> into data [n]: of its shape, in our precision, finite (and where it is the mean of
 * squares not negative). */
static int restore_one(const Checkpoint *c, const char *kind, const Weight *w, real *data,
                       int64_t n, Error *err) {
    char *name = path_in(kind, w->name, err);
    if (!name) return -1;
    const char *path = safetensors_path(c->file);
    const StoredTensor *t = safetensors_find(c->file, name);
    char expected[SHAPE_TEXT], found[SHAPE_TEXT];
    shape_text(expected, sizeof expected, w->ndim, w->dim);
    if (!t) {
        fail(err, "%s: %s: expected %s, found no such tensor", path, name, expected);
    } else {
        shape_text(found, sizeof found, t->ndim, t->dim);
        if (t->dtype != REAL_DTYPE || strcmp(expected, found) != 0)
            fail(err, "%s: %s: expected %s %s, found %s %s", path, name, dtype_name(REAL_DTYPE),
                 expected, dtype_name(t->dtype), found);
    }
    if (!err->set) memcpy(data, t->data, (size_t)n * sizeof *data);
    const real least = *kind == 'v' ? 0 : -INFINITY;
    for (int64_t i = 0; i < n && !err->set; i++)
        if (!isfinite(data[i]) || !(data[i] >= least))
            fail(err, "%s: %s: expected numbers that are finite%s, found %g at %lld", path, name,
                 *kind == 'v' ? " and not negative" : "", (double)data[i], (long long)i);
    free(name);
    return err->set ? -1 : 0;
}

/* A tensor that belongs to no learned parameter. */
static void tell_unknown(const Checkpoint *c, const Parameters *p, Error *err) {
    for (size_t i = 0; i < safetensors_count(c->file); i++) {
        const char *name = safetensors_at(c->file, i)->name, *slash = strchr(name, '/');
        bool known = false;
        for (int64_t k = 0; k < p->count && slash && !known; k++)
            known = p->weight[k].grad && strcmp(p->weight[k].name, slash + 1) == 0;
        const size_t kind = slash ? (size_t)(slash - name) : 0;
        known &= (kind == 1 && (*name == 'm' || *name == 'v')) ||
                 (kind == 3 && strncmp(name, "raw", 3) == 0);
        if (!known)
            fail(err, "%s: %s: belongs to no parameter that is learned here",
                 safetensors_path(c->file), name);
    }
}

int checkpoint_restore(const Checkpoint *c, Parameters *p, Ema *ema, Error *err) {
    if (c->averages != (ema != NULL))
        return fail(err, "%s: --ema-decay: it was trained with%s moving averages, found one with%s",
                    c->path, c->averages ? "" : "out", c->averages ? "out" : "");
    tell_unknown(c, p, err);
    for (int64_t i = 0, k = 0; i < p->count && !err->set; i++) {
        const Weight *w = &p->weight[i];
        if (!w->grad) continue;
        const Learned *l = &p->learned[k++];
        restore_one(c, "m", w, l->m, l->n, err);
        restore_one(c, "v", w, l->v, l->n, err);
        if (ema) restore_one(c, "raw", w, l->w, l->n, err);
    }
    return err->set ? -1 : 0;
}
