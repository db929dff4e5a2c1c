/* Algorithm 1 on micro's LLM under every choice of the spec, and phi and llama blocks of other
 * configs, against hooks on transformers' PhiForCausalLM, LlamaForCausalLM, MistralForCausalLM
 * (golden/export_llm.py, export_llama.py). */
#include "tests/check.h"

#include "ref/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Adds every setting of the JSON object in the golden's metadata as "KEY=VALUE". */
typedef struct Assignments {
    char text[8][512];
    const char *list[8];
    size_t count;
} Assignments;

static void read_assignments(const Golden *g, const char *key, Assignments *out) {
    const char *json = safetensors_metadata(golden_file(g), key);
    assert_non_null(json);
    cJSON *object = cJSON_Parse(json);
    const cJSON *item;
    out->count = 0;
    cJSON_ArrayForEach(item, object) {
        char *value = cJSON_PrintUnformatted(item);
        assert_true(out->count < 8);
        snprintf(out->text[out->count], sizeof out->text[0], "%s=%s", item->string, value);
        out->list[out->count] = out->text[out->count];
        out->count++;
        cJSON_free(value);
    }
    cJSON_Delete(object);
}

static void encoding_equals_upstream(void **state) {
    const char *run = *state;
    char key[96], group[64];
    Golden *g = golden_open("llm_alg1");
    snprintf(key, sizeof key, "settings:%s", run);
    snprintf(group, sizeof group, "%s/", run);
    Assignments set;
    read_assignments(g, key, &set);

    Context ctx = {0};
    Pack pack;
    PackPaths paths = {.model = "golden/micro", .set = set.list, .sets = set.count};
    pack_open(&pack, &paths, PACK_GENERATE, &ctx.error);
    assert_context_ok(&ctx);
    GoldenObserver seen = {g, "", MODULE, 0};
    Observer observer = golden_observer(&seen);
    ctx.observer = &observer;

    snprintf(key, sizeof key, "%s/ids", run);
    int64_t n;
    const int64_t *ids = golden_ids(g, key, &n);
    Noise noise = {.file = golden_file(g)};
    Tensor c = alg1_encoding(&ctx, pack.llm, pack.adapter->scalars, &pack.adapter->settings, ids, n,
                             &noise, group);
    adapter_condition(&ctx, pack.adapter, pack.unet, c, group);
    assert_context_ok(&ctx);
    assert_true(seen.compared >= 5); /* c.3 .. c.0 and phi_c */

    golden_close(g);
    pack_close(&pack);
    context_free(&ctx);
}

/* The blocks of the model in golden/data/<model> on the ids of one case: x.2 .. x.0 and two scores
 * of two blocks, in a plain run of Algorithm 1. */
static void blocks_equal_upstream(Golden *g, const char *model, const char *name) {
    char path[96], key[96], group[64];
    snprintf(path, sizeof path, "golden/data/%s", model);
    snprintf(key, sizeof key, "%s/ids", name);
    snprintf(group, sizeof group, "%s/", name);

    Context ctx = {0};
    Llm *llm = llm_load(path, &ctx.error);
    assert_context_ok(&ctx);
    GoldenObserver seen = {g, "", MODULE, 0};
    Observer observer = golden_observer(&seen);
    ctx.observer = &observer;
    const float one[2] = {1, 1};
    Weight scalars = {.data = one, .dtype = DTYPE_F32, .ndim = 1, .dim = {2, 1, 1, 1}};
    Settings quiet = settings_default();
    quiet.noise = false;
    int64_t n;
    const int64_t *ids = golden_ids(g, key, &n);
    alg1_encoding(&ctx, llm, (Alg1Scalars){&scalars, &scalars}, &quiet, ids, n, NULL, group);
    assert_context_ok(&ctx);
    assert_int_equal(seen.compared, 7);

    llm_free(llm);
    context_free(&ctx);
}

static void phi_equals_upstream(void **state) {
    char model[64];
    Golden *g = golden_open("llm_phi");
    snprintf(model, sizeof model, "phi_%s", (const char *)*state);
    blocks_equal_upstream(g, model, *state);
    golden_close(g);
}

static void llama_equals_upstream(void **state) {
    char key[64];
    Golden *g = golden_open("llm_llama");
    snprintf(key, sizeof key, "model:%s", (const char *)*state);
    const char *model = safetensors_metadata(golden_file(g), key);
    assert_non_null(model);
    blocks_equal_upstream(g, model, *state);
    golden_close(g);
}

/* Algorithm 1 over a llama, with g and eta as an adapter has them. */
static void llama_encoding_equals_upstream(void **state) {
    const char *run = *state;
    bool noisy = strcmp(run, "alg1_noise") == 0;
    char key[96], group[64];
    Golden *g = golden_open("llm_llama");
    snprintf(key, sizeof key, "%s/ids", run);
    snprintf(group, sizeof group, "%s/", run);
    Context ctx = {0};
    Llm *llm = llm_load("golden/data/llama_grouped", &ctx.error);
    assert_context_ok(&ctx);
    GoldenObserver seen = {g, "", MODULE, 0};
    Observer observer = golden_observer(&seen);
    ctx.observer = &observer;
    Settings settings = settings_default();
    settings.noise = noisy;
    Noise noise = {.file = golden_file(g)};
    Weight scalar_g = golden_weight(g, "g"), eta = golden_weight(g, "eta");
    int64_t n;
    const int64_t *ids = golden_ids(g, key, &n);
    alg1_encoding(&ctx, llm, (Alg1Scalars){&scalar_g, &eta}, &settings, ids, n, &noise, group);
    assert_context_ok(&ctx);
    assert_int_equal(seen.compared, noisy ? 12 : 10); /* x, c: 3 each; scores: 4; eps: 2 */
    golden_close(g);
    llm_free(llm);
    context_free(&ctx);
}

/* In a llama block as in a phi block: one token alone has S_sentence = S_word, and so has every
 * token where a window of 1 shows each only itself. */
static void one_visible_token_has_one_score(void **state) {
    (void)state;
    Context ctx = {0};
    Llm *llm = llm_load("golden/data/mistral_window", &ctx.error);
    assert_context_ok(&ctx);
    const int64_t ids[] = {1, 7, 7, 30, 2, 11, 5, 1, 40};
    for (int64_t window = 1; window <= 5; window += 4) {
        int64_t n = window == 1 ? 9 : 1;
        llm->window = window;
        Tensor x = llm_embedding(&ctx, llm, ids, n);
        for (int64_t l = 0; l < llm->T; l++) {
            LlmScores s = llm_block(&ctx, llm, l, x);
            assert_context_ok(&ctx);
            assert_memory_equal(s.s_sentence.data, s.s_word.data,
                                (size_t)(n * llm->D) * sizeof(real));
            x = s.x_next;
        }
    }
    llm_free(llm);
    context_free(&ctx);
}

/* Upstream's "dynamic" would go on beyond them, with other frequencies. */
static void dynamic_scaling_ends_at_the_positions(void **state) {
    (void)state;
    Context ctx = {0};
    Llm *llm = llm_load("golden/data/llama_dynamic", &ctx.error);
    assert_context_ok(&ctx);
    int64_t ids[21] = {0};
    assert_non_null(llm_embedding(&ctx, llm, ids, 20).data);
    assert_null(llm_embedding(&ctx, llm, ids, 21).data);
    assert_string_equal(ctx.error.message, "the prompt has 21 tokens, the LLM "
                                           "golden/data/llama_dynamic has positions for 20");
    llm_free(llm);
    context_free(&ctx);
}

static void prompts_that_do_not_fit_are_refused(void **state) {
    (void)state;
    Context ctx = {0};
    Llm *llm = llm_load("golden/micro/llm", &ctx.error);
    assert_context_ok(&ctx);
    int64_t ids[129] = {0};
    assert_null(llm_embedding(&ctx, llm, ids, 129).data);
    assert_string_equal(ctx.error.message, "the prompt has 129 tokens, the LLM golden/micro/llm "
                                           "has positions for 128");
    ctx.error = (Error){0};
    ids[1] = llm->vocabulary;
    assert_null(llm_embedding(&ctx, llm, ids, 2).data);
    assert_non_null(strstr(ctx.error.message, "token 1 has id "));
    llm_free(llm);
    context_free(&ctx);
}

static void an_embedding_that_is_not_finite_is_named(void **state) {
    (void)state;
    Context ctx = {0};
    Llm *llm = llm_load("golden/micro/llm", &ctx.error);
    assert_context_ok(&ctx);
    float values[2] = {1, 1};
    Weight g = {.data = values, .dtype = DTYPE_F32, .ndim = 1, .dim = {2, 1, 1, 1}};
    float *broken = calloc((size_t)llm->D, sizeof *broken);
    broken[3] = (float)NAN;
    Weight bias = *llm->block[1].out_b;
    bias.data = broken;
    bias.dtype = DTYPE_F32;
    llm->block[1].out_b = &bias;
    Settings quiet = settings_default();
    quiet.noise = false;
    int64_t ids[2] = {1, 2};
    float three[3] = {1, 1, 1};
    g.data = three;
    g.dim[0] = 3;
    alg1_encoding(&ctx, llm, (Alg1Scalars){&g, &g}, &quiet, ids, 2, NULL, "");
    assert_string_equal(ctx.error.message, "llm/s_sentence.2: a value is not finite (NaN or "
                                           "infinity), so the run stops here");
    free(broken);
    llm_free(llm);
    context_free(&ctx);
}

int main(void) {
    static char runs[][32] = {"tokens1",
                              "tokens2",
                              "tokens100",
                              "plain",
                              "noise",
                              "zeros",
                              "normal",
                              "rms",
                              "rms_zeros",
                              "difference",
                              "no_word",
                              "g_scale",
                              "no_word_difference",
                              "h_scale",
                              "last_blocks_difference",
                              "one_block"};
    static char phi[][32] = {"gqa", "qk_layernorm", "full_rotary_gelu", "upstream"};
    static char llama[][32] = {"plain",     "tokens1",        "tokens2",         "tokens100",
                               "grouped",   "head_dim",       "biases",          "tied",
                               "bare",      "linear",         "linear_old",      "dynamic",
                               "window",    "window_wide",    "window_exact",    "window_tiles",
                               "no_window", "llama_upstream", "mistral_upstream"};
    static char llama_runs[][32] = {"alg1_quiet", "alg1_noise"};
    static const struct {
        char (*name)[32];
        size_t count;
        const char *what;
        CMUnitTestFunction test;
    } groups[] = {
        {runs, sizeof runs / sizeof *runs, "algorithm 1,", encoding_equals_upstream},
        {phi, sizeof phi / sizeof *phi, "phi", phi_equals_upstream},
        {llama, sizeof llama / sizeof *llama, "llama", llama_equals_upstream},
        {llama_runs, sizeof llama_runs / sizeof *llama_runs, "llama",
         llama_encoding_equals_upstream},
    };
    enum { MOST = 64 };
    static char names[MOST][64];
    struct CMUnitTest tests[MOST] = {
        cmocka_unit_test(prompts_that_do_not_fit_are_refused),
        cmocka_unit_test(an_embedding_that_is_not_finite_is_named),
        cmocka_unit_test(one_visible_token_has_one_score),
        cmocka_unit_test(dynamic_scaling_ends_at_the_positions),
    };
    size_t n = 4;
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        for (size_t j = 0; j < groups[i].count; j++, n++) {
            assert_true(n < MOST);
            snprintf(names[n], sizeof names[n], "%s %s", groups[i].what, groups[i].name[j]);
            tests[n] = (struct CMUnitTest){names[n], groups[i].test, NULL, NULL, groups[i].name[j]};
        }
    return _cmocka_run_group_tests("tests", tests, n, NULL, NULL);
}
