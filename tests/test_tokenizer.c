/* Ids and texts against the upstream tokenizers (golden/export_tokenizer.py). What is wrong with
 * tokenizer files is in test_tokenizer_files.c. */
#include "tests/tokenizer_rows.h"
#include "tokenizer/open.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/unicode.h"

#include <time.h>

#include <utf8proc.h>

/* ---- The strings -------------------------------------------------------------------------------- */

/* The strings, and what they are once they are UTF-8. */
typedef struct Strings {
    Rows raw, repaired;
    int32_t *broken; /* numbers of the strings that are not UTF-8 */
    size_t broken_count;
} Strings;

static Strings strings_of(const Golden *g) {
    Strings s;
    s.raw = rows_of(g, "bytes", "begin", DTYPE_U8);
    s.repaired = rows_of(g, "text", "text_begin", DTYPE_U8);
    s.broken = copy_of(g, "broken", DTYPE_I32, &s.broken_count);
    assert_int_equal(s.repaired.count, s.broken_count);
    assert_true(s.raw.count >= 2000);
    return s;
}

static const char *text_of(const Strings *s, size_t i, size_t *length) {
    for (size_t b = 0; b < s->broken_count; b++)
        if ((size_t)s->broken[b] == i) return bytes_of(&s->repaired, b, length);
    return bytes_of(&s->raw, i, length);
}

static void strings_free(Strings *s) {
    rows_free(&s->raw);
    rows_free(&s->repaired);
    free(s->broken);
}

/* ---- Tokenizers ----------------------------------------------------------------------------------- */

/* Phi-1.5's tokenizer: GPT-2's vocabulary, and runs of 31 .. 2 spaces and 9 .. 2 tabs. */
static Tokenizer *open_phi(void) {
    if (!file_exists(VOCAB "gpt2_encoder.json")) {
        printf("skipped: " VOCAB " is not here: GPT-2's vocabulary is not compared\n");
        skip();
    }
    Temp temp = temp_new();
    copy_file(&temp, VOCAB "gpt2_encoder.json", "vocab.json");
    copy_file(&temp, VOCAB "gpt2_vocab.bpe", "merges.txt");
    char json[4096];
    size_t n = (size_t)snprintf(json, sizeof json, "{");
    for (int i = 0; i < 38; i++) {
        int length = i < 30 ? 31 - i : 9 - (i - 30);
        n += (size_t)snprintf(json + n, sizeof json - n, "%s\"", i ? ", " : "");
        for (int k = 0; k < length; k++)
            n += (size_t)snprintf(json + n, sizeof json - n, i < 30 ? " " : "\\t");
        n += (size_t)snprintf(json + n, sizeof json - n, "\": %d", 50257 + i);
    }
    n += (size_t)snprintf(json + n, sizeof json - n, "}");
    temp_write(&temp, "added_tokens.json", json, n);
    const char *config = "{\"bos_token\": \"<|endoftext|>\", \"add_prefix_space\": false, "
                         "\"tokenizer_class\": \"CodeGenTokenizer\"}";
    temp_write(&temp, "tokenizer_config.json", config, strlen(config));
    Tokenizer *t = open_or_fail(temp.dir);
    temp_free(&temp);
    return t;
}

/* ---- Text to ids ---------------------------------------------------------------------------------- */

static void compare_ids(const Tokenizer *t, const char *vocabulary) {
    Golden *g = golden_open("tokenizer");
    Strings strings = strings_of(g);
    Rows expected = rows_named(g, vocabulary, "ids", "begin", DTYPE_I16);
    assert_int_equal(expected.count, strings.raw.count);
    size_t wrong = 0;
    for (size_t i = 0; i < expected.count; i++) {
        size_t length;
        const char *text = bytes_of(&strings.raw, i, &length);
        wrong += !same_ids(t, text, length, &expected, i);
    }
    if (wrong) fail_msg("%zu of %zu strings have other ids than upstream", wrong, expected.count);
    rows_free(&expected);
    strings_free(&strings);
    golden_close(g);
}

static void ids_of(const char *dir, const char *vocabulary) {
    Tokenizer *t = open_or_fail(dir);
    compare_ids(t, vocabulary);
    tokenizer_close(t);
}

static void ids_merges_as_pairs(void **state) {
    (void)state;
    ids_of(DATA "own", "own");
}

static void ids_merges_as_strings(void **state) {
    (void)state;
    ids_of(DATA "own_text", "own");
}

static void ids_vocab_and_merges(void **state) {
    (void)state;
    ids_of(DATA "own_older", "own");
}

static void ids_odd(void **state) {
    (void)state;
    ids_of(DATA "odd", "odd");
}

static void ids_phi(void **state) {
    (void)state;
    Tokenizer *t = open_phi();
    assert_int_equal(tokenizer_size(t), 50295);
    assert_int_equal(tokenizer_bos(t), 50256);
    compare_ids(t, "phi");
    tokenizer_close(t);
}

static void ids_phi_known(void **state) {
    (void)state;
    Tokenizer *t = open_phi();
    const char *code = "def f(x):\n        return x\n\t\tpass"; /* from CodeGenTokenizer */
    check_ids(t, code, strlen(code), true,
              (int64_t[]){50256, 4299, 277, 7, 87, 2599, 198, 50280, 7783, 2124, 198, 50294, 6603},
              13);
    tokenizer_close(t);
}

static void empty_text(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "own");
    check_ids(t, "", 0, false, NULL, 0);
    check_ids(t, "", 0, true, (int64_t[]){599}, 1);
    tokenizer_close(t);
}

static void begin_token_comes_first(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "own_older");
    assert_int_equal(tokenizer_bos(t), 599);
    check_ids(t, "<|endoftext|>", 13, true, (int64_t[]){599, 599}, 2);
    tokenizer_close(t);
}

/* Every byte of the text counts, a NUL too. */
static void nul_is_a_character(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "own");
    Error err = {0};
    TokenIds ids;
    assert_int_equal(tokenizer_encode(t, "a\0b\0", 4, false, &ids, &err), 0);
    assert_int_equal(ids.count, 4);
    assert_string_equal(tokenizer_piece(t, ids.id[1]), "Ā");
    size_t length;
    char *text = tokenizer_decode(t, ids.id, ids.count, &length, &err);
    assert_int_equal(length, 4);
    assert_memory_equal(text, "a\0b\0", 5);
    free(text);
    token_ids_free(&ids);
    tokenizer_close(t);
}

/* ---- Ids to text ---------------------------------------------------------------------------------- */

/* Byte-level BPE loses nothing: what comes back is the text. */
static void round_trips(const Tokenizer *t) {
    Golden *g = golden_open("tokenizer");
    Strings strings = strings_of(g);
    for (size_t i = 0; i < strings.raw.count; i++) {
        size_t length;
        const char *raw = bytes_of(&strings.raw, i, &length);
        Error err = {0};
        TokenIds ids;
        if (tokenizer_encode(t, raw, length, false, &ids, &err)) fail_msg("%s", err.message);
        const char *text = text_of(&strings, i, &length);
        check_decode(t, ids.id, ids.count, text, length);
        token_ids_free(&ids);
    }
    strings_free(&strings);
    golden_close(g);
}

static void decode_round_trips(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "own");
    round_trips(t);
    tokenizer_close(t);
}

static void decode_round_trips_phi(void **state) {
    (void)state;
    Tokenizer *t = open_phi();
    round_trips(t);
    tokenizer_close(t);
}

/* Where lstrip and rstrip lose white space, and added tokens are letters of the byte alphabet. */
static void decode_odd(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "odd");
    Golden *g = golden_open("tokenizer");
    Rows ids = rows_of(g, "odd/ids", "odd/begin", DTYPE_I16);
    Rows text = rows_of(g, "odd/text", "odd/text_begin", DTYPE_U8);
    for (size_t i = 0; i < ids.count; i++) {
        size_t count, length;
        int64_t *id = ids_of_row(&ids, i, &count);
        const char *want = bytes_of(&text, i, &length);
        check_decode(t, id, count, want, length);
        free(id);
    }
    rows_free(&ids);
    rows_free(&text);
    golden_close(g);
    tokenizer_close(t);
}

/* Ids in any order: bytes that are no UTF-8 together. */
static void random_decodes(const Tokenizer *t, const char *vocabulary) {
    Golden *g = golden_open("tokenizer");
    char name[3][40];
    snprintf(name[0], sizeof name[0], "%s/random", vocabulary);
    snprintf(name[1], sizeof name[1], "%s/random_text", vocabulary);
    snprintf(name[2], sizeof name[2], "%s/random_begin", vocabulary);
    size_t total;
    int32_t *ids = copy_of(g, name[0], DTYPE_I32, &total);
    Rows text = rows_of(g, name[1], name[2], DTYPE_U8);
    assert_int_equal(total, 12 * text.count);
    size_t replaced = 0;
    for (size_t i = 0; i < text.count; i++) {
        int64_t id[12];
        for (size_t k = 0; k < 12; k++) id[k] = ids[12 * i + k];
        size_t length;
        const char *want = bytes_of(&text, i, &length);
        check_decode(t, id, 12, want, length);
        for (size_t k = 0; k + 3 <= length; k++) replaced += !memcmp(want + k, "\xEF\xBF\xBD", 3);
    }
    assert_true(replaced > 0);
    free(ids);
    rows_free(&text);
    golden_close(g);
}

static void decode_random_ids(void **state) {
    (void)state;
    Tokenizer *own = open_or_fail(DATA "own"), *odd = open_or_fail(DATA "odd");
    random_decodes(own, "own");
    random_decodes(odd, "odd");
    tokenizer_close(own);
    tokenizer_close(odd);
}

static void decode_random_ids_phi(void **state) {
    (void)state;
    Tokenizer *t = open_phi();
    random_decodes(t, "phi");
    tokenizer_close(t);
}

static void decode_nothing(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "own");
    check_decode(t, NULL, 0, "", 0);
    tokenizer_close(t);
}

static void decode_refuses_unknown_ids(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "odd"); /* 618 to 999 are a hole */
    static const struct {
        int64_t id;
        const char *message;
    } bad[] = {
        {-1, "id 1: expected one of the vocabulary (0 to 1000), found -1"},
        {700, "id 1: expected one of the vocabulary (0 to 1000), found 700"},
        {1001, "id 1: expected one of the vocabulary (0 to 1000), found 1001"},
        {INT64_MAX, "id 1: expected one of the vocabulary (0 to 1000), found 9223372036854775807"},
    };
    assert_int_equal(tokenizer_size(t), 1001);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Error err = {0};
        size_t length;
        assert_null(tokenizer_decode(t, (int64_t[]){0, bad[i].id}, 2, &length, &err));
        assert_string_equal(err.message, bad[i].message);
    }
    tokenizer_close(t);
}

/* ---- Pieces --------------------------------------------------------------------------------------- */

static void pieces(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "own");
    assert_string_equal(tokenizer_kind(t), "byte-level BPE");
    assert_int_equal(tokenizer_size(t), 638);
    assert_string_equal(tokenizer_piece(t, 0), "!");
    assert_string_equal(tokenizer_piece(t, 599), "<|endoftext|>");
    assert_string_equal(tokenizer_piece(t, 600), "                               ");
    assert_string_equal(tokenizer_piece(t, 637), "\t\t");
    assert_null(tokenizer_piece(t, -1));
    assert_null(tokenizer_piece(t, 638));
    Error err = {0};
    TokenIds ids;
    assert_int_equal(tokenizer_encode(t, "a red circle", 12, false, &ids, &err), 0);
    assert_int_equal(ids.count, 3);
    assert_string_equal(tokenizer_piece(t, ids.id[2]), "Ġcircle");
    token_ids_free(&ids);
    tokenizer_close(t);
}

/* Both layouts are one vocabulary. */
static void layouts_have_the_same_pieces(void **state) {
    (void)state;
    Tokenizer *a = open_or_fail(DATA "own"), *b = open_or_fail(DATA "own_older");
    assert_int_equal(tokenizer_size(a), tokenizer_size(b));
    for (int64_t i = 0; i < tokenizer_size(a); i++)
        assert_string_equal(tokenizer_piece(a, i), tokenizer_piece(b, i));
    tokenizer_close(a);
    tokenizer_close(b);
}

/* What the pattern of openai/gpt-2 finds, by Python's regex package: not all of it shows in ids, as few
 * vocabularies have pieces that begin with a tab. */
static void words(void **state) {
    (void)state;
    static const char *const c[] = {
        "\t|word",         "\t|\t|word", " | word", " |\t|word", "\t| word", "\n\n | x",   "a| \t",
        "it|'s| '|S| '|s", "12| 34|a",   "!|\t|!",  "'ll|'ve",   " '|s",     "\xC2\xA0|x", "  ",
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        char text[64], cut[64];
        size_t length = 0, n = 0;
        for (const char *p = c[i]; *p; p++)
            if (*p != '|') text[length++] = *p;
        for (size_t at = 0, word; at < length; at += word) {
            word = gpt2_word(text + at, length - at);
            if (at) cut[n++] = '|';
            memcpy(cut + n, text + at, word);
            n += word;
        }
        cut[n] = '\0';
        assert_string_equal(cut, c[i]);
    }
}

/* The decoder ByteLevel of tokenizers 0.23: a piece that has other characters than the byte alphabet's
 * stands for itself, all of it. */
static void pieces_that_are_not_all_bytes(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "own");
    static const char *const c[][2] = {
        {"Ġa", " a"}, {"Ġa x", "Ġa x"}, {"Ġé€", "Ġé€"}, {"aĠ b", "aĠ b"}, {"ĠĠłĀz z", "ĠĠłĀz z"}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        char out[64];
        size_t n = letters_bytes(&t->letters, c[i][0], out);
        assert_int_equal(n, strlen(c[i][1]));
        assert_memory_equal(out, c[i][1], n);
    }
    tokenizer_close(t);
}

/* A piece is found by all of its text, wherever the hash puts it: no beginning of another one is it. */
static void beginnings_are_no_pieces(void **state) {
    (void)state;
    enum { LONGEST = 600 };
    Pieces p = {0};
    Error err = {0};
    char text[LONGEST + 1];
    for (int n = 2; n <= LONGEST; n += 2) {
        memset(text, 'a', (size_t)n);
        text[n] = '\0';
        assert_int_equal(pieces_add(&p, text, n, true, "f", &err), 0);
    }
    for (int n = 1; n <= LONGEST; n++)
        assert_int_equal(pieces_find(&p, text, (size_t)n), n % 2 ? -1 : n);
    pieces_free(&p);
}

/* ---- Characters ----------------------------------------------------------------------------------- */

/* All code points, as upstream's pattern and its \w see them. What upstream does not know (class 8)
 * a newer utf8proc may: those count only while utf8proc is not beyond upstream's Unicode 16. */
static void classes_of_all_characters(void **state) {
    (void)state;
    Golden *g = golden_open("tokenizer");
    size_t runs, count;
    int32_t *first = copy_of(g, "classes/first", DTYPE_I32, &runs);
    uint8_t *class = copy_of(g, "classes/class", DTYPE_U8, &count);
    assert_int_equal(runs, count);
    bool newer = strtol(utf8proc_unicode_version(), NULL, 10) > 16;
    size_t wrong = 0, compared = 0, run = 0;
    for (int32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000) continue;
        while (run + 1 < runs && first[run + 1] <= c) run++;
        int want = class[run] == 8 ? OTHER : class[run];
        if (class[run] == 8 && newer) continue;
        int got = (int)char_class(c) + (is_word_char(c) ? 4 : 0);
        if (got != want && wrong++ < 5) printf("U+%04X: %d, upstream %d\n", (unsigned)c, got, want);
        compared++;
    }
    free(first);
    free(class);
    golden_close(g);
    assert_int_equal(wrong, 0);
    assert_true(compared > 290000);
}

static void utf8_there_and_back(void **state) {
    (void)state;
    for (int32_t c = 0; c < 0x110000; c++) {
        char s[4] = {0};
        int32_t back, last;
        if (c >= 0xD800 && c < 0xE000) { /* surrogates: three bytes, none of them UTF-8 */
            const char three[] = {(char)0xED, (char)(0x80 | (c >> 6 & 0x3F)),
                                  (char)(0x80 | (c & 0x3F))};
            assert_int_equal(utf8_next(three, 3, &back), 1);
            assert_int_equal(back, -1);
            continue;
        }
        size_t n = utf8_put(c, s);
        assert_int_equal(utf8_next(s, 4, &back), n);
        assert_int_equal(utf8_last(s, n, &last), n);
        assert_int_equal(back, c);
        assert_int_equal(last, c);
        for (size_t cut = 1; cut < n; cut++) { /* a cut character is one invalid part */
            assert_int_equal(utf8_next(s, cut, &back), cut);
            assert_int_equal(back, -1);
        }
    }
}

/* Unicode 15, section 3.9, table 3-8: U+FFFD for maximal subparts. */
static void broken_utf8_becomes_replacement_characters(void **state) {
    (void)state;
#define R "\xEF\xBF\xBD"
    static const struct {
        const char *in, *out;
    } c[] = {
        {"\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", "a" R R R "b" R "c" R R "d"},
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", R R R R R R R R "A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", R R R R R R R R "A"},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", R R R R R "A" R R "B"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", R R R R "A"},
        {"ok", "ok"},
        {"", ""},
    };
#undef R
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        size_t n;
        char *out = utf8_repair(c[i].in, strlen(c[i].in), &n);
        assert_non_null(out);
        assert_string_equal(out, c[i].out);
        assert_int_equal(n, strlen(c[i].out));
        free(out);
    }
}

/* ---- Time ----------------------------------------------------------------------------------------- */

/* Merging is O(n log n): these take about 0.01 and 0.3 s, a quadratic merge minutes. */
static double seconds(const Tokenizer *t, char *text, size_t length) {
    struct timespec a, b;
    Error err = {0};
    TokenIds ids;
    clock_gettime(CLOCK_MONOTONIC, &a);
    assert_int_equal(tokenizer_encode(t, text, length, false, &ids, &err), 0);
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert_true(ids.count > 0);
    token_ids_free(&ids);
    free(text);
    return (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
}

static void time_of_long_words(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "own");
    assert_true(seconds(t, letters(10000, "etaoinshrdlu"), 10000) < 1);
    assert_true(seconds(t, letters(10000, "a"), 10000) < 1);
    assert_true(seconds(t, letters(1000000, "etaoinshrdlu"), 1000000) < 20);
    assert_true(seconds(t, letters(1000000, " "), 1000000) < 20);
    tokenizer_close(t);
}

static void time_of_a_megabyte(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "own");
    assert_true(seconds(t, letters(1000000, "etaoinshrdlu    .,\n1'"), 1000000) < 20);
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_merges_as_pairs),
        cmocka_unit_test(ids_merges_as_strings),
        cmocka_unit_test(ids_vocab_and_merges),
        cmocka_unit_test(ids_odd),
        cmocka_unit_test(ids_phi),
        cmocka_unit_test(ids_phi_known),
        cmocka_unit_test(empty_text),
        cmocka_unit_test(begin_token_comes_first),
        cmocka_unit_test(nul_is_a_character),
        cmocka_unit_test(decode_round_trips),
        cmocka_unit_test(decode_round_trips_phi),
        cmocka_unit_test(decode_odd),
        cmocka_unit_test(decode_random_ids),
        cmocka_unit_test(decode_random_ids_phi),
        cmocka_unit_test(decode_nothing),
        cmocka_unit_test(decode_refuses_unknown_ids),
        cmocka_unit_test(pieces),
        cmocka_unit_test(layouts_have_the_same_pieces),
        cmocka_unit_test(words),
        cmocka_unit_test(pieces_that_are_not_all_bytes),
        cmocka_unit_test(beginnings_are_no_pieces),
        cmocka_unit_test(classes_of_all_characters),
        cmocka_unit_test(utf8_there_and_back),
        cmocka_unit_test(broken_utf8_becomes_replacement_characters),
        cmocka_unit_test(time_of_long_words),
        cmocka_unit_test(time_of_a_megabyte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
