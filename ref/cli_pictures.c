/* The files of generate's pictures: their names, and whether they can be written without harm. See cli.h. */
#include "ref/cli.h"

#include <stdlib.h>
#include <string.h>

char *cli_numbered(const char *path, int64_t picture, llmdiff_error *err) {
    size_t room = strlen(path) + 32;
    char *name = malloc(room);
    if (!name) {
        cli_fail(err, "out of memory");
        return NULL;
    }
    int stem = (int)(strrchr(path, '.') - path); /* the command saw to it that there is one */
    if (picture == 0)
        snprintf(name, room, "%s", path);
    else
        snprintf(name, room, "%.*s_%lld%s", stem, path, (long long)picture + 1, path + stem);
    return name;
}

char *cli_preview_name(const char *path, int64_t step, llmdiff_error *err) {
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

/* The traces and the latents are of one kind: picture 2's trace could be picture 1's latents. */
static int check_trace_names(const Options *o, const CliPictures *p, llmdiff_error *err) {
    if (!o->trace || !o->save_latents) return 0;
    for (int64_t i = p->first; i < p->count && !err->status; i += p->step) {
        char *trace = cli_numbered(o->trace, i, err),
             *latents = cli_numbered(o->save_latents, i, err);
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
    char *name = cli_preview_name(picture, number, err);
    if (name) cli_check_inputs("--preview-every", name, in, 1, err);
    free(name);
}

/* Every picture has files of its own. */
static int check_inputs(const Options *o, const CliPictures *p, llmdiff_error *err) {
    static const char *const flags[] = {"--output", "--save-latents", "--trace"};
    const char *names[] = {o->output, o->save_latents, o->trace};
    CliInput in[RUN_INPUTS];
    cli_run_inputs(o, in);
    for (int64_t i = p->first; i < p->count && !err->status; i += p->step)
        for (int f = 0; f < 3 && !err->status; f++) {
            char *path = names[f] ? cli_numbered(names[f], i, err) : NULL;
            if (path) cli_check_inputs(flags[f], path, in, RUN_INPUTS, err);
            for (int n = 0; path && f == 0 && n < RUN_INPUTS; n++)
                check_preview(o, path, &in[n], err);
            free(path);
        }
    return err->status ? -1 : 0;
}

int cli_check_pictures(const Options *o, const CliPictures *p, llmdiff_error *err) {
    return check_trace_names(o, p, err) || check_inputs(o, p, err) ? -1 : 0;
}

int cli_try_pictures(const Options *o, const CliPictures *p, llmdiff_error *err) {
    const char *names[] = {o->output, o->save_latents, o->trace};
    for (int64_t i = p->first; i < p->count && !err->status; i += p->step)
        for (int k = 0; k < 3 && !err->status; k++) {
            char *path = names[k] ? cli_numbered(names[k], i, err) : NULL;
            if (path) llmdiff_check_output(path, err);
            free(path);
        }
    return err->status ? -1 : 0;
}
