/* SentencePiece BPE: ids and texts against upstream (golden/export_tokenizer_spm.py), and
 * tokenizer.model files that must be refused. */
#include "tests/tokenizer_rows.h"

#include <math.h>
#include <time.h>

/* ---- Ids ------------------------------------------------------------------------------------------ */

static void ids_of(const Tokenizer *t, const char *vocabulary, size_t step, size_t at_least) {
    Golden *g = golden_open("tokenizer_spm");
    assert_string_equal(tokenizer_kind(t), "SentencePiece BPE");
    assert_true(check_all_ids(t, g, vocabulary, step) >= at_least);
    golden_close(g);
}

static void ids_of_dir(const char *dir, const char *vocabulary, size_t step, size_t at_least) {
    Tokenizer *t = open_or_fail(dir);
    ids_of(t, vocabulary, step, at_least);
    tokenizer_close(t);
}

static void ids_model(void **state) {
    (void)state;
    ids_of_dir(DATA "spm_model", "own", 2, 2000);
}

static void ids_json(void **state) {
    (void)state;
    ids_of_dir(DATA "spm_json", "own", 2, 2000);
}

static void ids_mistral(void **state) {
    (void)state;
    ids_of_dir(DATA "spm_mistral", "mistral", 0, 700);
}

static Temp with_config(const char *from, const char *name, const char *config) {
    Temp temp = temp_new();
    copy_file(&temp, from, name);
    temp_write(&temp, "tokenizer_config.json", config, strlen(config));
    return temp;
}

/* In both layouts, and tokenizer.json read as a file of the class although it says otherwise. */
static void ids_legacy(void **state) {
    (void)state;
    static const char *const from[][2] = {{DATA "spm_json/tokenizer.json", "tokenizer.json"},
                                          {DATA "spm_mistral/tokenizer.json", "tokenizer.json"},
                                          {DATA "spm_model/tokenizer.model", "tokenizer.model"}};
    for (int i = 0; i < 3; i++) {
        Temp temp = with_config(from[i][0], from[i][1],
                                "{\"tokenizer_class\": \"LlamaTokenizerFast\", \"legacy\": true}");
        ids_of_dir(temp.dir, "legacy", 0, 700);
        temp_free(&temp);
    }
}

static Tokenizer *open_llama(void) {
    if (!file_exists(VOCAB "llama_tokenizer.model")) {
        printf("skipped: " VOCAB " is not here: Llama's vocabulary is not compared\n");
        skip();
    }
    Temp temp = temp_new();
    copy_file(&temp, VOCAB "llama_tokenizer.model", "tokenizer.model");
    Tokenizer *t = open_or_fail(temp.dir);
    temp_free(&temp);
    return t;
}

static void ids_llama(void **state) {
    (void)state;
    Tokenizer *t = open_llama();
    assert_int_equal(tokenizer_size(t), 32000);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_int_equal(tokenizer_eos(t), 2);
    assert_int_equal(tokenizer_pad(t), -1);
    assert_int_equal(tokenizer_max_length(t), -1);
    ids_of(t, "llama", 1, 4000);
    tokenizer_close(t);
}

static void ids_llama_known(void **state) {
    (void)state;
    Tokenizer *t = open_llama();
    const char *hello = "Hello this is a test"; /* from the documentation of LlamaTokenizer */
    check_ids(t, hello, strlen(hello), true, (int64_t[]){1, 15043, 445, 338, 263, 1243}, 6);
    tokenizer_close(t);
}

static void empty_text(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "spm_model");
    check_ids(t, "", 0, false, NULL, 0);
    check_ids(t, "", 0, true, (int64_t[]){1}, 1);
    tokenizer_close(t);
}

/* Byte 0x0A is the piece 3 + 0x0A; the low line alone follows the pieces of two and more. */
static void low_lines_and_bytes(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "spm_model");
    Error err = {0};
    TokenIds ids;
    assert_int_equal(tokenizer_encode(t, "\0\n\xF0\x90\x8D\x88", 6, false, &ids, &err), 0);
    assert_int_equal(ids.count, 7);
    assert_string_equal(tokenizer_piece(t, ids.id[0]), "▁");
    static const int byte[] = {0x00, 0x0A, 0xF0, 0x90, 0x8D, 0x88};
    for (int i = 0; i < 6; i++) assert_int_equal(ids.id[i + 1], 3 + byte[i]);
    size_t length;
    char *text = tokenizer_decode(t, ids.id, ids.count, &length, &err);
    assert_int_equal(length, 6);
    assert_memory_equal(text, "\0\n\xF0\x90\x8D\x88", 7);
    free(text);
    token_ids_free(&ids);
    tokenizer_close(t);
}

/* ---- Texts ---------------------------------------------------------------------------------------- */

/* What the strings decode to: themselves, but for those that the golden lists. */
static void decode_all(const Tokenizer *t, const char *vocabulary, size_t step) {
    Golden *g = golden_open("tokenizer_spm"), *common = golden_open("tokenizer");
    Rows source[2] = {rows_of(common, "bytes", "begin", DTYPE_U8),
                      rows_of(g, "bytes", "begin", DTYPE_U8)};
    Rows ids = rows_named(g, vocabulary, "ids", "begin", DTYPE_I16);
    Rows text = rows_named(g, vocabulary, "text", "text_begin", DTYPE_U8);
    char name[40];
    snprintf(name, sizeof name, "%s/changed", vocabulary);
    size_t changed_count, next = 0, row = 0;
    int32_t *changed = copy_of(g, name, DTYPE_I32, &changed_count);
    assert_int_equal(changed_count, text.count);
    for (int s = step > 0 ? 0 : 1; s < 2; s++) {
        for (size_t i = 0; i < source[s].count; i += s == 0 ? step : 1, row++) {
            size_t length, count;
            const char *raw = bytes_of(&source[s], i, &length);
            bool other = next < changed_count && (size_t)changed[next] == row;
            if (other) raw = bytes_of(&text, next++, &length);
            Error err = {0};
            char *want = NULL;
            int64_t *id = ids_of_row(&ids, row, &count);
            if (other) {
                check_decode(t, id, count, raw, length);
            } else { /* invalid UTF-8 was repaired when it was encoded */
                char *got = tokenizer_decode(t, id, count, &length, &err);
                TokenIds again;
                assert_int_equal(tokenizer_encode(t, got, length, false, &again, &err), 0);
                assert_int_equal(again.count, count);
                assert_memory_equal(again.id, id, count * sizeof *id);
                token_ids_free(&again);
                free(got);
            }
            free(want);
            free(id);
        }
    }
    assert_int_equal(next, changed_count);
    assert_int_equal(row, ids.count);
    check_random_decodes(t, g, vocabulary);
    free(changed);
    rows_free(&source[0]);
    rows_free(&source[1]);
    rows_free(&ids);
    rows_free(&text);
    golden_close(common);
    golden_close(g);
}

static void decode_own(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "spm_json");
    decode_all(t, "own", 2);
    tokenizer_close(t);
}

static void decode_mistral(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "spm_mistral");
    decode_all(t, "mistral", 0);
    tokenizer_close(t);
}

static void decode_llama(void **state) {
    (void)state;
    Tokenizer *t = open_llama();
    decode_all(t, "llama", 1);
    tokenizer_close(t);
}

/* ---- Time ----------------------------------------------------------------------------------------- */

static void time_of_long_words(void **state) {
    (void)state;
    Tokenizer *t = open_or_fail(DATA "spm_model");
    static const char *const from[] = {"etaoinshrdlu", "a", " ", "\xF0"};
    for (int i = 0; i < 4; i++) {
        char *text = letters(300000, from[i]);
        struct timespec a, b;
        Error err = {0};
        TokenIds ids;
        clock_gettime(CLOCK_MONOTONIC, &a);
        assert_int_equal(tokenizer_encode(t, text, 300000, false, &ids, &err), 0);
        clock_gettime(CLOCK_MONOTONIC, &b);
        assert_true(ids.count > 0);
        assert_true((double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec) < 10);
        token_ids_free(&ids);
        free(text);
    }
    tokenizer_close(t);
}

/* ---- tokenizer.model of our own making -------------------------------------------------------------- */

typedef struct Bytes {
    char data[16384];
    size_t size;
} Bytes;

static void put(Bytes *b, const void *data, size_t size) {
    assert_true(b->size + size <= sizeof b->data);
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void put_varint(Bytes *b, uint64_t value) {
    for (; value >= 0x80; value >>= 7) put(b, &(char){(char)(value | 0x80)}, 1);
    put(b, &(char){(char)value}, 1);
}

static void put_field(Bytes *b, unsigned number, const void *data, size_t size) {
    put_varint(b, number << 3 | 2);
    put_varint(b, size);
    put(b, data, size);
}

static void put_piece(Bytes *b, const char *text, float score, int type) {
    Bytes piece = {.size = 0};
    put_field(&piece, 1, text, strlen(text));
    put_varint(&piece, 2 << 3 | 5);
    put(&piece, &score, 4);
    if (type != 1) {
        put_varint(&piece, 3 << 3);
        put_varint(&piece, (uint64_t)type);
    }
    put_field(b, 1, piece.data, piece.size);
}

/* An edit of the model below: bytes and their number. */
typedef struct Raw {
    const char *data;
    size_t size;
} Raw;
#define RAW(s)                                                                                     \
    { s, sizeof s - 1 }

typedef struct ModelCase {
    const char *name;
    const char *replace, *with; /* a piece has this text instead, or if NULL is left out */
    float score;                /* if not 0, `with` has this one; NaN and infinities too */
    int type;                   /* if not 0, that one */
    Raw piece, trainer, normalizer, tail; /* appended there */
    const char *config;
    const char *message;    /* expected, or */
    const char *text, *ids; /* these ids */
} ModelCase;

/* Ids: 0 <unk>, 1 <s>, 2 </s>, 3 + byte, then from 259: */
static const struct {
    const char *text;
    float score;
} normal[] = {{"▁", -20}, {"a", -21},  {"b", -22}, {"c", -23}, {"ab", -1},
              {"bc", -2}, {"abc", -3}, {"▁a", -4}, {"aa", -5}, {"▁▁", -1e9F}};

static void put_one(Bytes *b, const ModelCase *c, const char *text, float score, int type) {
    if (!c->replace || strcmp(c->replace, text) != 0) {
        put_piece(b, text, score, type);
        return;
    }
    if (c->with) put_piece(b, c->with, c->score != 0 ? c->score : score, c->type ? c->type : type);
}

static void make_model(Bytes *b, const ModelCase *c) {
    b->size = 0;
    put_one(b, c, "<unk>", 0, 2);
    put_one(b, c, "<s>", 0, 3);
    put_one(b, c, "</s>", 0, 3);
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        put_one(b, c, name, 0, 6);
    }
    for (size_t i = 0; i < sizeof normal / sizeof *normal; i++)
        put_one(b, c, normal[i].text, normal[i].score, 1);
    if (c->piece.data) put_field(b, 1, c->piece.data, c->piece.size);
    Bytes spec = {.size = 0};
    put(&spec, "\x18\x02\x98\x02\x01", 5); /* BPE, byte_fallback */
    if (c->trainer.data) put(&spec, c->trainer.data, c->trainer.size);
    put_field(b, 2, spec.data, spec.size);
    spec.size = 0;
    put(&spec, "\x0A\x08identity\x18\x01\x20\x00\x28\x01", 16);
    if (c->normalizer.data) put(&spec, c->normalizer.data, c->normalizer.size);
    put_field(b, 3, spec.data, spec.size);
    if (c->tail.data) put(b, c->tail.data, c->tail.size);
}

#define M "@/tokenizer.model: "
static const ModelCase models[] = {
    {.name = "as it is", .text = "abc b", .ids = "259 265 259 261"},
    {.name = "a low line in front", .text = "aab", .ids = "266 263"},
    {.name = "the best score first, not the leftmost", .text = "xaaab", .ids = "259 123 267 263"},
    {.name = "the leftmost of one piece", .text = "xaaa", .ids = "259 123 267 260"},
    {.name = "the leftmost of equal scores, not the first id",
     .replace = "aa",
     .with = "aa",
     .score = -1,
     .text = "xaab",
     .ids = "259 123 267 261"},
    {.name = "spaces last", .text = "x  a", .ids = "259 123 259 266"},
    {.name = "spaces at all", .text = "x  b", .ids = "259 123 268 261"},
    {.name = "a special token", .text = "<s>a</s><unk>", .ids = "1 260 2 0"},
    {.name = "legacy", .config = "{\"legacy\": true}", .text = "<s>a", .ids = "1 266"},
    {.name = "legacy null", .config = "{\"legacy\": null}", .text = "<s>a", .ids = "1 260"},
    {.name = "no prefix",
     .config = "{\"add_prefix_space\": false}",
     .normalizer = RAW("\x18\x00"),
     .text = "a a",
     .ids = "260 266"},
    {.name = "another order of scores",
     .replace = "abc",
     .with = "abc",
     .score = -0.5F,
     .text = "xabc",
     .ids = "259 123 265"},
    {.name = "the second spec counts",
     .tail = RAW("\x12\x02\x18\x02"),
     .text = "b",
     .ids = "259 261"},
    {.name = "fields that are not ours",
     .tail = RAW("\x78\x05\x7D\x01\x02\x03\x04\x79\x01\x02\x03\x04\x05\x06\x07\x08"),
     .text = "b",
     .ids = "259 261"},
    {.name = "a piece of the user's",
     .replace = "bc",
     .with = "bc",
     .type = 4,
     .text = "abc b",
     .ids = "266 264 259 261"},
    {.name = "the begin token of the files beside",
     .config = "{\"bos_token\": \"a\"}",
     .text = "ba",
     .ids = "259 261 260"},

    {.name = "unigram",
     .trainer = RAW("\x18\x01"),
     .message = M "trainer_spec.model_type: expected BPE, found UNIGRAM"},
    {.name = "word",
     .trainer = RAW("\x18\x03"),
     .message = M "trainer_spec.model_type: expected BPE, found WORD"},
    {.name = "char",
     .trainer = RAW("\x18\x04"),
     .message = M "trainer_spec.model_type: expected BPE, found CHAR"},
    {.name = "model type unknown",
     .trainer = RAW("\x18\x63"),
     .message = M "trainer_spec.model_type: expected BPE, found an unknown one"},
    {.name = "no byte fallback",
     .trainer = RAW("\x98\x02\x00"),
     .message = M "trainer_spec.byte_fallback: expected true, found false"},
    {.name = "a byte without piece",
     .replace = "<0x7F>",
     .with = "<0x7f>",
     .message = M "expected a piece for each of the 256 bytes, found no \"<0x7F>\""},
    {.name = "white space at the end",
     .trainer = RAW("\xC0\x01\x01"),
     .message = M "trainer_spec.treat_whitespace_as_suffix: expected false, found true"},
    {.name = "begin token elsewhere",
     .trainer = RAW("\xC8\x02\x05"),
     .message = M "trainer_spec.bos_id: expected 1, the id of \"<s>\", found 5"},
    {.name = "begin token unknown",
     .trainer = RAW("\xF2\x02\x03<b>"),
     .message = M "trainer_spec.bos_id: expected -1, as \"<b>\" is no piece, found 1"},
    {.name = "extra white space",
     .normalizer = RAW("\x20\x01"),
     .message = M "normalizer_spec.remove_extra_whitespaces: expected false, found true"},
    {.name = "spaces as they are",
     .normalizer = RAW("\x28\x00"),
     .message = M "normalizer_spec.escape_whitespaces: expected true, found false"},
    {.name = "prefix against the config",
     .normalizer = RAW("\x18\x00"),
     .message = M "normalizer_spec.add_dummy_prefix: expected true, as add_prefix_space in "
                  "tokenizer_config.json has it (true if absent), found false"},
    {.name = "normalization",
     .normalizer = RAW("\x0A\x08nmt_nfkc\x12\x01x"),
     .message = M "normalizer_spec.precompiled_charsmap: expected none (\"identity\"), found that "
                  "of \"nmt_nfkc\""},
    {.name = "denormalization",
     .tail = RAW("\x2A\x03\x12\x01x"),
     .message = M "denormalizer_spec.precompiled_charsmap: expected none, found one"},
    {.name = "a piece twice",
     .replace = "bc",
     .with = "ab",
     .message = M "expected every piece once, found \"ab\" with the ids 263 and 264"},
    {.name = "a piece without text",
     .replace = "bc",
     .with = "",
     .message = M "pieces[264]: expected a piece, found \"\""},
    {.name = "score not a number",
     .replace = "bc",
     .with = "bc",
     .score = NAN,
     .message = M "pieces[264]: \"bc\": expected a finite score, found nan"},
    {.name = "score infinite",
     .replace = "bc",
     .with = "bc",
     .score = -INFINITY,
     .message = M "pieces[264]: \"bc\": expected a finite score, found -inf"},
    {.name = "an unused piece",
     .replace = "bc",
     .with = "bc",
     .type = 5,
     .message = M "pieces[264]: \"bc\": expected the type NORMAL (1), UNKNOWN (2), CONTROL (3), "
                  "USER_DEFINED (4) or BYTE (6), found 5"},
    {.name = "a piece of no type",
     .replace = "bc",
     .with = "bc",
     .type = 77,
     .message = M "pieces[264]: \"bc\": expected the type NORMAL (1), UNKNOWN (2), CONTROL (3), "
                  "USER_DEFINED (4) or BYTE (6), found 77"},
    {.name = "a piece that is not UTF-8",
     .replace = "bc",
     .with = "b\xFF",
     .message = M "byte 4452: pieces[264]: expected UTF-8 without NUL"},
    {.name = "a piece with a NUL",
     .piece = RAW("\x0A\x03"
                  "a\0b"),
     .message = M "byte 4514: pieces[269]: expected UTF-8 without NUL"},
    {.name = "score a varint",
     .piece = RAW("\x0A\x01x\x10\x01"),
     .message = M "byte 4517: pieces[269]: expected 4 bytes, found a varint"},
    {.name = "score of 8 bytes",
     .piece = RAW("\x0A\x01x\x11"
                  "12345678"),
     .message = M "byte 4517: pieces[269]: expected 4 bytes, found 8 bytes"},
    {.name = "type a string",
     .piece = RAW("\x0A\x01x\x1A\x01y"),
     .message = M "byte 4517: pieces[269]: expected a varint, found a string or message"},
    {.name = "text a varint",
     .piece = RAW("\x08\x01"),
     .message = M "byte 4514: pieces[269]: expected a string or message, found a varint"},
    {.name = "text longer than its piece",
     .piece = RAW("\x0A\x05x"),
     .message = M "byte 4514: field 1: expected 5 bytes, found 1 to the end of its message"},
    {.name = "score cut off",
     .piece = RAW("\x0A\x01x\x15"
                  "12"),
     .message = M "byte 4518: expected 4 bytes, found 2 to the end of its message"},
    {.name = "type cut off",
     .piece = RAW("\x0A\x01x\x18\x80"),
     .message = M "byte 4518: expected a whole number, found the end of its message"},
    {.name = "pieces a varint",
     .tail = RAW("\x08\x01"),
     .message = M "byte 4537: pieces: expected a string or message, found a varint"},
    {.name = "a spec of 4 bytes",
     .tail = RAW("\x15"
                 "1234"),
     .message = M "byte 4537: trainer_spec: expected a string or message, found 4 bytes"},
    {.name = "model type of 4 bytes",
     .trainer = RAW("\x1D"
                    "1234"),
     .message = M "byte 4519: trainer_spec.model_type: expected a varint, found 4 bytes"},
    {.name = "byte_fallback a string",
     .trainer = RAW("\x9A\x02\x01y"),
     .message = M "byte 4519: trainer_spec.byte_fallback: expected a varint, found a string or "
                  "message"},
    {.name = "a group",
     .tail = RAW("\x0B"),
     .message = M "byte 4537: field 1: expected wire type 0, 1, 2 or 5, found 3: not a "
                  "SentencePiece model"},
    {.name = "field zero",
     .tail = RAW("\x02\x00"),
     .message = M "byte 4537: expected a field of number 1 to 536870911, found 0"},
    {.name = "a huge length",
     .tail = RAW("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"),
     .message = M "byte 4537: field 1: expected 9223372036854775807 bytes, found 0 to the end of "
                  "its message"},
    {.name = "a number too long",
     .tail = RAW("\x78\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"),
     .message = M "byte 4538: expected a number of at most 10 bytes, found more"},
    {.name = "cut in a tag",
     .tail = RAW("\x80"),
     .message = M "byte 4537: expected a whole number, found the end of its message"},
    {.name = "no pad token: -1, in ten bytes",
     .trainer = RAW("\xD8\x02\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"),
     .text = "abc",
     .ids = "259 265"},
    {.name = "legacy a number",
     .config = "{\"legacy\": 1}",
     .message = "@/tokenizer_config.json: legacy: expected true or false, found 1"},
    {.name = "model_max_length a string",
     .config = "{\"model_max_length\": \"x\"}",
     .message = "@/tokenizer_config.json: model_max_length: expected a number of tokens, found "
                "\"x\""},
};

static void run_model(void **state) {
    const ModelCase *c = *state;
    Bytes b;
    make_model(&b, c);
    Temp temp = temp_new();
    temp_write(&temp, "tokenizer.model", b.data, b.size);
    if (c->config) temp_write(&temp, "tokenizer_config.json", c->config, strlen(c->config));
    if (c->message) {
        check_refused(temp.dir, c->message);
    } else {
        Tokenizer *t = open_or_fail(temp.dir);
        check_ids_text(t, c->text, c->ids);
        bool named = c->config && strstr(c->config, "bos_token");
        assert_int_equal(tokenizer_bos(t), named ? 260 : 1);
        tokenizer_close(t);
    }
    temp_free(&temp);
}

static void model_without_anything(void **state) {
    (void)state;
    Temp temp = temp_new();
    temp_write(&temp, "tokenizer.model", "", 0);
    check_refused(temp.dir, M "pieces: expected some, found none");
    const char *text = "this is no model\n";
    temp_write(&temp, "tokenizer.model", text, strlen(text));
    check_refused(temp.dir, M "byte 0: field 14: expected wire type 0, 1, 2 or 5, found 4: not a "
                              "SentencePiece model");
    temp_free(&temp);
}

static void piece_too_long(void **state) {
    (void)state;
    Bytes b;
    char text[1026];
    memset(text, 'x', sizeof text);
    text[1025] = '\0';
    const ModelCase c = {.replace = "bc", .with = text};
    make_model(&b, &c);
    Temp temp = temp_new();
    temp_write(&temp, "tokenizer.model", b.data, b.size);
    check_refused(temp.dir, M "byte 4453: pieces[264]: expected at most 1024 bytes, found 1025");
    temp_free(&temp);
}

/* Cut off at every byte, and every byte changed: read or refused, nothing else. */
static void damaged_model(void **state) {
    (void)state;
    Bytes b;
    const ModelCase c = {0};
    make_model(&b, &c);
    Temp temp = temp_new();
    uint32_t seed = 1;
    size_t refusals = 0, tried = 0;
    for (size_t at = 0; at < b.size; at++) {
        for (int kind = 0; kind < 2; kind++) {
            seed = seed * 1664525u + 1013904223u;
            char old = b.data[at];
            if (kind == 1) b.data[at] = (char)(seed >> 24);
            temp_write(&temp, "tokenizer.model", b.data, kind == 0 ? at : b.size);
            b.data[at] = old;
            Error err = {0};
            Tokenizer *t = tokenizer_open(temp.dir, &err);
            assert_int_equal(t == NULL, err.set);
            refusals += t == NULL;
            tried++;
            tokenizer_close(t);
        }
    }
    assert_true(refusals > tried / 2);
    temp_free(&temp);
}

/* ---- tokenizer.json --------------------------------------------------------------------------------- */

typedef struct JsonCase {
    const char *name, *find, *replace, *config, *message, *text, *ids;
} JsonCase;

#define J "@/tokenizer.json: "
#define PREPEND "{\"type\": \"Prepend\", \"prepend\": \"▁\"}"
#define METASPACE(more)                                                                            \
    "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"▁\"" more "}"
#define NORMALIZER                                                                                 \
    "{\"type\": \"Sequence\", \"normalizers\": [" PREPEND ", {\"type\": \"Replace\", "             \
    "\"pattern\": {\"String\": \" \"}, \"content\": \"▁\"}]}"
#define DECODER "{\"type\": \"Replace\", \"pattern\": {\"String\": \"▁\"}, \"content\": \" \"}"

/* spm_mistral/tokenizer.json, edited. In it "▁a" is 259, "▁" 797 and "a" 799. */
static const JsonCase jsons[] = {
    {.name = "as it is", .find = "1.0", .replace = "1.0", .text = " a<s>a", .ids = "797 259 1 259"},
    {.name = "the class's rules",
     .find = "1.0",
     .replace = "1.0",
     .config = "{\"tokenizer_class\": \"LlamaTokenizer\"}",
     .text = " a<s>a",
     .ids = "259 1 799"},
    {.name = "normalizer of another type",
     .find = PREPEND,
     .replace = "{\"type\": \"NFC\"}",
     .message =
         J "normalizer: expected null, or Prepend \"▁\" and Replace \" \" by \"▁\", found an "
           "object"},
    {.name = "prepends something else",
     .find = PREPEND,
     .replace = "{\"type\": \"Prepend\", \"prepend\": \"_\"}",
     .message =
         J "normalizer: expected null, or Prepend \"▁\" and Replace \" \" by \"▁\", found an "
           "object"},
    {.name = "no normalizer", .find = NORMALIZER, .replace = "null", .text = "a", .ids = "799"},
    {.name = "replaces only", .find = PREPEND ", ", .replace = "", .text = "a a", .ids = "799 259"},
    {.name = "pre-tokenizer of another type",
     .find = "\"pre_tokenizer\": null",
     .replace = "\"pre_tokenizer\": {\"type\": \"Whitespace\"}",
     .message = J "pre_tokenizer.type: expected \"Metaspace\", found \"Whitespace\""},
    {.name = "another low line",
     .find = "\"pre_tokenizer\": null",
     .replace = "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"_\"}",
     .message = J "pre_tokenizer.replacement: expected \"▁\", found \"_\""},
    {.name = "prefix of no kind",
     .find = "\"pre_tokenizer\": null",
     .replace = METASPACE(", \"prepend_scheme\": \"last\""),
     .message =
         J "pre_tokenizer.prepend_scheme: expected \"always\", \"first\" or \"never\", found "
           "\"last\""},
    {.name = "prefix against add_prefix_space",
     .find = "\"pre_tokenizer\": null",
     .replace = METASPACE(", \"prepend_scheme\": \"first\", \"add_prefix_space\": false"),
     .message = J "pre_tokenizer.prepend_scheme: expected \"never\", as add_prefix_space is false, "
                  "found \"first\""},
    {.name = "split",
     .find = "\"pre_tokenizer\": null",
     .replace = METASPACE(""),
     .text = "a  a",
     .ids = "259 797 259"},
    {.name = "decoder of another type",
     .find = "\"ByteFallback\"",
     .replace = "\"CTC\"",
     .message =
         J "decoder.decoders: expected Replace \"▁\" by \" \", ByteFallback, Fuse, and Strip "
           "of one \" \" at the start or nothing, found an array"},
    {.name = "no byte fallback",
     .find = "\"byte_fallback\": true",
     .replace = "\"byte_fallback\": false",
     .message = J "normalizer: expected null, found \"Sequence\""},
    {.name = "another model",
     .find = "\"BPE\"",
     .replace = "\"WordPiece\"",
     .message = J "model.type: expected \"BPE\", found \"WordPiece\""},
    {.name = "a byte without piece",
     .find = "\"<0x41>\"",
     .replace = "\"<0x4G>\"",
     .message = J "expected a piece for each of the 256 bytes, found no \"<0x41>\""},
    {.name = "a merge of unknown pieces",
     .find = "[[\"▁\", \"a\"]",
     .replace = "[[\"##\", \"a\"]",
     .message = J "merge 0: expected pieces of the vocabulary, found \"##\", which is none"},
    {.name = "dropout",
     .find = "\"dropout\": null",
     .replace = "\"dropout\": 0.1",
     .message = J "model.dropout: expected null, found 0.10000000000000001"},
};

static void run_json(void **state) {
    const JsonCase *c = *state;
    Error err = {0};
    size_t size;
    char *whole = file_read(DATA "spm_mistral/tokenizer.json", &size, &err);
    assert_non_null(whole);
    char *edited = replaced(whole, c->find, c->replace);
    Temp temp = temp_new();
    temp_write(&temp, "tokenizer.json", edited, strlen(edited));
    if (c->config) temp_write(&temp, "tokenizer_config.json", c->config, strlen(c->config));
    if (c->message) {
        check_refused(temp.dir, c->message);
    } else {
        Tokenizer *t = open_or_fail(temp.dir);
        check_ids_text(t, c->text, c->ids);
        tokenizer_close(t);
    }
    free(edited);
    free(whole);
    temp_free(&temp);
}

/* An added token with `normalized` is looked for, and decoded, as the normalizer leaves it: ids and text
 * from tokenizers 0.23. */
static void normalized_added_token(void **state) {
    (void)state;
    Temp temp = temp_new();
    Error err = {0};
    size_t size, length;
    char *whole = file_read(DATA "spm_mistral/tokenizer.json", &size, &err);
    assert_non_null(whole);
    char *edited = replaced(whole, "\"added_tokens\": [",
                            "\"added_tokens\": [{\"id\": 1000, \"content\": \"<y>\", "
                            "\"normalized\": true}, ");
    temp_write(&temp, "tokenizer.json", edited, strlen(edited));
    Tokenizer *t = open_or_fail(temp.dir);
    check_ids_text(t, "<y>a <y>", "1000 799 1000");
    check_decode(t, (int64_t[]){799, 1000, 799}, 3, "a <y>a", 6);
    assert_string_equal(tokenizer_piece(t, 1000), "<y>");
    char *text = tokenizer_decode(t, (int64_t[]){1000}, 1, &length, &err);
    assert_string_equal(text, "<y>"); /* Strip took the space */
    free(text);
    free(edited);
    free(whole);
    tokenizer_close(t);
    temp_free(&temp);
}

/* An added token of one character is not the model's piece for that character inside a word: that falls
 * back to its bytes, as in tokenizers 0.23. */
static void added_character_in_a_word(void **state) {
    (void)state;
    Temp temp = temp_new();
    Error err = {0};
    size_t size;
    char *whole = file_read(DATA "spm_mistral/tokenizer.json", &size, &err);
    assert_non_null(whole);
    char *edited = replaced(whole, "\"added_tokens\": [",
                            "\"added_tokens\": [{\"id\": 1000, \"content\": \"☃\", "
                            "\"normalized\": false, \"single_word\": true}, ");
    temp_write(&temp, "tokenizer.json", edited, strlen(edited));
    Tokenizer *t = open_or_fail(temp.dir);
    check_ids_text(t, "a☃a ☃", "259 229 155 134 799 797 1000");
    free(edited);
    free(whole);
    tokenizer_close(t);
    temp_free(&temp);
}

/* tokenizer.json goes before tokenizer.model, as upstream. */
static void both_layouts(void **state) {
    (void)state;
    Temp temp = temp_new();
    copy_file(&temp, DATA "spm_json/tokenizer.json", "tokenizer.json");
    temp_write(&temp, "tokenizer.model", "no", 2);
    Tokenizer *t = open_or_fail(temp.dir);
    assert_int_equal(tokenizer_size(t), 1000);
    assert_int_equal(tokenizer_bos(t), -1); /* nothing names one */
    tokenizer_close(t);
    temp_free(&temp);
}

static void layouts_have_the_same_pieces(void **state) {
    (void)state;
    Tokenizer *a = open_or_fail(DATA "spm_model"), *b = open_or_fail(DATA "spm_json");
    assert_int_equal(tokenizer_size(a), tokenizer_size(b));
    for (int64_t i = 0; i < tokenizer_size(a); i++)
        assert_string_equal(tokenizer_piece(a, i), tokenizer_piece(b, i));
    assert_int_equal(tokenizer_bos(a), tokenizer_bos(b));
    assert_int_equal(tokenizer_max_length(b), 2048);
    tokenizer_close(a);
    tokenizer_close(b);
}

int main(void) {
    enum { MODELS = sizeof models / sizeof *models, JSONS = sizeof jsons / sizeof *jsons };
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(ids_model),
        cmocka_unit_test(ids_json),
        cmocka_unit_test(ids_mistral),
        cmocka_unit_test(ids_legacy),
        cmocka_unit_test(ids_llama),
        cmocka_unit_test(ids_llama_known),
        cmocka_unit_test(empty_text),
        cmocka_unit_test(low_lines_and_bytes),
        cmocka_unit_test(decode_own),
        cmocka_unit_test(decode_mistral),
        cmocka_unit_test(decode_llama),
        cmocka_unit_test(time_of_long_words),
        cmocka_unit_test(model_without_anything),
        cmocka_unit_test(piece_too_long),
        cmocka_unit_test(damaged_model),
        cmocka_unit_test(normalized_added_token),
        cmocka_unit_test(added_character_in_a_word),
        cmocka_unit_test(both_layouts),
        cmocka_unit_test(layouts_have_the_same_pieces),
    };
    enum { OTHERS = sizeof others / sizeof *others };
    struct CMUnitTest tests[OTHERS + MODELS + JSONS];
    memcpy(tests, others, sizeof others);
    for (int i = 0; i < MODELS; i++)
        tests[OTHERS + i] =
            (struct CMUnitTest){models[i].name, run_model, NULL, NULL, (void *)&models[i]};
    for (int i = 0; i < JSONS; i++)
        tests[OTHERS + MODELS + i] =
            (struct CMUnitTest){jsons[i].name, run_json, NULL, NULL, (void *)&jsons[i]};
    return _cmocka_run_group_tests("SentencePiece", tests, OTHERS + MODELS + JSONS, NULL, NULL);
}
