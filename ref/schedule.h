/* The noise schedule of a pack: what scheduler_config.json says, and alpha-bar from its betas. */
#ifndef LLMDIFF_SCHEDULE_H
#define LLMDIFF_SCHEDULE_H

#include "weights/model_dir.h"

typedef enum Betas { BETAS_LINEAR, BETAS_SCALED_LINEAR, BETAS_SQUAREDCOS_CAP_V2 } Betas;
typedef enum Prediction { PREDICT_EPSILON, PREDICT_SAMPLE, PREDICT_V } Prediction;
typedef enum Spacing { SPACING_LEADING, SPACING_LINSPACE, SPACING_TRAILING } Spacing;
/* The others, learned and learned_range, belong to U-Nets that put out a variance too. */
typedef enum Variance {
    VARIANCE_FIXED_SMALL,
    VARIANCE_FIXED_SMALL_LOG,
    VARIANCE_FIXED_LARGE,
    VARIANCE_FIXED_LARGE_LOG,
    VARIANCE_LEARNED,
    VARIANCE_LEARNED_RANGE
} Variance;
/* The words that any of diffusers' solvers has; only the first is supported. */
extern const char *const schedule_algorithms[]; /* NULL-ended */
enum { DPMSOLVER_PP };
typedef enum Solver { SOLVER_MIDPOINT, SOLVER_HEUN } Solver;
typedef enum FinalSigmas { FINAL_SIGMAS_ZERO, FINAL_SIGMAS_MIN } FinalSigmas;

/* Of a key whose default differs from class to class: the file doesn't say. */
#define UNSAID (-1)

/* The keys under their own names, where nothing else is said. Which of them a sampler reads, and
 * with which values it can work, stands in its own file; the others mean nothing to it. */
typedef struct Schedule {
    char class_name[64];    /* _class_name */
    char *path;             /* of the file, for messages */
    int64_t train_steps;    /* num_train_timesteps */
    double *alphas_cumprod; /* [train_steps]: alpha-bar_t = prod_{s<=t} (1 - beta_s) */
    int beta_schedule, prediction;
    int spacing; /* timestep_spacing, or UNSAID */
    int64_t steps_offset;
    bool rescale_betas_zero_snr; /* alphas_cumprod is before that: see schedule_alphas */
    /* DDPM, DDIM, PNDM */
    bool clip_sample;
    double clip_sample_range;
    bool thresholding;
    int set_alpha_to_one; /* or UNSAID */
    int variance_type;
    bool skip_prk_steps;
    /* Euler, DPM-Solver */
    bool use_karras_sigmas, use_exponential_sigmas, use_beta_sigmas;
    double sigma_min, sigma_max; /* the ends of Karras' sigmas; NaN: those of the table */
    int final_sigmas_type;
    bool log_linear; /* interpolation_type */
    bool continuous; /* timestep_type */
    /* DPM-Solver */
    int algorithm_type, solver_type;
    int64_t solver_order;
    bool lower_order_final, euler_at_final;
    bool use_lu_lambdas, use_flow_sigmas, use_dynamic_shifting;
    double lambda_min_clipped;
} Schedule;

/* dir/scheduler_config.json. NULL with a message. All numbers in double (upstream has a float32
 * island here). */
Schedule *schedule_load(const char *dir, Error *err);
void schedule_free(Schedule *s); /* NULL is fine */

/* alpha-bar [train_steps], malloc'ed; with zero_snr rescaled to end in 0. NULL with a message. */
double *schedule_alphas(const Schedule *s, bool zero_snr, Error *err);

#endif
