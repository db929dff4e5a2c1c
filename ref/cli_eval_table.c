/* The report of llmdiff eval as a table of 100 columns. See cli_eval.h. */
#include "ref/cli_eval.h"

#include <string.h>

static double percent(Rate r) { return r.asked ? 100 * (double)r.passed / (double)r.asked : 0; }

static void print_head(const Eval *e) {
    printf("%-29s", "");
    for (int s = 0; s < e->sides; s++) printf("  %-19s", e->side[s].name);
    printf("  the checker itself, %%\n%-12s %-10s %5s", "split", "statement", "asked");
    for (int s = 0; s < e->sides; s++) printf("  %5s %-13s", "%", "(95 %)");
    printf("  %5s %5s %5s %6s\n", "right", "blur", "false", "chance");
}

/* "-" where nothing was asked: no other scene makes it false. */
static void print_share(const char *format, int width, Rate r) {
    if (r.asked)
        printf(format, width, percent(r));
    else
        printf(" %*s", width, "-");
}

static void print_checker(const CheckerScore *c) {
    const bool worn = percent(c->false_pass_worn) > percent(c->false_pass);
    printf(" ");
    print_share(" %*.1f", 5, c->right);
    print_share(" %*.1f", 5, c->right_worn);
    print_share(" %*.2f", 5, worn ? c->false_pass_worn : c->false_pass);
    print_share(" %*.1f", 6, c->chance);
    printf("\n");
}

static void print_row(const Eval *e, int64_t g, int k, const char *name) {
    const EvalGroup *group = &e->group[g];
    printf("%-12s %-10s %5lld", name, statement_name[k],
           (long long)eval_rate(e, group, &e->side[0], k).asked);
    for (int s = 0; s < e->sides; s++) {
        const Rate r = eval_rate(e, group, &e->side[s], k);
        double low, high;
        char interval[24];
        wilson_interval(r.passed, r.asked, &low, &high);
        snprintf(interval, sizeof interval, "(%.1f-%.1f)", 100 * low, 100 * high);
        printf("  %5.1f %-13s", percent(r), interval);
    }
    print_checker(&e->checker[g][k]);
}

static void print_group(const Eval *e, int64_t g) {
    const EvalGroup *group = &e->group[g];
    bool first = true;
    for (int k = 0; k < STATEMENT_KINDS; k++) {
        char name[140] = "";
        if (!eval_rate(e, group, &e->side[0], k).asked) continue;
        if (first && group->split)
            snprintf(name, sizeof name, "%s%s%s", group->split, group->kind ? "/" : "",
                     group->kind ? group->kind : "");
        else if (first)
            strcpy(name, "all");
        if (strlen(name) > 12) { /* a line of its own keeps the columns */
            printf("%s\n", name);
            name[0] = '\0';
        }
        print_row(e, g, k, name);
        first = false;
    }
    if (!first) printf("\n");
}

static void print_failures(const Eval *e, const EvalSide *side) {
    int64_t refused = 0, broken = 0, cut = 0;
    const char *why[2] = {NULL, NULL};
    for (int64_t i = 0; i < e->count * e->batch; i++) {
        const EvalPicture *p = &side->picture[i];
        refused += p->state == EVAL_REFUSED;
        broken += p->state == EVAL_BROKEN;
        cut += p->dropped > 0;
        if (p->state && !why[p->state == EVAL_BROKEN]) why[p->state == EVAL_BROKEN] = p->why;
    }
    if (refused)
        printf("%s: refused %lld, counted as failed: %s\n", side->name, (long long)refused, why[0]);
    if (broken)
        printf("%s: %lld not finite, counted as failed: %s\n", side->name, (long long)broken,
               why[1]);
    if (cut)
        printf("%s: %lld prompts were longer than it reads, and judged without their ends\n",
               side->name, (long long)cut / e->batch);
}

static const char *recorded(const EvalSide *side, const char *key) {
    for (size_t i = 0; i < side->records; i++)
        if (strcmp(side->record[2 * i], key) == 0) return side->record[2 * i + 1];
    return "?";
}

void eval_print_table(const Eval *e) {
    const int64_t first = e->o->all_rows ? e->splits : 0;
    const EvalSide *side = &e->side[0];
    printf(
        "eval: %s: %lld of %lld prompts\n%lld %s of each, seed %llu, %s, %s steps, guidance %s\n\n",
        e->o->suite, (long long)e->count, (long long)e->suite.count, (long long)e->batch,
        e->batch > 1 ? "pictures" : "picture", (unsigned long long)e->seed,
        recorded(side, "sampler"), recorded(side, "steps"), recorded(side, "cfg_scale"));
    print_head(e);
    for (int64_t g = first; g < (first ? e->groups : e->splits); g++) print_group(e, g);
    if (first) print_group(e, e->splits - 1);
    for (int s = 0; s < e->sides; s++) print_failures(e, &e->side[s]);
    printf("right, blur: true statements that hold on the suite's %lld scenes, rendered; with blur "
           "and "
           "noise\n"
           "false: false ones that hold on pictures of other scenes, the worse of both\n"
           "chance: statements that hold on pictures of other scenes\n",
           (long long)e->suite.count);
}
