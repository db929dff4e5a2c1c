/* How large a picture is written: its pixels repeated, nothing else changed. */
#include "tests/cli_run.h"

#include "ref/image.h"
#include "ref/llmdiff.h"

#define DRAW(...)                                                                                  \
    RUN("generate", "-m", MICRO, "-p", "a red circle", "-o", "@/x.png", "--steps", "2", "--quiet", \
        __VA_ARGS__)

static void assert_size(const char *png, int64_t width, int64_t height) {
    ImageInfo info;
    Error err = {0};
    if (image_read_info(path(png), &info, &err)) fail_msg("%s", err.message);
    assert_int_equal(info.width, width);
    assert_int_equal(info.height, height);
    image_info_free(&info);
}

/* The pixels as they are in the file. */
static Image decoded(const char *png) {
    Image im;
    Error err = {0};
    size_t size;
    char *bytes = contents(png, &size);
    if (image_decode(bytes, size, png, &im, &err)) fail_msg("%s", err.message);
    free(bytes);
    return im;
}

static void assert_enlarged(const char *large, const char *small, int64_t n) {
    Image a = decoded(large), b = decoded(small);
    assert_int_equal(a.width, n * b.width);
    assert_int_equal(a.height, n * b.height);
    for (int64_t y = 0; y < a.height; y++)
        for (int64_t x = 0; x < a.width; x++)
            assert_memory_equal(a.rgb + (y * a.width + x) * 3,
                                b.rgb + (y / n * b.width + x / n) * 3, 3);
    free(a.rgb);
    free(b.rgb);
}

/* What `info` prints of a picture, without its first line and the enlargement. */
static void settings_of(const char *png, char *text, size_t size) {
    Result r = RUN("info", png);
    assert_ok(r);
    char *line = strchr(r.out, '\n'), *enlarge = strstr(r.out, "  enlarge ");
    assert_non_null(line);
    if (enlarge) *enlarge = '\0';
    snprintf(text, size, "%s", line);
}

static void at_least_256_wide_by_itself(void **state) {
    (void)state;
    static const struct {
        const char *width, *says;
        int64_t written, height;
    } c[] = {{"16", "@/x.png: 16 x 10, seed 42, enlarged to 256 x 160\n", 256, 160},
             {"24", "@/x.png: 24 x 10, seed 42, enlarged to 264 x 110\n", 264, 110},
             {"254", "@/x.png: 254 x 10, seed 42, enlarged to 508 x 20\n", 508, 20},
             {"256", "@/x.png: 256 x 10, seed 42\n", 256, 10},
             {"258", "@/x.png: 258 x 10, seed 42\n", 258, 10}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        Result r = DRAW("-W", c[i].width, "-H", "10");
        assert_ok(r);
        assert_string_equal(r.out, c[i].says);
        assert_size("@/x.png", c[i].written, c[i].height);
    }
}

static void the_pixels_are_repeated_and_the_settings_stay(void **state) {
    (void)state;
    static char plain[8192], large[8192];
    assert_ok(DRAW("-W", "24", "--enlarge", "1", "-o", "@/1.png"));
    assert_ok(DRAW("-W", "24", "--enlarge", "3", "-o", "@/3.png"));
    assert_ok(DRAW("-W", "24", "-o", "@/x.png"));
    assert_size("@/1.png", 24, 16);
    assert_enlarged("@/3.png", "@/1.png", 3);
    assert_enlarged("@/x.png", "@/1.png", 11);
    settings_of("@/1.png", plain, sizeof plain);
    settings_of("@/3.png", large, sizeof large);
    assert_string_equal(plain, large); /* width and height are those that were computed */
    assert_holds(plain, "  width                      24\n");
    assert_holds(RUN("info", "@/3.png").out, "\n  enlarge                    3\n");
    assert_null(strstr(RUN("info", "@/1.png").out, "enlarge"));
}

static void every_picture_and_preview_is(void **state) {
    (void)state;
    put_text("@/p.txt", "a red circle\na blue square\n");
    Result r = RUN("generate", "-m", MICRO, "--prompt-file", "@/p.txt", "-o", "@/x.png", "--steps",
                   "2", "--quiet", "-b", "2", "--preview-every", "1", "--enlarge", "2",
                   "--save-latents", "@/z.npy");
    assert_ok(r);
    assert_holds(r.out, "@/x_4.png: 16 x 16, seed 43, enlarged to 32 x 32\n");
    static const char *const names[] = {"@/x.png", "@/x_step1.png", "@/x_2.png", "@/x_4_step1.png",
                                        "@/x_4.png"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) assert_size(names[i], 32, 32);
    assert_ok(DRAW("--enlarge", "1", "--save-latents", "@/y.npy"));
    assert_true(same_file("@/y.npy", "@/z.npy"));
}

/* A picture that was enlarged is begun from as it was computed, in its own size. */
static void image_to_image_sees_what_was_computed(void **state) {
    (void)state;
    assert_ok(DRAW("-o", "@/large.png"));
    assert_ok(DRAW("-o", "@/small.png", "--enlarge", "1"));
    assert_ok(DRAW("-o", "@/a.png", "-i", "@/large.png", "--save-latents", "@/a.npy"));
    assert_ok(DRAW("-o", "@/b.png", "-i", "@/small.png", "--save-latents", "@/b.npy"));
    assert_true(same_file("@/a.npy", "@/b.npy"));
    assert_enlarged("@/a.png", "@/b.png", 1);
    assert_ok(DRAW("-o", "@/c.png", "-i", "@/large.png", "--mask", "@/large.png", "--save-latents",
                   "@/c.npy"));
    assert_ok(DRAW("-o", "@/d.png", "-i", "@/small.png", "--mask", "@/small.png", "--save-latents",
                   "@/d.npy"));
    assert_true(same_file("@/c.npy", "@/d.npy"));
}

/* Written by somebody else: squares that are not of one colour, and numbers that mean nothing. */
static void what_was_painted_over_is_averaged(void **state) {
    (void)state;
    uint8_t rgb[4 * 2 * 3];
    for (int i = 0; i < 24; i++) rgb[i] = (uint8_t)(7 * i);
    static const char *const numbers[] = {"2", "3", "0", "-2", "x", "99999999999999999999"};
    for (int i = 0; i < 6; i++) {
        int64_t w, h;
        Error err = {0};
        const char *text[] = {IMAGE_ENLARGE_KEY, numbers[i], NULL};
        if (image_write_png(path("@/p.png"), rgb, 4, 2, text, &err)) fail_msg("%s", err.message);
        uint8_t *read = image_read(path("@/p.png"), &w, &h, &err);
        assert_non_null(read);
        assert_int_equal(w, i ? 4 : 2);
        assert_int_equal(h, i ? 2 : 1);
        if (i) assert_memory_equal(read, rgb, sizeof rgb);
        /* bytes 0, 3, 12, 15 of 7 each: (0 + 21 + 84 + 105) / 4 = 52.5, the next channel 7 more */
        for (int c = 0; !i && c < 3; c++) assert_int_equal(read[c], 53 + 7 * c);
        free(read);
    }
}

static void numbers_out_of_range(void **state) {
    (void)state;
    assert_error(DRAW("--enlarge", "0"), 2, "--enlarge: expected 1 to 256, found 0");
    assert_error(DRAW("--enlarge", "257"), 2, "--enlarge: expected 1 to 256, found 257");
    assert_error(DRAW("--enlarge", "1.5"), 2, "--enlarge: expected a whole number, found \"1.5\"");
    assert_directory("");
}

/* A program on the library gets what was computed, unless it asks. */
static void the_library_writes_as_computed(void **state) {
    (void)state;
    llmdiff_options o = {.size = sizeof o, .model = MICRO};
    llmdiff_pack *pack;
    llmdiff_request r;
    llmdiff_result *result;
    llmdiff_error error;
    assert_int_equal(llmdiff_open(&o, &pack, &error), LLMDIFF_OK);
    llmdiff_request_default(&r, sizeof r);
    r.prompt = "a red circle";
    r.steps = 1;
    assert_int_equal(llmdiff_generate(pack, &r, &result, &error), LLMDIFF_OK);
    assert_int_equal(llmdiff_enlargement(result), 16);
    assert_int_equal(llmdiff_enlargement(NULL), 1);
    assert_int_equal(llmdiff_save_png(result, path("@/a.png"), &error), LLMDIFF_OK);
    assert_int_equal(llmdiff_save_png_enlarged(result, path("@/b.png"), 5, &error), LLMDIFF_OK);
    assert_size("@/a.png", 16, 16);
    assert_enlarged("@/b.png", "@/a.png", 5);
    assert_int_equal(llmdiff_save_png_enlarged(result, path("@/c.png"), 0, &error), LLMDIFF_MISUSE);
    assert_string_equal(error.message, "--enlarge: expected 1 to 256, found 0");
    assert_int_equal(llmdiff_save_png_enlarged(result, path("@/c.png"), 257, NULL), LLMDIFF_MISUSE);
    assert_int_equal(llmdiff_save_png_enlarged(NULL, path("@/c.png"), 2, NULL), LLMDIFF_MISUSE);
    assert_directory("a.png b.png ");
    llmdiff_result_free(result);
    llmdiff_close(pack);
}

#define T(test) cmocka_unit_test_setup_teardown(test, fresh_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(at_least_256_wide_by_itself),       T(the_pixels_are_repeated_and_the_settings_stay),
        T(every_picture_and_preview_is),      T(image_to_image_sees_what_was_computed),
        T(what_was_painted_over_is_averaged), T(numbers_out_of_range),
        T(the_library_writes_as_computed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
