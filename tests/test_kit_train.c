/* The kit's training steps, sabotaged as the rest of the kit in test_kit_selftest.c: programs with the
 * usual mistakes of training, and what `llmdiff verify` must say of each. AdamW's are made here, by
 * plain loops of our own; others by a kit whose manifest asks for something else; at last every
 * mistake that hints know is made, so that the kit is blind to none. */
#include "tests/kit_judge.h"

#define ONLY "^train/"
#define FILE_NAME "@/port/train.safetensors"
#define UP "up_blocks.1.attentions.1.transformer_blocks.0.attn2"

/* ---- numbers ------------------------------------------------------------------------------------------------ */

static Safetensors *opened(const char *file) {
    Error err = {0};
    Safetensors *s = safetensors_open(file, &err);
    if (!s) fail_msg("%s", err.message);
    return s;
}

/* malloc'ed, widened */
static double *read_numbers(const Safetensors *s, const char *name, int64_t *n) {
    Error err = {0};
    const StoredTensor *t = safetensors_find(s, name);
    if (!t) fail_msg("no tensor %s", name);
    *n = stored_numel(t);
    double *x = malloc((size_t)*n * sizeof *x);
    assert_non_null(x);
    if (stored_to_double(t, x, &err)) fail_msg("%s", err.message);
    return x;
}

/* all of a case that is linear in the loss */
static void t_summed(Outputs *all) {
    for (size_t k = 0; k < all->count; k++)
        if (strncmp(all->tensor[k].name, "accumulation/grad/", 18) == 0 ||
            strcmp(all->tensor[k].name, "accumulation/train/loss") == 0)
            change_values(&all->tensor[k], v_twice);
}
static void t_gradients_summed(Outputs *all) {
    t_summed(all);
    StoredTensor *loss = named(all, "accumulation/train/loss");
    set(loss, 0, get(loss, 0) / 2);
}
static void t_eta_zero(Outputs *all) { change_values(named(all, "plain/grad/eta"), v_zero); }
static void t_eta_missing(Outputs *all) { drop(all, "plain/grad/eta"); }
static void t_eta_swapped(Outputs *all) {
    StoredTensor *eta = named(all, "plain/grad/eta"), *g = named(all, "plain/grad/g");
    const void *data = eta->data;
    eta->data = g->data;
    g->data = data;
}
static void t_transposed(Outputs *all) {
    change_values(named(all, "plain/grad/" UP ".tau_q.weight"), v_transposed);
}
static void t_bias_twice(Outputs *all) {
    change_values(named(all, "plain/grad/" UP ".tau_out.bias"), v_twice);
}
/* The caption that is there, not the begin token alone. */
static void t_caption(Outputs *all) {
    StoredTensor *ids = named(all, "accumulation/2/ids");
    const int64_t two[2] = {*(const int64_t *)ids->data, 17};
    Error err = {0};
    drop(all, "accumulation/2/ids");
    outputs_add(all, "accumulation/2/ids", DTYPE_I64, 1, (int64_t[]){2}, two, &err);
}

typedef struct FileCase {
    const char *what;
    void (*damage)(Outputs *all);
    int code;
    const char *first, *hint;
} FileCase;

static const FileCase files[] = {
    {"loss and gradients summed over accumulation", t_summed, 1, "accumulation/train/loss",
     "accumulated batches are summed"},
    {"gradients summed over accumulation", t_gradients_summed, 1,
     "accumulation/grad/up_blocks.1.attentions.1.transformer_blocks.0.attn2.b2",
     "the gradients of accumulated batches are summed"},
    {"the gradient of eta is zero", t_eta_zero, 1, "plain/grad/eta", "zero everywhere"},
    {"the gradient of eta is missing", t_eta_missing, 3, "plain/grad/eta", ""},
    {"the gradients of eta and g swapped", t_eta_swapped, 1, "plain/grad/eta", "swapped"},
    {"a gradient transposed", t_transposed, 1, "plain/grad/" UP ".tau_q.weight", "transposed"},
    {"a bias' gradient twice", t_bias_twice, 1, "plain/grad/" UP ".tau_out.bias",
     "the reference times 2"},
    {"a caption not dropped", t_caption, 3, "accumulation/2/ids", "this caption is to be dropped"},
};

static void damaged_numbers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char first[160] = "train ";
        fresh_port(ours);
        Outputs all = tensors_of(FILE_NAME);
        files[i].damage(&all);
        write_tensors(FILE_NAME, &all);
        outputs_free(&all);
        Judgement j = judge(KIT, "@/port", ONLY);
        strcat(first, files[i].first);
        expect(files[i].what, &j, files[i].code, first, files[i].hint);
    }
    all_right();
}

/* AdamW is given its gradients; ten steps inherit what it does wrong. */
static void what_diverges_by_itself(void **state) {
    (void)state;
    fresh_port(ours);
    Outputs all = tensors_of(FILE_NAME);
    change_values(named(&all, "plain/grad/eta"), v_sign);
    change_values(named(&all, "adamw/after.1/g"), v_sign);
    change_values(named(&all, "steps/after.10/g"), v_sign);
    write_tensors(FILE_NAME, &all);
    outputs_free(&all);
    Result r = RUN("verify", "--kit", KIT, "--port", "@/port", "--only", ONLY);
    assert_int_equal(r.code, 1);
    const char *others = strstr(r.out, "also diverging by ");
    assert_non_null(others);
    assert_non_null(strstr(others, "adamw"));
    assert_null(strstr(others, "steps"));
}

/* ---- AdamW -------------------------------------------------------------------------------------------------- */

typedef struct Wrong {
    bool decays_all, coupled, no_lr, uncorrected, eps_in_root, eps_early, no_clip, clips_each;
    double decay, beta1, beta2;
} Wrong;

enum { PARAMETERS = 5, STEPS = 10 };
static const char *const parameter[PARAMETERS] = {UP ".a2", UP ".tau_q.weight", "phi.bias", "g",
                                                  "eta"};

static void write_state(Outputs *all, const char *form, const char *name, const double *x,
                        int64_t n) {
    char full[200] = "adamw/";
    const char *star = strchr(form, '*');
    snprintf(full + 6, sizeof full - 6, "%.*s%s%s", (int)(star - form), form, name, star + 1);
    StoredTensor *t = named(all, full);
    assert_int_equal(stored_numel(t), n);
    for (int64_t i = 0; i < n; i++) set(t, i, x[i]);
}

static void one_step(const Wrong *o, int k, bool matrix, double factor, int64_t n, const double *g,
                     double *w, double *m, double *v) {
    const double lr = 2e-3, eps = 1e-8, decay = matrix || o->decays_all ? o->decay : 0;
    for (int64_t i = 0; i < n; i++) {
        const double along = g[i] * factor + (o->coupled ? decay * w[i] : 0);
        if (!o->coupled) w[i] -= (o->no_lr ? 1 : lr) * decay * w[i];
        m[i] = o->beta1 * m[i] + (1 - o->beta1) * along;
        v[i] = o->beta2 * v[i] + (1 - o->beta2) * along * along;
        const double m_hat = o->uncorrected ? m[i] : m[i] / (1 - pow(o->beta1, k));
        const double v_hat = o->uncorrected ? v[i] : v[i] / (1 - pow(o->beta2, k));
        const double early = eps / sqrt(1 - pow(o->beta2, k));
        w[i] -= lr * m_hat /
                (o->eps_in_root ? sqrt(v_hat + eps) : sqrt(v_hat) + (o->eps_early ? early : eps));
    }
}

static void ten_steps(const Wrong *o, Outputs *all) {
    Safetensors *given = opened(KIT "/inputs/train.safetensors");
    Safetensors *adapter = opened("golden/micro/adapter/adapter.safetensors");
    double *w[PARAMETERS], *m[PARAMETERS], *v[PARAMETERS], norm[STEPS];
    int64_t n[PARAMETERS];
    for (int p = 0; p < PARAMETERS; p++) {
        w[p] = read_numbers(adapter, parameter[p], &n[p]);
        m[p] = calloc((size_t)n[p], sizeof(double));
        v[p] = calloc((size_t)n[p], sizeof(double));
    }
    for (int k = 1; k <= STEPS; k++) {
        double *g[PARAMETERS], square = 0, own[PARAMETERS] = {0};
        for (int p = 0; p < PARAMETERS; p++) {
            char name[160];
            int64_t size;
            snprintf(name, sizeof name, "adamw/grad.%d/%s", k, parameter[p]);
            g[p] = read_numbers(given, name, &size);
            for (int64_t i = 0; i < size; i++) own[p] += g[p][i] * g[p][i];
            square += own[p];
        }
        norm[k - 1] = sqrt(square);
        for (int p = 0; p < PARAMETERS; p++) {
            const double of = o->clips_each ? sqrt(own[p]) : sqrt(square);
            const double factor = o->no_clip ? 1 : fmin(1, 0.2 / (of + 1e-6));
            one_step(o, k, n[p] > 100, factor, n[p], g[p], w[p], m[p], v[p]);
            if (k == 1) write_state(all, "after.1/*", parameter[p], w[p], n[p]);
            free(g[p]);
        }
    }
    for (int p = 0; p < PARAMETERS; p++) {
        write_state(all, "after.10/*", parameter[p], w[p], n[p]);
        write_state(all, "adamw/*/m", parameter[p], m[p], n[p]);
        write_state(all, "adamw/*/v", parameter[p], v[p], n[p]);
        free(w[p]);
        free(m[p]);
        free(v[p]);
    }
    write_state(all, "train/norm*", "", norm, STEPS);
    safetensors_close(given);
    safetensors_close(adapter);
}

#define RIGHT .decay = 0.1, .beta1 = 0.9, .beta2 = 0.98

static void optimizers(void **state) {
    (void)state;
    static const struct {
        const char *what;
        Wrong wrong;
        const char *first, *hint;
    } cases[] = {
        {"AdamW by plain loops", {RIGHT}, "", ""},
        {"decay on all", {RIGHT, .decays_all = true}, "after.1/phi.bias", "on biases and scalars"},
        {"decay in the gradient",
         {RIGHT, .coupled = true},
         "after.1/" UP ".tau_q.weight",
         "in the gradient"},
        {"decay without lr",
         {RIGHT, .no_lr = true},
         "after.1/" UP ".tau_q.weight",
         "not times the learning rate"},
        {"no decay",
         {.beta1 = 0.9, .beta2 = 0.98},
         "after.1/" UP ".tau_q.weight",
         "without weight decay"},
        {"no bias correction",
         {RIGHT, .uncorrected = true},
         "after.1/" UP ".tau_q.weight",
         "without bias correction,"},
        {"eps under the root",
         {RIGHT, .eps_in_root = true},
         "after.1/" UP ".tau_q.weight",
         "eps under the root"},
        {"eps before the correction",
         {RIGHT, .eps_early = true},
         "after.1/" UP ".tau_q.weight",
         "before its bias correction"},
        {"no clipping",
         {RIGHT, .no_clip = true},
         "after.1/" UP ".tau_q.weight",
         "without clipping"},
        {"each tensor clipped",
         {RIGHT, .clips_each = true},
         "after.1/" UP ".tau_q.weight",
         "by its own norm"},
        {"betas swapped",
         {.decay = 0.1, .beta1 = 0.98, .beta2 = 0.9},
         "adamw/" UP ".tau_q.weight/m",
         "beta1 and beta2 swapped"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char first[200] = "";
        fresh_port(ours);
        Outputs all = tensors_of(FILE_NAME);
        ten_steps(&cases[i].wrong, &all);
        write_tensors(FILE_NAME, &all);
        outputs_free(&all);
        Judgement j = judge(KIT, "@/port", "^train/adamw/");
        if (*cases[i].first) snprintf(first, sizeof first, "train adamw/%s", cases[i].first);
        expect(cases[i].what, &j, *first != '\0', first, cases[i].hint);
    }
    all_right();
}

/* ---- a port that was asked for something else ------------------------------------------------------------- */

static void expect_of_kit(const char *what, const char *first, const char *hint) {
    Result r = RUN("verify", "--kit", "@/kit", "--only", ONLY, "--output", "@/port");
    if (r.err[0]) fail_msg("%s: %s", what, r.err);
    Judgement j = judge(KIT, "@/port", ONLY);
    expect(what, &j, 1, first, hint);
}

/* The group's case of that name. */
static cJSON *case_of(cJSON *manifest, const char *name) {
    cJSON *group, *one;
    cJSON_ArrayForEach(group, cJSON_GetObjectItem(manifest, "groups")) {
        if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(group, "name")), "train") != 0)
            continue;
        cJSON_ArrayForEach(one, cJSON_GetObjectItem(group, "cases")) {
            if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(one, "name")), name) == 0)
                return one;
        }
    }
    fail_msg("no case %s", name);
    return NULL;
}

static void other_parameters(void **state) {
    (void)state;
    static const struct {
        const char *what, *name, *key, *value; /* JSON; NULL: without it */
        const char *first, *hint;
    } cases[] = {
        {"no min-SNR", "shared", "snr_gamma", NULL, "shared/train/loss", "without min-SNR weights"},
        {"eps for v", "v_prediction", "prediction_type", "\"epsilon\"", "v_prediction/train/loss",
         "with the other target"},
        {"sqrt(h)", "plain", "settings", "{\"h_scale\": 0.5}", "plain/0/alg1/c.0",
         "with sqrt(h) for sqrt(2 h)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char first[200], command[300];
        fresh_kit();
        snprintf(command, sizeof command, "ln -sfn \"$PWD/golden/micro\" '%s'", path("@/micro"));
        assert_int_equal(system(command), 0);
        cJSON *manifest = json_of("@/kit/manifest.json");
        cJSON *p = cJSON_GetObjectItem(case_of(manifest, cases[i].name), "parameters");
        cJSON_DeleteItemFromObjectCaseSensitive(p, cases[i].key);
        if (cases[i].value) cJSON_AddItemToObject(p, cases[i].key, cJSON_Parse(cases[i].value));
        put_json("@/kit/manifest.json", manifest);
        snprintf(first, sizeof first, "train %s", cases[i].first);
        expect_of_kit(cases[i].what, first, cases[i].hint);
    }
    all_right();
}

/* ---- a port with another pack, or that reads its inputs otherwise ------------------------------------------ */

static double no_deviation(double logvar) { return -1e30 + 0 * logvar; }
static double squared(double logvar) { return 2 * logvar; }

/* A kit with other log-variances. */
static void change_variances(double (*change)(double)) {
    char command[300];
    fresh_packs(&(PackCase){.file = "vae/config.json", .script = "s/$/ /"});
    accept_pack();
    snprintf(command, sizeof command, "cd '%s' && rm inputs && cp -r \"$OLDPWD\"/" KIT "/inputs .",
             path("@/kit"));
    assert_int_equal(system(command), 0);
    Outputs all = tensors_of("@/kit/inputs/train.safetensors");
    for (size_t k = 0; k < all.count; k++) {
        StoredTensor *t = &all.tensor[k];
        if (!strstr(t->name, "latent_logvar")) continue;
        for (int64_t i = 0; i < stored_numel(t); i++) set(t, i, change(get(t, i)));
    }
    write_tensors("@/kit/inputs/train.safetensors", &all);
    outputs_free(&all);
}

static void other_pictures(void **state) {
    (void)state;
    fresh_packs(&(PackCase){.file = "vae/config.json",
                            .script = "s/\"scaling_factor\": 1.7/\"scaling_factor\": 1.0/"});
    accept_pack();
    expect_of_kit("no scaling factor", "train plain/0/train/z0",
                  "without the VAE's scaling factor");
    change_variances(no_deviation);
    expect_of_kit("the posterior's mean", "train plain/0/train/z0", "with the posterior's mean");
    change_variances(squared);
    expect_of_kit("the variance for its root", "train plain/0/train/z0", "with exp(logvar) for");
    all_right();
}

/* ---- the kit sees every mistake ------------------------------------------------------------------------------ */

/* Our own outputs with that mistake; where it can't be made (there is no t = 1000, no noise for a whole
 * caption that is dropped) without. How many cases that are. */
static int run_with(const Kit *kit, TrainMistake mistake) {
    Error err = {0};
    Outputs out = {0};
    int impossible = 0;
    KitRun *run = kit_run_new(kit, 1, &err);
    if (!run) fail_msg("%s", err.message);
    const KitGroup *train = &kit->group[kit->groups - 1];
    assert_string_equal(train->name, "train");
    for (size_t c = 0; c < train->count; c++) {
        const size_t before = out.count;
        run->mistake = mistake;
        if (kit_run_case(run, train, &train->cases[c], KIT_FORCED, &out, &err) == 0) continue;
        err = (Error){0};
        while (out.count > before) drop(&out, out.tensor[out.count - 1].name);
        run->mistake = TRAIN_RIGHT;
        if (kit_run_case(run, train, &train->cases[c], KIT_FORCED, &out, &err))
            fail_msg("%s", err.message);
        impossible++;
    }
    kit_run_free(run);
    write_tensors(FILE_NAME, &out);
    outputs_free(&out);
    return impossible;
}

static void every_mistake_is_named(void **state) {
    (void)state;
    Error err = {0};
    Kit *kit = kit_open(KIT, &err);
    if (!kit) fail_msg("%s", err.message);
    for (int m = TRAIN_RIGHT; m < TRAIN_MISTAKES; m++) {
        fresh_port(ours);
        const int without = run_with(kit, (TrainMistake)m);
        if (m == TRAIN_CAPTION_KEPT) {
            assert_int_equal(without, 1); /* the only case that drops one */
            continue;
        }
        assert_true(without <= (m == TRAIN_T_MORE || m == TRAIN_T_LESS));
        Judgement j = judge(KIT, "@/port", ONLY);
        char what[40];
        snprintf(what, sizeof what, "mistake %d", m);
        expect(what, &j, m != TRAIN_RIGHT, j.first, m ? "recomputed: mine is what comes out" : "");
        if (m && !strstr(j.hints[0], train_mistake((TrainMistake)m)))
            fail_msg("mistake %d: %s", m, j.hints[0]);
    }
    kit_close(kit);
    all_right();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(damaged_numbers, fresh_directory, remove_directory),
        cmocka_unit_test_setup_teardown(what_diverges_by_itself, fresh_directory, remove_directory),
        cmocka_unit_test_setup_teardown(optimizers, fresh_directory, remove_directory),
        cmocka_unit_test_setup_teardown(other_parameters, fresh_directory, remove_directory),
        cmocka_unit_test_setup_teardown(other_pictures, fresh_directory, remove_directory),
        cmocka_unit_test_setup_teardown(every_mistake_is_named, fresh_directory, remove_directory),
    };
    return cmocka_run_group_tests_name("the kit's training steps", tests, compute_ours,
                                       remove_ours);
}
