/* Pictures of any kind that is read, from a file or from memory, turned upright: see image.h. */
#include "ref/image_decoders.h"
#include "weights/file.h"

#include <stdlib.h>
#include <string.h>

#define MAX_SIDE 65536
#define MAX_PIXELS (1 << 28) /* 768 MB */

int image_check_size(const char *name, int64_t width, int64_t height, Error *err) {
    if (width > MAX_SIDE || height > MAX_SIDE)
        return fail(err, "%s: %lld x %lld pixels: expected at most %d on a side", name,
                    (long long)width, (long long)height, MAX_SIDE);
    if (width * height <= MAX_PIXELS) return 0;
    return fail(err, "%s: %lld x %lld pixels are more than the %d that are read", name,
                (long long)width, (long long)height, MAX_PIXELS);
}

/* ---- EXIF: a TIFF file's first directory -------------------------------------------------------------- */

static unsigned number(const unsigned char *p, int bytes, bool big_endian) {
    unsigned v = 0;
    for (int i = 0; i < bytes; i++) v = v << 8 | p[big_endian ? i : bytes - 1 - i];
    return v;
}

int exif_orientation(const unsigned char *p, size_t size) {
    enum { ENTRY = 12, ORIENTATION = 0x0112, SHORT = 3, LONG = 4 };
    if (size >= 6 && memcmp(p, "Exif\0", 6) == 0) p += 6, size -= 6;
    if (size < 8) return 0;
    const bool big = p[0] == 'M';
    if (memcmp(p, big ? "MM\0*" : "II*\0", 4) != 0) return 0;
    const size_t at = number(p + 4, 4, big);
    if (at > size - 2) return 0;
    const size_t count = number(p + at, 2, big), room = (size - at - 2) / ENTRY;
    for (size_t i = 0; i < count && i < room; i++) {
        const unsigned char *entry = p + at + 2 + i * ENTRY;
        if (number(entry, 2, big) != ORIENTATION) continue;
        const unsigned type = number(entry + 2, 2, big);
        if (type != SHORT && type != LONG) return 0;
        const unsigned value = number(entry + 8, type == SHORT ? 2 : 4, big);
        return value >= 1 && value <= 8 ? (int)value : 0;
    }
    return 0;
}

/* ---- turning ------------------------------------------------------------------------------------------- */

/* Orientation says where the stored picture's first row and column belong: 1 top, left; 2 top, right;
 * 3 bottom, right; 4 bottom, left; 5 to 8 the same, after rows and columns are exchanged. */
static ImageStatus turn(Image *im, int orientation, const char *name, Error *err) {
    static const struct {
        bool exchange, from_right, from_bottom; /* of the picture that is made */
    } how[9] = {[2] = {false, true, false}, [3] = {false, true, true}, [4] = {false, false, true},
                [5] = {true, false, false}, [6] = {true, true, false}, [7] = {true, true, true},
                [8] = {true, false, true}};
    if (orientation < 2) return IMAGE_OK;
    const int64_t W = im->width, H = im->height;
    const bool exchange = how[orientation].exchange;
    const int64_t w = exchange ? H : W, h = exchange ? W : H;
    uint8_t *out = malloc((size_t)(W * H * 3));
    if (!out) {
        fail(err, "%s: out of memory", name);
        return IMAGE_NO_MEMORY;
    }
    for (int64_t y = 0; y < H; y++)
        for (int64_t x = 0; x < W; x++) {
            int64_t to_x = exchange ? y : x, to_y = exchange ? x : y;
            if (how[orientation].from_right) to_x = w - 1 - to_x;
            if (how[orientation].from_bottom) to_y = h - 1 - to_y;
            memcpy(out + (to_y * w + to_x) * 3, im->rgb + (y * W + x) * 3, 3);
        }
    free(im->rgb);
    *im = (Image){.rgb = out, .width = w, .height = h};
    return IMAGE_OK;
}

/* ---- any picture ---------------------------------------------------------------------------------------- */

ImageStatus image_decode(const void *bytes, size_t size, const char *name, Image *out, Error *err) {
    Image im = {0};
    int orientation = 0;
    ImageStatus status = IMAGE_BROKEN;
    *out = im;
    if (size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        status = png_decode(bytes, size, name, &im, &orientation, err);
    else if (size >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        status = jpeg_decode(bytes, size, name, &im, &orientation, err);
    else
        fail(err, "%s: neither a PNG nor a JPEG", name);
    if (status == IMAGE_OK) status = turn(&im, orientation, name, err);
    if (status == IMAGE_OK)
        *out = im;
    else
        free(im.rgb);
    return status;
}

/* Squares of n x n pixels to one, in place: their mean, as somebody may have painted in them. */
static void reduce(Image *im, int64_t n) {
    if (n < 2 || im->width % n || im->height % n) return;
    const int64_t w = im->width / n, h = im->height / n;
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            for (int64_t c = 0; c < 3; c++) {
                int64_t sum = n * n / 2;
                for (int64_t k = 0; k < n * n; k++)
                    sum += im->rgb[((y * n + k / n) * im->width + x * n + k % n) * 3 + c];
                im->rgb[(y * w + x) * 3 + c] = (uint8_t)(sum / (n * n));
            }
    im->width = w;
    im->height = h;
}

uint8_t *image_read(const char *path, int64_t *width, int64_t *height, Error *err) {
    size_t size;
    Image im;
    char *bytes = file_read(path, &size, err);
    if (!bytes) return NULL;
    ImageStatus status = image_decode(bytes, size, path, &im, err);
    free(bytes);
    if (status != IMAGE_OK) return NULL;
    reduce(&im, im.enlarged);
    *width = im.width;
    *height = im.height;
    return im.rgb;
}

/* ITU-R 601 luma in 16 fractional bits. */
void image_to_gray(uint8_t *rgb, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *p = rgb + 3 * i;
        rgb[i] = (uint8_t)((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16);
    }
}
