/* Losses of samples, L = mean((eps_theta(z_t, c) - eps)^2), and their way back (spec, section 5): see step.h. */
#include "ref/train/step.h"

#include "tensor/tape.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LATENT_PIXELS (64 * 64) /* that training_together puts into one pass of the U-Net */

int training_open(Training *t, const Pack *pack, const Adapter *adapter, double snr_gamma,
                  Error *err) {
    const Schedule *s = pack->schedule;
    *t = (Training){.unet = pack->unet,
                    .vae = pack->vae,
                    .adapter = adapter,
                    .train_steps = s->train_steps,
                    .prediction = s->prediction,
                    .snr_gamma = snr_gamma};
    if (s->prediction == PREDICT_SAMPLE)
        return fail(err,
                    "%s: prediction_type: expected \"epsilon\" or \"v_prediction\", which can be "
                    "trained on, found \"sample\"",
                    s->path);
    t->abar = schedule_alphas(s, s->rescale_betas_zero_snr, err);
    return t->abar ? 0 : -1;
}

void training_close(Training *t) {
    free(t->abar);
    *t = (Training){0};
}

double training_weight(const Training *t, int64_t timestep) {
    if (t->snr_gamma <= 0) return 1;
    const double abar = t->abar[timestep], snr = abar / (1 - abar);
    return t->prediction == PREDICT_V ? fmin(snr, t->snr_gamma) / (snr + 1)
                                      : fmin(1, t->snr_gamma / snr);
}

/* N(0, I) like z [1, h, w, C], drawn as torch.randn(C, h, w). */
static Tensor draw_like(Context *ctx, TrainSample *s, const char *what, Tensor z) {
    char name[64];
    if (ctx->error.set) return (Tensor){0};
    snprintf(name, sizeof name, "%strain/%s", s->group, what);
    Tensor x = noise_draw(ctx, &s->noise, name, 3, (int64_t[]){z.dim[3], z.dim[1], z.dim[2]});
    return tensor_view(channels_last(ctx, x), 4, z.dim);
}

/* eps [1, h, w, C] += s n_c */
static void add_offset(Context *ctx, TrainSample *s, Tensor eps) {
    char name[64];
    if (ctx->error.set || s->noise_offset == 0 || s->noise.file) return;
    snprintf(name, sizeof name, "%strain/noise_offset", s->group);
    ArenaMark mark = scope_begin(ctx);
    const int64_t C = eps.dim[3];
    Tensor n = noise_draw(ctx, &s->offset, name, 3, (int64_t[]){C, 1, 1});
    observe(ctx, n, "%s", name);
    for (int64_t i = 0; !ctx->error.set && i < tensor_numel(eps); i++)
        eps.data[i] += (real)(s->noise_offset * (double)n.data[i % C]);
    arena_release(&ctx->arena, mark);
}

/* What the U-Net is asked of one sample: z_t, what it should answer, and what it is told. */
typedef struct Question {
    Tensor z_t, target; /* [1, h, w, C] */
    CrossContext *context;
} Question;

static Question ask(Context *ctx, const Training *t, TrainSample *s) {
    Question q = {0};
    char name[64];
    if (s->t < 0 || s->t >= t->train_steps)
        return fail(&ctx->error, "a training step at t = %lld: the schedule has t = 0 to %lld",
                    (long long)s->t, (long long)t->train_steps - 1),
               q;
    ctx->prefix[0] = s->group;
    snprintf(name, sizeof name, "%strain/t", s->group);
    observe_scalar(ctx, (double)s->t, name);

    /* z_0 from the posterior, z_t with noise on it */
    Tensor posterior_noise = draw_like(ctx, s, "posterior_noise", s->posterior.mean);
    observe_each(ctx, posterior_noise, "train/posterior_noise");
    Tensor z_0 = vae_sample(ctx, t->vae, s->posterior, posterior_noise);
    observe_each(ctx, z_0, "train/z0");
    const double signal = sqrt(t->abar[s->t]), noise = sqrt(1 - t->abar[s->t]);
    Tensor eps = draw_like(ctx, s, "noise", z_0);
    add_offset(ctx, s, eps);
    observe_each(ctx, eps, "train/noise");
    q.z_t = axpby(ctx, signal, z_0, noise, eps);
    observe_each(ctx, q.z_t, "train/z_t");
    q.target = t->prediction == PREDICT_V ? axpby(ctx, signal, eps, -noise, z_0) : eps;

    /* c by Algorithm 1, phi(c), and every cross-attention's keys and values */
    const Adapter *a = t->adapter;
    Tensor c = encoding_sum(ctx, s->prompt, a->scalars, &a->settings, &s->noise, s->group);
    q.context = adapter_condition(ctx, a, t->unet, c, s->group);
    return q;
}

/* [1, ...] n times -> [n, ...]; constants. */
static Tensor stack(Context *ctx, int64_t n, const Tensor *x) {
    Tensor all = TENSOR_NEW(ctx, n, x[0].dim[1], x[0].dim[2], x[0].dim[3]);
    for (int64_t b = 0; all.data && b < n; b++) {
        assert(memcmp(x[b].dim, x[0].dim, sizeof x[b].dim) == 0);
        memcpy(tensor_at(all, b).data, x[b].data, (size_t)tensor_numel(x[b]) * sizeof(real));
    }
    return all;
}

/* The samples' mean loss [1], on the tape: the U-Net with Eq. 9 in every cross-attention, once for all. */
static Tensor mean_loss(Context *ctx, const Training *t, TrainSample *const *s, int64_t n) {
    const Adapter *a = t->adapter;
    CrossLayers cross = {
        .original = t->unet->cross, .added = a->layer, .out_choice = a->settings.out};
    Tensor z_t[MAX_BATCH], target[MAX_BATCH];
    double step[MAX_BATCH], weight[MAX_BATCH];
    for (int64_t b = 0; b < n && !ctx->error.set; b++) {
        const Question q = ask(ctx, t, s[b]);
        z_t[b] = q.z_t, target[b] = q.target, cross.context[b] = q.context;
        step[b] = (double)s[b]->t, weight[b] = training_weight(t, s[b]->t);
    }
    if (ctx->error.set) return (Tensor){0};
    for (int64_t b = 0; b < n; b++) ctx->prefix[b] = s[b]->group;
    Tensor predicted = unet_forward_each(ctx, t->unet, stack(ctx, n, z_t), step, &cross);
    return mean_squared_error(ctx, predicted, stack(ctx, n, target), weight);
}

int64_t training_together(const TrainSample *s) {
    const int64_t most = LATENT_PIXELS / (s->posterior.mean.dim[1] * s->posterior.mean.dim[2]);
    return most < 1 ? 1 : most < MAX_BATCH ? most : MAX_BATCH;
}

double training_samples(Context *ctx, const Training *t, TrainSample *const *s, int64_t n,
                        double share) {
    if (ctx->error.set) return 0;
    assert(n >= 1 && n <= MAX_BATCH);
    const char *prefix[MAX_BATCH], *batch_prefix = ctx->batch_prefix;
    memcpy(prefix, ctx->prefix, sizeof prefix);
    ctx->batch_prefix = s[0]->group;
    ArenaMark mark = scope_begin(ctx);
    Tensor loss = mean_loss(ctx, t, s, n);
    const double value = ctx->error.set ? 0 : (double)loss.data[0] * (double)n;
    if (ctx->error.set && ctx->tape)
        tape_clear(ctx);
    else if (ctx->tape)
        tape_backward(ctx, loss, (real[]){(real)(share * (double)n)});
    arena_release(&ctx->arena, mark);
    memcpy(ctx->prefix, prefix, sizeof prefix);
    ctx->batch_prefix = batch_prefix;
    return ctx->error.set ? 0 : value;
}

double training_sample(Context *ctx, const Training *t, TrainSample *s, double share) {
    return training_samples(ctx, t, &s, 1, share);
}
