/* Pictures: a PNG with its settings as text, reading that text back, reading any PNG or JPEG.
 *
 *     const char *text[] = {"prompt", "a red circle", "seed", "42", NULL};
 *     image_write_png("demo.png", rgb, 128, 128, text, &err);
 *
 * 8-bit RGB. Nothing in the file depends on time or machine: the same picture and text are the same
 * bytes (for one version of zlib). */
#ifndef LLMDIFF_IMAGE_H
#define LLMDIFF_IMAGE_H

#include "tensor/error.h"

#include <stddef.h>
#include <stdint.h>

/* rgb [height, width, 3]. text: key, value, key, value, ..., NULL, or NULL; values are UTF-8 and
 * become iTXt chunks, keys are 1 to 79 characters of ASCII. By way of a temporary name and a
 * rename. 0, or -1 with a message and no file. */
int image_write_png(const char *path, const uint8_t *rgb, int64_t width, int64_t height,
                    const char *const *text, Error *err);

/* The same with every pixel as `enlarge` x `enlarge` of its colour. Whoever wants image_read to undo that
 * gives the number as a text of this key. */
#define IMAGE_ENLARGE_KEY "enlarge"
int image_write_enlarged(const char *path, const uint8_t *rgb, int64_t width, int64_t height,
                         int64_t enlarge, const char *const *text, Error *err);

typedef struct ImagePalette {
    int colors; /* 1 to 256 */
    const uint8_t (*rgb)[3];
    bool first_is_clear; /* color 0 is transparent */
} ImagePalette;

/* index [height, width], each below palette->colors: the bytes of a PNG file, malloc'ed [*size].
 * NULL with a message. */
uint8_t *image_palette_png(const ImagePalette *palette, const uint8_t *index, int64_t width,
                           int64_t height, size_t *size, Error *err);

/* image_read.c: any PNG or JPEG (its first bytes say which) as 8-bit RGB [height, width, 3], as Pillow's
 * ImageOps.exif_transpose and convert("RGB") make it: turned upright where EXIF says so; alpha is dropped,
 * palettes and grey are widened, of 16 bits the upper 8 are kept, CMYK is taken as Adobe stores it.
 * Sides of up to 65536 pixels, no more pixels than the file's bytes could hold, and no damage. */
typedef struct Image {
    uint8_t *rgb; /* malloc'ed */
    int64_t width, height;
    int64_t enlarged; /* what its text says; 0: nothing */
} Image;

typedef enum ImageStatus {
    IMAGE_OK,
    IMAGE_BROKEN,   /* the bytes are no picture, or a damaged one */
    IMAGE_NO_MEMORY /* which says nothing of the picture */
} ImageStatus;

/* Not IMAGE_OK: a message that begins with `name`, and nothing in *out. */
ImageStatus image_decode(const void *bytes, size_t size, const char *name, Image *out, Error *err);
/* Of a file, and what was enlarged as it was before. NULL with a message. */
uint8_t *image_read(const char *path, int64_t *width, int64_t *height, Error *err);
/* The brightness of n pixels of RGB, in place: Pillow's convert("L"). */
void image_to_gray(uint8_t *rgb, int64_t n);

/* image_resize.c: [height, width, channels] to another size, as Pillow's LANCZOS; malloc'ed. */
uint8_t *image_resize(const uint8_t *in, int64_t width, int64_t height, int64_t channels,
                      int64_t new_width, int64_t new_height, Error *err);

typedef struct ImageInfo {
    int64_t width, height;
    int bit_depth;
    const char *color; /* "RGB" */
    char **text;       /* key, value, ..., NULL, of the chunks before the pixels; malloc'ed */
} ImageInfo;

/* 0, or -1 with a message if it isn't a PNG or is damaged before its pixels. */
int image_read_info(const char *path, ImageInfo *out, Error *err);
void image_info_free(ImageInfo *info);

#endif
