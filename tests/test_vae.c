/* The VAE's decoder against diffusers AutoencoderKL (golden/export_vae.py). */
#include "tests/check.h"

#include "ref/vae.h"

#include <stdio.h>

static void equals_upstream(void **state) {
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

int main(void) {
    static char models[][16] = {"sd", "plain", "old", "one_level"};
    const struct CMUnitTest tests[] = {
        {"vae sd: Stable Diffusion in miniature", equals_upstream, NULL, NULL, models[0]},
        {"vae plain: no attention, no post_quant_conv", equals_upstream, NULL, NULL, models[1]},
        {"vae old: SD 1.5's attention names and short config", equals_upstream, NULL, NULL,
         models[2]},
        {"vae one_level", equals_upstream, NULL, NULL, models[3]},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
