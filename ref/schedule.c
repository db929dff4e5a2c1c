/* diffusers DDIMScheduler.__init__ and set_timesteps, in double. See schedule.h. */
#include "ref/schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

/* ---- timesteps ------------------------------------------------------------------------------- */

int64_t *schedule_timesteps(const Schedule *s, int64_t steps, Error *err) {
    const int64_t N = s->train_steps;
    if (steps < 1 || steps > N) {
        fail(err, "--steps: expected 1 to %lld (num_train_timesteps), found %lld", (long long)N,
             (long long)steps);
        return NULL;
    }
    int64_t *t = calloc((size_t)steps, sizeof *t);
    if (!t) {
        fail(err, "out of memory for %lld timesteps", (long long)steps);
        return NULL;
    }
    const double ratio = (double)N / (double)steps;
    switch (s->spacing) {
    case SPACING_LEADING: /* multiples of N / steps (whole), from below, shifted by steps_offset */
        for (int64_t i = 0; i < steps; i++) t[i] = (steps - 1 - i) * (N / steps) + s->steps_offset;
        break;
    case SPACING_LINSPACE: { /* 0 .. N-1 in equal parts, both ends included */
        double step = steps > 1 ? (double)(N - 1) / (double)(steps - 1) : 0;
        for (int64_t i = 0; i < steps; i++) t[i] = (int64_t)rint((double)(steps - 1 - i) * step);
        break;
    }
    case SPACING_TRAILING: { /* N, N - ratio, ... minus 1, in the arithmetic of numpy.arange */
        double delta = ((double)N - ratio) - (double)N;
        for (int64_t i = 0; i < steps; i++) t[i] = (int64_t)rint((double)N + (double)i * delta) - 1;
        break;
    }
    }
    if (t[0] >= N) {
        fail(err,
             "--steps %lld: the first timestep would be %lld (steps_offset %lld), past the last "
             "one, %lld: fewer steps are possible",
             (long long)steps, (long long)t[0], (long long)s->steps_offset, (long long)(N - 1));
        free(t);
        return NULL;
    }
    return t;
}

/* ---- betas ----------------------------------------------------------------------------------- */

/* torch.linspace(a, b, n)[i] */
static double linspace(double a, double b, int64_t n, int64_t i) {
    double step = n > 1 ? (b - a) / (double)(n - 1) : 0;
    return i < n / 2 ? a + step * (double)i : b - step * (double)(n - 1 - i);
}

static double cosine_alpha_bar(double t) {
    double c = cos((t + 0.008) / 1.008 * PI / 2);
    return c * c;
}

/* `trained`: the list "trained_betas", which stands in for the formulas where it is given. */
static void fill_alphas(Schedule *s, const char *kind, double first, double last,
                        const cJSON *trained) {
    const int64_t N = s->train_steps;
    const cJSON *given = trained ? trained->child : NULL;
    double product = 1;
    for (int64_t i = 0; i < N; i++) {
        double beta;
        if (given) {
            beta = given->valuedouble;
            given = given->next;
        } else if (strcmp(kind, "linear") == 0) {
            beta = linspace(first, last, N, i);
        } else if (strcmp(kind, "scaled_linear") == 0) {
            double root = linspace(sqrt(first), sqrt(last), N, i);
            beta = root * root;
        } else { /* squaredcos_cap_v2 */
            beta = fmin(1 - cosine_alpha_bar((double)(i + 1) / (double)N) /
                                cosine_alpha_bar((double)i / (double)N),
                        0.999);
        }
        product *= 1 - beta;
        s->alphas_cumprod[i] = product;
    }
}

/* rescale_betas_zero_snr: sqrt(alpha-bar) shifted so that the last one is 0 and scaled so that the
 * first one stays (arXiv 2305.08891, algorithm 1). */
static void rescale_to_zero_snr(Schedule *s) {
    const int64_t N = s->train_steps;
    double root_first = sqrt(s->alphas_cumprod[0]), root_last = sqrt(s->alphas_cumprod[N - 1]);
    for (int64_t i = 0; i < N; i++) {
        double root =
            (sqrt(s->alphas_cumprod[i]) - root_last) * (root_first / (root_first - root_last));
        s->alphas_cumprod[i] = root * root;
    }
}

/* ---- scheduler_config.json ------------------------------------------------------------------- */

static int choice(ModelDir *m, const char *key, const char *absent, const char *const *words) {
    const char *found = config_string(m, key, absent);
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], found) == 0) return i;
    config_fail(m, "%s: expected \"%s\", \"%s\" or \"%s\", found \"%s\"", key, words[0], words[1],
                words[2], found);
    return 0;
}

Schedule *schedule_load(const char *dir, Error *err) {
    static const char *const predictions[] = {"epsilon", "sample", "v_prediction", NULL};
    static const char *const spacings[] = {"leading", "linspace", "trailing", NULL};
    static const char *const betas[] = {"linear", "scaled_linear", "squaredcos_cap_v2", NULL};
    ModelDir *m = model_open_config(dir, "scheduler_config.json", err);
    Schedule *s = m ? calloc(1, sizeof *s) : NULL;
    if (m && !s) config_fail(m, "out of memory");
    if (!s) goto failed;
    snprintf(s->class_name, sizeof s->class_name, "%s", config_string(m, "_class_name", "(none)"));
    s->train_steps = config_int(m, "num_train_timesteps", 1000, 1, 1000000);
    s->prediction = choice(m, "prediction_type", "epsilon", predictions);
    s->spacing = choice(m, "timestep_spacing", "leading", spacings);
    s->steps_offset = config_int(m, "steps_offset", 0, 0, 1000000);
    s->clip_sample = config_bool(m, "clip_sample", true);
    s->clip_sample_range = config_double(m, "clip_sample_range", 1.0);
    double first = config_double(m, "beta_start", 0.0001),
           last = config_double(m, "beta_end", 0.02);
    const char *kind = betas[choice(m, "beta_schedule", "linear", betas)];
    if (!(first > 0 && first < 1 && last > 0 && last < 1))
        config_fail(m, "beta_start %g, beta_end %g: expected numbers between 0 and 1", first, last);
    const cJSON *trained = cJSON_GetObjectItemCaseSensitive(model_config(m), "trained_betas"),
                *beta;
    if (cJSON_IsNull(trained)) trained = NULL;
    if (trained && cJSON_GetArraySize(trained) != (int)s->train_steps)
        config_fail(m, "trained_betas: expected a list of num_train_timesteps, %lld numbers",
                    (long long)s->train_steps);
    cJSON_ArrayForEach(beta, trained) {
        if (!cJSON_IsNumber(beta) || !(beta->valuedouble > 0 && beta->valuedouble < 1))
            config_fail(m, "trained_betas: expected numbers between 0 and 1");
    }
    config_only_bool(m, "thresholding", false);
    if (model_failed(m)) goto failed;

    s->alphas_cumprod = calloc((size_t)s->train_steps, sizeof *s->alphas_cumprod);
    if (!s->alphas_cumprod) {
        config_fail(m, "out of memory for %lld steps", (long long)s->train_steps);
        goto failed;
    }
    fill_alphas(s, kind, first, last, trained);
    if (config_bool(m, "rescale_betas_zero_snr", false)) rescale_to_zero_snr(s);
    s->final_alpha = config_bool(m, "set_alpha_to_one", true) ? 1 : s->alphas_cumprod[0];
    if (model_failed(m)) goto failed;
    model_close(m);
    return s;
failed:
    model_close(m);
    schedule_free(s);
    return NULL;
}

void schedule_free(Schedule *s) {
    if (!s) return;
    free(s->alphas_cumprod);
    free(s);
}
