/* The training step (spec, section 5): the loss of a sample, and its gradients.
 *
 *     L = mean( (eps_theta(z_t, c) - eps)^2 ),   z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps
 *
 *     Training t;
 *     training_open(&t, &pack, &parameters.adapter, 0, &err);
 *     parameters_zero_gradients(&parameters);
 *     for each few samples: loss += share * training_samples(&ctx, &t, few, n, share);   // 1 / how many
 *
 * Samples that are given together go through the U-Net as one batch, each with its own t and a prompt of
 * its own length: small pictures one by one leave the matrix products, and the threads, too little
 * to do. They need as much memory as their pixels together.
 */
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

/* The sum of the losses, weighted, of n <= MAX_BATCH samples with latents of one size; with a tape in the
 * context share times its gradient is added to the parameters'. The arena is as before. */
double training_samples(Context *ctx, const Training *t, TrainSample *const *s, int64_t n,
                        double share);
/* Of a single one. */
double training_sample(Context *ctx, const Training *t, TrainSample *s, double share);
/* As many samples of this size as should be given at once: together no more than one of 512 x 512 with
 * Stable Diffusion's VAE, so that a batch takes no more memory than that does. */
int64_t training_together(const TrainSample *s);

/* A sample's weight: min(snr, gamma) / snr, for PREDICT_V min(snr, gamma) / (snr + 1), with
 * snr = abar_t / (1 - abar_t) (arXiv 2303.09556). */
double training_weight(const Training *t, int64_t timestep);

#endif
