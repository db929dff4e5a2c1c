/* The VAE in tiles against AutoencoderKL.enable_tiling, and pictures resized against Pillow's Lanczos
 * (golden/export_image.py). */
#include "tests/check.h"

#include "ref/image.h"
#include "ref/vae.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct Run {
    const char *golden, *model, *name;
} Run;

static Tensor as_map(Context *ctx, Tensor chw) {
    Tensor x = channels_last(ctx, chw);
    return TENSOR_VIEW(x, 1, x.dim[0], x.dim[1], x.dim[2]);
}

static void check_map(Golden *g, Context *ctx, const char *run, const char *what, Tensor map) {
    char name[96];
    assert_context_ok(ctx);
    snprintf(name, sizeof name, "%s/%s", run, what);
    golden_check(g, name, channels_first(ctx, tensor_at(map, 0)), MODULE);
}

static void tiles_equal_upstream(void **state) {
    const Run *run = *state;
    char name[96];
    Context ctx = {0};
    Vae *vae = vae_load(run->model, &ctx.error);
    assert_context_ok(&ctx);
    Golden *g = golden_open(run->golden);
    vae->sample_size = (int64_t)golden_number(g, "tile_sample_min_size");
    if (strncmp(run->name, "decode", 6) == 0) {
        snprintf(name, sizeof name, "%s/latents", run->name);
        Tensor z = as_map(&ctx, golden_tensor(g, &ctx, name));
        check_map(g, &ctx, run->name, "image", vae_decode_tiled(&ctx, vae, z));
    } else {
        snprintf(name, sizeof name, "%s/picture", run->name);
        Tensor picture = as_map(&ctx, golden_tensor(g, &ctx, name));
        VaePosterior p = vae_encode_tiled(&ctx, vae, picture);
        check_map(g, &ctx, run->name, "mean", p.mean);
        check_map(g, &ctx, run->name, "logvar", p.logvar);
    }
    golden_close(g);
    vae_free(vae);
    context_free(&ctx);
}

static void count_names(void *self, const char *name, const real *data, int ndim,
                        const int64_t *dim) {
    (void)data, (void)ndim, (void)dim;
    *(int *)self += strcmp(name, "vae/decoder/tile.1.2/conv_out") == 0;
}

static void tiles_have_names_of_their_own(void **state) {
    (void)state;
    int seen = 0;
    Observer observer = {count_names, &seen};
    Context ctx = {.observer = &observer};
    Vae *vae = vae_load("golden/micro/vae", &ctx.error);
    assert_context_ok(&ctx);
    vae->sample_size = 16;
    Tensor z = TENSOR_NEW(&ctx, 1, 10, 15, vae->latent_channels);
    for (int64_t i = 0; i < tensor_numel(z); i++) z.data[i] = (real)(i % 5);
    vae_decode_tiled(&ctx, vae, z);
    assert_context_ok(&ctx);
    assert_int_equal(seen, 1);
    vae->sample_size = 12;
    vae_decode_tiled(&ctx, vae, z);
    assert_string_equal(ctx.error.message,
                        "golden/micro/vae: tiles need a sample_size that is a multiple of 4 times "
                        "the factor 2, found 12");
    vae_free(vae);
    context_free(&ctx);
}

/* Every picture of the golden, bit for bit. */
static void resizing_equals_pillow(void **state) {
    (void)state;
    Error err = {0};
    Safetensors *f = safetensors_open("golden/data/resize.safetensors", &err);
    assert_non_null(f);
    int compared = 0;
    for (size_t i = 0; i < safetensors_count(f); i++) {
        const StoredTensor *in = safetensors_at(f, i);
        if (strncmp(in->name, "in.", 3) != 0) continue;
        char name[96];
        snprintf(name, sizeof name, "out.%s", in->name + 3);
        const StoredTensor *out = safetensors_find(f, name);
        assert_non_null(out);
        int64_t channels = in->ndim == 3 ? in->dim[2] : 1;
        uint8_t *got = image_resize(in->data, in->dim[1], in->dim[0], channels, out->dim[1],
                                    out->dim[0], &err);
        assert_non_null(got);
        for (size_t k = 0; k < out->bytes; k++)
            if (got[k] != ((const uint8_t *)out->data)[k])
                fail_msg("%s: byte %zu is %d, Pillow has %d", in->name, k, got[k],
                         ((const uint8_t *)out->data)[k]);
        compared++;
        free(got);
    }
    assert_true(compared >= 15);

    const StoredTensor *rgb = safetensors_find(f, "gray.in"),
                       *gray = safetensors_find(f, "gray.out");
    assert_true(rgb && gray && rgb->bytes == 3 * gray->bytes);
    uint8_t *pixels = malloc(rgb->bytes);
    memcpy(pixels, rgb->data, rgb->bytes);
    image_to_gray(pixels, (int64_t)gray->bytes);
    assert_memory_equal(pixels, gray->data, gray->bytes);
    free(pixels);
    safetensors_close(f);
}

/* Rows whose answer, Pillow 13's, hangs on how a negative weight is rounded to 22 bits. */
static void weights_are_rounded_as_pillows(void **state) {
    (void)state;
    static const struct {
        int from, to;
        uint8_t in[16], out[16];
    } rows[] = {{9, 5, {128, 99, 166, 179, 182, 232, 195, 197, 45}, {114, 155, 197, 220, 112}},
                {8,
                 13,
                 {155, 192, 41, 159, 247, 96, 212, 93},
                 {146, 184, 188, 80, 44, 137, 239, 234, 120, 123, 211, 149, 77}},
                {12,
                 7,
                 {151, 234, 28, 150, 179, 81, 128, 137, 81, 163, 52, 32},
                 {187, 102, 151, 111, 121, 119, 42}},
                {16,
                 11,
                 {136, 227, 130, 135, 235, 214, 160, 252, 132, 55, 160, 155, 156, 192, 181, 94},
                 {175, 166, 152, 226, 191, 196, 72, 159, 158, 194, 120}}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Error err = {0};
        uint8_t *got = image_resize(rows[i].in, rows[i].from, 1, 1, rows[i].to, 1, &err);
        assert_non_null(got);
        assert_memory_equal(got, rows[i].out, (size_t)rows[i].to);
        free(got);
    }
}

int main(void) {
    static Run runs[] = {{"tiled_micro", "golden/micro/vae", "decode/one_row"},
                         {"tiled_micro", "golden/micro/vae", "decode/ragged"},
                         {"tiled_micro", "golden/micro/vae", "decode/slivers"},
                         {"tiled_micro", "golden/micro/vae", "decode/small"},
                         {"tiled_micro", "golden/micro/vae", "decode/within"},
                         {"tiled_micro", "golden/micro/vae", "encode/one_column"},
                         {"tiled_micro", "golden/micro/vae", "encode/ragged"},
                         {"tiled_micro", "golden/micro/vae", "encode/slivers"},
                         {"tiled_micro", "golden/micro/vae", "encode/small"},
                         {"tiled_sd", "golden/data/vae_sd", "decode/ragged"},
                         {"tiled_sd", "golden/data/vae_sd", "encode/ragged"}};
    enum { RUNS = sizeof runs / sizeof runs[0] };
    struct CMUnitTest tests[RUNS + 3] = {cmocka_unit_test(tiles_have_names_of_their_own),
                                         cmocka_unit_test(weights_are_rounded_as_pillows),
                                         cmocka_unit_test(resizing_equals_pillow)};
    static char names[RUNS][64];
    for (size_t i = 0; i < RUNS; i++) {
        snprintf(names[i], sizeof names[i], "%.20s, %.30s", runs[i].golden, runs[i].name);
        tests[3 + i] = (struct CMUnitTest){names[i], tiles_equal_upstream, NULL, NULL, &runs[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
