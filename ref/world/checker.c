/* A scene read back from pixels, by making it again: what stands out from the background is explained by soft
 * shapes, and what it is called is decided by that explanation. tests/test_world_checker.c says what the
 * thresholds bear. See world.h. */
#include "ref/world/checker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FORM_MOST 0.09    /* of a region left unexplained: more is none of the shapes */
#define PICTURE_MOST 0.35 /* the same of the whole picture: more is none of this world */
#define COVERED_MOST 0.45 /* of the picture, by what stands out; two large objects cover 0.33 */
#define AGAIN 0.7         /* of their radius, two centres: closer ones are of one object */
#define COVERS 60.0       /* by being so far from the background; a ghost is not */
#define PARTS_MOST 12     /* regions: more is a texture */
#define COLOR_MOST 75.0   /* distance from the nearest colour: more is none of them */
#define GHOST 0.35        /* a colour that came so far from the background is no object's yet */
#define BLEMISH 40.0 /* pixels of full colour: less is no object, of which a small one has 200 */
#define RADIUS_SMALLEST 6.0
#define RADIUS_LARGEST 18.0
#define SHADE_MOST 45.0 /* a background's brightness, from white, gray or black */
#define TINT_MOST 30.0  /* its channels, from their mean */

/* ---- names for what was found ------------------------------------------------------------------------ */

static int name_background(const double *rgb) {
    const double mean = (rgb[0] + rgb[1] + rgb[2]) / 3;
    for (int c = 0; c < 3; c++)
        if (!(fabs(rgb[c] - mean) <= TINT_MOST)) return OPEN;
    for (int b = 0; b < BACKGROUNDS; b++)
        if (fabs(mean - world_background_rgb[b][0]) <= SHADE_MOST) return b;
    return OPEN;
}

/* Brightness counts half: pale yellow is no orange. */
static double color_distance(const double *a, const double *b) {
    const double light = (a[0] + a[1] + a[2] - b[0] - b[1] - b[2]) / 3;
    double square = 3 * light * light / 4;
    for (int c = 0; c < 3; c++) square += (a[c] - b[c] - light) * (a[c] - b[c] - light);
    return sqrt(square);
}

static int name_color(const double *rgb) {
    int nearest = OPEN;
    double least = COLOR_MOST;
    for (int k = 0; k < COLORS; k++) {
        const double d = color_distance(rgb, world_color_rgb[k]);
        if (d <= least) least = d, nearest = k;
    }
    return nearest;
}

/* How far it is from the background, of that colour's distance whose direction it has. */
static double strength(const double *background, const double *color) {
    double most = -2, found = 0;
    const double length = sqrt(color[0] * color[0] + color[1] * color[1] + color[2] * color[2]);
    for (int k = 0; k < COLORS; k++) {
        double dot = 0, square = 0;
        for (int c = 0; c < 3; c++) {
            const double d = world_color_rgb[k][c] - background[c];
            dot += d * color[c];
            square += d * d;
        }
        const double cosine = length > 0 ? dot / (sqrt(square) * length) : -1;
        if (cosine > most) most = cosine, found = length / sqrt(square);
    }
    return found;
}

static bool is_object(const Plane *plane, const SoftShape *s) {
    const double strong = strength(plane->background, s->color);
    return strong >= GHOST && fmin(strong, 1) * shape_area[s->shape] * s->r * s->r >= BLEMISH;
}

static WorldObject name_object(const Plane *plane, const Explained *e) {
    const SoftShape *s = &e->shape;
    const bool formed = e->left <= FORM_MOST && !e->other && s->edge < EDGE_MOST;
    double rgb[3];
    for (int c = 0; c < 3; c++) rgb[c] = plane->background[c] + s->color[c];
    WorldObject o = {.shape = formed ? s->shape : OPEN,
                     .color = name_color(rgb),
                     .size = OPEN,
                     .x = s->x,
                     .y = s->y,
                     .r = s->r};
    if (s->r >= RADIUS_SMALLEST && s->r <= RADIUS_LARGEST)
        o.size = s->r < WORLD_SIZE_BOUNDARY ? SMALL : LARGE;
    return o;
}

/* ---- the picture --------------------------------------------------------------------------------------- */

static bool covers_too_much(const Plane *plane) {
    int covered = 0;
    for (int p = 0; p < WORLD_PIXELS; p++) covered += plane->height[p] > COVERS;
    return covered > COVERED_MOST * WORLD_PIXELS;
}

/* What is stained explains what it covers, in any colours. */
static bool explains(const Plane *plane, const Explained *e, int n) {
    Values model = {{0}};
    double w[WORLD_PIXELS];
    Patch all = {.x1 = WORLD_SIDE, .y1 = WORLD_SIDE};
    memset(all.care, true, sizeof all.care);
    for (int k = 0; k < n; k++)
        if (is_object(plane, &e[k].shape)) values_paint(model, &e[k].shape);
    for (int k = 0; k < n; k++) {
        if (!e[k].stained) continue;
        shape_coverage(&e[k].shape, 0, 0, WORLD_SIDE, WORLD_SIDE, w);
        for (int p = 0; p < WORLD_PIXELS; p++)
            for (int c = 0; c < 3; c++) model[p][c] += w[p] * (plane->pixel[p][c] - model[p][c]);
    }
    return values_unexplained(plane, model, &all) <= PICTURE_MOST;
}

/* One in place of another: where two colours of one thing meet, their mixture may be the background's, and each
 * of them is found with the same outline. */
static bool is_again(const Explained *e, int n, int k) {
    for (int j = 0; j < n; j++) {
        const SoftShape *s = &e[j].shape, *t = &e[k].shape;
        const bool first = s->r > t->r || (s->r == t->r && j < k);
        if (j != k && first && hypot(s->x - t->x, s->y - t->y) < AGAIN * (s->r + t->r) / 2)
            return true;
    }
    return false;
}

/* Without ghosts and blemishes. Returns how many are left. */
static int keep_objects(const Plane *plane, Explained *e, int n) {
    int kept = 0;
    for (int k = 0; k < n; k++)
        if (is_object(plane, &e[k].shape)) e[kept++] = e[k];
    return kept;
}

static int from_the_left(const void *a, const void *b) {
    const WorldObject *p = a, *q = b;
    if (p->x != q->x) return p->x < q->x ? -1 : 1;
    return (p->y > q->y) - (p->y < q->y);
}

void world_read(const uint8_t *rgb, WorldScene *scene) {
    Plane plane;
    int8_t of[WORLD_PIXELS];
    Explained found[2 * PARTS_MOST];
    WorldScene read = {.background = OPEN};
    int n = 0;
    *scene = read;
    plane_make(&plane, rgb);
    const int regions = plane_regions(&plane, of);
    if (regions > PARTS_MOST || covers_too_much(&plane)) return;
    for (int k = 0; k < regions; k++) n += region_explain(&plane, of, k, &found[n]);
    if (!explains(&plane, found, n)) return;
    n = keep_objects(&plane, found, n);
    for (int k = 0; k < n; k++) {
        if (is_again(found, n, k)) continue;
        if (read.count == WORLD_OBJECTS) return; /* more than any scene has */
        read.object[read.count++] = name_object(&plane, &found[k]);
    }
    if (read.count == 0) return;
    read.background = name_background(plane.background);
    qsort(read.object, (size_t)read.count, sizeof *read.object, from_the_left);
    *scene = read;
}
