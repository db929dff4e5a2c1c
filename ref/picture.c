/* What comes out: 8-bit pixels and the final latents. */
#include "ref/pipeline.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* round((x/2 + 1/2) * 255), clamped: diffusers VaeImageProcessor. x [1, H, W, 3] */
static void to_pixels(Tensor x, uint8_t *rgb) {
    for (int64_t i = 0, n = tensor_numel(x); i < n; i++) {
        double v = fmin(fmax((double)x.data[i] / 2 + 0.5, 0), 1);
        rgb[i] = (uint8_t)rint(v * 255);
    }
}

int to_picture(Context *ctx, Tensor latents, Tensor image, Picture *out) {
    assert(!image.data || image.dim[3] == 3); /* pack_open saw to it */
    Tensor z = channels_first(ctx, tensor_at(latents, 0));
    if (ctx->error.set) return -1;
    *out = (Picture){.width = image.dim[2], .height = image.dim[1]};
    memcpy(out->latent_dim, z.dim, sizeof out->latent_dim);
    size_t bytes = (size_t)tensor_numel(z) * sizeof(real);
    out->rgb = malloc((size_t)tensor_numel(image));
    out->latents = malloc(bytes);
    if (!out->rgb || !out->latents) {
        picture_free(out);
        return fail(&ctx->error, "out of memory for a picture of %lld x %lld",
                    (long long)out->width, (long long)out->height);
    }
    to_pixels(image, out->rgb);
    memcpy(out->latents, z.data, bytes);
    return 0;
}

void picture_free(Picture *picture) {
    free(picture->rgb);
    free(picture->latents);
    *picture = (Picture){0};
}
