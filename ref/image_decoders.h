/* What image_read.c chooses from: see image.h. */
#ifndef LLMDIFF_IMAGE_DECODERS_H
#define LLMDIFF_IMAGE_DECODERS_H

#include "ref/image.h"

/* The picture as it is stored, and its EXIF orientation: 1 to 8, 0: none. */
ImageStatus png_decode(const void *bytes, size_t size, const char *name, Image *out,
                       int *orientation, Error *err);
ImageStatus jpeg_decode(const void *bytes, size_t size, const char *name, Image *out,
                        int *orientation, Error *err);

/* Whether a picture of that size is read at all. 0 or -1 with a message. */
int image_check_size(const char *name, int64_t width, int64_t height, Error *err);
/* Of EXIF data, with "Exif\0\0" before its TIFF header or without; 0 if it doesn't say or is broken. */
int exif_orientation(const unsigned char *exif, size_t size);

#endif
