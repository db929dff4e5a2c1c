/* The models of a pack, and what a request must keep to. See pipeline.h. */
#include "ref/pipeline.h"
#include "weights/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "<model>/<part>", or `instead` if that is given; malloc'ed. */
static char *part_path(const PackPaths *p, const char *part, const char *instead, Error *err) {
    const char *model = p->model ? p->model : "";
    size_t n = strlen(model) + strlen(part) + 2;
    char *path = instead ? strdup(instead) : malloc(n);
    if (!path) {
        fail(err, "out of memory opening %s", part);
        return NULL;
    }
    if (!instead) snprintf(path, n, "%s/%s", model, part);
    if (!instead && !p->model)
        fail(err, "no model: give a pack with -m, or this part with --%s", part);
    else if (!is_directory(path))
        fail(err, "%s: expected a directory with the %s, found %s", path, part,
             file_exists(path) ? "a file" : "nothing");
    return path;
}

static void open_llm(Pack *pack, const PackPaths *p, PackUse use, Error *err) {
    char *llm = part_path(p, "llm", p->llm, err);
    if (!err->set) pack->tokenizer = tokenizer_open(llm, err);
    if (!err->set && use != PACK_TOKENIZE) pack->llm = llm_load(llm, err);
    pack->tokenizer_path = llm;
}

static void open_adapter(Pack *pack, const PackPaths *p, Error *err) {
    char *adapter = part_path(p, "adapter", p->adapter, err);
    if (!err->set)
        pack->adapter = adapter_load(adapter, pack->llm, pack->unet, p->set, p->sets, err);
    free(adapter);
}

static void open_clip(Pack *pack, const PackPaths *p, Error *err) {
    char *text_encoder = part_path(p, "text_encoder", p->text_encoder, err);
    char *tokenizer = part_path(p, "tokenizer", p->tokenizer, err);
    if (!err->set) pack->tokenizer = tokenizer_open(tokenizer, err);
    if (!err->set) pack->clip = clip_text_load(text_encoder, err);
    if (!err->set && pack->clip->D != pack->unet->cross_attention_dim)
        fail(err, "%s: hidden_size is %lld, but %s has cross_attention_dim %lld", text_encoder,
             (long long)pack->clip->D, model_path(pack->unet->files),
             (long long)pack->unet->cross_attention_dim);
    free(text_encoder);
    pack->tokenizer_path = tokenizer;
}

/* What draws: U-Net, VAE and scheduler. */
static void open_base(Pack *pack, const PackPaths *p, Error *err) {
    char *unet = part_path(p, "unet", p->unet, err);
    if (!err->set) pack->unet = unet_load(unet, err);
    char *vae = part_path(p, "vae", p->vae, err);
    if (!err->set) pack->vae = vae_load(vae, err);
    char *scheduler = part_path(p, "scheduler", NULL, err);
    if (!err->set) pack->schedule = schedule_load(scheduler, err);
    if (!err->set && pack->vae->out_channels != 3)
        fail(err, "%s: out_channels: expected 3, a picture's, found %lld", vae,
             (long long)pack->vae->out_channels);
    if (!err->set && pack->unet->in_channels != pack->vae->latent_channels)
        fail(err, "%s: in_channels is %lld, but %s has latent_channels %lld", unet,
             (long long)pack->unet->in_channels, vae, (long long)pack->vae->latent_channels);
    if (!err->set && pack->unet->out_channels != pack->unet->in_channels)
        fail(err, "%s: out_channels %lld: expected in_channels, %lld", unet,
             (long long)pack->unet->out_channels, (long long)pack->unet->in_channels);
    free(unet);
    free(vae);
    free(scheduler);
}

int pack_defaults(const char *model, int64_t *steps, double *cfg_scale, Error *err) {
    *steps = 20;
    *cfg_scale = 7.5;
    const size_t n = model ? strlen(model) + sizeof "/model_index.json" : 0;
    char *path = n ? malloc(n) : NULL;
    if (n && !path) return fail(err, "out of memory opening %s", model);
    if (path) snprintf(path, n, "%s/model_index.json", model);
    ModelDir *m =
        path && file_exists(path) ? model_open_config(model, "model_index.json", err) : NULL;
    if (m) {
        *steps = config_int(m, "num_inference_steps", *steps, 1, 1000000);
        *cfg_scale = config_double(m, "guidance_scale", *cfg_scale);
    }
    model_close(m);
    free(path);
    return err->set ? -1 : 0;
}

int pack_open(Pack *pack, const PackPaths *p, PackUse use, Error *err) {
    const bool clip = p->conditioner == CONDITIONER_CLIP;
    *pack = (Pack){0};
    if (clip && use != PACK_GENERATE)
        return fail(err, "--conditioner clip: Algorithm 1 has no part in it");
    if (!clip) open_llm(pack, p, use, err);
    const bool base = use == PACK_GENERATE || use == PACK_TRAIN;
    const bool adapter = use == PACK_TRAIN ? p->adapter != NULL : use != PACK_TOKENIZE;
    if (base && !err->set) pack_defaults(p->model, &pack->steps, &pack->cfg_scale, err);
    if (base && !err->set) open_base(pack, p, err);
    if (adapter && !err->set) (clip ? open_clip : open_adapter)(pack, p, err);
    if (!err->set) return 0;
    pack_close(pack);
    return -1;
}

void pack_close(Pack *pack) {
    adapter_free(pack->adapter);
    clip_text_free(pack->clip);
    schedule_free(pack->schedule);
    vae_free(pack->vae);
    unet_free(pack->unet);
    llm_free(pack->llm);
    tokenizer_close(pack->tokenizer);
    free(pack->tokenizer_path);
    *pack = (Pack){0};
}

/* ---- requests -------------------------------------------------------------------------------- */

Request request_default(const Pack *pack) {
    int64_t side = (pack->unet->sample_size ? pack->unet->sample_size : 64) * pack->vae->factor;
    return (Request){.prompt = "",
                     .negative = "",
                     .width = side,
                     .height = side,
                     .sampler = SAMPLER_OWN,
                     .steps = pack->steps,
                     .cfg_scale = pack->cfg_scale,
                     .eta = 0,
                     .seed = 42,
                     .strength = 0.8};
}

static int check_side(const char *flag, int64_t side, const Pack *pack, Error *err) {
    int64_t factor = pack->vae->factor;
    if (side < factor || side % factor)
        return fail(err, "%s: expected a positive multiple of %lld, the VAE's factor, found %lld",
                    flag, (long long)factor, (long long)side);
    if (side > 1 << 16)
        return fail(err, "%s: expected at most %d, found %lld", flag, 1 << 16, (long long)side);
    return 0;
}

/* What the widest maps of U-Net and VAE take, about: four of the VAE's at full size (input, norm,
 * convolution, sum), twenty of the U-Net's first level for each prompt. Better known before the system
 * has no memory left for anybody. */
static int check_memory(const Request *r, const Pack *pack, Error *err) {
    const Vae *vae = pack->vae;
    const Weight *widest = vae->decoder.up[vae->levels - 1].resnet[0].conv1.w;
    const double pixels = (double)r->width * (double)r->height, factor = (double)vae->factor;
    const double tile = (double)vae->sample_size * (double)vae->sample_size;
    double decode = 4 * (r->vae_tiling ? fmin(pixels, tile) : pixels) * (double)widest->dim[1];
    double unet = 40 * pixels / (factor * factor) * (double)pack->unet->time_channels;
    double needed = (fmax(decode, unet) + 6 * pixels) * (double)sizeof(real);
    double there = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (needed <= there) return 0;
    return fail(err,
                "--width, --height: %lld x %lld takes about %.0f GB, this machine has %.0f GB%s",
                (long long)r->width, (long long)r->height, needed / 1e9, there / 1e9,
                r->vae_tiling ? "" : "; --vae-tiling takes less");
}

int request_check(const Request *r, const Pack *pack, Error *err) {
    if (check_side("--width", r->width, pack, err)) return -1;
    if (check_side("--height", r->height, pack, err)) return -1;
    if (check_memory(r, pack, err)) return -1;
    if (!isfinite(r->cfg_scale))
        return fail(err, "--cfg-scale: expected a finite number, found %g", r->cfg_scale);
    if (r->init_image && !(r->strength > 0 && r->strength <= 1))
        return fail(err, "--strength: expected more than 0 and at most 1, found %g", r->strength);
    if (r->mask && !r->init_image)
        return fail(err, "--mask: a picture to keep is missing; give it with --init-img");
    if (r->init_image && (pack->vae->in_channels != 3 || !pack->vae->has_encoder))
        return fail(err, "--init-img: %s can't encode a picture (no encoder for 3 channels)",
                    model_path(pack->vae->files));
    if (!(r->eta >= 0 && r->eta <= 1)) return fail(err, "--eta: expected 0 to 1, found %g", r->eta);
    /* What else the sampler can't follow, it says itself. */
    Sampler *sampler = sampler_new(pack->schedule, r->sampler, r->steps, r->eta, err);
    sampler_free(sampler);
    return sampler ? 0 : -1;
}
