/* llmdiff eval: every prompt of a suite drawn, the scene read back from the pixels, and what the prompt says
 * held against it. Here stands what is asked, and the run from its start to its report. See cli_eval.h. */
#include "ref/cli_eval.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* ---- groups and rates ---------------------------------------------------------------------------- */

bool eval_belongs(const EvalGroup *group, const SuiteEntry *entry) {
    return (!group->split || strcmp(group->split, entry->split) == 0) &&
           (!group->kind || strcmp(group->kind, entry->kind) == 0);
}

Rate eval_rate(const Eval *e, const EvalGroup *group, const EvalSide *side, int statement) {
    Rate rate = {0};
    for (int64_t i = 0; i < e->count * e->batch; i++) {
        const Judgement *v = &side->picture[i].judgement;
        if (!eval_belongs(group, e->chosen[i / e->batch])) continue;
        for (int k = 0; k < v->count; k++) {
            rate.asked += v->statement[k].kind == statement;
            rate.passed += v->statement[k].kind == statement && v->statement[k].holds;
        }
    }
    return rate;
}

static void add_group(Eval *e, const char *split, const char *kind, int64_t from) {
    for (int64_t g = from; g < e->groups; g++)
        if (strcmp(e->group[g].split, split) == 0 && (!kind || strcmp(e->group[g].kind, kind) == 0))
            return;
    e->group[e->groups++] = (EvalGroup){split, kind};
}

/* At most one split and one kind for each prompt. */
static int make_groups(Eval *e, llmdiff_error *err) {
    const Suite *suite = &e->suite;
    e->group = calloc(2 * (size_t)suite->count + 1, sizeof *e->group);
    if (!e->group) return cli_fail(err, "out of memory");
    for (int64_t i = 0; i < suite->count; i++) add_group(e, suite->entry[i].split, NULL, 0);
    e->group[e->groups++] = (EvalGroup){NULL, NULL};
    e->splits = e->groups;
    for (int64_t i = 0; i < suite->count; i++)
        if (*suite->entry[i].kind)
            add_group(e, suite->entry[i].split, suite->entry[i].kind, e->splits);
    return 0;
}

/* ---- what is asked ------------------------------------------------------------------------------- */

static int check_options(const Options *o, llmdiff_error *err) {
    static const char *const known[] = {"llmdiff", "clip", "both"};
    bool found = false;
    if (!o->suite) return cli_fail(err, "no suite: give a file of prompts with --suite");
    for (int i = 0; i < 3; i++) found = found || strcmp(o->conditioner, known[i]) == 0;
    if (!found)
        return cli_fail(err, "--conditioner: expected llmdiff, clip or both, found \"%s\"",
                        o->conditioner);
    const CliInput in[] = {{"the suite", o->suite}};
    return cli_check_reports(o, in, 1, err) || cli_check_settings(o, err) ? -1 : 0;
}

static int no_such_split(const Eval *e, llmdiff_error *err) {
    char list[400] = "";
    for (int64_t g = 0; g + 1 < e->splits; g++) {
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", g ? ", " : "", e->group[g].split);
    }
    return cli_fail(err, "--split: expected one of %s's (%s), found \"%s\"", e->o->suite, list,
                    e->o->split);
}

/* Of each split the first prompts, as many as --limit says. */
static int choose(Eval *e, llmdiff_error *err) {
    const Options *o = e->o;
    e->chosen = calloc((size_t)e->suite.count, sizeof *e->chosen);
    if (!e->chosen) return cli_fail(err, "out of memory");
    for (int64_t i = 0; i < e->suite.count; i++) {
        const SuiteEntry *entry = &e->suite.entry[i];
        int64_t before = 0;
        for (int64_t k = 0; k < e->count; k++)
            before += strcmp(e->chosen[k]->split, entry->split) == 0;
        if (o->split && strcmp(o->split, entry->split) != 0) continue;
        if (o->limit == 0 || before < o->limit) e->chosen[e->count++] = entry;
    }
    return e->count ? 0 : no_such_split(e, err);
}

static int read_suite(Eval *e, llmdiff_error *err) {
    Error wrong = {0};
    if (suite_read(e->o->suite, &e->suite, &wrong)) return cli_fail(err, "%s", wrong.message);
    return make_groups(e, err) || choose(e, err) ? -1 : 0;
}

/* ---- conditioners -------------------------------------------------------------------------------- */

/* Of two each gets what belongs to it. */
static int open_side(const Eval *e, EvalSide *side, llmdiff_error *err) {
    const Options *o = e->o;
    llmdiff_options options;
    if (cli_pack(o, GENERATE, &options, err)) return EXIT_FAILED;
    const bool clip = strcmp(side->name, "clip") == 0;
    options.conditioner = side->name;
    if (clip && e->sides > 1) {
        options.llm = options.adapter = NULL;
        options.sets = 0;
    } else if (e->sides > 1) {
        options.text_encoder = options.tokenizer = NULL;
    }
    if (llmdiff_open(&options, &side->pack, err)) return cli_failed(err);
    llmdiff_request *r = &side->request;
    llmdiff_request_for(side->pack, r, sizeof *r);
    r->negative_prompt = o->negative_prompt;
    r->width = r->height = WORLD_SIDE;
    r->sampling_method = o->sampling_method;
    if (o->steps) r->steps = o->steps;
    if (!isnan(o->cfg_scale)) r->cfg_scale = o->cfg_scale;
    r->eta = o->eta;
    if (clip) r->clip_skip = o->clip_skip;
    r->threads = 1;
    r->cancel = cli_cancelled;
    r->prompt = "";
    return llmdiff_check(side->pack, r, err) ? cli_code(err) : EXIT_OK;
}

static int open_sides(Eval *e, llmdiff_error *err) {
    const bool both = strcmp(e->o->conditioner, "both") == 0;
    e->sides = both ? 2 : 1;
    e->side[0].name = both ? "llmdiff" : e->o->conditioner;
    e->side[1].name = "clip";
    for (int s = 0; s < e->sides; s++) {
        const int code = open_side(e, &e->side[s], err);
        if (code) return code;
        const char *note;
        for (size_t i = 0; !e->o->quiet && (note = llmdiff_note(e->side[s].pack, i)); i++)
            fprintf(stderr, "llmdiff: %s\n", note);
    }
    return EXIT_OK;
}

/* ---- the command --------------------------------------------------------------------------------- */

static int report(const Eval *e, llmdiff_error *err) {
    const bool to_stdout = e->o->json && strcmp(e->o->json, "-") == 0;
    char *json = e->o->json ? eval_json(e, err) : NULL;
    if (err->status) return EXIT_FAILED;
    if (!to_stdout) eval_print_table(e);
    if (to_stdout)
        puts(json);
    else if (json)
        llmdiff_save_text(json, e->o->json, err);
    free(json);
    return err->status ? EXIT_FAILED : EXIT_OK;
}

static int run(Eval *e, llmdiff_error *err) {
    const Options *o = e->o;
    if (check_options(o, err)) return EXIT_USAGE;
    if (cli_seed(o, &e->seed, err) || read_suite(e, err)) return EXIT_FAILED;
    e->batch = o->batch_count;
    e->workers = o->threads ? (int)o->threads : omp_get_max_threads();
    const int code = open_sides(e, err);
    if (code) return code;
    if (eval_check(e, err) || eval_draw(e, err)) return cli_failed(err);
    return report(e, err);
}

static void side_free(EvalSide *side, int64_t pictures) {
    llmdiff_close(side->pack);
    for (int64_t i = 0; side->picture && i < pictures; i++) free(side->picture[i].why);
    for (size_t i = 0; i < 2 * side->records; i++) free(side->record[i]);
    free(side->record);
    free(side->picture);
}

int run_eval(const Options *o, llmdiff_error *err) {
    Eval e = {.o = o};
    const int code = run(&e, err);
    for (int s = 0; s < e.sides; s++) side_free(&e.side[s], e.count * e.batch);
    free(e.checker);
    free(e.group);
    free(e.chosen);
    suite_free(&e.suite);
    return code;
}
