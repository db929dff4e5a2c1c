/* What the first divergence of a comparison looks like: from the tensors alone and, where there is a
 * kit or a pack, by doing its stage again with a known mistake. See compare.h. */
#include "ref/yardstick/compare.h"
#include "ref/yardstick/recompute.h"
#include "weights/file.h"

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

const KitGroup *compare_group(const Kit *kit, const char *reference) {
    const KitGroup *picture = NULL;
    for (size_t i = 0; i < kit->groups; i++) {
        const KitGroup *g = &kit->group[i];
        if (same_file(tensor_file_path(g->expected), reference)) return g;
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

static int recompute(Report *r, const CompareRequest *request, const Kit *kit, const double *ref,
                     const double *mine, Error *err) {
    const Row *row = &r->row[r->first];
    RecomputeQuestion q = {.kit = kit, .mode = KIT_FORCED, .row = row, .ref = ref, .mine = mine};
    q.group = compare_group(kit, request->reference);
    q.output = compare_output(q.group, row->ref.name, &q.c);
    return q.output ? hints_by_recomputing(r, &q, err) : 0;
}

/* With the pack that REF was made with, as REF's metadata say; what can't be done is said. */
static int recompute_trace(Report *r, const CompareRequest *request, const TensorFile *ref_file,
                           const double *ref, const double *mine, Error *err) {
    if (!tensor_file_metadata(ref_file, "prompt") || !tensor_file_metadata(ref_file, "settings"))
        return add_hint(r,
                        "nothing was recomputed: the reference is no trace of llmdiff, whose "
                        "metadata say how it was made",
                        err);
    if (!is_directory(request->model))
        return add_hint(r, "nothing was recomputed: the pack given with -m is no directory", err);
    Kit *kit = kit_of_trace(request->reference, request->model, err);
    if (kit) recompute(r, request, kit, ref, mine, err);
    kit_close(kit);
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
    if (!err->set && p->kit && mine) recompute(r, p->request, p->kit, ref, mine, err);
    if (!err->set && p->request->model && mine)
        recompute_trace(r, p->request, p->ref, ref, mine, err);
    free(ref);
    free(mine);
    return err->set ? -1 : hint_at_names(r, err);
}
