/* The choices of the specification: defaults, every key and value, what is refused, the way back. */
#include "check.h"

#include "ref/settings.h"

#include <math.h>
#include <stdio.h>

static char *json_of(const Settings *s) {
    cJSON *json = settings_to_json(s);
    assert_non_null(json);
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

static void assert_json(const Settings *s, const char *expected) {
    char *text = json_of(s);
    assert_string_equal(text, expected);
    cJSON_free(text);
}

static Settings parsed(const char *assignment) {
    Settings s = settings_default();
    Error err = {0};
    if (settings_parse(&s, assignment, &err)) fail_msg("%s: %s", assignment, err.message);
    return s;
}

static void assert_refused(const char *assignment, const char *message) {
    Settings s = settings_default();
    Error err = {0};
    assert_int_equal(settings_parse(&s, assignment, &err), -1);
    assert_string_equal(err.message, message);
}

static void defaults_are_the_specification(void **state) {
    (void)state;
    Settings s = settings_default();
    assert_json(&s, "{\"init\":\"embedding\",\"noise\":true,\"score\":\"residual\","
                    "\"word_score\":true,\"normalize\":\"none\",\"blocks\":null,\"g_scale\":1,"
                    "\"h_scale\":1,\"tau_input\":\"phi_c\",\"out\":\"own\",\"layers\":null,"
                    "\"a1\":null,\"b1\":null,\"a2\":null,\"b2\":null}");
}

static void every_choice_is_read(void **state) {
    (void)state;
    assert_int_equal(parsed("init=embedding").init, INIT_EMBEDDING);
    assert_int_equal(parsed("init=zeros").init, INIT_ZEROS);
    assert_int_equal(parsed("init=\"normal\"").init, INIT_NORMAL);
    assert_int_equal(parsed("score=difference").score, SCORE_DIFFERENCE);
    assert_int_equal(parsed("score=residual").score, SCORE_RESIDUAL);
    assert_int_equal(parsed("normalize=rms").normalize, NORMALIZE_RMS);
    assert_int_equal(parsed("tau_input=c").tau_input, TAU_INPUT_C);
    assert_int_equal(parsed("out=shared").out, OUT_SHARED);
    assert_false(parsed("noise=false").noise);
    assert_false(parsed("word_score=false").word_score);
}

static void numbers_are_read(void **state) {
    (void)state;
    assert_true(parsed("g_scale=0").g_scale == 0);
    assert_true(parsed("h_scale=2.5e-3").h_scale == 2.5e-3);
    assert_true(parsed("a1=-1.5").a1 == -1.5);
    assert_true(parsed("b2=3").b2 == 3);
    assert_true(isnan(parsed("a2=null").a2));
}

static void blocks_are_read(void **state) {
    (void)state;
    Settings s = parsed("blocks=[2, 5]");
    assert_int_equal(s.first, 2);
    assert_int_equal(s.last, 5);
    s = parsed("blocks=null");
    assert_int_equal(s.first, 0);
    assert_int_equal(s.last, -1);
}

static void layers_are_exact_paths(void **state) {
    (void)state;
    Settings s = parsed("layers=[\"mid.attn2\", \"up.attn2\"]");
    assert_true(settings_layer_active(&s, "mid.attn2"));
    assert_true(settings_layer_active(&s, "up.attn2"));
    assert_false(settings_layer_active(&s, "up.attn"));
    assert_false(settings_layer_active(&s, "up.attn22"));
    assert_false(settings_layer_active(&s, ""));
    s = parsed("layers=[]");
    assert_false(settings_layer_active(&s, "mid.attn2"));
    s = parsed("layers=null");
    assert_true(settings_layer_active(&s, "mid.attn2"));
}

static void wrong_values_are_told(void **state) {
    (void)state;
    assert_refused(
        "init=ones",
        "--set: init: expected \"embedding\" or \"zeros\" or \"normal\", found \"ones\"");
    assert_refused("noise=0", "--set: noise: expected true or false, found 0");
    assert_refused("noise=yes", "--set: noise: expected true or false, found \"yes\"");
    assert_refused("g_scale=-1",
                   "--set: g_scale: expected a number that is not negative, found -1");
    assert_refused("g_scale=x",
                   "--set: g_scale: expected a number that is not negative, found \"x\"");
    assert_refused("a1=true", "--set: a1: expected null or a number, found true");
    assert_refused("layers=mid",
                   "--set: layers: expected null or a list of attn2 paths, found \"mid\"");
    assert_refused("layers=[1]",
                   "--set: layers: expected null or a list of attn2 paths, found [1]");
}

static void wrong_blocks_are_told(void **state) {
    (void)state;
    static const char *const values[] = {"[5,2]", "[-1,2]", "[0.5,2]", "[1]", "[0,1,2]", "[]", "3"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char assignment[64], message[160];
        snprintf(assignment, sizeof assignment, "blocks=%s", values[i]);
        snprintf(message, sizeof message,
                 "--set: blocks: expected null or [first, last] with 0 <= first <= last, found %s",
                 values[i]);
        assert_refused(assignment, message);
    }
}

static void unknown_keys_are_told(void **state) {
    (void)state;
    assert_refused("gscale=1",
                   "--set gscale: no such key; there are init, noise, score, word_score, "
                   "normalize, blocks, g_scale, h_scale, tau_input, out, layers, a1, b1, a2, b2");
    assert_refused("noise", "--set noise: expected KEY=VALUE");
    assert_refused("=1", "--set =1: expected KEY=VALUE");
    Settings s = settings_default();
    Error err = {0};
    cJSON *value = cJSON_CreateNumber(1);
    assert_int_equal(settings_set(&s, "unknown", value, "config.json", &err), 1);
    assert_false(err.set);
    cJSON_Delete(value);
}

static void json_there_and_back(void **state) {
    (void)state;
    static const char *const all[] = {"init=zeros",
                                      "noise=false",
                                      "score=difference",
                                      "word_score=false",
                                      "normalize=rms",
                                      "blocks=[1,2]",
                                      "g_scale=0.1",
                                      "h_scale=3",
                                      "tau_input=c",
                                      "out=shared",
                                      "layers=[\"a\",\"b.c\"]",
                                      "a1=0.30000000000000004",
                                      "b1=-1",
                                      "a2=2",
                                      "b2=0"};
    Settings s = settings_default(), back = settings_default();
    Error err = {0};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        assert_int_equal(settings_parse(&s, all[i], &err), 0);
    char *text = json_of(&s);
    assert_string_equal(text, "{\"init\":\"zeros\",\"noise\":false,\"score\":\"difference\","
                              "\"word_score\":false,\"normalize\":\"rms\",\"blocks\":[1,2],"
                              "\"g_scale\":0.1,\"h_scale\":3,\"tau_input\":\"c\","
                              "\"out\":\"shared\",\"layers\":[\"a\",\"b.c\"],"
                              "\"a1\":0.30000000000000004,\"b1\":-1,\"a2\":2,\"b2\":0}");
    cJSON *json = cJSON_Parse(text), *item;
    cJSON_ArrayForEach(item, json)
        assert_int_equal(settings_set(&back, item->string, item, "json", &err), 0);
    cJSON_Delete(json);
    assert_json(&back, text);
    cJSON_free(text);
}

static void a_layer_list_too_long_is_refused(void **state) {
    (void)state;
    static char assignment[6000] = "layers=[\"";
    memset(assignment + strlen(assignment), 'x', 5000);
    strcat(assignment, "\"]");
    assert_refused(assignment, "--set: layers: longer than 4096 characters");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_specification),
        cmocka_unit_test(every_choice_is_read),
        cmocka_unit_test(numbers_are_read),
        cmocka_unit_test(blocks_are_read),
        cmocka_unit_test(layers_are_exact_paths),
        cmocka_unit_test(wrong_values_are_told),
        cmocka_unit_test(wrong_blocks_are_told),
        cmocka_unit_test(unknown_keys_are_told),
        cmocka_unit_test(json_there_and_back),
        cmocka_unit_test(a_layer_list_too_long_is_refused),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
