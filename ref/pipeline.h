/* From a prompt to a picture.
 *
 *     Pack pack;
 *     pack_open(&pack, &(PackPaths){.model = "weights/tiny"}, PACK_GENERATE, &err);
 *     Request r = request_default(&pack);
 *     r.prompt = "a red circle";
 *     Picture picture;
 *     generate(&ctx, &pack, &r, &picture);          // then ctx.error
 *     picture_free(&picture);  pack_close(&pack);  context_free(&ctx);
 *
 * pipeline.c is the walk through the whole program in two screens: read it first. */
#ifndef LLMDIFF_PIPELINE_H
#define LLMDIFF_PIPELINE_H

#include "ref/adapter.h"
#include "ref/clip_text.h"
#include "ref/noise.h"
#include "ref/samplers.h"
#include "ref/vae.h"
#include "tokenizer/tokenizer.h"

/* ---- pack.c: the models ---------------------------------------------------------------------- */

/* Who tells the U-Net what to draw: the LLM and its adapter, or CLIP's text encoder, as in plain
 * Stable Diffusion. */
typedef enum Conditioner { CONDITIONER_LLMDIFF, CONDITIONER_CLIP } Conditioner;

/* Where the parts are: below `model` (llm/, unet/, vae/, scheduler/, adapter/; for CLIP text_encoder/
 * and tokenizer/ in place of llm/ and adapter/), or where one of the others says. The LLM's tokenizer
 * is in its own directory. */
typedef struct PackPaths {
    const char *model, *llm, *unet, *vae, *adapter, *text_encoder, *tokenizer;
    Conditioner conditioner;
    const char *const *set; /* "KEY=VALUE" over the adapter's config.json */
    size_t sets;
} PackPaths;

typedef struct Pack {
    Tokenizer *tokenizer;
    char *tokenizer_path; /* its directory: the LLM's, or CLIP's tokenizer/ */
    /* CONDITIONER_LLMDIFF; NULL when opened for the tokenizer */
    Llm *llm;
    Adapter *adapter;
    /* CONDITIONER_CLIP */
    ClipText *clip;
    /* NULL when opened for encoding */
    Unet *unet;
    Vae *vae;
    Schedule *schedule;
    /* what requests have if they don't say: of model_index.json, or 20 and 7.5 */
    int64_t steps;
    double cfg_scale;
} Pack;

/* For training an adapter is opened where paths.adapter names one, never the model's own. */
typedef enum PackUse { PACK_TOKENIZE, PACK_ENCODE, PACK_GENERATE, PACK_TRAIN } PackUse;

int pack_open(Pack *pack, const PackPaths *paths, PackUse use, Error *err); /* 0, or -1 */
void pack_close(Pack *pack);
/* The steps and the guidance that the pack's maker means it to be drawn with: num_inference_steps and
 * guidance_scale of its model_index.json, which Stable Diffusion's has not: 20 and 7.5. 0 or -1. */
int pack_defaults(const char *model, int64_t *steps, double *cfg_scale, Error *err);

/* ---- pipeline.c: the walk -------------------------------------------------------------------- */

struct Picture;

typedef struct Request {
    const char *prompt, *negative; /* UTF-8; "" is valid and is the begin token alone */
    size_t prompt_length, negative_length;
    int64_t width, height; /* pixels, multiples of the VAE's factor */
    SamplerKind sampler;   /* SAMPLER_OWN: the pack's */
    int64_t steps;
    int64_t clip_skip; /* last blocks of CLIP left out for the prompt, as diffusers counts */
    double cfg_scale;  /* 1: no guidance, the negative prompt plays no part */
    double eta;        /* DDIM's; 0: no sampler noise */
    uint64_t seed;
    /* image to image: begin from a picture (bytes [height, width, 3]) with as much noise as strength
     * says, 0 < strength <= 1; NULL: from noise alone */
    const uint8_t *init_image;
    double strength;
    const uint8_t *mask; /* bytes [height, width]: redrawn where 128 or more; or NULL: everywhere */
    bool vae_tiling;     /* VAE in overlapping tiles, for large pictures */
    const real *init_latents; /* [C, height / factor, width / factor], unit variance; or NULL */
    const Safetensors *noise; /* every draw by its name, in place of the generators; or NULL */
    void (*progress)(void *self, const char *stage, int64_t done, int64_t of);
    void *progress_self;
    /* every so many evaluations (0: never) the latents decoded so far */
    int64_t preview_every;
    void (*preview)(void *self, int64_t done, int64_t of, const struct Picture *picture);
    void *preview_self;
} Request;

/* Size, steps and guidance are the pack's own. */
Request request_default(const Pack *pack);
/* Checks sizes and numbers against the pack: 0, or -1 with a message naming the flag. */
int request_check(const Request *r, const Pack *pack, Error *err);

typedef struct Picture {
    int64_t width, height;
    uint8_t *rgb;  /* [height, width, 3], malloc'ed */
    real *latents; /* the final latents [C, h, w], malloc'ed */
    int64_t latent_dim[3];
    int64_t dropped;     /* tokens of the prompt that CLIP had no place for */
    int64_t evaluations; /* of the U-Net: the final latents are latents/<evaluations> */
} Picture;

void picture_free(Picture *picture);

/* 0, or -1 with the message in ctx->error and nothing in `picture`. */
int generate(Context *ctx, const Pack *pack, const Request *r, Picture *picture);

/* ---- condition.c: what the U-Net is told ------------------------------------------------------ */

/* The ids that the conditioner reads: the begin token and the text or, for CLIP, as many as it has
 * positions, cut or padded; *dropped: ids that were cut off. 0 or -1. */
int prompt_ids(const Pack *pack, const char *text, size_t length, TokenIds *ids, int64_t *dropped,
               Error *err);

/* The prompt's encoding c [N, D] by Algorithm 1; empty if the context failed. Langevin noise comes
 * from `langevin`. `group`: "" for the prompt, "uncond/" for the negative one. */
Tensor encode(Context *ctx, const Pack *pack, const char *text, size_t length, Noise *langevin,
              const char *group);

typedef struct Prompts {
    CrossLayers cross; /* element 0: the prompt; 1: the negative prompt */
    int64_t count;     /* 2 with guidance, else 1 */
    double cfg_scale;
    int64_t dropped; /* tokens of the prompt that CLIP had no place for */
} Prompts;

Prompts condition(Context *ctx, const Pack *pack, const Request *r);

/* pipeline.c. Evaluation i at timestep t: latents [1, h, w, C] -> eps after guidance [1, h, w, C].
 * Activations are named "unet/<i>/...". */
Tensor predict(Context *ctx, const Unet *unet, int64_t i, double t, Tensor latents,
               const Prompts *p);

/* ---- canvas.c: where the walk begins ------------------------------------------------------------ */

/* What image to image and inpainting keep through the walk; all empty for text to image. */
typedef struct Canvas {
    Tensor z0;    /* the picture's latents [1, h, w, C] */
    Tensor noise; /* the noise that they are mixed with, N(0, I) */
    Tensor mask;  /* [1, h, w, C]: 1 where the picture is redrawn, 0 where it is kept */
} Canvas;

/* The latents that evaluation 0 takes [1, h, w, C]. What is drawn comes from `noise`, in the order of
 * diffusers' one generator. */
Tensor canvas_begin(Context *ctx, const Pack *pack, const Request *r, const Sampler *s,
                    Noise *noise, Canvas *canvas);
/* Latents after evaluation i of `s`: kept places get the picture's own latents, with as much noise as
 * the next evaluation expects. Without a mask: x. */
Tensor canvas_blend(Context *ctx, const Canvas *canvas, const Sampler *s, int64_t i, Tensor x);
/* Bytes [height, width, 3] to -1 .. 1, [1, height, width, 3] */
Tensor from_pixels(Context *ctx, const uint8_t *rgb, int64_t height, int64_t width);

/* ---- picture.c ---------------------------------------------------------------------------------- */

/* image [1, H, W, 3] in -1 .. 1 as bytes, latents [1, h, w, C] as they are. 0, or -1. */
int to_picture(Context *ctx, Tensor latents, Tensor image, Picture *out);

#endif
