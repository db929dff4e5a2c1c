/* Comparing: measures against values made by hand, names, tolerances, verdicts, and the report as
 * text and JSON. The program's own tests are in test_compare_cli.c. */
#include "ref/yardstick/yardstick.h"
#include "tests/scratch.h"

#include <cjson/cJSON.h>
#include <float.h>
#include <math.h>

#define FILES "golden/data/files/"

/* ---- measures ------------------------------------------------------------------------------------ */

static Row measured(const double *ref, const double *mine, int64_t n, Dtype dtype, double atol,
                    double rtol) {
    Row row = {0};
    Tolerance t = {.absolute = atol, .relative = rtol};
    measure(&row, ref, mine, n, dtype, &t);
    return row;
}

static void same(double found, double expected, const char *what) {
    if (!(found == expected || (isnan(found) && isnan(expected))))
        fail_msg("%s: expected %.17g, found %.17g", what, expected, found);
}

/* 3, 4 and 3, 4.5, and zeros, times a power of two: what is relative is the same at any scale. */
static void measures_by_hand_at_every_scale(void **state) {
    (void)state;
    static const int exponents[] = {0, 1, -1, 100, -100, 700, -700, 1020, -1021, -1060, -1073};
    for (size_t i = 0; i < sizeof exponents / sizeof exponents[0]; i++) {
        int e = exponents[i];
        double ref[] = {0, ldexp(3, e), 0, ldexp(4, e), 0},
               mine[] = {0, ldexp(3, e), 0, ldexp(4.5, e), 0};
        Row row = measured(ref, mine, 5, DTYPE_F64, 0, 0.125);
        if (e == -1073) { /* 4.5 is beyond what there is: 4 + 2^-1074 */
            mine[3] = ldexp(5, e);
            row = measured(ref, mine, 5, DTYPE_F64, 0, 0.25);
        }
        double error = e == -1073 ? 1 : 0.5;
        same(row.largest, ldexp(4, e), "largest");
        same(row.max_abs, ldexp(error, e), "max_abs");
        same(row.max_rel, error / 4, "max_rel");
        same(row.nmse, error * error / 25, "nmse");
        double other = 4 + error, expected = (9 + 4 * other) / (5 * sqrt(9 + other * other));
        assert_true(fabs(row.cosine - expected) <= 1e-15);
        assert_int_equal(row.worst, 3);
        same(row.worst_ref, ref[3], "worst_ref");
        same(row.worst_mine, mine[3], "worst_mine");
        assert_int_equal(row.nonfinite, 0);
        same(row.allowed, row.max_abs, "allowed");
        assert_int_equal(row.verdict, ROW_MATCH); /* exactly what is allowed */
        row = measured(ref, mine, 5, DTYPE_F64, 0, nextafter(error / 4, 0));
        if (e > -900) assert_int_equal(row.verdict, ROW_MISMATCH);
    }
}

static void equal_tensors_match_without_tolerance(void **state) {
    (void)state;
    double x[] = {1, -2, 3e-310, DBL_MAX};
    for (int i = 1; i < 100; i++) { /* a cosine of 1, whatever is rounded on the way */
        x[0] = i / 7.0;
        same(measured(x, x, 2, DTYPE_F64, 0, 0).cosine, 1, "cosine");
    }
    Row row = measured(x, x, 4, DTYPE_F64, 0, 0);
    assert_int_equal(row.verdict, ROW_MATCH);
    same(row.max_abs, 0, "max_abs");
    same(row.max_rel, 0, "max_rel");
    same(row.nmse, 0, "nmse");
    same(row.cosine, 1, "cosine");
    same(row.ulp, 0, "ulp");
    same(row.largest, DBL_MAX, "largest");
}

/* A difference that no double holds. */
static void a_difference_beyond_all_numbers(void **state) {
    (void)state;
    const double ref[] = {-DBL_MAX, 1, DBL_MAX / 2}, mine[] = {DBL_MAX, 1, DBL_MAX / 2};
    Row row = measured(ref, mine, 3, DTYPE_F64, 0, 10);
    same(row.max_abs, INFINITY, "max_abs");
    same(row.max_rel, 2, "max_rel");
    assert_true(fabs(row.nmse - 4 / 1.25) <= 1e-15);
    assert_int_equal(row.worst, 0);
    assert_int_equal(row.verdict, ROW_MISMATCH); /* though rtol 10 allows infinitely much */
    /* the larger of two such, not the first; and a small one in between is no worse */
    const double a[] = {-DBL_MAX / 2, 0, -DBL_MAX}, b[] = {DBL_MAX, 1, DBL_MAX};
    row = measured(a, b, 3, DTYPE_F64, 0, 0);
    assert_int_equal(row.worst, 2);
    same(row.max_rel, 2, "max_rel");
}

static void nothing_in_the_reference(void **state) {
    (void)state;
    const double zero[] = {0, -0.0}, small[] = {0, 1e-300};
    Row row = measured(zero, zero, 2, DTYPE_F32, 0, 1);
    assert_int_equal(row.verdict, ROW_MATCH);
    same(row.max_rel, 0, "max_rel");
    same(row.nmse, 0, "nmse");
    same(row.cosine, 1, "cosine");
    row = measured(zero, small, 2, DTYPE_F32, 0, 1); /* relative to nothing: exactly zero */
    assert_int_equal(row.verdict, ROW_MISMATCH);
    same(row.max_rel, INFINITY, "max_rel");
    same(row.nmse, INFINITY, "nmse");
    same(row.cosine, 0, "cosine");
    row = measured(small, zero, 2, DTYPE_F32, 0, 0.5);
    assert_int_equal(row.verdict, ROW_MISMATCH);
    same(row.max_rel, 1, "max_rel");
    same(row.nmse, 1, "nmse");
    same(row.cosine, 0, "cosine");
    row = measured(zero, zero, 0, DTYPE_F32, 0, 0);
    assert_int_equal(row.verdict, ROW_MATCH);
    same(row.cosine, 1, "cosine");
    same(row.max_abs, 0, "max_abs");
}

static void directions(void **state) {
    (void)state;
    const double x[] = {1, 2, 2}, minus[] = {-1, -2, -2}, across[] = {2, 1, -2},
                 many[] = {5, 10, 10};
    same(measured(x, minus, 3, DTYPE_F64, 0, 0).cosine, -1, "cosine");
    same(measured(x, across, 3, DTYPE_F64, 0, 0).cosine, 0, "cosine");
    same(measured(x, many, 3, DTYPE_F64, 0, 0).cosine, 1, "cosine");
    same(measured(x, minus, 3, DTYPE_F64, 0, 0).nmse, 4, "nmse");
    /* far apart in scale, each way */
    const double tiny[] = {1e-300, 2e-300, 2e-300}, huge[] = {1e300, 2e300, 2e300};
    Row row = measured(tiny, huge, 3, DTYPE_F64, 0, 0);
    assert_true(fabs(row.cosine - 1) <= 1e-15);
    same(row.nmse, INFINITY, "nmse");
    row = measured(huge, tiny, 3, DTYPE_F64, 0, 0);
    assert_true(fabs(row.cosine - 1) <= 1e-15 && fabs(row.nmse - 1) <= 1e-15);
}

/* NaN and infinity match nothing, not themselves either; the rest is measured. */
static void what_is_not_finite(void **state) {
    (void)state;
    const double inf = INFINITY, nan_ = NAN;
    const struct {
        double ref, mine;
        int64_t count;
    } pairs[] = {{1, nan_, 1},   {nan_, nan_, 1}, {nan_, 1, 0},   {1, inf, 1}, {inf, inf, 1},
                 {inf, -inf, 1}, {inf, 1, 0},     {nan_, inf, 1}, {1, -inf, 1}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const double ref[] = {2, pairs[i].ref, 4, pairs[i].ref},
                     mine[] = {2, pairs[i].mine, 4.5, pairs[i].mine};
        Row row = measured(ref, mine, 4, DTYPE_F64, 1e9, 1e9);
        assert_int_equal(row.verdict, ROW_NONFINITE);
        assert_int_equal(row.nonfinite, 2 * pairs[i].count);
        assert_int_equal(row.worst, 1);
        same(row.worst_ref, pairs[i].ref, "worst_ref");
        same(row.worst_mine, pairs[i].mine, "worst_mine");
        same(row.largest, 4, "largest");
        same(row.max_abs, 0.5, "max_abs");
        assert_true(fabs(row.nmse - 0.25 / 20) <= 1e-17);
    }
    const double none[] = {NAN, INFINITY};
    Row row = measured(none, none, 2, DTYPE_F64, 1, 1);
    assert_int_equal(row.verdict, ROW_NONFINITE);
    same(row.max_abs, 0, "max_abs");
    same(row.nmse, 0, "nmse");
}

static void units_in_the_last_place(void **state) {
    (void)state;
    static const struct {
        Dtype dtype;
        double magnitude, ulp;
    } known[] = {{DTYPE_F64, 1, 0x1p-52},        {DTYPE_F64, 1.999, 0x1p-52},
                 {DTYPE_F64, 2, 0x1p-51},        {DTYPE_F64, DBL_MIN, 0x1p-1074},
                 {DTYPE_F64, 1e-320, 0x1p-1074}, {DTYPE_F32, 1, 0x1p-23},
                 {DTYPE_F32, 0.75, 0x1p-24},     {DTYPE_F32, 1e-45, 0x1p-149},
                 {DTYPE_F16, 1, 0x1p-10},        {DTYPE_F16, 65504, 32},
                 {DTYPE_F16, 0x1p-14, 0x1p-24},  {DTYPE_F16, 1e-7, 0x1p-24},
                 {DTYPE_BF16, 1, 0x1p-7},        {DTYPE_BF16, 3, 0x1p-6},
                 {DTYPE_BF16, 1e-40, 0x1p-133}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        same(four_ulp_of(known[i].magnitude, known[i].dtype), 4 * known[i].ulp, "four_ulp_of");
        const double ref[] = {known[i].magnitude, 0}, mine[] = {ref[0], 3 * known[i].ulp};
        same(measured(ref, mine, 2, known[i].dtype, 0, 0).ulp, 3, "ulp");
    }
    same(four_ulp_of(0, DTYPE_F32), 0, "four_ulp_of 0");
    same(four_ulp_of(5, DTYPE_I64), 0, "four_ulp_of a whole number");
    const double zero = 0, least = 0x1p-149;
    same(measured(&zero, &least, 1, DTYPE_F32, 0, 0).ulp, 1, "ulp of 0");
}

static void whole_numbers_are_equal_or_not(void **state) {
    (void)state;
    const double ref[] = {1, 2, 3}, mine[] = {1, 2, 4};
    assert_int_equal(measured(ref, ref, 3, DTYPE_I64, 0, 0).verdict, ROW_MATCH);
    Row row = measured(ref, mine, 3, DTYPE_U8, 10, 10);
    assert_int_equal(row.verdict, ROW_MISMATCH);
    same(row.allowed, 0, "allowed");
    same(row.ulp, 1, "ulp");
    assert_string_equal(row.tolerance.source, "whole numbers: equal");
}

/* Sums of many don't lose digits. */
static void sums_of_a_million(void **state) {
    (void)state;
    enum { N = 1000003 };
    double *ref = malloc(N * sizeof *ref), *mine = malloc(N * sizeof *mine);
    assert_non_null(ref);
    assert_non_null(mine);
    for (int i = 0; i < N; i++) ref[i] = 0.1, mine[i] = 0.1 + 0x1p-20;
    Row row = measured(ref, mine, N, DTYPE_F64, 0, 1e-5);
    double each = mine[0] - ref[0], expected = each * each / (0.1 * 0.1);
    assert_true(fabs(row.nmse / expected - 1) <= 1e-13);
    assert_true(fabs(row.cosine - 1) <= 1e-15);
    assert_int_equal(row.verdict, ROW_MATCH);
    mine[N - 1] = 0.2;
    assert_int_equal(measured(ref, mine, N, DTYPE_F64, 0, 1e-5).worst, N - 1);
    free(ref);
    free(mine);
}

static void the_largest_of_what_is_finite(void **state) {
    (void)state;
    const double x[] = {1, -7, NAN, INFINITY, 3};
    same(largest_of(x, 5), 7, "largest_of");
    same(largest_of(x, 0), 0, "largest_of nothing");
}

/* ---- names --------------------------------------------------------------------------------------- */

static NameMap *map_of(const char *json) {
    Error err = {0};
    write_text(scratch("map.json"), json);
    NameMap *map = name_map_open(scratch("map.json"), &err);
    if (!map) fail_msg("%s", err.message);
    return map;
}

static void names_are_translated(void **state) {
    (void)state;
    NameMap *map =
        map_of("{\"h.*.attn.*\": \"llm/attn.*/*\", \"h.*\": \"llm/x.*\", \"h.7.*\": \"never*\","
               " \"h.3\": \"exact\", \"*.end\": \"begin/*\", \"a*b*c\": \"*-*\","
               " \"star\": \"plain\", \"xy*y\": \"z*\"}");
    static const struct {
        const char *theirs, *ours;
    } known[] = {{"h.12.attn.q", "llm/attn.12/q"},
                 {"h.7.mlp", "llm/x.7.mlp"}, /* the earlier pattern, though a later one fits too */
                 {"h.3", "exact"},           /* though a pattern above it fits */
                 {"h.", "llm/x."},
                 {"h", "h"},
                 {"xh.1", "xh.1"}, /* patterns are for whole names */
                 {"some.end", "begin/some"},
                 {"some.ending", "some.ending"},
                 {"abc", "-"},
                 {"aXbYbZc", "X-YbZ"}, /* the first b ends the first star */
                 {"ab", "ab"},
                 {"ac", "ac"},
                 {"star", "plain"},
                 {"xyy", "z"},
                 {"xy", "xy"}, /* the y is one of two that the pattern wants */
                 {"", ""}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char ours[64];
        Error err = {0};
        assert_int_equal(name_map_apply(map, known[i].theirs, ours, sizeof ours, &err), 0);
        if (strcmp(ours, known[i].ours) != 0)
            fail_msg("%s: expected %s, found %s", known[i].theirs, known[i].ours, ours);
    }
    char small[6];
    Error err = {0};
    assert_int_equal(name_map_apply(map, "h.1234", small, sizeof small, &err), -1);
    assert_error(&err, "map.json: the name for \"h.1234\" has more than 5 bytes");
    char room[12] = "___________";
    err = (Error){0};
    assert_int_equal(name_map_apply(map, "h.1234", room, 10, &err), -1);
    assert_int_equal(room[10], '_');
    err = (Error){0};
    assert_int_equal(name_map_apply(map, "h.1234", room, 11, &err), 0);
    assert_string_equal(room, "llm/x.1234");
    name_map_free(map);
}

static void broken_maps_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *json, *message;
    } bad[] = {
        {"{\"a\": 1}", "map.json: \"a\": expected a name in quotes"},
        {"{\"a\": \"\"}", "map.json: \"a\": expected names that are not empty"},
        {"{\"\": \"a\"}", "map.json: \"\": expected names that are not empty"},
        {"{\"a*\": \"b\"}", "map.json: \"a*\": expected as many '*' as in \"b\", 0, found 1"},
        {"{\"a\": \"b*\"}", "map.json: \"a\": expected as many '*' as in \"b*\", 1, found 0"},
        {"{\"a**\": \"b**\"}", "map.json: \"a**\": expected something between two '*'"},
        {"{\"*a*a*a*a*a*a*a*a*\": \"*a*a*a*a*a*a*a*a*\"}",
         "map.json: \"*a*a*a*a*a*a*a*a*\": expected at most 8 '*'"},
        {"{\"a\": \"b\", \"a\": \"c\"}", "map.json: \"a\" is there twice"},
        {"[1]", "map.json: expected a JSON object { }"},
        {"{\"a\": ", "map.json: not JSON (at byte 5 of 6)"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Error err = {0};
        write_text(scratch("map.json"), bad[i].json);
        assert_null(name_map_open(scratch("map.json"), &err));
        assert_error(&err, bad[i].message);
    }
    Error err = {0};
    assert_null(name_map_open(scratch("absent.json"), &err));
    assert_error(&err, "absent.json: can't be opened: No such file or directory");
}

/* ---- files --------------------------------------------------------------------------------------- */

static const float four[4] = {1, 2, 3, 4};
static const double four_wide[4] = {1, 2, 3, 4};
static const int64_t four_whole[4] = {1, 2, 3, 4};
static const uint16_t four_half[4] = {0x3c00, 0x4000, 0x4200, 0x4400},
                      four_bfloat[4] = {0x3f80, 0x4000, 0x4040, 0x4080};

static StoredTensor tensor(const char *name, Dtype dtype, const void *data, int ndim, int64_t d0,
                           int64_t d1) {
    StoredTensor t = {.name = name, .dtype = dtype, .ndim = ndim, .dim = {d0, d1}, .data = data};
    t.bytes = (size_t)stored_numel(&t) * dtype_size(dtype);
    return t;
}

static const char *written(const char *file, const StoredTensor *t, size_t n,
                           const char *const *metadata) {
    Error err = {0};
    const char *path = scratch(file);
    if (safetensors_write(path, t, n, metadata, &err)) fail_msg("%s", err.message);
    return path;
}

static void a_npy_is_called_as_its_file(void **state) {
    (void)state;
    Error err = {0};
    char bytes[512];
    FILE *fp = fopen(FILES "f4.npy", "rb");
    assert_non_null(fp);
    size_t n = fread(bytes, 1, sizeof bytes, fp);
    fclose(fp);
    static const char *const names[][2] = {{"unet__0__mid_block.npy", "unet/0/mid_block"},
                                           {"latents__20", "latents/20"},
                                           {"_x___y.npy", "_x/_y"}};
    for (size_t i = 0; i < 3; i++) {
        write_bytes(scratch(names[i][0]), bytes, n);
        TensorFile *f = tensor_file_open(scratch(names[i][0]), NULL, &err);
        if (!f) fail_msg("%s", err.message);
        assert_true(tensor_file_nameless(f));
        assert_int_equal(tensor_file_count(f), 1);
        assert_string_equal(tensor_file_at(f, 0)->name, names[i][1]);
        assert_int_equal(tensor_file_find(f, names[i][1]), 0);
        assert_int_equal(tensor_file_find(f, "x"), 1);
        assert_null(tensor_file_metadata(f, "yardstick:x"));
        tensor_file_close(f);
    }
}

static void files_that_can_not_be_read(void **state) {
    (void)state;
    static const struct {
        const char *name, *bytes;
        size_t size;
        const char *message;
    } bad[] = {{"e.safetensors", "", 0, "e.safetensors: is empty"},
               {"e.npz", "", 0, "e.npz: is empty"},
               {"e.npz", "abc", 3, "e.npz: 3 bytes are too few for a zip archive"},
               {"e.npy", "abc", 3, "e.npy: not an npy file (it doesn't begin with \\x93NUMPY)"},
               {"e", "PK\3\4", 4, "e: 4 bytes are too few for a zip archive"},
               {"e", "abc", 3, "e: 3 bytes are too few for a safetensors file"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Error err = {0};
        write_bytes(scratch(bad[i].name), bad[i].bytes, bad[i].size);
        assert_null(tensor_file_open(scratch(bad[i].name), NULL, &err));
        assert_error(&err, bad[i].message);
    }
    Error err = {0};
    write_raw_safetensors(scratch("twice"),
                          "{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}, "
                          "\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}",
                          8);
    assert_null(tensor_file_open(scratch("twice"), NULL, &err));
    assert_error(&err, "twice: tensor \"a\" is there twice");
}

static void two_names_that_become_one(void **state) {
    (void)state;
    Error err = {0};
    const StoredTensor t[] = {tensor("b", DTYPE_F32, four, 1, 4, 0),
                              tensor("a", DTYPE_F32, four, 1, 4, 0)};
    NameMap *map = map_of("{\"b\": \"a\"}");
    assert_null(tensor_file_open(written("two", t, 2, NULL), map, &err));
    assert_error(&err, "two: \"b\" and \"a\" are both called \"a\" here");
    name_map_free(map);
    map = map_of("{\"b\": \"a\", \"a\": \"b\"}"); /* swapped */
    err = (Error){0};
    TensorFile *f = tensor_file_open(scratch("two"), map, &err);
    assert_non_null(f);
    assert_string_equal(tensor_file_at(f, 0)->name, "a");
    assert_int_equal(tensor_file_find(f, "b"), 1);
    tensor_file_close(f);
    name_map_free(map);
}

/* Whole numbers that no double tells from their neighbours are not compared at all. */
static void whole_numbers_beyond_doubles(void **state) {
    (void)state;
    static const int64_t exact = INT64_C(1) << 53, beyond = (INT64_C(1) << 53) + 1,
                         least = INT64_MIN;
    const StoredTensor t[] = {tensor("a", DTYPE_I64, &exact, 0, 0, 0),
                              tensor("b", DTYPE_I64, &beyond, 0, 0, 0),
                              tensor("c", DTYPE_I64, &least, 0, 0, 0)};
    Error err = {0};
    TensorFile *f = tensor_file_open(written("ids", t, 3, NULL), NULL, &err);
    assert_non_null(f);
    double *v = tensor_file_load(f, 0, &err);
    assert_true(v && *v == 9007199254740992.0);
    free(v);
    assert_null(tensor_file_load(f, 1, &err));
    assert_error(&err,
                 "tensor \"b\": expected whole numbers up to 2^53, found 9007199254740993 at 0");
    err = (Error){0};
    assert_null(tensor_file_load(f, 2, &err));
    tensor_file_close(f);
}

static void assert_holds(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("expected \"%s\" in:\n%s", part, text);
}

/* ---- comparing files ------------------------------------------------------------------------------ */

static CompareRequest request(const char *reference, const char *mine) {
    return (CompareRequest){.reference = reference, .mine = mine, .rtol = -1, .atol = -1};
}

static Report *compared(const CompareRequest *q) {
    Error err = {0};
    Report *r = compare_files(q, &err);
    if (!r) fail_msg("%s", err.message);
    return r;
}

/* One tensor of each. */
static Report *pair(StoredTensor ref, StoredTensor mine, const char *const *metadata) {
    CompareRequest q = request(written("ref", &ref, 1, metadata), written("mine", &mine, 1, NULL));
    Report *r = compared(&q);
    assert_int_equal(r->rows, 1);
    return r;
}

static void all_types_of_one_number_match(void **state) {
    (void)state;
    const StoredTensor floats[] = {
        tensor("x", DTYPE_F64, four_wide, 2, 2, 2), tensor("x", DTYPE_F32, four, 2, 2, 2),
        tensor("x", DTYPE_F16, four_half, 2, 2, 2), tensor("x", DTYPE_BF16, four_bfloat, 2, 2, 2)};
    static const char *const source[] = {"default for F64: 1e-08 of the tensor's largest",
                                         "default for F32: 0.0001 of the tensor's largest",
                                         "default for F16: 0.01 of the tensor's largest",
                                         "default for BF16: 0.05 of the tensor's largest"};
    static const double allowed[] = {4e-8, 4e-4, 4e-2, 2e-1};
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++) {
            Report *r = pair(floats[a], floats[b], NULL);
            assert_int_equal(report_code(r), 0);
            assert_int_equal(r->first, 1);
            assert_int_equal(r->row[0].verdict, ROW_MATCH);
            assert_string_equal(r->row[0].tolerance.source, source[a > b ? a : b]);
            same(r->row[0].allowed, allowed[a > b ? a : b], "allowed");
            assert_null(r->worst_ref);
            report_free(r);
        }
}

static void shapes_and_kinds_must_be_the_same(void **state) {
    (void)state;
    const StoredTensor ref = tensor("x", DTYPE_F32, four, 2, 2, 2);
    const StoredTensor other[] = {
        tensor("x", DTYPE_F32, four, 1, 4, 0), tensor("x", DTYPE_F32, four, 2, 1, 4),
        tensor("x", DTYPE_F32, four, 2, 0, 2), tensor("x", DTYPE_I64, four_whole, 2, 2, 2)};
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        Report *r = pair(ref, other[i], NULL);
        assert_int_equal(r->row[0].verdict, ROW_MISSHAPEN);
        assert_int_equal(report_code(r), 3);
        assert_int_equal(r->first, 0);
        report_free(r);
    }
    const StoredTensor whole = tensor("x", DTYPE_I64, four_whole, 2, 2, 2),
                       bytes = tensor("x", DTYPE_U8, "\1\2\3\4", 2, 2, 2);
    Report *r = pair(whole, bytes, NULL); /* whole numbers of any size */
    assert_int_equal(report_code(r), 0);
    report_free(r);
}

static void numbers_alone_and_nothing_at_all(void **state) {
    (void)state;
    Report *r = pair(tensor("x", DTYPE_F32, four, 0, 0, 0),
                     tensor("x", DTYPE_F64, four_wide, 0, 0, 0), NULL);
    assert_int_equal(report_code(r), 0);
    report_free(r);
    r = pair(tensor("x", DTYPE_F32, four, 2, 0, 3), tensor("x", DTYPE_F32, four, 2, 0, 3), NULL);
    assert_int_equal(report_code(r), 0);
    report_free(r);
    r = pair(tensor("x", DTYPE_F32, four, 0, 0, 0), tensor("x", DTYPE_F32, four, 1, 1, 0), NULL);
    assert_int_equal(report_code(r), 3);
    report_free(r);
}

/* Yardsticks are for float32: 2 x its error, and 4 ulp of the largest. */
static void the_references_own_yardstick(void **state) {
    (void)state;
    static const char *const metadata[] = {"yardstick:x", "1e-3", NULL};
    const StoredTensor wide = tensor("x", DTYPE_F64, four_wide, 1, 4, 0),
                       single = tensor("x", DTYPE_F32, four, 1, 4, 0),
                       half = tensor("x", DTYPE_F16, four_half, 1, 4, 0);
    Report *r = pair(wide, single, metadata);
    assert_string_equal(r->row[0].tolerance.source,
                        "2 x torch float32's 0.001 of the largest, + 4 ulp");
    same(r->row[0].allowed, 4 * 0x1p-21 + 2e-3 * 4, "allowed");
    report_free(r);
    r = pair(wide, wide, metadata);
    assert_string_equal(r->row[0].tolerance.source,
                        "default for F64: 1e-08 of the tensor's largest");
    report_free(r);
    r = pair(wide, half, metadata);
    assert_string_equal(r->row[0].tolerance.source,
                        "default for F16: 0.01 of the tensor's largest");
    report_free(r);
    static const char *const broken[] = {"1e-3x", "", "nan", "-1", "inf", "10.5", "1e308"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        const char *const bad[] = {"yardstick:x", broken[i], NULL};
        char message[128];
        CompareRequest q =
            request(written("ref", &wide, 1, bad), written("mine", &single, 1, NULL));
        Error err = {0};
        assert_null(compare_files(&q, &err));
        snprintf(message, sizeof message,
                 "ref: yardstick:x: expected a number of 0 to 10, found \"%s\"", broken[i]);
        assert_error(&err, message);
    }
}

static void tolerances_that_were_asked_for(void **state) {
    (void)state;
    static const char *const metadata[] = {"yardstick:x", "1e-3", NULL};
    static const float off[4] = {1, 2, 3, 4.5f};
    const StoredTensor ref = tensor("x", DTYPE_F32, four, 1, 4, 0),
                       mine = tensor("x", DTYPE_F32, off, 1, 4, 0);
    static const struct {
        double rtol, atol;
        int code;
        double allowed;
        const char *source;
    } known[] = {{0.125, -1, 0, 0.5, "--rtol 0.125"},
                 {0.12, -1, 1, 0.48, "--rtol 0.12"},
                 {-1, 0.5, 0, 0.5, "--atol 0.5"},
                 {-1, 0.4, 1, 0.4, "--atol 0.4"},
                 {0.0625, 0.25, 0, 0.5, "--rtol 0.0625, --atol 0.25"},
                 {0, -1, 1, 0, "--rtol 0"},
                 {0, 0, 1, 0, "--rtol 0, --atol 0"}};
    const char *a = written("ref", &ref, 1, metadata), *b = written("mine", &mine, 1, NULL);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        CompareRequest q = request(a, b);
        q.rtol = known[i].rtol;
        q.atol = known[i].atol;
        Report *r = compared(&q);
        assert_int_equal(report_code(r), known[i].code);
        same(r->row[0].allowed, known[i].allowed, "allowed");
        assert_string_equal(r->row[0].tolerance.source, known[i].source);
        report_free(r);
    }
}

/* Everything that can happen, in one file: the order is the reference's, extra ones are last. */
static void every_verdict_in_order(void **state) {
    (void)state;
    static const float nan_[4] = {1, NAN, 3, 4}, off[4] = {1, 2.5f, 3, 4}, far[4] = {1, 2, 3, 9};
    const StoredTensor ref[] = {
        tensor("good", DTYPE_F32, four, 1, 4, 0),  tensor("bad", DTYPE_F32, four, 1, 4, 0),
        tensor("worse", DTYPE_F32, four, 2, 2, 2), tensor("nan", DTYPE_F32, four, 1, 4, 0),
        tensor("shape", DTYPE_F32, four, 1, 4, 0), tensor("gone", DTYPE_F32, four, 1, 4, 0)};
    const StoredTensor mine[] = {
        tensor("new", DTYPE_F32, four, 1, 4, 0),  tensor("shape", DTYPE_F32, four, 1, 3, 0),
        tensor("nan", DTYPE_F32, nan_, 1, 4, 0),  tensor("worse", DTYPE_F32, far, 2, 2, 2),
        tensor("bad", DTYPE_F32, off, 1, 4, 0),   tensor("good", DTYPE_F32, four, 1, 4, 0),
        tensor("newer", DTYPE_F32, four, 1, 4, 0)};
    static const struct {
        const char *name;
        RowVerdict verdict;
    } rows[] = {{"good", ROW_MATCH},    {"bad", ROW_MISMATCH},    {"worse", ROW_MISMATCH},
                {"nan", ROW_NONFINITE}, {"shape", ROW_MISSHAPEN}, {"gone", ROW_MISSING},
                {"new", ROW_EXTRA},     {"newer", ROW_EXTRA}};
    CompareRequest q = request(written("ref", ref, 6, NULL), written("mine", mine, 7, NULL));
    Report *r = compared(&q);
    assert_int_equal(r->rows, 8);
    for (size_t i = 0; i < 8; i++) {
        assert_string_equal(r->row[i].name, rows[i].name);
        assert_int_equal(r->row[i].verdict, rows[i].verdict);
    }
    static const size_t counts[] = {1, 2, 1, 1, 1, 2};
    assert_memory_equal(r->counts, counts, sizeof counts);
    assert_int_equal(r->first, 1);
    assert_int_equal(report_code(r), 3);
    assert_int_equal(r->hints, 1); /* hints have tests of their own; of the first divergence */
    assert_holds(r->hint[0], "a single element is off, [1]");
    assert_int_equal(r->worst, 3); /* NaN is as bad as can be */
    assert_true(r->worst_ref[1] == 2 && isnan(r->worst_mine[1]));
    report_free(r);

    /* of several codes 3 before 4 before 1; extra ones are no failure */
    static const struct {
        const char *only;
        size_t rows, worst;
        int code;
    } subsets[] = {{"^(good|new)", 3, 0, 0}, {"bad|worse", 2, 1, 1}, {"bad|nan", 2, 1, 4},
                   {"nan|shape", 2, 0, 3},   {"gone|bad", 2, 0, 3},  {"^g", 2, 0, 3}};
    for (size_t i = 0; i < sizeof subsets / sizeof subsets[0]; i++) {
        q.only = subsets[i].only;
        r = compared(&q);
        assert_int_equal(r->rows, subsets[i].rows);
        assert_int_equal(report_code(r), subsets[i].code);
        assert_int_equal(r->worst, subsets[i].worst);
        report_free(r);
    }
}

static void nothing_to_compare_is_no_match(void **state) {
    (void)state;
    const StoredTensor t = tensor("x", DTYPE_F32, four, 1, 4, 0);
    CompareRequest q = request(FILES "nothing.safetensors", written("mine", &t, 1, NULL));
    Error err = {0};
    assert_null(compare_files(&q, &err));
    assert_error(&err, FILES "nothing.safetensors: holds no tensor: there is nothing to compare");
    q = request(scratch("mine"), scratch("mine"));
    q.only = "y";
    err = (Error){0};
    assert_null(compare_files(&q, &err));
    assert_error(&err, "mine: holds no tensor that --only names: there is nothing to compare");
    q = request(scratch("mine"), FILES "nothing.safetensors");
    Report *r = compared(&q);
    assert_int_equal(report_code(r), 3);
    report_free(r);
}

static void not_a_regular_expression(void **state) {
    (void)state;
    Error err = {0};
    assert_int_equal(compare_check_only("a|b", &err), 0);
    assert_int_equal(compare_check_only("a(b", &err), -1);
    assert_error(&err, "--only: expected a regular expression, found \"a(b\": Unmatched ( or \\(");
}

static void other_names_by_a_map(void **state) {
    (void)state;
    const StoredTensor ref[] = {tensor("llm/x.0", DTYPE_F32, four, 1, 4, 0),
                                tensor("llm/x.1", DTYPE_F32, four, 1, 4, 0)};
    const StoredTensor mine[] = {tensor("h.1", DTYPE_F32, four, 1, 4, 0),
                                 tensor("h.0", DTYPE_F32, four, 1, 4, 0)};
    CompareRequest q = request(written("ref", ref, 2, NULL), written("mine", mine, 2, NULL));
    Report *r = compared(&q);
    assert_int_equal(report_code(r), 3);
    assert_true(r->hints > 0);
    assert_string_equal(r->hint[r->hints - 1],
                        "not one name is in both files: --map FILE translates them");
    report_free(r);
    write_text(scratch("map.json"), "{\"h.*\": \"llm/x.*\"}");
    q.map_file = scratch("map.json");
    r = compared(&q);
    assert_int_equal(report_code(r), 0);
    assert_int_equal(r->rows, 2);
    report_free(r);
}

/* Names don't matter where there are none; but a trace's tensor is found by a npy's. */
static void files_of_one_tensor(void **state) {
    (void)state;
    CompareRequest q = request(FILES "f4.npy", FILES "f8_fortran.npy");
    Report *r = compared(&q);
    assert_int_equal(report_code(r), 0);
    assert_int_equal(r->rows, 1);
    assert_string_equal(r->row[0].name, "f4");
    report_free(r);
    q = request(FILES "f4.npy", FILES "stored.npz"); /* which has eight, f4 among them */
    r = compared(&q);
    assert_int_equal(report_code(r), 0);
    assert_int_equal(r->counts[ROW_EXTRA], 7);
    report_free(r);
    q = request(FILES "stored.npz", FILES "deflated.npz");
    r = compared(&q);
    assert_int_equal(report_code(r), 0);
    assert_int_equal(r->rows, 8);
    report_free(r);
    q = request(FILES "stored.npz", FILES "f4.npy");
    r = compared(&q);
    assert_int_equal(report_code(r), 3);
    assert_int_equal(r->counts[ROW_MISSING], 7);
    report_free(r);
}

static int stop_at_once(void *user, int64_t done, int64_t of) {
    assert_int_equal(of, 2 * 24 + 3 + 3 + 5 + 4 + 1);
    assert_true(done >= *(int64_t *)user);
    *(int64_t *)user = done;
    return done > 24;
}

static void progress_counts_numbers_and_may_cancel(void **state) {
    (void)state;
    int64_t seen = 0;
    CompareRequest q = request(FILES "stored.npz", FILES "stored.npz");
    Error err = {0};
    q.progress = stop_at_once;
    q.user = &seen;
    assert_null(compare_files(&q, &err));
    assert_string_equal(err.message, "cancelled");
    assert_int_equal(seen, 48);
}

/* ---- the report as text --------------------------------------------------------------------------- */

static char *text_of(const Report *r, bool all) {
    Error err = {0};
    char *text = report_text(r, all, &err);
    if (!text) fail_msg("%s", err.message);
    for (const char *p = text; *p; p += strcspn(p, "\n") + 1)
        if (strcspn(p, "\n") > 120) fail_msg("a line of more than 120 columns: %.130s", p);
    return text;
}

/* `n` tensors "unet/.../NNN" of which those with a number in bad [] are off. */
static Report *long_report(int n, const int *bad, int bads) {
    Error err = {0};
    Report *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->title = strdup("compare");
    r->reference = strdup("a");
    r->mine = strdup("b");
    for (int i = 0; i < n; i++) {
        char name[128];
        snprintf(name, sizeof name,
                 "unet/0/cond/down_blocks.1.attentions.0.transformer_blocks.0.attn2/%03d", i);
        double ref[2] = {1, 2}, mine[2] = {1, 2};
        for (int k = 0; k < bads; k++)
            if (bad[k] == i) mine[1] = 3;
        Row row = {.name = strdup(name),
                   .ref = {.name = "", .dtype = DTYPE_F32, .ndim = 1, .dim = {2}, .count = 2}};
        row.mine = row.ref;
        Tolerance t = {.relative = 1e-4, .source = "default for F32"};
        measure(&row, ref, mine, 2, DTYPE_F32, &t);
        assert_int_equal(report_add(r, &row, &err), 0);
    }
    report_conclude(r);
    return r;
}

static size_t lines_with(const char *text, const char *part) {
    size_t n = 0;
    for (; (text = strstr(text, part)) != NULL; text++) n++;
    return n;
}

static void a_long_table_is_shown_in_part(void **state) {
    (void)state;
    static const int bad[] = {100, 140};
    Report *r = long_report(200, bad, 2);
    char *text = text_of(r, false);
    assert_holds(text, " ... 97 rows\n unet/0/cond/do..sformer_blocks.0.attn2/097 ");
    assert_holds(text, "attn2/100 [2]            1.0e+00 5.0e-01 2.0e-01  0.989949 4.19e+06     0  "
                       "mismatch\n     worst at [1]: reference 2, mine 3; allowed 0.0002\n");
    assert_holds(text, "attn2/103 ");
    assert_holds(text, " ... 36 rows\n");
    assert_holds(text, "attn2/140 ");
    assert_holds(text, " ... 59 rows\n (--all prints every row)\n");
    assert_int_equal(lines_with(text, "..sformer_blocks"), 8);
    assert_holds(text, "\n200 tensors: 198 match, 2 mismatch\nfirst divergence: "
                       "unet/0/cond/down_blocks.1.attentions.0.transformer_blocks.0.attn2/100: off "
                       "by 1 (0.5 of the largest)\n  where 0.0002 is allowed: default for F32\n");
    free(text);
    text = text_of(r, true);
    assert_int_equal(lines_with(text, "..sformer_blocks"), 200);
    assert_null(strstr(text, "..."));
    free(text);
    report_free(r);

    r = long_report(60, NULL, 0); /* not long yet */
    text = text_of(r, false);
    assert_int_equal(lines_with(text, "..sformer_blocks"), 60);
    assert_holds(text, "\n60 tensors: 60 match\nfirst divergence: none\n");
    free(text);
    report_free(r);

    int all[200]; /* everything after the first is off, as in a free run */
    for (int i = 0; i < 200; i++) all[i] = i + 50;
    r = long_report(250, all, 200);
    text = text_of(r, false);
    assert_int_equal(lines_with(text, "..sformer_blocks"), 3 + 40);
    assert_holds(text, " ... 160 rows\n");
    free(text);
    report_free(r);
}

/* ---- the report as JSON --------------------------------------------------------------------------- */

static double number(const cJSON *object, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (cJSON_IsString(item)) return strtod(item->valuestring, NULL);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static const char *word(const cJSON *object, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static cJSON *json_of(const Report *r) {
    Error err = {0};
    char *text = report_json(r, &err);
    if (!text) fail_msg("%s", err.message);
    cJSON *json = cJSON_Parse(text);
    assert_non_null(json);
    free(text);
    return json;
}

static void json_keeps_every_number(void **state) {
    (void)state;
    static const double ref_data[6] = {1.0 / 3, 2e-308, -3, 4, 0.1, 7},
                        mine_data[6] = {1.0 / 3, 2e-308, -3, 4.0 + 1.0 / 7, 0.1, 7},
                        inf[2] = {1, -INFINITY}, one[2] = {1, 1}, none[2] = {0, 0};
    const StoredTensor ref[] = {
        tensor("x", DTYPE_F64, ref_data, 2, 2, 3), tensor("inf", DTYPE_F64, one, 1, 2, 0),
        tensor("none", DTYPE_F64, none, 1, 2, 0), tensor("gone", DTYPE_F64, one, 1, 2, 0)};
    const StoredTensor mine[] = {
        tensor("x", DTYPE_F64, mine_data, 2, 2, 3), tensor("inf", DTYPE_F64, inf, 1, 2, 0),
        tensor("none", DTYPE_F64, one, 1, 2, 0), tensor("new", DTYPE_F64, one, 1, 2, 0)};
    CompareRequest q = request(written("ref", ref, 4, NULL), written("mine", mine, 4, NULL));
    Report *r = compared(&q);
    cJSON *json = json_of(r);
    assert_string_equal(word(json, "format"), "llmdiff-report");
    assert_true(number(json, "version") == 1);
    assert_string_equal(word(json, "llmdiff"), "0.1.0");
    assert_string_equal(word(json, "reference"), q.reference);
    assert_string_equal(word(json, "mine"), q.mine);
    assert_true(number(json, "code") == 3);
    const cJSON *counts = cJSON_GetObjectItem(json, "counts");
    assert_true(number(counts, "mismatch") == 2 && number(counts, "non-finite") == 1 &&
                number(counts, "missing") == 1 && number(counts, "extra") == 1 &&
                number(counts, "match") == 0 && number(counts, "misshapen") == 0);
    const cJSON *first = cJSON_GetObjectItem(json, "first_divergence");
    assert_true(number(first, "row") == 0);
    assert_string_equal(word(first, "name"), "x");
    const cJSON *rows = cJSON_GetObjectItem(json, "rows");
    assert_int_equal(cJSON_GetArraySize(rows), 5);
    for (int i = 0; i < 3; i++) {
        const cJSON *row = cJSON_GetArrayItem(rows, i);
        const Row *expected = &r->row[i];
        same(number(row, "largest"), expected->largest, "largest");
        same(number(row, "max_abs"), expected->max_abs, "max_abs");
        same(number(row, "max_rel"), expected->max_rel, "max_rel");
        same(number(row, "nmse"), expected->nmse, "nmse");
        same(number(row, "cosine"), expected->cosine, "cosine");
        same(number(row, "ulp"), expected->ulp, "ulp");
        same(number(row, "allowed"), expected->allowed, "allowed");
        assert_true(number(row, "nonfinite") == (double)expected->nonfinite);
        const cJSON *worst = cJSON_GetObjectItem(row, "worst");
        same(number(worst, "reference"), expected->worst_ref, "worst_ref");
        same(number(worst, "mine"), expected->worst_mine, "worst_mine");
        const cJSON *tolerance = cJSON_GetObjectItem(row, "tolerance");
        same(number(tolerance, "relative"), 1e-8, "relative");
        assert_string_equal(word(tolerance, "source"), expected->tolerance.source);
    }
    const cJSON *x = cJSON_GetArrayItem(rows, 0), *index;
    index = cJSON_GetObjectItem(cJSON_GetObjectItem(x, "worst"), "index");
    assert_int_equal(cJSON_GetArraySize(index), 2);
    assert_true(cJSON_GetArrayItem(index, 0)->valueint == 1);
    assert_true(cJSON_GetArrayItem(index, 1)->valueint == 0);
    assert_string_equal(word(cJSON_GetObjectItem(x, "reference"), "dtype"), "F64");
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(x, "group")));
    assert_string_equal(word(cJSON_GetObjectItem(cJSON_GetArrayItem(rows, 1), "worst"), "mine"),
                        "-Infinity");
    assert_string_equal(word(cJSON_GetArrayItem(rows, 2), "max_rel"), "Infinity");
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetArrayItem(rows, 3), "mine")));
    assert_string_equal(word(cJSON_GetArrayItem(rows, 3), "verdict"), "missing");
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(cJSON_GetArrayItem(rows, 4), "reference")));
    assert_null(cJSON_GetObjectItem(cJSON_GetArrayItem(rows, 4), "max_abs"));
    cJSON_Delete(json);
    report_free(r);
}

/* A file's name is any bytes; JSON is UTF-8. */
static void json_is_utf8_whatever_a_file_is_called(void **state) {
    (void)state;
    const StoredTensor t = tensor("x", DTYPE_F32, four, 1, 4, 0);
    char path[512];
    snprintf(path, sizeof path, "%s",
             written("a\xff"
                     "b",
                     &t, 1, NULL));
    CompareRequest q = request(path, path);
    Report *r = compared(&q);
    cJSON *json = json_of(r);
    assert_holds(word(json, "mine"), "a\xef\xbf\xbd"
                                     "b");
    cJSON_Delete(json);
    report_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measures_by_hand_at_every_scale),
        cmocka_unit_test(equal_tensors_match_without_tolerance),
        cmocka_unit_test(a_difference_beyond_all_numbers),
        cmocka_unit_test(nothing_in_the_reference),
        cmocka_unit_test(directions),
        cmocka_unit_test(what_is_not_finite),
        cmocka_unit_test(units_in_the_last_place),
        cmocka_unit_test(whole_numbers_are_equal_or_not),
        cmocka_unit_test(sums_of_a_million),
        cmocka_unit_test(the_largest_of_what_is_finite),
        cmocka_unit_test(names_are_translated),
        cmocka_unit_test(broken_maps_are_refused),
        cmocka_unit_test(a_npy_is_called_as_its_file),
        cmocka_unit_test(files_that_can_not_be_read),
        cmocka_unit_test(two_names_that_become_one),
        cmocka_unit_test(whole_numbers_beyond_doubles),
        cmocka_unit_test(all_types_of_one_number_match),
        cmocka_unit_test(shapes_and_kinds_must_be_the_same),
        cmocka_unit_test(numbers_alone_and_nothing_at_all),
        cmocka_unit_test(the_references_own_yardstick),
        cmocka_unit_test(tolerances_that_were_asked_for),
        cmocka_unit_test(every_verdict_in_order),
        cmocka_unit_test(nothing_to_compare_is_no_match),
        cmocka_unit_test(not_a_regular_expression),
        cmocka_unit_test(other_names_by_a_map),
        cmocka_unit_test(files_of_one_tensor),
        cmocka_unit_test(progress_counts_numbers_and_may_cancel),
        cmocka_unit_test(a_long_table_is_shown_in_part),
        cmocka_unit_test(json_keeps_every_number),
        cmocka_unit_test(json_is_utf8_whatever_a_file_is_called),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
