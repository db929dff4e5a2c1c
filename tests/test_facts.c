/* What follows exactly from Algorithm 1 and Eq. 9 (spec, sections 3 and 4), on the micro pack and
 * without any golden: each fact is a test of its own. */
#include "tests/check.h"

#include "ref/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char prompt[] = "a small red circle to the left of a large blue square";

typedef struct World {
    Context ctx;
    Pack pack;
    TokenIds ids;
} World;

static int open_world(void **state) {
    World *w = calloc(1, sizeof *w);
    PackPaths paths = {.model = "golden/micro"};
    pack_open(&w->pack, &paths, PACK_GENERATE, &w->ctx.error);
    assert_context_ok(&w->ctx);
    tokenizer_encode(w->pack.tokenizer, prompt, strlen(prompt), true, &w->ids, &w->ctx.error);
    assert_context_ok(&w->ctx);
    *state = w;
    return 0;
}

static int close_world(void **state) {
    World *w = *state;
    token_ids_free(&w->ids);
    pack_close(&w->pack);
    context_free(&w->ctx);
    free(w);
    return 0;
}

/* Algorithm 1 on the first n ids with the settings changed by `set` ("" separated, NULL-ended). */
static Tensor encoding(World *w, int64_t n, const char *const *set) {
    Settings s = settings_default();
    for (size_t i = 0; set && set[i]; i++) settings_parse(&s, set[i], &w->ctx.error);
    assert_context_ok(&w->ctx);
    Noise noise = {.rng = rng_seed(42)};
    Tensor c =
        alg1_encoding(&w->ctx, w->pack.llm, w->pack.adapter->scalars, &s, w->ids.id, n, &noise, "");
    assert_context_ok(&w->ctx);
    return c;
}
#define ENCODING(w, n, ...) encoding(w, n, (const char *const[]){__VA_ARGS__, NULL})

static int64_t count(World *w) { return (int64_t)w->ids.count; }

static double largest(const real *a, const real *b, int64_t n) {
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double difference = fabs((double)a[i] - (double)(b ? b[i] : 0));
        if (!(difference <= worst)) worst = difference;
    }
    return worst;
}

#define ASSERT_EQUAL_BYTES(a, b) assert_memory_equal((a).data, (b).data, bytes_of(a, b))
static size_t bytes_of(Tensor a, Tensor b) {
    assert_int_equal(tensor_numel(a), tensor_numel(b));
    return (size_t)tensor_numel(a) * sizeof(real);
}

static void assert_close(Tensor a, Tensor b, double ulps) {
    assert_int_equal(tensor_numel(a), tensor_numel(b));
    double size = largest(b.data, NULL, tensor_numel(b));
    double error = largest(a.data, b.data, tensor_numel(a));
    assert_true(size > 0);
    if (!(error <= ulps * (double)REAL_EPSILON * size))
        fail_msg("differ by %g of %g, allowed are %g ulp", error, size, ulps);
}

/* x^t of an ordinary causal forward, through the block function alone. */
static Tensor hidden_state(World *w, int64_t blocks) {
    Tensor x = llm_embedding(&w->ctx, w->pack.llm, w->ids.id, count(w));
    for (int64_t l = 0; l < blocks; l++) x = llm_block(&w->ctx, w->pack.llm, l, x).x_next;
    return x;
}

static void first_token_keeps_its_embedding(void **state) {
    World *w = *state;
    Tensor c = ENCODING(w, count(w), "noise=false"), x = hidden_state(w, 0);
    assert_memory_equal(c.data, x.data, (size_t)w->pack.llm->D * sizeof(real));
    assert_true(largest(c.data + w->pack.llm->D, x.data + w->pack.llm->D, w->pack.llm->D) > 1e-3);
}

static void later_tokens_change_nothing_before_them(void **state) {
    World *w = *state;
    Tensor all = ENCODING(w, count(w), "noise=false");
    for (int64_t n = 1; n < count(w); n++) {
        Tensor prefix = ENCODING(w, n, "noise=false");
        Tensor same = {.data = all.data, .ndim = 2, .dim = {n, w->pack.llm->D, 1, 1}};
        assert_close(prefix, same, 64);
    }
}

static void another_later_token_changes_no_byte_before_it(void **state) {
    World *w = *state;
    Tensor before = ENCODING(w, count(w), "noise=false");
    int64_t last = w->ids.id[count(w) - 1];
    w->ids.id[count(w) - 1] = last == 5 ? 6 : 5;
    Tensor after = ENCODING(w, count(w), "noise=false");
    w->ids.id[count(w) - 1] = last;
    size_t row = (size_t)w->pack.llm->D * sizeof(real), rows = (size_t)count(w) - 1;
    assert_memory_equal(before.data, after.data, rows * row);
    assert_memory_not_equal(before.data, after.data, (rows + 1) * row);
}

static void without_g_and_noise_c_is_the_embedding(void **state) {
    World *w = *state;
    ASSERT_EQUAL_BYTES(ENCODING(w, count(w), "noise=false", "g_scale=0"), hidden_state(w, 0));
}

static void without_word_score_c_is_the_last_block(void **state) {
    World *w = *state;
    real ones[64];
    for (int i = 0; i < 64; i++) ones[i] = 1;
    Weight g = *w->pack.adapter->scalars.g;
    g.data = ones;
    g.dtype = sizeof(real) == 8 ? DTYPE_F64 : DTYPE_F32;
    Alg1Scalars learned = w->pack.adapter->scalars;
    w->pack.adapter->scalars.g = &g;
    Tensor c = ENCODING(w, count(w), "noise=false", "word_score=false");
    w->pack.adapter->scalars = learned;
    assert_close(c, hidden_state(w, w->pack.llm->T), 8);
}

static void one_token_has_one_score(void **state) {
    World *w = *state;
    Tensor x = llm_embedding(&w->ctx, w->pack.llm, w->ids.id, 1);
    for (int64_t l = 0; l < w->pack.llm->T; l++) {
        LlmScores s = llm_block(&w->ctx, w->pack.llm, l, x);
        ASSERT_EQUAL_BYTES(s.s_sentence, s.s_word);
        x = s.x_next;
    }
}

/* In a phi block the MLP cancels: S_sentence - S_word is the same with the MLP's bias moved. */
static void the_mlp_cancels(void **state) {
    World *w = *state;
    Tensor x = hidden_state(w, 0);
    LlmBlock *b = &w->pack.llm->block[0];
    LlmScores s = llm_block(&w->ctx, w->pack.llm, 0, x);
    Tensor delta = sub(&w->ctx, s.s_sentence, s.s_word);
    const Weight *bias = b->fc2_b;
    b->fc2_b = b->out_b;
    LlmScores moved = llm_block(&w->ctx, w->pack.llm, 0, x);
    b->fc2_b = bias;
    assert_true(largest(s.s_word.data, moved.s_word.data, tensor_numel(x)) > 1e-3);
    assert_close(sub(&w->ctx, moved.s_sentence, moved.s_word), delta, 64);
}

/* c = c^T + sum_t g(t) delta_t: twice g moves c twice as far from c^T. */
static void linear_in_g(void **state) {
    World *w = *state;
    const char *const kinds[] = {"score=residual", "score=difference"};
    for (int k = 0; k < 2; k++) {
        Tensor none = hidden_state(w, 0), once = ENCODING(w, count(w), "noise=false", kinds[k]);
        Tensor half = ENCODING(w, count(w), "noise=false", kinds[k], "g_scale=0.5");
        Tensor a = sub(&w->ctx, once, none), b = scale(&w->ctx, sub(&w->ctx, half, none), 2);
        assert_close(b, a, 64);
    }
}

/* The blocks are a sum: c over all is what the ranges add, one by one. */
static void blocks_add_up(void **state) {
    World *w = *state;
    Tensor x = hidden_state(w, 0), sum = scale(&w->ctx, x, 1);
    for (int64_t l = 0; l < w->pack.llm->T; l++) {
        char range[40];
        snprintf(range, sizeof range, "blocks=[%d,%d]", (int)l, (int)l);
        sum = add(&w->ctx, sum, sub(&w->ctx, ENCODING(w, count(w), "noise=false", range), x));
    }
    assert_close(sum, ENCODING(w, count(w), "noise=false"), 64);
}

static void zeros_and_embedding_differ_by_the_embedding(void **state) {
    World *w = *state;
    Tensor a = ENCODING(w, count(w), "noise=false");
    Tensor b = ENCODING(w, count(w), "noise=false", "init=zeros");
    assert_close(add(&w->ctx, b, hidden_state(w, 0)), a, 64);
}

static void h_scale_zero_is_no_noise(void **state) {
    World *w = *state;
    ASSERT_EQUAL_BYTES(ENCODING(w, count(w), "h_scale=0"), ENCODING(w, count(w), "noise=false"));
    Tensor noisy = encoding(w, count(w), NULL), quiet = ENCODING(w, count(w), "noise=false");
    assert_true(largest(noisy.data, quiet.data, tensor_numel(quiet)) > 1e-3);
}

typedef struct Draws {
    real *eps; /* [T, numel], block by block */
    int64_t T, numel, seen;
} Draws;

static void keep_eps(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    Draws *d = self;
    if (strncmp(name, "alg1/eps.", 9) != 0) return;
    int64_t n = 1, t = atoll(name + 9);
    for (int i = 0; i < ndim; i++) n *= dim[i];
    assert_int_equal(n, d->numel);
    assert_int_equal(t, d->T - d->seen); /* T .. 1 */
    memcpy(d->eps + d->seen++ * n, data, (size_t)n * sizeof(real));
}

/* Blocks that take no part draw too: eps_t is the same, whichever blocks do. */
static void eps_does_not_depend_on_blocks(void **state) {
    World *w = *state;
    const int64_t T = w->pack.llm->T, n = count(w) * w->pack.llm->D;
    const char *const blocks[] = {"blocks=[0,2]", "blocks=[1,1]", "blocks=[2,2]"};
    real *all[3];
    assert_int_equal(T, 3);
    for (int i = 0; i < 3; i++) {
        Draws d = {calloc((size_t)(T * n), sizeof(real)), T, n, 0};
        Observer observer = {keep_eps, &d};
        w->ctx.observer = &observer;
        ENCODING(w, count(w), blocks[i]);
        w->ctx.observer = NULL;
        assert_int_equal(d.seen, T);
        all[i] = d.eps;
    }
    for (int i = 1; i < 3; i++) assert_memory_equal(all[0], all[i], (size_t)(T * n) * sizeof(real));
    assert_memory_not_equal(all[0], all[0] + n, (size_t)n * sizeof(real));
    for (int i = 0; i < 3; i++) free(all[i]);
}

static void rms_makes_every_token_as_long(void **state) {
    World *w = *state;
    Settings s = settings_default();
    s.normalize = NORMALIZE_RMS;
    Tensor c = ENCODING(w, count(w), "noise=false", "init=zeros"); /* its first row is zero */
    Tensor y = alg1_normalize(&w->ctx, c, &s);
    for (int64_t d = 0; d < count(w); d++) {
        double sum = 0;
        for (int64_t i = 0; i < tensor_cols(y); i++) {
            double v = (double)y.data[d * tensor_cols(y) + i];
            sum += v * v / (double)tensor_cols(y);
        }
        double expected = d == 0 ? 0 : 1;
        assert_true(fabs(sum - expected) <= 64 * (double)REAL_EPSILON);
    }
}

/* A scalar of the blend. */
static Weight scalar(const double *value) {
    return (Weight){.data = value, .dtype = DTYPE_F64, .ndim = 1, .dim = {1, 1, 1, 1}};
}

/* A fresh adapter (a1 = 1, b1 = a2 = b2 = 0) is the original attention over phi(c). */
static void a_fresh_blend_is_the_original(void **state) {
    World *w = *state;
    const CrossAttention *layer = &w->pack.unet->cross[0];
    AddedAttention added = w->pack.adapter->layer[0];
    const double numbers[] = {0, 1};
    const Weight zero = scalar(&numbers[0]), one = scalar(&numbers[1]);
    added.blend = (Blend){.a1 = &one, .b1 = &zero, .a2 = &zero, .b2 = &zero};
    Tensor phi_c = TENSOR_NEW(&w->ctx, 3, w->pack.unet->cross_attention_dim);
    Tensor q = TENSOR_NEW(&w->ctx, 1, 5, layer->channels);
    Rng rng = rng_seed(1);
    rng_normal(&rng, phi_c.data, tensor_numel(phi_c));
    rng_normal(&rng, q.data, tensor_numel(q));
    CrossContext with = eq9_context(&w->ctx, layer, &added, phi_c, phi_c);
    CrossContext without = eq9_context(&w->ctx, layer, NULL, phi_c, phi_c);
    ASSERT_EQUAL_BYTES(eq9_attention(&w->ctx, layer, &added, OUT_OWN, q, &with),
                       eq9_attention(&w->ctx, layer, NULL, OUT_OWN, q, &without));
    added.active = false;
    added.blend.a2 = &one;
    ASSERT_EQUAL_BYTES(eq9_attention(&w->ctx, layer, &added, OUT_OWN, q, &without),
                       eq9_attention(&w->ctx, layer, NULL, OUT_OWN, q, &without));
    assert_context_ok(&w->ctx);
}

/* Both outputs of the choice agree when the added branch's projection is the frozen one and the
 * biases, which "own" blends too, sum up alike: a1 exp(b1) + a2 exp(b2) = 1. */
static void shared_output_is_own_output_with_one_projection(void **state) {
    World *w = *state;
    const CrossAttention *layer = &w->pack.unet->cross[0];
    AddedAttention added = w->pack.adapter->layer[0];
    added.tau_out_w = layer->to_out_w;
    added.tau_out_b = layer->to_out_b;
    const double numbers[] = {0, 0.3, 0.7};
    const Weight zero = scalar(&numbers[0]), a1 = scalar(&numbers[1]), a2 = scalar(&numbers[2]);
    added.blend = (Blend){.a1 = &a1, .b1 = &zero, .a2 = &a2, .b2 = &zero};
    Tensor phi_c = TENSOR_NEW(&w->ctx, 3, w->pack.unet->cross_attention_dim);
    Tensor q = TENSOR_NEW(&w->ctx, 1, 5, layer->channels);
    Rng rng = rng_seed(2);
    rng_normal(&rng, phi_c.data, tensor_numel(phi_c));
    rng_normal(&rng, q.data, tensor_numel(q));
    CrossContext kv = eq9_context(&w->ctx, layer, &added, phi_c, phi_c);
    assert_close(eq9_attention(&w->ctx, layer, &added, OUT_SHARED, q, &kv),
                 eq9_attention(&w->ctx, layer, &added, OUT_OWN, q, &kv), 64);
}

#define FACT(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void) {
    const struct CMUnitTest tests[] = {
        FACT(first_token_keeps_its_embedding),
        FACT(later_tokens_change_nothing_before_them),
        FACT(another_later_token_changes_no_byte_before_it),
        FACT(without_g_and_noise_c_is_the_embedding),
        FACT(without_word_score_c_is_the_last_block),
        FACT(one_token_has_one_score),
        FACT(the_mlp_cancels),
        FACT(linear_in_g),
        FACT(blocks_add_up),
        FACT(zeros_and_embedding_differ_by_the_embedding),
        FACT(h_scale_zero_is_no_noise),
        FACT(eps_does_not_depend_on_blocks),
        FACT(rms_makes_every_token_as_long),
        FACT(a_fresh_blend_is_the_original),
        FACT(shared_output_is_own_output_with_one_projection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
