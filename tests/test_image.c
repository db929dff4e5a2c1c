/* PNG: pixels and texts written, and read back by libpng's own simplified reader and by ours. */
#include "check.h"

#include "ref/image.h"
#include "ref/pipeline.h"
#include "weights/file.h"

#include <dirent.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/llmdiff-image-XXXXXX";

static const char *at(const char *name) {
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static size_t files_in_dir(void) {
    size_t n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void fill(uint8_t *rgb, size_t n) {
    for (size_t i = 0; i < n; i++) rgb[i] = (uint8_t)(i * 37 + i / 7);
}

static void pixels_come_back(void **state) {
    (void)state;
    enum { W = 37, H = 11 };
    uint8_t rgb[W * H * 3], back[W * H * 3];
    fill(rgb, sizeof rgb);
    Error err = {0};
    assert_int_equal(image_write_png(at("a.png"), rgb, W, H, NULL, &err), 0);
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_file(&image, at("a.png")));
    assert_int_equal(image.width, W);
    assert_int_equal(image.height, H);
    assert_int_equal(image.format, PNG_FORMAT_RGB);
    assert_true(png_image_finish_read(&image, NULL, back, 0, NULL));
    assert_memory_equal(rgb, back, sizeof rgb);
    unlink(at("a.png"));
}

static void texts_come_back_in_order(void **state) {
    (void)state;
    uint8_t rgb[12] = {0};
    char large[20001];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    const char *text[] = {"prompt",    "ein rotes Dreieck: \xc3\xa4\xe2\x96\xb3\xf0\x9f\x94\xba",
                          "empty",     "",
                          "two lines", "one\ntwo",
                          "large",     large,
                          NULL};
    Error err = {0};
    assert_int_equal(image_write_png(at("t.png"), rgb, 2, 2, text, &err), 0);
    ImageInfo info;
    assert_int_equal(image_read_info(at("t.png"), &info, &err), 0);
    assert_int_equal(info.width, 2);
    assert_int_equal(info.bit_depth, 8);
    assert_string_equal(info.color, "RGB");
    for (int i = 0; text[i]; i++) assert_string_equal(info.text[i], text[i]);
    assert_null(info.text[8]);
    image_info_free(&info);
    unlink(at("t.png"));
}

static void texts_are_utf8_chunks_and_nothing_tells_the_time(void **state) {
    (void)state;
    uint8_t rgb[3] = {1, 2, 3};
    Error err = {0};
    image_write_png(at("c.png"), rgb, 1, 1, (const char *[]){"seed", "42", NULL}, &err);
    size_t size;
    unsigned char *bytes = (unsigned char *)file_read(at("c.png"), &size, &err);
    assert_false(err.set);
    char seen[64] = "";
    for (size_t p = 8; p + 12 <= size;) {
        size_t n = (size_t)bytes[p] << 24 | (size_t)bytes[p + 1] << 16 | (size_t)bytes[p + 2] << 8 |
                   bytes[p + 3];
        strncat(seen, (char *)bytes + p + 4, 4);
        strcat(seen, " ");
        p += 12 + n;
    }
    assert_string_equal(seen, "IHDR iTXt IDAT IEND ");
    free(bytes);
    unlink(at("c.png"));
}

static void same_input_same_bytes(void **state) {
    (void)state;
    uint8_t rgb[16 * 16 * 3];
    fill(rgb, sizeof rgb);
    const char *text[] = {"prompt", "a", "seed", "1", NULL};
    Error err = {0};
    size_t n[2];
    char *bytes[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(image_write_png(at("s.png"), rgb, 16, 16, text, &err), 0);
        bytes[i] = file_read(at("s.png"), &n[i], &err);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    free(bytes[0]);
    free(bytes[1]);
    unlink(at("s.png"));
}

static void a_failed_write_leaves_nothing(void **state) {
    (void)state;
    uint8_t rgb[3] = {0};
    Error err = {0};
    assert_int_equal(image_write_png(at("no/x.png"), rgb, 1, 1, NULL, &err), -1);
    assert_non_null(strstr(err.message, "no/x.png: can't be created: No such file or directory"));

    err = (Error){0}; /* libpng warns about such a key and leaves the text out: an error here */
    char key[100];
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = '\0';
    assert_int_equal(
        image_write_png(at("x.png"), rgb, 1, 1, (const char *[]){key, "v", NULL}, &err), -1);
    assert_non_null(strstr(err.message, "x.png: "));

    err = (Error){0};
    assert_int_equal(image_write_png(at("x.png"), rgb, 0, 1, NULL, &err), -1);
    assert_non_null(strstr(err.message, "a PNG can't be 0 x 1"));
    assert_int_equal(files_in_dir(), 0);
}

static void damaged_files_are_refused(void **state) {
    (void)state;
    uint8_t rgb[300];
    fill(rgb, sizeof rgb);
    Error err = {0};
    image_write_png(at("d.png"), rgb, 10, 10, (const char *[]){"prompt", "a red circle", NULL},
                    &err);
    size_t size;
    char *bytes = file_read(at("d.png"), &size, &err);
    assert_false(err.set);
    for (size_t cut = 0; cut < 70; cut++) { /* within the header and the text */
        ImageInfo info;
        assert_int_equal(truncate(at("d.png"), 0), 0);
        FILE *f = fopen(at("d.png"), "wb");
        fwrite(bytes, 1, cut, f);
        fclose(f);
        err = (Error){0};
        assert_int_equal(image_read_info(at("d.png"), &info, &err), -1);
        assert_non_null(strstr(err.message, "d.png: "));
    }
    free(bytes);
    unlink(at("d.png"));
    ImageInfo info;
    err = (Error){0};
    assert_int_equal(image_read_info(at("absent.png"), &info, &err), -1);
    assert_non_null(strstr(err.message, "can't be opened: No such file or directory"));
}

/* A palette of three colours in two bits a pixel, written by libpng. */
static void palettes_become_colours(void **state) {
    (void)state;
    static const uint8_t palette[] = {255, 0, 0, 10, 200, 30, 0, 0, 255};
    static const uint8_t index[] = {0, 1, 2, 2, 1, 0, 0, 0, 1, 2, 1, 2, 0, 2, 1};
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = 5,
                       .height = 3,
                       .format = PNG_FORMAT_RGB_COLORMAP,
                       .colormap_entries = 3};
    assert_true(png_image_write_to_file(&image, at("palette.png"), 0, index, 5, palette));
    Error err = {0};
    int64_t width, height;
    uint8_t *rgb = image_read(at("palette.png"), &width, &height, &err);
    if (!rgb) fail_msg("%s", err.message);
    assert_true(width == 5 && height == 3);
    for (int i = 0; i < 15; i++) assert_memory_equal(rgb + 3 * i, palette + 3 * index[i], 3);
    free(rgb);
    assert_int_equal(unlink(at("palette.png")), 0);
}

/* libpng's own limit is a million pixels in a row. */
static void a_picture_wider_than_a_million(void **state) {
    (void)state;
    enum { W = 1000001 };
    uint8_t *rgb = calloc(W, 3);
    assert_non_null(rgb);
    Error err = {0};
    if (image_write_png(at("wide.png"), rgb, W, 1, NULL, &err)) fail_msg("%s", err.message);
    size_t size;
    char *bytes = file_read(at("wide.png"), &size, &err);
    assert_non_null(bytes);
    assert_memory_equal(bytes + 12, "IHDR\x00\x0F\x42\x41\x00\x00\x00\x01", 12);
    free(bytes);
    free(rgb);
    assert_int_equal(unlink(at("wide.png")), 0);
}

/* diffusers: (x / 2 + 0.5).clamp(0, 1), then numpy's (255 x).round(), which takes a half to the even
 * number: -0.4 becomes 76.5 in double, so 76. */
static void pixels_are_rounded(void **state) {
    (void)state;
    static const double x[] = {-2, -1, -0.4, 0, 0.41, 1, 2, -0.999, -0.995, 0.251, 0.254, 0.997};
    static const int expected[] = {0, 0, 76, 128, 180, 255, 255, 0, 1, 160, 160, 255};
    Context ctx = {0};
    Tensor image = TENSOR_NEW(&ctx, 1, 2, 2, 3), latents = TENSOR_NEW(&ctx, 1, 1, 1, 4);
    for (int i = 0; i < 12; i++) image.data[i] = (real)x[i];
    for (int i = 0; i < 4; i++) latents.data[i] = (real)i;
    Picture picture;
    assert_int_equal(to_picture(&ctx, latents, image, &picture), 0);
    for (int i = 0; i < 12; i++) assert_int_equal(picture.rgb[i], expected[i]);
    picture_free(&picture);
    context_free(&ctx);
}

int main(void) {
    assert_non_null(mkdtemp(dir));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pixels_come_back),
        cmocka_unit_test(texts_come_back_in_order),
        cmocka_unit_test(texts_are_utf8_chunks_and_nothing_tells_the_time),
        cmocka_unit_test(same_input_same_bytes),
        cmocka_unit_test(a_failed_write_leaves_nothing),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(palettes_become_colours),
        cmocka_unit_test(a_picture_wider_than_a_million),
        cmocka_unit_test(pixels_are_rounded),
    };
    int failed = cmocka_run_group_tests_name("image", tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
