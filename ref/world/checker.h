/* What the checker's files share: the picture as differences from its background, its regions, and soft
 * shapes. See world.h. */
#ifndef LLMDIFF_WORLD_CHECKER_H
#define LLMDIFF_WORLD_CHECKER_H

#include "ref/world/world.h"

/* ---- regions.c ------------------------------------------------------------------------------------- */

#define REGIONS_MAX 32

typedef struct Plane {
    double background[3];
    double pixel[WORLD_PIXELS][3];  /* minus the background */
    double smooth[WORLD_PIXELS][3]; /* the same, smoothed a little */
    double height[WORLD_PIXELS];    /* |smooth| */
    double noise;                   /* its variance in a channel of `smooth` */
} Plane;

void plane_make(Plane *plane, const uint8_t *rgb);

/* Regions that stand out from the background, apart from each other: of[p] is the pixel's region 0 .. n - 1,
 * -1: background. Returns n; more than REGIONS_MAX are not counted. */
int plane_regions(const Plane *plane, int8_t of[WORLD_PIXELS]);

/* ---- shapes.c -------------------------------------------------------------------------------------- */

/* What the world has not: fitted so that a shape that is rather one of them is not called by another's name. */
enum { DIAMOND = SHAPES, HANGING_TRIANGLE, FITTED_SHAPES };
#define EDGE_MOST 5.0

/* Which pixels a fit has to explain, as a rectangle [x0, x1) x [y0, y1) and a mask in it. */
typedef struct Patch {
    int x0, y0, x1, y1;
    bool care[WORLD_PIXELS];
} Patch;

typedef struct SoftShape {
    int shape;
    double x, y, r;
    double edge;     /* half the width of the ramp that its edges are, pixels */
    double color[3]; /* minus the background */
    double error;    /* squared, over the patch */
} SoftShape;

/* How much of each pixel is the shape's, 0 .. 1. */
void shape_coverage(const SoftShape *s, int x0, int y0, int x1, int y1, double *coverage);
/* Its colour and error, where it is. */
void shape_weigh(SoftShape *s, const double (*values)[3], const Patch *patch);
/* The best fit of s->shape, from s's x, y, r on; values [WORLD_PIXELS][3] are minus the background. */
void shape_fit(SoftShape *s, const double (*values)[3], const Patch *patch);

/* ---- explain.c ------------------------------------------------------------------------------------- */

typedef double Values[WORLD_PIXELS][3]; /* minus the background */

/* Paints the shape over what is there. */
void values_paint(Values model, const SoftShape *s);
/* The share of the patch that the model leaves unexplained; smoothed, and without what noise leaves. */
double values_unexplained(const Plane *plane, Values model, const Patch *patch);

typedef struct Explained {
    SoftShape shape; /* one of SHAPES */
    double left;     /* share of its patch that it leaves unexplained */
    bool other;      /* it is rather a shape that the world has not */
    bool stained;    /* told by its outline, as its colours vary */
} Explained;

extern const double shape_area[FITTED_SHAPES]; /* of radius 1 */

/* What the region is: one or two shapes. Returns how many. */
int region_explain(const Plane *plane, const int8_t *of, int region, Explained out[2]);

#endif
