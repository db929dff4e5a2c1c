/* llmdiff generate: from a prompt to a PNG. The walk itself is ref/pipeline.c; here stands what is
 * asked, what is checked before minutes are spent, and what is written. */
#include "ref/cli.h"
#include "ref/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct Job {
    const Options *o;
    PackPaths paths;
    Pack pack;
    Context ctx;
    Request request;
    char *prompt, *negative;
    real *init_latents;
    Safetensors *noise;
    Progress progress;
} Job;

/* "out.png" for picture 0, then "out_2.png", "out_3.png", ...; malloc'ed. */
static char *numbered(const char *path, int64_t picture, Error *err) {
    size_t room = strlen(path) + 32;
    char *name = malloc(room);
    if (!name) {
        fail(err, "out of memory");
        return NULL;
    }
    int stem = (int)(strrchr(path, '.') - path); /* check_outputs saw to it that there is one */
    if (picture == 0)
        snprintf(name, room, "%s", path);
    else
        snprintf(name, room, "%.*s_%lld%s", stem, path, (long long)picture + 1, path + stem);
    return name;
}

/* ---- before any work ----------------------------------------------------------------------------- */

static int check_names(const Options *o, Error *err) {
    if (!has_extension(o->output, ".png"))
        return fail(err, "--output: expected a name that ends in .png, found \"%s\"", o->output);
    if (o->save_latents && !has_extension(o->save_latents, ".npy") &&
        !has_extension(o->save_latents, ".safetensors"))
        return fail(err,
                    "--save-latents: expected a name that ends in .npy or .safetensors, found "
                    "\"%s\"",
                    o->save_latents);
    if (o->quiet && o->verbose)
        return fail(err, "--quiet and --verbose: expected one of them, found both");
    return 0;
}

/* Better now than after minutes of work. */
static int check_outputs(const Options *o, Error *err) {
    const char *names[] = {o->output, o->save_latents};
    for (int64_t i = 0; i < o->batch_count && !err->set; i++)
        for (int k = 0; k < 2 && !err->set; k++) {
            char *path = names[k] ? numbered(names[k], i, err) : NULL;
            if (path) cli_check_writable(path, err);
            free(path);
        }
    return err->set ? -1 : 0;
}

/* --sampling-method, or the pack's own, by its name: that is what the record says. */
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

static int make_request(Job *job, Error *err) {
    const Options *o = job->o;
    Request *r = &job->request;
    *r = request_default(&job->pack);
    if (o->width) r->width = o->width;
    if (o->height) r->height = o->height;
    r->prompt = job->prompt;
    r->prompt_length = strlen(job->prompt);
    r->negative = job->negative;
    r->negative_length = strlen(job->negative);
    if (read_sampler(r, o->sampling_method, job->pack.schedule, err)) return -1;
    r->steps = o->steps;
    r->cfg_scale = o->cfg_scale;
    r->eta = o->eta;
    r->progress = progress_report;
    r->progress_self = &job->progress;
    if (cli_seed(o->seed, &r->seed, err)) return -1;
    return request_check(r, &job->pack, err);
}

static int read_inputs(Job *job, Error *err) {
    const Options *o = job->o;
    Request *r = &job->request;
    const Vae *vae = job->pack.vae;
    if (o->init_latents) {
        const int64_t dim[3] = {vae->latent_channels, r->height / vae->factor,
                                r->width / vae->factor};
        r->init_latents = job->init_latents = latents_read(o->init_latents, dim, err);
    }
    if (o->noise && !err->set) r->noise = job->noise = safetensors_open(o->noise, err);
    return err->set ? -1 : 0;
}

/* ---- what should be known ------------------------------------------------------------------------ */

/* Whether the adapter's file says that it was trained for 0 steps. */
static bool never_trained(const Adapter *adapter) {
    Error none = {0}; /* a sharded adapter has no such file, and no such metadata */
    char *path = cli_join(model_path(adapter->files), "adapter.safetensors", &none);
    Safetensors *file = path ? safetensors_open(path, &none) : NULL;
    const char *step = file ? safetensors_metadata(file, "step") : NULL;
    bool never = step && strcmp(step, "0") == 0;
    safetensors_close(file);
    free(path);
    return never;
}

static void print_notes(const Job *job) {
    if (job->o->quiet) return;
    if (never_trained(job->pack.adapter))
        fprintf(stderr,
                "llmdiff: warning: %s was never trained (step 0): the picture can't follow the "
                "prompt\n",
                model_path(job->pack.adapter->files));
}

static void print_peak_memory(const Job *job) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    fprintf(stderr, "peak memory %.1f MB, of which activations %.1f MB\n",
            (double)usage.ru_maxrss * 1024 / 1e6, (double)job->ctx.arena.peak / 1e6);
}

/* ---- the pictures -------------------------------------------------------------------------------- */

static int write_latents(const Job *job, const Picture *picture, int64_t i, const Record *record,
                         Error *err) {
    char *path = numbered(job->o->save_latents, i, err), name[40];
    snprintf(name, sizeof name, "latents/%lld", (long long)picture->evaluations);
    if (path)
        latents_write(path, picture->latents, picture->latent_dim, name,
                      (const char *const *)record->text, err);
    free(path);
    return err->set ? -1 : 0;
}

static int write_picture(const Job *job, const Picture *picture, int64_t i, Error *err) {
    const Request *r = &job->request;
    Record record;
    char *path = numbered(job->o->output, i, err);
    if (path && record_fill(&record, job->o, &job->paths, &job->pack.adapter->settings, job->prompt,
                            r->seed, r, err) == 0) {
        if (job->o->save_latents) write_latents(job, picture, i, &record, err);
        if (!err->set)
            image_write_png(path, picture->rgb, picture->width, picture->height,
                            (const char *const *)record.text, err);
        record_free(&record);
    }
    if (!err->set) {
        printf("%s: %lld x %lld, seed %llu\n", path, (long long)picture->width,
               (long long)picture->height, (unsigned long long)r->seed);
        cli_flush(err); /* now, and not when the whole batch is done */
    }
    free(path);
    return err->set ? -1 : 0;
}

static int draw(Job *job, int64_t i, Error *err) {
    Picture picture;
    progress_start(&job->progress, i);
    int status = generate(&job->ctx, &job->pack, &job->request, &picture);
    progress_clear(&job->progress);
    if (status) return fail(err, "%s", job->ctx.error.message);
    if (job->o->verbose) progress_print_times(&job->progress);
    status = write_picture(job, &picture, i, err);
    picture_free(&picture);
    return status;
}

static int draw_all(Job *job, Error *err) {
    uint64_t seed = job->request.seed;
    for (int64_t i = 0; i < job->o->batch_count; i++) {
        job->request.seed = seed + (uint64_t)i;
        if (cli_cancelled(NULL) || draw(job, i, err)) return cli_failed(err);
    }
    return EXIT_OK;
}

/* ---- the command --------------------------------------------------------------------------------- */

static void print_settings(const Job *job) {
    cJSON *json = settings_to_json(&job->pack.adapter->settings);
    char *text = json ? cJSON_PrintUnformatted(json) : NULL;
    fprintf(stderr, "settings %s\n", text ? text : "?");
    cJSON_free(text);
    cJSON_Delete(json);
}

static int run(Job *job, Error *err) {
    const Options *o = job->o;
    if (check_names(o, err) || cli_settings(o, &(Settings){0}, err)) return EXIT_USAGE;
    job->prompt = cli_prompt(o, err);
    if (job->prompt) job->negative = cli_utf8(o->negative_prompt, err);
    if (err->set) return EXIT_USAGE;
    if (check_outputs(o, err)) return EXIT_FAILED;
    if (cli_pack_paths(o, GENERATE, &job->paths, err)) return EXIT_FAILED;
    double start = seconds_now();
    if (pack_open(&job->pack, &job->paths, PACK_GENERATE, err)) return cli_failed(err);
    double opened = seconds_now();
    if (make_request(job, err)) return EXIT_USAGE;
    if (read_inputs(job, err)) return EXIT_FAILED;
    print_notes(job);
    if (o->verbose) {
        print_settings(job);
        fprintf(stderr, "open %.2f s\n", opened - start);
    }
    int code = draw_all(job, err);
    if (o->verbose) print_peak_memory(job);
    return code;
}

int run_generate(const Options *o, Error *err) {
    Job job = {.o = o};
    job.progress = progress_new(o->quiet, o->batch_count);
    job.ctx.threads = (int)o->threads;
    job.ctx.cancelled = cli_cancelled;
    int code = run(&job, err);
    context_free(&job.ctx);
    pack_close(&job.pack);
    safetensors_close(job.noise);
    free(job.init_latents);
    free(job.prompt);
    free(job.negative);
    return code;
}
