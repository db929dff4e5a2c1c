/* Statements held against a scene. See statements.h. */
#include "ref/world/statements.h"

#include <math.h>

const char *const statement_name[STATEMENT_KINDS] = {"count",  "background", "shape",   "color",
                                                     "size",   "object",     "objects", "relation",
                                                     "absent", "scene"};

#define APART_LEAST 4.0 /* pixels along the axis of a relation */

static void say(Judgement *v, int kind, bool holds) {
    v->statement[v->count++] = (Statement){kind, holds};
}

static bool states_nothing(const WorldObject *e) {
    return e->shape == OPEN && e->color == OPEN && e->size == OPEN;
}

/* Whether it is as stated; it may be NULL. */
static bool is_so(const WorldObject *e, const WorldObject *o) {
    return o && (e->shape == OPEN || o->shape == e->shape) &&
           (e->color == OPEN || o->color == e->color) && (e->size == OPEN || o->size == e->size);
}

/* What can't be made out may be anything. */
static bool may_be_so(const WorldObject *e, const WorldObject *o) {
    return (e->shape == OPEN || o->shape == OPEN || o->shape == e->shape) &&
           (e->color == OPEN || o->color == OPEN || o->color == e->color) &&
           (e->size == OPEN || o->size == OPEN || o->size == e->size);
}

bool world_stands(const WorldObject *first, int relation, const WorldObject *second) {
    const double right = second->x - first->x, down = second->y - first->y;
    const bool sideways = relation == LEFT_OF || relation == RIGHT_OF;
    const double across = fabs(sideways ? down : right);
    double along = sideways ? right : down;
    if (relation == RIGHT_OF || relation == BELOW) along = -along;
    return along > across && along >= APART_LEAST;
}

/* object k of what is expected is scene->object[to[k]], or none of them (-1) */
static int judge_matched(const Expect *e, const WorldScene *scene, const int *to, Judgement *v) {
    const WorldObject *o[EXPECT_OBJECTS];
    int stated = 0, right = 0, held = 0;
    v->count = 0;
    for (int k = 0; k < e->objects; k++) o[k] = to[k] < 0 ? NULL : &scene->object[to[k]];
    if (e->count != OPEN) say(v, SAYS_COUNT, scene->count > 0 && scene->count == e->count);
    if (e->background != OPEN)
        say(v, SAYS_BACKGROUND, scene->count > 0 && scene->background == e->background);
    for (int k = 0; k < e->objects; k++) {
        const WorldObject *s = &e->object[k];
        if (states_nothing(s)) continue;
        if (s->shape != OPEN) say(v, SAYS_SHAPE, o[k] && o[k]->shape == s->shape);
        if (s->color != OPEN) say(v, SAYS_COLOR, o[k] && o[k]->color == s->color);
        if (s->size != OPEN) say(v, SAYS_SIZE, o[k] && o[k]->size == s->size);
        say(v, SAYS_OBJECT, is_so(s, o[k]));
        right += is_so(s, o[k]);
        stated++;
    }
    if (stated > 1) say(v, SAYS_OBJECTS, right == stated);
    for (int i = 0; i < e->relations; i++) {
        const int a = e->relation[i].first, b = e->relation[i].second;
        say(v, SAYS_RELATION,
            is_so(&e->object[a], o[a]) && is_so(&e->object[b], o[b]) &&
                world_stands(o[a], e->relation[i].relation, o[b]));
    }
    for (int i = 0; i < e->absents; i++) {
        bool none = scene->count > 0;
        for (int k = 0; k < scene->count; k++)
            none = none && !may_be_so(&e->absent[i], &scene->object[k]);
        say(v, SAYS_ABSENT, none);
    }
    for (int i = 0; i < v->count; i++) held += v->statement[i].holds;
    say(v, SAYS_SCENE, held == v->count);
    return held;
}

typedef struct Matching {
    const Expect *expect;
    const WorldScene *scene;
    int to[EXPECT_OBJECTS], best_held;
    bool taken[WORLD_OBJECTS];
    Judgement *best;
} Matching;

/* Of two with as many statements that hold: so that it does not matter in which order objects are given. */
static bool comes_first(const Judgement *a, const Judgement *b) {
    for (int i = 0; i < a->count; i++)
        if (a->statement[i].holds != b->statement[i].holds) return a->statement[i].holds;
    return false;
}

static void match(Matching *m, int k) {
    if (k == m->expect->objects) {
        Judgement v;
        const int held = judge_matched(m->expect, m->scene, m->to, &v);
        if (held < m->best_held || (held == m->best_held && !comes_first(&v, m->best))) return;
        m->best_held = held;
        *m->best = v;
        return;
    }
    for (int i = 0; i < m->scene->count; i++) {
        if (m->taken[i]) continue;
        m->taken[i] = true;
        m->to[k] = i;
        match(m, k + 1);
        m->taken[i] = false;
    }
    m->to[k] = -1;
    match(m, k + 1);
}

void expect_judge(const Expect *expect, const WorldScene *scene, Judgement *judgement) {
    Matching m = {.expect = expect, .scene = scene, .best_held = -1, .best = judgement};
    match(&m, 0);
}
