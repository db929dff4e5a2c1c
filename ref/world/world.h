/* The small world: pictures of 64 x 64 with one or two plain shapes, as golden/world/world.py defines it.
 *
 *     world.c       names and colours; scenes drawn, to the byte as world.py draws them
 *     regions.c     checker: what stands out from the background, and where
 *     shapes.c      checker: soft shapes fitted to it
 *     explain.c     checker: regions explained by them, by two where one is too few
 *     checker.c     checker: a scene read back from pixels
 *     statements.c  what a prompt says, held against a scene
 *     suite.c       prompts with what they say, from suite.jsonl
 *     interval.c    Wilson's interval; pictures blurred and noisy, to try the checker
 *
 * Nothing here knows a model; the library has no part of it. */
#ifndef LLMDIFF_WORLD_H
#define LLMDIFF_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORLD_SIDE 64
#define WORLD_PIXELS (WORLD_SIDE * WORLD_SIDE)
#define WORLD_BYTES (WORLD_PIXELS * 3)
#define WORLD_OBJECTS 6 /* at most, of a scene */

enum { CIRCLE, SQUARE, TRIANGLE, SHAPES };
enum { RED, GREEN, BLUE, YELLOW, PURPLE, ORANGE, COLORS };
enum { SMALL, LARGE, SIZES };
enum { WHITE, GRAY, BLACK, BACKGROUNDS };
enum { LEFT_OF, RIGHT_OF, ABOVE, BELOW, RELATIONS };
#define OPEN (-1) /* not stated, or not to be made out */

/* A triangle stands on its base; its x, y are those of its circumscribed circle. y downwards. */
typedef struct WorldObject {
    int shape, color, size;
    double x, y, r; /* pixels */
} WorldObject;

typedef struct WorldScene {
    int background;
    int count;
    WorldObject object[WORLD_OBJECTS];
} WorldScene;

extern const char *const world_shape[SHAPES],
    *const world_color[COLORS], *const world_size[SIZES], *const world_background[BACKGROUNDS],
                                                              *const world_relation[RELATIONS];
extern const double world_color_rgb[COLORS][3], world_background_rgb[BACKGROUNDS][3];

/* Extents of the shapes, of r: half a square's side; a triangle above, below and beside its centre. */
#define WORLD_SQUARE 0.875
#define WORLD_APEX 1.25
#define WORLD_BASE 0.625
#define WORLD_WING 1.0825
/* Between small (8 to 9.5) and large (12.5 to 14.5). */
#define WORLD_SIZE_BOUNDARY 11.0

/* rgb [64, 64, 3]. Nothing of the scene is open. */
void world_render(const WorldScene *scene, uint8_t *rgb);

/* The scene that the picture shows, objects from the left to the right; attributes that can't be made out are
 * OPEN. A picture that is none of this world (noise, texture, one colour) has no object and no background. */
void world_read(const uint8_t *rgb, WorldScene *scene);

/* Gaussian blur, then Gaussian noise of `noise` * 255, its draws by `seed`; in place. */
void world_degrade(uint8_t *rgb, double sigma, double noise, uint64_t seed);

/* Wilson's interval of 95% for `passed` of `asked`; of none 0 to 1. */
void wilson_interval(int64_t passed, int64_t asked, double *low, double *high);

#endif
