/* manifest.json: every field looked at, and what is wrong named with its place. See kit.h. */
#include "ref/yardstick/kit.h"
#include "weights/file.h"
#include "weights/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_MAX 64
#define CASES_MAX 4096
#define INPUTS_MAX 4096
#define OUTPUTS_MAX 65536
#define NAME_MAX_CHARS 200

static const char *const kind_name[KIT_KINDS] = {"operators", "modules", "algorithm1",
                                                 "unet",      "picture", "train"};

/* Where in the file we are, and what was wrong so far. */
typedef struct Reader {
    const char *file;
    char place[512];
    char problem[4096];
    size_t problems, told; /* of which `problem` has the first few */
    Error *err;            /* for lack of memory alone */
} Reader;

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static void
wrong(Reader *r, const char *key, const char *fmt, ...) {
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    const size_t used = strlen(r->problem);
    r->problems++;
    if (used + sizeof r->place + sizeof what + 80 > sizeof r->problem) return;
    r->told++;
    snprintf(r->problem + used, sizeof r->problem - used, "%s%s%s%s: %s", used ? "; " : "",
             r->place, *r->place && *key ? "." : "", key, what);
}

/* Goes on to a part of where we are; `leave` with what it returned goes back. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static size_t
enter(Reader *r, const char *fmt, ...) {
    const size_t before = strlen(r->place);
    va_list args;
    va_start(args, fmt);
    vsnprintf(r->place + before, sizeof r->place - before, fmt, args);
    va_end(args);
    return before;
}
static void leave(Reader *r, size_t before) { r->place[before] = '\0'; }

static void *need(Reader *r, size_t n, size_t size) {
    void *p = calloc(n + 1, size);
    if (!p) fail(r->err, "%s: out of memory", r->file);
    return p;
}

/* ---- fields --------------------------------------------------------------------------------------- */

static const cJSON *field(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const char *kind_of(const cJSON *item) {
    return !item                  ? "nothing"
           : cJSON_IsString(item) ? "a text"
           : cJSON_IsNumber(item) ? "a number"
           : cJSON_IsArray(item)  ? "a list"
           : cJSON_IsObject(item) ? "an object"
           : cJSON_IsNull(item)   ? "null"
                                  : "true or false";
}

static bool is_object(Reader *r, const cJSON *item, const char *key) {
    if (!cJSON_IsObject(item)) {
        wrong(r, key, "expected an object, found %s", kind_of(item));
        return false;
    }
    bool failed = false;
    const char *twice = json_duplicate(item, &failed);
    if (failed) fail(r->err, "%s: out of memory", r->file);
    if (twice) wrong(r, key, "the key \"%.80s\" stands there twice", twice);
    return !twice && !failed;
}

/* A list of at most `most`; NULL if it isn't one. `required`: absent is wrong, too. */
static const cJSON *list(Reader *r, const cJSON *object, const char *key, bool required,
                         size_t most, size_t *n) {
    const cJSON *item = field(object, key);
    *n = 0;
    if (!item && !required) return NULL;
    if (!cJSON_IsArray(item)) {
        wrong(r, key, "expected a list, found %s", kind_of(item));
        return NULL;
    }
    for (const cJSON *e = item->child; e; e = e->next) ++*n;
    if (*n > most) {
        wrong(r, key, "expected at most %zu entries, found %zu", most, *n);
        *n = 0;
        return NULL;
    }
    return item;
}

/* A name goes into messages and reports: no control characters, not endless, not empty. */
static bool plain(const char *text) {
    const size_t n = strlen(text);
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f) return false;
    return n > 0 && n <= NAME_MAX_CHARS;
}

static const char *text_of(Reader *r, const cJSON *item, const char *key) {
    if (!cJSON_IsString(item))
        wrong(r, key, "expected a text, found %s", kind_of(item));
    else if (!plain(item->valuestring))
        wrong(r, key, "expected 1 to %d characters and no control characters among them",
              NAME_MAX_CHARS);
    else
        return item->valuestring;
    return "";
}

static const char *text(Reader *r, const cJSON *object, const char *key) {
    return text_of(r, field(object, key), key);
}

static const char *optional_text(Reader *r, const cJSON *object, const char *key) {
    const cJSON *item = field(object, key);
    return !item || cJSON_IsNull(item) ? NULL : text_of(r, item, key);
}

/* A path that stays below the kit: the manifest may come from anywhere. */
static const char *inner_path(Reader *r, const cJSON *object, const char *key) {
    const char *path = text(r, object, key);
    bool escapes = path[0] == '/';
    for (const char *p = path; *p; p += strcspn(p, "/"), p += *p == '/')
        escapes |= strcspn(p, "/") == 2 && p[0] == '.' && p[1] == '.';
    if (escapes) wrong(r, key, "expected a path below the kit, found \"%.120s\"", path);
    return escapes ? "" : path;
}

/* ---- an output ------------------------------------------------------------------------------------ */

static double error_of(Reader *r, const cJSON *object, const char *key) {
    const cJSON *item = field(object, key);
    if (!item || cJSON_IsNull(item)) return NAN;
    if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble <= YARDSTICK_MAX)
        return item->valuedouble;
    wrong(r, key, "expected a number of 0 to %d, found %s", YARDSTICK_MAX,
          cJSON_IsNumber(item) ? "another number" : kind_of(item));
    return NAN;
}

static Yardstick yardstick(Reader *r, const cJSON *object, const char *key) {
    const cJSON *item = field(object, key);
    Yardstick y = {NAN, NAN, NAN};
    if (!item || !is_object(r, item, key)) return y; /* integers have none */
    const size_t at = enter(r, "%s%s", *r->place ? "." : "", key);
    y = (Yardstick){error_of(r, item, "float32"), error_of(r, item, "float16"),
                    error_of(r, item, "bfloat16")};
    leave(r, at);
    return y;
}

static void read_shape(Reader *r, const cJSON *object, KitOutput *o) {
    size_t n;
    const cJSON *shape = list(r, object, "shape", true, STORED_MAX_DIMS, &n);
    for (const cJSON *e = shape ? shape->child : NULL; e; e = e->next) {
        int64_t dim = 0;
        if (!json_count(e, &dim) || dim > (int64_t)1 << 32)
            wrong(r, "shape", "expected whole numbers of 0 to 2^32");
        o->dim[o->ndim++] = dim;
    }
}

static void read_output(Reader *r, const cJSON *item, const KitCase *c, bool walk, KitOutput *o) {
    if (!is_object(r, item, "")) return;
    o->name = text(r, item, "name");
    read_shape(r, item, o);
    if (walk && field(item, "yardstick")) {
        const cJSON *both = field(item, "yardstick");
        const size_t at = enter(r, ".yardstick");
        if (is_object(r, both, ""))
            for (int m = 0; m < KIT_MODES; m++)
                o->yardstick[m] = yardstick(r, both, kit_mode_name((KitMode)m));
        leave(r, at);
    } else {
        o->yardstick[0] = o->yardstick[1] = yardstick(r, item, "yardstick");
    }
    const size_t size = strlen(c->name) + strlen(o->name) + 2;
    o->stored = need(r, size, 1);
    if (o->stored) snprintf(o->stored, size, "%s%s%s", c->name, walk ? "" : "/", o->name);
}

/* ---- a case --------------------------------------------------------------------------------------- */

static void read_inputs(Reader *r, const cJSON *object, const char *key, KitCase *c) {
    size_t n, i = 0;
    const cJSON *inputs = list(r, object, key, true, INPUTS_MAX, &n);
    c->input = need(r, n, sizeof *c->input);
    if (!inputs || !c->input) return;
    c->inputs = n;
    for (const cJSON *e = inputs->child; e; e = e->next, i++) {
        char at[64];
        snprintf(at, sizeof at, "%s[%zu]", key, i);
        c->input[i] = text_of(r, e, at);
    }
}

static void read_outputs(Reader *r, const cJSON *object, KitCase *c, bool walk) {
    size_t n, i = 0;
    const cJSON *outputs = list(r, object, "outputs", true, OUTPUTS_MAX, &n);
    c->output = need(r, n, sizeof *c->output);
    if (!outputs || !c->output) return;
    if (!n) wrong(r, "outputs", "expected at least one, found none");
    for (const cJSON *e = outputs->child; e && !r->err->set; e = e->next, i++) {
        const size_t at = enter(r, ".outputs[%zu]", i);
        c->outputs = i + 1;
        read_output(r, e, c, walk, &c->output[i]);
        leave(r, at);
    }
}

/* What a case of operators or modules and a walk have in common. */
static void read_what(Reader *r, const cJSON *object, const Kit *kit, KitCase *c, bool pack) {
    c->pack = optional_text(r, object, "pack");
    c->adapter = optional_text(r, object, "adapter");
    c->path = optional_text(r, object, "path");
    if (pack && !c->pack) wrong(r, "pack", "expected a text, found nothing");
    c->text_encoder = optional_text(r, object, "text_encoder");
    const char *const packs[] = {c->pack, c->text_encoder};
    for (int i = 0; i < 2; i++)
        if (packs[i] && *packs[i] && !kit_pack(kit, packs[i]))
            wrong(r, i ? "text_encoder" : "pack",
                  "expected one of the manifest's packs, found \"%.80s\"", packs[i]);
    c->parameters = field(object, "parameters");
    if (c->parameters) is_object(r, c->parameters, "parameters");
    if (!c->adapter) c->adapter = optional_text(r, c->parameters, "adapter");
    if (c->adapter && (strchr(c->adapter, '/') || strcmp(c->adapter, "..") == 0))
        wrong(r, "adapter", "expected a directory of the pack, found \"%.80s\"", c->adapter);
}

static void read_cases(Reader *r, const cJSON *object, const Kit *kit, KitGroup *g) {
    const bool operators = g->kind == KIT_OPERATORS;
    size_t n, i = 0;
    const cJSON *cases = list(r, object, "cases", true, CASES_MAX, &n);
    g->cases = need(r, n, sizeof *g->cases);
    if (!cases || !g->cases) return;
    if (!n) wrong(r, "cases", "expected at least one, found none");
    for (const cJSON *e = cases->child; e && !r->err->set; e = e->next, i++) {
        const size_t at = enter(r, ".cases[%zu]", i);
        KitCase *c = &g->cases[i];
        g->count = i + 1;
        c->name = c->runs = "";
        if (is_object(r, e, "")) {
            c->name = text(r, e, "name");
            c->runs = text(r, e, operators ? "op" : "module");
            read_what(r, e, kit, c, false);
            read_inputs(r, e, "inputs", c);
            read_outputs(r, e, c, false);
        }
        leave(r, at);
    }
}

static void read_walk(Reader *r, const cJSON *object, const Kit *kit, KitGroup *g) {
    KitCase *c = g->cases = need(r, 1, sizeof *c);
    if (!c) return;
    g->count = 1;
    c->name = c->runs = "";
    read_what(r, object, kit, c, true);
    read_inputs(r, object, "inputs_names", c);
    read_outputs(r, object, c, true);
}

/* ---- groups --------------------------------------------------------------------------------------- */

/* The name becomes that of a port's file. */
static bool file_name(const char *name) {
    return *name != '.' && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789"
                                             "ABCDEFGHIJKLMNOPQRSTUVWXYZ_-.")] == '\0';
}

static KitKind read_kind(Reader *r, const cJSON *object) {
    const char *name = text(r, object, "kind");
    for (int k = 0; k < KIT_KINDS; k++)
        if (strcmp(name, kind_name[k]) == 0) return (KitKind)k;
    if (*name)
        wrong(r, "kind",
              "expected operators, modules, algorithm1, unet, picture or train, found \"%.80s\"",
              name);
    return KIT_OPERATORS;
}

static void read_group(Reader *r, const cJSON *item, const Kit *kit, KitGroup *g) {
    g->name = "";
    if (!is_object(r, item, "")) return;
    g->name = text(r, item, "name");
    if (!file_name(g->name))
        wrong(r, "name", "expected letters, digits, _ - and . only, found \"%.80s\"", g->name);
    g->inputs_file = inner_path(r, item, "inputs");
    g->expected_file = inner_path(r, item, "expected");
    const size_t before = r->problems;
    g->kind = read_kind(r, item);
    if (r->problems > before) return;
    kit_is_walk(g->kind) ? read_walk(r, item, kit, g) : read_cases(r, item, kit, g);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* names [n], which it sorts; what they are called in a message is `what`. */
static void refuse_twice(Reader *r, const char **names, size_t n, const char *what) {
    qsort(names, n, sizeof *names, by_text);
    for (size_t i = 1; i < n; i++)
        if (*names[i] && strcmp(names[i - 1], names[i]) == 0)
            wrong(r, what, "\"%.100s\" is there twice", names[i]);
}

static void check_names(Reader *r, const Kit *kit) {
    size_t most = kit->groups;
    for (size_t g = 0; g < kit->groups; g++) {
        size_t n = kit->group[g].count, outputs = 0;
        for (size_t c = 0; c < n; c++) outputs += kit->group[g].cases[c].outputs;
        if (n > most) most = n;
        if (outputs > most) most = outputs;
    }
    const char **names = need(r, most, sizeof *names);
    if (!names) return;
    for (size_t g = 0; g < kit->groups; g++) names[g] = kit->group[g].name;
    refuse_twice(r, names, kit->groups, "groups");
    for (size_t g = 0; g < kit->groups; g++) {
        const KitGroup *group = &kit->group[g];
        const size_t at = enter(r, "groups[%zu]", g);
        size_t n = 0;
        for (size_t c = 0; c < group->count; c++) names[c] = group->cases[c].name;
        refuse_twice(r, names, group->count, "cases");
        for (size_t c = 0; c < group->count; c++)
            for (size_t o = 0; o < group->cases[c].outputs; o++)
                names[n++] = group->cases[c].output[o].stored;
        refuse_twice(r, names, n, "outputs");
        leave(r, at);
    }
    free(names);
}

static void read_packs(Reader *r, Kit *kit) {
    const cJSON *packs = field(kit->json, "packs");
    size_t n = 0;
    if (!is_object(r, packs, "packs")) return;
    for (const cJSON *e = packs->child; e; e = e->next) n++;
    kit->pack = need(r, n, sizeof *kit->pack);
    if (!kit->pack) return;
    for (const cJSON *e = packs->child; e; e = e->next) {
        const size_t at = enter(r, "packs.%.80s", e->string);
        KitPack *p = &kit->pack[kit->packs];
        if (is_object(r, e, "")) {
            p->name = e->string;
            p->path = text(r, e, "path");
            p->sha256 = text(r, e, "sha256");
            if (*p->path == '/')
                wrong(r, "path", "expected a path relative to the kit, found \"%.120s\"", p->path);
            if (*p->sha256 &&
                (strlen(p->sha256) != 64 || strspn(p->sha256, "0123456789abcdef") != 64))
                wrong(r, "sha256", "expected 64 hexadecimal digits, found \"%.80s\"", p->sha256);
            kit->packs++;
        }
        leave(r, at);
    }
}

/* The first thing to be sure of: a kit of another version is not read at all. */
static int check_version(const Kit *kit, const char *file, Error *err) {
    const cJSON *format = field(kit->json, "format"), *version = field(kit->json, "version");
    if (!cJSON_IsString(format) || strcmp(format->valuestring, KIT_FORMAT) != 0)
        return fail(err, "%s: format: expected \"%s\", found %s%.80s", file, KIT_FORMAT,
                    cJSON_IsString(format) ? "" : kind_of(format),
                    cJSON_IsString(format) ? format->valuestring : "");
    if (!cJSON_IsNumber(version))
        return fail(err, "%s: version: expected %d, found %s", file, KIT_VERSION, kind_of(version));
    if (version->valuedouble != KIT_VERSION)
        return fail(err,
                    "%s: version: this program knows version %d of the kit, found version %g; take "
                    "the kit and llmdiff from one release",
                    file, KIT_VERSION, version->valuedouble);
    return 0;
}

static void read_groups(Reader *r, Kit *kit) {
    size_t n, i = 0;
    const cJSON *groups = list(r, kit->json, "groups", true, GROUPS_MAX, &n);
    kit->group = need(r, n, sizeof *kit->group);
    if (!groups || !kit->group) return;
    if (!n) wrong(r, "groups", "expected at least one, found none");
    for (const cJSON *e = groups->child; e && !r->err->set; e = e->next, i++) {
        const size_t at = enter(r, "groups[%zu]", i);
        kit->groups = i + 1;
        read_group(r, e, kit, &kit->group[i]);
        leave(r, at);
    }
}

int kit_read_manifest(Kit *kit, Error *err) {
    size_t size;
    char *path = kit_path(kit, "manifest.json", err);
    char *bytes = path ? file_read(path, &size, err) : NULL;
    Reader r = {.file = path, .err = err};
    if (bytes) kit->json = json_parse_object(bytes, size, path, err);
    free(bytes);
    if (kit->json && check_version(kit, path, err) == 0) {
        is_object(&r, kit->json, "the manifest");
        read_packs(&r, kit);
        read_groups(&r, kit);
        if (!err->set && !r.problems) check_names(&r, kit);
        if (r.problems > r.told)
            fail(err, "%s: %s; and %zu more", path, r.problem, r.problems - r.told);
        else if (r.problems)
            fail(err, "%s: %s", path, r.problem);
    }
    free(path);
    return err->set ? -1 : 0;
}
