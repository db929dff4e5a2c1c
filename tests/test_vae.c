/* The VAE against diffusers AutoencoderKL (golden/export_vae.py). */
#include "tests/check.h"

#include "ref/vae.h"
#include "tests/edited_model.h"

#include <stdio.h>

static void decoding_equals_upstream(void **state) {
    const char *model = *state;
    char dir[128], name[96];
    snprintf(name, sizeof name, "vae_%s", model);
    snprintf(dir, sizeof dir, "golden/data/%s", name);

    Context ctx = {0};
    Vae *vae = vae_load(dir, &ctx.error);
    assert_context_ok(&ctx);
    Golden *g = golden_open(name);
    GoldenObserver seen = {g, "decode/", MODULE, 0};
    Observer observer = golden_observer(&seen);
    ctx.observer = &observer;

    Tensor z = channels_last(&ctx, golden_tensor(g, &ctx, "decode/latents"));
    z = TENSOR_VIEW(z, 1, z.dim[0], z.dim[1], z.dim[2]);
    Tensor image = vae_decode(&ctx, vae, z);
    assert_context_ok(&ctx);
    golden_check(g, "decode/image", channels_first(&ctx, tensor_at(image, 0)), MODULE);
    assert_true(seen.compared >= 4);
    assert_int_equal(image.dim[1], z.dim[1] * vae->factor);

    golden_close(g);
    vae_free(vae);
    context_free(&ctx);
}

/* How many activations and results of that run the golden holds. */
static size_t outputs(const Golden *g, const char *prefix) {
    size_t n = 0;
    for (size_t i = 0; i < safetensors_count(golden_file(g)); i++) {
        const char *name = safetensors_at(golden_file(g), i)->name;
        char key[128];
        snprintf(key, sizeof key, "yardstick:%s", name);
        n += strncmp(name, prefix, strlen(prefix)) == 0 &&
             safetensors_metadata(golden_file(g), key) != NULL;
    }
    return n;
}

/* The picture twice, so that a batch is encoded, of which each element is checked. */
static void encoding_equals_upstream(void **state) {
    const char *model = *state;
    char dir[128], name[96];
    snprintf(name, sizeof name, "vae_%s", model);
    snprintf(dir, sizeof dir, "golden/data/%s", name);

    Context ctx = {0};
    Vae *vae = vae_load(dir, &ctx.error);
    assert_context_ok(&ctx);
    Golden *g = golden_open(name);
    GoldenObserver seen = {g, "encode/", MODULE, 0};
    Observer observer = golden_observer(&seen);
    ctx.observer = &observer;

    enum { B = 2 };
    Tensor one = channels_last(&ctx, golden_tensor(g, &ctx, "encode/picture"));
    Tensor eps = channels_last(&ctx, golden_tensor(g, &ctx, "encode/noise"));
    Tensor image = TENSOR_NEW(&ctx, B, one.dim[0], one.dim[1], one.dim[2]);
    Tensor noise = TENSOR_NEW(&ctx, B, eps.dim[0], eps.dim[1], eps.dim[2]);
    for (int64_t b = 0; b < B; b++) {
        memcpy(tensor_at(image, b).data, one.data, (size_t)tensor_numel(one) * sizeof(real));
        memcpy(tensor_at(noise, b).data, eps.data, (size_t)tensor_numel(eps) * sizeof(real));
    }
    VaePosterior posterior = vae_encode(&ctx, vae, image);
    Tensor z0 = vae_sample(&ctx, vae, posterior, noise);
    assert_context_ok(&ctx);
    for (int64_t b = 0; b < B; b++) {
        golden_check(g, "encode/mean", channels_first(&ctx, tensor_at(posterior.mean, b)), MODULE);
        golden_check(g, "encode/logvar", channels_first(&ctx, tensor_at(posterior.logvar, b)),
                     MODULE);
        golden_check(g, "encode/z0", channels_first(&ctx, tensor_at(z0, b)), MODULE);
    }
    assert_int_equal(seen.compared, B * (outputs(g, "encode/") - 3));
    assert_int_equal(z0.dim[1], image.dim[1] / vae->factor);

    golden_close(g);
    vae_free(vae);
    context_free(&ctx);
}

/* ---- files with less -------------------------------------------------------------------------- */

static void a_decoder_alone_draws_and_reads_nothing(void **state) {
    (void)state;
    /* one_level has use_quant_conv; plain has not: a decoder is all that is left of its file */
    EditedModel e = edited_model("golden/data/vae_plain", "encoder.", "down_block_types", NULL);
    Context ctx = {0};
    Vae *vae = vae_load(e.dir, &ctx.error);
    assert_context_ok(&ctx);
    assert_false(vae->has_encoder);

    Golden *g = golden_open("vae_plain");
    Tensor z = channels_last(&ctx, golden_tensor(g, &ctx, "decode/latents"));
    Tensor image = vae_decode(&ctx, vae, TENSOR_VIEW(z, 1, z.dim[0], z.dim[1], z.dim[2]));
    golden_check(g, "decode/image", channels_first(&ctx, tensor_at(image, 0)), MODULE);
    golden_close(g);

    VaePosterior none = vae_encode(&ctx, vae, TENSOR_NEW(&ctx, 1, 4, 4, 2));
    assert_null(none.mean.data);
    assert_null(none.logvar.data);
    assert_null(vae_sample(&ctx, vae, none, z).data);
    assert_says(&e, &ctx.error,
                "@: a picture can't be read in: this VAE has no encoder (the tensors encoder.* "
                "and quant_conv.* are not in the file)");
    vae_free(vae);
    context_free(&ctx);
    edited_model_remove(&e);
}

/* quant_conv is the encoder's, post_quant_conv the decoder's: a file may have the one without the other. */
static void decoding_needs_no_quant_conv(void **state) {
    (void)state;
    EditedModel e = edited_model("golden/data/vae_sd", "quant_conv.", "use_quant_conv", "false");
    Context ctx = {0};
    Vae *vae = vae_load(e.dir, &ctx.error);
    assert_context_ok(&ctx);
    assert_true(vae->has_encoder && vae->post_quant_conv.w && !vae->quant_conv.w);
    Golden *g = golden_open("vae_sd");
    Tensor z = channels_last(&ctx, golden_tensor(g, &ctx, "decode/latents"));
    Tensor image = vae_decode(&ctx, vae, TENSOR_VIEW(z, 1, z.dim[0], z.dim[1], z.dim[2]));
    golden_check(g, "decode/image", channels_first(&ctx, tensor_at(image, 0)), MODULE);
    golden_close(g);
    vae_free(vae);
    context_free(&ctx);
    edited_model_remove(&e);
}

static void refused(const char *from, const char *drop, const char *key, const char *value,
                    const char *message) {
    EditedModel e = edited_model(from, drop, key, value);
    Error err = {0};
    assert_null(vae_load(e.dir, &err));
    assert_says(&e, &err, message);
    edited_model_remove(&e);
}

static void half_an_encoder_is_refused(void **state) {
    (void)state;
    refused("golden/data/vae_sd", "quant_conv.", NULL, NULL,
            "@: 2 tensors missing: quant_conv.weight, quant_conv.bias");
    refused("golden/data/vae_old", "encoder.mid_block.attentions.0.value", NULL, NULL,
            "@: 2 tensors missing: encoder.mid_block.attentions.0.value.weight, "
            "encoder.mid_block.attentions.0.value.bias");
    refused("golden/data/vae_sd", "encoder.down_blocks.2.downsamplers", NULL, NULL,
            "@: 2 tensors missing: encoder.down_blocks.2.downsamplers.0.conv.weight, "
            "encoder.down_blocks.2.downsamplers.0.conv.bias");
}

static void configs_that_do_not_fit_the_encoder_are_refused(void **state) {
    (void)state;
    const char *from = "golden/data/vae_plain";
    refused(from, NULL, "use_quant_conv", "true",
            "@: 2 tensors missing: quant_conv.weight, quant_conv.bias");
    refused("golden/data/vae_one_level", NULL, "use_quant_conv", "false",
            "@: 2 not used: quant_conv.bias, quant_conv.weight");
    refused(from, NULL, "in_channels", "3",
            "@: 1 has another shape: encoder.conv_in.weight (config.json says [6, 3, 3, 3], file "
            "has [6, 2, 3, 3])");
    refused(from, NULL, "in_channels", "0",
            "@/config.json: in_channels: expected a whole number from 1 to 4096, found 0");
    refused(from, NULL, "down_block_types", "[\"DownEncoderBlock2D\"]",
            "@/config.json: down_block_types: expected 2, as many as block_out_channels");
    refused(from, NULL, "down_block_types", "[\"DownEncoderBlock2D\", \"AttnDownEncoderBlock2D\"]",
            "@/config.json: down_block_types: expected \"DownEncoderBlock2D\", found "
            "\"AttnDownEncoderBlock2D\"");
    refused(from, NULL, "down_block_types", "[\"DownEncoderBlock2D\", 2]",
            "@/config.json: down_block_types: expected \"DownEncoderBlock2D\", found "
            "\"(not a string)\"");
}

static void a_picture_smaller_than_a_latent_is_refused(void **state) {
    (void)state;
    Context ctx = {0};
    Vae *vae = vae_load("golden/data/vae_sd", &ctx.error);
    assert_context_ok(&ctx);
    Tensor thin = scale(&ctx, TENSOR_NEW(&ctx, 1, 8, 7, 3), 0);
    assert_null(vae_encode(&ctx, vae, thin).mean.data);
    assert_string_equal(
        ctx.error.message,
        "a picture of 7x8 is too small for the VAE golden/data/vae_sd: at least 8x8");
    vae_free(vae);
    context_free(&ctx);
}

int main(void) {
    static char models[][16] = {"sd", "plain", "old", "one_level", "upstream"};
    const struct CMUnitTest tests[] = {
        {"decoding, sd: Stable Diffusion in miniature", decoding_equals_upstream, NULL, NULL,
         models[0]},
        {"decoding, plain: no attention, no post_quant_conv", decoding_equals_upstream, NULL, NULL,
         models[1]},
        {"decoding, old: SD 1.5's attention names and short config", decoding_equals_upstream, NULL,
         NULL, models[2]},
        {"decoding, one_level", decoding_equals_upstream, NULL, NULL, models[3]},
        {"encoding, sd: odd sizes at every level", encoding_equals_upstream, NULL, NULL, models[0]},
        {"encoding, plain: no attention, no quant_conv", encoding_equals_upstream, NULL, NULL,
         models[1]},
        {"encoding, old: SD 1.5's attention names", encoding_equals_upstream, NULL, NULL,
         models[2]},
        {"encoding, one_level: log-variances beyond both clamps", encoding_equals_upstream, NULL,
         NULL, models[3]},
        {"decoding, upstream's own test config", decoding_equals_upstream, NULL, NULL, models[4]},
        {"encoding, upstream's own test config", encoding_equals_upstream, NULL, NULL, models[4]},
        cmocka_unit_test(a_decoder_alone_draws_and_reads_nothing),
        cmocka_unit_test(decoding_needs_no_quant_conv),
        cmocka_unit_test(half_an_encoder_is_refused),
        cmocka_unit_test(configs_that_do_not_fit_the_encoder_are_refused),
        cmocka_unit_test(a_picture_smaller_than_a_latent_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
