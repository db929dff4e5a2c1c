/* Lanczos resampling of 8-bit pictures, bit for bit as Pillow's Image.resize(LANCZOS), which is what
 * diffusers' VaeImageProcessor does to an input picture (libImaging/Resample.c):
 *
 *     lanczos(x) = sinc(x) sinc(x/3), |x| < 3
 *     out[i] = sum_j in[j] w_j / sum_j w_j,   w_j = lanczos((j + 1/2 - (i + 1/2) s) / max(s, 1))
 *
 * with s = size in / size out, along rows and along columns. Weights are integers of 22 fractional
 * bits, and the picture between the two passes has 8 bits again. */
#include "ref/image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FRACTION 22
#define SUPPORT 3.0

static double sinc(double x) {
    const double pi = 3.14159265358979323846;
    return x == 0 ? 1 : sin(x * pi) / (x * pi);
}

static double lanczos(double x) {
    return x >= -SUPPORT && x < SUPPORT ? sinc(x) * sinc(x / SUPPORT) : 0;
}

/* What one output element sums: `count` inputs from `first` on. */
typedef struct Window {
    int64_t first, count;
    int32_t *weight;
} Window;

/* The windows of all outputs, their weights in one block behind them; NULL: out of memory. */
static Window *windows_new(int64_t in, int64_t out) {
    const double s = (double)in / (double)out, stretch = s < 1 ? 1 : s, reach = SUPPORT * stretch;
    const int64_t most = (int64_t)ceil(reach) * 2 + 1;
    Window *windows = malloc((size_t)out * (sizeof *windows + (size_t)most * sizeof(int32_t)));
    double *exact = malloc((size_t)most * sizeof *exact);
    if (!windows || !exact) {
        free(windows);
        free(exact);
        return NULL;
    }
    int32_t *weights = (int32_t *)(void *)(windows + out);
    for (int64_t i = 0; i < out; i++) {
        const double centre = ((double)i + 0.5) * s;
        int64_t first = (int64_t)(centre - reach + 0.5), end = (int64_t)(centre + reach + 0.5);
        if (centre - reach + 0.5 < 0) first = 0;
        if (end > in) end = in;
        Window *w = &windows[i];
        *w = (Window){first, end - first, weights + i * most};
        double sum = 0;
        for (int64_t j = 0; j < w->count; j++) {
            exact[j] = lanczos(((double)(first + j) - centre + 0.5) * (1 / stretch));
            sum += exact[j];
        }
        for (int64_t j = 0; j < w->count; j++) {
            const double k = (sum != 0 ? exact[j] / sum : exact[j]) * (double)(1 << FRACTION);
            w->weight[j] = (int32_t)(k < 0 ? k - 0.5 : k + 0.5);
        }
    }
    free(exact);
    return windows;
}

/* Sums a window of bytes that lie `stride` apart. */
static uint8_t weigh(const uint8_t *from, int64_t stride, const Window *w) {
    int64_t sum = 1 << (FRACTION - 1);
    for (int64_t j = 0; j < w->count; j++)
        sum += (int64_t)from[(w->first + j) * stride] * w->weight[j];
    sum >>= FRACTION;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* [height, width, C] -> [height, new_width, C]. An axis that keeps its size is copied. */
static void resize_rows(const uint8_t *in, uint8_t *out, int64_t height, int64_t width,
                        int64_t new_width, int64_t C, const Window *across) {
    if (width == new_width) {
        memcpy(out, in, (size_t)(height * width * C));
        return;
    }
    for (int64_t y = 0; y < height; y++, in += width * C)
        for (int64_t x = 0; x < new_width; x++)
            for (int64_t c = 0; c < C; c++) *out++ = weigh(in + c, C, &across[x]);
}

/* [height, line] -> [new_height, line] */
static void resize_columns(const uint8_t *in, uint8_t *out, int64_t height, int64_t new_height,
                           int64_t line, const Window *down) {
    if (height == new_height) {
        memcpy(out, in, (size_t)(height * line));
        return;
    }
    for (int64_t y = 0; y < new_height; y++)
        for (int64_t x = 0; x < line; x++) *out++ = weigh(in + x, line, &down[y]);
}

/* Pillow 13 takes columns first where that leaves clearly fewer rows to resize; earlier ones never. */
static bool columns_first(int64_t width, int64_t height, int64_t new_width, int64_t new_height) {
    return height > new_height && height - new_height > 2 * (width - new_width);
}

uint8_t *image_resize(const uint8_t *in, int64_t width, int64_t height, int64_t channels,
                      int64_t new_width, int64_t new_height, Error *err) {
    const bool across_first = !columns_first(width, height, new_width, new_height);
    const int64_t line = width * channels, new_line = new_width * channels;
    Window *across = windows_new(width, new_width), *down = windows_new(height, new_height);
    uint8_t *between = malloc((size_t)(across_first ? height * new_line : new_height * line));
    uint8_t *out = malloc((size_t)(new_height * new_line));
    if (!across || !down || !between || !out) {
        fail(err, "out of memory for a picture of %lld x %lld", (long long)new_width,
             (long long)new_height);
        free(out);
        out = NULL;
    } else if (across_first) {
        resize_rows(in, between, height, width, new_width, channels, across);
        resize_columns(between, out, height, new_height, new_line, down);
    } else {
        resize_columns(in, between, height, new_height, line, down);
        resize_rows(between, out, new_height, width, new_width, channels, across);
    }
    free(across);
    free(down);
    free(between);
    return out;
}
