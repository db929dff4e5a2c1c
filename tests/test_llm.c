/* Algorithm 1 on micro's LLM under every choice of the spec, and phi blocks of other configs, against
 * hooks on transformers' PhiForCausalLM (golden/export_llm.py). */
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

static void phi_equals_upstream(void **state) {
    const char *name = *state;
    char path[96], key[96], group[64];
    Golden *g = golden_open("llm_phi");
    snprintf(path, sizeof path, "golden/data/phi_%s", name);
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
    assert_int_equal(seen.compared, 7); /* x.2 .. x.0 and two scores of two blocks */

    golden_close(g);
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
    static char cases[][32] = {"gqa", "qk_layernorm", "full_rotary_gelu"};
    enum { RUNS = sizeof runs / sizeof runs[0], CASES = sizeof cases / sizeof cases[0] };
    struct CMUnitTest tests[RUNS + CASES + 2] = {
        cmocka_unit_test(prompts_that_do_not_fit_are_refused),
        cmocka_unit_test(an_embedding_that_is_not_finite_is_named)};
    static char names[RUNS + CASES][64];
    for (size_t i = 0; i < RUNS + CASES; i++) {
        bool is_run = i < RUNS;
        char *which = is_run ? runs[i] : cases[i - RUNS];
        snprintf(names[i], sizeof names[i], "%s %s", is_run ? "algorithm 1," : "phi", which);
        tests[2 + i] = (struct CMUnitTest){
            names[i], is_run ? encoding_equals_upstream : phi_equals_upstream, NULL, NULL, which};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
