/* npz and zip: what numpy and torch write is read, what is broken is named, and no byte of a file
 * can change without being noticed or being without meaning. */
#include "tests/scratch.h"
#include "weights/file.h"
#include "weights/npz.h"
#include "weights/zip.h"

#define FILES "golden/data/files/"

/* ---- what upstream wrote -------------------------------------------------------------------------- */

static const struct {
    const char *name;
    Dtype dtype;
    int ndim;
    int64_t dim[3];
    double first, step;
} arrays[] = {{"f4", DTYPE_F32, 3, {2, 3, 4}, -0.5, 0.5},
              {"unet/0/f8", DTYPE_F64, 3, {2, 3, 4}, -0.5, 0.5}, /* Fortran order in the file */
              {"i8", DTYPE_I64, 1, {3}, 0, 1},
              {"bool", DTYPE_BOOL, 1, {3}, 1, 0}, /* and one element that is 0 */
              {"u1", DTYPE_U8, 1, {5}, 0, 1},
              {"i2", DTYPE_I16, 1, {4}, 0, 1},
              {"empty", DTYPE_F16, 2, {0, 3}, 0, 0},
              {"scalar", DTYPE_F64, 0, {0}, 2.5, 0}};
enum { ARRAYS = sizeof arrays / sizeof arrays[0] };

static void reads_what_numpy_wrote(void **state) {
    (void)state;
    static const char *const files[] = {"stored", "deflated", "piped", "zip64"};
    for (size_t f = 0; f < 4; f++) {
        char path[128];
        Error err = {0};
        snprintf(path, sizeof path, FILES "%s.npz", files[f]);
        Npz *n = npz_open(path, &err);
        if (!n) fail_msg("%s", err.message);
        assert_int_equal(npz_count(n), ARRAYS);
        for (size_t i = 0; i < ARRAYS; i++) {
            const StoredTensor *t = npz_at(n, i);
            double v[24];
            assert_string_equal(t->name, arrays[i].name);
            assert_int_equal(t->dtype, arrays[i].dtype);
            assert_int_equal(t->ndim, arrays[i].ndim);
            assert_memory_equal(t->dim, arrays[i].dim, (size_t)t->ndim * sizeof *t->dim);
            if (npz_read(n, i, v, &err)) fail_msg("%s", err.message);
            for (int64_t k = 0; k < stored_numel(t); k++) {
                bool off = arrays[i].dtype == DTYPE_BOOL && k == 1;
                assert_true(v[k] == (off ? 0 : arrays[i].first + arrays[i].step * (double)k));
            }
        }
        npz_close(n);
    }
}

static void an_empty_archive_has_no_arrays(void **state) {
    (void)state;
    Error err = {0};
    Npz *n = npz_open(FILES "none.npz", &err);
    assert_non_null(n);
    assert_int_equal(npz_count(n), 0);
    npz_close(n);
}

/* Torch's archives: all stored, so that tensors may be used where they lie. */
static void reads_what_torch_wrote(void **state) {
    (void)state;
    Error err = {0};
    Zip *z = zip_open(FILES "torch.pt", &err);
    if (!z) fail_msg("%s", err.message);
    const ZipMember *m = zip_find(z, "torch/data/0");
    assert_non_null(m);
    assert_null(zip_find(z, "torch/data"));
    assert_false(m->deflated);
    assert_int_equal(m->size, 12);
    assert_int_equal(zip_check(z, m, &err), 0);
    float v[3], first;
    memcpy(v, m->data, sizeof v);
    assert_true(v[0] == -0.5f && v[1] == 0 && v[2] == 0.5f);
    assert_int_equal(zip_read_start(z, m, &first, sizeof first, &err), 0);
    assert_true(first == -0.5f);
    char order[7] = "";
    m = zip_find(z, "torch/byteorder");
    assert_int_equal(m->size, 6);
    assert_int_equal(zip_read(z, m, order, &err), 0);
    assert_string_equal(order, "little");
    for (size_t i = 1; i < zip_count(z); i++)
        assert_true(zip_at(z, i - 1)->data < zip_at(z, i)->data);
    zip_close(z);
}

static void refuses_what_is_no_array(void **state) {
    (void)state;
    static const struct {
        const char *path, *message;
    } other[] = {
        {FILES "object.npz", FILES "object.npz: x.npy: type '|O' is not supported ('<f2', '<f4', "
                                   "'<f8', '<i2', '<i4', '<i8', '|i1', '|u1', '|b1' are)"},
        {FILES "bfloat16.npz", FILES "bfloat16.npz: x.npy: type '|V2' is not supported: numpy has "
                                     "no bfloat16, which safetensors has"},
        {FILES "long_header.npz",
         FILES "long_header.npz: x.npy: a header of 5000 bytes is longer than any array's"},
        {FILES "text.npz",
         FILES "text.npz: readme.txt: not an npy file (it doesn't begin with \\x93NUMPY)"},
        {FILES "f4.npy", FILES "f4.npy: not a zip archive, or cut off (it has no end record)"},
        {FILES "absent.npz", FILES "absent.npz: can't be opened: No such file or directory"},
        {FILES "sharded", FILES "sharded: can't be opened: it is a directory, not a file"}};
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++) {
        Error err = {0};
        assert_null(npz_open(other[i].path, &err));
        assert_error(&err, other[i].message);
    }
}

/* ---- broken files --------------------------------------------------------------------------------- */

/* Everything in it; false if that can't be had. `digest` [256] is what it holds, as text. */
static bool read_everything(const char *path, char *digest, size_t size, Error *err) {
    Npz *n = npz_open(path, err);
    size_t used = 0;
    for (size_t i = 0; n && i < npz_count(n) && !err->set; i++) {
        const StoredTensor *t = npz_at(n, i);
        double v[64];
        assert_true(stored_numel(t) <= 64);
        if (npz_read(n, i, v, err)) break;
        used += (size_t)snprintf(digest + used, size - used, "%s %s %d", t->name,
                                 dtype_name(t->dtype), t->ndim);
        for (int64_t k = 0; k < stored_numel(t) && used < size; k++)
            used += (size_t)snprintf(digest + used, size - used, " %g", v[k]);
        assert_true(used < size);
    }
    npz_close(n);
    return !err->set;
}

static const char *const whole[] = {"two", "deflated", "piped", "zip64"};
enum { WHOLE = sizeof whole / sizeof whole[0] };

static char *load(const char *name, size_t *size) {
    char path[128];
    Error err = {0};
    snprintf(path, sizeof path, FILES "%s.npz", name);
    char *bytes = file_read(path, size, &err);
    if (!bytes) fail_msg("%s", err.message);
    return bytes;
}

static void refuses_every_cut(void **state) {
    (void)state;
    for (size_t f = 0; f < WHOLE; f++) {
        size_t size;
        char *bytes = load(whole[f], &size), digest[4096];
        write_bytes(scratch("cut.npz"), bytes, size);
        for (size_t n = size; n-- > 0;) {
            Error err = {0};
            assert_int_equal(truncate(scratch("cut.npz"), (off_t)n), 0);
            if (read_everything(scratch("cut.npz"), digest, sizeof digest, &err))
                fail_msg("%s: %zu of %zu bytes were enough", whole[f], n, size);
        }
        free(bytes);
    }
}

static void set_byte(const char *path, size_t at, char byte) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(&byte, 1, 1, f), 1);
    assert_int_equal(fclose(f), 0);
}

/* Each byte of the file as another one. Dates, versions and the like mean nothing here. */
static void no_changed_byte_changes_a_number(void **state) {
    (void)state;
    for (size_t f = 0; f < WHOLE; f++) {
        size_t size, refused = 0;
        char *bytes = load(whole[f], &size), good[4096], digest[4096];
        Error none = {0};
        write_bytes(scratch("x.npz"), bytes, size);
        assert_true(read_everything(scratch("x.npz"), good, sizeof good, &none));
        for (size_t i = 0; i < size; i++) {
            Error err = {0};
            set_byte(scratch("x.npz"), i, (char)(bytes[i] ^ (i % 9 == 8 ? 0xff : 1 << i % 9)));
            if (!read_everything(scratch("x.npz"), digest, sizeof digest, &err))
                refused++;
            else if (strcmp(digest, good) != 0)
                fail_msg("%s: byte %zu of %zu goes unnoticed", whole[f], i, size);
            set_byte(scratch("x.npz"), i, bytes[i]);
        }
        assert_true(refused > size / 2);
        free(bytes);
    }
}

/* `bytes` [n] at `offset` behind occurrence `nth` of the signature PK a b. */
typedef struct Patch {
    const char *what, *file;
    char a, b;
    int nth, offset;
    const char *bytes;
    size_t n;
    const char *message;
} Patch;

#define BYTES(text) text, sizeof text - 1
#define RECORD '\1', '\2'
#define LOCAL '\3', '\4'
#define END '\5', '\6'
#define END64 '\6', '\6'
#define LOCATOR '\6', '\7'
#define END64_SIZE 56

static const Patch patches[] = {
    {"an end record with a longer comment", "two", END, 0, 20, BYTES("\1"),
     "f: not a zip archive, or cut off (it has no end record)"},
    {"part of an archive", "two", END, 0, 4, BYTES("\1"),
     "f: an archive in several parts is not supported"},
    {"members on another disk", "two", END, 0, 8, BYTES("\1"),
     "f: an archive in several parts is not supported"},
    {"a directory past the end", "two", END, 0, 16, BYTES("\xff\xff\0\0"),
     "f: its directory (102 bytes at 65535) doesn't end where the end record begins (508)"},
    {"a shorter directory", "two", END, 0, 12, BYTES("\x60"),
     "f: its directory (96 bytes at 406) doesn't end where the end record begins (508)"},
    {"many members", "two", END, 0, 8, BYTES("\3\0\3\0"),
     "f: its directory of 102 bytes is too short for 3 members"},
    {"one member less", "two", END, 0, 8, BYTES("\1\0\1\0"),
     "f: its directory is longer than its 1 members"},
    {"no record", "two", RECORD, 1, 0, BYTES("PK\1\3"), "f: record 1 of its directory is broken"},
    {"a record that is cut off", "two", RECORD, 1, 32, BYTES("\1"),
     "f: record 1 of its directory is cut off"},
    {"a broken extra field", "zip64", RECORD, 0, 48 + 4, BYTES("\1\0\xff\0"),
     "f: record 0 of its directory has a broken extra field"},
    {"an extra field that is too short", "zip64", RECORD, 0, 48 + 4, BYTES("\1\0\4\0"),
     "f: record 0 of its directory has a broken extra field"},
    {"a name that is not UTF-8", "two", RECORD, 0, 46, BYTES("\xff"),
     "f: the name of member 0 is not valid UTF-8"},
    {"a name with a NUL", "two", RECORD, 0, 47, BYTES("\0"),
     "f: the name of member 0 is not valid UTF-8"},
    {"an encrypted member", "two", RECORD, 0, 8, BYTES("\1"), "f: \"a.npy\" is encrypted"},
    {"another compression", "two", RECORD, 0, 10, BYTES("\x0c"),
     "f: \"a.npy\": compression method 12 is not supported (stored and deflated are)"},
    {"stored, and of another size", "two", RECORD, 0, 24, BYTES("\xff"),
     "f: \"a.npy\" is stored, and is 255 bytes of which 152 are there"},
    {"deflated beyond belief", "deflated", RECORD, 0, 24, BYTES("\xff\xff\xff\x7f"),
     "f: \"f4.npy\" claims 2147483647 bytes, more than 139 deflated ones can hold"},
    {"data past the members", "two", RECORD, 1, 20, BYTES("\xff\0\0\0\xff\0\0\0"),
     "f: \"b.npy\": its 255 bytes at 207 end past the members (406)"},
    {"a member that is not there", "two", RECORD, 0, 42, BYTES("\1"),
     "f: \"a.npy\" is not at 1, where the directory says"},
    {"a member past the end", "two", RECORD, 0, 42, BYTES("\xff\xff\xff\x7f"),
     "f: \"a.npy\" is not at 2147483647, where the directory says"},
    {"another name in the member", "two", LOCAL, 0, 30, BYTES("x"),
     "f: \"a.npy\": the directory and the member's own header disagree"},
    {"another method in the member", "two", LOCAL, 0, 8, BYTES("\x08"),
     "f: \"a.npy\": the directory and the member's own header disagree"},
    {"another CRC", "two", RECORD, 0, 16, BYTES("\1\2\3\4"),
     "f: \"a.npy\" is damaged: its CRC is 773ad41c, expected 04030201"},
    {"a size too small", "deflated", RECORD, 0, 24, BYTES("\xdf\0"),
     "f: \"f4.npy\" holds more than the 223 bytes that it claims"},
    {"no zip64 end record", "zip64", END64, 0, 0, BYTES("PK\6\5"),
     "f: its zip64 end record is not at 2472, where it should be"},
    {"a zip64 end record elsewhere", "zip64", LOCATOR, 0, 8, BYTES("\1"),
     "f: its zip64 end record is not at 2305, where it should be"},
    {"a longer zip64 end record", "zip64", END64, 0, 4, BYTES("\x2d"),
     "f: its zip64 end record doesn't end where the next one begins"},
    {"zip64 in two parts", "zip64", LOCATOR, 0, 16, BYTES("\2"),
     "f: an archive in several parts is not supported"},
    {"end records that disagree", "zip64", END64, 0, 32, BYTES("\7"),
     "f: its two end records disagree"},
    {"another size of the directory in the end record", "zip64", END, 0, 12, BYTES("\1"),
     "f: its two end records disagree"},
    {"another place of the directory in the end record", "zip64", END, 0, 16, BYTES("\1"),
     "f: its two end records disagree"},
    {"bytes behind deflated data", "piped", RECORD, 0, 20, BYTES("\x8f"),
     "f: \"f4.npy\": 4 bytes follow its deflated data"},
    {"absurdly many members", "zip64", END64, 0, 24,
     BYTES("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
     "f: its two end records disagree"},
    {"a size beyond any file", "zip64", RECORD, 0, 46 + 6 + 4,
     BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"),
     "f: \"f4.npy\" claims 18446744073709551615 bytes, more than any file has"},
};

static size_t find_signature(const char *bytes, size_t size, const Patch *p) {
    const char signature[4] = {'P', 'K', p->a, p->b};
    int nth = 0;
    for (size_t i = 0; i + 4 <= size; i++)
        if (memcmp(bytes + i, signature, 4) == 0 && nth++ == p->nth) return i;
    fail_msg("%s: no such record", p->what);
    return 0;
}

static void is_refused(void **state) {
    const Patch *p = *state;
    size_t size;
    char *bytes = load(p->file, &size), digest[4096];
    size_t at = find_signature(bytes, size, p) + (size_t)p->offset;
    Error err = {0};
    assert_true(at + p->n <= size);
    memcpy(bytes + at, p->bytes, p->n);
    write_bytes(scratch("f"), bytes, size);
    free(bytes);
    assert_false(read_everything(scratch("f"), digest, sizeof digest, &err));
    assert_error(&err, p->message);
}

/* The end record's own numbers count only where they are not "see zip64". */
static void zip64_takes_over(void **state) {
    (void)state;
    size_t size;
    char *bytes = load("zip64", &size), digest[4096], good[4096];
    const Patch end = {.what = "end", .a = 5, .b = 6}, end64 = {.what = "end64", .a = 6, .b = 6};
    size_t at = find_signature(bytes, size, &end), full = find_signature(bytes, size, &end64);
    Error err = {0};
    write_bytes(scratch("f"), bytes, size);
    assert_true(read_everything(scratch("f"), good, sizeof good, &err));
    memset(bytes + at + 8, 0xff, 12);
    write_bytes(scratch("f"), bytes, size);
    assert_true(read_everything(scratch("f"), digest, sizeof digest, &err));
    assert_string_equal(digest, good);
    /* a locator that points to where no whole record fits any more */
    memcpy(bytes + full + 16, "PK\6\6", 4);
    bytes[full + END64_SIZE + 8] = (char)(bytes[full + END64_SIZE + 8] + 16);
    write_bytes(scratch("f"), bytes, size);
    assert_false(read_everything(scratch("f"), digest, sizeof digest, &err));
    assert_error(&err, "f: its zip64 end record is not at 2488, where it should be");
    free(bytes);
}

/* Both members under one name, and both with the same data. */
static void refuses_a_name_twice_and_shared_data(void **state) {
    (void)state;
    size_t size;
    char *bytes = load("two", &size);
    const Patch local = {.what = "local", .a = 3, .b = 4, .nth = 1},
                record = {.what = "record", .a = 1, .b = 2, .nth = 1};
    size_t second = find_signature(bytes, size, &local), at = find_signature(bytes, size, &record);
    Error err = {0};
    bytes[second + 30] = bytes[at + 46] = 'a';
    write_bytes(scratch("f"), bytes, size);
    assert_null(npz_open(scratch("f"), &err));
    assert_error(&err, "f: \"a.npy\" is there twice");
    /* the first record once more */
    const size_t one = 46 + 5;
    memcpy(bytes + at, bytes + at - one, one);
    write_bytes(scratch("f"), bytes, size);
    err = (Error){0};
    assert_null(npz_open(scratch("f"), &err));
    assert_error(&err, "f: \"a.npy\" and \"a.npy\" overlap");
    free(bytes);
}

/* More and fewer bytes in the deflated data than are claimed, where the array's header says so too. */
static void deflated_data_are_counted(void **state) {
    (void)state;
    size_t size;
    char *bytes = load("deflated", &size), out[300];
    const Patch record = {.what = "record", .a = 1, .b = 2};
    size_t at = find_signature(bytes, size, &record) + 24;
    static const struct {
        unsigned char claimed;
        const char *message;
    } sizes[] = {
        {223, "f: \"f4.npy\" holds more than the 223 bytes that it claims"},
        {225, "f: \"f4.npy\" is damaged: its data end or make no sense after 224 of 225 bytes"}};
    for (size_t i = 0; i < 2; i++) {
        Error err = {0};
        assert_int_equal((unsigned char)bytes[at], 224);
        bytes[at] = (char)sizes[i].claimed;
        write_bytes(scratch("f"), bytes, size);
        bytes[at] = (char)224;
        Zip *z = zip_open(scratch("f"), &err);
        assert_non_null(z);
        assert_int_equal(zip_read(z, zip_find(z, "f4.npy"), out, &err), -1);
        assert_error(&err, sizes[i].message);
        zip_close(z);
    }
    free(bytes);
}

int main(void) {
    enum { PATCHES = sizeof patches / sizeof patches[0] };
    const struct CMUnitTest fixed[] = {
        cmocka_unit_test(reads_what_numpy_wrote),
        cmocka_unit_test(an_empty_archive_has_no_arrays),
        cmocka_unit_test(reads_what_torch_wrote),
        cmocka_unit_test(refuses_what_is_no_array),
        cmocka_unit_test(refuses_every_cut),
        cmocka_unit_test(no_changed_byte_changes_a_number),
        cmocka_unit_test(zip64_takes_over),
        cmocka_unit_test(refuses_a_name_twice_and_shared_data),
        cmocka_unit_test(deflated_data_are_counted),
    };
    enum { FIXED = sizeof fixed / sizeof fixed[0] };
    struct CMUnitTest tests[FIXED + PATCHES];
    memcpy(tests, fixed, sizeof fixed);
    for (size_t i = 0; i < PATCHES; i++)
        tests[FIXED + i] = (struct CMUnitTest){patches[i].what, is_refused, NULL, NULL,
                                               (void *)(uintptr_t)&patches[i]};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
