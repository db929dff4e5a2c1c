/* Other names for ours: a JSON object {"their name": "our name"}. See yardstick.h.
 *
 * A `*` in their name stands for any text, which takes the place of the `*` in ours: the first for
 * the first, and so on. "blocks.*.mlp": "llm/mlp.*" makes "llm/mlp.7" of "blocks.7.mlp". An exact
 * name is found before a pattern, a pattern before those below it. */
#include "ref/yardstick/yardstick.h"

#include "weights/file.h"
#include "weights/json.h"

#include <stdlib.h>
#include <string.h>

#define STARS_MAX 8

struct NameMap {
    char *path;
    cJSON *json;
};

/* ---- the file ------------------------------------------------------------------------------------ */

static int stars(const char *text) {
    int n = 0;
    for (; *text; text++) n += *text == '*';
    return n;
}

static int check_rule(const char *path, const cJSON *rule, Error *err) {
    const char *ours = cJSON_GetStringValue(rule);
    if (!ours) return fail(err, "%s: \"%s\": expected a name in quotes", path, rule->string);
    if (!*ours || !*rule->string)
        return fail(err, "%s: \"%s\": expected names that are not empty", path, rule->string);
    const int n = stars(rule->string), m = stars(ours);
    if (n > STARS_MAX)
        return fail(err, "%s: \"%s\": expected at most %d '*'", path, rule->string, STARS_MAX);
    if (n != m)
        return fail(err, "%s: \"%s\": expected as many '*' as in \"%s\", %d, found %d", path,
                    rule->string, ours, m, n);
    if (strstr(rule->string, "**"))
        return fail(err, "%s: \"%s\": expected something between two '*'", path, rule->string);
    return 0;
}

static int check_rules(const NameMap *map, Error *err) {
    bool no_memory = false;
    const char *twice = json_duplicate(map->json, &no_memory);
    if (no_memory) return fail(err, "%s: out of memory", map->path);
    if (twice) return fail(err, "%s: \"%s\" is there twice", map->path, twice);
    for (const cJSON *rule = map->json->child; rule; rule = rule->next)
        if (check_rule(map->path, rule, err)) return -1;
    return 0;
}

NameMap *name_map_open(const char *path, Error *err) {
    size_t size;
    NameMap *map = calloc(1, sizeof *map);
    char *text = map ? file_read(path, &size, err) : NULL;
    if (text) map->json = json_parse_object(text, size, path, err);
    if (map) map->path = strdup(path);
    free(text);
    if (!map || !map->path) fail(err, "%s: out of memory", path);
    if (!err->set && check_rules(map, err) == 0) return map;
    name_map_free(map);
    return NULL;
}

void name_map_free(NameMap *map) {
    if (!map) return;
    cJSON_Delete(map->json);
    free(map->path);
    free(map);
}

/* ---- applying it --------------------------------------------------------------------------------- */

typedef struct Piece {
    const char *text;
    size_t length;
} Piece;

/* Where `part` [n] first is in text, whose end is `end`. NULL: nowhere. */
static const char *find_part(const char *text, const char *end, const char *part, size_t n) {
    for (; (size_t)(end - text) >= n; text++)
        if (memcmp(text, part, n) == 0) return text;
    return NULL;
}

/* Whether the pattern fits the whole name, and what each star stands for: the shortest text, from
 * left to right, that lets the part behind it follow. */
static bool fits(const char *pattern, const char *name, Piece star[STARS_MAX]) {
    const char *end = name + strlen(name);
    size_t before = strcspn(pattern, "*");
    if (strncmp(pattern, name, before) != 0) return false;
    name += before;
    pattern += before;
    for (int i = 0; *pattern; i++) {
        pattern++; /* the star */
        size_t part = strcspn(pattern, "*");
        bool last = pattern[part] == '\0';
        const char *at = (size_t)(end - name) < part ? NULL
                         : last                      ? end - part
                                                     : find_part(name, end, pattern, part);
        if (!at || memcmp(at, pattern, part) != 0) return false;
        star[i] = (Piece){name, (size_t)(at - name)};
        name = at + part;
        pattern += part;
    }
    return true; /* the last part was looked for at the end */
}

/* `ours` with the texts in place of its stars. */
static int fill_in(const NameMap *map, const char *ours, const Piece *star, char *out, size_t size,
                   const char *theirs, Error *err) {
    size_t used = 0;
    for (; *ours; ours++) {
        Piece piece = *ours == '*' ? *star++ : (Piece){ours, 1};
        if (piece.length >= size - used)
            return fail(err, "%s: the name for \"%s\" has more than %zu bytes", map->path, theirs,
                        size - 1);
        memcpy(out + used, piece.text, piece.length);
        used += piece.length;
    }
    out[used] = '\0';
    return 0;
}

int name_map_apply(const NameMap *map, const char *theirs, char *out, size_t size, Error *err) {
    Piece star[STARS_MAX] = {{theirs, strlen(theirs)}};
    const cJSON *exact = cJSON_GetObjectItemCaseSensitive(map->json, theirs);
    if (exact && !strchr(theirs, '*'))
        return fill_in(map, exact->valuestring, star, out, size, theirs, err);
    for (const cJSON *rule = map->json->child; rule; rule = rule->next)
        if (strchr(rule->string, '*') && fits(rule->string, theirs, star))
            return fill_in(map, rule->valuestring, star, out, size, theirs, err);
    star[0] = (Piece){theirs, strlen(theirs)};
    return fill_in(map, "*", star, out, size, theirs, err);
}
