/* The kit's modules of the U-Net, and Eq. 9. See run.h. */
#include "ref/yardstick/run.h"

#include <stdio.h>
#include <string.h>

#define ERR(in) (&(in)->ctx->error)
#define LETTER(letter) [(letter) - 'A']

static const char *path_of(const Given *in) { return in->c->path ? in->c->path : ""; }

/* ---- the U-Net ------------------------------------------------------------------------------------ */

/* Block i in the order of execution: down, mid, up; NULL at the end. */
static const UnetBlock *block_at(const Unet *u, int64_t i) {
    if (i < u->levels) return &u->down[i];
    if (i == u->levels) return &u->mid;
    return i <= 2 * u->levels ? &u->up[i - u->levels - 1] : NULL;
}

static const Resnet *find_resnet(const Unet *u, const char *path) {
    const UnetBlock *b;
    for (int64_t i = 0; (b = block_at(u, i)); i++)
        for (int64_t j = 0; j < b->layers; j++)
            if (strcmp(b->resnet[j].name, path) == 0) return &b->resnet[j];
    return NULL;
}

static const Transformer *find_transformer(const Unet *u, const char *path) {
    const UnetBlock *b;
    for (int64_t i = 0; (b = block_at(u, i)); i++)
        for (int64_t j = 0; b->has_attention && j < b->layers; j++)
            if (strcmp(b->transformer[j].name, path) == 0) return &b->transformer[j];
    return NULL;
}

/* *of: the transformer that it is in */
static const TransformerBlock *find_block(const Unet *u, const char *path, const Transformer **of) {
    const UnetBlock *b;
    for (int64_t i = 0; (b = block_at(u, i)); i++)
        for (int64_t j = 0; b->has_attention && j < b->layers; j++)
            for (int64_t k = 0; k < b->transformer[j].blocks; k++) {
                *of = &b->transformer[j];
                if (strcmp((*of)->block[k].name, path) == 0) return &(*of)->block[k];
            }
    return NULL;
}

static const UnetBlock *find_resample(const Unet *u, const char *kind, const char *path) {
    const UnetBlock *b;
    for (int64_t i = 0; (b = block_at(u, i)); i++)
        if (b->resample.w && strcmp(b->resample_name, path) == 0 && strstr(path, kind)) return b;
    return NULL;
}

static void run_time_embedding(const Given *in) {
    const Unet *u = models_unet(in->models, ERR(in));
    const double t = given_number(in, "t");
    Tensor y = u ? unet_time_embedding(in->ctx, u, t) : (Tensor){0};
    if (y.data) give(in, "y", TENSOR_VIEW(y, u->time_dim));
}

static void run_resnet(const Given *in) {
    const Unet *u = models_unet(in->models, ERR(in));
    const Resnet *r = u ? find_resnet(u, path_of(in)) : NULL;
    if (u && !r) refuse_case(in, "path: expected a resnet of the U-Net", in->c->path);
    if (!r) return;
    int64_t size[26] = {LETTER('C') = r->norm1.w->dim[0], LETTER('T') = u->time_dim};
    if (!given_fits(in, "x:CHW temb:T", size)) return;
    Tensor temb = given_tensor(in, "temb");
    if (!temb.data) return;
    temb = silu(in->ctx, TENSOR_VIEW(temb, 1, u->time_dim));
    give_as_map(in, "y", resnet_forward(in->ctx, r, given_map(in, "x"), temb));
}

static void run_conv_in(const Given *in) {
    const Unet *u = models_unet(in->models, ERR(in));
    if (!u) return;
    int64_t size[26] = {LETTER('C') = u->in_channels};
    if (given_fits(in, "x:CHW", size))
        give_as_map(in, "y", conv_same(in->ctx, given_map(in, "x"), u->conv_in));
}

/* With the norm and the SiLU before it. */
static void run_conv_out(const Given *in) {
    const Unet *u = models_unet(in->models, ERR(in));
    if (!u) return;
    int64_t size[26] = {LETTER('C') = u->conv_out.w->dim[1]};
    if (!given_fits(in, "x:CHW", size)) return;
    Tensor x = given_map(in, "x");
    if (!x.data) return;
    x = group_norm(in->ctx, x, u->conv_norm_out.w, u->conv_norm_out.b, u->norm.groups, u->norm.eps);
    give_as_map(in, "y", conv_same(in->ctx, silu(in->ctx, x), u->conv_out));
}

static void run_downsampler(const Given *in) {
    const Unet *u = models_unet(in->models, ERR(in));
    const UnetBlock *b = u ? find_resample(u, "downsamplers", path_of(in)) : NULL;
    if (u && !b) refuse_case(in, "path: expected a downsampler of the U-Net", in->c->path);
    if (!b) return;
    int64_t size[26] = {LETTER('C') = b->resample.w->dim[1]};
    if (!given_fits(in, "x:CHW", size)) return;
    if (u->downsample_padding == 0 && (SIZE('H') < 2 || SIZE('W') < 2))
        refuse_case(in, "x: expected a map of 2 x 2 at least", "a smaller one");
    Tensor x = given_map(in, "x");
    if (x.data)
        give_as_map(in, "y", downsample_forward(in->ctx, b->resample, u->downsample_padding, x));
}

static void run_upsampler(const Given *in) {
    const Unet *u = models_unet(in->models, ERR(in));
    const UnetBlock *b = u ? find_resample(u, "upsamplers", path_of(in)) : NULL;
    if (u && !b) refuse_case(in, "path: expected an upsampler of the U-Net", in->c->path);
    if (!b) return;
    int64_t size[26] = {LETTER('C') = b->resample.w->dim[1]};
    const int64_t height = given_whole(in, "height", 1, 4096);
    const int64_t width = given_whole(in, "width", 1, 4096);
    if (!given_fits(in, "x:CHW", size)) return;
    Tensor x = given_map(in, "x");
    if (x.data) give_as_map(in, "y", upsample_forward(in->ctx, b->resample, x, height, width));
}

/* ---- Eq. 9, and what it is in --------------------------------------------------------------------- */

/* The prompt as the cross-attentions read it: phi_c [N, E] and, where tau reads the raw encoding,
 * c [N, D]. */
static CrossLayers read_prompt(const Given *in, const Unet *u, const Adapter *a, int64_t *size) {
    CrossLayers cross = {.original = u->cross, .added = a->layer, .out_choice = a->settings.out};
    const bool raw = a->settings.tau_input == TAU_INPUT_C;
    SIZE('E') = a->E;
    SIZE('D') = a->D;
    if (!given_fits(in, raw ? "phi_c:NE c:ND" : "phi_c:NE c?:ND", size)) return cross;
    Tensor phi_c = given_tensor(in, "phi_c"), c_prime = raw ? given_tensor(in, "c") : phi_c;
    cross.context[0] = eq9_contexts(in->ctx, u->cross, a->layer, u->cross_layers, phi_c, c_prime);
    return cross;
}

/* Gives the parts that are shown on the way: "<path>/original", "<path>.attn1". */
static void see_part(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    const Given *in = self;
    const size_t n = strlen(path_of(in));
    const Dtype dtype = sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32;
    if (strncmp(name, path_of(in), n) == 0 && (name[n] == '/' || name[n] == '.'))
        give_raw(in, name + n + 1, dtype, ndim, dim, data);
}

static void run_eq9(const Given *in) {
    const Unet *u = models_unet(in->models, ERR(in));
    const Adapter *a = models_adapter(in->models, in->c, ERR(in));
    int64_t i = 0, size[26] = {0};
    if (!u || !a) return;
    while (i < u->cross_layers && strcmp(u->cross[i].name, path_of(in)) != 0) i++;
    if (i == u->cross_layers) {
        refuse_case(in, "path: expected an attn2 of the U-Net", in->c->path);
        return;
    }
    const CrossLayers cross = read_prompt(in, u, a, size);
    SIZE('C') = u->cross[i].channels;
    if (!given_fits(in, "q:LC", size)) return;
    Tensor q = given_rows(in, "q");
    Given seen = *in;
    const Observer observer = {see_part, &seen};
    in->ctx->observer = &observer;
    if (q.data)
        eq9_attention(in->ctx, &u->cross[i], &a->layer[i], cross.out_choice, q,
                      &cross.context[0][i]);
    in->ctx->observer = NULL;
}

static void run_block(const Given *in) {
    const Unet *u = models_unet(in->models, ERR(in));
    const Adapter *a = models_adapter(in->models, in->c, ERR(in));
    if (!u || !a) return;
    const Transformer *of = NULL;
    const TransformerBlock *b = find_block(u, path_of(in), &of);
    int64_t size[26] = {0};
    if (!b) refuse_case(in, "path: expected a transformer block of the U-Net", in->c->path);
    const CrossLayers cross = read_prompt(in, u, a, size);
    if (in->ctx->error.set) return;
    SIZE('C') = of->channels;
    if (!given_fits(in, "x:LC", size)) return;
    Given seen = *in;
    const Observer observer = {see_part, &seen};
    Tensor x = given_rows(in, "x");
    in->ctx->observer = &observer;
    if (x.data) give_as_rows(in, "y", transformer_block_forward(in->ctx, b, of->heads, x, &cross));
    in->ctx->observer = NULL;
}

static void run_transformer(const Given *in) {
    const Unet *u = models_unet(in->models, ERR(in));
    const Adapter *a = models_adapter(in->models, in->c, ERR(in));
    if (!u || !a) return;
    const Transformer *t = find_transformer(u, path_of(in));
    int64_t size[26] = {0};
    if (!t) refuse_case(in, "path: expected a transformer of the U-Net", in->c->path);
    const CrossLayers cross = read_prompt(in, u, a, size);
    if (in->ctx->error.set) return;
    SIZE('C') = t->channels;
    if (!given_fits(in, "x:CHW", size)) return;
    Tensor x = given_map(in, "x");
    if (x.data) give_as_map(in, "y", transformer_forward(in->ctx, t, x, &cross));
}

/* ---- which there are ------------------------------------------------------------------------------ */

const Module unet_modules[] = {{"eq9", run_eq9},
                               {"unet/time_embedding", run_time_embedding},
                               {"unet/conv_in", run_conv_in},
                               {"unet/resnet", run_resnet},
                               {"unet/downsampler", run_downsampler},
                               {"unet/upsampler", run_upsampler},
                               {"unet/block", run_block},
                               {"unet/transformer", run_transformer},
                               {"unet/conv_out", run_conv_out},
                               {NULL, NULL}};
