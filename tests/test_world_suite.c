/* What a prompt says, held against scenes; and suites that are wrong, each with the message it gets. */
#include "world_case.h"

#include <unistd.h>

/* ---- statements -------------------------------------------------------------------------------------- */

#define RED_CIRCLE                                                                                 \
    { CIRCLE, RED, SMALL, 16, 32, 9 }
#define BLUE_SQUARE                                                                                \
    { SQUARE, BLUE, LARGE, 46, 34, 13 }

static const WorldScene circle_left_of_square = {
    .background = WHITE, .count = 2, .object = {RED_CIRCLE, BLUE_SQUARE}};

/* "a small red circle to the left of a large blue square on white; no triangle" */
static const Expect all_of_it = {
    .count = 2,
    .background = WHITE,
    .objects = 2,
    .object = {{CIRCLE, RED, SMALL, 0, 0, 0}, {SQUARE, BLUE, LARGE, 0, 0, 0}},
    .relations = 1,
    .relation = {{0, LEFT_OF, 1}},
    .absents = 1,
    .absent = {{TRIANGLE, OPEN, OPEN, 0, 0, 0}}};

/* One letter a statement, in their order: capital where it holds. "c" count, "b" background, "s" shape, "k"
 * color, "z" size, "o" object, "O"bjects as "t", "r" relation, "a" absent, "e" scene. */
static void assert_judged(const Expect *e, const WorldScene *scene, const char *expected) {
    static const char letter[STATEMENT_KINDS + 1] = "cbskzotrae";
    Judgement v;
    char got[STATEMENTS_MOST + 1] = "";
    expect_judge(e, scene, &v);
    for (int i = 0; i < v.count; i++)
        got[i] = (char)(letter[v.statement[i].kind] - (v.statement[i].holds ? 'a' - 'A' : 0));
    assert_string_equal(got, expected);
}

static void every_statement_by_itself(void **state) {
    (void)state;
    WorldScene s = circle_left_of_square;
    assert_judged(&all_of_it, &s, "CBSKZOSKZOTRAE");
    s.background = GRAY;
    assert_judged(&all_of_it, &s, "CbSKZOSKZOTRAe");
    s.background = OPEN; /* not to be made out */
    assert_judged(&all_of_it, &s, "CbSKZOSKZOTRAe");

    s = circle_left_of_square;
    s.object[0].shape = SQUARE;
    assert_judged(&all_of_it, &s, "CBsKZoSKZOtrAe");
    s.object[0].shape = TRIANGLE;
    assert_judged(&all_of_it, &s, "CBsKZoSKZOtrae");
    s.object[0].shape = OPEN; /* it may be a triangle */
    assert_judged(&all_of_it, &s, "CBsKZoSKZOtrae");

    s = circle_left_of_square;
    s.object[1].color = RED;
    assert_judged(&all_of_it, &s, "CBSKZOSkZotrAe");
    s = circle_left_of_square;
    s.object[1].size = OPEN;
    assert_judged(&all_of_it, &s, "CBSKZOSKzotrAe");

    s = circle_left_of_square; /* a third, which is none of the two */
    s.count = 3;
    s.object[2] = (WorldObject){CIRCLE, GREEN, SMALL, 32, 10, 8};
    assert_judged(&all_of_it, &s, "cBSKZOSKZOTRAe");
    s.count = 1;
    assert_judged(&all_of_it, &s, "cBSKZOskzotrAe");

    s = circle_left_of_square; /* where they are: the axis that dominates */
    s.object[0].x = 46;
    s.object[1].x = 16;
    assert_judged(&all_of_it, &s, "CBSKZOSKZOTrAe");
    s = circle_left_of_square;
    s.object[1].y = 32 + 31;
    assert_judged(&all_of_it, &s, "CBSKZOSKZOTrAe");
}

/* Nothing holds of a picture that shows nothing, the absence of a triangle included. */
static void of_nothing_nothing_holds(void **state) {
    (void)state;
    const WorldScene nothing = {.background = OPEN};
    assert_judged(&all_of_it, &nothing, "cbskzoskzotrae");
}

static void every_relation(void **state) {
    (void)state;
    const WorldObject at = {CIRCLE, RED, SMALL, 30, 30, 8};
    static const struct {
        double x, y;
        const char *holds; /* of at to it: left, right, above, below */
    } c[] = {{50, 35, "1000"}, {10, 35, "0100"}, {35, 50, "0010"}, {25, 10, "0001"},
             {50, 50, "0000"}, {33, 30, "0000"}, {30, 30, "0000"}, {34, 30, "1000"}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        const WorldObject other = {SQUARE, RED, SMALL, c[i].x, c[i].y, 8};
        char got[RELATIONS + 1] = "";
        for (int k = 0; k < RELATIONS; k++) got[k] = world_stands(&at, k, &other) ? '1' : '0';
        assert_string_equal(got, c[i].holds);
    }
}

/* Two circles, one of which is red; the order in which they are read does not matter. */
static void objects_are_matched_so_that_most_holds(void **state) {
    (void)state;
    const Expect e = {.count = OPEN,
                      .background = OPEN,
                      .objects = 2,
                      .object = {{CIRCLE, OPEN, OPEN, 0, 0, 0}, {CIRCLE, RED, OPEN, 0, 0, 0}},
                      .relations = 1,
                      .relation = {{0, ABOVE, 1}}};
    WorldScene s = {
        .background = BLACK,
        .count = 2,
        .object = {{CIRCLE, RED, LARGE, 32, 48, 13}, {CIRCLE, GREEN, LARGE, 32, 16, 13}}};
    assert_judged(&e, &s, "SOSKOTRE");
    s.object[0].color = GREEN;
    s.object[1].color = RED; /* the green one is below now */
    assert_judged(&e, &s, "SOSKOTre");
    s.object[1].shape =
        SQUARE; /* as much holds either way: the first object is the one that is right */
    assert_judged(&e, &s, "SOsKotre");
    const WorldObject first = s.object[0];
    s.object[0] = s.object[1];
    s.object[1] = first;
    assert_judged(&e, &s, "SOsKotre");
}

/* ---- suites ------------------------------------------------------------------------------------------ */

#define OBJECTS                                                                                    \
    "{\"shape\": \"circle\", \"color\": \"red\", \"size\": \"small\", \"x\": 16, \"y\": 32, "      \
    "\"r\": 9}, "                                                                                  \
    "{\"shape\": \"square\", \"color\": \"blue\", \"size\": \"large\", \"x\": 46, \"y\": 34, "     \
    "\"r\": 13}"
#define SCENE "\"scene\": {\"background\": \"white\", \"objects\": [" OBJECTS "]}"
#define HEAD "{\"id\": \"a\", \"split\": \"plain\", \"prompt\": \"p\", "
#define EXPECT(what) HEAD SCENE ", \"expect\": {" what "}}"
#define SQUARES "\"objects\": [{\"shape\": \"circle\"}, {\"shape\": \"square\"}]"

static char *suite_file(const char *text, size_t size) {
    static char name[64];
    strcpy(name, "/tmp/llmdiff-suite-XXXXXX");
    const int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), size);
    close(fd);
    return name;
}

static void wrong_suites_are_told(void **state) {
    (void)state;
    static const struct {
        const char *text, *message; /* without the file's name */
    } c[] = {
        {"", ": expected a prompt in each line, found none"},
        {"\n \n", ": expected a prompt in each line, found none"},
        {"\n{\"id\"", ":2: not JSON (at byte 4 of 5)"},
        {"[]", ":1: expected a JSON object { }"},
        {"{\"id\": \"\xff\"}", ":1: not valid UTF-8"},
        {"{}", ":1: id: expected 1 to 64 letters, digits, '.', '_', '-', found nothing"},
        {"{\"id\": \"../x\"}",
         ":1: id: expected 1 to 64 letters, digits, '.', '_', '-', found \"../x\""},
        {"{\"id\": \".x\"}",
         ":1: id: expected 1 to 64 letters, digits, '.', '_', '-', found \".x\""},
        {"{\"id\": 7}", ":1: id: expected 1 to 64 letters, digits, '.', '_', '-', found 7"},
        {"{\"id\": \"a\"}",
         ":1: split: expected 1 to 64 letters, digits, '.', '_', '-', found nothing"},
        {"{\"id\": \"a\", \"id\": \"b\"}", ":1: key \"id\" is there twice"},
        {"{\"id\": \"a\", \"splits\": \"b\"}", ":1: unknown key \"splits\""},
        {"{\"id\": \"a\", \"split\": \"b\"}", ":1: prompt: expected a text, found nothing"},
        {"{\"id\": \"a\", \"split\": \"b\", \"kind\": 3}",
         ":1: kind: expected 1 to 64 letters, digits, '.', '_', '-', found 3"},
        {HEAD "\"expect\": {}}", ":1: scene: expected an object { }, found nothing"},
        {HEAD "\"scene\": {\"background\": \"pink\"}}",
         ":1: scene.background: expected white, gray or black, found \"pink\""},
        {HEAD "\"scene\": {\"background\": \"white\"}}",
         ":1: scene.objects: expected an array of at most 6, found nothing"},
        {HEAD "\"scene\": {\"background\": \"white\", \"objects\": [{\"shape\": \"circle\"}]}}",
         ":1: scene.objects[0].color: expected red, green, blue, yellow, purple or orange, found "
         "nothing"},
        {HEAD "\"scene\": {\"background\": \"white\", \"objects\": [{\"shape\": \"circle\", "
              "\"color\": \"red\", \"size\": \"small\", \"x\": 70}]}}",
         ":1: scene.objects[0].x: expected a number of 0 to 64, found 70"},
        {HEAD "\"scene\": {\"background\": \"white\", \"objects\": [{\"shape\": \"circle\", "
              "\"color\": \"red\", \"size\": \"small\", \"x\": 7, \"y\": 7, \"r\": 12}]}}",
         ":1: scene.objects[0]: expected a radius below 11 of a small object, found 12"},
        {HEAD SCENE "}", ":1: expect: expected an object { }, found nothing"},
        {EXPECT(""), ":1: expect.objects: expected an array of at most 4, found nothing"},
        {EXPECT("\"objects\": []"), ":1: expect: expected a statement, found none"},
        {EXPECT("\"objects\": 3"), ":1: expect.objects: expected an array of at most 4, found 3"},
        {EXPECT("\"objects\": [{}, {}, {}, {}, {}]"),
         ":1: expect.objects: expected an array of at most 4, found [{},{},{},{},{}]"},
        {EXPECT("\"objects\": [], \"number\": 2"), ":1: expect: unknown key \"number\""},
        {EXPECT("\"objects\": [{\"colour\": \"red\"}]"),
         ":1: expect.objects[0]: unknown key \"colour\""},
        {EXPECT("\"objects\": [{\"color\": \"pink\"}]"),
         ":1: expect.objects[0].color: expected red, green, blue, yellow, purple or orange, found "
         "\"pink\""},
        {EXPECT("\"objects\": [], \"count\": 0"),
         ":1: expect.count: expected a whole number of 1 to 6, found 0"},
        {EXPECT("\"objects\": [], \"count\": 1.5"),
         ":1: expect.count: expected a whole number of 1 to 6, found 1.5"},
        {EXPECT("\"objects\": [], \"absent\": [{}]"),
         ":1: expect.absent[0]: expected a shape, color or size, found {}"},
        {EXPECT(SQUARES ", \"relations\": [[0, \"left of\"]]"),
         ":1: expect.relations[0]: expected [object, relation, object], found [0,\"left of\"]"},
        {EXPECT(SQUARES ", \"relations\": [[0, \"beside\", 1]]"),
         ":1: expect.relations[0]: expected left of, right of, above or below, found \"beside\""},
        {EXPECT(SQUARES ", \"relations\": [[0, \"above\", 2]]"),
         ":1: expect.relations[0]: expected a whole number of 0 to 1, found 2"},
        {EXPECT(SQUARES ", \"relations\": [[1, \"above\", 1]]"),
         ":1: expect.relations[0]: expected two objects, found [1,\"above\",1]"},
        /* the scene has to be one of the prompt's */
        {EXPECT("\"objects\": [], \"count\": 1"),
         ":1: scene: expected one of which all of \"expect\" is true, found a statement on count "
         "that is not"},
        {EXPECT(SQUARES ", \"relations\": [[0, \"above\", 1]]"),
         ":1: scene: expected one of which all of \"expect\" is true, found a statement on "
         "relation "
         "that is not"},
        {EXPECT("\"objects\": [], \"count\": 2") "\n\n" EXPECT("\"objects\": [], \"count\": 2"),
         ":3: id: \"a\" is line 1's already"},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        char *name = suite_file(c[i].text, strlen(c[i].text)), expected[400];
        Suite suite;
        Error err = {0};
        assert_int_equal(suite_read(name, &suite, &err), -1);
        snprintf(expected, sizeof expected, "%s%s", name, c[i].message);
        assert_string_equal(err.message, expected);
        suite_free(&suite);
        unlink(name);
    }
    Suite suite;
    Error err = {0};
    assert_int_equal(suite_read("/nowhere/suite.jsonl", &suite, &err), -1);
    assert_non_null(strstr(err.message, "/nowhere/suite.jsonl"));
    suite_free(&suite);
}

static void a_suite_is_read(void **state) {
    (void)state;
    const char text[] = "\n" EXPECT("\"objects\": [{\"color\": \"blue\"}, {}], \"count\": 2, "
                                    "\"relations\": [[1, \"left of\", 0]], \"absent\": "
                                    "[{\"shape\": \"triangle\", \"size\": \"small\"}]");
    char *name = suite_file(text, sizeof text - 1);
    Suite suite;
    Error err = {0};
    if (suite_read(name, &suite, &err)) fail_msg("%s", err.message);
    unlink(name);
    assert_int_equal(suite.count, 1);
    const SuiteEntry *e = &suite.entry[0];
    assert_string_equal(e->id, "a");
    assert_string_equal(e->split, "plain");
    assert_string_equal(e->kind, "");
    assert_string_equal(e->prompt, "p");
    assert_int_equal(e->line, 2);
    assert_int_equal(e->index, 0);
    assert_true(same_scene(&circle_left_of_square, &e->scene));
    assert_int_equal(e->expect.count, 2);
    assert_int_equal(e->expect.background, OPEN);
    assert_int_equal(e->expect.objects, 2);
    assert_int_equal(e->expect.object[0].color, BLUE);
    assert_int_equal(e->expect.object[0].shape, OPEN);
    assert_int_equal(e->expect.object[1].size, OPEN);
    assert_int_equal(e->expect.relation[0].first, 1);
    assert_int_equal(e->expect.relation[0].relation, LEFT_OF);
    assert_int_equal(e->expect.absents, 1);
    assert_int_equal(e->expect.absent[0].shape, TRIANGLE);
    assert_int_equal(e->expect.absent[0].size, SMALL);
    assert_judged(&e->expect, &e->scene, "CKORAE");
    suite_free(&suite);
}

/* Of the golden suite every statement holds on its scene's picture, plain and made worse. */
static void the_checker_is_right_on_the_golden_suite(void **state) {
    (void)state;
    Suite suite;
    Error err = {0};
    int held = 0, asked = 0;
    if (suite_read(WORLD_GOLDEN "suite.jsonl", &suite, &err)) fail_msg("%s", err.message);
    assert_int_equal(suite.count, 24);
    for (int64_t i = 0; i < suite.count; i++)
        for (int worn = 0; worn < 2; worn++) {
            uint8_t rgb[WORLD_BYTES];
            WorldScene read;
            Judgement v;
            world_render(&suite.entry[i].scene, rgb);
            if (worn) world_degrade(rgb, 1, 0.05, (uint64_t)i);
            world_read(rgb, &read);
            expect_judge(&suite.entry[i].expect, &read, &v);
            for (int k = 0; k < v.count; k++) held += v.statement[k].holds;
            asked += v.count;
        }
    assert_true(asked > 400);
    assert_int_equal(held, asked);
    suite_free(&suite);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_statement_by_itself),
        cmocka_unit_test(of_nothing_nothing_holds),
        cmocka_unit_test(every_relation),
        cmocka_unit_test(objects_are_matched_so_that_most_holds),
        cmocka_unit_test(wrong_suites_are_told),
        cmocka_unit_test(a_suite_is_read),
        cmocka_unit_test(the_checker_is_right_on_the_golden_suite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
