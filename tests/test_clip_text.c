/* CLIP's text encoder against transformers' CLIPTextModel (golden/export_clip.py). */
#include "tests/check.h"

#include "ref/clip_text.h"
#include "tests/edited_model.h"
#include "tokenizer/tokenizer.h"

#include <stdio.h>

typedef struct Run {
    const char *model, *run;
    int64_t clip_skip;
    size_t activations; /* stored of it */
} Run;

static void equals_upstream(void **state) {
    const Run *run = *state;
    char dir[96], group[64], key[96];
    Golden *g = golden_open("clip_text");
    snprintf(dir, sizeof dir, "golden/data/clip_%s", run->model);
    snprintf(group, sizeof group, "%s/%s/", run->model, run->run);

    Context ctx = {0};
    ClipText *clip = clip_text_load(dir, &ctx.error);
    assert_context_ok(&ctx);
    GoldenObserver seen = {g, "", MODULE, 0};
    Observer observer = golden_observer(&seen);
    ctx.observer = &observer;

    int64_t n;
    snprintf(key, sizeof key, "%sids", group);
    const int64_t *ids = golden_ids(g, key, &n);
    Tensor c = clip_text_encode(&ctx, clip, ids, n, run->clip_skip, group);
    assert_context_ok(&ctx);
    assert_int_equal(seen.compared, run->activations);
    assert_int_equal(c.ndim, 2);
    snprintf(key, sizeof key, "%stext/final_layer_norm", group);
    golden_check(g, key, c, MODULE); /* what is returned is what was last seen */

    golden_close(g);
    clip_text_free(clip);
    context_free(&ctx);
}

/* The baseline's prompts (golden/export_baseline.py) from their text on: the tokenizer, the encoder,
 * clip skip for the prompt alone. */
static void baseline_prompts_equal_upstream(void **state) {
    char file[64];
    snprintf(file, sizeof file, "baseline_%s", (const char *)*state);
    Golden *g = golden_open(file);
    Context ctx = {0};
    Tokenizer *tokenizer = tokenizer_open("golden/micro_clip/tokenizer", &ctx.error);
    ClipText *clip = clip_text_load("golden/micro_clip/text_encoder", &ctx.error);
    assert_context_ok(&ctx);
    GoldenObserver seen = {g, "", MODULE, 0};
    Observer observer = golden_observer(&seen);
    ctx.observer = &observer;
    const char *group[2] = {"", "uncond/"}, *key[2] = {"prompt", "negative"};
    const int prompts = golden_number(g, "cfg_scale") == 1 ? 1 : 2;
    const int64_t skip[2] = {(int64_t)golden_number(g, "clip_skip"), 0};
    for (int i = 0; i < prompts; i++) {
        char name[64];
        int64_t n;
        TokenIds ids;
        size_t dropped;
        const char *text = safetensors_metadata(golden_file(g), key[i]);
        snprintf(name, sizeof name, "%sids", group[i]);
        const int64_t *expected = golden_ids(g, name, &n);
        tokenizer_encode_padded(tokenizer, text, strlen(text), (size_t)clip->max_positions, &ids,
                                &dropped, &ctx.error);
        assert_context_ok(&ctx);
        assert_int_equal(ids.count, n);
        assert_memory_equal(ids.id, expected, (size_t)n * sizeof *expected);
        clip_text_encode(&ctx, clip, ids.id, n, skip[i], group[i]);
        token_ids_free(&ids);
    }
    assert_context_ok(&ctx);
    assert_int_equal(seen.compared, golden_has(g, "text/embeddings") ? 11 * prompts : 1 * prompts);
    golden_close(g);
    clip_text_free(clip);
    tokenizer_close(tokenizer);
    context_free(&ctx);
}

/* ---- what holds exactly ---------------------------------------------------------------------------- */

static void later_tokens_change_nothing_before_them(void **state) {
    (void)state;
    Context ctx = {0};
    ClipText *clip = clip_text_load("golden/data/clip_sd", &ctx.error);
    assert_context_ok(&ctx);
    int64_t ids[77], n = 77, same = 9;
    for (int64_t i = 0; i < n; i++) ids[i] = 1 + i % 40;
    Tensor c = clip_text_encode(&ctx, clip, ids, n, 0, "");
    ids[same] = 49;
    Tensor other = clip_text_encode(&ctx, clip, ids, n, 0, "");
    Tensor again = clip_text_encode(&ctx, clip, ids, n, 0, "uncond/");
    assert_context_ok(&ctx);
    size_t before = (size_t)(same * clip->D) * sizeof(real);
    assert_memory_equal(c.data, other.data, before);
    assert_memory_not_equal(c.data + same * clip->D, other.data + same * clip->D,
                            (size_t)clip->D * sizeof(real));
    assert_memory_equal(other.data, again.data, (size_t)tensor_numel(other) * sizeof(real));
    clip_text_free(clip);
    context_free(&ctx);
}

typedef struct Names {
    char text[1024];
} Names;

static void note(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    (void)data;
    (void)ndim;
    (void)dim;
    Names *names = self;
    size_t used = strlen(names->text);
    snprintf(names->text + used, sizeof names->text - used, "%s ", name);
}

static void skipped_blocks_are_not_computed(void **state) {
    (void)state;
    Context ctx = {0};
    ClipText *clip = clip_text_load("golden/data/clip_open_clip", &ctx.error);
    assert_context_ok(&ctx);
    Names names = {""};
    Observer observer = {note, &names};
    ctx.observer = &observer;
    clip_text_encode(&ctx, clip, (int64_t[]){38, 39}, 2, 1, "uncond/");
    assert_context_ok(&ctx);
    assert_string_equal(names.text, "uncond/text/embeddings uncond/text/encoder.layers.0.self_attn "
                                    "uncond/text/encoder.layers.0.mlp "
                                    "uncond/text/encoder.layers.0 uncond/text/final_layer_norm ");
    clip_text_free(clip);
    context_free(&ctx);
}

static void results_do_not_depend_on_threads(void **state) {
    (void)state;
    Context one = {.threads = 1}, four = {.threads = 4};
    ClipText *clip = clip_text_load("golden/data/clip_sd", &one.error);
    assert_context_ok(&one);
    int64_t ids[77];
    for (int64_t i = 0; i < 77; i++) ids[i] = (i * i) % 50;
    Tensor a = clip_text_encode(&one, clip, ids, 77, 0, "");
    Tensor b = clip_text_encode(&four, clip, ids, 77, 0, "");
    assert_context_ok(&one);
    assert_context_ok(&four);
    assert_memory_equal(a.data, b.data, (size_t)tensor_numel(a) * sizeof(real));
    clip_text_free(clip);
    context_free(&one);
    context_free(&four);
}

/* ---- what is refused ------------------------------------------------------------------------------- */

static void prompts_that_do_not_fit_are_refused(void **state) {
    (void)state;
    Context ctx = {0};
    ClipText *clip = clip_text_load("golden/data/clip_eps", &ctx.error);
    assert_context_ok(&ctx);
    int64_t ids[20] = {0};
    assert_non_null(clip_text_encode(&ctx, clip, ids, 19, 2, "").data);
    assert_null(clip_text_encode(&ctx, clip, ids, 20, 0, "").data);
    assert_string_equal(ctx.error.message,
                        "the prompt has 20 tokens, the text encoder golden/data/clip_eps has "
                        "positions for 19");
    const int64_t bad[2] = {30, -1};
    const char *message[2] = {
        "token 3 has id 30, the text encoder golden/data/clip_eps has embeddings for ids 0 to 29: "
        "is the tokenizer another model's?",
        "token 3 has id -1, the text encoder golden/data/clip_eps has embeddings for ids 0 to 29: "
        "is the tokenizer another model's?"};
    for (int i = 0; i < 2; i++) {
        ctx.error = (Error){0};
        ids[3] = bad[i];
        assert_null(clip_text_encode(&ctx, clip, ids, 4, 0, "").data);
        assert_string_equal(ctx.error.message, message[i]);
    }
    clip_text_free(clip);
    context_free(&ctx);
}

static void skipping_more_than_there_is_is_refused(void **state) {
    (void)state;
    Context ctx = {0};
    ClipText *clip = clip_text_load("golden/data/clip_eps", &ctx.error);
    assert_context_ok(&ctx);
    const int64_t ids[1] = {0};
    assert_null(clip_text_encode(&ctx, clip, ids, 1, 3, "").data);
    assert_string_equal(ctx.error.message, "clip skip: expected 0 to 2, the layers of the text "
                                           "encoder golden/data/clip_eps, found 3");
    ctx.error = (Error){0};
    assert_null(clip_text_encode(&ctx, clip, ids, 1, -1, "").data);
    assert_string_equal(ctx.error.message, "clip skip: expected 0 to 2, the layers of the text "
                                           "encoder golden/data/clip_eps, found -1");
    clip_text_free(clip);
    context_free(&ctx);
}

static void refused(const char *from, const char *drop, const char *key, const char *value,
                    const char *message) {
    EditedModel e = edited_model(from, drop, key, value);
    Error err = {0};
    assert_null(clip_text_load(e.dir, &err));
    assert_says(&e, &err, message);
    edited_model_remove(&e);
}

static void configs_that_do_not_fit_are_refused(void **state) {
    (void)state;
    const char *sd = "golden/data/clip_sd";
    refused(sd, NULL, "model_type", "\"clip\"",
            "@/config.json: model_type: expected \"clip_text_model\", found \"clip\"");
    refused(sd, NULL, "model_type", NULL,
            "@/config.json: model_type: expected \"clip_text_model\", found \"(none)\"");
    refused(sd, NULL, "hidden_act", "\"gelu_new\"",
            "@/config.json: hidden_act: expected \"quick_gelu\" or \"gelu\", found \"gelu_new\"");
    refused(sd, NULL, "num_attention_heads", "5",
            "@/config.json: num_attention_heads 5 must divide hidden_size 12");
    refused(sd, NULL, "num_attention_heads", "0",
            "@/config.json: num_attention_heads: expected a whole number from 1 to 65536, found 0");
    refused(sd, NULL, "layer_norm_eps", "-1e-5",
            "@/config.json: layer_norm_eps: expected a number from 0 on");
    refused(sd, NULL, "layer_norm_eps", "\"1e-5\"",
            "@/config.json: layer_norm_eps: expected a number, found \"1e-5\"");
    refused(sd, NULL, "use_attention_mask", "true",
            "@/config.json: use_attention_mask: expected false (nothing else is supported), found "
            "true");
    refused(sd, NULL, "projection_bias", "true",
            "@/config.json: 1 key is not known, so what it asks can't be followed: "
            "projection_bias");
    refused(sd, NULL, "num_hidden_layers", "0",
            "@/config.json: num_hidden_layers: expected a whole number from 1 to 4096, found 0");
}

static void absent_keys_are_the_class_defaults(void **state) {
    (void)state;
    /* 49408 and 512: what CLIPTextConfig has for them */
    refused("golden/data/clip_sd", NULL, "vocab_size", NULL,
            "@: 1 has another shape: embeddings.token_embedding.weight (config.json says "
            "[49408, 12], file has [50, 12])");
    static const char *const defaults[] = {"layer_norm_eps", "hidden_act",
                                           "max_position_embeddings"};
    for (int i = 0; i < 3; i++) {
        EditedModel e = edited_model("golden/data/clip_sd", NULL, defaults[i], NULL);
        Error err = {0};
        ClipText *clip = clip_text_load(e.dir, &err);
        assert_non_null(clip);
        assert_true(clip->norm_eps == 1e-5 && !clip->gelu_erf && clip->max_positions == 77);
        clip_text_free(clip);
        edited_model_remove(&e);
    }
}

static void missing_parameters_are_named_as_the_file_names_them(void **state) {
    (void)state;
    refused("golden/data/clip_sd", "final_layer_norm", NULL, NULL,
            "@: 2 tensors missing: final_layer_norm.weight, final_layer_norm.bias");
    refused("golden/data/clip_old", "text_model.encoder.layers.1.self_attn.q_proj", NULL, NULL,
            "@: 2 tensors missing: text_model.encoder.layers.1.self_attn.q_proj.weight, "
            "text_model.encoder.layers.1.self_attn.q_proj.bias");
    refused("golden/data/clip_old", "text_model.embeddings.token", NULL, NULL,
            "@: 1 tensor missing: text_model.embeddings.token_embedding.weight");
    refused("golden/data/clip_eps", NULL, "num_hidden_layers", "1",
            "@: 16 not used: encoder.layers.1.layer_norm1.bias, "
            "encoder.layers.1.layer_norm1.weight, encoder.layers.1.layer_norm2.bias, "
            "encoder.layers.1.layer_norm2.weight, encoder.layers.1.mlp.fc1.bias, "
            "encoder.layers.1.mlp.fc1.weight, encoder.layers.1.mlp.fc2.bias, "
            "encoder.layers.1.mlp.fc2.weight, encoder.layers.1.self_attn.k_proj.bias, "
            "encoder.layers.1.self_attn.k_proj.weight, encoder.layers.1.self_attn.out_proj.bias, "
            "encoder.layers.1.self_attn.out_proj.weight, encoder.layers.1.self_attn.q_proj.bias, "
            "encoder.layers.1.self_attn.q_proj.weight, encoder.layers.1.self_attn.v_proj.bias, "
            "encoder.layers.1.self_attn.v_proj.weight");
    refused("golden/data/clip_eps", NULL, "max_position_embeddings", "20",
            "@: 1 has another shape: embeddings.position_embedding.weight (config.json says "
            "[20, 10], file has [19, 10])");
}

int main(void) {
    /* embeddings, three of each layer, and the end; of the others the end alone */
    static Run runs[] = {
        {"sd", "padded", 0, 11},       {"sd", "short", 0, 11},        {"sd", "skip_0", 0, 1},
        {"sd", "skip_1", 1, 1},        {"sd", "skip_2", 2, 1},        {"sd", "skip_3", 3, 1},
        {"open_clip", "padded", 0, 8}, {"open_clip", "short", 0, 8},  {"open_clip", "skip_0", 0, 1},
        {"open_clip", "skip_1", 1, 1}, {"open_clip", "skip_2", 2, 1}, {"eps", "padded", 0, 8},
        {"eps", "short", 0, 8},        {"eps", "skip_0", 0, 1},       {"eps", "skip_1", 1, 1},
        {"eps", "skip_2", 2, 1},       {"old", "padded", 0, 8},       {"old", "short", 0, 8},
        {"upstream", "padded", 0, 17}, {"upstream", "short", 0, 17},  {"upstream", "skip_4", 4, 1},
        {"old", "skip_0", 0, 1},       {"old", "skip_1", 1, 1},       {"old", "skip_2", 2, 1},
    };
    static char whole[] = "whole", skip[] = "skip", skip_all[] = "skip_all",
                unguided[] = "unguided", cut[] = "cut";
    enum { RUNS = sizeof runs / sizeof runs[0], OTHERS = 13 };
    static char names[RUNS][64];
    struct CMUnitTest tests[RUNS + OTHERS] = {
        {"baseline, whole", baseline_prompts_equal_upstream, NULL, NULL, whole},
        {"baseline, skip", baseline_prompts_equal_upstream, NULL, NULL, skip},
        {"baseline, skip_all", baseline_prompts_equal_upstream, NULL, NULL, skip_all},
        {"baseline, unguided", baseline_prompts_equal_upstream, NULL, NULL, unguided},
        {"baseline, cut: a prompt of more than 77 tokens", baseline_prompts_equal_upstream, NULL,
         NULL, cut},
        cmocka_unit_test(later_tokens_change_nothing_before_them),
        cmocka_unit_test(skipped_blocks_are_not_computed),
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(prompts_that_do_not_fit_are_refused),
        cmocka_unit_test(skipping_more_than_there_is_is_refused),
        cmocka_unit_test(configs_that_do_not_fit_are_refused),
        cmocka_unit_test(absent_keys_are_the_class_defaults),
        cmocka_unit_test(missing_parameters_are_named_as_the_file_names_them),
    };
    for (size_t i = 0; i < RUNS; i++) {
        snprintf(names[i], sizeof names[i], "clip %s, %s", runs[i].model, runs[i].run);
        tests[OTHERS + i] = (struct CMUnitTest){names[i], equals_upstream, NULL, NULL, &runs[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
