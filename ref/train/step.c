/* One sample's loss and its way back: see step.h. */
#include "ref/train/step.h"

#include "tensor/tape.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

/* The loss [1] of the sample, on the tape. */
static Tensor sample_loss(Context *ctx, const Training *t, TrainSample *s) {
    char name[64];
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
    Tensor z_t = axpby(ctx, signal, z_0, noise, eps);
    observe_each(ctx, z_t, "train/z_t");

    /* c by Algorithm 1, phi(c), and the U-Net with Eq. 9 in every cross-attention */
    const Adapter *a = t->adapter;
    Tensor c = encoding_sum(ctx, s->prompt, a->scalars, &a->settings, &s->noise, s->group);
    CrossLayers cross = {.original = t->unet->cross,
                         .added = a->layer,
                         .out_choice = a->settings.out,
                         .context[0] = adapter_condition(ctx, a, t->unet, c, s->group)};
    Tensor predicted = unet_forward(ctx, t->unet, z_t, (double)s->t, &cross);

    Tensor target = eps;
    if (t->prediction == PREDICT_V) target = axpby(ctx, signal, eps, -noise, z_0);
    return mean_squared_error(ctx, predicted, target, (double[]){training_weight(t, s->t)});
}

double training_sample(Context *ctx, const Training *t, TrainSample *s, double share) {
    if (ctx->error.set) return 0;
    if (s->t < 0 || s->t >= t->train_steps)
        return fail(&ctx->error, "a training step at t = %lld: the schedule has t = 0 to %lld",
                    (long long)s->t, (long long)t->train_steps - 1),
               0;
    const char *prefix = ctx->prefix[0], *batch_prefix = ctx->batch_prefix;
    ctx->prefix[0] = ctx->batch_prefix = s->group;
    ArenaMark mark = scope_begin(ctx);
    Tensor loss = sample_loss(ctx, t, s);
    const double value = ctx->error.set ? 0 : (double)loss.data[0];
    if (ctx->error.set && ctx->tape)
        tape_clear(ctx);
    else if (ctx->tape)
        tape_backward(ctx, loss, (real[]){(real)share});
    arena_release(&ctx->arena, mark);
    ctx->prefix[0] = prefix;
    ctx->batch_prefix = batch_prefix;
    return ctx->error.set ? 0 : value;
}
