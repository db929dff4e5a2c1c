/* llmdiff generate: from a prompt to a PNG. The walk itself is ref/pipeline.c; here stands what is
 * asked, what is checked before minutes are spent, and what is written. */
#include "ref/cli.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct Job {
    const Options *o;
    llmdiff_pack *pack;
    llmdiff_request request;
    char *prompt;
    Progress progress;
    size_t peak_bytes;
    char *writing;               /* the picture that is being drawn goes there */
    llmdiff_error preview_error; /* why a preview could not be written */
} Job;

/* "out.png" for picture 0, then "out_2.png", "out_3.png", ...; malloc'ed. */
static char *numbered(const char *path, int64_t picture, llmdiff_error *err) {
    size_t room = strlen(path) + 32;
    char *name = malloc(room);
    if (!name) {
        cli_fail(err, "out of memory");
        return NULL;
    }
    int stem = (int)(strrchr(path, '.') - path); /* check_outputs saw to it that there is one */
    if (picture == 0)
        snprintf(name, room, "%s", path);
    else
        snprintf(name, room, "%.*s_%lld%s", stem, path, (long long)picture + 1, path + stem);
    return name;
}

/* "out_step3.png" beside "out.png"; malloc'ed. */
static char *preview_name(const char *path, int64_t step, llmdiff_error *err) {
    size_t room = strlen(path) + 32;
    char *name = malloc(room);
    int stem = (int)(strrchr(path, '.') - path);
    if (name)
        snprintf(name, room, "%.*s_step%lld%s", stem, path, (long long)step, path + stem);
    else
        cli_fail(err, "out of memory");
    return name;
}

/* ---- before any work ----------------------------------------------------------------------------- */

static int check_names(const Options *o, llmdiff_error *err) {
    if (!has_extension(o->output, ".png"))
        return cli_fail(err, "--output: expected a name that ends in .png, found \"%s\"",
                        o->output);
    if (o->save_latents && !has_extension(o->save_latents, ".npy") &&
        !has_extension(o->save_latents, ".safetensors"))
        return cli_fail(err,
                        "--save-latents: expected a name that ends in .npy or .safetensors, found "
                        "\"%s\"",
                        o->save_latents);
    if (cli_check_trace(o, err)) return -1;
    if (o->quiet && o->verbose)
        return cli_fail(err, "--quiet and --verbose: expected one of them, found both");
    return 0;
}

/* The traces and the latents are of one kind: picture 2's trace could be picture 1's latents. */
static int check_trace_names(const Options *o, llmdiff_error *err) {
    if (!o->trace || !o->save_latents) return 0;
    for (int64_t i = 0; i < o->batch_count && !err->status; i++) {
        char *trace = numbered(o->trace, i, err), *latents = numbered(o->save_latents, i, err);
        if (!err->status) cli_check_apart("--trace", trace, "--save-latents", o->save_latents, err);
        if (!err->status) cli_check_apart("--trace", o->trace, "--save-latents", latents, err);
        free(trace);
        free(latents);
    }
    return err->status ? -1 : 0;
}

/* A preview's name has a step's number, of which there may be many: the input's own is asked for. */
static void check_preview(const Options *o, const char *picture, const CliInput *in,
                          llmdiff_error *err) {
    const char *step = in->path;
    for (const char *next; step && (next = strstr(step + 1, "_step"));) step = next;
    if (!o->preview_every || !step || step == in->path || err->status) return;
    const int64_t number = strtoll(step + strlen("_step"), NULL, 10);
    if (number % o->preview_every) return;
    char *name = preview_name(picture, number, err);
    if (name) cli_check_inputs("--preview-every", name, in, 1, err);
    free(name);
}

/* Every picture of a batch has files of its own. */
static int check_inputs(const Options *o, llmdiff_error *err) {
    static const char *const flags[] = {"--output", "--save-latents", "--trace"};
    const char *names[] = {o->output, o->save_latents, o->trace};
    CliInput in[RUN_INPUTS];
    cli_run_inputs(o, in);
    for (int64_t i = 0; i < o->batch_count && !err->status; i++)
        for (int f = 0; f < 3 && !err->status; f++) {
            char *path = names[f] ? numbered(names[f], i, err) : NULL;
            if (path) cli_check_inputs(flags[f], path, in, RUN_INPUTS, err);
            for (int n = 0; path && f == 0 && n < RUN_INPUTS; n++)
                check_preview(o, path, &in[n], err);
            free(path);
        }
    return err->status ? -1 : 0;
}

/* Better now than after minutes of work. */
static int check_outputs(const Options *o, llmdiff_error *err) {
    const char *names[] = {o->output, o->save_latents, o->trace};
    for (int64_t i = 0; i < o->batch_count && !err->status; i++)
        for (int k = 0; k < 3 && !err->status; k++) {
            char *path = names[k] ? numbered(names[k], i, err) : NULL;
            if (path) llmdiff_check_output(path, err);
            free(path);
        }
    return err->status ? -1 : 0;
}

static int on_progress(void *user, const char *stage, int64_t done, int64_t of) {
    return progress_report(&((Job *)user)->progress, stage, done, of);
}

/* A preview that can't be written ends the run: the picture itself couldn't be either. */
static int on_preview(void *user, int64_t done, int64_t of, const llmdiff_result *picture) {
    Job *job = user;
    (void)of;
    char *name = job->writing ? preview_name(job->writing, done, &job->preview_error) : NULL;
    if (name) llmdiff_save_png(picture, name, &job->preview_error);
    free(name);
    return job->preview_error.status != LLMDIFF_OK;
}

static int make_request(Job *job, llmdiff_error *err) {
    const Options *o = job->o;
    llmdiff_request *r = &job->request;
    llmdiff_request_default(r, sizeof *r);
    r->prompt = job->prompt;
    r->negative_prompt = o->negative_prompt;
    r->width = o->width;
    r->height = o->height;
    r->sampling_method = o->sampling_method;
    r->steps = o->steps;
    r->cfg_scale = o->cfg_scale;
    r->eta = o->eta;
    r->clip_skip = o->clip_skip;
    r->init_image_file = o->init_image;
    r->strength = o->strength;
    r->mask_file = o->mask;
    r->vae_tiling = o->vae_tiling;
    r->preview_every = o->preview_every;
    r->preview = on_preview;
    r->threads = (int)o->threads;
    r->init_latents_file = o->init_latents;
    r->noise_file = o->noise;
    r->force_file = o->force;
    r->trace_only = o->trace_only;
    r->user = job;
    r->progress = on_progress;
    r->cancel = cli_cancelled;
    return cli_seed(o->seed, &r->seed, err);
}

/* ---- what should be known ------------------------------------------------------------------------ */

static void print_notes(const Job *job) {
    const char *note;
    for (size_t i = 0; !job->o->quiet && (note = llmdiff_note(job->pack, i)) != NULL; i++)
        fprintf(stderr, "llmdiff: %s\n", note);
}

static void print_peak_memory(const Job *job) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    fprintf(stderr, "peak memory %.1f MB, of which activations %.1f MB\n",
            (double)usage.ru_maxrss * 1024 / 1e6, (double)job->peak_bytes / 1e6);
}

/* ---- the pictures -------------------------------------------------------------------------------- */

static int write_latents(const Job *job, const llmdiff_result *result, int64_t i,
                         llmdiff_error *err) {
    const char *names[] = {llmdiff_latents(result)->name, NULL};
    char *path = numbered(job->o->save_latents, i, err);
    if (path) llmdiff_save_tensors(result, path, names, err);
    free(path);
    return err->status ? -1 : 0;
}

static int write_picture(const Job *job, const llmdiff_result *result, int64_t i,
                         llmdiff_error *err) {
    char *path = numbered(job->o->output, i, err);
    if (path && job->o->save_latents) write_latents(job, result, i, err);
    if (!err->status && llmdiff_save_png(result, path, err) == LLMDIFF_OK) {
        printf("%s: %lld x %lld, seed %llu\n", path, (long long)llmdiff_width(result),
               (long long)llmdiff_height(result), (unsigned long long)job->request.seed);
        cli_flush(err); /* now, and not when the whole batch is done */
    }
    free(path);
    return err->status ? -1 : 0;
}

static int draw(Job *job, int64_t i, llmdiff_error *err) {
    llmdiff_result *result = NULL;
    llmdiff_status status = LLMDIFF_FAILED;
    job->writing = numbered(job->o->output, i, err);
    char *trace = job->o->trace ? numbered(job->o->trace, i, err) : NULL;
    if (!err->status) {
        job->request.trace_file = trace;
        progress_start(&job->progress, i);
        status = llmdiff_generate(job->pack, &job->request, &result, err);
        progress_clear(&job->progress);
    }
    free(job->writing);
    free(trace);
    job->writing = NULL;
    job->request.trace_file = NULL;
    if (job->preview_error.status) *err = job->preview_error;
    if (status) return -1;
    if (llmdiff_dropped_tokens(result) && !job->o->quiet)
        fprintf(stderr,
                "llmdiff: note: the prompt has %lld tokens more than CLIP reads; its end was left "
                "out\n",
                (long long)llmdiff_dropped_tokens(result));
    if (job->o->verbose) progress_print_times(&job->progress);
    if (llmdiff_peak_bytes(result) > job->peak_bytes) job->peak_bytes = llmdiff_peak_bytes(result);
    int written = write_picture(job, result, i, err);
    llmdiff_result_free(result);
    return written;
}

static int draw_all(Job *job, llmdiff_error *err) {
    uint64_t seed = job->request.seed;
    for (int64_t i = 0; i < job->o->batch_count; i++) {
        job->request.seed = seed + (uint64_t)i;
        if (cli_cancelled(NULL) || draw(job, i, err)) return cli_failed(err);
    }
    return EXIT_OK;
}

/* ---- the command --------------------------------------------------------------------------------- */

static int run(Job *job, llmdiff_error *err) {
    const Options *o = job->o;
    llmdiff_options options;
    if (check_names(o, err) || check_trace_names(o, err) || check_inputs(o, err) ||
        cli_check_settings(o, err))
        return EXIT_USAGE;
    job->prompt = cli_prompt(o, err);
    if (!job->prompt) return EXIT_USAGE;
    if (check_outputs(o, err) || cli_pack(o, GENERATE, &options, err)) return EXIT_FAILED;
    double start = seconds_now();
    if (llmdiff_open(&options, &job->pack, err)) return cli_failed(err);
    double opened = seconds_now();
    if (make_request(job, err)) return EXIT_FAILED;
    job->request.trace_file = o->trace; /* draw puts the picture's own in its place */
    if (llmdiff_check(job->pack, &job->request, err)) return cli_code(err);
    print_notes(job);
    if (o->verbose)
        fprintf(stderr, "settings %s\nopen %.2f s\n", llmdiff_settings(job->pack), opened - start);
    int code = draw_all(job, err);
    if (o->verbose) print_peak_memory(job);
    return code;
}

int run_generate(const Options *o, llmdiff_error *err) {
    Job job = {.o = o, .progress = progress_new(o->quiet, o->batch_count)};
    int code = run(&job, err);
    llmdiff_close(job.pack);
    free(job.prompt);
    return code;
}
