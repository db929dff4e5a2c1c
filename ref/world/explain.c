/* Regions explained: each by the soft shape that leaves the least of it or, where one leaves too much, by two.
 * See checker.h. */
#include "ref/world/checker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN 5          /* pixels of background around a region that its fit has to explain */
#define SPLIT_FROM 0.05   /* of a region left unexplained by one shape: two are tried */
#define SPLIT_GAIN 0.45   /* two have to leave less than that share of what one leaves */
#define PART_LEAST 40     /* pixels of each of two */
#define PART_RADIUS 4.5   /* and its radius */
#define PART_OVERLAP 1.5  /* and of one colour: their centres are so many radii apart */
#define STAIN_OVERLAP 1.0 /* of two colours */
#define ALIKE 60.0        /* two colours' distance */
#define FORM_SURE 0.02    /* left unexplained: less is surely the shape */
#define SOLID 0.5         /* of the height that a fifth of a region exceeds: more is all of it */
#define FAINT 0.2         /* less is none, but a ghost */
#define GHOSTLY 0.33      /* of a region's peak: what stands out less is a ghost, or an edge */
#define EDGE_REACH 2      /* pixels */
#define STAINED 0.5       /* its outline leaves less than that share of what its colours leave */
#define FORM_OTHER 0.6    /* a shape that the world has not leaves less than that share of it */

const double shape_area[FITTED_SHAPES] = {3.141592653589793, 3.0625, 2.0296875, 3.125, 2.0296875};

/* ---- fitting one region ------------------------------------------------------------------------------ */

/* The pixels where `mine` is true, MARGIN around them, without those within `apart` of other ones. */
static void make_patch(Patch *patch, const bool *mine, const bool *others, int apart) {
    *patch = (Patch){.x0 = WORLD_SIDE, .y0 = WORLD_SIDE};
    for (int p = 0; p < WORLD_PIXELS; p++) {
        const int x = p % WORLD_SIDE, y = p / WORLD_SIDE;
        patch->care[p] = true;
        if (!mine[p]) continue;
        if (x < patch->x0) patch->x0 = x;
        if (y < patch->y0) patch->y0 = y;
        if (x + 1 > patch->x1) patch->x1 = x + 1;
        if (y + 1 > patch->y1) patch->y1 = y + 1;
    }
    for (int p = 0; p < WORLD_PIXELS; p++) {
        if (!others[p]) continue;
        const int x = p % WORLD_SIDE, y = p / WORLD_SIDE;
        for (int j = y - apart; j <= y + apart; j++)
            for (int i = x - apart; i <= x + apart; i++)
                if (i >= 0 && j >= 0 && i < WORLD_SIDE && j < WORLD_SIDE &&
                    !mine[j * WORLD_SIDE + i])
                    patch->care[j * WORLD_SIDE + i] = false;
    }
    patch->x0 = patch->x0 > MARGIN ? patch->x0 - MARGIN : 0;
    patch->y0 = patch->y0 > MARGIN ? patch->y0 - MARGIN : 0;
    patch->x1 = patch->x1 + MARGIN < WORLD_SIDE ? patch->x1 + MARGIN : WORLD_SIDE;
    patch->y1 = patch->y1 + MARGIN < WORLD_SIDE ? patch->y1 + MARGIN : WORLD_SIDE;
}

/* The best of shapes first .. last - 1, begun at the region's centre with its area. */
static SoftShape best_shape(const Plane *plane, const bool *mine, const Patch *patch, int first,
                            int last) {
    double peak = 0, sum = 0, sx = 0, sy = 0, area = 0;
    for (int p = 0; p < WORLD_PIXELS; p++)
        if (mine[p]) peak = fmax(peak, plane->height[p]);
    for (int p = 0; p < WORLD_PIXELS; p++) {
        if (!mine[p]) continue;
        const double h = plane->height[p];
        sum += h;
        sx += h * (p % WORLD_SIDE + 0.5);
        sy += h * (p / WORLD_SIDE + 0.5);
        area += h > peak / 2;
    }
    SoftShape best = {.error = INFINITY};
    for (int shape = first; shape < last; shape++) {
        SoftShape s = {.shape = shape,
                       .x = sx / sum,
                       .y = sy / sum,
                       .r = fmax(sqrt(area / shape_area[shape]), 2)};
        shape_fit(&s, plane->pixel, patch);
        if (s.error < best.error) best = s;
    }
    return best;
}

/* ---- what shapes leave unexplained ------------------------------------------------------------------- */

void values_paint(Values model, const SoftShape *s) {
    double w[WORLD_PIXELS];
    shape_coverage(s, 0, 0, WORLD_SIDE, WORLD_SIDE, w);
    for (int p = 0; p < WORLD_PIXELS; p++)
        for (int c = 0; c < 3; c++) model[p][c] += w[p] * (s->color[c] - model[p][c]);
}

double values_unexplained(const Plane *plane, Values model, const Patch *patch) {
    static const double tap[3] = {0.25, 0.5, 0.25};
    double left = 0, all = 0;
    for (int y = patch->y0; y < patch->y1; y++)
        for (int x = patch->x0; x < patch->x1; x++) {
            const int p = y * WORLD_SIDE + x;
            if (!patch->care[p]) continue;
            for (int c = 0; c < 3; c++) {
                double rest = 0;
                for (int j = -1; j <= 1; j++)
                    for (int i = -1; i <= 1; i++) {
                        const int u = x + i < 0 || x + i >= WORLD_SIDE ? x : x + i;
                        const int v = y + j < 0 || y + j >= WORLD_SIDE ? y : y + j;
                        rest +=
                            tap[i + 1] * tap[j + 1] *
                            (plane->pixel[v * WORLD_SIDE + u][c] - model[v * WORLD_SIDE + u][c]);
                    }
                left += rest * rest - plane->noise;
                all += plane->smooth[p][c] * plane->smooth[p][c] - plane->noise;
            }
        }
    return all > 0 ? fmax(left, 0) / all : 1;
}

static double left_by(const Plane *plane, const SoftShape *a, const SoftShape *b,
                      const Patch *patch) {
    Values model;
    memset(model, 0, sizeof model);
    values_paint(model, a);
    if (b) values_paint(model, b);
    return values_unexplained(plane, model, patch);
}

/* ---- two objects in one region ----------------------------------------------------------------------- */

/* Two means: by colour, or by place. second[p]: the pixel is of the second part. */
static void part_region(const Plane *plane, const bool *mine, bool by_color, bool *second) {
    double feature[WORLD_PIXELS][3], mean[2][3] = {{0}};
    int n = 0;
    for (int p = 0; p < WORLD_PIXELS; p++) {
        second[p] = false;
        feature[p][0] = by_color ? plane->smooth[p][0] : p % WORLD_SIDE;
        feature[p][1] = by_color ? plane->smooth[p][1] : p / WORLD_SIDE;
        feature[p][2] = by_color ? plane->smooth[p][2] : 0;
        for (int c = 0; c < 3 && mine[p]; c++) mean[0][c] += feature[p][c];
        n += mine[p];
    }
    for (int c = 0; c < 3; c++) mean[0][c] /= n;
    for (int turn = 0; turn < 2; turn++) { /* farthest from the mean, and farthest from that */
        double farthest = -1;
        for (int p = 0; p < WORLD_PIXELS; p++) {
            double square = 0;
            for (int c = 0; c < 3; c++)
                square += (feature[p][c] - mean[turn][c]) * (feature[p][c] - mean[turn][c]);
            if (!mine[p] || square <= farthest) continue;
            farthest = square;
            memcpy(mean[1 - turn], feature[p], sizeof mean[0]);
        }
    }
    for (int round = 0; round < 10; round++) {
        double sum[2][3] = {{0}};
        int count[2] = {0};
        for (int p = 0; p < WORLD_PIXELS; p++) {
            if (!mine[p]) continue;
            double square[2] = {0};
            for (int k = 0; k < 2; k++)
                for (int c = 0; c < 3; c++)
                    square[k] += (feature[p][c] - mean[k][c]) * (feature[p][c] - mean[k][c]);
            second[p] = square[1] < square[0];
            count[second[p]]++;
            for (int c = 0; c < 3; c++) sum[second[p]][c] += feature[p][c];
        }
        for (int k = 0; k < 2; k++)
            for (int c = 0; c < 3 && count[k]; c++) mean[k][c] = sum[k][c] / count[k];
    }
}

static double distance(const double *a, const double *b) {
    return sqrt((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]) +
                (a[2] - b[2]) * (a[2] - b[2]));
}

/* An oval is not two circles, and one with a stain isn't either. */
static bool are_two(const Explained *a, const Explained *b) {
    const SoftShape *s = &a->shape, *t = &b->shape;
    const double overlap = distance(s->color, t->color) > ALIKE ? STAIN_OVERLAP : PART_OVERLAP;
    return s->r >= PART_RADIUS && t->r >= PART_RADIUS &&
           hypot(s->x - t->x, s->y - t->y) >= overlap * (s->r + t->r) / 2;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The region in one colour: what stands out half as much as its strongest fifth is all of it. */
static void make_silhouette(const Plane *plane, const bool *mine, Plane *silhouette) {
    double height[WORLD_PIXELS];
    size_t n = 0;
    for (int p = 0; p < WORLD_PIXELS; p++)
        if (mine[p]) height[n++] = plane->height[p];
    qsort(height, n, sizeof *height, by_size);
    const double full = SOLID * height[n * 4 / 5], faint = FAINT * height[n * 4 / 5];
    *silhouette = (Plane){.noise = 0};
    for (int p = 0; p < WORLD_PIXELS; p++) {
        const double share = fmin(fmax((plane->height[p] - faint) / (full - faint), 0), 1);
        silhouette->pixel[p][0] = silhouette->smooth[p][0] = silhouette->height[p] = share;
    }
}

/* The shape that leaves the least of it, of the world's; whether another would leave far less. */
static Explained explain_form(const Plane *plane, const bool *mine, const Patch *patch) {
    Explained e = {.shape = best_shape(plane, mine, patch, 0, SHAPES)};
    e.left = left_by(plane, &e.shape, NULL, patch);
    if (e.left < FORM_SURE) return e;
    const SoftShape other = best_shape(plane, mine, patch, SHAPES, FITTED_SHAPES);
    e.other = left_by(plane, &other, NULL, patch) < FORM_OTHER * e.left;
    return e;
}

/* Where a shape leaves some, its colour may be to blame: then it is its outline that tells the shape. */
static Explained explain_part(const Plane *plane, const bool *mine, const Patch *patch) {
    Plane silhouette;
    const Explained e = explain_form(plane, mine, patch);
    if (e.left < FORM_SURE) return e;
    make_silhouette(plane, mine, &silhouette);
    Explained outline = explain_form(&silhouette, mine, patch);
    if (!(outline.left < STAINED * e.left)) return e;
    shape_weigh(&outline.shape, plane->pixel, patch);
    outline.stained = true;
    return outline;
}

/* Two in place of one, each fitted where the other is not. Returns what both together leave of the whole, 1 if
 * they are no two. */
static double explain_pair(const Plane *plane, const bool *mine, const Patch *whole, bool by_color,
                           Explained pair[2]) {
    bool part[2][WORLD_PIXELS];
    int size[2] = {0};
    part_region(plane, mine, by_color, part[1]);
    for (int p = 0; p < WORLD_PIXELS; p++) {
        part[0][p] = mine[p] && !part[1][p];
        size[0] += part[0][p];
        size[1] += part[1][p];
    }
    if (size[0] < PART_LEAST || size[1] < PART_LEAST) return 1;
    for (int k = 0; k < 2; k++) {
        Patch patch;
        make_patch(&patch, part[k], part[1 - k], 1);
        for (int p = 0; p < WORLD_PIXELS; p++) patch.care[p] = patch.care[p] && whole->care[p];
        pair[k] = explain_part(plane, part[k], &patch);
    }
    if (!are_two(&pair[0], &pair[1])) return 1;
    const SoftShape *a = &pair[0].shape, *b = &pair[1].shape;
    return fmin(left_by(plane, a, b, whole), left_by(plane, b, a, whole));
}

/* What shines faintly through beside an object is none of it: mine becomes what stands out well, and the patch
 * cares for the rest only where it is a blurred edge of that. */
static void leave_ghosts_out(const Plane *plane, bool *mine, Patch *patch) {
    double peak = 0;
    for (int p = 0; p < WORLD_PIXELS; p++)
        if (mine[p]) peak = fmax(peak, plane->height[p]);
    bool edge[WORLD_PIXELS] = {false};
    for (int p = 0; p < WORLD_PIXELS; p++) {
        if (!mine[p] || plane->height[p] < GHOSTLY * peak) continue;
        const int x = p % WORLD_SIDE, y = p / WORLD_SIDE;
        for (int j = y - EDGE_REACH; j <= y + EDGE_REACH; j++)
            for (int i = x - EDGE_REACH; i <= x + EDGE_REACH; i++)
                if (i >= 0 && j >= 0 && i < WORLD_SIDE && j < WORLD_SIDE)
                    edge[j * WORLD_SIDE + i] = true;
    }
    for (int p = 0; p < WORLD_PIXELS; p++) {
        if (!mine[p]) continue;
        patch->care[p] = patch->care[p] && edge[p];
        mine[p] = plane->height[p] >= GHOSTLY * peak;
    }
}

int region_explain(const Plane *plane, const int8_t *of, int region, Explained out[2]) {
    bool mine[WORLD_PIXELS], others[WORLD_PIXELS];
    Explained pair[2];
    Patch patch;
    for (int p = 0; p < WORLD_PIXELS; p++) {
        mine[p] = of[p] == region;
        others[p] = of[p] >= 0 && !mine[p];
    }
    make_patch(&patch, mine, others, 1);
    leave_ghosts_out(plane, mine, &patch);
    out[0] = explain_part(plane, mine, &patch);
    double least = out[0].left * SPLIT_GAIN;
    int n = 1;
    if (out[0].left < SPLIT_FROM) return n;
    for (int by_color = 0; by_color < 2; by_color++) {
        const double left = explain_pair(plane, mine, &patch, by_color, pair);
        if (!(left < least)) continue;
        least = left;
        memcpy(out, pair, sizeof pair);
        n = 2;
    }
    return n;
}
