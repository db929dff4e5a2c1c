/* libllmdiff: from a prompt to a picture, a decoder-only LLM in place of Stable Diffusion's text
 * encoder (arXiv 2502.04412), on the CPU.
 *
 *     llmdiff_options o = {.size = sizeof o, .model = "weights/tiny"};
 *     llmdiff_open(&o, &pack, &error);
 *     llmdiff_request_default(&r, sizeof r);  r.prompt = "a red circle";
 *     llmdiff_generate(pack, &r, &result, &error);
 *     llmdiff_save_png(result, "circle.png", &error);
 *     llmdiff_result_free(result);  llmdiff_close(pack);
 *
 * C99 and C++. Link with `pkg-config --libs llmdiff`; llmdiff-f64 is the same library computing in
 * double. README.md has the program of 30 lines.
 *
 * Errors. A function that can fail returns a status, and says why in *error (which may be NULL): one
 * line with what, where, expected, found. It names a member as the program's flag does (--cfg-scale
 * is cfg_scale). On success the status is LLMDIFF_OK and the message is empty. After a failure every
 * output pointer holds NULL, and no file is left half-written. The library never exits, prints or
 * catches a signal.
 *
 * Misuse is defined: NULL, a struct whose `size` was not set, a number outside its limits, and a
 * handle that is not open give LLMDIFF_MISUSE. (A handle that was closed is recognised while the
 * memory still tells; under the address sanitizer it stops the program.) Only what points to no
 * memory at all can't be caught.
 *
 * Memory. Handles belong to the caller, who ends them with llmdiff_close and llmdiff_result_free.
 * What an accessor returns belongs to its handle and ends with it. Structs and strings that are
 * passed in are read during the call only.
 *
 * Threads. A pack does not change once it is open: any number of threads may use one pack, or several
 * packs, at once; each call computes in memory of its own, and gives the same bytes as it would
 * alone. A result may be read by several threads. Closing is for when nobody uses the handle any
 * more. Each call has a team of OpenMP threads (request.threads); the team spins where it waits, and
 * on cores that others use too this makes a run tens of times slower: set OMP_WAIT_POLICY=passive in
 * the environment before the program starts. OpenBLAS is told, for the whole process, to stay on the
 * thread that calls it.
 *
 * Growth. Structs that are filled by the caller begin with their size, and new members come at the
 * end: a program built with an older header keeps working, and one built with a newer header works
 * as long as it leaves the members that this library doesn't know zero. */
#ifndef LLMDIFF_H
#define LLMDIFF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#    define LLMDIFF_API __attribute__((visibility("default")))
#else
#    define LLMDIFF_API
#endif

#define LLMDIFF_VERSION "0.1.0"
/* The library's own, which may be another than the header's. */
LLMDIFF_API const char *llmdiff_version(void);
/* What it computes in: "float32" or "float64". */
LLMDIFF_API const char *llmdiff_precision(void);

/* ---- errors -------------------------------------------------------------------------------------- */

typedef enum llmdiff_status {
    LLMDIFF_OK = 0,
    LLMDIFF_FAILED = 1,    /* a file, memory, a value that is not finite */
    LLMDIFF_CANCELLED = 2, /* a callback asked for it */
    LLMDIFF_MISUSE = 3     /* the call or the request is wrong; nothing was done */
} llmdiff_status;

typedef struct llmdiff_error {
    llmdiff_status status;
    char message[8192]; /* without a newline at its end */
} llmdiff_error;

/* ---- opening a pack ------------------------------------------------------------------------------ */

/* The models, mapped from their files in the type they are stored in. */
typedef struct llmdiff_pack llmdiff_pack;

/* What a pack is opened for: what it is not needed for is not read. */
typedef enum llmdiff_use {
    LLMDIFF_USE_GENERATE = 0,
    LLMDIFF_USE_ENCODE = 1,   /* the tokenizer, the LLM, the adapter's scalars */
    LLMDIFF_USE_TOKENIZE = 2, /* the tokenizer */
    LLMDIFF_USE_TRAIN = 3     /* llmdiff_train; an adapter only if one is given by its own */
} llmdiff_use;

typedef struct llmdiff_options {
    size_t size;       /* sizeof(llmdiff_options); everything else may be zero */
    const char *model; /* a directory with llm/ unet/ vae/ scheduler/ adapter/, as Hugging Face lays
                          them out; NULL if every part that is needed is given below */
    const char *llm, *unet, *vae, *adapter; /* this directory in place of the model's */
    const char *const *set; /* [sets] choices of the adapter's config.json: "word_score=false" */
    size_t sets;
    const char *text_encoder, *tokenizer; /* of CLIP, in place of the model's */
    const char *conditioner; /* "llmdiff" (or NULL): the LLM and the adapter; "clip": CLIP's text
                                encoder, in text_encoder/ and tokenizer/, as in plain Stable
                                Diffusion, with neither */
    llmdiff_use use;
} llmdiff_options;

LLMDIFF_API llmdiff_status llmdiff_open(const llmdiff_options *options, llmdiff_pack **pack,
                                        llmdiff_error *error);
LLMDIFF_API void llmdiff_close(llmdiff_pack *pack); /* NULL is fine */

/* What should be known before a picture of this pack is believed, note i = 0, 1, ...: "warning: ... was
 * never trained". NULL: no more. */
LLMDIFF_API const char *llmdiff_note(const llmdiff_pack *pack, size_t i);
/* Every choice of the method, as JSON. NULL: opened for the tokenizer alone. */
LLMDIFF_API const char *llmdiff_settings(const llmdiff_pack *pack);
/* Is "KEY=VALUE" a choice as options.set takes it? MISUSE if not. No pack is needed. */
LLMDIFF_API llmdiff_status llmdiff_check_setting(const char *assignment, llmdiff_error *error);

/* ---- tokens -------------------------------------------------------------------------------------- */

/* Token ids of text [length], the begin token first: *ids [*count], to end with llmdiff_free. UTF-8;
 * what isn't is read as U+FFFD. Special tokens that are written in the text become their ids. */
LLMDIFF_API llmdiff_status llmdiff_tokenize(const llmdiff_pack *pack, const char *text,
                                            size_t length, int64_t **ids, size_t *count,
                                            llmdiff_error *error);
/* The piece as it stands in the vocabulary; NULL if there is no such id. */
LLMDIFF_API const char *llmdiff_piece(const llmdiff_pack *pack, int64_t id);
/* Ends what llmdiff_tokenize, llmdiff_describe and the texts of a report return. NULL is fine. */
LLMDIFF_API void llmdiff_free(void *memory);

/* ---- a request ----------------------------------------------------------------------------------- */

typedef enum llmdiff_dtype {
    LLMDIFF_F32 = 0, /* float */
    LLMDIFF_F64 = 1, /* double */
    LLMDIFF_I64 = 2  /* int64_t */
} llmdiff_dtype;

#define LLMDIFF_MAX_DIMS 8

struct llmdiff_result;

/* Dense, row-major, in upstream's layout: maps are [C, H, W], rows of tokens or pixels [L, C]. */
typedef struct llmdiff_tensor {
    const char *name; /* "unet/0/cond/mid_block", "latents/20"; ref/README.md */
    llmdiff_dtype dtype;
    int ndim; /* 0: one number */
    int64_t dim[LLMDIFF_MAX_DIMS];
    const void *data;
} llmdiff_tensor;

typedef struct llmdiff_request {
    size_t size; /* llmdiff_request_default sets it */

    const char *prompt;          /* UTF-8; "" is valid: the begin token alone */
    const char *negative_prompt; /* what guidance leads away from */
    int64_t width, height;       /* pixels, multiples of the VAE's factor; 0: the pack's */
    const char *sampling_method; /* "ddpm", "ddim", "pndm", "euler", "euler_a", "dpm++2m"; NULL: the
                                    pack's own */
    int64_t steps;               /* of the sampler: 20 */
    double cfg_scale;            /* guidance: 7.5; 1: none, the negative prompt is not read */
    double eta;                  /* how much noise DDIM adds, 0 to 1: 0 */
    int64_t clip_skip; /* last blocks of CLIP left out for the prompt, as diffusers counts: 0 */
    uint64_t seed;     /* as in torch.manual_seed: 42 */
    int threads;       /* 0: as OpenMP decides. Results don't depend on it. */

    /* The first latents, of unit variance, [C, height / factor, width / factor] or with a 1 before
     * that; F32 or F64. In memory, or in a npy or safetensors file; both NULL: from the seed. */
    const llmdiff_tensor *init_latents;
    const char *init_latents_file;
    const char
        *noise_file; /* safetensors with every random draw under its name in a trace; or NULL */

    /* Image to image: a PNG or JPEG to begin from, and how far to go from it, more than 0 to 1; 0: 0.8,
     * or 1 with a mask. A mask is white where the picture is to be redrawn and black where it is kept.
     * Both are turned upright by their EXIF data and resized (Lanczos) to width and height, which are
     * the picture's own, rounded down to the VAE's factor, where they are 0. */
    const char *init_image_file;
    double strength;
    const char *mask_file;
    int vae_tiling; /* not 0: the VAE works in overlapping tiles, in memory that doesn't grow */

    /* Names of activations to keep in the result, NULL at the end; one that ends in '*' stands for
     * all that begin so. NULL: none. A name that doesn't occur keeps nothing. */
    const char *const *keep;

    /* Callbacks; each may be NULL, and each cancels the run by returning other than 0. They are
     * called by the thread that made the call, one at a time, and may use the library themselves. */
    void *user; /* passed to all of them */
    /* Stage "encode" (for each prompt), "sample" (for each step), "decode", then "done". */
    int (*progress)(void *user, const char *stage, int64_t done, int64_t of);
    /* Asked at every named activation, many times in a step: for Ctrl-C or a button. */
    int (*cancel)(void *user);
    /* Every preview_every evaluations of the U-Net (0: never) the picture so far; it ends with the
     * call. */
    int64_t preview_every;
    int (*preview)(void *user, int64_t done, int64_t of, const struct llmdiff_result *picture);
    /* Sees every activation in the order of execution; it lives for the call only. Observing does
     * not change a result. */
    int (*observe)(void *user, const llmdiff_tensor *activation);

    /* A safetensors file of any float type, such as a trace: right after an activation of a name in
     * it was computed, and seen by whoever observes, the file's values take its place, so that every
     * stage starts from the file's input. Other names stay as computed; scalars and ids are never
     * forced. A file none of whose names occurs is an error. NULL: none. */
    const char *force_file;

    /* A safetensors file of every activation under its name, in the order of execution, written while
     * the run goes on: it needs no memory of its size. Its metadata are the result's entries and
     * "program", "precision", "trace_only", "pack_files" and "pack_sha256". pack_files has a line
     * "<SHA-256>  <part>/<file>" for each file of the pack that was read (sha256sum's form, sorted by
     * the file's name), and pack_sha256 is the SHA-256 of that text: see golden/README.md. NULL: none. */
    const char *trace_file;
    /* A POSIX extended regular expression: only names in which it matches anywhere. NULL: all. */
    const char *trace_only;
} llmdiff_request;

/* All defaults. `size` is sizeof(llmdiff_request). MISUSE if it is too small to be one. */
LLMDIFF_API llmdiff_status llmdiff_request_default(llmdiff_request *request, size_t size);
/* The same, but for `steps` and `cfg_scale`: the pack's own, where its model_index.json has
 * num_inference_steps and guidance_scale. */
LLMDIFF_API llmdiff_status llmdiff_request_for(const llmdiff_pack *pack, llmdiff_request *request,
                                               size_t size);
/* Everything that llmdiff_generate would find wrong before it computes, its files included. MISUSE
 * names what is outside its limits. */
LLMDIFF_API llmdiff_status llmdiff_check(const llmdiff_pack *pack, const llmdiff_request *request,
                                         llmdiff_error *error);

/* ---- running it ---------------------------------------------------------------------------------- */

typedef struct llmdiff_result llmdiff_result;

/* The prompt's text encoding c (Algorithm 1), which the result holds as "alg1/c.0" [N, D] beside "ids"
 * [N]. Reads prompt, seed, threads, noise_file, force_file, trace_file, trace_only, keep and the
 * callbacks. */
LLMDIFF_API llmdiff_status llmdiff_encode(const llmdiff_pack *pack, const llmdiff_request *request,
                                          llmdiff_result **result, llmdiff_error *error);
/* One picture. */
LLMDIFF_API llmdiff_status llmdiff_generate(const llmdiff_pack *pack,
                                            const llmdiff_request *request, llmdiff_result **result,
                                            llmdiff_error *error);
LLMDIFF_API void llmdiff_result_free(llmdiff_result *result); /* NULL is fine */

/* ---- what came out ------------------------------------------------------------------------------- */

/* The pixels [height, width, 3], 8 bits each. NULL: an encoding has none. */
LLMDIFF_API const uint8_t *llmdiff_rgb(const llmdiff_result *result);
LLMDIFF_API int64_t llmdiff_width(const llmdiff_result *result); /* in pixels; 0: no picture */
LLMDIFF_API int64_t llmdiff_height(const llmdiff_result *result);
/* The final latents [C, height / factor, width / factor], named as the last "latents/{i}". NULL: an
 * encoding has none. */
LLMDIFF_API const llmdiff_tensor *llmdiff_latents(const llmdiff_result *result);
/* A tensor that was kept, by its name. NULL: it wasn't, or it did not occur. */
LLMDIFF_API const llmdiff_tensor *llmdiff_activation(const llmdiff_result *result,
                                                     const char *name);
/* Kept tensor i = 0, 1, ... in the order of execution. NULL: no more. */
LLMDIFF_API const llmdiff_tensor *llmdiff_activation_at(const llmdiff_result *result, size_t i);
/* Entry i of what determines the result: "prompt", "seed", "settings", ... False: no more. */
LLMDIFF_API int llmdiff_text_at(const llmdiff_result *result, size_t i, const char **key,
                                const char **value);
/* Tokens of the prompt that CLIP had no place for and did not read. */
LLMDIFF_API int64_t llmdiff_dropped_tokens(const llmdiff_result *result);
/* The most bytes that activations took at one time. */
LLMDIFF_API size_t llmdiff_peak_bytes(const llmdiff_result *result);

/* Files appear under their name only when they are complete. */

/* The picture as PNG, with those entries as text. */
LLMDIFF_API llmdiff_status llmdiff_save_png(const llmdiff_result *result, const char *path,
                                            llmdiff_error *error);
/* The same with each pixel as `enlarge` x `enlarge` of its colour, 1 to LLMDIFF_MAX_ENLARGE, and that
 * number as one entry more. As a picture to begin from (init_image_file) it is as it was computed. */
#define LLMDIFF_MAX_ENLARGE 256
LLMDIFF_API llmdiff_status llmdiff_save_png_enlarged(const llmdiff_result *result, const char *path,
                                                     int64_t enlarge, llmdiff_error *error);
/* The smallest number that makes the picture at least LLMDIFF_SEEN_WIDTH wide: what the program takes. */
#define LLMDIFF_SEEN_WIDTH 256
LLMDIFF_API int64_t llmdiff_enlargement(const llmdiff_result *result);
/* Tensors of the result by name, NULL at the end; `names` NULL: all that were kept. The path ends in
 * .safetensors (with the entries as metadata) or in .npy (for one float tensor). */
LLMDIFF_API llmdiff_status llmdiff_save_tensors(const llmdiff_result *result, const char *path,
                                                const char *const *names, llmdiff_error *error);
/* Can a file of that name be written? Tried, and nothing left behind: better known before minutes of
 * work. */
LLMDIFF_API llmdiff_status llmdiff_check_output(const char *path, llmdiff_error *error);

/* ---- the yardstick ------------------------------------------------------------------------------- */

/* Tensors that two programs computed, side by side: where they first differ, by how much, and what
 * that looks like. */
typedef struct llmdiff_report llmdiff_report;

typedef struct llmdiff_compare_options {
    size_t size;                  /* llmdiff_compare_default sets it */
    const char *reference, *mine; /* safetensors, npz or npy files */
    const char *only; /* names to compare: a POSIX extended regular expression; or NULL */
    /* What error is allowed: atol + rtol * the largest magnitude of the tensor in the reference.
     * Negative: not given. With neither, by the kit's yardsticks, the reference's own, or stored type;
     * the report says which. */
    double rtol, atol;
    /* Other names in mine, a JSON object {"name there": "name in the reference"}; a '*' stands for any
     * text. Or NULL. */
    const char *map_file;
    /* For more: golden/kit, its tolerances by name and hints by doing the stage of the
     * first divergence again with known mistakes; or, for such hints, the pack that made the reference,
     * a trace of this library's. Or NULL. */
    const char *kit, *model;
    void *user; /* passed to progress */
    /* Numbers of the reference that were compared so far. May be NULL; other than 0 cancels. */
    int (*progress)(void *user, int64_t done, int64_t of);
} llmdiff_compare_options;

/* All defaults. `size` is sizeof(llmdiff_compare_options). MISUSE if it is too small to be one. */
LLMDIFF_API llmdiff_status llmdiff_compare_default(llmdiff_compare_options *options, size_t size);
/* Each tensor of the reference, in the order of its data. FAILED: a file can't be read, or there is
 * nothing to compare; tensors that differ, or aren't there, are a report. */
LLMDIFF_API llmdiff_status llmdiff_compare(const llmdiff_compare_options *options,
                                           llmdiff_report **report, llmdiff_error *error);
/* Which way the kit's walks are judged: from the prompt on, or each stage from the truth's input. */
typedef enum llmdiff_walks {
    LLMDIFF_WALKS_BOTH = 0,
    LLMDIFF_WALKS_FREE = 1,
    LLMDIFF_WALKS_FORCED = 2
} llmdiff_walks;

typedef struct llmdiff_verify_options {
    size_t size;        /* sizeof(llmdiff_verify_options); everything but kit may be zero */
    const char *kit;    /* a directory: golden/kit */
    const char *port;   /* a directory with a port's outputs for it; NULL: this library is judged */
    const char *only;   /* outputs to judge: a POSIX extended regular expression for
                         "operators/<name>", "picture.free/<name>", ...; or NULL */
    const char *output; /* with port NULL: where to write what a port writes; or NULL */
    llmdiff_walks walks;
    int threads; /* 0: as OpenMP decides. Results don't depend on it. */
    void *user;  /* passed to progress */
    /* Outputs that were judged so far. May be NULL; other than 0 cancels. */
    int (*progress)(void *user, int64_t done, int64_t of);
} llmdiff_verify_options;

/* A port's outputs against the kit's truth, with the kit's tolerances. FAILED: the kit or a file can't be
 * read, or the kit is for another version. */
LLMDIFF_API llmdiff_status llmdiff_verify(const llmdiff_verify_options *options,
                                          llmdiff_report **report, llmdiff_error *error);
LLMDIFF_API void llmdiff_report_free(llmdiff_report *report); /* NULL is fine */

typedef enum llmdiff_code {
    LLMDIFF_CODE_MATCH = 0,
    LLMDIFF_CODE_MISMATCH = 1,
    LLMDIFF_CODE_USAGE = 2,   /* no report: NULL, or one that was freed */
    LLMDIFF_CODE_MISSING = 3, /* a tensor is missing, or has another shape or kind of type */
    LLMDIFF_CODE_NONFINITE = 4
} llmdiff_code;

/* An llmdiff_code, which is the program's exit code too; of several, 3 before 4 before 1. */
LLMDIFF_API int llmdiff_report_code(const llmdiff_report *report);
/* The report as a table of 120 columns, to end with llmdiff_free; a long one in part, unless
 * all_rows. */
LLMDIFF_API llmdiff_status llmdiff_report_text(const llmdiff_report *report, int all_rows,
                                               char **text, llmdiff_error *error);
/* Everything in it, as JSON; numbers that are not finite as "NaN", "Infinity", "-Infinity". */
LLMDIFF_API llmdiff_status llmdiff_report_json(const llmdiff_report *report, char **text,
                                               llmdiff_error *error);
/* One self-contained page: errors along the network's depth, the worst tensor as a heat map. */
LLMDIFF_API llmdiff_status llmdiff_report_html(const llmdiff_report *report, char **text,
                                               llmdiff_error *error);
/* The errors along the network's depth alone. */
LLMDIFF_API llmdiff_status llmdiff_report_svg(const llmdiff_report *report, char **text,
                                              llmdiff_error *error);
/* Text into a file. */
LLMDIFF_API llmdiff_status llmdiff_save_text(const char *text, const char *path,
                                             llmdiff_error *error);

/* ---- training ------------------------------------------------------------------------------------ */

/* Other processes that train the same adapter, each with its share of the pictures. All are called at the
 * same points of the run, on every rank. Other than 0: it failed, and the run ends. */
typedef struct llmdiff_team {
    int rank, ranks;
    void *self;
    /* numbers [count] of the library's precision <- their sum over the ranks, added in the order of ranks:
     * the same bytes on each */
    int (*sum)(void *self, void *numbers, size_t count);
    /* *status <- the largest of all ranks'. Returns when all have come here. */
    int (*worst)(void *self, int *status);
} llmdiff_team;

/* How far a run is. */
typedef struct llmdiff_train_progress {
    int64_t step, steps;        /* steps done, of how many */
    int64_t sample, samples;    /* of the step at work: done on this rank, of how many */
    double loss, smoothed_loss; /* of the last step; NaN before the first */
    double learning_rate, samples_per_second, seconds_left;
} llmdiff_train_progress;

typedef struct llmdiff_train_options {
    size_t size; /* llmdiff_train_default sets it */

    /* An imagefolder with metadata.jsonl, pictures with .txt beside them, or .tar shards: see README.md. */
    const char *train_data_dir;
    /* Where the result goes: adapter.safetensors, config.json, figure6.svg, train.jsonl, checkpoint-N/,
     * validation/, cache/. Created. One that has any of it is refused, unless the run resumes. */
    const char *output_dir;
    const char
        *resume_from_checkpoint; /* "latest", or a checkpoint's directory; NULL: begin anew */

    int64_t resolution;       /* pixels; 0: the pack's */
    int64_t train_batch_size; /* 0: by the resolution: 1 for 512, 4 for 256, at most 16 */
    int64_t gradient_accumulation_steps; /* 1 */
    int64_t max_train_steps;             /* 1000 */
    double learning_rate;                /* 1e-4 */
    const char *lr_scheduler;            /* "constant", "cosine" or "linear" */
    int64_t lr_warmup_steps;             /* 0; of every schedule */
    double adam_beta1, adam_beta2, adam_weight_decay, adam_epsilon; /* 0.9, 0.999, 1e-2, 1e-8 */
    double max_grad_norm;                                           /* 1 */
    double caption_dropout; /* how many of the captions are left empty: 0.1 */
    double snr_gamma;       /* of min-SNR weighting; 0: none */
    double noise_offset;    /* 0: none */
    int center_crop, random_flip;
    const char
        *train_only;  /* names of parameters: a POSIX extended regular expression; NULL: all */
    double ema_decay; /* the result is the average of the parameters; 0: none */
    uint64_t seed;    /* 42 */

    int64_t max_bad_samples;         /* 100 */
    int64_t checkpointing_steps;     /* 500; the last step has one in any case */
    int64_t checkpoints_total_limit; /* older ones are removed; 0: none are */
    const char *validation_prompt;   /* NULL: no pictures on the way */
    int64_t validation_steps;        /* 500 */
    const char *cache_dir;      /* for the VAE's and the LLM's outputs; NULL: output_dir/cache */
    double cache_limit;         /* GB on the disk: 4; 0: nothing is kept */
    int gradient_checkpointing; /* less memory, more time, the same bytes */
    int threads;                /* 0: as OpenMP decides. Results don't depend on it. */

    /* The first step's activations, gradients and moments: as llmdiff_request's. NULL: none. */
    const char *trace_file, *trace_only;

    const llmdiff_team *team; /* NULL: alone */

    /* Callbacks; each may be NULL. They are called by the thread that made the call. */
    void *user;
    int (*progress)(void *user, const llmdiff_train_progress *now); /* other than 0 cancels */
    int (*cancel)(void *user);                                      /* other than 0 cancels */
    void (*note)(void *user, const char *line); /* a warning, a skipped sample, a file written */

    double scalar_lr_scale; /* what a1, b1, a2, b2, g and eta have of the learning rate: 1 */
    double added_start;     /* a fresh adapter begins with a2 = this and a1 = 1 - this: 0 */
} llmdiff_train_options;

/* All defaults. `size` is sizeof(llmdiff_train_options). MISUSE if it is too small to be one. */
LLMDIFF_API llmdiff_status llmdiff_train_default(llmdiff_train_options *options, size_t size);
/* Trains the adapter that the pack was opened with, or a fresh one by the seed with the pack's settings.
 * CANCELLED: what was done is saved as a checkpoint, and the message says how to go on. */
LLMDIFF_API llmdiff_status llmdiff_train(const llmdiff_pack *pack,
                                         const llmdiff_train_options *options,
                                         llmdiff_error *error);

/* ---- other tools --------------------------------------------------------------------------------- */

/* A fresh adapter for the options' LLM and U-Net in `directory` (created; one that is there already is
 * not overwritten), with the options' settings. *parameters, which may be NULL: how many it has. */
LLMDIFF_API llmdiff_status llmdiff_init_adapter(const llmdiff_options *options,
                                                const char *directory, uint64_t seed,
                                                int64_t *parameters, llmdiff_error *error);
/* What is in a pack, a part of one, or a file (safetensors, npy, PNG), as text in lines, to end with
 * llmdiff_free; `tensors`: with every tensor of a directory. Parts are loaded as a run loads them.
 * Unlike elsewhere, on failure *text holds what was found before it, or NULL. */
LLMDIFF_API llmdiff_status llmdiff_describe(const char *path, int tensors, char **text,
                                            llmdiff_error *error);
/* "45,512,345 parameters (45.5M)" as llmdiff_describe writes it, into text [64]. */
LLMDIFF_API void llmdiff_parameters_text(int64_t count, char *text);

#ifdef __cplusplus
}
#endif

#endif
