/* llmdiff verify: a port's outputs for the kit, or our own -> a Report. See yardstick.h.
 *
 * A port's directory has for operators and modules <group>.safetensors or <group>.npz, for walks
 * <group>.forced.* and <group>.free.*: the outputs under the manifest's names. Our own outputs are
 * computed to the same, in memory, and then judged like a port's. */
#include "ref/yardstick/recompute.h"
#include "ref/yardstick/run.h"
#include "weights/file.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NAME_ROOM 256

typedef struct Verify {
    const VerifyRequest *q;
    Kit *kit;
    KitRun *run; /* NULL: a port is judged */
    regex_t only;
    bool has_only;
    int64_t done, of; /* outputs */
    Report *report;
    bool hinted; /* the first divergence has been looked at */
    Row *extra;  /* they go to the report's end; names malloc'ed */
    size_t extras;
} Verify;

/* One group in one mode, while it is judged. */
typedef struct Part {
    const KitGroup *group;
    KitMode mode;
    char label[NAME_ROOM]; /* "operators", "picture.forced" */
    TensorFile *mine;      /* NULL: the port has no such file */
    const KitCase *c;      /* being judged */
} Part;

/* ---- what is judged -------------------------------------------------------------------------------- */

static bool wanted(const Verify *v, const Part *p, const char *name) {
    char full[2 * NAME_ROOM];
    snprintf(full, sizeof full, "%s/%s", p->label, name);
    return !v->has_only || regexec(&v->only, full, 0, NULL, 0) == 0;
}

static bool case_wanted(const Verify *v, const Part *p, const KitCase *c) {
    for (size_t o = 0; o < c->outputs; o++)
        if (wanted(v, p, c->output[o].stored)) return true;
    return false;
}

/* Whether the request asks for walks in this mode; operators and modules have none. */
static bool mode_wanted(const Verify *v, const KitGroup *g, KitMode mode) {
    if (!kit_is_walk(g->kind)) return mode == KIT_FORCED;
    return mode == KIT_FORCED ? !v->q->free_alone : !v->q->forced_alone;
}

static Part part_of(const KitGroup *g, KitMode mode) {
    Part p = {.group = g, .mode = mode};
    const bool walk = kit_is_walk(g->kind);
    snprintf(p.label, sizeof p.label, "%s%s%s", g->name, walk ? "." : "",
             walk ? kit_mode_name(mode) : "");
    return p;
}

/* Calls `each` for every part, in the order of judging. */
static int for_each_part(Verify *v, int (*each)(Verify *v, Part *p, Error *err), Error *err) {
    for (size_t g = 0; g < v->kit->groups; g++)
        for (int m = 0; m < KIT_MODES; m++) {
            Part p = part_of(&v->kit->group[g], (KitMode)m);
            if (mode_wanted(v, p.group, p.mode) && each(v, &p, err)) return -1;
        }
    return 0;
}

static int count_part(Verify *v, Part *p, Error *err) {
    (void)err;
    for (size_t c = 0; c < p->group->count; c++)
        for (size_t o = 0; o < p->group->cases[c].outputs; o++)
            v->of += wanted(v, p, p->group->cases[c].output[o].stored);
    return 0;
}

static int go_on(const Verify *v, Error *err) {
    if (!v->q->progress || !v->q->progress(v->q->user, v->done, v->of)) return 0;
    return fail(err, "cancelled");
}

/* ---- theirs, or ours -------------------------------------------------------------------------------- */

/* <directory>/<label><extension>, malloc'ed; NULL with a message. */
static char *path_of(const char *directory, const Part *p, const char *extension, Error *err) {
    const size_t n = strlen(directory) + strlen(p->label) + strlen(extension) + 2;
    char *path = malloc(n);
    if (path)
        snprintf(path, n, "%s/%s%s", directory, p->label, extension);
    else
        fail(err, "out of memory opening %s", directory);
    return path;
}

/* Whatever it is: a directory or a link to nothing is told when it is opened. */
static bool is_there(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

/* The port's file of this part; none is fine. */
static int open_theirs(const Verify *v, Part *p, Error *err) {
    char *plain = path_of(v->q->port, p, ".safetensors", err);
    char *npz = path_of(v->q->port, p, ".npz", err);
    if (!err->set) {
        const bool first = is_there(plain), second = is_there(npz);
        if (first && second)
            fail(err, "%s and %s: expected one of them, found both", plain, npz);
        else if (first || second)
            p->mine = tensor_file_open(first ? plain : npz, NULL, err);
    }
    free(plain);
    free(npz);
    return err->set ? -1 : 0;
}

static int write_ours(const Verify *v, const Part *p, const Outputs *out, Error *err) {
    const char *const about[] = {"program", "llmdiff",  "precision", REAL_NAME,
                                 "kit",     KIT_FORMAT, NULL};
    char *path = path_of(v->q->output, p, ".safetensors", err);
    if (path) safetensors_write(path, out->tensor, out->count, about, err);
    free(path);
    return err->set ? -1 : 0;
}

static int compute_ours(Verify *v, Part *p, Outputs *out, Error *err) {
    for (size_t c = 0; c < p->group->count; c++) {
        const KitCase *one = &p->group->cases[c];
        if (!case_wanted(v, p, one)) continue;
        if (kit_run_case(v->run, p->group, one, p->mode, out, err)) return -1;
    }
    if (!out->count) return 0;
    if (v->q->output && write_ours(v, p, out, err)) return -1;
    p->mine = tensor_file_of(p->label, out->tensor, out->count, err);
    return err->set ? -1 : 0;
}

/* ---- rows ------------------------------------------------------------------------------------------ */

/* What the difference looks like, while the files are open. */
static int look_for_hints(Verify *v, const Part *p, const Row *row, const double *ref,
                          const double *mine, const KitOutput *o, Error *err) {
    if (v->hinted || row->verdict == ROW_MATCH) return 0;
    v->hinted = true;
    if (!p->mine) return 0;
    const HintQuestion question = {.row = row,
                                   .ref_file = p->group->expected,
                                   .mine_file = p->mine,
                                   .name_in_file = row->name,
                                   .ref = ref,
                                   .mine = mine};
    if (hints_from_tensors(v->report, &question, err)) return -1;
    const RecomputeQuestion again = {.kit = v->kit,
                                     .group = p->group,
                                     .c = p->c,
                                     .mode = p->mode,
                                     .output = o,
                                     .row = row,
                                     .ref = ref,
                                     .mine = mine,
                                     .mine_file = p->mine,
                                     .threads = v->q->threads};
    return hints_by_recomputing(v->report, &again, err);
}

/* Measures theirs [at], if there is one, against the truth. */
static int measure_output(Verify *v, const Part *p, const KitOutput *o, size_t at, Row *row,
                          Error *err) {
    Tolerance tolerance = {0};
    double *ref = tensor_file_load(p->group->expected, o->expected, err);
    double *mine = NULL;
    const bool same = row->verdict != ROW_MISSING && tensors_alike(&row->ref, &row->mine);
    if (ref && same) mine = tensor_file_load(p->mine, at, err);
    if (mine && kit_tolerance(o, p->group->kind, p->mode, row->mine.dtype,
                              largest_of(ref, row->ref.count), &tolerance, err) == 0)
        measure(row, ref, mine, row->ref.count, row->mine.dtype, &tolerance);
    if (!err->set) look_for_hints(v, p, row, ref, mine, o, err);
    if (mine && !err->set) {
        report_offer_worst(v->report, row, ref, mine);
    } else {
        free(ref);
        free(mine);
    }
    return err->set ? -1 : 0;
}

static void end_row(Row *row) {
    free(row->group);
    free(row->name);
}

/* group and name as the row's own. */
static int name_row(Row *row, const Part *p, const char *name, Error *err) {
    row->group = strdup(p->label);
    row->name = strdup(name);
    if (!row->group || !row->name) return fail(err, "out of memory");
    if (row->ref.name) row->ref.name = row->name;
    if (row->mine.name) row->mine.name = row->name;
    return 0;
}

static int judge_output(Verify *v, Part *p, const KitOutput *o, Error *err) {
    Row row = {.verdict = ROW_MISSING, .ref = *tensor_file_at(p->group->expected, o->expected)};
    const size_t count = p->mine ? tensor_file_count(p->mine) : 0;
    const size_t at = p->mine ? tensor_file_find(p->mine, o->stored) : 0;
    if (at < count) {
        row.verdict = ROW_MISSHAPEN;
        row.mine = *tensor_file_at(p->mine, at);
    }
    if (name_row(&row, p, o->stored, err) == 0) measure_output(v, p, o, at, &row, err);
    if (!err->set && report_add(v->report, &row, err) == 0) return 0;
    end_row(&row);
    return -1;
}

/* What the port's file has beside the manifest's outputs. */
static int note_extras(Verify *v, const Part *p, Error *err) {
    for (size_t i = 0; p->mine && i < tensor_file_count(p->mine); i++) {
        const TensorInfo *t = tensor_file_at(p->mine, i);
        if (tensor_file_find(p->group->expected, t->name) < tensor_file_count(p->group->expected) ||
            !wanted(v, p, t->name))
            continue;
        Row row = {.verdict = ROW_EXTRA, .mine = *t};
        Row *grown = realloc(v->extra, (v->extras + 1) * sizeof *grown);
        if (grown) v->extra = grown;
        if (!grown) return fail(err, "out of memory");
        if (name_row(&row, p, t->name, err)) {
            end_row(&row);
            return -1;
        }
        v->extra[v->extras++] = row;
    }
    return 0;
}

static int judge_part(Verify *v, Part *p, Error *err) {
    Outputs ours = {0};
    if (v->run ? compute_ours(v, p, &ours, err) == 0 : open_theirs(v, p, err) == 0) {
        for (size_t c = 0; c < p->group->count && !err->set; c++)
            for (size_t o = 0; o < p->group->cases[c].outputs && !err->set; o++) {
                const KitOutput *output = &p->group->cases[c].output[o];
                if (!wanted(v, p, output->stored)) continue;
                p->c = &p->group->cases[c];
                if (go_on(v, err) == 0) judge_output(v, p, output, err);
                v->done++;
            }
        if (!err->set) note_extras(v, p, err);
    }
    tensor_file_close(p->mine);
    outputs_free(&ours);
    return err->set ? -1 : 0;
}

/* ---- a file under another name ----------------------------------------------------------------------- */

static bool is_part(const Kit *kit, const char *file, size_t length) {
    for (size_t g = 0; g < kit->groups; g++)
        for (int m = 0; m < KIT_MODES; m++) {
            const Part p = part_of(&kit->group[g], (KitMode)m);
            if (strlen(p.label) == length && strncmp(p.label, file, length) == 0) return true;
        }
    return false;
}

/* The port's first file by name, of a kind that is read here, that the kit has no such part for;
 * malloc'ed. NULL: none, or out of memory. */
static char *stray_file(const Verify *v, Error *err) {
    static const char *const kinds[] = {".safetensors", ".npz"};
    DIR *d = opendir(v->q->port);
    char *found = NULL;
    for (const struct dirent *e; d && !err->set && (e = readdir(d));)
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            const size_t n = strlen(e->d_name), end = strlen(kinds[k]);
            if (n <= end || strcmp(e->d_name + n - end, kinds[k]) != 0) continue;
            if (is_part(v->kit, e->d_name, n - end)) continue;
            if (found && strcmp(found, e->d_name) <= 0) continue;
            free(found);
            found = strdup(e->d_name);
            if (!found) fail(err, "out of memory");
        }
    if (d) closedir(d);
    return found;
}

/* Where something is missing, it may be there under another name. */
static int hint_at_files(const Verify *v, Error *err) {
    Report *r = v->report;
    if (!v->q->port || !r->counts[ROW_MISSING] || r->hints == HINTS_MAX) return 0;
    char *stray = stray_file(v, err);
    const size_t n = (stray ? strlen(stray) : 0) + 120;
    char *hint = stray ? malloc(n) : NULL;
    if (stray && !hint) fail(err, "out of memory");
    if (hint) {
        snprintf(hint, n,
                 "%s is none of the kit's files: they are called <group>.*, and of walks "
                 "<group>.forced.* and <group>.free.*",
                 stray);
        r->hint[r->hints++] = hint;
    }
    free(stray);
    return err->set ? -1 : 0;
}

/* ---- the whole ------------------------------------------------------------------------------------- */

static int new_report(Verify *v, Error *err) {
    char own[64];
    Report *r = v->report = calloc(1, sizeof *r);
    snprintf(own, sizeof own, "this program (%s)", REAL_NAME);
    if (r) {
        r->title = strdup("verify");
        r->reference = strdup(v->q->kit);
        r->mine = strdup(v->q->port ? v->q->port : own);
    }
    if (r && r->title && r->reference && r->mine) return 0;
    return fail(err, "out of memory");
}

static int begin(Verify *v, Error *err) {
    const VerifyRequest *q = v->q;
    if (q->only) {
        if (compare_check_only(q->only, err)) return -1;
        v->has_only = regcomp(&v->only, q->only, REG_EXTENDED | REG_NOSUB) == 0;
        if (!v->has_only) return fail(err, "--only: out of memory");
    }
    if (q->port && !is_directory(q->port))
        return fail(err, "%s: expected a directory with a port's outputs, found %s", q->port,
                    file_exists(q->port) ? "a file" : "nothing");
    v->kit = kit_open(q->kit, err);
    if (!v->kit || for_each_part(v, count_part, err)) return -1;
    if (!v->of)
        return fail(err, "%s: holds no output%s: there is nothing to judge", q->kit,
                    q->only ? " that --only names" : "");
    if (!q->port) v->run = kit_run_new(v->kit, q->threads, err);
    if (q->output && !err->set && mkdir(q->output, 0777) && errno != EEXIST)
        fail(err, "%s: can't be made: %s", q->output, strerror(errno));
    return err->set ? -1 : new_report(v, err);
}

static int add_extras(Verify *v, Error *err) {
    while (v->extras) {
        if (report_add(v->report, &v->extra[0], err)) return -1;
        memmove(v->extra, v->extra + 1, --v->extras * sizeof *v->extra);
    }
    return 0;
}

Report *verify(const VerifyRequest *q, Error *err) {
    Verify v = {.q = q};
    if (begin(&v, err) == 0 && for_each_part(&v, judge_part, err) == 0 &&
        add_extras(&v, err) == 0 && go_on(&v, err) == 0) {
        report_conclude(v.report);
        hint_at_files(&v, err);
    }
    for (size_t i = 0; i < v.extras; i++) end_row(&v.extra[i]);
    free(v.extra);
    if (v.has_only) regfree(&v.only);
    kit_run_free(v.run);
    kit_close(v.kit);
    if (!err->set) return v.report;
    report_free(v.report);
    return NULL;
}
