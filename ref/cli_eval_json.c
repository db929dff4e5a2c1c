/* The report of llmdiff eval as JSON. Nothing in it depends on time, machine or threads. See cli_eval.h. */
#include "ref/cli_eval.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

/* cJSON's calls return NULL without memory and take it: what is lost is found out at the end, by `lost`. */
typedef struct Maker {
    const Eval *e;
    bool lost;
} Maker;

static cJSON *put(Maker *m, cJSON *to, const char *key, cJSON *item) {
    const bool held =
        item && (key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item));
    if (held) return item;
    cJSON_Delete(item);
    m->lost = true;
    return NULL;
}

static void text(Maker *m, cJSON *to, const char *key, const char *value) {
    put(m, to, key, value ? cJSON_CreateString(value) : cJSON_CreateNull());
}
static void number(Maker *m, cJSON *to, const char *key, double value) {
    put(m, to, key, cJSON_CreateNumber(value));
}
static cJSON *object(Maker *m, cJSON *to, const char *key) {
    return put(m, to, key, cJSON_CreateObject());
}
static cJSON *array(Maker *m, cJSON *to, const char *key) {
    return put(m, to, key, cJSON_CreateArray());
}

/* To a ten-thousandth: figures that a person compares. NULL of none. */
static void share(Maker *m, cJSON *to, const char *key, Rate r) {
    if (r.asked)
        number(m, to, key, round(1e4 * (double)r.passed / (double)r.asked) / 1e4);
    else
        text(m, to, key, NULL);
}

/* ---- settings ------------------------------------------------------------------------------------ */

static void put_settings(Maker *m, cJSON *root) {
    const Eval *e = m->e;
    cJSON *s = object(m, root, "settings");
    text(m, s, "suite", e->o->suite);
    number(m, s, "suite_prompts", (double)e->suite.count);
    text(m, s, "split", e->o->split);
    number(m, s, "limit", (double)e->o->limit);
    number(m, s, "prompts", (double)e->count);
    number(m, s, "batch_count", (double)e->batch);
    number(m, s, "seed", (double)e->seed);
    cJSON *conditioners = object(m, root, "conditioners");
    for (int k = 0; k < e->sides; k++) {
        const EvalSide *side = &e->side[k];
        cJSON *c = object(m, conditioners, side->name);
        int64_t state[3] = {0}, cut = 0;
        for (int64_t i = 0; i < e->count * e->batch; i++) {
            state[side->picture[i].state]++;
            cut += side->picture[i].dropped > 0;
        }
        number(m, c, "drawn", (double)state[EVAL_DRAWN]);
        number(m, c, "refused", (double)state[EVAL_REFUSED]);
        number(m, c, "not_finite", (double)state[EVAL_BROKEN]);
        number(m, c, "cut", (double)cut);
        for (size_t i = 0; i < side->records; i++) {
            const char *key = side->record[2 * i], *value = side->record[2 * i + 1];
            if (strcmp(key, "prompt") == 0 || strcmp(key, "seed") == 0) continue;
            cJSON *parsed = strcmp(key, "settings") == 0 ? cJSON_Parse(value) : NULL;
            put(m, c, key, parsed ? parsed : cJSON_CreateString(value));
        }
    }
}

/* ---- rates --------------------------------------------------------------------------------------- */

static void put_checker(Maker *m, cJSON *to, const CheckerScore *score) {
    cJSON *c = object(m, to, "checker");
    share(m, c, "truth_right", score->right);
    share(m, c, "truth_right_blurred", score->right_worn);
    share(m, c, "false_pass", score->false_pass);
    share(m, c, "false_pass_blurred", score->false_pass_worn);
    share(m, c, "chance", score->chance);
}

static void put_rate(Maker *m, cJSON *rows, int64_t g, int k, const EvalSide *side) {
    const EvalGroup *group = &m->e->group[g];
    const Rate r = eval_rate(m->e, group, side, k);
    double low, high;
    if (!r.asked) return;
    cJSON *row = object(m, rows, NULL);
    wilson_interval(r.passed, r.asked, &low, &high);
    text(m, row, "split", group->split ? group->split : "all");
    if (group->kind) text(m, row, "kind", group->kind);
    text(m, row, "statement", statement_name[k]);
    text(m, row, "conditioner", side->name);
    number(m, row, "passed", (double)r.passed);
    number(m, row, "asked", (double)r.asked);
    share(m, row, "accuracy", r);
    number(m, row, "low", round(1e4 * low) / 1e4);
    number(m, row, "high", round(1e4 * high) / 1e4);
    put_checker(m, row, &m->e->checker[g][k]);
}

static void put_rates(Maker *m, cJSON *root, const char *key, int64_t from, int64_t to) {
    cJSON *rows = array(m, root, key);
    for (int64_t g = from; g < to; g++)
        for (int k = 0; k < STATEMENT_KINDS; k++)
            for (int s = 0; s < m->e->sides; s++) put_rate(m, rows, g, k, &m->e->side[s]);
}

/* The checker as a whole: over all single statements. */
static void put_whole_checker(Maker *m, cJSON *root) {
    CheckerScore sum = {0};
    const CheckerScore *all = m->e->checker[m->e->splits - 1];
    for (int k = 0; k < STATEMENT_KINDS; k++) {
        const Rate from[] = {all[k].right, all[k].right_worn, all[k].false_pass,
                             all[k].false_pass_worn, all[k].chance};
        Rate *const to[] = {&sum.right, &sum.right_worn, &sum.false_pass, &sum.false_pass_worn,
                            &sum.chance};
        for (int i = 0; i < 5; i++) {
            to[i]->passed += from[i].passed;
            to[i]->asked += from[i].asked;
        }
    }
    put_checker(m, root, &sum);
}

/* ---- prompts ------------------------------------------------------------------------------------- */

static void put_scene(Maker *m, cJSON *to, const WorldScene *scene) {
    cJSON *s = object(m, to, "read");
    text(m, s, "background",
         scene->background == OPEN ? NULL : world_background[scene->background]);
    cJSON *objects = array(m, s, "objects");
    for (int k = 0; k < scene->count; k++) {
        const WorldObject *o = &scene->object[k];
        cJSON *item = object(m, objects, NULL);
        text(m, item, "shape", o->shape == OPEN ? NULL : world_shape[o->shape]);
        text(m, item, "color", o->color == OPEN ? NULL : world_color[o->color]);
        text(m, item, "size", o->size == OPEN ? NULL : world_size[o->size]);
        number(m, item, "x", round(100 * o->x) / 100);
        number(m, item, "y", round(100 * o->y) / 100);
        number(m, item, "r", round(100 * o->r) / 100);
    }
}

static void put_picture(Maker *m, cJSON *pictures, const EvalSide *side, const EvalPicture *p) {
    static const char *const states[] = {"drawn", "refused", "not finite"};
    cJSON *item = object(m, pictures, NULL);
    text(m, item, "conditioner", side->name);
    number(m, item, "seed", (double)p->seed);
    text(m, item, "state", states[p->state]);
    if (p->why) text(m, item, "why", p->why);
    if (p->dropped) number(m, item, "tokens_not_read", (double)p->dropped);
    put_scene(m, item, &p->read);
    cJSON *statements = object(m, item, "statements");
    for (int k = 0; k < STATEMENT_KINDS; k++) {
        cJSON *of_kind = NULL;
        for (int i = 0; i < p->judgement.count; i++) {
            if (p->judgement.statement[i].kind != k) continue;
            if (!of_kind) of_kind = array(m, statements, statement_name[k]);
            put(m, of_kind, NULL, cJSON_CreateBool(p->judgement.statement[i].holds));
        }
    }
}

static void put_prompts(Maker *m, cJSON *root) {
    const Eval *e = m->e;
    cJSON *prompts = array(m, root, "prompts");
    for (int64_t i = 0; i < e->count && !m->lost; i++) {
        const SuiteEntry *entry = e->chosen[i];
        cJSON *item = object(m, prompts, NULL);
        text(m, item, "id", entry->id);
        text(m, item, "split", entry->split);
        text(m, item, "kind", entry->kind);
        text(m, item, "prompt", entry->prompt);
        cJSON *pictures = array(m, item, "pictures");
        for (int s = 0; s < e->sides; s++)
            for (int64_t b = 0; b < e->batch; b++)
                put_picture(m, pictures, &e->side[s], &e->side[s].picture[i * e->batch + b]);
    }
}

char *eval_json(const Eval *e, llmdiff_error *err) {
    Maker m = {e, false};
    char *text_of = NULL;
    cJSON *root = cJSON_CreateObject();
    if (root) {
        text(&m, root, "program", "llmdiff");
        text(&m, root, "version", llmdiff_version());
        text(&m, root, "precision", llmdiff_precision());
        put_settings(&m, root);
        put_whole_checker(&m, root);
        put_rates(&m, root, "accuracy", 0, e->splits);
        put_rates(&m, root, "kinds", e->splits, e->groups);
        put_prompts(&m, root);
        if (!m.lost) text_of = cJSON_Print(root);
    }
    cJSON_Delete(root);
    if (!text_of) cli_fail(err, "out of memory");
    return text_of;
}
