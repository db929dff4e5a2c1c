/* The checker's own score, from the suite's scenes: each is rendered, plainly and made worse, and read. Right
 * is a true statement that holds; a false pass is one that holds on the picture of another scene of which it
 * is false. Chance is what holds on other scenes' pictures, false or not. See cli_eval.h. */
#include "ref/cli_eval.h"

#include <stdlib.h>

typedef struct Readings {
    WorldScene plain, worn;
} Readings;

static void count(Rate *rate, bool passed) {
    rate->passed += passed;
    rate->asked++;
}

static void add(Rate *to, Rate from) {
    to->passed += from.passed;
    to->asked += from.asked;
}

static void score_entry(const Eval *e, const Readings *read, int64_t i,
                        CheckerScore score[STATEMENT_KINDS]) {
    const Suite *suite = &e->suite;
    const Expect *expect = &suite->entry[i].expect;
    const int64_t others = suite->count - 1 < OTHERS_MOST ? suite->count - 1 : OTHERS_MOST;
    Judgement plain, worn, truth;
    expect_judge(expect, &read[i].plain, &plain);
    expect_judge(expect, &read[i].worn, &worn);
    for (int n = 0; n < plain.count; n++) {
        CheckerScore *s = &score[plain.statement[n].kind];
        count(&s->right, plain.statement[n].holds);
        count(&s->right_worn, worn.statement[n].holds);
    }
    /* spread over the whole suite, whose neighbours are alike */
    for (int64_t k = 1; k <= others; k++) {
        const int64_t j = (i + k * (suite->count - 1) / others) % suite->count;
        expect_judge(expect, &suite->entry[j].scene, &truth);
        expect_judge(expect, &read[j].plain, &plain);
        expect_judge(expect, &read[j].worn, &worn);
        for (int n = 0; n < plain.count; n++) {
            CheckerScore *s = &score[plain.statement[n].kind];
            count(&s->chance, plain.statement[n].holds);
            if (truth.statement[n].holds) continue;
            count(&s->false_pass, plain.statement[n].holds);
            count(&s->false_pass_worn, worn.statement[n].holds);
        }
    }
}

static void add_score(CheckerScore *to, const CheckerScore *from) {
    add(&to->right, from->right);
    add(&to->right_worn, from->right_worn);
    add(&to->false_pass, from->false_pass);
    add(&to->false_pass_worn, from->false_pass_worn);
    add(&to->chance, from->chance);
}

int eval_check(Eval *e, llmdiff_error *err) {
    const int64_t n = e->suite.count;
    Readings *read = calloc((size_t)n, sizeof *read);
    CheckerScore(*score)[STATEMENT_KINDS] = calloc((size_t)n, sizeof *score);
    e->checker = calloc((size_t)e->groups, sizeof *e->checker);
    if (!read || !score || !e->checker) cli_fail(err, "out of memory");
#pragma omp parallel for schedule(dynamic, 1) num_threads(e->workers)
    for (int64_t i = 0; i < n; i++) {
        uint8_t rgb[WORLD_BYTES];
        if (err->status) continue;
        world_render(&e->suite.entry[i].scene, rgb);
        world_read(rgb, &read[i].plain);
        world_degrade(rgb, WORN_SIGMA, WORN_NOISE, (uint64_t)i);
        world_read(rgb, &read[i].worn);
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(e->workers)
    for (int64_t i = 0; i < n; i++)
        if (!err->status) score_entry(e, read, i, score[i]);
    for (int64_t i = 0; i < n && !err->status; i++)
        for (int64_t g = 0; g < e->groups; g++)
            for (int k = 0; k < STATEMENT_KINDS; k++)
                if (eval_belongs(&e->group[g], &e->suite.entry[i]))
                    add_score(&e->checker[g][k], &score[i][k]);
    free(read);
    free(score);
    return err->status ? -1 : 0;
}
