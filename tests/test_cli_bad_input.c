/* What the program says of bad input: the frozen pack with one thing wrong, each time one line that
 * names file, tensor, expected and found, a non-zero exit, and nothing written. */
#include "cli_run.h"

#include "weights/npy.h"

#include <math.h>

/* ---- damage -------------------------------------------------------------------------------------- */

static int fresh_pack(void **state) {
    char command[256];
    if (fresh_directory(state)) return -1;
    snprintf(command, sizeof command, "cp -r " MICRO " %s/p", work);
    return system(command);
}

static void edit(const char *name, const char *old, const char *new) {
    static char text[1 << 16];
    size_t size;
    char *before = contents(name, &size);
    replace_all(text, sizeof text, before, old, new);
    if (strcmp(text, before) == 0) fail_msg("%s has no %s", name, old);
    put_text(name, text);
    free(before);
}

static void cut(const char *name, off_t size) { assert_int_equal(truncate(path(name), size), 0); }

typedef enum Damage { REMOVE, RENAME, INTEGERS, RESHAPE, NOT_A_NUMBER, INFINITE } Damage;

/* Writes the file again with one tensor changed. */
static void damage(const char *name, const char *tensor, Damage how) {
    Error err = {0};
    Safetensors *file = safetensors_open(path(name), &err);
    if (!file) fail_msg("%s", err.message);
    size_t n = safetensors_count(file), kept = 0;
    StoredTensor *all = calloc(n, sizeof *all);
    void *copy = NULL;
    for (size_t i = 0; i < n; i++) {
        StoredTensor t = *safetensors_at(file, i);
        if (strcmp(t.name, tensor) == 0) {
            assert_int_equal(t.dtype, DTYPE_F32);
            copy = malloc(t.bytes);
            memcpy(copy, t.data, t.bytes);
            t.data = copy;
            if (how == REMOVE) continue;
            if (how == RENAME) t.name = "stranger";
            if (how == INTEGERS) t.dtype = DTYPE_I32;
            if (how == RESHAPE) t.dim[t.ndim++] = 1;
            if (how == NOT_A_NUMBER) memcpy((char *)copy + 4, &(float){NAN}, 4);
            if (how == INFINITE) memcpy((char *)copy + 4, &(float){INFINITY}, 4);
        }
        all[kept++] = t;
    }
    assert_non_null(copy);
    if (safetensors_write(path("@/rewritten"), all, kept, NULL, &err)) fail_msg("%s", err.message);
    assert_int_equal(rename(path("@/rewritten"), path(name)), 0);
    safetensors_close(file);
    free(copy);
    free(all);
}

#define DRAW(...)                                                                                  \
    RUN("generate", "-m", "@/p", "-p", "a red circle", "-o", "@/x.png", "--steps", "2", "--quiet", \
        "--save-latents", "@/z.npy", __VA_ARGS__)

/* Refused with that message, and nothing left behind. */
static void refused_by(Result r, const char *message) {
    assert_error(r, 1, message);
    assert_directory("p ");
}
static void refused_by_holding(Result r, const char *part) {
    assert_error_holds(r, 1, part);
    assert_directory("p ");
}

/* ---- missing ------------------------------------------------------------------------------------- */

static void missing_parts(void **state) {
    (void)state;
    static const char *const parts[] = {"adapter", "scheduler", "vae", "unet", "llm"};
    for (int i = 0; i < 5; i++) {
        char command[256], message[128];
        snprintf(command, sizeof command, "rm -r %s/p/%s", work, parts[i]);
        assert_int_equal(system(command), 0);
        snprintf(message, sizeof message, "@/p/%s: expected a directory with the %s, found nothing",
                 parts[i], parts[i]);
        refused_by(DRAW("-s", "1"), message);
    }
    assert_error(DRAW("-m", "@/q"), 1,
                 "@/q: expected a pack's directory, found nothing: give one with -m");
    assert_error(DRAW("-m", MICRO "/model_index.json"), 1,
                 MICRO "/model_index.json: expected a pack's directory, found a file: give one "
                       "with -m");
}

static void missing_tensors_file(void **state) {
    (void)state;
    unlink(path("@/p/unet/diffusion_pytorch_model.safetensors"));
    refused_by_holding(DRAW("-s", "1"),
                       "@/p/unet: no tensors: expected model.safetensors, "
                       "diffusion_pytorch_model.safetensors or adapter.safetensors");
}

static void missing_config(void **state) {
    (void)state;
    static const char *const files[] = {
        "@/p/adapter/config.json", "@/p/scheduler/scheduler_config.json", "@/p/vae/config.json",
        "@/p/unet/config.json", "@/p/llm/config.json"};
    for (int i = 0; i < 5; i++) {
        char message[128];
        unlink(path(files[i]));
        snprintf(message, sizeof message, "%s: can't be opened: No such file or directory",
                 files[i]);
        refused_by(DRAW("-s", "1"), message);
    }
}

static void missing_tokenizer(void **state) {
    (void)state;
    unlink(path("@/p/llm/tokenizer.json"));
    refused_by(DRAW("-s", "1"),
               "@/p/llm: expected a tokenizer: tokenizer.json, tokenizer.model, or "
               "vocab.json and merges.txt; found none of them");
}

/* ---- truncated ----------------------------------------------------------------------------------- */

static void truncated_tensors(void **state) {
    (void)state;
    static const char *const files[] = {
        "@/p/adapter/adapter.safetensors", "@/p/vae/diffusion_pytorch_model.safetensors",
        "@/p/unet/diffusion_pytorch_model.safetensors", "@/p/llm/model.safetensors"};
    static const off_t sizes[] = {-1, 1000, 5, 0};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 4; k++) {
            size_t n;
            free(contents(files[i], &n));
            cut(files[i], k == 0 ? (off_t)n - 1 : sizes[k]);
            refused_by_holding(DRAW("-s", "1"), files[i]);
        }
}

static void truncated_configs(void **state) {
    (void)state;
    static const char *const files[] = {
        "@/p/adapter/config.json", "@/p/scheduler/scheduler_config.json", "@/p/vae/config.json",
        "@/p/unet/config.json", "@/p/llm/config.json"};
    for (int i = 0; i < 5; i++) {
        char message[128];
        cut(files[i], 100);
        snprintf(message, sizeof message, "%s: not JSON", files[i]);
        refused_by_holding(DRAW("-s", "1"), message);
    }
}

/* ---- tensors that don't fit ---------------------------------------------------------------------- */

static void a_tensor_of_integers(void **state) {
    (void)state;
    damage("@/p/llm/model.safetensors", "model.layers.1.mlp.fc1.weight", INTEGERS);
    refused_by_holding(DRAW("-s", "1"), "model.layers.1.mlp.fc1.weight");
    assert_error_holds(DRAW("-s", "1"), 1, "I32");
}

static void a_tensor_of_another_shape(void **state) {
    (void)state;
    damage("@/p/adapter/adapter.safetensors", "phi.bias", RESHAPE);
    refused_by(DRAW("-s", "1"),
               "@/p/adapter: 1 has another shape: phi.bias (config.json says [28], file "
               "has [28, 1])");
}

static void a_tensor_too_few_and_one_too_many(void **state) {
    (void)state;
    damage("@/p/adapter/adapter.safetensors", "g", RENAME);
    Result r = DRAW("-s", "1");
    refused_by_holding(r, "@/p/adapter: ");
    assert_holds(r.err, "missing: g");
    assert_holds(r.err, "stranger");
    damage("@/p/llm/model.safetensors", "model.layers.2.self_attn.dense.bias", REMOVE);
    refused_by_holding(DRAW("-s", "1"), "missing: model.layers.2.self_attn.dense.bias");
}

static void shapes_that_disagree_with_the_config(void **state) {
    (void)state;
    edit("@/p/unet/config.json", "\"cross_attention_dim\": 28", "\"cross_attention_dim\": 32");
    refused_by_holding(DRAW("-s", "1"),
                       "attn2.to_k.weight (config.json says [16, 32], file has [16, 28])");
    edit("@/p/llm/config.json", "\"vocab_size\": 512", "\"vocab_size\": 500");
    refused_by(DRAW("-s", "1"),
               "@/p/llm: 1 has another shape: model.embed_tokens.weight (config.json says "
               "[500, 40], file has [512, 40])");
}

/* ---- configs ------------------------------------------------------------------------------------- */

static void an_unknown_family(void **state) {
    (void)state;
    edit("@/p/llm/config.json", "\"model_type\": \"phi\"", "\"model_type\": \"gpt2\"");
    refused_by(DRAW("-s", "1"),
               "@/p/llm/config.json: model_type: expected \"phi\", \"llama\" or \"mistral\" (the "
               "LLM families supported), found \"gpt2\"");
    assert_error_holds(RUN("info", "@/p/llm"), 1, "found \"gpt2\"");
}

static void unknown_classes(void **state) {
    (void)state;
    edit("@/p/vae/config.json", "AutoencoderKL", "VQModel");
    refused_by(DRAW("-s", "1"),
               "@/p/vae/config.json: _class_name: expected \"AutoencoderKL\", found "
               "\"VQModel\"");
    edit("@/p/unet/config.json", "UNet2DConditionModel", "UNet3DConditionModel");
    refused_by(DRAW("-s", "1"),
               "@/p/unet/config.json: _class_name: expected \"UNet2DConditionModel\", "
               "found \"UNet3DConditionModel\"");
    assert_error_holds(RUN("info", "@/p/unet"), 1, "found none of them");
}

static void unknown_blocks(void **state) {
    (void)state;
    edit("@/p/unet/config.json", "\"DownBlock2D\"", "\"AttnDownBlock2D\"");
    refused_by(DRAW("-s", "1"),
               "@/p/unet/config.json: down_block_types: expected \"CrossAttnDownBlock2D\" "
               "or \"DownBlock2D\", found \"AttnDownBlock2D\"");
}

static void an_unknown_schedule(void **state) {
    (void)state;
    edit("@/p/scheduler/scheduler_config.json", "scaled_linear", "cubic");
    refused_by(DRAW("-s", "1"),
               "@/p/scheduler/scheduler_config.json: beta_schedule: expected \"linear\", "
               "\"scaled_linear\" or \"squaredcos_cap_v2\", found \"cubic\"");
}

static void unknown_settings_of_an_adapter(void **state) {
    (void)state;
    edit("@/p/adapter/config.json", "\"out\": \"own\"", "\"out\": \"mine\"");
    refused_by_holding(DRAW("-s", "1"), "out: expected \"own\" or \"shared\", found \"mine\"");
    edit("@/p/adapter/config.json", "\"out\": \"mine\"", "\"outs\": \"own\"");
    refused_by(DRAW("-s", "1"), "@/p/adapter/config.json: outs: no such setting");
}

static void an_adapter_for_other_models(void **state) {
    (void)state;
    refused_by(DRAW("--adapter", "weights/tiny/adapter"),
               "weights/tiny/adapter/config.json: llm_hidden_size: the adapter is for 128, but "
               "@/p/llm has 40");
    refused_by(DRAW("--llm", "weights/tiny/llm"),
               "@/p/adapter/config.json: llm_hidden_size: the adapter is for 40, but "
               "weights/tiny/llm has 128");
    refused_by(DRAW("--unet", "weights/tiny/unet"),
               "@/p/adapter/config.json: cross_attention_dim: the adapter is for 28, but "
               "weights/tiny/unet has 96");
}

/* ---- requests ------------------------------------------------------------------------------------ */

static void sizes_the_factor_does_not_divide(void **state) {
    (void)state;
    assert_error(DRAW("-W", "17"), 2,
                 "--width: expected a positive multiple of 2, the VAE's factor, found 17");
    assert_error(DRAW("-H", "20", "--vae", "weights/tiny/vae"), 2,
                 "--height: expected a positive multiple of 8, the VAE's factor, found 20");
    assert_error(DRAW("-H", "0"), 2, "--height: expected 1 to 65536, found 0");
    assert_error(DRAW("-W", "-16"), 2, "--width: expected 1 to 65536, found -16");
    assert_directory("p ");
}

static void steps_out_of_range(void **state) {
    (void)state;
    assert_error(DRAW("--steps", "0"), 2, "--steps: expected 1 or more, found 0");
    assert_error(DRAW("--steps", "-5"), 2, "--steps: expected 1 or more, found -5");
    assert_error(DRAW("--steps", "1001"), 2,
                 "--steps: expected 1 to 1000 (num_train_timesteps), found 1001");
    assert_directory("p ");
}

static void a_prompt_longer_than_the_positions(void **state) {
    (void)state;
    char prompt[512] = "";
    for (int i = 0; i < 128; i++) strcat(prompt, "%%");
    Result count = RUN("tokenize", "-m", "@/p", "-p", prompt);
    int tokens = 0;
    for (const char *p = count.out; (p = strchr(p, '\n')); p++) tokens++;
    assert_true(tokens > 128);
    char message[128];
    snprintf(message, sizeof message,
             "the prompt has %d tokens, the LLM @/p/llm has positions for 128", tokens);
    refused_by(DRAW("-p", prompt), message);
    refused_by(DRAW("-n", prompt), message);
    assert_error(RUN("encode", "-m", "@/p", "-p", prompt, "-o", "@/c.safetensors"), 1, message);
    assert_directory("p ");

    /* in a file it is told before the first picture is drawn */
    char lines[1024], line[256];
    snprintf(lines, sizeof lines, "a\n\n%s\n", prompt);
    put_text("@/p.txt", lines);
    snprintf(line, sizeof line, "--prompt-file @/p.txt, line 3: %s", message);
    assert_error(RUN("generate", "-m", "@/p", "--prompt-file", "@/p.txt", "-o", "@/x.png"), 1,
                 line);
    assert_directory("p p.txt ");
}

static void a_file_without_prompts(void **state) {
    (void)state;
    static const char *const files[] = {"", "\n", "\r\n \n\t\n"};
    for (int i = 0; i < 3; i++) {
        put_text("@/p.txt", files[i]);
        assert_error(RUN("generate", "-m", "@/p", "--prompt-file", "@/p.txt", "-o", "@/x.png"), 2,
                     "--prompt-file @/p.txt: expected a prompt in each line, found none");
    }
    assert_directory("p p.txt ");
}

/* Each of two such processes would do all of the work. One that has MPI would join the others. */
static void started_by_mpirun_without_mpi(void **state) {
    (void)state;
    if (strstr(RUN("--version").out, "MPI")) return;
    setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
    setenv("OMPI_COMM_WORLD_RANK", "0", 1);
    Result first = DRAW("-o", "@/x.png");
    setenv("OMPI_COMM_WORLD_RANK", "1", 1);
    Result second = DRAW("-o", "@/x.png");
    unsetenv("OMPI_COMM_WORLD_SIZE");
    unsetenv("OMPI_COMM_WORLD_RANK");
    assert_error(first, 1,
                 "mpirun started 2 processes of a program that was built without MPI; make MPI=1 "
                 "builds one with it");
    assert_ok(second); /* leaves it to the first to say so */
    assert_string_equal(second.out, "");
    assert_directory("p ");
}

static void settings_that_the_models_do_not_have(void **state) {
    (void)state;
    refused_by(DRAW("--set", "blocks=[0,7]"), "blocks: [0, 7] goes past the LLM's last block, 2");
    refused_by(DRAW("--set", "blocks=[0,3]"), "blocks: [0, 3] goes past the LLM's last block, 2");
    refused_by_holding(DRAW("--set", "layers=[\"mid\"]"),
                       "layers: the U-Net has no cross-attention \"mid\"; its first is "
                       "\"down_blocks.0.attentions.0.transformer_blocks.0.attn2\"");
    assert_error_holds(DRAW("--set", "wordscore=false"), 2, "--set wordscore: no such key");
    assert_error(DRAW("--set", "noise=1"), 2, "--set: noise: expected true or false, found 1");
    assert_directory("p ");
}

static void latents_that_do_not_fit(void **state) {
    (void)state;
    float zero[4 * 9 * 8] = {0};
    Error err = {0};
    npy_write(path("@/p/z.npy"), DTYPE_F32, 3, (int64_t[]){4, 9, 8}, zero, &err);
    refused_by(DRAW("--init-latents", "@/p/z.npy"),
               "--init-latents @/p/z.npy: expected shape [4, 8, 8] for this picture's size, found "
               "[4, 9, 8]");
    npy_write(path("@/p/z.npy"), DTYPE_F32, 4, (int64_t[]){2, 4, 4, 8}, zero, &err);
    refused_by(DRAW("--init-latents", "@/p/z.npy"),
               "--init-latents @/p/z.npy: expected shape [4, 8, 8] for this picture's size, found "
               "[2, 4, 4, 8]");
    zero[5] = NAN;
    npy_write(path("@/p/z.npy"), DTYPE_F32, 4, (int64_t[]){1, 4, 8, 8}, zero, &err);
    assert_false(err.set);
    refused_by(DRAW("--init-latents", "@/p/z.npy"),
               "latents/0: a value is not finite (NaN or infinity), so the run stops here");
    refused_by(DRAW("--init-latents", "@/p/vae/diffusion_pytorch_model.safetensors"),
               "--init-latents @/p/vae/diffusion_pytorch_model.safetensors: expected a tensor "
               "\"latents/0\" or a single one, found 124");
    refused_by(DRAW("--init-latents", "@/p/no.npy"),
               "@/p/no.npy: can't be opened: No such file or directory");
}

static void noise_that_does_not_fit(void **state) {
    (void)state;
    float zero[40] = {0};
    StoredTensor t = {.name = "alg1/eps.3",
                      .dtype = DTYPE_F32,
                      .ndim = 2,
                      .dim = {1, 40},
                      .data = zero,
                      .bytes = sizeof zero};
    Error err = {0};
    assert_int_equal(safetensors_write(path("@/p/n"), &t, 1, NULL, &err), 0);
    refused_by_holding(DRAW("--noise", "@/p/n"), "@/p/n: tensor \"alg1/eps.3\": expected shape [");
    t.ndim = 1; /* as many rows as the prompt has tokens, and nothing else */
    for (t.dim[0] = 1; t.dim[0] <= 10; t.dim[0]++) {
        t.bytes = (size_t)t.dim[0] * sizeof *zero;
        assert_int_equal(safetensors_write(path("@/p/n"), &t, 1, NULL, &err), 0);
        refused_by_holding(DRAW("--noise", "@/p/n"),
                           "@/p/n: tensor \"alg1/eps.3\": expected shape [");
    }
    refused_by_holding(DRAW("--noise", "@/p/llm/config.json"), "@/p/llm/config.json: ");
}

static void outputs_that_cannot_be_written(void **state) {
    (void)state;
    refused_by(DRAW("-o", "@/no/x.png"), "@/no/x.png: can't be created: No such file or directory");
    refused_by(DRAW("--save-latents", "@/no/z.npy"),
               "@/no/z.npy: can't be created: No such file or directory");
    refused_by(DRAW("-o", "@/p/llm/config.json/x.png"),
               "@/p/llm/config.json/x.png: can't be created: Not a directory");
    assert_error(DRAW("-o", "@/x.jpg"), 2,
                 "--output: expected a name that ends in .png, found \"@/x.jpg\"");
    assert_error(DRAW("-o", "@/.d/.png"), 2,
                 "--output: expected a name that ends in .png, found \"@/.d/.png\"");
    assert_error(DRAW("--save-latents", "@/z.txt"), 2,
                 "--save-latents: expected a name that ends in .npy or .safetensors, found "
                 "\"@/z.txt\"");
    assert_int_equal(rename(path("@/p/vae"), path("@/p/dir.png")), 0);
    refused_by(DRAW("-o", "@/p/dir.png"), "@/p/dir.png: can't be written: it is a directory");
    /* the second picture's name, before the first is drawn */
    assert_int_equal(rename(path("@/p/dir.png"), path("@/p/x_2.png")), 0);
    refused_by(DRAW("-o", "@/p/x.png", "-b", "2"),
               "@/p/x_2.png: can't be written: it is a directory");
    assert_false(file_exists(path("@/p/x.png")));
    assert_error(RUN("encode", "-m", MICRO, "-p", "a", "-o", "@/no/c.safetensors"), 1,
                 "@/no/c.safetensors: can't be created: No such file or directory");
    assert_directory("p ");
}

static void outputs_that_are_inputs(void **state) {
    (void)state;
    put_text("@/in.png", "precious");
    put_text("@/x_step2.png", "precious");
    put_text("@/x_2.png", "a prompt");
    assert_error(DRAW("--init-img", "@/in.png", "-o", "@/./in.png"), 2,
                 "--output: @/./in.png is the picture of --init-img: it would be overwritten");
    assert_error(DRAW("--init-img", "@/y.png", "--mask", "@/in.png", "-o", "@/in.png"), 2,
                 "--output: @/in.png is the picture of --mask: it would be overwritten");
    assert_error(
        RUN("generate", "-m", "@/p", "--prompt-file", "@/x_2.png", "-b", "2", "-o", "@/x.png"), 2,
        "--output: @/x_2.png is the prompt's file: it would be overwritten");
    assert_error(RUN("encode", "-m", MICRO, "--prompt-file", "@/x_2.png", "-o", "@/x_2.png"), 2,
                 "--output: @/x_2.png is the prompt's file: it would be overwritten");
    assert_error(DRAW("--init-img", "@/x_step2.png", "-o", "@/x.png", "--preview-every", "2"), 2,
                 "--preview-every: @/x_step2.png is the picture of --init-img: it would be "
                 "overwritten");
    /* no picture, but none that is written either */
    assert_error(DRAW("--init-img", "@/x_step2.png", "-o", "@/x.png", "--preview-every", "3"), 2,
                 "@/x_step2.png: neither a PNG nor a JPEG");
    assert_directory("in.png p x_2.png x_step2.png ");
}

static void a_failed_run_keeps_the_old_picture(void **state) {
    (void)state;
    put_text("@/x.png", "precious");
    damage("@/p/adapter/adapter.safetensors", "phi.bias", NOT_A_NUMBER);
    assert_error_holds(DRAW("-s", "1"), 1, "is not finite");
    assert_directory("p x.png ");
    size_t n;
    char *bytes = contents("@/x.png", &n);
    assert_string_equal(bytes, "precious");
    free(bytes);
}

/* ---- not a number -------------------------------------------------------------------------------- */

static void nan_stops_the_run_and_names_the_stage(void **state) {
    (void)state;
    damage("@/p/llm/model.safetensors", "model.layers.1.mlp.fc2.bias", NOT_A_NUMBER);
    Result r = DRAW("-s", "1");
    refused_by_holding(r, ": a value is not finite (NaN or infinity), so the run stops here\n");
    assert_holds(r.err, "llmdiff: llm/"); /* block 1 of 3 is t = 2 */
    assert_holds(r.err, ".2: ");
}

static void infinity_stops_it_too(void **state) {
    (void)state;
    damage("@/p/adapter/adapter.safetensors", "phi.bias", INFINITE);
    refused_by(DRAW("-s", "1"),
               "adapter/phi_c: a value is not finite (NaN or infinity), so the run stops "
               "here");
}

/* ---- info ---------------------------------------------------------------------------------------- */

static void info_of_what_is_not_there(void **state) {
    (void)state;
    assert_error(RUN("info", "@/no"), 1, "@/no: can't be opened: No such file or directory");
    assert_error(RUN("info", "tests"), 1,
                 "tests: expected a pack (llm/ unet/ vae/ scheduler/ adapter/) or a part of one "
                 "(config.json), found neither");
    assert_error_holds(RUN("info", "Makefile"), 1, "Makefile: not a safetensors file");
    put("@/p/bad.png", "\x89PNG\r\n\x1a\n....", 12);
    assert_error_holds(RUN("info", "@/p/bad.png"), 1, "@/p/bad.png: ");
}

#define T(test) cmocka_unit_test_setup_teardown(test, fresh_pack, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(missing_parts),
        T(missing_tensors_file),
        T(missing_config),
        T(missing_tokenizer),
        T(truncated_tensors),
        T(truncated_configs),
        T(a_tensor_of_integers),
        T(a_tensor_of_another_shape),
        T(a_tensor_too_few_and_one_too_many),
        T(shapes_that_disagree_with_the_config),
        T(an_unknown_family),
        T(unknown_classes),
        T(unknown_blocks),
        T(an_unknown_schedule),
        T(unknown_settings_of_an_adapter),
        T(an_adapter_for_other_models),
        T(sizes_the_factor_does_not_divide),
        T(steps_out_of_range),
        T(a_prompt_longer_than_the_positions),
        T(a_file_without_prompts),
        T(started_by_mpirun_without_mpi),
        T(settings_that_the_models_do_not_have),
        T(latents_that_do_not_fit),
        T(noise_that_does_not_fit),
        T(outputs_that_are_inputs),
        T(outputs_that_cannot_be_written),
        T(a_failed_run_keeps_the_old_picture),
        T(nan_stops_the_run_and_names_the_stage),
        T(infinity_stops_it_too),
        T(info_of_what_is_not_there),
    };
    return cmocka_run_group_tests_name("cli_bad_input", tests, NULL, NULL);
}
