/* suite.jsonl read, and refused where it is wrong. See suite.h. */
#include "ref/world/suite.h"

#include "weights/file.h"
#include "weights/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where in the file: "suite.jsonl:7", and below it "expect.objects[1]". */
typedef struct Place {
    char where[4200], key[100];
    Error *err;
} Place;

static Place below(const Place *at, const char *key, int index) {
    Place p = *at;
    const size_t n = strlen(p.key);
    snprintf(p.key + n, sizeof p.key - n, "%s%s", n ? "." : "", key);
    const size_t m = strlen(p.key);
    if (index >= 0) snprintf(p.key + m, sizeof p.key - m, "[%d]", index);
    return p;
}

/* What the file has there, short enough for a message. */
static void show(const cJSON *item, char out[80]) {
    char *text = item ? cJSON_PrintUnformatted(item) : NULL;
    snprintf(out, 80, "%s", text ? text : "nothing");
    if (text && strlen(text) > 79) memcpy(out + 60, " ...", 5);
    cJSON_free(text);
}

static int refuse(const Place *at, const char *expected, const cJSON *found) {
    char text[80];
    show(found, text);
    return fail(at->err, "%s: %s: expected %s, found %s", at->where, at->key, expected, text);
}

/* ---- values ------------------------------------------------------------------------------------------ */

static int check_keys(const Place *at, const cJSON *object, const char *const *keys) {
    bool failed = false;
    if (!cJSON_IsObject(object)) return refuse(at, "an object { }", object);
    const char *twice = json_duplicate(object, &failed);
    if (failed) return fail(at->err, "out of memory");
    const char *colon = *at->key ? ": " : "";
    if (twice)
        return fail(at->err, "%s: %s%skey \"%.40s\" is there twice", at->where, at->key, colon,
                    twice);
    for (const cJSON *i = object->child; i; i = i->next) {
        const char *const *k = keys;
        while (*k && strcmp(*k, i->string) != 0) k++;
        if (!*k)
            return fail(at->err, "%s: %s%sunknown key \"%.40s\"", at->where, at->key, colon,
                        i->string);
    }
    return 0;
}

/* One of n names, as its number; left alone where the key is absent and may be. */
static int take_name(const Place *at, const cJSON *object, const char *key, bool needed,
                     const char *const *names, int n, int *out) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    const Place p = below(at, key, -1);
    if (!item && !needed) return 0;
    for (int k = 0; k < n && cJSON_IsString(item); k++)
        if (strcmp(names[k], item->valuestring) == 0) {
            *out = k;
            return 0;
        }
    char list[200] = "";
    for (int k = 0; k < n; k++) {
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s",
                 k == 0       ? ""
                 : k + 1 == n ? " or "
                              : ", ",
                 names[k]);
    }
    return refuse(&p, list, item);
}

static int take_number(const Place *at, const cJSON *object, const char *key, double min,
                       double max, double *out) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    const Place p = below(at, key, -1);
    char expected[80];
    *out = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    if (*out >= min && *out <= max) return 0;
    snprintf(expected, sizeof expected, "a number of %g to %g", min, max);
    return refuse(&p, expected, item);
}

/* A whole number of min to max. */
static int whole(const Place *at, const cJSON *item, int min, int max, int *out) {
    int64_t n;
    char expected[80];
    if (json_count(item, &n) && n >= min && n <= max) {
        *out = (int)n;
        return 0;
    }
    snprintf(expected, sizeof expected, "a whole number of %d to %d", min, max);
    return refuse(at, expected, item);
}

/* Text that may be a file's name and a table's cell. */
static char *take_label(const Place *at, const cJSON *object, const char *key, bool needed) {
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    const Place p = below(at, key, -1);
    const char *text = cJSON_IsString(item) ? item->valuestring : !item && !needed ? "" : NULL;
    char *copy;
    if (!text || (needed && !*text) || *text == '.' || strlen(text) > 64 ||
        text[strspn(text, letters)]) {
        refuse(&p, "1 to 64 letters, digits, '.', '_', '-'", item);
        return NULL;
    }
    copy = strdup(text);
    if (!copy) fail(at->err, "out of memory");
    return copy;
}

/* Its length, -1 with a message if it is no array or has more than `most`; absent counts as empty. */
static int take_array(const Place *at, const cJSON *object, const char *key, bool needed, int most,
                      const cJSON **out) {
    const Place p = below(at, key, -1);
    char expected[80];
    *out = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!*out && !needed) return 0;
    const int n = cJSON_IsArray(*out) ? cJSON_GetArraySize(*out) : most + 1;
    snprintf(expected, sizeof expected, "an array of at most %d", most);
    return n <= most ? n : refuse(&p, expected, *out);
}

/* ---- what a line holds ------------------------------------------------------------------------------- */

static int take_attributes(const Place *at, const cJSON *item, bool needed, WorldObject *o) {
    *o = (WorldObject){.shape = OPEN, .color = OPEN, .size = OPEN};
    return take_name(at, item, "shape", needed, world_shape, SHAPES, &o->shape) ||
                   take_name(at, item, "color", needed, world_color, COLORS, &o->color) ||
                   take_name(at, item, "size", needed, world_size, SIZES, &o->size)
               ? -1
               : 0;
}

static int take_scene(const Place *at, const cJSON *item, WorldScene *scene) {
    static const char *const keys[] = {"background", "objects", NULL}, *const object_keys[] = {
                                                                           "shape", "color", "size",
                                                                           "x",     "y",     "r",
                                                                           NULL};
    const cJSON *objects;
    if (check_keys(at, item, keys) ||
        take_name(at, item, "background", true, world_background, BACKGROUNDS, &scene->background))
        return -1;
    scene->count = take_array(at, item, "objects", true, WORLD_OBJECTS, &objects);
    for (int k = 0; k < scene->count; k++) {
        const Place p = below(at, "objects", k);
        const cJSON *object = cJSON_GetArrayItem(objects, k);
        WorldObject *o = &scene->object[k];
        if (check_keys(&p, object, object_keys) || take_attributes(&p, object, true, o) ||
            take_number(&p, object, "x", 0, WORLD_SIDE, &o->x) ||
            take_number(&p, object, "y", 0, WORLD_SIDE, &o->y) ||
            take_number(&p, object, "r", 1, WORLD_SIDE / 2, &o->r))
            return -1;
        if ((o->r < WORLD_SIZE_BOUNDARY) != (o->size == SMALL))
            return fail(at->err, "%s: %s: expected a radius %s %g of a %s object, found %g",
                        at->where, p.key, o->size == SMALL ? "below" : "of at least",
                        WORLD_SIZE_BOUNDARY, world_size[o->size], o->r);
    }
    return scene->count < 0 ? -1 : 0;
}

static int take_relation(const Place *at, const cJSON *item, Expect *e) {
    const int i = e->relations;
    const cJSON *second = cJSON_GetArrayItem(item, 2);
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != 3)
        return refuse(at, "[object, relation, object]", item);
    cJSON *name = cJSON_GetArrayItem(item, 1);
    if (whole(at, cJSON_GetArrayItem(item, 0), 0, e->objects - 1, &e->relation[i].first) ||
        whole(at, second, 0, e->objects - 1, &e->relation[i].second))
        return -1;
    if (e->relation[i].first == e->relation[i].second) return refuse(at, "two objects", item);
    for (int k = 0; k < RELATIONS && cJSON_IsString(name); k++)
        if (strcmp(name->valuestring, world_relation[k]) == 0) {
            e->relation[i].relation = k;
            e->relations++;
            return 0;
        }
    return refuse(at, "left of, right of, above or below", name);
}

static int take_expect(const Place *at, const cJSON *item, Expect *e) {
    static const char *const keys[] = {"count",     "background", "objects",
                                       "relations", "absent",     NULL};
    static const char *const object_keys[] = {"shape", "color", "size", NULL};
    const cJSON *objects, *relations, *absent, *count;
    *e = (Expect){.count = OPEN, .background = OPEN};
    if (check_keys(at, item, keys) ||
        take_name(at, item, "background", false, world_background, BACKGROUNDS, &e->background))
        return -1;
    const Place at_count = below(at, "count", -1);
    count = cJSON_GetObjectItemCaseSensitive(item, "count");
    if (count && whole(&at_count, count, 1, WORLD_OBJECTS, &e->count)) return -1;
    e->objects = take_array(at, item, "objects", true, EXPECT_OBJECTS, &objects);
    const int relation_count =
        take_array(at, item, "relations", false, EXPECT_RELATIONS, &relations);
    e->absents = take_array(at, item, "absent", false, EXPECT_ABSENT, &absent);
    if (at->err->set) return -1;
    for (int k = 0; k < e->objects + e->absents; k++) {
        const bool there = k < e->objects;
        const int i = there ? k : k - e->objects;
        const Place p = below(at, there ? "objects" : "absent", i);
        const cJSON *object = cJSON_GetArrayItem(there ? objects : absent, i);
        if (check_keys(&p, object, object_keys) ||
            take_attributes(&p, object, false, there ? &e->object[i] : &e->absent[i]))
            return -1;
        if (!there && !object->child) return refuse(&p, "a shape, color or size", object);
    }
    for (int i = 0; i < relation_count; i++) {
        const Place p = below(at, "relations", i);
        if (take_relation(&p, cJSON_GetArrayItem(relations, i), e)) return -1;
    }
    return 0;
}

/* A scene that the prompt is not true of would count against the checker. */
static int check_truth(const Place *at, const SuiteEntry *entry) {
    Judgement v;
    expect_judge(&entry->expect, &entry->scene, &v);
    for (int i = 0; i < v.count; i++)
        if (!v.statement[i].holds)
            return fail(at->err,
                        "%s: scene: expected one of which all of \"expect\" is true, found a "
                        "statement on %s that is not",
                        at->where, statement_name[v.statement[i].kind]);
    if (v.count == 1)
        return fail(at->err, "%s: expect: expected a statement, found none", at->where);
    return 0;
}

static int take_entry(const Place *at, const cJSON *json, SuiteEntry *entry) {
    static const char *const keys[] = {"id", "split", "kind", "prompt", "scene", "expect", NULL};
    const Place scene = below(at, "scene", -1), expect = below(at, "expect", -1),
                at_prompt = below(at, "prompt", -1);
    const cJSON *prompt = cJSON_GetObjectItemCaseSensitive(json, "prompt");
    if (check_keys(at, json, keys)) return -1;
    if (!(entry->id = take_label(at, json, "id", true)) ||
        !(entry->split = take_label(at, json, "split", true)) ||
        !(entry->kind = take_label(at, json, "kind", false)))
        return -1;
    if (!cJSON_IsString(prompt)) return refuse(&at_prompt, "a text", prompt);
    entry->prompt = strdup(prompt->valuestring);
    if (!entry->prompt) return fail(at->err, "out of memory");
    if (take_scene(&scene, cJSON_GetObjectItemCaseSensitive(json, "scene"), &entry->scene) ||
        take_expect(&expect, cJSON_GetObjectItemCaseSensitive(json, "expect"), &entry->expect))
        return -1;
    return check_truth(at, entry);
}

/* ---- the file ---------------------------------------------------------------------------------------- */

static void entry_free(SuiteEntry *e) {
    free(e->id);
    free(e->split);
    free(e->kind);
    free(e->prompt);
}

static int take_line(const char *path, const char *text, size_t size, int64_t line, Suite *suite,
                     Error *err) {
    Place at = {.err = err};
    snprintf(at.where, sizeof at.where, "%.4000s:%lld", path, (long long)line);
    cJSON *json = json_parse_object(text, size, at.where, err);
    if (!json) return -1;
    SuiteEntry *more = realloc(suite->entry, ((size_t)suite->count + 1) * sizeof *more);
    if (!more) {
        cJSON_Delete(json);
        return fail(err, "out of memory");
    }
    suite->entry = more;
    more[suite->count] = (SuiteEntry){.line = line, .index = suite->count};
    const int status = take_entry(&at, json, &more[suite->count++]);
    cJSON_Delete(json);
    return status;
}

static int by_id(const void *a, const void *b) {
    const SuiteEntry *const *p = a, *const *q = b;
    const int order = strcmp((*p)->id, (*q)->id);
    return order ? order : (*p)->index < (*q)->index ? -1 : 1;
}

static int check_ids(const char *path, const Suite *suite, Error *err) {
    const size_t n = (size_t)suite->count;
    const SuiteEntry **sorted = malloc(n * sizeof *sorted);
    if (!sorted) return fail(err, "out of memory");
    for (size_t i = 0; i < n; i++) sorted[i] = &suite->entry[i];
    qsort(sorted, n, sizeof *sorted, by_id);
    for (size_t i = 1; i < n; i++)
        if (strcmp(sorted[i - 1]->id, sorted[i]->id) == 0)
            fail(err, "%s:%lld: id: \"%s\" is line %lld's already", path,
                 (long long)sorted[i]->line, sorted[i]->id, (long long)sorted[i - 1]->line);
    free(sorted);
    return err->set ? -1 : 0;
}

int suite_read(const char *path, Suite *suite, Error *err) {
    size_t size;
    int64_t line = 0;
    *suite = (Suite){0};
    char *text = file_read(path, &size, err);
    if (!text) return -1;
    for (const char *at = text, *end = text + size; at < end && !err->set;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const size_t n = stop ? (size_t)(stop - at) : (size_t)(end - at);
        size_t blank = 0;
        line++;
        while (blank < n && strchr(" \t\r", at[blank]) && at[blank]) blank++;
        if (blank < n) take_line(path, at, n, line, suite, err);
        at += n + 1;
    }
    free(text);
    if (!err->set && suite->count == 0)
        fail(err, "%s: expected a prompt in each line, found none", path);
    return err->set ? -1 : check_ids(path, suite, err);
}

void suite_free(Suite *suite) {
    for (int64_t i = 0; i < suite->count; i++) entry_free(&suite->entry[i]);
    free(suite->entry);
    *suite = (Suite){0};
}
