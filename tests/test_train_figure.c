/* The paper's Figure 6 for an adapter: every layer's two factors are told and drawn. */
#include "tests/check.h"

#include "ref/pipeline.h"
#include "ref/train/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DOWN "down_blocks.0.attentions.0.transformer_blocks.0.attn2"

static double number(const Weight *w) {
    real x;
    weight_read(w, 0, 1, &x);
    return (double)x;
}

/* After the next mark's title, "<layer>\n<value>": the value, and where the mark stands. */
static const char *next_mark(const char *at, const char *layer, double *value, double *y) {
    char title[160], *end;
    snprintf(title, sizeof title, "<g><title>%s\n", layer);
    at = strstr(at, title);
    if (!at) fail_msg("no mark of %s", layer);
    at += strlen(title);
    *value = strtod(at, &end);
    const char *circle = strstr(end, "cy=\""), *square = strstr(end, " d=\"M");
    if (circle && (!square || circle < square)) {
        *y = strtod(circle + 4, NULL);
    } else {
        assert_non_null(square);
        strtod(square + 5, &end);
        *y = strtod(end, NULL);
    }
    return end;
}

static void factors_are_drawn(void **state) {
    const char *set[] = {*state};
    Error err = {0};
    Pack pack;
    const PackPaths paths = {.model = "golden/micro", .set = set, .sets = *state != NULL};
    if (pack_open(&pack, &paths, PACK_GENERATE, &err)) fail_msg("%s", err.message);
    char *svg = figure6_svg(pack.adapter, pack.unet, 1234, &err);
    if (!svg) fail_msg("%s", err.message);
    assert_non_null(strstr(svg, "after 1234 steps"));
    const char *at = svg;
    double v[2][16], y[2][16];
    const int64_t layers = pack.unet->cross_layers;
    assert_true(layers > 2 && layers <= 16);
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < layers; i++) {
            const AddedAttention *l = &pack.adapter->layer[i];
            const Weight *a = k ? l->blend.a2 : l->blend.a1, *b = k ? l->blend.b2 : l->blend.b1;
            const char *name = pack.unet->cross[i].name;
            const bool active = !*state || strcmp(name, DOWN) == 0;
            const double truth = active ? number(a) * exp(number(b)) : k ? 0 : 1;
            at = next_mark(at, name, &v[k][i], &y[k][i]);
            if (!(fabs(v[k][i] - truth) <= 1e-5 * fabs(truth)))
                fail_msg("%s: %g for %g", name, v[k][i], truth);
        }
    /* higher on the page is more, and as much as it should */
    const double scale = (y[0][1] - y[1][0]) / (v[0][1] - v[1][0]);
    assert_true(scale < 0);
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < layers; i++)
            assert_true(fabs(y[k][i] - y[0][1] - scale * (v[k][i] - v[0][1])) < 0.2);
    free(svg);
    pack_close(&pack);
}

int main(void) {
    static char one_layer[] = "layers=[\"" DOWN "\"]";
    const struct CMUnitTest tests[] = {
        {"all layers", factors_are_drawn, NULL, NULL, NULL},
        {"one layer blends", factors_are_drawn, NULL, NULL, one_layer},
    };
    return cmocka_run_group_tests_name("Figure 6", tests, NULL, NULL);
}
