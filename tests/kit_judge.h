/* Judging damaged ports of the kit: what `llmdiff verify` must say of each, and our own outputs to damage.
 * With LLMDIFF_TABLE in the environment every judgement is a line of a table. */
#ifndef LLMDIFF_KIT_JUDGE_H
#define LLMDIFF_KIT_JUDGE_H

#include "tests/kit_damage.h"

#include <sys/stat.h>

#define KIT "golden/kit"

static int wrong; /* damages that were judged wrongly: all are shown before the test fails */
static int judged;

/* ---- judging ------------------------------------------------------------------------------------------- */

typedef struct Judgement {
    int code;
    char first[200]; /* "picture.forced llm/x.2", or "" */
    char hints[4][700];
    int count;
    char err[2000];
} Judgement;

static inline void read_report(Judgement *j) {
    cJSON *json = json_of("@/report.json");
    const cJSON *first = cJSON_GetObjectItem(json, "first_divergence"), *hint;
    if (cJSON_IsObject(first)) {
        const char *group = cJSON_GetStringValue(cJSON_GetObjectItem(first, "group"));
        snprintf(j->first, sizeof j->first, "%s%s%s", group ? group : "", group ? " " : "",
                 cJSON_GetStringValue(cJSON_GetObjectItem(first, "name")));
    }
    cJSON_ArrayForEach(hint, cJSON_GetObjectItem(json, "hints")) {
        if (j->count < 4)
            snprintf(j->hints[j->count++], sizeof j->hints[0], "%s", cJSON_GetStringValue(hint));
    }
    cJSON_Delete(json);
}

static inline Judgement judge(const char *kit, const char *port, const char *only) {
    unlink(path("@/report.json"));
    Result r =
        RUN("verify", "--kit", kit, "--port", port, "--only", only, "--json", "@/report.json");
    Judgement j = {.code = r.code};
    snprintf(j.err, sizeof j.err, "%.1990s", r.err);
    if (!r.err[0] && access(path("@/report.json"), F_OK) == 0) read_report(&j);
    return j;
}

/* code; the first divergence, "" for none; a part of the first hint ("": there is none), or of the error
 * message where there is no report. */
static inline void expect(const char *what, const Judgement *j, int code, const char *first,
                          const char *hint) {
    const char *said = j->err[0] ? j->err : j->count ? j->hints[0] : "";
    const bool right = j->code == code && strcmp(j->first, first) == 0 &&
                       (*hint ? strstr(said, hint) != NULL : !*said);
    judged++;
    if (getenv("LLMDIFF_TABLE"))
        printf("%-5s %-44.44s exit %d  %-52.52s %.110s\n", right ? "ok" : "WRONG", what, j->code,
               j->first, said);
    if (right) return;
    wrong++;
    print_error(
        "%s: expected exit %d, first divergence \"%s\", \"%s\";\n    found %d, \"%s\", \"%s\"\n",
        what, code, first, hint, j->code, j->first, said);
    for (int i = 1; i < j->count; i++) print_error("        further: %s\n", j->hints[i]);
}

static inline void all_right(void) {
    fflush(stdout);
    if (wrong) fail_msg("%d of %d judged wrongly", wrong, judged);
    assert_true(judged > 0);
}

/* ---- a port to damage ------------------------------------------------------------------------------------- */

static char ours[64]; /* a directory with our own outputs */

static inline int compute_ours(void **state) {
    strcpy(ours, "/tmp/llmdiff-port-XXXXXX");
    if (!mkdtemp(ours) || fresh_directory(state)) return -1;
    Result r = RUN("verify", "--kit", KIT, "--output", ours);
    remove_directory(state);
    if (r.code) print_error("%s\n", r.err);
    return r.code;
}

static inline int remove_ours(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", ours);
    return system(command);
}

/* Files are linked, and written anew where they are damaged. */
static inline void fresh_port(const char *from) {
    char command[512];
    snprintf(command, sizeof command,
             "rm -rf '%s' && mkdir '%s' && ln -s \"$(realpath '%s')\"/*.safetensors '%s/'",
             path("@/port"), path("@/port"), from, path("@/port"));
    assert_int_equal(system(command), 0);
}

/* ---- a kit to damage, and its packs ------------------------------------------------------------------------ */

/* A kit whose manifest may be edited, beside golden's files. */
static inline void fresh_kit(void) {
    char command[600];
    snprintf(command, sizeof command,
             "rm -rf '%s' && mkdir '%s' && for f in inputs expected; do "
             "ln -s \"$(realpath " KIT ")/$f\" '%s/'; done && cp " KIT "/manifest.json '%s/'",
             path("@/kit"), path("@/kit"), path("@/kit"), path("@/kit"));
    assert_int_equal(system(command), 0);
}

/* `sed` script for a file of micro; and what verify then says of such a program's own outputs. */
typedef struct PackCase {
    const char *what, *file, *script, *first, *hint;
} PackCase;

/* golden/micro and the rest of golden where a kit of ours finds them. */
static inline void fresh_packs(const PackCase *c) {
    char command[1200];
    fresh_kit();
    snprintf(
        command, sizeof command,
        "cd '%s' && rm -rf micro port && mkdir -p port && cp -r \"$OLDPWD/golden/micro\" micro && "
        "ln -sf \"$OLDPWD/golden/micro_clip\" \"$OLDPWD/golden/data\" . && "
        "sed -i '%s' micro/%s && ! cmp -s micro/%s \"$OLDPWD/golden/micro/%s\"",
        work, c->script, c->file, c->file, c->file);
    if (system(command)) fail_msg("%s: can't be edited", c->file);
}

/* The hash that verify finds is the one that the manifest shall have. */
static inline void accept_pack(void) {
    Result r = RUN("verify", "--kit", "@/kit", "--only", "^modules/llm/block/micro");
    const char *found = strstr(r.err, ", found ");
    if (!found) fail_msg("%s", r.err);
    char hash[65];
    snprintf(hash, sizeof hash, "%.64s", found + 8);
    cJSON *manifest = json_of("@/kit/manifest.json");
    cJSON_ReplaceItemInObjectCaseSensitive(
        cJSON_GetObjectItem(cJSON_GetObjectItem(manifest, "packs"), "micro"), "sha256",
        cJSON_CreateString(hash));
    put_json("@/kit/manifest.json", manifest);
}

#endif
