/* Our own outputs for the kit, computed as a port has to.
 *
 *     KitRun *run = kit_run_new(kit, threads, &err);
 *     Outputs out = {0};
 *     kit_run_case(run, group, &group->cases[0], KIT_FREE, &out, &err);
 *     outputs_free(&out);  kit_run_free(run);
 *
 *     run.c             the models of a pack, the outputs of a case
 *     run_given.c       what a case is given: tensors and parameters, checked
 *     run_operators.c   the operators
 *     run_modules.c     the modules, with run_unet.c and run_vae.c
 *     run_walks.c       the walks
 *     run_train.c       training steps, with run_adamw.c
 *
 * What a file of the kit says is checked before an operator sees it: shapes are the caller's duty there. */
#ifndef LLMDIFF_KIT_RUN_H
#define LLMDIFF_KIT_RUN_H

#include "ref/pipeline.h"
#include "ref/train/parameters.h"
#include "ref/yardstick/kit.h"
#include "ref/yardstick/mistakes_train.h"

/* ---- run.c ---------------------------------------------------------------------------------------- */

/* Tensors under the names that a port's file has; names and data malloc'ed. */
typedef struct Outputs {
    StoredTensor *tensor; /* [count] */
    size_t count, room;
} Outputs;

void outputs_free(Outputs *out);
/* A copy. 0, or -1 when out of memory. */
int outputs_add(Outputs *out, const char *name, Dtype dtype, int ndim, const int64_t *dim,
                const void *data, Error *err);

/* The parts of one pack, each opened when it is first asked for. */
typedef struct Models {
    const KitPack *pack;
    char *dir;
    Llm *llm;
    Unet *unet;
    Vae *vae;
    Schedule *schedule;
    ClipText *clip;
    Tokenizer *tokenizer; /* the LLM's, or CLIP's of a pack without LLM */
    Adapter *adapter;     /* of the last case that asked for one */
    char *adapter_key;    /* its directory and settings */
} Models;

typedef struct KitRun {
    const Kit *kit;
    int threads;
    Models *models; /* [kit->packs] */
    /* For recompute.c, else NULL: see Context. */
    const StandIn *stand_in;
    bool (*cancelled)(void *self);
    void *cancelled_self;
    TrainMistake mistake; /* which a training step is run with */
} KitRun;

KitRun *kit_run_new(const Kit *kit, int threads, Error *err); /* NULL with a message */
void kit_run_free(KitRun *run);                               /* NULL is fine */

/* Runs one case (a walk: in that mode) and adds those of its outputs that the manifest names. 0, or -1
 * with a message. */
int kit_run_case(KitRun *run, const KitGroup *group, const KitCase *c, KitMode mode, Outputs *out,
                 Error *err);

/* Each NULL with a message. The pack's hash is checked when its first part is opened. */
const Llm *models_llm(Models *m, Error *err);
const Unet *models_unet(Models *m, Error *err);
const Vae *models_vae(Models *m, Error *err);
const Schedule *models_schedule(Models *m, Error *err);
const ClipText *models_clip(Models *m, Error *err);
const Tokenizer *models_tokenizer(Models *m, Error *err);
/* The case's adapter with its settings (parameters.settings). */
const Adapter *models_adapter(Models *m, const KitCase *c, Error *err);

/* ---- run_given.c ---------------------------------------------------------------------------------- */

/* One case while it runs. */
typedef struct Given {
    Context *ctx;
    const char *kit_dir;
    const KitGroup *group;
    const KitCase *c;
    Models *models; /* NULL: the case has no pack */
    Models *text;   /* of its text encoder; NULL: Algorithm 1 and the adapter say what to draw */
    KitMode mode;
    Outputs *out;
    TrainMistake mistake;
    struct Gradients *gradients; /* NULL: the operator isn't run back */
} Given;

/* Of an operator that is run back (the case has "dy"): where the gradients of its arguments are added up,
 * for those of which the case wants one. */
enum { GRADIENTS_MAX = 2 * MAX_BATCH + 4 };
typedef struct Gradients {
    struct {
        char name[24]; /* "dx" */
        Tensor d;
    } of[GRADIENTS_MAX];
    int count;
} Gradients;

/* Checks the shapes of inputs. Each word is "name:LETTERS": a letter is a size, the same one wherever
 * it stands, '*' in front any sizes before it; with '?' after the name the input may be absent. size
 * [26], by letter: 0 is free and found here. "ids", "train/t" and "train/drop" are I64, pixels ("rgb", "image_in", "mask_in") U8, all
 * others floats. False with a message. */
bool given_fits(const Given *in, const char *pattern, int64_t *size);
#define SIZE(letter) size[(letter) - 'A']

/* As the file has it; NULL: the case has no such input. */
const StoredTensor *given_stored(const Given *in, const char *name);
/* These fail the context. */
Tensor given_tensor(const Given *in, const char *name); /* rounded to real */
/* A map [C, H, W] as [1, H, W, C]; rows [L, C] as [1, L, C]. */
Tensor given_map(const Given *in, const char *name);
Tensor given_rows(const Given *in, const char *name);
double given_scalar(const Given *in, const char *name); /* not rounded */
bool given_has(const Given *in, const char *name);
const Weight *given_weight(const Given *in, const char *name, Weight *w); /* NULL: not there */
const int64_t *given_ids(const Given *in, const char *name, int64_t *n);  /* NULL: failed */
double given_number(const Given *in, const char *parameter);
int64_t given_whole(const Given *in, const char *parameter, int64_t least, int64_t most);
/* A list of n whole numbers. */
void given_wholes(const Given *in, const char *parameter, int64_t *out, int n, int64_t least,
                  int64_t most);
bool given_switch(const Given *in, const char *parameter); /* false: not there, or not true */
/* NULL: not there */
const char *given_text(const Given *in, const char *parameter);
bool given_has_parameter(const Given *in, const char *parameter);

/* Adds a result under its output's name, if the manifest names it. x [.., C] as it is, a map
 * [1, H, W, C] as [C, H, W], rows [1, L, C] as [L, C]. */
void give(const Given *in, const char *output, Tensor x);
void give_as_map(const Given *in, const char *output, Tensor x);
void give_as_rows(const Given *in, const char *output, Tensor x);
/* n numbers that are doubles in both builds, rounded to real */
void give_doubles(const Given *in, const char *output, int64_t n, const double *x);
void give_raw(const Given *in, const char *output, Dtype dtype, int ndim, const int64_t *dim,
              const void *data);

/* ---- the cases ------------------------------------------------------------------------------------ */

typedef struct Module {
    const char *name;
    void (*run)(const Given *in);
} Module;

extern const Module unet_modules[], vae_modules[]; /* run_unet.c, run_vae.c; each ends in NULLs */

/* "this one's <what>: expected ..., found ..." */
void refuse_case(const Given *in, const char *what, const char *found);

/* Each fails in->ctx for what it doesn't know. */
void run_operator(const Given *in);
void run_module(const Given *in);
void run_walk(const Given *in, KitKind kind);
void run_train(const Given *in);

/* run_adamw.c: clipping and a step of AdamW, with in->mistake; the norm of all gradients before. */
double kit_clip(const Given *in, Learned *p, int64_t count, double max_norm);
void kit_adamw(const Given *in, const AdamW *o, int64_t step, const Learned *p);

#endif
