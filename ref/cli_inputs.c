/* What several commands ask of their options: the prompt, the seed, the pack's paths, an output that
 * can be written. See cli.h. */
#include "ref/cli.h"
#include "tokenizer/unicode.h"
#include "weights/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROMPT_MAX ((size_t)1 << 20) /* bytes; any LLM's positions end long before */

/* ---- the prompt ---------------------------------------------------------------------------------- */

char *cli_utf8(const char *text, Error *err) {
    char *copy = utf8_repair(text, strlen(text), &(size_t){0});
    if (!copy) fail(err, "out of memory");
    return copy;
}

/* All of the stream, without the newline at its end. Not file_read: it may be a pipe. */
static char *read_prompt(FILE *stream, const char *name, Error *err) {
    char *text = malloc(PROMPT_MAX + 1);
    if (!text) {
        fail(err, "out of memory");
        return NULL;
    }
    size_t n = fread(text, 1, PROMPT_MAX, stream);
    const char *nul = memchr(text, '\0', n);
    if (ferror(stream))
        fail(err, "--prompt-file %s: can't be read: %s", name, strerror(errno));
    else if (n == PROMPT_MAX)
        fail(err, "--prompt-file %s: expected less than %zu bytes", name, PROMPT_MAX);
    else if (nul)
        fail(err, "--prompt-file %s: expected text, found a zero byte at offset %zu", name,
             (size_t)(nul - text));
    if (err->set) {
        free(text);
        return NULL;
    }
    if (n && text[n - 1] == '\n') n -= n > 1 && text[n - 2] == '\r' ? 2 : 1;
    text[n] = '\0';
    return text;
}

static char *read_prompt_file(const char *path, Error *err) {
    if (strcmp(path, "-") == 0) return read_prompt(stdin, "-", err);
    FILE *file = fopen(path, "rb");
    if (!file) {
        fail(err, "--prompt-file %s: can't be opened: %s", path, strerror(errno));
        return NULL;
    }
    char *text = read_prompt(file, path, err);
    fclose(file);
    return text;
}

char *cli_prompt(const Options *o, Error *err) {
    if (o->prompt && o->prompt_file)
        fail(err, "--prompt and --prompt-file: expected one of them, found both");
    else if (!o->prompt && !o->prompt_file)
        fail(err, "no prompt: give one with -p TEXT or --prompt-file FILE");
    if (err->set) return NULL;
    char *read = o->prompt ? NULL : read_prompt_file(o->prompt_file, err);
    if (err->set) return NULL;
    char *text = cli_utf8(o->prompt ? o->prompt : read, err);
    free(read);
    return text;
}

/* ---- seed, paths --------------------------------------------------------------------------------- */

int cli_seed(int64_t asked, uint64_t *seed, Error *err) {
    *seed = (uint64_t)asked;
    if (asked >= 0) return 0;
    uint32_t random;
    FILE *source = fopen("/dev/urandom", "rb");
    bool good = source && fread(&random, sizeof random, 1, source) == 1;
    if (source) fclose(source);
    if (!good) return fail(err, "--seed: no random one to be had from /dev/urandom");
    *seed = random;
    return 0;
}

int cli_settings(const Options *o, Settings *settings, Error *err) {
    *settings = settings_default();
    for (size_t i = 0; i < o->sets && !err->set; i++) settings_parse(settings, o->set[i], err);
    return err->set ? -1 : 0;
}

int cli_pack_paths(const Options *o, CommandBit command, PackPaths *paths, Error *err) {
    *paths = (PackPaths){.llm = o->llm,
                         .unet = o->unet,
                         .vae = o->vae,
                         .adapter = o->adapter,
                         .set = o->set,
                         .sets = o->sets};
    bool enough = (command == ENCODE && o->llm && o->adapter) || (command == TOKENIZE && o->llm) ||
                  (command == INIT_ADAPTER && o->llm && o->unet);
    if (enough) return 0;
    paths->model = o->model;
    if (!o->model) return fail(err, "no model: give a pack with -m, or --llm and --unet");
    if (!is_directory(o->model))
        return fail(err, "%s: expected a pack's directory, found %s: give one with -m", o->model,
                    file_exists(o->model) ? "a file" : "nothing");
    return 0;
}

int cli_check_writable(const char *path, Error *err) {
    OutFile probe;
    if (is_directory(path)) return fail(err, "%s: can't be written: it is a directory", path);
    if (outfile_open(&probe, path, err)) return -1;
    outfile_discard(&probe);
    return 0;
}

char *cli_join(const char *dir, const char *name, Error *err) {
    size_t room = strlen(dir) + strlen(name) + 2;
    char *path = malloc(room);
    if (!path)
        fail(err, "out of memory");
    else
        snprintf(path, room, "%s/%s", dir, name);
    return path;
}

bool has_extension(const char *path, const char *extension) {
    size_t n = strlen(path), m = strlen(extension);
    if (n <= m) return false;
    for (size_t i = 0; i < m; i++) {
        char c = path[n - m + i];
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        if (c != extension[i]) return false;
    }
    return path[n - m - 1] != '/';
}
