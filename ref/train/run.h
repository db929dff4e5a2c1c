/* What the files of a training run share: see loop.h. */
#ifndef LLMDIFF_TRAIN_RUN_H
#define LLMDIFF_TRAIN_RUN_H

#include "ref/pack_hash.h"
#include "ref/trace.h"
#include "ref/train/checkpoint.h"
#include "ref/train/feed.h"
#include "ref/train/learning_rate.h"
#include "ref/train/log.h"
#include "ref/train/loop.h"
#include "tensor/tape.h"

typedef struct TrainRun {
    const TrainJob *job;
    const llmdiff_train_options *o;
    int rank, ranks;
    bool created; /* OUT: where nothing was written to it, it goes again */
    int lock;     /* OUT's; -1: none */

    PackHash hash;    /* of the frozen parts */
    Adapter *adapter; /* the one it began with, if it was opened here */
    Parameters p;
    Ema ema; /* where options.ema_decay is not 0 */
    LearningRate rate;
    Training training;
    Feed feed;
    Cache *cache;
    TrainLog *log;     /* rank 0's */
    Trace *trace;      /* of the first step of rank 0; or NULL */
    Observer observer; /* that writes it */
    Tape tape;
    Context ctx;

    TrainState state; /* after the last step that was finished */
    int64_t saved;    /* the step of the last checkpoint; -1: none */
    double since;     /* when state.seconds began to count on: clock - seconds */
    int64_t here;     /* steps done since then */
    double began;
    llmdiff_train_progress progress;
    bool stopped;     /* somebody asked for it */
    bool unsound;     /* the step itself failed: nothing of it is worth keeping */
    bool others_lost; /* the team failed: no further word to the others */
    bool follows;     /* it ends because another process failed, whose message counts */
} TrainRun;

/* OUT/name, malloc'ed; NULL with a message. */
char *run_path(const TrainRun *r, const char *name, Error *err);
/* To who is looking on, and to the log as `event`. */
void run_note(TrainRun *r, const char *event, const char *line);
double clock_now(void);

/* All ranks tell each other how they are: 0 if all are well, else -1 on each, with a message. */
int run_agree(TrainRun *r, Error *err);

/* run_begin.c: everything before the first step. 0 or -1. */
int run_begin(TrainRun *r, Error *err);
/* run_options.c: TrainState.options, malloc'ed, of a run that goes on from `from` or, NULL, begins; NULL with
 * a message. */
char *run_options(const TrainRun *r, const Settings *settings, const TrainState *from, Error *err);

/* run_end.c: the result in OUT: what has these bytes already stays untouched. 0 or -1. */
int run_publish(TrainRun *r, Error *err);
void run_free(TrainRun *r);

/* figure6.c: a1 exp(b1) and a2 exp(b2) of each layer as SVG, malloc'ed; NULL with a message. */
char *figure6_svg(const Adapter *adapter, const Unet *unet, int64_t step, Error *err);

#endif
