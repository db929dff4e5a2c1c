/* Scenes of the small world for tests: golden ones, and as many as are wanted. */
#ifndef LLMDIFF_WORLD_CASE_H
#define LLMDIFF_WORLD_CASE_H

#include "check.h"

#include "ref/world/suite.h"
#include "weights/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define WORLD_GOLDEN "golden/data/world/"

typedef struct Draws {
    uint64_t state;
} Draws;

/* 0 .. 1, by Knuth's multiplier */
static inline double draw(Draws *d) {
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return (double)(d->state >> 11) * 0x1p-53;
}

static inline int draw_below(Draws *d, int n) { return (int)(draw(d) * n); }

static inline double quarter(double v) { return round(4 * v) / 4; }

/* How far the object reaches: left, right, up, down. */
static inline void extent(const WorldObject *o, double e[4]) {
    for (int i = 0; i < 4; i++) e[i] = o->shape == SQUARE ? WORLD_SQUARE * o->r : o->r;
    if (o->shape != TRIANGLE) return;
    e[0] = e[1] = WORLD_WING * o->r;
    e[2] = WORLD_APEX * o->r;
    e[3] = WORLD_BASE * o->r;
}

static inline WorldObject draw_object(Draws *d) {
    WorldObject o = {.shape = draw_below(d, SHAPES),
                     .color = draw_below(d, COLORS),
                     .size = draw_below(d, SIZES)};
    o.r = quarter(o.size == SMALL ? 8 + 1.5 * draw(d) : 12.5 + 2 * draw(d));
    return o;
}

/* Two objects `gap` pixels apart or more, beside or above one another; one anywhere. May be of one colour or
 * one shape. */
static inline WorldScene draw_scene(Draws *d, int count, double gap, bool apart) {
    WorldScene s = {.background = draw_below(d, BACKGROUNDS), .count = count};
    double e[2][4];
    for (int k = 0; k < count; k++) {
        s.object[k] = draw_object(d);
        extent(&s.object[k], e[k]);
    }
    if (count == 1) {
        s.object[0].x = quarter(20 + 24 * draw(d));
        s.object[0].y = quarter(20 + 24 * draw(d));
        return s;
    }
    const int axis = draw_below(d, 2), before = 2 * axis, behind = before + 1;
    const double used = e[0][before] + e[0][behind] + gap + e[1][before] + e[1][behind];
    double low = (62 - used) * draw(d), more = apart ? (62 - used - low) * draw(d) : 0;
    const double at[2] = {quarter(1 + low + e[0][before]),
                          quarter(1 + low + used + more - e[1][behind])};
    for (int k = 0; k < 2; k++) {
        const double across = quarter(27 + 10 * draw(d));
        s.object[k].x = axis ? across : at[k];
        s.object[k].y = axis ? at[k] : across;
    }
    return s;
}

/* The object of the scene nearest to this one, or NULL. */
static inline const WorldObject *nearest(const WorldScene *scene, const WorldObject *o) {
    const WorldObject *found = NULL;
    for (int k = 0; k < scene->count; k++) {
        const WorldObject *c = &scene->object[k];
        if (!found || hypot(c->x - o->x, c->y - o->y) < hypot(found->x - o->x, found->y - o->y))
            found = c;
    }
    return found;
}

/* Is it all there, and nothing else? */
static inline bool same_scene(const WorldScene *truth, const WorldScene *read) {
    bool same = truth->count == read->count && truth->background == read->background;
    for (int k = 0; k < truth->count && same; k++) {
        const WorldObject *o = &truth->object[k], *r = nearest(read, o);
        same = r->shape == o->shape && r->color == o->color && r->size == o->size &&
               hypot(r->x - o->x, r->y - o->y) < 1.5 && fabs(r->r - o->r) < 1.2;
    }
    return same;
}

static inline void describe(const WorldScene *s, char *text, size_t size) {
    size_t n = (size_t)snprintf(text, size,
                                "%s:", s->background < 0 ? "?" : world_background[s->background]);
    for (int k = 0; k < s->count; k++) {
        const WorldObject *o = &s->object[k];
        n += (size_t)snprintf(text + n, size - n, " %s %s %s (%.2f, %.2f; %.2f)",
                              o->size < 0 ? "?" : world_size[o->size],
                              o->color < 0 ? "?" : world_color[o->color],
                              o->shape < 0 ? "?" : world_shape[o->shape], o->x, o->y, o->r);
    }
}

#endif
