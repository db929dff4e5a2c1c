/* tar: archives of every kind that tarfile writes are read, and whatever is wrong with one is named. */
#include "tests/scratch.h"
#include "weights/file.h"
#include "weights/tar.h"

#define FILES "golden/data/dataset/tar/"
enum { BLOCK = 512 };

/* ---- what others wrote ------------------------------------------------------------------------------- */

typedef struct Expected {
    const char *name;
    int64_t size;       /* -1: not a regular file */
    const char *begins; /* the contents */
} Expected;

static Tar *must_open(const char *path) {
    Error err = {0};
    Tar *t = tar_open(path, &err);
    if (!t) fail_msg("%s", err.message);
    return t;
}

static void check_member(Tar *t, const TarMember *m, const Expected *e) {
    Error err = {0};
    assert_string_equal(m->name, e->name);
    assert_true(m->regular == (e->size >= 0));
    assert_int_equal(m->size, e->size < 0 ? 0 : e->size);
    char *contents = calloc(1, (size_t)m->size + 1);
    assert_int_equal(tar_read(t, contents, &err), 0);
    assert_memory_equal(contents, e->begins, strlen(e->begins));
    free(contents);
}

static void check_archive(const char *name, const Expected *e, bool in_order) {
    Error err = {0};
    TarMember m;
    uint64_t at[8];
    size_t n = 0;
    char path[128];
    snprintf(path, sizeof path, FILES "%s.tar", name);
    Tar *t = must_open(path);
    while (tar_next(t, &m, &err) > 0) {
        assert_true(n < 8 && e[n].name);
        at[n] = m.at;
        if (in_order) check_member(t, &m, &e[n]);
        n++;
    }
    if (err.set) fail_msg("%s", err.message);
    assert_null(e[n].name);
    for (size_t i = n; i-- > 0;) { /* back to each of them */
        assert_int_equal(tar_seek(t, at[i], &err), 0);
        assert_int_equal(tar_next(t, &m, &err), 1);
        check_member(t, &m, &e[i]);
    }
    tar_close(t);
}

#define SOME                                                                                       \
    {"a.txt", 4, "one\n"}, {"empty.txt", 0, ""}, {"d/b.bin", 1280, "\0\1\2"}, {                    \
        "exact.bin", 512, "xxxx"                                                                   \
    }
#define TEN(c) c c c c c c c c c c
#define LONG                                                                                       \
    TEN("dddddd")                                                                                  \
    "/" TEN("eeeeee") "/" TEN("fffffffffffffff") ".txt"

static void reads_what_tarfile_wrote(void **state) {
    (void)state;
    static const Expected
        ustar[] = {SOME, {TEN("ppppppppp") "/" TEN("nnnnnnnnn"), 14, "long by prefix"}, {0}},
        padded[] = {SOME, {0}}, gnu[] = {SOME, {LONG, 4, "long"}, {0}},
        pax[] = {SOME, {LONG, 4, "long"}, {"\xc3\xa9\xe4\xb8\xad.txt", 5, "utf-8"}, {0}},
        kinds[] = {{"a.txt", 4, "one\n"},
                   {"dir/", -1, ""},
                   {"link", -1, ""},
                   {"hard", -1, ""},
                   {"fifo", -1, ""},
                   {"last.txt", 4, "two\n"},
                   {0}},
        v7[] = {{"a.txt", 4, "one\n"}, {0}}, with_sign[] = {{"\xc3\xa9.txt", 4, "one\n"}, {0}},
        pax_size[] = {{"a.txt", 700, "yyyy"}, {"b.txt", 4, "two\n"}, {0}},
        hard[] = {{"hard", -1, ""}, {"a.txt", 4, "one\n"}, {0}}, none[] = {{0}};
    static const struct {
        const char *name;
        const Expected *members;
    } all[] = {{"ustar", ustar},       {"padded", padded}, {"gnu", gnu},    {"pax", pax},
               {"kinds", kinds},       {"v7", v7},         {"base256", v7}, {"signed", with_sign},
               {"pax_size", pax_size}, {"hard", hard},     {"none", none}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        check_archive(all[i].name, all[i].members, true);
        check_archive(all[i].name, all[i].members, false);
    }
}

/* Larger than the reader's buffer, so that it is filled in the middle of a header's neighbours. */
static void reads_large_members(void **state) {
    (void)state;
    enum { N = 300001 };
    char *bytes = calloc(1, (N / BLOCK + 1 + 3) * BLOCK), *back = malloc(N);
    Error err = {0};
    TarMember m;
    size_t size;
    char *header = file_read(FILES "v7.tar", &size, &err);
    memcpy(bytes, header, BLOCK);
    unsigned sum = 0; /* the checksum of the same header with another size */
    snprintf(bytes + 124, 12, "%011o", N);
    memset(bytes + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++) sum += (unsigned char)bytes[i];
    snprintf(bytes + 148, 8, "%06o", sum);
    for (int i = 0; i < N; i++) bytes[BLOCK + i] = (char)(i * 31 + i / 512);
    write_bytes(scratch("large.tar"), bytes, (N / BLOCK + 1 + 3) * BLOCK);
    Tar *t = must_open(scratch("large.tar"));
    assert_int_equal(tar_next(t, &m, &err), 1);
    assert_int_equal(m.size, N);
    assert_int_equal(tar_read(t, back, &err), 0);
    assert_memory_equal(back, bytes + BLOCK, N);
    assert_int_equal(tar_next(t, &m, &err), 0);
    tar_close(t);
    free(bytes);
    free(back);
    free(header);
}

/* A new file each time: writing over one makes some file systems wait for the disk. */
static void write_new(const char *path, const void *bytes, size_t size) {
    unlink(path);
    write_bytes(path, bytes, size);
}

/* ---- what is wrong ------------------------------------------------------------------------------------ */

/* All members, their contents too. */
static int walk(const char *path, Error *err) {
    TarMember m;
    int status;
    Tar *t = tar_open(path, err);
    if (!t) return -1;
    while ((status = tar_next(t, &m, err)) > 0) {
        char *contents = malloc((size_t)m.size + 1);
        assert_non_null(contents);
        assert_true(m.size <= tar_size(t));
        status = tar_read(t, contents, err);
        free(contents);
        if (status) break;
    }
    tar_close(t);
    return status;
}

static const char *const archives[] = {"ustar", "gnu", "pax", "kinds", "base256", "pax_size"};

/* Every header and every content ends at one; the last two blocks are the archive's end. */
static void a_file_cut_off_is_noticed(void **state) {
    (void)state;
    for (size_t a = 0; a < sizeof archives / sizeof archives[0]; a++) {
        char path[128];
        size_t size;
        Error err = {0};
        snprintf(path, sizeof path, FILES "%s.tar", archives[a]);
        char *bytes = file_read(path, &size, &err);
        assert_non_null(bytes);
        for (size_t cut = 0; cut <= size; cut += cut % BLOCK > 1 && cut % BLOCK < 505 ? 101 : 1) {
            err = (Error){0};
            write_new(scratch("cut.tar"), bytes, cut);
            int status = walk(scratch("cut.tar"), &err);
            if (status != (cut < size - BLOCK ? -1 : 0))
                fail_msg("%s cut at %zu of %zu: %d", archives[a], cut, size, status);
            if (status) assert_non_null(strstr(err.message, "cut.tar: truncated: "));
        }
        free(bytes);
    }
}

/* A changed byte of a header is noticed by its checksum; one of a content is nobody's business here.
 * Whatever happens, nothing outside of the file is read (the sanitizers' part). */
static void every_changed_byte_is_survived(void **state) {
    (void)state;
    size_t noticed = 0, tried = 0;
    for (size_t a = 0; a < sizeof archives / sizeof archives[0]; a++) {
        char path[128];
        size_t size;
        Error err = {0};
        snprintf(path, sizeof path, FILES "%s.tar", archives[a]);
        char *bytes = file_read(path, &size, &err);
        assert_non_null(bytes);
        for (size_t i = 0; i < size; i += i % BLOCK < 160 || i % BLOCK > 250 ? 3 : 17) {
            const char old = bytes[i];
            bytes[i] = (char)(old ^ (1 << i % 8));
            err = (Error){0};
            write_new(scratch("changed.tar"), bytes, size);
            noticed += walk(scratch("changed.tar"), &err) < 0;
            tried++;
            bytes[i] = old;
        }
        free(bytes);
    }
    assert_true(noticed > tried / 4);
}

static void put_checksum(unsigned char *h) {
    unsigned sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++) sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
}

/* One member of 4 bytes, changed as said, with the checksum that it then has. */
static void refuse(size_t at, const void *change, size_t n, const char *message) {
    size_t size;
    Error err = {0};
    unsigned char *bytes = (unsigned char *)file_read(FILES "v7.tar", &size, &err);
    assert_non_null(bytes);
    memcpy(bytes + at, change, n);
    put_checksum(bytes);
    write_bytes(scratch("bad.tar"), bytes, size);
    free(bytes);
    assert_int_equal(walk(scratch("bad.tar"), &err), -1);
    assert_error(&err, message);
}

static void sizes_are_not_believed(void **state) {
    (void)state;
    refuse(
        124, "77777777777", 12,
        "bad.tar: truncated: the member at byte 0 has 8589934591 bytes, of which 1536 are there");
    refuse(124, "00000003001", 12,
           "bad.tar: truncated: the member at byte 0 has 1537 bytes, of which 1536 are there");
    refuse(
        124, "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12,
        "bad.tar: truncated: the member at byte 0 has 9223372036854775807 bytes, of which 1536 are "
        "there");
    static const char *const no_number[] = {
        "\x80\0\0\1\0\0\0\0\0\0\0\0",                       /* 2^64 */
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", /* -1 */
        "0000000000x",
        "00000 00004",
        "00000000009",
        "-0000000004",
        "           ",
        "\0\0\0\0\0\0\0\0\0\0\0"};
    for (size_t i = 0; i < sizeof no_number / sizeof no_number[0]; i++)
        refuse(124, no_number[i], 12, "bad.tar: damaged: the header at byte 0 has no valid size");
}

static void names_and_kinds_are_checked(void **state) {
    (void)state;
    refuse(0, "\0\0\0\0\0", 5, "bad.tar: damaged: the member at byte 0 has no name");
    refuse(156, "S", 1, "bad.tar: the member at byte 0 is sparse, which is not supported");
    refuse(156, "x", 1, "bad.tar: the pax header at byte 0 is broken");
    refuse(156, "L", 1, "bad.tar: damaged: nothing follows the extended header at byte 0");
    refuse(156, "g", 1, "bad.tar: damaged: nothing follows the extended header at byte 0");
}

/* A pax header with this text, and a member behind it. */
static int with_pax(const char *text, size_t length, Error *err) {
    unsigned char bytes[6 * BLOCK] = {0};
    size_t size;
    char *member = file_read(FILES "v7.tar", &size, err);
    assert_non_null(member);
    memcpy(bytes, member, BLOCK);
    bytes[156] = 'x';
    snprintf((char *)bytes + 124, 12, "%011o", (unsigned)length);
    put_checksum(bytes);
    memcpy(bytes + BLOCK, text, length);
    memcpy(bytes + (1 + (length + BLOCK - 1) / BLOCK) * BLOCK, member, 2 * BLOCK);
    free(member);
    write_bytes(scratch("pax.tar"), bytes, sizeof bytes);
    return walk(scratch("pax.tar"), err);
}

static void pax_records_are_checked(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t size;
    } broken[] = {{"x", 1},
                  {"12 size=700", 11},
                  {"13 size=700\n", 12},
                  {"3 size=700\n", 11},
                  {"0 size=700\n", 11},
                  {"4 x\n", 4},
                  {"-12 size=700\n", 13},
                  {"99999999999999999999 path=a\n", 28},
                  {"12 size=7 0\n", 12},
                  {"12 size=-70\n", 12},
                  {"9 size=\n\n", 9},
                  {"12 path=a\0b\n", 12},
                  {"10 path=ab\n", 11},
                  {"12 path=abc\n\0", 13}};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        Error err = {0};
        if (with_pax(broken[i].text, broken[i].size, &err) == 0) fail_msg("%s", broken[i].text);
        assert_error(&err, "pax.tar: the pax header at byte 0 is broken");
    }
    Error err = {0};
    assert_int_equal(with_pax("12 path=abc\n", 12, &err), 0);
    assert_int_equal(with_pax("22 GNU.sparse.major=1\n", 22, &err), -1);
    assert_error(&err, "pax.tar: the member at byte 1024 is sparse, which is not supported");
    err = (Error){0};
    assert_int_equal(with_pax("21 size=999999999999\n", 21, &err), -1);
    assert_error(&err,
                 "pax.tar: truncated: the member at byte 1024 has 999999999999 bytes, of which "
                 "1536 are there");
}

static void long_names_have_a_limit(void **state) {
    (void)state;
    size_t size = (2 << 20) + 3 * BLOCK, unused;
    Error err = {0};
    unsigned char *bytes = calloc(1, size);
    char *member = file_read(FILES "v7.tar", &unused, &err);
    assert_true(bytes && member);
    memcpy(bytes, member, BLOCK);
    bytes[156] = 'L';
    snprintf((char *)bytes + 124, 12, "%011o", 2 << 20);
    put_checksum(bytes);
    write_bytes(scratch("long.tar"), bytes, size);
    assert_int_equal(walk(scratch("long.tar"), &err), -1);
    assert_error(&err, "long.tar: the extended header at byte 0 claims 2097152 bytes");
    free(bytes);
    free(member);
}

static void other_files_are_refused(void **state) {
    (void)state;
    Error err = {0};
    char text[1500];
    memset(text, 'x', sizeof text);
    write_bytes(scratch("text.tar"), text, sizeof text);
    assert_int_equal(walk(scratch("text.tar"), &err), -1);
    assert_error(&err, "text.tar: not a tar archive: the header at byte 0 has a wrong checksum");
    err = (Error){0};
    assert_int_equal(walk(scratch("absent.tar"), &err), -1);
    assert_error(&err, "absent.tar: can't be opened: No such file or directory");
    err = (Error){0};
    Tar *t = must_open(FILES "none.tar");
    assert_int_equal(tar_seek(t, 1536, &err), -1);
    assert_non_null(strstr(err.message, "none.tar: no member begins at byte 1536 of 1024"));
    tar_close(t);
}

static void a_file_that_shrinks_is_noticed(void **state) {
    (void)state;
    Error err = {0};
    TarMember m;
    size_t size;
    char *bytes = file_read(FILES "padded.tar", &size, &err), *all = calloc(1, 100 * size);
    for (int i = 0; i < 100; i++) memcpy(all + (size_t)i * size, bytes, 2 * BLOCK);
    memcpy(all, bytes, BLOCK);
    unsigned char *header = (unsigned char *)all;
    snprintf(all + 124, 12, "%011o", (unsigned)(99 * size));
    put_checksum(header);
    write_bytes(scratch("shrinks.tar"), all, 100 * size);
    Tar *t = must_open(scratch("shrinks.tar"));
    assert_int_equal(tar_next(t, &m, &err), 1);
    assert_int_equal(m.size, 99 * size);
    assert_int_equal(truncate(scratch("shrinks.tar"), (off_t)(90 * size)), 0);
    assert_int_equal(tar_read(t, all, &err), -1);
    assert_error(&err, "shrinks.tar: can't be read: it became shorter");
    tar_close(t);
    free(bytes);
    free(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_tarfile_wrote),
        cmocka_unit_test(reads_large_members),
        cmocka_unit_test(a_file_cut_off_is_noticed),
        cmocka_unit_test(every_changed_byte_is_survived),
        cmocka_unit_test(sizes_are_not_believed),
        cmocka_unit_test(names_and_kinds_are_checked),
        cmocka_unit_test(pax_records_are_checked),
        cmocka_unit_test(long_names_have_a_limit),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(a_file_that_shrinks_is_noticed),
    };
    return cmocka_run_group_tests_name("tar", tests, scratch_make, scratch_remove);
}
