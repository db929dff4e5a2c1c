/* What stands out from the background, and where one region ends and the next begins. See checker.h. */
#include "ref/world/checker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEVEL 36.0 /* of a pixel that stands out, from the background; purple is 88 from gray */
#define NEAR 40.0  /* at most, of a pixel of the background */
#define NOISE_MOST 20.0 /* standard deviation */
#define REGION_LEAST 24 /* pixels: a disc of radius 2.8 */
/* Two regions that meet are two if the lower one's peak rises by that share of itself above the place. */
#define SADDLE 0.3

/* ---- the background -------------------------------------------------------------------------------- */

/* More than half of the picture is background: in each channel the median is of it. */
static int median(const uint8_t *rgb, int channel) {
    int count[256] = {0}, below = 0, value = 0;
    for (int p = 0; p < WORLD_PIXELS; p++) count[rgb[3 * p + channel]]++;
    while (below + count[value] <= WORLD_PIXELS / 2) below += count[value++];
    return value;
}

static void find_background(const uint8_t *rgb, double background[3]) {
    double at[3], sum[3] = {0};
    int n = 0;
    for (int c = 0; c < 3; c++) background[c] = at[c] = median(rgb, c);
    for (int p = 0; p < WORLD_PIXELS; p++) {
        double square = 0;
        for (int c = 0; c < 3; c++) square += (rgb[3 * p + c] - at[c]) * (rgb[3 * p + c] - at[c]);
        if (square > NEAR * NEAR) continue;
        for (int c = 0; c < 3; c++) sum[c] += rgb[3 * p + c];
        n++;
    }
    for (int c = 0; c < 3 && n; c++) background[c] = sum[c] / n;
}

/* Of neighbours the differences' median, which an edge here and there does not move; more than a picture of
 * this world may have is not called noise. */
static double noise_of(const uint8_t *rgb) {
    int count[256] = {0}, below = 0, value = 0, n = 0;
    for (int p = 0; p < WORLD_PIXELS; p++)
        for (int c = 0; c < 3 && p % WORLD_SIDE; c++, n++)
            count[abs(rgb[3 * p + c] - rgb[3 * p + c - 3])]++;
    while (below + count[value] <= n / 2) below += count[value++];
    /* |a - b| <= value - 1/2 for half of them; of a difference the deviation is sqrt(2) noise's */
    const double within = value > 0 ? value - 0.5 + (n / 2.0 - below) / count[value] : 0;
    return fmin(1.4826 * within / sqrt(2), NOISE_MOST);
}

static int held(int i) { return i < 0 ? 0 : i < WORLD_SIDE ? i : WORLD_SIDE - 1; }

void plane_make(Plane *plane, const uint8_t *rgb) {
    static const double tap[3] = {0.25, 0.5, 0.25};
    const double noise = noise_of(rgb);
    plane->noise = noise * noise * 0.375 * 0.375; /* of each axis the sum of tap^2 */
    find_background(rgb, plane->background);
    for (int p = 0; p < WORLD_PIXELS; p++)
        for (int c = 0; c < 3; c++) plane->pixel[p][c] = rgb[3 * p + c] - plane->background[c];
    for (int p = 0; p < WORLD_PIXELS; p++) {
        const int x = p % WORLD_SIDE, y = p / WORLD_SIDE;
        double sum[3] = {0};
        for (int j = -1; j <= 1; j++)
            for (int i = -1; i <= 1; i++)
                for (int c = 0; c < 3; c++)
                    sum[c] += tap[i + 1] * tap[j + 1] *
                              plane->pixel[held(y + j) * WORLD_SIDE + held(x + i)][c];
        for (int c = 0; c < 3; c++) plane->smooth[p][c] = sum[c];
        plane->height[p] = sqrt(sum[0] * sum[0] + sum[1] * sum[1] + sum[2] * sum[2]);
    }
}

/* ---- regions: a flood from the peaks down ------------------------------------------------------------ */

typedef struct Flood {
    int parent[WORLD_PIXELS]; /* -1: not flooded yet */
    int size[WORLD_PIXELS];   /* of a root */
    double peak[WORLD_PIXELS];
} Flood;

static int root(Flood *f, int p) {
    while (f->parent[p] != p) p = f->parent[p] = f->parent[f->parent[p]];
    return p;
}

typedef struct Drop {
    double height;
    int pixel;
} Drop;

static int higher_first(const void *a, const void *b) {
    const Drop *x = a, *y = b;
    if (x->height != y->height) return x->height > y->height ? -1 : 1;
    return x->pixel - y->pixel;
}

/* Both of two regions that meet at this height are large, and rise well above it. */
static bool stay_apart(const Flood *f, int a, int b, double height) {
    const double lower = fmin(f->peak[a], f->peak[b]);
    return f->size[a] >= REGION_LEAST && f->size[b] >= REGION_LEAST &&
           lower - height > SADDLE * lower;
}

static void flood_pixel(Flood *f, int p, double height) {
    int mine = -1;
    f->parent[p] = p;
    f->size[p] = 1;
    f->peak[p] = height;
    for (int j = -1; j <= 1; j++)
        for (int i = -1; i <= 1; i++) {
            const int x = p % WORLD_SIDE + i, y = p / WORLD_SIDE + j;
            if ((!i && !j) || x < 0 || y < 0 || x >= WORLD_SIDE || y >= WORLD_SIDE) continue;
            const int q = y * WORLD_SIDE + x;
            if (f->parent[q] < 0) continue;
            const int other = root(f, q);
            if (mine < 0) {
                f->parent[p] = mine = other;
                f->size[mine]++;
            } else if (other != mine && !stay_apart(f, mine, other, height)) {
                const int top = f->peak[other] > f->peak[mine] ? other : mine;
                const int under = top == other ? mine : other;
                f->parent[under] = top;
                f->size[top] += f->size[under];
                mine = top;
            }
        }
}

int plane_regions(const Plane *plane, int8_t of[WORLD_PIXELS]) {
    Flood f;
    Drop drop[WORLD_PIXELS];
    int drops = 0, n = 0;
    int8_t number[WORLD_PIXELS];
    memset(f.parent, 0xff, sizeof f.parent);
    memset(number, 0xff, sizeof number);
    for (int p = 0; p < WORLD_PIXELS; p++)
        if (plane->height[p] > LEVEL) drop[drops++] = (Drop){plane->height[p], p};
    qsort(drop, (size_t)drops, sizeof *drop, higher_first);
    for (int i = 0; i < drops; i++) flood_pixel(&f, drop[i].pixel, drop[i].height);
    for (int p = 0; p < WORLD_PIXELS; p++) {
        of[p] = -1;
        if (f.parent[p] < 0) continue;
        const int r = root(&f, p);
        if (f.size[r] < REGION_LEAST) continue;
        if (number[r] < 0 && n < REGIONS_MAX) number[r] = (int8_t)n++;
        of[p] = number[r];
    }
    return n;
}
