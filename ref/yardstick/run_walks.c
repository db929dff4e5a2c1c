/* The kit's walks: Algorithm 1, one evaluation of the U-Net, a whole picture. Free, every stage starts
 * from what the one before it gave; forced, from the truth's value of that. See run.h. */
#include "ref/force.h"
#include "ref/yardstick/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERR(in) (&(in)->ctx->error)

/* Keeps what the manifest names. */
static void keep(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    const Dtype dtype = sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32;
    give_raw(self, name, dtype, ndim, dim, data);
}

/* The parts that the walk needs: borrowed, not to be closed. */
static Pack open_pack(const Given *in, KitKind kind) {
    Models *m = in->models, *text = in->text;
    Pack pack = {.unet = (Unet *)(uintptr_t)models_unet(m, ERR(in))};
    if (text) {
        pack.clip = (ClipText *)(uintptr_t)models_clip(text, ERR(in));
    } else {
        pack.adapter = (Adapter *)(uintptr_t)models_adapter(m, in->c, ERR(in));
        pack.llm = (Llm *)(uintptr_t)models_llm(m, ERR(in));
    }
    if (kind == KIT_PICTURE) {
        pack.tokenizer = (Tokenizer *)(uintptr_t)models_tokenizer(text ? text : m, ERR(in));
        pack.vae = (Vae *)(uintptr_t)models_vae(m, ERR(in));
        pack.schedule = (Schedule *)(uintptr_t)models_schedule(m, ERR(in));
    }
    return pack;
}

/* ---- Algorithm 1 ---------------------------------------------------------------------------------- */

/* From ids and noise to c, and phi(c). parameters.names "uncond/": of the other prompt. */
static void walk_algorithm1(const Given *in, const Pack *pack) {
    int64_t size[26] = {0}, n = 0;
    const char *given = given_text(in, "names"), *group = given ? given : "";
    char name[32], shape[40];
    snprintf(name, sizeof name, "%.16sids", group);
    snprintf(shape, sizeof shape, "%s:N", name);
    if (!given_fits(in, shape, size)) return;
    const int64_t *ids = given_ids(in, name, &n);
    if (!ids) return;
    give_raw(in, name, DTYPE_I64, 1, &n, ids);
    Noise noise = {.file = in->group->inputs};
    Tensor c = alg1_encoding(in->ctx, pack->llm, pack->adapter->scalars, &pack->adapter->settings,
                             ids, n, &noise, group);
    adapter_condition(in->ctx, pack->adapter, pack->unet, c, group);
}

/* ---- one evaluation of the U-Net ------------------------------------------------------------------ */

/* What each layer reads of a prompt, from phi(c) and c as the kit has them. */
static CrossContext *read_prompt(const Given *in, const Pack *pack, const char *group) {
    const Adapter *a = pack->adapter;
    const Unet *u = pack->unet;
    const bool raw = a->settings.tau_input == TAU_INPUT_C;
    const bool normed = a->settings.normalize != NORMALIZE_NONE;
    int64_t size[26] = {['E' - 'A'] = a->E, ['D' - 'A'] = a->D};
    char phi_c[32], c[32], shapes[96];
    snprintf(phi_c, sizeof phi_c, "%sadapter/phi_c", group);
    snprintf(c, sizeof c, "%s%s", group, normed ? "adapter/c" : "alg1/c.0");
    snprintf(shapes, sizeof shapes, "%s:NE %s%s:ND", phi_c, c, raw ? "" : "?");
    if (!given_fits(in, shapes, size)) return NULL;
    Tensor phi = given_tensor(in, phi_c), c_prime = raw ? given_tensor(in, c) : phi;
    return eq9_contexts(in->ctx, u->cross, a->layer, u->cross_layers, phi, c_prime);
}

/* parameters.evaluation: which one, if not 0 */
static void walk_unet(const Given *in, const Pack *pack) {
    const Unet *u = pack->unet;
    int64_t size[26] = {['C' - 'A'] = u->in_channels};
    const int i =
        given_has_parameter(in, "evaluation") ? (int)given_whole(in, "evaluation", 0, 100000) : 0;
    char x[40], time[40], shapes[96];
    snprintf(x, sizeof x, "unet/%d/sample", i);
    snprintf(time, sizeof time, "unet/%d/t", i);
    snprintf(shapes, sizeof shapes, "%s:CHW %s:", x, time);
    if (!given_fits(in, shapes, size)) return;
    const bool guided = given_has(in, "uncond/adapter/phi_c");
    Prompts p = {.count = guided ? 2 : 1, .cfg_scale = guided ? given_number(in, "cfg_scale") : 1};
    p.cross = (CrossLayers){.original = u->cross,
                            .added = pack->adapter->layer,
                            .out_choice = pack->adapter->settings.out};
    for (int64_t b = 0; b < p.count; b++)
        p.cross.context[b] = read_prompt(in, pack, b ? "uncond/" : "");
    Tensor sample = given_map(in, x);
    const double t = given_scalar(in, time);
    if (!in->ctx->error.set) predict(in->ctx, u, i, t, sample, &p);
}

/* ---- a picture ------------------------------------------------------------------------------------ */

static void give_ids(const Given *in, const Pack *pack, const char *name, const char *text) {
    TokenIds ids = {0};
    int64_t dropped;
    if (prompt_ids(pack, text, strlen(text), &ids, &dropped, ERR(in)) == 0) {
        const int64_t n = (int64_t)ids.count;
        give_raw(in, name, DTYPE_I64, 1, &n, ids.id);
    }
    token_ids_free(&ids);
}

/* Image to image: the picture to begin from and, where the walk has one, the mask. */
static void read_image(const Given *in, Request *r) {
    int64_t size[26] = {['C' - 'A'] = 3};
    if (!given_has(in, "image_in") || !given_fits(in, "image_in:HWC mask_in?:HW", size)) return;
    r->height = SIZE('H');
    r->width = SIZE('W');
    r->strength = given_number(in, "strength");
    r->init_image = given_stored(in, "image_in")->data;
    if (given_has(in, "mask_in")) r->mask = given_stored(in, "mask_in")->data;
}

/* The prompts are read as texts, so that their ids are judged too. */
static void walk_picture(const Given *in, const Pack *pack) {
    Request r = request_default(pack);
    const char *prompt = given_text(in, "prompt"), *negative = given_text(in, "negative_prompt");
    const char *method = given_text(in, "sampling_method");
    if (!prompt)
        fail(ERR(in), "%s/manifest.json: %s: parameters.prompt: expected a text", in->kit_dir,
             in->group->name);
    r.prompt = prompt ? prompt : "";
    r.negative = negative ? negative : "";
    r.prompt_length = strlen(r.prompt);
    r.negative_length = strlen(r.negative);
    r.steps = given_whole(in, "steps", 1, 1000);
    r.cfg_scale = given_number(in, "cfg_scale");
    if (given_has_parameter(in, "width")) r.width = given_whole(in, "width", 1, 4096);
    if (given_has_parameter(in, "height")) r.height = given_whole(in, "height", 1, 4096);
    if (given_has_parameter(in, "eta")) r.eta = given_number(in, "eta");
    if (given_has_parameter(in, "clip_skip")) r.clip_skip = given_whole(in, "clip_skip", 0, 1000);
    read_image(in, &r);
    r.noise = in->group->inputs;
    r.sampler = method ? sampler_of_name(method) : SAMPLER_OWN;
    if (r.sampler == SAMPLER_KINDS)
        fail(ERR(in), "%s/manifest.json: %s: parameters.sampling_method: no sampler \"%.80s\"",
             in->kit_dir, in->group->name, method);
    if (in->ctx->error.set) return;
    Picture picture = {0};
    give_ids(in, pack, "ids", r.prompt);
    if (r.cfg_scale != 1) give_ids(in, pack, "uncond/ids", r.negative);
    generate(in->ctx, pack, &r, &picture);
    picture_free(&picture);
}

/* ---- which there are ------------------------------------------------------------------------------ */

void run_walk(const Given *in, KitKind kind) {
    if (in->text && kind != KIT_PICTURE)
        refuse_case(in, "text_encoder: expected one of pictures alone", in->c->text_encoder);
    const Pack pack = open_pack(in, kind);
    if (in->ctx->error.set) return;
    Force force = {0};
    const Forcing forcing = {force_from_file, &force};
    Given seen = *in;
    const Observer observer = {keep, &seen};
    in->ctx->observer = &observer;
    if (in->mode == KIT_FORCED) {
        force.file = safetensors_open(tensor_file_path(in->group->expected), ERR(in));
        in->ctx->forcing = &forcing;
    }
    if (!in->ctx->error.set) {
        if (kind == KIT_ALGORITHM1)
            walk_algorithm1(in, &pack);
        else if (kind == KIT_UNET)
            walk_unet(in, &pack);
        else
            walk_picture(in, &pack);
    }
    in->ctx->observer = NULL;
    in->ctx->forcing = NULL;
    safetensors_close((Safetensors *)(uintptr_t)force.file);
}
