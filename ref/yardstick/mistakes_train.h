/* The mistakes that training programs make: a training step of the kit is run again with each of them
 * (recompute_train.c), as a walk is with those of mistakes.h. */
#ifndef LLMDIFF_MISTAKES_TRAIN_H
#define LLMDIFF_MISTAKES_TRAIN_H

typedef enum TrainMistake {
    TRAIN_RIGHT,
    /* what is trained on: run_train.c */
    TRAIN_UNSCALED,
    TRAIN_POSTERIOR_MEAN,
    TRAIN_POSTERIOR_VARIANCE,
    TRAIN_T_LESS,
    TRAIN_T_MORE,
    TRAIN_OTHER_TARGET,
    TRAIN_NO_SNR,
    TRAIN_OTHER_SNR,
    TRAIN_CAPTION_KEPT,
    TRAIN_H_HALF,
    /* how gradients are summed: run_train.c */
    TRAIN_SUM_BATCHES,
    TRAIN_SUM_GRADIENTS,
    TRAIN_SUM_BATCH,
    TRAIN_LAST_BATCH,
    TRAIN_NOT_ZEROED,
    TRAIN_CLIP_BATCH,
    /* the optimizer: run_adamw.c */
    TRAIN_NO_CLIP,
    TRAIN_CLIP_TENSOR,
    TRAIN_CLIP_VALUE,
    TRAIN_DECAY_ALL,
    TRAIN_NO_DECAY,
    TRAIN_DECAY_COUPLED,
    TRAIN_DECAY_WITHOUT_LR,
    TRAIN_NO_CORRECTION,
    TRAIN_NO_CORRECTION_M,
    TRAIN_NO_CORRECTION_V,
    TRAIN_CORRECTION_LATE,
    TRAIN_EPS_IN_ROOT,
    TRAIN_EPS_UNCORRECTED,
    TRAIN_EPS_DEFAULT,
    TRAIN_BETAS_SWAPPED,
    TRAIN_MISTAKES
} TrainMistake;

/* What it is called after "mine is what comes out "; NULL of TRAIN_RIGHT. */
const char *train_mistake(TrainMistake mistake);

#endif
