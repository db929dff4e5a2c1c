/* From a picture of any size to the square that is trained on, as diffusers' train_text_to_image.py does:
 *
 *     Resize(R, LANCZOS)                 the shorter side becomes R, the longer int(R long / short)
 *     CenterCrop(R) or RandomCrop(R)
 *     RandomHorizontalFlip, if asked for
 *     ToTensor, Normalize([0.5], [0.5])  bytes to -1 .. 1
 *
 * LANCZOS is that script's default (--image_interpolation_mode; older ones had BILINEAR built in). The
 * bytes are torchvision's on a PIL picture. Where to crop and whether to flip is drawn by the seed and the
 * sample's index, so that it is the same on every rank and after every restart. */
#ifndef LLMDIFF_AUGMENT_H
#define LLMDIFF_AUGMENT_H

#include "ref/train/dataset.h"
#include "tensor/real.h"

#include <stdbool.h>

typedef struct Augment {
    int64_t resolution; /* R */
    bool center_crop, random_flip;
    uint64_t seed;
} Augment;

/* What is done to one picture: with the picture itself, what a cache of results would be keyed by. */
typedef struct Augmentation {
    int64_t width, height; /* after the resize */
    int64_t left, top;     /* of the crop in that */
    bool flip;
    bool upscaled; /* the picture was smaller: worth one warning in a run */
} Augmentation;

/* index: Sample.index */
Augmentation augment_plan(const Augment *a, int64_t width, int64_t height, int64_t index);
/* out [R, R, 3], channels last as every picture here (from_pixels). 0 or -1: no memory. */
int augment_apply(const Augment *a, const Augmentation *plan, const uint8_t *rgb, int64_t width,
                  int64_t height, real *out, Error *err);

#endif
