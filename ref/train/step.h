/* The training step (spec, section 5): the loss of a sample, and its gradients.
 *
 *     L = mean( (eps_theta(z_t, c) - eps)^2 ),   z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps
 *
 *     Training t;
 *     training_open(&t, &pack, &parameters.adapter, 0, &err);
 *     parameters_zero_gradients(&parameters);
 *     for each sample: loss += share * training_sample(&ctx, &t, &sample, share);   // 1 / how many
 *
 * A batch is done sample by sample: each prompt has its own length and each sample its own t, a step then
 * holds the activations of one sample only, and what a step sums up doesn't depend on how the samples
 * are cut into batches. */
#ifndef LLMDIFF_TRAIN_STEP_H
#define LLMDIFF_TRAIN_STEP_H

#include "ref/pipeline.h"
#include "ref/train/encoding.h"

typedef struct Training {
    const Unet *unet;
    const Vae *vae;
    const Adapter *adapter; /* the one that reads the Parameters */
    double *abar;           /* [train_steps] */
    int64_t train_steps;
    int prediction;   /* PREDICT_EPSILON or PREDICT_V */
    double snr_gamma; /* of min-SNR weighting; 0: every t weighs 1 */
} Training;

/* 0, or -1 with a message: a schedule that can't be trained on. */
int training_open(Training *t, const Pack *pack, const Adapter *adapter, double snr_gamma,
                  Error *err);
void training_close(Training *t);

/* A picture and its caption. What is drawn comes from `noise`, in this order and by these names, each
 * after `group`: train/posterior_noise and train/noise [C, h, w], then Algorithm 1's.
 *
 * With a noise offset s (diffusers' --noise_offset) eps = noise + s n_c, one n of each channel, drawn
 * from `offset` and shown as train/noise_offset [C, 1, 1]. What is shown as train/noise is eps; where
 * `noise` is a file, it holds eps. */
typedef struct TrainSample {
    const FrozenPrompt *prompt;
    VaePosterior posterior; /* [1, h, w, C] */
    int64_t t;
    Noise noise;
    double noise_offset; /* s; 0: none, nothing is drawn */
    Noise offset;
    const char *group; /* "3/"; no longer than 31 bytes */
} TrainSample;

/* The sample's loss, weighted; with a tape in the context share times its gradient is added to the
 * parameters'. The arena is as before. */
double training_sample(Context *ctx, const Training *t, TrainSample *s, double share);

/* Its weight: min(snr, gamma) / snr, for PREDICT_V min(snr, gamma) / (snr + 1), with
 * snr = abar_t / (1 - abar_t) (arXiv 2303.09556). */
double training_weight(const Training *t, int64_t timestep);

#endif
