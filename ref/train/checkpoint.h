/* Checkpoints: all that a run needs to go on with the same bytes, in a directory that is whole or absent.
 *
 *     OUT/checkpoint-500/adapter.safetensors, config.json     what one draws with: with EMA the averages
 *     OUT/checkpoint-500/state.safetensors                    m/<name>, v/<name>; with EMA raw/<name>, the
 *                                                             parameters; the TrainState in its metadata
 *     OUT/checkpoint-500/SHA256SUMS                           of the three: sha256sum -c SHA256SUMS
 *
 * Written as OUT/.checkpoint-500.partial, every file and both directories synced to the disk, renamed.
 *
 *     checkpoint_save(out, &p, ema, &state, &err);
 *     checkpoints_limit(out, keep, &err);
 *
 *     checkpoints_begin(out, &lock, &err);                        // nobody else's, leftovers swept
 *     checkpoint_find_latest(out, &path, &err);                   // path NULL: there is none
 *     Checkpoint *c = checkpoint_open(path, &err);                // its checksums are right
 *     checkpoint_check(c, sha256_of_pack, options, note, self, &err);
 *     Adapter *a = adapter_load(path, ...); parameters_open(&p, a, ...); ema_open(&ema, &p, ...);
 *     checkpoint_restore(c, &p, &ema, &err);                      // and checkpoint_state(c)
 *     checkpoint_close(c); */
#ifndef LLMDIFF_CHECKPOINT_H
#define LLMDIFF_CHECKPOINT_H

#include "ref/train/ema.h"

typedef struct TrainState {
    int64_t step;         /* of the optimizer, done */
    double smoothed_loss; /* NaN: none yet */
    int64_t samples;      /* that these steps took */
    double seconds;       /* that they lasted, over all restarts */
    void *position;       /* dataset_save's bytes, after these steps */
    size_t position_size;
    /* The run's options under the names of their flags: {"fixed": {"seed": 42, ...}, "free": {"max-train-steps":
     * 1000, ...}}. A run with others of the fixed ones isn't gone on with; the free ones may change. */
    char *options;
    char *pack_sha256; /* of the frozen parts */
} TrainState;

/* ---- writing ----------------------------------------------------------------------------------- */

/* OUT/checkpoint-<step>, which must not be there yet; ema may be NULL. 0, or -1 with a message: then it
 * is whole or not there. */
int checkpoint_save(const char *out, const Parameters *p, const Ema *ema, const TrainState *state,
                    Error *err);
/* Removes all but the latest `keep` > 0. */
int checkpoints_limit(const char *out, int64_t keep, Error *err);
/* The checkpoint's adapter.safetensors and config.json as OUT's, synced; those that are there with these
 * bytes stay untouched. */
int checkpoint_publish(const char *path, const char *out, Error *err);

/* ---- reading ----------------------------------------------------------------------------------- */

/* Makes sure that no other process trains into OUT (a directory; released by close(*lock), and by
 * the end of the process) and removes what killed runs left there half-written. 0, or -1 with a message. */
int checkpoints_begin(const char *out, int *lock, Error *err);
/* OUT/checkpoint-<the highest number>, malloc'ed, or NULL if there is none. 0 or -1. */
int checkpoint_find_latest(const char *out, char **path, Error *err);
/* -1 with a message if OUT has checkpoints and `path` isn't the latest of them: the later ones would have
 * to be overwritten. */
int checkpoint_may_follow(const char *path, const char *out, Error *err);

typedef struct Checkpoint Checkpoint;

/* NULL with a message: no checkpoint, a file that its checksum doesn't fit (names the checkpoint before
 * it), another version of this program or precision, a state that can't be. */
Checkpoint *checkpoint_open(const char *path, Error *err);
void checkpoint_close(Checkpoint *c); /* NULL is fine */
const TrainState *checkpoint_state(const Checkpoint *c);
/* Does a run with this pack and these options go on with it? -1 with a message about the first fixed option
 * (or the pack) that differs, else 0 and a line to `note` (or NULL) for each free one. */
int checkpoint_check(const Checkpoint *c, const char *pack_sha256, const char *options,
                     void (*note)(void *self, const char *line), void *self, Error *err);
/* Into parameters (and averages) that were opened from the checkpoint's own adapter. 0, or -1 with a message
 * if the state holds other tensors than these, numbers that can't be, or averages where ema is NULL, or
 * none where it isn't. */
int checkpoint_restore(const Checkpoint *c, Parameters *p, Ema *ema, Error *err);

#endif
