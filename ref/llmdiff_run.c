/* One run: the request checked, its files read, the pipeline walked and watched. See llmdiff.h. */
#include "ref/force.h"
#include "ref/llmdiff_private.h"
#include "ref/trace.h"

#include <stdlib.h>
#include <string.h>

/* The members of version 0.1.0 end with `observe`. */
#define REQUEST_LEAST (offsetof(llmdiff_request, observe) + sizeof(void *))
#define THREADS_MAX 1024

/* ---- the request --------------------------------------------------------------------------------- */

static llmdiff_request defaults(void) {
    return (llmdiff_request){.size = sizeof(llmdiff_request),
                             .prompt = "",
                             .negative_prompt = "",
                             .steps = 20,
                             .cfg_scale = 7.5,
                             .seed = 42};
}

llmdiff_status llmdiff_request_default(llmdiff_request *request, size_t size) {
    if (!request || size < REQUEST_LEAST) return LLMDIFF_MISUSE;
    llmdiff_request all = defaults();
    all.size = size;
    memset(request, 0, size);
    memcpy(request, &all, size < sizeof all ? size : sizeof all);
    return LLMDIFF_OK;
}

llmdiff_status llmdiff_request_for(const llmdiff_pack *pack, llmdiff_request *request,
                                   size_t size) {
    if (!opened_for(pack, LLMDIFF_USE_GENERATE, &(Error){0})) return LLMDIFF_MISUSE;
    if (llmdiff_request_default(request, size)) return LLMDIFF_MISUSE;
    request->steps = pack->pack.steps;
    request->cfg_scale = pack->pack.cfg_scale;
    return LLMDIFF_OK;
}

/* What the caller asks for, complete and within its limits as far as no model is needed. */
static bool take_request(llmdiff_request *to, const llmdiff_request *from, Error *err) {
    *to = defaults();
    if (!take_struct(to, sizeof *to, REQUEST_LEAST, from, "llmdiff_request", err)) return false;
    if (!given(to->prompt, "llmdiff_request.prompt", err) ||
        !given(to->negative_prompt, "llmdiff_request.negative_prompt", err))
        return false;
    if (to->clip_skip < 0)
        fail(err, "--clip-skip: expected 0 or more, found %lld", (long long)to->clip_skip);
    if (to->preview_every < 0)
        fail(err, "--preview-every: expected 0 or more, found %lld", (long long)to->preview_every);
    if (to->threads < 0 || to->threads > THREADS_MAX)
        fail(err, "--threads: expected 0 to %d, found %d", THREADS_MAX, to->threads);
    if (to->trace_file && !has_ending(to->trace_file, ".safetensors"))
        fail(err, "--trace: expected a name that ends in .safetensors, found \"%s\"",
             to->trace_file);
    if (to->trace_only && !to->trace_file)
        fail(err, "--trace-only: expected a trace to choose for, --trace, found none");
    trace_check_only(to->trace_only, err);
    const llmdiff_tensor *latents = to->init_latents;
    if (latents && to->init_latents_file)
        fail(err, "init_latents and init_latents_file: expected one of them, found both");
    if (latents && !given(latents->data, "init_latents.data", err)) return false;
    if (latents && latents->dtype != LLMDIFF_F32 && latents->dtype != LLMDIFF_F64)
        fail(err, "init_latents.dtype: expected F32 or F64, found %d", (int)latents->dtype);
    if (latents && (latents->ndim < 0 || latents->ndim > LLMDIFF_MAX_DIMS))
        fail(err, "init_latents.ndim: expected 3 or 4, found %d", latents->ndim);
    return !err->set;
}

/* ---- a run and who watches it -------------------------------------------------------------------- */

typedef struct Run {
    const llmdiff_pack *handle;
    llmdiff_request asked;
    Request request;
    Safetensors *noise;
    real *init_latents;
    uint8_t *init_image, *mask;
    Safetensors *force_file;
    Force force;
    Forcing forcing;
    Trace *trace; /* or NULL */
    PackHash hash;
    Context ctx;
    const char *const *always; /* kept whatever `keep` says */
    llmdiff_result *result;
    bool stopped; /* a callback returned other than 0: none is called again */
} Run;

static bool is_cancelled(void *self) {
    Run *run = self;
    const llmdiff_request *r = &run->asked;
    if (!run->stopped && r->cancel && r->cancel(r->user)) run->stopped = true;
    return run->stopped;
}

static bool matches(const char *name, const char *const *patterns) {
    for (; patterns && *patterns; patterns++) {
        size_t n = strlen(*patterns);
        bool prefix = n && (*patterns)[n - 1] == '*';
        if (prefix ? strncmp(name, *patterns, n - 1) == 0 : strcmp(name, *patterns) == 0)
            return true;
    }
    return false;
}

static void show(Run *run, const llmdiff_tensor *t) {
    const llmdiff_request *r = &run->asked;
    if (run->stopped) return;
    bool wanted = matches(t->name, run->always) || matches(t->name, r->keep);
    if (wanted && result_keep(run->result, t))
        fail(&run->ctx.error, "out of memory keeping %s", t->name);
    if (run->trace) {
        StoredTensor stored = stored_tensor(t);
        trace_add(run->trace, &stored, &run->ctx.error);
    }
    if (r->observe && r->observe(r->user, t)) run->stopped = true;
}

static void see(void *self, const char *name, const real *data, int ndim, const int64_t *dim) {
    llmdiff_tensor t = {.name = name,
                        .dtype = sizeof(real) == 8 ? LLMDIFF_F64 : LLMDIFF_F32,
                        .ndim = ndim,
                        .data = data};
    for (int i = 0; i < ndim; i++) t.dim[i] = dim[i];
    show(self, &t);
}

/* The file is opened first: where it can't be written is better known before minutes of work. */
static int begin_trace(Run *run, Error *err) {
    const llmdiff_request *a = &run->asked;
    if (!a->trace_file) return 0;
    run->trace = trace_open(a->trace_file, a->trace_only, err);
    return run->trace ? 0 : -1;
}

static int end_trace(Run *run, const Request *r, Error *err) {
    Record record;
    if (!run->trace || record_fill_trace(&record, run->handle, &run->asked, r, &run->hash, err))
        return err->set ? -1 : 0;
    trace_close(run->trace, (const char *const *)record.text, err);
    run->trace = NULL;
    record_free(&record);
    return err->set ? -1 : 0;
}

/* Where the request asks for it: from now on the run goes on from the file's values. */
static int begin_forcing(Run *run, Error *err) {
    const char *path = run->asked.force_file;
    if (!path) return 0;
    run->force_file = safetensors_open(path, err);
    run->force = (Force){.file = run->force_file};
    run->forcing = (Forcing){force_from_file, &run->force};
    run->ctx.forcing = &run->forcing;
    return run->force_file ? 0 : -1;
}

/* A file of other names, or of another model, would otherwise pass for a forced run. */
static void check_forced(const Run *run, Error *err) {
    if (run->force_file && !run->force.forced)
        fail(err, "--force %s: expected names of activations, found none that occurs in this run",
             run->asked.force_file);
}

/* A picture on the way, as a result that lives for the callback. */
static void on_preview(void *self, int64_t done, int64_t of, const Picture *picture) {
    Run *run = self;
    const llmdiff_request *r = &run->asked;
    if (run->stopped || !r->preview) return;
    llmdiff_result result = {.picture = *picture, .magic = RESULT_MAGIC};
    if (record_fill(&result.record, run->handle, r, &run->request, &run->ctx.error)) return;
    if (r->preview(r->user, done, of, &result)) run->stopped = true;
    record_free(&result.record);
}

/* The token ids are no activation of the pipeline's, which knows numbers of type real alone. */
static void show_ids(Run *run, const char *name, const char *text) {
    TokenIds ids;
    if (!run->ctx.observer || run->ctx.error.set) return;
    int64_t dropped;
    if (prompt_ids(&run->handle->pack, text, strlen(text), &ids, &dropped, &run->ctx.error)) return;
    show(run, &(llmdiff_tensor){.name = name,
                                .dtype = LLMDIFF_I64,
                                .ndim = 1,
                                .dim = {(int64_t)ids.count},
                                .data = ids.id});
    token_ids_free(&ids);
}

static void on_progress(void *self, const char *stage, int64_t done, int64_t of) {
    Run *run = self;
    const llmdiff_request *r = &run->asked;
    if (run->stopped || run->ctx.error.set) return;
    if (r->progress && r->progress(r->user, stage, done, of)) run->stopped = true;
    if (strcmp(stage, "encode") == 0)
        show_ids(run, done ? "uncond/ids" : "ids", done ? r->negative_prompt : r->prompt);
}

/* ---- before and after ---------------------------------------------------------------------------- */

bool opened_for(const llmdiff_pack *pack, llmdiff_use use, Error *err) {
    static const char *const names[] = {"pictures", "encoding", "the tokenizer alone", "training"};
    if (!pack_alive(pack, err)) return false;
    const bool training = pack->use == LLMDIFF_USE_TRAIN || use == LLMDIFF_USE_TRAIN;
    if (training ? pack->use != use : pack->use > use) /* each of these has what follows it */
        fail(err, "pack: opened for %s, not for %s", names[pack->use], names[use]);
    return !err->set;
}

/* The method asked for, or the pack's own, by its name: that is what the record says. */
static int read_sampler(Request *r, const char *name, const Schedule *schedule, Error *err) {
    if (!name) {
        SamplerKind own = sampler_of_class(schedule->class_name);
        if (own != SAMPLER_KINDS) r->sampler = own; /* else sampler_new says what it expects */
        return 0;
    }
    r->sampler = sampler_of_name(name);
    if (r->sampler != SAMPLER_KINDS) return 0;
    return fail(err,
                "--sampling-method: expected ddpm, ddim, pndm, euler, euler_a or dpm++2m, found %s",
                name);
}

/* A PNG or JPEG of any size as RGB of width x height; 0 in both: of its own size, whole latents of it. */
static uint8_t *read_picture(const char *path, int64_t factor, int64_t *width, int64_t *height,
                             Error *err) {
    int64_t w, h;
    uint8_t *rgb = image_read(path, &w, &h, err);
    if (!rgb) return NULL;
    if (!*width) *width = w - w % factor;
    if (!*height) *height = h - h % factor;
    if (*width < factor || *height < factor || *width > 65536 || *height > 65536) {
        fail(err, "%s: a picture of %lld x %lld: expected at least %lld x %lld", path, (long long)w,
             (long long)h, (long long)factor, (long long)factor);
        free(rgb);
        return NULL;
    }
    uint8_t *resized = image_resize(rgb, w, h, 3, *width, *height, err);
    free(rgb);
    return resized;
}

/* Image to image: the picture decides the size where the request doesn't. */
static int read_pictures(Run *run, Request *r, Error *err) {
    const llmdiff_request *a = &run->asked;
    const int64_t factor = run->handle->pack.vae->factor;
    int64_t width = a->width, height = a->height;
    if (a->mask_file && !a->init_image_file)
        return fail(err, "--mask: expected a picture to keep, --init-img, found none");
    if (a->strength != 0 && !a->init_image_file)
        return fail(err, "--strength: expected a picture to begin from, --init-img, found none");
    if (!a->init_image_file) return 0;
    if (a->init_latents || a->init_latents_file)
        return fail(err, "--init-img and --init-latents: expected one of them, found both");
    if (width % factor || height % factor) return 0; /* request_check says it */
    run->init_image = read_picture(a->init_image_file, factor, &width, &height, err);
    if (a->mask_file && run->init_image) {
        run->mask = read_picture(a->mask_file, factor, &width, &height, err);
        if (run->mask) image_to_gray(run->mask, width * height);
    }
    r->width = width;
    r->height = height;
    r->init_image = run->init_image;
    r->mask = run->mask;
    r->strength = a->strength != 0 ? a->strength : a->mask_file ? 1 : 0.8;
    return err->set ? -1 : 0;
}

static int make_request(Run *run, Error *err) {
    const llmdiff_request *a = &run->asked;
    Request r = request_default(&run->handle->pack);
    r.prompt = a->prompt;
    r.prompt_length = strlen(a->prompt);
    r.negative = a->negative_prompt;
    r.negative_length = strlen(a->negative_prompt);
    if (a->width) r.width = a->width;
    if (a->height) r.height = a->height;
    if (read_sampler(&r, a->sampling_method, run->handle->pack.schedule, err)) return -1;
    r.steps = a->steps;
    r.cfg_scale = a->cfg_scale;
    r.eta = a->eta;
    r.clip_skip = a->clip_skip;
    r.seed = a->seed;
    r.vae_tiling = a->vae_tiling != 0;
    r.progress = on_progress;
    r.progress_self = run;
    r.preview_every = a->preview ? a->preview_every : 0;
    r.preview = on_preview;
    r.preview_self = run;
    if (read_pictures(run, &r, err)) return -1;
    run->request = r;
    return request_check(&run->request, &run->handle->pack, err);
}

static int read_inputs(Run *run, Error *err) {
    const llmdiff_request *a = &run->asked;
    Request *r = &run->request;
    if (a->init_latents || a->init_latents_file) {
        const Vae *vae = run->handle->pack.vae;
        const int64_t dim[3] = {vae->latent_channels, r->height / vae->factor,
                                r->width / vae->factor};
        r->init_latents = run->init_latents = latents_take(a, dim, err);
    }
    if (a->noise_file && !err->set) r->noise = run->noise = safetensors_open(a->noise_file, err);
    return err->set ? -1 : 0;
}

static void run_end(Run *run) {
    context_free(&run->ctx);
    safetensors_close(run->noise);
    safetensors_close(run->force_file);
    trace_discard(run->trace);
    pack_hash_free(&run->hash);
    free(run->init_latents);
    free(run->init_image);
    free(run->mask);
    llmdiff_result_free(run->result);
}

static int make_result(Run *run, Error *err) {
    run->result = calloc(1, sizeof *run->result);
    if (!run->result) return fail(err, "out of memory");
    run->result->magic = RESULT_MAGIC;
    return 0;
}

/* What a run of either kind needs besides its inputs. */
static int begin_run(Run *run, Error *err) {
    if (begin_forcing(run, err) || begin_trace(run, err)) return -1;
    if (run->trace && pack_hash(&run->handle->pack, is_cancelled, run, &run->hash, err)) return -1;
    return make_result(run, err);
}

/* The status of a run that is over, its result handed out or freed. */
static llmdiff_status conclude(Run *run, const Request *r, llmdiff_result **result, Error *err,
                               llmdiff_error *error) {
    if (run->ctx.error.set) fail(err, "%s", run->ctx.error.message);
    bool stopped = run->stopped;
    if (stopped) fail(err, "cancelled");
    if (!err->set) check_forced(run, err);
    if (!err->set) end_trace(run, r, err);
    if (!err->set) {
        run->result->peak_bytes = run->ctx.arena.peak;
        *result = run->result;
        run->result = NULL;
    }
    run_end(run);
    return stopped ? cancelled(error, err) : finished(error, err);
}

/* ---- encode -------------------------------------------------------------------------------------- */

llmdiff_status llmdiff_encode(const llmdiff_pack *pack, const llmdiff_request *request,
                              llmdiff_result **result, llmdiff_error *error) {
    static const char *const always[] = {"ids", "alg1/c.0", NULL};
    Error err = {0};
    Run run = {.handle = pack, .always = always};
    if (result) *result = NULL;
    if (!given(result, "result", &err) || !opened_for(pack, LLMDIFF_USE_ENCODE, &err) ||
        !take_request(&run.asked, request, &err))
        return misuse(error, &err);
    const llmdiff_request *a = &run.asked;
    Observer observer = {see, &run};
    run.ctx = (Context){.threads = a->threads,
                        .observer = &observer,
                        .cancelled = is_cancelled,
                        .cancelled_self = &run};
    if (a->noise_file) run.noise = safetensors_open(a->noise_file, &err);
    if (!err.set && begin_run(&run, &err) == 0) {
        Noise langevin = {rng_seed(a->seed), run.noise};
        on_progress(&run, "encode", 0, 1);
        encode(&run.ctx, &pack->pack, a->prompt, strlen(a->prompt), &langevin, "");
        on_progress(&run, "done", 1, 1);
        if (!run.ctx.error.set) record_fill(&run.result->record, pack, a, NULL, &err);
    }
    return conclude(&run, NULL, result, &err, error);
}

/* ---- generate ------------------------------------------------------------------------------------ */

/* CLIP leaves out what is too long. */
static int check_length(const Pack *pack, const char *text, Error *err) {
    TokenIds ids;
    int64_t dropped;
    if (pack->clip) return 0;
    if (prompt_ids(pack, text, strlen(text), &ids, &dropped, err)) return -1;
    const int64_t n = (int64_t)ids.count;
    token_ids_free(&ids);
    return llm_check_length(pack->llm, n, err);
}

llmdiff_status llmdiff_check(const llmdiff_pack *pack, const llmdiff_request *request,
                             llmdiff_error *error) {
    Error err = {0};
    Run run = {.handle = pack};
    if (!opened_for(pack, LLMDIFF_USE_GENERATE, &err) || !take_request(&run.asked, request, &err) ||
        make_request(&run, &err)) {
        run_end(&run);
        return misuse(error, &err);
    }
    const llmdiff_request *a = &run.asked;
    if (check_length(&pack->pack, a->prompt, &err) == 0 && a->cfg_scale != 1)
        check_length(&pack->pack, a->negative_prompt, &err);
    if (!err.set && read_inputs(&run, &err) == 0 && begin_forcing(&run, &err) == 0)
        begin_trace(&run, &err);
    run_end(&run);
    return finished(error, &err);
}

/* The final latents are the picture's; here they get the name that a trace gives them. */
static void name_latents(llmdiff_result *result) {
    snprintf(result->latents_name, sizeof result->latents_name, "latents/%lld",
             (long long)result->picture.evaluations);
    result->latents = (llmdiff_tensor){.name = result->latents_name,
                                       .dtype = sizeof(real) == 8 ? LLMDIFF_F64 : LLMDIFF_F32,
                                       .ndim = 3,
                                       .data = result->picture.latents};
    memcpy(result->latents.dim, result->picture.latent_dim, sizeof result->picture.latent_dim);
}

llmdiff_status llmdiff_generate(const llmdiff_pack *pack, const llmdiff_request *request,
                                llmdiff_result **result, llmdiff_error *error) {
    Error err = {0};
    Run run = {.handle = pack};
    if (result) *result = NULL;
    if (!given(result, "result", &err) || !opened_for(pack, LLMDIFF_USE_GENERATE, &err) ||
        !take_request(&run.asked, request, &err) || make_request(&run, &err)) {
        run_end(&run);
        return misuse(error, &err);
    }
    const llmdiff_request *a = &run.asked;
    Observer observer = {see, &run};
    run.ctx = (Context){.threads = a->threads,
                        .observer = a->keep || a->observe || a->trace_file ? &observer : NULL,
                        .cancelled = is_cancelled,
                        .cancelled_self = &run};
    if (read_inputs(&run, &err) == 0 && begin_run(&run, &err) == 0 &&
        generate(&run.ctx, &pack->pack, &run.request, &run.result->picture) == 0) {
        name_latents(run.result);
        record_fill(&run.result->record, pack, a, &run.request, &err);
    }
    return conclude(&run, &run.request, result, &err, error);
}
