/* weights/tiny as it ships: how large it is, and whether it reads what its suite asks. */
#include "tests/check.h"

#include "ref/pipeline.h"
#include "ref/world/suite.h"
#include "weights/file.h"

#include <ftw.h>
#include <stdlib.h>
#include <zlib.h>

#define TINY "weights/tiny"

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

static void llm_reads_every_prompt(void **state) {
    (void)state;
    Error err = {0};
    Suite suite;
    Pack pack;
    if (suite_read(TINY "/suite.jsonl", &suite, &err)) fail_msg("%s", err.message);
    assert_true(suite.count >= 600);
    pack_open(&pack, &(PackPaths){.model = TINY}, PACK_ENCODE, &err);
    if (err.set) fail_msg("%s", err.message);
    for (int64_t i = 0; i < suite.count; i++) {
        const SuiteEntry *e = &suite.entry[i];
        TokenIds ids;
        int64_t dropped;
        if (prompt_ids(&pack, e->prompt, strlen(e->prompt), &ids, &dropped, &err))
            fail_msg("%s: %s", e->id, err.message);
        if (ids.count < 2 || ids.count > (size_t)pack.llm->max_positions)
            fail_msg("%s: %zu tokens", e->id, ids.count);
        token_ids_free(&ids);
    }
    pack_close(&pack);
    suite_free(&suite);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_most_16_mb_in_git),
        cmocka_unit_test(llm_reads_every_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
