/* The yardstick, sabotaged: the outputs of a correct port for the kit (our own, and upstream's in two
 * precisions) are damaged in every way that a port's may be, and `llmdiff verify` must say with which
 * exit code, where first, and why. `make kit-selftest` prints the table. */
#include "tests/kit_judge.h"

#define PART "^(modules/|picture\\.)"
#define ONLY "^(operators|modules|picture\\.)"

/* ---- one tensor's numbers ---------------------------------------------------------------------------------- */

#define F "picture.forced"
#define BLOCK "unet/0/cond/down_blocks.0.attentions.0.transformer_blocks.0"

typedef struct ValueCase {
    const char *what, *tensor;
    NewValue value;
    int code;
    const char *hint;
} ValueCase;

static const ValueCase values[] = {
    {"the sign turned", "llm/s_word.2", v_sign, 1, "sign turned"},
    {"times 2", "adapter/phi_c", v_twice, 1, "the reference times 2, to"},
    {"times 0.18215", "vae/decoder/conv_in", v_vae_scale, 1, "0.18215, the scaling factor"},
    {"times 1.07", "unet/1/cond/conv_in", v_factor, 1, "times 1.07, a constant factor"},
    {"plus 0.25", "unet/1/cond/eps", v_offset, 1, "plus 0.25, a constant offset"},
    {"range 0 .. 1 for -1 .. 1", "image", v_unit_range, 1, "range 0 .. 1 in place of -1 .. 1"},
    {"cut off at 0.3", "unet/0/cond/mid_block", v_cut, 1, "cut off below at -0.3 and above at 0.3"},
    {"zeros", "unet/0/cond/conv_in", v_zero, 1, "zero everywhere"},
    {"a constant", "unet/0/cond/conv_in", v_constant, 1, "0.125 in every element"},
    {"taken after the SiLU", "unet/0/time_embedding", v_silu, 1, "SiLU of the reference"},
    {"one element", "latents/2", v_one, 1, "a single element is off, [0, 0, 3]"},
    {"NaN in one element", "llm/x.1", v_nan, 4, "NaN in a single element, [0, 10]"},
    {"NaN everywhere", "llm/x.1", v_all_nan, 4, "NaN in every element"},
    {"infinity in one element", BLOCK ".ff", v_inf, 4, "infinite in a single element"},
    {"transposed", "llm/x.2", v_transposed, 1, "transposed"},
    {"channels last", "unet/0/cond/conv_in", v_channels_last, 1, "channels-last"},
    {"height and width swapped", "unet/0/cond/conv_in", v_sides, 1, "height and width transposed"},
    {"mirrored", "unet/0/cond/conv_in", v_mirrored, 1, "mirrored"},
    {"upside down", "image", v_upside_down, 1, "upside down"},
    {"halves swapped", BLOCK ".ff", v_halves, 1, "two halves of its channels swapped"},
    {"interleaved for half-split, heads of 10", "llm/s_sentence.3", v_interleaved, 1,
     "in each of 4 groups of 10"},
    {"pixels down the columns", BLOCK ".attn1", v_columns, 1, "down the columns of a map of 4 x 6"},
    {"one row off", "llm/x.2", v_row_off, 1, "one token off"},
    {"rolled by a row", "llm/x.2", v_row_around, 1, "token i + 1, around the end"},
    {"rows reversed", "llm/x.2", v_reversed, 1, "tokens in reversed order"},
    {"two rows swapped", "llm/x.2", v_rows_swapped, 1, "tokens 2 and 5 swapped"},
    {"features permuted", "llm/x.2", v_permuted, 1, "features permuted"},
    {"a constant per channel", "unet/0/cond/down_blocks.0.downsamplers.0", v_bias, 1,
     "one constant per channel"},
    {"a factor per feature", "llm/x.2", v_weight, 1, "one factor per feature"},
    {"one row", "llm/x.2", v_row, 1, "only token 4 is off"},
    {"the last rows not written", BLOCK ".attn1", v_last_rows, 1, "where mine is zero"},
    {"the border alone", "image", v_border, 1, "outermost rows and columns"},
    {"noise: nothing to explain", "llm/x.2", v_noise, 1, ""},
    {"t one less", "unet/1/t", v_less, 1, "minus 1"},
    {"ids one later", "ids", v_shifted_id, 1, "one element off"},
};

static void damaged_numbers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        const ValueCase *c = &values[i];
        char first[200];
        fresh_port(ours);
        Outputs all = tensors_of("@/port/" F ".safetensors");
        change_values(named(&all, c->tensor), c->value);
        write_tensors("@/port/" F ".safetensors", &all);
        outputs_free(&all);
        Judgement j = judge(KIT, "@/port", ONLY);
        snprintf(first, sizeof first, F " %s", c->tensor);
        expect(c->what, &j, c->code, first, c->hint);
    }
    all_right();
}

/* ---- the tensors of a file --------------------------------------------------------------------------------- */

typedef struct FileCase {
    const char *what, *file;
    void (*damage)(Outputs *all);
    int code;
    const char *first, *hint;
} FileCase;

static void swap_data(Outputs *all, const char *a, const char *b) {
    StoredTensor *x = named(all, a), *y = named(all, b);
    const void *data = x->data;
    assert_int_equal(x->bytes, y->bytes);
    x->data = y->data;
    y->data = data;
}

static void sum_into(Outputs *all, const char *to, double s, const char *a, double t,
                     const char *b) {
    StoredTensor *y = named(all, to), *x = named(all, a), *z = named(all, b);
    for (int64_t i = 0; i < stored_numel(y); i++) set(y, i, s * get(x, i) + t * get(z, i));
}

static void three_times_allowed(Outputs *all) {
    /* The tolerance as it is reported, and the truth's value. */
    Error err = {0};
    StoredTensor *t = named(all, "llm/x.2");
    cJSON *json = json_of("@/clean.json");
    const cJSON *row;
    double allowed = 0, truth[320];
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(json, "rows")) {
        if (strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(row, "name")), "llm/x.2") == 0 &&
            strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(row, "group")), F) == 0)
            allowed = cJSON_GetNumberValue(cJSON_GetObjectItem(row, "allowed"));
    }
    cJSON_Delete(json);
    Safetensors *s = safetensors_open(KIT "/expected/picture.safetensors", &err);
    assert_non_null(s);
    stored_to_double(safetensors_find(s, "llm/x.2"), truth, &err);
    safetensors_close(s);
    assert_true(allowed > 0);
    set(t, 47, truth[47] + 3 * allowed);
}

static void t_swapped_steps(Outputs *all) { swap_data(all, "llm/x.1", "llm/x.2"); }
static void t_one_late(Outputs *all) { sum_into(all, "llm/x.2", 1, "llm/x.1", 0, "llm/x.1"); }
static void t_unconditional(Outputs *all) {
    swap_data(all, "unet/0/cond/eps", "unet/0/uncond/eps");
}
static void t_layers(Outputs *all) {
    swap_data(all, "unet/0/cond/mid_block.resnets.0", "unet/0/cond/down_blocks.1.resnets.0");
}
static void t_evaluation(Outputs *all) {
    sum_into(all, "unet/1/eps", 1, "unet/0/eps", 0, "unet/0/eps");
}
static void t_guidance(Outputs *all) {
    sum_into(all, "unet/0/eps", -6.5, "unet/0/cond/eps", 7.5, "unet/0/uncond/eps");
}
static void t_guidance_scale(Outputs *all) {
    sum_into(all, "unet/0/eps", 8.5, "unet/0/cond/eps", -7.5, "unet/0/uncond/eps");
}
static void t_added(Outputs *all) {
    sum_into(all, BLOCK ".attn2/f", 1, BLOCK ".attn2/f", 0.2, BLOCK ".attn2/added");
}
static void t_residual(Outputs *all) { sum_into(all, "llm/x.2", 1, "llm/x.2", -1, "llm/x.3"); }
static void t_word_sign(Outputs *all) {
    sum_into(all, "alg1/c.1", 1, "alg1/c.1", 0.3, "llm/s_word.2");
}
static void t_bf16(Outputs *all) { round_to(named(all, "unet/0/cond/conv_in"), 8); }
static void t_f16(Outputs *all) { round_to(named(all, "llm/x.3"), 11); }
static void t_missing(Outputs *all) { drop(all, "llm/s_word.2"); }
static void t_renamed(Outputs *all) { rename_tensor(named(all, "llm/s_word.2"), "layers.1.own"); }
static void t_extra(Outputs *all) {
    const float number = 3;
    Error err = {0};
    outputs_add(all, "lm_head", DTYPE_F32, 0, NULL, &number, &err);
}
static void t_batch(Outputs *all) {
    StoredTensor *t = named(all, "llm/x.2");
    t->ndim = 3;
    t->dim[2] = t->dim[1];
    t->dim[1] = t->dim[0];
    t->dim[0] = 1;
}
static void t_other_shape(Outputs *all) {
    StoredTensor *t = named(all, "llm/x.2");
    change_values(t, v_transposed);
    const int64_t rows = t->dim[0];
    t->dim[0] = t->dim[1];
    t->dim[1] = rows;
}
static void t_no_begin(Outputs *all) {
    StoredTensor *t = named(all, "ids");
    int64_t *id = (int64_t *)(uintptr_t)t->data;
    memmove(id, id + 1, (size_t)(--t->dim[0]) * sizeof *id);
    t->bytes -= sizeof *id;
}
static void t_float_ids(Outputs *all) { retype(named(all, "ids"), DTYPE_F32); }
static void t_int32_ids(Outputs *all) {
    StoredTensor *t = named(all, "ids");
    int32_t *small = (int32_t *)(uintptr_t)t->data;
    for (int64_t i = 0; i < t->dim[0]; i++) small[i] = (int32_t)((const int64_t *)t->data)[i];
    t->dtype = DTYPE_I32;
    t->bytes /= 2;
}
static void t_nan_and_missing(Outputs *all) {
    change_values(named(all, "llm/x.1"), v_nan);
    drop(all, "image");
}
static void t_operator(Outputs *all) { change_values(named(all, "group_norm/map/y"), v_factor); }
static void t_module(Outputs *all) {
    change_values(named(all, "unet/down_blocks.0.resnets.0/y"), v_channels_last);
}

static const FileCase files[] = {
    {"one element at 3 x tolerance", F, three_times_allowed, 1, F " llm/x.2",
     "a single element is off, [1, 7]"},
    {"two steps swapped", F, t_swapped_steps, 1, F " llm/x.2", "the two are swapped"},
    {"one step late", F, t_one_late, 1, F " llm/x.2",
     "equals the reference's llm/x.1, which comes later in the run"},
    {"cond and uncond swapped", F, t_unconditional, 1, F " unet/0/cond/eps",
     "conditional and unconditional are swapped"},
    {"two layers swapped", F, t_layers, 1, F " unet/0/cond/down_blocks.1.resnets.0",
     "mid_block.resnets.0, and the other way round"},
    {"the evaluation before", F, t_evaluation, 1, F " unet/1/eps",
     "equals the reference's unet/0/eps"},
    {"guidance swapped", F, t_guidance, 1, F " unet/0/eps", "the two are swapped"},
    {"another guidance scale", F, t_guidance_scale, 1, F " unet/0/eps",
     "mine is 8.5 unet/0/cond/eps - 7.5 unet/0/uncond/eps"},
    {"Eq. 9: another weight", F, t_added, 1, F " " BLOCK ".attn2/f", "attn2/added is there"},
    {"the residual left out", F, t_residual, 1, F " llm/x.2", "llm/x.3 is left out"},
    {"Algorithm 1: another s_word", F, t_word_sign, 1, F " alg1/c.1", "llm/s_word.2 is there"},
    {"bfloat16's numbers as F32", F, t_bf16, 1, F " unet/0/cond/conv_in", "fits bfloat16"},
    {"float16's numbers as F32", F, t_f16, 1, F " llm/x.3", "fits float16"},
    {"a tensor missing", F, t_missing, 3, F " llm/s_word.2", ""},
    {"a tensor under another name", F, t_renamed, 3, F " llm/s_word.2",
     "under the name layers.1.own"},
    {"an extra tensor", F, t_extra, 0, "", ""},
    {"a batch dimension too many", F, t_batch, 3, F " llm/x.2", "a dimension of 1 too many"},
    {"transposed, the shape too", F, t_other_shape, 3, F " llm/x.2", "[40, 8] for [8, 40]"},
    {"ids without the begin token", F, t_no_begin, 3, F " ids", "the begin token is missing"},
    {"ids as floats", F, t_float_ids, 3, F " ids", "only the type differs"},
    {"ids as int32", F, t_int32_ids, 0, "", ""},
    {"NaN, and further on a tensor missing", F, t_nan_and_missing, 3, F " llm/x.1",
     "NaN in a single element"},
    {"free alone: the other file", "picture.free", t_one_late, 1, "picture.free llm/x.2",
     "equals the reference's llm/x.1"},
    {"an operator", "operators", t_operator, 1, "operators group_norm/map/y",
     "times 1.07, a constant factor"},
    {"a module", "modules", t_module, 1, "modules unet/down_blocks.0.resnets.0/y", "channels-last"},
};

static void damaged_tensors(void **state) {
    (void)state;
    Result clean = RUN("verify", "--kit", KIT, "--port", ours, "--json", "@/clean.json");
    assert_ok(clean);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const FileCase *c = &files[i];
        char file[96];
        snprintf(file, sizeof file, "@/port/%s.safetensors", c->file);
        fresh_port(ours);
        Outputs all = tensors_of(file);
        c->damage(&all);
        write_tensors(file, &all);
        outputs_free(&all);
        Judgement j = judge(KIT, "@/port", ONLY);
        expect(c->what, &j, c->code, c->first, c->hint);
    }
    all_right();
}

/* ---- the bytes of a file ------------------------------------------------------------------------------------ */

#define FILE_NAME "@/port/" F ".safetensors"

static void write_header(const char *header, uint64_t claimed, size_t data) {
    char bytes[4096] = {0};
    const size_t n = strlen(header);
    uint64_t length = claimed ? claimed : n;
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, n);
    unlink(path(FILE_NAME));
    put(FILE_NAME, bytes, 8 + n + data);
}

static void b_truncated(void) {
    size_t size;
    char *bytes = contents(FILE_NAME, &size);
    unlink(path(FILE_NAME));
    put(FILE_NAME, bytes, size - 1000);
    free(bytes);
}
static void b_empty(void) { unlink(path(FILE_NAME)), put(FILE_NAME, "", 0); }
static void b_no_file(void) { unlink(path(FILE_NAME)); }
static void b_garbage(void) {
    unlink(path(FILE_NAME)), put_text(FILE_NAME, "<html>404 Not Found</html>");
}
static void b_long_header(void) { write_header("{}", UINT64_MAX / 2, 8); }
static void b_absurd_size(void) {
    write_header("{\"ids\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],"
                 "\"data_offsets\":[0,8]}}",
                 0, 8);
}
static void b_beyond(void) {
    write_header("{\"ids\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 0, 8);
}
static void b_negative(void) {
    write_header("{\"ids\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", 0, 16);
}
static void b_twice(void) {
    write_header("{\"ids\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                 "\"ids\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
                 0, 16);
}
static void b_type(void) {
    write_header("{\"ids\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 8);
}
static void b_both(void) { put("@/port/" F ".npz", "PK", 2); }
static void b_npz(void) {
    unlink(path(FILE_NAME));
    put_text("@/port/" F ".npz", "not a zip");
}
static void b_directory(void) {
    unlink(path(FILE_NAME));
    assert_int_equal(mkdir(path(FILE_NAME), 0777), 0);
}

static void damaged_bytes(void **state) {
    (void)state;
    static const struct {
        const char *what;
        void (*damage)(void);
        const char *first, *error;
    } cases[] = {
        {"a truncated file", b_truncated, "", F ".safetensors"},
        {"an empty file", b_empty, "", F ".safetensors"},
        {"a file missing", b_no_file, F " ids", ""},
        {"an HTML page in its place", b_garbage, "", F ".safetensors"},
        {"a header of absurd length", b_long_header, "", F ".safetensors"},
        {"an absurd shape", b_absurd_size, "", "\"ids\""},
        {"data beyond the file's end", b_beyond, "", "\"ids\""},
        {"a negative dimension", b_negative, "", "\"ids\""},
        {"a name twice", b_twice, "", "is there twice"},
        {"an unknown type", b_type, "", "F4"},
        {"a .safetensors and a .npz", b_both, "", "expected one of them, found both"},
        {"a .npz that is none", b_npz, "", F ".npz"},
        {"a directory in its place", b_directory, "", "it is a directory, not a file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fresh_port(ours);
        cases[i].damage();
        Judgement j = judge(KIT, "@/port", ONLY);
        expect(cases[i].what, &j, 3, cases[i].first, cases[i].error);
    }
    Judgement j = judge(KIT, "@/nowhere", ONLY);
    expect("no directory at all", &j, 3, "", "expected a directory with a port's outputs");
    all_right();
}

/* ---- the kit ------------------------------------------------------------------------------------------------ */

static void k_version(cJSON *m) {
    cJSON_ReplaceItemInObjectCaseSensitive(m, "version", cJSON_CreateNumber(2));
}
static void k_format(cJSON *m) {
    cJSON_ReplaceItemInObjectCaseSensitive(m, "format", cJSON_CreateString("ggml-kit"));
}
static void k_no_groups(cJSON *m) { cJSON_DeleteItemFromObjectCaseSensitive(m, "groups"); }
static void k_no_file(cJSON *m) {
    cJSON *g = cJSON_GetArrayItem(cJSON_GetObjectItem(m, "groups"), 0);
    cJSON_ReplaceItemInObjectCaseSensitive(g, "expected", cJSON_CreateString("expected/none"));
}

static void damaged_kit(void **state) {
    (void)state;
    static const struct {
        const char *what;
        void (*damage)(cJSON *manifest);
        const char *error;
    } cases[] = {
        {"a manifest of another version", k_version, "version"},
        {"a manifest of another format", k_format, "format"},
        {"a manifest without groups", k_no_groups, "groups"},
        {"a manifest that names a file that isn't there", k_no_file, "expected/none"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fresh_kit();
        cJSON *manifest = json_of("@/kit/manifest.json");
        cases[i].damage(manifest);
        put_json("@/kit/manifest.json", manifest);
        Judgement j = judge("@/kit", ours, ONLY);
        expect(cases[i].what, &j, 3, "", cases[i].error);
    }
    put_text("@/kit/manifest.json", "{\"format\": ");
    Judgement j = judge("@/kit", ours, ONLY);
    expect("a manifest that is no JSON", &j, 3, "", "manifest.json");
    all_right();
}

/* ---- a port of another configuration: hints by recomputing --------------------------------------------------- */

static const PackCase packs[] = {
    {"erf GELU in phi's MLP", "llm/config.json", "s/\"gelu_new\"/\"gelu\"/",
     "modules llm/block/micro.0/s_sentence", "with erf GELU for tanh GELU"},
    {"another rotary theta", "llm/config.json", "s/10000.0/500000.0/",
     "modules llm/block/micro.0/s_sentence", "with a rotary theta of 500000"},
    {"the rotary embedding over whole heads", "llm/config.json",
     "s/\"partial_rotary_factor\": 0.5/\"partial_rotary_factor\": 1.0/",
     "modules llm/block/micro.0/s_sentence", "with the rotary embedding over the whole head"},
    {"the LLM's norm with eps 1e-3", "llm/config.json", "s/1e-05/0.001/",
     "modules llm/block/micro.0/s_sentence", "with 0.001 for the norm's eps"},
    {"sines first in the time embedding", "unet/config.json",
     "s/\"flip_sin_to_cos\": true/\"flip_sin_to_cos\": false/", "modules unet/time_embedding/999/y",
     "with sine and cosine of the time swapped"},
    {"the U-Net's norms with eps 1e-2", "unet/config.json",
     "s/\"norm_eps\": 1e-05/\"norm_eps\": 0.01/", "modules unet/down_blocks.0.resnets.0/y",
     "with 0.01 for the norm's eps"},
    {"half as many groups", "unet/config.json", "s/\"norm_num_groups\": 8/\"norm_num_groups\": 4/",
     "modules unet/down_blocks.0.resnets.0/y", "with half as many groups"},
    {"half as many heads", "unet/config.json",
     "s/\"attention_head_dim\": 4/\"attention_head_dim\": 2/",
     "modules eq9/adapter/down_blocks.0.attentions.0.transformer_blocks.0.attn2/original",
     "with half as many heads"},
    {"the VAE's groups", "vae/config.json", "s/\"norm_num_groups\": 4/\"norm_num_groups\": 2/",
     "modules vae/encoder.down_blocks.0.resnets.0/y", "with half as many groups"},
};

static void other_configurations(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof packs / sizeof *packs; i++) {
        fresh_packs(&packs[i]);
        accept_pack();
        Result r = RUN("verify", "--kit", "@/kit", "--only", PART, "--output", "@/port");
        if (r.err[0]) fail_msg("%s: %s", packs[i].what, r.err);
        Judgement j = judge(KIT, "@/port", PART);
        expect(packs[i].what, &j, 1, packs[i].first, packs[i].hint);
    }
    all_right();
}

/* ---- compare: a trace of ours and a port's ---------------------------------------------------------------- */

#define GENERATE_TRACE(pack, trace)                                                                \
    RUN("generate", "-m", pack, "-p", "a red circle", "--steps", "2", "--width", "16", "--height", \
        "16", "--quiet", "-o", "@/x.png", "--trace", trace)

static Judgement compare(const char *ref, const char *mine, const char *how, const char *dir) {
    unlink(path("@/report.json"));
    Result r = RUN("compare", ref, mine, how, dir, "--json", "@/report.json");
    Judgement j = {.code = r.code};
    snprintf(j.err, sizeof j.err, "%.1990s", r.err);
    if (!r.err[0]) read_report(&j);
    return j;
}

static const PackCase traced[] = {
    {"compare -m: erf GELU", "llm/config.json", "s/\"gelu_new\"/\"gelu\"/", "llm/s_sentence.3",
     "with erf GELU for tanh GELU"},
    {"compare -m: the U-Net's eps", "unet/config.json", "s/\"norm_eps\": 1e-05/\"norm_eps\": 0.01/",
     "unet/0/cond/down_blocks.0.resnets.0", "with 0.01 for the norm's eps"},
    {"compare -m: the VAE's scaling factor", "vae/config.json",
     "s/\"scaling_factor\": 1.7/\"scaling_factor\": 1.0/", "vae/decoder/conv_in",
     "without a final scale"},
};

static void compared(void **state) {
    (void)state;
    assert_int_equal(GENERATE_TRACE(MICRO, "@/ref.safetensors").code, 0);
    for (size_t i = 0; i < sizeof traced / sizeof *traced; i++) {
        fresh_packs(&traced[i]);
        assert_int_equal(GENERATE_TRACE("@/micro", "@/mine.safetensors").code, 0);
        Judgement j = compare("@/ref.safetensors", "@/mine.safetensors", "-m", MICRO);
        expect(traced[i].what, &j, 1, traced[i].first, traced[i].hint);
    }
    Judgement j = compare("@/ref.safetensors", "@/ref.safetensors", "-m", MICRO);
    expect("compare -m: itself", &j, 0, "", "");
    j = compare("@/ref.safetensors", "@/mine.safetensors", "-m", "@/none");
    expect("compare -m: no such pack", &j, 3, "", "expected a pack's directory, found nothing");
    j = compare(KIT "/expected/picture.safetensors", "@/mine.safetensors", "-m", MICRO);
    expect("compare -m: no trace", &j, 3, "alg1/eps.3", "nothing was recomputed");

    fresh_port(ours);
    Outputs all = tensors_of("@/port/" F ".safetensors");
    /* Every bias in one place, as a port with dropped ones has it: recomputed, not guessed. */
    Error err = {0};
    Safetensors *w = safetensors_open(MICRO "/unet/diffusion_pytorch_model.safetensors", &err);
    if (!w) fail_msg("%s", err.message);
    double bias[16];
    const StoredTensor *b = safetensors_find(w, "conv_in.bias");
    assert_int_equal(stored_numel(b), 16);
    stored_to_double(b, bias, &err);
    StoredTensor *y = named(&all, "unet/0/cond/conv_in");
    const int64_t size = stored_numel(y) / y->dim[0];
    for (int64_t k = 0; k < stored_numel(y); k++) set(y, k, get(y, k) - bias[k / size]);
    safetensors_close(w);
    write_tensors("@/port/" F ".safetensors", &all);
    outputs_free(&all);
    j = compare(KIT "/expected/picture.safetensors", "@/port/" F ".safetensors", "--kit", KIT);
    expect("compare --kit: a bias left out", &j, 1, "unet/0/cond/conv_in",
           "without the bias in conv_in");
    all_right();
}

/* ---- upstream ------------------------------------------------------------------------------------------------- */

static void upstream_in_two_precisions(void **state) {
    (void)state;
    Judgement j = judge(KIT, "golden/data/kit_port_float32", PART);
    expect("torch float32", &j, 0, "", "");
    j = judge(KIT, "golden/data/kit_port_bfloat16", PART);
    expect("torch bfloat16, stored as BF16", &j, 0, "", "");
    fresh_port("golden/data/kit_port_bfloat16");
    static const char *const stored[] = {"modules", "picture.forced", "picture.free"};
    for (int i = 0; i < 3; i++) {
        char file[64];
        snprintf(file, sizeof file, "@/port/%s.safetensors", stored[i]);
        Outputs all = tensors_of(file);
        for (size_t k = 0; k < all.count; k++)
            if (all.tensor[k].dtype == DTYPE_BF16) retype(&all.tensor[k], DTYPE_F32);
        write_tensors(file, &all);
        outputs_free(&all);
    }
    j = judge(KIT, "@/port", PART);
    expect("torch bfloat16, stored as F32", &j, 1, "modules llm/embedding/micro/y",
           "lower precision than claimed");
    all_right();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(damaged_numbers, fresh_directory, remove_directory),
        cmocka_unit_test_setup_teardown(damaged_tensors, fresh_directory, remove_directory),
        cmocka_unit_test_setup_teardown(damaged_bytes, fresh_directory, remove_directory),
        cmocka_unit_test_setup_teardown(damaged_kit, fresh_directory, remove_directory),
        cmocka_unit_test_setup_teardown(other_configurations, fresh_directory, remove_directory),
        cmocka_unit_test_setup_teardown(compared, fresh_directory, remove_directory),
        cmocka_unit_test_setup_teardown(upstream_in_two_precisions, fresh_directory,
                                        remove_directory),
    };
    return cmocka_run_group_tests_name("kit-selftest", tests, compute_ours, remove_ours);
}
