/* The small world drawn as golden/world/world.py draws it, to the byte; Wilson's interval. */
#include "world_case.h"

#include "weights/json.h"
#include "weights/sha256.h"

static int number_of(const cJSON *o, const char *key, const char *const *names, int n) {
    const cJSON *item = cJSON_GetObjectItem(o, key);
    for (int k = 0; k < n; k++)
        if (strcmp(names[k], item->valuestring) == 0) return k;
    fail_msg("%s: %s", key, item->valuestring);
    return OPEN;
}

static WorldScene scene_of(const cJSON *json) {
    WorldScene s = {.background = number_of(json, "background", world_background, BACKGROUNDS)};
    const cJSON *o;
    cJSON_ArrayForEach(o, cJSON_GetObjectItem(json, "objects")) s.object[s.count++] = (WorldObject){
        number_of(o, "shape", world_shape, SHAPES), number_of(o, "color", world_color, COLORS),
        number_of(o, "size", world_size, SIZES),    cJSON_GetObjectItem(o, "x")->valuedouble,
        cJSON_GetObjectItem(o, "y")->valuedouble,   cJSON_GetObjectItem(o, "r")->valuedouble};
    return s;
}

static void scenes_are_drawn_to_the_byte(void **state) {
    (void)state;
    Error err = {0};
    size_t size, whole;
    int compared = 0;
    char *text = file_read(WORLD_GOLDEN "scenes.jsonl", &size, &err), hex[SHA256_HEX];
    char *picture = file_read(WORLD_GOLDEN "picture.rgb", &whole, &err);
    uint8_t rgb[WORLD_BYTES];
    if (err.set) fail_msg("%s", err.message);
    assert_int_equal(whole, WORLD_BYTES);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), compared++) {
        cJSON *json = json_parse_object(line, strlen(line), "scenes.jsonl", &err);
        if (!json) fail_msg("%s", err.message);
        const WorldScene s = scene_of(cJSON_GetObjectItem(json, "scene"));
        world_render(&s, rgb);
        if (compared == 0) assert_memory_equal(rgb, picture, WORLD_BYTES);
        sha256_bytes(rgb, sizeof rgb, hex);
        assert_string_equal(hex, cJSON_GetObjectItem(json, "sha256")->valuestring);
        cJSON_Delete(json);
    }
    assert_int_equal(compared, 111);
    free(text);
    free(picture);
}

/* Values of scipy.stats.binomtest(k, n).proportion_ci(method="wilson"). */
static void wilsons_interval(void **state) {
    (void)state;
    static const struct {
        int64_t passed, asked;
        double low, high;
    } c[] = {{0, 10, 0, 0.27753279986288926},
             {10, 10, 0.7224672001371107, 1},
             {57, 60, 0.8629948352365148, 0.9828504978356044},
             {1, 3, 0.06149194472039638, 0.7923403991979523},
             {350, 700, 0.463061379448263, 0.536938620551737},
             {0, 0, 0, 1}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        double low, high;
        wilson_interval(c[i].passed, c[i].asked, &low, &high);
        if (!(fabs(low - c[i].low) < 1e-12 && fabs(high - c[i].high) < 1e-12))
            fail_msg("%lld of %lld: %.17g to %.17g", (long long)c[i].passed, (long long)c[i].asked,
                     low, high);
    }
}

/* What the checker is tried on has the blur and the noise that it says. */
static void pictures_are_made_worse_by_what_is_said(void **state) {
    (void)state;
    uint8_t rgb[WORLD_BYTES], again[WORLD_BYTES];
    double sum = 0, square = 0;
    memset(rgb, 128, sizeof rgb);
    world_degrade(rgb, 1, 0.05, 7);
    for (int i = 0; i < WORLD_BYTES; i++) {
        sum += rgb[i] - 128;
        square += (rgb[i] - 128) * (rgb[i] - 128);
    }
    assert_true(fabs(sum / WORLD_BYTES) < 0.5);
    assert_true(fabs(sqrt(square / WORLD_BYTES) - 0.05 * 255) < 0.3);
    memset(again, 128, sizeof again);
    world_degrade(again, 1, 0.05, 7);
    assert_memory_equal(rgb, again, sizeof rgb);
    world_degrade(again, 0, 0.05, 8);
    assert_memory_not_equal(rgb, again, sizeof rgb);

    memset(rgb, 0, sizeof rgb); /* one pixel, blurred: its own share is (0.3991)^2 */
    for (int c = 0; c < 3; c++) rgb[3 * (32 * WORLD_SIDE + 32) + c] = 255;
    world_degrade(rgb, 1, 0, 0);
    assert_int_equal(rgb[3 * (32 * WORLD_SIDE + 32)], 41);
    assert_int_equal(rgb[3 * (32 * WORLD_SIDE + 33)], 25);
    assert_int_equal(rgb[3 * (34 * WORLD_SIDE + 32)], 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scenes_are_drawn_to_the_byte),
        cmocka_unit_test(wilsons_interval),
        cmocka_unit_test(pictures_are_made_worse_by_what_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
