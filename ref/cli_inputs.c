/* What several commands ask of their options: the prompt, the seed, where the models are.
 * See cli.h. */
#include "ref/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PROMPT_MAX ((size_t)1 << 20) /* bytes; any LLM's positions end long before */

/* ---- the prompt ---------------------------------------------------------------------------------- */

/* All of the stream, without the newline at its end. Not file_read: it may be a pipe. */
static char *read_prompt(FILE *stream, const char *name, llmdiff_error *err) {
    char *text = malloc(PROMPT_MAX + 1);
    if (!text) {
        cli_fail(err, "out of memory");
        return NULL;
    }
    size_t n = fread(text, 1, PROMPT_MAX, stream);
    const char *nul = memchr(text, '\0', n);
    if (ferror(stream))
        cli_fail(err, "--prompt-file %s: can't be read: %s", name, strerror(errno));
    else if (n == PROMPT_MAX)
        cli_fail(err, "--prompt-file %s: expected less than %zu bytes", name, PROMPT_MAX);
    else if (nul)
        cli_fail(err, "--prompt-file %s: expected text, found a zero byte at offset %zu", name,
                 (size_t)(nul - text));
    if (err->status) {
        free(text);
        return NULL;
    }
    if (n && text[n - 1] == '\n') n -= n > 1 && text[n - 2] == '\r' ? 2 : 1;
    text[n] = '\0';
    return text;
}

static char *read_prompt_file(const char *path, llmdiff_error *err) {
    if (strcmp(path, "-") == 0) return read_prompt(stdin, "-", err);
    FILE *file = fopen(path, "rb");
    if (!file) {
        cli_fail(err, "--prompt-file %s: can't be opened: %s", path, strerror(errno));
        return NULL;
    }
    char *text = read_prompt(file, path, err);
    fclose(file);
    return text;
}

char *cli_prompt(const Options *o, llmdiff_error *err) {
    if (o->prompt && o->prompt_file)
        cli_fail(err, "--prompt and --prompt-file: expected one of them, found both");
    else if (!o->prompt && !o->prompt_file)
        cli_fail(err, "no prompt: give one with -p TEXT or --prompt-file FILE");
    if (err->status) return NULL;
    if (!o->prompt) return read_prompt_file(o->prompt_file, err);
    char *text = strdup(o->prompt);
    if (!text) cli_fail(err, "out of memory");
    return text;
}

/* ---- seed, paths --------------------------------------------------------------------------------- */

int cli_seed(int64_t asked, uint64_t *seed, llmdiff_error *err) {
    *seed = (uint64_t)asked;
    if (asked >= 0) return 0;
    uint32_t random;
    FILE *source = fopen("/dev/urandom", "rb");
    bool good = source && fread(&random, sizeof random, 1, source) == 1;
    if (source) fclose(source);
    if (!good) return cli_fail(err, "--seed: no random one to be had from /dev/urandom");
    *seed = random;
    return 0;
}

int cli_check_settings(const Options *o, llmdiff_error *err) {
    for (size_t i = 0; i < o->sets; i++)
        if (llmdiff_check_setting(o->set[i], err)) return -1;
    return 0;
}

int cli_pack(const Options *o, CommandBit command, llmdiff_options *pack, llmdiff_error *err) {
    *pack = (llmdiff_options){.size = sizeof *pack,
                              .llm = o->llm,
                              .unet = o->unet,
                              .vae = o->vae,
                              .adapter = o->adapter,
                              .set = o->set,
                              .sets = o->sets,
                              .text_encoder = o->text_encoder,
                              .tokenizer = o->tokenizer,
                              .conditioner = command == GENERATE ? o->conditioner : NULL,
                              .use = command == TOKENIZE ? LLMDIFF_USE_TOKENIZE
                                     : command == ENCODE ? LLMDIFF_USE_ENCODE
                                     : command == TRAIN  ? LLMDIFF_USE_TRAIN
                                                         : LLMDIFF_USE_GENERATE};
    bool enough = (command == ENCODE && o->llm && o->adapter) || (command == TOKENIZE && o->llm) ||
                  (command == INIT_ADAPTER && o->llm && o->unet);
    if (enough) return 0;
    struct stat found;
    pack->model = o->model;
    if (!o->model && command == TRAIN) return cli_fail(err, "no model: give a pack with -m");
    if (!o->model) return cli_fail(err, "no model: give a pack with -m, or --llm and --unet");
    bool there = stat(o->model, &found) == 0;
    if (!there || !S_ISDIR(found.st_mode))
        return cli_fail(err, "%s: expected a pack's directory, found %s: give one with -m",
                        o->model, there ? "a file" : "nothing");
    return 0;
}

int cli_check_trace(const Options *o, llmdiff_error *err) {
    if (o->trace && !has_extension(o->trace, ".safetensors"))
        return cli_fail(err, "--trace: expected a name that ends in .safetensors, found \"%s\"",
                        o->trace);
    if (o->trace_only && !o->trace)
        return cli_fail(err, "--trace-only: expected a trace to choose for, --trace, found none");
    return 0;
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
