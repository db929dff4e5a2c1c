/* What the checker of the small world bears, and what it refuses. Every test prints how many scenes it read
 * rightly: those are the figures that README.md quotes. */
#include "world_case.h"

typedef void (*Change)(uint8_t *rgb, const WorldScene *scene, Draws *d);

/* Scenes that are read as they are, of `count`, each after it was changed. */
static int read_rightly(int count, const char *what, double gap, Change change) {
    Draws d = {11};
    int right = 0;
    for (int i = 0; i < count; i++) {
        const WorldScene truth = draw_scene(&d, 1 + (i % 3 > 0), gap, gap >= 3);
        uint8_t rgb[WORLD_BYTES];
        WorldScene read;
        world_render(&truth, rgb);
        if (change) change(rgb, &truth, &d);
        world_read(rgb, &read);
        right += same_scene(&truth, &read);
        if (!same_scene(&truth, &read) && getenv("LLMDIFF_SHOW")) {
            char a[500], b[500];
            describe(&truth, a, sizeof a);
            describe(&read, b, sizeof b);
            printf("%s\n  %s\n", a, b);
        }
    }
    print_message("%s: %d of %d\n", what, right, count);
    return right;
}

/* ---- truth, and truth made worse -------------------------------------------------------------------- */

static void rendered_scenes_are_read(void **state) {
    (void)state;
    assert_int_equal(read_rightly(600, "rendered", 3, NULL), 600);
}

static void blurred_and_noisy(uint8_t *rgb, const WorldScene *scene, Draws *d) {
    (void)scene;
    world_degrade(rgb, 1, 0.05, d->state);
}
static void blurred_much(uint8_t *rgb, const WorldScene *scene, Draws *d) {
    (void)scene;
    world_degrade(rgb, 2, 0.02, d->state);
}
static void noisy(uint8_t *rgb, const WorldScene *scene, Draws *d) {
    (void)scene;
    world_degrade(rgb, 0, 0.08, d->state);
}

static uint8_t byte(double v) { return (uint8_t)floor(fmin(fmax(v, 0), 255) + 0.5); }

/* Each channel as a whole up to 15% off, in contrast and in brightness; then blurred. */
static void off_color(uint8_t *rgb, const WorldScene *scene, Draws *d) {
    (void)scene;
    for (int c = 0; c < 3; c++) {
        const double scale = 0.9 + 0.2 * draw(d), shift = 15 * (2 * draw(d) - 1);
        for (int p = 0; p < WORLD_PIXELS; p++)
            rgb[3 * p + c] = byte(128 + scale * (rgb[3 * p + c] - 128) + shift);
    }
    world_degrade(rgb, 1, 0.02, d->state);
}

/* A fifth of the way to the background. */
static void pale(uint8_t *rgb, const WorldScene *scene, Draws *d) {
    (void)d;
    for (int i = 0; i < WORLD_BYTES; i++) {
        const double b = world_background_rgb[scene->background][i % 3];
        rgb[i] = byte(b + 0.8 * (rgb[i] - b));
    }
}

/* Another scene shines through, a fifth of it. */
static void with_a_ghost(uint8_t *rgb, const WorldScene *scene, Draws *d) {
    WorldScene other = draw_scene(d, 2, 3, true);
    uint8_t ghost[WORLD_BYTES];
    other.background = scene->background;
    world_render(&other, ghost);
    for (int i = 0; i < WORLD_BYTES; i++) {
        const double b = world_background_rgb[scene->background][i % 3];
        rgb[i] = byte(rgb[i] + 0.2 * (ghost[i] - b) * (fabs(rgb[i] - b) < 1));
    }
    world_degrade(rgb, 1, 0.02, d->state);
}

/* A speck of two pixels' radius of some colour. */
static void with_a_speck(uint8_t *rgb, const WorldScene *scene, Draws *d) {
    const int x0 = 4 + draw_below(d, 56), y0 = 4 + draw_below(d, 56), color = draw_below(d, COLORS);
    for (int k = 0; k < scene->count; k++)
        if (hypot(scene->object[k].x - x0, scene->object[k].y - y0) < 1.3 * scene->object[k].r + 5)
            return;
    for (int p = 0; p < WORLD_PIXELS; p++)
        for (int c = 0; c < 3 && hypot(p % WORLD_SIDE - x0, p / WORLD_SIDE - y0) <= 2; c++)
            rgb[3 * p + c] = (uint8_t)world_color_rgb[color][c];
    world_degrade(rgb, 1, 0.02, d->state);
}

/* Each object's outline wobbles by a pixel: pixels come from up to one further away. */
static void wobbly(uint8_t *rgb, const WorldScene *scene, Draws *d) {
    uint8_t from[WORLD_BYTES];
    const double phase = 6.28 * draw(d), turn = 6.28 * draw(d);
    (void)scene;
    memcpy(from, rgb, sizeof from);
    for (int p = 0; p < WORLD_PIXELS; p++) {
        const double x = p % WORLD_SIDE, y = p / WORLD_SIDE;
        int u = (int)floor(x + 1.0 * sin(y / 2.5 + phase) + 0.5);
        int v = (int)floor(y + 1.0 * sin(x / 2.5 + turn) + 0.5);
        u = u < 0 ? 0 : u < WORLD_SIDE ? u : WORLD_SIDE - 1;
        v = v < 0 ? 0 : v < WORLD_SIDE ? v : WORLD_SIDE - 1;
        memcpy(rgb + 3 * p, from + 3 * (v * WORLD_SIDE + u), 3);
    }
    world_degrade(rgb, 1, 0.02, d->state);
}

static void what_a_decoder_does_is_borne(void **state) {
    (void)state;
    assert_true(read_rightly(400, "blurred by 1 pixel, noise of 5%", 3, blurred_and_noisy) >= 398);
    assert_true(read_rightly(200, "blurred by 2 pixels", 3, blurred_much) >= 198);
    assert_true(read_rightly(200, "noise of 8%", 3, noisy) >= 196);
    assert_true(read_rightly(300, "colours off", 3, off_color) >= 297);
    assert_true(read_rightly(200, "pale", 3, pale) >= 198);
    assert_true(read_rightly(200, "a ghost of 20%", 3, with_a_ghost) >= 196);
    assert_true(read_rightly(200, "a speck", 3, with_a_speck) >= 196);
    assert_true(read_rightly(200, "wobbly", 3, wobbly) >= 194);
    assert_true(read_rightly(200, "2 pixels apart, blurred", 2, blurred_and_noisy) >= 196);
}

/* ---- what is not there, and what is too much --------------------------------------------------------- */

static void paint_object(uint8_t *rgb, const WorldObject *o) {
    WorldScene s = {.background = WHITE, .count = 1, .object = {*o}};
    uint8_t on_white[WORLD_BYTES], on_black[WORLD_BYTES];
    world_render(&s, on_white);
    s.background = BLACK;
    world_render(&s, on_black);
    for (int i = 0; i < WORLD_BYTES; i++) { /* the two differ by 225 where it is not */
        const double share = 1 - (on_white[i] - on_black[i]) / 225.0;
        rgb[i] = byte(rgb[i] + share * (world_color_rgb[o->color][i % 3] - rgb[i]));
    }
}

static void a_third_object_counts(void **state) {
    (void)state;
    Draws d = {5};
    int counted = 0, tried = 0;
    while (tried < 100) {
        WorldScene s = draw_scene(&d, 2, 3, true), read;
        WorldObject third = {.shape = draw_below(&d, SHAPES),
                             .color = draw_below(&d, COLORS),
                             .r = 6,
                             .x = 9 + 46 * draw(&d),
                             .y = 9 + 46 * draw(&d)};
        bool free_place = true;
        for (int k = 0; k < 2; k++)
            free_place = free_place && hypot(s.object[k].x - third.x, s.object[k].y - third.y) >
                                           1.3 * s.object[k].r + 10;
        if (!free_place) continue;
        uint8_t rgb[WORLD_BYTES];
        world_render(&s, rgb);
        paint_object(rgb, &third);
        world_degrade(rgb, 1, 0.02, d.state);
        world_read(rgb, &read);
        counted += read.count == 3;
        tried++;
    }
    print_message("a third object: %d of %d\n", counted, tried);
    assert_true(counted >= 99);
}

/* Two that touch are two, if their colours differ. */
static void objects_that_touch(void **state) {
    (void)state;
    Draws d = {3};
    int two = 0, tried = 0;
    while (tried < 100) {
        const WorldScene s = draw_scene(&d, 2, 0, false);
        uint8_t rgb[WORLD_BYTES];
        WorldScene read;
        if (s.object[0].color == s.object[1].color) continue;
        world_render(&s, rgb);
        world_degrade(rgb, 1, 0.02, d.state);
        world_read(rgb, &read);
        two += read.count == 2;
        tried++;
    }
    print_message("touching, of two colours: %d of %d\n", two, tried);
    assert_true(two >= 95);
}

/* An object whose right third is of another colour is one, and has the shape that its outline has. */
static void a_stain_is_no_object(void **state) {
    (void)state;
    Draws d = {9};
    int right = 0;
    for (int i = 0; i < 100; i++) {
        const WorldScene s = draw_scene(&d, 1, 0, false);
        const WorldObject *o = &s.object[0];
        WorldScene other = s, read;
        uint8_t rgb[WORLD_BYTES], stain[WORLD_BYTES];
        other.object[0].color = (o->color + 1 + draw_below(&d, COLORS - 1)) % COLORS;
        world_render(&s, rgb);
        world_render(&other, stain);
        for (int p = 0; p < WORLD_PIXELS; p++)
            if (p % WORLD_SIDE > o->x + 0.25 * o->r) memcpy(rgb + 3 * p, stain + 3 * p, 3);
        world_degrade(rgb, 1.5, 0.02, d.state);
        world_read(rgb, &read);
        right +=
            read.count == 1 && read.object[0].shape == o->shape && read.object[0].size == o->size;
    }
    print_message("stained: %d of 100\n", right);
    assert_true(right >= 90);
}

/* ---- shapes that the world has not ------------------------------------------------------------------- */

typedef bool (*Inside)(double x, double y); /* from the centre, in radii */

static bool ring(double x, double y) { return hypot(x, y) <= 1 && hypot(x, y) > 0.5; }
static bool cross(double x, double y) {
    return fmin(fabs(x), fabs(y)) < 0.3 && fmax(fabs(x), fabs(y)) < 1;
}
static bool diamond(double x, double y) { return fabs(x) + fabs(y) <= 1.2; }
static bool hanging(double x, double y) {
    return y > -0.625 && y < 1.25 && fabs(x) < (1.25 - y) / 1.73;
}
static bool star(double x, double y) { return hypot(x, y) <= 0.7 + 0.35 * cos(5 * atan2(y, x)); }
static bool corner(double x, double y) {
    return fmax(fabs(x), fabs(y)) < 1 && !(x > -0.2 && y < 0.2);
}
static bool oblong(double x, double y) { return fabs(x) < 1.15 && fabs(y) < 0.65; }
static bool oval(double x, double y) { return hypot(x / 1.3, y * 1.3) <= 1; }
static bool bow(double x, double y) { return fabs(y) < fabs(x) && fabs(x) < 1; }

static void render_form(Inside form, double r, double x0, double y0, uint8_t *rgb) {
    for (int p = 0; p < WORLD_PIXELS; p++) {
        int hits = 0;
        for (int k = 0; k < 16; k++)
            hits += form((p % WORLD_SIDE + (k % 4 + 0.5) / 4 - x0) / r,
                         (p / WORLD_SIDE + (k / 4 + 0.5) / 4 - y0) / r);
        for (int c = 0; c < 3; c++)
            rgb[3 * p + c] = byte(245 + hits / 16.0 * (world_color_rgb[BLUE][c] - 245));
    }
}

static void other_shapes_are_none(void **state) {
    (void)state;
    const struct {
        const char *name;
        Inside form;
    } forms[] = {{"ring", ring},       {"cross", cross}, {"diamond", diamond},
                 {"hanging", hanging}, {"star", star},   {"corner", corner},
                 {"oblong", oblong},   {"oval", oval},   {"bow", bow}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        for (double r = 9; r < 15; r += 2.25) {
            uint8_t rgb[WORLD_BYTES];
            WorldScene read;
            char text[500];
            render_form(forms[i].form, r, 30.25, 33.5, rgb);
            world_degrade(rgb, 0.7, 0.01, i);
            world_read(rgb, &read);
            describe(&read, text, sizeof text);
            bool named = false;
            for (int k = 0; k < read.count; k++) named = named || read.object[k].shape != OPEN;
            if (named) fail_msg("%s of %g: %s", forms[i].name, r, text);
            assert_int_equal(read.background, WHITE); /* which is plain to see */
            assert_true(read.count >= 1);
        }
}

/* ---- pictures of nothing ----------------------------------------------------------------------------- */

static void assert_nothing(const uint8_t *rgb, const char *what) {
    static const Expect expects[] = {
        {.count = 1, .background = WHITE},
        {.count = 2, .background = GRAY, .absents = 1, .absent = {{TRIANGLE, OPEN, OPEN, 0, 0, 0}}},
        {.count = OPEN,
         .background = BLACK,
         .objects = 2,
         .object = {{CIRCLE, RED, OPEN, 0, 0, 0}, {OPEN, OPEN, SMALL, 0, 0, 0}},
         .relations = 1,
         .relation = {{0, LEFT_OF, 1}}},
        {.count = 3, .background = OPEN, .absents = 1, .absent = {{OPEN, RED, OPEN, 0, 0, 0}}}};
    WorldScene read;
    Judgement v;
    char text[1000];
    world_read(rgb, &read);
    describe(&read, text, sizeof text);
    for (size_t i = 0; i < sizeof expects / sizeof *expects; i++) {
        expect_judge(&expects[i], &read, &v);
        for (int k = 0; k < v.count; k++)
            if (v.statement[k].holds)
                fail_msg("%s: %s holds: %s", what, statement_name[v.statement[k].kind], text);
    }
}

static void nothing_holds_of_one_color(void **state) {
    (void)state;
    for (int b = 0; b < 256; b += 15)
        for (int noise = 0; noise < 2; noise++) {
            uint8_t rgb[WORLD_BYTES];
            memset(rgb, b, sizeof rgb);
            if (noise) world_degrade(rgb, 0, 0.06, (uint64_t)b);
            assert_nothing(rgb, "one shade");
        }
    for (int k = 0; k < COLORS; k++) {
        uint8_t rgb[WORLD_BYTES];
        for (int i = 0; i < WORLD_BYTES; i++) rgb[i] = (uint8_t)world_color_rgb[k][i % 3];
        assert_nothing(rgb, "one colour");
    }
}

static void nothing_holds_of_noise(void **state) {
    (void)state;
    for (int i = 0; i < 60; i++) { /* uniform, and blurred to spots of every size */
        Draws d = {(uint64_t)i};
        uint8_t rgb[WORLD_BYTES];
        double sum = 0, square = 0;
        for (int k = 0; k < WORLD_BYTES; k++) rgb[k] = (uint8_t)(256 * draw(&d));
        if (i % 6) world_degrade(rgb, 0.7 * (i % 6), 0, 0);
        for (int k = 0; k < WORLD_BYTES; k++) sum += rgb[k], square += rgb[k] * rgb[k];
        const double mean = sum / WORLD_BYTES, sd = sqrt(square / WORLD_BYTES - mean * mean);
        for (int k = 0; k < WORLD_BYTES; k++) rgb[k] = byte(mean + 60 * (rgb[k] - mean) / sd);
        assert_nothing(rgb, "noise");
    }
}

static void nothing_holds_of_textures(void **state) {
    (void)state;
    for (int period = 2; period <= 16; period++)
        for (int kind = 0; kind < 5; kind++) {
            uint8_t rgb[WORLD_BYTES];
            for (int p = 0; p < WORLD_PIXELS; p++) {
                const int x = p % WORLD_SIDE, y = p / WORLD_SIDE;
                const double wave = sin(3.1416 * x / period), cross_wave = sin(3.1416 * y / period);
                const bool on = kind == 0   ? x / period % 2
                                : kind == 1 ? (x / period + y / period) % 2
                                : kind == 2 ? (x + y) / period % 2
                                : kind == 3 ? wave * cross_wave > 0
                                            : hypot(x - 32, y - 32) / period -
                                                      floor(hypot(x - 32, y - 32) / period) <
                                                  0.5;
                for (int c = 0; c < 3; c++)
                    rgb[3 * p + c] = (uint8_t)world_color_rgb[on ? RED : BLUE][c];
            }
            if (period % 2) world_degrade(rgb, 1, 0.03, (uint64_t)period);
            assert_nothing(rgb, "a texture");
        }
    for (int axis = 0; axis < 2; axis++) {
        uint8_t rgb[WORLD_BYTES];
        for (int i = 0; i < WORLD_BYTES; i++)
            rgb[i] = (uint8_t)(4 * (axis ? i / 3 % WORLD_SIDE : i / 3 / WORLD_SIDE));
        assert_nothing(rgb, "a gradient");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rendered_scenes_are_read),
        cmocka_unit_test(what_a_decoder_does_is_borne),
        cmocka_unit_test(a_third_object_counts),
        cmocka_unit_test(objects_that_touch),
        cmocka_unit_test(a_stain_is_no_object),
        cmocka_unit_test(other_shapes_are_none),
        cmocka_unit_test(nothing_holds_of_one_color),
        cmocka_unit_test(nothing_holds_of_noise),
        cmocka_unit_test(nothing_holds_of_textures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
