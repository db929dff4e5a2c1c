/* What the samplers have in common, for samplers.c and sampler_*.c alone: see samplers.h. */
#ifndef LLMDIFF_SAMPLER_KINDS_H
#define LLMDIFF_SAMPLER_KINDS_H

#include "ref/samplers.h"

#define MAX_KEPT 6

struct Sampler {
    SamplerKind kind;
    const Schedule *schedule;
    double eta;
    int64_t steps; /* as asked for */
    int64_t count; /* timesteps of the whole run */
    int64_t begin; /* of which so many at its beginning are left out */
    double *t;     /* [count] */
    double *abar;  /* [train_steps]: alpha-bar */
    double *sigma; /* [count + 1]: sqrt((1 - abar) / abar) at each timestep and at the end, or NULL:
                      the sampler works with alpha-bar */
    double final_alpha; /* alpha-bar before timestep 0 */
    /* Memory of earlier steps */
    real *kept[MAX_KEPT];
    int64_t kept_size; /* of each */
    int held;          /* how many model outputs are among them */
};

/* ---- timesteps.c ------------------------------------------------------------------------------ */

/* Where the timesteps of a run lie. */
typedef struct Grid {
    int spacing;    /* Spacing */
    int64_t last;   /* they lie below this: train_steps, or less */
    int64_t points; /* into which 0 .. last is divided: steps, or one more, which is not visited */
    bool whole;     /* linspace is rounded */
} Grid;

/* s->t and s->count. 0, or -1 with a message. */
int sampler_place_timesteps(Sampler *s, Grid grid, Error *err);
/* s->sigma at s->t, interpolated between the training timesteps, and at the end. */
int sampler_place_sigmas(Sampler *s, Error *err);
/* use_karras_sigmas: in place of both, Karras' sigmas from max (or the key sigma_max) down to min
 * (sigma_min), and the timesteps that have them, rounded if `whole`. */
void sampler_place_karras(Sampler *s, double max, double min, bool whole);
double sampler_sigma_at(const Sampler *s, int64_t t); /* of a training timestep */
double sampler_final_sigma(const Sampler *s);         /* final_sigmas_type */

/* ---- samplers.c ------------------------------------------------------------------------------- */

/* Fails naming the key: always -1. */
int sampler_refuse(const Sampler *s, const char *key, const char *expected, const char *found,
                   Error *err);
/* Copies x into s->kept[slot], allocating at first. False if the context failed. */
bool sampler_keep(Context *ctx, Sampler *s, int slot, Tensor x);

/* ---- one pair for each kind --------------------------------------------------------------------- */

int ddpm_init(Sampler *s, Error *err); /* timesteps and constants: 0, or -1 with a message */
int ddim_init(Sampler *s, Error *err);
int pndm_init(Sampler *s, Error *err);
int euler_init(Sampler *s, Error *err);
int euler_a_init(Sampler *s, Error *err);
int dpm_init(Sampler *s, Error *err);

/* k = begin + i is the index into s->t and s->sigma. */
Tensor ddpm_step(Context *ctx, const Sampler *s, int64_t k, Tensor m, Tensor x, Tensor noise);
Tensor ddim_step(Context *ctx, const Sampler *s, int64_t k, Tensor m, Tensor x, Tensor noise);
Tensor pndm_step(Context *ctx, Sampler *s, int64_t i, Tensor m, Tensor x);
Tensor euler_step(Context *ctx, const Sampler *s, int64_t k, Tensor m, Tensor x);
Tensor euler_a_step(Context *ctx, const Sampler *s, int64_t k, Tensor m, Tensor x, Tensor noise);
Tensor dpm_step(Context *ctx, Sampler *s, int64_t k, Tensor m, Tensor x);

#endif
