/* The kit's modules of the VAE, and pixels. See run.h. */
#include "ref/yardstick/run.h"

#include <stdlib.h>
#include <string.h>

#define ERR(in) (&(in)->ctx->error)
#define LETTER(letter) [(letter) - 'A']

static const char *path_of(const Given *in) { return in->c->path ? in->c->path : ""; }

/* ---- the VAE -------------------------------------------------------------------------------------- */

typedef struct VaePart {
    const Resnet *resnet;
    const VaeMidBlock *attention;
    Affine resample;
    bool conv_in, conv_out, decoder;
} VaePart;

/* The part of that path: "decoder.mid_block.resnets.0", "encoder.conv_in", ... */
static VaePart find_part(const Vae *vae, const char *path) {
    const bool decoder = strncmp(path, "decoder.", 8) == 0;
    VaePart found = {.decoder = decoder};
    if (!decoder && !(strncmp(path, "encoder.", 8) == 0 && vae->has_encoder)) return found;
    const VaeMidBlock *mid = decoder ? &vae->decoder.mid : &vae->encoder.mid;
    const VaeBlock *blocks = decoder ? vae->decoder.up : vae->encoder.down;
    path += 8;
    found.conv_in = strcmp(path, "conv_in") == 0;
    found.conv_out = strcmp(path, "conv_out") == 0;
    if (strcmp(path, "mid_block.attentions.0") == 0 && mid->group_norm.w) found.attention = mid;
    for (int j = 0; j < 2; j++)
        if (strcmp(path, mid->resnet[j].name) == 0) found.resnet = &mid->resnet[j];
    for (int64_t i = 0; i < vae->levels; i++) {
        for (int64_t j = 0; j < vae->layers + decoder; j++)
            if (strcmp(path, blocks[i].resnet[j].name) == 0) found.resnet = &blocks[i].resnet[j];
        if (blocks[i].resample.w && strcmp(path, blocks[i].resample_name) == 0)
            found.resample = blocks[i].resample;
    }
    return found;
}

static const Vae *open_part(const Given *in, VaePart *part) {
    const Vae *vae = models_vae(in->models, ERR(in));
    if (vae) *part = find_part(vae, path_of(in));
    return vae;
}

static Tensor read_map(const Given *in, bool there, const char *what, int64_t channels) {
    int64_t size[26] = {LETTER('C') = channels};
    if (!there) refuse_case(in, what, in->c->path);
    if (in->ctx->error.set || !given_fits(in, "x:CHW", size)) return (Tensor){0};
    return given_map(in, "x");
}

static void run_resnet(const Given *in) {
    VaePart p;
    const Vae *vae = open_part(in, &p);
    if (!vae) return;
    Tensor x = read_map(in, p.resnet, "path: expected a resnet of the VAE",
                        p.resnet ? p.resnet->norm1.w->dim[0] : 0);
    if (x.data) give_as_map(in, "y", resnet_forward(in->ctx, p.resnet, x, (Tensor){0}));
}

static void run_attention(const Given *in) {
    VaePart p;
    const Vae *vae = open_part(in, &p);
    if (!vae) return;
    Tensor x = read_map(in, p.attention, "path: expected an attention of the VAE",
                        p.attention ? p.attention->group_norm.w->dim[0] : 0);
    if (x.data) give_as_map(in, "y", vae_attention(in->ctx, p.attention, vae->norm, x));
}

static void run_conv_in(const Given *in) {
    VaePart p;
    const Vae *vae = open_part(in, &p);
    if (!vae) return;
    const Affine conv = p.decoder ? vae->decoder.conv_in : vae->encoder.conv_in;
    Tensor x = read_map(in, p.conv_in, "path: expected encoder.conv_in or decoder.conv_in",
                        p.conv_in ? conv.w->dim[1] : 0);
    if (x.data) give_as_map(in, "y", conv_same(in->ctx, x, conv));
}

/* With the norm and the SiLU before it. */
static void run_conv_out(const Given *in) {
    VaePart p;
    const Vae *vae = open_part(in, &p);
    if (!vae) return;
    const Affine conv = p.decoder ? vae->decoder.conv_out : vae->encoder.conv_out;
    const Affine norm = p.decoder ? vae->decoder.conv_norm_out : vae->encoder.conv_norm_out;
    Tensor x = read_map(in, p.conv_out, "path: expected encoder.conv_out or decoder.conv_out",
                        p.conv_out ? conv.w->dim[1] : 0);
    if (!x.data) return;
    x = group_norm(in->ctx, x, norm.w, norm.b, vae->norm.groups, vae->norm.eps);
    give_as_map(in, "y", conv_same(in->ctx, silu(in->ctx, x), conv));
}

static void run_resampler(const Given *in) {
    VaePart p;
    const Vae *vae = open_part(in, &p);
    if (!vae) return;
    const bool down = strcmp(in->c->runs, "vae/downsampler") == 0;
    const char *kind = down ? "encoder.down_blocks." : "decoder.up_blocks.";
    const bool there = p.resample.w && strncmp(path_of(in), kind, strlen(kind)) == 0;
    Tensor x = read_map(in, there, "path: expected a resampler of the VAE of that kind",
                        there ? p.resample.w->dim[1] : 0);
    if (!x.data) return;
    if (down && (x.dim[1] < 2 || x.dim[2] < 2))
        refuse_case(in, "x: expected a map of 2 x 2 at least", "a smaller one");
    if (in->ctx->error.set) return;
    give_as_map(in, "y",
                down ? downsample_forward(in->ctx, p.resample, 0, x)
                     : upsample_forward(in->ctx, p.resample, x, 2 * x.dim[1], 2 * x.dim[2]));
}

static void run_decode(const Given *in) {
    const Vae *vae = models_vae(in->models, ERR(in));
    if (!vae) return;
    int64_t size[26] = {LETTER('C') = vae->latent_channels};
    if (!given_fits(in, "latents:CHW", size)) return;
    Tensor z = given_map(in, "latents");
    if (z.data)
        give_as_map(in, "y",
                    given_switch(in, "tiled") ? vae_decode_tiled(in->ctx, vae, z)
                                              : vae_decode(in->ctx, vae, z));
}

static void run_encode(const Given *in) {
    const Vae *vae = models_vae(in->models, ERR(in));
    if (!vae) return;
    int64_t size[26] = {LETTER('C') = vae->in_channels};
    if (!given_fits(in, "x:CHW", size)) return;
    Tensor x = given_map(in, "x");
    VaePosterior p = given_switch(in, "tiled") && x.data ? vae_encode_tiled(in->ctx, vae, x)
                     : x.data                            ? vae_encode(in->ctx, vae, x)
                                                         : (VaePosterior){0};
    if (in->ctx->error.set) return;
    give_as_map(in, "mean", p.mean);
    give_as_map(in, "logvar", p.logvar);
    int64_t of[26] = {LETTER('C') = p.mean.dim[3], LETTER('H') = p.mean.dim[1],
                      LETTER('W') = p.mean.dim[2]};
    if (given_fits(in, "noise:CHW", of))
        give_as_map(in, "z0", vae_sample(in->ctx, vae, p, given_map(in, "noise")));
}

/* ---- pixels --------------------------------------------------------------------------------------- */

static void run_from_pixels(const Given *in) {
    int64_t size[26] = {LETTER('C') = 3};
    if (!given_fits(in, "rgb:HWC", size)) return;
    give_as_map(in, "y", from_pixels(in->ctx, given_stored(in, "rgb")->data, SIZE('H'), SIZE('W')));
}

static void run_to_pixels(const Given *in) {
    int64_t size[26] = {LETTER('C') = 3};
    Picture picture = {0};
    if (!given_fits(in, "x:CHW", size)) return;
    Tensor x = given_map(in, "x");
    /* A picture comes with its latents, which play no part here. */
    if (!x.data || to_picture(in->ctx, x, x, &picture)) return;
    const int64_t dim[3] = {SIZE('H'), SIZE('W'), 3};
    give_raw(in, "rgb", DTYPE_U8, 3, dim, picture.rgb);
    picture_free(&picture);
}

/* ---- which there are ------------------------------------------------------------------------------ */

const Module vae_modules[] = {{"vae/conv_in", run_conv_in},
                              {"vae/resnet", run_resnet},
                              {"vae/attention", run_attention},
                              {"vae/downsampler", run_resampler},
                              {"vae/upsampler", run_resampler},
                              {"vae/conv_out", run_conv_out},
                              {"vae/decode", run_decode},
                              {"vae/encode", run_encode},
                              {"image/from_pixels", run_from_pixels},
                              {"image/to_pixels", run_to_pixels},
                              {NULL, NULL}};
