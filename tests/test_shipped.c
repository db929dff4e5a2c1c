/* weights/tiny as it ships: how large it is, whether it reads what its suite asks,
 * and whether it draws that. */
#include "cli_run.h"

#include "ref/pipeline.h"
#include "ref/world/suite.h"

#include <cjson/cJSON.h>
#include <ftw.h>
#include <zlib.h>

#define TINY "weights/tiny"
#define CLIP_CUTS 19 /* of the suite's prompts, all of split longer: it has 77 places */

/* ---- size ---------------------------------------------------------------------------------------- */

/* nftw's callee gets no argument of ours. */
static uint64_t stored;

/* What a file costs in git, which keeps it deflated at zlib's default level. */
static int add_stored(const char *name, const struct stat *about, int type, struct FTW *where) {
    (void)about, (void)where;
    if (type == FTW_D) return 0;
    assert_int_equal(type, FTW_F);
    size_t size;
    Error err = {0};
    char *bytes = file_read(name, &size, &err);
    if (!bytes) fail_msg("%s", err.message);
    uLongf length = compressBound((uLong)size);
    Bytef *deflated = malloc(length);
    assert_non_null(deflated);
    assert_int_equal(compress(deflated, &length, (const Bytef *)bytes, (uLong)size), Z_OK);
    stored += length;
    free(deflated);
    free(bytes);
    return 0;
}

static void at_most_16_mb_in_git(void **state) {
    (void)state;
    stored = 0;
    assert_int_equal(nftw(TINY, add_stored, 8, FTW_PHYS), 0);
    if (stored < 1000000 || stored > 16000000)
        fail_msg(TINY ": expected at most 16000000 bytes, deflated, found %llu",
                 (unsigned long long)stored);
}

/* ---- the suite's prompts ------------------------------------------------------------------------- */

/* Every prompt's ids, with the prompts that are longer than there are places; CLIP cuts those, and `longest`
 * has what it would have read. */
static int64_t read_prompts(Conditioner conditioner, int64_t *longest) {
    Error err = {0};
    Suite suite;
    Pack pack;
    int64_t cut = 0;
    if (suite_read(TINY "/suite.jsonl", &suite, &err)) fail_msg("%s", err.message);
    assert_true(suite.count >= 600);
    pack_open(&pack, &(PackPaths){.model = TINY, .conditioner = conditioner}, PACK_GENERATE, &err);
    if (err.set) fail_msg("%s", err.message);
    *longest = 0;
    for (int64_t i = 0; i < suite.count; i++) {
        const SuiteEntry *e = &suite.entry[i];
        TokenIds ids;
        int64_t dropped;
        if (prompt_ids(&pack, e->prompt, strlen(e->prompt), &ids, &dropped, &err))
            fail_msg("%s: %s", e->id, err.message);
        const int64_t places = pack.clip ? pack.clip->max_positions : pack.llm->max_positions;
        int64_t used = (int64_t)ids.count;
        if (pack.clip) /* padded with the end token */
            while (used > 2 && ids.id[used - 2] == ids.id[ids.count - 1]) used--;
        if (used < 3 - !pack.clip || used > places)
            fail_msg("%s: %lld tokens", e->id, (long long)used);
        for (int64_t k = 0; k < used; k++)
            if (ids.id[k] < 0 || ids.id[k] >= tokenizer_size(pack.tokenizer))
                fail_msg("%s: token %lld", e->id, (long long)ids.id[k]);
        cut += dropped > 0;
        if (used + dropped > *longest) *longest = used + dropped;
        token_ids_free(&ids);
    }
    if (getenv("LLMDIFF_TABLE"))
        printf("%s: the longest of %lld prompts has %lld tokens, %lld are cut\n",
               pack.clip ? "CLIP" : "LLM", (long long)suite.count, (long long)*longest,
               (long long)cut);
    pack_close(&pack);
    suite_free(&suite);
    return cut;
}

static void llm_reads_every_prompt(void **state) {
    (void)state;
    int64_t longest;
    assert_int_equal(read_prompts(CONDITIONER_LLMDIFF, &longest), 0);
}

static void clip_reads_every_prompt(void **state) {
    (void)state;
    int64_t longest;
    const int64_t cut = read_prompts(CONDITIONER_CLIP, &longest);
    if (cut != CLIP_CUTS)
        fail_msg("CLIP cuts %lld prompts, the longest has %lld tokens", (long long)cut,
                 (long long)longest);
}

/* ---- what it draws ------------------------------------------------------------------------------- */

/* Of a few prompts of a split (every twentieth) so many have to be drawn as they say; weights/tiny/README.md
 * has how many are, of the whole suite. LLMDIFF_TABLE=1 prints what these floors stand on. */
typedef struct Floor {
    const char *split, *statement, *conditioner;
    int least;
} Floor;
static const Floor floors[] = {
    {"plain", "shape", "llmdiff", 13},     {"plain", "color", "llmdiff", 13},
    {"plain", "scene", "llmdiff", 3},      {"relation", "object", "llmdiff", 4},
    {"negation", "object", "llmdiff", 2},  {"comparison", "object", "llmdiff", 2},
    {"reference", "object", "llmdiff", 1}, {"plain", "shape", "clip", 15},
    {"plain", "color", "clip", 15},        {"plain", "scene", "clip", 8},
};
enum { FLOORS = sizeof floors / sizeof floors[0], EVERY = 20 };

static bool has_floor(const char *split) {
    for (int i = 0; i < FLOORS; i++)
        if (strcmp(floors[i].split, split) == 0) return true;
    return false;
}

/* Every twentieth prompt of the splits that have a floor, as a suite. */
static void choose_prompts(void) {
    Error err = {0};
    Suite suite;
    size_t size;
    if (suite_read(TINY "/suite.jsonl", &suite, &err)) fail_msg("%s", err.message);
    char *text = contents(TINY "/suite.jsonl", &size), *chosen = calloc(size + 1, 1), *line = text;
    assert_non_null(chosen);
    int64_t of_split = 0;
    size_t used = 0;
    for (int64_t i = 0; i < suite.count; i++) {
        const SuiteEntry *e = &suite.entry[i];
        const size_t length = strcspn(line, "\n") + 1;
        of_split = i && strcmp(e[-1].split, e->split) == 0 ? of_split + 1 : 0;
        if (of_split % EVERY == 0 && has_floor(e->split)) {
            memcpy(chosen + used, line, length);
            used += length;
        }
        line += length;
    }
    assert_true(line == text + size); /* no blank lines: lines are entries */
    put_text("@/suite.jsonl", chosen);
    suite_free(&suite);
    free(text);
    free(chosen);
}

static bool is(const cJSON *row, const char *key, const char *value) {
    const char *found = cJSON_GetStringValue(cJSON_GetObjectItem(row, key));
    return found && strcmp(found, value) == 0;
}

static void draws_what_it_is_told(void **state) {
    (void)state;
    choose_prompts();
    Result r = RUN("eval", "--suite", "@/suite.jsonl", "--conditioner", "both", "--quiet", "--json",
                   "@/r.json");
    assert_int_equal(r.code, 0);
    size_t size;
    char *text = contents("@/r.json", &size);
    cJSON *root = cJSON_Parse(text), *row;
    assert_non_null(root);
    int seen = 0, low = 0;
    for (int i = 0; i < FLOORS; i++) {
        const Floor *f = &floors[i];
        cJSON_ArrayForEach(row, cJSON_GetObjectItem(root, "accuracy")) {
            if (!is(row, "split", f->split) || !is(row, "statement", f->statement) ||
                !is(row, "conditioner", f->conditioner))
                continue;
            const double passed = cJSON_GetNumberValue(cJSON_GetObjectItem(row, "passed"));
            const double asked = cJSON_GetNumberValue(cJSON_GetObjectItem(row, "asked"));
            const bool enough = passed >= f->least && passed <= asked;
            if (!enough || getenv("LLMDIFF_TABLE"))
                print_message("%-10s %-8s %-8s %2.0f of %2.0f, at least %d\n", f->split,
                              f->statement, f->conditioner, passed, asked, f->least);
            low += !enough;
            seen++;
        }
    }
    assert_int_equal(seen, FLOORS);
    assert_int_equal(low, 0);
    cJSON_Delete(root);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_most_16_mb_in_git),
        cmocka_unit_test(llm_reads_every_prompt),
        cmocka_unit_test(clip_reads_every_prompt),
        cmocka_unit_test_setup_teardown(draws_what_it_is_told, fresh_directory, remove_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
