/* npy: what numpy writes is read, what is written is read back, what is broken is named. */
#include "tests/scratch.h"
#include "weights/npy.h"

#define FILES "golden/data/files/"

static Npy read_good(const char *path) {
    Npy a;
    Error err = {0};
    if (npy_read(path, &a, &err)) fail_msg("%s", err.message);
    return a;
}

static void holds_counting(Npy *a, Dtype dtype, int ndim, const int64_t *dim) {
    int64_t n = 1;
    assert_int_equal(a->dtype, dtype);
    assert_int_equal(a->ndim, ndim);
    for (int i = 0; i < ndim; i++) {
        assert_int_equal(a->dim[i], dim[i]);
        n *= dim[i];
    }
    for (int64_t i = 0; i < n; i++) assert_true(a->data[i] == (double)(i - 1) / 2);
    npy_free(a);
    assert_null(a->data);
}

static void reads_what_numpy_wrote(void **state) {
    (void)state;
    Npy a = read_good(FILES "f4.npy");
    holds_counting(&a, DTYPE_F32, 3, (const int64_t[]){2, 3, 4});
    a = read_good(FILES "f8_fortran.npy");
    holds_counting(&a, DTYPE_F64, 3, (const int64_t[]){2, 3, 4});
    a = read_good(FILES "f2_v2.npy");
    holds_counting(&a, DTYPE_F16, 1, (const int64_t[]){5});
    a = read_good(FILES "f4_v3.npy");
    holds_counting(&a, DTYPE_F32, 2, (const int64_t[]){2, 3});
}

static void reads_a_scalar_and_an_empty_array(void **state) {
    (void)state;
    Npy a = read_good(FILES "scalar.npy");
    assert_int_equal(a.ndim, 0);
    assert_true(a.data[0] == 2.5);
    npy_free(&a);
    a = read_good(FILES "empty.npy");
    assert_int_equal(a.ndim, 2);
    assert_int_equal(a.dim[0], 0);
    assert_int_equal(a.dim[1], 3);
    npy_free(&a);
}

static void refuses_other_types_by_name(void **state) {
    (void)state;
    static const struct {
        const char *path, *message;
    } other[] = {{FILES "big_endian.npy", FILES
                  "big_endian.npy: type '>f4' is not supported ('<f2', '<f4', '<f8', '<i2', '<i4', "
                  "'<i8', '|i1', '|u1', '|b1' are)"},
                 {FILES "record.npy",
                  FILES "record.npy: header: descr: expected a plain type such as '<f4'"}};
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        Npy a;
        Error err = {0};
        assert_int_equal(npy_read(other[i].path, &a, &err), -1);
        assert_error(&err, other[i].message);
        assert_null(a.data);
    }
}

static void reads_back_what_it_wrote(void **state) {
    (void)state;
    float f[24];
    double d[24];
    for (int i = 0; i < 24; i++) d[i] = f[i] = (float)(i - 1) / 2;
    static const int64_t dim[] = {2, 3, 4};
    static const int64_t flat[] = {24};
    Error err = {0};
    assert_int_equal(npy_write(scratch("t"), DTYPE_F32, 3, dim, f, &err), 0);
    Npy a = read_good(scratch("t"));
    holds_counting(&a, DTYPE_F32, 3, dim);
    assert_int_equal(npy_write(scratch("t"), DTYPE_F64, 1, flat, d, &err), 0);
    a = read_good(scratch("t"));
    holds_counting(&a, DTYPE_F64, 1, flat);
    assert_int_equal(npy_write(scratch("t"), DTYPE_F64, 0, NULL, &d[7], &err), 0);
    a = read_good(scratch("t"));
    assert_int_equal(a.ndim, 0);
    assert_true(a.data[0] == 3);
    npy_free(&a);
}

/* The same bytes as numpy's own file: header text, padding and all. */
static void writes_as_numpy_does(void **state) {
    (void)state;
    float f[24];
    for (int i = 0; i < 24; i++) f[i] = (float)(i - 1) / 2;
    Error err = {0};
    assert_int_equal(npy_write(scratch("same"), DTYPE_F32, 3, (const int64_t[]){2, 3, 4}, f, &err),
                     0);
    char ours[512], theirs[512];
    FILE *fp = fopen(scratch("same"), "rb");
    assert_non_null(fp);
    size_t n = fread(ours, 1, sizeof ours, fp);
    fclose(fp);
    fp = fopen(FILES "f4.npy", "rb");
    assert_non_null(fp);
    assert_int_equal(fread(theirs, 1, sizeof theirs, fp), n);
    fclose(fp);
    assert_memory_equal(ours, theirs, n);
}

/* Arrays without elements, whose headers have every length: the data begin at a multiple of 64 behind
 * a newline, wherever the text ends. */
static void pads_headers_of_every_length(void **state) {
    (void)state;
    int64_t dim[5] = {0, 1, 1, 1, 1};
    size_t sizes = 0, before = 0;
    for (int digits = 0; digits < 72; digits++) {
        int64_t *last = &dim[1 + digits / 18];
        *last = digits % 18 == 0 ? 1 : *last * 10;
        Error err = {0};
        assert_int_equal(npy_write(scratch("empty"), DTYPE_F32, 5, dim, NULL, &err), 0);
        char bytes[512];
        FILE *fp = fopen(scratch("empty"), "rb");
        assert_non_null(fp);
        size_t n = fread(bytes, 1, sizeof bytes, fp);
        fclose(fp);
        assert_int_equal(n % 64, 0);
        assert_int_equal(bytes[n - 1], '\n');
        assert_int_equal(10 + (unsigned char)bytes[8] + 256 * (unsigned char)bytes[9], n);
        sizes += n != before;
        before = n;
    }
    assert_int_equal(sizes, 2); /* the text went past a multiple of 64 */
}

/* A matrix by columns: [[0, 1, 2], [3, 4, 5]] lies as 0 3 1 4 2 5. */
static void reads_a_matrix_by_columns(void **state) {
    (void)state;
    static const char header[] =
        "\x93NUMPY\x01\x00\x3b\x00{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3), }\n";
    static const double columns[] = {0, 3, 1, 4, 2, 5};
    char bytes[sizeof header - 1 + sizeof columns];
    assert_int_equal(sizeof header - 1, 10 + 0x3b);
    memcpy(bytes, header, sizeof header - 1);
    memcpy(bytes + sizeof header - 1, columns, sizeof columns);
    write_bytes(scratch("columns"), bytes, sizeof bytes);
    Npy a = read_good(scratch("columns"));
    assert_true(a.ndim == 2 && a.dim[0] == 2 && a.dim[1] == 3);
    for (int i = 0; i < 6; i++) assert_true(a.data[i] == i);
    npy_free(&a);
}

/* ---- broken files -------------------------------------------------------------------------------- */

typedef struct Broken {
    const char *name, *header;
    size_t data;
    const char *message;
} Broken;

#define KEYS "expected the keys descr, fortran_order and shape, each once"
#define TUPLE "shape: expected a tuple of at most 8 whole numbers"

static const Broken broken[] = {
    {"too little data", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 20,
     "f: its shape and type need 24 bytes of data, found 20"},
    {"too much data", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 28,
     "f: its shape and type need 24 bytes of data, found 28"},
    {"a shape beyond any file",
     "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 8,
     "f: shape is too large for any file"},
    {"a dimension beyond 2^63",
     "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,), }", 8,
     "f: header: " TUPLE},
    {"a negative dimension", "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", 4,
     "f: header: " TUPLE},
    {"a number for a tuple", "{'descr': '<f4', 'fortran_order': False, 'shape': (1), }", 4,
     "f: header: " TUPLE},
    {"nine dimensions",
     "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1, 1, 1, 1, 1), }", 4,
     "f: header: " TUPLE},
    {"no shape", "{'descr': '<f4', 'fortran_order': False, }", 4, "f: header: " KEYS},
    {"a key twice", "{'descr': '<f4', 'descr': '<f4', 'shape': (1,), }", 4, "f: header: " KEYS},
    {"another key", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", 4,
     "f: header: " KEYS},
    {"order is a number", "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }", 4,
     "f: header: fortran_order: expected True or False"},
    {"no comma", "{'descr': '<f4' 'fortran_order': False, 'shape': (1,), }", 4,
     "f: header: expected , or }"},
    {"an unquoted key", "{descr: '<f4', 'fortran_order': False, 'shape': (1,), }", 4,
     "f: header: expected 'key': value"},
    {"no dict", "[1]", 4, "f: header: expected a dict { }"},
    {"a dict cut off", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,", 4,
     "f: header: " TUPLE},
    {"something behind the dict", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } x", 4,
     "f: header: something follows the dict"},
    {"nothing", "", 0, "f: header: expected a dict { }"},
};

static void is_refused(void **state) {
    const Broken *b = *state;
    char bytes[512] = "\x93NUMPY\x01";
    size_t n = strlen(b->header);
    assert_true(10 + n + b->data <= sizeof bytes);
    bytes[8] = (char)n;
    memcpy(bytes + 10, b->header, n);
    write_bytes(scratch("f"), bytes, 10 + n + b->data);
    Npy a;
    Error err = {0};
    assert_int_equal(npy_read(scratch("f"), &a, &err), -1);
    assert_error(&err, b->message);
    assert_null(a.data);
}

static void refuses_bad_beginnings(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *message;
    } bad[] = {{"", 0, "f: not an npy file (it doesn't begin with \\x93NUMPY)"},
               {"PK\3\4\0\0\0\0\0\0", 10, "f: not an npy file (it doesn't begin with \\x93NUMPY)"},
               {"\x93NUMPY\4\0\0\0", 10, "f: npy version 4.0 is not supported (1.0, 2.0, 3.0 are)"},
               {"\x93NUMPY\1\1\0\0", 10, "f: npy version 1.1 is not supported (1.0, 2.0, 3.0 are)"},
               {"\x93NUMPY\1\0\7", 9, "f: the header ends past the file (9 bytes)"},
               {"\x93NUMPY\1\0\3\0{}", 12, "f: the header ends past the file (12 bytes)"},
               {"\x93NUMPY\2\0\2\0\0\x80{}", 14, "f: the header ends past the file (14 bytes)"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_bytes(scratch("f"), bad[i].bytes, bad[i].size);
        Npy a;
        Error err = {0};
        assert_int_equal(npy_read(scratch("f"), &a, &err), -1);
        assert_error(&err, bad[i].message);
    }
}

static void refuses_every_cut(void **state) {
    (void)state;
    char bytes[512];
    FILE *fp = fopen(FILES "f8_fortran.npy", "rb");
    assert_non_null(fp);
    size_t size = fread(bytes, 1, sizeof bytes, fp);
    fclose(fp);
    assert_in_range(size, 9, sizeof bytes - 1);
    for (size_t n = 0; n < size; n++) {
        write_bytes(scratch("cut"), bytes, n);
        Npy a;
        Error err = {0};
        assert_int_equal(npy_read(scratch("cut"), &a, &err), -1);
        assert_true(err.set);
    }
}

int main(void) {
    enum { BROKEN = sizeof broken / sizeof broken[0] };
    const struct CMUnitTest fixed[] = {
        cmocka_unit_test(reads_what_numpy_wrote),
        cmocka_unit_test(reads_a_scalar_and_an_empty_array),
        cmocka_unit_test(refuses_other_types_by_name),
        cmocka_unit_test(reads_back_what_it_wrote),
        cmocka_unit_test(writes_as_numpy_does),
        cmocka_unit_test(pads_headers_of_every_length),
        cmocka_unit_test(reads_a_matrix_by_columns),
        cmocka_unit_test(refuses_bad_beginnings),
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
