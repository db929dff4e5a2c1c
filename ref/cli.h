/* The command line, on the library's public header alone (and, for eval, on ref/world/): what the files ref/cli*.c share. Nothing
 * outside them includes this.
 *
 *     cli.c           main: which command, the error line, Ctrl-C, exit codes
 *     cli_table.c     every option of every command: one row each
 *     cli_options.c   reading a command line by that table
 *     cli_help.c, cli_manual.c, cli_completion.c   help, man pages, bash completion, from the table
 *     cli_generate.c  prompt to picture, with cli_progress.c
 *     cli_train.c     pictures with captions to an adapter
 *     cli_eval.c      a suite of prompts drawn and judged, with cli_eval_*.c and ref/world/
 *     cli_encode.c    prompt to text encoding, prompt to tokens
 *     cli_compare.c   two files side by side; what is done with a report
 *     cli_verify.c    the kit, and a port's outputs or our own
 *     cli_info.c      what a directory or file holds; a fresh adapter
 *     cli_inputs.c    what several of them ask: the seed, where the models are
 *     cli_pictures.c  the files of generate's pictures
 *     cli_prompts.c   the prompt, or a file of them
 *     cli_team.c, cli_team_mpi.c   processes that share a command
 *     cli_outputs.c   that no output overwrites an input or another output
 *
 * Results go to stdout; progress, notes and errors to stderr, an error as one line. */
#ifndef LLMDIFF_CLI_H
#define LLMDIFF_CLI_H

#include "ref/cli_team.h"
#include "ref/llmdiff.h"

#include <stdbool.h>
#include <stdio.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CANCELLED = 130 };

/* ---- options ----------------------------------------------------------------------------------- */

#define OPERANDS_MAX 2

/* What the person asked for. A row of the table says which field an option fills; one field may be
 * read by several commands. Text lives in argv. */
typedef struct Options {
    const char *prompt, *prompt_file, *negative_prompt;
    const char *model, *llm, *unet, *vae, *adapter;
    const char **set; /* "KEY=VALUE", in the order given; [sets], malloc'ed */
    size_t sets;
    int64_t width, height; /* 0: the pack's size */
    int64_t steps;         /* 0: the pack's */
    int64_t enlarge;       /* 0: to at least 256 pixels of width */
    int64_t seed, batch_count, threads;
    double cfg_scale; /* NaN: the pack's */
    double eta;
    const char *sampling_method; /* NULL: the pack's */
    const char *output, *init_latents, *save_latents, *noise, *conditioner, *text_encoder,
        *tokenizer, *init_image, *mask, *force, *trace, *trace_only;
    int64_t clip_skip, preview_every;
    double strength;
    const char *only, *map, *json, *html, *svg, *kit, *port;
    double rtol, atol;                 /* negative: not given */
    const char *operand[OPERANDS_MAX]; /* the arguments that are not options; NULL: not given */
    /* train */
    const char *train_data_dir, *output_dir, *resume_from, *lr_scheduler, *train_only,
        *validation_prompt, *cache_dir;
    int64_t resolution, train_batch_size, accumulation, max_train_steps, lr_warmup_steps,
        max_bad_samples, checkpointing_steps, checkpoints_limit, validation_steps;
    double learning_rate, scalar_lr_scale, added_start, adam_beta1, adam_beta2, adam_weight_decay,
        adam_epsilon, max_grad_norm, caption_dropout, snr_gamma, noise_offset, ema_decay,
        cache_limit;
    bool center_crop, random_flip, gradient_checkpointing;
    /* eval */
    const char *suite, *split;
    int64_t limit; /* 0: none */
    Team *team;    /* who shares the command; never NULL */
    bool tensors, vae_tiling, all_rows, free_alone, forced_alone, verbose, quiet, help;
} Options;

typedef enum CommandBit {
    GENERATE = 1,
    ENCODE = 2,
    TOKENIZE = 4,
    INFO = 8,
    INIT_ADAPTER = 16,
    COMPARE = 32,
    VERIFY = 64,
    TRAIN = 128,
    EVAL = 256
} CommandBit;

/* err has the message where the code is not EXIT_OK. */
typedef int (*CommandRun)(const Options *o, llmdiff_error *err);

typedef struct Command {
    CommandBit bit;
    const char *name;
    const char *usage;                  /* "-p TEXT [options]" */
    const char *operands[OPERANDS_MAX]; /* its arguments that are no options: "DIR|FILE"; or NULL */
    const char *summary;                /* one line */
    CommandRun run;
    const char *exit_codes; /* other than every command's; or NULL. '\n' begins a new line */
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
int options_parse(const Command *command, int argc, char **argv, Options *o, llmdiff_error *err);
void options_free(Options *o);
/* Of count names the one nearest to `word`, if any is near enough to be meant. */
const char *nearest_name(const char *word, const char *const *names, size_t count);

void print_usage(FILE *to);               /* llmdiff without a command */
void print_help(void);                    /* llmdiff --help */
extern const char *const example_lines[]; /* NULL at the end */
void print_command_help(const Command *command);
void print_manual(const Command *command); /* a man page; NULL: the program's own */
void print_completion(void);               /* for bash */

/* ---- cli.c ------------------------------------------------------------------------------------- */

/* Records the message, in printf form, unless there is one already. Returns -1. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
int cli_fail(llmdiff_error *err, const char *fmt, ...);
/* Whether Ctrl-C or SIGTERM has come. llmdiff_request.cancel. */
int cli_cancelled(void *user);
/* The code for a failed run: EXIT_CANCELLED, with that as the only message, if it was cancelled. */
int cli_failed(llmdiff_error *err);
/* The code for a failed call: EXIT_USAGE where what was asked for is wrong. */
int cli_code(const llmdiff_error *err);

/* What was printed to stdout has to have arrived. 0 or -1. */
int cli_flush(llmdiff_error *err);

/* ---- cli_inputs.c ------------------------------------------------------------------------------ */

/* Where the pack is and what for. Leaves the model out if every needed part is given by itself; fails
 * if it is needed and isn't there. 0 or -1. */
int cli_pack(const Options *o, CommandBit command, llmdiff_options *pack, llmdiff_error *err);
/* --seed, or a random one for a negative number; the same on all ranks. 0 or -1. */
int cli_seed(const Options *o, uint64_t *seed, llmdiff_error *err);
/* A wrong --set is better told before any model is opened. 0 or -1. */
int cli_check_settings(const Options *o, llmdiff_error *err);
bool has_extension(const char *path, const char *extension);
/* What --trace and --trace-only may be together, and that no tensors are written over a model's. 0 or -1. */
int cli_check_trace(const Options *o, llmdiff_error *err);

/* ---- cli_prompts.c ----------------------------------------------------------------------------- */

/* The prompt's text, malloc'ed; NULL with a message. */
char *cli_prompt(const Options *o, llmdiff_error *err);

typedef struct CliPrompts {
    char *text;    /* all of them */
    char **prompt; /* [count], in that */
    int64_t *line; /* where in the file each stood, from 1 on; 0: it was given with -p */
    int64_t count;
} CliPrompts;

/* generate's: of each line of --prompt-file one; rank 0's for all, who call it even with an error. 0 or -1;
 * to be freed then, too. */
int cli_prompts(const Options *o, CliPrompts *prompts, llmdiff_error *err);
void cli_prompts_free(CliPrompts *prompts);

/* ---- cli_outputs.c ----------------------------------------------------------------------------- */

/* Do both names mean one file, by whatever path or link? It need not be there yet. */
bool same_file(const char *a, const char *b);
/* Is it the directory, or would it be somewhere below? */
bool lies_in(const char *path, const char *dir);

/* A file that the command reads; path NULL: it wasn't given. */
typedef struct CliInput {
    const char *what; /* "the reference" */
    const char *path;
} CliInput;

/* Would `path`, given with `flag`, overwrite one of n inputs? NULL: it wasn't given. 0 or -1. */
int cli_check_inputs(const char *flag, const char *path, const CliInput *in, size_t n,
                     llmdiff_error *err);
/* What generate and encode read beside the models. */
#define RUN_INPUTS 6
void cli_run_inputs(const Options *o, CliInput in[RUN_INPUTS]);
/* Are two outputs one file? Either may be NULL. 0 or -1. */
int cli_check_apart(const char *flag, const char *path, const char *other_flag, const char *other,
                    llmdiff_error *err);
/* By its name: what a port writes. */
bool cli_is_tensors(const char *path);
/* Is `path` the kit's directory, or would it be somewhere below? 0 or -1. */
int cli_check_kit(const char *flag, const char *path, const char *kit, llmdiff_error *err);
/* Would `path` overwrite what a port wrote into this directory? 0 or -1. */
int cli_check_port(const char *flag, const char *path, const char *port, llmdiff_error *err);

/* ---- cli_pictures.c ---------------------------------------------------------------------------- */

/* generate's, of which this process draws first, first + step, ... below count. */
typedef struct CliPictures {
    int64_t first, step, count;
} CliPictures;

/* "out.png" for picture 0, then "out_2.png", "out_3.png", ...; malloc'ed. NULL with a message. */
char *cli_numbered(const char *path, int64_t picture, llmdiff_error *err);
/* "out_step3.png" beside "out.png"; malloc'ed. */
char *cli_preview_name(const char *path, int64_t step, llmdiff_error *err);
/* Would a picture's files overwrite what is read, or each other? 0 or -1. */
int cli_check_pictures(const Options *o, const CliPictures *p, llmdiff_error *err);
/* Can they be written? Better known now than after minutes of work. 0 or -1. */
int cli_try_pictures(const Options *o, const CliPictures *p, llmdiff_error *err);

/* cli_progress.c: one line on the terminal, and the time of every stage. */
typedef enum Stage { STAGE_ENCODE, STAGE_SAMPLE, STAGE_DECODE, STAGES } Stage;

typedef struct Progress {
    bool visible; /* progress_wanted */
    int64_t picture, pictures;
    int stage; /* the Stage running; STAGES: none */
    double since;
    double seconds[STAGES];
    int64_t steps;
} Progress;

/* Not where it was asked to be quiet, stderr is no terminal, or another rank shows it. */
bool progress_wanted(const Options *o);
Progress progress_new(const Options *o, int64_t pictures);
void progress_start(Progress *p, int64_t picture);
/* llmdiff_request.progress: always 0 */
int progress_report(void *self, const char *stage, int64_t done, int64_t of);
void progress_clear(const Progress *p);
void progress_print_times(const Progress *p); /* for --verbose */
double seconds_now(void);
void print_left(double seconds); /* ", 3 min 20 s left" */

int run_generate(const Options *o, llmdiff_error *err);
int run_train(const Options *o, llmdiff_error *err);
int run_eval(const Options *o, llmdiff_error *err);
int run_encode(const Options *o, llmdiff_error *err);
int run_tokenize(const Options *o, llmdiff_error *err);
/* cli_compare.c, for the commands that make a report. */

/* Can the files that were asked for be written, and are they none of what is read: the n inputs, a
 * kit's or a port's? 0 or -1. */
int cli_check_reports(const Options *o, const CliInput *in, size_t n, llmdiff_error *err);
/* What became of it: prints the report, writes the files that were asked for and ends it, or tells why
 * there is none. Returns the exit code. */
int cli_judged(const Options *o, llmdiff_status status, llmdiff_report *report, llmdiff_error *err);

/* A line on a terminal: "compare 40 %". */
typedef struct CliProgress {
    const char *what;
    bool visible;
    double next; /* when the line is written again: files of many GB take minutes */
} CliProgress;

CliProgress cli_progress(const char *what);
/* llmdiff_compare_options.progress, self a CliProgress; not 0 after Ctrl-C */
int cli_show_progress(void *user, int64_t done, int64_t of);

int run_compare(const Options *o, llmdiff_error *err);
int run_verify(const Options *o, llmdiff_error *err);
int run_info(const Options *o, llmdiff_error *err);
int run_init_adapter(const Options *o, llmdiff_error *err);

#endif
