/* Writing safetensors as they come (weights/safetensors_stream.c). */
#include "tests/scratch.h"

#include "weights/file.h"
#include "weights/safetensors_stream.h"

#include <signal.h>
#include <sys/resource.h>

enum { MIB = 1 << 20 };

static void fresh(const char *name) {
    scratch_entries(scratch(name), true);
    rmdir(scratch(name));
    assert_int_equal(mkdir(scratch(name), 0777), 0);
}

static StoredTensor tensor(const char *name, Dtype dtype, int ndim, const int64_t *dim,
                           const void *data) {
    StoredTensor t = {.name = name, .dtype = dtype, .ndim = ndim, .data = data};
    for (int i = 0; i < ndim; i++) t.dim[i] = dim[i];
    t.bytes = (size_t)stored_numel(&t) * dtype_size(dtype);
    return t;
}

static SafetensorsStream *opened(const char *name) {
    Error err = {0};
    SafetensorsStream *s = safetensors_stream_open(scratch(name), &err);
    if (!s) fail_msg("%s", err.message);
    return s;
}

static int stream(const char *name, const StoredTensor *t, size_t n, const char *const *metadata,
                  Error *err) {
    SafetensorsStream *s = safetensors_stream_open(scratch(name), err);
    if (!s) return -1;
    for (size_t i = 0; i < n; i++) {
        if (safetensors_stream_add(s, &t[i], err) == 0) continue;
        safetensors_stream_discard(s);
        return -1;
    }
    assert_int_equal(safetensors_stream_count(s), n);
    return safetensors_stream_close(s, metadata, err);
}

static void assert_same_files(const char *a, const char *b) {
    size_t n, m;
    Error err = {0};
    char *x = file_read(scratch(a), &n, &err), *y = file_read(scratch(b), &m, &err);
    assert_false(err.set);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

/* Small files are those of the other writer, which knows all tensors beforehand. */
static void writes_what_the_other_writer_writes(void **state) {
    (void)state;
    static const char *const words[] = {"prompt", "a \"red\" circle\n", "seed", "42", NULL};
    static const double wide[6] = {1, -2, 3.5, 4, 5, 6};
    static const float single[3] = {0.5f, 1.5f, -2.5f};
    static const int64_t ids[2] = {7, 50256};
    const StoredTensor t[] = {
        tensor("ids", DTYPE_I64, 1, (int64_t[]){2}, ids),
        tensor("llm/x.3", DTYPE_F32, 2, (int64_t[]){1, 3}, single),
        tensor("uncond/ids", DTYPE_I64, 1, (int64_t[]){1}, ids + 1), /* at no multiple of 8 */
        tensor("t", DTYPE_F64, 0, NULL, wide),
        tensor("none", DTYPE_F32, 2, (int64_t[]){0, 4}, NULL),
        tensor("caf\xc3\xa9 \"\\\n", DTYPE_F64, 3, (int64_t[]){1, 2, 3}, wide),
    };
    Error err = {0};
    fresh("same");
    for (size_t n = 0; n <= 6; n++)
        for (int with = 0; with < 2; with++) {
            const char *const *metadata = with ? words : n % 2 ? NULL : words + 4;
            assert_int_equal(safetensors_write(scratch("same/a"), t, n, metadata, &err), 0);
            if (stream("same/b", t, n, metadata, &err)) fail_msg("%s", err.message);
            assert_same_files("same/a", "same/b");
        }
    assert_int_equal(scratch_entries(scratch("same"), false), 2);
    Safetensors *s = safetensors_open(scratch("same/b"), &err);
    assert_non_null(s);
    assert_int_equal(safetensors_count(s), 6);
    for (size_t i = 0; i < 6; i++) assert_string_equal(safetensors_at(s, i)->name, t[i].name);
    assert_string_equal(safetensors_metadata(s, "prompt"), words[1]);
    safetensors_close(s);
}

/* Its header grows past the gap before the data, which have to make room, in several pieces. */
static void many_names_move_the_data_on(void **state) {
    (void)state;
    enum { N = 40000, EACH = 8 };
    static char name[N][96];
    static double numbers[N][EACH];
    static StoredTensor t[N];
    for (int i = 0; i < N; i++) {
        snprintf(name[i], sizeof name[i], "unet/%d/%s", i,
                 "uncond/a rather long name, of which there are as many as there are steps");
        for (int k = 0; k < EACH; k++) numbers[i][k] = i + k * 0.1;
        t[i] = tensor(name[i], DTYPE_F64, 1, (int64_t[]){EACH}, numbers[i]);
    }
    Error err = {0};
    fresh("many");
    assert_int_equal(safetensors_write(scratch("many/a"), t, N, NULL, &err), 0);
    if (stream("many/b", t, N, NULL, &err)) fail_msg("%s", err.message);
    assert_same_files("many/a", "many/b");
    struct stat st;
    assert_int_equal(stat(scratch("many/b"), &st), 0);
    assert_true(st.st_size > 4 * MIB + 2 * MIB);
    unlink(scratch("many/a"));
    unlink(scratch("many/b"));
}

/* A large file's data stay where they were written, behind a header that is mostly spaces. */
static void large_data_stay(void **state) {
    (void)state;
    enum { N = 64 };
    static const char *const words[] = {"prompt", "a", NULL};
    char name[16];
    uint8_t *piece = malloc(MIB);
    assert_non_null(piece);
    for (int large = 0; large < 2; large++) { /* a byte less than 64 MiB, and 64 MiB */
        Error err = {0};
        fresh("large");
        SafetensorsStream *s = opened("large/f");
        for (int i = 0; i < N; i++) {
            memset(piece, i + 1, MIB);
            snprintf(name, sizeof name, "%d", i);
            const int64_t size = i == N - 1 && !large ? MIB - 1 : MIB;
            StoredTensor t = tensor(name, DTYPE_U8, 1, &size, piece);
            assert_int_equal(safetensors_stream_add(s, &t, &err), 0);
        }
        if (safetensors_stream_close(s, words, &err)) fail_msg("%s", err.message);
        struct stat st;
        assert_int_equal(stat(scratch("large/f"), &st), 0);
        assert_true(large ? st.st_size == (N + 4) * (off_t)MIB
                          : st.st_size < N * (off_t)MIB + 8192);
        Safetensors *f = safetensors_open(scratch("large/f"), &err);
        if (!f) fail_msg("%s", err.message);
        assert_string_equal(safetensors_metadata(f, "prompt"), "a");
        assert_int_equal(safetensors_count(f), N);
        for (size_t i = 0; i < N; i++) {
            const StoredTensor *t = safetensors_at(f, i);
            const uint8_t *bytes = t->data;
            assert_int_equal(atoi(t->name), (int)i);
            assert_true(bytes[0] == i + 1 && bytes[t->bytes - 1] == i + 1);
            assert_memory_equal(bytes, bytes + 1, t->bytes - 1);
        }
        safetensors_close(f);
    }
    free(piece);
    unlink(scratch("large/f"));
}

static void refuses_what_no_reader_takes(void **state) {
    (void)state;
    static const char *const bad_words[] = {"prompt", "\xff", NULL};
    static const float x = 1;
    const StoredTensor good = tensor("a", DTYPE_F32, 0, NULL, &x),
                       other = tensor("b", DTYPE_F32, 0, NULL, &x),
                       bad = tensor("a\xff", DTYPE_F32, 0, NULL, &x);
    fresh("refused");
    Error err = {0};
    assert_int_equal(stream("refused/f", (StoredTensor[]){good, other, good}, 3, NULL, &err), -1);
    assert_error(&err, "refused/f: can't be written: tensor \"a\" twice");
    err = (Error){0};
    assert_int_equal(stream("refused/f", &bad, 1, NULL, &err), -1);
    assert_error(&err, "refused/f: can't be written: tensor name \"a\xff\" is not valid UTF-8");
    err = (Error){0};
    assert_int_equal(stream("refused/f", &good, 1, bad_words, &err), -1);
    assert_error(&err, "refused/f: can't be written: metadata \"prompt\" is not valid UTF-8");
    err = (Error){0};
    assert_int_equal(stream("no such/f", &good, 1, NULL, &err), -1);
    assert_error(&err, "no such/f: can't be created: No such file or directory");
    assert_int_equal(scratch_entries(scratch("refused"), false), 0);
}

static void discarded_leaves_nothing(void **state) {
    (void)state;
    static const float x = 1;
    const StoredTensor t = tensor("a", DTYPE_F32, 0, NULL, &x);
    Error err = {0};
    fresh("discard");
    SafetensorsStream *s = opened("discard/f");
    assert_int_equal(safetensors_stream_add(s, &t, &err), 0);
    assert_int_equal(scratch_entries(scratch("discard"), false), 1);
    safetensors_stream_discard(s);
    assert_int_equal(scratch_entries(scratch("discard"), false), 0);
    safetensors_stream_discard(NULL);
}

/* n tensors of `size` bytes where the disk has room for `limit`. */
static int on_full_disk(rlim_t limit, int n, int64_t size, Error *err) {
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = limit;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    uint8_t *bytes = calloc(1, (size_t)size);
    char name[128];
    assert_non_null(bytes);
    int status = 0;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    SafetensorsStream *s = safetensors_stream_open(scratch("full/f"), err);
    for (int i = 0; s && i < n && status == 0; i++) {
        snprintf(name, sizeof name, "%0100d", i);
        StoredTensor t = tensor(name, DTYPE_U8, 1, &size, bytes);
        status = safetensors_stream_add(s, &t, err);
    }
    if (s && status == 0)
        status = safetensors_stream_close(s, NULL, err);
    else
        safetensors_stream_discard(s);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    free(bytes);
    return s ? status : -1;
}

static void full_disk_leaves_the_old_file(void **state) {
    (void)state;
    static const struct {
        rlim_t limit;
        int n;
        int64_t size;
    } kind[] = {
        {5 * MIB, 8, MIB},               /* while tensors come */
        {4 * MIB + 1000, 1, 2000},       /* when the rest is flushed */
        {4 * MIB + 30000 * 8, 30000, 8}, /* where a long header wants more room than there is */
    };
    fresh("full");
    for (int i = 0; i < 3; i++) {
        write_text(scratch("full/f"), "old");
        Error err = {0}, none = {0};
        assert_int_equal(on_full_disk(kind[i].limit, kind[i].n, kind[i].size, &err), -1);
        assert_error(&err, "full/f: can't be written: File too large");
        size_t size;
        char *text = file_read(scratch("full/f"), &size, &none);
        assert_string_equal(text, "old");
        free(text);
        assert_int_equal(scratch_entries(scratch("full"), false), 1);
    }
    Error none = {0};
    assert_int_equal(on_full_disk(8 * MIB, 30000, 8, &none), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_what_the_other_writer_writes),
        cmocka_unit_test(many_names_move_the_data_on),
        cmocka_unit_test(large_data_stay),
        cmocka_unit_test(refuses_what_no_reader_takes),
        cmocka_unit_test(discarded_leaves_nothing),
        cmocka_unit_test(full_disk_leaves_the_old_file),
    };
    return cmocka_run_group_tests_name("safetensors stream", tests, scratch_make, scratch_remove);
}
