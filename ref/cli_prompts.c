/* The prompt: from the command line, all of a file, or each line of one. See cli.h. */
#include "ref/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROMPT_MAX ((size_t)1 << 20)      /* bytes; any LLM's positions end long before */
#define PROMPT_FILE_MAX ((size_t)1 << 26) /* of a file of prompts */

/* ---- all of a file ------------------------------------------------------------------------------- */

/* All of the stream; fewer than `most` bytes. Not file_read: it may be a pipe. */
static char *read_stream(FILE *stream, const char *name, size_t most, size_t *size,
                         llmdiff_error *err) {
    char *text = NULL;
    size_t n = 0, room = 0;
    do {
        room = room ? 2 * room : (size_t)1 << 16;
        char *more = realloc(text, room + 1);
        if (!more) {
            cli_fail(err, "out of memory");
            break;
        }
        text = more;
        n += fread(text + n, 1, room - n, stream);
    } while (n == room && room < most);
    const char *nul = text ? memchr(text, '\0', n) : NULL;
    if (ferror(stream))
        cli_fail(err, "--prompt-file %s: can't be read: %s", name, strerror(errno));
    else if (n >= most)
        cli_fail(err, "--prompt-file %s: expected less than %zu bytes", name, most);
    else if (nul)
        cli_fail(err, "--prompt-file %s: expected text, found a zero byte at offset %zu", name,
                 (size_t)(nul - text));
    if (err->status) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    *size = n;
    return text;
}

static char *read_file(const char *path, size_t most, size_t *size, llmdiff_error *err) {
    if (strcmp(path, "-") == 0) return read_stream(stdin, "-", most, size, err);
    FILE *file = fopen(path, "rb");
    if (!file) {
        cli_fail(err, "--prompt-file %s: can't be opened: %s", path, strerror(errno));
        return NULL;
    }
    char *text = read_stream(file, path, most, size, err);
    fclose(file);
    return text;
}

/* Without the end of line [2] that may be at text's end. */
static size_t without_newline(const char *text, size_t n) {
    if (n && text[n - 1] == '\n') n -= n > 1 && text[n - 2] == '\r' ? 2 : 1;
    return n;
}

static int check_prompt_given(const Options *o, llmdiff_error *err) {
    if (o->prompt && o->prompt_file)
        return cli_fail(err, "--prompt and --prompt-file: expected one of them, found both");
    if (!o->prompt && !o->prompt_file)
        return cli_fail(err, "no prompt: give one with -p TEXT or --prompt-file FILE");
    return 0;
}

char *cli_prompt(const Options *o, llmdiff_error *err) {
    size_t n;
    if (check_prompt_given(o, err)) return NULL;
    char *text = o->prompt ? strdup(o->prompt) : read_file(o->prompt_file, PROMPT_MAX, &n, err);
    if (!text) cli_fail(err, "out of memory");
    if (text && !o->prompt) text[without_newline(text, n)] = '\0';
    return text;
}

/* ---- each line of a file ------------------------------------------------------------------------- */

/* Ends the lines of out->text [n] in place. Blank ones are no prompts. */
static int split(CliPrompts *out, size_t n, llmdiff_error *err) {
    size_t lines = 1, length;
    int64_t number = 0;
    for (size_t i = 0; i < n; i++) lines += out->text[i] == '\n';
    out->prompt = calloc(lines, sizeof *out->prompt);
    out->line = calloc(lines, sizeof *out->line);
    if (!out->prompt || !out->line) return cli_fail(err, "out of memory");
    for (char *line = out->text; n; line += length, n -= length) {
        const char *end = memchr(line, '\n', n);
        length = end ? (size_t)(end - line) + 1 : n;
        line[without_newline(line, length)] = '\0';
        number++;
        if (line[strspn(line, " \t")] == '\0') continue;
        out->prompt[out->count] = line;
        out->line[out->count++] = number;
    }
    return 0;
}

/* Rank 0's text for all: only it has the standard input, and perhaps the file. */
static int share_text(const Options *o, CliPrompts *out, size_t *size, llmdiff_error *err) {
    Team *team = o->team;
    if (team->rank == 0 && !err->status) {
        out->text =
            o->prompt ? strdup(o->prompt) : read_file(o->prompt_file, PROMPT_FILE_MAX, size, err);
        if (!out->text) cli_fail(err, "out of memory");
        if (out->text && o->prompt) *size = strlen(out->text);
    }
    if (team_agree(team, err)) return -1;
    team_share(team, size, sizeof *size);
    if (team->rank > 0) out->text = malloc(*size + 1);
    if (!out->text) cli_fail(err, "out of memory");
    if (team_agree(team, err)) return -1;
    team_share(team, out->text, *size + 1);
    return 0;
}

static int take_whole(CliPrompts *out, llmdiff_error *err) {
    out->prompt = malloc(sizeof *out->prompt);
    out->line = calloc(1, sizeof *out->line);
    if (!out->prompt || !out->line) return cli_fail(err, "out of memory");
    out->prompt[0] = out->text;
    out->count = 1;
    return 0;
}

int cli_prompts(const Options *o, CliPrompts *prompts, llmdiff_error *err) {
    size_t size = 0;
    *prompts = (CliPrompts){0};
    if (!err->status) check_prompt_given(o, err);
    if (share_text(o, prompts, &size, err)) return -1;
    if (o->prompt) return take_whole(prompts, err);
    if (split(prompts, size, err)) return -1;
    if (prompts->count) return 0;
    return cli_fail(err, "--prompt-file %s: expected a prompt in each line, found none",
                    o->prompt_file);
}

void cli_prompts_free(CliPrompts *prompts) {
    free(prompts->text);
    free(prompts->prompt);
    free(prompts->line);
    *prompts = (CliPrompts){0};
}
