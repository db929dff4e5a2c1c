/* Before any work: what is written must be none of what is read, nor anything else that is written.
 * See cli.h. */
#include "ref/cli.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_ROOM 4096

/* ---- one file ------------------------------------------------------------------------------------ */

static bool same_place(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The directory that the name stands in, into dir [PATH_ROOM]. */
static bool directory_of(const char *path, char *dir) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--; /* "kit/new/" stands in "kit" */
    while (n && path[n - 1] != '/') n--;
    if (n >= PATH_ROOM) return false;
    snprintf(dir, PATH_ROOM, "%.*s", n ? (int)n : 1, n ? path : ".");
    return true;
}

/* What isn't there yet is known by its directory and its name. */
static bool same_name(const char *a, const char *b) {
    const char *x = strrchr(a, '/'), *y = strrchr(b, '/');
    char in_a[PATH_ROOM], in_b[PATH_ROOM];
    struct stat s, t;
    return strcmp(x ? x + 1 : a, y ? y + 1 : b) == 0 && directory_of(a, in_a) &&
           directory_of(b, in_b) && stat(in_a, &s) == 0 && stat(in_b, &t) == 0 &&
           same_place(&s, &t);
}

bool same_file(const char *a, const char *b) {
    struct stat s, t;
    const bool there = stat(a, &s) == 0, too = stat(b, &t) == 0;
    return there && too ? same_place(&s, &t) : same_name(a, b);
}

bool lies_in(const char *path, const char *dir) {
    char at[PATH_ROOM];
    struct stat root, here, above;
    if (stat(dir, &root)) return false;
    if (stat(path, &here) == 0 && S_ISDIR(here.st_mode)) {
        if (strlen(path) >= sizeof at) return false;
        strcpy(at, path);
    } else if (!directory_of(path, at) || stat(at, &here)) {
        return false;
    }
    for (;;) {
        if (same_place(&here, &root)) return true;
        const size_t n = strlen(at);
        if (n + 4 > sizeof at) return false;
        strcpy(at + n, "/..");
        if (stat(at, &above) || same_place(&above, &here)) return false;
        here = above;
    }
}

/* ---- all of a command ---------------------------------------------------------------------------- */

int cli_check_inputs(const char *flag, const char *path, const CliInput *in, size_t n,
                     llmdiff_error *err) {
    for (size_t i = 0; i < n && path; i++)
        if (in[i].path && same_file(path, in[i].path))
            return cli_fail(err, "%s: %s is %s: it would be overwritten", flag, path, in[i].what);
    return 0;
}

void cli_run_inputs(const Options *o, CliInput in[RUN_INPUTS]) {
    const bool from_stdin = o->prompt_file && strcmp(o->prompt_file, "-") == 0;
    in[0] = (CliInput){"the file of --force", o->force};
    in[1] = (CliInput){"the file of --noise", o->noise};
    in[2] = (CliInput){"the file of --init-latents", o->init_latents};
    in[3] = (CliInput){"the picture of --init-img", o->init_image};
    in[4] = (CliInput){"the picture of --mask", o->mask};
    in[5] = (CliInput){"the prompt's file", from_stdin ? NULL : o->prompt_file};
}

int cli_check_apart(const char *flag, const char *path, const char *other_flag, const char *other,
                    llmdiff_error *err) {
    if (!path || !other || !same_file(path, other)) return 0;
    return cli_fail(err, "%s and %s: expected two files, found \"%s\" twice", flag, other_flag,
                    path);
}

bool cli_is_tensors(const char *path) {
    return has_extension(path, ".safetensors") || has_extension(path, ".npz");
}

int cli_check_kit(const char *flag, const char *path, const char *kit, llmdiff_error *err) {
    static const char *const parts[] = {"", "/inputs", "/expected"}; /* which may be links */
    char dir[PATH_ROOM];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(dir, sizeof dir, "%s%s", kit, parts[i]);
        if (lies_in(path, dir))
            return cli_fail(err, "%s: %s is in the kit, which is not written to", flag, path);
    }
    return 0;
}

/* A report may stand beside a port's files, but is none of them; they may be links. */
int cli_check_port(const char *flag, const char *path, const char *port, llmdiff_error *err) {
    char dir[PATH_ROOM], name[2 * PATH_ROOM];
    if (cli_is_tensors(path) && directory_of(path, dir) && same_file(dir, port))
        return cli_fail(err, "%s: %s is among the port's outputs: it would be overwritten", flag,
                        path);
    DIR *d = opendir(port); /* one that can't be read is told later */
    for (const struct dirent *e; d && !err->status && (e = readdir(d));) {
        snprintf(name, sizeof name, "%s/%s", port, e->d_name);
        if (cli_is_tensors(name) && same_file(path, name))
            cli_fail(err, "%s: %s is the port's %s: it would be overwritten", flag, path,
                     e->d_name);
    }
    if (d) closedir(d);
    return err->status ? -1 : 0;
}
