/* Writing a checkpoint: see checkpoint.h. */
#include "ref/train/checkpoint_private.h"

#include "ref/adapter_save.h"
#include "ref/llmdiff.h"
#include "ref/text.h"
#include "weights/file.h"
#include "weights/sha256.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *const checkpoint_files[] = {"adapter.safetensors", "config.json", "state.safetensors",
                                        NULL};

/* ---- the adapter ------------------------------------------------------------------------------- */

static StoredTensor stored(const Weight *w, const real *data, const char *name) {
    StoredTensor t = {.name = name, .dtype = REAL_DTYPE, .ndim = w->ndim, .data = data};
    memcpy(t.dim, w->dim, (size_t)w->ndim * sizeof *t.dim);
    t.bytes = (size_t)stored_numel(&t) * sizeof *data;
    return t;
}

/* With averages in place of the parameters that have one. */
static int write_adapter(const char *dir, const Parameters *p, const Ema *ema, int64_t step,
                         Error *err) {
    StoredTensor *tensor = malloc((size_t)p->count * sizeof *tensor);
    if (!tensor) return fail(err, "%s: out of memory", dir);
    const real *average = ema ? ema->average : NULL;
    for (int64_t i = 0, k = 0; i < p->count; i++) {
        const Weight *w = &p->weight[i];
        const bool averaged = ema && w->grad;
        tensor[i] = stored(w, averaged ? average : w->data, w->name);
        if (averaged) average += p->learned[k++].n;
    }
    const AdapterFiles files = {.tensor = tensor,
                                .count = (size_t)p->count,
                                .settings = &p->adapter.settings,
                                .D = p->adapter.D,
                                .T = p->adapter.T,
                                .E = p->adapter.E,
                                .step = step};
    const int status = adapter_save(dir, &files, err);
    free(tensor);
    return status;
}

/* ---- the state --------------------------------------------------------------------------------- */

/* m/<name>, v/<name> and, with averages, raw/<name> of everything learned. */
static int write_tensors(const char *path, const Parameters *p, bool averages,
                         const char *const *metadata, Error *err) {
    const size_t most = 3 * (size_t)p->learned_count;
    StoredTensor *tensor = calloc(most + 1, sizeof *tensor);
    size_t n = 0;
    if (!tensor) return fail(err, "%s: out of memory", path);
    for (int64_t i = 0, k = 0; i < p->count && !err->set; i++) {
        const Weight *w = &p->weight[i];
        if (!w->grad) continue;
        const Learned *l = &p->learned[k++];
        const real *const data[] = {l->m, l->v, l->w};
        for (int j = 0; j < 2 + averages; j++)
            tensor[n++] =
                stored(w, data[j], path_in((const char *[]){"m", "v", "raw"}[j], w->name, err));
    }
    const int status = err->set ? -1 : safetensors_write(path, tensor, n, metadata, err);
    for (size_t i = 0; i < n; i++) free((void *)(uintptr_t)tensor[i].name);
    free(tensor);
    return status;
}

/* Bytes in hexadecimal, malloc'ed; NULL with a message. */
static char *hexadecimal(const void *bytes, size_t size, Error *err) {
    const unsigned char *from = bytes;
    char *text = malloc(2 * size + 1);
    if (!text) fail(err, "out of memory for a checkpoint");
    for (size_t i = 0; text && i < size; i++) snprintf(text + 2 * i, 3, "%02x", from[i]);
    if (text) text[2 * size] = '\0';
    return text;
}

static int write_state(const char *dir, const Parameters *p, const Ema *ema, const TrainState *s,
                       Error *err) {
    char step[24], samples[24], seconds[40], loss[40];
    snprintf(step, sizeof step, "%" PRId64, s->step);
    snprintf(samples, sizeof samples, "%" PRId64, s->samples);
    snprintf(seconds, sizeof seconds, "%.17g", s->seconds);
    snprintf(loss, sizeof loss, "%.17g", s->smoothed_loss);
    char *path = path_in(dir, checkpoint_files[2], err);
    char *position = hexadecimal(s->position, s->position_size, err);
    const char *const metadata[] = {"format",
                                    CHECKPOINT_FORMAT,
                                    "program",
                                    "llmdiff " LLMDIFF_VERSION,
                                    "precision",
                                    dtype_name(REAL_DTYPE),
                                    "step",
                                    step,
                                    "samples",
                                    samples,
                                    "seconds",
                                    seconds,
                                    "smoothed_loss",
                                    loss,
                                    "pack_sha256",
                                    s->pack_sha256,
                                    "options",
                                    s->options,
                                    "position",
                                    position,
                                    NULL};
    if (!err->set) write_tensors(path, p, ema != NULL, metadata, err);
    free(path);
    free(position);
    return err->set ? -1 : 0;
}

/* ---- checksums --------------------------------------------------------------------------------- */

static int write_sums(const char *dir, Error *err) {
    Text text = {.err = err};
    OutFile out;
    for (int i = 0; checkpoint_files[i] && !err->set; i++) {
        char hex[SHA256_HEX], *path = path_in(dir, checkpoint_files[i], err);
        if (path && sha256_file(path, NULL, NULL, hex, err) == 0)
            put(&text, "%s  %s\n", hex, checkpoint_files[i]);
        free(path);
    }
    char *bytes = text_finish(&text), *path = path_in(dir, CHECKPOINT_SUMS, err);
    if (bytes && path && outfile_open(&out, path, err) == 0) {
        outfile_write(&out, bytes, strlen(bytes));
        outfile_close(&out, err);
    }
    free(bytes);
    free(path);
    return err->set ? -1 : 0;
}

/* ---- all of it --------------------------------------------------------------------------------- */

static int make_directory(const char *path, Error *err) {
    if (mkdir(path, 0777) == 0) return 0;
    if (errno == EEXIST) { /* of a killed run */
        if (remove_directory_of_files(path, err)) return -1;
        if (mkdir(path, 0777) == 0) return 0;
    }
    return fail(err, "%s: can't be created: %s", path, strerror(errno));
}

static int write_all(const char *partial, const Parameters *p, const Ema *ema, const TrainState *s,
                     Error *err) {
    if (write_adapter(partial, p, ema, s->step, err) || write_state(partial, p, ema, s, err))
        return -1;
    return write_sums(partial, err) ? -1 : directory_sync(partial, err);
}

int checkpoint_save(const char *out, const Parameters *p, const Ema *ema, const TrainState *state,
                    Error *err) {
    char *path = checkpoint_path(out, state->step, err);
    char *partial = checkpoint_partial(out, state->step, err);
    struct stat st;
    if (!err->set && lstat(path, &st) == 0)
        fail(err, "%s: is there already; not overwritten", path);
    if (!err->set && make_directory(partial, err) == 0) {
        if (write_all(partial, p, ema, state, err) == 0 && rename(partial, path))
            fail(err, "%s: can't be renamed to %s: %s", partial, path, strerror(errno));
        Error second = {0}; /* the first is told */
        if (err->set)
            remove_directory_of_files(partial, &second);
        else
            directory_sync(out, err);
    }
    free(path);
    free(partial);
    return err->set ? -1 : 0;
}
