/* safetensors: what upstream writes is read, what is written is read back, and every way in which a
 * file can be broken ends in its own message. */
#include "tests/scratch.h"

#include <math.h>

#define TYPES "golden/data/files/types.safetensors"

/* ---- files written by upstream (golden/export_files.py) ------------------------------------------ */

static Safetensors *open_good(const char *path) {
    Error err = {0};
    Safetensors *s = safetensors_open(path, &err);
    if (!s) fail_msg("%s", err.message);
    return s;
}

static const StoredTensor *find(const Safetensors *s, const char *name) {
    const StoredTensor *t = safetensors_find(s, name);
    if (!t) fail_msg("no tensor %s", name);
    return t;
}

static void reads_every_float_type(void **state) {
    (void)state;
    static const struct {
        const char *name;
        Dtype dtype;
        int64_t numel;
    } stored[] = {{"f64", DTYPE_F64, 6},    {"f32", DTYPE_F32, 15},
                  {"f16", DTYPE_F16, 7},    {"bf16", DTYPE_BF16, 9},
                  {"eight", DTYPE_F32, 16}, {"a \"name\" with \\ and \xc3\xa9", DTYPE_F32, 2}};
    Safetensors *s = open_good(TYPES);
    for (size_t k = 0; k < sizeof stored / sizeof stored[0]; k++) {
        const StoredTensor *t = find(s, stored[k].name);
        double v[16];
        Error err = {0};
        assert_int_equal(t->dtype, stored[k].dtype);
        assert_int_equal(stored_numel(t), stored[k].numel);
        assert_int_equal(stored_to_double(t, v, &err), 0);
        for (int64_t i = 0; i < stored[k].numel; i++) assert_true(v[i] == (double)(i - 1) / 2);
    }
    safetensors_close(s);
}

static void reads_whole_numbers(void **state) {
    (void)state;
    Safetensors *s = open_good(TYPES);
    static const struct {
        const char *name;
        Dtype dtype;
    } stored[] = {{"i64", DTYPE_I64},
                  {"i32", DTYPE_I32},
                  {"i16", DTYPE_I16},
                  {"i8", DTYPE_I8},
                  {"u8", DTYPE_U8}};
    for (size_t k = 0; k < sizeof stored / sizeof stored[0]; k++) {
        const StoredTensor *t = find(s, stored[k].name);
        assert_int_equal(t->dtype, stored[k].dtype);
        for (size_t i = 0; i < 3; i++) {
            int64_t v = 0; /* little-endian and not negative: the low bytes are the value */
            memcpy(&v, (const char *)t->data + i * dtype_size(t->dtype), dtype_size(t->dtype));
            assert_int_equal(v, i);
        }
    }
    assert_memory_equal(find(s, "bool")->data, "\1\0\1", 3);
    safetensors_close(s);
}

static void reads_scalars_and_empty_tensors(void **state) {
    (void)state;
    Safetensors *s = open_good(TYPES);
    const StoredTensor *scalar = find(s, "scalar"), *empty = find(s, "empty");
    double v = 0;
    Error err = {0};
    assert_int_equal(scalar->ndim, 0);
    assert_int_equal(stored_to_double(scalar, &v, &err), 0);
    assert_true(v == 2.5);
    assert_int_equal(empty->ndim, 2);
    assert_int_equal(empty->dim[1], 3);
    assert_int_equal(empty->bytes, 0);
    assert_int_equal(stored_to_double(empty, &v, &err), 0);
    safetensors_close(s);
}

static void widens_the_limits_of_half_and_bfloat(void **state) {
    (void)state;
    Safetensors *s = open_good(TYPES);
    double half[6], bfloat[6];
    Error err = {0};
    assert_int_equal(stored_to_double(find(s, "half limits"), half, &err), 0);
    assert_int_equal(stored_to_double(find(s, "bfloat limits"), bfloat, &err), 0);
    assert_true(half[0] == ldexp(1, -24) && half[1] == ldexp(1, -14) && half[2] == 65504);
    assert_true(half[3] == -(double)INFINITY && half[4] == 0 && signbit(half[4]) && isnan(half[5]));
    assert_true(bfloat[0] == ldexp(1, -133) && bfloat[1] == ldexp(1, -126));
    assert_true(bfloat[2] == -ldexp(1, 127) && bfloat[3] == (double)INFINITY);
    assert_true(bfloat[4] == 0 && signbit(bfloat[4]) && isnan(bfloat[5]));
    safetensors_close(s);
}

static void refuses_to_widen_whole_numbers(void **state) {
    (void)state;
    Safetensors *s = open_good(TYPES);
    Error err = {0};
    double v[3];
    assert_int_equal(stored_to_double(find(s, "i64"), v, &err), -1);
    assert_error(&err, "tensor \"i64\": expected floating-point numbers, found I64");
    safetensors_close(s);
}

static void widens_unsigned_bytes(void **state) {
    (void)state;
    static const uint8_t bytes[] = {0, 127, 128, 255};
    static const int8_t same[] = {0, 127, -128, -1};
    StoredTensor t = {.name = "b", .dtype = DTYPE_U8, .ndim = 1, .dim = {4}, .data = bytes};
    t.bytes = sizeof bytes;
    double v[4];
    Error err = {0};
    assert_int_equal(stored_widen(&t, v, &err), 0);
    for (int i = 0; i < 4; i++) assert_true(v[i] == bytes[i]);
    t.dtype = DTYPE_I8;
    assert_int_equal(stored_widen(&t, v, &err), 0);
    for (int i = 0; i < 4; i++) assert_true(v[i] == same[i]);
}

static void reads_metadata(void **state) {
    (void)state;
    Safetensors *s = open_good(TYPES);
    assert_int_equal(safetensors_metadata_count(s), 1);
    assert_string_equal(safetensors_metadata(s, "note"), "h\xc3\xa9 \"quoted\"");
    assert_null(safetensors_metadata(s, "Note"));
    const char *key, *value;
    safetensors_metadata_at(s, 0, &key, &value);
    assert_string_equal(key, "note");
    assert_string_equal(value, "h\xc3\xa9 \"quoted\"");
    safetensors_close(s);
}

static void finds_by_exact_name(void **state) {
    (void)state;
    Safetensors *s = open_good(TYPES);
    assert_int_equal(safetensors_count(s), 16);
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const StoredTensor *t = safetensors_at(s, i);
        assert_ptr_equal(safetensors_find(s, t->name), t);
        if (i) assert_true(t->data >= safetensors_at(s, i - 1)->data);
    }
    assert_null(safetensors_find(s, "F64"));
    assert_null(safetensors_find(s, ""));
    assert_null(safetensors_find(s, "__metadata__"));
    safetensors_close(s);
}

static void reads_a_file_without_tensors(void **state) {
    (void)state;
    Safetensors *s = open_good("golden/data/files/nothing.safetensors");
    assert_int_equal(safetensors_count(s), 0);
    assert_int_equal(safetensors_metadata_count(s), 0);
    assert_null(safetensors_find(s, "x"));
    assert_null(safetensors_metadata(s, "x"));
    safetensors_close(s);
}

static void refuses_what_upstream_can_hold_and_we_cannot(void **state) {
    (void)state;
    Error err = {0};
    assert_null(safetensors_open("golden/data/files/float8.safetensors", &err));
    assert_error(&err,
                 "golden/data/files/float8.safetensors: tensor \"x\": dtype \"F8_E4M3\" is not "
                 "supported (F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL are)");
    err = (Error){0};
    assert_null(safetensors_open("golden/data/files/nine.safetensors", &err));
    assert_error(&err, "golden/data/files/nine.safetensors: tensor \"x\": more than 8 dimensions");
}

/* ---- round trip ---------------------------------------------------------------------------------- */

static void reads_back_what_it_wrote(void **state) {
    (void)state;
    const unsigned char bytes[3] = {7, 8, 9};
    const float numbers[2][2] = {{1.5f, -2}, {3e-40f, 2e38f}};
    const double scalar = 0.1;
    const StoredTensor out[] = {
        {.name = "odd", .dtype = DTYPE_U8, .ndim = 1, .dim = {3}, .data = bytes, .bytes = 3},
        /* begins at byte 3: nothing in the file is aligned for it */
        {.name = "w", .dtype = DTYPE_F32, .ndim = 2, .dim = {2, 2}, .data = numbers, .bytes = 16},
        {.name = "none", .dtype = DTYPE_F32, .ndim = 2, .dim = {4, 0}, .bytes = 0},
        {.name = "a\"\\\n\xc3\xa9", .dtype = DTYPE_F64, .ndim = 0, .data = &scalar, .bytes = 8}};
    const char *const metadata[] = {"prompt", "a \"red\"\ncircle", "seed", "7", NULL};
    Error err = {0};
    assert_int_equal(safetensors_write(scratch("trip"), out, 4, metadata, &err), 0);

    Safetensors *s = open_good(scratch("trip"));
    assert_int_equal(safetensors_count(s), 4);
    for (size_t i = 0; i < 4; i++) {
        const StoredTensor *t = find(s, out[i].name);
        assert_int_equal(t->dtype, out[i].dtype);
        assert_int_equal(t->ndim, out[i].ndim);
        assert_memory_equal(t->dim, out[i].dim, sizeof t->dim);
        assert_int_equal(t->bytes, out[i].bytes);
        if (t->bytes) assert_memory_equal(t->data, out[i].data, t->bytes);
    }
    double v[4];
    assert_int_equal(stored_to_double(find(s, "w"), v, &err), 0);
    for (int i = 0; i < 4; i++) assert_true(v[i] == (double)numbers[i / 2][i % 2]);
    assert_int_equal(safetensors_metadata_count(s), 2);
    assert_string_equal(safetensors_metadata(s, "prompt"), "a \"red\"\ncircle");
    assert_string_equal(safetensors_path(s), scratch("trip"));
    safetensors_close(s);
}

static void data_begin_at_a_multiple_of_8(void **state) {
    (void)state;
    Error err = {0};
    char name[16];
    for (int i = 1; i < 10; i++) {
        snprintf(name, sizeof name, "%.*s", i, "nnnnnnnnnn");
        const StoredTensor t = {.name = name, .dtype = DTYPE_U8, .ndim = 1, .dim = {0}};
        assert_int_equal(safetensors_write(scratch("pad"), &t, 1, NULL, &err), 0);
        struct stat st;
        assert_int_equal(stat(scratch("pad"), &st), 0);
        assert_int_equal(st.st_size % 8, 0);
        safetensors_close(open_good(scratch("pad")));
    }
}

static void finds_among_thousands(void **state) {
    (void)state;
    enum { N = 3000 };
    char(*name)[16] = calloc(N, sizeof *name);
    StoredTensor *t = calloc(N, sizeof *t);
    float value = 1;
    Error err = {0};
    for (int i = 0; i < N; i++) {
        snprintf(name[i], sizeof name[i], "t.%d", i * 7919 % N);
        t[i] = (StoredTensor){.name = name[i], .dtype = DTYPE_F32, .data = &value, .bytes = 4};
    }
    assert_int_equal(safetensors_write(scratch("many"), t, N, NULL, &err), 0);
    Safetensors *s = open_good(scratch("many"));
    for (int i = 0; i < N; i++) {
        assert_string_equal(safetensors_at(s, (size_t)i)->name, name[i]);
        assert_non_null(safetensors_find(s, name[i]));
    }
    assert_null(safetensors_find(s, "t.3000"));
    safetensors_close(s);
    free(t);
    free(name);
}

static void writer_refuses_what_could_not_be_read(void **state) {
    (void)state;
    float v = 1;
    const StoredTensor t = {.name = "x", .dtype = DTYPE_F32, .data = &v, .bytes = 4};
    const StoredTensor twice[] = {t, t};
    Error err = {0};
    assert_int_equal(safetensors_write(scratch("no"), twice, 2, NULL, &err), -1);
    assert_error(&err, "no: can't be written: tensor \"x\" twice");
    err = (Error){0};
    const char *const metadata[] = {"prompt", "\xff", NULL};
    assert_int_equal(safetensors_write(scratch("no"), &t, 1, metadata, &err), -1);
    assert_error(&err, "no: can't be written: metadata \"prompt\" is not valid UTF-8");
    err = (Error){0};
    const StoredTensor broken = {.name = "x\xc3(", .dtype = DTYPE_F32, .data = &v, .bytes = 4};
    assert_int_equal(safetensors_write(scratch("no"), &broken, 1, NULL, &err), -1);
    assert_error(&err, "no: can't be written: tensor name \"x\xc3(\" is not valid UTF-8");
    assert_int_equal(access(scratch("no"), F_OK), -1);
}

static void names_may_begin_with_any_character(void **state) {
    (void)state;
    float v = 1;
    const StoredTensor t = {.name = "\xc3\xa9.x", .dtype = DTYPE_F32, .data = &v, .bytes = 4};
    Error err = {0};
    assert_int_equal(safetensors_write(scratch("e"), &t, 1, NULL, &err), 0);
    Safetensors *s = open_good(scratch("e"));
    find(s, "\xc3\xa9.x");
    safetensors_close(s);
}

/* In JSON a backslash, escaped, and then the letters u0000: no NUL. */
static void an_escaped_backslash_is_no_escape(void **state) {
    (void)state;
    write_raw_safetensors(scratch("slash"), "{\"__metadata__\":{\"k\":\"a\\\\u0000\"}}  ", 0);
    Safetensors *s = open_good(scratch("slash"));
    assert_string_equal(safetensors_metadata(s, "k"), "a\\u0000");
    safetensors_close(s);
}

#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void the_data_give_the_order(void **state) {
    (void)state;
    write_raw_safetensors(scratch("order"),
                          "{" T("b", "U8", "[2]", "[4,6]") "," T("z", "F32", "[1]", "[0,4]") "," T(
                              "none", "U8", "[0]", "[4,4]") "}  ",
                          6);
    Safetensors *s = open_good(scratch("order"));
    assert_string_equal(safetensors_at(s, 0)->name, "z");
    assert_string_equal(safetensors_at(s, 1)->name, "none");
    assert_string_equal(safetensors_at(s, 2)->name, "b");
    assert_ptr_equal(safetensors_find(s, "b"), safetensors_at(s, 2));
    safetensors_close(s);
}

/* ---- broken files -------------------------------------------------------------------------------- */

typedef struct Broken {
    const char *name, *header;
    size_t data;
    const char *message;
} Broken;

static const Broken broken[] = {
    {"end past the data", "{" T("g", "F32", "[100]", "[0,400]") "}", 380,
     "f: tensor \"g\": data_offsets [0, 400] end past the file's data (380 bytes)"},
    {"reversed offsets", "{" T("g", "F32", "[1]", "[4,0]") "}", 4,
     "f: tensor \"g\": data_offsets [4, 0] end before they begin"},
    {"size and shape disagree", "{" T("g", "F32", "[2,2]", "[0,12]") "}", 12,
     "f: tensor \"g\": data_offsets [0, 12] hold 12 bytes, its shape and dtype need 16"},
    {"overlap", "{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[4,12]") "}", 12,
     "f: tensor \"b\": its data begin at 4, where those before it end at 8: there must be no "
     "overlap"},
    {"gap", "{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[4,6]") "}", 6,
     "f: tensor \"b\": its data begin at 4, where those before it end at 2: there must be no gap"},
    {"gap at the start", "{" T("a", "U8", "[2]", "[1,3]") "}", 3,
     "f: tensor \"a\": its data begin at 1, where those before it end at 0: there must be no gap"},
    {"data that no tensor covers", "{" T("a", "U8", "[2]", "[0,2]") "}", 3,
     "f: the tensors end at 2, the file's data at 3"},
    {"a name twice", "{" T("a", "U8", "[2]", "[0,2]") "," T("a", "U8", "[2]", "[2,4]") "}", 4,
     "f: tensor \"a\" is there twice"},
    {"a field twice",
     "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
     "f: tensor \"a\": \"dtype\" is there twice"},
    {"no dtype", "{\"a\":{\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
     "f: tensor \"a\": dtype missing"},
    {"no shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", 0,
     "f: tensor \"a\": shape missing or not an array"},
    {"shape is a number", "{" T("a", "U8", "2", "[0,2]") "}", 2,
     "f: tensor \"a\": shape missing or not an array"},
    {"a negative dimension", "{" T("a", "U8", "[-2]", "[0,2]") "}", 2,
     "f: tensor \"a\": shape holds something other than whole numbers"},
    {"a broken dimension", "{" T("a", "U8", "[1.5]", "[0,2]") "}", 2,
     "f: tensor \"a\": shape holds something other than whole numbers"},
    {"a dimension past 2^53", "{" T("a", "U8", "[9007199254740994]", "[0,2]") "}", 2,
     "f: tensor \"a\": shape holds something other than whole numbers"},
    {"a product past 2^63", "{" T("a", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0,
     "f: tensor \"a\": shape is too large for any file"},
    {"a product of exactly 2^63", "{" T("a", "U8", "[9007199254740992,1024]", "[0,0]") "}", 0,
     "f: tensor \"a\": shape is too large for any file"},
    {"nine dimensions", "{" T("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1,
     "f: tensor \"a\": more than 8 dimensions"},
    {"an unknown dtype", "{" T("a", "F8_E5M2", "[1]", "[0,1]") "}", 1,
     "f: tensor \"a\": dtype \"F8_E5M2\" is not supported (F64, F32, F16, BF16, I64, I32, I16, I8, "
     "U8, BOOL are)"},
    {"no offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", 0,
     "f: tensor \"a\": data_offsets missing or not two whole numbers"},
    {"three offsets", "{" T("a", "U8", "[1]", "[0,1,2]") "}", 1,
     "f: tensor \"a\": data_offsets missing or not two whole numbers"},
    {"a negative offset", "{" T("a", "U8", "[2]", "[-1,1]") "}", 1,
     "f: tensor \"a\": data_offsets missing or not two whole numbers"},
    {"a tensor that is a number", "{\"a\":3}", 0,
     "f: tensor \"a\": expected an object with dtype, shape, data_offsets"},
    {"metadata is a list", "{\"__metadata__\":[]}", 0, "f: __metadata__ is not an object"},
    {"a metadata value is a number", "{\"__metadata__\":{\"seed\":7}}", 0,
     "f: __metadata__: the value of \"seed\" is not a string"},
    {"metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0,
     "f: __metadata__ is there twice"},
    {"a metadata key twice", "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0,
     "f: __metadata__: \"k\" is there twice"},
    {"a list for a header", "[1]", 0,
     "f: not a safetensors file (its header doesn't begin with '{')"},
    {"a space before the header", " {}", 0,
     "f: not a safetensors file (its header doesn't begin with '{')"},
    {"a header cut off", "{\"a\":", 0, "f: header: not JSON (at byte 4 of 5)"},
    {"two headers", "{} {}", 0, "f: header: not JSON (at byte 3 of 5)"},
    {"an escaped NUL in a name", "{" T("a\\u0000b", "U8", "[1]", "[0,1]") "}", 1,
     "f: header: holds a NUL character"},
    {"a header that is not UTF-8", "{\"\xc3\x28\":3}", 0, "f: header: not valid UTF-8"},
};

static void is_refused(void **state) {
    const Broken *b = *state;
    write_raw_safetensors(scratch("f"), b->header, b->data);
    Error err = {0};
    assert_null(safetensors_open(scratch("f"), &err));
    assert_error(&err, b->message);
}

static void refuses(const void *bytes, size_t size, const char *message) {
    write_bytes(scratch("f"), bytes, size);
    Error err = {0};
    assert_null(safetensors_open(scratch("f"), &err));
    assert_error(&err, message);
}

static void refuses_bad_lengths(void **state) {
    (void)state;
    refuses("", 0, "f: 0 bytes are too few for a safetensors file");
    refuses("\2\0\0\0\0\0\0", 7, "f: 7 bytes are too few for a safetensors file");
    refuses("\0\0\0\0\0\0\0\0", 8, "f: not a safetensors file (its header doesn't begin with '{')");
    refuses("\3\0\0\0\0\0\0\0{}", 10, "f: the header's 3 bytes end past the file (10 bytes)");
    refuses("\x01\xe1\xf5\x05\0\0\0\0{}", 10,
            "f: not a safetensors file (its header would be 100000001 bytes long; at most "
            "100000000 are allowed)");
    refuses("PK\3\4\x14\0\0\0\x08\x08", 10,
            "f: not a safetensors file (its header would be 85966670672 bytes long; at most "
            "100000000 are allowed)");
    refuses("\3\0\0\0\0\0\0\0{\0}", 11, "f: header: holds a NUL character");
}

static void refuses_what_is_not_a_file(void **state) {
    (void)state;
    Error err = {0};
    assert_null(safetensors_open(scratch("absent"), &err));
    assert_error(&err, "absent: can't be opened: No such file or directory");
    err = (Error){0};
    assert_null(safetensors_open(scratch_dir, &err));
    assert_error(&err, ": can't be opened: it is a directory, not a file");
    err = (Error){0};
    assert_int_equal(mkfifo(scratch("fifo"), 0600), 0);
    assert_null(safetensors_open(scratch("fifo"), &err));
    assert_error(&err, "fifo: can't be opened: it is not a regular file");
}

/* Every prefix of a good file is refused, and nothing reads past its end (run with SAN=1). */
static void refuses_every_cut(void **state) {
    (void)state;
    FILE *fp = fopen(TYPES, "rb");
    assert_non_null(fp);
    char bytes[4096];
    size_t size = fread(bytes, 1, sizeof bytes, fp);
    fclose(fp);
    assert_in_range(size, 9, sizeof bytes - 1);
    for (size_t n = 0; n < size; n++) {
        write_bytes(scratch("cut"), bytes, n);
        Error err = {0};
        assert_null(safetensors_open(scratch("cut"), &err));
        assert_true(err.set);
    }
}

int main(void) {
    enum { BROKEN = sizeof broken / sizeof broken[0] };
    const struct CMUnitTest fixed[] = {
        cmocka_unit_test(reads_every_float_type),
        cmocka_unit_test(reads_whole_numbers),
        cmocka_unit_test(widens_unsigned_bytes),
        cmocka_unit_test(reads_scalars_and_empty_tensors),
        cmocka_unit_test(widens_the_limits_of_half_and_bfloat),
        cmocka_unit_test(refuses_to_widen_whole_numbers),
        cmocka_unit_test(reads_metadata),
        cmocka_unit_test(finds_by_exact_name),
        cmocka_unit_test(reads_a_file_without_tensors),
        cmocka_unit_test(refuses_what_upstream_can_hold_and_we_cannot),
        cmocka_unit_test(reads_back_what_it_wrote),
        cmocka_unit_test(data_begin_at_a_multiple_of_8),
        cmocka_unit_test(finds_among_thousands),
        cmocka_unit_test(the_data_give_the_order),
        cmocka_unit_test(writer_refuses_what_could_not_be_read),
        cmocka_unit_test(names_may_begin_with_any_character),
        cmocka_unit_test(an_escaped_backslash_is_no_escape),
        cmocka_unit_test(refuses_bad_lengths),
        cmocka_unit_test(refuses_what_is_not_a_file),
        cmocka_unit_test(refuses_every_cut),
    };
    enum { FIXED = sizeof fixed / sizeof fixed[0] };
    struct CMUnitTest tests[FIXED + BROKEN];
    memcpy(tests, fixed, sizeof fixed);
    for (size_t i = 0; i < BROKEN; i++)
        tests[FIXED + i] = (struct CMUnitTest){broken[i].name, is_refused, NULL, NULL,
                                               (void *)(uintptr_t)&broken[i]};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
