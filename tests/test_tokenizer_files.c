/* Tokenizer files that must be refused, with the message, and odd ones that must not.
 *
 * A case is a small tokenizer that is fine, one edit, and what is expected of the result. */
#include "tests/tokenizer_rows.h"

/* ---- Two tokenizers that are fine: the same one in both layouts ----------------------------------- */

enum { FILES = 6 };
static const char *const file_name[FILES] = {"tokenizer.json",
                                             "vocab.json",
                                             "merges.txt",
                                             "added_tokens.json",
                                             "tokenizer_config.json",
                                             "special_tokens_map.json"};

typedef enum Layout { ONE = 1, OLDER = 2 } Layout;
static const char *const one_head =
    "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n"
    " \"added_tokens\": [{\"id\": 258, \"content\": \"<e>\", \"single_word\": false, "
    "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true},\n"
    "  {\"id\": 259, \"content\": \"  \", \"single_word\": false, \"lstrip\": false, "
    "\"rstrip\": false, \"normalized\": true, \"special\": false}],\n"
    " \"normalizer\": null,\n"
    " \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
    "\"trim_offsets\": true, \"use_regex\": true},\n"
    " \"post_processor\": null,\n"
    " \"decoder\": {\"type\": \"ByteLevel\"},\n"
    " \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
    "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false, "
    "\"byte_fallback\": false, \"ignore_merges\": false,\n"
    "  \"vocab\": ";
static const char *const one_tail = ",\n  \"merges\": [\"a b\", \"ab c\"]}}\n";
static const char *const merges_text = "#version: 0.2\na b\nab c\n";
static const char *const added_text = "{\"  \": 259}\n";
static const char *const config_text =
    "{\"tokenizer_class\": \"CodeGenTokenizer\", \"bos_token\": \"<e>\"}\n";
static const char *const map_text = "{\"eos_token\": {\"content\": \"<e>\"}}\n";

/* GPT-2's bytes_to_unicode, written once more. */
static size_t byte_letter(int byte, char out[4]) {
    bool itself = (byte >= 33 && byte <= 126) || (byte >= 0xA1 && byte != 0xAD);
    int letter = byte;
    if (!itself) letter = 256 + (byte < 33 ? byte : byte < 0xA1 ? byte - 127 + 33 : 67);
    if (letter < 0x80) {
        out[0] = (char)letter;
        return 1;
    }
    out[0] = (char)(0xC0 | letter >> 6);
    out[1] = (char)(0x80 | (letter & 0x3F));
    return 2;
}

/* Byte b has the id b; "ab" 256, "abc" 257, "<e>" 258. */
static void write_vocab(FILE *f) {
    fputs("{", f);
    for (int byte = 0; byte < 256; byte++) {
        char letter[4];
        size_t n = byte_letter(byte, letter);
        bool escape = byte == '"' || byte == '\\';
        fprintf(f, "\"%s%.*s\": %d, ", escape ? "\\" : "", (int)n, letter, byte);
    }
    fputs("\"ab\": 256, \"abc\": 257, \"<e>\": 258}", f);
}

/* malloc'ed; NULL: the layout does not have the file. */
static char *file_text(Layout layout, int file) {
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    assert_non_null(f);
    if (layout == ONE && file == 0) {
        fputs(one_head, f);
        write_vocab(f);
        fputs(one_tail, f);
    }
    if (layout == OLDER && file == 1) write_vocab(f);
    if (layout == OLDER && file == 2) fputs(merges_text, f);
    if (layout == OLDER && file == 3) fputs(added_text, f);
    if (file == 4) fputs(config_text, f);
    if (file == 5) fputs(map_text, f);
    fclose(f);
    if (size > 0) return text;
    free(text);
    return NULL;
}

/* ---- Cases ------------------------------------------------------------------------------------------ */

typedef struct Case {
    const char *name;
    Layout layout;
    int file;            /* the one that is edited */
    const char *find;    /* NULL: the whole file */
    const char *replace; /* NULL: the file is left out */
    /* either what is expected of the message, where @ stands for the directory, */
    const char *message;
    /* or the ids of this text, in decimal, and the begin token */
    const char *text, *ids;
    int64_t bos;
} Case;

#define JSON ONE, 0
#define VOCAB_JSON OLDER, 1
#define MERGES OLDER, 2
#define ADDED OLDER, 3
#define CONFIG1 ONE, 4
#define CONFIG2 OLDER, 4
#define MAP1 ONE, 5
#define MAP2 OLDER, 5

#define BAD(name, file, find, replace, message)                                                    \
    { name, file, find, replace, message, NULL, NULL, 0 }

static const Case cases[] = {
    /* what must be refused: tokenizer.json */
    BAD("not JSON", JSON, "\"version\"", "version",
        "@/tokenizer.json: not JSON (at byte 2 of 3398)"),
    BAD("cut short", JSON, "\"merges\": [\"a b\", \"ab c\"]}}", "",
        "@/tokenizer.json: not JSON (at byte 3372 of 3373)"),
    BAD("empty", JSON, NULL, "", "@/tokenizer.json: not JSON (at byte 0 of 0)"),
    BAD("an array", JSON, NULL, "[]", "@/tokenizer.json: expected a JSON object { }"),
    BAD("not UTF-8", JSON, "\"1.0\"", "\"\xFF\"", "@/tokenizer.json: not valid UTF-8"),
    BAD("a NUL", JSON, "\"<e>\"", "\"<\\u0000>\"", "@/tokenizer.json: holds a NUL character"),
    BAD("a member twice", JSON, "\"padding\": null", "\"padding\": null, \"padding\": null",
        "@/tokenizer.json: root: expected every member once, found \"padding\" twice"),
    BAD("merges twice", JSON, "\"merges\"", "\"merges\": [], \"merges\"",
        "@/tokenizer.json: model: expected every member once, found \"merges\" twice"),
    BAD("no model", JSON, "\"model\"", "\"other\"",
        "@/tokenizer.json: model: expected an object of type \"BPE\", found nothing"),
    BAD("model of another type", JSON, "\"BPE\"", "\"Unigram\"",
        "@/tokenizer.json: model.type: expected \"BPE\", found \"Unigram\""),
    BAD("normalizer", JSON, "\"normalizer\": null", "\"normalizer\": {\"type\": \"NFC\"}",
        "@/tokenizer.json: normalizer: expected null, found \"NFC\""),
    BAD("no pre-tokenizer", JSON, "\"pre_tokenizer\"", "\"other\"",
        "@/tokenizer.json: pre_tokenizer: expected an object of type \"ByteLevel\", found nothing"),
    BAD("pre-tokenizer of another type", JSON, "{\"type\": \"ByteLevel\", \"add",
        "{\"type\": \"Sequence\", \"add",
        "@/tokenizer.json: pre_tokenizer.type: expected \"ByteLevel\", found \"Sequence\""),
    BAD("add_prefix_space a number", JSON, "\"add_prefix_space\": false", "\"add_prefix_space\": 0",
        "@/tokenizer.json: pre_tokenizer.add_prefix_space: expected true or false, found 0"),
    BAD("decoder of another type", JSON, "{\"type\": \"ByteLevel\"}", "{\"type\": \"Metaspace\"}",
        "@/tokenizer.json: decoder.type: expected \"ByteLevel\", found \"Metaspace\""),
    BAD("no decoder", JSON, "{\"type\": \"ByteLevel\"}", "null",
        "@/tokenizer.json: decoder: expected an object of type \"ByteLevel\", found null"),
    BAD("post-processor of another type", JSON, "\"post_processor\": null",
        "\"post_processor\": {\"type\": \"BertProcessing\"}",
        "@/tokenizer.json: post_processor.type: expected \"ByteLevel\", \"TemplateProcessing\" or "
        "a "
        "\"Sequence\" of them, found \"BertProcessing\""),
    BAD("post-processor of another type inside", JSON, "\"post_processor\": null",
        "\"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, "
        "3]}",
        "@/tokenizer.json: post_processor.type: expected \"ByteLevel\", \"TemplateProcessing\" or "
        "a "
        "\"Sequence\" of them, found 3"),
    BAD("dropout", JSON, "\"dropout\": null", "\"dropout\": 0.1",
        "@/tokenizer.json: model.dropout: expected null, found 0.10000000000000001"),
    BAD("prefix", JSON, "\"continuing_subword_prefix\": null",
        "\"continuing_subword_prefix\": \"##\"",
        "@/tokenizer.json: model.continuing_subword_prefix: expected null or \"\", found \"##\""),
    BAD("suffix", JSON, "\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"</w>\"",
        "@/tokenizer.json: model.end_of_word_suffix: expected null or \"\", found \"</w>\""),
    BAD("byte_fallback", JSON, "\"byte_fallback\": false", "\"byte_fallback\": true",
        "@/tokenizer.json: model.byte_fallback: expected false, found true"),
    BAD("ignore_merges a string", JSON, "\"ignore_merges\": false", "\"ignore_merges\": \"no\"",
        "@/tokenizer.json: model.ignore_merges: expected true or false, found \"no\""),
    BAD("vocab an array", JSON, "\"vocab\": {", "\"vocab\": [], \"old\": {",
        "@/tokenizer.json: model.vocab: expected an object, found an array"),
    BAD("no merges", JSON, "\"merges\"", "\"other\"",
        "@/tokenizer.json: model.merges: expected an array, found nothing"),
    BAD("a byte without piece", JSON, "\"q\": 113, ", "",
        "@/tokenizer.json: expected a piece for each of the 256 bytes, found none for 0x71 "
        "(\"q\")"),
    BAD("id negative", JSON, "\"ab\": 256", "\"ab\": -1",
        "@/tokenizer.json: id of \"ab\": expected an id from 0 to 3398, found -1"),
    BAD("id beyond the file's size", JSON, "\"ab\": 256", "\"ab\": 4000",
        "@/tokenizer.json: id of \"ab\": expected an id from 0 to 3400, found 4000"),
    BAD("id very large", JSON, "\"ab\": 256", "\"ab\": 1e300",
        "@/tokenizer.json: id of \"ab\": expected an id from 0 to 3401, found "
        "1.0000000000000001e+300"),
    BAD("id not whole", JSON, "\"ab\": 256", "\"ab\": 256.5",
        "@/tokenizer.json: id of \"ab\": expected an id from 0 to 3401, found 256.5"),
    BAD("id a string", JSON, "\"ab\": 256", "\"ab\": \"256\"",
        "@/tokenizer.json: id of \"ab\": expected an id from 0 to 3401, found \"256\""),
    BAD("an id twice", JSON, "\"abc\": 257", "\"abc\": 256",
        "@/tokenizer.json: expected every id once, found 256 for \"ab\" and for \"abc\""),
    BAD("a piece twice", JSON, "\"abc\": 257", "\"abc\": 257, \"ab\": 260",
        "@/tokenizer.json: expected every piece once, found \"ab\" with the ids 256 and 260"),
    BAD("merge of an unknown piece", JSON, "\"ab c\"", "\"xy c\"",
        "@/tokenizer.json: merge 1: expected pieces of the vocabulary, found \"xy\", which is "
        "none"),
    BAD("merge to an unknown piece", JSON, "\"ab c\"", "\"b c\"",
        "@/tokenizer.json: merge 1: expected pieces of the vocabulary, found \"bc\", which is "
        "none"),
    BAD("merge of three", JSON, "\"ab c\"", "\"a b c\"",
        "@/tokenizer.json: merge 1: expected two pieces with one space between them, found "
        "\"a b c\""),
    BAD("merge of one", JSON, "\"ab c\"", "\"abc\"",
        "@/tokenizer.json: merge 1: expected two pieces with one space between them, found "
        "\"abc\""),
    BAD("merge of one in a list", JSON, "\"ab c\"", "[\"ab\"]",
        "@/tokenizer.json: merge 1: expected \"left right\" or [\"left\", \"right\"], found an "
        "array"),
    BAD("merge a number", JSON, "\"ab c\"", "7",
        "@/tokenizer.json: merge 1: expected \"left right\" or [\"left\", \"right\"], found 7"),
    BAD("merge with a NUL", JSON, "\"ab c\"", "[\"ab\", \"\"]",
        "@/tokenizer.json: merge 1: expected pieces of the vocabulary, found \"\", which is none"),
    BAD("added tokens an object", JSON, "\"added_tokens\": [", "\"added_tokens\": {}, \"old\": [",
        "@/tokenizer.json: added_tokens: expected an array, found an object"),
    BAD("added token without content", JSON, "\"content\": \"  \"", "\"c\": \"  \"",
        "@/tokenizer.json: added_tokens[1]: expected a token, found nothing"),
    BAD("added token empty", JSON, "\"content\": \"  \"", "\"content\": \"\"",
        "@/tokenizer.json: added_tokens[1]: expected a token, found \"\""),
    BAD("added token null", JSON, "\"added_tokens\": [", "\"added_tokens\": [null, ",
        "@/tokenizer.json: added_tokens[0]: expected a token, found null"),
    BAD("added token without id", JSON, "\"id\": 259", "\"no\": 259",
        "@/tokenizer.json: added_tokens[1]: expected an id from 0 to 2147483646, found nothing"),
    BAD("added token's flag a number", JSON, "\"lstrip\": false", "\"lstrip\": 1",
        "@/tokenizer.json: added_tokens[0]: expected true or false, found 1"),
    BAD("added token beyond the next id", JSON, "\"id\": 259", "\"id\": 300",
        "@/tokenizer.json: id of the added token \"  \": expected 259, the next one free, found "
        "300"),
    BAD("added token with another id in the vocabulary", JSON, "\"id\": 258", "\"id\": 257",
        "@/tokenizer.json: id of the added token \"<e>\": expected 258, which it has in the "
        "vocabulary, found 257"),
    BAD("two added tokens with one id", JSON, "\"id\": 259", "\"id\": 258",
        "@/tokenizer.json: expected every added token with its own id, found 258 for \"<e>\" and "
        "for "
        "\"  \""),

    /* vocab.json and merges.txt */
    BAD("nothing there", VOCAB_JSON, NULL, NULL,
        "@/vocab.json: can't be opened: No such file or directory"),
    BAD("no merges.txt", MERGES, NULL, NULL,
        "@/merges.txt: can't be opened: No such file or directory"),
    BAD("vocab.json an array", VOCAB_JSON, NULL, "[1]", "@/vocab.json: expected a JSON object { }"),
    BAD("vocab.json with a string", VOCAB_JSON, "\"ab\": 256", "\"ab\": null",
        "@/vocab.json: id of \"ab\": expected an id from 0 to 2649, found null"),
    BAD("merges.txt with an empty line", MERGES, "ab c\n", "\nab c\n",
        "@/merges.txt: line 3: expected two pieces with one space between them, found \"\""),
    BAD("merges.txt with two spaces", MERGES, "ab c\n", "ab  c\n",
        "@/merges.txt: line 3: expected two pieces with one space between them, found \"ab  c\""),
    BAD("merges.txt with a space at the end", MERGES, "ab c\n", "ab \n",
        "@/merges.txt: line 3: expected two pieces with one space between them, found \"ab \""),
    BAD("merges.txt of unknown pieces", MERGES, "ab c\n", "ab cd\n",
        "@/merges.txt: line 3: expected pieces of the vocabulary, found \"cd\", which is none"),
    BAD("added_tokens.json with a string", ADDED, "259", "\"259\"",
        "@/added_tokens.json: id of \"  \": expected an id from 0 to 2147483646, found \"259\""),
    BAD("added_tokens.json with an empty token", ADDED, "\"  \"", "\"\"",
        "@/added_tokens.json: expected tokens, found \"\""),
    BAD("added_tokens.json beyond the next id", ADDED, "259", "260",
        "@/added_tokens.json: id of the added token \"  \": expected 259, the next one free, found "
        "260"),
    BAD("class of another pattern", CONFIG2, "CodeGenTokenizer", "Qwen2Tokenizer",
        "@/tokenizer_config.json: tokenizer_class: expected \"CodeGenTokenizer\", "
        "\"GPT2Tokenizer\" or \"CLIPTokenizer\" where there is no tokenizer.json, found "
        "\"Qwen2Tokenizer\""),

    /* the files beside them */
    BAD("config not JSON", CONFIG1, NULL, "{",
        "@/tokenizer_config.json: not JSON (at byte 0 of 1)"),
    BAD("config against tokenizer.json", CONFIG1, "{", "{\"add_prefix_space\": true, ",
        "@/tokenizer_config.json: add_prefix_space: expected false as in @/tokenizer.json, found "
        "true"),
    BAD("begin token a number", CONFIG1, "\"<e>\"", "1",
        "@/tokenizer_config.json: bos_token: expected a token, found 1"),
    BAD("begin token unknown", CONFIG1, "\"<e>\"", "\"<s>\"",
        "@/tokenizer_config.json: bos_token: expected a piece of the vocabulary, found \"<s>\""),
    BAD("begin token unknown in the map", MAP2, "{", "{\"bos_token\": {\"content\": \"<s>\"}, ",
        "@/special_tokens_map.json: bos_token: expected a piece of the vocabulary, found \"<s>\""),
    BAD("added_tokens_decoder an array", CONFIG1, "{", "{\"added_tokens_decoder\": [], ",
        "@/tokenizer_config.json: added_tokens_decoder: expected an object, found an array"),
    BAD("added_tokens_decoder with a word for an id", CONFIG1, "{",
        "{\"added_tokens_decoder\": {\"x\": {\"content\": \"<e>\"}}, ",
        "@/tokenizer_config.json: added_tokens_decoder: expected ids as names, found \"x\""),
    BAD("added_tokens_decoder with null", CONFIG1, "{",
        "{\"added_tokens_decoder\": {\"258\": null}, ",
        "@/tokenizer_config.json: added_tokens_decoder[\"258\"]: expected a token, found null"),
    BAD("special token a number", MAP1, "{\"content\": \"<e>\"}", "2",
        "@/special_tokens_map.json: eos_token: expected a token, found 2"),

    /* what must be read */
    {"as it is", JSON, "a", "a", NULL, "abc <e>  ab", "257 32 258 259 256", 258},
    {"as it is, older", MERGES, "a", "a", NULL, "abc <e>  ab", "257 32 258 259 256", 258},
    {"merges as pairs", JSON, "\"ab c\"", "[\"ab\", \"c\"]", NULL, "abc", "257", 258},
    {"a merge twice: the later rank", JSON, "\"ab c\"", "\"ab c\", \"a b\"", NULL, "abc", "257",
     258},
    {"no model.type", JSON, "\"type\": \"BPE\", ", "", NULL, "abc", "257", 258},
    {"dropout zero", JSON, "\"dropout\": null", "\"dropout\": 0.0", NULL, "abc", "257", 258},
    {"empty affixes", JSON, "\"end_of_word_suffix\": null", "\"end_of_word_suffix\": \"\"", NULL,
     "abc", "257", 258},
    {"unk_token", JSON, "\"unk_token\": null", "\"unk_token\": \"<e>\"", NULL, "abc", "257", 258},
    {"template post-processor", JSON, "\"post_processor\": null",
     "\"post_processor\": {\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, "
     "{\"type\": \"TemplateProcessing\"}]}",
     NULL, "abc", "257", 258},
    {"ignore_merges", JSON, "\"ignore_merges\": false", "\"ignore_merges\": true", NULL, "ab abc",
     "256 32 257", 258},
    {"use_regex false", JSON, "\"use_regex\": true", "\"use_regex\": false", NULL, "a b ab",
     "97 32 98 32 256", 258},
    {"add_prefix_space", JSON, "\"add_prefix_space\": false", "\"add_prefix_space\": true", NULL,
     "ab<e> ab", "32 256 258 32 256", 258},
    {"rstrip", JSON, "\"rstrip\": false", "\"rstrip\": true", NULL, "<e>   ab", "258 256", 258},
    {"added tokens in any order", JSON, "\"added_tokens\": [",
     "\"added_tokens\": [{\"id\": 260, \"content\": \"<x>\"}, ", NULL, "<x><e>  ", "260 258 259",
     258},
    {"a hole in the ids", JSON, "\"abc\": 257", "\"abc\": 2000", NULL, "ab abc  ",
     "256 32 2000 259", 258},
    {"no config: no begin token", CONFIG1, NULL, NULL, NULL, "<e>", "258", -1},
    {"no config: the map's begin token", MAP1, "eos_token", "bos_token", NULL, "<e>", "258", 258},
    {"begin token null", CONFIG1, "\"<e>\"", "null", NULL, "<e>", "258", -1},
    {"begin token an object", CONFIG1, "\"<e>\"",
     "{\"__type\": \"AddedToken\", \"content\": \"<e>\", \"lstrip\": false}", NULL, "<e>", "258",
     258},
    {"the map has the word", MAP1, "{", "{\"bos_token\": \"ab\", ", NULL, "", "", 256},
    {"no map", MAP2, NULL, NULL, NULL, "<e>", "258", 258},
    {"no added_tokens.json", ADDED, NULL, NULL, NULL, "a  b", "97 32 32 98", 258},
    {"carriage returns", MERGES, "a b\nab c\n", "a b\r\nab c\r\n", NULL, "abc", "257", 258},
    {"no newline at the end", MERGES, "ab c\n", "ab c", NULL, "abc", "257", 258},
    {"no merges at all", MERGES, NULL, "#version: 0.2\n", NULL, "abc", "97 98 99", 258},
    {"GPT-2's class", CONFIG2, "CodeGenTokenizer", "GPT2TokenizerFast", NULL, "abc", "257", 258},
    {"no class", CONFIG2, "\"tokenizer_class\": \"CodeGenTokenizer\", ", "", NULL, "abc", "257",
     258},
    {"prefix space from the config", CONFIG2, "{", "{\"add_prefix_space\": true, ", NULL, "ab",
     "32 256", 258},
    {"the config's added_tokens_decoder", CONFIG2, "{",
     "{\"added_tokens_decoder\": {\"258\": {\"content\": \"<e>\", \"special\": true}, "
     "\"259\": {\"content\": \"ab\\t\", \"rstrip\": true}}, ",
     NULL, "<e>ab\t  \n ab", "258 259 256", 258},
    {"special tokens are not normalized unless they say so", CONFIG2, "{",
     "{\"added_tokens_decoder\": {\"258\": {\"content\": \"<e>\", \"special\": true}, "
     "\"259\": {\"content\": \"a<\"}}, ",
     NULL, "a<e>ba<b", "97 258 98 259 98", 258},
    {"a special token that is new", CONFIG2, "{", "{\"pad_token\": \"<pad>\", ", NULL, "<pad>",
     "260", 258},
    {"additional special tokens", MAP2, "{", "{\"additional_special_tokens\": [\"ab\", \"<y>\"], ",
     NULL, "abc<y>", "256 99 260", 258},
};

/* All files of the layout, the edit applied. */
static Temp write_case(const Case *c) {
    Temp temp = temp_new();
    for (int file = 0; file < FILES; file++) {
        char *text = file_text(c->layout, file);
        bool edited = file == c->file;
        char *wanted = text;
        if (edited && c->find) wanted = replaced(text, c->find, c->replace);
        const char *data = edited && !c->find ? c->replace : wanted;
        if (data) temp_write(&temp, file_name[file], data, strlen(data));
        if (wanted != text) free(wanted);
        free(text);
    }
    return temp;
}

static void accepted(const Case *c, const char *dir) {
    Tokenizer *t = open_or_fail(dir);
    check_ids_text(t, c->text, c->ids);
    assert_int_equal(tokenizer_bos(t), c->bos);
    tokenizer_close(t);
}

static void run_case(void **state) {
    const Case *c = *state;
    Temp temp = write_case(c);
    if (c->message)
        check_refused(temp.dir, c->message);
    else
        accepted(c, temp.dir);
    temp_free(&temp);
}

/* ---- The others ------------------------------------------------------------------------------------- */

static void empty_directory(void **state) {
    (void)state;
    Temp temp = temp_new();
    check_refused(temp.dir,
                  "@: expected a tokenizer: tokenizer.json, tokenizer.model, or vocab.json "
                  "and merges.txt; found none of them");
    temp_free(&temp);
}

static void begin_token_wanted_but_not_named(void **state) {
    (void)state;
    const Case c = {"", CONFIG1, NULL, NULL, NULL, NULL, NULL, -1};
    Temp temp = write_case(&c);
    Error err = {0};
    Tokenizer *t = tokenizer_open(temp.dir, &err);
    assert_non_null(t);
    TokenIds ids;
    assert_int_equal(tokenizer_encode(t, "ab", 2, true, &ids, &err), -1);
    assert_string_equal(err.message,
                        "a begin token is wanted, but the tokenizer names none: expected bos_token "
                        "in tokenizer_config.json or special_tokens_map.json");
    assert_null(ids.id);
    assert_int_equal(ids.count, 0);
    tokenizer_close(t);
    temp_free(&temp);
}

/* tokenizer.json goes before vocab.json. */
static void both_layouts(void **state) {
    (void)state;
    const Case c = {"", JSON, "\"abc\": 257", "\"abc\": 259, \"x y\": 257", NULL, NULL, NULL, 0};
    Temp temp = write_case(&c);
    const char *wrong = "this is not read";
    temp_write(&temp, "vocab.json", wrong, strlen(wrong));
    Error err = {0};
    Tokenizer *t = tokenizer_open(temp.dir, &err);
    assert_null(t); /* for the edit moved the added token's id: the file was read */
    assert_non_null(
        strstr(err.message, "tokenizer.json: id of the added token \"  \": expected 260"));
    temp_free(&temp);
}

/* A file cut off at every step-th byte, or with that byte changed, is read or refused: nothing else
 * happens, as the sanitizers see. */
static void damage(Layout layout, int file, size_t step) {
    const Case c = {"", layout, file, NULL, "", NULL, NULL, NULL, -1};
    Temp temp = write_case(&c);
    char *text = file_text(layout, file);
    size_t size = strlen(text), refusals = 0, tried = 0;
    uint32_t seed = 1;
    for (size_t at = 0; at < size; at += step) {
        for (int kind = 0; kind < 2; kind++) {
            seed = seed * 1664525u + 1013904223u;
            char old = text[at];
            if (kind == 1) text[at] = (char)(seed >> 24);
            temp_write(&temp, file_name[file], text, kind == 0 ? at : size);
            text[at] = old;
            Error err = {0};
            Tokenizer *t = tokenizer_open(temp.dir, &err);
            assert_int_equal(t == NULL, err.set);
            refusals += t == NULL;
            tried++;
            tokenizer_close(t);
        }
    }
    assert_true(refusals > tried / 4);
    free(text);
    temp_free(&temp);
}

static void damaged_tokenizer_json(void **state) {
    (void)state;
    damage(ONE, 0, 5);
}

static void damaged_vocab_json(void **state) {
    (void)state;
    damage(OLDER, 1, 5);
}

static void damaged_small_files(void **state) {
    (void)state;
    damage(OLDER, 2, 1);
    damage(OLDER, 3, 1);
    damage(OLDER, 4, 1);
    damage(OLDER, 5, 1);
}

int main(void) {
    enum { CASES = sizeof cases / sizeof *cases };
    static const struct CMUnitTest others[] = {
        cmocka_unit_test(empty_directory),    cmocka_unit_test(begin_token_wanted_but_not_named),
        cmocka_unit_test(both_layouts),       cmocka_unit_test(damaged_tokenizer_json),
        cmocka_unit_test(damaged_vocab_json), cmocka_unit_test(damaged_small_files),
    };
    enum { OTHERS = sizeof others / sizeof *others };
    struct CMUnitTest tests[CASES + OTHERS];
    for (int i = 0; i < CASES; i++)
        tests[i] = (struct CMUnitTest){cases[i].name, run_case, NULL, NULL, (void *)&cases[i]};
    memcpy(tests + CASES, others, sizeof others);
    return _cmocka_run_group_tests("tokenizer files", tests, CASES + OTHERS, NULL, NULL);
}
