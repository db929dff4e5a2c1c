/* Algorithm 1, sampling the text encoding (spec, section 3; paper, section 3.4):
 *
 *     input   token ids; T blocks; g, h; noise eps_t ~ N(0, I)
 *     x^T = embedding(ids)
 *     c   = c^T
 *     for t = T .. 1:
 *         x^{t-1}    = F_t(x^t)                                  (causal)
 *         s_sentence = g(t) * S_t(x_d^{t-1}, x_d^t, x_{<d}^t)
 *         s_word     = g(t) * S_t(x_d^{t-1}, x_d^t)
 *         c          = c + (s_sentence - s_word) + sqrt(2 h(t)) * eps_t
 *     return c                                                   (= c^0)
 */
#include "ref/alg1_encoding.h"
#include "tensor/tape.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

double alg1_scalar(const Weight *w, int64_t l) {
    real value;
    weight_read(w, l, 1, &value);
    return (double)value;
}

double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

static void assign(Tensor to, Tensor from) {
    if (to.data && from.data) memcpy(to.data, from.data, (size_t)tensor_numel(to) * sizeof(real));
}

/* to <- to + s * x, in place: c is the one tensor that lives through the whole loop. */
static void accumulate(Tensor to, double s, Tensor x) {
    if (!to.data || !x.data) return;
    for (int64_t i = 0, n = tensor_numel(to); i < n; i++) to.data[i] += (real)s * x.data[i];
}

Tensor alg1_draw(Context *ctx, Noise *noise, const char *group, const char *what, int64_t t,
                 Tensor like) {
    char name[64];
    snprintf(name, sizeof name, "%salg1/%s.%lld", group, what, (long long)t);
    return noise_draw(ctx, noise, name, like.ndim, like.dim);
}

static Tensor zeros_like(Context *ctx, Tensor x) {
    Tensor y = tensor_new(ctx, x.ndim, x.dim);
    if (y.data) memset(y.data, 0, (size_t)tensor_numel(y) * sizeof(real));
    return y;
}

/* c^T: the token embeddings, zeros, or N(0, I), which is the stream's first draw ("alg1/c.T"). */
Tensor alg1_initial(Context *ctx, const Settings *choice, Tensor x, Noise *noise, const char *group,
                    int64_t T) {
    if (choice->init == INIT_EMBEDDING) return tensor_copy(ctx, x);
    if (choice->init == INIT_NORMAL) return alg1_draw(ctx, noise, group, "c", T, x);
    return zeros_like(ctx, x);
}

Tensor alg1_step(Context *ctx, const Settings *choice, double g, double h, LlmScores s,
                 Tensor before, Tensor eps, Tensor c) {
    /* c = c + g(t) (S_sentence - S_word); the control without the word score adds S_sentence
     * alone, score "difference" adds g(t) (delta_{t+1} - delta_t) */
    Tensor delta = choice->word_score ? sub(ctx, s.s_sentence, s.s_word) : s.s_sentence;
    Tensor step = choice->score == SCORE_DIFFERENCE ? sub(ctx, before, delta) : delta;
    accumulate(c, choice->g_scale * g, step);
    /* c = c + sqrt(2 h(t)) eps_t */
    if (choice->noise) accumulate(c, sqrt(2 * choice->h_scale * h), eps);
    return delta;
}

int64_t alg1_last_block(Context *ctx, const Settings *choice, int64_t T) {
    const int64_t last = choice->last < 0 ? T - 1 : choice->last;
    if (last >= T)
        fail(&ctx->error, "blocks: [%lld, %lld] goes past the LLM's last block, %lld",
             (long long)choice->first, (long long)last, (long long)(T - 1));
    return last;
}

Tensor alg1_encoding(Context *ctx, const Llm *llm, Alg1Scalars scalars, const Settings *choice,
                     const int64_t *ids, int64_t n, Noise *noise, const char *group) {
    const int64_t T = llm->T, last = alg1_last_block(ctx, choice, T);

    Tensor x = llm_embedding(ctx, llm, ids, n); /* x^T */
    Tensor c = alg1_initial(ctx, choice, x, noise, group, T);
    Tensor before = zeros_like(ctx, x); /* delta_{t+1} for score "difference"; 0 before the first */
    observe(ctx, x, "%sllm/x.%lld", group, (long long)T);
    observe(ctx, c, "%salg1/c.%lld", group, (long long)T);

    for (int64_t t = T; t >= 1 && !ctx->error.set; t--) {
        ArenaMark mark = scope_begin(ctx);
        int64_t l = T - t;
        double g = alg1_scalar(scalars.g, l), h = softplus(alg1_scalar(scalars.eta, l));
        bool takes_part = l >= choice->first && l <= last;

        /* x^{t-1} = F_t(x^t), with S_t in both readings (before g) */
        LlmScores s = llm_block(ctx, llm, l, x);
        observe(ctx, s.s_sentence, "%sllm/s_sentence.%lld", group, (long long)t);
        observe(ctx, s.s_word, "%sllm/s_word.%lld", group, (long long)t);

        /* Blocks that take no part draw too, so that the noise of the others does not depend on
         * `blocks`. */
        Tensor eps = {0};
        if (choice->noise) {
            eps = alg1_draw(ctx, noise, group, "eps", t, c);
            observe(ctx, eps, "%salg1/eps.%lld", group, (long long)t);
        }
        if (takes_part) assign(before, alg1_step(ctx, choice, g, h, s, before, eps, c));
        assign(x, s.x_next);
        arena_release(&ctx->arena, mark);
        observe(ctx, x, "%sllm/x.%lld", group, (long long)(t - 1));
        observe(ctx, c, "%salg1/c.%lld", group, (long long)(t - 1));
    }
    return ctx->error.set ? (Tensor){0} : c; /* c^0 */
}

static double root_mean_square(const real *row, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)row[i] * (double)row[i];
    return sqrt(sum / (double)n);
}

static TapeBackward normalize_backward;

Tensor alg1_normalize(Context *ctx, Tensor c, const Settings *choice) {
    if (choice->normalize == NORMALIZE_NONE) return tensor_copy(ctx, c);
    Tensor constant = c;
    constant.var = 0; /* recorded here, as one operator */
    Tensor y = tensor_copy(ctx, constant);
    if (!y.data) return y;
    int64_t N = tensor_rows(c), D = tensor_cols(c);
    for (int64_t d = 0; d < N; d++) {
        real *row = y.data + d * D;
        double rms = root_mean_square(row, D);
        for (int64_t i = 0; i < D && rms > 0; i++) row[i] = (real)((double)row[i] / rms);
    }
    return is_variable(ctx, c) ? tape_record(ctx, y, normalize_backward, &c, sizeof c) : y;
}

/* dc += (dy - y mean(y dy)) / rms, row by row; dy where the row is zero */
static void normalize_backward(Context *ctx, const void *call, Tensor y, const real *dy) {
    const Tensor c = *(const Tensor *)call;
    real *dc = tape_gradient(ctx, c);
    const int64_t D = tensor_cols(y);
    for (int64_t at = 0, n = tensor_numel(y); dc && at < n; at += D) {
        const double rms = root_mean_square(c.data + at, D);
        double along = 0;
        for (int64_t i = at; i < at + D; i++) along += (double)y.data[i] * (double)dy[i];
        if (rms == 0) along = 0;
        for (int64_t i = at; i < at + D; i++)
            dc[i] += (real)(((double)dy[i] - (double)y.data[i] * along / (double)D) /
                            (rms > 0 ? rms : 1));
    }
}
