/* What the mistakes of training are called. See mistakes_train.h. */
#include "ref/yardstick/mistakes_train.h"

static const char *const mistakes[TRAIN_MISTAKES] = {
    [TRAIN_UNSCALED] = "without the VAE's scaling factor on z_0",
    [TRAIN_POSTERIOR_MEAN] = "with the posterior's mean for a sample of it",
    [TRAIN_POSTERIOR_VARIANCE] = "with exp(logvar) for exp(logvar / 2), the standard deviation",
    [TRAIN_T_LESS] = "at t - 1",
    [TRAIN_T_MORE] = "at t + 1",
    [TRAIN_OTHER_TARGET] = "with the other target, eps for v or v for eps",
    [TRAIN_NO_SNR] = "without min-SNR weights",
    [TRAIN_OTHER_SNR] = "with the min-SNR weights of the other target (eps: / snr, v: / (snr + 1))",
    [TRAIN_CAPTION_KEPT] = "with the caption that was to be dropped",
    [TRAIN_H_HALF] = "with sqrt(h) for sqrt(2 h)",
    [TRAIN_SUM_BATCHES] = "if accumulated batches are summed, not averaged",
    [TRAIN_SUM_GRADIENTS] = "if the gradients of accumulated batches are summed, not averaged",
    [TRAIN_SUM_BATCH] = "if a batch's elements are summed, not averaged",
    [TRAIN_LAST_BATCH] = "if only the last of the accumulated batches counts",
    [TRAIN_NOT_ZEROED] = "if gradients are not set to zero between steps",
    [TRAIN_CLIP_BATCH] = "if each accumulated batch is clipped, not their sum alone",
    [TRAIN_NO_CLIP] = "without clipping",
    [TRAIN_CLIP_TENSOR] = "if each tensor is clipped by its own norm, not all by the global one",
    [TRAIN_CLIP_VALUE] = "if values are clipped, not the norm",
    [TRAIN_DECAY_ALL] = "with weight decay on biases and scalars too",
    [TRAIN_NO_DECAY] = "without weight decay",
    [TRAIN_DECAY_COUPLED] = "with Adam's weight decay, in the gradient, for AdamW's",
    [TRAIN_DECAY_WITHOUT_LR] = "with weight decay that is not times the learning rate",
    [TRAIN_NO_CORRECTION] = "without bias correction",
    [TRAIN_NO_CORRECTION_M] = "without bias correction of m",
    [TRAIN_NO_CORRECTION_V] = "without bias correction of v",
    [TRAIN_CORRECTION_LATE] = "with the bias correction of the next step",
    [TRAIN_EPS_IN_ROOT] = "with AdamW's eps under the root",
    [TRAIN_EPS_UNCORRECTED] = "with AdamW's eps added to sqrt(v) before its bias correction",
    [TRAIN_EPS_DEFAULT] = "with torch's default, 1e-8, for the case's eps of AdamW",
    [TRAIN_BETAS_SWAPPED] = "with beta1 and beta2 swapped",
};

const char *train_mistake(TrainMistake mistake) { return mistakes[mistake]; }
