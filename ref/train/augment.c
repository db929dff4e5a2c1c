/* Resize, crop, flip: see augment.h. */
#include "ref/train/augment.h"

#include "ref/image.h"
#include "ref/train/keyed.h"

#include <stdlib.h>

/* Half of n as Python rounds it: int(round(n / 2)), a half to the even neighbour. */
static int64_t half_even(int64_t n) { return n % 2 == 0 ? n / 2 : n / 2 + n / 2 % 2; }

Augmentation augment_plan(const Augment *a, int64_t width, int64_t height, int64_t index) {
    const int64_t R = a->resolution;
    const uint64_t i = (uint64_t)index;
    Augmentation p = {.width = R, .height = R, .upscaled = width < R || height < R};
    if (width <= height)
        p.height = R * height / width;
    else
        p.width = R * width / height;
    p.left = half_even(p.width - R);
    p.top = half_even(p.height - R);
    if (!a->center_crop) {
        p.left = (int64_t)keyed_below(a->seed, DRAW_CROP, i, 0, (uint64_t)(p.width - R + 1));
        p.top = (int64_t)keyed_below(a->seed, DRAW_CROP, i, 1, (uint64_t)(p.height - R + 1));
    }
    p.flip = a->random_flip && keyed_below(a->seed, DRAW_FLIP, i, 0, 2) == 1;
    return p;
}

int augment_apply(const Augment *a, const Augmentation *p, const uint8_t *rgb, int64_t width,
                  int64_t height, real *out, Error *err) {
    const int64_t R = a->resolution;
    uint8_t *resized = image_resize(rgb, width, height, 3, p->width, p->height, err);
    if (!resized) return -1;
    for (int64_t y = 0; y < R; y++)
        for (int64_t x = 0; x < R; x++) {
            const int64_t from = p->left + (p->flip ? R - 1 - x : x);
            const uint8_t *in = resized + ((p->top + y) * p->width + from) * 3;
            for (int c = 0; c < 3; c++) *out++ = (real)(2 * ((double)in[c] / 255) - 1);
        }
    free(resized);
    return 0;
}
