/* llmdiff generate: from prompts to PNGs. The walk itself is ref/pipeline.c; here stands what is
 * asked, what is checked before minutes are spent, and what is written. Picture k is of prompt k / b,
 * b the batch count, with seed + k % b; of several processes rank k % ranks draws it. */
#include "ref/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct Job {
    const Options *o;
    llmdiff_pack *pack;
    llmdiff_request request;
    CliPrompts prompts;
    CliPictures pictures;
    uint64_t seed; /* of each prompt's first picture */
    Progress progress;
    size_t peak_bytes;
    char *writing;                /* the picture that is being drawn goes there */
    llmdiff_error callback_error; /* why a preview, or a line, could not be written */
    char **
        line; /* on rank 0 [pictures.count]: said of a picture, and not yet printed, as one before it isn't */
    int64_t printed;
} Job;

/* ---- what is asked ------------------------------------------------------------------------------- */

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

/* ---- what is said of each picture, in their order -------------------------------------------------- */

/* As far as there is no gap or, after a failure, whatever there is. On rank 0. */
static void print_lines(Job *job, bool with_gaps) {
    for (int64_t *i = &job->printed; *i < job->pictures.count && (job->line[*i] || with_gaps);
         ++*i) {
        if (!job->line[*i]) continue;
        fputs(job->line[*i], stdout);
        free(job->line[*i]);
        job->line[*i] = NULL;
    }
    cli_flush(&job->callback_error); /* now, and not when all are done */
}

static void on_line(void *self, int64_t picture, const char *line) {
    Job *job = self;
    job->line[picture] = strdup(line);
    if (!job->line[picture]) cli_fail(&job->callback_error, "out of memory");
    print_lines(job, false);
}

static void on_heard(void *self, int64_t picture, const char *line) {
    progress_clear(&((Job *)self)->progress);
    on_line(self, picture, line);
}

static int say(Job *job, int64_t picture, const char *line, llmdiff_error *err) {
    if (job->o->team->rank > 0)
        team_tell(job->o->team, picture, line);
    else
        on_line(job, picture, line);
    if (job->callback_error.status) *err = job->callback_error;
    return err->status ? -1 : 0;
}

/* ---- callbacks --------------------------------------------------------------------------------------- */

static int must_stop(void *self) {
    return cli_cancelled(NULL) || ((Job *)self)->callback_error.status != LLMDIFF_OK;
}

static TeamIdle idle_of(Job *job) { return (TeamIdle){job, must_stop, on_heard}; }

static int on_cancel(void *user) {
    Job *job = user;
    const TeamIdle idle = idle_of(job);
    team_hear(job->o->team, &idle);
    return must_stop(job) || team_stopped(job->o->team);
}

static int on_progress(void *user, const char *stage, int64_t done, int64_t of) {
    return progress_report(&((Job *)user)->progress, stage, done, of);
}

static int64_t enlargement(const Job *job, const llmdiff_result *picture) {
    return job->o->enlarge ? job->o->enlarge : llmdiff_enlargement(picture);
}

/* A preview that can't be written ends the run: the picture itself couldn't be either. */
static int on_preview(void *user, int64_t done, int64_t of, const llmdiff_result *picture) {
    Job *job = user;
    (void)of;
    char *name = job->writing ? cli_preview_name(job->writing, done, &job->callback_error) : NULL;
    if (name)
        llmdiff_save_png_enlarged(picture, name, enlargement(job, picture), &job->callback_error);
    free(name);
    return job->callback_error.status != LLMDIFF_OK;
}

static void make_request(Job *job) {
    const Options *o = job->o;
    llmdiff_request *r = &job->request;
    llmdiff_request_for(job->pack, r, sizeof *r);
    r->negative_prompt = o->negative_prompt;
    r->width = o->width;
    r->height = o->height;
    r->sampling_method = o->sampling_method;
    if (o->steps) r->steps = o->steps;
    if (!isnan(o->cfg_scale)) r->cfg_scale = o->cfg_scale;
    r->eta = o->eta;
    r->clip_skip = o->clip_skip;
    r->init_image_file = o->init_image;
    r->strength = o->strength;
    r->mask_file = o->mask;
    r->vae_tiling = o->vae_tiling;
    r->preview_every = o->preview_every;
    r->preview = on_preview;
    r->threads = o->threads ? (int)o->threads : o->team->threads;
    r->init_latents_file = o->init_latents;
    r->noise_file = o->noise;
    r->force_file = o->force;
    r->trace_only = o->trace_only;
    r->user = job;
    r->progress = on_progress;
    r->cancel = on_cancel;
}

/* The request for picture k. */
static void choose(Job *job, int64_t k) {
    job->request.prompt = job->prompts.prompt[k / job->o->batch_count];
    job->request.seed = job->seed + (uint64_t)(k % job->o->batch_count);
}

/* Which of many prompts was wrong. */
static void name_prompt(const Job *job, int64_t k, llmdiff_error *err) {
    if (job->prompts.count < 2 || !err->status || err->status == LLMDIFF_CANCELLED) return;
    const llmdiff_error found = *err;
    snprintf(err->message, sizeof err->message, "--prompt-file %.4000s, line %lld: %.4000s",
             job->o->prompt_file, (long long)job->prompts.line[k / job->o->batch_count],
             found.message);
}

/* Each prompt once; before them what has nothing to do with any. */
static int check_requests(Job *job, llmdiff_error *err) {
    const char *checked = NULL;
    job->request.trace_file = job->o->trace; /* draw puts the picture's own in its place */
    job->request.prompt = "";
    if (job->prompts.count > 1 && llmdiff_check(job->pack, &job->request, err)) return -1;
    for (int64_t k = job->pictures.first; k < job->pictures.count; k += job->pictures.step) {
        choose(job, k);
        if (job->request.prompt == checked) continue;
        checked = job->request.prompt;
        if (llmdiff_check(job->pack, &job->request, err)) {
            name_prompt(job, k, err);
            return -1;
        }
    }
    return 0;
}

/* ---- what should be known ------------------------------------------------------------------------ */

static void print_notes(const Job *job) {
    const Team *team = job->o->team;
    const char *note;
    if (team->rank > 0) return;
    if (team->note[0] && !job->o->quiet && !job->o->threads)
        fprintf(stderr, "llmdiff: %s\n", team->note);
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
    char *path = cli_numbered(job->o->save_latents, i, err);
    if (path) llmdiff_save_tensors(result, path, names, err);
    free(path);
    return err->status ? -1 : 0;
}

static int write_picture(Job *job, const llmdiff_result *result, int64_t i, llmdiff_error *err) {
    char *path = cli_numbered(job->o->output, i, err);
    if (path && job->o->save_latents) write_latents(job, result, i, err);
    const size_t room = path ? strlen(path) + 160 : 0;
    char *line = path ? malloc(room) : NULL;
    if (path && !line) cli_fail(err, "out of memory");
    const long long w = llmdiff_width(result), h = llmdiff_height(result);
    const long long n = enlargement(job, result);
    if (!err->status && llmdiff_save_png_enlarged(result, path, n, err) == LLMDIFF_OK) {
        const int used = snprintf(line, room, "%s: %lld x %lld, seed %llu", path, w, h,
                                  (unsigned long long)job->request.seed);
        char *end = line + used;
        if (n > 1) end += sprintf(end, ", enlarged to %lld x %lld", n * w, n * h);
        strcpy(end, "\n");
        say(job, i, line, err);
    }
    free(line);
    free(path);
    return err->status ? -1 : 0;
}

static int draw(Job *job, int64_t i, llmdiff_error *err) {
    llmdiff_result *result = NULL;
    llmdiff_status status = LLMDIFF_FAILED;
    job->writing = cli_numbered(job->o->output, i, err);
    char *trace = job->o->trace ? cli_numbered(job->o->trace, i, err) : NULL;
    if (!err->status) {
        choose(job, i);
        job->request.trace_file = trace;
        progress_start(&job->progress, i);
        status = llmdiff_generate(job->pack, &job->request, &result, err);
        progress_clear(&job->progress);
    }
    free(job->writing);
    free(trace);
    job->writing = NULL;
    job->request.trace_file = NULL;
    if (job->callback_error.status) *err = job->callback_error;
    if (status) {
        name_prompt(job, i, err);
        return -1;
    }
    if (llmdiff_dropped_tokens(result) && !job->o->quiet)
        fprintf(stderr,
                "llmdiff: note: the prompt has %lld tokens more than CLIP reads; its end was left "
                "out\n",
                (long long)llmdiff_dropped_tokens(result));
    if (job->o->verbose && job->o->team->rank == 0) progress_print_times(&job->progress);
    if (llmdiff_peak_bytes(result) > job->peak_bytes) job->peak_bytes = llmdiff_peak_bytes(result);
    int written = write_picture(job, result, i, err);
    llmdiff_result_free(result);
    return written;
}

static int draw_all(Job *job, llmdiff_error *err) {
    Team *team = job->o->team;
    const TeamIdle idle = idle_of(job);
    team_part(team);
    for (int64_t k = job->pictures.first; k < job->pictures.count; k += job->pictures.step) {
        if (must_stop(job)) cli_fail(err, "cancelled");
        if (err->status || team_stopped(team) || draw(job, k, err)) break;
    }
    int status = team_meet(team, &idle, err);
    if (team->rank == 0) print_lines(job, true);
    if (job->callback_error.status) *err = job->callback_error;
    return status || err->status ? cli_failed(err) : EXIT_OK;
}

/* ---- the command --------------------------------------------------------------------------------- */

/* What all processes have in common: each comes to the same calls, with an error or without. An exit code. */
static int take_input(Job *job, llmdiff_error *err) {
    const Options *o = job->o;
    check_names(o, err);
    cli_prompts(o, &job->prompts, err);
    const int code = err->status ? EXIT_USAGE : EXIT_FAILED;
    if (cli_seed(o, &job->seed, err)) return code;
    const int64_t count = job->prompts.count * o->batch_count;
    int64_t first = count;
    team_share(o->team, &first, sizeof first);
    if (count != first)
        return cli_fail(err, "expected %lld pictures, as rank 0, found %lld", (long long)first,
                        (long long)count),
               EXIT_USAGE;
    job->pictures = (CliPictures){o->team->rank, o->team->ranks, count};
    return EXIT_OK;
}

/* Everything else before the first picture. An exit code. */
static int prepare(Job *job, llmdiff_error *err) {
    const Options *o = job->o;
    llmdiff_options options;
    job->progress = progress_new(o, job->pictures.count);
    job->line = calloc((size_t)job->pictures.count, sizeof *job->line);
    if (!job->line) return cli_fail(err, "out of memory"), EXIT_FAILED;
    if (cli_check_pictures(o, &job->pictures, err) || cli_check_settings(o, err)) return EXIT_USAGE;
    if (cli_try_pictures(o, &job->pictures, err) || cli_pack(o, GENERATE, &options, err))
        return EXIT_FAILED;
    double start = seconds_now();
    if (llmdiff_open(&options, &job->pack, err)) return cli_failed(err);
    double opened = seconds_now();
    make_request(job);
    if (check_requests(job, err)) return cli_code(err);
    print_notes(job);
    if (o->verbose && o->team->rank == 0)
        fprintf(stderr, "settings %s\nopen %.2f s\n", llmdiff_settings(job->pack), opened - start);
    return EXIT_OK;
}

static int run(Job *job, llmdiff_error *err) {
    int code = take_input(job, err);
    if (!code) code = prepare(job, err);
    if (team_agree(job->o->team, err)) return code ? code : EXIT_FAILED;
    code = draw_all(job, err);
    if (job->o->verbose && job->o->team->rank == 0) print_peak_memory(job);
    return code;
}

int run_generate(const Options *o, llmdiff_error *err) {
    Job job = {.o = o};
    int code = run(&job, err);
    llmdiff_close(job.pack);
    for (int64_t k = 0; job.line && k < job.pictures.count; k++) free(job.line[k]);
    free(job.line);
    cli_prompts_free(&job.prompts);
    return code;
}
