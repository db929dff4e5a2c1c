/* The kit's modules: parts of the models, each with the shapes that it asks for. Here are those from a
 * prompt to its encoding, guidance and the samplers; run_unet.c and run_vae.c have the others. See
 * run.h. */
#include "ref/yardstick/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ERR(in) (&(in)->ctx->error)
#define LETTER(letter) [(letter) - 'A']

void refuse_case(const Given *in, const char *what, const char *found) {
    fail(ERR(in), "%s/manifest.json: %s/%s: %s, found \"%.120s\"", in->kit_dir, in->group->name,
         in->c->name, what, found ? found : "nothing");
}

/* ---- tokens, the LLM ------------------------------------------------------------------------------ */

/* The ids as Algorithm 1 reads them, the begin token first; CLIP's tokenizer pads. */
static void run_tokenizer(const Given *in) {
    const Tokenizer *t = models_tokenizer(in->models, ERR(in));
    const char *text = given_text(in, "text");
    TokenIds ids = {0};
    size_t dropped;
    if (!text) refuse_case(in, "parameters.text: expected a text", NULL);
    if (in->ctx->error.set) return;
    const bool pads = strcmp(tokenizer_kind(t), "CLIP BPE") == 0;
    const int64_t places = tokenizer_max_length(t);
    const int status =
        pads ? tokenizer_encode_padded(t, text, strlen(text), places < 2 ? 77 : (size_t)places,
                                       &ids, &dropped, ERR(in))
             : tokenizer_encode(t, text, strlen(text), true, &ids, ERR(in));
    const int64_t n = (int64_t)ids.count;
    if (status == 0) give_raw(in, "ids", DTYPE_I64, 1, &n, ids.id);
    token_ids_free(&ids);
}

static void run_llm_embedding(const Given *in) {
    const Llm *llm = models_llm(in->models, ERR(in));
    int64_t size[26] = {0}, n = 0;
    if (!llm || !given_fits(in, "ids:N", size)) return;
    const int64_t *ids = given_ids(in, "ids", &n);
    if (ids) give(in, "y", llm_embedding(in->ctx, llm, ids, n));
}

static void run_llm_block(const Given *in) {
    const Llm *llm = models_llm(in->models, ERR(in));
    if (!llm) return;
    int64_t size[26] = {LETTER('D') = llm->D};
    const int64_t l = given_whole(in, "l", 0, llm->T - 1);
    if (!given_fits(in, "x:ND", size)) return;
    if (SIZE('N') > llm->max_positions) refuse_case(in, "x: too many tokens for the LLM", "more");
    Tensor x = given_tensor(in, "x");
    if (!x.data) return;
    LlmScores s = llm_block(in->ctx, llm, l, x);
    give(in, "x_next", s.x_next);
    give(in, "s_sentence", s.s_sentence);
    give(in, "s_word", s.s_word);
}

/* ---- Algorithm 1, phi, CLIP ----------------------------------------------------------------------- */

/* The choices of a step stand among the case's parameters, under their own names. */
static Settings read_choices(const Given *in) {
    static const char *const keys[] = {"score", "word_score", "noise", "g_scale", "h_scale"};
    Settings s = settings_default();
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && !in->ctx->error.set; i++) {
        const cJSON *value = cJSON_GetObjectItemCaseSensitive(in->c->parameters, keys[i]);
        if (value) settings_set(&s, keys[i], value, in->c->name, ERR(in));
    }
    return s;
}

static void run_step(const Given *in) {
    const Settings choice = read_choices(in);
    const bool difference = choice.score == SCORE_DIFFERENCE;
    char shapes[96];
    int64_t size[26] = {0};
    snprintf(shapes, sizeof shapes, "c:ND s_sentence:ND s_word%s:ND before%s:ND eps%s:ND",
             choice.word_score ? "" : "?", difference ? "" : "?", choice.noise ? "" : "?");
    if (!given_fits(in, shapes, size)) return;
    LlmScores s = {.s_sentence = given_tensor(in, "s_sentence")};
    if (choice.word_score) s.s_word = given_tensor(in, "s_word");
    const Tensor before = difference ? given_tensor(in, "before") : (Tensor){0};
    const Tensor eps = choice.noise ? given_tensor(in, "eps") : (Tensor){0};
    const double g = given_scalar(in, "g"), h = choice.noise ? given_scalar(in, "h") : 0;
    Tensor c = given_tensor(in, "c");
    if (in->ctx->error.set) return;
    give(in, "delta", alg1_step(in->ctx, &choice, g, h, s, before, eps, c));
    give(in, "c_next", c);
}

static void run_rms(const Given *in) {
    Settings choice = settings_default();
    int64_t size[26] = {0};
    choice.normalize = NORMALIZE_RMS;
    if (given_fits(in, "c:ND", size))
        give(in, "y", alg1_normalize(in->ctx, given_tensor(in, "c"), &choice));
}

static void run_phi(const Given *in) {
    const Adapter *a = models_adapter(in->models, in->c, ERR(in));
    if (!a) return;
    int64_t size[26] = {LETTER('D') = a->D};
    if (given_fits(in, "c:ND", size))
        give(in, "y", linear(in->ctx, given_tensor(in, "c"), a->phi.w, a->phi.b));
}

/* Gives what is shown under "text/". */
static void see_text(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    const Dtype dtype = sizeof(real) == sizeof(double) ? DTYPE_F64 : DTYPE_F32;
    if (strncmp(name, "text/", 5) == 0) give_raw(self, name + 5, dtype, ndim, dim, data);
}

static void run_clip(const Given *in) {
    const ClipText *clip = models_clip(in->models, ERR(in));
    int64_t size[26] = {0}, n = 0;
    if (!clip || !given_fits(in, "ids:N", size)) return;
    const int64_t skip =
        given_has_parameter(in, "clip_skip") ? given_whole(in, "clip_skip", 0, clip->layers) : 0;
    const int64_t *ids = given_ids(in, "ids", &n);
    Given seen = *in;
    const Observer observer = {see_text, &seen};
    in->ctx->observer = &observer;
    if (!in->ctx->error.set) clip_text_encode(in->ctx, clip, ids, n, skip, "");
    in->ctx->observer = NULL;
}

/* ---- guidance, samplers --------------------------------------------------------------------------- */

static void run_guidance(const Given *in) {
    int64_t size[26] = {0};
    const double s = given_number(in, "cfg_scale");
    if (!given_fits(in, "cond:CHW uncond:CHW", size)) return;
    Tensor cond = given_tensor(in, "cond"), uncond = given_tensor(in, "uncond");
    if (!in->ctx->error.set) give(in, "y", guidance(in->ctx, cond, uncond, s));
}

/* Evaluation i of a U-Net that puts out what the kit says. */
static Tensor sampler_turn(const Given *in, Sampler *s, int64_t i, Tensor z, int64_t *size) {
    char eps[24], noise[24], shown[24], shapes[64];
    snprintf(eps, sizeof eps, "eps.%d", (int)i);
    snprintf(noise, sizeof noise, "noise.%d", (int)i);
    snprintf(shown, sizeof shown, "sample.%d", (int)i);
    give_as_map(in, shown, sampler_scale_input(in->ctx, s, i, z));

    const bool wants = sampler_wants_noise(s, i);
    snprintf(shapes, sizeof shapes, "%s:CHW %s%s:CHW", eps, noise, wants ? "" : "?");
    if (!given_fits(in, shapes, size)) return (Tensor){0};
    Tensor drawn = wants ? given_map(in, noise) : (Tensor){0};
    z = sampler_step(in->ctx, s, i, given_map(in, eps), z, drawn);
    snprintf(shown, sizeof shown, "latents.%d", (int)i + 1);
    give_as_map(in, shown, z);
    return z;
}

static void give_timesteps(const Given *in, const Sampler *s) {
    const int64_t n = sampler_evaluations(s);
    double *t = arena_alloc(&in->ctx->arena, (size_t)n * sizeof *t);
    if (!t) fail(ERR(in), "out of memory for %lld timesteps", (long long)n);
    for (int64_t i = 0; t && i < n; i++) t[i] = sampler_timestep(s, i);
    if (t) give_doubles(in, "timesteps", n, t);
}

static void run_sampler(const Given *in) {
    const Schedule *schedule = models_schedule(in->models, ERR(in));
    const char *method = given_text(in, "sampler");
    const SamplerKind kind = method ? sampler_of_name(method) : SAMPLER_OWN;
    const int64_t steps = given_whole(in, "steps", 1, 1000);
    const double eta = given_has_parameter(in, "eta") ? given_number(in, "eta") : 0;
    int64_t size[26] = {0};
    if (kind == SAMPLER_KINDS)
        refuse_case(in, "parameters.sampler: expected ddpm, ddim, pndm, euler, euler_a or dpm++2m",
                    method);
    if (in->ctx->error.set || !given_fits(in, "latents:CHW", size)) return;
    Sampler *s = sampler_new(schedule, kind, steps, eta, ERR(in));
    if (!s) return;
    give_timesteps(in, s);
    Tensor z = scale(in->ctx, given_map(in, "latents"), sampler_init_noise_sigma(s));
    for (int64_t i = 0; i < sampler_evaluations(s) && !in->ctx->error.set; i++)
        z = sampler_turn(in, s, i, z, size);
    sampler_free(s);
}

/* ---- which there are ------------------------------------------------------------------------------ */

static const Module modules[] = {
    {"tokenizer", run_tokenizer},    {"llm/embedding", run_llm_embedding},
    {"llm/block", run_llm_block},    {"algorithm1/step", run_step},
    {"algorithm1/rms", run_rms},     {"adapter/phi", run_phi},
    {"clip/text_encoder", run_clip}, {"guidance", run_guidance},
    {"sampler", run_sampler},        {NULL, NULL}};

static bool needs_no_pack(const char *name) {
    return strncmp(name, "algorithm1/", 11) == 0 || strncmp(name, "image/", 6) == 0 ||
           strcmp(name, "guidance") == 0;
}

void run_module(const Given *in) {
    const Module *const tables[] = {modules, unet_modules, vae_modules};
    const Module *m = NULL;
    for (size_t i = 0; i < 3 && !m; i++)
        for (const Module *p = tables[i]; p->name && !m; p++)
            if (strcmp(p->name, in->c->runs) == 0) m = p;
    if (!m)
        refuse_case(in, "module: expected one that this program knows", in->c->runs);
    else if (!in->models && !needs_no_pack(m->name))
        refuse_case(in, "pack: expected the pack that the module is of", NULL);
    else
        m->run(in);
}
