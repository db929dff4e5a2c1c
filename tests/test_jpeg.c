/* Pictures of both kinds against Pillow's exif_transpose and convert("RGB"), and every damage to them. The
 * pixels are equal: its libjpeg-turbo (3.2) and Debian's (2.1) have the same inverse cosine transform,
 * upsampling and colours. */
#include "tests/scratch.h"

#include "ref/image_decoders.h"
#include "weights/file.h"
#include "weights/safetensors.h"

#include <zlib.h>

#define PICTURES "golden/data/dataset/pictures/"

static char *read_picture(const char *name, size_t *size) {
    char path[128];
    Error err = {0};
    snprintf(path, sizeof path, PICTURES "%s", name);
    char *bytes = file_read(path, size, &err);
    if (!bytes) fail_msg("%s", err.message);
    return bytes;
}

static void pixels_are_pillows(void **state) {
    (void)state;
    Error err = {0};
    size_t pictures = 0;
    Safetensors *s = safetensors_open("golden/data/dataset/set.safetensors", &err);
    assert_non_null(s);
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const StoredTensor *t = safetensors_at(s, i);
        char path[128];
        int64_t w, h;
        if (strncmp(t->name, "pixels.", 7) != 0) continue;
        snprintf(path, sizeof path, PICTURES "%s", t->name + 7);
        uint8_t *rgb = image_read(path, &w, &h, &err);
        if (!rgb) fail_msg("%s", err.message);
        if (w != t->dim[1] || h != t->dim[0]) fail_msg("%s: %d x %d", path, (int)w, (int)h);
        const uint8_t *truth = t->data;
        for (size_t p = 0; p < t->bytes; p++)
            if (rgb[p] != truth[p])
                fail_msg("%s: byte %zu is %d, Pillow's %d", path, p, rgb[p], truth[p]);
        free(rgb);
        pictures++;
    }
    assert_int_equal(pictures, 29);
    safetensors_close(s);
}

static ImageStatus decode(const void *bytes, size_t size, Error *err) {
    Image im;
    *err = (Error){0};
    ImageStatus status = image_decode(bytes, size, "p", &im, err);
    assert_true((status == IMAGE_OK) == (im.rgb != NULL));
    assert_true((status != IMAGE_OK) == err->set);
    if (err->set) assert_true(strncmp(err->message, "p: ", 3) == 0);
    free(im.rgb);
    return status;
}

/* Also where only the end marker is missing: Pillow says truncated, too. */
static void cut_off_anywhere_is_broken(void **state) {
    (void)state;
    static const char *const name[] = {"gray.jpg", "420.jpg",      "progressive.jpg",
                                       "cmyk.jpg", "restarts.jpg", "turned6.jpg",
                                       "rgb.png",  "turned6.png"};
    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        size_t size;
        Error err;
        char *bytes = read_picture(name[i], &size);
        assert_int_equal(decode(bytes, size, &err), IMAGE_OK);
        for (size_t cut = 0; cut < size; cut++) {
            char *part = malloc(cut + 1); /* so that the sanitizer sees the end */
            memcpy(part, bytes, cut);
            if (decode(part, cut, &err) != IMAGE_BROKEN)
                fail_msg("%s cut at %zu of %zu: %s", name[i], cut, size, err.message);
            free(part);
        }
        free(bytes);
    }
}

/* Nothing is printed, nothing ends the process, nothing outside is read; what isn't noticed is a picture. */
static void changed_bytes_are_survived(void **state) {
    (void)state;
    static const char *const name[] = {"420.jpg", "progressive.jpg", "ycck.jpg", "turned6.jpg",
                                       "rgba.png"};
    size_t noticed = 0, tried = 0;
    for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
        size_t size;
        Error err;
        char *bytes = read_picture(name[i], &size);
        for (size_t at = 0; at < size; at++)
            for (int change = 0; change < 3; change++) {
                const char old = bytes[at];
                bytes[at] = (char)(change == 0 ? 0xff : change == 1 ? 0 : old ^ 1 << at % 8);
                noticed += decode(bytes, size, &err) == IMAGE_BROKEN;
                tried++;
                bytes[at] = old;
            }
        free(bytes);
    }
    print_message("    %zu of %zu changes noticed\n", noticed, tried);
    assert_true(noticed > tried / 3);
}

static size_t frame_header(const char *bytes, size_t size) {
    for (size_t i = 0; i + 9 < size; i++)
        if ((unsigned char)bytes[i] == 0xff && ((unsigned char)bytes[i + 1] & 0xfd) == 0xc0)
            return i + 5;
    fail_msg("no frame header");
    return 0;
}

static void expect_broken(const char *bytes, size_t size, const char *message) {
    Error err;
    assert_int_equal(decode(bytes, size, &err), IMAGE_BROKEN);
    assert_string_equal(err.message, message);
}

static void put_big_endian(char *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (char)(v >> (24 - 8 * i));
}

static void put_png_size(char *bytes, uint32_t width, uint32_t height) {
    put_big_endian(bytes + 16, width);
    put_big_endian(bytes + 20, height);
    put_big_endian(bytes + 29, (uint32_t)crc32(0, (const Bytef *)bytes + 12, 17));
}

/* No memory is taken for a size that isn't plausible. */
static void sizes_are_not_believed(void **state) {
    (void)state;
    size_t size;
    char *bytes = read_picture("progressive.jpg", &size);
    const size_t at = frame_header(bytes, size);
    char message[128];
    memcpy(bytes + at, "\xff\x00\xff\x00", 4);
    expect_broken(bytes, size, "p: 65280 x 65280 pixels are more than the 268435456 that are read");
    memcpy(bytes + at, "\x20\x00\x20\x00", 4);
    snprintf(message, sizeof message, "p: 8192 x 8192 pixels are more than %zu bytes can hold",
             size);
    expect_broken(bytes, size, message);
    memcpy(bytes + at, "\xff\xff\xff\xff", 4);
    expect_broken(bytes, size, "p: Maximum supported image dimension is 65500 pixels");
    memcpy(bytes + at, "\0\0\0\0", 4);
    expect_broken(bytes, size, "p: Empty JPEG image (DNL not supported)");
    free(bytes);

    bytes = read_picture("rgb.png", &size);
    put_png_size(bytes, 65537, 1);
    expect_broken(bytes, size, "p: 65537 x 1 pixels: expected at most 65536 on a side");
    put_png_size(bytes, 65536, 4097);
    expect_broken(bytes, size, "p: 65536 x 4097 pixels are more than the 268435456 that are read");
    put_png_size(bytes, 65536, 4096);
    snprintf(message, sizeof message, "p: 65536 x 4096 pixels are more than %zu bytes can hold",
             size);
    expect_broken(bytes, size, message);
    free(bytes);
}

static void too_many_scans_are_refused(void **state) {
    (void)state;
    size_t size, scan = 0;
    char *bytes = read_picture("progressive.jpg", &size);
    for (size_t i = 0; i + 1 < size; i++) /* the last one, from its marker to the end */
        if ((unsigned char)bytes[i] == 0xff && (unsigned char)bytes[i + 1] == 0xda) scan = i;
    const size_t length = size - 2 - scan;
    char *more = malloc(scan + 600 * length + 2);
    memcpy(more, bytes, scan);
    for (size_t i = 0; i < 600; i++) memcpy(more + scan + i * length, bytes + scan, length);
    memcpy(more + scan + 600 * length, "\xff\xd9", 2);
    Error err;
    assert_int_equal(decode(more, scan + 600 * length + 2, &err), IMAGE_BROKEN);
    assert_non_null(strstr(err.message, "progression"));
    free(more);
    free(bytes);
}

/* What libjpeg would make gray, with a warning, and what it would not look for. */
static void lost_pixels_are_no_picture(void **state) {
    (void)state;
    size_t size;
    Error err;
    char *bytes = read_picture("420.jpg", &size), end[2];
    const size_t middle = size - 100;
    char kept[8];
    memcpy(kept, bytes + middle, sizeof kept);
    memcpy(bytes + middle, "\xff\xd9", 2);
    expect_broken(bytes, size, "p: Corrupt JPEG data: premature end of data segment");
    memcpy(bytes + middle, "\xff\0\xff\0\xff\0\xff\0", 8);
    expect_broken(bytes, size, "p: Corrupt JPEG data: bad Huffman code");
    memcpy(bytes + middle, kept, sizeof kept);
    memcpy(end, bytes + size - 2, 2);
    memset(bytes + size - 2, 0, 2);
    expect_broken(bytes, size, "p: the file ends too early");
    memcpy(bytes + size - 2, end, 2);
    assert_int_equal(decode(bytes, size, &err), IMAGE_OK);
    free(bytes);
}

static void other_bytes_are_refused(void **state) {
    (void)state;
    expect_broken("", 0, "p: neither a PNG nor a JPEG");
    expect_broken("\xff\xd8", 2, "p: neither a PNG nor a JPEG");
    expect_broken("GIF89a......", 12, "p: neither a PNG nor a JPEG");
    expect_broken("RIFF....WEBPVP8 ", 16, "p: neither a PNG nor a JPEG");
    expect_broken("\xff\xd8\xff\xd9", 4, "p: JPEG datastream contains no image");
    Error err = {0};
    int64_t w, h;
    assert_null(image_read(scratch("absent.jpg"), &w, &h, &err));
    assert_error(&err, "absent.jpg: can't be opened: No such file or directory");
}

/* EXIF that is broken, or says what no orientation is, turns nothing; and no byte outside is read. */
static void broken_exif_turns_nothing(void **state) {
    (void)state;
    size_t size, at = 0;
    Error err = {0};
    Image im;
    char *bytes = read_picture("turned6.jpg", &size);
    for (size_t i = 0; i + 6 < size && !at; i++)
        if (memcmp(bytes + i, "Exif\0", 6) == 0) at = i + 6;
    assert_true(at > 0);
    size_t turned = 0, not = 0;
    for (size_t i = at; i < at + 46; i++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] = (char)(bytes[i] ^ 1 << bit);
            assert_int_equal(image_decode(bytes, size, "p", &im, &err), IMAGE_OK);
            assert_int_equal(im.width * im.height, 240);
            turned += im.width == 12;
            not += im.width == 20;
            free(im.rgb);
            bytes[i] = (char)(bytes[i] ^ 1 << bit);
        }
    assert_true(turned > 0 && not > 0);
    free(bytes);
    /* a directory that would be whole, had the data not ended before */
    static const unsigned char exif[] = "II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0";
    assert_int_equal(exif_orientation(exif, 22), 6);
    for (size_t n = 0; n < 22; n++) assert_int_equal(exif_orientation(exif, n), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pixels_are_pillows),         cmocka_unit_test(cut_off_anywhere_is_broken),
        cmocka_unit_test(changed_bytes_are_survived), cmocka_unit_test(sizes_are_not_believed),
        cmocka_unit_test(too_many_scans_are_refused), cmocka_unit_test(other_bytes_are_refused),
        cmocka_unit_test(broken_exif_turns_nothing),  cmocka_unit_test(lost_pixels_are_no_picture),
    };
    return cmocka_run_group_tests_name("jpeg", tests, scratch_make, scratch_remove);
}
