/* Hints from the tensors alone: every kind of damage is recognised on random tensors with float32
 * noise, and nothing is said where there is nothing to say. */
#include "tests/scratch.h"

#include "ref/yardstick/yardstick.h"

#include <math.h>

/* ---- a question, made of two small files ------------------------------------------------------------- */

#define SLOTS 12
#define TOLERANCE 1e-5 /* relative to the largest value */

typedef struct Slot {
    char name[96];
    int ndim;
    int64_t dim[STORED_MAX_DIMS], count;
    double *values;
} Slot;

typedef struct Files {
    Slot ref[SLOTS], mine[SLOTS];
    int refs, mines;
    Dtype stored;     /* of mine; of the reference F64, or I64 for integers */
    double tolerance; /* 0: TOLERANCE */
} Files;

static uint64_t random_state = 1;

static double uniform(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) * 0x1p-53;
}

static double normal(void) {
    double u = uniform(), v = uniform();
    return sqrt(-2 * log(u + 1e-300)) * cos(6.283185307179586 * v);
}

static Slot slot(const char *name, int ndim, const int64_t *dim) {
    Slot s = {.ndim = ndim, .count = 1};
    snprintf(s.name, sizeof s.name, "%s", name);
    for (int i = 0; i < ndim; i++) s.count *= s.dim[i] = dim[i];
    s.values = calloc((size_t)s.count + 1, sizeof *s.values);
    assert_non_null(s.values);
    return s;
}

/* A random tensor in the reference; its values. */
static double *add_ref(Files *f, const char *name, int ndim, const int64_t *dim) {
    assert_true(f->refs < SLOTS);
    Slot *s = &f->ref[f->refs++];
    *s = slot(name, ndim, dim);
    for (int64_t i = 0; i < s->count; i++) s->values[i] = normal();
    return s->values;
}
/* A tensor of mine, zero. */
static double *add_mine(Files *f, const char *name, int ndim, const int64_t *dim) {
    assert_true(f->mines < SLOTS);
    Slot *s = &f->mine[f->mines++];
    *s = slot(name, ndim, dim);
    return s->values;
}
#define DIM(...)                                                                                   \
    ((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))), (int64_t[]) { __VA_ARGS__ }

static void files_free(Files *f) {
    for (int i = 0; i < f->refs; i++) free(f->ref[i].values);
    for (int i = 0; i < f->mines; i++) free(f->mine[i].values);
    *f = (Files){0};
}

static void write_slots(const char *path, const Slot *slots, int n, Dtype dtype) {
    StoredTensor t[SLOTS] = {0};
    void *data[SLOTS] = {0};
    Error err = {0};
    for (int i = 0; i < n; i++) {
        const Slot *s = &slots[i];
        t[i] = (StoredTensor){.name = s->name,
                              .dtype = dtype,
                              .ndim = s->ndim,
                              .bytes = (size_t)s->count * dtype_size(dtype)};
        memcpy(t[i].dim, s->dim, sizeof s->dim);
        t[i].data = data[i] = malloc(t[i].bytes + 1);
        assert_non_null(data[i]);
        for (int64_t k = 0; k < s->count; k++)
            if (dtype == DTYPE_F32)
                ((float *)data[i])[k] = (float)s->values[k];
            else if (dtype == DTYPE_I64)
                ((int64_t *)data[i])[k] = (int64_t)s->values[k];
            else
                ((double *)data[i])[k] = s->values[k];
    }
    if (safetensors_write(path, t, (size_t)n, NULL, &err)) fail_msg("%s", err.message);
    for (int i = 0; i < n; i++) free(data[i]);
}

/* The report's hints for the tensor of that name, as compare would ask for them. */
static Report *ask(Files *f, const char *name) {
    Error err = {0};
    const bool integers = f->stored == DTYPE_I64;
    write_slots(scratch("ref.safetensors"), f->ref, f->refs, integers ? DTYPE_I64 : DTYPE_F64);
    write_slots(scratch("mine.safetensors"), f->mine, f->mines, f->stored);
    TensorFile *ref = tensor_file_open(scratch("ref.safetensors"), NULL, &err);
    TensorFile *mine = tensor_file_open(scratch("mine.safetensors"), NULL, &err);
    if (err.set) fail_msg("%s", err.message);
    size_t at = tensor_file_find(ref, name), m = tensor_file_find(mine, name);
    assert_true(at < tensor_file_count(ref));
    Row row = {.name = (char *)name, .ref = *tensor_file_at(ref, at), .verdict = ROW_MISSING};
    double *a = tensor_file_load(ref, at, &err), *b = NULL;
    Tolerance tolerance = {.relative = integers ? 0 : f->tolerance ? f->tolerance : TOLERANCE};
    if (m < tensor_file_count(mine)) {
        row.mine = *tensor_file_at(mine, m);
        bool same = row.ref.ndim == row.mine.ndim &&
                    (row.ref.dtype >= DTYPE_I64) == (row.mine.dtype >= DTYPE_I64) &&
                    memcmp(row.ref.dim, row.mine.dim, (size_t)row.ref.ndim * sizeof(int64_t)) == 0;
        row.verdict = ROW_MISSHAPEN;
        if (same) {
            b = tensor_file_load(mine, m, &err);
            measure(&row, a, b, row.ref.count, row.mine.dtype, &tolerance);
        } else {
            row.allowed = tolerance.relative;
        }
    }
    HintQuestion q = {&row, ref, mine, name, a, b};
    Report *r = calloc(1, sizeof *r);
    assert_non_null(r);
    /* Random numbers may happen to agree where there are one or two of them. */
    if (row.verdict != ROW_MATCH && hints_from_tensors(r, &q, &err)) fail_msg("%s", err.message);
    if (getenv("LLMDIFF_SHOW_HINTS"))
        for (size_t i = 0; i < r->hints; i++) print_message("    %s\n", r->hint[i]);
    free(a);
    free(b);
    tensor_file_close(ref);
    tensor_file_close(mine);
    return r;
}

static int wrong_hints; /* of the test that runs: all of them are shown before it fails */

/* The most telling hint contains that text; NULL: there is no hint. */
static void expect(Files *f, const char *name, const char *text) {
    Report *r = ask(f, name);
    const char *found = r->hints ? r->hint[0] : "none";
    if (text ? !strstr(found, text) : r->hints > 0) {
        print_error("%s: expected \"%s\", found \"%s\"\n", name, text ? text : "none", found);
        wrong_hints++;
    }
    report_free(r);
}

/* Some hint contains that text, or none. */
static bool is_said(Files *f, const char *name, const char *text) {
    Report *r = ask(f, name);
    bool found = false;
    for (size_t i = 0; i < r->hints; i++) found = found || strstr(r->hint[i], text);
    report_free(r);
    return found;
}

static void expect_some(Files *f, const char *name, const char *text) {
    if (is_said(f, name, text)) return;
    print_error("%s: no hint says \"%s\"\n", name, text);
    wrong_hints++;
}

static void expect_not(Files *f, const char *name, const char *text) {
    if (!is_said(f, name, text)) return;
    print_error("%s: a hint says \"%s\"\n", name, text);
    wrong_hints++;
}

static int all_right(void **state) {
    (void)state;
    int wrong = wrong_hints;
    wrong_hints = 0;
    return wrong ? -1 : 0;
}

/* ---- one tensor ----------------------------------------------------------------------------------------- */

typedef struct Damage {
    const char *name;
    int ndim;
    int64_t dim[4];
    double (*at)(const double *ref, const int64_t *dim, int64_t i); /* mine[i] */
    const char *hint;
} Damage;

static double twice(const double *x, const int64_t *d, int64_t i) { return (void)d, 2 * x[i]; }
static double root2(const double *x, const int64_t *d, int64_t i) {
    return (void)d, x[i] / sqrt(2);
}
static double turned(const double *x, const int64_t *d, int64_t i) { return (void)d, -x[i]; }
static double vae_scale(const double *x, const int64_t *d, int64_t i) {
    return (void)d, x[i] * 0.18215;
}
static double any_factor(const double *x, const int64_t *d, int64_t i) {
    return (void)d, x[i] * 1.2345;
}
static double axis_root(const double *x, const int64_t *d, int64_t i) {
    return x[i] * sqrt((double)d[1]);
}
static double any_offset(const double *x, const int64_t *d, int64_t i) {
    return (void)d, x[i] + 0.377;
}
static double unit_range(const double *x, const int64_t *d, int64_t i) {
    return (void)d, x[i] / 2 + 0.5;
}
static double affine(const double *x, const int64_t *d, int64_t i) {
    return (void)d, x[i] * 3.3 - 0.7;
}
static double nothing(const double *x, const int64_t *d, int64_t i) {
    return (void)d, (void)x, (void)i, 0;
}
static double constant(const double *x, const int64_t *d, int64_t i) {
    return (void)d, (void)x, (void)i, 0.25;
}
static double with_silu(const double *x, const int64_t *d, int64_t i) {
    return (void)d, x[i] / (1 + exp(-x[i]));
}
static double exponential(const double *x, const int64_t *d, int64_t i) {
    return (void)d, exp(x[i]);
}
static double cut(const double *x, const int64_t *d, int64_t i) {
    return (void)d, fmin(fmax(x[i], -1), 1);
}
static double cut_at_zero(const double *x, const int64_t *d, int64_t i) {
    return (void)d, fmax(x[i], 0);
}
static double one_off(const double *x, const int64_t *d, int64_t i) {
    return (void)d, x[i] + (i == 77 ? 0.5 : 0);
}
static double three_times(const double *x, const int64_t *d, int64_t i) {
    int64_t n = d[0] * d[1];
    double largest = 0;
    for (int64_t k = 0; k < n; k++) largest = fmax(largest, fabs(x[k]));
    return x[i] + (i == 5 ? 3 * TOLERANCE * largest : 0);
}
static double one_row(const double *x, const int64_t *d, int64_t i) {
    return x[i] + (i / d[1] == 3 ? normal() : 0);
}
static double last_rows(const double *x, const int64_t *d, int64_t i) {
    return i / d[1] >= d[0] - 2 ? 0 : x[i];
}
static double border(const double *x, const int64_t *d, int64_t i) {
    int64_t c = i % d[2], r = i / d[2] % d[1];
    return x[i] + (c == 0 || r == 0 || c == d[2] - 1 || r == d[1] - 1 ? normal() : 0);
}
static double after_first(const double *x, const int64_t *d, int64_t i) {
    return i < d[1] ? x[i] : x[i] + normal();
}
static double half_steps(const double *x, const int64_t *d, int64_t i) {
    (void)d;
    int e;
    double m = frexp(x[i], &e);
    return ldexp(nearbyint(m * 256) / 256, e);
}
static double half_float(const double *x, const int64_t *d, int64_t i) {
    (void)d;
    int e;
    double m = frexp(x[i], &e);
    return ldexp(nearbyint(m * 2048) / 2048, e);
}
static double transposed(const double *x, const int64_t *d, int64_t i) {
    return x[i % d[0] * d[1] + i / d[0]];
}
static double channels_last_bytes(const double *x, const int64_t *d, int64_t i) {
    return x[i % d[0] * d[1] * d[2] + i / d[0]];
}
static double channels_twice(const double *x, const int64_t *d, int64_t i) {
    int64_t c = i / (d[1] * d[2]), p = i % (d[1] * d[2]);
    return x[p * d[0] + c]; /* the reference read as [H, W, C] */
}
static double sides(const double *x, const int64_t *d, int64_t i) {
    int64_t p = d[1] * d[2], c = i / p, at = i % p;
    return x[c * p + at % d[1] * d[2] + at / d[1]];
}
static double interleaved(const double *x, const int64_t *d, int64_t i) {
    int64_t j = i % d[1];
    return x[i - j + (j % 2) * (d[1] / 2) + j / 2];
}
static double interleaved_heads(const double *x, const int64_t *d, int64_t i) {
    (void)d;
    int64_t j = i % 8; /* heads of 8 features */
    return x[i - j + (j % 2) * 4 + j / 2];
}
static double split_heads(const double *x, const int64_t *d, int64_t i) {
    (void)d;
    int64_t j = i % 8;
    return x[i - j + j % 4 * 2 + j / 4];
}
static double partial(const double *x, const int64_t *d, int64_t i) {
    (void)d;
    int64_t j = i % 10; /* 6 of 10 */
    return j < 6 ? x[i - j + (j % 2) * 3 + j / 2] : x[i];
}
static double partial_split(const double *x, const int64_t *d, int64_t i) {
    (void)d;
    int64_t j = i % 10;
    return j < 6 ? x[i - j + j % 3 * 2 + j / 3] : x[i];
}
static double halves(const double *x, const int64_t *d, int64_t i) {
    int64_t j = i % d[1];
    return x[i - j + (j + d[1] / 2) % d[1]];
}
static double head_halves(const double *x, const int64_t *d, int64_t i) {
    (void)d;
    return x[i ^ 4];
}
static double heads_first(const double *x, const int64_t *d, int64_t i) {
    int64_t w = 8, H = d[1] / w, h = i / (d[0] * w), n = i / w % d[0];
    return x[(n * H + h) * w + i % w];
}
static double head_features(const double *x, const int64_t *d, int64_t i) {
    int64_t j = i % d[1], H = 5, w = d[1] / H;
    return x[i - j + j % H * w + j / H];
}
static double columns_first(const double *x, const int64_t *d, int64_t i) {
    int64_t w = 4, hgt = d[0] / w, r = i / d[1];
    return x[(r % hgt * w + r / hgt) * d[1] + i % d[1]];
}
static double reversed(const double *x, const int64_t *d, int64_t i) {
    return x[(d[0] - 1 - i / d[1]) * d[1] + i % d[1]];
}
static double bgr(const double *x, const int64_t *d, int64_t i) {
    int64_t p = d[1] * d[2];
    return x[(2 - i / p) * p + i % p];
}
static double mirrored(const double *x, const int64_t *d, int64_t i) {
    return x[i / d[2] * d[2] + d[2] - 1 - i % d[2]];
}
static double one_row_off(const double *x, const int64_t *d, int64_t i) {
    return i / d[1] + 1 < d[0] ? x[i + d[1]] : normal();
}
static double rolled(const double *x, const int64_t *d, int64_t i) {
    return x[(i + 3 * d[1]) % (d[0] * d[1])];
}
static double two_rows(const double *x, const int64_t *d, int64_t i) {
    int64_t r = i / d[1];
    return x[(r == 2 ? 5 : r == 5 ? 2 : r) * d[1] + i % d[1]];
}
static double shuffled(const double *x, const int64_t *d, int64_t i) {
    return x[(i / d[1] * 3 + 1) % d[0] * d[1] + i % d[1]];
}
static double shuffled_features(const double *x, const int64_t *d, int64_t i) {
    int64_t j = i % d[1];
    return x[i - j + (j * 7 + 3) % d[1]];
}
static double bias(const double *x, const int64_t *d, int64_t i) {
    return x[i] + sin(1.7 * (double)(i % d[1]));
}
static double channel_bias(const double *x, const int64_t *d, int64_t i) {
    return x[i] + sin(1.7 * (double)(i / (d[1] * d[2])));
}
static double norm_weight(const double *x, const int64_t *d, int64_t i) {
    return x[i] * (1 + 0.5 * sin(1.7 * (double)(i % d[1])));
}
static double row_scale(const double *x, const int64_t *d, int64_t i) {
    return x[i] * (1 + 0.5 * sin(1.7 * (double)(i / d[1])));
}
static double normed(const double *x, const int64_t *d, int64_t i, bool centred) {
    const double *row = x + i / d[1] * d[1];
    double mean = 0, square = 0, C = (double)d[1], j = (double)(i % d[1]);
    for (int64_t k = 0; centred && k < d[1]; k++) mean += row[k] / C;
    for (int64_t k = 0; k < d[1]; k++) square += (row[k] - mean) * (row[k] - mean) / C;
    return (x[i] - mean) / sqrt(square + 1e-5) * (1 + 0.5 * sin(j)) + (centred ? cos(3 * j) : 0);
}
static double layer_normed(const double *x, const int64_t *d, int64_t i) {
    return normed(x, d, i, true);
}
static double rms_normed(const double *x, const int64_t *d, int64_t i) {
    return normed(x, d, i, false);
}

static const Damage damages[] = {
    {"twice", 2, {8, 40}, twice, "the reference times 2, to"},
    {"root2", 2, {8, 40}, root2, "(1 / sqrt(2))"},
    {"turned", 2, {8, 40}, turned, "sign turned"},
    {"vae_scale", 3, {4, 6, 5}, vae_scale, "0.18215"},
    {"axis_root", 2, {7, 39}, axis_root, "sqrt(39)"},
    {"any_factor", 2, {8, 40}, any_factor, "times 1.2345, a constant factor"},
    {"any_offset", 2, {8, 40}, any_offset, "plus 0.377, a constant offset"},
    {"unit_range", 3, {3, 8, 8}, unit_range, "range 0 .. 1 in place of -1 .. 1"},
    {"affine", 2, {8, 40}, affine, "times 3.3 minus 0.7"},
    {"nothing", 2, {8, 40}, nothing, "zero everywhere"},
    {"constant", 2, {8, 40}, constant, "0.25 in every element"},
    {"with_silu", 2, {8, 40}, with_silu, "SiLU of the reference"},
    {"exponential", 2, {8, 40}, exponential, "exp of the reference"},
    {"cut", 2, {8, 40}, cut, "cut off below at -1 and above at 1"},
    {"cut_at_zero", 2, {8, 40}, cut_at_zero, "cut off below at 0"},
    {"one_off", 2, {8, 40}, one_off, "a single element is off, [1, 37]"},
    {"three_times", 2, {8, 40}, three_times, "a single element is off, [0, 5]"},
    {"one_row", 2, {8, 40}, one_row, "only row 3 is off"},
    {"last_rows", 2, {8, 40}, last_rows, "only rows 6 .. 7 are off, where mine is zero"},
    {"border", 3, {4, 8, 8}, border, "only the outermost rows and columns"},
    {"after_first", 2, {8, 40}, after_first, "only row 0 is right"},
    {"half_steps",
     2,
     {8, 40},
     half_steps,
     "lower precision than claimed: it is stored as F32, but every number of it fits bfloat16"},
    {"half_float", 2, {8, 40}, half_float, "fits float16"},
    {"transposed", 2, {8, 40}, transposed, "transposed"},
    {"transposed_square", 2, {8, 8}, transposed, "transposed"},
    {"channels_last", 3, {4, 6, 5}, channels_last_bytes, "channels-last"},
    {"channels_twice", 3, {4, 6, 5}, channels_twice, "once too often"},
    {"sides", 3, {4, 6, 6}, sides, "height and width transposed"},
    {"interleaved", 2, {8, 40}, interleaved, "interleaves where the reference has halves"},
    {"interleaved_heads", 2, {8, 40}, interleaved_heads, "in each of 5 groups of 8"},
    {"split_heads", 2, {8, 40}, split_heads, "has halves where the reference interleaves"},
    {"partial", 2, {8, 40}, partial, "interleaves the first 6 of each head's 10 features"},
    {"partial_split", 2, {8, 40}, partial_split, "halves the first 6 of each head's 10 features"},
    {"halves", 2, {8, 40}, halves, "two halves of its features swapped"},
    {"head_halves", 2, {8, 40}, head_halves, "halves of each of 5 groups of 8"},
    {"heads_first", 2, {8, 40}, heads_first, "transpose of heads and rows is missing"},
    {"head_features", 2, {8, 40}, head_features, "transposed as [8, 5]"},
    {"columns_first", 2, {24, 5}, columns_first, "down the columns of a map of 6 x 4"},
    {"reversed", 2, {8, 40}, reversed, "rows in reversed order"},
    {"bgr", 3, {3, 6, 5}, bgr, "BGR for RGB"},
    {"mirrored", 3, {4, 6, 5}, mirrored, "mirrored"},
    {"one_row_off", 2, {8, 40}, one_row_off, "one row off: its row i is the reference's row i + 1"},
    {"rolled", 2, {8, 40}, rolled, "the reference's row i + 3, around the end"},
    {"two_rows", 2, {8, 40}, two_rows, "rows 2 and 5 swapped"},
    {"shuffled",
     2,
     {8, 40},
     shuffled,
     "rows permuted: they are the reference's 1, 4, 7, 2, 5, 0, 3, 6"},
    {"shuffled_features",
     2,
     {8, 40},
     shuffled_features,
     "features permuted: they are the reference's 3, 10, 17"},
    {"bias", 2, {8, 40}, bias, "one constant per feature: a bias"},
    {"channel_bias", 3, {4, 6, 5}, channel_bias, "one constant per channel: a bias (or the time"},
    {"norm_weight", 2, {8, 40}, norm_weight, "one factor per feature: a norm's weight"},
    {"row_scale", 2, {8, 40}, row_scale, "one factor per row"},
    {"layer_normed", 2, {8, 40}, layer_normed, "after a LayerNorm"},
    {"rms_normed", 2, {8, 40}, rms_normed, "after an RMSNorm"},
};

/* f32 noise on top: what computing the same in another order leaves. */
static void damage(const Damage *d, Files *f) {
    const double *ref = add_ref(f, d->name, d->ndim, d->dim);
    double *mine = add_mine(f, d->name, d->ndim, d->dim);
    for (int64_t i = 0; i < f->mine[0].count; i++) mine[i] = d->at(ref, d->dim, i);
    if (strncmp(d->name, "half", 4) == 0) return; /* noise would not fit */
    for (int64_t i = 0; i < f->mine[0].count; i++)
        if (mine[i] != 0 && d->at != constant && d->at != cut) mine[i] += 1e-7 * normal();
}

static void every_damage_is_recognised(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        Files f = {.stored = DTYPE_F32};
        damage(&damages[i], &f);
        expect(&f, damages[i].name, damages[i].hint);
        files_free(&f);
    }
}

/* Numbers that have nothing to do with each other, of all sizes, at any tolerance; noise just above the
 * tolerance; and noise that grows with the row. */
static void unrelated_tensors_give_none(void **state) {
    (void)state;
    static const struct {
        int ndim;
        int64_t dim[4];
    } shapes[] = {{0, {0}},       {1, {1}},       {1, {2}},       {1, {3}},
                  {1, {7}},       {1, {64}},      {2, {1, 2}},    {2, {2, 2}},
                  {2, {3, 3}},    {2, {2, 8}},    {2, {5, 40}},   {2, {16, 16}},
                  {3, {1, 1, 1}}, {3, {4, 2, 2}}, {3, {3, 8, 8}}, {4, {1, 5, 7, 8}}};
    static const double tolerances[] = {1e-10, 1e-5, 3e-2};
    static const double noise[] = {1.2, 2.5, 3.5, 10, 1e3, 1e9};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t t = 0; t < 3; t++)
            for (size_t n = 0; n < 6; n++)
                for (int repeat = 0; repeat < 4; repeat++) {
                    Files f = {.stored = DTYPE_F64, .tolerance = tolerances[t]};
                    const double *ref = add_ref(&f, "x", shapes[s].ndim, shapes[s].dim);
                    double *mine = add_mine(&f, "x", shapes[s].ndim, shapes[s].dim);
                    double largest = 0, e = 0;
                    for (int64_t i = 0; i < f.ref[0].count; i++) {
                        largest = fmax(largest, fabs(ref[i]));
                        e = fmax(e, fabs(mine[i] = normal()));
                    }
                    /* The last of the noises: unrelated altogether. */
                    double by = noise[n] * tolerances[t] * largest / e;
                    for (int64_t i = 0; i < f.ref[0].count; i++)
                        mine[i] = n == 5 ? mine[i] : ref[i] + by * mine[i];
                    expect(&f, "x", NULL);
                    files_free(&f);
                }
}

/* A damage and much else besides is no explanation: at 2 % noise each must keep silent. */
static void half_an_explanation_is_none(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        const Damage *d = &damages[i];
        if (d->at == one_off || d->at == three_times || d->at == border || d->at == one_row ||
            d->at == after_first)
            continue; /* those only say where */
        Files f = {.stored = DTYPE_F32};
        const double *ref = add_ref(&f, "x", d->ndim, d->dim);
        double *mine = add_mine(&f, "x", d->ndim, d->dim), error = 0;
        for (int64_t k = 0; k < f.mine[0].count; k++) {
            mine[k] = d->at(ref, d->dim, k);
            error = fmax(error, fabs(mine[k] - ref[k]));
        }
        for (int64_t k = 0; k < f.mine[0].count; k++) mine[k] += 0.03 * error * normal();
        expect(&f, "x", NULL);
        files_free(&f);
    }
}

/* What is constant can't tell a factor from an offset, nor from another constant's share. */
static void constants_say_little(void **state) {
    (void)state;
    Files f = {.stored = DTYPE_F32};
    double *flat = add_ref(&f, "x", DIM(3)), *mine = add_mine(&f, "x", DIM(3));
    for (int i = 0; i < 3; i++) flat[i] = 2, mine[i] = 3;
    expect_not(&f, "x", "range 0 .. 1");
    files_free(&f);

    f.stored = DTYPE_F32;
    double *other = add_ref(&f, "unet/0/t2", DIM(6));
    flat = add_ref(&f, "unet/0/t1", DIM(6)), mine = add_mine(&f, "unet/0/t1", DIM(6));
    for (int i = 0; i < 6; i++) flat[i] = 1, mine[i] = 1.01, other[i] = 2;
    expect_not(&f, "unet/0/t1", "t2");
    files_free(&f);

    f.stored = DTYPE_F32;
    other = add_ref(&f, "latents/0", DIM(6));
    flat = add_ref(&f, "unet/0/sample", DIM(6)), mine = add_mine(&f, "unet/0/sample", DIM(6));
    for (int i = 0; i < 6; i++) other[i] = 2, flat[i] = 1, mine[i] = 1.01;
    expect_not(&f, "unet/0/sample", "latents/0");
    files_free(&f);

    f.stored = DTYPE_F64; /* one element of nothing but zeros */
    flat = add_ref(&f, "x", DIM(4, 8)), mine = add_mine(&f, "x", DIM(4, 8));
    for (int i = 0; i < 32; i++) flat[i] = mine[i] = 0;
    mine[5] = 5e-31;
    expect_not(&f, "x", "nan");
    expect_some(&f, "x", "all others are exactly zero");
    files_free(&f);
}

/* t of 501 is 500 in bfloat16, and 2049 is 2048 in float16; 502 is itself in both. */
static void one_number_rounded(void **state) {
    (void)state;
    static const struct {
        double ref, mine;
        const char *hint;
    } cases[] = {
        {501, 500, "mine is the reference rounded to bfloat16; or it is the reference minus 1"},
        {499, 500, "rounded to bfloat16; or it is the reference plus 1"},
        {2051, 2052, "rounded to float16; or it is the reference plus 1"},
        {502, 501, "minus 1: counted from another"},
        {0.7071, 0.70703125, "rounded to bfloat16"}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        Files f = {.stored = DTYPE_F32};
        add_ref(&f, "unet/0/t", 0, NULL)[0] = cases[c].ref;
        add_mine(&f, "unet/0/t", 0, NULL)[0] = cases[c].mine;
        expect(&f, "unet/0/t", cases[c].hint);
        files_free(&f);
    }
}

static void few_elements_say_little(void **state) {
    (void)state;
    Files f = {.stored = DTYPE_F32};
    const double *ref = add_ref(&f, "x", DIM(1));
    add_mine(&f, "x", DIM(1))[0] = ref[0] * 1.2345;
    expect(&f, "x", NULL);
    files_free(&f);

    f.stored = DTYPE_F64; /* eight digits and more */
    f.tolerance = 1e-12;
    ref = add_ref(&f, "x", 0, NULL);
    add_mine(&f, "x", 0, NULL)[0] = ref[0] * 2;
    expect(&f, "x", "times 2");
    files_free(&f);

    f.stored =
        DTYPE_F32; /* a constant reference: factor and offset can't be told from each other */
    double *flat = add_ref(&f, "x", DIM(4, 8)), *mine = add_mine(&f, "x", DIM(4, 8));
    for (int i = 0; i < 32; i++) flat[i] = 0.5, mine[i] = 0.61;
    expect(&f, "x", NULL);
    files_free(&f);

    f.stored = DTYPE_F32;
    flat = add_ref(&f, "x", DIM(4, 8)), mine = add_mine(&f, "x", DIM(4, 8));
    for (int i = 0; i < 32; i++) flat[i] = 0, mine[i] = 1e-9 * normal();
    expect(&f, "x", "the reference is exactly zero");
    files_free(&f);
}

/* Numbers of another size altogether: what is little beside them may be much beside the reference. */
static void numbers_far_too_large(void **state) {
    (void)state;
    static const double sizes[] = {1e2, 1e6, 1e20, 1e200};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        Files f = {.stored = DTYPE_F64};
        add_ref(&f, "x", DIM(8, 40));
        double *mine = add_mine(&f, "x", DIM(8, 40));
        for (int i = 0; i < 320; i++) mine[i] = sizes[s] * normal();
        expect(&f, "x", NULL);
        files_free(&f);
    }
}

static void values_that_are_not_finite(void **state) {
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        static const char *const expected[] = {"NaN in a single element, [1, 2]",
                                               "NaN in 8 elements of 32, all in row 3 (the last)",
                                               "NaN in every element", "float16's largest number"};
        Files f = {.stored = DTYPE_F32};
        double *ref = add_ref(&f, "x", DIM(4, 8)), *mine = add_mine(&f, "x", DIM(4, 8));
        for (int i = 0; i < 32; i++) {
            if (kind == 3) ref[i] = i % 2 ? 1e5 : 1;
            bool hit = kind == 0 ? i == 10 : kind == 1 ? i >= 24 : kind == 2;
            mine[i] = kind == 3 && i % 2 ? INFINITY : hit ? NAN : ref[i];
        }
        expect(&f, "x", expected[kind]);
        files_free(&f);
    }
}

static void pictures_of_bytes(void **state) {
    (void)state;
    Files f = {.stored = DTYPE_F32};
    double *ref = add_ref(&f, "image", DIM(3, 8, 8)), *mine = add_mine(&f, "image", DIM(3, 8, 8));
    for (int i = 0; i < 192; i++) {
        ref[i] = 2 * uniform() - 1;
        mine[i] = floor(fmin((ref[i] + 1) * 127.5 + 0.5, 255)) / 127.5 - 1;
    }
    expect(&f, "image", "a picture of 8 bits");
    files_free(&f);
}

static void integers(void **state) {
    (void)state;
    static const struct {
        int64_t mine[8];
        const char *hint;
    } cases[] = {{{2, 18, 30, 42, 54, 7, 9, 12}, "plus 1: counted from another"},
                 {{11, 8, 6, 53, 41, 29, 17, 1}, "reversed order"},
                 {{17, 29, 41, 53, 6, 8, 11, 99}, "one element off"},
                 {{1, 17, 29, 41, 99, 6, 8, 11}, "a single element is off, [4]"},
                 {{5, 44, 3, 17, 80, 21, 66, 70}, NULL}};
    static const double ids[] = {1, 17, 29, 41, 53, 6, 8, 11};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        Files f = {.stored = DTYPE_I64};
        double *ref = add_ref(&f, "ids", DIM(8)), *mine = add_mine(&f, "ids", DIM(8));
        for (int i = 0; i < 8; i++) ref[i] = ids[i], mine[i] = (double)cases[c].mine[i];
        expect(&f, "ids", cases[c].hint);
        files_free(&f);
    }
}

/* ---- another shape, another name ------------------------------------------------------------------------- */

static void other_shapes(void **state) {
    (void)state;
    static const struct {
        int ndim;
        int64_t dim[4];
        const char *hint;
    } cases[] = {
        {2, {40, 6}, "mine is transposed: [40, 6] for [6, 40]"},
        {3, {1, 6, 40}, "a dimension of 1 too many"},
        {3, {6, 5, 8}, "only the shape differs, [6, 5, 8] for [6, 40]"},
        {2, {5, 40}, "the reference from its row 1 on: the begin token is missing"},
        {3, {1, 5, 40}, "the reference from its row 1 on: the begin token is missing"},
        {2,
         {7, 40},
         "1 row more: the reference is what begins at its row 1: a begin token too many"},
        {2, {77, 40}, "71 rows more: the reference is what begins at its row 0: padded"},
        {3, {2, 6, 40}, "a batch of 2, [2, 6, 40]: its element 1 is"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int related = 0; related < 2; related++) {
            Files f = {.stored = DTYPE_F32};
            const double *ref = add_ref(&f, "x", DIM(6, 40));
            double *mine = add_mine(&f, "x", cases[c].ndim, cases[c].dim);
            for (int64_t i = 0; i < f.mine[0].count; i++) {
                int64_t from = i;
                if (c == 0) from = i % 6 * 40 + i / 6;
                if (c == 3 || c == 4) from = i + 40;
                if (c == 5) from = i - 40;
                if (c == 7) from = i - 240;
                mine[i] = from >= 0 && from < 240 && related ? ref[from] : normal();
            }
            const char *by_shape = c == 6 ? "CLIP" : NULL;
            expect(&f, "x", related ? cases[c].hint : by_shape);
            files_free(&f);
        }
}

static void channels_last_shape(void **state) {
    (void)state;
    Files f = {.stored = DTYPE_F32};
    const double *ref = add_ref(&f, "x", DIM(4, 6, 5));
    double *mine = add_mine(&f, "x", DIM(6, 5, 4));
    for (int64_t i = 0; i < 120; i++) mine[i] = ref[i % 4 * 30 + i / 4];
    expect(&f, "x", "[6, 5, 4] for [4, 6, 5], channels-last for channels-first");
    files_free(&f);
}

static void missing_under_another_name(void **state) {
    (void)state;
    Files f = {.stored = DTYPE_F32};
    const double *ref = add_ref(&f, "llm/x.3", DIM(6, 40));
    double *other = add_mine(&f, "decoy", DIM(6, 40)), *mine = add_mine(&f, "layers.3", DIM(6, 40));
    for (int i = 0; i < 240; i++) other[i] = normal(), mine[i] = ref[i];
    expect(&f, "llm/x.3", "under the name layers.3");
    mine[0] += 1;
    expect(&f, "llm/x.3", NULL);
    files_free(&f);
}

/* ---- neighbours --------------------------------------------------------------------------------------------- */

/* Tensors of those names in the reference, and mine the same but for what the test then does. */
static void both(Files *f, int n, const char *const *names) {
    *f = (Files){.stored = DTYPE_F32};
    for (int i = 0; i < n; i++) {
        const double *ref = add_ref(f, names[i], DIM(6, 40));
        double *mine = add_mine(f, names[i], DIM(6, 40));
        for (int k = 0; k < 240; k++) mine[k] = ref[k] + 1e-7 * normal();
    }
}

static void set(Files *f, int mine, int a, double by, int b, double times) {
    for (int k = 0; k < 240; k++)
        f->mine[mine].values[k] =
            by * f->ref[a].values[k] + times * f->ref[b].values[k] + 1e-7 * normal();
}

static void other_tensors(void **state) {
    (void)state;
    static const char *const names[] = {
        "llm/x.4",
        "llm/s_sentence.4",
        "llm/s_word.4",
        "llm/x.3",
        "llm/x.2",
        "unet/0/cond/down_blocks.0.attentions.0.transformer_blocks.0.ff",
        "unet/0/cond/down_blocks.1.attentions.0.transformer_blocks.0.ff",
        "unet/0/uncond/down_blocks.0.attentions.0.transformer_blocks.0.ff",
        "uncond/llm/x.3"};
    Files f;
    both(&f, 9, names);
    set(&f, 3, 4, 1, 0, 0);
    expect(&f, names[3],
           "equals the reference's llm/x.2, which comes later in the run: an index is one off");
    set(&f, 4, 3, 1, 0, 0);
    expect(&f, names[3],
           "equals the reference's llm/x.2, and the other way round: the two are swapped");
    set(&f, 3, 8, 1, 0, 0);
    expect(&f, names[3], "uncond/llm/x.3: conditional and unconditional are confused");
    set(&f, 5, 7, 1, 0, 0), set(&f, 7, 5, 1, 0, 0);
    expect(&f, names[5], "the other way round: conditional and unconditional are swapped");
    set(&f, 5, 6, 1, 0, 0);
    expect(&f, names[5], "equals the reference's unet/0/cond/down_blocks.1");
    set(&f, 1, 1, 1, 0, 1);
    expect(&f, names[1], "the reference plus llm/x.4");
    set(&f, 1, 1, 1, 0, -1);
    expect(&f, names[1], "the reference minus llm/x.4");
    set(&f, 3, 3, 1, 2, -2);
    expect(&f, names[3], "minus 2 times llm/s_word.4: a term with the wrong sign");
    for (int k = 0; k < 240; k++) f.mine[1].values[k] = normal();
    expect(&f, names[1], NULL);
    files_free(&f);
}

/* y = sum of k[i] * names[i], in the reference and, with other k, in mine. */
static void sum_of(Files *f, int at, const double *ref, const double *mine) {
    for (int k = 0; k < 240; k++) {
        f->ref[at].values[k] = f->mine[at].values[k] = 0;
        for (int i = 0; i < at; i++) {
            f->ref[at].values[k] += ref[i] * f->ref[i].values[k];
            f->mine[at].values[k] += mine[i] * f->ref[i].values[k] + 1e-7 * normal();
        }
    }
}

static void sums(void **state) {
    (void)state;
    static const char *const guided[] = {"unet/1/cond/eps", "unet/1/uncond/eps", "unet/1/eps"};
    static const char *const eq9[] = {"unet/1/cond/a.attn2/original", "unet/1/cond/a.attn2/added",
                                      "unet/1/cond/a.attn2/f"};
    static const char *const alg1[] = {"uncond/alg1/c.3", "uncond/llm/s_sentence.3",
                                       "uncond/llm/s_word.3", "uncond/alg1/c.2"};
    static const char *const step[] = {"latents/4", "unet/4/eps", "latents/5"};
    Files f;
    both(&f, 3, guided);
    sum_of(&f, 2, (double[]){7.5, -6.5}, (double[]){-6.5, 7.5});
    expect(&f, guided[2], "the reference has 7.5, -6.5 there: the two are swapped");
    sum_of(&f, 2, (double[]){7.5, -6.5}, (double[]){8.5, -7.5});
    expect(&f, guided[2],
           "mine is 8.5 unet/1/cond/eps - 7.5 unet/1/uncond/eps; the reference has 7.5");
    sum_of(&f, 2, (double[]){7.5, -6.5}, (double[]){7.5, 0});
    expect(&f, guided[2], "unet/1/uncond/eps is left out");
    files_free(&f);
    both(&f, 3, eq9);
    sum_of(&f, 2, (double[]){1.3, 0.4}, (double[]){0.4, 1.3});
    expect(&f, eq9[2], "the reference has 1.3, 0.4 there: the two are swapped");
    sum_of(&f, 2, (double[]){1.3, 0.4}, (double[]){1.3, 0.5});
    expect(&f, eq9[2], "added is there 1.25 times");
    sum_of(&f, 2, (double[]){1.3, 0.4}, (double[]){1.01 * 1.3, 1.01 * 0.4});
    expect(&f, eq9[2], "the reference times 1.01, a constant factor");
    files_free(&f);
    both(&f, 4, alg1);
    sum_of(&f, 3, (double[]){1, 0.9, -0.9}, (double[]){1, 0.9, 0});
    expect(&f, alg1[3], "uncond/llm/s_word.3 is left out");
    sum_of(&f, 3, (double[]){1, 0.9, -0.9}, (double[]){1, 0.9, 0.9});
    expect(&f, alg1[3], "the sign of uncond/llm/s_word.3");
    sum_of(&f, 3, (double[]){1, 0.9, -0.9}, (double[]){1, 0.81, -0.81});
    expect(&f, alg1[3], "the reference has 1, 0.9, -0.9 there: the squares of");
    sum_of(&f, 3, (double[]){1, 1.37236, -0.9}, (double[]){1, 1.88337, -0.9});
    expect(&f, alg1[3], "the square of the reference's there, a factor that is applied twice");
    sum_of(&f, 3, (double[]){1, 0.9, -0.9}, (double[]){1, 0.7, -0.7});
    expect(&f, alg1[3], "the reference has 1, 0.9, -0.9 there, to");
    files_free(&f);
    both(&f, 3, step);
    sum_of(&f, 2, (double[]){0.98, -0.3}, (double[]){0.97, -0.2});
    expect(&f, step[2], "the reference has 0.98, -0.3 there");
    files_free(&f);
}

/* Full-size tensors take no long time, whatever is tried: 2 million elements without any hint. */
static void large_tensors(void **state) {
    (void)state;
    Files f = {.stored = DTYPE_F32};
    add_ref(&f, "unet/0/cond/a", DIM(4096, 512));
    double *mine = add_mine(&f, "unet/0/cond/a", DIM(4096, 512));
    for (int64_t i = 0; i < 4096 * 512; i++) mine[i] = normal();
    expect(&f, "unet/0/cond/a", NULL);
    files_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_damage_is_recognised, all_right),
        cmocka_unit_test_teardown(unrelated_tensors_give_none, all_right),
        cmocka_unit_test_teardown(half_an_explanation_is_none, all_right),
        cmocka_unit_test_teardown(few_elements_say_little, all_right),
        cmocka_unit_test_teardown(constants_say_little, all_right),
        cmocka_unit_test_teardown(one_number_rounded, all_right),
        cmocka_unit_test_teardown(numbers_far_too_large, all_right),
        cmocka_unit_test_teardown(values_that_are_not_finite, all_right),
        cmocka_unit_test_teardown(pictures_of_bytes, all_right),
        cmocka_unit_test_teardown(integers, all_right),
        cmocka_unit_test_teardown(other_shapes, all_right),
        cmocka_unit_test_teardown(channels_last_shape, all_right),
        cmocka_unit_test_teardown(missing_under_another_name, all_right),
        cmocka_unit_test_teardown(other_tensors, all_right),
        cmocka_unit_test_teardown(sums, all_right),
        cmocka_unit_test_teardown(large_tensors, all_right),
    };
    return cmocka_run_group_tests_name("hints", tests, scratch_make, scratch_remove);
}
