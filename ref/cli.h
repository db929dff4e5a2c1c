/* The command line: what the files ref/cli*.c share. Nothing outside them includes this.
 *
 *     cli.c           main: which command, the error line, Ctrl-C, exit codes
 *     cli_table.c     every option of every command: one row each
 *     cli_options.c   reading a command line by that table       cli_help.c   printing it
 *     cli_generate.c  prompt to picture, with cli_latents.c, cli_record.c, cli_progress.c
 *     cli_encode.c    prompt to text encoding, prompt to tokens
 *     cli_info.c      what a directory or file holds, with cli_info_model.c
 *     cli_adapter.c   a fresh adapter
 *     cli_inputs.c    what several of them ask: the prompt, the seed, where the models are
 *
 * Results go to stdout; progress, notes and errors to stderr, an error as one line. */
#ifndef LLMDIFF_CLI_H
#define LLMDIFF_CLI_H

#include "ref/pipeline.h"

#include <stdio.h>

#define LLMDIFF_VERSION "0.1.0"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CANCELLED = 130 };

/* ---- options ----------------------------------------------------------------------------------- */

/* What the person asked for. A row of the table says which field an option fills; one field may be
 * read by several commands. Text lives in argv. */
typedef struct Options {
    const char *prompt, *prompt_file, *negative_prompt;
    const char *model, *llm, *unet, *vae, *adapter;
    const char **set; /* "KEY=VALUE", in the order given; [sets], malloc'ed */
    size_t sets;
    int64_t width, height; /* 0: the pack's size */
    int64_t steps, seed, batch_count, threads;
    double cfg_scale, eta;
    const char *sampling_method; /* NULL: the pack's */
    const char *output, *init_latents, *save_latents, *noise;
    const char *path; /* the argument of info and help that is not an option */
    bool tensors, verbose, quiet, help;
} Options;

typedef enum CommandBit {
    GENERATE = 1,
    ENCODE = 2,
    TOKENIZE = 4,
    INFO = 8,
    INIT_ADAPTER = 16
} CommandBit;

/* err->set with the message where the code is not EXIT_OK. */
typedef int (*CommandRun)(const Options *o, Error *err);

typedef struct Command {
    CommandBit bit;
    const char *name;
    const char *usage;   /* "-p TEXT [options]" */
    const char *operand; /* "DIR|FILE": takes one argument that is not an option; or NULL */
    const char *summary; /* one line */
    CommandRun run;
} Command;

typedef enum OptionKind {
    OPTION_SWITCH, /* bool */
    OPTION_TEXT,   /* const char *, points into argv */
    OPTION_WHOLE,  /* int64_t */
    OPTION_NUMBER, /* double, finite */
    OPTION_SET,    /* appends its value, or `constant` if it has one, to Options.set */
} OptionKind;

typedef struct Option {
    unsigned commands; /* CommandBits */
    const char *group;
    char letter; /* 0: none */
    const char *name;
    OptionKind kind;
    size_t offset;        /* into Options */
    const char *value;    /* what help calls the value; NULL: takes none */
    const char *fallback; /* the default, read as if it had been given; NULL: zero or none */
    int64_t min, max;     /* limits of a number, where min < max */
    const char *constant;
    const char *help; /* '\n' begins a new line */
} Option;

extern const Option option_table[];
extern const size_t option_count;
extern const Command command_table[];
extern const size_t command_count;

/* Fills `o` from argv[0 .. argc-1], the words after the command's name. Stops at -h. 0 or -1. */
int options_parse(const Command *command, int argc, char **argv, Options *o, Error *err);
void options_free(Options *o);
/* Of count names the one nearest to `word`, if any is near enough to be meant. */
const char *nearest_name(const char *word, const char *const *names, size_t count);

void print_usage(FILE *to); /* llmdiff without a command */
void print_help(void);      /* llmdiff --help */
void print_command_help(const Command *command);

/* ---- cli.c ------------------------------------------------------------------------------------- */

/* True once Ctrl-C or SIGTERM has come. Context.cancelled. */
bool cli_cancelled(void *self);
/* The code for a failed run: EXIT_CANCELLED, with that as the only message, if it was cancelled. */
int cli_failed(Error *err);

/* What was printed to stdout has to have arrived. 0 or -1. */
int cli_flush(Error *err);

/* ---- cli_inputs.c ------------------------------------------------------------------------------ */

/* The paths of the pack. Leaves the model out if every needed part is given by itself; fails if it
 * is needed and isn't there. */
int cli_pack_paths(const Options *o, CommandBit command, PackPaths *paths, Error *err);
/* The prompt's text, UTF-8 (invalid parts as U+FFFD, as the tokenizer reads them), malloc'ed. */
char *cli_prompt(const Options *o, Error *err);
char *cli_utf8(const char *text, Error *err);
/* --seed, or a random one for a negative number. 0 or -1. */
int cli_seed(int64_t asked, uint64_t *seed, Error *err);
/* The defaults, changed by --set. A wrong --set is better told before any model is opened. 0 or -1. */
int cli_settings(const Options *o, Settings *settings, Error *err);
/* Can a file of that name be written? Tried, and nothing left behind. 0 or -1. */
int cli_check_writable(const char *path, Error *err);
/* "dir/name", malloc'ed; NULL with a message. */
char *cli_join(const char *dir, const char *name, Error *err);
bool has_extension(const char *path, const char *extension);

/* cli_record.c: key, value, key, value, ..., NULL: everything that determines a result. */
#define RECORD_MAX 32
typedef struct Record {
    char *text[2 * RECORD_MAX + 1];
    size_t entries;
} Record;

/* `r` NULL: of an encoding. `seed` is this picture's own. */
int record_fill(Record *record, const Options *o, const PackPaths *paths, const Settings *settings,
                const char *prompt, uint64_t seed, const Request *r, Error *err);
void record_free(Record *record);

/* cli_latents.c */
typedef enum FileKind { FILE_SAFETENSORS, FILE_NPY, FILE_PNG } FileKind;

/* By the file's first bytes; -1 with a message if it can't be read. */
int file_kind(const char *path, Error *err);
/* --init-latents: [C, h, w] or [1, C, h, w], malloc'ed. NULL with a message. */
real *latents_read(const char *path, const int64_t dim[3], Error *err);
/* --save-latents: .npy or .safetensors; `name` and `metadata` are for the latter. */
int latents_write(const char *path, const real *data, const int64_t dim[3], const char *name,
                  const char *const *metadata, Error *err);

/* cli_progress.c: one line on the terminal, and the time of every stage. */
typedef enum Stage { STAGE_ENCODE, STAGE_SAMPLE, STAGE_DECODE, STAGES } Stage;

typedef struct Progress {
    bool visible; /* stderr is a terminal and wasn't asked to be quiet */
    int64_t picture, pictures;
    int stage; /* the Stage running; STAGES: none */
    double since;
    double seconds[STAGES];
    int64_t steps;
} Progress;

Progress progress_new(bool quiet, int64_t pictures);
void progress_start(Progress *p, int64_t picture);
/* Request.progress */
void progress_report(void *self, const char *stage, int64_t done, int64_t of);
void progress_clear(const Progress *p);
void progress_print_times(const Progress *p); /* for --verbose */
double seconds_now(void);

/* cli_info_model.c: a directory. */
int info_directory(const char *path, bool tensors, Error *err);
void info_tensor(const StoredTensor *t);
/* A value from a file on one line: as JSON if it has control characters. */
void info_text(const char *key, const char *value);
/* "45,512,345 parameters (45.5M)" */
void print_parameters(int64_t count);

int run_generate(const Options *o, Error *err);
int run_encode(const Options *o, Error *err);
int run_tokenize(const Options *o, Error *err);
int run_info(const Options *o, Error *err);
int run_init_adapter(const Options *o, Error *err);

#endif
