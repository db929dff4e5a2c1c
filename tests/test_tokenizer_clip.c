/* CLIP's tokenizer: ids and texts against upstream (golden/export_tokenizer_clip.py). */
#include "tests/tokenizer_rows.h"
#include "tokenizer/clip.h"
#include "tokenizer/unicode.h"

#include <time.h>

#include <utf8proc.h>

/* ---- Ids ------------------------------------------------------------------------------------------ */

static void ids_of(const Tokenizer *t, const char *vocabulary, size_t step, size_t at_least) {
    Golden *g = golden_open("tokenizer_clip");
    assert_string_equal(tokenizer_kind(t), "CLIP BPE");
    assert_true(check_all_ids(t, g, vocabulary, step) >= at_least);
    golden_close(g);
}

static void ids_of_dir(const char *dir, const char *vocabulary, size_t step, size_t at_least) {
    Tokenizer *t = open_or_fail(dir);
    ids_of(t, vocabulary, step, at_least);
    tokenizer_close(t);
}

static void ids_vocab_and_merges(void **state) {
    (void)state;
    ids_of_dir(DATA "clip", "own", 2, 2000);
}

static void ids_json(void **state) {
    (void)state;
    ids_of_dir(DATA "clip_json", "own", 2, 2000);
}

static void ids_json_older_pattern(void **state) {
    (void)state;
    ids_of_dir(DATA "clip_older", "own", 2, 2000);
}

/* Letters that are no pieces become <unk>, one each. */
static void ids_tiny(void **state) {
    (void)state;
    ids_of_dir(DATA "clip_tiny", "tiny", 0, 300);
}

static void ids_tiny_known(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "clip_tiny");
    check_ids_text(t, "lower newer",
                   "10 2 16 9 3 2 16"); /* transformers' test_tokenization_clip.py */
    tokenizer_close(t);
}

/* ---- CLIP's own vocabulary --------------------------------------------------------------------------- */

enum { CLIP_MERGES = 49408 - 512 - 2 };
static const char *const clip_config =
    "{\"tokenizer_class\": \"CLIPTokenizer\", \"model_max_length\": 77, \"pad_token\": "
    "\"<|endoftext|>\", \"bos_token\": {\"content\": \"<|startoftext|>\", \"normalized\": true}, "
    "\"eos_token\": {\"content\": \"<|endoftext|>\", \"normalized\": true}}";

static size_t put_letter(char *out, int byte) {
    bool itself = (byte >= 33 && byte <= 126) || (byte >= 0xA1 && byte != 0xAD);
    int letter = byte;
    if (!itself) letter = 256 + (byte < 33 ? byte : byte < 0xA1 ? byte - 127 + 33 : 67);
    return utf8_put(letter, out);
}

static void put_string(FILE *f, const char *text, size_t length, const char *suffix, int id) {
    fputs(id > 0 ? ", \"" : "\"", f);
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '"' || text[i] == '\\') fputc('\\', f);
        fputc(text[i], f);
    }
    fprintf(f, "%s\": %d", suffix, id);
}

/* openai/CLIP, clip/simple_tokenizer.py: the letters that print themselves, the others, all of them
 * with </w>, what the merges join, and two special tokens. `merges` is the file from line 2 on. */
static void put_vocab(FILE *f, const char *merges) {
    int id = 0;
    fputs("{", f);
    for (int suffix = 0; suffix < 2; suffix++)
        for (int others = 0; others < 2; others++)
            for (int byte = 0; byte < 256; byte++) {
                char letter[4];
                size_t n = put_letter(letter, byte);
                int32_t code;
                utf8_next(letter, n, &code);
                if ((code >= 256) == others) put_string(f, letter, n, suffix ? "</w>" : "", id++);
            }
    for (int i = 0; i < CLIP_MERGES; i++) {
        size_t length = strcspn(merges, "\n"), left = strcspn(merges, " ");
        char joined[400];
        assert_true(left < length && length < sizeof joined);
        memcpy(joined, merges, left);
        memcpy(joined + left, merges + left + 1, length - left - 1);
        put_string(f, joined, length - 1, "", id++);
        merges += length + 1;
    }
    fprintf(f, ", \"<|startoftext|>\": %d, \"<|endoftext|>\": %d}", id, id + 1);
}

/* The published merges, the first 48,894 of them; malloc'ed. */
static char *read_merges(size_t *size) {
    FILE *pipe = popen("gzip -dc " VOCAB "clip_bpe_simple_vocab_16e6.txt.gz", "r");
    assert_non_null(pipe);
    size_t reserve = 4u << 20, n = 0;
    char *text = malloc(reserve);
    assert_non_null(text);
    for (size_t got; (got = fread(text + n, 1, reserve - 1 - n, pipe)) > 0;) n += got;
    assert_int_equal(pclose(pipe), 0);
    text[n] = '\0';
    char *first = strchr(text, '\n'), *end = first;
    assert_non_null(first);
    for (int i = 0; i < CLIP_MERGES; i++) assert_non_null(end = strchr(end + 1, '\n'));
    *size = (size_t)(end - first);
    memmove(text, first + 1, *size);
    text[*size] = '\0';
    return text;
}

static Tokenizer *open_clip(void) {
    if (!file_exists(VOCAB "clip_bpe_simple_vocab_16e6.txt.gz")) {
        printf("skipped: " VOCAB " is not here: CLIP's vocabulary is not compared\n");
        skip();
    }
    size_t size, vocab_size;
    char *merges = read_merges(&size), *vocab = NULL;
    FILE *f = open_memstream(&vocab, &vocab_size);
    assert_non_null(f);
    put_vocab(f, merges);
    fclose(f);
    Temp temp = temp_new();
    temp_write(&temp, "vocab.json", vocab, vocab_size);
    temp_write(&temp, "merges.txt", merges, size);
    temp_write(&temp, "tokenizer_config.json", clip_config, strlen(clip_config));
    free(vocab);
    free(merges);
    Tokenizer *t = open_or_fail(temp.dir);
    temp_free(&temp);
    return t;
}

static void ids_clip(void **state) {
    (void)state;
    Tokenizer *t = open_clip();
    assert_int_equal(tokenizer_size(t), 49408);
    assert_int_equal(tokenizer_bos(t), 49406);
    assert_int_equal(tokenizer_eos(t), 49407);
    assert_int_equal(tokenizer_pad(t), 49407);
    assert_int_equal(tokenizer_max_length(t), 77);
    ids_of(t, "clip", 1, 4000);
    tokenizer_close(t);
}

static void ids_clip_known(void **state) {
    (void)state;
    Tokenizer *t = open_clip();
    check_ids_text(t, "a photo of a cat",
                   "320 1125 539 320 2368"); /* known from CLIP's notebooks */
    tokenizer_close(t);
}

/* ---- Texts ---------------------------------------------------------------------------------------- */

static void decode_all(const Tokenizer *t, const char *vocabulary) {
    Golden *g = golden_open("tokenizer_clip");
    Rows ids = rows_named(g, vocabulary, "ids", "begin", DTYPE_I16);
    Rows text = rows_named(g, vocabulary, "text", "text_begin", DTYPE_U8);
    for (size_t i = 0; i < text.count; i++) {
        size_t count, length;
        int64_t *id = ids_of_row(&ids, ids.count - text.count + i, &count);
        const char *want = bytes_of(&text, i, &length);
        check_decode(t, id, count, want, length);
        free(id);
    }
    check_random_decodes(t, g, vocabulary);
    rows_free(&ids);
    rows_free(&text);
    golden_close(g);
}

static void decode_own(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "clip");
    decode_all(t, "own");
    tokenizer_close(t);
}

static void decode_tiny(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "clip_tiny");
    decode_all(t, "tiny");
    tokenizer_close(t);
}

static void decode_clip(void **state) {
    (void)state;
    Tokenizer *t = open_clip();
    decode_all(t, "clip");
    tokenizer_close(t);
}

/* ---- 77 tokens -------------------------------------------------------------------------------------- */

static void compare_padded(const Tokenizer *t, const char *name) {
    Golden *g = golden_open("tokenizer_clip");
    Rows text = rows_named(g, "own", "padded_text", "padded_text_begin", DTYPE_U8);
    size_t total, cut = 0;
    int32_t *want = copy_of(g, name, DTYPE_I32, &total);
    assert_int_equal(total, 77 * text.count);
    for (size_t i = 0; i < text.count; i++) {
        Error err = {0};
        TokenIds got, whole;
        size_t length, dropped;
        const char *s = bytes_of(&text, i, &length);
        assert_int_equal(tokenizer_encode_padded(t, s, length, 77, &got, &dropped, &err), 0);
        assert_int_equal(got.count, 77);
        for (size_t k = 0; k < 77; k++) assert_int_equal(got.id[k], want[77 * i + k]);
        assert_int_equal(tokenizer_encode(t, s, length, false, &whole, &err), 0);
        assert_int_equal(dropped, whole.count > 75 ? whole.count - 75 : 0);
        cut += dropped > 0;
        token_ids_free(&got);
        token_ids_free(&whole);
    }
    assert_true(cut > 0 && cut < text.count);
    free(want);
    rows_free(&text);
    golden_close(g);
}

static void padded(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "clip");
    compare_padded(t, "own/padded");
    tokenizer_close(t);
}

/* Stable Diffusion 2.x pads with "!". */
static void padded_sd2(void **state) {
    (void)state;
    Temp temp = temp_new();
    copy_file(&temp, DATA "clip/vocab.json", "vocab.json");
    copy_file(&temp, DATA "clip/merges.txt", "merges.txt");
    const char *config = "{\"tokenizer_class\": \"CLIPTokenizer\", \"pad_token\": \"!\"}";
    temp_write(&temp, "tokenizer_config.json", config, strlen(config));
    Tokenizer *t = open_or_fail(temp.dir);
    assert_int_equal(tokenizer_pad(t), 0);
    compare_padded(t, "own/padded_sd2");
    tokenizer_close(t);
    temp_free(&temp);
}

static void padded_exactly(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "clip_tiny"); /* "low</w>" is 15, begin 21, end 22 */
    static const struct {
        size_t wanted, dropped;
        int64_t id[7];
    } c[] = {{7, 0, {21, 15, 15, 15, 22, 22, 22}},
             {5, 0, {21, 15, 15, 15, 22}},
             {4, 1, {21, 15, 15, 22}},
             {2, 3, {21, 22}}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        Error err = {0};
        TokenIds got;
        size_t dropped;
        assert_int_equal(
            tokenizer_encode_padded(t, "low low low", 11, c[i].wanted, &got, &dropped, &err), 0);
        assert_int_equal(got.count, c[i].wanted);
        for (size_t k = 0; k < got.count; k++) assert_int_equal(got.id[k], c[i].id[k]);
        assert_int_equal(dropped, c[i].dropped);
        token_ids_free(&got);
    }
    tokenizer_close(t);
}

static void padded_needs_its_tokens(void **state) {
    (void)state;
    Tokenizer *own = open_or_fail(DATA "own"), *clip = open_or_fail(DATA "clip_tiny");
    Error err = {0}, short_err = {0};
    TokenIds got;
    size_t dropped;
    assert_int_equal(tokenizer_encode_padded(own, "a", 1, 77, &got, &dropped, &err), -1);
    assert_string_equal(err.message,
                        "expected bos_token, eos_token and pad_token in tokenizer_config.json or "
                        "special_tokens_map.json, and a length of at least 2; found 599, 599, -1 "
                        "(-1: none) and 77");
    assert_int_equal(tokenizer_encode_padded(clip, "a", 1, 1, &got, &dropped, &short_err), -1);
    assert_string_equal(short_err.message,
                        "expected bos_token, eos_token and pad_token in tokenizer_config.json or "
                        "special_tokens_map.json, and a length of at least 2; found 21, 22, 22 "
                        "(-1: none) and 1");
    assert_null(got.id);
    tokenizer_close(own);
    tokenizer_close(clip);
}

/* ---- Characters ----------------------------------------------------------------------------------- */

static void lower_case_of_all_characters(void **state) {
    (void)state;
    Golden *g = golden_open("tokenizer_clip");
    size_t count, next = 0, wrong = 0;
    int32_t *code = copy_of(g, "lower/code", DTYPE_I32, &count);
    int32_t *first = copy_of(g, "lower/first", DTYPE_I32, &count);
    int32_t *second = copy_of(g, "lower/second", DTYPE_I32, &count);
    for (int32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000) continue;
        bool changes = next < count && code[next] == c;
        char want[8], got[4];
        size_t n = utf8_put(changes ? first[next] : c, want);
        if (changes && second[next]) n += utf8_put(second[next], want + n);
        next += changes;
        size_t length = utf8_put_lower(c, got);
        bool same = length == n && memcmp(got, want, n) == 0;
        if (!same && wrong++ < 5) printf("U+%04X\n", (unsigned)c);
    }
    assert_int_equal(next, count);
    assert_int_equal(wrong, 0);
    free(code);
    free(first);
    free(second);
    golden_close(g);
}

/* U+0334 (combining class 1) moves before a mark, and before U+0345 (240), but over no character that
 * upstream's tables have in class 0. */
static void marks_move_as_upstream(void **state) {
    (void)state;
    Golden *g = golden_open("tokenizer_clip");
    size_t count, wrong = 0;
    int32_t *class_0 = copy_of(g, "class_0", DTYPE_I32, &count);
    for (int32_t c = 0x300, run = 0; c < 0x110000; c++) {
        if (c >= 0xD800 && c < 0xE000) continue;
        while (run + 2 < (int32_t)count && class_0[run + 1] < c) run += 2;
        char s[16] = "x\xCD\x85", *end = s + 3;
        end += utf8_put(c, end);
        end += utf8_put(0x334, end);
        size_t n;
        char *got = utf8_nfc(s, (size_t)(end - s), &n);
        assert_non_null(got);
        bool stays = n == (size_t)(end - s) && memcmp(got, s, n) == 0;
        bool wanted = c >= class_0[run] && c <= class_0[run + 1];
        if (stays != wanted && wrong++ < 5) printf("U+%04X\n", (unsigned)c);
        free(got);
    }
    assert_int_equal(wrong, 0);
    free(class_0);
    golden_close(g);
}

/* Sequence([NFC, Replace(Regex(\\s+), " "), Lowercase]) of tokenizers 0.23. */
static void normalized_texts(void **state) {
    (void)state;
    static const char *const c[][2] = {{"a \t b", "a b"},
                                       {" A\n\nB ", " a b "},
                                       {"\xC2\xA0\xE2\x80\x83", " "},
                                       {"e\xCC\x81  E\xCC\x81", "é é"},
                                       {"", ""}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        Error err = {0};
        size_t n;
        char *got = clip_normalize(c[i][0], strlen(c[i][0]), &n, &err);
        assert_non_null(got);
        assert_string_equal(got, c[i][1]);
        assert_int_equal(n, strlen(c[i][1]));
        free(got);
    }
}

static void nfc_of_parts(void **state) {
    (void)state;
    static const char *const c[][2] = {
        {"", ""},
        {"e\xCC\x81", "é"},
        {"\xE0\xA3\x8A", "\xE0\xA3\x8A"},                   /* one of class 0 upstream, alone, */
        {"e\xE0\xA3\x8A\xCC\x81", "e\xE0\xA3\x8A\xCC\x81"}, /* keeps an accent away */
        {"e\xCC\x81\xE0\xA3\x8A"
         "e\xCC\x81",
         "é\xE0\xA3\x8Aé"}, /* and has both sides composed */
        {"\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "각"},
        {"\xCD\x84", "\xCC\x88\xCC\x81"},
        {"\xEF\xAC\xAC", "\xD7\xA9\xD6\xBC\xD7\x81"}, /* 2 bytes a letter for 3: grows */
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        size_t n;
        char *got = utf8_nfc(c[i][0], strlen(c[i][0]), &n);
        assert_non_null(got);
        assert_string_equal(got, c[i][1]);
        assert_int_equal(n, strlen(c[i][1]));
        free(got);
    }
}

/* ---- Files ------------------------------------------------------------------------------------------ */

typedef struct FileCase {
    const char *name, *dir, *file, *find, *replace, *message, *text, *ids;
} FileCase;

#define J "@/tokenizer.json: "
#define MAP "special_tokens_map.json"
#define SPLIT "CLIP's: a Split by its pattern, and ByteLevel"
static const FileCase cases[] = {
    {"as it is", DATA "clip_tiny", "merges.txt", "#", "#", NULL, "Lower <|endoftext|>",
     "10 2 16 22"},
    {"end token in capitals, normalized", DATA "clip_tiny", MAP, "\"pad_token\": \"<|endoftext|>\"",
     "\"pad_token\": {\"content\": \"<|endoftext|>\", \"normalized\": true}", NULL,
     "low<|EndOfText|>", "15 22"},
    {"end token in capitals, a string too", DATA "clip_tiny", MAP, "#", "#", NULL,
     "<|EndOfText|>low", "20 20 3 9 8 1 20 6 3 20 14 20 20 15"},
    {"no unknown token", DATA "clip_tiny", "vocab.json", "<unk>", "<unknown>",
     "@/vocab.json: expected a piece for each of the 256 bytes, found none for 0x00 (\"Ā\")", NULL,
     NULL},
    {"no vocab.json", DATA "clip_tiny", "vocab.json", NULL, NULL,
     "@/vocab.json: can't be opened: No such file or directory", NULL, NULL},
    {"a merge of unknown pieces", DATA "clip_tiny", "merges.txt", "e r</w>", "e x</w>",
     "@/merges.txt: line 4: expected pieces of the vocabulary, found \"x</w>\", which is none",
     NULL, NULL},
    {"a merge to an unknown piece", DATA "clip_tiny", "merges.txt", "e r</w>", "e w</w>",
     "@/merges.txt: line 4: expected pieces of the vocabulary, found \"ew</w>\", which is none",
     NULL, NULL},
    {"begin token unknown", DATA "clip_tiny", MAP, "<|startoftext|>", "<|begin|>",
     "@/special_tokens_map.json: bos_token: expected a piece of the vocabulary, found "
     "\"<|begin|>\"",
     NULL, NULL},
    {"tokenizer.json", DATA "clip_json", "tokenizer.json", "1.0", "1.0", NULL, "!", "256"},
    {"no normalizer", DATA "clip_json", "tokenizer.json", "\"normalizer\"", "\"other\"",
     J "normalizer: expected CLIP's: NFC, white space to \" \", lower case, found nothing", NULL,
     NULL},
    {"normalizer without lower case", DATA "clip_json", "tokenizer.json",
     "{\"type\": \"Lowercase\"}", "{\"type\": \"NFC\"}",
     J "normalizer: expected CLIP's: NFC, white space to \" \", lower case, found an object", NULL,
     NULL},
    {"another pattern", DATA "clip_json", "tokenizer.json", "[\\\\p{N}]|", "[\\\\p{N}]+|",
     J "pre_tokenizer: expected " SPLIT ", found an object", NULL, NULL},
    {"matches, not what is between", DATA "clip_json", "tokenizer.json", "\"invert\": true",
     "\"invert\": false", J "pre_tokenizer: expected " SPLIT ", found an object", NULL, NULL},
    {"another suffix", DATA "clip_json", "tokenizer.json", "\"end_of_word_suffix\": \"</w>\"",
     "\"end_of_word_suffix\": \"@\"", J "normalizer: expected null, found \"Sequence\"", NULL,
     NULL},
    {"ignore_merges", DATA "clip_json", "tokenizer.json", "\"ignore_merges\": false",
     "\"ignore_merges\": true", J "model.ignore_merges: expected false, found true", NULL, NULL},
    {"byte_fallback", DATA "clip_json", "tokenizer.json", "\"byte_fallback\": false",
     "\"byte_fallback\": true", J "model.byte_fallback: expected false, found true", NULL, NULL},
    {"decoder of another type", DATA "clip_json", "tokenizer.json",
     "\"decoder\": {\"type\": \"ByteLevel\"", "\"decoder\": {\"type\": \"WordPiece\"",
     J "decoder.type: expected \"ByteLevel\", found \"WordPiece\"", NULL, NULL},
    {"another model", DATA "clip_json", "tokenizer.json", "\"BPE\"", "\"Unigram\"",
     J "model.type: expected \"BPE\", found \"Unigram\"", NULL, NULL},
};

static void run_case(void **state) {
    const FileCase *c = *state;
    static const char *const files[] = {"vocab.json", "merges.txt", "tokenizer.json", MAP,
                                        "tokenizer_config.json"};
    Temp temp = temp_new();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/%s", c->dir, files[i]);
        bool edited = strcmp(files[i], c->file) == 0;
        if (!file_exists(path) || (edited && !c->replace)) continue;
        Error err = {0};
        size_t size;
        char *text = file_read(path, &size, &err);
        assert_non_null(text);
        char *wanted =
            edited && strcmp(c->find, c->replace) != 0 ? replaced(text, c->find, c->replace) : text;
        temp_write(&temp, files[i], wanted, strlen(wanted));
        if (wanted != text) free(wanted);
        free(text);
    }
    if (c->message) {
        check_refused(temp.dir, c->message);
    } else {
        Tokenizer *t = open_or_fail(temp.dir);
        check_ids_text(t, c->text, c->ids);
        tokenizer_close(t);
    }
    temp_free(&temp);
}

static void layouts_agree(void **state) {
    (void)state;
    Tokenizer *a = open_or_fail(DATA "clip"), *b = open_or_fail(DATA "clip_json");
    assert_int_equal(tokenizer_size(a), 1114);
    assert_int_equal(tokenizer_size(b), 1114);
    for (int64_t i = 0; i < tokenizer_size(a); i++)
        assert_string_equal(tokenizer_piece(a, i), tokenizer_piece(b, i));
    assert_int_equal(tokenizer_bos(b), 1112);
    assert_int_equal(tokenizer_eos(b), 1113);
    assert_int_equal(tokenizer_pad(b), 1113);
    assert_int_equal(tokenizer_max_length(b), 77);
    tokenizer_close(a);
    tokenizer_close(b);
}

static void empty_text(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "clip");
    check_ids(t, "", 0, false, NULL, 0);
    check_ids(t, " \n", 2, true, (int64_t[]){1112}, 1);
    tokenizer_close(t);
}

static void time_of_long_words(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "clip");
    static const char *const from[] = {"etaoinshrdlu", "a", " ", "\xCC\x81", "!"};
    for (int i = 0; i < 5; i++) {
        char *text = letters(300000, from[i]);
        struct timespec a, b;
        Error err = {0};
        TokenIds ids;
        clock_gettime(CLOCK_MONOTONIC, &a);
        assert_int_equal(tokenizer_encode(t, text, 300000, false, &ids, &err), 0);
        clock_gettime(CLOCK_MONOTONIC, &b);
        assert_true((double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec) < 10);
        token_ids_free(&ids);
        free(text);
    }
    tokenizer_close(t);
}

int main(void) {
    enum { CASES = sizeof cases / sizeof *cases };
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(ids_vocab_and_merges),
        cmocka_unit_test(ids_json),
        cmocka_unit_test(ids_json_older_pattern),
        cmocka_unit_test(ids_tiny),
        cmocka_unit_test(ids_tiny_known),
        cmocka_unit_test(ids_clip),
        cmocka_unit_test(ids_clip_known),
        cmocka_unit_test(decode_own),
        cmocka_unit_test(decode_tiny),
        cmocka_unit_test(decode_clip),
        cmocka_unit_test(padded),
        cmocka_unit_test(padded_sd2),
        cmocka_unit_test(padded_exactly),
        cmocka_unit_test(padded_needs_its_tokens),
        cmocka_unit_test(lower_case_of_all_characters),
        cmocka_unit_test(marks_move_as_upstream),
        cmocka_unit_test(nfc_of_parts),
        cmocka_unit_test(normalized_texts),
        cmocka_unit_test(layouts_agree),
        cmocka_unit_test(empty_text),
        cmocka_unit_test(time_of_long_words),
    };
    enum { OTHERS = sizeof others / sizeof *others };
    struct CMUnitTest tests[OTHERS + CASES];
    memcpy(tests, others, sizeof others);
    for (int i = 0; i < CASES; i++)
        tests[OTHERS + i] =
            (struct CMUnitTest){cases[i].name, run_case, NULL, NULL, (void *)&cases[i]};
    return _cmocka_run_group_tests("CLIP", tests, OTHERS + CASES, NULL, NULL);
}
