/* What diffusers' schedulers read and compute when they are made, in double. See schedule.h. */
#include "ref/schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

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
static void fill_alphas(Schedule *s, double first, double last, const cJSON *trained) {
    const int64_t N = s->train_steps;
    const cJSON *given = trained ? trained->child : NULL;
    double product = 1;
    for (int64_t i = 0; i < N; i++) {
        double beta = 0;
        if (given) {
            beta = given->valuedouble;
            given = given->next;
        } else if (s->beta_schedule == BETAS_LINEAR) {
            beta = linspace(first, last, N, i);
        } else if (s->beta_schedule == BETAS_SCALED_LINEAR) {
            double root = linspace(sqrt(first), sqrt(last), N, i);
            beta = root * root;
        } else { /* BETAS_SQUAREDCOS_CAP_V2 */
            beta = fmin(1 - cosine_alpha_bar((double)(i + 1) / (double)N) /
                                cosine_alpha_bar((double)i / (double)N),
                        0.999);
        }
        product *= 1 - beta;
        s->alphas_cumprod[i] = product;
    }
}

double *schedule_alphas(const Schedule *s, bool zero_snr, Error *err) {
    const int64_t N = s->train_steps;
    double *abar = calloc((size_t)N, sizeof *abar);
    if (!abar) {
        fail(err, "out of memory for %lld training steps", (long long)N);
        return NULL;
    }
    memcpy(abar, s->alphas_cumprod, (size_t)N * sizeof *abar);
    if (!zero_snr) return abar;
    /* sqrt(alpha-bar) is shifted so that the last one is 0 and scaled so that the first one stays
     * (arXiv 2305.08891, algorithm 1). */
    double root_first = sqrt(abar[0]), root_last = sqrt(abar[N - 1]);
    for (int64_t i = 0; i < N; i++) {
        double root = (sqrt(abar[i]) - root_last) * (root_first / (root_first - root_last));
        abar[i] = root * root;
    }
    return abar;
}

/* ---- scheduler_config.json ------------------------------------------------------------------- */

const char *const schedule_algorithms[] = {"dpmsolver++",      "dpmsolver", "sde-dpmsolver",
                                           "sde-dpmsolver++",  "deis",      "data_prediction",
                                           "noise_prediction", NULL};

/* The index of a key's word in the NULL-ended list; `absent` when the key is missing or null. */
static int choice(ModelDir *m, const char *key, int absent, const char *const *words) {
    const char *found = config_string(m, key, NULL);
    char expected[256] = "";
    if (!found) return absent;
    for (int i = 0; words[i]; i++) {
        size_t used = strlen(expected);
        if (strcmp(words[i], found) == 0) return i;
        snprintf(expected + used, sizeof expected - used, "%s\"%s\"",
                 i == 0         ? ""
                 : words[i + 1] ? ", "
                                : " or ",
                 words[i]);
    }
    config_fail(m, "%s: expected %s, found \"%s\"", key, expected, found);
    return 0;
}

static bool said(const ModelDir *m, const char *key) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(model_config(m), key);
    return value && !cJSON_IsNull(value);
}

static void read_keys(ModelDir *m, Schedule *s) {
    static const char *const betas[] = {"linear", "scaled_linear", "squaredcos_cap_v2", NULL};
    static const char *const predictions[] = {"epsilon", "sample", "v_prediction", NULL};
    static const char *const spacings[] = {"leading", "linspace", "trailing", NULL};
    static const char *const variances[] = {
        "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log",
        "learned",     "learned_range",   NULL};
    static const char *const finals[] = {"zero", "sigma_min", NULL};
    static const char *const interpolations[] = {"linear", "log_linear", NULL};
    static const char *const types[] = {"discrete", "continuous", NULL};
    /* DPMSolverMultistepScheduler reads other solvers' words, from the third on, as "midpoint". */
    static const char *const solvers[] = {"midpoint", "heun", "logrho", "bh1", "bh2", NULL};

    snprintf(s->class_name, sizeof s->class_name, "%s", config_string(m, "_class_name", "(none)"));
    s->train_steps = config_int(m, "num_train_timesteps", 1000, 1, 1000000);
    s->beta_schedule = choice(m, "beta_schedule", BETAS_LINEAR, betas);
    s->prediction = choice(m, "prediction_type", PREDICT_EPSILON, predictions);
    s->spacing = choice(m, "timestep_spacing", UNSAID, spacings);
    s->steps_offset = config_int(m, "steps_offset", 0, 0, 1000000);
    s->rescale_betas_zero_snr = config_bool(m, "rescale_betas_zero_snr", false);

    s->clip_sample = config_bool(m, "clip_sample", true);
    s->clip_sample_range = config_double(m, "clip_sample_range", 1.0);
    s->thresholding = config_bool(m, "thresholding", false);
    s->set_alpha_to_one =
        said(m, "set_alpha_to_one") ? config_bool(m, "set_alpha_to_one", false) : UNSAID;
    s->variance_type = choice(m, "variance_type", VARIANCE_FIXED_SMALL, variances);
    s->skip_prk_steps = config_bool(m, "skip_prk_steps", false);

    s->use_karras_sigmas = config_bool(m, "use_karras_sigmas", false);
    s->use_exponential_sigmas = config_bool(m, "use_exponential_sigmas", false);
    s->use_beta_sigmas = config_bool(m, "use_beta_sigmas", false);
    s->sigma_min = config_double(m, "sigma_min", NAN);
    s->sigma_max = config_double(m, "sigma_max", NAN);
    if (s->sigma_min <= 0 || s->sigma_max <= 0)
        config_fail(m, "sigma_min, sigma_max: expected numbers above 0, found %g",
                    s->sigma_min <= 0 ? s->sigma_min : s->sigma_max);
    s->final_sigmas_type = choice(m, "final_sigmas_type", FINAL_SIGMAS_ZERO, finals);
    s->log_linear = choice(m, "interpolation_type", 0, interpolations) == 1;
    s->continuous = choice(m, "timestep_type", 0, types) == 1;

    s->algorithm_type = choice(m, "algorithm_type", DPMSOLVER_PP, schedule_algorithms);
    s->solver_type = choice(m, "solver_type", SOLVER_MIDPOINT, solvers) == SOLVER_HEUN
                         ? SOLVER_HEUN
                         : SOLVER_MIDPOINT;
    s->solver_order = config_int(m, "solver_order", 2, 1, 100);
    s->lower_order_final = config_bool(m, "lower_order_final", true);
    s->euler_at_final = config_bool(m, "euler_at_final", false);
    s->use_lu_lambdas = config_bool(m, "use_lu_lambdas", false);
    s->use_flow_sigmas = config_bool(m, "use_flow_sigmas", false);
    s->use_dynamic_shifting = config_bool(m, "use_dynamic_shifting", false);
    /* diffusers writes the default as -Infinity. */
    const cJSON *clipped = cJSON_GetObjectItemCaseSensitive(model_config(m), "lambda_min_clipped");
    bool unlimited = cJSON_IsNumber(clipped) && clipped->valuedouble == -INFINITY;
    s->lambda_min_clipped =
        unlimited ? -INFINITY : config_double(m, "lambda_min_clipped", -INFINITY);
}

/* The list trained_betas, checked; NULL when there is none. */
static const cJSON *trained_betas(ModelDir *m, int64_t N) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(model_config(m), "trained_betas"), *beta;
    if (!list || cJSON_IsNull(list)) return NULL;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != (int)N)
        config_fail(m, "trained_betas: expected a list of num_train_timesteps, %lld numbers",
                    (long long)N);
    cJSON_ArrayForEach(beta, list) {
        if (!cJSON_IsNumber(beta) || !(beta->valuedouble > 0 && beta->valuedouble < 1))
            config_fail(m, "trained_betas: expected numbers between 0 and 1");
    }
    return list;
}

Schedule *schedule_load(const char *dir, Error *err) {
    static const char file[] = "scheduler_config.json";
    /* Read elsewhere, or of no effect without the choices that are refused. */
    static const char *const no_effect[] = {
        "trained_betas", "lambda_min_clipped", "sample_max_value", "dynamic_thresholding_ratio",
        "flow_shift",    "time_shift_type",    "tensor_format",    NULL};
    ModelDir *m = model_open_config(dir, file, err);
    Schedule *s = m ? calloc(1, sizeof *s) : NULL;
    if (m && !s) config_fail(m, "out of memory");
    if (!s) goto failed;
    read_keys(m, s);
    double first = config_double(m, "beta_start", 0.0001),
           last = config_double(m, "beta_end", 0.02);
    if (!(first > 0 && first < 1 && last > 0 && last < 1))
        config_fail(m, "beta_start %g, beta_end %g: expected numbers between 0 and 1", first, last);
    const cJSON *trained = trained_betas(m, s->train_steps);
    config_refuse_unknown(m, no_effect);
    if (model_failed(m)) goto failed;

    size_t length = strlen(dir) + sizeof file + 1;
    s->path = malloc(length);
    s->alphas_cumprod = calloc((size_t)s->train_steps, sizeof *s->alphas_cumprod);
    if (!s->path || !s->alphas_cumprod) {
        config_fail(m, "out of memory for %lld steps", (long long)s->train_steps);
        goto failed;
    }
    snprintf(s->path, length, "%s/%s", dir, file);
    fill_alphas(s, first, last, trained);
    model_close(m);
    return s;
failed:
    model_close(m);
    schedule_free(s);
    return NULL;
}

void schedule_free(Schedule *s) {
    if (!s) return;
    free(s->path);
    free(s->alphas_cumprod);
    free(s);
}
