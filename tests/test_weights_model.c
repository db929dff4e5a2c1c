/* Model directories: config.json, (sharded) tensors, and one message for everything that misfits. */
#include "tests/scratch.h"
#include "weights/model_dir.h"

#include <math.h>

#define SHARDED "golden/data/files/sharded"

/* A model directory of its own for each call, with that config and, unless NULL, these tensors. */
static const char *make_dir(const char *config, const StoredTensor *tensors, size_t n) {
    static int number;
    char name[32], file[64];
    snprintf(name, sizeof name, "m%d", number++);
    const char *dir = scratch(name);
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(file, sizeof file, "%s/config.json", name);
    write_text(scratch(file), config);
    snprintf(file, sizeof file, "%s/model.safetensors", name);
    Error err = {0};
    if (tensors) assert_int_equal(safetensors_write(scratch(file), tensors, n, NULL, &err), 0);
    return dir;
}

/* The message without "m<number>" or "m<number>/config.json" before its first ": ". */
static void assert_complaint(const Error *err, const char *expected) {
    assert_true(err->set);
    const char *text = strstr(err->message, ": ");
    assert_non_null(text);
    assert_string_equal(text + 2, expected);
}

static const float zeros[64];
static const int64_t ids[2] = {1, 2};
static const StoredTensor four[] = {
    {"a.weight", DTYPE_F32, 2, {2, 3}, zeros, 24},
    {"a.bias", DTYPE_F16, 1, {2}, zeros, 4},
    {"b.weight", DTYPE_F32, 4, {2, 3, 1, 1}, zeros, 24},
    {"b.ids", DTYPE_I64, 1, {2}, ids, 16},
};

/* ---- tensors ------------------------------------------------------------------------------------- */

static void takes_weights_by_name_and_shape(void **state) {
    (void)state;
    Error err = {0};
    ModelDir *m = model_open(make_dir("{}", four, 3), &err);
    assert_non_null(m);
    assert_int_equal(model_tensor_count(m), 3);
    const Weight *w = model_take(m, SHAPE(2, 3), "%c.weight", 'a');
    const Weight *b = model_take(m, SHAPE(2), "a.bias");
    const Weight *c = model_take(m, SHAPE(2, 3, 1, 1), "b.weight");
    assert_non_null(w);
    assert_string_equal(w->name, "a.weight");
    assert_int_equal(w->ndim, 2);
    assert_int_equal(w->dim[1], 3);
    assert_int_equal(w->dim[2], 1);
    assert_int_equal(b->dtype, DTYPE_F16);
    assert_int_equal(c->ndim, 4);
    assert_ptr_equal(model_take(m, SHAPE(2, 3), "a.weight"), w); /* tied weights are one */
    assert_true(model_has(m, "a.bias"));
    assert_false(model_has(m, "a"));
    assert_null(model_take_optional(m, SHAPE(2), "c.bias"));
    assert_int_equal(model_finish(m), 0);
    model_close(m);
}

static void tells_everything_that_misfits_at_once(void **state) {
    (void)state;
    Error err = {0};
    ModelDir *m = model_open(make_dir("{}", four, 4), &err);
    assert_null(model_take(m, SHAPE(2), "c.weight"));
    assert_null(model_take(m, SHAPE(2), "c.bias"));
    assert_null(model_take(m, SHAPE(2, 4), "b.weight"));
    assert_null(model_take(m, SHAPE(2, 4), "a.weight"));
    assert_null(model_take(m, SHAPE(2), "b.ids"));
    assert_null(model_take_optional(m, SHAPE(2), "d"));
    assert_false(err.set);
    assert_int_equal(model_finish(m), -1);
    assert_complaint(&err,
                     "2 tensors missing: c.weight, c.bias; 2 have another shape: b.weight "
                     "(config.json says [2, 4], file has [2, 3, 1, 1]), a.weight (config.json "
                     "says [2, 4], file has [2, 3]); 1 has another type: b.ids (expected "
                     "floating-point numbers, file has I64); 1 not used: a.bias");
    model_close(m);
}

static void an_optional_tensor_has_its_shape_too(void **state) {
    (void)state;
    Error err = {0};
    ModelDir *m = model_open(make_dir("{}", four, 1), &err);
    assert_null(model_take_optional(m, SHAPE(6), "a.weight"));
    assert_int_equal(model_finish(m), -1);
    assert_complaint(&err, "1 has another shape: a.weight (config.json says [6], file has [2, 3])");
    model_close(m);
}

static void ignores_by_prefix(void **state) {
    (void)state;
    Error err = {0};
    const char *dir = make_dir("{}", four, 4);
    ModelDir *m = model_open(dir, &err);
    model_ignore(m, "a.");
    assert_int_equal(model_finish(m), -1);
    assert_complaint(&err, "2 not used: b.ids, b.weight");
    model_close(m);
    err = (Error){0};
    m = model_open(dir, &err);
    model_ignore(m, "");
    assert_int_equal(model_finish(m), 0);
    model_close(m);
}

static void cuts_long_lists(void **state) {
    (void)state;
    Error err = {0};
    ModelDir *m = model_open(make_dir("{}", four, 0), &err);
    for (int i = 0; i < 5000; i++)
        model_take(m, SHAPE(1), "a.rather.long.name.of.a.tensor.%04d.weight", i);
    model_take(m, SHAPE(1), "z"); /* would fit, but then the list would have a hole */
    assert_int_equal(model_finish(m), -1);
    size_t n = strlen(err.message), told = 0;
    for (const char *p = err.message; (p = strstr(p, ".weight")); p++) told++;
    char tail[64];
    snprintf(tail, sizeof tail, "%04zu.weight ... and %zu more", told - 1, 5001 - told);
    assert_true(told > 10 && n < 2500);
    assert_string_equal(err.message + n - strlen(tail), tail);
    assert_non_null(strstr(err.message, ": 5001 tensors missing: a.rather"));
    model_close(m);
}

static void needs_config_and_tensors(void **state) {
    (void)state;
    Error err = {0};
    assert_null(model_open(scratch("absent"), &err));
    assert_error(&err, "absent/config.json: can't be opened: No such file or directory");
    err = (Error){0};
    assert_null(model_open(make_dir("{}", NULL, 0), &err));
    assert_complaint(&err,
                     "no tensors: expected model.safetensors, diffusion_pytorch_model.safetensors "
                     "or adapter.safetensors, or one of them with .index.json and its shards");
}

static void opens_each_of_the_three_names(void **state) {
    (void)state;
    static const char *const name[] = {"model", "diffusion_pytorch_model", "adapter"};
    for (int i = 0; i < 3; i++) {
        const char *dir = make_dir("{}", NULL, 0);
        char path[384];
        Error err = {0};
        snprintf(path, sizeof path, "%s/%s.safetensors", dir, name[i]);
        assert_int_equal(safetensors_write(path, four, 2, NULL, &err), 0);
        ModelDir *m = model_open(dir, &err);
        assert_non_null(m);
        assert_string_equal(model_path(m), dir);
        assert_int_equal(model_tensor_count(m), 2);
        assert_string_equal(model_tensor_at(m, 0)->name, "a.bias");
        model_close(m);
    }
}

static void closing_nothing_is_fine(void **state) {
    (void)state;
    model_close(NULL);
    safetensors_close(NULL);
}

/* ---- shards -------------------------------------------------------------------------------------- */

static void reads_shards_written_upstream(void **state) {
    (void)state;
    Error err = {0};
    ModelDir *m = model_open(SHARDED, &err);
    if (!m) fail_msg("%s", err.message);
    assert_int_equal(model_tensor_count(m), 5);
    assert_int_equal(config_int(m, "hidden", 0, 1, 9), 4);
    for (int i = 0; i < 4; i++) {
        const Weight *w = model_take(m, SHAPE(4, 3 + i), "layers.%d.weight", i);
        assert_non_null(w);
        float v;
        memcpy(&v, (const char *)w->data + 4 * 4, 4);
        assert_true(v == 1.5f);
    }
    assert_non_null(model_take(m, SHAPE(5), "norm.weight"));
    assert_int_equal(model_finish(m), 0);
    model_close(m);
}

static void refuses_index(const char *index, const char *message) {
    const char *dir = make_dir("{}", four, 2);
    char from[384], to[384];
    snprintf(from, sizeof from, "%s/model.safetensors", dir);
    snprintf(to, sizeof to, "%s/part.safetensors", dir);
    assert_int_equal(rename(from, to), 0);
    snprintf(to, sizeof to, "%s/model.safetensors.index.json", dir);
    write_text(to, index);
    Error err = {0};
    assert_null(model_open(dir, &err));
    assert_complaint(&err, message);
}

static void refuses_broken_indexes(void **state) {
    (void)state;
    refuses_index("[]", "expected a JSON object { }");
    refuses_index("{}", "weight_map missing or not an object");
    refuses_index("{\"weight_map\": 1}", "weight_map missing or not an object");
    refuses_index("{\"weight_map\": {\"a.bias\": 1}}",
                  "tensor \"a.bias\": expected the name of a file beside it, found no string");
    refuses_index("{\"weight_map\": {\"x\": \"../part.safetensors\"}}",
                  "tensor \"x\": expected the name of a file beside it, found "
                  "../part.safetensors");
    refuses_index("{\"weight_map\": {\"x\": \"/etc/passwd\"}}",
                  "tensor \"x\": expected the name of a file beside it, found /etc/passwd");
    refuses_index("{\"weight_map\": {\"x\": \"..\"}}",
                  "tensor \"x\": expected the name of a file beside it, found ..");
    refuses_index("{\"weight_map\": {\"x\": \"none.safetensors\"}}",
                  "can't be opened: No such file or directory");
    refuses_index("{\"weight_map\": {\"a.bias\": \"part.safetensors\", \"a.bias\": \"b\"}}",
                  "tensor \"a.bias\" is there twice");
    refuses_index("{\"weight_map\": {\"a.bias\": \"part.safetensors\", \"x\": "
                  "\"part.safetensors\", \"y\": \"part.safetensors\"}}",
                  "2 tensors are not in the file named for them: x (part.safetensors), y "
                  "(part.safetensors)");
}

static void refuses_a_file_and_an_index(void **state) {
    (void)state;
    const char *dir = make_dir("{}", four, 2);
    char path[384];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    write_text(path, "{}");
    Error err = {0};
    assert_null(model_open(dir, &err));
    assert_complaint(&err, "both model.safetensors and model.safetensors.index.json are there: one "
                           "of them must go");
}

/* ---- config.json --------------------------------------------------------------------------------- */

static ModelDir *open_config(const char *text, Error *err) {
    *err = (Error){0};
    return model_open_config(make_dir(text, NULL, 0), "config.json", err);
}

static void refuses_broken_config(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"", "not JSON (at byte 0 of 0)"},
        {"{\"a\": }", "not JSON (at byte 6 of 7)"},
        {"{} x", "not JSON (at byte 3 of 4)"},
        {"3", "expected a JSON object { }"},
        {"{\"a\": 1, \"a\": 2}", "\"a\" is there twice"},
        {"{\"c\": 1, \"b\": 2, \"d\": 3, \"a\": 4, \"b\": 5}", "\"b\" is there twice"},
        {"{\"e\": 1, \"d\": 2, \"c\": 3, \"b\": 4, \"a\": 5, \"c\": 6}", "\"c\" is there twice"},
        {"{\"a\\u0000b\": 1}", "holds a NUL character"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Error err;
        assert_null(open_config(bad[i].text, &err));
        assert_complaint(&err, bad[i].message);
    }
}

static void reads_values(void **state) {
    (void)state;
    Error err;
    ModelDir *m = open_config("{\"i\": 8, \"neg\": -3, \"d\": 1e-5, \"yes\": true, \"s\": \"silu\","
                              "\"null\": null, \"list\": [1, 2, 3]}",
                              &err);
    assert_int_equal(config_int(m, "i", 1, 1, 8), 8);
    assert_int_equal(config_int(m, "neg", 1, -3, 8), -3);
    assert_int_equal(config_int(m, "none", 7, 1, 8), 7);
    assert_int_equal(config_int(m, "null", 7, 1, 8), 7);
    assert_true(config_double(m, "d", 1) == 1e-5);
    assert_true(config_double(m, "i", 1) == 8);
    assert_true(config_double(m, "none", 0.5) == 0.5);
    assert_true(config_bool(m, "yes", false));
    assert_true(config_bool(m, "none", true));
    assert_string_equal(config_string(m, "s", "x"), "silu");
    assert_string_equal(config_string(m, "null", "x"), "x");
    int64_t v[4] = {0};
    assert_int_equal(config_ints(m, "list", v, 4, 0, 0), 3);
    assert_int_equal(v[2], 3);
    assert_int_equal(config_ints(m, "i", v, 4, 0, 2), 2);
    assert_true(v[0] == 8 && v[1] == 8);
    assert_int_equal(config_ints(m, "none", v, 4, 5, 4), 4);
    assert_int_equal(v[3], 5);
    assert_false(model_failed(m));
    assert_int_equal(model_finish(m), 0);
    model_close(m);
}

/* Python writes Infinity, which is no JSON; as a word in a text it stays one. */
static void reads_infinity(void **state) {
    (void)state;
    Error err;
    ModelDir *m = open_config("{\"s\": \"\\\" Infinity \\\\\", \"d\": -Infinity, "
                              "\"t\": \"Infinity\"}",
                              &err);
    assert_non_null(m);
    assert_string_equal(config_string(m, "s", "x"), "\" Infinity \\");
    assert_string_equal(config_string(m, "t", "x"), "Infinity");
    const cJSON *d = cJSON_GetObjectItemCaseSensitive(model_config(m), "d");
    assert_true(cJSON_IsNumber(d) && isinf(d->valuedouble) && d->valuedouble < 0);
    model_close(m);
}

static void refuses_values_of_another_type_or_range(void **state) {
    (void)state;
    Error err;
    int64_t v[4];
#define REFUSES(text, call, message)                                                               \
    do {                                                                                           \
        ModelDir *m = open_config("{\"k\": " text "}", &err);                                      \
        assert_non_null(m);                                                                        \
        (void)(call);                                                                              \
        assert_true(model_failed(m));                                                              \
        assert_complaint(&err, message);                                                           \
        assert_int_equal(model_finish(m), -1);                                                     \
        model_close(m);                                                                            \
    } while (0)
    REFUSES("9", config_int(m, "k", 1, 1, 8), "k: expected a whole number from 1 to 8, found 9");
    REFUSES("0", config_int(m, "k", 1, 1, 8), "k: expected a whole number from 1 to 8, found 0");
    REFUSES("1.5", config_int(m, "k", 1, 1, 8),
            "k: expected a whole number from 1 to 8, found 1.5");
    REFUSES("\"8\"", config_int(m, "k", 1, 1, 8),
            "k: expected a whole number from 1 to 8, found \"8\"");
    REFUSES("true", config_double(m, "k", 1), "k: expected a number, found true");
    REFUSES("1e999", config_double(m, "k", 1), "k: expected a number, found Infinity");
    REFUSES("1", config_bool(m, "k", true), "k: expected true or false, found 1");
    REFUSES("[\"a\"]", config_string(m, "k", "a"), "k: expected a string, found [\"a\"]");
    REFUSES("[1, 2, 3, 4, 5]", config_ints(m, "k", v, 4, 0, 0),
            "k: expected 1 to 4 whole numbers in a list, found [1,2,3,4,5]");
    REFUSES("[]", config_ints(m, "k", v, 4, 0, 0),
            "k: expected 1 to 4 whole numbers in a list, found []");
    REFUSES("3", config_ints(m, "k", v, 4, 0, 0),
            "k: expected 1 to 4 whole numbers in a list, found 3");
    REFUSES("[1, 1.5]", config_ints(m, "k", v, 4, 0, 2),
            "k: expected a whole number, or 1 to 4 whole numbers in a list, found [1,1.5]");
#undef REFUSES
}

static void a_refused_value_becomes_the_default(void **state) {
    (void)state;
    Error err;
    ModelDir *m = open_config("{\"k\": \"x\"}", &err);
    int64_t v[2] = {9, 9};
    assert_int_equal(config_int(m, "k", 3, 1, 8), 3);
    assert_true(config_double(m, "k", 0.5) == 0.5);
    assert_true(config_bool(m, "k", true));
    assert_int_equal(config_ints(m, "k", v, 2, 4, 2), 2);
    assert_int_equal(v[1], 4);
    assert_complaint(&err, "k: expected a whole number from 1 to 8, found \"x\""); /* the first */
    model_close(m);
}

static void only_what_is_built_passes(void **state) {
    (void)state;
    Error err;
    ModelDir *m =
        open_config("{\"i\": 3, \"d\": 0, \"b\": false, \"s\": \"silu\", \"n\": null}", &err);
    config_only_int(m, "i", 3);
    config_only_double(m, "d", 0);
    config_only_bool(m, "b", false);
    config_only_string(m, "s", "silu");
    config_only_null(m, "n");
    config_only_int(m, "n", 3);
    config_only_string(m, "absent", "x");
    config_only_null(m, "absent");
    assert_false(model_failed(m));
    config_only_int(m, "i", 4);
    assert_complaint(&err, "i: expected 4 (nothing else is supported), found 3");
    err = (Error){0};
    config_only_double(m, "d", 0.5);
    assert_complaint(&err, "d: expected 0.5 (nothing else is supported), found 0");
    err = (Error){0};
    config_only_bool(m, "b", true);
    assert_complaint(&err, "b: expected true (nothing else is supported), found false");
    err = (Error){0};
    config_only_string(m, "s", "gelu");
    assert_complaint(&err, "s: expected \"gelu\" (nothing else is supported), found \"silu\"");
    err = (Error){0};
    config_only_null(m, "s");
    assert_complaint(&err, "s: expected null (nothing else is supported), found \"silu\"");
    model_close(m);
}

static void unknown_keys_are_refused(void **state) {
    (void)state;
    static const char *const harmless[] = {"dropout", NULL};
    Error err;
    const char *text = "{\"asked\": 1, \"_version\": 2, \"dropout\": 0.1, \"off\": false, "
                       "\"gone\": null, \"new\": 1, \"newer\": \"x\"}";
    ModelDir *m = open_config(text, &err);
    config_int(m, "asked", 1, 0, 9);
    config_refuse_unknown(m, harmless);
    assert_complaint(&err, "2 keys are not known, so what they ask can't be followed: new, newer");
    model_close(m);
    m = open_config(text, &err);
    config_int(m, "asked", 1, 0, 9);
    config_int(m, "new", 1, 0, 9);
    config_only_string(m, "newer", "x");
    config_refuse_unknown(m, harmless);
    assert_false(model_failed(m));
    model_close(m);
}

static void config_errors_name_the_file(void **state) {
    (void)state;
    Error err;
    ModelDir *m = open_config("{}", &err);
    char expected[128];
    snprintf(expected, sizeof expected, "%s/config.json: seven of 7",
             strrchr(model_path(m), '/') + 1);
    config_fail(m, "seven of %d", 7);
    assert_error(&err, expected);
    assert_int_equal(model_finish(m), -1);
    assert_error(&err, expected);
    model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_weights_by_name_and_shape),
        cmocka_unit_test(tells_everything_that_misfits_at_once),
        cmocka_unit_test(an_optional_tensor_has_its_shape_too),
        cmocka_unit_test(ignores_by_prefix),
        cmocka_unit_test(cuts_long_lists),
        cmocka_unit_test(needs_config_and_tensors),
        cmocka_unit_test(opens_each_of_the_three_names),
        cmocka_unit_test(closing_nothing_is_fine),
        cmocka_unit_test(reads_shards_written_upstream),
        cmocka_unit_test(refuses_broken_indexes),
        cmocka_unit_test(refuses_a_file_and_an_index),
        cmocka_unit_test(refuses_broken_config),
        cmocka_unit_test(reads_values),
        cmocka_unit_test(reads_infinity),
        cmocka_unit_test(refuses_values_of_another_type_or_range),
        cmocka_unit_test(a_refused_value_becomes_the_default),
        cmocka_unit_test(only_what_is_built_passes),
        cmocka_unit_test(unknown_keys_are_refused),
        cmocka_unit_test(config_errors_name_the_file),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
