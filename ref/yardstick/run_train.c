/* The kit's training steps: loss and gradients, AdamW on given gradients, ten steps of both
 * (golden/kit_train.py). See run.h. */
#include "ref/train/step.h"
#include "ref/yardstick/run.h"
#include "tensor/tape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERR(in) (&(in)->ctx->error)
#define REAL_DTYPE (sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32)

enum { SAMPLES_MAX = 16, STEPS_MAX = 100 };

/* A case while it runs. */
typedef struct Step {
    const Given *in;
    Pack pack;         /* borrowed from the models */
    Schedule schedule; /* theirs, with the case's prediction_type */
    Vae vae;           /* for the mistake of forgetting the scaling factor */
    Parameters p;
    Training t;
    TrainSample sample[SAMPLES_MAX];
    FrozenPrompt prompt[SAMPLES_MAX];
    char group[SAMPLES_MAX][32]; /* "<case>/<b>/" */
    int64_t samples, batch, batches;
    double max_grad_norm;
} Step;

/* ---- what is trained -------------------------------------------------------------------------------- */

static void open_models(Step *s) {
    const Given *in = s->in;
    Models *m = in->models;
    if (!m) refuse_case(in, "pack: expected one of the manifest's packs", NULL);
    if (in->ctx->error.set) return;
    const Schedule *schedule = models_schedule(m, ERR(in));
    const Vae *vae = models_vae(m, ERR(in));
    s->pack.unet = (Unet *)(uintptr_t)models_unet(m, ERR(in));
    s->pack.adapter = (Adapter *)(uintptr_t)models_adapter(m, in->c, ERR(in));
    s->pack.llm = (Llm *)(uintptr_t)models_llm(m, ERR(in));
    if (in->ctx->error.set) return;
    s->schedule = *schedule;
    s->vae = *vae;
    s->pack.schedule = &s->schedule;
    s->pack.vae = &s->vae;
    if (in->mistake == TRAIN_UNSCALED) s->vae.scaling_factor = 1;
    const char *prediction = given_text(in, "prediction_type");
    if (prediction && strcmp(prediction, "v_prediction") == 0)
        s->schedule.prediction = PREDICT_V;
    else if (prediction && strcmp(prediction, "epsilon") != 0)
        refuse_case(in, "parameters.prediction_type: expected epsilon or v_prediction", prediction);
    if (vae->latent_channels != s->pack.unet->in_channels)
        refuse_case(in, "pack: expected as many channels of latents in VAE and U-Net",
                    in->models->pack->name);
}

static void open_step(Step *s, bool optimizes) {
    const Given *in = s->in;
    open_models(s);
    const double decay = optimizes ? given_number(in, "weight_decay") : 0;
    if (optimizes) s->max_grad_norm = given_number(in, "max_grad_norm");
    if (in->ctx->error.set) return;
    parameters_open(&s->p, s->pack.adapter, s->pack.unet,
                    &(ParametersOptions){.weight_decay = decay}, ERR(in));
    if (in->ctx->error.set) return;
    const double gamma = given_has_parameter(in, "snr_gamma") ? given_number(in, "snr_gamma") : 0;
    if (in->mistake == TRAIN_H_HALF) s->p.adapter.settings.h_scale /= 2;
    training_open(&s->t, &s->pack, &s->p.adapter, in->mistake == TRAIN_NO_SNR ? 0 : gamma, ERR(in));
}

static void close_step(Step *s) {
    training_close(&s->t);
    parameters_close(&s->p);
}

/* ---- samples ---------------------------------------------------------------------------------------- */

static Tensor latents_of(const Step *s, int64_t b, const char *what) {
    char name[64];
    snprintf(name, sizeof name, "%d/train/%s", (int)b, what);
    return given_map(s->in, name);
}

/* The caption, or the begin token alone where it is dropped. */
static void read_prompt(Step *s, int64_t b) {
    const Given *in = s->in;
    char name[40], drop[40];
    int64_t n = 0, one;
    snprintf(name, sizeof name, "%d/ids", (int)b);
    snprintf(drop, sizeof drop, "%d/train/drop", (int)b);
    const int64_t *ids = given_ids(in, name, &n);
    if (given_has(in, drop) && in->mistake != TRAIN_CAPTION_KEPT) {
        const int64_t *dropped = given_ids(in, drop, &one);
        if (dropped && *dropped) n = 1;
    }
    if (n > s->pack.llm->max_positions)
        refuse_case(in, "ids: expected no more tokens than the LLM has positions", name);
    if (in->ctx->error.set) return;
    give_raw(in, name, DTYPE_I64, 1, &n, ids);
    s->prompt[b] = frozen_prompt(in->ctx, s->pack.llm, &s->p.adapter.settings, ids, n);
}

static void read_sample(Step *s, int64_t b) {
    const Given *in = s->in;
    char shapes[256], t[40];
    const int k = (int)b;
    int64_t size[26] = {['C' - 'A'] = s->pack.unet->in_channels}, one;
    snprintf(t, sizeof t, "%d/train/t", k);
    snprintf(shapes, sizeof shapes,
             "%d/ids:N %d/train/t: %d/train/drop?: %d/train/latent_mean:CHW "
             "%d/train/latent_logvar:CHW %d/train/posterior_noise:CHW %d/train/noise:CHW",
             k, k, k, k, k, k, k);
    if (!given_fits(in, shapes, size)) return;
    read_prompt(s, b);
    const int64_t *time = given_ids(in, t, &one);
    if (!time) return;
    snprintf(s->group[b], sizeof s->group[b], "%.20s/%d/", in->c->name, k);
    s->sample[b] = (TrainSample){
        .prompt = &s->prompt[b],
        .posterior = {latents_of(s, b, "latent_mean"), latents_of(s, b, "latent_logvar")},
        .t = *time,
        .noise = {.file = in->group->inputs},
        .group = s->group[b]};
    if (in->ctx->error.set) return;
    if (in->mistake == TRAIN_T_LESS || in->mistake == TRAIN_T_MORE)
        s->sample[b].t += in->mistake == TRAIN_T_MORE ? 1 : -1;
    Tensor logvar = s->sample[b].posterior.logvar;
    for (int64_t i = 0; i < tensor_numel(logvar); i++) {
        if (in->mistake == TRAIN_POSTERIOR_MEAN) logvar.data[i] = -1e30F;
        if (in->mistake == TRAIN_POSTERIOR_VARIANCE) logvar.data[i] *= 2;
    }
}

static void read_samples(Step *s) {
    const Given *in = s->in;
    char name[40];
    s->batch = given_whole(in, "batch", 1, MAX_BATCH);
    s->batches = given_whole(in, "batches", 1, SAMPLES_MAX);
    if (strlen(in->c->name) > 20) refuse_case(in, "name: expected at most 20 letters", in->c->name);
    while (!in->ctx->error.set) {
        snprintf(name, sizeof name, "%d/ids", (int)s->samples);
        if (!given_has(in, name) || s->samples == SAMPLES_MAX) break;
        read_sample(s, s->samples++);
    }
    if (s->samples < s->batch * s->batches)
        refuse_case(in, "inputs: expected as many samples as parameters.batch x parameters.batches",
                    "fewer");
}

/* ---- loss and gradients ----------------------------------------------------------------------------- */

static void seen(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    const Given *in = self;
    const size_t n = strlen(in->c->name);
    if (strncmp(name, in->c->name, n) == 0 && name[n] == '/')
        give_raw(in, name + n + 1, REAL_DTYPE, ndim, dim, data);
}

/* The sum over the batch from sample `first` on, cyclically. A program that forgets what is predicted takes
 * the other target, and weight. */
static double batch_loss(Step *s, Context *ctx, int64_t first, double share) {
    Training t = s->t, other = s->t;
    TrainSample *sample[MAX_BATCH];
    double loss = 0;
    other.prediction = t.prediction == PREDICT_V ? PREDICT_EPSILON : PREDICT_V;
    for (int64_t i = 0; i < s->batch; i++) sample[i] = &s->sample[(first + i) % s->samples];
    if (s->in->mistake == TRAIN_OTHER_TARGET) t = other;
    if (s->in->mistake != TRAIN_OTHER_SNR)
        return training_samples(ctx, &t, sample, s->batch, share);
    for (int64_t i = 0; i < s->batch; i++) {
        const int64_t time = sample[i]->t;
        const double weight = training_weight(&other, time) / training_weight(&t, time);
        loss += weight * training_sample(ctx, &t, sample[i], share * weight);
    }
    return loss;
}

/* The mean over `batches` batches from sample `first` on, cyclically; its gradient is added. */
static double step_loss(Step *s, int64_t first) {
    const Given *in = s->in;
    const double every = 1 / ((double)s->batch * (double)s->batches);
    double share = every, loss = 0;
    if (in->mistake == TRAIN_SUM_BATCHES) share *= (double)s->batches;
    if (in->mistake == TRAIN_SUM_BATCH) share *= (double)s->batch;
    Tape tape = {0};
    in->ctx->tape = &tape;
    for (int64_t k = 0; k < s->batches && !in->ctx->error.set; k++) {
        if (k && in->mistake == TRAIN_LAST_BATCH) parameters_zero_gradients(&s->p);
        const bool sums = in->mistake == TRAIN_SUM_GRADIENTS;
        loss += share * batch_loss(s, in->ctx, first + k * s->batch,
                                   share * (sums ? (double)s->batches : 1));
        if (in->mistake == TRAIN_CLIP_BATCH && s->max_grad_norm > 0)
            clip_gradients(in->ctx, s->p.learned, s->p.learned_count, s->max_grad_norm);
    }
    in->ctx->tape = NULL;
    tape_free(&tape);
    return loss;
}

static void run_gradients(Step *s) {
    const Given *in = s->in;
    open_step(s, false);
    if (!in->ctx->error.set) read_samples(s);
    if (in->ctx->error.set) return;
    const Observer observer = {seen, (void *)(uintptr_t)in};
    in->ctx->observer = &observer;
    const real loss = (real)step_loss(s, 0);
    in->ctx->observer = NULL;
    give_raw(in, "train/loss", REAL_DTYPE, 0, NULL, &loss);
    for (int64_t i = 0; i < s->p.count; i++) {
        const Weight *w = &s->p.weight[i];
        char name[256];
        snprintf(name, sizeof name, "grad/%s", w->name);
        if (w->grad) give_raw(in, name, REAL_DTYPE, w->ndim, w->dim, w->grad);
    }
}

/* ---- the optimizer ---------------------------------------------------------------------------------- */

static void give_parameter(const Given *in, const Weight *w, const char *before, const char *after,
                           const real *data) {
    char name[256];
    snprintf(name, sizeof name, "%s%s%s", before, w->name, after);
    give_raw(in, name, REAL_DTYPE, w->ndim, w->dim, data);
}

/* After step number `step` of `steps`: after.N/<parameter> and, at the end, the moments. */
static void give_state(const Step *s, int64_t step, int64_t steps) {
    char after[32];
    int64_t j = 0;
    snprintf(after, sizeof after, "after.%d/", (int)step);
    for (int64_t i = 0; i < s->p.count; i++) {
        const Weight *w = &s->p.weight[i];
        give_parameter(s->in, w, after, "", w->data);
        if (!w->grad) continue;
        const Learned *l = &s->p.learned[j++];
        if (step == steps) give_parameter(s->in, w, "adamw/", "/m", l->m);
        if (step == steps) give_parameter(s->in, w, "adamw/", "/v", l->v);
    }
}

/* Gradients of step `step` as they are given; `given` are those of which there are some. */
static int64_t read_gradients(Step *s, int64_t step, Learned *given) {
    const Given *in = s->in;
    int64_t j = 0, count = 0;
    for (int64_t i = 0; i < s->p.count && !in->ctx->error.set; i++) {
        const Weight *w = &s->p.weight[i];
        char name[256];
        snprintf(name, sizeof name, "grad.%d/%s", (int)step, w->name);
        if (!w->grad) continue;
        const Learned *l = &s->p.learned[j++];
        if (!given_has(in, name)) continue;
        ArenaMark mark = scope_begin(in->ctx);
        Tensor g = given_tensor(in, name);
        if (g.data && tensor_numel(g) != l->n)
            refuse_case(in, "inputs: expected a gradient of its parameter's shape", name);
        if (g.data && !in->ctx->error.set) memcpy(w->grad, g.data, (size_t)l->n * sizeof(real));
        arena_release(&in->ctx->arena, mark);
        given[count++] = *l;
    }
    return count;
}

/* `given_gradients`: they are the case's, else those of its samples. */
static void run_steps(Step *s, bool given_gradients) {
    const Given *in = s->in;
    double loss[STEPS_MAX] = {0}, norm[STEPS_MAX] = {0};
    open_step(s, true);
    const int64_t steps = given_whole(in, "steps", 1, STEPS_MAX);
    const AdamW adamw = {given_number(in, "lr"), given_number(in, "beta1"),
                         given_number(in, "beta2"), given_number(in, "eps")};
    if (!in->ctx->error.set && !given_gradients) read_samples(s);
    Learned *given = calloc((size_t)s->p.learned_count + 1, sizeof *given);
    if (!given) fail(ERR(in), "out of memory for a training step");
    for (int64_t k = 0; k < steps && !in->ctx->error.set; k++) {
        int64_t count = s->p.learned_count;
        if (k == 0 || in->mistake != TRAIN_NOT_ZEROED) parameters_zero_gradients(&s->p);
        if (given_gradients)
            count = read_gradients(s, k + 1, given);
        else
            loss[k] = step_loss(s, k * s->batch * s->batches);
        Learned *learned = given_gradients ? given : s->p.learned;
        norm[k] = kit_clip(in, learned, count, s->max_grad_norm);
        for (int64_t i = 0; i < count && !in->ctx->error.set; i++)
            kit_adamw(in, &adamw, k + 1, &learned[i]);
        if (!in->ctx->error.set) give_state(s, k + 1, steps);
    }
    free(given);
    if (in->ctx->error.set) return;
    give_doubles(in, "train/loss", steps, loss);
    give_doubles(in, "train/norm", steps, norm);
}

/* ---- which there are -------------------------------------------------------------------------------- */

void run_train(const Given *in) {
    const char *runs = in->c->runs;
    Step s = {.in = in};
    if (strcmp(runs, "train/gradients") == 0)
        run_gradients(&s);
    else if (strcmp(runs, "train/adamw") == 0 || strcmp(runs, "train/steps") == 0)
        run_steps(&s, strcmp(runs, "train/adamw") == 0);
    else
        refuse_case(in, "module: this program has no such training step", runs);
    close_step(&s);
}
