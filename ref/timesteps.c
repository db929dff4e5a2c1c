/* Which timesteps a run visits, and their sigmas: diffusers' set_timesteps, in double.
 *
 * All six classes place timesteps in one of three ways ("Common Diffusion Noise Schedules and Sample
 * Steps are Flawed", arXiv 2305.08891, table 2):
 *
 *     leading    multiples of floor(last / points), from below, shifted by steps_offset
 *     linspace   0 .. last - 1 in equal parts, both ends included
 *     trailing   last, last - N / steps, ... minus 1 */
#include "ref/sampler_kinds.h"

#include <math.h>
#include <stdlib.h>

/* ---- timesteps ----------------------------------------------------------------------------------- */

int sampler_place_timesteps(Sampler *s, Grid g, Error *err) {
    const Schedule *c = s->schedule;
    const int64_t N = c->train_steps;
    /* numpy.arange(last, 0, -N / steps): its element i is last + i ((last - N / steps) - last). */
    const double ratio = (double)N / (double)s->steps;
    const double delta = ((double)g.last - ratio) - (double)g.last;
    int64_t elements = (int64_t)ceil((double)g.last / ratio);
    s->count = g.spacing == SPACING_TRAILING && elements < s->steps ? elements : s->steps;
    s->t = calloc((size_t)s->steps, sizeof *s->t);
    if (!s->t) return fail(err, "out of memory for %lld timesteps", (long long)s->steps);
    for (int64_t i = 0; i < s->count; i++) {
        double from_end = (double)(g.points - 1 - i);
        switch (g.spacing) {
        case SPACING_LEADING:
            s->t[i] = from_end * (double)(g.last / g.points) + (double)c->steps_offset;
            break;
        case SPACING_LINSPACE:
            s->t[i] = g.points > 1 ? from_end * ((double)(g.last - 1) / (double)(g.points - 1)) : 0;
            if (i == 0 && g.points > 1) s->t[i] = (double)(g.last - 1);
            if (g.whole) s->t[i] = rint(s->t[i]);
            break;
        case SPACING_TRAILING: s->t[i] = rint((double)g.last + (double)i * delta) - 1; break;
        }
    }
    while (s->count > 1 && s->t[s->count - 1] < 0) s->count--;
    if (s->t[0] >= (double)N)
        return fail(err,
                    "--steps %lld: the first timestep would be %.0f (steps_offset %lld), past the "
                    "last one, %lld: fewer steps are possible",
                    (long long)s->steps, s->t[0], (long long)c->steps_offset, (long long)(N - 1));
    return 0;
}

/* ---- sigmas ------------------------------------------------------------------------------------- */

double sampler_sigma_at(const Sampler *s, int64_t t) { return sqrt((1 - s->abar[t]) / s->abar[t]); }

double sampler_final_sigma(const Sampler *s) {
    bool zero = s->schedule->final_sigmas_type == FINAL_SIGMAS_ZERO || s->kind == SAMPLER_EULER_A;
    return zero ? 0 : sampler_sigma_at(s, 0);
}

/* numpy.interp(t, 0 .. N - 1, sigmas): linear between the table's entries, its ends beyond them. */
static double interpolated_sigma(const Sampler *s, double t) {
    const int64_t N = s->schedule->train_steps;
    if (t <= 0) return sampler_sigma_at(s, 0);
    if (t >= (double)(N - 1)) return sampler_sigma_at(s, N - 1);
    int64_t below = (int64_t)t;
    double low = sampler_sigma_at(s, below);
    return low + (sampler_sigma_at(s, below + 1) - low) * (t - (double)below);
}

/* The timestep with that sigma, log sigma being linear between timesteps. _sigma_to_t */
static double timestep_of_sigma(const Sampler *s, double sigma) {
    const int64_t N = s->schedule->train_steps;
    if (N == 1) return 0;
    const double wanted = log(fmax(sigma, 1e-10));
    /* The last entry that is not above it, and not the very last: sigmas grow with t. */
    int64_t below = 0, end = N - 1;
    while (end - below > 1) {
        int64_t middle = below + (end - below) / 2;
        if (wanted >= log(sampler_sigma_at(s, middle)))
            below = middle;
        else
            end = middle;
    }
    double low = log(sampler_sigma_at(s, below)), high = log(sampler_sigma_at(s, below + 1));
    double w = fmin(fmax((low - wanted) / (low - high), 0), 1);
    return (1 - w) * (double)below + w * (double)(below + 1);
}

int sampler_place_sigmas(Sampler *s, Error *err) {
    s->sigma = calloc((size_t)s->steps + 1, sizeof *s->sigma);
    if (!s->sigma) return fail(err, "out of memory for %lld sigmas", (long long)s->steps);
    for (int64_t k = 0; k < s->count; k++) s->sigma[k] = interpolated_sigma(s, s->t[k]);
    s->sigma[s->count] = sampler_final_sigma(s);
    return 0;
}

/* Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (arXiv
 * 2206.00364), eq. 5, rho = 7:
 *     sigma_i = (max^(1/rho) + i / (n - 1) (min^(1/rho) - max^(1/rho)))^rho,   i = 0 .. n - 1 */
void sampler_place_karras(Sampler *s, double max, double min, bool whole) {
    const Schedule *c = s->schedule;
    const double rho = 7;
    if (!isnan(c->sigma_max)) max = c->sigma_max;
    if (!isnan(c->sigma_min)) min = c->sigma_min;
    const double first = pow(max, 1 / rho), last = pow(min, 1 / rho);
    s->count = s->steps;
    for (int64_t k = 0; k < s->count; k++) {
        double ramp = s->count > 1 ? (double)k / (double)(s->count - 1) : 0;
        /* The ends are exact, so that no rounding takes them to a neighbouring timestep. */
        s->sigma[k] = k == 0              ? max
                      : k == s->count - 1 ? min
                                          : pow(first + ramp * (last - first), rho);
        s->t[k] = timestep_of_sigma(s, s->sigma[k]);
        if (whole) s->t[k] = rint(s->t[k]);
    }
    s->sigma[s->count] = sampler_final_sigma(s);
}
