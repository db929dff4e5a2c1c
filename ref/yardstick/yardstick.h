/* The yardstick: comparing tensors that two programs computed, and judging a port by the kit
 * (golden/kit). What the files of this room share.
 *
 *     tensor_file.c, name_map.c   safetensors, npz and npy behind one face, under our names
 *     measure.c                   two tensors -> the numbers of a Row
 *     hints.c                     what the difference looks like
 *     compare.c, compare_hints.c  two files -> a Report
 *     kit.c, trace_kit.c          the kit's manifest; a trace as a kit
 *     run_operators.c, run_modules.c, run_walks.c, run_train.c   our own outputs for the kit
 *     verify.c                    a port's outputs, or ours -> a Report
 *     recompute.c, recompute_train.c   a stage done again with a known mistake
 *     report_others.c             what diverges by itself, beside the first divergence
 *     report_text.c, report_json.c, report_html.c, report_svg.c   a Report for people and programs
 *
 * All arithmetic here is in double, in both builds. */
#ifndef LLMDIFF_YARDSTICK_H
#define LLMDIFF_YARDSTICK_H

#include "weights/safetensors.h"

/* ---- tensor_file.c: named tensors of a safetensors, npz or npy file ------------------------------ */

typedef struct NameMap NameMap;
typedef struct TensorFile TensorFile;

/* What is known without reading the numbers. */
typedef struct TensorInfo {
    const char *name; /* ours: after the map */
    Dtype dtype;      /* as stored */
    int ndim;
    int64_t dim[STORED_MAX_DIMS];
    int64_t count;
} TensorInfo;

/* `map` may be NULL and is not kept. NULL with a message: missing, truncated, malformed, a name
 * twice. */
TensorFile *tensor_file_open(const char *path, const NameMap *map, Error *err);
/* The same face for n tensors in memory, which are borrowed. `path`: what messages call them. */
TensorFile *tensor_file_of(const char *path, const StoredTensor *tensors, size_t n, Error *err);
void tensor_file_close(TensorFile *f); /* NULL is fine */
const char *tensor_file_path(const TensorFile *f);
size_t tensor_file_count(const TensorFile *f);
/* In execution order: that of the data in the file. */
const TensorInfo *tensor_file_at(const TensorFile *f, size_t i);
/* A .npy holds one tensor; its name is the file's: latents__20.npy is "latents/20". */
bool tensor_file_nameless(const TensorFile *f);
/* Its index; tensor_file_count if there is none. */
size_t tensor_file_find(const TensorFile *f, const char *name);
/* Tensor i in C order, widened (integers too), malloc'ed [count, at least 1]. NULL with a message;
 * so is a whole number beyond 2^53, which no double tells from its neighbour. */
double *tensor_file_load(const TensorFile *f, size_t i, Error *err);
const char *tensor_file_metadata(const TensorFile *f, const char *key); /* NULL: none */

/* ---- name_map.c ---------------------------------------------------------------------------------- */

/* A file of other names: see --map in ref/cli_table.c. NULL with a message. */
NameMap *name_map_open(const char *path, Error *err);
void name_map_free(NameMap *map); /* NULL is fine */
/* Our name for theirs; `theirs` itself where the map says nothing. Written to out [size]; -1 with a
 * message if it doesn't fit. */
int name_map_apply(const NameMap *map, const char *theirs, char *out, size_t size, Error *err);

/* ---- measure.c: one row of a report -------------------------------------------------------------- */

typedef enum RowVerdict {
    ROW_MATCH,
    ROW_MISMATCH,
    ROW_NONFINITE, /* NaN or infinity in theirs or in the reference: never a match */
    ROW_MISSHAPEN, /* another shape, or another kind of type */
    ROW_MISSING,   /* not in theirs */
    ROW_EXTRA      /* not in the reference: noted, no failure */
} RowVerdict;

/* What error is allowed: absolute + relative * max|reference|. */
typedef struct Tolerance {
    double absolute, relative;
    char source[96]; /* where it comes from: "2 x torch float32's 1.2e-07, + 4 ulp" */
    bool guessed;    /* by the stored type alone */
} Tolerance;

/* Torch's own error, relative to a tensor's largest magnitude: more than this judges nothing. */
#define YARDSTICK_MAX 10

typedef struct Row {
    char *group; /* "picture.forced"; NULL: compare has none. malloc'ed */
    char *name;  /* malloc'ed */
    RowVerdict verdict;
    TensorInfo ref, mine; /* their names are this row's, or NULL where there is no such tensor */
    /* From here on zero for a row that is missing, misshapen or extra. Where a value is not finite
     * the measures are over the elements that are finite in both. */
    double largest;    /* max |reference| */
    double max_abs;    /* max |mine - reference| */
    double max_rel;    /* max_abs / largest; 0 / 0 = 0 */
    double nmse;       /* sum (mine - reference)^2 / sum reference^2 */
    double cosine;     /* of the two as vectors */
    double ulp;        /* max_abs in units in the last place of `largest`, in mine's stored type */
    int64_t nonfinite; /* elements of mine that are NaN or infinite */
    int64_t worst;     /* flat index of max_abs, or of the first element that is not finite */
    double worst_ref, worst_mine;
    double allowed; /* absolute */
    Tolerance tolerance;
} Row;

/* Fills everything but group, name, ref and mine; the verdict by `tolerance`. ref and mine [count],
 * of the same shape; `dtype` is mine's stored type. Integers: equal or not. */
void measure(Row *row, const double *ref, const double *mine, int64_t count, Dtype dtype,
             const Tolerance *tolerance);
/* Of one shape, and both floats or both whole numbers. */
bool tensors_alike(const TensorInfo *a, const TensorInfo *b);
/* The largest magnitude; over the finite elements. */
double largest_of(const double *x, int64_t count);
/* 4 units in the last place of a number of that magnitude in a float type; 0 for 0. */
double four_ulp_of(double magnitude, Dtype dtype);

/* ---- a report ------------------------------------------------------------------------------------ */

#define HINTS_MAX 4

typedef struct Report {
    char *title;     /* "compare", "verify"; malloc'ed, as all text here */
    char *reference; /* what was compared: paths, or "this program (float32)" */
    char *mine;
    Row *row; /* in execution order, extra ones last; malloc'ed */
    size_t rows;
    size_t first; /* the first divergence; rows: none */
    char *hint[HINTS_MAX];
    size_t hints;
    bool explained; /* by the hints: they say what was done, not only where it shows */
    size_t counts[ROW_EXTRA + 1]; /* by verdict */
    /* The two tensors of the row with the largest max_abs / allowed, for a picture of the damage;
     * NULL if there is none. [row[worst].ref.count], malloc'ed */
    size_t worst;
    double *worst_ref, *worst_mine;
    double closest; /* max_abs / allowed of that row */
} Report;

void report_free(Report *r); /* NULL is fine */
/* Takes the row's strings over. 0, or -1 when out of memory: then the caller still owns them. */
int report_add(Report *r, const Row *row, Error *err);
/* Before the row that was measured from them is added: takes both tensors over if it is the worst so far,
 * else ends them. */
void report_offer_worst(Report *r, const Row *row, double *ref, double *mine);
/* Counts, and finds the first divergence: once all rows are there. */
void report_conclude(Report *r);
/* 0 match, 1 mismatch, 3 missing or misshapen, 4 non-finite; of several 3 before 4 before 1. */
int report_code(const Report *r);

#define OTHERS_MAX 6
#define OTHER_SIZE 160
/* report_others.c: what diverges by itself, in groups where every input is the truth's (operators,
 * modules, forced walks), beside the first divergence: modules and not their evaluations, the largest
 * relative errors first. */
typedef struct Others {
    char name[OTHERS_MAX][OTHER_SIZE]; /* [shown] */
    size_t shown, count;               /* count: with those that aren't shown */
} Others;
int report_others(const Report *r, Others *out, Error *err); /* -1 with a message: out of memory */

const char *verdict_name(RowVerdict verdict); /* "non-finite" */

/* Each malloc'ed text, NULL when out of memory. */
char *report_text(const Report *r, bool all_rows, Error *err);
char *report_json(const Report *r, Error *err);
char *report_html(const Report *r, Error *err); /* one self-contained page */
char *report_svg(const Report *r, Error *err);  /* the errors along the network's depth */

/* ---- compare.c: two files -> a Report ------------------------------------------------------------ */

typedef struct CompareRequest {
    const char *reference, *mine, *map_file; /* paths; no map: NULL */
    const char *only;  /* POSIX extended regular expression of names; or NULL */
    const char *kit;   /* a directory: its tolerances where it knows the name; or NULL */
    const char *model; /* the pack that `reference`, a trace, was made with: for hints; or NULL */
    double rtol, atol; /* negative: not given */
    /* Elements of the reference looked at so far; other than 0 cancels. May be NULL. */
    int (*progress)(void *user, int64_t done, int64_t of);
    void *user;
} CompareRequest;

/* NULL with a message: a file that can't be read, nothing to compare, out of memory, cancelled. */
Report *compare_files(const CompareRequest *q, Error *err);
/* The regular expression is one. 0 or -1. */
int compare_check_only(const char *only, Error *err);

/* ---- verify.c ------------------------------------------------------------------------------------ */

typedef struct VerifyRequest {
    const char *kit;  /* a directory */
    const char *port; /* a directory with a port's outputs; NULL: this program is judged */
    const char *only; /* a regular expression; NULL: everything. "<group>[.free|.forced]/<name>" */
    const char *output; /* of a run of our own: a directory to write what a port writes, or NULL */
    bool free_alone, forced_alone; /* one way of the walks */
    int threads;
    /* May be NULL; stops by returning other than 0. */
    int (*progress)(void *user, int64_t done, int64_t of);
    void *user;
} VerifyRequest;

/* NULL with a message. */
Report *verify(const VerifyRequest *q, Error *err);

/* ---- hints.c ------------------------------------------------------------------------------------- */

/* What is known when row `at` diverges: both files, under our names. `name_in_file` is how the row's
 * tensor is called there. */
typedef struct HintQuestion {
    const Row *row;
    const TensorFile *ref_file, *mine_file;
    const char *name_in_file;
    const double *ref, *mine; /* [row->ref.count]; mine is NULL if its shape differs */
} HintQuestion;

/* Adds lines to the report's hints, the most telling first; none is fine. 0, or -1 with a message
 * when out of memory. */
int hints_from_tensors(Report *r, const HintQuestion *q, Error *err);

#endif
