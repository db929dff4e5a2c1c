/* Reading the tokenizers' goldens: rows of different lengths, and what each is compared with. */
#ifndef LLMDIFF_TESTS_TOKENIZER_ROWS_H
#define LLMDIFF_TESTS_TOKENIZER_ROWS_H

#include "tests/check.h"
#include "tests/temp.h"
#include "tokenizer/tokenizer.h"
#include "weights/file.h"

#define DATA "golden/data/tokenizer/"
#define VOCAB "../shared/vocab/"

static inline void *copy_of(const Golden *g, const char *name, Dtype dtype, size_t *count) {
    const StoredTensor *t = safetensors_find(golden_file(g), name);
    if (!t) fail_msg("the golden has no %s", name);
    assert_int_equal(t->dtype, dtype);
    void *copy = malloc(t->bytes + 1);
    assert_non_null(copy);
    memcpy(copy, t->data, t->bytes);
    *count = t->bytes / dtype_size(dtype);
    return copy;
}

/* Row i is data[begin[i] .. begin[i + 1]]. */
typedef struct Rows {
    void *data;
    int32_t *begin;
    size_t count;
} Rows;

static inline Rows rows_of(const Golden *g, const char *data, const char *begin, Dtype dtype) {
    Rows r;
    size_t n;
    r.data = copy_of(g, data, dtype, &n);
    r.begin = copy_of(g, begin, DTYPE_I32, &r.count);
    assert_true(r.count > 1);
    r.count--;
    assert_int_equal(r.begin[r.count], n);
    return r;
}

static inline void rows_free(Rows *r) {
    free(r->data);
    free(r->begin);
}

static inline const char *bytes_of(const Rows *r, size_t i, size_t *length) {
    *length = (size_t)(r->begin[i + 1] - r->begin[i]);
    return (const char *)r->data + r->begin[i];
}

/* "<vocabulary>/<data>" and "<vocabulary>/<begin>" */
static inline Rows rows_named(const Golden *g, const char *vocabulary, const char *data,
                              const char *begin, Dtype dtype) {
    char name[2][40];
    snprintf(name[0], sizeof name[0], "%s/%s", vocabulary, data);
    snprintf(name[1], sizeof name[1], "%s/%s", vocabulary, begin);
    return rows_of(g, name[0], name[1], dtype);
}

static inline Tokenizer *open_or_fail(const char *dir) {
    Error err = {0};
    Tokenizer *t = tokenizer_open(dir, &err);
    if (!t) fail_msg("%s", err.message);
    assert_false(err.set);
    return t;
}

static inline void copy_file(Temp *temp, const char *from, const char *name) {
    Error err = {0};
    size_t size;
    char *data = file_read(from, &size, &err);
    if (!data) fail_msg("%s", err.message);
    temp_write(temp, name, data, size);
    free(data);
}

/* Row i of ids, widened; malloc'ed. */
static inline int64_t *ids_of_row(const Rows *ids, size_t i, size_t *count) {
    *count = (size_t)(ids->begin[i + 1] - ids->begin[i]);
    int64_t *id = malloc(*count * sizeof *id + 1);
    assert_non_null(id);
    for (size_t k = 0; k < *count; k++)
        id[k] = ((const uint16_t *)ids->data)[(size_t)ids->begin[i] + k];
    return id;
}

/* True if the text has the ids of row i. */
static inline bool same_ids(const Tokenizer *t, const char *text, size_t length, const Rows *ids,
                            size_t i) {
    Error err = {0};
    TokenIds got;
    if (tokenizer_encode(t, text, length, false, &got, &err)) fail_msg("%s", err.message);
    const uint16_t *want = (const uint16_t *)ids->data + ids->begin[i];
    bool same = got.count == (size_t)(ids->begin[i + 1] - ids->begin[i]);
    for (size_t k = 0; same && k < got.count; k++) same = got.id[k] == want[k];
    if (!same) printf("string %zu: \"%.*s\"\n", i, (int)length, text);
    token_ids_free(&got);
    return same;
}

static inline void check_ids(const Tokenizer *t, const char *text, size_t length, bool bos,
                             const int64_t *want, size_t count) {
    Error err = {0};
    TokenIds got;
    if (tokenizer_encode(t, text, length, bos, &got, &err)) fail_msg("%s", err.message);
    assert_int_equal(got.count, count);
    for (size_t i = 0; i < count; i++) assert_int_equal(got.id[i], want[i]);
    token_ids_free(&got);
}

static inline void check_decode(const Tokenizer *t, const int64_t *ids, size_t count,
                                const char *want, size_t length) {
    Error err = {0};
    size_t got_length;
    char *got = tokenizer_decode(t, ids, count, &got_length, &err);
    if (!got) fail_msg("%s", err.message);
    assert_int_equal(got_length, length);
    assert_memory_equal(got, want, length);
    assert_int_equal(got[length], '\0');
    free(got);
}

/* 64 rows of 12 ids in any order, and what upstream decodes. */
static inline void check_random_decodes(const Tokenizer *t, const Golden *g,
                                        const char *vocabulary) {
    char name[40];
    snprintf(name, sizeof name, "%s/random", vocabulary);
    size_t total;
    int32_t *ids = copy_of(g, name, DTYPE_I32, &total);
    Rows text = rows_named(g, vocabulary, "random_text", "random_begin", DTYPE_U8);
    assert_int_equal(total, 12 * text.count);
    assert_int_equal(text.count, 64);
    for (size_t i = 0; i < text.count; i++) {
        int64_t id[12];
        for (size_t k = 0; k < 12; k++) id[k] = ids[12 * i + k];
        size_t length;
        const char *want = bytes_of(&text, i, &length);
        check_decode(t, id, 12, want, length);
    }
    free(ids);
    rows_free(&text);
}

/* The strings of tokenizer.safetensors, every step-th, then those of another golden. Compares the
 * ids of all of them; returns how many. step 0: none of the first. */
static inline size_t check_all_ids(const Tokenizer *t, const Golden *g, const char *vocabulary,
                                   size_t step) {
    Golden *common = golden_open("tokenizer");
    Rows first = rows_of(common, "bytes", "begin", DTYPE_U8);
    Rows more = rows_of(g, "bytes", "begin", DTYPE_U8);
    Rows ids = rows_named(g, vocabulary, "ids", "begin", DTYPE_I16);
    size_t row = 0, wrong = 0, length;
    for (size_t i = 0; step && i < first.count; i += step) {
        const char *text = bytes_of(&first, i, &length);
        wrong += !same_ids(t, text, length, &ids, row++);
    }
    assert_true(ids.count - row <= more.count);
    for (size_t i = more.count - (ids.count - row); i < more.count;
         i++) { /* all, or the last ones */
        const char *text = bytes_of(&more, i, &length);
        wrong += !same_ids(t, text, length, &ids, row++);
    }
    assert_int_equal(row, ids.count);
    if (wrong) fail_msg("%zu of %zu strings have other ids than upstream", wrong, row);
    rows_free(&first);
    rows_free(&more);
    rows_free(&ids);
    golden_close(common);
    return row;
}

/* Letters drawn from `from`; malloc'ed. */
static inline char *letters(size_t length, const char *from) {
    char *text = malloc(length);
    assert_non_null(text);
    uint32_t seed = 1;
    size_t kinds = strlen(from);
    for (size_t i = 0; i < length; i++) {
        seed = seed * 1664525u + 1013904223u;
        text[i] = from[(seed >> 16) % kinds];
    }
    return text;
}

/* text with the first `find` replaced; malloc'ed. */
static inline char *replaced(const char *text, const char *find, const char *replace) {
    const char *at = strstr(text, find);
    if (!at) fail_msg("the case's file does not have \"%s\"", find);
    size_t before = (size_t)(at - text), size = strlen(text) + strlen(replace) + 1;
    char *out = malloc(size);
    assert_non_null(out);
    snprintf(out, size, "%.*s%s%s", (int)before, text, replace, at + strlen(find));
    return out;
}

/* message with dir for each @; malloc'ed */
static inline char *with_dir(const char *message, const char *dir) {
    char *out = NULL;
    size_t size;
    FILE *f = open_memstream(&out, &size);
    assert_non_null(f);
    for (const char *p = message; *p; p++) {
        if (*p == '@')
            fputs(dir, f);
        else
            fputc(*p, f);
    }
    fclose(f);
    return out;
}

/* The tokenizer there can't be opened, with this message, where @ stands for the directory. */
static inline void check_refused(const char *dir, const char *expected) {
    Error err = {0};
    Tokenizer *t = tokenizer_open(dir, &err);
    char *message = with_dir(expected, dir);
    if (t) fail_msg("opened; expected: %s", message);
    assert_string_equal(err.message, message);
    free(message);
}

/* The ids of the text, in decimal. */
static inline void check_ids_text(const Tokenizer *t, const char *text, const char *expected) {
    Error err = {0};
    TokenIds ids;
    assert_int_equal(tokenizer_encode(t, text, strlen(text), false, &ids, &err), 0);
    char got[400] = "";
    size_t n = 0;
    for (size_t i = 0; i < ids.count && n < sizeof got; i++)
        n += (size_t)snprintf(got + n, sizeof got - n, i ? " %lld" : "%lld", (long long)ids.id[i]);
    assert_string_equal(got, expected);
    token_ids_free(&ids);
}

#endif
