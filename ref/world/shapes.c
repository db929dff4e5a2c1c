/* Soft shapes: a circle, a square, a triangle (or one of two that the world has not) whose edges are ramps, and its fit to pixels. Where the
 * coverage w is given, the colour that fits best is sum(w v) / sum(w w), v the pixels minus the background;
 * place, radius and ramp are searched. See checker.h. */
#include "ref/world/checker.h"

#include <math.h>

#define EDGE_LEAST 0.6
#define RADIUS_LEAST 2.0
#define RADIUS_MOST 32.0
#define FINEST 0.06 /* pixels */

/* From 0 to 1 as d goes from -edge to edge: like an edge behind a Gaussian blur. */
static double ramp(double d, double inverse) {
    const double t = fmin(fmax(0.5 + 0.5 * d * inverse, 0), 1);
    return t * t * (3 - 2 * t);
}

void shape_coverage(const SoftShape *s, int x0, int y0, int x1, int y1, double *coverage) {
    const double inverse = 1 / s->edge, r = s->r;
    double across[WORLD_SIDE];
    const double half = WORLD_SQUARE * r;
    for (int x = x0; x < x1 && s->shape == SQUARE; x++)
        across[x] = ramp(half - fabs(x + 0.5 - s->x), inverse);
    for (int y = y0; y < y1; y++) {
        const double dy = s->shape == HANGING_TRIANGLE ? s->y - y - 0.5 : y + 0.5 - s->y;
        const double down =
            ramp(s->shape == SQUARE ? half - fabs(dy) : WORLD_BASE * r - dy, inverse);
        for (int x = x0; x < x1; x++) {
            const double dx = x + 0.5 - s->x;
            double w;
            if (s->shape == CIRCLE) {
                w = ramp(r - sqrt(dx * dx + dy * dy), inverse);
            } else if (s->shape == SQUARE) {
                w = down * across[x];
            } else if (s->shape == DIAMOND) {
                w = ramp(0.7071067811865476 * (1.25 * r - fabs(dx) - fabs(dy)), inverse);
            } else { /* equilateral: its sides' normals are (+-sqrt(3) / 2, -1 / 2) */
                const double at = 0.5 * (dy + WORLD_APEX * r), wing = 0.8660254037844386 * dx;
                w = down * ramp(at - wing, inverse) * ramp(at + wing, inverse);
            }
            *coverage++ = w;
        }
    }
}

void shape_weigh(SoftShape *s, const double (*values)[3], const Patch *patch) {
    double w[WORLD_PIXELS], ww = 0, wv[3] = {0}, vv = 0;
    const double *at = w;
    shape_coverage(s, patch->x0, patch->y0, patch->x1, patch->y1, w);
    for (int y = patch->y0; y < patch->y1; y++)
        for (int x = patch->x0; x < patch->x1; x++, at++) {
            const int p = y * WORLD_SIDE + x;
            if (!patch->care[p]) continue;
            const double *v = values[p];
            ww += *at * *at;
            for (int c = 0; c < 3; c++) wv[c] += *at * v[c];
            vv += v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
        }
    s->error = vv;
    for (int c = 0; c < 3; c++) {
        s->color[c] = ww > 0 ? wv[c] / ww : 0;
        s->error -= s->color[c] * wv[c];
    }
}

/* Is it better with its parameters changed so? */
static bool try_step(SoftShape *best, double dx, double dy, double dr, double de,
                     const double (*values)[3], const Patch *patch) {
    SoftShape s = *best;
    s.x += dx;
    s.y += dy;
    s.r = fmin(fmax(s.r + dr, RADIUS_LEAST), RADIUS_MOST);
    s.edge = fmin(fmax(s.edge + de, EDGE_LEAST), EDGE_MOST);
    shape_weigh(&s, values, patch);
    if (!(s.error < best->error)) return false;
    *best = s;
    return true;
}

void shape_fit(SoftShape *s, const double (*values)[3], const Patch *patch) {
    s->edge = 1.5;
    shape_weigh(s, values, patch);
    for (double step = 1; step > FINEST; step /= 2) {
        bool better = true;
        for (int round = 0; better && round < 12; round++) {
            better = false;
            for (int sign = -1; sign <= 1; sign += 2) {
                const double d = sign * step;
                better |= try_step(s, d, 0, 0, 0, values, patch);
                better |= try_step(s, 0, d, 0, 0, values, patch);
                better |= try_step(s, 0, 0, d, 0, values, patch);
                better |= try_step(s, 0, 0, 0, d, values, patch);
            }
        }
    }
}
