/* Directories of the families llama and mistral: configs of old and new transformers that load, those
 * that are refused, and with which words; and an adapter for such a model. */
#include "tests/edited_model.h"
#include "tests/scratch.h"

#include "ref/pipeline.h"
#include "weights/file.h"

#include <string.h>

/* scratch("llm"): the tensors of golden/data/<model>, its config.json with `from` replaced by `to`. */
static Llm *load_edited(const char *model, const char *from, const char *to, Error *err) {
    char path[128], absolute[512], text[4096];
    size_t size;
    snprintf(path, sizeof path, "golden/data/%s/config.json", model);
    char *config = file_read(path, &size, err);
    assert_non_null(config);
    const char *at = strstr(config, from);
    if (!at) fail_msg("%s holds no %s", path, from);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - config), config, to, at + strlen(from));
    free(config);
    mkdir(scratch("llm"), 0777);
    write_text(scratch("llm/config.json"), text);
    assert_non_null(getcwd(absolute, 256));
    snprintf(absolute + strlen(absolute), 256, "/golden/data/%s/model.safetensors", model);
    unlink(scratch("llm/model.safetensors"));
    assert_int_equal(symlink(absolute, scratch("llm/model.safetensors")), 0);
    return llm_load(scratch("llm"), err);
}

/* `message` is config.json's, or if it begins with '/' the directory's. */
static void refused(const char *model, const char *from, const char *to, const char *message) {
    Error err = {0};
    char expected[1024];
    if (message[0] == '/')
        snprintf(expected, sizeof expected, "llm%s", message + 1);
    else
        snprintf(expected, sizeof expected, "llm/config.json: %s", message);
    assert_null(load_edited(model, from, to, &err));
    assert_error(&err, expected);
}

static void other_rotary_kinds(void **state) {
    (void)state;
#define ROPE_IS "\"rope_type\": \"linear\""
#define KINDS "expected \"default\", \"linear\" or \"dynamic\" (the scalings supported), found "
    refused("llama_linear", ROPE_IS, "\"rope_type\": \"llama3\", \"low_freq_factor\": 1.0",
            "rope_parameters.rope_type: " KINDS "\"llama3\"");
    refused("llama_linear", ROPE_IS, "\"rope_type\": \"yarn\"",
            "rope_parameters.rope_type: " KINDS "\"yarn\"");
    refused("llama_linear", ROPE_IS, "\"rope_type\": 4",
            "rope_parameters.rope_type: " KINDS "no string");
    refused("llama_linear_4.31", "\"type\": \"linear\"", "\"type\": \"longrope\"",
            "rope_scaling.type: " KINDS "\"longrope\"");
    /* "rope_type" goes before "type", as upstream reads them */
    refused("llama_dynamic", "\"rope_type\": \"dynamic\"", "\"rope_type\": \"ntk\"",
            "rope_scaling.rope_type: " KINDS "\"ntk\"");
}

static void rotary_numbers(void **state) {
    (void)state;
    refused("llama_linear", "\"factor\": 4.0,", "",
            "rope_parameters.factor: expected a positive number");
    refused("llama_linear", "\"factor\": 4.0", "\"factor\": -2",
            "rope_parameters.factor: expected a positive number");
    refused("llama_dynamic", "\"factor\": 2.0", "\"factor\": \"2\"",
            "rope_scaling.factor: expected a positive number");
    refused("llama_grouped", "\"rope_theta\": 700.0", "\"rope_theta\": 0",
            "rope_theta: expected a positive number");
    refused("llama_grouped", "\"rope_theta\": 700.0", "\"rope_theta\": 700.0, \"factor\": 2.0",
            "rope_parameters.factor: not supported with rope_type \"default\"");
    refused("llama_linear", "\"factor\": 4.0",
            "\"factor\": 4.0, \"original_max_position_embeddings\": 64",
            "rope_parameters.original_max_position_embeddings: not supported with rope_type "
            "\"linear\"");
    refused("llama_grouped", "\"rope_theta\": 700.0",
            "\"rope_theta\": 700.0, \"partial_rotary_factor\": 0.5",
            "rope_parameters.partial_rotary_factor: not supported with rope_type \"default\"");
    refused("llama_grouped", "\"hidden_act\"", "\"rope_scaling\": [2], \"hidden_act\"",
            "rope_scaling: expected an object or null");
    refused("llama_grouped", "\"hidden_act\"",
            "\"rope_scaling\": {\"type\": \"default\"}, \"hidden_act\"",
            "rope_scaling and rope_parameters are both there: one of them must go");
}

/* int(head_dim * partial_rotary_factor), as upstream has it: the fraction is dropped. */
static void a_part_of_a_feature_is_not_rotated(void **state) {
    (void)state;
    static const struct {
        const char *partial;
        int64_t rotary; /* of 16; 0: refused */
    } cases[] = {{"0.25", 4}, {"0.27", 4}, {"0.3", 4},   {"0.36", 0},
                 {"0.4", 6},  {"0.42", 6}, {"0.124", 0}, {"0.99", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Error err = {0};
        char rope[128];
        snprintf(rope, sizeof rope,
                 "{\"rope_type\": \"default\", \"rope_theta\": 700, "
                 "\"partial_rotary_factor\": %s}",
                 cases[i].partial);
        EditedModel e = edited_model("golden/data/phi_qk_layernorm", NULL, "rope_parameters", rope);
        Llm *llm = llm_load(e.dir, &err);
        if (cases[i].rotary) {
            if (!llm) fail_msg("%s: %s", cases[i].partial, err.message);
            assert_int_equal(llm->head_dim, 16);
            assert_int_equal(llm->rotary, cases[i].rotary);
        } else {
            char message[160];
            snprintf(message, sizeof message,
                     "@/config.json: partial_rotary_factor %s rotates %d of 16 features; expected "
                     "an even number from 2 on",
                     cases[i].partial, (int)(16 * atof(cases[i].partial)));
            assert_null(llm);
            assert_says(&e, &err, message);
        }
        llm_free(llm);
        edited_model_remove(&e);
    }
}

static void heads(void **state) {
    (void)state;
    refused("llama_grouped", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
            "num_attention_heads 8 must be a multiple of num_key_value_heads 3");
    refused("llama_grouped", "\"head_dim\": 4", "\"head_dim\": 5",
            "head_dim 5: expected an even number");
    refused("llama_linear_4.31", "\"num_attention_heads\": 4", "\"num_attention_heads\": 5",
            "num_attention_heads 5 must divide hidden_size 32, or head_dim be there");
    refused("llama_linear_4.31", "\"num_attention_heads\": 4", "\"num_attention_heads\": 32",
            "head_dim 1: expected an even number");
}

static void what_the_classes_do_not_have(void **state) {
    (void)state;
#define UNKNOWN "1 key is not known, so what it asks can't be followed: "
    refused("llama_plain", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\"",
            "hidden_act: expected \"silu\" or \"gelu\", found \"relu\"");
    refused("mistral_window", "\"hidden_act\"", "\"attention_bias\": true, \"hidden_act\"",
            UNKNOWN "attention_bias");
    refused("llama_plain", "\"hidden_act\"", "\"sliding_window\": 8, \"hidden_act\"",
            UNKNOWN "sliding_window");
    refused("llama_plain", "\"hidden_act\"", "\"quantization_config\": {}, \"hidden_act\"",
            UNKNOWN "quantization_config");
    refused("mistral_window", "\"sliding_window\": 5", "\"sliding_window\": 0",
            "sliding_window: expected a whole number from 1 to 2147483647, found 0");
    refused("mistral_window", "\"hidden_act\"",
            "\"layer_types\": [\"sliding_attention\", \"full_attention\"], \"hidden_act\"",
            "layer_types: expected \"sliding_attention\" in every layer, found \"full_attention\"");
    refused("llama_plain", "\"hidden_act\"",
            "\"layer_types\": [\"full_attention\"], \"hidden_act\"",
            "layer_types: expected a list of num_hidden_layers 2 names");
    refused("llama_plain", "\"hidden_act\"", "\"layer_types\": [1, 2], \"hidden_act\"",
            "layer_types: expected \"full_attention\" in every layer, found no string");
    refused("llama_plain", "\"model_type\": \"llama\"", "\"model_type\": \"gemma\"",
            "model_type: expected \"phi\", \"llama\" or \"mistral\" (the LLM families supported), "
            "found \"gemma\"");
}

/* clang-format off */
#define BIAS(l, name) "model.layers." l "." name "_proj.bias"
#define BIASES(l)                                                                                  \
    BIAS(l, "self_attn.q") ", " BIAS(l, "self_attn.k") ", " BIAS(l, "self_attn.v") ", "            \
    BIAS(l, "self_attn.o")
#define MLP_BIASES(l) BIAS(l, "mlp.down") ", " BIAS(l, "mlp.gate") ", " BIAS(l, "mlp.up")
#define MATRIX(l, name, config, file)                                                              \
    "model.layers." l ".self_attn." name "_proj.weight (config.json says [" config "], file has [" \
    file "])"
#define MATRICES(l)                                                                                \
    MATRIX(l, "q", "32, 32", "48, 32") ", " MATRIX(l, "k", "16, 32", "24, 32") ", "                \
    MATRIX(l, "v", "16, 32", "24, 32") ", " MATRIX(l, "o", "32, 32", "32, 48")
/* clang-format on */

static void tensors_that_do_not_fit(void **state) {
    (void)state;
    refused("llama_biases", "\"mlp_bias\": true", "\"mlp_bias\": false",
            "/: 6 not used: " MLP_BIASES("0") ", " MLP_BIASES("1"));
    refused("llama_plain", "\"attention_bias\": false", "\"attention_bias\": true",
            "/: 8 tensors missing: " BIASES("0") ", " BIASES("1"));
    refused("llama_head_dim", "\"head_dim\": 12", "\"head_dim\": 8",
            "/: 8 have another shape: " MATRICES("0") ", " MATRICES("1"));
}

/* What an absent key means differs between the classes, and null is not absent. */
static void defaults_are_the_classes(void **state) {
    (void)state;
    Error err = {0};
    Llm *llm = load_edited("llama_plain", "\"num_key_value_heads\": 4,", "", &err);
    assert_non_null(llm);
    assert_int_equal(llm->kv_heads, 4);
    assert_int_equal(llm->window, 0);
    llm_free(llm);

    EditedModel e = edited_model("golden/data/llama_plain", NULL, "rms_norm_eps", NULL);
    llm = llm_load(e.dir, &err);
    assert_non_null(llm);
    assert_true(llm->norm_eps == 1e-6);
    llm_free(llm);
    edited_model_remove(&e);

    llm = load_edited("mistral_window", "\"sliding_window\": 5,", "", &err);
    assert_non_null(llm);
    assert_int_equal(llm->window, 4096);
    llm_free(llm);
    llm = load_edited("mistral_window", "\"sliding_window\": 5", "\"sliding_window\": null", &err);
    assert_non_null(llm);
    assert_int_equal(llm->window, 0);
    llm_free(llm);
    assert_null(load_edited("mistral_window", "\"num_key_value_heads\": 2,", "", &err)); /* 8 */
    assert_non_null(strstr(err.message,
                           "self_attn.k_proj.weight (config.json says [32, 32], file has "
                           "[8, 32])"));

    err = (Error){0};
    llm = load_edited("llama_linear_4.31", "\"factor\": 2.5", "\"factor\": 7", &err);
    assert_non_null(llm);
    assert_true(llm->rope_factor == 7 && llm->rope_theta == 10000);
    llm_free(llm);
    llm = load_edited("llama_dynamic", "\"factor\": 2.0", "\"factor\": 7", &err);
    assert_non_null(llm);
    assert_true(llm->rope_factor == 1 && llm->rope_theta == 300);
    llm_free(llm);
    llm = load_edited(
        "mistral_window", "\"hidden_act\"",
        "\"layer_types\": [\"sliding_attention\", \"sliding_attention\"], \"hidden_act\"", &err);
    assert_non_null(llm);
    llm_free(llm);
}

/* PhiConfig's, which are Phi-1.5's but for the number of key heads. */
static void defaults_of_phi(void **state) {
    (void)state;
    static const char *const keys[] = {"rope_parameters", "layer_norm_eps", "hidden_act",
                                       "num_key_value_heads", "max_position_embeddings"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        Error err = {0};
        EditedModel e = edited_model("golden/micro/llm", NULL, keys[i], NULL);
        Llm *llm = llm_load(e.dir, &err);
        if (!llm) fail_msg("%s: %s", keys[i], err.message);
        assert_int_equal(llm->rotary, llm->head_dim / 2);
        assert_true(llm->rope_theta == 10000 && llm->norm_eps == 1e-5 && !llm->gelu_erf);
        assert_int_equal(llm->kv_heads, llm->heads);
        assert_int_equal(llm->max_positions, i == 4 ? 2048 : 128);
        llm_free(llm);
        edited_model_remove(&e);
    }
}

/* A fresh adapter between a llama and micro's U-Net: written, loaded, and as many numbers as the
 * shapes of spec, section 4 have. */
static void an_adapter_for_a_llama(void **state) {
    (void)state;
    Context ctx = {0};
    Error *err = &ctx.error;
    Llm *llm = llm_load("golden/data/llama_grouped", err);
    Unet *unet = unet_load("golden/micro/unet", err);
    assert_context_ok(&ctx);
    const char *const inputs[] = {"phi_c", "c"};
    for (int i = 0; i < 2; i++) {
        Settings settings = settings_default();
        settings.tau_input = i ? TAU_INPUT_C : TAU_INPUT_PHI_C;
        int64_t D = llm->D, E = unet->cross_attention_dim, width = i ? D : E;
        int64_t expected = D * E + E + 2 * llm->T;
        for (int64_t l = 0; l < unet->cross_layers; l++) {
            int64_t C = unet->cross[l].channels;
            expected += 2 * C * C + C + 2 * C * width + 4;
        }
        assert_int_equal(adapter_init(scratch(inputs[i]), llm, unet, &settings, 1, err), expected);
        Adapter *a = adapter_load(scratch(inputs[i]), llm, unet, NULL, 0, err);
        assert_context_ok(&ctx);
        int64_t ids[] = {1, 5, 9};
        Noise noise = {0};
        a->settings.noise = false;
        Tensor c = alg1_encoding(&ctx, llm, a->scalars, &a->settings, ids, 3, &noise, "");
        CrossContext *kv = adapter_condition(&ctx, a, unet, c, "");
        assert_context_ok(&ctx);
        assert_int_equal(tensor_rows(kv[0].k_hat), 3);
        assert_int_equal(tensor_cols(kv[0].v), unet->cross[0].channels);
        adapter_free(a);
    }
    unet_free(unet);
    llm_free(llm);
    context_free(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_rotary_kinds),
        cmocka_unit_test(rotary_numbers),
        cmocka_unit_test(a_part_of_a_feature_is_not_rotated),
        cmocka_unit_test(heads),
        cmocka_unit_test(what_the_classes_do_not_have),
        cmocka_unit_test(tensors_that_do_not_fit),
        cmocka_unit_test(defaults_are_the_classes),
        cmocka_unit_test(defaults_of_phi),
        cmocka_unit_test(an_adapter_for_a_llama),
    };
    return cmocka_run_group_tests_name("llm files", tests, scratch_make, scratch_remove);
}
