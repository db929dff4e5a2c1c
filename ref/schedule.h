/* The noise schedule of a pack: beta, alpha-bar, and which timesteps a picture visits. */
#ifndef LLMDIFF_SCHEDULE_H
#define LLMDIFF_SCHEDULE_H

#include "weights/model_dir.h"

typedef enum Prediction { PREDICT_EPSILON, PREDICT_SAMPLE, PREDICT_V } Prediction;
typedef enum Spacing { SPACING_LEADING, SPACING_LINSPACE, SPACING_TRAILING } Spacing;

typedef struct Schedule {
    char class_name[64];     /* as in the file; sampled with DDIM whatever it says */
    int64_t train_steps;     /* num_train_timesteps */
    double *alphas_cumprod;  /* [train_steps]: alpha-bar_t = prod_{s<=t} (1 - beta_s) */
    double final_alpha;      /* alpha-bar before the first timestep: 1, or alpha-bar_0 */
    int prediction, spacing; /* prediction_type, timestep_spacing */
    int64_t steps_offset;
    bool clip_sample;
    double clip_sample_range;
} Schedule;

/* dir/scheduler_config.json, read as diffusers' DDIMScheduler.from_config reads it: keys that are
 * absent have DDIMScheduler's defaults, keys of another scheduler have no meaning. NULL with a
 * message. All numbers in double (upstream has a float32 island here). */
Schedule *schedule_load(const char *dir, Error *err);
void schedule_free(Schedule *s); /* NULL is fine */

/* The timesteps [steps] of a run, in the order they are visited: malloc'ed. NULL with a message.
 * (For 61, 103, 121 and other numbers of steps upstream's trailing spacing ends, by a rounding in
 * numpy.arange, in one more timestep, -1, and reads alpha-bar from the wrong end of its table there.
 * That step is left out here.) */
int64_t *schedule_timesteps(const Schedule *s, int64_t steps, Error *err);

#endif
