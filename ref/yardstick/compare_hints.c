/* What the first divergence of a comparison looks like: from the tensors alone and, where there is a
 * kit or a pack, by doing its stage again with a known mistake. See compare.h. */
#include "ref/yardstick/compare.h"
#include "ref/yardstick/recompute.h"
#include "weights/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int add_hint(Report *r, const char *text, Error *err) {
    if (r->hints == HINTS_MAX) return 0;
    r->hint[r->hints] = strdup(text);
    if (!r->hint[r->hints]) return fail(err, "out of memory");
    r->hints++;
    return 0;
}

/* Other names explain everything that is missing. */
static int hint_at_names(Report *r, Error *err) {
    if (r->counts[ROW_MISSING] < 1 || r->counts[ROW_EXTRA] < 1 ||
        r->counts[ROW_MISSING] + r->counts[ROW_EXTRA] < r->rows)
        return 0;
    return add_hint(r, "not one name is in both files: --map FILE translates them", err);
}

/* ---- recomputing ----------------------------------------------------------------------------------- */

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool compare_is_truth(const KitGroup *group, const char *reference) {
    return group && same_file(tensor_file_path(group->expected), reference);
}

/* "<directory of the reference>/..", malloc'ed, if there is a manifest; NULL: none, or with a message. */
static char *directory_above(const char *reference, Error *err) {
    const char *slash = strrchr(reference, '/');
    const int n = slash ? (int)(slash - reference) + 1 : 0;
    const size_t size = (size_t)n + sizeof "../manifest.json";
    char *path = malloc(size);
    if (!path) {
        fail(err, "out of memory");
        return NULL;
    }
    snprintf(path, size, "%.*s../manifest.json", n, reference);
    const bool there = file_exists(path);
    path[n + 2] = '\0';
    if (there) return path;
    free(path);
    return NULL;
}

/* What isn't a kit of ours may have a manifest.json too. */
Kit *compare_own_kit(const CompareRequest *request, Error *err) {
    Error no_kit = {0};
    char *dir = directory_above(request->reference, err);
    Kit *kit = dir ? kit_open(dir, &no_kit) : NULL;
    free(dir);
    recompute_no_memory(&no_kit, err);
    if (kit && compare_is_truth(compare_group(kit, request->reference), request->reference))
        return kit;
    kit_close(kit);
    return NULL;
}

const KitGroup *compare_group(const Kit *kit, const char *reference) {
    const KitGroup *picture = NULL;
    for (size_t i = 0; i < kit->groups; i++) {
        const KitGroup *g = &kit->group[i];
        if (compare_is_truth(g, reference)) return g;
        if (!picture && g->kind == KIT_PICTURE) picture = g;
    }
    return picture;
}

const KitOutput *compare_output(const KitGroup *group, const char *name, const KitCase **of) {
    for (size_t c = 0; group && c < group->count; c++)
        for (size_t o = 0; o < group->cases[c].outputs; o++)
            if (strcmp(group->cases[c].output[o].stored, name) == 0) {
                if (of) *of = &group->cases[c];
                return &group->cases[c].output[o];
            }
    return NULL;
}

/* One line, even where the tensors alone gave as many as there is room for. */
static int say_why(Report *r, const char *why, Error *err) {
    char text[RECOMPUTE_WHY + 40];
    snprintf(text, sizeof text, "nothing was recomputed: %s", why);
    if (r->hints == HINTS_MAX) free(r->hint[--r->hints]);
    return add_hint(r, text, err);
}

static int recompute(Report *r, const CompareRequest *request, const Kit *kit, const double *ref,
                     const double *mine, Error *err) {
    char why[RECOMPUTE_WHY] = "the kit has no such tensor";
    const Row *row = &r->row[r->first];
    RecomputeQuestion q = {
        .kit = kit, .mode = KIT_FORCED, .row = row, .ref = ref, .mine = mine, .why = why};
    q.group = compare_group(kit, request->reference);
    q.output = compare_output(q.group, row->ref.name, &q.c);
    if (q.output) {
        *why = '\0';
        hints_by_recomputing(r, &q, err);
    }
    const bool asked = request->kit || request->model;
    if (err->set) return -1;
    return *why && asked ? say_why(r, why, err) : 0;
}

/* With the pack that REF was made with, as REF's metadata say; what can't be done is said. */
static int recompute_trace(Report *r, const CompareRequest *request, const char *model,
                           const TensorFile *ref_file, const double *ref, const double *mine,
                           Error *err) {
    if (!tensor_file_metadata(ref_file, "prompt") || !tensor_file_metadata(ref_file, "settings"))
        return say_why(
            r, "the reference is no trace of llmdiff, whose metadata say how it was made", err);
    Kit *kit = kit_of_trace(request->reference, model, err);
    if (kit) recompute(r, request, kit, ref, mine, err);
    kit_close(kit);
    return err->set ? -1 : 0;
}

/* The kit's pack that the reference was made with, by its hash: its path, malloc'ed. NULL: none, or with a
 * message. */
static char *pack_of_trace(const Kit *kit, const TensorFile *ref, Error *err) {
    const char *hash = tensor_file_metadata(ref, "pack_sha256");
    for (size_t i = 0; hash && i < kit->packs; i++)
        if (kit->pack[i].sha256 && strcmp(kit->pack[i].sha256, hash) == 0)
            return kit_path(kit, kit->pack[i].path, err);
    return NULL;
}

/* A file of the kit by its case, a trace by the pack that was given or else the kit's. A pack that was
 * given goes before a kit that wasn't. */
static int recompute_first(Report *r, const ComparePair *p, const double *ref, const double *mine,
                           Error *err) {
    const CompareRequest *request = p->request;
    const bool truth =
        p->kit && (request->kit || !request->model) &&
        compare_is_truth(compare_group(p->kit, request->reference), request->reference);
    if (request->model && !truth)
        return recompute_trace(r, request, request->model, p->ref, ref, mine, err);
    if (!p->kit) return 0;
    char *model = truth ? NULL : pack_of_trace(p->kit, p->ref, err);
    if (model)
        recompute_trace(r, request, model, p->ref, ref, mine, err);
    else if (!err->set)
        recompute(r, request, p->kit, ref, mine, err);
    free(model);
    return err->set ? -1 : 0;
}

/* ---- all of them ------------------------------------------------------------------------------------ */

int compare_hints(Report *r, const ComparePair *p, Error *err) {
    if (r->first == r->rows) return 0;
    const Row *row = &r->row[r->first];
    HintQuestion q = {
        .row = row, .ref_file = p->ref, .mine_file = p->mine, .name_in_file = row->name};
    double *ref = tensor_file_load(p->ref, p->ref_at, err), *mine = NULL;
    if (ref && row->verdict <= ROW_NONFINITE) mine = tensor_file_load(p->mine, p->mine_at, err);
    q.ref = ref;
    q.mine = mine;
    if (!err->set) hints_from_tensors(r, &q, err);
    if (!err->set && mine) recompute_first(r, p, ref, mine, err);
    free(ref);
    free(mine);
    return err->set ? -1 : hint_at_names(r, err);
}
