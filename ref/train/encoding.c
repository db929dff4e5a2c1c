/* c as a sum over frozen scores, and its way back to g and eta: see encoding.h. */
#include "ref/train/encoding.h"

#include "tensor/tape.h"

#include <math.h>
#include <string.h>

FrozenPrompt frozen_prompt(Context *ctx, const Llm *llm, const Settings *choice, const int64_t *ids,
                           int64_t n) {
    FrozenPrompt p = {.x_T = llm_embedding(ctx, llm, ids, n)};
    p.delta = TENSOR_NEW(ctx, llm->T, n, llm->D);
    ArenaMark mark = scope_begin(ctx);
    Tensor x = tensor_copy(ctx, p.x_T);
    for (int64_t l = 0; l < llm->T && !ctx->error.set; l++) {
        ArenaMark block = scope_begin(ctx);
        LlmScores s = llm_block(ctx, llm, l, x);
        Tensor delta = choice->word_score ? sub(ctx, s.s_sentence, s.s_word) : s.s_sentence;
        if (ctx->error.set) break;
        const size_t bytes = (size_t)tensor_numel(x) * sizeof(real);
        memcpy(tensor_at(p.delta, l).data, delta.data, bytes);
        memcpy(x.data, s.x_next.data, bytes);
        arena_release(&ctx->arena, block);
    }
    arena_release(&ctx->arena, mark);
    return ctx->error.set ? (FrozenPrompt){0} : p;
}

typedef struct EncodingSum {
    Weight g, eta;
    const Settings *choice;
    Tensor delta;
    const Tensor *eps;   /* [T], empty without noise */
    int64_t first, last; /* blocks that take part */
} EncodingSum;

static TapeBackward encoding_backward;

Tensor encoding_sum(Context *ctx, const FrozenPrompt *prompt, Alg1Scalars scalars,
                    const Settings *choice, Noise *noise, const char *group) {
    if (ctx->error.set) return (Tensor){0};
    const int64_t T = prompt->delta.dim[0], last = alg1_last_block(ctx, choice, T);
    Tensor *eps = arena_alloc(&ctx->arena, (size_t)T * sizeof *eps);
    if (!eps) fail(&ctx->error, "out of memory for the noise of %lld blocks", (long long)T);
    Tensor c = alg1_initial(ctx, choice, prompt->x_T, noise, group, T);
    if (choice->init == INIT_NORMAL) observe(ctx, c, "%salg1/c.%lld", group, (long long)T);
    for (int64_t l = 0; l < T && !ctx->error.set; l++) {
        eps[l] = choice->noise ? alg1_draw(ctx, noise, group, "eps", T - l, c) : (Tensor){0};
        if (choice->noise) observe(ctx, eps[l], "%salg1/eps.%lld", group, (long long)(T - l));
    }
    if (ctx->error.set) return (Tensor){0};

    ArenaMark mark = scope_begin(ctx);
    Settings as_is = *choice;
    as_is.word_score = false; /* delta has it already */
    Tensor before = scale(ctx, c, 0);
    for (int64_t l = choice->first; l <= last && !ctx->error.set; l++) {
        ArenaMark block = scope_begin(ctx);
        const double g = alg1_scalar(scalars.g, l), h = softplus(alg1_scalar(scalars.eta, l));
        const LlmScores s = {.s_sentence = tensor_at(prompt->delta, l)};
        before = alg1_step(ctx, &as_is, g, h, s, before, eps[l], c);
        arena_release(&ctx->arena, block);
    }
    arena_release(&ctx->arena, mark);
    if (ctx->error.set) return (Tensor){0};
    observe(ctx, c, "%salg1/c.0", group);
    if (!is_trained(ctx, scalars.g) && !is_trained(ctx, scalars.eta)) return c;
    const EncodingSum call = {*scalars.g, *scalars.eta,  choice, prompt->delta,
                              eps,        choice->first, last};
    return tape_record(ctx, c, encoding_backward, &call, sizeof call);
}

/* dg_l += <dc, delta_l> or, for score "difference", <dc, delta_{l-1} - delta_l>
 * deta_l += <dc, eps_l> d sqrt(2 h) / d eta,   d h / d eta = 1 / (1 + exp(-eta)) */
static void encoding_backward(Context *ctx, const void *call, Tensor c, const real *dc) {
    const EncodingSum *e = call;
    const Settings *s = e->choice;
    const int64_t n = tensor_numel(c);
    for (int64_t l = e->first; l <= e->last && !ctx->error.set; l++) {
        ArenaMark mark = scope_begin(ctx);
        Tensor step = tensor_at(e->delta, l);
        if (e->g.grad && s->score == SCORE_DIFFERENCE)
            step = l > e->first ? sub(ctx, tensor_at(e->delta, l - 1), step) : scale(ctx, step, -1);
        if (e->g.grad && step.data) e->g.grad[l] += (real)(s->g_scale * dot(ctx, n, dc, step.data));
        if (e->eta.grad && s->noise && s->h_scale > 0) {
            const double eta = alg1_scalar(&e->eta, l), slope = 1 / (1 + exp(-eta));
            const double size = sqrt(2 * s->h_scale * softplus(eta));
            const double along = dot(ctx, n, dc, e->eps[l].data);
            if (size > 0) e->eta.grad[l] += (real)(s->h_scale * slope / size * along);
        }
        arena_release(&ctx->arena, mark);
    }
}
