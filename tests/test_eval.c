/* llmdiff eval as a person runs it: pictures, seeds, figures; any number of threads; what is refused. */
#include "cli_run.h"

#include "ref/image.h"
#include "ref/world/suite.h"

#include <cjson/cJSON.h>
#include <math.h>

#define SUITE "golden/data/world/suite.jsonl"
#define CLIP                                                                                       \
    "--text-encoder", "golden/micro_clip/text_encoder", "--tokenizer", "golden/micro_clip/tokenizer"

/* Two steps of golden/micro, quiet; more options may follow. */
#define EVAL(...) RUN("eval", "-m", MICRO, "--steps", "2", "--quiet", __VA_ARGS__)

static cJSON *json_of(const char *text) {
    cJSON *json = cJSON_Parse(text);
    assert_non_null(json);
    return json;
}

static double number_at(const cJSON *o, const char *key) {
    const cJSON *item = cJSON_GetObjectItem(o, key);
    if (!cJSON_IsNumber(item)) fail_msg("%s: no number", key);
    return item->valuedouble;
}

static const char *text_at(const cJSON *o, const char *key) {
    const cJSON *item = cJSON_GetObjectItem(o, key);
    if (!cJSON_IsString(item)) fail_msg("%s: no text", key);
    return item->valuestring;
}

static int count_of(const cJSON *array) { return cJSON_GetArraySize(array); }

/* The row of a split, a statement and a conditioner. */
static const cJSON *row_of(const cJSON *root, const char *split, const char *statement,
                           const char *conditioner) {
    const cJSON *row;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(root, "accuracy")) {
        if (strcmp(text_at(row, "split"), split) == 0 &&
            strcmp(text_at(row, "statement"), statement) == 0 &&
            strcmp(text_at(row, "conditioner"), conditioner) == 0)
            return row;
    }
    fail_msg("no row %s, %s, %s", split, statement, conditioner);
    return NULL;
}

static cJSON *report(const char *name) {
    size_t size;
    char *text = contents(name, &size);
    cJSON *root = json_of(text);
    free(text);
    return root;
}

/* ---- pictures ------------------------------------------------------------------------------------ */

/* The picture of a suite's prompt is generate's with the seed that the report names. */
static void pictures_are_generates(void **state) {
    (void)state;
    assert_ok(EVAL("--suite", SUITE, "--split", "negation", "--limit", "2", "-b", "2", "-s", "7",
                   "-o", "@/out", "--json", "@/r.json"));
    cJSON *root = report("@/r.json");
    const cJSON *prompts = cJSON_GetObjectItem(root, "prompts"), *prompt;
    static const double seeds[2][2] = {{9, 1000009},
                                       {12, 1000012}}; /* prompts 2 and 5 of the file */
    static const char *const files[2][2] = {
        {"@/out/llmdiff/negation-02.png", "@/out/llmdiff/negation-02_2.png"},
        {"@/out/llmdiff/negation-05.png", "@/out/llmdiff/negation-05_2.png"}};
    assert_int_equal(count_of(prompts), 2);
    for (int i = 0; i < 2; i++) {
        prompt = cJSON_GetArrayItem(prompts, i);
        const cJSON *pictures = cJSON_GetObjectItem(prompt, "pictures");
        assert_int_equal(count_of(pictures), 2);
        for (int b = 0; b < 2; b++) {
            char seed[24];
            assert_true(number_at(cJSON_GetArrayItem(pictures, b), "seed") == seeds[i][b]);
            snprintf(seed, sizeof seed, "%.0f", seeds[i][b]);
            assert_ok(RUN("generate", "-m", MICRO, "--steps", "2", "--quiet", "-W", "64", "-H",
                          "64", "-p", text_at(prompt, "prompt"), "-s", seed, "-o", "@/one.png"));
            assert_true(same_file("@/one.png", files[i][b]));
        }
    }
    cJSON_Delete(root);
}

/* Both conditioners, and the same bytes with any number of threads. */
static void threads_change_nothing(void **state) {
    (void)state;
    static const char *const threads[] = {"1", "2", "5"};
    char *first = NULL;
    size_t n = 0;
    for (int i = 0; i < 3; i++) {
        Result r = EVAL("--suite", SUITE, "--limit", "3", "--conditioner", "both", CLIP, "-t",
                        threads[i], "--json", "@/r.json", "-o", "@/out");
        assert_ok(r);
        size_t m;
        char *text = contents("@/r.json", &m);
        if (!first) {
            first = text;
            n = m;
            assert_int_equal(system(path("mv @/out @/first")), 0);
            continue;
        }
        assert_int_equal(m, n);
        assert_memory_equal(text, first, n);
        assert_int_equal(system(path("diff -r @/out @/first")), 0);
        free(text);
    }
    free(first);
}

/* ---- figures ------------------------------------------------------------------------------------- */

/* Rows are the sums of what is told of each picture; and intervals those of their numbers. Returns how many. */
static int check_rows(const cJSON *root) {
    const cJSON *row, *prompt, *picture, *one;
    int rows = 0;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(root, "accuracy")) {
        const char *split = text_at(row, "split"), *statement = text_at(row, "statement");
        double asked = 0, passed = 0, low, high;
        cJSON_ArrayForEach(prompt, cJSON_GetObjectItem(root, "prompts")) {
            if (strcmp(split, "all") != 0 && strcmp(split, text_at(prompt, "split")) != 0) continue;
            cJSON_ArrayForEach(picture, cJSON_GetObjectItem(prompt, "pictures")) {
                if (strcmp(text_at(picture, "conditioner"), text_at(row, "conditioner"))) continue;
                const cJSON *of = cJSON_GetObjectItem(picture, "statements");
                cJSON_ArrayForEach(one, cJSON_GetObjectItem(of, statement)) {
                    asked++;
                    passed += cJSON_IsTrue(one);
                }
            }
        }
        assert_true(asked > 0 && number_at(row, "asked") == asked);
        assert_true(number_at(row, "passed") == passed);
        assert_true(fabs(number_at(row, "accuracy") - passed / asked) < 1e-4);
        wilson_interval((int64_t)passed, (int64_t)asked, &low, &high);
        assert_true(fabs(number_at(row, "low") - low) < 1e-4);
        assert_true(fabs(number_at(row, "high") - high) < 1e-4);
        const cJSON *checker = cJSON_GetObjectItem(row, "checker");
        assert_true(number_at(checker, "truth_right") == 1);
        assert_true(number_at(checker, "truth_right_blurred") == 1);
        rows++;
    }
    return rows;
}

static void rows_are_sums_of_the_pictures(void **state) {
    (void)state;
    assert_ok(EVAL("--suite", SUITE, "--conditioner", "both", CLIP, "--json", "@/r.json"));
    cJSON *root = report("@/r.json");
    assert_true(check_rows(root) > 40);
    const cJSON *checker = cJSON_GetObjectItem(root, "checker");
    assert_true(number_at(checker, "truth_right") == 1);
    assert_true(number_at(checker, "false_pass") == 0);
    assert_true(number_at(checker, "false_pass_blurred") == 0);
    assert_true(number_at(checker, "chance") > 0.1 && number_at(checker, "chance") < 0.6);
    assert_true(number_at(row_of(root, "all", "scene", "clip"), "asked") == 24);
    assert_true(number_at(row_of(root, "relation", "relation", "llmdiff"), "asked") == 8);
    /* of untrained models none is right */
    assert_true(number_at(row_of(root, "all", "scene", "llmdiff"), "passed") == 0);
    const cJSON *kind = cJSON_GetArrayItem(cJSON_GetObjectItem(root, "kinds"), 0);
    assert_string_equal(text_at(kind, "kind"), "one");
    const cJSON *llmdiff =
        cJSON_GetObjectItem(cJSON_GetObjectItem(root, "conditioners"), "llmdiff");
    assert_true(number_at(llmdiff, "drawn") == 24);
    assert_string_equal(text_at(llmdiff, "steps"), "2");
    assert_true(
        cJSON_IsTrue(cJSON_GetObjectItem(cJSON_GetObjectItem(llmdiff, "settings"), "word_score")));
    cJSON_Delete(root);
}

/* The shipped pack's, of which some hold and some don't. */
static void rows_of_the_shipped_pack(void **state) {
    (void)state;
    assert_ok(RUN("eval", "--suite", SUITE, "--limit", "2", "--quiet", "--json", "@/r.json"));
    cJSON *root = report("@/r.json");
    assert_true(check_rows(root) > 20);
    cJSON_Delete(root);
}

static void the_table(void **state) {
    (void)state;
    Result r = EVAL("--suite", SUITE, "--split", "relation", "--limit", "2", "--conditioner",
                    "both", CLIP);
    assert_ok(r);
    assert_holds(r.out,
                 "eval: " SUITE ": 2 of 24 prompts\n1 picture of each, seed 42, ddim, 2 steps, "
                 "guidance 7.5\n\n"
                 "                               llmdiff              clip                 the "
                 "checker itself, %\n"
                 "split        statement  asked      % (95 %)             % (95 %)         "
                 "right  blur false chance\n");
    assert_holds(
        r.out,
        "relation     count          2    0.0 (0.0-65.8)       0.0 (0.0-65.8)     100.0 100.0");
    assert_holds(r.out, "\nall          count          2    0.0 (0.0-65.8) ");
    assert_holds(r.out,
                 "\n             relation       2    0.0 (0.0-65.8)       0.0 (0.0-65.8)     "
                 "100.0 100.0  0.00    0.0\n");
    for (const char *line = r.out; *line;) { /* 100 columns */
        const size_t n = strcspn(line, "\n");
        assert_true(n <= 100);
        line += n + (line[n] == '\n');
    }
    r = EVAL("--suite", SUITE, "--limit", "2", "--all");
    assert_ok(r);
    assert_holds(r.out, "\nplain/one    count ");
    assert_holds(r.out, "\nnegation/two count ");
    assert_null(strstr(r.out, "\nplain   "));
    r = EVAL("--suite", SUITE, "--limit", "1", "--json", "-");
    assert_ok(r);
    cJSON_Delete(json_of(r.out)); /* alone */
}

/* A prompt that the LLM has no room for fails, and is told; CLIP reads its beginning. */
static void prompts_that_are_too_long(void **state) {
    (void)state;
    char text[8192], prompt[2048] = "";
    size_t size;
    for (int i = 0; i < 150; i++) strcat(prompt, "circle ");
    char *suite = contents(SUITE, &size), *start = strstr(suite, "\"prompt\": \"");
    assert_non_null(start);
    start += strlen("\"prompt\": \"");
    *strchr(suite, '\n') = '\0';
    snprintf(text, sizeof text, "%.*s%s%s\n%s", (int)(start - suite), suite, prompt,
             strchr(start, '"'), suite + strlen(suite) + 1);
    char *end = strchr(strchr(text, '\n') + 1, '\n');
    end[1] = '\0'; /* two prompts */
    put_text("@/suite.jsonl", text);
    free(suite);
    Result r =
        EVAL("--suite", "@/suite.jsonl", "--conditioner", "both", CLIP, "--json", "@/r.json");
    assert_ok(r);
    assert_holds(r.out,
                 ": 2 of 2 prompts\n1 picture of each, seed 42, ddim, 2 steps, guidance 7.5\n");
    assert_holds(r.out, "llmdiff: refused 1, counted as failed: the prompt has ");
    assert_holds(r.out,
                 "clip: 1 prompts were longer than it reads, and judged without their ends\n");
    cJSON *root = report("@/r.json");
    assert_true(number_at(row_of(root, "all", "scene", "llmdiff"), "asked") == 2);
    const cJSON *sides = cJSON_GetObjectItem(root, "conditioners");
    assert_true(number_at(cJSON_GetObjectItem(sides, "llmdiff"), "refused") == 1);
    assert_true(number_at(cJSON_GetObjectItem(sides, "llmdiff"), "drawn") == 1);
    assert_true(number_at(cJSON_GetObjectItem(sides, "clip"), "cut") == 1);
    assert_true(number_at(cJSON_GetObjectItem(sides, "clip"), "drawn") == 2);
    cJSON_Delete(root);
}

/* A picture that is not finite fails, and is told; the others are drawn. */
static void what_is_not_finite(void **state) {
    (void)state;
    Result r =
        EVAL("--suite", SUITE, "--limit", "1", "--set", "g_scale=1.7e308", "--json", "@/r.json");
    assert_ok(r);
    cJSON *root = report("@/r.json");
    const cJSON *side = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "conditioners"), "llmdiff");
    assert_true(number_at(side, "not_finite") == 3);
    assert_true(number_at(row_of(root, "all", "scene", "llmdiff"), "passed") == 0);
    assert_holds(r.out, "llmdiff: 3 not finite, counted as failed: ");
    cJSON_Delete(root);
}

/* ---- what is wrong ------------------------------------------------------------------------------- */

static void wrong_calls(void **state) {
    (void)state;
    assert_error(EVAL("-s", "1"), 2, "no suite: give a file of prompts with --suite");
    assert_error(EVAL("--suite", "@/none.jsonl"), 1,
                 "@/none.jsonl: can't be opened: No such file or directory");
    assert_error(EVAL("--suite", SUITE, "--split", "hard"), 1,
                 "--split: expected one of " SUITE
                 "'s (plain, relation, negation), found \"hard\"");
    assert_error(EVAL("--suite", SUITE, "--conditioner", "bert"), 2,
                 "--conditioner: expected llmdiff, clip or both, found \"bert\"");
    assert_error_holds(EVAL("--suite", SUITE, "--conditioner", "clip"), 1, "text_encoder");
    assert_error_holds(EVAL("--suite", SUITE, "--set", "word_scores=false"), 2, "word_scores");
    assert_error_holds(EVAL("--suite", SUITE, "--sampling-method", "heun"), 2, "--sampling-method");
    assert_error_holds(EVAL("--suite", SUITE, "--limit", "0"), 2, "--limit: expected 1 or more");
    assert_error(EVAL("--suite", SUITE, "-p", "x"), 2,
                 "eval: unknown flag -p; it belongs to llmdiff generate");
    put_text("@/suite.jsonl", "{\"id\": \"x\"}\n");
    assert_error(EVAL("--suite", "@/suite.jsonl"), 1,
                 "@/suite.jsonl:1: split: expected 1 to 64 letters, digits, '.', '_', '-', found "
                 "nothing");
    assert_error(EVAL("--suite", "@/suite.jsonl", "--json", "@/suite.jsonl"), 2,
                 "--json: @/suite.jsonl is the suite: it would be overwritten");
    assert_error_holds(EVAL("--suite", SUITE, "--json", "/proc/x/y.json"), 2, "/proc/x/y.json");
    assert_error(EVAL("--suite", SUITE, "-o", "@/suite.jsonl"), 1,
                 "--output-dir: @/suite.jsonl: can't be made: File exists");
    assert_directory("suite.jsonl ");
}

static void readme_has_the_help(void **state) {
    (void)state;
    size_t size, used = 0;
    Result r = RUN("help", "eval");
    char block[2 * sizeof r.out] = "", *readme = contents("README.md", &size);
    for (const char *p = r.out, *end; *p && (end = strchr(p, '\n')); p = end + 1)
        used += (size_t)snprintf(block + used, sizeof block - used, "%s%.*s\n",
                                 end > p ? "    " : "", (int)(end - p), p);
    assert_true(used > 1000);
    if (!strstr(readme, block)) fail_msg("README.md has another \"llmdiff help eval\"");
    free(readme);
}

static void ctrl_c_ends_it(void **state) {
    (void)state;
    const char *args[] = {"eval",    "-m",  MICRO,    "--suite",  SUITE,
                          "--steps", "200", "--json", "@/r.json", NULL};
    Result r = interrupt(start("", args), SIGINT); /* it prints a note first */
    assert_int_equal(r.code, 130);
    assert_holds(r.err, "llmdiff: cancelled\n");
    assert_string_equal(r.out, "");
    assert_directory("");
}

int main(void) {
#define T(test) cmocka_unit_test_setup_teardown(test, fresh_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        T(pictures_are_generates),
        T(threads_change_nothing),
        T(rows_are_sums_of_the_pictures),
        T(rows_of_the_shipped_pack),
        T(the_table),
        T(prompts_that_are_too_long),
        T(what_is_not_finite),
        T(wrong_calls),
        T(readme_has_the_help),
        T(ctrl_c_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
