/* The kit (golden/kit): what a port is given, what has to come out, and how exact that has to be.
 *
 *     Kit *kit = kit_open("golden/kit", &err);
 *     for (size_t g = 0; g < kit->groups; g++) ... kit->group[g].cases[c].output[o] ...
 *     kit_close(kit);
 *
 * kit_open checks everything that can be checked without computing: each field of manifest.json, and
 * that the files hold the tensors that it speaks of, in those shapes. The packs are looked at when a
 * run of our own uses them. golden/README.md describes the format. */
#ifndef LLMDIFF_KIT_H
#define LLMDIFF_KIT_H

#include "ref/yardstick/yardstick.h"

#include <cjson/cJSON.h>

#define KIT_FORMAT "llmdiff-kit"
#define KIT_VERSION 1

/* In the order of judging. */
typedef enum KitKind {
    KIT_OPERATORS,
    KIT_MODULES,
    KIT_ALGORITHM1, /* from here to pictures walks: one case each, run freely and forced */
    KIT_UNET,
    KIT_PICTURE,
    KIT_TRAIN, /* cases again, like operators and modules */
    KIT_KINDS
} KitKind;

typedef enum KitMode { KIT_FORCED, KIT_FREE, KIT_MODES } KitMode;

/* Torch's own error in that type, relative to the truth's largest magnitude; NaN: not measured. */
typedef struct Yardstick {
    double f32, f16, bf16;
} Yardstick;

/* Texts and JSON belong to Kit.json. */
typedef struct KitOutput {
    const char *name; /* "y"; of a walk the name in a trace */
    char *stored;     /* in the files: "group_norm/map/y"; of a walk its name again */
    int ndim;
    int64_t dim[STORED_MAX_DIMS];
    size_t expected;                /* its index in KitGroup.expected */
    Yardstick yardstick[KIT_MODES]; /* the same twice where there are no modes */
} KitOutput;

/* One operator, module or training step with its inputs; a walk is one case, whose name is "". */
typedef struct KitCase {
    const char *name;
    const char *runs; /* the operator or module: "group_norm", "unet/resnet"; of a walk "" */
    const char *pack, *adapter, *path; /* NULL: none */
    const char *text_encoder;          /* of a picture by CLIP: the pack with it; else NULL */
    const cJSON *parameters;           /* an object, or NULL */
    const char **input;                /* names of its inputs */
    size_t inputs;
    KitOutput *output;
    size_t outputs;
} KitCase;

typedef struct KitGroup {
    const char *name;
    KitKind kind;
    const char *inputs_file, *expected_file; /* relative to the kit */
    KitCase *cases;
    size_t count;
    Safetensors *inputs;
    TensorFile *expected;
} KitGroup;

typedef struct KitPack {
    const char *name, *path; /* path: relative to the kit */
    const char *sha256;      /* NULL: any will do */
} KitPack;

typedef struct Kit {
    char *dir;
    cJSON *json;
    KitPack *pack;
    size_t packs;
    KitGroup *group; /* in the manifest's order, which is that of judging */
    size_t groups;
} Kit;

/* NULL with a message, which begins with the file and names every field that is missing or wrong. */
Kit *kit_open(const char *dir, Error *err);
void kit_close(Kit *kit); /* NULL is fine */
/* trace_kit.c: a kit of one case, the run of the pack `model` that made the trace. Its parameters are
 * the trace's metadata; there are no yardsticks, and the pack's hash is not checked. */
Kit *kit_of_trace(const char *trace, const char *model, Error *err);

bool kit_is_walk(KitKind kind);
const char *kit_mode_name(KitMode mode);                   /* "forced", "free" */
const KitPack *kit_pack(const Kit *kit, const char *name); /* NULL: none */

/* What a port may be off by where the truth's largest magnitude is `largest` and its tensor is stored
 * as `dtype`. -1 with a message if the kit has no yardstick for that type. */
int kit_tolerance(const KitOutput *output, KitKind kind, KitMode mode, Dtype dtype, double largest,
                  Tolerance *tolerance, Error *err);

/* ---- kit_manifest.c ------------------------------------------------------------------------------ */

/* Everything of the manifest that can be checked by itself; the groups' files are not opened. 0, or
 * -1 with a message. */
int kit_read_manifest(Kit *kit, Error *err);
/* "<kit>/<relative>", malloc'ed; NULL with a message. */
char *kit_path(const Kit *kit, const char *relative, Error *err);

#endif
