/* Files read whole, and written whole or not at all. */
#include "tests/scratch.h"
#include "weights/file.h"

#include <signal.h>
#include <sys/resource.h>

static void reads_a_file_and_ends_it_with_nul(void **state) {
    (void)state;
    Error err = {0};
    size_t size = 99;
    write_bytes(scratch("f"), "ab\0c", 4);
    char *text = file_read(scratch("f"), &size, &err);
    assert_non_null(text);
    assert_int_equal(size, 4);
    assert_memory_equal(text, "ab\0c", 5);
    free(text);
    write_bytes(scratch("f"), "", 0);
    text = file_read(scratch("f"), &size, &err);
    assert_non_null(text);
    assert_int_equal(size, 0);
    assert_int_equal(text[0], '\0');
    free(text);
}

static void refuses_to_read_what_is_no_file(void **state) {
    (void)state;
    size_t size;
    Error err = {0};
    assert_null(file_read(scratch("none"), &size, &err));
    assert_error(&err, "none: can't be opened: No such file or directory");
    err = (Error){0};
    assert_null(file_read(scratch_dir, &size, &err));
    assert_error(&err, ": can't be opened: it is a directory, not a file");
    err = (Error){0};
    assert_int_equal(mkfifo(scratch("fifo"), 0600), 0);
    assert_null(file_read(scratch("fifo"), &size, &err)); /* and does not wait for a writer */
    assert_error(&err, "fifo: can't be opened: it is not a regular file");
}

static void tells_files_from_directories(void **state) {
    (void)state;
    write_text(scratch("f"), "x");
    assert_true(file_exists(scratch("f")));
    assert_false(file_exists(scratch_dir));
    assert_false(file_exists(scratch("none")));
    assert_true(is_directory(scratch_dir));
    assert_false(is_directory(scratch("f")));
    assert_false(is_directory(scratch("none")));
}

/* An empty directory for one test's output. */
static const char *fresh(const char *name) {
    const char *dir = scratch(name);
    assert_int_equal(mkdir(dir, 0700), 0);
    return dir;
}

static void output_appears_when_it_is_complete(void **state) {
    (void)state;
    fresh("whole");
    write_text(scratch("whole/f"), "old");
    OutFile f;
    Error err = {0};
    size_t size;
    assert_int_equal(outfile_open(&f, scratch("whole/f"), &err), 0);
    fputs("new", f.stream);
    fflush(f.stream);
    char *text = file_read(scratch("whole/f"), &size, &err);
    assert_string_equal(text, "old");
    free(text);
    assert_int_equal(outfile_close(&f, &err), 0);
    text = file_read(scratch("whole/f"), &size, &err);
    assert_string_equal(text, "new");
    free(text);
    assert_int_equal(scratch_entries(scratch("whole"), false), 1);
}

static void output_has_the_permissions_of_any_new_file(void **state) {
    (void)state;
    const mode_t masks[] = {022, 077};
    for (int i = 0; i < 2; i++) {
        mode_t before = umask(masks[i]);
        OutFile f;
        Error err = {0};
        int status = outfile_open(&f, scratch("mode"), &err);
        umask(before);
        assert_int_equal(status, 0);
        assert_int_equal(outfile_close(&f, &err), 0);
        struct stat st;
        assert_int_equal(stat(scratch("mode"), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0666 & ~masks[i]);
    }
}

static void discarded_output_leaves_nothing(void **state) {
    (void)state;
    fresh("discard");
    OutFile f;
    Error err = {0};
    assert_int_equal(outfile_open(&f, scratch("discard/f"), &err), 0);
    assert_int_equal(scratch_entries(scratch("discard"), false), 1);
    outfile_discard(&f);
    assert_int_equal(scratch_entries(scratch("discard"), false), 0);
    outfile_discard(&f); /* harmless */
}

static void two_writers_of_one_name_don_t_mix(void **state) {
    (void)state;
    fresh("two");
    OutFile a, b;
    Error err = {0};
    size_t size;
    assert_int_equal(outfile_open(&a, scratch("two/f"), &err), 0);
    assert_int_equal(outfile_open(&b, scratch("two/f"), &err), 0);
    fputs("a", a.stream);
    fputs("b", b.stream);
    assert_int_equal(outfile_close(&a, &err), 0);
    assert_int_equal(outfile_close(&b, &err), 0);
    char *text = file_read(scratch("two/f"), &size, &err);
    assert_string_equal(text, "b"); /* the last to finish */
    free(text);
    assert_int_equal(scratch_entries(scratch("two"), false), 1);
}

static void refuses_an_output_that_can_t_be(void **state) {
    (void)state;
    OutFile f;
    Error err = {0};
    assert_int_equal(outfile_open(&f, scratch("no such/f"), &err), -1);
    assert_error(&err, "no such/f: can't be created: No such file or directory");
    err = (Error){0};
    assert_int_equal(outfile_open(&f, scratch_dir, &err), -1);
    assert_error(&err, ": can't be written: it is not a regular file");
    err = (Error){0};
    assert_int_equal(outfile_open(&f, "/dev/null", &err), -1); /* a rename would replace it */
    assert_error(&err, "/dev/null: can't be written: it is not a regular file");
}

/* A full disk, played by the limit on a file's size: `n` bytes are written where 10000 fit. With
 * `relief` the limit is lifted before the file is closed, as if somebody had made room: what was
 * lost before stays lost. */
static int write_to_full_disk(size_t n, bool relief, Error *err) {
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 10000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    OutFile f;
    int opened = outfile_open(&f, scratch("full/f"), err);
    for (size_t i = 0; opened == 0 && i < n; i++) putc('x', f.stream);
    if (relief) setrlimit(RLIMIT_FSIZE, &before);
    int closed = opened == 0 ? outfile_close(&f, err) : 0;
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    assert_int_equal(opened, 0);
    return closed;
}

static void failed_write_leaves_the_old_file(void **state) {
    (void)state;
    static const struct {
        size_t n;
        bool relief;
    } kind[] = {{30000, false}, {30000, true}, {10001, false}};
    fresh("full");
    for (int i = 0; i < 3; i++) {
        write_text(scratch("full/f"), "old");
        Error err = {0}, none = {0};
        assert_int_equal(write_to_full_disk(kind[i].n, kind[i].relief, &err), -1);
        assert_error(&err, kind[i].relief ? "full/f: can't be written: a write failed"
                                          : "full/f: can't be written: File too large");
        size_t size;
        char *text = file_read(scratch("full/f"), &size, &none);
        assert_string_equal(text, "old");
        free(text);
        assert_int_equal(scratch_entries(scratch("full"), false), 1);
    }
    Error none = {0};
    assert_int_equal(write_to_full_disk(10000, false, &none), 0); /* just fits */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_file_and_ends_it_with_nul),
        cmocka_unit_test(refuses_to_read_what_is_no_file),
        cmocka_unit_test(tells_files_from_directories),
        cmocka_unit_test(output_appears_when_it_is_complete),
        cmocka_unit_test(output_has_the_permissions_of_any_new_file),
        cmocka_unit_test(discarded_output_leaves_nothing),
        cmocka_unit_test(two_writers_of_one_name_don_t_mix),
        cmocka_unit_test(refuses_an_output_that_can_t_be),
        cmocka_unit_test(failed_write_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
