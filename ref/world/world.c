/* Names, colours, and scenes drawn: golden/world/world.py's render. See world.h. */
#include "ref/world/world.h"

#include <math.h>

const char *const world_shape[SHAPES] = {"circle", "square", "triangle"};
const char *const world_color[COLORS] = {"red", "green", "blue", "yellow", "purple", "orange"};
const char *const world_size[SIZES] = {"small", "large"};
const char *const world_background[BACKGROUNDS] = {"white", "gray", "black"};
const char *const world_relation[RELATIONS] = {"left of", "right of", "above", "below"};

const double world_color_rgb[COLORS][3] = {{215, 40, 40},  {40, 165, 65},  {45, 85, 220},
                                           {240, 215, 45}, {140, 55, 175}, {245, 130, 30}};
const double world_background_rgb[BACKGROUNDS][3] = {
    {245, 245, 245}, {128, 128, 128}, {20, 20, 20}};

#define SAMPLES 4 /* a pixel's, along each axis */

/* Whether the point at (dx, dy) from the centre belongs to it; every operation in world.py's order. */
static bool inside(const WorldObject *o, double dx, double dy) {
    const double r = o->r;
    if (o->shape == CIRCLE) return dx * dx + dy * dy <= r * r;
    if (o->shape == SQUARE) return fmax(fabs(dx), fabs(dy)) <= WORLD_SQUARE * r;
    const double height = (dy + WORLD_APEX * r) / ((WORLD_APEX + WORLD_BASE) * r);
    return height >= 0 && height <= 1 && fabs(dx) <= WORLD_WING * r * height;
}

static double coverage(const WorldObject *o, int column, int row) {
    int hits = 0;
    for (int j = 0; j < SAMPLES; j++)
        for (int i = 0; i < SAMPLES; i++) {
            const double x = (SAMPLES * column + i + 0.5) / SAMPLES;
            const double y = (SAMPLES * row + j + 0.5) / SAMPLES;
            hits += inside(o, x - o->x, y - o->y);
        }
    return hits / (double)(SAMPLES * SAMPLES);
}

void world_render(const WorldScene *scene, uint8_t *rgb) {
    for (int p = 0; p < WORLD_PIXELS; p++) {
        double pixel[3];
        for (int c = 0; c < 3; c++) pixel[c] = world_background_rgb[scene->background][c];
        for (int k = 0; k < scene->count; k++) {
            const WorldObject *o = &scene->object[k];
            const double share = coverage(o, p % WORLD_SIDE, p / WORLD_SIDE);
            for (int c = 0; c < 3; c++)
                pixel[c] += share * (world_color_rgb[o->color][c] - pixel[c]);
        }
        for (int c = 0; c < 3; c++) rgb[3 * p + c] = (uint8_t)floor(pixel[c] + 0.5);
    }
}
